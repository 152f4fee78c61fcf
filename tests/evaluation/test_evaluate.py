from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from maskrcnn.config import DataConfig, ModelConfig
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError, WeightsError
from maskrcnn.evaluation import evaluate as room
from maskrcnn.evaluation import findings as store
from maskrcnn.evaluation.evaluate import evaluate, predict_dataset
from maskrcnn.predict.predictor import Predictor
from maskrcnn.predict.tiles import Tiling
from maskrcnn.structures import Detections, Polygons, Record
from tests.model.tiny import tiny_model


class Oracle(nn.Module):
    """Finds what the picture says: object i is the rectangle of grey value 50 * (i + 1), its label is given."""

    def __init__(self, classes: tuple[str, ...], labels: tuple[int, ...] = (0, 1)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.classes, self.category_ids = classes, tuple(range(len(classes)))
        self.labels, self.keypoints, self.object_sizes = labels, None, None
        self.config, self.data = ModelConfig(), DataConfig(min_size=64, max_size=96)

    def forward(self, images: Tensor, sizes: Tensor) -> Detections:
        count = len(images)
        boxes, valid = torch.zeros(count, 2, 4), torch.zeros(count, 2, dtype=torch.bool)
        for row in range(count):
            for index in range(2):
                where = (images[row, 0] == 50 * (index + 1)).nonzero()
                if len(where):
                    low, high = where.min(0).values, where.max(0).values + 1
                    boxes[row, index] = torch.cat([low.flip(0), high.flip(0)])
                    valid[row, index] = True
        scores = torch.tensor([0.9, 0.8]).repeat(count, 1) * valid
        labels = torch.tensor(self.labels).repeat(count, 1) * valid
        return Detections(boxes, scores, labels, valid, torch.full((count, 2, 28, 28), 0.99))


def make_dataset(folder: Path, count: int = 5, classes: tuple[str, ...] = ("dog", "cat")) -> Dataset:
    """Images of input size already (64 high), with a "cat" rectangle and, in odd ones, a "dog"."""
    folder.mkdir(exist_ok=True)
    records = []
    for index in range(count):
        width = 64 + 16 * (index % 3)
        pixels = np.zeros((64, width, 3), np.uint8)
        boxes = [[4 + index, 6, 24 + index, 30]] + [[36, 40, 60, 60]] * (index % 2)
        for number, (x0, y0, x1, y1) in enumerate(boxes):
            pixels[y0:y1, x0:x1] = 50 * (number + 1)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        rings = [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float) for x0, y0, x1, y1 in boxes]
        records.append(
            Record(
                path=folder / f"{index}.png",
                image_id=10 + index,
                height=64,
                width=width,
                boxes=np.array(boxes, np.float32),
                labels=np.array([1, 0][: len(boxes)]),  # cat, dog
                masks=tuple(Polygons((ring,)) for ring in rings),
                crowd=np.zeros(len(boxes), bool),
                areas=np.array([(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes], np.float32),
                annotation_ids=np.arange(len(boxes)),
            )
        )
    return Dataset(records, classes, (5, 9)[: len(classes)], name="pets.json")


def test_a_perfect_model_gets_one_with_classes_matched_by_name(tmp_path: Path) -> None:
    """The model has other labels and ids, and a class that the data does not know."""
    metrics = evaluate(Oracle(("cat", "dog", "owl")), make_dataset(tmp_path), device="cpu", progress=False)  # type: ignore[arg-type]
    assert metrics.mask is not None
    assert metrics.box["ap"] == pytest.approx(1)
    assert metrics.mask["ap"] == pytest.approx(1)
    assert list(metrics.per_class) == ["dog", "cat"]
    assert (metrics.images, metrics.objects) == (5, 7)
    assert metrics.speed["images_per_second"] > 0
    assert {"load", "model", "masks", "score"} < set(metrics.speed)
    json.dumps(metrics.to_dict())
    assert "images/s" in str(metrics)


def test_tiles_find_what_the_whole_image_shows(tmp_path: Path) -> None:
    """Rectangles larger than a tile, over several borders: exact in tiles, one of them broken by being made small."""
    pixels = np.zeros((150, 190, 3), np.uint8)
    boxes = np.array([[10, 10, 120, 40], [31, 61, 100, 140]])
    for number, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        pixels[y0:y1, x0:x1] = 50 * (number + 1)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    sides = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1).astype(np.float32)
    masks = tuple(
        Polygons((np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float),)) for x0, y0, x1, y1 in boxes.tolist()
    )
    one = Record(tmp_path / "large.png", 1, 150, 190, boxes.astype(np.float32), np.array([1, 0]), masks,
                 np.zeros(2, bool), sides, np.arange(2))  # fmt: skip
    broken = replace(one, path=tmp_path / "none.png", image_id=2)
    dataset = Dataset([one, broken], ("dog", "cat"), (5, 9), name="large")
    predictor = Predictor(Oracle(("cat", "dog")), "cpu")  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="none.png.*left out of the evaluation, 1 so far"):
        found = [*predict_dataset(predictor, dataset, tiling=Tiling(64, 24, full_image=False))]
    assert [record.image_id for record, _ in found] == [1]
    assert found[0][1].image_id == 1
    tiled = evaluate(predictor, Dataset([one], ("dog", "cat"), (5, 9)), progress=False, tiling=Tiling(64, 24))
    assert tiled.mask is not None
    assert tiled.mask["ap"] == tiled.box["ap"] == pytest.approx(1)


def test_wrong_names_are_wrong(tmp_path: Path) -> None:
    metrics = evaluate(Oracle(("dog", "cat")), make_dataset(tmp_path), device="cpu", progress=False)  # type: ignore[arg-type]
    assert metrics.box["ap"] == 0


