"""One PNG an object, in folders of classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from maskrcnn.data.formats.png_objects import class_folders
from maskrcnn.data.open import open_dataset
from maskrcnn.data.write.png import write
from maskrcnn.dataset import Dataset
from tests.data.write.example import example, make_record, square_with_hole


def test_layout(tmp_path):
    data = example(tmp_path / "in")
    (tmp_path / "out").mkdir()
    write(data, tmp_path / "out")
    files = sorted(str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out").rglob("*.*"))
    assert files == [
        "classes.txt",
        "train/a/images/a.png",
        "train/a/masks/a cat/00001.png",
        *(f"train/a/masks/dog & co/0000{number}.png" for number in (2, 3, 4)),
        "train/empty/images/empty.png",
        "val/b/images/b.jpg",
        "val/b/masks/a cat/00002_crowd.png",
        "val/b/masks/dog & co/00001.png",
    ]
    assert (tmp_path / "out" / "classes.txt").read_text() == "a cat\ndog & co\nnever seen\n"
    pixels = np.asarray(Image.open(tmp_path / "out" / "train" / "a" / "masks" / "a cat" / "00001.png"))
    assert set(np.unique(pixels)) == {0, 255}
    assert pixels.shape == (40, 48)


def test_one_class_called_object_has_no_folder(tmp_path):
    record = make_record(tmp_path / "in" / "a.png", 1, (40, 48), "", [(0, square_with_hole((40, 48)), False)])
    (tmp_path / "out").mkdir()
    write(Dataset([record], ("object",), (1,)), tmp_path / "out")
    files = sorted(str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out").rglob("*.*"))
    assert files == ["a/images/a.png", "a/masks/00001.png"]
    assert open_dataset(tmp_path / "out").classes == ("object",)


def test_masks_without_a_list_of_classes(tmp_path):
    data = example(tmp_path / "in")
    (tmp_path / "out").mkdir()
    write(data, tmp_path / "out")
    (tmp_path / "out" / "classes.txt").unlink()
    again = open_dataset(tmp_path / "out")
    assert again.classes == ("a cat", "dog & co")
    assert again.table.counts.sum() == 6


def test_an_image_turned_by_exif_has_upright_masks(tmp_path):
    record = make_record(tmp_path / "in" / "a.jpg", 1, (48, 40), "", [])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((48, 40, 3), np.uint8)).save(record.path, exif=exif)
    turned = make_record(tmp_path / "in" / "b.png", 1, (40, 48), "", [(0, square_with_hole((40, 48)), False)])
    (tmp_path / "out").mkdir()
    write(Dataset([replace(turned, path=record.path)], ("square",), (1,)), tmp_path / "out")
    again = open_dataset(tmp_path / "out")
    assert again.warnings == ()
    assert (again[0].size, again[0].boxes.tolist()) == ((40, 48), [[8, 5, 30, 25]])


def test_folders_of_classes():
    names = ["a/b", "a:b", "A_B", "..", ".x", "x.", "", "ünï", "y" * 200]
    folders = class_folders(names)
    assert list(folders.values()) == names
    assert list(folders)[:7] == ["a_b", "a_b_2", "A_B_3", "__", "_x", "x_", "_"]
    assert len({folder.lower() for folder in folders}) == len(names)
