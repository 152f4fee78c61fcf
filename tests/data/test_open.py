import pytest

from maskrcnn.data.open import open_dataset
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.errors import DataError


def test_errors_name_the_path_and_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such file or folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no annotations found; looked for coco: .*via: .*png_objects: "):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match=r"unknown format 'coko', did you mean 'coco'\?; known: coco, via, png_objects"):
        open_dataset(tmp_path, format="coko")
    with pytest.raises(DataError, match="no annotations found; looked for via: "):
        open_dataset(tmp_path, format="via")


def test_a_file_that_is_not_json_is_called_so(tmp_path):
    (tmp_path / "data.json").write_text('{"name": ')
    with pytest.raises(DataError, match=r"data\.json: is not valid JSON .*; export it again"):
        open_dataset(tmp_path / "data.json")
    (tmp_path / "data.json").write_text("{}")
    with pytest.raises(DataError, match=r"data\.json: no annotations found; looked for coco: "):
        open_dataset(tmp_path / "data.json")


def test_a_dataset_passes_through(tmp_path):
    dataset = open_dataset(write_shapes(tmp_path, train=2, val=1, size=(64, 64)))
    assert open_dataset(dataset) is dataset
    assert len(open_dataset(dataset, split="val")) == 1
    with pytest.raises(DataError, match="no split 'tset'; known splits: train, val"):
        open_dataset(dataset, split="tset")
