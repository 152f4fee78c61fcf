"""Every kind of image file, by value: what comes in with its channels and depth, what 8-bit RGB keeps of it."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from maskrcnn.data.decode import image_header, image_size, read_raw, read_rgb8
from maskrcnn.errors import DataError
from maskrcnn.structures import Span

HEIGHT, WIDTH = 19, 26


def numbers(channels: int, dtype: str = "uint16", seed: int = 0) -> np.ndarray:
    """(H, W, C) of the full range."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 100, (HEIGHT, WIDTH, channels)).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, (HEIGHT, WIDTH, channels), dtype, endpoint=True)


def png16(values: np.ndarray, after: bytes = b"") -> bytes:
    """A PNG of 16 bits; Pillow writes none with several channels."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    packed = zlib.compress(rows)
    pixels = chunk(b"IDAT", packed[:50]) + chunk(b"IDAT", packed[50:])
    return b"\x89PNG\r\n\x1a\n" + head + pixels + after + chunk(b"IEND", b"")


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def check(path: Path, expected: np.ndarray, alpha: bool = False) -> None:
    """The header says what decoding gives, and both what is expected (H, W, C)."""
    header = image_header(path)
    values = read_raw(path)
    assert (header.height, header.width, header.channels) == values.shape == expected.shape
    assert header.dtype == values.dtype.name == expected.dtype.name
    assert header.alpha == alpha
    assert image_size(path) == values.shape[:2]
    assert np.array_equal(values, expected)
    assert read_rgb8(path).shape == (*values.shape[:2], 3)
    inside = path.with_suffix(".shard")
    inside.write_bytes(b"before" + path.read_bytes() + b"after")
    span = Span(6, path.stat().st_size)
    assert image_header(inside, span) == header
    assert np.array_equal(read_raw(inside, span), expected)
    assert image_size(inside, span) == values.shape[:2]


# ---------------------------------------------------------------- Pillow's files


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_8_bits_keep_their_channels(tmp_path: Path, channels: int):
    values = numbers(channels, "uint8")
    Image.fromarray(values[:, :, 0] if channels == 1 else values).save(tmp_path / "a.png")
    check(tmp_path / "a.png", values, alpha=channels in (2, 4))
    assert image_header(tmp_path / "a.png").ordinary


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_keeps_all_bits_and_channels(tmp_path: Path, channels: int):
    values = numbers(channels)
    (tmp_path / "a.png").write_bytes(png16(values))
    check(tmp_path / "a.png", values, alpha=channels in (2, 4))
    assert not image_header(tmp_path / "a.png").ordinary or channels == 2
    expected = values[:, :, :3] if channels > 2 else values[:, :, :1]
    assert (read_rgb8(tmp_path / "a.png") == expected >> 8).all()


def test_other_modes(tmp_path: Path):
    grey = numbers(1, "uint8")[:, :, 0]
    Image.fromarray(grey > 99).save(tmp_path / "bits.png")
    check(tmp_path / "bits.png", (grey[:, :, None] > 99) * np.uint8(255))
    colour = Image.fromarray(numbers(3, "uint8"))
    palette = colour.quantize(16)
    palette.save(tmp_path / "palette.png")
    check(tmp_path / "palette.png", np.asarray(palette.convert("RGB")))
    palette.save(tmp_path / "hole.png", transparency=0)
    check(tmp_path / "hole.png", np.asarray(palette.convert("RGB")))
    inks = colour.convert("CMYK")
    inks.save(tmp_path / "inks.jpg", quality=95)
    check(tmp_path / "inks.jpg", np.asarray(Image.open(tmp_path / "inks.jpg").convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_kind_is_turned_as_exif_says(tmp_path: Path, orientation: int):
    grey = numbers(1, "uint8")[:, :, 0]
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(with_exif(grey, exif)))[:, :, None]
    for name in ("a.png", "a.tif", "a.webp"):
        Image.fromarray(grey).save(tmp_path / name, exif=exif, **({"lossless": True} if name == "a.webp" else {}))
        assert image_size(tmp_path / name) == upright.shape[:2], name
        assert (read_rgb8(tmp_path / name) == upright).all(), name
        assert (read_raw(tmp_path / name) == upright).all(), name
    values = numbers(5)
    values[:, :, 0] = grey
    tags = [("Orientation", "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "b.tif", values, photometric="minisblack", planarconfig="contig", extratags=tags)
    turned = read_raw(tmp_path / "b.tif")
    assert (turned[:, :, :1] == upright).all()
    assert image_size(tmp_path / "b.tif") == turned.shape[:2]
    assert read_rgb8(tmp_path / "b.tif").shape[:2] == turned.shape[:2]


def with_exif(grey: np.ndarray, exif: Image.Exif) -> Image.Image:
    image = Image.fromarray(grey)
    image.getexif().update(exif)
    return image


def test_the_size_of_a_png_needs_no_decoding_but_where_its_rotation_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    exif = Image.Exif()
    exif[0x0112] = 6
    late = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    (tmp_path / "late.png").write_bytes(png16(numbers(3), late))
    assert image_size(tmp_path / "late.png") == (WIDTH, HEIGHT)
    assert read_raw(tmp_path / "late.png").shape == (WIDTH, HEIGHT, 3)
    (tmp_path / "plain.png").write_bytes(png16(numbers(3)))
    Image.fromarray(numbers(3, "uint8")).save(tmp_path / "early.png", exif=exif)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda self: pytest.fail("decoded"))
    assert image_size(tmp_path / "plain.png") == (HEIGHT, WIDTH)
    assert image_size(tmp_path / "early.png") == (WIDTH, HEIGHT)


# ---------------------------------------------------------------- TIFF


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "uint32", "float16", "float32", "float64"])
@pytest.mark.parametrize("layout", ["contig", "separate", "pages"])
def test_tiff_of_n_channels(tmp_path: Path, dtype: str, layout: str):
    values = numbers(5, dtype)
    planes = np.ascontiguousarray(values.transpose(2, 0, 1))
    options = {"photometric": "minisblack"} | ({} if layout == "pages" else {"planarconfig": layout})
    tifffile.imwrite(tmp_path / "a.tif", values if layout == "contig" else planes, **options)
    check(tmp_path / "a.tif", values)


@pytest.mark.parametrize(
    "options",
    [
        {"byteorder": ">"},
        {"bigtiff": True},
        {"compression": "deflate", "predictor": 2},
        {"tile": (16, 16), "compression": "deflate"},
        {"rowsperstrip": 3},
        {"imagej": True},
    ],
)
def test_tiff_of_other_layouts(tmp_path: Path, options: dict):
    values = numbers(5)
    planes = np.ascontiguousarray(values.transpose(2, 0, 1))
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="minisblack", **options)
    check(tmp_path / "a.tif", values)


@pytest.mark.parametrize("mode", ["L", "I;16", "RGB", "RGBA", "F"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_tiff_of_pillow(tmp_path: Path, mode: str, compression: str):
    values = numbers(
        len(mode.split(";")[0]) if mode != "F" else 1, {"I;16": "uint16", "F": "float32"}.get(mode, "uint8")
    )
    Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values).save(
        tmp_path / "a.tif", compression=compression
    )
    check(tmp_path / "a.tif", values, alpha=mode == "RGBA")


@pytest.mark.parametrize(("predictor", "dtype"), [(1, "uint16"), (2, "uint16"), (1, "float32")])
@pytest.mark.parametrize("tile", [None, (16, 32)])
def test_lzw_of_n_channels(tmp_path: Path, predictor: int, tile: tuple[int, int] | None, dtype: str):
    """Pillow packs each strip or tile of a file that tifffile wrote without compression."""
    values = numbers(5, dtype)
    (tmp_path / "a.tif").write_bytes(lzw_file(tmp_path / "plain.tif", values, predictor, tile))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert (file.pages[0].compression, file.pages[0].predictor) == (5, predictor)
    check(tmp_path / "a.tif", values)


def lzw_file(scratch: Path, values: np.ndarray, predictor: int, tile: tuple[int, int] | None) -> bytes:
    stored = values.copy()
    if predictor == 2:
        assert tile is None or tile[1] >= values.shape[1]
        stored[:, 1:] -= values[:, :-1]
    layout = {"tile": tile} if tile else {"rowsperstrip": 7}
    tags = [("Predictor", "H", 1, predictor, True)]
    tifffile.imwrite(scratch, stored, photometric="minisblack", planarconfig="contig", extratags=tags, **layout)
    data = bytearray(scratch.read_bytes())
    with tifffile.TiffFile(scratch) as file:
        page = file.pages[0]
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        where = {code: page.tags[code] for code in (259, 273 if not tile else 324, 279 if not tile else 325)}
    row = (tile[1] if tile else values.shape[1]) * values.shape[2] * values.itemsize
    offsets, counts = [], []
    for offset, count in places:
        packed = lzw(np.frombuffer(bytes(data[offset : offset + count]), np.uint8).reshape(-1, row), scratch)
        offsets.append(len(data))
        counts.append(len(packed))
        data += packed
    for code, content in zip(where, ([5], offsets, counts), strict=True):
        tag = where[code]
        size = tag.dtype.name
        form = {"SHORT": "H", "LONG": "I"}[size]
        data[tag.valueoffset : tag.valueoffset + struct.calcsize(f"<{len(content)}{form}")] = struct.pack(
            f"<{len(content)}{form}", *content
        )
    return bytes(data)


def lzw(pixels: np.ndarray, scratch: Path) -> bytes:
    """One strip of bytes, packed."""
    Image.fromarray(pixels).save(scratch, "TIFF", compression="tiff_lzw", tiffinfo={278: len(pixels)})
    with tifffile.TiffFile(scratch) as file:
        page = file.pages[0]
        assert len(page.dataoffsets) == 1
        start = page.dataoffsets[0]
        return scratch.read_bytes()[start : start + page.databytecounts[0]]


def test_smaller_copies_and_masks_are_not_channels(tmp_path: Path):
    values = numbers(3)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for i in range(3):
            writer.write(values[:, :, i], photometric="minisblack", metadata=None)
        writer.write(values[::2, ::2, 0], photometric="minisblack", subfiletype=1, metadata=None)
        writer.write(values[:, :, 0], photometric="minisblack", subfiletype=2, metadata=None)
        writer.write(values[:5, :5, 0], photometric="minisblack", metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[4].tags["NewSubfileType"].overwrite(4)
    check(tmp_path / "a.tif", values)


def test_rgb_with_infrared_has_four_channels(tmp_path: Path):
    values = numbers(4, "uint8")
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unspecified"])
    check(tmp_path / "a.tif", values)
    assert (read_rgb8(tmp_path / "a.tif") == values[:, :, :3]).all()


def test_floats_keep_what_is_no_number(tmp_path: Path):
    values = np.array([[np.nan, 1.5], [-np.inf, 0.25]], np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values)
    assert np.array_equal(read_raw(tmp_path / "a.tif")[:, :, 0], values, equal_nan=True)
    assert read_rgb8(tmp_path / "a.tif")[:, :, 0].tolist() == [[0, 2], [0, 0]]


def test_a_compression_that_nothing_here_reads_is_named(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", numbers(5), photometric="minisblack", planarconfig="contig", rowsperstrip=4)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags["Compression"].overwrite(34887)  # LERC
    with pytest.raises(DataError, match="pip install imagecodecs, or save it with LZW, deflate or no compression"):
        read_raw(tmp_path / "a.tif")


def test_complex_numbers_are_no_pixels(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.complex64))
    with pytest.raises(DataError, match="TIFF with 64 bits of format 6; save integers or floats"):
        read_raw(tmp_path / "a.tif")


# ---------------------------------------------------------------- NumPy


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", ">u2", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("first", [False, True])
def test_numpy_files(tmp_path: Path, dtype: str, first: bool):
    values = (numbers(5, "float32") * 10).astype(dtype)
    np.save(tmp_path / "a.npy", np.asfortranarray(values.transpose(2, 0, 1)) if first else values)
    check(tmp_path / "a.npy", values.astype(values.dtype.newbyteorder("=")))


def test_numpy_files_without_channels_and_with_three(tmp_path: Path):
    values = numbers(3, "uint8")
    np.save(tmp_path / "grey.npy", values[:, :, 0])
    check(tmp_path / "grey.npy", values[:, :, :1])
    np.save(tmp_path / "colour.npy", values)
    check(tmp_path / "colour.npy", values)
    assert (read_rgb8(tmp_path / "colour.npy") == values).all()
    assert image_header(tmp_path / "colour.npy").ordinary


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2, 2, 2)), r"shape \(2, 2, 2, 2\); save \(H, W\), \(H, W, C\) or \(C, H, W\)"),
        (np.zeros(4), r"shape \(4,\)"),
        (np.zeros((0, 4)), r"shape \(0, 4\)"),
        (np.zeros((4, 4), complex), "array holds complex128; save integers or floats"),
        (np.array([[{}]], object), "array holds object"),
    ],
)
def test_what_is_no_image_in_a_numpy_file_is_named(tmp_path: Path, array: np.ndarray, message: str):
    path = tmp_path / "a.npy"
    np.save(path, array, allow_pickle=True)
    for function in (image_header, image_size, read_raw, read_rgb8):
        with pytest.raises(DataError, match=message) as caught:
            function(path)
        assert caught.value.path == path


def test_a_numpy_file_that_is_cut_short_is_named(tmp_path: Path):
    np.save(tmp_path / "a.npy", numbers(5))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-10])
    with pytest.raises(DataError, match=f"array of {HEIGHT * WIDTH * 10} bytes is cut short"):
        image_size(tmp_path / "a.npy")


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize("name", ["a.npy", "a.tif"])
def test_too_large_is_said_from_the_header(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / name
    if name == "a.npy":
        np.save(path, numbers(5))
    else:
        tifffile.imwrite(path, numbers(5), photometric="minisblack", planarconfig="contig")
    monkeypatch.setattr("maskrcnn.data.decode.MAX_VALUES", HEIGHT * WIDTH * 4)
    assert image_size(path) == (HEIGHT, WIDTH)
    with pytest.raises(DataError, match=f"{WIDTH} x {HEIGHT} pixels of 5 channels, more than the limit"):
        read_raw(path)
    monkeypatch.setattr("maskrcnn.data.decode.MAX_PIXELS", 100)
    for function in (image_header, image_size, read_raw, read_rgb8):
        with pytest.raises(DataError, match=f"{WIDTH} x {HEIGHT} pixels, more than the limit of 500 megapixels"):
            function(path)


def test_a_tiff_that_claims_a_giant_tile_allocates_nothing(tmp_path: Path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, numbers(5), photometric="minisblack", planarconfig="contig", tile=(16, 16))
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name in ("TileWidth", "TileLength"):
            file.pages[0].tags[name].overwrite(65520)
    tracemalloc.start()
    with pytest.raises(DataError, match="tile of 65520 x 65520 is larger than its image"):
        read_raw(path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def seeds() -> list[tuple[str, bytes]]:
    """Small valid files of each kind, to be damaged."""
    import io

    files = []
    for values, options in [
        (numbers(5), {"planarconfig": "contig"}),
        (numbers(5, "float32"), {"tile": (16, 16), "compression": "deflate", "planarconfig": "contig"}),
    ]:
        stream = io.BytesIO()
        tifffile.imwrite(stream, values, photometric="minisblack", **options)
        files.append((".tif", stream.getvalue()))
    stream = io.BytesIO()
    Image.fromarray(numbers(1)[:, :, 0]).save(stream, "TIFF", compression="tiff_lzw")
    files.append((".tif", stream.getvalue()))
    stream = io.BytesIO()
    np.save(stream, numbers(5))
    files.append((".npy", stream.getvalue()))
    return [*files, (".png", png16(numbers(3)))]


SEEDS = seeds()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.integers(0, len(SEEDS) - 1),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    keep=st.floats(0.3, 1),
)
def test_a_damaged_file_is_an_image_or_a_data_error(tmp_path: Path, which: int, changes: list, keep: float):
    suffix, content = SEEDS[which]
    damaged = bytearray(content)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    answers(tmp_path / f"a{suffix}", bytes(damaged[: int(len(damaged) * keep)] if keep < 0.9 else damaged))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from([".npy", ".tif", ".png"]),
    start=st.sampled_from(
        [b"", b"\x93NUMPY\1\0", b"II*\0\x08\0\0\0", b"MM\0*", b"II+\0\x08\0\0\0", b"\x89PNG\r\n\x1a\n"]
    ),
    rest=st.binary(max_size=300),
)
def test_any_bytes_are_an_image_or_a_data_error(tmp_path: Path, suffix: str, start: bytes, rest: bytes):
    answers(tmp_path / f"a{suffix}", start + rest)


def answers(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    for function in (image_header, image_size, read_raw, read_rgb8):
        try:
            answer = function(path)
        except DataError as error:
            assert error.path == path  # noqa: PT017
        else:
            if isinstance(answer, np.ndarray):
                assert answer.ndim == 3
                assert answer.size > 0
