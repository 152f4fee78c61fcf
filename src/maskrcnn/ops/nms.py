"""Non-maximum suppression of fixed shape: boxes in, a keep mask of the same length out.

The work sits behind a custom operator, so that a graph sees one node with a static shape whatever happens inside. Three
ways lead to the same mask, bit for bit: torchvision's kernel on a CPU, Triton's on CUDA, plain PyTorch elsewhere. All
compare IoUs in float32, of the boxes where they are: torchvision's `batched_nms` moves the boxes of each group apart
when there are few, which rounds them.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import nms

CHUNK = 1024  # rows of the overlap matrix at a time: 40 MB of float32 for 10,000 boxes


BLOCK = 2048  # boxes at a time where only the first few that survive are wanted
MOST = 16384  # boxes that compete where all at once must; their overlaps are 32 MB of bits


def best_first(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Values and indices (B, min(count, N)) of the best of scores (B, N); of equal scores the first comes first."""
    if torch.compiler.is_exporting():  # there is no stable sort in ONNX, but its TopK keeps this order
        return scores.topk(min(count, scores.shape[1]), dim=1)
    values, indices = scores.sort(dim=1, descending=True, stable=True)
    return values[:, :count], indices[:, :count]


def nms_first(boxes: Tensor, scores: Tensor, valid: Tensor, iou_threshold: float, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` boxes that greedy NMS keeps, out of very many; of equal scores the first comes first.

    On a CPU, and in graphs that were exported there, exact: blocks of falling score, until there are enough. On other
    devices, where nothing may wait for values, the `MOST` best compete: the same unless more than `MOST - count` of
    them go, and then the weakest are missing.

    Args:
        boxes: (B, N, 4) float32.
        scores: (B, N), any order.
        valid: (B, N) bool; the others are neither kept nor do they suppress.
        iou_threshold: a box overlapping a better one by more than this goes.
        count: K, at most.

    Returns:
        indices (B, K) int64, best first, and which of them are real (B, K) bool; 0 where not.
    """
    if boxes.device.type == "cpu":
        found = nms_blocks(boxes, scores, valid, iou_threshold, count)
        return found.clamp(min=0), found >= 0
    return first_of_best(boxes, scores, valid, iou_threshold, count)


def first_of_best(
    boxes: Tensor, scores: Tensor, valid: Tensor, iou_threshold: float, count: int
) -> tuple[Tensor, Tensor]:
    """`nms_first` among the `MOST` best, without waiting for values."""
    ranked = torch.where(valid, scores, -torch.inf)
    best, order = ranked.topk(min(MOST, scores.shape[1]), dim=1)
    box = boxes.gather(1, order[..., None].expand(-1, -1, 4))
    keep = nms_keep(box, best, torch.zeros_like(order), best > -torch.inf, iou_threshold)
    best, index = torch.where(keep, best, -torch.inf).topk(min(count, keep.shape[1]), dim=1)
    missing = (0, count - best.shape[1])
    return F.pad(order.gather(1, index), missing), F.pad(best > -torch.inf, missing)


@torch.library.custom_op("maskrcnn::nms_blocks", mutates_args=())
def nms_blocks(boxes: Tensor, scores: Tensor, valid: Tensor, iou_threshold: float, count: int) -> Tensor:
    """`nms_first` in blocks: (B, count) int64, -1 where there are no more. Behind an operator, for graphs."""
    found = torch.full((len(boxes), count), -1, device=boxes.device)
    boxes, scores, threshold = boxes.float(), scores.float(), largest_float32(iou_threshold)
    for image in range(len(boxes)):
        candidates = valid[image].nonzero()[:, 0]
        order = candidates[scores[image, candidates].sort(descending=True, stable=True).indices]
        kept = order[:0]
        for block in order.split(BLOCK):
            over = _overlap(boxes[image, kept], boxes[image, block]) > threshold
            block = block[~over.any(dim=0)]
            kept = torch.cat([kept, block[nms(boxes[image, block], scores[image, block], iou_threshold)]])
            if len(kept) >= count:
                break
        found[image, : len(kept)] = kept[:count]
    return found


@nms_blocks.register_fake
def _(boxes: Tensor, scores: Tensor, valid: Tensor, iou_threshold: float, count: int) -> Tensor:
    return scores.new_empty((boxes.shape[0], count), dtype=torch.int64)


@torch.library.custom_op("maskrcnn::nms_keep", mutates_args=())
def nms_keep(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Greedy NMS within each group of each image; of equal scores the first comes first.

    Args:
        boxes: (B, N, 4) float32.
        scores: (B, N), any order.
        groups: (B, N) int64; boxes of different groups (levels, classes) do not suppress each other.
        valid: (B, N) bool; the others are neither kept nor do they suppress.
        iou_threshold: a box overlapping a better one of its group by more than this goes.

    Returns:
        (B, N) bool.
    """
    boxes, scores = boxes.float(), scores.float()
    if boxes.device.type == "cpu":
        return keep_by_torchvision(boxes, scores, groups, valid, iou_threshold)
    if boxes.device.type == "cuda" and _triton_problem(boxes.device.index) is None:
        from maskrcnn.ops.nms_triton import keep_by_triton

        return keep_by_triton(boxes, scores, groups, valid, largest_float32(iou_threshold))
    return keep_by_iteration(boxes, scores, groups, valid, iou_threshold)


@nms_keep.register_fake
def _(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    return torch.empty_like(valid)


def keep_by_torchvision(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """`nms_keep` through torchvision's kernel, group by group: on a CPU, where a look at the values is free."""
    keep = torch.zeros_like(valid)
    for image in range(len(boxes)):
        candidates = valid[image].nonzero()[:, 0]
        group, order = groups[image, candidates].sort(stable=True)
        candidates = candidates[order]
        counts = group.unique_consecutive(return_counts=True)[1].tolist()
        parts = (values[image, candidates].split(counts) for values in (boxes, scores))
        kept = [
            rows[nms(box, score, iou_threshold)] if len(rows) > 1 else rows
            for rows, box, score in zip(candidates.split(counts), *parts, strict=True)
        ]
        keep[image, torch.cat([candidates[:0], *kept])] = True
    return keep


def keep_by_iteration(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """`nms_keep` in plain PyTorch: an overlap matrix and the fixed point of "kept unless a better kept box overlaps".

    4 to 7 passes usually, as many as boxes for a chain of boxes. Each pass waits for the device to see whether it was
    the last, so this cannot be captured in a CUDA graph.
    """
    threshold, keep = largest_float32(iou_threshold), torch.zeros_like(valid)
    for image in range(len(boxes)):
        order = scores[image].sort(descending=True, stable=True).indices
        good, group = valid[image, order], groups[image, order]
        overlap = _overlaps(boxes[image, order], threshold) & (group[:, None] == group)
        kept, before = good, None
        while before is None or not torch.equal(kept, before):
            before = kept
            kept = good & ~(overlap & before[:, None]).any(dim=0)
        keep[image, order] = kept
    return keep


def _overlaps(boxes: Tensor, threshold: float) -> Tensor:
    """(N, 4), best first -> (N, N) bool: [i, j] where box j comes after box i and overlaps it by more.

    Operation by operation what torchvision's CPU kernel computes, so that ties at the threshold fall the same way.
    """
    index = torch.arange(len(boxes), device=boxes.device)
    rows = []
    for start in range(0, len(boxes), CHUNK):
        part = slice(start, start + CHUNK)
        rows.append((_overlap(boxes[part], boxes) > threshold) & (index > index[part, None]))
    return torch.cat(rows) if rows else torch.zeros(0, 0, dtype=torch.bool, device=boxes.device)


def _overlap(a: Tensor, b: Tensor) -> Tensor:
    """(N, 4), (M, 4) -> (N, M) IoU, in the order of operations of torchvision's kernels; NaN where both are empty."""
    x0, y0, x1, y1 = a[:, None].unbind(-1)
    width = torch.minimum(x1, b[:, 2]) - torch.maximum(x0, b[:, 0])
    height = torch.minimum(y1, b[:, 3]) - torch.maximum(y0, b[:, 1])
    common = width.clamp(min=0) * height.clamp(min=0)
    area = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    return common / ((x1 - x0) * (y1 - y0) + area - common)


def largest_float32(value: float) -> float:
    """The largest float32 that is not above `value`.

    torchvision's CPU kernel compares a float32 IoU with a float64 threshold; a float32 is above the threshold exactly
    where it is above this. (The nearest float32 would let IoUs of 3/10 pass a threshold of 0.3.)
    """
    nearest = np.float32(value)
    return float(nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(-np.inf)))


@functools.cache
def _triton_problem(device: int) -> str | None:
    """Why Triton's kernel does not run on this CUDA device, said once in a warning; None where it does."""
    if importlib.util.find_spec("triton") is None:
        problem = "Triton is not installed"
    elif torch.cuda.get_device_capability(device) < (7, 0):
        problem = f"{torch.cuda.get_device_name(device)} is older than Triton supports"
    else:
        try:
            _try_triton(torch.device("cuda", device))
            return None
        except Exception as error:  # compilers raise whatever they like; without one, Triton raises RuntimeError
            problem = f"Triton's kernel does not run here ({str(error).splitlines()[0] if str(error) else error!r})"
    warnings.warn(
        f"{problem}: non-maximum suppression runs in plain PyTorch, slower and without CUDA graphs", stacklevel=2
    )
    return problem


def _try_triton(device: torch.device) -> None:
    from maskrcnn.ops.nms_triton import keep_by_triton

    boxes = torch.ones(1, 2, 4, device=device)
    keep_by_triton(boxes, boxes[..., 0], torch.zeros_like(boxes[..., 0], dtype=torch.int64), boxes[..., 0] > 0, 0.5)
