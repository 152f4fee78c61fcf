"""Masks of one object between annotation, box-local crop and pixels. Memory follows the boxes, never the image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import hotcoco.mask as coco_mask
import numpy as np
from PIL import Image

from maskrcnn.errors import DataError
from maskrcnn.ops.rle import (
    decode_rle,
    decode_window,
    encode_mask,
    polygons_to_rle,
    rle_area,
    rle_to_polygons,
    window_to_rle,
)
from maskrcnn.structures import RLE, Mask, MaskFile, Polygons, Span

__all__ = [
    "crop_masks",
    "decode_rle",
    "encode_mask",
    "load_mask_file",
    "mask_to_rle",
    "paste_masks",
    "polygons_to_rle",
    "rle_area",
    "rle_to_polygons",
    "roi_masks_to_rle",
]

MOST_SAMPLES = 4  # per cell and axis when a crop shrinks its object: 112 cells then resolve 448 pixels


def mask_to_rle(mask: Mask, size: tuple[int, int]) -> dict:
    """Any annotation mask -> RLE of the full frame `size` (height, width)."""
    if isinstance(mask, Polygons):
        return polygons_to_rle(mask.rings, size)
    if isinstance(mask, RLE):
        return {"size": list(mask.size), "counts": mask.counts}
    return encode_mask(load_mask_file(mask))


def load_mask_file(mask: MaskFile) -> np.ndarray:
    """(H, W) bool. Raises `DataError` where the file cannot be read."""
    try:
        if mask.raw is not None:
            return _raw_mask(mask, mask.raw)
        changed = mask.path.stat().st_mtime_ns if mask.value is not None else 0
        pixels = (_decoded.__wrapped__ if mask.value is None else _decoded)(mask.path, mask.span, changed)
    except FileNotFoundError:
        raise DataError("the mask file is missing", path=mask.path) from None
    except Exception as error:  # decoders raise whatever they like: OSError, SyntaxError, struct.error, zlib.error ...
        raise DataError(f"the mask file cannot be read ({error}); write it again", path=mask.path) from error
    return pixels > 0 if mask.value is None else pixels == mask.value


@lru_cache(maxsize=1)
def _decoded(path: Path, span: Span | None, changed: int) -> np.ndarray:
    """(H, W) numbers. Kept for the next call, because all objects of an image share its label image."""
    with Image.open(path if span is None else BytesIO(span.read(path))) as image:
        pixels = np.asarray(image)
    return pixels if pixels.ndim == 2 else pixels[..., : 1 if pixels.shape[-1] == 2 else 3].max(axis=-1)  # no alpha


def _raw_mask(mask: MaskFile, size: tuple[int, int]) -> np.ndarray:
    data = b"" if mask.span is None else mask.span.read(mask.path)
    if len(data) != 4 * size[0] * size[1]:
        raise ValueError(f"{len(data)} bytes for {size[1]}x{size[0]} floats")
    return np.frombuffer(data, "<f4").reshape(size) > 0


def crop_masks(
    masks: Sequence[Mask],
    boxes: np.ndarray,
    to_original: np.ndarray,
    cells: int,
    size: tuple[int, int],
    visible: tuple[int, int] | None = None,
) -> np.ndarray:
    """Each object's mask inside its own box.

    Args:
        masks: N masks, original frame.
        boxes: (N, 4) float, input frame.
        to_original: (2, 3) float64, input x, y, 1 -> original x, y.
        cells: S, cells per side.
        size: (height, width) of the original.
        visible: (height, width) of the content in the input frame; cells whose centre lies outside are 0.

    Returns:
        (N, S, S) uint8 0..255: 255 where the cell is inside the object.
    """
    crops = np.zeros((len(masks), cells, cells), np.uint8)
    linear = np.linalg.inv(to_original[:, :2])
    boxes = np.asarray(boxes, np.float64)
    if visible is not None and not (boxes < 0).any() and not (boxes > visible[::-1] * 2).any():
        visible = None  # all cells lie inside
    for crop, mask, box in zip(crops, masks, boxes, strict=True):
        corner, side = box[:2], np.maximum(box[2:] - box[:2], 1e-6)
        if isinstance(mask, Polygons):
            scale = cells / side
            rings = [((ring - to_original[:, 2]) @ linear.T - corner) * scale for ring in mask.rings]
            crop[:] = coco_mask.decode(polygons_to_rle(rings, (cells, cells)))
            crop *= 255
        else:
            _sample_bitmap(crop, mask, corner, side, to_original, size)
        if visible is not None:
            _clear_outside(crop, corner, side, visible)
    return crops


def _sample_bitmap(
    crop: np.ndarray,
    mask: RLE | MaskFile,
    corner: np.ndarray,
    side: np.ndarray,
    to_original: np.ndarray,
    size: tuple[int, int],
) -> None:
    """Fraction of each cell that is inside, from pixels at the source's own resolution."""
    cells, (height, width) = len(crop), size
    # Enough samples that none is further than a pixel from the next, up to a bound.
    pixels_per_cell = np.abs(to_original[:, :2]) @ side / cells
    samples = int(np.clip(np.ceil(pixels_per_cell.max()), 1, MOST_SAMPLES))
    steps = (np.arange(cells * samples) + 0.5) / (cells * samples)
    x, y = corner[0] + steps * side[0], corner[1] + steps * side[1]
    if to_original[0, 1] == 0 and to_original[1, 0] == 0:  # no rotation: rows and columns are independent
        source_x = (to_original[0, 0] * x + to_original[0, 2])[None, :]
        source_y = (to_original[1, 1] * y + to_original[1, 2])[:, None]
    else:
        source_x = to_original[0, 0] * x[None, :] + to_original[0, 1] * y[:, None] + to_original[0, 2]
        source_y = to_original[1, 0] * x[None, :] + to_original[1, 1] * y[:, None] + to_original[1, 2]
    column, row = np.floor(source_x).astype(np.int64), np.floor(source_y).astype(np.int64)
    left, right = max(int(column.min()), 0), min(int(column.max()) + 1, width)
    top, bottom = max(int(row.min()), 0), min(int(row.max()) + 1, height)
    if left >= right or top >= bottom:
        return
    if isinstance(mask, RLE):
        window = decode_window({"size": mask.size, "counts": mask.counts}, top, left, bottom, right)
    else:
        window = load_mask_file(mask)[top:bottom, left:right]
    known = (column >= left) & (column < right) & (row >= top) & (row < bottom)
    inside = window[np.clip(row - top, 0, bottom - top - 1), np.clip(column - left, 0, right - left - 1)] & known
    if samples == 1:
        crop[:] = inside * np.uint8(255)
        return
    counts = inside.reshape(cells, samples, cells, samples).sum(axis=(1, 3), dtype=np.uint16)
    crop[:] = counts * 255 // (samples * samples)


