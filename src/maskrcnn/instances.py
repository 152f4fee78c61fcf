"""`Instances`: the answer for one image, in the frame of the file. What a user holds in hand.

Its `draw` and `to_*` methods import their rooms when they are called, so that holding instances costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from maskrcnn.ops.masks import decode_rle, rle_to_polygons


@dataclass(eq=False)
class Instances:
    """Objects found in one image, original frame, scores descending, on the CPU.

    Attributes:
        boxes: (N, 4) float32.
        scores: (N,) float32.
        labels: (N,) int64.
        classes: all class names; `names` gives one per instance.
        size: (height, width) of the image.
        roi_masks: (N, M, M) float32 probabilities, roi frame, or None.
        category_ids: external id of each class.
        mask_threshold: a pixel belongs to the object from this probability on.
        paste: how a roi mask becomes pixels, see `MaskHeadConfig.paste`.
        keypoints: (N, K, 3) float32 x, y, score (see `KeypointHeadConfig.score`), or None.
        keypoint_names: K names, or () where they are not known.
        path: the image file, when there is one.
        image_id: the data set's id, when there is one.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    size: tuple[int, int]
    roi_masks: np.ndarray | None = None
    category_ids: tuple[int, ...] = ()
    mask_threshold: float = 0.5
    paste: str = "exact"
    keypoints: np.ndarray | None = None
    keypoint_names: tuple[str, ...] = ()
    path: str | None = None
    image_id: int | None = None
    _rle: list[dict] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Instances]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int | slice | np.ndarray | Sequence[int]) -> Instances:
        """A selection, again as Instances; an integer keeps the first axis."""
        if isinstance(index, (int, np.integer)):
            index = [range(len(self))[index]]
        keep = np.arange(len(self))[index]
        return replace(
            self,
            boxes=self.boxes[keep],
            scores=self.scores[keep],
            labels=self.labels[keep],
            roi_masks=None if self.roi_masks is None else self.roi_masks[keep],
            keypoints=None if self.keypoints is None else self.keypoints[keep],
            _rle=None if self._rle is None else [self._rle[i] for i in keep],
        )

    @property
    def names(self) -> list[str]:
        """Class name of each instance."""
        return [self.classes[label] for label in self.labels]

    def filter(
        self, *, score: float | None = None, classes: Sequence[str] | None = None, min_area: float | None = None
    ) -> Instances:
        """Keep instances with at least this score, of these classes, of at least this box area (square pixels)."""
        keep = np.ones(len(self), bool)
        if score is not None:
            keep &= self.scores >= score
        if classes is not None:
            unknown = sorted(set(classes) - set(self.classes))
            if unknown:
                raise ValueError(f"unknown class {unknown[0]!r}; known: {', '.join(self.classes)}")
            keep &= np.isin(self.labels, [self.classes.index(name) for name in classes])
        if min_area is not None:
            keep &= np.prod(self.boxes[:, 2:] - self.boxes[:, :2], axis=1) >= min_area
        return self[keep]

    @property
    def rle(self) -> list[dict]:
        """One COCO RLE `{"size": [h, w], "counts": bytes}` an instance, made inside its box."""
        if self._rle is None:
            from maskrcnn.ops.masks import roi_masks_to_rle

            if self.roi_masks is None:
                raise ValueError("these instances have no masks: the model was built without a mask head")
            self._rle = roi_masks_to_rle(self.roi_masks, self.boxes, self.size, self.mask_threshold, self.paste)
        return self._rle

    @property
    def masks(self) -> np.ndarray:
        """(N, H, W) bool: decoded on each access; prefer `rle` for many instances."""

        if not len(self):
            return np.zeros((0, *self.size), bool)
        return np.stack([decode_rle(rle) for rle in self.rle])

    @property
    def polygons(self) -> list[list[np.ndarray]]:
        """Outlines of each instance: rings (P, 2) float32, x and y."""

        return [rle_to_polygons(rle) for rle in self.rle]

    def draw(self, image: np.ndarray | None = None, **options: Any) -> np.ndarray:
        """The image (H, W, 3) uint8 RGB with masks, boxes and names on it; see `maskrcnn.view.draw`."""
        from maskrcnn.view.draw import draw_instances

        return draw_instances(self, image, **options)

    def to_coco(self, image_id: int | None = None) -> list[dict]:
        """COCO results: one dict an instance with the data set's own category ids."""
        from maskrcnn.predict.results import to_coco

        return to_coco(self, image_id)

    def to_supervision(self) -> Any:
        """The same as `supervision.Detections`."""
        from maskrcnn.view.draw import to_supervision

        return to_supervision(self)
