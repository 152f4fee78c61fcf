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