def test_a_class_the_data_lacks_is_ignored(tmp_path: Path) -> None:
    """Every second detection is an owl, which the data does not know: no false positive."""
    dataset = make_dataset(tmp_path)
    metrics = evaluate(Oracle(("cat", "owl")), dataset, device="cpu", progress=False)  # type: ignore[arg-type]
    assert metrics.per_class["cat"]["mask"] == pytest.approx(1)
    assert metrics.per_class["dog"]["mask"] == 0


def test_no_class_in_common_names_both_lists(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"pets\.json: .*no class in common.*'owl', 'cow'; the data has 'dog', 'cat'; name.*--label-map \(class",
    ):
        evaluate(Oracle(("owl", "cow")), make_dataset(tmp_path), device="cpu", progress=False)  # type: ignore[arg-type]


def test_batch_size_does_not_matter(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    dataset = make_dataset(tmp_path)
    dataset = Dataset(dataset.records, ("square", "circle"), dataset.category_ids)
    predictor = Predictor(tiny_model(), "cpu")
    one, several = (evaluate(predictor, dataset, batch_size=size, progress=False) for size in (1, 3))
    for name, value in one.box.items():
        assert several.box[name] == pytest.approx(value, abs=1e-3)


def test_unreadable_images_are_left_out_with_a_warning(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"1\.png.*left out of the evaluation, 1 so far"):
        metrics = evaluate(Oracle(("cat", "dog")), dataset, device="cpu", progress=False)  # type: ignore[arg-type]
    assert (metrics.images, metrics.objects) == (4, 5)
    assert metrics.box["ap"] == pytest.approx(1)


def test_nothing_to_evaluate(tmp_path: Path) -> None:
    model, dataset = Oracle(("cat", "dog")), make_dataset(tmp_path, count=1)
    with pytest.raises(DataError, match=r"pets\.json: no images to evaluate"):
        evaluate(model, dataset[:0], device="cpu", progress=False)  # type: ignore[arg-type]
    (tmp_path / "0.png").unlink()
    with (
        pytest.warns(UserWarning, match="image file not found"),
        pytest.raises(DataError, match="none of the 1 images can be read"),
    ):
        evaluate(model, dataset, device="cpu", progress=False)  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match="no such file or folder"):
        evaluate(tmp_path / "run", dataset, progress=False)


def test_max_images_are_spread(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, count=6)
    assert [record.image_id for record in room._thinned(dataset, 3)] == [10, 12, 14]
    metrics = evaluate(Oracle(("cat", "dog")), dataset, max_images=3, device="cpu", progress=False)  # type: ignore[arg-type]
    assert metrics.images == 3


def test_truth_is_made_once_and_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, made = make_dataset(tmp_path), []
    truth = store.GroundTruth
    monkeypatch.setattr(store, "GroundTruth", lambda dataset: made.append(1) or truth(dataset))
    for _ in range(3):
        evaluate(Oracle(("cat", "dog")), dataset, device="cpu", progress=False)  # type: ignore[arg-type]
    assert len(made) == 1
    count = len(store._truths)
    del dataset
    gc.collect()
    assert len(store._truths) == count - 1


def test_predict_dataset_gives_every_record_once(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    predictor = Predictor(Oracle(("cat", "dog")), "cpu")  # type: ignore[arg-type]
    pairs = list(predict_dataset(predictor, dataset, batch_size=2))
    assert sorted(record.image_id for record, _ in pairs) == [10, 11, 12, 13, 14]
    for record, instances in pairs:
        assert instances.image_id == record.image_id
        np.testing.assert_allclose(instances.boxes, record.boxes)


def test_shares_of_several_processes_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without processes: the gathering is replaced by what the other rank handed in."""
    dataset = make_dataset(tmp_path)
    expected = evaluate(Oracle(("cat", "dog")), dataset, device="cpu", progress=False)  # type: ignore[arg-type]
    handed: list[tuple] = []

    def gathered(results, image_ids, seconds):
        handed.append((results, image_ids))
        return [r for part, _ in handed for r in part], [i for _, part in handed for i in part], seconds

    monkeypatch.setattr(room, "_gathered", gathered)
    monkeypatch.setattr(room, "_broadcast", lambda value: value)
    for rank in (0, 1):
        accelerator = SimpleNamespace(process_index=rank, num_processes=2, device=torch.device("cpu"))
        metrics = evaluate(Oracle(("cat", "dog")), dataset, accelerator=accelerator, progress=False)  # type: ignore[arg-type]
    assert [len(image_ids) for _, image_ids in handed] == [3, 2]
    assert metrics.box == expected.box
    assert metrics.mask == expected.mask


SCRIPT = """
import sys, json
from pathlib import Path
import torch
torch.set_num_threads(1)
from accelerate import Accelerator
from maskrcnn.evaluation.evaluate import evaluate
from tests.evaluation.test_evaluate import Oracle, make_dataset
accelerator = Accelerator(cpu=True)
folder = Path(sys.argv[1])
if accelerator.is_main_process:
    make_dataset(folder)
accelerator.wait_for_everyone()
dataset = make_dataset(folder / str(accelerator.process_index))
metrics = evaluate(Oracle(("cat", "dog")), dataset, accelerator=accelerator)
(folder / f"metrics{accelerator.process_index}.json").write_text(json.dumps(metrics.to_dict()))
accelerator.end_training()
"""


@pytest.mark.slow
def test_two_processes_get_the_same_metrics_as_one(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}  # the script imports this file's fakes
    command += [str(tmp_path / "script.py"), str(tmp_path)]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=200)
    assert run.returncode == 0, run.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"metrics{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert first["images"] == 5
    assert first["box"]["ap"] == pytest.approx(1)
