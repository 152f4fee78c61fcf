from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.instances import Instances
from maskrcnn.structures import KeypointSchema, Polygons, Record
from maskrcnn.view.draw import COLORS, draw_instances, draw_truth, grid, side_by_side, to_supervision

HEIGHT, WIDTH = 120, 160


def make_instances(boxes: list[list[float]], labels: list[int], classes: tuple[str, ...] = ("cat", "dog")) -> Instances:
    return Instances(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.linspace(0.95, 0.5, len(boxes), dtype=np.float32),
        labels=np.array(labels, np.int64),
        classes=classes,
        size=(HEIGHT, WIDTH),
        roi_masks=np.ones((len(boxes), 28, 28), np.float32),
    )


def rgb(index: int) -> np.ndarray:
    return np.array([int(COLORS[index][i : i + 2], 16) for i in (1, 3, 5)])


def black() -> np.ndarray:
    return np.zeros((HEIGHT, WIDTH, 3), np.uint8)


TWO = [[20, 50, 60, 90], [100, 50, 140, 90]]


def with_keypoints(names: tuple[str, ...] = ("nose", "left_eye", "tail")) -> Instances:
    points = np.array(
        [[[30, 60, 0.9], [50, 60, 0.5], [40, 80, 0]], [[110, 60, 1], [130, 60, 1], [120, 80, 1]]], np.float32
    )
    return replace(make_instances(TWO, [1, 0]), keypoints=points, keypoint_names=names)


def test_keypoints_are_dots_and_lines_in_the_colour_of_their_object() -> None:
    """A point whose third number is 0 is not labelled; what COCO does not join is not joined."""
    drawn = draw_instances(with_keypoints(), black(), labels=False, boxes=False, masks=False)
    assert drawn[60, 30].tolist() == drawn[60, 40].tolist() == rgb(1).tolist()
    assert drawn[60, 120].tolist() == drawn[80, 120].tolist() == rgb(0).tolist()
    assert not drawn[80, 40].any()
    assert not drawn[70, 120].any()
    bare = draw_instances(with_keypoints(names=()), black(), labels=False, boxes=False, masks=False)
    assert bare[60, 30].any()
    assert not bare[60, 40].any()
    off = draw_instances(with_keypoints(), black(), labels=False, boxes=False, masks=False, keypoints=False)
    assert not off.any()
    large = draw_instances(with_keypoints(), black(), labels=False, boxes=False, masks=False, scale=2)
    assert large[120, 60].tolist() == rgb(1).tolist()


def test_keypoints_of_the_truth_are_drawn() -> None:
    record = Record(
        path=Path("a.png"),
        image_id=1,
        height=HEIGHT,
        width=WIDTH,
        boxes=np.array(TWO, np.float32),
        labels=np.array([0, 1]),
        masks=(),
        crowd=np.zeros(2, bool),
        areas=np.ones(2, np.float32),
        annotation_ids=np.arange(2),
        keypoints=np.array([[[40, 70, 2]], [[120, 70, 0]]], np.float32),
    )
    dataset = Dataset([record], ("cat", "dog"), (1, 2), keypoints=KeypointSchema(("nose",)))
    drawn = draw_truth(record, dataset, black(), labels=False)
    assert drawn[70, 40].tolist() == rgb(0).tolist()
    assert not drawn[70, 120].any()


def test_masks_have_the_colour_of_their_class() -> None:
    """Half of it at the default opacity, in RGB order, full on the outline."""
    drawn = draw_instances(make_instances(TWO, [1, 0]), black(), labels=False, boxes=False)
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    assert drawn.dtype == np.uint8
    np.testing.assert_allclose(drawn[70, 40], rgb(1) / 2, atol=1)
    np.testing.assert_allclose(drawn[70, 120], rgb(0) / 2, atol=1)
    np.testing.assert_array_equal(drawn[50, 40], rgb(1))
    assert not drawn[10].any()


