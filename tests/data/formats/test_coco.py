import json

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.formats import coco
from maskrcnn.errors import DataError
from tests.data.contract import assert_dataset


@pytest.fixture
def content(tmp_path):
    for i in range(3):
        Image.new("RGB", (32, 24)).save(tmp_path / f"{i}.png")
    ring = [1, 2, 6, 2, 6, 8, 1, 8]
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 24, "width": 32} for i in range(3)],
        "annotations": [
            {"id": 1 + i, "image_id": i, "category_id": 1, "bbox": [1, 2, 5, 6], "segmentation": [ring]}
            for i in range(3)
        ],
        "categories": [{"id": 1, "name": "cat", "keypoints": ["left", "right"]}, {"id": 2, "name": "dog"}],
    }


def read(folder, content):
    (folder / "x.json").write_text(json.dumps(content))
    dataset = coco.read(folder / "x.json")
    assert_dataset(dataset)
    return dataset


def test_keypoints_stay_with_their_object_where_one_before_is_left_out(tmp_path, content):
    for i, annotation in enumerate(content["annotations"]):
        annotation["keypoints"] = [10 * i, 1, 2, 10 * i, 2, 2]
    content["annotations"][1]["segmentation"] = [[1, 2]]
    dataset = read(tmp_path, content)
    assert [record.keypoints[:, 0, 0].tolist() for record in dataset] == [[0], [], [20]]


def test_wild_keypoints_stay_finite(tmp_path, content):
    content["annotations"][0]["keypoints"] = [1e300, 1, 2, -1e300, 2, 2]
    assert np.isfinite(read(tmp_path, content)[0].keypoints).all()


def test_a_class_with_an_empty_skeleton_does_not_hide_the_next(tmp_path, content):
    content["categories"].reverse()
    content["categories"][0] |= {"id": 0, "keypoints": []}
    dataset = read(tmp_path, content)
    assert dataset.keypoints is not None
    assert dataset.keypoints.names == ("left", "right")


@pytest.mark.parametrize("counts", [10**13, 5, True, 768 * "P" + "0"])
def test_counts_that_are_no_run_lengths_take_no_memory(tmp_path, content, counts):
    content["annotations"][0]["segmentation"] = {"size": [24, 32], "counts": counts}
    dataset = read(tmp_path, content)
    assert [len(record) for record in dataset] == [0, 1, 1]


def test_a_folder_is_no_image(tmp_path, content):
    (tmp_path / "0").mkdir()
    content["images"][0]["file_name"] = "0"
    dataset = read(tmp_path, content)
    assert len(dataset) == 2
    assert "skipped 1 images whose file is missing" in dataset.warnings[0]


def test_a_file_that_needs_to_be_read_whole_has_a_limit(tmp_path, content, monkeypatch):
    content["info"] = float("nan")
    assert len(read(tmp_path, content)) == 3
    monkeypatch.setattr(coco, "MOST_WHOLE", 100)
    with pytest.raises(DataError, match=r"x\.json: is larger than 0 GB and not plain JSON in UTF-8; export it again"):
        read(tmp_path, content)
