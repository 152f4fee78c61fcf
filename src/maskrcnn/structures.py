"""The nouns that rooms hand to each other. `data/` and `model/` meet here and nowhere else.

Frames: *original* is the file as a person sees it (EXIF applied), *input* the resized, padded tensor, *roi* the inside
of one box. Boxes are float32 `x0 y0 x1 y1`, continuous pixels; sizes are `(height, width)`; labels are int64 `0..C-1`,
foreground only. Batched structures are padded to a fixed count and carry a `valid` mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

# ---------------------------------------------------------------- one image as the reader found it


@dataclass(frozen=True)
class KeypointSchema:
    """Names of the keypoints and which of them swap when an image is mirrored."""

    names: tuple[str, ...]
    """Keypoint names, in the order of the annotations."""
    flip_pairs: tuple[tuple[int, int], ...] = ()
    """Index pairs (left, right)."""


@dataclass(frozen=True, slots=True)
class ObjectSizes:
    """How large the objects of a training set come to the network. Longest sides of their boxes in pixels of its
    input, without augmentation."""

    scale: float
    """Input pixels that a pixel of a training image becomes along each side; the median of the images."""
    median: float
    """Half of the objects are no larger."""
    common: float
    """95 of 100 objects are no larger."""
    largest: float
    """None is larger."""

    def __post_init__(self) -> None:
        if not all(0 < value < float("inf") for value in (self.scale, self.median, self.common, self.largest)):
            raise ValueError("sizes of objects must be positive")


@dataclass(frozen=True, slots=True)
class Polygons:
    """Outline of one object: a union of rings `(P, 2)` float64, x and y in the original frame."""

    rings: tuple[np.ndarray, ...]


@dataclass(frozen=True, slots=True)
class RLE:
    """COCO run-length encoding: `size` is (height, width) of the image, `counts` the compressed string."""

    size: tuple[int, int]
    counts: bytes


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes inside a file: one member of a TFRecord or tar shard."""

    start: int
    length: int

    def read(self, path: Path) -> bytes:
        """The bytes; fewer where the file ends early. Raises `OSError`."""
        with path.open("rb") as stream:
            stream.seek(self.start)
            return stream.read(self.length)


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A mask image of the whole frame, one object: pixels > 0, or equal to `value`, belong to the object.

    Attributes:
        path: an image file; with `span`, a file that contains one.
        value: the number of the object in a label image; None: every pixel above 0.
        span: where the mask lies in the file; None: it is the file.
        raw: (height, width) where the span holds plain little-endian float32 in row-major order, and no image.
    """

    path: Path
    value: int | None = None
    span: Span | None = None
    raw: tuple[int, int] | None = None


Mask = Polygons | RLE | MaskFile


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One image and its objects, original frame. Readers make it; nothing changes it.

    Attributes:
        path: the image file.
        image_id: the id in the data set (COCO's integer, or a number the reader assigned); unique.
        height, width: size in pixels as a person sees it (EXIF applied).
        boxes: (N, 4) float32.
        labels: (N,) int64, index into `Dataset.classes`.
        masks: N masks, or () when the data set has boxes only.
        crowd: (N,) bool; a region to ignore, not an object.
        areas: (N,) float32, mask area in square pixels as annotated (COCO's size bins use it).
        annotation_ids: (N,) int64, the ids in the file, for messages.
        keypoints: (N, K, 3) float32 x, y, visibility, or None.
        split: "train", "val", "test" or "" when the data set has no splits.
        span: where the encoded image lies in `path`; None: `path` is the image.
        make: returns the image as an array, for data that has no files; `path` is then a name for messages.
    """

    path: Path
    image_id: int
    height: int
    width: int
    boxes: np.ndarray
    labels: np.ndarray
    masks: tuple[Mask, ...]
    crowd: np.ndarray
    areas: np.ndarray
    annotation_ids: np.ndarray
    keypoints: np.ndarray | None = None
    split: str = ""
    span: Span | None = None
    make: Callable[[], Any] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width), original frame."""
        return self.height, self.width


# ---------------------------------------------------------------- batched tensors, input frame


class _Moves:
    """`to`, `pin_memory` and `map` for dataclasses whose fields are tensors, None or nested such classes."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Any:
        values = {}
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if isinstance(value, Tensor):
                value = function(value)
            elif isinstance(value, _Moves):
                value = value.map(function)
            values[f.name] = value
        return type(self)(**values)

    def to(self, *args: Any, **kwargs: Any) -> Any:
        return self.map(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self) -> Any:
        return self.map(lambda tensor: tensor.pin_memory())


