"""Windows of an image are what the whole image has there, whatever it is stored in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from maskrcnn.data.sample import to_image_tensor
from maskrcnn.data.windows import open_windows
from maskrcnn.errors import DataError
from maskrcnn.structures import Record

WINDOWS = [(0, 0, 50, 70), (3, 5, 20, 40), (32, 0, 33, 70), (49, 69, 50, 70), (0, 64, 50, 70)]


def colours(dtype: str = "uint8", channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, channels)).astype(dtype)


def check(image: Any, pixels: str = "rgb8") -> None:
    """Against the image read whole, by the way that predictions go."""
    whole = to_image_tensor(image, pixels)  # type: ignore[arg-type]
    with open_windows(image, pixels) as windows:  # type: ignore[arg-type]
        assert windows.size == tuple(whole.shape[-2:])
        for top, left, bottom, right in WINDOWS:
            part = to_image_tensor(windows.read((top, left, bottom, right)), pixels)  # type: ignore[arg-type]
            torch.testing.assert_close(part, whole[:, top:bottom, left:right], rtol=0, atol=0)


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"rowsperstrip": 7},
        {"rowsperstrip": 7, "compression": "zlib"},
        {"tile": (32, 16)},
        {"tile": (32, 16), "compression": "zlib", "predictor": True},
        {"bigtiff": True},
        {"byteorder": ">", "rowsperstrip": 9, "compression": "zlib"},
        {"planarconfig": "separate", "rowsperstrip": 9},
        {"planarconfig": "separate", "tile": (16, 16), "compression": "zlib"},
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_tiff_in_parts(layout: dict[str, Any], dtype: str, tmp_path: Path) -> None:
    separate = "planarconfig" in layout
    values = colours(dtype).transpose(2, 0, 1) if separate else colours(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", **layout)
    check(tmp_path / "a.tif", "raw")
    check(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_jpeg"])
def test_a_tiff_that_pillow_wrote(compression: str, tmp_path: Path) -> None:
    Image.fromarray(colours()).save(tmp_path / "a.tif", compression=compression)
    check(tmp_path / "a.tif")


def test_floats_are_judged_by_the_whole_file(tmp_path: Path) -> None:
    """A window whose values all lie in 0..1 is dark where others go to 255."""
    values = np.full((50, 70), 200, np.float32)
    values[:20, :40] = 0.7
    tifffile.imwrite(tmp_path / "a.tif", values, rowsperstrip=10, compression="zlib")
    check(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", values / 255, rowsperstrip=10, compression="zlib")
    check(tmp_path / "b.tif")


def test_several_pages_are_channels(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for channel in range(3):
            file.write(colours()[:, :, channel], contiguous=False)
    check(tmp_path / "a.tif", "raw")


def test_other_files_arrays_tensors_and_records(tmp_path: Path) -> None:
    Image.fromarray(colours()).save(tmp_path / "a.png")
    check(tmp_path / "a.png")
    check(colours())
    check(colours(channels=1)[:, :, 0])
    check(torch.from_numpy(colours()).permute(2, 0, 1))
    check(Image.fromarray(colours()))
    nothing = np.zeros((0, 4), np.float32)
    labels = np.zeros(0, np.int64)
    check(Record(tmp_path / "a.png", 1, 50, 70, nothing, labels, (), labels.astype(bool), labels, labels))


def test_only_the_rows_under_a_window_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskrcnn.data.tiff_parts import Parts

    tifffile.imwrite(tmp_path / "a.tif", colours(), photometric="rgb", rowsperstrip=5, compression="zlib")
    read, asked = Parts.read, []

    def counted(self: Parts, *window: int) -> np.ndarray:
        asked.append(window)
        return read(self, *window)

    monkeypatch.setattr(Parts, "read", counted)
    with open_windows(tmp_path / "a.tif") as windows:
        for left in (0, 20, 40):
            windows.read((10, left, 30, left + 30))
    assert asked == [(0, 0, 1, 1), (10, 0, 30, 70)]


def test_damaged_and_missing_files_are_one_sentence(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", colours(), photometric="rgb", rowsperstrip=5, compression="zlib")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        start = file.pages[0].dataoffsets[4]
    data[start : start + 20] = bytes(20)
    (tmp_path / "b.tif").write_bytes(data)
    with open_windows(tmp_path / "b.tif") as windows, pytest.raises(DataError, match=r"b\.tif: image is truncated"):
        windows.read((15, 0, 30, 70))
    (tmp_path / "c.tif").write_bytes(bytes(data[:300]))
    with pytest.raises(DataError, match=r"c\.tif"), open_windows(tmp_path / "c.tif"):
        pass
    with pytest.raises(DataError, match="not found"), open_windows(tmp_path / "d.tif"):
        pass
