"""One sample's way from the original frame to the input frame: image, boxes, masks and keypoints move together.

Crop window (original pixels) -> resize -> mirror, all of it one `Placement`, so that every mask is sampled once, from
its annotation, through one affine map. Every random number is a pure function of `key`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskrcnn.config import DataConfig
from maskrcnn.data.sample import resize_image, resized_size
from maskrcnn.ops.masks import crop_masks
from maskrcnn.structures import Polygons, Record

MIN_VISIBLE = 0.1  # an object of which a crop leaves less than this part is dropped: nobody could name it

# Each chance has its own place in the stream, so that switching one augmentation on does not change the others.
_CHANCES = (
    "crop", "crop_height", "crop_width", "crop_y", "crop_x", "scale", "cut_y", "cut_x",
    "flip_x", "flip_y", "brightness", "contrast", "saturation", "hue",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image goes. The content lies at the top left of the input frame.

    Attributes:
        window: (y0, x0, y1, x1) whole pixels of the original frame that are used.
        size: (height, width) of the content, input frame.
        flip_x, flip_y: mirrored left-right, top-bottom.
    """

    window: tuple[int, int, int, int]
    size: tuple[int, int]
    flip_x: bool = False
    flip_y: bool = False

    @property
    def to_original(self) -> np.ndarray:
        """(2, 3) float64 affine map: input frame -> original frame, continuous pixels."""
        y0, x0, y1, x1 = self.window
        scale_y, scale_x = (y1 - y0) / self.size[0], (x1 - x0) / self.size[1]
        row_x = [-scale_x, 0.0, x1] if self.flip_x else [scale_x, 0.0, x0]
        row_y = [0.0, -scale_y, y1] if self.flip_y else [0.0, scale_y, y0]
        return np.array([row_x, row_y], np.float64)

    def to_input(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 2) x, y of the original frame -> input frame, float64."""
        affine = self.to_original
        return (points.astype(np.float64) - affine[:, 2]) / affine[[0, 1], [0, 1]]


@dataclass(slots=True, eq=False)
class Objects:
    """The truth of one image, input frame, not padded.

    Attributes:
        boxes: (N, 4) float32, inside the content.
        labels: (N,) int64.
        masks: (N, S, S) uint8 0..255, cropped to the boxes; crowds have zeros, because no loss reads them.
        crowd: (N,) bool.
        keypoints: (N, K, 3) float32, or None; those outside the content have visibility 0.
    """

    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    crowd: np.ndarray
    keypoints: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.boxes)


def augment(
    image: Tensor,
    record: Record,
    data: DataConfig,
    key: int | None,
    canvas: tuple[int, int] | None = None,
    *,
    flip_pairs: Sequence[tuple[int, int]] = (),
) -> tuple[Tensor, Objects]:
    """Image (3, H, W) uint8 and record, original frame -> content (3, h, w) and objects, input frame.

    Args:
        key: source of all random numbers; None: no augmentation, as for evaluation.
        canvas: (height, width) that the content must not exceed when a key is given.
        flip_pairs: keypoints that swap when the image is mirrored.
    """
    chances = None if key is None else chances_of(key)
    placement = place(record.size, data, canvas, chances)
    return place_image(image, placement, data, chances), place_objects(record, placement, data, flip_pairs)


def chances_of(key: int) -> dict[str, float]:
    """Uniform numbers in [0, 1), one for each random decision."""
    generator = np.random.Generator(np.random.Philox(key=key))
    return dict(zip(_CHANCES, generator.random(len(_CHANCES)).tolist(), strict=True))


# ---------------------------------------------------------------- where it goes


def place(
    size: tuple[int, int],
    data: DataConfig,
    canvas: tuple[int, int] | None = None,
    chances: Mapping[str, float] | None = None,
) -> Placement:
    """Placement of an image of `size`; without `chances`, the whole image resized."""
    window = (0, 0, *size)
    if chances is None:
        return Placement(window, resized_size(*size, data))
    if chances["crop"] < data.crop:
        window = _crop(size, chances)
    content = resized_size(window[2] - window[0], window[3] - window[1], data)
    low, high = data.scale_jitter
    scale = math.exp(math.log(low) + chances["scale"] * (math.log(high) - math.log(low)))
    if canvas is not None:  # a crop may have another aspect than the image that the canvas was planned for
        scale *= min(1.0, canvas[0] / content[0], canvas[1] / content[1])
    if scale != 1.0:
        content = (max(1, int(content[0] * scale + 0.5)), max(1, int(content[1] * scale + 0.5)))
    if canvas is not None and (content[0] > canvas[0] or content[1] > canvas[1]):
        window, content = _cut(window, content, canvas, chances)
    return Placement(window, content, chances["flip_x"] < data.horizontal_flip, chances["flip_y"] < data.vertical_flip)


def _crop(size: tuple[int, int], chances: Mapping[str, float]) -> tuple[int, int, int, int]:
    """A window of 50-100 % of each side."""
    height = max(1, round(size[0] * (0.5 + 0.5 * chances["crop_height"])))
    width = max(1, round(size[1] * (0.5 + 0.5 * chances["crop_width"])))
    y0 = int(chances["crop_y"] * (size[0] - height + 1))
    x0 = int(chances["crop_x"] * (size[1] - width + 1))
    return y0, x0, y0 + height, x0 + width


def _cut(
    window: tuple[int, int, int, int],
    content: tuple[int, int],
    canvas: tuple[int, int],
    chances: Mapping[str, float],
) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
    """Shrink the window so that its content fits the canvas at the same scale, up to whole original pixels."""
    starts, ends, sides = [], [], []
    for axis, chance in ((0, chances["cut_y"]), (1, chances["cut_x"])):
        start, full = window[axis], window[axis + 2] - window[axis]
        side = min(content[axis], canvas[axis])
        length = min(full, max(1, round(full * side / content[axis])))
        start += int(chance * (full - length + 1))
        starts.append(start)
        ends.append(start + length)
        sides.append(side)
    return (starts[0], starts[1], ends[0], ends[1]), (sides[0], sides[1])


# ---------------------------------------------------------------- the image


def place_image(
    image: Tensor, placement: Placement, data: DataConfig, chances: Mapping[str, float] | None = None
) -> Tensor:
    """(3, H, W) uint8, original frame -> (3, *placement.size): uint8, or float32 0..255 for "bilinear"."""
    y0, x0, y1, x1 = placement.window
    image = image[:, y0:y1, x0:x1]
    # Colour works on uint8 and costs by the pixel: before enlarging, after shrinking.
    enlarges = (y1 - y0) * (x1 - x0) <= placement.size[0] * placement.size[1]
    colour_first = enlarges or data.interpolation == "bilinear"
    if chances is not None and colour_first:
        image = _recolour(image, data, chances)
    image = resize_image(image, placement.size, data.interpolation)
    if chances is not None and not colour_first:
        image = _recolour(image, data, chances)
    axes = [axis for axis, flip in ((-1, placement.flip_x), (-2, placement.flip_y)) if flip]
    return image.flip(axes) if axes else image


def _recolour(image: Tensor, data: DataConfig, chances: Mapping[str, float]) -> Tensor:
    from torchvision.transforms.v2 import functional as V

    def factor(name: str, spread: float) -> float:
        return max(0.0, 1.0 + (2.0 * chances[name] - 1.0) * spread)

    if data.brightness:
        image = V.adjust_brightness(image, factor("brightness", data.brightness))
    if data.contrast:
        image = _adjust_contrast(image, factor("contrast", data.contrast))
    if data.saturation:
        image = V.adjust_saturation(image, factor("saturation", data.saturation))
    if data.hue:
        image = V.adjust_hue(image, (2.0 * chances["hue"] - 1.0) * data.hue)
    return image


def _adjust_contrast(image: Tensor, factor: float) -> Tensor:
    """torchvision's, but with a mean of integers: a float sum would depend on the number of threads."""
    from torchvision.transforms.v2 import functional as V

    grey = V.rgb_to_grayscale(image)
    mean = int(grey.sum(dtype=torch.int64)) / grey.numel()
    return image.float().mul_(factor).add_((1.0 - factor) * mean).clamp_(0, 255).to(torch.uint8)


