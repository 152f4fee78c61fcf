"""`Trace`: what a model did with one image, stage by stage, as plain arrays.

Boxes are float32 `x0 y0 x1 y1` in the *input* frame, the resized and padded tensor, unless a line says otherwise. In
arrays of fixed length -1 stands for "none".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from maskrcnn.instances import Instances

if TYPE_CHECKING:
    from maskrcnn.inspection.activations import Activation
    from maskrcnn.inspection.losses import Losses

POSITIVE, IGNORED, NEGATIVE = 1, 0, -1
"""What an anchor could learn: an object, nothing, background."""


@dataclass(frozen=True, eq=False)
class Input:
    """The tensor that the network was given.

    Attributes:
        pixels: (H, W, 3) uint8, as people see it, padding black.
        content: x0, y0, x1, y1 of the image inside the padding.
        raw: (C, 4) float64 mean, std, min, max of each channel of the content, in the numbers of the file.
        normalised: (C, 4), the same after mean and deviation of the model were taken out.
    """

    pixels: np.ndarray
    content: tuple[int, int, int, int]
    raw: np.ndarray
    normalised: np.ndarray

    @property
    def frame(self) -> tuple[int, int]:
        """(height, width), padding included."""
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclass(frozen=True, eq=False)
class Truth:
    """The objects, crowds left out.

    Attributes:
        boxes: (G, 4).
        labels: (G,) int64, those of the model.
        masks: (G, S, S) uint8 0..255, each in its box, or None.
        keypoints: (G, K, 3), or None.
        rows: (G,) int64, their places in `Targets`.
        crowds: (N, 4), regions to ignore.
    """

    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None
    keypoints: np.ndarray | None
    rows: np.ndarray
    crowds: np.ndarray


@dataclass(frozen=True, eq=False)
class Anchors:
    """All anchors, level after level.

    Attributes:
        boxes: (A, 4).
        level: (A,) int64, 0 is the finest.
        shapes: (height, width) of each level's map.
        state: (A,) int8 `POSITIVE`, `IGNORED` or `NEGATIVE`, or None without truth.
        object: (A,) int64, index in `Truth` of a positive one, else -1; None without truth.
        sampled: (N,) int64, the anchors that enter the loss; None without truth.
    """

    boxes: np.ndarray
    level: np.ndarray
    shapes: tuple[tuple[int, int], ...]
    state: np.ndarray | None = None
    object: np.ndarray | None = None
    sampled: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Proposals:
    """From anchors to the proposals of the RPN.

    Attributes:
        top: (T,) int64, the anchors of the highest scores, best first.
        scores: (T,) their objectness, 0..1.
        anchors, refined, clipped: (T, 4) the same boxes as anchors, moved by the deltas, cut to the image.
        kept: (T,) bool, those that NMS left.
        boxes: (P, 4) all proposals, best first.
        box_scores: (P,).
        anchor: (P,) int64, the anchor that each comes from.
        roi_level: (P,) int64, the map that the box head reads it from, 0 is the finest; all 0 without a pyramid.
        recall: (G,) largest IoU of each true object with a proposal, or None.
    """

    top: np.ndarray
    scores: np.ndarray
    anchors: np.ndarray
    refined: np.ndarray
    clipped: np.ndarray
    kept: np.ndarray
    boxes: np.ndarray
    box_scores: np.ndarray
    anchor: np.ndarray
    roi_level: np.ndarray
    recall: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class BoxStage:
    """What one box head said of the proposals; a cascade has several.

    Attributes:
        boxes: (P, 4) what it looked at.
        probabilities: (P, C + 1), background last.
        best: (P,) int64, the foreground class of the highest probability.
        refined: (P, 4) the boxes moved as that class wants, cut to the image.
    """

    boxes: np.ndarray
    probabilities: np.ndarray
    best: np.ndarray
    refined: np.ndarray


@dataclass(frozen=True, eq=False)
class Crops:
    """What the box head sees of some proposals.

    Attributes:
        rows: (R,) int64, which.
        features: (R, C, n, n) float32.
    """

    rows: np.ndarray
    features: np.ndarray


@dataclass(frozen=True, eq=False)
class Found:
    """Boxes with class and score, best first.

    Attributes:
        boxes: (D, 4).
        scores: (D,).
        labels: (D,) int64.
        proposal: (D,) int64, the proposal that each comes from.
        object: (D,) int64, the true object that it overlaps most, by at least half, whatever the classes; else -1.
        iou: (D,) with that object; 0 where there is none, or no truth.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    proposal: np.ndarray
    object: np.ndarray
    iou: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True, eq=False)
class Masks:
    """Masks of the detections, roi frame.

    Attributes:
        probabilities: (D, M, M).
        targets: (D, M, M) what training would have asked for; NaN where no object lies under the detection, or None.
        iou: (D,) of the two at the model's threshold, NaN where there is no target.
        threshold: a cell belongs to the object from here on.
    """

    probabilities: np.ndarray
    targets: np.ndarray | None
    iou: np.ndarray
    threshold: float


@dataclass(frozen=True, eq=False)
class HeatMaps:
    """Of the keypoints of the best detections.

    Attributes:
        maps: (R, K, S, S) float32, softmax over the cells of each map, roi frame.
        points: (R, K, 3) what is read from them: x, y, score.
        names: of the keypoints.
    """

    maps: np.ndarray
    points: np.ndarray
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Trace:
    """A run of one image through one model, see `inspect_model`.

    Attributes:
        photo: (h, w, 3) uint8, original frame.
        path: the image file, or None.
        classes: of the model.
        input, anchors, proposals: the first stages.
        stages: the box heads in turn.
        crops: what the first of them sees of the proposals behind `detections`, and of the best other ones.
        candidates: what enters NMS, cut to the best 1,000.
        candidate_counts: (C,) int64, all of them by class.
        detections: after NMS within each class.
        masks, heat_maps: of the detections, or None where the model has no such head.
        activations: of the chosen layers.
        truth, losses: None without truth.
        instances: the detections above `score_threshold` in the original frame: what `Predictor` gives.
        score_threshold: of these.
        notes: what could not be shown, one sentence each.
    """

    photo: np.ndarray
    path: str | None
    classes: tuple[str, ...]
    input: Input
    anchors: Anchors
    proposals: Proposals
    stages: tuple[BoxStage, ...]
    crops: Crops
    candidates: Found
    candidate_counts: np.ndarray
    detections: Found
    masks: Masks | None
    heat_maps: HeatMaps | None
    activations: tuple[Activation, ...]
    truth: Truth | None
    losses: Losses | None
    instances: Instances
    score_threshold: float
    notes: tuple[str, ...] = ()
