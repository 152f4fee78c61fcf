"""The page about a data set: numbers, pictures, problems; whatever the data."""

import base64
import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

from maskrcnn.config import AnchorConfig, Config, DataConfig
from maskrcnn.data.check import Problem, check_dataset
from maskrcnn.data.open import open_dataset
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.dataset import Dataset
from maskrcnn.structures import Polygons, Record
from maskrcnn.view import data as view
from maskrcnn.view.box_shapes import anchor_shapes, best_anchor_iou, input_sides
from maskrcnn.view.data import data_report
from maskrcnn.view.samples import MARK, before_and_after, choose, draw_problem
from tests.view.test_report import assert_page

CONFIG = Config().replace(**{"data.min_size": 64, "data.max_size": 96, "data.horizontal_flip": 1.0})


@pytest.fixture
def shapes(tmp_path):
    return open_dataset(write_shapes(tmp_path / "shapes", train=4, val=2, size=(48, 64)))


def pictures(document: str) -> list[np.ndarray]:
    found = re.findall(r"data:image/jpeg;base64,([^\"]*)", document)
    return [np.asarray(Image.open(BytesIO(base64.b64decode(data)))) for data in found]


def report(dataset: Dataset, folder: Path, problems=None, **options) -> str:
    problems = check_dataset(dataset) if problems is None else problems
    document = data_report(dataset, problems, CONFIG, folder / "page.html", **options).read_text()
    assert_page(document)
    return document


def test_a_good_data_set(shapes, tmp_path):
    document = report(shapes, tmp_path, samples=3)
    assert "<b>6</b><span>images</span>" in document
    counts = shapes.split("train").class_counts()
    for name, count in zip(shapes.classes, counts, strict=True):
        assert f"<title>{name}, train: {count}</title>" in document
    assert len(pictures(document)) == 6, "three pairs"
    assert "Problems</h2><p>None.</p>" in document


def test_before_and_after_augmentation(shapes):
    plain = CONFIG.replace(**{"data.horizontal_flip": 0.0}).data
    row = choose(shapes, 1)
    ((record, before, after),) = before_and_after(shapes, row, plain, 96)
    assert before.shape == (64, 85, 3)
    np.testing.assert_array_equal(before, after)
    assert record.path == shapes[row[0]].path
    ((_, before, after),) = before_and_after(replace(shapes, records=[replace(record, masks=())]), [0], CONFIG.data, 40)
    assert before.shape == (30, 40, 3)
    assert (before != after).any()


def test_drawings_of_other_pixels_and_many_images(tmp_path):
    """16 bit, with copy-paste and mosaic from the other images."""
    for name in "ab":
        Image.fromarray(np.random.default_rng(0).integers(0, 900, (48, 64)).astype(np.uint16)).save(
            tmp_path / f"{name}.png"
        )
    records = [made(i, [(5, 5, 30, 30)], path=tmp_path / f"{name}.png", make=None) for i, name in enumerate("ab")]
    data = CONFIG.replace(**{"data.pixels": "raw", "data.mosaic": 1.0, "data.copy_paste": 1.0}).data
    assert len(list(before_and_after(of(*records), [0, 1], data, 64))) == 2, "boxes alone are not pasted"
    square = Polygons((np.array([(5, 5), (30, 5), (30, 30), (5, 30)], np.float64),))
    drawn = list(before_and_after(of(*(replace(r, masks=(square,)) for r in records)), [0, 1], data, 64))
    assert len(drawn) == 2
    assert all(before.max() > 200 for _, before, _ in drawn), "900 of 65535 is black unless it is stretched"


def made(image_id: int, boxes, **changes) -> Record:
    count = len(boxes)
    values = {
        "path": Path(f"{image_id}.png"),
        "image_id": image_id,
        "height": 48,
        "width": 64,
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "labels": np.zeros(count, np.int64),
        "masks": (),
        "crowd": np.zeros(count, bool),
        "areas": np.ones(count, np.float32),
        "annotation_ids": np.arange(count),
        "make": lambda: np.full((48, 64, 3), 90, np.uint8),
    }
    return Record(**{**values, **changes})


def of(*records: Record) -> Dataset:
    return Dataset(records, ("thing",), (1,))


def test_boxes_alone_keypoints_empty_images_and_nothing(tmp_path):
    points = np.array([[[10, 10, 2], [0, 0, 0]]], np.float32)
    mixed = of(made(1, [(5, 5, 30, 30)]), made(2, []), made(3, [(5, 5, 30, 30)], keypoints=points))
    document = report(mixed, tmp_path)
    assert "boxes only, no masks" in document
    assert len(pictures(document)) >= 6
    assert "There is no box with an area." in report(of(made(1, [])), tmp_path)
    assert "There are none." in report(of(), tmp_path)


