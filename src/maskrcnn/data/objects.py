"""The truth of one image in the input frame: boxes, masks in their boxes, keypoints, moved by a `Placement`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from maskrcnn.config import DataConfig
from maskrcnn.data.bounds import boxes_to_input, file_to_rle, shown_pixels, shown_polygon, touches
from maskrcnn.data.placement import Placement
from maskrcnn.ops.masks import crop_masks
from maskrcnn.structures import Mask, MaskFile, Polygons, Record

MIN_VISIBLE = 0.1  # an object of which a crop leaves less than this part is dropped: nobody could name it


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """Where the mask of an object comes from, so that another part of it can be sampled later.

    Attributes:
        mask: the annotation, original frame.
        to_original: (2, 3) float64, input frame -> original frame.
        size: (height, width) of the original.
    """

    mask: Mask
    to_original: np.ndarray
    size: tuple[int, int]


@dataclass(slots=True, eq=False)
class Objects:
    """The truth of one image, input frame, not padded.

    Attributes:
        boxes: (N, 4) float32, inside the content.
        labels: (N,) int64.
        masks: (N, S, S) uint8 0..255, cropped to the boxes; crowds have zeros, because no loss reads them.
        crowd: (N,) bool.
        keypoints: (N, K, 3) float32, or None; those outside the content have visibility 0.
        shapes: N sources of the masks, or () where there are none.
    """

    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    crowd: np.ndarray
    keypoints: np.ndarray | None = None
    shapes: tuple[Shape, ...] = ()

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, rows: np.ndarray) -> Objects:
        """These objects, in this order. `rows`: (M,) int64."""
        return Objects(
            self.boxes[rows],
            self.labels[rows],
            self.masks[rows],
            self.crowd[rows],
            None if self.keypoints is None else self.keypoints[rows],
            tuple(self.shapes[row] for row in rows.tolist()) if self.shapes else (),
        )

    def largest(self, most: int) -> Objects:
        """At most so many, those with the largest boxes, in the order they are in."""
        if len(self) <= most:
            return self
        areas = (self.boxes[:, 2:] - self.boxes[:, :2]).astype(np.float64).prod(axis=1)
        return self.take(np.sort(np.argsort(-areas, kind="stable")[:most]))

    def shifted(self, top: int, left: int) -> Objects:
        """The same objects of a content that lies at (top, left) of a larger one."""
        move = np.array([left, top])
        keypoints = self.keypoints
        if keypoints is not None:
            labelled = keypoints[..., 2:] > 0
            keypoints = keypoints + np.concatenate([labelled * move, labelled * 0], axis=-1).astype(np.float32)
        shapes = []
        for shape in self.shapes:
            affine = shape.to_original.copy()
            affine[:, 2] -= affine[:, :2] @ move
            shapes.append(replace(shape, to_original=affine))
        boxes = self.boxes + np.tile(move, 2).astype(np.float32)
        return Objects(boxes, self.labels, self.masks, self.crowd, keypoints, tuple(shapes))


def joined(parts: Sequence[Objects]) -> Objects:
    """All objects of at least one part. Parts without keypoints get unlabelled ones where others have them."""
    with_points = [part.keypoints for part in parts if part.keypoints is not None]
    filled = [part for part in parts if len(part)]
    if not filled:
        return replace(parts[0], keypoints=with_points[0] if with_points else None)
    keypoints = None
    if with_points:
        blank = with_points[0].shape[1:]
        points = [np.zeros((len(p), *blank), np.float32) if p.keypoints is None else p.keypoints for p in filled]
        keypoints = np.concatenate(points)
    return Objects(
        np.concatenate([part.boxes for part in filled]),
        np.concatenate([part.labels for part in filled]),
        np.concatenate([part.masks for part in filled]),
        np.concatenate([part.crowd for part in filled]),
        keypoints,
        sum((part.shapes for part in filled), ()),
    )


def place_objects(
    record: Record, placement: Placement, data: DataConfig, flip_pairs: Sequence[tuple[int, int]] = ()
) -> Objects:
    """Boxes clipped to the content, objects that a crop leaves too little of dropped, masks cropped to the boxes.

    An object that is cut or rotated gets the box of what is shown of its mask; one without a mask, the clipped box.
    """
    boxes, visible, sources = _shown(record, placement)
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
    keep = (sides >= data.min_box_side) & (sides > 0) & (record.crowd | (visible >= MIN_VISIBLE))
    kept = np.flatnonzero(keep)
    boxes, crowd = boxes[kept].astype(np.float32), record.crowd[kept]
    cells = data.mask_size if record.masks else 0
    masks = np.zeros((len(kept), cells, cells), np.uint8)
    real = np.flatnonzero(~crowd)
    affine = placement.to_original
    if cells and len(real):
        used = [sources[i] for i in kept[real]]
        masks[real] = crop_masks(used, boxes[real], affine, cells, record.size, placement.size)
    keypoints = None
    if record.keypoints is not None:
        keypoints = _place_keypoints(record.keypoints[kept], placement, flip_pairs)
    shapes = tuple(Shape(sources[i], affine, record.size) for i in kept) if sources else ()
    return Objects(boxes, record.labels[kept].astype(np.int64), masks, crowd, keypoints, shapes)


def _shown(record: Record, placement: Placement) -> tuple[np.ndarray, np.ndarray, list[Mask]]:
    """Boxes (N, 4) float64 inside the content, the part (N,) of each object that it shows, masks to sample from."""
    given, masks = record.boxes.reshape(-1, 4), list(record.masks)
    whole = boxes_to_input(given, placement)
    boxes = _clip(whole, placement.size)
    visible = _area(boxes) / np.maximum(_area(whole), 1e-9)
    if not masks:
        return boxes, visible, masks
    changed = np.ones(len(given), bool) if placement.angle else visible < 1 - 1e-6
    near = touches(given, placement)
    for index in np.flatnonzero(changed).tolist():
        mask = masks[index]
        if isinstance(mask, Polygons):
            bounds, visible[index] = shown_polygon(mask, placement)
        elif near[index]:
            if isinstance(mask, MaskFile):
                mask = masks[index] = file_to_rle(mask, record.size)
            bounds, visible[index] = shown_pixels(mask, placement)
        else:  # nothing to see, nothing to decode
            bounds, visible[index] = np.zeros(4), 0.0
        boxes[index] = _clip(bounds[None], placement.size)[0]
    return boxes, visible, masks


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


def _clip(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.clip(boxes, 0, np.array([size[1], size[0]] * 2))


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
