"""What our own readers say of the files that predictions are written to."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.open import open_dataset
from maskrcnn.errors import DataError
from maskrcnn.instances import Instances, Place
from maskrcnn.ops.masks import encode_mask, mask_to_rle
from maskrcnn.ops.rle import decode_rle
from maskrcnn.ops.simplify import simplify_ring
from maskrcnn.predict.formats.geojson import to_geojson
from maskrcnn.predict.formats.records import outline
from maskrcnn.predict.results import KINDS, NEED_TRACKS, save_results
from maskrcnn.predict.whole import write_whole

SIZE = (120, 160)
UNTRACKED = [kind for kind in KINDS if kind not in NEED_TRACKS]


def masks() -> np.ndarray:
    """(3, H, W): a large disc, a ring with a hole, two parts."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    disc = (x - 60) ** 2 + (y - 60) ** 2 < 45**2
    ring = (abs(x - 130) < 16) & (abs(y - 30) < 16) & ~((abs(x - 130) < 5) & (abs(y - 30) < 7))
    parts = ((abs(x - 120) < 6) | (abs(x - 145) < 6)) & (abs(y - 90) < 9)
    return np.stack([disc, ring, parts])


def make(path: Path | None = None, place: Place | None = None) -> Instances:
    pixels = masks()
    boxes = [[x.min(), y.min(), x.max() + 1, y.max() + 1] for y, x in (np.nonzero(mask) for mask in pixels)]
    return Instances(
        boxes=np.array(boxes, np.float32),
        scores=np.array([0.9, 0.8, 0.3], np.float32),
        labels=np.array([1, 0, 1]),
        classes=("cat", "dog"),
        size=SIZE,
        category_ids=(7, 3),
        path=None if path is None else str(path),
        place=place,
        _rle=[encode_mask(mask) for mask in pixels],
    )


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "photo.png"
    path.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)).save(path)
    return path


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize(
    ("kind", "place", "least"),
    [("labelme", "labelme", 0.97), ("via", "via", 0.97), ("yolo", "yolo", 1.0), ("json", "predictions.json", 1.0)],
)
def test_predictions_open_as_a_data_set(photo: Path, tmp_path: Path, kind: str, place: str, least: float) -> None:
    save_results([make(photo)], tmp_path / "out", [kind])
    dataset = open_dataset(tmp_path / "out" / place)
    (record,) = dataset
    assert [dataset.classes[label] for label in record.labels] == ["dog", "cat", "dog"]
    assert record.size == SIZE
    found = [decode_rle(mask_to_rle(mask, SIZE)) for mask in record.masks]
    assert all(overlap(a, b) >= least for a, b in zip(found, masks(), strict=True))


def test_the_corrected_file_is_what_is_trained_on(photo: Path, tmp_path: Path) -> None:
    """Predict, delete an object and rename another in labelme's file, open."""
    save_results([make(photo)], tmp_path / "out", ["labelme"])
    file = tmp_path / "out" / "labelme" / "photo.json"
    content = json.loads(file.read_text())
    content["shapes"][0]["label"] = "bird"
    content["shapes"] = [shape for shape in content["shapes"] if shape["label"] != "cat"]
    file.write_text(json.dumps(content))
    dataset = open_dataset(file.parent)
    assert sorted(dataset.classes[label] for label in dataset[0].labels) == ["bird", "dog"]


def test_outlines_for_people_have_few_corners() -> None:
    (rings,) = (outline(encode_mask(mask)) for mask in masks()[:1])
    assert [len(ring) < 40 for ring in rings] == [True]
    ring = np.array([[0, 0], [5, 0.1], [10, 0], [10, 10], [0, 10]])
    np.testing.assert_array_equal(simplify_ring(ring, 0.5), ring[[0, 2, 3, 4]])
    np.testing.assert_array_equal(simplify_ring(ring, 0.0), ring)


def test_boxes_without_masks(photo: Path, tmp_path: Path) -> None:
    boxes = replace(make(photo), _rle=None)
    save_results([boxes], tmp_path / "out", UNTRACKED)
    for place in ("labelme", "via", "yolo"):
        np.testing.assert_allclose(open_dataset(tmp_path / "out" / place)[0].boxes, boxes.boxes, atol=0.01)
    assert boxes.areas.tolist() == pytest.approx(np.prod(boxes.boxes[:, 2:] - boxes.boxes[:, :2], axis=1).tolist())


def test_nothing_found(photo: Path, tmp_path: Path) -> None:
    save_results([make(photo)[:0]], tmp_path / "out", UNTRACKED)
    assert json.loads((tmp_path / "out" / "photo.geojson").read_text())["features"] == []
    assert json.loads((tmp_path / "out" / "coco_results.json").read_text()) == []


