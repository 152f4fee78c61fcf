"""What torchvision's Mask R-CNN reaches on a data set in a given time: the yardstick for our training.

python benchmarks/yardstick_torchvision.py DATA --weights TRUNK.pt --minutes 10 --min-size 384 --max-size 512 --batch 4

The model, the losses and the loop are torchvision's and its reference recipe; only the reader of the data set and the
COCO evaluation are ours, so that both sides see the same files and are measured by the same code.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.misc import FrozenBatchNorm2d

from maskrcnn import open_dataset
from maskrcnn.data.sample import load_image
from maskrcnn.dataset import Dataset
from maskrcnn.evaluation.coco import GroundTruth, Metrics, measure
from maskrcnn.ops.masks import decode_rle, encode_mask, mask_to_rle

STAGES = (3, 6, 13, 17)  # last block of MobileNetV2 at strides 4, 8, 16, 32
CHANNELS = [24, 32, 96, 320]
TORCHVISION_ANCHORS = (32, 64, 128, 256, 512)
RATE_OF_16 = 0.02  # of the reference script, for its batch of 8 GPUs x 2 images
WARMUP_STEPS = 1000  # the reference: min(1000, steps of an epoch)
WARMUP_FACTOR = 0.001
MILESTONES = (2 / 3, 8 / 9)  # the reference's epochs 16 and 22 of 24, near enough

Example = tuple[Tensor, dict[str, Tensor]]


# ---------------------------------------------------------------- model


def build_trunk(path: Path) -> nn.Sequential:
    """MobileNetV2's layers with the weights of a file that names them `features.N.conv.M.*`, without nesting.

    The two name the same tensors in the same order, so they are paired by order, and every shape must agree.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    given = [(name, value) for name, value in state.items() if name.startswith("features.")]
    layers = torchvision.models.mobilenet_v2(norm_layer=nn.BatchNorm2d).features
    wanted = layers.state_dict()
    if len(given) != len(wanted):
        sys.exit(f"{path}: {len(given)} tensors under `features.`, MobileNetV2 has {len(wanted)}")
    paired = {}
    for (name, value), (own, tensor) in zip(given, wanted.items(), strict=True):
        if value.shape != tensor.shape or name.rpartition(".")[2] != own.rpartition(".")[2]:
            sys.exit(f"{path}: {name} {tuple(value.shape)} does not fit features.{own} {tuple(tensor.shape)}")
        paired[own] = value
    trunk = torchvision.models.mobilenet_v2(norm_layer=FrozenBatchNorm2d).features
    trunk.load_state_dict(paired)  # FrozenBatchNorm2d passes over num_batches_tracked
    return trunk


def build(options: argparse.Namespace, classes: int) -> MaskRCNN:
    """torchvision's Mask R-CNN over that trunk, `classes` without the background."""
    trunk = build_trunk(options.weights)
    for layer in trunk[: STAGES[0] + 1]:  # the stem and the stage at stride 4, as the reference freezes a ResNet
        layer.requires_grad_(False)
    returned = {str(index): str(level) for level, index in enumerate(STAGES)}
    backbone = BackboneWithFPN(trunk, returned, CHANNELS, 256)  # LastLevelMaxPool is its default
    sizes = tuple((size,) for size in options.anchors)
    return MaskRCNN(
        backbone,
        num_classes=classes + 1,
        min_size=options.min_size,
        max_size=options.max_size,
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        box_detections_per_img=options.detections,
    )


# ---------------------------------------------------------------- data


class Examples(torch.utils.data.Dataset[Example]):
    """Image float 0..1 and torchvision's targets with full-size masks, flipped at random. RLEs are made once."""

    def __init__(self, dataset: Dataset) -> None:
        usable = [record for record in dataset if len(usable_objects(record))]  # the reference drops empty images too
        self.records = usable
        self.rles = [[mask_to_rle(r.masks[i], r.size) for i in usable_objects(r)] for r in usable]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Example:
        record = self.records[index]
        objects = usable_objects(record)
        image = load_image(record.path).float() / 255
        boxes = torch.from_numpy(record.boxes[objects]).float()
        masks = torch.from_numpy(np.stack([decode_rle(rle) for rle in self.rles[index]]).astype(np.uint8))
        if random.random() < 0.5:
            image, masks = image.flip(-1), masks.flip(-1)
            boxes[:, [0, 2]] = record.width - boxes[:, [2, 0]]
        labels = torch.from_numpy(record.labels[objects]).long() + 1  # 0 is their background
        return image, {"boxes": boxes, "labels": labels, "masks": masks}


def usable_objects(record: Any) -> np.ndarray:
    """Indices of real objects with a box that torchvision accepts."""
    return np.flatnonzero(~record.crowd & (record.boxes[:, 2:] > record.boxes[:, :2]).all(axis=1))


def endless(loader: DataLoader[Example]) -> Iterator[list[Example]]:
    while True:
        yield from loader


# ---------------------------------------------------------------- training and evaluation


def rate_at(step: int, warmup: int, elapsed: float, base: float) -> float:
    """`elapsed` is the part of the wall time that is over, 0..1."""
    if step < warmup:
        base *= WARMUP_FACTOR + (1 - WARMUP_FACTOR) * step / warmup
    return base * 0.1 ** sum(elapsed >= milestone for milestone in MILESTONES)


