"""Inference: the whole call and the network alone by batch and size, and where the time of a call goes."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from maskrcnn.benchmark.context import Context
from maskrcnn.benchmark.peak import count_flop, counter
from maskrcnn.benchmark.report import Row
from maskrcnn.benchmark.subject import Subject, photo, photo_size, sized
from maskrcnn.benchmark.timing import Ledger, Times, measure, peak_memory, seconds_clock, watched
from maskrcnn.data.resize import pad_to
from maskrcnn.instances import Instances
from maskrcnn.model.build import fused_copy
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.predict.cuda_graphs import make_network
from maskrcnn.predict.predictor import Predictor

PARTS = (
    "resize",
    "normalise",
    "trunk",
    "FPN",
    "RPN head",
    "proposals",
    "box RoIAlign",
    "stage two",
    "box head",
    "postprocess",
    "mask RoIAlign",
    "mask head",
    "RLE",
    "rest",
)
"""Of a call, in the order of the data."""
DENSE = ("trunk", "FPN", "RPN head", "stage two", "box head", "mask head")
"""Parts whose work is arithmetic; the others move memory."""


def run(context: Context, subject: Subject) -> list[Row]:
    """Rows of every batch and size, and of the parts of a call at each size and the first batch."""
    settings = context.settings
    batches = settings.batches or ((1,) if context.device.type == "cpu" else (1, 8))
    rows: list[Row] = []
    original = subject.model.data
    for size in settings.sizes or (None,):
        subject.model.data = sized(original, size) if size else original
        predictor = Predictor(subject.model, context.device, settings.precision)
        pictures = [photo(photo_size(size), subject.config.model, original, seed) for seed in range(max(batches))]
        plain = without_graphs(predictor, subject.model)
        for batch in batches:
            rows += _calls(context, subject.name, predictor, plain, pictures[:batch])
        rows += _parts(context, subject.name, plain, pictures[: batches[0]])
    subject.model.data = original
    whole = next(row for row in rows if row.name == "whole call")
    context.notes.append(_about_detections(subject, whole))
    return rows


def without_graphs(predictor: Predictor, model: MaskRCNN) -> Predictor:
    """One whose calls can be looked into: a replayed CUDA graph shows nothing of its inside. On a CPU the same one."""
    if predictor.device.type != "cuda":
        return predictor
    plain = copy.copy(predictor)
    network = fused_copy(model).to(predictor.device)
    plain.model = network
    plain._network = make_network(network, predictor.device, predictor.precision, graphs=False)
    return plain


def results(found: list[Instances]) -> int:
    """Make what a user takes: the RLE of every mask, where there are masks. The number of instances."""
    for instances in found:
        if instances.roi_masks is not None:
            _ = instances.rle
    return sum(map(len, found))


def network_input(predictor: Predictor, pictures: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, W) of one size, resized and padded, and the sizes (B, 2) of their contents; on the CPU."""
    prepared = [predictor.prepare(picture).content for picture in pictures]
    padded = predictor.fit((pictures[0].shape[-2], pictures[0].shape[-1]))[1]
    images = torch.stack([pad_to(content, padded, predictor.model.data.pad_place) for content in prepared])
    return images, torch.tensor([tuple(content.shape[-2:]) for content in prepared])


def _calls(context: Context, name: str, predictor: Predictor, plain: Predictor, pictures: list[Tensor]) -> list[Row]:
    """The call that a user makes, and the network alone on images that are on the device already."""
    batch, device = len(pictures), context.device
    images, sizes = (tensor.to(device) for tensor in network_input(predictor, pictures))
    size = (images.shape[2], images.shape[3])
    context.say(f"infer: {batch} images at a time, input {size[0]}x{size[1]}")

    def whole() -> int:
        return results(predictor.batch(pictures, 0.0, batch))

    def network() -> Any:
        return predictor.raw(images, sizes)

    jobs: dict[str, Callable[[], Any]] = {"whole call": whole, "network": network}
    times = measure(jobs, device, repeat=context.settings.repeat)
    flop: list[float] = []

    def counting() -> None:
        flop.append(count_flop(lambda: results(plain.batch(pictures, 0.0, batch))))

    memory = {"network": peak_memory(network, device)}
    memory["whole call"] = peak_memory(counting if plain is predictor else whole, device)  # one call does both
    if not flop:
        counting()
    found = whole()
    return [
        Row(
            part="infer",
            name=job,
            model=name,
            batch=batch,
            size=size,
            **_numbers(times[job], flop[0] / 1e9),
            images_per_second=batch / times[job].median,
            peak_memory_mib=memory[job],
            extra={"detections": found} if job == "whole call" else {},
        )
        for job in jobs
    ]


