"""Decoding and resizing: one function for all callers, equal to Pillow and torchvision where they are the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from maskrcnn.config import DataConfig
from maskrcnn.data.resize import pad_to, padded_size, resize_image, resized_size
from maskrcnn.data.sample import headers, load_image, load_record, to_display, to_image_tensor
from maskrcnn.errors import DataError
from maskrcnn.structures import Record


def picture(height: int = 24, width: int = 40, seed: int = 0) -> np.ndarray:
    """Smooth colours, so that JPEG and interpolation keep them."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([255 * y / height, 255 * x / width, 128 + 100 * np.sin((x + seed) / 5)], -1).astype(np.uint8)


def test_load_image_gives_rgb_planes(tmp_path: Path):
    array = picture()
    Image.fromarray(array).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png")
    assert image.dtype == torch.uint8
    assert image.shape == (3, 24, 40)
    assert (image.permute(1, 2, 0).numpy() == array).all()


def test_large_images_are_converted_in_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    array = picture()
    Image.fromarray(array).save(tmp_path / "a.png")
    monkeypatch.setattr("maskrcnn.data.decode._STRIP_PIXELS", 7 * 40)  # 24 rows: the last strip is shorter
    assert (load_image(tmp_path / "a.png").permute(1, 2, 0).numpy() == array).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_obeyed(tmp_path: Path, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture()).save(tmp_path / "a.png", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "a.png")))
    assert (load_image(tmp_path / "a.png").permute(1, 2, 0).numpy() == expected).all()


def test_every_pixel_format_becomes_rgb(tmp_path: Path):
    array = picture()
    grey = array[:, :, 0]
    wide = grey.astype(np.uint16) * 257
    forms = {
        "grey.png": (Image.fromarray(grey), grey),
        "wide.png": (Image.fromarray(wide), grey),
        "wide.tif": (Image.fromarray(wide), grey),
        "integer.tif": (Image.fromarray(wide.astype(np.int32)), grey),
        "float.tif": (Image.fromarray((grey / 255).astype(np.float32)), grey),
        "bits.png": (Image.fromarray(grey > 100), (grey > 100) * np.uint8(255)),
        "alpha.png": (Image.fromarray(np.dstack([array, grey])), array),
        "grey_alpha.png": (Image.fromarray(np.dstack([grey, grey])), grey),
        "palette.gif": (Image.fromarray(grey), grey),
    }
    for name, (image, expected) in forms.items():
        image.save(tmp_path / name)
        expected = np.broadcast_to(expected.reshape(24, 40, -1), (24, 40, 3))
        assert (load_image(tmp_path / name).permute(1, 2, 0).numpy() == expected).all(), name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "image file not found; check the path in the annotations"),
        (lambda path: path.mkdir(), "is a folder, not an image file"),
        (lambda path: path.write_bytes(b""), "file is empty; replace or remove it"),
        (lambda path: path.write_text("hello"), "file is not an image that Pillow can read"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, make, message: str):
    path = tmp_path / "a.jpg"
    make(path)
    with pytest.raises(DataError, match=message) as caught:
        load_image(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_truncated_file_is_named(tmp_path: Path, suffix: str):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(DataError, match=r"truncated or damaged|not an image") as caught:
        load_image(path)
    assert str(path) in str(caught.value)


def test_large_images_open_and_bombs_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Pillow's own limit is lowered so that the test needs no large file."""
    path = tmp_path / "a.png"
    Image.fromarray(picture(200, 200)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    assert load_image(path).shape == (3, 200, 200)
    assert Image.MAX_IMAGE_PIXELS == 10_000
    monkeypatch.setattr("maskrcnn.data.decode.MAX_PIXELS", 30_000)
    with pytest.raises(DataError, match=r"200 x 200 pixels, more than the limit .* cut it into tiles"):
        load_image(path)


def test_all_forms_of_an_image_are_the_same_tensor(tmp_path: Path):
    array = picture()
    Image.fromarray(array).save(tmp_path / "a.png")
    planes = torch.from_numpy(array).permute(2, 0, 1)
    forms = {
        "path": tmp_path / "a.png",
        "text": str(tmp_path / "a.png"),
        "pil": Image.fromarray(array),
        "array": array,
        "mirrored twice": array[:, ::-1][:, ::-1],
        "rgba": np.dstack([array, array[:, :, 0]]),
        "float": array.astype(np.float32) / 255,
        "uint16": array.astype(np.uint16) * 257,
        "tensor": planes,
        "float tensor": planes / 255,
    }
    for name, form in forms.items():
        image = to_image_tensor(form)
        assert image.dtype == torch.uint8, name
        assert torch.equal(image, planes), name


def test_to_image_tensor_does_not_share_memory():
    array = picture()
    image = to_image_tensor(array)
    array[:] = 0
    assert image.sum() > 0


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"image array has shape \(3, 8, 8\); give \(H, W, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), r"shape \(0, 8, 3\)"),
        (np.full((8, 8, 3), 255.0), "float image has values from 255 to 255; give floats in 0..1"),
        (np.full((8, 8, 3), np.nan), "float image has values from nan"),
        (np.zeros((8, 8, 3), np.int64), "numbers of type int64"),
        (torch.zeros(8, 8, 3), r"image tensor has shape \(8, 8, 3\); give \(3, H, W\)"),
        (7, "cannot take int for an image"),
    ],
)
def test_what_is_no_image_in_memory_is_named(image, message: str):
    with pytest.raises(DataError, match=message):
        to_image_tensor(image)


