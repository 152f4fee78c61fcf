"""VIA: what its image headers and odd files do. Shapes, classes and fuzzing of fields: tests/data/test_formats.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn.data.formats import via
from maskrcnn.data.open import open_dataset
from maskrcnn.errors import DataError
from tests.data.contract import assert_dataset

REGION = {
    "shape_attributes": {"name": "polygon", "all_points_x": [5, 25, 25], "all_points_y": [5, 5, 30]},
    "region_attributes": {},
}


def folder(root: Path, names: tuple[str, ...] = ("a.jpg",)) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(root / "a.jpg")
    entries = {str(i): {"filename": name, "size": 9, "regions": [REGION, REGION]} for i, name in enumerate(names)}
    (root / "via.json").write_text(json.dumps(entries))
    return root


def test_size_as_a_person_sees_it(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    folder(tmp_path)
    Image.fromarray(np.zeros((50, 40, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert dataset[0].size == (40, 50)
    assert dataset[0].annotation_ids.tolist() == [1, 2]
    assert dataset[0].areas.tolist() == [250, 250]


def test_the_project_file_of_version_2(tmp_path):
    entries = json.loads((folder(tmp_path) / "via.json").read_text())
    (tmp_path / "via.json").write_text(json.dumps({"_via_settings": {}, "_via_img_metadata": entries}))
    assert_dataset(open_dataset(tmp_path))


@pytest.mark.parametrize("name", ["gone.jpg", "", ".", "x" * 300, "nul\0.jpg", "\ud800.jpg"])
def test_names_that_lead_nowhere(tmp_path, name):
    dataset = open_dataset(folder(tmp_path / "d", (name, "a.jpg")))
    assert_dataset(dataset)
    assert len(dataset) == 1
    assert "skipped 1 images whose file is missing" in dataset.warnings[0]


def test_a_bomb_is_refused_by_its_header(tmp_path):
    folder(tmp_path)
    header = b"P5 100000 100000 255\n"  # 10 gigapixels
    (tmp_path / "a.jpg").write_bytes(header)
    with pytest.raises(DataError, match="no image that can be used; skipped 1 images that cannot be opened"):
        open_dataset(tmp_path)


def test_no_file_of_via(tmp_path):
    with pytest.raises(DataError, match="no VGG Image Annotator JSON here"):
        via.read(tmp_path)
    (tmp_path / "a.json").write_text('{"regions": 1, "filename": 2}')
    with pytest.raises(DataError, match="holds no image that can be used"):
        via.read(tmp_path)
    (tmp_path / "a.json").write_text('"regions" "filename"')
    with pytest.raises(DataError, match="is not valid JSON"):
        via.read(tmp_path)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=20), st.integers(0, 400))
def test_any_bytes(tmp_path_factory, inserted, place):
    file = folder(tmp_path_factory.mktemp("fuzz")) / "via.json"
    data = file.read_bytes()
    place %= len(data)
    file.write_bytes(data[:place] + inserted + data[place + len(inserted) // 2 :])
    try:
        assert_dataset(via.read(file))
    except DataError:
        return
