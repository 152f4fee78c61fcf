"""labelme JSON: shapes, layouts, images inside the JSON, and bytes that make no sense."""

from __future__ import annotations

import base64
import json
import pickle
import re
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn.data.formats import labelme
from maskrcnn.data.open import open_dataset
from maskrcnn.data.sample import load_record
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import decode_rle, mask_to_rle
from maskrcnn.structures import RLE, Polygons
from tests.data.contract import assert_dataset

SQUARE = [[10, 10], [30, 10], [30, 30], [10, 30]]


def png(pixels: np.ndarray) -> str:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def picture(path: Path, height: int = 40, width: int = 50) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path)
    return path


def shape(label: str = "cat", points: Any = SQUARE, **more: Any) -> dict:
    return {"label": label, "points": points, "group_id": None, "shape_type": "polygon", "flags": {}, **more}


def page(*shapes: Any, **changes: Any) -> dict:
    content = {"version": "5.2.1", "flags": {}, "shapes": list(shapes), "imagePath": "a.png", "imageData": None}
    return {**content, "imageHeight": 40, "imageWidth": 50, **changes}


def write(file: Path, content: dict) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def opened(folder: Path, *shapes: Any, **changes: Any) -> Dataset:
    picture(folder / "a.png")
    write(folder / "a.json", page(*shapes, **changes))
    dataset = open_dataset(folder)
    assert dataset.format == "labelme"
    assert_dataset(dataset)
    return dataset


def test_polygon_rectangle_and_circle(tmp_path):
    dataset = opened(
        tmp_path,
        shape(points=SQUARE[:3]),
        shape("dog", [[30.5, 25], [20, 5.25]], shape_type="rectangle"),
        shape("dog", SQUARE, shape_type="rectangle"),
        shape("cat", [[20, 20], [25, 20]], shape_type="circle"),
    )
    assert dataset.classes == ("cat", "dog")
    assert dataset[0].labels.tolist() == [0, 1, 1, 0]
    assert dataset[0].boxes[:3].tolist() == [[10, 10, 30, 30], [20, 5.25, 30.5, 25], [10, 10, 30, 30]]
    np.testing.assert_allclose(dataset[0].boxes[3], [15, 15, 25, 25], atol=1e-5)
    assert dataset[0].areas[3] == pytest.approx(np.pi * 25, rel=0.05)
    assert dataset.warnings == ()


def test_version_3_knows_only_polygons(tmp_path):
    old = {"label": "cat", "points": SQUARE, "line_color": None, "fill_color": None}
    dataset = opened(tmp_path, old, version="3.5.0", imageHeight=None, imageWidth=None)
    assert dataset[0].boxes.tolist() == [[10, 10, 30, 30]]
    assert dataset.warnings == ()


def test_lines_and_points_are_counted(tmp_path):
    kinds = ("linestrip", "line", "point", "points")
    dataset = opened(tmp_path, shape(), *(shape(shape_type=kind) for kind in kinds))
    assert len(dataset[0]) == 1
    assert "skipped 4 shapes without an inside" in dataset.warnings[0]
    assert "a.json, image a.png, annotation 1: shape_type 'linestrip'" in dataset.warnings[0]


def test_a_mask_lies_at_its_first_point(tmp_path):
    pixels = np.zeros((6, 8), bool)
    pixels[1:5, 2:7] = True
    dataset = opened(tmp_path, shape(points=[[12.0, 20.0], [19.0, 25.0]], shape_type="mask", mask=png(pixels)))
    (mask,) = dataset[0].masks
    assert isinstance(mask, RLE)
    expected = np.zeros((40, 50), bool)
    expected[21:25, 14:19] = True
    np.testing.assert_array_equal(decode_rle(mask_to_rle(mask, (40, 50))), expected)
    assert dataset[0].boxes.tolist() == [[14, 21, 19, 25]]
    assert dataset[0].areas.tolist() == [20]


def test_a_mask_that_reaches_out_is_cut(tmp_path):
    mask = png(np.full((20, 20), 255, np.uint8))
    dataset = opened(
        tmp_path,
        shape(points=[[-5, -10], [14, 9]], shape_type="mask", mask=mask),
        shape(points=[[45, 35], [64, 54]], shape_type="mask", mask=mask),
        shape(points=[[60, 35], [79, 54]], shape_type="mask", mask=mask),
    )
    assert dataset[0].boxes.tolist() == [[0, 0, 15, 10], [45, 35, 50, 40]]
    assert "the mask at 60, 35 has no pixel inside the image" in dataset.warnings[0]


