"""Tiny TFRecord shards for tests, written by hand."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskrcnn.data.formats.crc32c import crc32c, masked_crc
from maskrcnn.data.formats.example import example_bytes

SIDES = ("xmin", "ymin", "xmax", "ymax")


def frame(data: bytes) -> bytes:
    """One record. The checksum of the data is left at 0: nobody looks at it."""
    head = struct.pack("<Q", len(data))
    return head + struct.pack("<I", masked_crc(crc32c(head))) + data + bytes(4)


def write_shard(file: Path, *examples: dict[str, Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"".join(frame(example_bytes(example)) for example in examples))
    return file


def encoded(array: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    stream = BytesIO()
    Image.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def masks(height: int, width: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    """(N, height, width) bool, a filled rectangle each."""
    full = np.zeros((len(boxes), height, width), bool)
    for mask, (x0, y0, x1, y1) in zip(full, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return full


def example(
    *boxes: tuple[int, int, int, int], size: tuple[int, int] = (10, 20), kind: str = "png", **more: Any
) -> dict[str, Any]:
    """An image with rectangles of class "cup" = 1, masks as "png", "numerical" or "none".

    `more` replaces keys, "class_text" for "image/object/class/text"; None removes one.
    """
    height, width = size
    image = np.full((height, width, 3), 128, np.uint8)
    sides = np.array(boxes, np.float64).reshape(-1, 4) / [width, height, width, height]
    full = masks(height, width, *boxes)
    features: dict[str, Any] = {
        "image/encoded": [encoded(image)],
        "image/height": ints(height),
        "image/width": ints(width),
        "image/filename": [b"cups.png"],
        **{f"image/object/bbox/{side}": column for side, column in zip(SIDES, sides.T, strict=True)},
        "image/object/class/text": [b"cup"] * len(boxes),
        "image/object/class/label": ints(*[1] * len(boxes)),
    }
    if kind == "png":
        features["image/object/mask"] = [encoded(mask.astype(np.uint8)) for mask in full]
    elif kind == "numerical":
        features["image/object/mask"] = full.astype(np.float32).ravel()
    for key, value in more.items():
        name = f"image/object/class/{key[6:]}" if key.startswith("class_") else f"image/object/{key}"
        name = f"image/{key[6:]}" if key.startswith("image_") else name
        features.pop(name, None)
        if value is not None:
            features[name] = value
    return features
