"""Results whose file has ids of its own, as `maskrcnn predict` writes them: names of images and classes decide."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maskrcnn.errors import DataError
from maskrcnn.evaluation.result_ids import ids_by_name
from maskrcnn.evaluation.results_file import read_results
from tests.evaluation.made import made_dataset, made_results

DATASET = made_dataset()
RESULTS = made_results(DATASET)
NAMES = dict(zip(DATASET.table.image_ids.tolist(), DATASET.table.paths, strict=True))
CLASSES = dict(zip(DATASET.category_ids, DATASET.classes, strict=True))


def renumbered(**changes: Any) -> dict[str, Any]:
    """A COCO file of the same results, images counted backwards and classes from 100."""
    images = {number: 1000 - at for at, number in enumerate(NAMES)}
    classes = {number: 100 + at for at, number in enumerate(CLASSES)}
    return {
        "images": [{"id": images[number], "file_name": f"elsewhere/{name}"} for number, name in NAMES.items()],
        "annotations": [
            one | {"image_id": images[one["image_id"]], "category_id": classes[one["category_id"]]} for one in RESULTS
        ],
        "categories": [{"id": classes[number], "name": name} for number, name in CLASSES.items()],
    } | changes


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])  # in pieces, and as a whole
def test_names_decide(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "predictions.json"
    file.write_text(json.dumps(renumbered()), encoding=encoding)
    assert read_results(file, DATASET) == read_results(RESULTS, DATASET)


def test_an_image_that_the_data_does_not_have(tmp_path: Path) -> None:
    content = renumbered()
    content["images"][RESULTS[0]["image_id"] - 1]["file_name"] = "other.jpg"
    file = tmp_path / "predictions.json"
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"result 0: is of image \d+, whose name the data does not have; evaluate on"):
        read_results(file, DATASET)


@pytest.mark.parametrize(
    "images",
    [
        [],
        [{"id": number, "file_name": name} for number, name in NAMES.items()],
        [{"id": 900 + number, "file_name": f"strange-{number}"} for number in NAMES],
        [{"id": 1}, 5, {"id": [2], "file_name": 3}, {"id": 4, "file_name": ""}],
    ],
    ids=["none", "equal", "unknown", "broken"],
)
def test_without_help_from_names_ids_stay(images: list[Any]) -> None:
    assert ids_by_name([("images", images), ("categories", 5)], DATASET) == (None, None)


def test_an_image_of_another_name_never_counts_by_its_number() -> None:
    images = [{"id": number, "file_name": name if number > 3 else "other.jpg"} for number, name in NAMES.items()]
    assert ids_by_name([("images", images)], DATASET)[0] == {number: number for number in NAMES if number > 3}


def test_folders_tell_files_of_one_name_apart() -> None:
    records = [replace(DATASET[at], path=Path(f"/data/{part}/1.jpg")) for at, part in enumerate(("train", "val"))]
    dataset = replace(DATASET, records=records)
    ids = [record.image_id for record in records]
    both = [{"id": 8, "file_name": "val/1.jpg"}, {"id": 9, "file_name": "train/1.jpg"}]
    assert ids_by_name([("images", both)], dataset)[0] == {8: ids[1], 9: ids[0]}
    assert ids_by_name([("images", [{"id": 8, "file_name": "1.jpg"}])], dataset)[0] is None
    one = replace(dataset, records=records[1:])
    assert ids_by_name([("images", both)], one)[0] == {8: ids[1]}
