"""The sections of `gpu.py`; each takes the settings and reports rows or checks."""

from __future__ import annotations

import copy
import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import _gpu_checks as check
import torch
from _gpu_training import memory_of, race_training
from _torchvision import Pair, build_pair, objects, picture
from torch import Tensor

from maskrcnn.data.resize import pad_to
from maskrcnn.model.build import fused_copy
from maskrcnn.model.content import canvas_of
from maskrcnn.ops.compact import rows_to_keep, take
from maskrcnn.predict.cuda_graphs import CudaGraphs, make_network
from maskrcnn.predict.predictor import Predictor
from maskrcnn.predict.transfer import to_host

if TYPE_CHECKING:
    from gpu import Report, Settings

Job = Callable[[], Any]
CPU = torch.device("cpu")
CHECK_SIZES, CHECK_PHOTO = (128, 208), (120, 160)


@cache
def pair_for(sizes: tuple[int, int], photo: tuple[int, int]) -> Pair:
    """Both networks with the same weights, on the CPU; `photo` shows 100 objects."""
    return build_pair(*sizes, picture(*photo), CPU)


def on(device: torch.device, pair: Pair) -> Pair:
    """Copies on the device: the ones on the CPU stay as they are."""
    return replace(pair, ours=copy.deepcopy(pair.ours).to(device), theirs=copy.deepcopy(pair.theirs).to(device))