def filled(geometry: dict, to_pixels: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixel centres inside an odd number of rings, by the rule for crossings."""
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    inside = np.zeros(SIZE, bool)
    for ring in (ring for polygon in polygons for ring in polygon):
        assert ring[0] == ring[-1]
        points = np.c_[np.array(ring), np.ones(len(ring))] @ to_pixels
        for (x0, y0), (x1, y1) in pairwise(points):
            if y0 != y1:
                inside ^= ((y0 > y) != (y1 > y)) & (x0 + (y - y0) / (y1 - y0) * (x1 - x0) > x)
    return inside


def test_geojson_lies_on_the_map() -> None:
    place = Place(to_map=(0.5, 0.0, 400.0, 0.0, -0.25, 900.0), crs="EPSG:32633")
    content = to_geojson(make(place=place))
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    assert [feature["geometry"]["type"] for feature in content["features"]] == ["Polygon", "Polygon", "MultiPolygon"]
    assert [len(feature["geometry"]["coordinates"]) for feature in content["features"]] == [1, 2, 2]
    back = np.array([[2.0, 0.0], [0.0, -4.0], [-800.0, 3600.0]])
    for feature, mask in zip(content["features"], masks(), strict=True):
        np.testing.assert_array_equal(filled(feature["geometry"], back), mask)
    assert content["features"][2]["properties"]["class"] == "dog"


def test_geojson_without_a_map_is_in_pixels() -> None:
    content = to_geojson(make())
    assert "crs" not in content
    np.testing.assert_array_equal(filled(content["features"][1]["geometry"], np.eye(3)[:, :2]), masks()[1])


def test_csv_has_a_row_an_instance(photo: Path, tmp_path: Path) -> None:
    instances = replace(make(photo), classes=("cat", "=1+1"))
    save_results([instances], tmp_path / "out", ["csv"])
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["'=1+1", "cat", "'=1+1"]
    assert float(rows[0]["area"]) == masks()[0].sum()
    assert (float(rows[0]["centroid_x"]), float(rows[0]["centroid_y"])) == (60.5, 60.5)


def test_a_name_of_any_bytes_goes_through_every_kind(photo: Path, tmp_path: Path) -> None:
    """A file name of Linux need not be UTF-8."""
    bad = photo.with_name(b"bad\xff.png".decode("utf-8", "surrogateescape"))
    try:
        bad.write_bytes(photo.read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    save_results([make(bad)], tmp_path / "out", UNTRACKED)
    text = (tmp_path / "out" / "predictions.csv").read_text(encoding="utf-8")
    assert text.splitlines()[1].startswith("bad\\udcff,")
    for place in ("labelme", "via", "yolo", "predictions.json"):
        (record,) = open_dataset(tmp_path / "out" / place)
        assert record.path.is_file()


def test_areas_and_centroids() -> None:
    instances = make()
    np.testing.assert_array_equal(instances.areas, masks().sum(axis=(1, 2)))
    for (x, y), mask in zip(instances.centroids, masks(), strict=True):
        rows, columns = np.nonzero(mask)
        assert (x, y) == pytest.approx((columns.mean() + 0.5, rows.mean() + 0.5))


def test_crops_and_cutouts(photo: Path) -> None:
    instances, pixels = make(photo), np.asarray(Image.open(photo))
    x0, y0, x1, y1 = instances.boxes[1].astype(int)
    np.testing.assert_array_equal(instances.crops()[1], pixels[y0:y1, x0:x1])
    assert instances.crops(margin=500)[0].shape == (*SIZE, 3)
    alone = instances.cutouts()[1]
    np.testing.assert_array_equal(alone[:, :, 3] > 0, masks()[1][y0:y1, x0:x1])
    np.testing.assert_array_equal(alone[alone[:, :, 3] > 0][:, :3], pixels[masks()[1]])
    assert not alone[alone[:, :, 3] == 0].any()


def test_splash_is_grey_beside_the_objects(photo: Path) -> None:
    pixels, inside = np.asarray(Image.open(photo)), masks().any(axis=0)
    shown = make(photo).splash()
    np.testing.assert_array_equal(shown[inside], pixels[inside])
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    np.testing.assert_allclose(shown[~inside], np.repeat(grey[~inside][:, None], 3, axis=1), atol=1)


def test_a_picture_of_another_size() -> None:
    with pytest.raises(DataError, match="give that image"):
        make().splash(np.zeros((5, 5, 3), np.uint8))
    with pytest.raises(DataError, match="come from no file; give the image"):
        make().cutouts()


def test_supervision_has_the_same() -> None:
    detections = make().to_supervision()
    np.testing.assert_array_equal(detections.mask, masks())
    np.testing.assert_array_equal(detections.xyxy, make().boxes)


def test_what_a_person_corrected_is_not_written_over(photo: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "out" / "labelme" / "photo.json"
    save_results([make(photo)], out, ["labelme"])
    first = file.read_bytes()
    assert json.loads(first)["shapes"][0]["description"] == f"{make(photo).scores[0]:.3f}"
    save_results([make(photo)[:1]], out, ["labelme"])
    assert file.read_bytes() != first
    content = json.loads(file.read_text())
    content["shapes"][0]["label"] = "corrected"
    file.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match=r"photo\.json: has been corrected and is kept; delete it"):
        saved = save_results([make(photo)], out, ["labelme"])
    assert json.loads(file.read_text()) == content
    assert saved.paths == []


def test_results_of_a_model_that_knows_keypoints_but_has_no_head_for_them(photo: Path, tmp_path: Path) -> None:
    save_results([replace(make(photo), keypoint_names=("head", "tail"))], tmp_path / "out", ["csv", "via", "json"])
    assert (tmp_path / "out" / "predictions.csv").read_text().count("\n") == 4


def test_ctrl_c_leaves_no_half_file(tmp_path: Path) -> None:
    def stopped(file: BinaryIO) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a.json", stopped)
    assert list(tmp_path.iterdir()) == []
