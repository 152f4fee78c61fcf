"""How large the objects of a training set come to the network, by hand; and their way into a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maskrcnn.config import DataConfig
from maskrcnn.dataset import Dataset
from maskrcnn.errors import WeightsError
from maskrcnn.predict.predictor import Predictor
from maskrcnn.structures import ObjectSizes, Record
from maskrcnn.training.object_sizes import object_sizes
from maskrcnn.weights.folder import write_json
from maskrcnn.weights.load import load_weights
from maskrcnn.weights.native import load_model, read_json, save_model
from tests.model.tiny import tiny_model


def record(number: int, size: tuple[int, int], boxes: list[tuple[float, ...]]) -> Record:
    count = len(boxes)
    return Record(
        Path(f"{number}.png"), number, *size, np.array(boxes, np.float32).reshape(-1, 4), np.zeros(count, np.int64), (),
        np.zeros(count, bool), np.ones(count, np.float32), np.arange(count) + 100 * number,
    )  # fmt: skip


def test_longest_sides_in_pixels_of_the_input() -> None:
    records = [
        record(1, (200, 400), [(0, 0, 10, 40), (5, 5, 25, 10)]),  # by 0.5: 20, 10
        record(2, (50, 50), [(0, 0, 3, 7)]),  # by 2: 14
        record(3, (200, 400), []),
    ]
    sizes = object_sizes(Dataset(records, ("a",), (1,)), DataConfig(min_size=100, max_size=1000))
    assert sizes == ObjectSizes(0.5, 14.0, float(np.quantile([10, 14, 20], 0.95)), 20.0)


def test_crowds_are_no_objects_and_no_object_has_no_size() -> None:
    crowd = replace(record(1, (100, 100), [(0, 0, 50, 50), (0, 0, 8, 4)]), crowd=np.array([True, False]))
    data = DataConfig(min_size=100, max_size=100)
    assert object_sizes(Dataset([crowd], ("a",), (1,)), data) == ObjectSizes(1.0, 8.0, 8.0, 8.0)
    assert object_sizes(Dataset([record(1, (100, 100), [])], ("a",), (1,)), data) is None


def test_a_checkpoint_keeps_them_and_the_predictor_knows_them(tmp_path: Path) -> None:
    model = tiny_model()
    model.object_sizes = ObjectSizes(0.5, 10.0, 20.0, 30.5)
    folder = save_model(model, tmp_path / "a")
    loaded = load_weights(folder)
    assert loaded.object_sizes == model.object_sizes
    assert Predictor(loaded, "cpu").model.object_sizes == model.object_sizes  # type: ignore[union-attr]


def test_an_older_checkpoint_has_none(tmp_path: Path) -> None:
    folder = save_model(tiny_model(), tmp_path / "a")
    header = read_json(folder / "model.json")
    del header["object_sizes"]
    write_json(header, folder / "model.json")
    assert load_model(folder)[0].object_sizes is None


@pytest.mark.parametrize("wrong", [{"scale": 1}, {"scale": 0, "median": 1, "common": 1, "largest": 1}, 7])
def test_wrong_sizes_are_one_sentence(wrong: object, tmp_path: Path) -> None:
    folder = save_model(tiny_model(), tmp_path / "a")
    write_json(read_json(folder / "model.json") | {"object_sizes": wrong}, folder / "model.json")
    with pytest.raises(WeightsError, match="entry missing or wrong"):
        load_model(folder)