def test_a_group_is_one_object(tmp_path):
    pixels = np.ones((4, 4), bool)
    dataset = opened(
        tmp_path,
        shape(group_id=1),
        shape(points=[[40, 10], [45, 10], [45, 15]], group_id=1),
        shape("dog", group_id=1),
        shape("dog", points=[[0, 0], [5, 5]], shape_type="rectangle", group_id=2),
        shape("dog", points=[[40, 30], [43, 33]], shape_type="mask", mask=png(pixels), group_id=2),
    )
    record = dataset[0]
    assert [dataset.classes[label] for label in record.labels] == ["cat", "dog", "dog"]
    assert record.boxes.tolist() == [[10, 10, 45, 30], [10, 10, 30, 30], [0, 0, 44, 34]]
    assert isinstance(record.masks[0], Polygons)
    assert len(record.masks[0].rings) == 2
    assert isinstance(record.masks[2], RLE)
    assert record.areas[2] == 25 + 16


def test_flags_make_a_region_to_ignore(tmp_path):
    dataset = opened(tmp_path, shape(flags={"crowd": True}), shape(flags={"crowd": False, "red": True}))
    assert dataset[0].crowd.tolist() == [True, False]


def test_labels_that_are_no_objects(tmp_path):
    dataset = opened(tmp_path, shape(), shape("__ignore__"), shape("_background_"), shape(""), shape(7))
    assert dataset.classes == ("7", "cat")
    assert [w.partition(",")[0] for w in dataset.warnings] == [
        "skipped 2 shapes that are marked as no object",
        "skipped 1 shapes without a label",
    ]


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        (shape(points=[[0, 0], [1, 1]]), "shapes of another kind, .*polygon' with 2 points"),
        (shape(shape_type="spiral"), "shapes of another kind, .*'spiral' with 4 points"),
        (shape(points=[[0, 0], [1e30, 1], [2, 2]]), r"shapes with wild coordinates, .*1e\+30"),
        (shape(points=[[0, 0], [float("nan"), 1], [2, 2]]), "shapes with wild coordinates"),
        (shape(points=[[0, 0, 0]] * 3), labelme.ODD),
        (shape(points="no"), labelme.ODD),
        (shape(points=[[0, 10**400]] * 3), labelme.ODD),
        (shape(shape_type="mask"), labelme.ODD),
        (shape(shape_type="mask", mask="AAAA"), f"{labelme.ODD}, .*is no image"),
        (shape(shape_type=["mask"]), "shapes of another kind"),
        ("shape", labelme.ODD),
    ],
)
def test_odd_shapes_are_counted(tmp_path, odd, expected):
    dataset = opened(tmp_path, shape(), odd)
    assert len(dataset[0]) == 1
    assert re.search(f"skipped 1 {expected}", dataset.warnings[0])


def test_a_mask_of_noise_or_of_giant_size_is_refused(tmp_path, monkeypatch):
    noise = png(np.indices((30, 30)).sum(axis=0).astype(np.uint8) % 2)
    points = [[0, 0], [29, 29]]
    monkeypatch.setattr(labelme, "MOST_EDGES", 100)
    dataset = opened(tmp_path, shape(), shape(points=points, shape_type="mask", mask=noise))
    assert "noise, not an object" in dataset.warnings[0]
    monkeypatch.setattr(labelme, "MOST_MASK", 800)
    dataset = opened(tmp_path, shape(), shape(points=points, shape_type="mask", mask=noise))
    assert "the mask has 30x30 pixels, more than 800" in dataset.warnings[0]


def test_the_header_of_the_image_wins(tmp_path):
    dataset = opened(tmp_path, shape(), imageHeight=400, imageWidth=500)
    assert dataset[0].size == (40, 50)
    assert "kept 1 images of another size than annotated" in dataset.warnings[0]
    assert "(400, 500) instead of (40, 50)" in dataset.warnings[0]


def test_sizes_are_those_of_the_upright_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (50, 40)).save(tmp_path / "a.jpg", exif=exif)
    write(tmp_path / "a.json", page(shape(), imagePath="a.jpg", imageHeight=50, imageWidth=40))
    dataset = open_dataset(tmp_path)
    assert dataset[0].size == (50, 40)
    assert dataset.warnings == ()


# ---------------------------------------------------------------- layouts


@pytest.mark.parametrize(
    ("file", "image", "name", "split"),
    [
        ("a.json", "a.png", "a.png", ""),
        ("annotations/a.json", "images/a.png", "..\\images\\a.png", ""),
        ("json/a.json", "img/a.png", "C:\\Users\\me\\a.png", ""),
        ("json/a.json", "a.png", "a.png", ""),
        ("train/a.json", "train/a.png", "a.png", "train"),
        ("val/labels/a.json", "val/images/a.PNG", "renamed.jpg", "val"),
        ("annotations/test/a.json", "images/test/a.png", "a.png", "test"),
    ],
)
def test_layouts(tmp_path, file, image, name, split):
    picture(tmp_path / image)
    write(tmp_path / file, page(shape(), imagePath=name))
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert dataset.format == "labelme"
    assert dataset[0].path.resolve() == tmp_path / image
    assert dataset[0].split == split


def test_a_single_file(tmp_path):
    picture(tmp_path / "a.png")
    dataset = open_dataset(write(tmp_path / "a.json", page(shape())))
    assert dataset[0].path == tmp_path / "a.png"


