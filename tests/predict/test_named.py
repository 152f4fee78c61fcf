"""What a user may name, and what is refused, each with a remedy."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from maskrcnn.errors import DataError
from maskrcnn.predict.items import Items
from maskrcnn.predict.named import check_one, entries
from maskrcnn.predict.pages import Window
from tests.predict.test_items import predictor
from tests.predict.test_predictor import photo


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a.png, geo.tif and an empty folder, where the test runs."""
    Image.fromarray(photo(32, 40)).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "geo.tif", np.zeros((20, 30), np.uint8))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a.png@0:50,0:50", "a.png@0:50,0:50: windows are of TIFFs; give the whole file"),
        ("geo.tif@-10:20,0:10", "geo.tif@-10:20,0:10: rows and columns begin at 0; give TOP:BOTTOM"),
        ("none.tif@0:9,0:9", "none.tif: no such file or folder; check the path"),
        ("ftp://x/y.png", "ftp://x/y.png: ftp:// is not opened; give http://"),
        ("s3://x/{a,b}*.png", "s3://x/{a,b}*.png: s3:// is not opened; give http://"),
        ("empty", "empty: no image in this folder; looked for .jpg"),
        (b"abc", "cannot take bytes for images; give the path, or PIL.Image.open(io.BytesIO(data))"),
        (bytearray(b"abc"), "cannot take bytearray for images"),
        (memoryview(b"abc"), "cannot take memoryview for images"),
        (io.BytesIO(b"abc"), "cannot take an open file for images; give its path, or PIL.Image.open(file)"),
        ([b"abc"], "cannot take bytes for images"),
        ((io.StringIO("abc"),), "cannot take an open file for images"),
        (-1, "cannot take int for images"),
    ],
)
def test_what_is_refused_at_once(source: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        entries(source)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_an_open_file_is_refused() -> None:
    with Path("a.png").open("rb") as file, pytest.raises(DataError, match="cannot take an open file"):
        predictor().stream([file])


def test_numbers_are_cameras_in_lists_alone() -> None:
    assert list(entries(0)) == list(entries([0])) == list(entries(("0",))) == ["0"]
    assert list(entries([[1], "2"])) == ["1", "2"]
    (error,) = entries(number for number in [0])
    assert "numbers are no cameras; give a list or a tuple" in str(error)
    (error,) = entries(one for one in [b"abc"])
    assert "cannot take bytes" in str(error)


@pytest.mark.parametrize("text", ["", "\n \n\r\n"])
def test_a_list_of_nothing_is_an_error_like_a_folder_of_nothing(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    with pytest.raises(DataError, match="standard input names nothing; give a file"):
        predictor().stream("-")


def test_a_list_may_hold_names_of_any_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = b"bad\xff.png"
    try:
        Path(name.decode("utf-8", "surrogateescape")).write_bytes(Path("a.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    lines = io.BytesIO(b"#1.png\r\n\n" + name + b"\n")
    Path("a.png").rename("#1.png")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(lines, encoding="utf-8"))
    assert [item.place.name for item in Items("-")] == ["#1", "bad\udcff"]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("http://host/a.png", "http://host/a.png is no file but the address of one; Predictor.stream takes it"),
        ("rtsp://host/a", "rtsp://host/a is no file but the address of one"),
        ("geo.tif@0:9,0:9", "geo.tif@0:9,0:9 is no file but the window of one; Predictor.stream takes it"),
        (Window(Path("geo.tif"), (0, 9), (0, 9)), "geo.tif@0:9,0:9 is no file but the window of one"),
    ],
)
def test_one_image_is_a_file(image: Any, message: str) -> None:
    for call in (predictor(), predictor().predict_tiled):
        with pytest.raises(DataError) as error:
            call(image)
        assert str(error.value).startswith(message)


def test_what_is_one_image_passes() -> None:
    for image in ("a.png", Path("a.png"), "none.png", photo(4, 4)):
        check_one(image)
