"""Images on their way into another data set: bytes stay bytes, names stay apart."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.formats.pairs import MASK_SUFFIXES
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.sample import load_image, load_record, record_values
from maskrcnn.data.write.images import ImageFolder
from maskrcnn.errors import DataError
from maskrcnn.structures import Record, Span
from tests.data.write.example import make_record

NOISE = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)


@pytest.fixture
def record(tmp_path) -> Record:
    return make_record(tmp_path / "in" / "a.png", 7, (6, 8), "", [])


def test_a_file_is_copied_with_its_exif(record, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(NOISE).save(tmp_path / "in" / "turned.jpg", exif=exif)
    turned = replace(record, path=tmp_path / "in" / "turned.jpg", height=8, width=6)
    file = ImageFolder(tmp_path / "out", lost := Skipped()).put(turned)
    assert file == tmp_path / "out" / "turned.jpg"
    assert file.read_bytes() == turned.path.read_bytes()
    assert load_image(file).shape == (3, 8, 6)
    assert not lost


def test_names_differ_by_more_than_their_suffix(record, tmp_path):
    folder = ImageFolder(tmp_path / "out", lost := Skipped())
    names = []
    for place in ("x/a.png", "y/a.png", "y/A.jpg", "y/a_2.png"):
        names.append(folder.put(make_record(tmp_path / place, 1, (6, 8), "", [])).name)
    assert names == ["a.png", "a_2.png", "A_3.jpg", "a_2_2.png"]
    (sentence,) = lost.sentences()
    assert sentence.startswith("renamed 3 images, first: ")


def test_a_part_of_a_shard_is_called_by_its_id(record, tmp_path):
    stream = BytesIO()
    Image.fromarray(NOISE).save(stream, "JPEG")
    data = stream.getvalue()
    (tmp_path / "shard.tar").write_bytes(b"..." + data + b"...")
    inside = replace(record, path=tmp_path / "shard.tar", span=Span(3, len(data)))
    file = ImageFolder(tmp_path / "out", lost := Skipped()).put(inside)
    assert (file.name, file.read_bytes()) == ("000000000007.jpg", data)
    assert not lost


def test_a_file_without_a_suffix_gets_the_right_one(record, tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "in" / "photo.dat", "PNG")
    file = ImageFolder(tmp_path / "out", Skipped()).put(replace(record, path=tmp_path / "in" / "photo.dat"))
    assert file.name == "photo.png"
    assert np.array_equal(load_image(file), load_image(tmp_path / "in" / "photo.dat"))


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (NOISE, "made_1.png"),
        (NOISE[:, :, 0], "made_1.png"),
        (NOISE.astype(np.uint16) * 256, "made_1.npy"),
        (np.zeros((6, 8, 5), np.float32), "made_1.npy"),
    ],
)
def test_an_image_that_a_function_makes(record, tmp_path, values, name):
    made = replace(record, path=Path("made 1"), make=lambda: values)
    file = ImageFolder(tmp_path / "out", Skipped()).put(made)
    assert file.name == name
    assert np.array_equal(record_values(replace(record, path=file)), record_values(made))


def test_what_a_format_cannot_name_becomes_rgb(record, tmp_path):
    np.save(tmp_path / "in" / "many.npy", np.random.default_rng(0).integers(0, 255, (6, 8, 5), np.uint8))
    many = replace(record, path=tmp_path / "in" / "many.npy")
    file = ImageFolder(tmp_path / "out", lost := Skipped(), MASK_SUFFIXES).put(many)
    assert file.name == "many.png"
    assert np.array_equal(load_image(file), load_record(many))
    assert [s.split(", first")[0] for s in lost.sentences()] == [
        "reduced 1 images to PNG of 8-bit RGB",
        "renamed 1 images",
    ]
    kept = ImageFolder(tmp_path / "kept", Skipped()).put(many)
    assert kept.read_bytes() == many.path.read_bytes()


def test_a_missing_image_is_named(record, tmp_path):
    gone = replace(record, path=tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"gone\.png, image 7: image file not found; check the path"):
        ImageFolder(tmp_path / "out", Skipped()).put(gone)
    with pytest.raises(DataError, match=r"gone, image 7: image cannot be read"):
        ImageFolder(tmp_path / "out", Skipped()).put(replace(record, path=tmp_path / "gone"))
