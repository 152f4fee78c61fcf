"""`Instances`: the answer for one image, in the frame of the file. What a user holds in hand.

Its `draw` and `to_*` methods import their rooms when they are called, so that holding instances costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from maskrcnn.errors import DataError
from maskrcnn.ops.masks import decode_rle, rle_to_polygons
from maskrcnn.ops.rle import decode_window, rle_area
from maskrcnn.tracks import Tracks


@dataclass(frozen=True)
class Place:
    """Where an image lies in what it was taken from: a file of several images, a film, a map.

    Attributes:
        name: what its results are called, without a suffix.
        key: what a restart knows the image by; "" for an array, which has no place to come back to.
        file: the film, TIFF or address; None for a file with one image, and for arrays.
        film: `file` is a film or a camera.
        frame: number of the frame or of the page, from 0.
        seconds: since the start of the film.
        rate: frames a second.
        corner: (top, left) of a window of a larger image, in its pixels.
        to_map: (a, b, c, d, e, f) with x_map = a x + b y + c and y_map = d x + e y + f, for x and y in pixels of *this*
            image, whose top left corner is (0, 0); None: no map.
        crs: coordinate system of the map, such as "EPSG:32633".
    """

    name: str = ""
    key: str = ""
    file: str | None = None
    film: bool = False
    frame: int | None = None
    seconds: float | None = None
    rate: float | None = None
    corner: tuple[int, int] = (0, 0)
    to_map: tuple[float, float, float, float, float, float] | None = None
    crs: str | None = None


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
        place: where the image was taken from, when it came through `Predictor.stream`.
        tracks: which objects they are, when they came through a tracker.
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
    place: Place | None = None
    tracks: Tracks | None = None
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
            tracks=None if self.tracks is None else self.tracks.select(keep),
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

    @property
    def areas(self) -> np.ndarray:
        """(N,) float64 square pixels: of the masks, or of the boxes of a model without masks."""
        if not self.has_masks:
            return np.prod((self.boxes[:, 2:] - self.boxes[:, :2]).astype(np.float64), axis=1)
        return np.array([rle_area(rle) for rle in self.rle], np.float64)

    @property
    def centroids(self) -> np.ndarray:
        """(N, 2) float64 x, y: the mean of the pixels' centres, or the middle of the box where there is no mask."""
        middles = (self.boxes[:, 2:].astype(np.float64) + self.boxes[:, :2]) / 2
        if not self.has_masks:
            return middles
        for index in range(len(self)):
            window, top, left = self.window(index)
            if window.any():
                rows, columns = np.nonzero(window)
                middles[index] = left + columns.mean() + 0.5, top + rows.mean() + 0.5
        return middles

    @property
    def has_masks(self) -> bool:
        """Whether `rle` and what follows from it can be asked for."""
        return self.roi_masks is not None or self._rle is not None

    def check_image(self, size: tuple[int, ...]) -> None:
        """Raises `DataError` where an image of `size` (height, width) cannot be the one that these were found in."""
        if tuple(size) != tuple(self.size):
            (height, width), (expected_height, expected_width) = size, self.size
            raise DataError(
                f"image is {width} x {height} pixels but the instances are of one of {expected_width} x "
                f"{expected_height}; give that image",
                path=self.path,
            )

    def window(self, index: int) -> tuple[np.ndarray, int, int]:
        """(mask (h, w) bool of one instance, top, left): all of its pixels, without the rest of the image."""
        import hotcoco.mask as coco_mask

        rle = self.rle[index]
        left, top, width, height = (int(side) for side in coco_mask.to_bbox(rle))
        return decode_window(rle, top, left, top + height, left + width), top, left

    def crops(self, image: np.ndarray | None = None, margin: int = 0) -> list[np.ndarray]:
        """The part of the image in each box: N of (h, w, 3) uint8 RGB, copies; whole pixels, inside the image.

        Args:
            image: (H, W, 3) uint8 RGB; None: read from `path`.
            margin: pixels more on each side, as far as there are any.

        Raises:
            DataError: no image, or one of another size.
        """
        from maskrcnn.view.cutouts import crop

        return crop(self, image, margin)

    def cutouts(self, image: np.ndarray | None = None) -> list[np.ndarray]:
        """Each object alone: N of (h, w, 4) uint8 RGBA, transparent where it is not. Arguments as of `crops`.

        Raises:
            DataError: as `crops`.
            ValueError: no masks.
        """
        from maskrcnn.view.cutouts import cut_out

        return cut_out(self, image)

    def splash(self, image: np.ndarray | None = None) -> np.ndarray:
        """(H, W, 3) uint8 RGB: the objects in colour, the rest grey. Raises as `cutouts`."""
        from maskrcnn.view.cutouts import splash

        return splash(self, image)

    def to_geojson(self) -> dict:
        """A FeatureCollection: map coordinates where `place` has them, else pixels; see `predict.formats.geojson`."""
        from maskrcnn.predict.formats.geojson import to_geojson

        return to_geojson(self)

    def save(self, folder: Any, save: Sequence[str] = ("overlay", "json"), image: np.ndarray | None = None) -> Any:
        """Write what was found in this one image, see `maskrcnn.predict.results.save_results`."""
        from maskrcnn.predict.results import save_results

        return save_results([self if image is None else (self, image)], folder, save)

    def draw(self, image: np.ndarray | None = None, **options: Any) -> np.ndarray:
        """The image (H, W, 3) uint8 RGB with masks, boxes and names on it; see `maskrcnn.view.draw`."""
        from maskrcnn.view.draw import draw_instances

        return draw_instances(self, image, **options)

    def to_coco(self, image_id: int | None = None) -> list[dict]:
        """COCO results: one dict an instance with the data set's own category ids."""
        from maskrcnn.predict.coco import to_coco

        return to_coco(self, image_id)

    def to_supervision(self) -> Any:
        """The same as `supervision.Detections`."""
        from maskrcnn.view.draw import to_supervision

        return to_supervision(self)
