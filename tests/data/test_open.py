import pickle

import numpy as np
import pytest

from maskrcnn.data.adapters import matterport
from maskrcnn.data.formats import coco
from maskrcnn.data.open import open_dataset
from maskrcnn.data.synthetic import write_shapes
from maskrcnn.errors import DataError
from tests.data.contract import assert_dataset


def test_errors_name_the_path_and_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such file or folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no annotations found; looked for .*coco: .*via: .*png_objects: "):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match=r"unknown format 'coko', did you mean 'coco'\?; known: .*coco"):
        open_dataset(tmp_path, format="coko")
    with pytest.raises(DataError, match="no annotations found; looked for via: "):
        open_dataset(tmp_path, format="via")


def test_a_file_that_is_not_json_is_called_so(tmp_path):
    (tmp_path / "data.json").write_text('{"name": ')
    with pytest.raises(DataError, match=r"data\.json: is not valid JSON .*; export it again"):
        open_dataset(tmp_path / "data.json")
    (tmp_path / "data.json").write_text("{}")
    with pytest.raises(DataError, match=r"data\.json: no annotations found; looked for .*coco: "):
        open_dataset(tmp_path / "data.json")


def test_what_took_long_is_kept_until_a_file_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    folder = write_shapes(tmp_path / "shapes", train=3, val=2, size=(32, 32))
    plain = open_dataset(folder, cache=False)
    assert not (tmp_path / "cache").exists()
    assert_same(open_dataset(folder, cache=True), plain)
    read = []
    monkeypatch.setattr(coco, "read", lambda path: read.append(path))
    again = open_dataset(folder)
    assert_same(again, plain)
    assert read == []
    assert_same(pickle.loads(pickle.dumps(again)), plain)  # a mapped table travels as its folder
    assert len(pickle.dumps(again)) < 5_000
    monkeypatch.undo()
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    (folder / "train" / "images" / "00000.png").unlink()
    assert len(open_dataset(folder)) == 4


def test_a_damaged_cache_is_read_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    folder = write_shapes(tmp_path / "shapes", train=3, val=2, size=(32, 32))
    plain = open_dataset(folder, cache=True)
    for name in ("boxes.npy", "dataset.json"):
        (kept,) = (tmp_path / "cache").rglob(name)
        kept.write_bytes(b"{")
        assert_same(open_dataset(folder, cache=True), plain)


def test_a_cache_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "file"))
    folder = write_shapes(tmp_path / "shapes", train=1, val=1, size=(32, 32))
    with pytest.warns(UserWarning, match="cannot be kept in .*it will be read again"):
        open_dataset(folder, cache=True)


def test_several_data_sets_and_boxes_of_masks(tmp_path):
    first = write_shapes(tmp_path / "a", train=2, val=1, size=(64, 64))
    second = write_shapes(tmp_path / "b", train=3, val=1, size=(64, 64), seed=1)
    both = open_dataset([first, open_dataset(second)], split="train")
    assert_dataset(both)
    assert len(both) == 5
    with pytest.raises(DataError, match="give at least one path"):
        open_dataset([])
    with pytest.raises(DataError, match="give 'given' or 'masks'"):
        open_dataset(first, boxes="mask")
    regenerated = open_dataset(first, boxes="masks")
    assert_dataset(regenerated)


def test_data_sets_of_other_libraries(tmp_path):
    class Squares(matterport.Dataset):
        def load_image(self, image_id):
            return np.full((32, 32, 3), 128, np.uint8)

        def load_mask(self, image_id):
            mask = np.zeros((32, 32, 1), bool)
            mask[4:9, 5:20] = True
            return mask, np.array([1], np.int32)

    squares = Squares()
    squares.add_class("shapes", 1, "square")
    squares.add_image("shapes", image_id=0, path=None)
    squares.prepare()
    dataset = open_dataset(squares)
    assert_dataset(dataset)
    assert dataset[0].boxes.tolist() == [[5, 4, 20, 9]]
    with pytest.raises(DataError, match="cannot take int for a data set"):
        open_dataset(5)


def assert_same(one, other):
    assert_dataset(one)
    assert (one.classes, one.category_ids, one.splits) == (other.classes, other.category_ids, other.splits)
    assert (one.format, one.warnings) == (other.format, other.warnings)
    for a, b in zip(one, other, strict=True):
        assert (a.path, a.image_id, a.size, a.split, a.masks) == (b.path, b.image_id, b.size, b.split, b.masks)
        for name in ("boxes", "labels", "crowd", "areas", "annotation_ids"):
            assert np.array_equal(getattr(a, name), getattr(b, name))


def test_a_dataset_passes_through(tmp_path):
    dataset = open_dataset(write_shapes(tmp_path, train=2, val=1, size=(64, 64)))
    assert open_dataset(dataset) is dataset
    assert len(open_dataset(dataset, split="val")) == 1
    with pytest.raises(DataError, match="no split 'tset'; known splits: train, val"):
        open_dataset(dataset, split="tset")