# ---------------------------------------------------------------- the objects


def place_objects(
    record: Record, placement: Placement, data: DataConfig, flip_pairs: Sequence[tuple[int, int]] = ()
) -> Objects:
    """Boxes clipped to the content, objects that a crop leaves too little of dropped, masks cropped to the boxes."""
    whole = _boxes_to_input(record.boxes.reshape(-1, 4), placement)
    boxes = _clip(whole, placement.size)
    visible = _area(boxes) / np.maximum(_area(whole), 1e-9)  # part of each object that is left
    for index in np.flatnonzero(visible < 1 - 1e-6):
        mask = record.masks[index] if record.masks else None
        if isinstance(mask, Polygons):  # tighter than the clipped box; other masks would have to be decoded
            bounds, visible[index] = _visible_bounds(mask.rings, placement.window)
            boxes[index] = _clip(_boxes_to_input(bounds[None], placement), placement.size)[0]
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
    keep = (sides >= data.min_box_side) & (sides > 0) & (record.crowd | (visible >= MIN_VISIBLE))
    kept = np.flatnonzero(keep)
    boxes, crowd = boxes[kept].astype(np.float32), record.crowd[kept]
    cells = data.mask_size if record.masks else 0
    masks = np.zeros((len(kept), cells, cells), np.uint8)
    real = np.flatnonzero(~crowd)
    if cells and len(real):
        masks[real] = crop_masks(
            [record.masks[i] for i in kept[real]],
            boxes[real],
            placement.to_original,
            cells,
            record.size,
            placement.size,
        )
    keypoints = None
    if record.keypoints is not None:
        keypoints = _place_keypoints(record.keypoints[kept], placement, flip_pairs)
    return Objects(boxes, record.labels[kept].astype(np.int64), masks, crowd, keypoints)


