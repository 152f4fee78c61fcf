"""Conversion: whole or not at all, nothing lost in silence, and every format gives back what it can hold."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from maskrcnn.data.convert import convert_dataset
from maskrcnn.data.decode import image_header
from maskrcnn.data.open import open_dataset
from maskrcnn.data.write import WRITERS
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.structures import KeypointSchema, Polygons
from tests.data.contract import assert_dataset
from tests.data.write.example import CLASSES, assert_same, example, make_record, ring

OURS = ("coco", "labelme", "png", "voc", "yolo")
FORMAT_OF = {"png": "png_objects"}
# Of an outline's box when only pixels are left of it: a pixel belongs to the outline whose centre it covers.
PIXELS = 1.5


def counted(sentences: list[str]) -> dict[str, int]:
    """ "left out 3 crowds, first: ..." -> {"left out crowds": 3}"""
    found = {}
    for sentence in sentences:
        match = re.match(r"(\D+) (\d+) (.*?), first: ", sentence)
        assert match, sentence
        found[f"{match[1]} {match[3]}"] = int(match[2])
    return found


def without_ids(sentences: list[str]) -> dict[str, int]:
    return {kind: count for kind, count in counted(sentences).items() if not kind.endswith(" ids")}


@pytest.mark.parametrize("to", WRITERS)
def test_round_trip(to, tmp_path):
    if to == "tfrecord":
        pytest.importorskip("google_crc32c")
    data = example(tmp_path / "in", overlap=to != "voc")
    convert_dataset(data, tmp_path / "out", to)
    again = open_dataset(tmp_path / "out")
    assert again.format == FORMAT_OF.get(to, to)
    assert_dataset(again)
    assert_same(data, again, tolerance=PIXELS if to == "png" else 1e-4, crowds=to != "yolo")
    if to not in ("labelme", "voc"):  # those know no class without objects
        assert again.classes == CLASSES


def test_what_is_lost_is_said(tmp_path):
    data = example(tmp_path / "in")
    assert convert_dataset(data, tmp_path / "coco", "coco") == []
    lost = convert_dataset(data, tmp_path / "labelme", "labelme")
    assert counted(lost) == {
        "left out image ids": 3,
        "left out annotation ids": 6,
        "left out classes without objects": 1,
    }
    assert "'never seen'" in lost[-1]
    assert without_ids(convert_dataset(data, tmp_path / "yolo", "yolo")) == {
        "drew bitmaps as outlines along their pixels": 2,
        "joined objects of several parts into one ring": 1,
        "left out crowds": 1,
    }
    assert without_ids(convert_dataset(data, tmp_path / "voc", "voc")) == {
        "left out classes without objects": 1,
        "drew outlines as pixels": 3,
        "cut masks that others lie over": 1,
    }
    assert without_ids(convert_dataset(data, tmp_path / "png", "png")) == {
        "drew outlines as pixels": 3,
        "took boxes from the masks": 2,
    }
    assert convert_dataset(data, tmp_path / "tar", "tar") == []


def test_what_shards_lose_is_said(tmp_path):
    """Outlines, depth and channels; splits with names of their own stay apart in one file."""
    pytest.importorskip("google_crc32c")
    data = example(tmp_path / "in")
    wide = np.zeros((10, 20, 5), np.uint16)
    np.save(tmp_path / "wide.npy", wide)
    tifffile.imwrite(tmp_path / "wide.tif", wide, photometric="minisblack", planarconfig="contig")
    empty = data[2]
    more = [
        replace(empty, path=tmp_path / "wide.npy", image_id=20, split="a/b"),
        replace(empty, path=tmp_path / "wide.tif", image_id=21, split="a_b"),
        replace(empty, make=lambda: wide[:, :, :3], image_id=22, split="data"),
        replace(empty, make=lambda: np.zeros((10, 20, 3), np.uint8), image_id=23, split=""),
    ]
    pairs = KeypointSchema(("up", "down"), ((0, 1),))
    data = replace(data, records=[*data, *more], keypoints=pairs, category_ids=(0, 2, 5))
    both = {
        "left out pairs of keypoints whose names do not say left and right": 1,
        "kept images without their split, which is none of train, val, test": 3,
    }
    assert counted(convert_dataset(data, tmp_path / "tar", "tar")) == both | {"reduced images to PNG of 8-bit RGB": 2}
    assert counted(convert_dataset(data, tmp_path / "tfrecord", "tfrecord")) == both | {
        "reduced images to PNG of 8-bit RGB": 3,
        "renumbered category ids": 2,
        "drew outlines as pixels": 3,
    }
    for to, channels in (("tar", 5), ("tfrecord", 3)):
        again = {record.image_id: record for record in open_dataset(tmp_path / to)}
        assert set(again) == {5, 9, 12, 20, 21, 22, 23}
        assert image_header(again[21].path, again[21].span).channels == channels


@pytest.mark.parametrize("to", OURS)
def test_boxes_alone(to, tmp_path):
    data = example(tmp_path / "in", crowd=False)
    boxes = [replace(record, masks=(), areas=np.prod(record.boxes[:, 2:] - record.boxes[:, :2], axis=1))
             for record in data]  # fmt: skip
    data = replace(data, records=boxes)
    lost = without_ids(convert_dataset(data, tmp_path / "out", to))
    again = open_dataset(tmp_path / "out", FORMAT_OF.get(to, to))
    assert_dataset(again)
    assert_same(data, again, tolerance=1.0 if to == "png" else 1e-5)
    assert again.has_masks == (to in ("png", "labelme"))  # a rectangle of labelme is an outline
    assert lost.get("filled boxes without a mask", 0) == (5 if to == "png" else 0)


@pytest.mark.parametrize("to", OURS)
def test_without_splits(to, tmp_path):
    data = example(tmp_path / "in", overlap=False)
    data = replace(data, records=[replace(record, split="") for record in data])
    lost = without_ids(convert_dataset(data, tmp_path / "out", to))
    again = open_dataset(tmp_path / "out")
    if to == "yolo":
        assert lost["called images without a split 'train'"] == 3
        data = replace(data, records=[replace(record, split="train") for record in data])
    assert_same(data, again, tolerance=PIXELS if to == "png" else 1e-4, crowds=to != "yolo")


@pytest.mark.parametrize("to", OURS)
def test_files_of_one_name_and_splits_of_another(to, tmp_path):
    outline = Polygons((ring(2, 2, 9, 2, 9, 9, 2, 9),))
    places = [("x", "same.png"), ("y", "same.png"), ("y", "Same.jpg"), ("z", "with blank.png")]
    records = [
        make_record(tmp_path / "in" / folder / name, number, (12 + number, 16), "fold 1", [(0, outline, False)], number)
        for number, (folder, name) in enumerate(places, 1)
    ]
    data = Dataset(records, ("thing",), (3,), name="names")
    lost = counted(convert_dataset(data, tmp_path / "out", to))
    assert lost["kept images without their split, which is none of train, val, test"] == 4
    assert lost["renamed images"] == (3 if to == "voc" else 2)
    again = open_dataset(tmp_path / "out")
    assert sorted(record.height for record in again) == [13, 14, 15, 16]
    assert again.category_ids == ((3,) if to == "coco" else (1,))
    assert lost.get("renumbered category ids", 0) == (0 if to == "coco" else 1)
    assert again.classes == ("thing",)


@pytest.mark.parametrize("to", OURS)
def test_class_names_that_files_do_not_like(to, tmp_path):
    outline = Polygons((ring(2, 2, 9, 2, 9, 9, 2, 9),))
    names = ("a/b", "a:b", "<&>", "no", "007", "..", "ünï", "CON?", 'x"y', "__ignore__", " padded", "two\nlines")
    records = [
        make_record(tmp_path / "in" / f"{i:02}.png", i + 1, (12, 12), "train", [(i, outline, False)], i + 1)
        for i in range(len(names))
    ]
    data = Dataset(records, names, tuple(range(1, len(names) + 1)), name="names")
    lost = counted(convert_dataset(data, tmp_path / "out", to))
    again = open_dataset(tmp_path / "out")
    found = [again.classes[int(r.labels[0])] for r in sorted(again, key=lambda record: record.path.stem)]
    expected = list(names)
    if to != "coco":
        expected[10:] = ["padded", "two lines"]
    if to == "labelme":
        expected[9] = "__ignore__ 2"
    assert found == expected
    assert lost.get("renamed classes", 0) == {"coco": 0, "labelme": 3}.get(to, 2)


# ---------------------------------------------------------------- whole or not at all


def test_a_format_that_is_not_there(tmp_path):
    data = example(tmp_path / "in")
    with pytest.raises(DataError, match=r"unknown format 'coc', did you mean 'coco'\?; known: coco, tfrecord"):
        convert_dataset(data, tmp_path / "out", "coc")
    with pytest.raises(DataError, match="coco has no option 'shards'; its options: none"):
        convert_dataset(data, tmp_path / "out", "coco", shards=2)
    with pytest.raises(DataError, match=r"tfrecord has no option 'shard', did you mean 'shards'\?"):
        convert_dataset(data, tmp_path / "out", "tfrecord", shard=2)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    data = example(tmp_path / "in")
    (tmp_path / "out").mkdir()
    convert_dataset(data, tmp_path / "out", "coco")
    before = sorted((tmp_path / "out").rglob("*"))
    with pytest.raises(DataError, match=r"out: is not empty, it holds annotations; give a new folder, or empty it"):
        convert_dataset(data, tmp_path / "out", "yolo")
    assert sorted((tmp_path / "out").rglob("*")) == before
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file: is a file; give a new folder"):
        convert_dataset(data, tmp_path / "file", "coco")
    with pytest.raises(DataError, match="cannot be written"):
        convert_dataset(data, tmp_path / "file" / "below", "coco")


@pytest.mark.parametrize("to", WRITERS)
def test_nothing_is_left_of_a_conversion_that_fails(to, tmp_path):
    data = example(tmp_path / "in")
    data[2].path.unlink()
    with pytest.raises(DataError, match=r"empty\.png.*image file not found"):
        convert_dataset(data, tmp_path / "made" / "out", to)
    assert list((tmp_path / "made").iterdir()) == []


@pytest.mark.parametrize("to", WRITERS)
def test_masks_of_another_size_are_named(to, tmp_path):
    data = example(tmp_path / "in")
    records = list(data)
    records[0] = replace(records[0], masks=(*records[0].masks[:-1], records[1].masks[1]))
    with pytest.raises(DataError, match=r"image 5, annotation 4: a mask has 64x33 pixels, its image 48x40; mend"):
        convert_dataset(replace(data, records=records), tmp_path / "out", to)


# ---------------------------------------------------------------- real data


@pytest.mark.parametrize(
    ("source", "to"), [("coco-mini", to) for to in OURS] + [("balloon", "coco"), ("balloon", "voc")]
)
def test_real_data(source, to, data_dir, tmp_path):
    data = open_dataset(data_dir / source)
    data = data.take(np.arange(0, len(data), 6))
    lost = counted(convert_dataset(data, tmp_path / "out", to))
    again = open_dataset(tmp_path / "out")
    assert_dataset(again)
    if to == "voc":  # masks overlap
        assert lost["cut masks that others lie over"] > 0 or source == "balloon"
        again = replace(again, records=[replace(record, masks=()) for record in again])
        data = replace(data, records=[replace(record, masks=()) for record in data])
    dropped = lost.get("left out empty masks", 0) + lost.get("left out crowds", 0)
    assert again.table.counts.sum() == data.table.counts.sum() - dropped
    if to != "png" or source != "coco-mini":
        assert_same(data, again, tolerance=PIXELS if to != "coco" else 0, crowds=to != "yolo")
