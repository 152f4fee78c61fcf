"""From JPEG and polygons to training batches: ours against torchvision's `CocoDetection` and its v2 transforms.

Both read the same photos of a COCO folder, mirror half of them, resize them to the same size and pad a batch. Theirs
makes a full-size mask of every object, as its detection reference does; ours crops each mask to its box.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _timing import Row, compare
from torch.utils.data import DataLoader
from torchvision import datasets, tv_tensors
from torchvision.transforms import v2

from maskrcnn import open_dataset
from maskrcnn.config import DataConfig
from maskrcnn.data.loader import Loader
from maskrcnn.data.write.coco import write as write_coco
from maskrcnn.dataset import Dataset

BATCH = 2


def run(
    device: torch.device, repeat: int, data: Path, sizes: tuple[int, int], workers: tuple[int, ...] = (0, 2)
) -> list[Row]:
    """`data` is anything that `open_dataset` opens and that has masks; its first split is read once a run."""
    dataset = open_dataset(data)
    dataset = dataset.split(dataset.splits[0]) if dataset.splits else dataset
    dataset = dataset.take(np.flatnonzero(dataset.table.counts))  # theirs does not know images without objects
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = _coco(dataset, Path(folder))
        for count in workers:
            config = DataConfig(min_size=sizes[0], max_size=sizes[1], workers=count)
            ours = Loader(dataset, config, batch_size=BATCH, training=True)
            theirs = _reference(file, sizes, count)
            label = f"{len(dataset)} photos to {sizes[0]}/{sizes[1]}, {count or 'no'} workers"
            rows.append(
                compare("loader", label, lambda ours=ours: _drain(ours), lambda t=theirs: _drain_theirs(t),
                        repeat=repeat, device=device)
            )  # fmt: skip
    return rows


def _drain(loader: Loader) -> int:
    return sum(len(batch.images) for step in loader.steps(0) for batch in step)


def _drain_theirs(loader: DataLoader) -> int:
    return sum(len(images) for images, _ in loader)


def _coco(dataset: Dataset, folder: Path) -> Path:
    """The same photos and masks as one COCO file with absolute names."""
    write_coco(replace(dataset, records=dataset.table), folder)
    (file,) = folder.rglob("instances*.json")
    content: dict[str, Any] = json.loads(file.read_text())
    names = {path.name: path for path in folder.rglob("*.*")}
    for image in content["images"]:
        image["file_name"] = str(names[Path(image["file_name"]).name])
    file.write_text(json.dumps(content))
    return file


def _reference(file: Path, sizes: tuple[int, int], workers: int) -> DataLoader:
    transforms = v2.Compose([
        v2.ToImage(),
        v2.RandomShortestSize(sizes[0], max_size=sizes[1]),
        v2.RandomHorizontalFlip(0.5),
        v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
        v2.SanitizeBoundingBoxes(),
    ])  # fmt: skip
    found = datasets.CocoDetection("/", str(file), transforms=transforms)
    wrapped = datasets.wrap_dataset_for_transforms_v2(found, target_keys=("boxes", "labels", "masks", "iscrowd"))
    return DataLoader(wrapped, BATCH, shuffle=True, num_workers=workers, collate_fn=_padded,
                      persistent_workers=workers > 0)  # fmt: skip


def _padded(samples: list[tuple[Any, dict[str, Any]]]) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """As `GeneralizedRCNNTransform.batch_images`."""
    height, width = (max(-(-image.shape[axis] // 32) * 32 for image, _ in samples) for axis in (1, 2))
    batch = torch.zeros(len(samples), 3, height, width)
    for b, (image, _) in enumerate(samples):
        batch[b, :, : image.shape[1], : image.shape[2]] = image
    return batch, [target for _, target in samples]