def _numbers(times: Times, gflop: float) -> dict[str, Any]:
    return {**times.columns, "gflop": gflop or None}


# ---------------------------------------------------------------- by part


def _parts(context: Context, name: str, predictor: Predictor, pictures: list[Tensor]) -> list[Row]:
    """Every part inside of real calls, so that their sum is the call; a GPU is waited for after each."""
    images, _ = network_input(predictor, pictures)
    size = (images.shape[2], images.shape[3])
    context.say(f"infer: by part, input {size[0]}x{size[1]}")
    runs: list[dict[str, float]] = []

    def once() -> None:
        runs.append(booked(predictor, pictures, seconds_clock(context.device)))

    measured = len(measure({"parts": once}, context.device, repeat=context.settings.repeat)["parts"].seconds)
    with counter() as counting:
        flop = booked(predictor, pictures, counting.get_total_flops)
    rows = []
    for part in PARTS:
        if part in runs[0]:
            times = Times(tuple(run[part] for run in runs[-measured:]))  # the earlier ones warmed up
            numbers = _numbers(times, flop.get(part, 0.0) / 1e9)
            rows.append(Row("infer", f"part: {part}", name, len(pictures), size, **numbers))
    return rows


def booked(predictor: Predictor, pictures: list[Tensor], clock: Callable[[], float]) -> dict[str, float]:
    """What `clock` counts in each part of one call."""
    ledger = Ledger(clock)
    with ledger.span("rest"), _watched_network(predictor, ledger):
        with ledger.span("resize"):
            prepared = [predictor.prepare(picture) for picture in pictures]
        found = predictor.predict_prepared(prepared, 0.0, len(pictures))
        with ledger.span("RLE"):
            results(found)
    return ledger.booked


@contextlib.contextmanager
def _watched_network(predictor: Predictor, ledger: Ledger) -> Iterator[None]:
    """Book every part of the network while calls go through it."""
    model = predictor.model
    assert isinstance(model, torch.nn.Module)
    calls: list[tuple[Any, str, str]] = [
        (model, "normalise", "normalise"),
        (model.backbone, "forward", "trunk"),
        (model.rpn, "forward", "RPN head"),
        (model.anchors, "forward", "proposals"),
        (model.rpn, "decode", "proposals"),
        (model.box_head, "forward", "box head"),
        (model.box_head, "decode", "postprocess"),
        (model, "see_boxes", "box RoIAlign"),
        (model, "see_masks", "mask RoIAlign"),
    ]
    calls += [
        (module, "forward", part) for module, part in ((model.fpn, "FPN"), (model.stage_two, "stage two")) if module
    ]
    if model.mask_head is not None:
        calls.append((model.mask_head, "decode", "mask head"))
    with watched(ledger, *calls):
        yield


# ---------------------------------------------------------------- in words


def _about_detections(subject: Subject, whole: Row) -> str:
    reason = "random weights find nothing" if subject.random else "drawn pictures hold little"
    found = whole.extra["detections"] // (whole.batch or 1)
    masks = "so that masks and RLE are timed too" if subject.config.model.mask else "as a busy photo has"
    whole_boxes = "; random masks fill their boxes" if subject.random and subject.config.model.mask else ""
    return f"score threshold 0, because {reason}: {found} detections an image, {masks}{whole_boxes}"


def where_it_goes(rows: list[Row]) -> list[str]:
    """A sentence for each size of a call by part: how near the arithmetic is to the limit, and what is none."""
    notes = []
    split = [row for row in rows if row.part == "infer" and row.name.startswith("part: ")]
    for size in dict.fromkeys(row.size for row in split):
        parts = {row.name.removeprefix("part: "): row for row in split if row.size == size}
        total = sum(row.median_ms for row in parts.values())
        dense = [parts[name] for name in DENSE if name in parts and parts[name].gflop]
        spent = sum(row.median_ms for row in dense)
        limit = sum((row.limit_share or 0) * row.median_ms for row in dense)
        others = sorted((row for row in parts.values() if row not in dense), key=lambda row: -row.median_ms)
        most = ", ".join(f"{row.name.removeprefix('part: ')} {row.median_ms:.0f} ms" for row in others[:3])
        notes.append(
            f"{_shown(size)}: of {total:.0f} ms the machine's best rate would need {limit:.0f} for the arithmetic; the "
            f"layers take {spent:.0f} ({limit / spent:.0%} of the limit, the rest of it moves activations, runs "
            f"small maps and 1x1 kernels), and {total - spent:.0f} ms are no arithmetic: {most}"
        )
    return notes


def _shown(size: tuple[int, int] | None) -> str:
    return f"{size[0]}x{size[1]}" if size else "-"
