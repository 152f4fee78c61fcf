import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn.data.check import Problem, check_dataset, drop_broken
from maskrcnn.data.open import open_dataset
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.dataset import Dataset
from maskrcnn.ops.rle import polygons_to_rle
from maskrcnn.structures import RLE, MaskFile, Polygons, Record


@pytest.fixture
def shapes(tmp_path):
    return open_dataset(write_shapes(tmp_path, train=3, val=2, size=(64, 64)))


def kinds(dataset, **options) -> set[str]:
    return {problem.kind for problem in check_dataset(dataset, **options) if problem.severity == "error"}


def changed(dataset, **changes):
    return replace(dataset, records=[replace(dataset[0], **changes), *dataset.records[1:]])


def test_good_data_has_no_errors(shapes):
    assert kinds(shapes) == set()


def test_files_that_cannot_be_used_are_found_and_dropped(shapes):
    shapes[0].path.unlink()
    shapes[1].path.write_bytes(shapes[1].path.read_bytes()[:100])
    Image.fromarray(np.zeros((9, 7, 3), np.uint8)).save(shapes[2].path)
    problems = check_dataset(shapes)
    assert {p.kind for p in problems if p.severity == "error"} == {
        "missing image",
        "unreadable image",
        "wrong image size",
    }
    for problem in problems[:3]:
        assert "\n" not in str(problem)
        assert str(problem.path) in str(problem)
        assert f"image {problem.image}" in str(problem)
    assert len(drop_broken(shapes, problems)) == 2
    assert kinds(shapes, decode=False) == set()


def test_boxes_and_labels(shapes):
    boxes = shapes[0].boxes.copy()
    boxes[0] = [5, 5, 5, 9]
    assert kinds(changed(shapes, boxes=boxes)) == {"degenerate box"}
    boxes[0] = [5, 5, 500, 9]
    assert kinds(changed(shapes, boxes=boxes)) == {"box outside the image"}
    assert kinds(changed(shapes, labels=shapes[0].labels + 7)) == {"label out of range"}


def test_masks(shapes, tmp_path):
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "empty.png")
    count = len(shapes[0])
    assert kinds(changed(shapes, masks=(MaskFile(tmp_path / "empty.png"),) * count)) == {"empty mask"}
    gone = changed(shapes, masks=(MaskFile(tmp_path / "gone.png"),) * count)
    assert kinds(gone) == {"unreadable mask"}
    assert len(drop_broken(gone, check_dataset(gone))) == 4
    Image.fromarray(np.ones((9, 7), np.uint8)).save(tmp_path / "small.png")
    small = changed(shapes, masks=(MaskFile(tmp_path / "small.png"),) * count)
    assert kinds(small) == {"wrong mask size"}
    assert any("7x9 in an image of 64x64" in str(problem) for problem in check_dataset(small))
    assert kinds(changed(shapes, masks=shapes[0].masks * 2)) == {"mask count"}


def test_boxes_alone_are_fine(shapes):
    assert kinds(replace(shapes, records=[replace(record, masks=()) for record in shapes])) == set()


def test_ids_classes_and_counts(shapes):
    assert "duplicate image id" in kinds(changed(shapes, image_id=shapes[1].image_id))
    more = replace(shapes, classes=(*shapes.classes, "star"), category_ids=(1, 2, 3, 4))
    assert any("class 'star' has no object" in str(p) for p in check_dataset(more))
    none = {
        "boxes": np.zeros((0, 4), np.float32),
        "labels": np.zeros(0, np.int64),
        "masks": (),
        "crowd": np.zeros(0, bool),
    }
    none |= {"areas": np.zeros(0, np.float32), "annotation_ids": np.zeros(0, np.int64)}
    assert any("1 of 5; they are kept as background" in str(p) for p in check_dataset(changed(shapes, **none)))
    many = {
        k: np.repeat(getattr(shapes[0], k)[:1], 101, axis=0)
        for k in ("boxes", "labels", "crowd", "areas", "annotation_ids")
    }
    crowded = changed(shapes, **many, masks=shapes[0].masks[:1] * 101)
    assert any("detections_per_image must allow for 101" in str(p) for p in check_dataset(crowded))


