"""Which box learns from which object, and which of them enter the loss. Fixed shapes, batched, no sync.

Objects come padded with a `valid` mask. Randomness is an input: `noise` is a hash of (key, index), see `counter_noise`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from maskrcnn.ops.boxes import area, intersection

# Objects are compared in chunks: 200,000 anchors x 32 objects are 26 MB, whatever the number of objects.
CHUNK = 32


class Match(NamedTuple):
    """The best object of each box.

    Attributes:
        matched: (B, N) int64, object index; 0 where the image has none.
        iou: (B, N) float32, overlap with it; -1 where the image has none.
        ignored: (B, N) bool, mostly inside a crowd region: neither object nor background.
        forced: (B, N) bool, the best box of some object, whatever the overlap.
    """

    matched: Tensor
    iou: Tensor
    ignored: Tensor
    forced: Tensor


def match(
    boxes: Tensor,
    objects: Tensor,
    valid: Tensor,
    crowd: Tensor,
    *,
    low_quality: bool,
    first_only: bool = False,
    crowd_overlap: float = 0.5,
) -> Match:
    """Match boxes to objects by overlap.

    Args:
        boxes: (N, 4) shared by all images, or (B, N, 4).
        objects: (B, G, 4).
        valid: (B, G) bool, real objects.
        crowd: (B, G) bool, regions to ignore.
        low_quality: also find the boxes that overlap each object most (Faster R-CNN paper, section 3.1.2, rule i).
        first_only: of several that overlap it as much the first alone, and this one is matched to the object, the first
            object that asks for it, even where it overlaps another more (TensorFlow's ArgMaxMatcher).
        crowd_overlap: a box with more than this part of its area in a crowd region is ignored.
    """
    batch, count = objects.shape[0], boxes.shape[-2]
    best = objects.new_full((batch, count), -1.0)
    index = torch.zeros(batch, count, dtype=torch.int64, device=objects.device)
    ignored = torch.zeros(batch, count, dtype=torch.bool, device=objects.device)
    forced = torch.zeros_like(ignored)
    owner = torch.zeros_like(index)  # of those forced, with `first_only`
    box_area = area(boxes)  # (N,) or (B, N)
    for start in range(0, objects.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        # Objects first, (B, G', N): each reduction over objects then runs along contiguous memory.
        common = intersection(objects[:, part], boxes)
        union = area(objects[:, part])[..., None] + box_area.unsqueeze(-2) - common
        overlap = common / union.clamp(min=1e-12)
        overlap = torch.where(valid[:, part, None], overlap, -1.0)
        value, winner = overlap.max(dim=1)  # (B, N)
        better = value > best
        index = torch.where(better, winner + start, index)
        best = torch.where(better, value, best)
        share = common / box_area.clamp(min=1e-12).unsqueeze(-2)
        ignored |= ((share > crowd_overlap) & crowd[:, part, None]).any(dim=1)
        if low_quality:
            top = overlap.amax(dim=2, keepdim=True)  # (B, G', 1)
            wanted = (overlap == top) & (top > 0)
            if first_only:
                column = torch.arange(count, device=boxes.device)
                wanted &= column == overlap.argmax(dim=2, keepdim=True)
                asking, first = wanted.to(torch.int8).max(dim=1)  # (B, N): whether an object asks, and the first
                owner = torch.where((asking > 0) & ~forced, first + start, owner)
            forced |= wanted.any(dim=1)
    return Match(torch.where(forced, owner, index) if first_only else index, best, ignored, forced)


def counter_noise(keys: Tensor, count: int) -> Tensor:
    """(B,) int64 -> (B, count) float32 in [0, 1): a hash of (key, index), the same on every device."""
    index = torch.arange(count, device=keys.device, dtype=torch.int64)
    state = (keys & 0xFFFFFFFF)[:, None] ^ ((keys >> 32) & 0xFFFFFFFF)[:, None] ^ (index * 0x9E3779B1 & 0xFFFFFFFF)
    # A 32-bit xorshift-multiply mixer in int64: factors below 2^31 keep the products below 2^63.
    state = ((state ^ (state >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    state = ((state ^ (state >> 15)) * 0x046CA68B) & 0xFFFFFFFF
    state = state ^ (state >> 16)
    return (state >> 8).to(torch.float32) / (1 << 24)


def choose(candidates: Tensor, noise: Tensor, count: int, limit: int | Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A random choice of fixed size.

    Args:
        candidates: (B, N) bool.
        noise: (B, N) in [0, 1).
        count: columns of the result, at most N.
        limit: choose at most this many, an int or (B,) int64; None: `count`.

    Returns:
        indices (B, count) int64, chosen (B, count) bool; the chosen come first.
    """
    count = min(count, candidates.shape[1])
    value, indices = torch.where(candidates, noise, -1.0).topk(count, dim=1)
    chosen = value >= 0
    if limit is not None:
        rank = torch.arange(count, device=noise.device)
        bound = limit[:, None] if isinstance(limit, Tensor) else limit
        chosen &= rank < bound
    return indices, chosen


def gather(values: Tensor, indices: Tensor) -> Tensor:
    """values (B, N, ...) at indices (B, K) -> (B, K, ...)."""
    shape = indices.shape + (1,) * (values.ndim - 2)
    return values.gather(1, indices.view(shape).expand(*indices.shape, *values.shape[2:]))
