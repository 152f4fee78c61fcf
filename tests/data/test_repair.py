"""What a repair leaves is sound, and everything that was not concerned is as it was."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn.data.check import check_dataset
from maskrcnn.data.open import open_dataset
from maskrcnn.data.repair import check_and_repair, repair_dataset
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.structures import Polygons, Record
from tests.data.contract import assert_dataset

SIZE = (48, 64)


def square(x0: float, y0: float, x1: float, y1: float) -> Polygons:
    return Polygons((np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float64),))


def record(image_id: int, boxes, masks: bool = True, **changes) -> Record:
    """A random image with squares, made by a function."""
    pixels = np.random.default_rng(image_id).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    values = {
        "path": Path(f"{image_id}.png"),
        "image_id": image_id,
        "height": SIZE[0],
        "width": SIZE[1],
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "labels": np.zeros(len(boxes), np.int64),
        "masks": tuple(square(*box) for box in boxes) if masks else (),
        "crowd": np.zeros(len(boxes), bool),
        "areas": np.arange(len(boxes), dtype=np.float32) + 1,
        "annotation_ids": np.arange(len(boxes)) + 100 * image_id,
        "make": lambda: pixels,
    }
    return Record(**{**values, **changes})


def of(*records: Record) -> Dataset:
    return Dataset(records, ("thing",), (1,))


@pytest.fixture
def shapes(tmp_path):
    return open_dataset(write_shapes(tmp_path, train=3, val=2, size=SIZE))


def test_good_data_is_left_alone(shapes):
    repaired, problems, sentences = check_and_repair(shapes, decode=True)
    assert repaired is shapes
    assert (problems, sentences) == ([], [])


@pytest.mark.parametrize("masks", [True, False])
def test_boxes_are_cut_and_objects_left_out(masks):
    good, outside, gone, flat = (8, 8, 40, 40), (-4, 8, 30, 60), (70, 8, 90, 40), (8, 8, 8, 40)
    dataset = of(record(1, [good]), record(2, [flat, good, outside, gone, good], masks), record(3, []))
    repaired, _, sentences = check_and_repair(dataset, decode=True)
    assert_dataset(replace(repaired, records=[r for r in repaired if bool(r.masks) == masks or not len(r)]))
    assert repaired[1].annotation_ids.tolist() == [201, 202]
    assert repaired[1].boxes.tolist() == [list(good), [0, 8, 30, 48]]
    assert repaired[1].areas.tolist() == [2, 3]
    assert len(repaired[1].masks) == 2 * masks
    if masks:
        np.testing.assert_array_equal(repaired[1].masks[1].rings[0], square(*outside).rings[0])
    assert repaired[0].boxes.tolist() == [list(good)]
    assert len(repaired[2]) == 0
    assert [s.split(", first")[0] for s in sentences] == [
        "left out 1 object (degenerate box)",
        "left out 1 object (box outside the image)",
        "left out 1 object (duplicate annotation)",
        "cut 1 box to its image (box outside the image)",
    ]
    assert sentences[0].endswith(
        "first: 2.png, image 2, annotation 200: [8.0, 8.0, 8.0, 40.0] has no area; draw it again"
    )
    assert [p.kind for p in check_dataset(repaired) if p.severity == "error"] == []


def test_images_that_cannot_be_used_are_left_out(shapes):
    kept = shapes[3].path.read_bytes()
    shapes[0].path.unlink()
    shapes[1].path.write_bytes(b"")
    dataset = replace(
        shapes, records=[*shapes.records[:2], replace(shapes[2], masks=shapes[2].masks * 2), *shapes.records[3:]]
    )
    repaired, _, sentences = check_and_repair(dataset, decode=True)
    assert [r.path for r in repaired] == [shapes[3].path, shapes[4].path]
    assert_dataset(repaired)
    assert sorted(s.split(", first")[0] for s in sentences) == [
        "left out 1 image (mask count)",
        "left out 1 image (missing image)",
        "left out 1 image (unreadable image)",
    ]
    assert shapes[3].path.read_bytes() == kept
    with pytest.raises(
        DataError, match=r"no image can be used; left out 1 image \(missing image\), first: .*not found"
    ):
        check_and_repair(shapes[:1], decode=True)


def test_a_photo_whose_annotations_are_not_rotated(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path, exif=exif)
    turned = record(2, [(0, 0, 16, 8), (10, 10, 20, 60)], path=path, make=None)
    dataset = of(record(1, [(8, 8, 40, 40)]), turned, record(3, [(9, 9, 40, 40)]))
    repaired, _, sentences = check_and_repair(dataset, decode=True)
    assert repaired[1].size == (64, 48)
    assert repaired[1].boxes.tolist() == [[40, 0, 48, 16], [0, 10, 38, 20]], "cut, then turned"
    assert [r.image_id for r in repaired] == [1, 2, 3]
    assert sentences[1].startswith("turned the annotations of 1 image as the photo is (annotations not rotated), first")
    assert [p.kind for p in check_dataset(repaired) if p.severity == "error"] == []


def test_image_ids_become_unique():
    dataset = of(record(5, []), record(7, []), *(replace(record(5, []), image_id=7) for _ in range(2)))
    repaired, _, sentences = check_and_repair(dataset, decode=False)
    assert [r.image_id for r in repaired] == [5, 7, 8, 9]
    assert sentences[0].startswith(
        "gave 2 images a new id (duplicate image id), first: 5.png, image 7: used by 3 images"
    )


def test_some_problems_only():
    dataset = of(record(1, [(8, 8, 8, 40), (8, 8, 40, 40), (8, 8, 40, 40)]))
    problems = [p for p in check_dataset(dataset) if p.kind == "degenerate box"]
    repaired, sentences = repair_dataset(dataset, problems)
    assert repaired[0].annotation_ids.tolist() == [101, 102]
    assert len(sentences) == 1
    assert repair_dataset(dataset, [])[0] is dataset


def test_a_selection_is_repaired_in_its_own_order():
    dataset = of(record(1, [(8, 8, 8, 40), (1, 1, 9, 9)]), record(2, [(8, 8, 40, 40)]), record(3, [(-1, 8, 20, 40)]))
    repaired, _, _ = check_and_repair(dataset.take([2, 0, 2]), decode=False)
    assert [r.image_id for r in repaired] == [3, 1, 4]
    assert [r.boxes.tolist() for r in repaired] == [[[0, 8, 20, 40]], [[1, 1, 9, 9]], [[0, 8, 20, 40]]]


numbers = st.sampled_from([-20.0, -1.0, 0.0, 5.0, 20.0, 47.5, 64.0, 80.0, float("nan")])


@given(st.lists(st.lists(st.tuples(*[numbers] * 4), max_size=4), min_size=1, max_size=4), st.integers(-1, 1))
@settings(max_examples=50, deadline=None)
def test_whatever_the_boxes_the_rest_passes_the_contract(boxes, label):
    dataset = of(*(record(i, some, masks=False, labels=np.full(len(some), label)) for i, some in enumerate(boxes, 1)))
    repaired, _, _ = check_and_repair(dataset, decode=True)
    assert_dataset(repaired)
    assert [p for p in check_dataset(repaired) if p.severity == "error"] == []