def test_problems_with_their_images(shapes, tmp_path):
    broken = replace(shapes[1], path=tmp_path / "<i>gone</i>.png")
    flat = replace(shapes[0], boxes=shapes[0].boxes * [1, 1, 0, 1])
    dataset = replace(
        shapes, records=[flat, broken, replace(shapes[2], image_id=shapes[3].image_id), *shapes.records[3:]]
    )
    problems = check_dataset(dataset)
    document = report(dataset, tmp_path, problems, samples=2)
    assert "&lt;i&gt;gone&lt;/i&gt;.png" in document
    assert "<i>gone" not in document
    assert "<td>the image is left out</td>" in document
    assert "degenerate box</span>" in document
    assert len(pictures(document)) > 4


def test_a_marked_object():
    dataset = of(made(1, [(10, 10, 40, 30), (np.nan, 0, 5, 5)]))
    drawn = draw_problem(dataset, Problem("kind", "message", row=0, index=0), 64)
    red = (drawn == MARK).all(axis=2)
    assert red[10, 12:40].all()
    assert not red[12:28, 13:38].any()
    plain = draw_problem(dataset, Problem("kind", "message", row=0, index=1), 64)
    assert not (plain == MARK).all(axis=2).any(), "no finite coordinates"
    assert draw_problem(dataset, Problem("kind", "message"), 64) is None


def test_the_page_is_bounded(tmp_path):
    boxes = [(x, y, x, y + 1) for x in range(60) for y in range(40)]
    dataset = of(*(made(i, boxes, path=Path("x" * 200 + f"{i}.png")) for i in range(4)))
    document = report(dataset, tmp_path, samples=1)
    assert "degenerate box: 9,600, 5,000 shown" in document
    assert document.count("<li>") <= view.MOST_LINES
    assert len(pictures(document)) <= view.MOST_THUMBS + 2
    assert len(document) < 10_000_000


def test_many_classes(tmp_path):
    names = tuple(f"class {i}" for i in range(3000))
    records = [made(1, [(5, 5, 30, 30)] * 3, labels=np.array([7, 7, 2999]))]
    document = report(Dataset(records, names, tuple(range(3000))), tmp_path, samples=1)
    assert "Objects of the 40 most frequent classes" in document
    assert "As a table, the first 2,000" in document
    assert len(document) < 2_000_000


def test_samples_show_rare_classes_first():
    records = [made(i, [(5, 5, 30, 30)]) for i in range(20)]
    records += [made(20, [(5, 5, 30, 30)], labels=np.ones(1, np.int64)), made(21, [])]
    dataset = Dataset(records, ("often", "rare"), (1, 2))
    chosen = choose(dataset, 4)
    assert chosen[0] == 20
    assert len(set(chosen)) == 4
    assert chosen == choose(dataset, 4)
    assert sorted(choose(dataset, 99)) == list(range(22))
    assert choose(dataset, 99)[-1] == 21


def test_sides_in_the_input():
    crowd = np.array([False, False, True])
    boxes = [(0, 0, 10, 20), (5, 5, 5, 9), (0, 0, 9, 9)]
    table = of(made(1, boxes, crowd=crowd), made(2, [(0, 0, np.inf, 4)])).table
    np.testing.assert_allclose(input_sides(table, DataConfig(min_size=96, max_size=200)), [[40, 20]])
    np.testing.assert_allclose(input_sides(table, DataConfig(min_size=96, max_size=96)), [[30, 15]])
    np.testing.assert_allclose(input_sides(table, DataConfig(resize="square", max_size=128)), [[40, 20]])
    np.testing.assert_allclose(input_sides(table, DataConfig(resize="grow", min_size=96, max_size=200)), [[40, 20]])
    np.testing.assert_allclose(input_sides(table, DataConfig(resize="grow", min_size=10, max_size=200)), [[20, 10]])


def test_best_anchor_agrees_with_boxes_around_one_centre():
    shapes = anchor_shapes(AnchorConfig())
    assert shapes.shape == (15, 2)
    sides = np.random.default_rng(0).uniform(2, 800, (50, 2))

    def centred(sides: np.ndarray) -> torch.Tensor:
        corners = sides[:, ::-1] / 2
        return torch.from_numpy(np.concatenate([-corners, corners], axis=1))

    expected = box_iou(centred(sides), centred(shapes)).max(dim=1).values.numpy()
    np.testing.assert_allclose(best_anchor_iou(sides, shapes), expected, rtol=1e-5)
    assert best_anchor_iou(np.zeros((0, 2)), shapes).shape == (0,)


@pytest.mark.parametrize("name", ["balloon", "nuclei", "person-keypoints"])
def test_real_data(data_dir, tmp_path, name):
    dataset = open_dataset(data_dir / name)[:12]
    document = report(dataset, tmp_path, samples=2)
    assert len(pictures(document)) >= 4