def train(model: MaskRCNN, dataset: Dataset, options: argparse.Namespace) -> dict[str, float]:
    """Train until the time is over; the clock starts at the first step. Returns steps, images, minutes."""
    device = torch.device(options.device)
    loader = DataLoader(
        Examples(dataset),
        batch_size=options.batch,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
        collate_fn=list,
        persistent_workers=options.workers > 0,
    )
    if not len(loader):
        sys.exit(f"{options.data}: fewer training images with objects than one batch of {options.batch}")
    parameters = [p for p in model.parameters() if p.requires_grad]
    base = RATE_OF_16 * options.batch / 16
    optimizer = torch.optim.SGD(parameters, lr=base, momentum=0.9, weight_decay=1e-4)
    warmup = max(min(WARMUP_STEPS, len(loader) - 1), 1)
    batches = endless(loader)
    batch = next(batches)  # starts the workers before the clock
    model.train()
    start, step = time.perf_counter(), 0
    while (elapsed := (time.perf_counter() - start) / (60 * options.minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, warmup, elapsed, base)
        losses = model([x.to(device) for x, _ in batch], [{k: v.to(device) for k, v in t.items()} for _, t in batch])
        loss = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(loss):
            sys.exit(f"loss is {float(loss)} at step {step}; lower the learning rate with a smaller --batch")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            parts = {name.removeprefix("loss_"): float(value.detach()) for name, value in losses.items()}
            shown = " ".join(f"{name} {value:.3f}" for name, value in parts.items())
            print(f"step {step} {elapsed:4.0%} loss {float(loss.detach()):.3f} ({shown})", file=sys.stderr, flush=True)
        step += 1
        batch = next(batches)
    return {"steps": step, "images": step * options.batch, "minutes": (time.perf_counter() - start) / 60}


@torch.no_grad()
def results_of(model: MaskRCNN, dataset: Dataset, device: torch.device) -> list[dict[str, Any]]:
    """COCO results of every image; masks are torchvision's pasted ones at 0.5."""
    model.eval()
    results: list[dict[str, Any]] = []
    for record in dataset:
        found = model([load_image(record.path).to(device).float() / 255])[0]
        found = {name: value.cpu() for name, value in found.items()}
        boxes = torch.cat([found["boxes"][:, :2], found["boxes"][:, 2:] - found["boxes"][:, :2]], 1).tolist()
        for box, label, score, mask in zip(boxes, found["labels"], found["scores"], found["masks"], strict=True):
            results.append(
                {
                    "image_id": record.image_id,
                    "category_id": dataset.category_ids[int(label) - 1],
                    "bbox": box,
                    "score": float(score),
                    "segmentation": encode_mask(mask[0].numpy() > 0.5),
                }
            )
    return results


def evaluate(model: MaskRCNN, dataset: Dataset, options: argparse.Namespace) -> Metrics:
    results = results_of(model, dataset, torch.device(options.device))
    return measure(GroundTruth(dataset), results, max_detections=options.detections)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a data set with the splits train and val")
    parser.add_argument("--weights", type=Path, required=True, help="MobileNetV2 weights, names features.N.conv.M.*")
    parser.add_argument("--minutes", type=float, default=10, help="wall time of training")
    parser.add_argument("--min-size", type=int, default=800, help="shorter side, pixels")
    parser.add_argument("--max-size", type=int, default=1333, help="longer side at most, pixels")
    parser.add_argument("--batch", type=int, default=4, help="images a step")
    parser.add_argument("--detections", type=int, default=100, help="detections an image")
    parser.add_argument("--anchors", type=_sizes, default=TORCHVISION_ANCHORS, help="5 sizes in pixels: 8,16,32,64,128")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--workers", type=int, default=1, help="processes that read images")
    parser.add_argument("--max-images", type=int, help="evaluate on the first so many images only")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="write the trained state dict here")
    parser.add_argument("--json", type=Path, help="write the result here as well")
    return parser.parse_args()


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) for part in text.split(","))
    if len(sizes) != 5:
        raise argparse.ArgumentTypeError("five sizes are needed, one for each level P2 to P6")
    return sizes


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    random.seed(options.seed)
    dataset = open_dataset(options.data)
    train_set, val_set = dataset.split("train"), dataset.split("val")
    model = build(options, len(dataset.classes)).to(options.device)
    trained = train(model, train_set, options)
    if options.save:
        torch.save(model.state_dict(), options.save)
    start = time.perf_counter()
    metrics = evaluate(model, val_set[: options.max_images], options)
    mask = metrics.mask or {}
    scores = {f"{kind}_{name}": value for kind, numbers in (("box", metrics.box), ("mask", mask))
              for name, value in numbers.items() if name in ("ap", "ap50", "ap75", "ap_all")}  # fmt: skip
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    result = scores | trained | {"evaluation_seconds": time.perf_counter() - start, "images_evaluated": metrics.images}
    line = json.dumps({"framework": "torchvision", **result, "settings": settings, **versions})
    print(line)
    if options.json:
        options.json.write_text(line + "\n")


if __name__ == "__main__":
    main()
