"""Cityscapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn.data.formats import cityscapes
from maskrcnn.data.open import open_dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import load_mask_file
from tests.data.contract import assert_dataset

FRAME = "aachen_000000_000019"


def frame(root: Path, split: str, city: str, name: str, numbers: np.ndarray | None) -> None:
    image = root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png"
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((24, 48, 3), 90, np.uint8)).save(image)
    if numbers is not None:
        mask = root / "gtFine" / split / city / f"{name}_gtFine_instanceIds.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbers.astype(np.uint16)).save(mask)
        Image.fromarray(numbers.astype(np.uint8)).save(mask.with_name(f"{name}_gtFine_labelIds.png"))
        mask.with_name(f"{name}_gtFine_polygons.json").write_text('{"imgHeight": 24, "imgWidth": 48, "objects": []}')


def street() -> np.ndarray:
    """Road and sky; two cars, a person, a group of bicycles, a caravan."""
    pixels = np.full((24, 48), 7)
    pixels[:8] = 23
    pixels[10:14, 2:9] = 26000
    pixels[10:14, 9:15] = 26001
    pixels[9:19, 20:24] = 24000
    pixels[15:20, 26:36] = 33
    pixels[15:20, 40:44] = 29000
    pixels[20:] = 1
    return pixels


def folder(root: Path) -> Path:
    frame(root, "train", "aachen", FRAME, street())
    frame(root, "val", "ulm", "ulm_000000_000001", np.where(street() == 33, 33000, street()))
    frame(root, "test", "bonn", "bonn_000000_000001", np.ones((24, 48)))
    return root


@pytest.mark.parametrize("inside", ["", "cityscapes"])
def test_things_and_groups(tmp_path, inside):
    folder(tmp_path / inside)
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert dataset.format == "cityscapes"
    assert dataset.classes == ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
    assert dataset.category_ids == (24, 25, 26, 27, 28, 31, 32, 33)
    assert sorted(dataset.splits) == ["test", "train", "val"]
    record = dataset.split("train")[0]
    assert [m.value for m in record.masks] == [33, 24000, 26000, 26001]
    assert [dataset.classes[label] for label in record.labels] == ["bicycle", "person", "car", "car"]
    assert record.crowd.tolist() == [True, False, False, False]
    assert record.boxes.tolist() == [[26, 15, 36, 20], [20, 9, 24, 19], [2, 10, 9, 14], [9, 10, 15, 14]]
    assert record.areas.tolist() == [50, 40, 28, 24] == [load_mask_file(m).sum() for m in record.masks]
    assert not dataset.split("val")[0].crowd.any()


def test_the_test_split_has_no_annotation(tmp_path):
    dataset = open_dataset(folder(tmp_path))
    assert len(dataset.split("test")[0]) == 0
    (warning,) = dataset.warnings
    assert "kept 1 images without annotation, as the whole test split, which are no ground for measuring" in warning
    frame(tmp_path, "test", "bonn", "bonn_000000_000002", None)
    assert len(open_dataset(tmp_path, split="test")) == 2


def test_mistakes_are_counted(tmp_path):
    folder(tmp_path)
    frame(tmp_path, "train", "aachen", "aachen_000000_000020", None)
    frame(tmp_path, "train", "aachen", "aachen_000000_000021", street()[:9])
    frame(tmp_path, "train", "aachen", "aachen_000000_000022", street())
    (tmp_path / "leftImg8bit/train/aachen/aachen_000000_000022_leftImg8bit.png").write_bytes(b"no picture")
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert len(dataset) == 3
    text = "\n".join(dataset.warnings)
    assert "skipped 1 images without an annotation file" in text
    assert "skipped 2 images or annotations that cannot be used" in text
    assert "the mask is 48x9 instead of 48x24" in text


def test_errors(tmp_path):
    with pytest.raises(DataError, match="no folders leftImg8bit and gtFine here; unpack both archives in one place"):
        cityscapes.read(tmp_path)
    frame(tmp_path, "train", "aachen", FRAME, np.ones((3, 3)))
    with pytest.raises(DataError, match="holds no image that can be used; skipped 1 images or annotations"):
        open_dataset(tmp_path)
    assert not cityscapes.sniff(tmp_path / "nowhere")


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=5), st.booleans())
def test_any_bytes(tmp_path_factory, changes, in_mask):
    root = folder(tmp_path_factory.mktemp("fuzz"))
    mask = root / "gtFine" / "train" / "aachen" / f"{FRAME}_gtFine_instanceIds.png"
    file = mask if in_mask else root / "leftImg8bit" / "train" / "aachen" / f"{FRAME}_leftImg8bit.png"
    data = bytearray(file.read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    file.write_bytes(data)
    assert_dataset(open_dataset(root))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 65535), min_size=16, max_size=16))
def test_any_numbers(tmp_path_factory, values):
    root = tmp_path_factory.mktemp("fuzz")
    frame(root, "train", "aachen", FRAME, np.repeat(np.repeat(np.reshape(values, (2, 8)), 12, 0), 6, 1))
    dataset = open_dataset(root)
    assert_dataset(dataset)
    things = {v for v in values if (v if v < 1000 else v // 1000) in cityscapes.THINGS}
    assert {m.value for m in dataset[0].masks} == things
