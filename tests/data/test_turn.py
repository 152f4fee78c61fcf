"""Turning annotations agrees with turning the image."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.sample import load_record
from maskrcnn.data.turn import orientation_of, turn_points, turn_record
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import decode_rle, encode_mask, mask_to_rle
from maskrcnn.structures import RLE, Mask, MaskFile, Polygons, Record

SIZE = (20, 32)  # of the stored pixels
BLOB = np.zeros(SIZE, bool)
BLOB[3:9, 5:25] = True
BLOB[9:15, 5:8] = True
RING = np.array([(5, 3), (25, 3), (25, 9), (8, 9), (8, 15), (5, 15)], float)


def photo(folder: Path, orientation: int) -> Path:
    """The blob in white on black, without loss."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.repeat(BLOB[..., None] * np.uint8(255), 3, axis=2)).save(folder / "photo.png", exif=exif)
    return folder / "photo.png"


def record(path: Path, mask: Mask) -> Record:
    """Annotations in the frame of the stored pixels; a keypoint in the corner pixel, one not labelled."""
    return Record(
        path=path,
        image_id=1,
        height=SIZE[0],
        width=SIZE[1],
        boxes=np.array([[5, 3, 25, 15]], np.float32),
        labels=np.zeros(1, np.int64),
        masks=(mask,),
        crowd=np.zeros(1, bool),
        areas=np.ones(1, np.float32),
        annotation_ids=np.ones(1, np.int64),
        keypoints=np.array([[[5.5, 14.5, 2], [0, 0, 0]]], np.float32),
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["polygons", "rle", "file"])
def test_annotations_follow_the_pixels(tmp_path, orientation, kind):
    Image.fromarray(BLOB).save(tmp_path / "mask.png")
    rle = RLE(SIZE, encode_mask(BLOB)["counts"])
    mask = {"polygons": Polygons((RING,)), "rle": rle, "file": MaskFile(tmp_path / "mask.png")}[kind]
    stored = record(photo(tmp_path, orientation), mask)
    upright = turn_record(stored, orientation_of(stored))
    pixels = load_record(upright)[0].numpy() > 0
    assert upright.size == pixels.shape == (SIZE[::-1] if orientation >= 5 else SIZE)
    np.testing.assert_array_equal(decode_rle(mask_to_rle(upright.masks[0], upright.size)), pixels)
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    assert upright.boxes.dtype == np.float32
    assert upright.boxes.tolist() == [[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]]
    x, y, visible = upright.keypoints[0, 0]
    assert visible == 2
    assert pixels[int(y), int(x)], "the end of the blob's arm"
    assert upright.keypoints[0, 1].tolist() == [0, 0, 0]


def test_mask_files_that_are_upright_already_stay(tmp_path):
    Image.fromarray(BLOB.T).save(tmp_path / "mask.png")
    upright = turn_record(record(photo(tmp_path, 6), MaskFile(tmp_path / "mask.png")), 6)
    np.testing.assert_array_equal(decode_rle(mask_to_rle(upright.masks[0], upright.size)), BLOB.T)
    Image.fromarray(BLOB[:9, :9]).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"a mask of 9x9 in an image of 32x20; export it again"):
        turn_record(record(photo(tmp_path, 6), MaskFile(tmp_path / "mask.png")), 6)


def test_points_of_any_shape():
    assert turn_points(np.zeros((0, 2)), 6, SIZE).shape == (0, 2)
    assert turn_points(np.array([[[0, 0]]]), 6, SIZE).tolist() == [[[20, 0]]]


def test_what_has_no_orientation(tmp_path):
    rle = RLE(SIZE, encode_mask(BLOB)["counts"])
    assert orientation_of(record(tmp_path / "missing.jpg", rle)) == 1
    assert orientation_of(record(photo(tmp_path, 42), rle)) == 1