def inputs(pair: Pair, image: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """The photo, resized and padded for the network, `batch` times, on the host."""
    predictor = Predictor(pair.ours, device="cpu", precision="float32")
    content = predictor.prepare(image).content
    padded = predictor.fit((image.shape[-2], image.shape[-1]))[1]
    sizes = torch.tensor([list(content.shape[-2:])] * batch)
    return torch.stack([pad_to(content, padded)] * batch), sizes


def checks(settings: Settings, report: Report) -> None:
    """Small images, both networks' weights."""
    device = settings.device
    model = pair_for(CHECK_SIZES, CHECK_PHOTO).ours
    images, sizes = inputs(pair_for(CHECK_SIZES, CHECK_PHOTO), picture(*CHECK_PHOTO), 2)
    targets, _ = objects(2, 4, 128, model.data.mask_size)
    square, full = torch.stack([picture(128, 128, seed) for seed in range(2)]), torch.full((2, 2), 128)
    report.check("NMS", lambda: check.check_nms(device, settings.nms))
    report.check("same arithmetic", lambda: check.check_same_arithmetic(model, images, sizes, device))
    report.check("losses", lambda: check.check_losses(model, square, full, targets, device))
    report.check("prefetch", lambda: check.check_prefetch(device))
    if device.type != "cuda":
        report.note("CUDA graphs, synchronisations and the guard are not checked without a GPU")
        return
    report.check("guard", lambda: check.check_guard(device))
    report.check("CUDA graph float32", lambda: check.check_graphs(model, images, sizes, device, "float32"))
    report.check("CUDA graph bf16", lambda: check.check_graphs(model, images, sizes, device, "bf16"))
    report.check("no synchronisation", lambda: check.check_synchronisations(model, images, sizes, device))
    report.check("no synchronisation in training", lambda: training_waits(model, square, full, targets, device))


def training_waits(model: Any, images: Tensor, sizes: Tensor, targets: Any, device: torch.device) -> str:
    from _gpu_training import OurTraining

    from maskrcnn.structures import Batch

    training = OurTraining(copy.deepcopy(model), Batch(images, sizes, targets), device, "bf16")
    training.run(2)
    waits = check.synchronisations(lambda: training.run(3, drain=False))
    assert not waits, f"{len(waits)} synchronisations in 3 steps: {', '.join(sorted(set(waits)))}"
    return "0 in 3 steps"


def inference(settings: Settings, report: Report, *, compiled: bool = False) -> None:
    """The whole call from the photo on the host to masks on the host, and the network without reading back."""
    device, image = settings.device, picture(*settings.photo)
    pair = on(device, pair_for(settings.sizes, settings.photo))
    predictor = our_predictor(pair, settings, compiled)
    how = f"{settings.precision}{', compiled' if compiled else ''}"
    section = "compiled" if compiled else "inference"
    for batch in settings.batches:
        jobs: dict[str, Job] = {
            "ours": lambda batch=batch: [found.masks for found in predictor.batch([image] * batch, 0.0)],
            "float32": lambda batch=batch: their_masks(pair, [image] * batch, device, amp=False),
            "AMP": lambda batch=batch: their_masks(pair, [image] * batch, device, amp=True),
        }
        times = race(jobs, settings.repeat, device)
        for name in ("float32", "AMP"):
            text = f"photo to masks, batch {batch}: {how}, against {name}"
            report.row(section, text, "img/s", 1e3 * batch / times["ours"], 1e3 * batch / times[name])
        tensors = inputs(pair_for(settings.sizes, settings.photo), image, batch)
        ready = [value.to(device) for value in tensors]
        photos = [image.to(device).float() / 255] * batch
        jobs = {
            "ours": lambda ready=ready: predictor.raw(*ready),
            "float32": lambda photos=photos: their_forward(pair, photos, device, amp=False),
            "AMP": lambda photos=photos: their_forward(pair, photos, device, amp=True),
        }
        times = race(jobs, settings.repeat, device)
        for name in ("float32", "AMP"):
            text = f"on the device, masks as 28 x 28 (theirs pasted), batch {batch}: {how}, against {name}"
            report.row(section, text, "ms", times["ours"], times[name])


def our_predictor(pair: Pair, settings: Settings, compiled: bool = False) -> Predictor:
    return Predictor(pair.ours, device=settings.device, precision=settings.precision, compiled=compiled)


@torch.inference_mode()
def their_forward(pair: Pair, photos: list[Tensor], device: torch.device, *, amp: bool) -> list[dict[str, Tensor]]:
    with torch.autocast(device.type, torch.float16 if device.type == "cuda" else torch.bfloat16, enabled=amp):
        return pair.theirs(photos)


def their_masks(pair: Pair, images: list[Tensor], device: torch.device, *, amp: bool) -> list[Any]:
    photos = [image.to(device).float() / 255 for image in images]
    return [(found["masks"][:, 0] > 0.5).cpu().numpy() for found in their_forward(pair, photos, device, amp=amp)]


def training(settings: Settings, report: Report, *, compiled: bool = False) -> None:
    """Images a second and peak memory of a step, at the largest batch that fits both."""
    section = "compiled" if compiled else "training"
    height, width = settings.train_size
    for batch in settings.train_batches:
        try:
            pair = pair_for(settings.sizes, settings.photo)
            name = f"R50-FPN, {batch} x {height} x {width}, {settings.precision}{', compiled' if compiled else ''}"
            if not compiled:
                ours, theirs = (memory_of(side, pair, batch, settings) for side in ("ours", "theirs"))
                report.row(section, f"peak memory, training step, {name}", "GiB", ours, theirs)
            for from_host in (True, False):
                ours, theirs = race_training(pair, batch, settings, compiled=compiled, from_host=from_host)
                text = f"training step, {name}, {'batch from the host' if from_host else 'batch on the device'}"
                report.row(section, text, "img/s", batch / ours, batch / theirs)
            return
        except torch.OutOfMemoryError:
            problem = f"{section}: batch {batch} does not fit"
        gc.collect()
        torch.cuda.empty_cache()
        report.note(f"{problem}; trying a smaller one")
    report.note(f"{section} failed: no batch of {settings.train_batches} fits")


def compiled(settings: Settings, report: Report) -> None:
    """Training first: it has more to win."""
    if settings.device.type != "cuda":
        report.note("nothing is compiled without a GPU")
        return
    training(replace(settings, train_batches=settings.train_batches[:1]), report, compiled=True)
    inference(replace(settings, batches=settings.batches[:1]), report, compiled=True)


def parts(settings: Settings, report: Report) -> None:
    """What a whole call of batch 1 consists of, and the stages of its network."""
    device, image = settings.device, picture(*settings.photo)
    pair = on(device, pair_for(settings.sizes, settings.photo))
    predictor = our_predictor(pair, settings)
    images, sizes = inputs(pair_for(settings.sizes, settings.photo), image, 1)
    for _ in range(3):
        found = predictor.raw(images, sizes)
    instances = predictor(image, 0.0)

    def paste() -> Any:
        instances._rle = None  # what it keeps from the last access
        return instances.masks

    whole: dict[str, Job] = {
        "whole call": lambda: predictor(image, 0.0).masks,
        "resize on the host": lambda: predictor.prepare(image),
        "to the device and through the network": lambda: predictor.raw(images, sizes),
        "back to the host": lambda: to_host(found),
        "masks to pixels on the host": paste,
    }
    for name, value in race(whole, settings.repeat, device).items():
        report.row("parts", f"{name}, {settings.precision}", "ms", value)
    stages(settings, report, pair, images.to(device), sizes.to(device))


def stages(settings: Settings, report: Report, pair: Pair, images: Tensor, sizes: Tensor) -> None:
    """Each stage replayed as a graph of its own: kernels without launches."""
    device = settings.device
    model = fused_copy(pair.ours)
    half = torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16")
    with torch.inference_mode(), half:
        x = model.normalise(images, sizes)
        maps = model.backbone(x)
        features = model.fpn(maps)
        logits, deltas = model.rpn(features)
        anchors = model.anchors(features, (x.shape[-2], x.shape[-1]))
        proposals = model.rpn.decode(logits, deltas, anchors, sizes, train=False)
        canvas = canvas_of(images, sizes)
        output = model.classify(features, canvas, proposals.boxes, proposals.valid)[2]
        detections = model.box_head.decode(output, proposals, sizes)
        rows = rows_to_keep(detections.valid)
        boxes, image_index = take(detections.boxes, rows), rows // detections.valid.shape[1]
    assert model.mask_head is not None
    mask_head = model.mask_head
    jobs: dict[str, Job] = {
        "normalise": lambda: model.normalise(images, sizes),
        "trunk": lambda: model.backbone(x),
        "FPN": lambda: model.fpn(maps),
        "RPN head": lambda: model.rpn(features),
        "proposals (top-k, decode, NMS)": lambda: model.rpn.decode(logits, deltas, anchors, sizes, train=False),
        "box RoIAlign and head": lambda: model.classify(features, canvas, proposals.boxes, proposals.valid)[2],
        "postprocess (top-k, decode, NMS)": lambda: model.box_head.decode(output, proposals, sizes),
        "mask RoIAlign and head": lambda: mask_head.decode(
            model.see_masks(features, canvas, boxes, image_index), rows, detections
        ),
    }
    with torch.inference_mode(), half:
        replays = {name: replayed(job, device) for name, job in jobs.items()}
        for name, value in race(replays, settings.repeat, device).items():
            report.row("parts", f"stage: {name}", "ms", value)
        if device.type == "cuda":
            kernels(report, lambda: model(images, sizes))


def replayed(job: Job, device: torch.device) -> Job:
    """The job as a CUDA graph; on a CPU the job."""
    if device.type != "cuda":
        return job
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        job()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = job()
    return lambda: (graph.replay(), kept)


def kernels(report: Report, job: Job, most: int = 15) -> None:
    """The kernels that take longest: what a kernel of our own would have to beat."""
    from torch.profiler import ProfilerActivity, profile

    job()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
        job()
        torch.cuda.synchronize()
    averages = [a for a in found.key_averages() if a.self_device_time_total > 0 and not a.key.startswith("aten::")]
    for average in sorted(averages, key=lambda a: -a.self_device_time_total)[:most]:
        name = f"kernel: {average.key[:44]} x{average.count}"
        report.row("parts", name, "ms", average.self_device_time_total / 1e3)


def batches(settings: Settings, report: Report) -> None:
    """Images a second of the network alone, by batch and by size."""
    device = settings.device
    small = (settings.sizes[0] // 2, settings.sizes[1] // 2)
    for sizes in (settings.sizes, small):
        host = pair_for(settings.sizes, settings.photo)
        ours = copy.deepcopy(host.ours)
        ours.data = replace(ours.data, min_size=sizes[0], max_size=sizes[1])
        network = make_network(fused_copy(ours).to(device), device, settings.precision)
        for batch in settings.throughput:
            try:
                images, content = inputs(replace(host, ours=ours), picture(*settings.photo), batch)
                ready = images.to(device), content.to(device)
                ms = race({"ours": lambda ready=ready: network(*ready)}, settings.repeat, device)["ours"]  # noqa: B023
            except torch.OutOfMemoryError:
                report.note(f"batches: {batch} images of {sizes[0]} do not fit")
                break
            shape = f"{images.shape[-2]} x {images.shape[-1]}"
            report.row("batches", f"network, {batch} x {shape}, {settings.precision}", "img/s", 1e3 * batch / ms)
        if isinstance(network, CudaGraphs):
            report.note(f"{len(network)} CUDA graphs kept at {sizes[0]}")


def race(jobs: Mapping[str, Job], repeat: int, device: torch.device) -> dict[str, float]:
    """Median milliseconds of each job, run in turns, from an idle device to an idle device; three warm-up runs."""
    for job in jobs.values():
        for _ in range(3 if device.type == "cuda" else 1):
            job()
    found: dict[str, list[float]] = {name: [] for name in jobs}
    gc.collect()
    gc.disable()
    try:
        for _ in range(repeat):
            for name, job in jobs.items():
                wait(device)
                start = time.perf_counter()
                result = job()
                wait(device)
                found[name].append(1e3 * (time.perf_counter() - start))
                del result
    finally:
        gc.enable()
    return {name: statistics.median(times) for name, times in found.items()}


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