def test_one_class_is_coloured_by_instance() -> None:
    one_class = make_instances(TWO, [0, 0], ("cell",))
    drawn = draw_instances(one_class, black(), labels=False, boxes=False)
    np.testing.assert_allclose(drawn[70, 40], rgb(0) / 2, atol=1)
    np.testing.assert_allclose(drawn[70, 120], rgb(1) / 2, atol=1)
    drawn = draw_instances(one_class, black(), labels=False, boxes=False, color_by="class")
    np.testing.assert_allclose(drawn[70, 120], rgb(0) / 2, atol=1)


def test_the_best_box_lies_on_top() -> None:
    drawn = draw_instances(make_instances([TWO[0], TWO[0]], [1, 0]), black(), labels=False, masks=False)
    np.testing.assert_array_equal(drawn[50, 40], rgb(1))


def test_parts_can_be_left_out() -> None:
    instances = make_instances(TWO, [1, 0])
    nothing = draw_instances(instances, black(), masks=False, boxes=False, labels=False)
    assert not nothing.any()
    boxes = draw_instances(instances, black(), masks=False, labels=False)
    assert boxes[50, 40].any()
    assert not boxes[70, 40].any()
    labels = draw_instances(instances, black(), masks=False, boxes=False)
    assert labels[35:49, 20:40].any()
    assert not labels[51:].any()


