import json
import multiprocessing
import os
import warnings

import pytest
from PIL import Image

from maskrcnn.data.open import open_dataset
from maskrcnn.errors import DataError
from tests.data.contract import assert_dataset


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tables"


def write(folder, images=3):
    """A COCO file beside a folder of images."""
    (folder / "images").mkdir(parents=True)
    for i in range(images):
        Image.new("RGB", (32, 24)).save(folder / "images" / f"{i}.png")
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 24, "width": 32} for i in range(images)],
        "annotations": [{"id": 1 + i, "image_id": i, "category_id": 1, "bbox": [1, 2, 5, 6]} for i in range(images)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    (folder / "x.json").write_text(json.dumps(content))
    return folder / "x.json"


def mapped(dataset):
    return dataset.table._folder is not None


def test_a_relative_path_is_read_from_where_one_is(tmp_path, monkeypatch):
    write(tmp_path / "here" / "data")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    open_dataset("data", cache=True)
    assert mapped(open_dataset("data"))
    monkeypatch.chdir(tmp_path / "there")
    dataset = open_dataset("../here/data", cache=True)
    assert_dataset(dataset)
    assert dataset.name == "../here/data"


def test_what_lies_behind_links_counts(tmp_path):
    file = write(tmp_path / "data")
    (tmp_path / "data" / "images").rename(tmp_path / "photos")
    (tmp_path / "data" / "images").symlink_to(tmp_path / "photos")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "nowhere").symlink_to("nowhere")
    file = file.rename(tmp_path / "store.json")
    (tmp_path / "data" / "x.json").symlink_to(file)
    open_dataset(tmp_path / "data", cache=True)
    assert mapped(open_dataset(tmp_path / "data"))
    file.write_text(file.read_text().replace("dog", "cow"))
    assert open_dataset(tmp_path / "data", cache=True).classes == ("cat", "cow")
    (tmp_path / "photos" / "0.png").unlink()
    assert len(open_dataset(tmp_path / "data")) == 2


def test_a_split_list_beside_the_file_counts(tmp_path):
    file = write(tmp_path / "data")
    assert open_dataset(file, cache=True).splits == ()
    (tmp_path / "data" / "train.txt").write_text("0\n1\n")
    assert open_dataset(file, cache=True).splits == ("train",)
    (tmp_path / "data" / "val.txt").write_text("2\n")
    assert open_dataset(file).splits == ("train", "val")


def test_a_change_of_the_same_size_and_time_is_seen(tmp_path):
    file = write(tmp_path / "data")
    open_dataset(file, cache=True)
    time = file.stat().st_mtime_ns
    file.write_text(file.read_text().replace("dog", "cow"))
    os.utime(file, ns=(time, time))
    assert open_dataset(file).classes == ("cat", "cow")


def test_an_empty_column_file_is_a_damaged_cache(tmp_path, kept):
    file = write(tmp_path / "data")
    open_dataset(file, cache=True)
    next(kept.rglob("boxes.npy")).write_bytes(b"")
    assert_dataset(open_dataset(file, cache=True))


def test_processes_that_save_at_once_leave_one_table(tmp_path, kept):
    file = write(tmp_path / "data")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(open_and_touch, [file, file])
    assert len(list(kept.iterdir())) == 1
    assert_dataset(open_dataset(file))


def open_and_touch(file):
    warnings.simplefilter("error")
    for _ in range(5):
        open_dataset(file, cache=True)
        os.utime(file)


def test_a_failed_save_leaves_no_draft(tmp_path, kept, monkeypatch):
    def full(table, folder):
        (folder / "boxes.npy").touch()
        raise OSError("no space left")

    monkeypatch.setattr("maskrcnn.table.Table.save", full)
    with pytest.warns(UserWarning, match="no space left"):
        open_dataset(write(tmp_path / "data"), cache=True)
    assert list(kept.iterdir()) == []


def test_a_name_longer_than_any_file_is_no_file():
    with pytest.raises(DataError, match="no such file or folder"):
        open_dataset("x" * 400)
