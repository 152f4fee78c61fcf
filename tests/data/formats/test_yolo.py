"""YOLO: data.yaml with its quirks, folders without one, label lines of every kind."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn.data.formats import yolo, yolo_yaml
from maskrcnn.data.open import open_dataset
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.structures import Polygons
from tests.data.contract import assert_dataset

RING = "0 0.2 0.25 0.6 0.25 0.6 0.75"  # (10, 10) (30, 10) (30, 30) in 50 x 40
BOX = "1 0.4 0.5 0.4 0.5"  # (10, 10) - (30, 30)
YAML = "names: [cat, dog]\ntrain: images/train\n"
BOTH = YAML + "val: images/val\n"


def picture(path: Path, height: int = 40, width: int = 50) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path)
    return path


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def pair(root: Path, name: str, text: str | None = RING, images: str = "images", labels: str = "labels") -> None:
    """root/images/NAME.jpg and root/labels/NAME.txt."""
    picture(root / images / f"{name}.jpg")
    if text is not None:
        write(root / labels / f"{name}.txt", text)


def checked(path: Path) -> Dataset:
    dataset = open_dataset(path)
    assert dataset.format == "yolo"
    assert_dataset(dataset)
    return dataset


def labelled(root: Path, text: str, plan: str = YAML) -> Dataset:
    """One image, train/a.jpg, with these lines."""
    write(root / "data.yaml", plan)
    pair(root, "train/a", text)
    return checked(root)


def kinds(dataset: Dataset) -> list[str]:
    return [warning.partition(", first")[0] for warning in dataset.warnings]


# ---------------------------------------------------------------- lines


def test_outlines_and_boxes_in_one_file(tmp_path):
    write(tmp_path / "images" / "val" / "b.txt", "not read: labels go first")
    pair(tmp_path, "val/b", "")
    dataset = labelled(tmp_path, f"{RING}\n\n{BOX}\r\n", BOTH)
    assert dataset.classes == ("cat", "dog")
    record, negative = dataset
    assert record.labels.tolist() == [0, 1]
    assert record.boxes.tolist() == [[10, 10, 30, 30], [10, 10, 30, 30]]
    assert isinstance(record.masks[0], Polygons)
    np.testing.assert_allclose(record.masks[0].rings[0], [[10, 10], [30, 10], [30, 30]])
    assert (record.split, negative.split) == ("train", "val")
    assert len(negative) == 0
    assert kinds(dataset) == ["kept 1 objects without a mask, whose box stands in for it"]


def test_boxes_alone(tmp_path):
    dataset = labelled(tmp_path, BOX)
    assert not dataset.has_masks
    assert dataset.warnings == ()


def test_fractions_are_of_the_upright_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    dataset = labelled(tmp_path, BOX)
    Image.new("RGB", (50, 40)).save(tmp_path / "images" / "train" / "a.jpg", exif=exif)
    dataset = checked(tmp_path)
    assert dataset[0].size == (50, 40)
    np.testing.assert_allclose(dataset[0].boxes, [[8, 12.5, 24, 37.5]])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("2 0.4 0.5 0.4 0.5", "labels of an unknown class, .*a.txt, annotation line 2: class 2"),
        ("-1 0.4 0.5 0.4 0.5", "labels of an unknown class, .*class -1"),
        ("0.5 0.4 0.5 0.4 0.5", "labels of an unknown class, .*class 0.5"),
        ("0 0.4 0.5 0.4 0.5 0.93", "boxes with a sixth number .a confidence..*0.93"),
        ("0 0.4 0.5 0.4", "lines of neither a box nor an outline, .*3 numbers"),
        ("0", "lines of neither a box nor an outline, .*0 numbers"),
        (RING + " 0.9", "lines of neither a box nor an outline, .*7 numbers"),
        ("cat 0.4 0.5 0.4 0.5", "lines that are not numbers, .*'cat 0.4"),
        ("0 0.4 nan 0.4 0.5", "lines that are not numbers"),
        ("0 10 20 30 40", "objects whose coordinates are no fractions of the image, .*from -5 to 40"),
        ("0 0.4 0.5 0 0.5", "boxes of zero area or outside the image"),
    ],
)
def test_lines_that_cannot_be_used_are_counted(tmp_path, line, expected):
    dataset = labelled(tmp_path, f"{BOX}\n{line}\n")
    assert len(dataset[0]) == 1
    assert re.search(f"skipped 1 {expected}", dataset.warnings[0])


def test_coordinates_a_little_outside_are_cut_and_counted(tmp_path):
    lines = ["0 0.5 0.5 1.00001 1", "0 -0.05 0.25 0.6 0.25 0.6 1.02", "0 0.95 0.5 0.2 0.5"]
    dataset = labelled(tmp_path, "\n".join(lines))
    np.testing.assert_allclose(dataset[0].boxes, [[0, 0, 50, 40], [0, 10, 30, 40], [42.5, 10, 50, 30]], rtol=1e-6)
    assert kinds(dataset)[0] == "cut 2 objects that reach out of their image"
    assert "line 2: by 0.0500 of its side" in dataset.warnings[0]


def test_keypoints_are_not_read(tmp_path):
    dataset = labelled(tmp_path, BOX + " 0.5 0.5 2 0.6 0.6 1\n" + BOX, YAML + "kpt_shape: [2, 3]\n")
    assert dataset[0].boxes.tolist() == [[10, 10, 30, 30]] * 2
    assert kinds(dataset) == ["kept 1 objects whose keypoints are not read"]


def test_a_label_file_that_is_too_large(tmp_path, monkeypatch):
    pair(tmp_path, "train/b")
    monkeypatch.setattr(yolo, "MOST_BYTES", 100)
    dataset = labelled(tmp_path, "\n" * 101)
    assert kinds(dataset) == ["skipped 1 label files of more than 16 MB"]


# ---------------------------------------------------------------- data.yaml


@pytest.mark.parametrize(
    ("names", "classes", "label"),
    [
        ("names: [cat, dog]", ("cat", "dog"), 1),
        ("names:\n  0: cat\n  1: dog\n", ("cat", "dog"), 1),
        ("names:\n  7: horse\n  1: dog\n", ("dog", "horse"), 0),
        ("names: ['yes', no, 007]", ("yes", "no", "007"), 1),
        ("names: [cat, cat]", ("cat",), 0),
        ("nc: 3", ("0", "1", "2"), 1),
        ("nc: 3\nnames:", ("0", "1", "2"), 1),
    ],
)
def test_names(tmp_path, names, classes, label):
    dataset = labelled(tmp_path, BOX, f"{names}\ntrain: images/train\n")
    assert dataset.classes == classes
    assert dataset[0].labels.tolist() == [label]


@pytest.mark.parametrize(
    ("plan", "image", "split"),
    [
        ("train: ../train/images\nval: ../valid/images", "train/images/a", "train"),  # Roboflow
        ("train: ../train/images\nval: ../valid/images", "valid/images/a", "val"),
        ("path: .\ntest: images", "images/a", "test"),
        ("path: ../datasets/set\ntrain: images/train", "images/train/a", "train"),
        ("path: /nowhere/set\ntrain: images/train", "images/train/a", "train"),
        ("train: /home/me/set/images/train", "images/train/a", "train"),
        ("train: [images/one, images/two]", "images/two/deep/a", "train"),
        ("train: images/train/a.jpg", "images/train/a", "train"),
        ("train: data\\images\\train", "images/train/a", "train"),
    ],
)
def test_places(tmp_path, plan, image, split):
    root = tmp_path / "set"
    write(root / "data.yaml", f"names: [cat, dog]\n{plan}\n")
    label = "labels".join(image.rsplit("images", 1))
    picture(root / f"{image}.jpg")
    write(root / f"{label}.txt", RING)
    (record,) = checked(root)
    assert record.path.resolve() == root / f"{image}.jpg"
    assert record.split == split
    assert len(record) == 1


def test_lists_of_images(tmp_path):
    for name in ("a", "b", "c"):
        pair(tmp_path, name)
    lines = ["./images/a.jpg", "/home/me/set/images/b.jpg", "", "images/gone.jpg"]
    write(tmp_path / "train.txt", "\n".join(lines))
    write(tmp_path / "lists" / "val.txt", "images\\c.jpg\nimages/a.jpg\n")
    write(tmp_path / "set.yaml", "names: [cat]\ntrain: train.txt\nval: [lists/val.txt, images/none]\n")
    dataset = checked(tmp_path / "set.yaml")
    found = [(record.path.name, record.split) for record in dataset]
    assert found == [("a.jpg", "train"), ("b.jpg", "train"), ("c.jpg", "val")]
    assert kinds(dataset) == [
        "skipped 1 images whose file is missing",
        "kept 1 images that are in two splits",
        "skipped 1 places of images that are missing",
    ]
    assert "in train and val" in dataset.warnings[1]
    assert "val: 'images/none'" in dataset.warnings[2]


def test_the_yaml_may_be_one_folder_down(tmp_path):
    labelled(tmp_path / "unpacked", RING)
    assert len(checked(tmp_path)) == 1


def test_of_several_yaml_files_data_yaml_is_read(tmp_path):
    write(tmp_path / "another.yaml", YAML)
    write(tmp_path / "hyp.yaml", "lr: 0.1\n")
    dataset = labelled(tmp_path, RING)
    assert kinds(dataset) == ["skipped 1 further YAML files"]
    assert "another.yaml: data.yaml is read" in dataset.warnings[0]


def test_images_without_a_label_file_are_negatives(tmp_path):
    pair(tmp_path, "train/b", None)
    dataset = labelled(tmp_path, RING)
    assert [len(record) for record in dataset] == [1, 0]
    assert kinds(dataset) == ["kept 1 images without a label file"]


def test_images_that_cannot_be_opened(tmp_path):
    write(tmp_path / "images" / "train" / "b.jpg", "no image")
    dataset = labelled(tmp_path, RING)
    assert kinds(dataset) == ["skipped 1 images that cannot be opened"]


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ("names: [cat]\ntrain: nowhere\n", "no images with YOLO labels .* skipped 1 places of images that are missing"),
        ("names: [cat]\ntrain: images/val\n", "no image has a label file; the first, .*needs .*labels/val/b.txt"),
        ("names: [cat\ntrain: images\n", "is not valid YAML .*expected"),
        ("names: &n [cat]\nval: *n\n", "is not valid YAML .aliases"),
        ("names: " + "[" * 99 + "\ntrain: a", "more than 16 values inside each other"),
        ("names: cat\ntrain: images\n", "`names` is 'cat'; write a list"),
        ("names: {a: cat}\ntrain: images\n", "class 'a' of `names` is 'cat'"),
        ("names: [[cat]]\ntrain: images\n", "class 0 of `names` is"),
        ("names: [cat]\ntrain:\n", "names no images; write where they are"),
        ("- a\n# \nnames: 1\ntrain: 1", "is not valid YAML"),
        ("# comment\n'a\nnames: b\ntrain: c'", "has no entries"),
        ("names: [cat]\ntrain: \x07\n", "is not valid YAML"),
    ],
)
def test_data_yaml_that_cannot_be_used(tmp_path, plan, expected):
    write(tmp_path / "data.yaml", plan)
    pair(tmp_path, "val/b", None)
    with pytest.raises(DataError, match=f"(?s){expected}"):
        open_dataset(tmp_path)


def test_a_data_yaml_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(yolo_yaml, "LARGEST", 20)
    write(tmp_path / "data.yaml", "nc: 1\ntrain: a\n" + "#" * 20)
    with pytest.raises(DataError, match="has more than 0 MB"):
        open_dataset(tmp_path)


# ---------------------------------------------------------------- without data.yaml


@pytest.mark.parametrize(
    ("images", "labels", "split"),
    [
        ("images", "labels", ""),
        ("images/train", "labels/train", "train"),
        ("valid/images", "valid/labels", "val"),
        ("set/test/images", "set/test/labels", "test"),
    ],
)
def test_folders_of_images_and_labels(tmp_path, images, labels, split):
    pair(tmp_path, "a", BOX, images, labels)
    dataset = checked(tmp_path)
    assert dataset.classes == ("0", "1")
    assert dataset[0].labels.tolist() == [1]
    assert dataset[0].split == split


@pytest.mark.parametrize("place", ["classes.txt", "labels/classes.txt", "images/obj.names"])
def test_a_list_of_classes(tmp_path, place):
    pair(tmp_path, "a", BOX)
    pair(tmp_path, "b", "5 0.5 0.5 0.5 0.5")
    write(tmp_path / place, "cat\ndog\n\n")
    if not place.startswith("images"):
        dataset = checked(tmp_path)
        assert dataset.classes == ("cat", "dog")
        assert kinds(dataset) == ["skipped 1 labels of an unknown class"]


def test_images_beside_their_labels_with_a_list_of_classes(tmp_path):
    """As darknet, LabelImg and CVAT's "YOLO 1.1" leave it."""
    pair(tmp_path, "a", BOX, "obj_train_data", "obj_train_data")
    picture(tmp_path / "preview.jpg")
    assert not yolo.sniff(tmp_path)
    write(tmp_path / "obj.names", "cat\ndog\n")
    dataset = checked(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert [(record.path.name, record.split) for record in dataset] == [("a.jpg", "train")]


def test_wild_classes_without_a_list(tmp_path):
    pair(tmp_path, "a", f"{BOX}\n5000 0.5 0.5 0.5 0.5\n1e8 0.5 0.5 0.5 0.5")
    dataset = checked(tmp_path)
    assert dataset.classes == ("0", "1")
    assert kinds(dataset) == ["skipped 2 labels of an unknown class"]


def test_it_takes_nothing_else(tmp_path):
    assert not yolo.sniff(tmp_path / "gone")
    pair(tmp_path / "kitti", "a", "Car 0.00 0 -1.57 614 181 727 284 1.5 1.6 3.6 1.0 1.7 9.4 -1.5")
    assert not yolo.sniff(tmp_path / "kitti")
    picture(tmp_path / "png" / "images" / "a.jpg")
    picture(tmp_path / "png" / "labels" / "a.png")
    assert not yolo.sniff(tmp_path / "png")
    write(tmp_path / "config" / "config.yaml", "model: x\ntrain:\n  lr: 1\n")
    assert not yolo.sniff(tmp_path / "config")
    with pytest.raises(DataError, match="no images with YOLO labels"):
        yolo.read(tmp_path / "config")


def test_real_data_of_other_formats_is_not_taken(data_dir):
    folders = [folder for folder in data_dir.iterdir() if folder.is_dir()]
    assert folders
    assert not any(map(yolo.sniff, folders))


# ---------------------------------------------------------------- any bytes


def assert_clean(label: bytes, plan: bytes | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        picture(root / "images" / "train" / "a.png", 8, 9)
        write(root / "labels" / "train" / "a.txt", "")
        (root / "labels" / "train" / "a.txt").write_bytes(label)
        if plan is not None:
            (root / "data.yaml").write_bytes(plan)
        yolo.sniff(root)
        try:
            dataset = yolo.read(root)
        except DataError:
            return
        assert_dataset(dataset)


NUMBERS = st.floats(-0.1, 1.1) | st.floats() | st.integers() | st.sampled_from([0, 1, 0.25, 0.5])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(NUMBERS, max_size=9), max_size=4), st.booleans())
def test_numbers_of_any_kind(lines, planned):
    assert_clean("\n".join(" ".join(map(repr, line)) for line in lines).encode(), YAML.encode() if planned else None)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_bytes_of_any_kind(data):
    plan = bytearray(YAML.encode() + b"path: .\nnc: 2\nkpt_shape: [1, 2]\n")
    label = bytearray(f"{RING}\n{BOX}\n".encode())
    for text in (plan, label):
        for _ in range(data.draw(st.integers(0, 4))):
            at = data.draw(st.integers(0, len(text) - 1))
            text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    assert_clean(bytes(label), bytes(plan) if data.draw(st.booleans()) else None)


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="0a: -[]{}&*!?|>'\"\n,#.~%@\0", max_size=30), st.text(max_size=8))
def test_yaml_of_any_kind(names, place):
    assert_clean(BOX.encode(), f"names: {names}\ntrain: images\nval: {place}\n".encode())