def test_resized_size_by_hand():
    short = DataConfig(min_size=800, max_size=1333)
    assert resized_size(480, 640, short) == (800, 1067)
    assert resized_size(640, 480, short) == (1067, 800)
    assert resized_size(100, 1000, short) == (133, 1333)
    assert resized_size(1, 5000, short) == (1, 1333)
    square = DataConfig(resize="square", max_size=1024)
    assert resized_size(480, 640, square) == (768, 1024)
    assert resized_size(2048, 512, square) == (1024, 256)


@pytest.mark.parametrize(("min_size", "max_size"), [(800, 1333), (640, 640), (333, 1000)])
def test_floor_rounding_is_torchvisions(min_size: int, max_size: int):
    data = DataConfig(min_size=min_size, max_size=max_size, size_rounding="floor")
    for height, width in np.random.default_rng(0).integers(100, 3000, (1000, 2)).tolist():
        factor = min(min_size / min(height, width), max_size / max(height, width))
        resized = F.interpolate(  # as _resize_image_and_masks calls it; "meta" computes the shape alone
            torch.empty(1, 1, height, width, device="meta"), scale_factor=factor, recompute_scale_factor=True
        )
        assert resized_size(height, width, data) == tuple(resized.shape[-2:])


def test_bilinear_is_torchvisions_model_transform():
    data = DataConfig(min_size=64, max_size=100, size_rounding="floor", interpolation="bilinear")
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    reference = GeneralizedRCNNTransform(64, 100, mean.tolist(), std.tolist())
    generator = np.random.default_rng(0)
    for height, width in generator.integers(20, 300, (40, 2)).tolist():
        image = torch.from_numpy(generator.integers(0, 256, (3, height, width), np.uint8))
        expected, _ = reference([image / 255])
        size = resized_size(height, width, data)
        assert expected.image_sizes == [size]
        resized = resize_image(image, size, "bilinear")
        assert resized.dtype == torch.float32
        normalised = (resized / 255 - mean[:, None, None]) / std[:, None, None]
        assert torch.allclose(normalised, expected.tensors[0, :, : size[0], : size[1]], atol=1e-3)


def test_antialias_is_pillows_bilinear():
    image = picture(120, 90)
    for size in [(60, 50), (33, 91), (240, 180), (13, 7)]:
        ours = resize_image(to_image_tensor(image), size, "antialias").permute(1, 2, 0).numpy()
        pillow = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
        assert np.abs(ours.astype(int) - pillow).max() <= 1


def test_pad_to_keeps_the_content_top_left():
    padded = pad_to(torch.ones(3, 5, 7, dtype=torch.uint8), (32, 64))
    assert padded.shape == (3, 32, 64)
    assert padded[:, :5, :7].all()
    assert padded.sum() == 3 * 5 * 7
    with pytest.raises(ValueError, match="40 x 7 does not fit into 32 x 64"):
        pad_to(torch.ones(3, 40, 7), (32, 64))


