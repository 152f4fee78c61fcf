"""Pascal VOC's XML and label images, as its own tools understand them."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.open import open_dataset
from maskrcnn.data.write import voc
from maskrcnn.data.write.voc import write
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.rle import window_to_rle
from maskrcnn.structures import RLE
from tests.data.write.example import assert_same, example, make_record


def test_layout_and_numbers(tmp_path):
    data = example(tmp_path / "in")
    (tmp_path / "out").mkdir()
    write(data, tmp_path / "out")
    files = {str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out").rglob("*.*")}
    stems = ("a", "b", "empty")
    lists = {
        f"ImageSets/{kind}/{name}.txt" for kind in ("Main", "Segmentation") for name in ("train", "val", "trainval")
    }
    assert files == {
        *("JPEGImages/a.png", "JPEGImages/b.jpg", "JPEGImages/empty.png", "class_names.txt"),
        *(f"{folder}/{stem}.png" for folder in ("SegmentationObject", "SegmentationClass") for stem in stems),
        *(f"Annotations/{stem}.xml" for stem in stems),
        *lists,
    }
    assert (tmp_path / "out" / "ImageSets" / "Main" / "train.txt").read_text() == "a\nempty\n"
    assert (tmp_path / "out" / "ImageSets" / "Main" / "trainval.txt").read_text() == "a\nb\nempty\n"
    objects = ElementTree.parse(tmp_path / "out" / "Annotations" / "a.xml").findall("object")
    assert [o.findtext("name") for o in objects] == ["a cat", "dog & co", "dog & co", "dog & co"]
    box = [objects[0].findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    assert box == ["9", "6", "30", "25"]  # pixels 8..29 and 5..24 from 0, counted from 1
    assert objects[1].findtext("bndbox/xmin") == "3.25"
    objects = ElementTree.parse(tmp_path / "out" / "Annotations" / "b.xml").findall("object")
    assert [o.findtext("difficult") for o in objects] == ["0", "1"]


def test_small_objects_lie_over_large_ones_with_vocs_colours(tmp_path):
    data = example(tmp_path / "in")
    (tmp_path / "out").mkdir()
    write(data, tmp_path / "out", lost=(lost := Skipped()))
    with Image.open(tmp_path / "out" / "SegmentationObject" / "a.png") as image:
        assert image.mode == "P"
        palette = image.getpalette()
        assert palette[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
        assert palette[255 * 3 :] == [224, 224, 192]
        pixels = np.asarray(image)
    assert pixels[9, 11] == 4
    assert pixels[6, 9] == 1
    assert pixels[12, 15] == 4  # through the hole
    kinds = np.asarray(Image.open(tmp_path / "out" / "SegmentationClass" / "a.png"))
    assert kinds[9, 11] == 2
    assert kinds[6, 9] == 1
    (sentence,) = [s for s in lost.sentences() if s.startswith("cut")]
    assert sentence.startswith("cut 1 masks that others lie over, first: ")
    assert sentence.endswith("annotation 1: 184 of 400 pixels")


def many(count: int, tmp_path) -> Dataset:
    """An image of single pixels, each an object, with one more that lies below the first."""
    size = (20, 40)
    places = [divmod(i, 40) for i in range(count)]
    masks = [RLE(size, window_to_rle(np.ones((1, 1), bool), y, x, size)["counts"]) for y, x in places]
    record = make_record(
        tmp_path / "in" / "a.png", 1, size, "train", [(i % 2, mask, False) for i, mask in enumerate(masks)]
    )
    return Dataset([record], ("even", "odd"), (1, 2), name="many")


@pytest.mark.parametrize("count", [254, 255, 700])
def test_many_objects(count, tmp_path):
    data = many(count, tmp_path)
    (tmp_path / "out").mkdir()
    write(data, tmp_path / "out", lost=(lost := Skipped()))
    with Image.open(tmp_path / "out" / "SegmentationObject" / "a.png") as image:
        assert image.mode == ("P" if count < 255 else "I;16")
    assert_same(data, open_dataset(tmp_path / "out"))
    assert {s.split(" ", 3)[-1].split(",")[0] for s in lost.sentences()} == {"image ids", "annotation ids"}


def test_more_objects_than_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(voc, "MOST_OBJECTS", 9)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"a\.png, image 1: has 10 objects, and a label image has room for 9; cut it"):
        write(many(10, tmp_path), tmp_path / "out")


def test_a_hidden_object_keeps_its_box(tmp_path):
    size = (12, 12)
    below = RLE(size, window_to_rle(np.ones((4, 4), bool), 2, 2, size)["counts"])
    record = make_record(tmp_path / "in" / "a.png", 1, size, "train", [(0, below, False), (0, below, False)])
    data = Dataset([record], ("thing",), (1,), name="hidden")
    (tmp_path / "out").mkdir()
    write(data, tmp_path / "out", lost=(lost := Skipped()))
    assert any(s.startswith("left out 1 masks that others hide") for s in lost.sentences())
    assert len(open_dataset(tmp_path / "out")[0]) == 2
