"""Tar shards: read in place, bounded whatever is in them."""

from __future__ import annotations

import gzip
import json
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.data.formats import tar
from maskrcnn.data.formats.tar_members import DamagedTar, tar_members
from maskrcnn.data.sample import load_record
from maskrcnn.errors import DataError
from maskrcnn.structures import RLE, Polygons
from tests.data.contract import assert_dataset
from tests.data.formats.tf_shards import encoded

IMAGE = encoded(np.full((10, 20, 3), 7, np.uint8))
RING = [2, 3, 8, 3, 8, 9, 2, 9]


def annotation(**more: Any) -> dict[str, Any]:
    return {"bbox": [2, 3, 6, 6], "segmentation": [RING], "category": "cup", "id": 70, "area": 36, **more}


def sample(*annotations: Any, **image: Any) -> bytes:
    return json.dumps({"image": {"height": 10, "width": 20, **image}, "annotations": annotations}).encode()


def write_tar(file: Path, members: dict[str, bytes], format: int = tarfile.PAX_FORMAT) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w", format=format) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
    return file


def opened(folder: Path, *annotations: Any, **image: Any):
    dataset = tar.read(write_tar(folder / "x-000000.tar", {"a.png": IMAGE, "a.json": sample(*annotations, **image)}))
    assert_dataset(dataset)
    return dataset


def warned(dataset, text: str) -> bool:
    return any(text in warning for warning in dataset.warnings)


def test_images_stay_in_the_archive(tmp_path):
    dataset = opened(tmp_path, annotation(), annotation(id=71, category="jug", iscrowd=1), id=42)
    record = dataset[0]
    assert tar.sniff(tmp_path)
    assert dataset.classes == ("cup", "jug")
    assert record.path == tmp_path / "x-000000.tar"
    assert record.span is not None
    assert record.span.read(record.path) == IMAGE
    assert load_record(record).shape == (3, 10, 20)
    assert record.image_id == 42
    assert record.boxes[0].tolist() == [2, 3, 8, 9]
    assert record.annotation_ids.tolist() == [70, 71]
    assert record.crowd.tolist() == [False, True]
    assert record.areas.tolist() == [36, 36]
    assert isinstance(record.masks[0], Polygons)


def test_masks_as_runs(tmp_path):
    runs = {"size": [10, 20], "counts": [3, 6, 191]}
    record = opened(tmp_path, annotation(bbox=None, segmentation=runs))[0]
    assert isinstance(record.masks[0], RLE)
    assert record.boxes[0].tolist() == [0, 3, 1, 9]


@pytest.mark.parametrize(
    ("more", "classes", "ids"),
    [
        ({"category": "cup", "category_id": 7}, ("cup",), (7,)),
        ({"category": None, "category_id": 7}, ("7",), (7,)),
        ({"category": {"name": "cup"}}, ("cup",), (1,)),
        ({"category": None}, ("object",), (1,)),
    ],
)
def test_classes(tmp_path, more, classes, ids):
    dataset = opened(tmp_path, annotation(**more))
    assert (dataset.classes, dataset.category_ids) == (classes, ids)


def test_categories_beside_the_shards(tmp_path):
    (tmp_path / "categories.json").write_text('[{"id": 3, "name": "jug"}, {"id": 9, "name": "cup"}]')
    dataset = opened(tmp_path, annotation())
    assert (dataset.classes, dataset.category_ids) == (("jug", "cup"), (3, 9))


@pytest.mark.parametrize("text", ["{", "[1]", '[{"id": "x", "name": "a"}]', "5"])
def test_broken_categories(tmp_path, text):
    (tmp_path / "categories.json").write_text(text)
    with pytest.raises(DataError, match=r"categories\.json: is not"):
        opened(tmp_path, annotation())


def test_a_category_that_is_there_twice(tmp_path):
    (tmp_path / "categories.json").write_text('[{"id": 3, "name": "jug"}, {"id": 3, "name": "cup"}]')
    with pytest.raises(DataError, match="has an id or a name twice"):
        opened(tmp_path, annotation())


def test_what_is_left_out_is_counted(tmp_path):
    wrong = annotation(segmentation=[[1, 2]]), 5, annotation(bbox=[0, 0, 0, 5])
    members = {
        "a.png": IMAGE, "a.json": sample(annotation(), *wrong),
        "b.png": IMAGE, "c.json": sample(), "d.png": b"no image", "d.json": sample(), "e.png": IMAGE, "e.json": b"{",
        "f.png": IMAGE, "f.json": sample(height=11), "f.jpg": IMAGE, "readme.txt": b"x", "g.png": IMAGE,
        "g.json": b"[]",
    }  # fmt: skip
    dataset = tar.read(write_tar(tmp_path / "x-000000.tar", members))
    assert_dataset(dataset)
    assert [len(record) for record in dataset] == [1, 0]
    for text in (
        "skipped 1 polygons of fewer than three points",
        "skipped 1 annotations that are not as COCO writes them",
        "skipped 1 boxes of zero area",
        "skipped 1 members without a .json of the same key",
        "skipped 1 members without an image of the same key",
        "skipped 1 images that cannot be opened",
        "skipped 2 members that are not {image, annotations} of COCO",
        "kept 1 images whose stated size is not that of their file",
        "skipped 1 second members of the same key",
    ):
        assert warned(dataset, text), text