def _place_keypoints(keypoints: np.ndarray, placement: Placement, flip_pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """(N, K, 3) original frame -> input frame; a point that is not labelled or cropped away is (0, 0, 0)."""
    moved = np.zeros(keypoints.shape, np.float32)
    points = placement.to_input(keypoints[..., :2])
    inside = ((points >= 0) & (points <= np.array(placement.size[::-1]))).all(axis=-1)
    labelled = inside & (keypoints[..., 2] > 0)
    moved[labelled, :2] = points[labelled]
    moved[labelled, 2] = keypoints[labelled, 2]
    if placement.flip_x != placement.flip_y:  # both together are a rotation: left stays left
        order = np.arange(keypoints.shape[1])
        for left, right in flip_pairs:
            order[[left, right]] = right, left
        moved = moved[:, order]
    return moved


def _boxes_to_input(boxes: np.ndarray, placement: Placement) -> np.ndarray:
    """(N, 4) original frame -> (N, 4) float64 input frame, corners in order, not clipped."""
    corners = placement.to_input(boxes.reshape(-1, 2, 2))  # (N, corner, xy)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def _clip(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.clip(boxes, 0, np.array([size[1], size[0]] * 2))


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)


def _visible_bounds(rings: Sequence[np.ndarray], window: tuple[int, int, int, int]) -> tuple[np.ndarray, float]:
    """Box (4,) around what the window shows of the rings, original frame, and the part of the area it shows."""
    y0, x0, y1, x1 = window
    total, shown, points = 0.0, 0.0, []
    for ring in rings:
        clipped = np.asarray(ring, np.float64)
        total += _ring_area(clipped)
        for axis, limit, sign in ((0, x0, 1), (0, x1, -1), (1, y0, 1), (1, y1, -1)):
            clipped = _clip_ring(clipped, axis, limit, sign)
        shown += _ring_area(clipped)
        points.append(clipped)
    corners = np.concatenate([*points, np.zeros((0, 2))])
    if shown <= 0 or len(corners) == 0:
        return np.zeros(4), 0.0
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)]), shown / total


def _clip_ring(ring: np.ndarray, axis: int, limit: float, sign: int) -> np.ndarray:
    """Sutherland-Hodgman: the part of ring (P, 2) where `sign * (coordinate - limit) >= 0`."""
    if len(ring) == 0:
        return ring
    following = np.roll(ring, -1, axis=0)
    side, side_next = sign * (ring[:, axis] - limit), sign * (following[:, axis] - limit)
    crosses = (side >= 0) != (side_next >= 0)
    fraction = side / np.where(crosses, side - side_next, 1.0)
    crossing = ring + fraction[:, None] * (following - ring)
    both = np.stack([ring, crossing], axis=1)  # (P, 2, 2): each point, then where its edge crosses the line
    return both[np.stack([side >= 0, crosses], axis=1)]


def _ring_area(ring: np.ndarray) -> float:
    if len(ring) < 3:
        return 0.0
    x, y = (ring - ring[0]).T
    return 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))