# ---------------------------------------------------------------- one of each kind


def rings(*points: tuple[float, float]) -> Polygons:
    return Polygons((np.array(points, np.float64),))


def made(masks=(), boxes=((8, 8, 40, 40),), labels=None, **changes) -> Record:
    """A grey 64x48 image made by a function."""
    count = len(boxes)
    values = {
        "path": Path("made.png"),
        "image_id": 1,
        "height": 48,
        "width": 64,
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "labels": np.zeros(count, np.int64) if labels is None else np.array(labels),
        "masks": tuple(masks),
        "crowd": np.zeros(count, bool),
        "areas": np.ones(count, np.float32),
        "annotation_ids": np.arange(count) + 10,
        "make": lambda: np.full((48, 64, 3), 90, np.uint8),
    }
    return Record(**{**values, **changes})


def of(*records: Record) -> Dataset:
    return Dataset(records, ("thing", "other"), (1, 2))


def found(dataset: Dataset, kind: str, **options) -> list[Problem]:
    return [problem for problem in check_dataset(dataset, **options) if problem.kind == kind]


SQUARE = rings((8, 8), (40, 8), (40, 40), (8, 40))


@pytest.mark.parametrize(
    ("points", "crosses"),
    [
        ([(8, 8), (40, 8), (40, 40), (8, 40)], False),
        ([(8, 8), (40, 40), (40, 8), (8, 40)], True),  # a bow tie
        ([(8, 8), (40, 8), (40, 40), (8, 40), (8, 8)], False),  # closed by repeating the first point
        ([(8, 8), (40, 8), (40, 8), (40, 40), (8, 40)], False),  # a point twice
        (
            [(8, 8), (40, 8), (40, 40), (8, 40), (8, 8), (16, 16), (16, 32), (32, 32), (32, 16), (16, 16)],
            False,
        ),  # a hole
        ([(8, 8), (40, 8), (40, 40), (24, 8), (8, 40)], False),  # a corner that touches a side
        ([(8, 8), (40, 8), (40, 40), (24, 4), (8, 40)], True),
        ([(8, 8), (40, 8), (24, 40)], False),
    ],
)
def test_outlines_that_cross_themselves(points, crosses):
    problems = found(of(made([rings(*points)])), "outline crosses itself", decode=False)
    assert len(problems) == crosses
    assert all(problem.severity == "warning" and problem.repair is None for problem in problems)


def test_where_an_outline_crosses_is_said_and_long_ones_are_skipped():
    (problem,) = found(of(made([rings((8, 8), (40, 40), (40, 8), (8, 40))])), "outline crosses itself", decode=False)
    assert "near (8.0, 8.0); what is enclosed twice counts as outside" in problem.message
    angle = np.linspace(0, 2 * np.pi, 2001)
    circle = Polygons((np.stack([24 + 16 * np.cos(angle), 24 + 16 * np.sin(angle)], axis=1),))
    (problem,) = found(of(made([circle])), "long outlines", decode=False)
    assert problem.message == "1 have more than 2000 points and were not tested for crossing themselves"


@given(st.lists(st.lists(st.tuples(*[st.integers(0, 9)] * 2), min_size=3, max_size=12), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_crossing_agrees_with_pairs_of_sides(outlines):
    """Every pair of sides, one by one, in whole numbers."""

    def side(a, b, c) -> int:
        return int(np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])))

    def crosses(points) -> bool:
        sides = list(zip(points, [*points[1:], points[0]], strict=True))
        return any(
            side(*one, other[0]) * side(*one, other[1]) < 0 and side(*other, one[0]) * side(*other, one[1]) < 0
            for one in sides
            for other in sides
        )

    record = made([rings(*points) for points in outlines], boxes=[(0, 0, 9, 9)] * len(outlines))
    problems = found(of(record), "outline crosses itself", decode=False)
    assert [problem.index for problem in problems] == [i for i, points in enumerate(outlines) if crosses(points)]