@dataclass(eq=False)
class Targets(_Moves):
    """The truth of a batch, padded to G objects an image.

    Attributes:
        boxes: (B, G, 4) float32, input frame.
        labels: (B, G) int64; 0 where not valid.
        masks: (B, G, S, S) uint8 0..255, the object's mask cropped to its own box: cell (i, j) covers the box's
            fraction [i/S, (i+1)/S] x [j/S, (j+1)/S]; 255 is inside. S = 0 for a data set without masks.
        valid: (B, G) bool; real objects, crowds left out.
        crowd: (B, G) bool; regions to ignore.
        keys: (B,) int64, a hash of (seed, epoch, index): the only source of the sampling noise.
        keypoints: (B, G, K, 3) float32 x, y, visibility, or None.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor
    valid: Tensor
    crowd: Tensor
    keys: Tensor
    keypoints: Tensor | None = None


@dataclass(eq=False)
class Batch(_Moves):
    """What the loader yields.

    Attributes:
        images: (B, C, H, W) uint8 (or float32 for unusual data), content at the top left or in the middle, as
            `data.pad_place` says, and `data.pad_value` around it.
        sizes: (B, 2) int64, (height, width) of the content.
        targets: the truth, or None for prediction.
        image_ids: B ids, for messages and evaluation.
        paths: B file names, for messages.
        original_sizes: B (height, width) pairs, original frame.
    """

    images: Tensor
    sizes: Tensor
    targets: Targets | None
    image_ids: tuple[int, ...] = ()
    paths: tuple[str, ...] = ()
    original_sizes: tuple[tuple[int, int], ...] = ()


@dataclass(eq=False)
class Proposals(_Moves):
    """Boxes that the RPN found, best first.

    Attributes:
        boxes: (B, P, 4) float32, input frame, clipped to the content.
        scores: (B, P) objectness probability; 0 where not valid.
        valid: (B, P) bool.
    """

    boxes: Tensor
    scores: Tensor
    valid: Tensor


@dataclass(eq=False)
class Samples(_Moves):
    """Proposals chosen for the losses, with their match carried along. Foreground comes first.

    Attributes:
        boxes: (B, N, 4) float32, input frame, detached.
        labels: (B, N) int64; 0..C-1 foreground, C background.
        matched: (B, N) int64, index of the object in `Targets`; 0 where there is none.
        foreground: (B, N) bool.
        valid: (B, N) bool.
        max_foreground: the foreground lies in the first this many columns.
    """

    boxes: Tensor
    labels: Tensor
    matched: Tensor
    foreground: Tensor
    valid: Tensor
    max_foreground: int = 0


@dataclass(eq=False)
class Detections(_Moves):
    """What the model found, padded to D an image, scores descending.

    Attributes:
        boxes: (B, D, 4) float32, input frame, inside the content.
        scores: (B, D) float32; 0 where not valid.
        labels: (B, D) int64; 0 where not valid.
        valid: (B, D) bool.
        masks: (B, D, M, M) float32 probabilities, roi frame, or None.
        keypoints: (B, D, K, 3) float32, input frame, or None.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    valid: Tensor
    masks: Tensor | None = None
    keypoints: Tensor | None = None


@dataclass(frozen=True, eq=False)
class LossPart:
    """A loss before division: `total / count` is the mean. Totals and counts add up over images, steps and ranks."""

    total: Tensor
    count: Tensor


# ---------------------------------------------------------------- helpers


def empty_targets(batch: int, objects: int, mask_size: int, keys: Tensor | None = None) -> Targets:
    """Targets without a single object: for images that are pure background, and for tests."""
    return Targets(
        boxes=torch.zeros(batch, objects, 4),
        labels=torch.zeros(batch, objects, dtype=torch.int64),
        masks=torch.zeros(batch, objects, mask_size, mask_size, dtype=torch.uint8),
        valid=torch.zeros(batch, objects, dtype=torch.bool),
        crowd=torch.zeros(batch, objects, dtype=torch.bool),
        keys=torch.zeros(batch, dtype=torch.int64) if keys is None else keys,
    )


# torch.export must know how to take the batched nouns apart.
for _noun in (Targets, Proposals, Detections, LossPart):
    torch.export.register_dataclass(_noun, serialized_type_name=f"maskrcnn.{_noun.__name__}")
