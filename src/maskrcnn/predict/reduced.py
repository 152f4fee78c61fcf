"""Pictures of an image too large to draw on: the image and what was found in it, made smaller by whole pixels.

Drawing takes several times the memory of its picture. The image is read strip by strip where its file allows that, and
the objects follow the runs of their RLE: memory is that of the smaller picture.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.data.sample import is_ordinary, to_display
from maskrcnn.data.windows import open_windows
from maskrcnn.errors import DataError
from maskrcnn.instances import Instances
from maskrcnn.ops.rle_runs import box_runs, rle_runs, runs_to_rle, sample_runs
from maskrcnn.predict.tiles import shrink

MOST_PIXELS = 1 << 26
"""Of an image that is drawn on as it is: 67 megapixels, more than cameras give."""
REDUCED_PIXELS = 1 << 24
"""Of the picture of a larger one: 17 megapixels, as many as people look at."""


def factor_of(size: tuple[int, int], most: int = MOST_PIXELS, reduced_to: int = REDUCED_PIXELS) -> int:
    """Pixels of an image of `size` (height, width) that become one in its picture, along each side; 1: all stay."""
    if size[0] * size[1] <= most:
        return 1
    factor = math.isqrt(size[0] * size[1] // reduced_to)
    while -(-size[0] // factor) * -(-size[1] // factor) > reduced_to:
        factor += 1
    return factor


def reduced(instances: Instances, image: Any, factor: int) -> tuple[Instances, np.ndarray]:
    """What was found, and its image, both made smaller.

    Args:
        instances: original frame.
        image: as of `Instances.draw`; None: read `instances.path`.
        factor: pixels that become one, along each side.

    Returns:
        The instances in the smaller frame, an object of no pixel there as its box, and (h, w, 3) uint8 RGB.

    Raises:
        DataError: no image, one of another size, or one that cannot be read.
    """
    if image is None and instances.path is None:
        raise DataError("these instances come from no file; give the image to draw on")
    source = Path(str(instances.path)) if image is None else image
    with open_windows(source, "rgb8" if is_ordinary(source) else "raw") as windows:
        instances.check_image(windows.size)
        pixels = to_display(shrink(windows, factor))
    return _smaller(instances, (pixels.shape[0], pixels.shape[1]), factor), pixels


def _smaller(instances: Instances, size: tuple[int, int], factor: int) -> Instances:
    boxes = (instances.boxes / np.float32(factor)).astype(np.float32)
    rles = None
    if instances.has_masks:
        rles = []
        for box, rle in zip(boxes, instances.rle, strict=True):
            runs = sample_runs(rle_runs(rle), instances.size[0], size, factor)
            rles.append(runs_to_rle(runs if len(runs) else box_runs(box.tolist(), size), size))
    points = instances.keypoints
    if points is not None:
        points = points / np.array([factor, factor, 1], np.float32)
    return replace(instances, boxes=boxes, size=size, roi_masks=None, keypoints=points, _rle=rles,
                   tracks=instances.tracks and instances.tracks.enlarged(1 / factor))  # fmt: skip