def test_outlines_outside():
    far = rings((70, 8), (90, 8), (90, 40))
    over = rings((50, 8), (70, 8), (70, 40))
    just = rings((50, 8), (65.5, 8), (65.5, 40))
    dataset = of(made([far, over, just], boxes=[(50, 8, 64, 40)] * 3, labels=[0, 0, 1]))
    (gone,) = found(dataset, "outline outside the image", decode=False)
    assert (gone.index, gone.severity, gone.repair) == (0, "error", "the object is left out")
    assert "spans [70.0, 8.0, 90.0, 40.0] in 64x48" in gone.message
    (partly,) = found(dataset, "outline reaches outside", decode=False)
    assert (partly.index, partly.severity, partly.repair) == (1, "warning", None)


@pytest.mark.parametrize("kind", ["polygons", "rle"])
def test_boxes_that_do_not_fit_their_masks(kind):
    mask = SQUARE if kind == "polygons" else RLE((48, 64), polygons_to_rle(SQUARE.rings, (48, 64))["counts"])
    good, wrong, crowd = (8, 8, 40, 30), (30, 30, 60, 48), (50, 40, 60, 48)
    record = made([mask] * 3, boxes=[good, wrong, crowd], crowd=np.array([False, False, True]))
    (problem,) = found(of(record), "box and mask disagree")
    assert (problem.annotation, problem.severity, problem.repair) == (11, "warning", None)
    assert "box [30.0, 30.0, 60.0, 48.0] but the mask spans [8.0, 8.0, 40.0, 40.0]" in problem.message


def test_annotations_that_are_there_twice():
    nearly = rings((8, 8), (40, 8), (40, 40), (8, 39.9))
    triangle = rings((8, 8), (40, 8), (40, 40))
    dataset = of(made([SQUARE, SQUARE, nearly, triangle, SQUARE], boxes=[(8, 8, 40, 40)] * 5, labels=[0, 0, 0, 0, 1]))
    problems = found(dataset, "duplicate annotation", decode=False)
    assert [(p.index, p.annotation, p.repair) for p in problems] == [
        (1, 11, "the object is left out"),
        (2, 12, "the object is left out"),
    ]
    assert "are those of annotation 10" in problems[0].message
    crossed = of(made([SQUARE, triangle, SQUARE, triangle], boxes=[(8, 8, 40, 40)] * 4))
    assert [p.index for p in found(crossed, "duplicate annotation", decode=False)] == [2, 3]
    alone = of(made(boxes=[(8, 8, 40, 40), (8, 8, 40, 40.1), (9, 8, 40, 40), (8, 8, 40, 40)]), made())
    assert [p.index for p in found(alone, "duplicate annotation", decode=False)] == [1, 3]
    many = of(made(boxes=[(8, 8, 40, 40)] * 3000))
    assert len(found(many, "duplicate annotation", decode=False)) >= 999


def test_mask_files_are_compared_when_files_are_read(tmp_path):
    for name, value in (("a", 255), ("b", 1)):
        Image.fromarray(np.full((48, 64), value, np.uint8)).save(tmp_path / f"{name}.png")
    masks = [MaskFile(tmp_path / "a.png"), MaskFile(tmp_path / "b.png")]
    dataset = of(made(masks, boxes=[(0, 0, 64, 48)] * 2))
    assert len(found(dataset, "duplicate annotation", decode=True)) == 1
    assert not found(dataset, "duplicate annotation", decode=False)