def _clear_outside(crop: np.ndarray, corner: np.ndarray, side: np.ndarray, visible: tuple[int, int]) -> None:
    centres = (np.arange(len(crop)) + 0.5) / len(crop)
    x, y = corner[0] + centres * side[0], corner[1] + centres * side[1]
    crop[(y < 0) | (y > visible[0])] = 0
    crop[:, (x < 0) | (x > visible[1])] = 0


# ---------------------------------------------------------------- from the roi frame to pixels


def roi_masks_to_rle(
    probabilities: np.ndarray,
    boxes: np.ndarray,
    size: tuple[int, int],
    threshold: float = 0.5,
    paste: str = "exact",
    *,
    corner: tuple[int, int] = (0, 0),
    frame: tuple[int, int] | None = None,
) -> list[dict]:
    """Predicted masks -> RLE, one after the other, each resized only inside its box.

    Args:
        probabilities: (N, M, M) float32, roi frame.
        boxes: (N, 4) float32, original frame.
        size: (height, width) of the image.
        threshold: a pixel is inside from this probability on.
        paste: "exact", "torchvision", "tensorflow" or "matterport", see `MaskHeadConfig.paste`.
        corner: (top, left) of the image in a larger one, whose tile it is.
        frame: (height, width) of that larger image, which the RLE are of; None: of the image itself.
    """
    results = []
    for probability, box in zip(_padded(probabilities), boxes, strict=True):
        window, top, left = _paste(probability, box, size, paste)
        inside = window > np.float32(threshold) if paste == "tensorflow" else window >= threshold
        results.append(window_to_rle(inside, top + corner[0], left + corner[1], frame or size))
    return results


def paste_masks(
    probabilities: np.ndarray, boxes: np.ndarray, size: tuple[int, int], paste: str = "exact"
) -> np.ndarray:
    """Predicted masks as full-size probabilities (N, H, W) float32: for a few masks, and for comparisons."""
    full = np.zeros((len(boxes), *size), np.float32)
    for out, probability, box in zip(full, _padded(probabilities), boxes, strict=True):
        window, top, left = _paste(probability, box, size, paste)
        out[top : top + window.shape[0], left : left + window.shape[1]] = window
    return full


def _padded(probabilities: np.ndarray) -> np.ndarray:
    """(N, M, M) -> (N, M + 2, M + 2) float32 with a border of zeros."""
    count, cells, _ = probabilities.shape
    padded = np.zeros((count, cells + 2, cells + 2), np.float32)
    padded[:, 1:-1, 1:-1] = probabilities
    return padded


