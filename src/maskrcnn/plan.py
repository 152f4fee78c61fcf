"""The plan: a config that fits the data, and a sentence for each choice. Takes a `Dataset`; opens the headers of
a few images, and decodes images only where they are not 8-bit grey or RGB, for the statistics of their channels.

What the user set (`fixed`) is never changed; the rest follows from it: anchors from the input size, and so on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from maskrcnn.config import Config, DataConfig
from maskrcnn.errors import DataError
from maskrcnn.options import apply
from maskrcnn.presets import keypoint_twin
from maskrcnn.presets import preset as make_preset

if TYPE_CHECKING:
    from maskrcnn.dataset import Dataset

SMALL_DATA = 2000
"""Images below which the light preset does as well as ResNet-50, in a tenth of the time."""
OBJECT_SIDE = 16.0
"""Input pixels that the median object should have: two cells of P2 each way leave a mask something to see."""

HEADERS = 32
"""Images that are looked at for their depth and channels: enough to meet what is not plain, in milliseconds."""
NO_COLOUR = {f"data.{name}": 0.0 for name in ("brightness", "contrast", "saturation", "hue", "jpeg")}
"""Augmentations that know 8-bit RGB only."""


@dataclass(frozen=True)
class Plan:
    """What will be trained and why.

    Attributes:
        config: the whole config.
        reasons: one sentence a choice, for people.
    """

    config: Config
    reasons: tuple[str, ...]


def plan(
    dataset: Dataset,
    preset: str | Config | None = None,
    *,
    fixed: Mapping[str, Any] | None = None,
    accelerator: bool = False,
    pretrained: bool = True,
    origin: str = "the weights",
) -> Plan:
    """Choose preset, input size, anchors, counts and epochs for a training set.

    Args:
        dataset: the training images.
        preset: None chooses one and fits it to the data; a name keeps that preset's sizes, anchors and epochs; a config
            keeps its sizes and anchors.
        fixed: dotted fields that the user set; they win over preset and data.
        accelerator: whether a GPU will train.
        pretrained: whether the trunk starts from weights; without, all of it has to learn.
        origin: what a config given as preset is from, for its sentence.

    Raises:
        DataError: no image, or no object to learn from.
        ConfigError: a wrong preset, field or value.
    """
    if not len(dataset):
        raise DataError("has no images; check the path and the format", path=dataset.name or None)
    if dataset.table.crowd.all():
        raise DataError("has no annotated object to learn from", path=dataset.name or None)
    fixed = dict(fixed or {})
    if isinstance(preset, Config):
        config, reasons = preset, [f"the network of {origin}, on {preset.model.backbone.name}"]
    else:
        name, reason = (preset, f"preset {preset}, as asked") if preset else _preset(dataset, accelerator)
        config, reasons = make_preset(name), [reason]
    choices = [_scratch] if not pretrained else []
    choices += [_pixels] if fixed.get("data.pixels") != "rgb8" else []
    choices += [_input_size, _anchors, _keypoints] if preset is None else []
    if isinstance(preset, str):
        reasons += _unlearned(dataset, config, preset, fixed)
    choices += [_counts] if isinstance(preset, str) else [_counts, _epochs]
    # What the user set of these comes first, because anchors and epochs depend on it.
    # All of it where the arrangement changes, because data and model must go together at any time.
    first = ("",) if "model.fpn" in fixed else ("data.", "train.steps", "train.minutes")
    config = set_fields(config, {key: value for key, value in fixed.items() if key.startswith(first)})
    for choose in choices:
        changes, reason = choose(dataset, config)
        # What the user set goes along: `image_mean` and `image_std` must always be as long as each other.
        changes = {k: fixed.get(k, value) for k, value in changes.items() if k in fixed or not _is_fixed(k, fixed)}
        if changes.keys() - fixed.keys():
            config = apply(config, changes)
            reasons.append(reason)
    return Plan(set_fields(config, fixed), tuple(reasons))


def set_fields(config: Config, fixed: Mapping[str, Any]) -> Config:
    """The config with the fields that the user set; one of the two sizes alone takes the other along, and raw pixels
    the colour augmentations, which become 0.

    Raises `ConfigError` for a wrong field or value.
    """
    data, follow = config.data, dict[str, Any]()
    small, large = fixed.get("data.min_size"), fixed.get("data.max_size")
    if isinstance(small, int) and large is None and small > data.max_size:
        follow["data.max_size"] = round(small * data.max_size / data.min_size)
    if isinstance(large, int) and small is None and large < data.min_size:
        follow["data.min_size"] = large
    if fixed.get("data.pixels") == "raw":
        follow = NO_COLOUR | follow
    return apply(config, {**follow, **fixed})


def _is_fixed(name: str, fixed: Mapping[str, Any]) -> bool:
    """Set by the user, or part of something that the user set whole (`model.mask: null`)."""
    return any(_is_part(key, name) for key in fixed)


def _is_part(whole: str, name: str) -> bool:
    return name == whole or name.startswith(f"{whole}.")


# ---------------------------------------------------------------- the choices: (dataset, config) -> changes, reason

Choice = tuple[dict[str, Any], str]


def _preset(dataset: Dataset, accelerator: bool) -> tuple[str, str]:
    images = len(dataset)
    if images < SMALL_DATA:
        return "small", f"preset small: {images} images are fewer than {SMALL_DATA}"
    if not accelerator:
        return "small", "preset small: the CPU would take days for r50-fpn"
    return "r50-fpn", f"preset r50-fpn: {images} images and an accelerator"


def _scratch(dataset: Dataset, config: Config) -> Choice:
    changes: dict[str, Any] = {
        "model.backbone.norm": "bn",
        "model.backbone.frozen_stages": 0,
    }
    if config.model.fpn is not None:
        changes["model.fpn.norm"] = "bn"
    if config.model.mask is not None:
        changes["model.mask.norm"] = "bn"
    return changes, "no stage frozen and batch norm trained, because no weights are loaded"


def _pixels(dataset: Dataset, config: Config) -> Choice:
    # Here, because they load torch, and the command line starts without.
    from maskrcnn.data.sample import headers
    from maskrcnn.data.statistics import channel_statistics

    found = headers(dataset.records, HEADERS)
    asked = config.data.pixels == "raw"
    if not asked and all(header.ordinary for header in found):
        return {}, ""
    kinds = sorted({f"{header.channels} x {header.dtype}" for header in found})
    if not asked and len(kinds) > 1:  # one scale and one number of channels for all
        return {"data.pixels": "rgb8"}, f"every image becomes 8-bit RGB, because they differ: {', '.join(kinds)}"
    seen = channel_statistics(dataset)
    numbers = [", ".join(f"{value:.4g}" for value in values[:8]) for values in (seen.mean, seen.std)]
    more = ", ..." if seen.channels > 8 else ""
    reason = (
        f"pixels as in the files ({', '.join(kinds) or f'{seen.channels} x {seen.kind}'}): mean {numbers[0]}{more} and "
        f"deviation {numbers[1]}{more} of {seen.images} images"
    )
    if seen.not_finite:
        reason += f"; {seen.not_finite} values are NaN or infinite and count as 0"
    changes = {"data.pixels": "raw", "model.image_mean": seen.mean, "model.image_std": seen.std}
    if any(getattr(config.data, name.removeprefix("data.")) for name in NO_COLOUR):
        reason += "; colours are not augmented, because that is made for 8-bit RGB"
    return NO_COLOUR | changes, reason


def _input_size(dataset: Dataset, config: Config) -> Choice:
    data = config.data
    sides = np.sort(dataset.table.sizes, axis=1).astype(float)  # (images, 2): short, long
    short = float(np.median(sides[:, 0]))
    boxes, images = _box_sides(dataset)
    relative = boxes / sides[images, 0]
    wanted = OBJECT_SIDE / max(float(np.median(relative)), 1e-6)
    size = min(data.min_size, _up(short, 32))
    if wanted > size:
        # Enlarging beyond twice the file invents pixels, beyond twice the preset costs four times the work.
        size = max(size, min(_up(wanted, 32), 2 * data.min_size, _up(2 * short, 32)))
    aspect = min(float(np.quantile(sides[:, 1] / sides[:, 0], 0.95)), data.max_size / data.min_size)
    longest = max(size, _up(size * aspect, 32))
    median = float(np.median(relative)) * size
    reason = (
        f"input: short side {size}, long side at most {longest} pixels; the files have a median short side of "
        f"{short:.0f}, and the median object becomes {median:.0f} pixels wide"
    )
    return {"data.min_size": size, "data.max_size": longest}, reason


def _anchors(dataset: Dataset, config: Config) -> Choice:
    boxes, images = _box_sides(dataset)
    sides = boxes * _scales(dataset.table.sizes, config.data)[images]
    low, high = (float(value) for value in np.quantile(sides, (0.1, 0.95)))
    # An anchor matches objects from about 0.7 to 1.4 times its side (IoU 0.5): the smallest covers the 10 % quantile.
    base = next((size for size in (32.0, 16.0) if size <= 1.5 * low), 8.0)
    step = max(2.0, (high / base) ** 0.25)
    sizes = tuple((float(round(base * step**level)),) for level in range(5))
    reason = (
        f"anchors: {', '.join(f'{size[0]:.0f}' for size in sizes)} pixels; "
        f"8 of 10 objects have a side of {low:.0f} to {high:.0f} pixels in the input"
    )
    if sizes == config.model.rpn.anchors.sizes:
        return {}, ""
    return {"model.rpn.anchors.sizes": sizes}, reason


def _keypoints(dataset: Dataset, config: Config) -> Choice:
    if dataset.keypoints is None or config.model.keypoint is not None or config.model.fpn is None:
        return {}, ""
    # Twice as wide as the pyramid, as in the paper: 512 beside 256.
    return {"model.keypoint.channels": 2 * config.model.fpn.channels}, (
        f"the data has {len(dataset.keypoints.names)} keypoints an object: a keypoint head learns them "
        "(--model.keypoint null leaves it out)"
    )


def _unlearned(dataset: Dataset, config: Config, name: str, fixed: Mapping[str, Any]) -> list[str]:
    """A sentence where a preset that was asked for finds no keypoints and the data has some."""
    if (
        dataset.keypoints is None
        or config.model.keypoint is not None
        or any(_is_part("model.keypoint", k) for k in fixed)
    ):
        return []
    twin = keypoint_twin(name)
    others = f"--preset {twin}, " if twin else ""
    return [
        f"the data has keypoints, which preset {name} does not find: they are not learned; {others}--preset auto or "
        "--model.keypoint.convolutions 8 learns them"
    ]


def _counts(dataset: Dataset, config: Config) -> Choice:
    table = dataset.table
    most = int(np.bincount(table.image_of[~table.crowd]).max())
    if config.model.box.detections_per_image is not None or most * 1.1 <= 100:
        return {}, ""
    detections = _up(most * 1.1, 10)
    rpn = config.model.rpn
    proposals = min(max(rpn.post_nms_test, _up(3 * detections, 100)), 2000)
    changes = {
        "model.box.detections_per_image": detections,
        "model.rpn.post_nms_test": proposals,
        "model.rpn.pre_nms_test": rpn.pre_nms_test and max(rpn.pre_nms_test, proposals),
    }
    return changes, f"at most {detections} detections an image from {proposals} proposals: one image has {most} objects"


def _epochs(dataset: Dataset, config: Config) -> Choice:
    images = len(dataset)
    passes = 6_000 if images < SMALL_DATA else 120_000  # images seen in all; r50-fpn: COCO's 1x has 1.4 million
    epochs = float(np.clip(round(passes / images), 12, 100))
    every = float(max(1, round(epochs / 5)))
    if config.train.steps or config.train.minutes:  # the user's; an epoch is then only a measure
        return {"train.evaluate_every": every}, f"evaluated every {every:.0f} epochs of {images} images"
    reason = f"{epochs:.0f} epochs of {images} images, evaluated every {every:.0f}"
    return {"train.epochs": epochs, "train.evaluate_every": every}, reason


def _box_sides(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """(N,) square root of the box area in original pixels, crowds left out, and (N,) the image of each."""
    table = dataset.table
    boxes = table.boxes[~table.crowd]
    sides = np.sqrt(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1, dtype=np.float64))
    return sides, table.image_of[~table.crowd]


def _scales(sizes: np.ndarray, data: DataConfig) -> np.ndarray:
    """(R,) input pixels per original pixel, from (R, 2) height, width."""
    longest = data.max_size / sizes.max(axis=1)
    if data.resize == "square":
        return longest
    wanted = data.min_size / sizes.min(axis=1)
    return np.minimum(np.maximum(wanted, 1.0) if data.resize == "grow" else wanted, longest)


def _up(value: float, multiple: int) -> int:
    return math.ceil(value / multiple - 1e-9) * multiple


# ---------------------------------------------------------------- what to train on, what to measure on


def choose_splits(dataset: Dataset, val: Dataset | None = None, seed: int = 0) -> tuple[Dataset, Dataset | None, str]:
    """(train, val, reason): the data's own splits, or a fifth of the images held out by a seeded, balanced draw.

    `val` given separately wins. A single image is trained on and not measured.
    """
    from maskrcnn.data.splits import split_dataset  # here, because it loads torch

    if val is not None:
        val = val.split("val") if "val" in val.splits else val
        train = dataset.split("train") if "train" in dataset.splits else dataset
        return train, val, f"{len(train)} images to train, {len(val)} to measure, as given"
    if {"train", "val"} <= set(dataset.splits):
        train, val = dataset.split("train"), dataset.split("val")
        return train, val, f"{len(train)} images to train and {len(val)} to measure: the data's own splits"
    pool = dataset.split("train") if "train" in dataset.splits else dataset
    if len(pool) < 2:
        return pool, None, "a single image is trained on, none is left to measure"
    parts = split_dataset(pool, 1 / 5, seed)
    reason = (
        f"{len(parts[0])} images to train and {len(parts[1])} to measure, drawn with seed {seed} so that "
        "each keeps its share of every class: the data has no validation split (--val names one)"
    )
    return parts[0], parts[1], reason