def test_names_that_would_hide_the_picture_are_left_out() -> None:
    """A few are written larger, more of them smaller, too many not at all unless they are wanted."""
    size = 700

    def written(count: int, labels: bool | Literal["auto"] = "auto") -> int:
        corners = [[20.0 + 9 * i % 600, 40.0 + 31 * (i // 8) % 600] for i in range(count)]
        many = replace(make_instances([[x, y, x + 9, y + 9] for x, y in corners], [0] * count), size=(size, size))
        picture = np.zeros((size, size, 3), np.uint8)
        return int(draw_instances(many, picture, masks=False, boxes=False, labels=labels).any(axis=2).sum())

    few, several = written(1), written(150)
    assert 0 < several < 150 * few / 2
    assert written(600) == 0
    assert written(600, labels=True) > several


def test_labels_at_the_border_stay_inside() -> None:
    drawn = draw_instances(make_instances([[130, 0, 160, 40]], [1]), black(), masks=False, boxes=False)
    columns = np.nonzero(drawn.any(axis=(0, 2)))[0]
    rows = np.nonzero(drawn.any(axis=(1, 2)))[0]
    assert columns[-1] - columns[0] > 35  # "dog 0.95" and its padding, whole
    assert rows[-1] - rows[0] > 8


def test_the_image_given_is_not_changed() -> None:
    image = black()
    draw_instances(make_instances(TWO, [1, 0]), image)
    assert not image.any()


@pytest.mark.parametrize(
    "boxes", [[], [[0, 0, 1, 1]], [[159, 119, 160, 120]], [[0, 0, WIDTH, HEIGHT]], [[3.2, 3.2, 3.3, 3.3]]]
)
def test_empty_tiny_and_full_instances(boxes: list[list[float]]) -> None:
    drawn = draw_instances(make_instances(boxes, [0] * len(boxes)), black())
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    assert drawn.any() == bool(boxes)


def test_more_instances_than_colours() -> None:
    boxes = [[5 * i, 10, 5 * i + 4, 14] for i in range(30)]
    assert draw_instances(make_instances(boxes, [0] * 30, ("cell",)), black()).any()


def test_without_masks() -> None:
    assert draw_instances(replace(make_instances(TWO, [1, 0]), roi_masks=None), black()).any()


def test_reads_its_own_file(tmp_path: Path) -> None:
    Image.fromarray(black() + 7).save(tmp_path / "a.png")
    instances = replace(make_instances(TWO, [1, 0]), path=str(tmp_path / "a.png"))
    np.testing.assert_array_equal(draw_instances(instances), draw_instances(instances, black() + 7))
    np.testing.assert_array_equal(instances.draw(), draw_instances(instances))


def test_scale_enlarges_image_boxes_and_masks() -> None:
    instances = make_instances(TWO, [1, 0])
    drawn = draw_instances(instances, black(), labels=False, boxes=False, scale=3)
    assert drawn.shape == (3 * HEIGHT, 3 * WIDTH, 3)
    covered = drawn.any(axis=2)
    np.testing.assert_array_equal(
        covered, draw_instances(instances, black(), labels=False, boxes=False).any(axis=2).repeat(3, 0).repeat(3, 1)
    )


def make_record(path: Path, crowd: bool = False) -> Record:
    ring = np.array([[20, 50], [60, 50], [60, 90], [20, 90]], float)
    return Record(
        path=path,
        image_id=1,
        height=HEIGHT,
        width=WIDTH,
        boxes=np.array([TWO[0]], np.float32),
        labels=np.array([1]),
        masks=(Polygons((ring,)),),
        crowd=np.array([crowd]),
        areas=np.array([1600], np.float32),
        annotation_ids=np.array([1]),
    )


def test_truth_looks_like_a_prediction(tmp_path: Path) -> None:
    dataset = Dataset([], ("cat", "dog"), (1, 2))
    record = make_record(tmp_path / "a.png")
    drawn = draw_truth(record, dataset, black(), labels=False)
    np.testing.assert_array_equal(drawn, draw_instances(make_instances(TWO[:1], [1]), black(), labels=False))
    crowd = draw_truth(make_record(tmp_path / "a.png", crowd=True), dataset, black())
    assert crowd[35:49].any(axis=(0, 2)).sum() > draw_truth(record, dataset, black())[35:49].any(axis=(0, 2)).sum()
    boxes_only = replace(record, masks=())
    assert not draw_truth(boxes_only, dataset, black(), labels=False)[70, 40].any()


def test_side_by_side_and_grid() -> None:
    pair = side_by_side(black(), black() + 9)
    assert pair.shape[1] == 2 * WIDTH + 8
    assert pair.shape[0] > HEIGHT
    images = [np.zeros((10, 20, 3), np.uint8), np.zeros((30, 10, 3), np.uint8), np.zeros((5, 5, 3), np.uint8)]
    assert grid(images, 2).shape == (30 * 2 + 8, 20 * 2 + 8, 3)
    assert grid(images, 9).shape == (30, 20 * 3 + 16, 3)
    assert grid([], 3).shape == (1, 1, 3)
    assert (grid(images, 2) == 0).all(axis=2).sum() == 200 + 300 + 25


def test_to_supervision() -> None:
    instances = make_instances(TWO, [1, 0])
    detections = to_supervision(instances)
    np.testing.assert_array_equal(detections.xyxy, instances.boxes)
    np.testing.assert_array_equal(detections.class_id, [1, 0])
    assert list(detections["class_name"]) == ["dog", "cat"]
    np.testing.assert_array_equal(np.asarray(detections.mask), instances.masks)
    empty = to_supervision(make_instances([], []))
    assert len(empty) == 0
    assert len(detections[detections.confidence > 0.9]) == 1


def test_a_mask_may_reach_beyond_its_box() -> None:
    instances = replace(make_instances(TWO, [1, 0]), paste="torchvision")
    np.testing.assert_array_equal(np.asarray(to_supervision(instances).mask), instances.masks)


def test_messages() -> None:
    instances = make_instances(TWO, [1, 0])
    with pytest.raises(DataError, match="come from no file; give the image to draw on"):
        draw_instances(instances)
    with pytest.raises(DataError, match="image is 4 x 3 pixels but the instances are of one of 160 x 120"):
        draw_instances(instances, np.zeros((3, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="'score' is not one of auto, class, instance"):
        draw_instances(instances, black(), color_by="score")  # type: ignore[arg-type]


def test_no_advice_about_opencv_and_nothing_at_import() -> None:
    code = (
        "import sys, warnings; warnings.simplefilter('error'); import maskrcnn.view.draw as draw;"
        "assert 'supervision' not in sys.modules and 'matplotlib' not in sys.modules;"
        "draw._supervision()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_instances(make_instances(TWO, [1, 0]), black())
