"""Results of other frameworks: every form that they write, and one sentence for each thing that can be wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import maskrcnn
from maskrcnn.errors import ConfigError, DataError
from maskrcnn.evaluation.coco import GroundTruth, measure
from maskrcnn.evaluation.results_file import read_results
from maskrcnn.ops.rle import decode_rle, parse_counts
from tests.evaluation import test_keypoints as keypoints
from tests.evaluation.made import CLASSES, IDS, SIZE, made_dataset, made_results

DATASET = made_dataset()
RESULTS = made_results(DATASET)


def written(folder: Path, content: Any, **options: Any) -> Path:
    file = folder / "results.json"
    file.write_text(json.dumps(content, **options))
    return file


@pytest.mark.parametrize("form", ["plain", "indented", "annotations", "nan-free single line"])
def test_a_file_equals_the_list(tmp_path: Path, form: str) -> None:
    content: Any = {"annotations": RESULTS, "images": []} if form == "annotations" else RESULTS
    file = written(tmp_path, content, indent=2 if form == "indented" else None)
    assert read_results(file, DATASET) == read_results(RESULTS, DATASET)


def test_metrics_of_a_file_and_of_a_list(tmp_path: Path) -> None:
    from_list = maskrcnn.evaluate(RESULTS, DATASET)
    assert maskrcnn.evaluate(written(tmp_path, RESULTS), DATASET) == from_list
    assert from_list.mask is not None
    assert from_list.mask["ap"] > 0
    assert from_list.speed == {}
    assert maskrcnn.evaluate(RESULTS, DATASET, score_threshold=0.9).box["ap"] < from_list.box["ap"]


def test_every_form_of_a_mask() -> None:
    result = RESULTS[0]
    rle = result["segmentation"]
    runs = parse_counts(rle["counts"]).tolist()
    box = [[10.0, 20.0, 40.0, 20.0, 40.0, 60.0, 10.0, 60.0], [50.0, 50.0, 60.0, 50.0, 55.0, 70.0]]
    forms = [rle, {"size": list(SIZE), "counts": rle["counts"].encode()}, {"size": list(SIZE), "counts": runs}, box]
    read = read_results([result | {"segmentation": form} for form in forms], DATASET)
    assert [one["segmentation"] for one in read[:3]] == [rle] * 3
    mask = decode_rle(read[3]["segmentation"])
    assert mask[20:60, 10:40].all()
    assert mask[52, 55]
    json.dumps(read)


def test_masks_alone_get_their_boxes() -> None:
    given = [{k: v for k, v in result.items() if k != "bbox"} for result in RESULTS]
    read = read_results(given, DATASET)
    mask = decode_rle(read[0]["segmentation"])
    rows, columns = np.nonzero(mask)
    assert read[0]["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    assert maskrcnn.evaluate(given, DATASET).mask == maskrcnn.evaluate(RESULTS, DATASET).mask


def test_boxes_alone_measure_no_masks() -> None:
    boxes = [{k: v for k, v in result.items() if k != "segmentation"} for result in RESULTS]
    metrics = maskrcnn.evaluate(boxes, DATASET)
    assert metrics.mask is None
    assert metrics.box == maskrcnn.evaluate(RESULTS, DATASET).box


WRONG = [
    ({"image_id": 99}, r"result 3: is of image 99, which the data does not have \(its ids: 1, 2, 3 \.\.\.\); evaluate"),
    ({"image_id": [1]}, r"result 3: is of image \[1\], which the data does not have"),
    (
        {"category_id": 1},
        r"result 3: is of category 1, which the data does not have \(its ids: 2, 3, 5, 7, 11 \.\.\.\)",
    ),
    ({"score": "high"}, "result 3: score 'high' is not a finite number"),
    ({"score": "0.5"}, "result 3: score '0.5' is not a finite number"),
    ({"score": [0.5]}, r"result 3: score \[0.5\] is not a finite number"),
    ({"score": None}, "result 3: score None is not a finite number"),
    ({"score": 1e308}, r"result 3: score 1e\+308 is not a finite number up to 1e\+12"),
    ({"bbox": [[1, 2], [3, 4]]}, r"result 3: bbox \[\[1, 2\], \[3, 4\]\] is not 4 finite numbers"),
    ({"bbox": [0, 0, 1e308, 1e308]}, "is not 4 finite numbers"),
    ({"score": float("nan")}, "result 3: score nan is not a finite number"),
    ({"bbox": [1, 2, 3]}, r"result 3: bbox \[1, 2, 3\] is not 4 finite numbers"),
    ({"bbox": [1, 2, -3, 4]}, r"result 3: bbox \[1, 2, -3, 4\] has a negative side; write x, y, width, height"),
    ({"segmentation": {"size": [5, 6], "counts": "0"}}, "result 3: mask is 6 x 5 pixels but its image 240 x 180"),
    (
        {"segmentation": {"size": list(SIZE), "counts": "04"}},
        "result 3: the runs of the mask do not fill its 240 x 180",
    ),
    ({"segmentation": {"size": list(SIZE), "counts": "0" * 1_000_001}}, "the runs of the mask are too many"),
    ({"segmentation": {"size": list(SIZE), "counts": [5, 5]}}, "result 3: the runs of the mask do not fill its image"),
    ({"segmentation": {"size": list(SIZE), "counts": 7}}, "result 3: segmentation is neither RLE nor"),
    ({"segmentation": [[1, 2, 3]]}, "result 3: a polygon of the mask is not x, y, x, y"),
    ({"segmentation": [[1e9, 2, 3, 4, 5, 6]]}, "result 3: a polygon of the mask lies far outside the image"),
    ({"segmentation": None}, "result 3: lacks segmentation, unlike the results before it"),
    ({"keypoints": [1, 2, 3]}, "result 3: has keypoints, unlike the results before it"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_one_sentence_for_each_thing_wrong(change: dict[str, Any], message: str) -> None:
    given = [*RESULTS[:3], RESULTS[3] | change, RESULTS[4]]
    with pytest.raises(DataError, match=message):
        read_results(given, DATASET)


def test_missing_parts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="result 0: has no score; write image_id, category_id and score"):
        read_results([{k: v for k, v in RESULTS[0].items() if k != "score"}], DATASET)
    with pytest.raises(DataError, match="result 0: has neither bbox nor segmentation nor keypoints"):
        read_results([{"image_id": 1, "category_id": IDS[0], "score": 1}], DATASET)
    with pytest.raises(DataError, match="result 0: 5 is no result"):
        read_results([5], DATASET)
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'none.json'}: no such file; give the JSON")):
        maskrcnn.evaluate(tmp_path / "none.json", DATASET)
    for content in ({"results": []}, {"annotations": 5}, 7):
        with pytest.raises(DataError, match="holds no list of results"):
            read_results(written(tmp_path, content), DATASET)
    (tmp_path / "results.json").write_text("[{,]")
    with pytest.raises(DataError, match=r"results\.json"):
        read_results(tmp_path / "results.json", DATASET)


def test_a_file_that_is_not_written_as_usual(tmp_path: Path) -> None:
    """UTF-16, which is read as a whole."""
    file = tmp_path / "results.json"
    file.write_text(json.dumps(RESULTS), encoding="utf-16")
    assert read_results(file, DATASET) == read_results(RESULTS, DATASET)


def test_no_results_at_all(tmp_path: Path) -> None:
    metrics = maskrcnn.evaluate(written(tmp_path, []), DATASET)
    assert (metrics.box["ap"], metrics.images) == (0, len(DATASET))


def test_limits_that_are_no_numbers() -> None:
    with pytest.raises(ConfigError, match=r"max_detections \[0\] must be positive numbers, such as 1 10 100"):
        maskrcnn.evaluate(RESULTS, DATASET, max_detections=[0])
    with pytest.raises(ConfigError, match=r"max_detections \[0\] must be"):
        maskrcnn.evaluate(RESULTS, DATASET, max_detections=0)
    with pytest.raises(ConfigError, match="at most 1,000,000,000"):
        maskrcnn.evaluate(RESULTS, DATASET, max_detections=[10**30])


def test_lvis_needs_lvis() -> None:
    from dataclasses import replace

    with pytest.raises(DataError, match="made: LVIS's numbers need LVIS's own annotations"):
        maskrcnn.evaluate(RESULTS, replace(DATASET, federated=None), lvis=True)
    metrics = maskrcnn.evaluate(RESULTS, DATASET, lvis=True)
    assert "LVIS" in str(metrics)
    assert set(CLASSES) == set(metrics.per_class)


def test_keypoints_alone_and_with_boxes() -> None:
    """As the list that our own model would give; without boxes the points' extent stands for the box."""
    dataset = keypoints.random_dataset(0, keypoints.PERSON)
    given = keypoints.random_results(dataset, 0)
    expected = measure(GroundTruth(dataset), given, masks=False, keypoints=True)
    metrics = maskrcnn.evaluate(given, dataset)
    assert (metrics.keypoint, metrics.box) == (expected.keypoint, expected.box)
    alone = [{k: v for k, v in result.items() if k != "bbox"} for result in given]
    assert maskrcnn.evaluate(alone, dataset).keypoint == expected.keypoint
    with pytest.raises(DataError, match=r"result 0: keypoints .* is not 51 finite numbers"):
        read_results([given[0] | {"keypoints": [1, 2, 3]}], dataset)


@pytest.mark.parametrize("name", ["bbox", "segmentation", "keypoints"])
def test_null_is_nothing(name: str) -> None:
    """As other frameworks write what they do not have."""
    given = [{key: value for key, value in result.items() if key != name} for result in RESULTS]
    assert read_results([result | {name: None} for result in given], DATASET) == read_results(given, DATASET)
    assert maskrcnn.evaluate([result | {name: None} for result in given], DATASET).images == len(DATASET)


@pytest.mark.parametrize("points", [5, [], [1, 2]])
def test_keypoints_that_are_none(points: Any) -> None:
    with pytest.raises(DataError, match=r"result 0: keypoints .* is not 3 finite numbers"):
        read_results([{"image_id": 1, "category_id": IDS[0], "score": 1, "keypoints": points}], DATASET)
