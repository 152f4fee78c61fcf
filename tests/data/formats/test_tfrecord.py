"""TFRecord shards of the Object Detection API, read without TensorFlow."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn.data.formats import tfrecord
from maskrcnn.data.formats.example import (
    Damaged,
    Feature,
    example_bytes,
    example_head,
    feature_bytes,
    feature_head,
    parse_example,
)
from maskrcnn.data.sample import load_record
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import decode_rle, load_mask_file, mask_to_rle
from maskrcnn.structures import RLE, MaskFile
from tests.data.contract import assert_dataset
from tests.data.formats.tf_shards import encoded, example, floats, frame, ints, masks, write_shard

A, B = (2, 3, 8, 9), (10, 0, 20, 5)
MAP = "item { id: 1 name: 'cup' }\nitem { id: 2 name: 'jug' }\n"


def opened(file: Path, *examples: dict, label_map: str | None = None):
    write_shard(file, *examples)
    if label_map is not None:
        (file.parent / "label_map.pbtxt").write_text(label_map)
    dataset = tfrecord.read(file)
    assert_dataset(dataset)
    return dataset


def warned(dataset, text: str) -> bool:
    return any(text in warning for warning in dataset.warnings)


# ---------------------------------------------------------------- masks, boxes, sizes


@pytest.mark.parametrize("kind", ["png", "numerical"])
def test_masks_are_byte_ranges_of_the_shard(tmp_path, kind):
    file = tmp_path / "x.tfrecord"
    record = opened(file, example(A, B, kind=kind), example(kind=kind))[0]
    assert record.boxes.tolist() == [list(map(float, A)), list(map(float, B))]  # whole pixels survive the division
    assert record.size == (10, 20)
    assert record.path == file
    assert load_record(record).shape == (3, 10, 20)
    assert all(isinstance(mask, MaskFile) and mask.path == file for mask in record.masks)
    assert [mask.raw for mask in record.masks] == ([None] * 2 if kind == "png" else [(10, 20)] * 2)
    assert np.array_equal([load_mask_file(mask) for mask in record.masks], masks(10, 20, A, B))


def test_floats_that_are_not_packed_become_rle(tmp_path):
    full = masks(10, 20, A).astype("<f4").ravel()
    content = b"".join(b"\x0d" + value.tobytes() for value in full)  # field 1, four bytes each
    features = example(A, kind="none")
    body = b"".join(feature_bytes(key, values) for key, values in features.items())
    body += feature_head("image/object/mask", "float", len(content)) + content
    file = tmp_path / "x.record"
    file.write_bytes(frame(example_head(len(body)) + body))
    dataset = tfrecord.read(file)
    assert_dataset(dataset)
    mask = dataset[0].masks[0]
    assert isinstance(mask, RLE)
    assert np.array_equal(decode_rle(mask_to_rle(mask, (10, 20))), masks(10, 20, A)[0])


def test_boxes_come_from_masks_where_there_are_none(tmp_path):
    sides = dict.fromkeys(("bbox/xmin", "bbox/ymin", "bbox/xmax", "bbox/ymax"))
    record = opened(tmp_path / "x.record", example(A, B, **sides))[0]
    assert record.boxes.tolist() == [list(A), list(B)]


def test_boxes_without_masks(tmp_path):
    dataset = opened(tmp_path / "x.record", example(A, kind="none"))
    assert not dataset.has_masks
    assert dataset[0].areas.tolist() == [36.0]


def test_pixels_in_place_of_normalised_boxes_are_counted(tmp_path):
    sides = {f"bbox/{side}": floats(value) for side, value in zip(("xmin", "ymin", "xmax", "ymax"), A, strict=True)}
    with_mask = opened(tmp_path / "x.record", example(A, **sides))
    assert with_mask[0].boxes.tolist() == [list(A)]
    assert warned(with_mask, "skipped 1 boxes that are not normalised to 0..1")
    assert len(opened(tmp_path / "y.record", example(A, kind="none", **sides))[0]) == 0


def test_a_mask_of_another_size_is_left_out(tmp_path):
    wrong = [encoded(np.ones((10, 21), np.uint8)), encoded(masks(10, 20, B)[0].astype(np.uint8))]
    dataset = opened(tmp_path / "x.record", example(A, B, mask=wrong))
    assert dataset[0].boxes.tolist() == [list(B)]
    assert warned(dataset, "skipped 1 masks of another size than their image")
    assert warned(dataset, "image cups.png, annotation 0: 21x10 instead of 20x10")


def test_an_empty_string_is_an_object_without_a_mask(tmp_path):
    dataset = opened(tmp_path / "x.record", example(A, B, mask=[b"", encoded(masks(10, 20, B)[0].astype(np.uint8))]))
    assert len(dataset[0]) == 2
    assert warned(dataset, "kept 1 objects without a mask")


def test_the_file_knows_its_size_better(tmp_path):
    dataset = opened(tmp_path / "x.record", example(A, image_height=ints(99), image_width=ints(20)))
    assert dataset[0].size == (10, 20)
    assert warned(dataset, "kept 1 images whose stated size is not that of their file")
    assert warned(dataset, "20x99 stated, 20x10 in the file")
    assert opened(tmp_path / "y.record", example(A, image_height=None, image_width=None))[0].size == (10, 20)


@pytest.mark.parametrize("turn", range(2, 9))
@pytest.mark.parametrize("kind", ["png", "numerical"])
def test_exif_turns_boxes_and_masks_with_the_image(tmp_path, turn, kind):
    """TensorFlow decodes pixels as they are stored; we show them upright."""
    exif = Image.Exif()
    exif[0x0112] = turn
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[3:9, 2:8] = 255  # A
    image = encoded(pixels, exif=exif)
    dataset = opened(tmp_path / "x.record", example(A, kind=kind, image_encoded=[image]))
    record = dataset[0]
    assert record.size == ((20, 10) if turn >= 5 else (10, 20))
    shown = load_record(record)[0].numpy() > 0
    assert np.array_equal(decode_rle(mask_to_rle(record.masks[0], record.size)), shown)
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    assert record.boxes[0].tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert warned(dataset, "kept 1 objects turned with their image")


def test_boxes_that_were_upright_already_stay(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = encoded(np.zeros((20, 10, 3), np.uint8), exif=exif)  # 20 wide and 10 high for a person
    record = opened(tmp_path / "x.record", example(A, image_encoded=[image]))[0]
    assert record.size == (10, 20)
    assert record.boxes.tolist() == [list(A)]
    assert isinstance(record.masks[0], MaskFile)


# ---------------------------------------------------------------- what else an object has


def test_crowd_area_difficult_and_ids(tmp_path):
    more = {"is_crowd": ints(0, 1), "area": floats(30.5, 40), "difficult": ints(1, 0), "id": ints(700, 7)}
    dataset = opened(tmp_path / "x.record", example(A, B, image_source_id=[b"42"], **more))
    record = dataset[0]
    assert record.image_id == 42
    assert record.crowd.tolist() == [False, True]
    assert record.areas.tolist() == [30.5, 40.0]
    assert record.annotation_ids.tolist() == [700, 7]
    assert len(record) == 2
    assert warned(dataset, "kept 1 objects marked as difficult")


@pytest.mark.parametrize("ids", [[b"1", b"1"], [b"1", b"a"], [b"-1", b"2"], [b"9" * 30, b"1"]])
def test_source_ids_that_are_no_unique_numbers_are_replaced(tmp_path, ids):
    dataset = opened(tmp_path / "x.record", *(example(A, image_source_id=[one]) for one in ids))
    assert [record.image_id for record in dataset] == [1, 2]


def test_keypoints(tmp_path):
    points = {
        "keypoint/x": floats(0.5, 0.25, 0, 0.1),
        "keypoint/y": floats(0.5, 0.5, 0, 0.1),
        "keypoint/visibility": ints(2, 1, 0, 2),
        "keypoint/text": [b"left_eye", b"right_eye"] * 2,
    }
    dataset = opened(tmp_path / "x.record", example(A, B, **points))
    assert dataset.keypoints is not None
    assert dataset.keypoints.names == ("left_eye", "right_eye")
    assert dataset.keypoints.flip_pairs == ((0, 1),)
    assert dataset[0].keypoints.tolist() == [[[10, 5, 2], [5, 5, 1]], [[0, 0, 0], [2, 1, 2]]]


def test_lists_of_different_lengths_leave_the_image_out(tmp_path):
    dataset = opened(tmp_path / "x.record", example(A), example(A, class_label=ints(1, 1)))
    assert len(dataset) == 1
    assert warned(dataset, "skipped 1 images whose object lists do not fit together")
    with pytest.raises(DataError, match="lists do not fit together"):
        opened(tmp_path / "y.record", example(A, mask=floats(1, 2, 3)))


def test_images_without_objects_are_kept(tmp_path):
    dataset = opened(tmp_path / "x.record", example(A), example(class_text=None, class_label=None, mask=None))
    assert [len(record) for record in dataset] == [1, 0]


# ---------------------------------------------------------------- classes


def test_the_text_is_the_class_and_the_label_its_id(tmp_path):
    label_map = "item { id: 1 name: 'cup026' } item { id: 2 name: 'jug026' } item { id: 3 name: 'pot' }"
    texts, labels = [b"jug", b"cup"], ints(2, 1)
    dataset = opened(tmp_path / "x.record", example(A, B, class_text=texts, class_label=labels), label_map=label_map)
    assert dataset.classes == ("cup", "jug", "pot")
    assert dataset.category_ids == (1, 2, 3)
    assert dataset[0].labels.tolist() == [1, 0]
    assert warned(dataset, "kept 2 objects whose class/text is not what the label map says")
    assert warned(dataset, "'jug' with label 2, which the map calls 'jug026'; the text is taken for the class")


@pytest.mark.parametrize(
    ("text", "label", "label_map", "classes", "ids"),
    [
        ([b"cup", b"jug"], None, None, ("cup", "jug"), (1, 2)),
        ([b"cup", b"jug"], None, "item { id: 7 name: 'cup' } item { id: 5 name: 'jug' }", ("jug", "cup"), (5, 7)),
        (None, ints(3, 9), None, ("3", "9"), (3, 9)),
        (None, ints(2, 1), MAP, ("cup", "jug"), (1, 2)),
        ([b"", b""], ints(2, 1), MAP, ("cup", "jug"), (1, 2)),
        ([b"/m/1", b"/m/1"], ints(1, 1), "item { id: 1 name: '/m/1' display_name: 'person' }", ("person",), (1,)),
        ([b"a", b"b"], ints(1, 1), None, ("a", "b"), (1, 2)),
        ([b"a", b"a"], ints(4, 2**40), None, ("a",), (4,)),
        (None, None, None, ("object",), (1,)),
    ],
)
def test_classes_by_text_by_label_and_by_map(tmp_path, text, label, label_map, classes, ids):
    features = example(A, B, class_text=text, class_label=label)
    dataset = opened(tmp_path / "x.record", features, label_map=label_map)
    assert dataset.classes == classes
    assert dataset.category_ids == ids
    assert len(dataset[0]) == 2


def test_a_label_map_one_folder_up(tmp_path):
    (tmp_path / "graph.pbtxt").write_text("node { name: 'x' }")  # not a label map
    (tmp_path / "label_map.pbtxt").write_text(MAP)
    assert opened(tmp_path / "train" / "x.record", example(A, class_text=None)).classes == ("cup", "jug")


def test_a_label_map_of_other_data_one_folder_up(tmp_path):
    (tmp_path / "other.pbtxt").write_text("item { id: 1 name: 'zebra' } item { id: 7 name: 'lion' }")
    dataset = opened(tmp_path / "train" / "x.record", example(A, class_text=None))
    assert dataset.classes == ("1",)
    assert warned(dataset, "other.pbtxt: to use it, put it beside them")
    (tmp_path / "other.pbtxt").rename(tmp_path / "label_map.pbtxt")
    dataset = opened(tmp_path / "val" / "y.record", example(A, class_text=[b"cat"]))
    assert dataset.classes == ("cat",)
    assert warned(dataset, "label_map.pbtxt: put that of these records beside them")
    assert opened(tmp_path / "b" / "z.record", example(A, class_text=None)).classes == ("zebra", "lion")


def test_two_label_maps_are_named(tmp_path):
    (tmp_path / "another.pbtxt").write_text("item { id: 1 name: 'pot' }")
    dataset = opened(tmp_path / "x.record", example(A, class_text=None), label_map=MAP)
    assert dataset.classes == ("cup", "jug")
    assert warned(dataset, "another.pbtxt: label_map.pbtxt is used")


def test_a_broken_label_map_names_its_line(tmp_path):
    with pytest.raises(DataError, match="line 2 of the label map: id 'one' is not an integer"):
        opened(tmp_path / "x.record", example(A), label_map="item {\n  id: one\n  name: 'cup'\n}")


# ---------------------------------------------------------------- shards


def test_shards_splits_and_patterns(tmp_path):
    for split, count in (("train", 2), ("val", 1)):
        for number in range(count):
            write_shard(tmp_path / f"cups_{split}.record-{number:05}-of-{count:05}", example(A))
    folder = tfrecord.read(tmp_path)
    assert_dataset(folder)
    assert folder.splits == ("train", "val")
    assert [record.split for record in folder] == ["train", "train", "val"]
    pattern = tmp_path / "cups_train.record-?????-of-00002"
    assert tfrecord.sniff(pattern)
    assert len(tfrecord.read(pattern)) == 2
    assert len(tfrecord.read(tmp_path / "cups_train.record-00001-of-00002")) == 1
    with pytest.raises(DataError, match="no TFRecord file here"):
        tfrecord.read(tmp_path / "jugs-?????-of-00002")


@pytest.mark.parametrize(
    "name", ["a.tfrecord", "a.tfrecords", "a.record", "a.tfrec", "a-00000-of-00001", "sub/a.record"]
)
def test_names_in_a_folder(tmp_path, name):
    write_shard(tmp_path / name, example(A))
    assert tfrecord.sniff(tmp_path)
    assert len(tfrecord.read(tmp_path)) == 1


def test_splits_by_folder_and_by_other_names(tmp_path):
    write_shard(tmp_path / "by_folder" / "validation" / "a.record", example(A))
    assert tfrecord.read(tmp_path / "by_folder").splits == ("val",)
    write_shard(tmp_path / "by_name" / "day.record", example(A))
    assert tfrecord.read(tmp_path / "by_name").splits == ()
    write_shard(tmp_path / "by_name" / "night.record", example(A))
    assert tfrecord.read(tmp_path / "by_name").splits == ("day", "night")


def test_a_missing_shard_is_named(tmp_path):
    for number in (0, 2):
        write_shard(tmp_path / f"x.record-{number:05}-of-00004", example(A))
    with pytest.raises(DataError, match=r"shard x\.record-00001-of-00004 is missing \(2 in all\)"):
        tfrecord.read(tmp_path)
    with pytest.raises(DataError, match="00001-of-00004 is missing"):
        tfrecord.read(tmp_path / "x.record-*")


def test_an_empty_shard_is_a_shard(tmp_path):
    write_shard(tmp_path / "x.record-00000-of-00002", example(A))
    write_shard(tmp_path / "x.record-00001-of-00002")
    assert len(tfrecord.read(tmp_path)) == 1


@pytest.mark.parametrize(("kind", "compress"), [("GZIP", gzip.compress), ("ZLIB", zlib.compress)])
def test_compressed_shards_are_refused(tmp_path, kind, compress):
    file = write_shard(tmp_path / "x.record", example(A))
    file.write_bytes(compress(file.read_bytes()))
    if kind == "GZIP":
        assert tfrecord.sniff(tmp_path)
        assert tfrecord.sniff(file)
    with pytest.raises(DataError, match=f"is compressed with {kind}; decompress it"):
        tfrecord.read(file)


@pytest.mark.parametrize("cut", [1, 4, 5, 300])
def test_a_truncated_last_record_is_skipped(tmp_path, cut):
    file = write_shard(tmp_path / "x.record", example(A), example(B))
    file.write_bytes(file.read_bytes()[:-cut])
    dataset = tfrecord.read(file)
    assert_dataset(dataset)
    assert len(dataset) == 1
    assert warned(dataset, "skipped 1 truncated last records, first")


def test_a_damaged_length_ends_the_file(tmp_path):
    one = frame(example_bytes(example(A)))
    file = tmp_path / "x.record"
    file.write_bytes(one + b"\xff" + one[1:] + one)
    dataset = tfrecord.read(file)
    assert len(dataset) == 1
    assert warned(dataset, "skipped 1 rests of files behind a damaged record")
    file.write_bytes(b"not a record at all")
    assert not tfrecord.sniff(file)
    with pytest.raises(DataError, match="files that are not TFRecords"):
        tfrecord.read(file)


def test_records_of_another_kind(tmp_path):
    file = tmp_path / "x.record"
    file.write_bytes(frame(b"\xff\xff\xff") + frame(example_bytes({"image/class": ints(3)})))
    with pytest.raises(DataError, match=r"skipped 1 records that are not a tf\.train\.Example"):
        tfrecord.read(file)
    file.write_bytes(frame(example_bytes({"image/class": ints(3)})))
    with pytest.raises(DataError, match="skipped 1 records without image/encoded"):
        tfrecord.read(file)
    file.write_bytes(frame(example_bytes(example(A, image_encoded=[b"no image"]))))
    with pytest.raises(DataError, match="skipped 1 images that cannot be opened"):
        tfrecord.read(file)


def test_what_is_not_taken(tmp_path):
    (tmp_path / "photo.record").mkdir()
    (tmp_path / "x.json").write_text("{}")
    assert not tfrecord.sniff(tmp_path)
    assert not tfrecord.sniff(tmp_path / "x.json")
    assert not tfrecord.sniff(tmp_path / "nowhere")


# ---------------------------------------------------------------- the wire format


@pytest.mark.parametrize(
    "values",
    [[], [0], [1, 2, 3], [127, 128], [300, 1, 2**62], [-1, 5, -(2**63)]],
)
def test_integers_go_through(values):
    data = example_bytes({"x": np.array(values, np.int64)})
    assert parse_example(data, 0, len(data))["x"].ints().tolist() == values


def test_features_know_their_kind():
    data = example_bytes({"a": [b"one", b""], "b": floats(1.5, 2), "c": ints(7)})
    features = parse_example(data, 0, len(data))
    assert features["a"].strings() == ["one", ""]
    assert features["b"].floats().tolist() == [1.5, 2.0]
    assert features["c"].floats().tolist() == [7.0]
    assert features["b"].spans() == []
    with pytest.raises(Damaged, match="fractions"):
        features["b"].ints()
    assert Feature(data).floats().tolist() == []


def test_crc32c():
    assert tfrecord.crc32c(b"123456789") == 0xE3069283  # the standard's check value


# ---------------------------------------------------------------- hostile bytes


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_bytes_give_an_error_or_a_sound_data_set(tmp_path_factory, data):
    features = data.draw(st.sampled_from([example(A, B), example(A, kind="numerical"), example(A, id=ints(4))]))
    content = bytearray(example_bytes(features))
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["byte", "cut", "insert"]))
        if kind == "byte":
            content[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del content[at : at + data.draw(st.integers(1, 40))]
        else:
            content[at:at] = data.draw(st.binary(max_size=20))
        content = content or bytearray(b"\0")
    raw = frame(bytes(content))
    raw = raw[: data.draw(st.sampled_from([len(raw), len(raw) - 3, 11]))] + data.draw(st.binary(max_size=30))
    file = tmp_path_factory.mktemp("fuzz") / "x.record"
    file.write_bytes(raw)
    tfrecord.sniff(file)
    try:
        dataset = tfrecord.read(file)
    except DataError:
        return
    assert_dataset(dataset)


KEYS = [*example(A, is_crowd=None), *(f"image/object/{key}" for key in ("is_crowd", "area", "difficult", "id"))]
KEYS += ["image/source_id", *(f"image/object/keypoint/{key}" for key in ("x", "y", "visibility", "text"))]


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(KEYS),
        st.one_of(
            st.lists(st.binary(max_size=5), max_size=3),
            st.lists(st.floats(width=32), max_size=3).map(lambda v: np.array(v, np.float32)),
            st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3).map(lambda v: np.array(v, np.int64)),
        ),
        max_size=4,
    )
)  # fmt: skip
def test_any_values_give_an_error_or_a_sound_data_set(tmp_path_factory, changed):
    file = tmp_path_factory.mktemp("fuzz") / "x.record"
    write_shard(file, {**example(A), **changed}, {**example(B, kind="numerical"), **changed})
    try:
        dataset = tfrecord.read(file)
    except DataError:
        return
    assert_dataset(dataset)


# ---------------------------------------------------------------- the real record


def test_the_real_record_agrees_with_its_source(data_dir):
    folder = data_dir / "tfrecord-masks"
    assert tfrecord.sniff(folder)
    dataset = tfrecord.read(folder)
    assert_dataset(dataset)
    assert (len(dataset), dataset.table.counts.sum()) == (32, 49)
    assert dataset.classes == ("speaker", "cup")
    assert dataset.category_ids == (1, 2)
    assert len(dataset.warnings) == 1
    assert "kept 49 objects whose class/text is not what the label map says" in dataset.warnings[0]
    source = {}
    for file in sorted((folder / "source" / "train_images").iterdir()):
        source[file.read_bytes()] = folder / "source" / "train_masks" / f"{file.stem}.png"
    for record in dataset:
        truth = np.asarray(Image.open(source.pop(record.span.read(record.path))).convert("RGB"))
        assert truth.shape[:2] == record.size
        for label, mask in zip(record.labels.tolist(), record.masks, strict=True):
            # Both classes have a colour in the source: speakers are red, cups are blue.
            assert np.array_equal(load_mask_file(mask), truth[..., 0 if label == 0 else 2] > 0), record.span
    assert not source
