"""NMS as two Triton kernels: which boxes overlap, as bits; then a scan that decides on 32 boxes at a time.

Nothing waits for the device and every shape follows from the input's, so this can stand in a CUDA graph. Memory: one
bit for each pair of boxes. The arithmetic is that of torchvision's CPU kernel, operation by operation: no fused
multiply-add, and a division that rounds as IEEE 754 asks.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 128  # boxes that one program compares with 32 others


def keep_by_triton(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """`nms_keep` on CUDA. Boxes and scores are float32; the threshold is one as well, see `nms.largest_float32`."""
    batch, count = valid.shape
    keep = torch.empty((batch, count), dtype=torch.bool, device=valid.device)
    if not batch * count:
        return keep
    order = scores.sort(dim=1, descending=True, stable=True).indices.contiguous()
    words = triton.cdiv(count, 32)
    bits = torch.empty((batch, count, words), dtype=torch.int32, device=valid.device)
    # Triton launches on the current device, which need not be the tensors'; -1 leaves it alone (no CUDA).
    with torch.cuda.device(valid.device.index if valid.is_cuda else -1):
        _overlap_bits[(words, triton.cdiv(count, ROWS), batch)](
            boxes.gather(1, order[..., None].expand(-1, -1, 4)).contiguous(),
            groups.gather(1, order),
            bits,
            iou_threshold,
            count,
            words,
            ROWS=ROWS,
            num_warps=4,
            enable_fp_fusion=False,
        )
        width = triton.next_power_of_2(words)
        _scan[(batch,)](
            bits,
            order,
            valid.contiguous().view(torch.uint8),
            keep.view(torch.uint8),
            count,
            words,
            WIDTH=width,
            num_warps=4 if width <= 128 else 8 if width <= 512 else 16,
        )
    return keep


@triton.jit
def _overlap_bits(boxes, groups, bits, threshold, count, words, ROWS: tl.constexpr):  # type: ignore[no-untyped-def]
    """bits (B, count, words): bit j of word w of box i says that box 32 w + j comes after i and overlaps it by more.

    Words that only name boxes before i are left unwritten; the scan does not read them.
    """
    word = tl.program_id(0)
    first = tl.program_id(1) * ROWS
    base = tl.program_id(2).to(tl.int64) * count
    if word * 32 + 32 > first:
        rows = first + tl.arange(0, ROWS)
        lanes = tl.arange(0, 32)
        columns = word * 32 + lanes
        row_inside = rows < count
        column_inside = columns < count
        a = boxes + (base + rows) * 4
        b = boxes + (base + columns) * 4
        ax0 = tl.load(a, mask=row_inside, other=0.0)
        ay0 = tl.load(a + 1, mask=row_inside, other=0.0)
        ax1 = tl.load(a + 2, mask=row_inside, other=0.0)
        ay1 = tl.load(a + 3, mask=row_inside, other=0.0)
        bx0 = tl.load(b, mask=column_inside, other=0.0)
        by0 = tl.load(b + 1, mask=column_inside, other=0.0)
        bx1 = tl.load(b + 2, mask=column_inside, other=0.0)
        by1 = tl.load(b + 3, mask=column_inside, other=0.0)
        a_group = tl.load(groups + base + rows, mask=row_inside, other=0)
        b_group = tl.load(groups + base + columns, mask=column_inside, other=0)

        width = tl.minimum(ax1[:, None], bx1[None, :]) - tl.maximum(ax0[:, None], bx0[None, :])
        height = tl.minimum(ay1[:, None], by1[None, :]) - tl.maximum(ay0[:, None], by0[None, :])
        common = tl.maximum(width, 0.0) * tl.maximum(height, 0.0)
        a_area = (ax1 - ax0) * (ay1 - ay0)
        b_area = (bx1 - bx0) * (by1 - by0)
        iou = tl.div_rn(common, a_area[:, None] + b_area[None, :] - common)
        over = (iou > threshold) & (a_group[:, None] == b_group[None, :]) & (columns[None, :] > rows[:, None])
        over = over & row_inside[:, None] & column_inside[None, :]
        # Each lane sets a bit of its own, so the sum is their union (bit 31 wraps to the sign).
        packed = tl.sum(over.to(tl.int32) << lanes[None, :], axis=1)
        tl.store(bits + (base + rows) * words + word, packed, mask=row_inside)


@triton.jit
def _or(a, b):  # type: ignore[no-untyped-def]
    return a | b


@triton.jit
def _scan(bits, order, valid, keep, count, words, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]
    """One program an image: from the best box down, keep what no kept box has removed. Writes `keep` in input order."""
    base = tl.program_id(0).to(tl.int64) * count
    columns = tl.arange(0, WIDTH)
    lanes = tl.arange(0, 32)
    removed = tl.zeros([WIDTH], dtype=tl.int32)
    for word in range(0, words):
        rows = word * 32 + lanes
        inside = rows < count
        index = tl.load(order + base + rows, mask=inside, other=0)
        good = tl.load(valid + base + index, mask=inside, other=0).to(tl.int32)
        dropped = tl.sum(tl.where(columns == word, removed, 0), axis=0)
        dropped = dropped | ~tl.sum(good << lanes, axis=0)
        # Within these 32 one after the other, on scalars.
        for lane in tl.static_range(32):
            row = word * 32 + lane
            own = tl.load(bits + (base + row) * words + word, mask=row < count, other=0)
            dropped = tl.where(((dropped >> lane) & 1) == 0, dropped | own, dropped)
        kept = ((dropped >> lanes) & 1) == 0
        # What the kept ones remove further down, all at once.
        wanted = kept[:, None] & inside[:, None] & (columns > word)[None, :] & (columns < words)[None, :]
        further = tl.load(bits + (base + rows)[:, None] * words + columns[None, :], mask=wanted, other=0)
        removed = removed | tl.reduce(further, 0, _or)
        tl.store(keep + base + index, kept.to(tl.uint8), mask=inside)