def test_images_with_the_same_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    paths = [tmp_path / name for name in ("a.png", "b.bmp", "c.png", "d.png")]
    for path in paths:
        Image.fromarray(pixels if path.stem != "d" else pixels[::-1]).save(path)
    splits = ["train", "train", "val", "val"]
    records = [made(path=path, make=None, split=split) for path, split in zip(paths, splits, strict=True)]
    dataset = of(*records)
    (within,) = found(dataset, "duplicate image")
    assert (within.path, within.severity, within.repair) == (paths[1], "warning", None)
    assert f"has the pixels of {paths[0]}, image 1" in within.message
    (leak,) = found(dataset, "image in two splits")
    assert leak.path == paths[2]
    assert f"in val has the pixels of {paths[0]} in train; remove one, or scores say too much" in leak.message
    assert not found(dataset, "duplicate image", decode=False)


def photo(path: Path, orientation: int, stored: tuple[int, int] = (48, 64)) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((*stored, 3), np.uint8)).save(path, exif=exif)
    return path


def test_annotations_of_the_stored_pixels_of_a_photo(tmp_path):
    turned = made([SQUARE], path=photo(tmp_path / "a.jpg", 6), make=None)
    (problem,) = [p for p in check_dataset(of(turned)) if p.severity == "error"]
    assert (problem.kind, problem.repair) == ("annotations not rotated", "the annotations are turned as the photo is")
    assert "48x64 pixels, annotated as 64x48; the annotations describe the image before" in problem.message
    swapped = made([SQUARE], path=photo(tmp_path / "b.jpg", 1, (64, 48)), make=None)
    (problem,) = [p for p in check_dataset(of(swapped)) if p.severity == "error"]
    assert (problem.kind, problem.repair) == ("wrong image size", "the image is left out")


def test_a_class_list_longer_than_a_screen_is_one_line():
    dataset = Dataset([made()], tuple(f"class {i}" for i in range(50)), tuple(range(50)))
    (problem,) = found(dataset, "class without object")
    assert "49 of 50 classes have no object, among them 'class 1', 'class 2'" in problem.message


def test_more_objects_than_the_model_may_find():
    boxes = [(x, y, x + 2, y + 2) for x in range(0, 60, 4) for y in range(0, 40, 4)][:20]
    assert not found(of(made(boxes=boxes)), "many objects", decode=False)
    (problem,) = found(of(made(boxes=boxes)), "many objects", decode=False, detections_per_image=15)
    assert "1 images have more than 15 objects; detections_per_image must allow for 20" in problem.message


def test_a_line_says_what_will_be_done():
    (problem,) = found(of(made(boxes=[(8, 8, 8, 40)])), "degenerate box", decode=False)
    assert str(problem) == (
        "error: degenerate box: made.png, image 1, annotation 10: [8.0, 8.0, 8.0, 40.0] has no area; draw it again "
        "(repair: the object is left out)"
    )


def test_progress_is_told_and_threads_do_not_change_the_answer(shapes):
    shapes[1].path.unlink()
    told: list[tuple[int, int]] = []
    one = check_dataset(shapes, workers=1, progress=lambda done, total: told.append((done, total)))
    assert told == [(i, 5) for i in range(1, 6)]
    assert [str(p) for p in one] == [str(p) for p in check_dataset(shapes, workers=4, progress=True)]


def test_wild_numbers_are_problems_and_no_crash():
    wild = [np.nan, np.inf, -np.inf, 1e38, 0]
    boxes = [(a, b, c, d) for a in wild for b in wild for c in wild for d in wild]
    masks = [rings((a, b), (b, a), (c, d)) for a, b, c, d in boxes]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        problems = check_dataset(of(made(masks, boxes=boxes)), decode=False)
    kinds = {problem.kind for problem in problems}
    assert {"degenerate box", "box outside the image"} <= kinds


def test_an_empty_data_set_has_no_images_to_complain_about():
    assert {problem.kind for problem in check_dataset(of())} == {"class without object"}
    assert check_dataset(of(made(boxes=())))[-1].message == "1 of 1; they are kept as background"


@pytest.mark.parametrize("name", ["balloon", "coco-mini", "tfrecord-masks"])
def test_real_data_has_no_errors(data_dir, name):
    assert [p for p in check_dataset(open_dataset(data_dir / name)[:20]) if p.severity == "error"] == []