def test_keys_splits_and_gaps(tmp_path):
    for split, numbers in (("train", (0, 1, 4)), ("val", (0,))):
        for number in numbers:
            name = f"deep/{split}{number}.v1"  # the key ends at the first dot of the last part
            members = {f"{name}.png": b"not this one", f"deep/{split}{number}.png": IMAGE}
            members[f"deep/{split}{number}.JSON"] = sample(annotation())
            write_tar(tmp_path / f"{split}-{number:06}.tar", members)
    dataset = tar.read(tmp_path)
    assert_dataset(dataset)
    assert [record.split for record in dataset] == ["train"] * 3 + ["val"]
    assert warned(dataset, "skipped 1 gaps between numbered shards")
    assert warned(dataset, "train-000002.tar is missing")
    assert len(tar.read(tmp_path / "train-*.tar")) == 3


def test_other_archives_are_not_taken(tmp_path):
    write_tar(tmp_path / "photos.tar", {"a.png": IMAGE, "b.txt": b"x"})
    (tmp_path / "zeros.tar").write_bytes(bytes(10240))
    (tmp_path / "text.tar").write_bytes(b"x" * 2000)
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(b"x"))
    assert not tar.sniff(tmp_path)
    assert not tar.sniff(tmp_path / "none")
    with pytest.raises(DataError, match=r"no \.tar file here; a compressed one must be decompressed"):
        tar.read(tmp_path / "x.tar.gz")
    with pytest.raises(DataError, match="holds no image that can be used; skipped 1 rests of damaged"):
        tar.read(tmp_path / "text.tar")


# ---------------------------------------------------------------- members


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_of_tarfile(tmp_path, format):
    names = ["a.png", "d/" * 20 + "b.png"]
    names += [] if format == tarfile.USTAR_FORMAT else ["ü/" + "long" * 60 + ".json", "e" * 101]
    file = write_tar(tmp_path / "x.tar", {name: bytes(i * 300) for i, name in enumerate(names)}, format)
    with tarfile.open(file, "a", format=format) as archive:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE):
            member = tarfile.TarInfo("other")
            member.type, member.linkname = kind, "f" * 90
            archive.addfile(member)
    with file.open("rb") as stream, tarfile.open(file) as archive:
        expected = [(m.name, m.offset_data, m.size) for m in archive if m.isfile()]
        assert [tuple(m) for m in tar_members(stream, file.stat().st_size)] == expected
        assert [name for name, *_ in expected] == names


def header(name: str = "a", size: int | bytes = 0, kind: bytes = b"0") -> bytes:
    member = tarfile.TarInfo(name)
    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    head[124:136] = size if isinstance(size, bytes) else b"%011o\0" % size
    head[156:157] = kind
    head[148:156] = b"%06o\0 " % (sum(head) - sum(head[148:156]) + 256)
    return bytes(head)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header(size=2000) + bytes(1024), "is longer than the file"),
        (header(size=b"\x80" + b"\xff" * 11) + bytes(1024), "is longer than the file"),
        (header(size=b"\xff" * 12) + bytes(1024), "is no octal number"),
        (header(size=b"9" * 12) + bytes(1024), "is no octal number"),
        (header(size=1 << 20, kind=b"x") + bytes(1 << 20), "a header of 1048576 bytes"),
        (header(size=20, kind=b"x") + b"99 path=x\n".ljust(512), "a broken extension header"),
        (header(size=9, kind=b"x") + b"9 size=-\n".ljust(512), "a member of size b'-'"),
        (header(kind=b"S") + bytes(1024), "a sparse member"),
        (b"x" * 1024, "no member begins at byte 0"),
    ],
)
def test_hostile_headers(tmp_path, content, message):
    with pytest.raises(DamagedTar, match=message):
        list(tar_members(BytesIO(content), len(content)))


def test_a_truncated_archive_keeps_what_is_whole(tmp_path):
    members = {"a.png": IMAGE, "a.json": sample(annotation()), "b.png": IMAGE, "b.json": sample()}
    file = write_tar(tmp_path / "x.tar", members)
    with tarfile.open(file) as archive:
        last = archive.getmember("b.json").offset_data
    file.write_bytes(file.read_bytes()[: last + 5])
    dataset = tar.read(file)
    assert len(dataset) == 1
    assert warned(dataset, "skipped 1 rests of damaged or truncated tar files")


def test_json_bombs(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="RecursionError"):
        tar.read(write_tar(tmp_path / "x.tar", {"a.png": IMAGE, "a.json": b"[" * 100_000}))
    monkeypatch.setattr(tar, "LARGEST_JSON", 10)
    with pytest.raises(DataError, match="bytes of JSON"):
        tar.read(write_tar(tmp_path / "y.tar", {"a.png": IMAGE, "a.json": sample()}))


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_bytes_give_an_error_or_a_sound_data_set(tmp_path_factory, data):
    file = write_tar(tmp_path_factory.mktemp("fuzz") / "x.tar", {"a.png": IMAGE, "a.json": sample(annotation(), id=1)})
    content = bytearray(file.read_bytes()[:4096])
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[at] = data.draw(st.integers(0, 255))
        else:
            content[at:at] = data.draw(st.binary(max_size=20))
    file.write_bytes(content)
    tar.sniff(file)
    try:
        dataset = tar.read(file)
    except DataError:
        return
    assert_dataset(dataset)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.sampled_from([*annotation(), "category_id", "iscrowd", "keypoints"]), JSON, max_size=3),
    st.dictionaries(st.sampled_from(["id", "height", "width"]), JSON, max_size=2),
)
def test_any_json_gives_an_error_or_a_sound_data_set(tmp_path_factory, changed, image):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "categories.json").write_text('[{"id": 3, "name": "jug", "keypoints": ["left_a", "right_a"]}]')
    members = {"a.png": IMAGE, "a.json": sample(annotation(**changed), annotation(id=2), **image)}
    assert_dataset(tar.read(write_tar(folder / "x.tar", members)))
