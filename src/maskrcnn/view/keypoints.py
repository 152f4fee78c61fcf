"""Keypoints drawn on an image: a dot each, and between those that COCO's names join a line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maskrcnn.instances import Instances

_SIDES = (
    ("ankle", "knee"),
    ("knee", "hip"),
    ("hip", "shoulder"),
    ("shoulder", "elbow"),
    ("elbow", "wrist"),
    ("eye", "ear"),
    ("ear", "shoulder"),
)
LINES = (
    *((f"{side}_{one}", f"{side}_{other}") for side in ("left", "right") for one, other in _SIDES),
    *((f"left_{part}", f"right_{part}") for part in ("hip", "shoulder", "eye")),
    *(("nose", f"{side}_eye") for side in ("left", "right")),
)
"""COCO's skeleton of a person, by the names of its keypoints."""


def draw_keypoints(
    scene: np.ndarray, instances: Instances, colors: Sequence[tuple[int, ...]], width: int
) -> np.ndarray:
    """The scene (H, W, 3) uint8 with the keypoints of all instances, the best on top, in `colors`, one an instance, of
    the scene's own channel order.

    Those whose third number is 0 are not labelled, and not drawn.
    """
    from PIL import Image, ImageDraw

    assert instances.keypoints is not None
    canvas = Image.fromarray(scene)
    draw = ImageDraw.Draw(canvas)
    known = {name: index for index, name in enumerate(instances.keypoint_names)}
    joined = [(known[one], known[other]) for one, other in LINES if one in known and other in known]
    radius = 1.5 * width
    for points, color in reversed(list(zip(instances.keypoints.tolist(), colors, strict=True))):
        for one, other in joined:
            if points[one][2] and points[other][2]:
                draw.line([tuple(points[one][:2]), tuple(points[other][:2])], fill=color, width=width)
        for x, y, seen in points:
            if seen:
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color, outline=(255, 255, 255))
    return np.array(canvas)