# ---------------------------------------------------------------- raw pixels


def deep(channels: int = 5, height: int = 6, width: int = 9) -> np.ndarray:
    """(H, W, C) uint16 of the full range."""
    return np.random.default_rng(0).integers(0, 65536, (height, width, channels), np.uint16)


def record_of(path: Path, make=None, image_id: int = 7) -> Record:
    none = np.zeros(0)
    return Record(path, image_id, 6, 9, np.zeros((0, 4), np.float32), none, (), none, none, none, make=make)


def test_raw_forms_of_an_image_are_the_same_tensor(tmp_path: Path):
    array = deep()
    np.save(tmp_path / "a.npy", array)
    planes = array.transpose(2, 0, 1).astype(np.float32)
    forms = {
        "path": tmp_path / "a.npy",
        "array": array,
        "tensor": torch.from_numpy(planes),
        "record": record_of(tmp_path / "a.npy"),
        "made": record_of(tmp_path / "none", make=lambda: array),
    }
    for name, form in forms.items():
        image = to_image_tensor(form, "raw", 5)
        assert image.dtype == torch.float32, name
        assert image.is_contiguous(), name
        assert (image.numpy() == planes).all(), name
    assert (to_image_tensor(array[:, :, 0], "raw")[0].numpy() == planes[0]).all()
    assert torch.equal(load_image(tmp_path / "a.npy", pixels="raw"), forms["tensor"])


def test_raw_values_that_are_no_numbers_are_zero():
    array = np.array([[[1.5], [np.nan]], [[np.inf], [1e300]]])
    assert to_image_tensor(array, "raw").tolist() == [[[1.5, 0.0], [0.0, 0.0]]]


def test_raw_images_do_not_share_memory():
    array = np.ones((4, 4, 2), np.float32)
    image = to_image_tensor(array, "raw")
    array[:] = 0
    assert image.sum() == 32


def test_another_number_of_channels_is_named(tmp_path: Path):
    np.save(tmp_path / "a.npy", deep(4))
    message = "4 channels, 5 are expected; leave it out, save it with 5 channels, or train with data.pixels rgb8"
    with pytest.raises(DataError, match=message) as caught:
        load_record(record_of(tmp_path / "a.npy"), "raw", 5)
    assert (caught.value.path, caught.value.image) == (tmp_path / "a.npy", 7)
    with pytest.raises(DataError, match=message) as caught:
        to_image_tensor(tmp_path / "a.npy", "raw", 5)
    assert caught.value.path == tmp_path / "a.npy"


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((2, 8, 8, 3)), r"shape \(2, 8, 8, 3\); give \(H, W, C\)"),
        (np.zeros((0, 8, 3)), r"shape \(0, 8, 3\)"),
        (np.zeros((8, 8, 3), complex), "numbers of type complex128"),
        (torch.zeros(8, 8), r"image tensor has shape \(8, 8\); give \(C, H, W\)"),
        (7, "cannot take int for an image"),
    ],
)
def test_what_is_no_raw_image_is_named(image, message: str):
    with pytest.raises(DataError, match=message):
        to_image_tensor(image, "raw")


def test_a_function_that_fails_is_named_for_raw_too():
    def fails():
        raise KeyError("x")

    with pytest.raises(DataError, match=r"makes this image failed \(KeyError: 'x'\)"):
        load_record(record_of(Path("a"), make=fails), "raw")


def test_resizing_floats_keeps_their_fractions_and_channels():
    image = to_image_tensor(deep(7, 12, 16), "raw")
    shrunk = resize_image(image, (6, 8), "antialias")
    assert shrunk.shape == (7, 6, 8)
    assert shrunk.dtype == torch.float32
    assert (shrunk != shrunk.round()).any()
    assert torch.allclose(resize_image(image[3:4], (6, 8), "antialias")[0], shrunk[3])
    assert resize_image(image, (12, 16), "antialias") is image


