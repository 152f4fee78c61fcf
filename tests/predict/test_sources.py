from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskrcnn.errors import DataError
from maskrcnn.predict.sources import iterate_images, list_sources


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.PNG", "a.jpg", "deep/c.webp", "._a.jpg", "notes.txt"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt" or path.name.startswith("."):
            path.write_text("no image")
        else:
            Image.new("RGB", (6, 4), (255, 0, 0)).save(path)
    return tmp_path / "photos"


def names(sources: object) -> list[str]:
    return [Path(item).name for item in list_sources(sources)]


def test_folder_is_sorted_and_skips_what_is_no_image(folder: Path) -> None:
    assert names(folder) == ["a.jpg", "b.PNG", "c.webp"]


def test_file_pattern_and_list(folder: Path) -> None:
    assert names(str(folder / "a.jpg")) == ["a.jpg"]
    assert names(str(folder / "*.jpg")) == ["a.jpg"]
    assert names(str(folder / "**" / "*.*")) == ["a.jpg", "b.PNG", "c.webp"]
    assert names([folder / "b.PNG", [str(folder / "a.jpg")]]) == ["b.PNG", "a.jpg"]


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4)).save(tmp_path / "photo[1].jpg")
    assert names(tmp_path / "photo[1].jpg") == ["photo[1].jpg"]


def test_arrays_tensors_pil_and_generators(folder: Path) -> None:
    array = np.zeros((4, 6, 3), np.uint8)
    several = [array, torch.zeros(3, 4, 6, dtype=torch.uint8), Image.new("L", (6, 4)), folder / "a.jpg"]
    got = list(iterate_images(item for item in several))
    assert [path and path.name for path, _ in got] == [None, None, None, "a.jpg"]
    assert all(image.shape == (3, 4, 6) and image.dtype == torch.uint8 for _, image in got)
    assert len(list(list_sources(np.zeros((5, 4, 6, 3), np.uint8)))) == 5


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jpg", "nowhere.jpg: no such file or folder; check the path"),
        ("empty", "empty: no image in this folder; looked for .jpg .jpeg"),
        ("empty/*.jpg", r"no image fits this pattern; looked for .jpg"),
        ([3], "cannot take int for images; give files, folders, patterns or arrays"),
    ],
)
def test_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: object, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as error:
        list_sources(source)
    assert message in str(error.value)


def write_images(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4)).save(path)


def test_results_of_earlier_runs_are_no_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(*(Path(name) for name in ("a.png", "b/c.png", "found/a.jpg", "found/cutouts/a_1.png", "b/o/c.jpg")))
    Path("found/results.jsonl").touch()
    Path("b/o/results.jsonl").touch()
    for source in (".", tmp_path, "**/*.*", "./**/*.*", str(tmp_path / "**" / "*.*")):
        assert names(source) == ["a.png", "c.png"], source
    for source in ("found", "found/", tmp_path / "found", "found/**/*"):  # named itself
        assert names(source) == ["a.jpg", "a_1.png"], source
    assert names("found/*.jpg") == names("*/a.jpg") == ["a.jpg"]
    assert names("b/**/*.*") == ["c.png"]
    assert names(["b/o", "b/o/c.jpg"]) == ["c.jpg", "c.jpg"]


def test_a_folder_says_what_it_leaves_out(tmp_path: Path) -> None:
    write_images(tmp_path / "a.png")
    for name in ("b.HEIC", "deep/c.heic", "d.flv", "._e.heic", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.warns(UserWarning, match="left out") as told:
        assert names(tmp_path) == ["a.png"]
    (one,) = told
    assert str(one.message) == (
        f"{tmp_path}: 3 files are left out, as .flv .heic cannot be read; convert to JPEG or PNG and MP4"
    )
    with pytest.warns(UserWarning, match=r"2 files are left out, as \.flv \.heic"):
        assert names(str(tmp_path / "*")) == ["a.png"]
    with pytest.raises(DataError, match=r"no image in this folder; 1 file is left out, as \.heic cannot be read; conv"):
        list_sources(tmp_path / "deep")


@pytest.mark.parametrize("source", [b"abc", memoryview(b"abc"), [bytearray(b"abc")]])
def test_bytes_are_refused(source: object) -> None:
    with pytest.raises(DataError, match=r"cannot take .* for images; give the path"):
        list_sources(source)