def test_a_folder_of_annotations_alone_finds_its_images_next_door(tmp_path):
    write(tmp_path / "set" / "json" / "a.json", page(shape()))
    picture(tmp_path / "set" / "other_images" / "a.png")
    with pytest.raises(DataError, match="skipped 1 images whose file is missing"):
        open_dataset(tmp_path / "set" / "json")
    picture(tmp_path / "set" / "images" / "a.png")
    assert open_dataset(tmp_path / "set" / "json")[0].path == tmp_path / "set" / "images" / "a.png"


def test_images_of_the_other_split_are_not_taken(tmp_path):
    picture(tmp_path / "val_images" / "a.png")
    write(tmp_path / "train" / "a.json", page(shape()))
    with pytest.raises(DataError, match="holds no image that can be used; skipped 1 images whose file is missing"):
        open_dataset(tmp_path)


def test_the_image_inside_the_json_is_used_when_its_file_is_missing(tmp_path):
    pixels = np.arange(40 * 50 * 3, dtype=np.uint8).reshape(40, 50, 3)
    write(tmp_path / "a.json", page(shape(), imagePath="..\\gone\\a.png", imageData=png(pixels)))
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    record = dataset[0]
    assert record.path == tmp_path / "a.png"
    assert record.size == (40, 50)
    for one in (record, pickle.loads(pickle.dumps(record))):
        np.testing.assert_array_equal(load_record(one).permute(1, 2, 0).numpy(), pixels)
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match="holds no `imageData` any more"):
        load_record(record)


def test_an_image_inside_the_json_that_is_no_image(tmp_path):
    picture(tmp_path / "b.png")
    write(tmp_path / "b.json", page(shape(), imagePath="b.png"))
    write(tmp_path / "a.json", page(shape(), imageData="!!!!"))
    (warning,) = open_dataset(tmp_path).warnings
    assert "skipped 1 images inside their JSON that cannot be opened" in warning


def test_other_json_beside(tmp_path):
    (tmp_path / "b.json").write_text("{")
    (tmp_path / "c.json").write_text('{"shapes": 3}')
    (tmp_path / "d.json").write_text("[" * 100_000)
    dataset = opened(tmp_path, shape())
    assert [w.partition(",")[0] for w in dataset.warnings] == [
        "skipped 2 JSON files that cannot be read",
        "skipped 1 JSON files of another kind",
    ]


def test_a_json_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(labelme, "LARGEST", 1 << 20)
    picture(tmp_path / "b.png")
    write(tmp_path / "b.json", page(shape(), imagePath="b.png", imageData="A" * (1 << 20)))
    with pytest.raises(DataError, match="has more than 1 MB"):
        open_dataset(tmp_path)


def test_it_takes_no_other_format(tmp_path):
    write(tmp_path / "coco.json", {"images": [], "annotations": [], "categories": [], "shapes": [], "imagePath": ""})
    write(tmp_path / "via.json", {"a": {"filename": "a", "regions": [{"shape_attributes": {}}]}})
    write(tmp_path / "city.json", {"imgHeight": 4, "imgWidth": 4, "objects": []})
    assert not labelme.sniff(tmp_path)
    assert not labelme.sniff(tmp_path / "coco.json")
    assert not labelme.sniff(tmp_path / "nothing")
    with pytest.raises(DataError, match="no labelme JSON with `shapes` here"):
        labelme.read(tmp_path / "nothing")


def test_real_data_of_other_formats_is_not_taken(data_dir):
    folders = [folder for folder in data_dir.iterdir() if folder.is_dir()]
    assert folders
    assert not any(map(labelme.sniff, folders))


# ---------------------------------------------------------------- any bytes

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("\ud800")
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner), max_leaves=8
)
MASK = png(np.ones((4, 4), bool))


def assert_clean(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        picture(Path(name) / "a.png", 8, 9)
        (Path(name) / "a.json").write_bytes(data)
        labelme.sniff(Path(name))
        try:
            dataset = labelme.read(Path(name))
        except DataError:
            return
        assert_dataset(dataset)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_fields_of_any_kind(data):
    content = page(
        shape(points=[[1, 1], [5, 1], [5, 5]]),
        shape(points=[[1, 1], [4, 4]], shape_type="mask", mask=MASK, group_id=1),
        shape(points=[[1, 1], [4, 4]], shape_type="circle", group_id=1),
        imageData=MASK,
    )
    target = data.draw(st.sampled_from([content, *content["shapes"]]))
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(VALUES)
    assert_clean(json.dumps(content).encode())


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_bytes_of_any_kind(data):
    content = page(shape(points=[[1, 1], [5, 1], [5, 5]]), shape(points=[[1, 1], [4, 4]], shape_type="mask", mask=MASK))
    text = bytearray(json.dumps({**content, "imagePath": "gone.png", "imageData": MASK}).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    assert_clean(bytes(text))