def test_headers_are_those_that_can_be_read(tmp_path: Path):
    np.save(tmp_path / "a.npy", deep())
    Image.fromarray(picture()).save(tmp_path / "b.png")
    records = [record_of(tmp_path / name) for name in ("a.npy", "none", "b.png")]
    assert [(h.height, h.width, h.channels, h.dtype) for h in headers(records)] == [
        (6, 9, 5, "uint16"),
        (24, 40, 3, "uint8"),
    ]
    assert len(headers(records, 1)) == 1
    assert headers([]) == []
    made = headers([record_of(Path("a"), make=lambda: deep(2))] * 3)
    assert [(h.channels, h.dtype) for h in made] == [(2, "uint16")]


def test_display_shows_8_bits_as_they_are(tmp_path: Path):
    array = picture()
    Image.fromarray(array).save(tmp_path / "a.png")
    for form in (array, tmp_path / "a.png", record_of(tmp_path / "a.png"), torch.from_numpy(array).permute(2, 0, 1)):
        shown = to_display(form)
        assert (shown == array).all()
        assert shown.flags.writeable
        assert shown.flags.c_contiguous
    assert (to_display(array[:, :, 0]) == array[:, :, :1]).all()


def test_display_stretches_what_is_deeper():
    ramp = np.linspace(1000, 1400, 101 * 20).reshape(101, 20)
    image = np.stack([ramp, ramp[::-1], ramp * 0 + 5, ramp, ramp], axis=-1).astype(np.float32)
    shown = to_display(image)
    assert shown.shape == (101, 20, 3)
    assert (shown[0, 0].tolist(), shown[-1, -1].tolist()) == ([0, 255, 0], [255, 0, 0])  # a constant channel is black
    assert shown[50, 10, 0] == pytest.approx(128, abs=3)
    two = to_display(image[:, :, :2])  # the first as grey
    assert (two == shown[:, :, :1]).all()


def test_padded_size() -> None:
    data = DataConfig(min_size=64, max_size=100, pad_multiple=32)
    assert padded_size(64, 97, data) == (64, 128)
    square = DataConfig(resize="square", min_size=64, max_size=100)
    assert padded_size(64, 97, square) == (128, 128)


# ---------------------------------------------------------------- TensorFlow's resizers


def test_tensorflow_sizes_round_half_to_even_in_float32():
    data = DataConfig(min_size=96, max_size=128, size_rounding="tensorflow", pad_multiple=32)
    assert resized_size(233, 301, data) == (96, 124)
    assert resized_size(180, 131, data) == (128, 93)
    assert resized_size(64, 64, data) == (96, 96)  # up as well
    halves = DataConfig(min_size=50, max_size=1000, size_rounding="tensorflow")
    assert resized_size(100, 101, halves) == (50, 50)  # 50.5
    assert resized_size(100, 103, halves) == (50, 52)  # 51.5
    nearest = DataConfig(min_size=50, max_size=1000)
    assert resized_size(100, 101, nearest) == (50, 51)


def test_fixed_size_ignores_the_shape():
    data = DataConfig(resize="fixed", min_size=64, max_size=48, pad_multiple=32)
    assert resized_size(300, 20, data) == (64, 48)
    assert padded_size(64, 48, data) == (64, 64)


@pytest.mark.parametrize("size", [(7, 9), (20, 5), (3, 30), (50, 40)])
def test_tensorflow_bilinear_by_hand(size: tuple[int, int]):
    image = torch.randint(0, 256, (3, 16, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found, values = resize_image(image, size, "tensorflow"), image.numpy().astype(np.float32)
    assert found.dtype == torch.float32
    for i in range(size[0]):
        y = np.float32(i) * (np.float32(16) / np.float32(size[0]))
        top, bottom = int(y), min(int(y) + 1, 15)
        for j in range(size[1]):
            x = np.float32(j) * (np.float32(12) / np.float32(size[1]))
            left, right = int(x), min(int(x) + 1, 11)
            first = values[:, top, left] + (values[:, top, right] - values[:, top, left]) * (x - left)
            second = values[:, bottom, left] + (values[:, bottom, right] - values[:, bottom, left]) * (x - left)
            assert np.array_equal(found[:, i, j].numpy(), first + (second - first) * (y - top))


def test_tensorflow_leaves_an_image_of_the_right_size_alone():
    image = torch.randint(0, 256, (3, 16, 12), dtype=torch.uint8)
    assert torch.equal(resize_image(image, (16, 12), "tensorflow"), image.float())