def _paste(padded: np.ndarray, box: np.ndarray, size: tuple[int, int], paste: str) -> tuple[np.ndarray, int, int]:
    """The pixels around one box: probabilities (h, w), column-major as RLE is, and where their top left corner lies."""
    cells = len(padded) - 2
    x0, y0, x1, y1 = np.asarray(box, np.float32)
    if paste == "tensorflow":
        row, top = _old_samples(y0, y1, size[0], cells)
        column, left = _old_samples(x0, x1, size[1], cells)
        return _bilinear(padded[1:-1, 1:-1], row, column), top, left
    if paste == "torchvision":
        # Padding by a cell moves the box out by as much; whole pixels, both ends included.
        grow = np.float32((cells + 2) / cells)
        centre_x, centre_y = (x1 + x0) * np.float32(0.5), (y1 + y0) * np.float32(0.5)
        half_x, half_y = (x1 - x0) * np.float32(0.5) * grow, (y1 - y0) * np.float32(0.5) * grow
        left, top = int(centre_x - half_x), int(centre_y - half_y)
        width = max(int(centre_x + half_x) - left + 1, 1)
        height = max(int(centre_y + half_y) - top + 1, 1)
        column = (np.arange(width) + 0.5) * (cells + 2) / width - 0.5  # index into the padded mask
        row = (np.arange(height) + 0.5) * (cells + 2) / height - 0.5
        column, row = np.clip(column, 0, cells + 1), np.clip(row, 0, cells + 1)
        keep_x = slice(max(-left, 0), max(min(size[1] - left, width), 0))
        keep_y = slice(max(-top, 0), max(min(size[0] - top, height), 0))
        return _bilinear(padded, row[keep_y], column[keep_x]), max(top, 0), max(left, 0)
    if paste == "matterport":
        return _paste_in_whole_box(padded, np.rint(np.asarray(box, np.float64)).astype(int), size)
    box_width, box_height = max(float(x1 - x0), 1e-6), max(float(y1 - y0), 1e-6)
    # Beyond half a cell outside the box the padded mask is 0 (grid_sample with zero padding).
    left, right = int(np.floor(x0 - box_width / cells)), int(np.ceil(x1 + box_width / cells))
    top, bottom = int(np.floor(y0 - box_height / cells)), int(np.ceil(y1 + box_height / cells))
    left, right, top, bottom = max(left, 0), min(right, size[1]), max(top, 0), min(bottom, size[0])
    column = (np.arange(left, max(right, left)) + 0.5 - x0) / box_width * cells + 0.5
    row = (np.arange(top, max(bottom, top)) + 0.5 - y0) / box_height * cells + 0.5
    return _bilinear(padded, np.clip(row, 0, cells + 1), np.clip(column, 0, cells + 1)), top, left


def _paste_in_whole_box(padded: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, int, int]:
    """`_paste` into a box of whole pixels and not beyond, as scikit-image's `resize` to it: 0 around the mask, but no
    pixel below the lowest cell of the mask."""
    cells = len(padded) - 2
    x0, y0, x1, y1 = box.tolist()
    left, right, top, bottom = max(x0, 0), min(x1, size[1]), max(y0, 0), min(y1, size[0])
    column = (np.arange(left, max(right, left)) + 0.5 - x0) * (cells / max(x1 - x0, 1)) + 0.5
    row = (np.arange(top, max(bottom, top)) + 0.5 - y0) * (cells / max(y1 - y0, 1)) + 0.5
    window = _bilinear(padded, row, column)
    return np.maximum(window, padded[1:-1, 1:-1].min(), out=window), top, left


def _old_samples(start: np.float32, end: np.float32, length: int, cells: int) -> tuple[np.ndarray, int]:
    """Where the pixels of one axis read a mask as TensorFlow's `reframe_box_masks_to_image_masks` has it.

    That runs CropAndResize on the mask, with the image as a box in the frame of the box: the outer pixels of the image
    lie on its border, the outer cells of the mask on that of the box. Pixels outside the box are 0. Its operations
    and their order, in float32; of a pixel on the border the last bit decides.

    Returns:
        index into the cells of each pixel in the box (P,) float32, and which pixel is the first.
    """
    one = np.float32
    start, end = start / one(length), end / one(length)  # a box that ends with the image ends at 1 exactly
    side = max(end - start, one(1e-4))
    first, last = (one(0) - start) / side, (one(1) - start) / side
    places = np.arange(length, dtype=np.float32)
    if length > 1:
        places = first * one(cells - 1) + places * ((last - first) * one(cells - 1) / one(length - 1))
    else:
        places[:] = one(0.5) * (first + last) * one(cells - 1)
    inside = np.flatnonzero((places >= 0) & (places <= cells - 1))
    return places[inside], int(inside[0]) if len(inside) else 0


def _bilinear(values: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Values (S, S) read at fractional row (h,) and column (w,) indices in [0, S - 1] -> (h, w), column-major."""
    last = len(values) - 1
    low = np.minimum(row.astype(np.int64), last - 1)
    part = (row - low).astype(np.float32)
    rows = values.T[:, low] * (1 - part) + values.T[:, low + 1] * part  # (S, h)
    low = np.minimum(column.astype(np.int64), last - 1)
    part = (column - low).astype(np.float32)[:, None]
    left, right = rows.take(low, axis=0), rows.take(low + 1, axis=0)  # (w, h) each: whole lines are copied
    left *= 1 - part
    right *= part
    left += right
    return left.T
