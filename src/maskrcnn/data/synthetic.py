"""Squares, circles and triangles: a data set with exact masks that costs no download.

After Matterport's `train_shapes`, with its flaws mended: masks are of the visible part only, and colours of object and
background always differ. An image depends on (seed, split, index) and on nothing else.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from maskrcnn.errors import DataError
from maskrcnn.ops.rle import encode_mask, rle_area

CLASSES = ("square", "circle", "triangle")
MOST_SHAPES = 4
MOST_OVERLAP = 0.3  # box IoU; Matterport's NMS threshold
LEAST_VISIBLE = 0.25  # of a shape's own pixels; else it is more guess than object
LEAST_CONTRAST = 60.0  # Euclidean distance of two RGB colours
TRIES = 50


def write_shapes(
    folder: str | Path, train: int = 500, val: int = 100, size: tuple[int, int] = (128, 128), seed: int = 0
) -> Path:
    """Write `folder/{train,val}/images/*.png` and `annotations.json` (COCO, compressed RLE) beside each `images`.

    Args:
        folder: made when missing; files of the same name are overwritten.
        train, val: images in each split; a split of 0 images is not written.
        size: (height, width) of every image, at least 16 pixels a side.
        seed: another seed gives other images.

    Returns:
        `folder`, which `open_dataset` opens with the splits train and val.
    """
    if min(size) < 16:
        raise DataError(f"shapes need at least 16 pixels a side, not {size[0]} x {size[1]}; ask for a larger size")
    if train < 0 or val < 0 or train + val == 0:
        raise DataError(f"cannot write {train} train and {val} val images; ask for at least one image")
    folder = Path(folder)
    for split, count, first_id in (("train", train, 1), ("val", val, train + 1)):
        if count:
            _write_split(folder / split, split, count, first_id, size, seed)
    return folder


def draw_shapes(size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """One image.

    Returns:
        pixels (H, W, 3) uint8, labels (N,) int64, and N visible masks (H, W) bool; N is 1 to 4.
    """
    height, width = size
    background = rng.integers(0, 256, 3).astype(np.float64)
    placed = _place(size, rng)
    masks = [_fill(size, label, x, y, half) for label, x, y, half in placed]
    visible, kept = _visible(masks)
    pixels = background + _gradient(size, rng)
    for mask in (masks[i] for i in kept):  # later shapes cover earlier ones
        pixels[mask] = _contrasting(background, rng)
    pixels += rng.normal(0, 3, (height, width, 1))
    labels = np.array([placed[i][0] for i in kept], np.int64)
    return np.clip(pixels, 0, 255).astype(np.uint8), labels, visible


def _write_split(folder: Path, split: str, count: int, first_id: int, size: tuple[int, int], seed: int) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for index in range(count):
        rng = np.random.default_rng((seed, zlib.crc32(split.encode()), index))
        pixels, labels, masks = draw_shapes(size, rng)
        name, image_id = f"{index:05d}.png", first_id + index
        Image.fromarray(pixels).save(folder / "images" / name)
        images.append({"id": image_id, "file_name": name, "height": size[0], "width": size[1]})
        for number, (label, mask) in enumerate(zip(labels, masks, strict=True)):
            rle = encode_mask(mask)
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            x, y = int(columns[0]), int(rows[0])
            annotations.append(
                {
                    "id": image_id * MOST_SHAPES + number,
                    "image_id": image_id,
                    "category_id": int(label) + 1,
                    "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
                    "area": rle_area(rle),
                    "iscrowd": 0,
                    "segmentation": {"size": list(size), "counts": rle["counts"].decode()},
                }
            )
    categories = [{"id": label + 1, "name": name, "supercategory": "shape"} for label, name in enumerate(CLASSES)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(document), encoding="utf-8")


def _place(size: tuple[int, int], rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """(label, x, y, half size) of 1 to 4 shapes whose boxes overlap little. 128 pixels give half sizes of 20 to 32."""
    height, width = size
    side = min(size)
    low, high = max(round(side * 20 / 128), 2), side // 4
    placed: list[tuple[int, int, int, int]] = []
    for _ in range(int(rng.integers(1, MOST_SHAPES + 1))):
        for _ in range(TRIES):
            half = int(rng.integers(low, high + 1))
            x, y = int(rng.integers(half, width - half)), int(rng.integers(half, height - half))
            if all(_square_iou((x, y, half), other[1:]) <= MOST_OVERLAP for other in placed):
                placed.append((int(rng.integers(0, len(CLASSES))), x, y, half))
                break
    return placed


def _square_iou(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    sides = [max(min(a[i] + a[2], b[i] + b[2]) - max(a[i] - a[2], b[i] - b[2]), 0) for i in (0, 1)]
    both = sides[0] * sides[1]
    return both / (4 * a[2] ** 2 + 4 * b[2] ** 2 - both)


def _fill(size: tuple[int, int], label: int, x: int, y: int, half: int) -> np.ndarray:
    image = Image.new("1", (size[1], size[0]))
    draw = ImageDraw.Draw(image)
    box = (x - half, y - half, x + half - 1, y + half - 1)
    if CLASSES[label] == "square":
        draw.rectangle(box, fill=1)
    elif CLASSES[label] == "circle":
        draw.ellipse(box, fill=1)
    else:
        draw.polygon([(x, box[1]), (box[0], box[3]), (box[2], box[3])], fill=1)
    return np.array(image, dtype=bool)


def _visible(masks: list[np.ndarray]) -> tuple[list[np.ndarray], list[int]]:
    """Visible part of each mask, later over earlier, and which are kept. The last one is always whole."""
    visible: list[np.ndarray] = []
    kept: list[int] = []
    covered = np.zeros_like(masks[0])
    for i in reversed(range(len(masks))):
        part = masks[i] & ~covered
        if part.sum() >= LEAST_VISIBLE * masks[i].sum():
            visible.insert(0, part)
            kept.insert(0, i)
            covered |= masks[i]
    return visible, kept


def _gradient(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) float64 offsets of at most 15 grey levels."""
    down, across = np.linspace(-1, 1, size[0])[:, None, None], np.linspace(-1, 1, size[1])[None, :, None]
    return down * rng.uniform(-7.5, 7.5, 3) + across * rng.uniform(-7.5, 7.5, 3)


def _contrasting(background: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    while True:
        colour = rng.integers(0, 256, 3).astype(np.float64)
        if np.linalg.norm(colour - background) >= LEAST_CONTRAST:
            return colour
