"""The trackers of the `trackers` library with what they lack for instances: classes, and the overlap of masks.

The library compares boxes alone, and hands boxes around without saying whose they are. So here no two boxes of a frame
are alike, and each is looked up: which detection it is, or which track, and what that one looked like when it was seen
last. OC-SORT is not among the methods: half of its comparisons cannot be replaced from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import supervision as sv
import trackers
from trackers.utils.state_representations import XCYCWHStateEstimator, XYXYStateEstimator

from maskrcnn.instances import Instances

APART = 1 / 64
"""Pixels between two boxes that would be alike; so many that no rounding makes them alike again."""
Window = tuple[np.ndarray, int, int]
"""(mask (h, w) bool, top, left)."""


@dataclass(eq=False)
class _Look:
    """A detection, or a track as it was seen last: box (4,), class, and where masks are compared its pixels."""

    box: np.ndarray
    label: int
    window: Window | None


class _Known:
    """Who is who in this frame, by the bytes of boxes: its detections, and the tracks where they are expected in it."""

    def __init__(self) -> None:
        self.detections: dict[bytes, _Look] = {}
        self.tracks: dict[bytes, Any] = {}

    def begin(self, boxes: np.ndarray, instances: Instances, keep: np.ndarray, masks: bool) -> np.ndarray:
        """The next frame, with those of its instances that are kept; returns their boxes (K, 4), none like another."""
        self.detections, self.tracks = {}, {}
        apart = []
        for box, index in zip(boxes.astype(np.float64), keep.tolist(), strict=True):
            window = instances.window(index) if masks else None
            apart.append(_put(self.detections, box, _Look(box, int(instances.labels[index]), window)))
        return np.array(apart, np.float64).reshape(-1, 4)

    def expect(self, box: np.ndarray, track: Any) -> np.ndarray:
        """A track, whose `look` changes when it is found, is expected at a box; returns the one that stands for it."""
        return _put(self.tracks, np.array(box, np.float64), track)


class _Overlap(trackers.BaseIoU):
    """IoU of boxes or of masks; 0 between classes, as an object does not become another."""

    def __init__(self, known: _Known, masks: bool) -> None:
        self._known, self._masks = known, masks

    def _compute(self, boxes_1: np.ndarray, boxes_2: np.ndarray) -> np.ndarray:
        """(N, 4) of tracks, (M, 4) of detections -> (N, M)."""
        tracks = [self._known.tracks[_key(box)].look for box in boxes_1]
        found = [self._known.detections[_key(box)] for box in boxes_2]
        overlaps = np.asarray(sv.box_iou_batch(boxes_1, boxes_2), np.float64)
        overlaps *= np.array([t.label for t in tracks])[:, None] == np.array([d.label for d in found])
        if self._masks:
            for row, column in np.argwhere(overlaps > 0):
                overlaps[row, column] = _mask_overlap(tracks[row], boxes_1[row], found[column])
        return overlaps


class Associator:
    """One tracker of the library, for one film.

    Args:
        method: "bytetrack", "sort" or "botsort".
        masks: compare masks, not boxes.
        rate: frames a second.
        score: detections from this score on begin a track.
        patience: seconds that a lost object is waited for.
        confirm: frames in a row before an object gets its number.

    Attributes:
        wants_frames: it follows the camera's own movement, for which it looks at the frames.
    """

    def __init__(self, method: str, masks: bool, rate: float, score: float, patience: float, confirm: int) -> None:
        kind, estimator, thresholds = _METHODS[method]
        self._known, self._masks, self._score = _Known(), masks, score
        self._all_at_once = method == "sort"
        self.wants_frames = method == "botsort"
        self._tracker = kind(
            lost_track_buffer=round(patience * 30),  # the library counts in thirtieths of a second
            frame_rate=rate,
            minimum_consecutive_frames=confirm,
            state_estimator_class=_remembering(estimator, self._known),
            iou=_Overlap(self._known, masks),
            **dict.fromkeys(thresholds, score),
        )

    def update(self, instances: Instances, frame: np.ndarray | None, seconds: float | None) -> np.ndarray:
        """The number of each instance, (N,) int64 from 0, or -1 for one that has none (yet).

        Args:
            instances: of the next frame.
            frame: (H, W, 3) uint8 RGB, where `wants_frames`.
            seconds: of this frame, where frames do not come at `rate`.
        """
        keep = np.flatnonzero(np.isfinite(instances.boxes).all(axis=1))
        if self._all_at_once:
            keep = keep[instances.scores[keep] >= self._score]
        detections = sv.Detections(
            xyxy=self._known.begin(instances.boxes[keep], instances, keep, self._masks),
            confidence=instances.scores[keep].astype(np.float32),
            class_id=instances.labels[keep].astype(int),
            data={"index": keep},
        )
        options = {"frame": np.ascontiguousarray(frame[:, :, ::-1])} if self.wants_frames and frame is not None else {}
        found = self._tracker.update(detections, timestamp=seconds, **options)
        ids = np.full(len(instances), -1, np.int64)
        if len(found):
            ids[found.data["index"]] = found.tracker_id
        return ids

    def alive(self) -> set[int]:
        """Numbers, from 0, of the objects that are there or waited for."""
        return {track.tracker_id for track in self._tracker.tracks}


def _remembering(estimator: type, known: _Known) -> type:
    """A motion model of the library that knows what it saw last, and says where it expects it."""

    class Remembering(estimator):
        def __init__(self, bbox: np.ndarray) -> None:
            super().__init__(bbox)
            self.look = known.detections[_key(bbox)]

        def update(self, bbox: np.ndarray) -> None:
            super().update(bbox)
            self.look = known.detections[_key(bbox)]

        def state_to_bbox(self) -> np.ndarray:
            return known.expect(super().state_to_bbox(), self)

    return Remembering


def _key(box: np.ndarray) -> bytes:
    return np.asarray(box, np.float64).tobytes()


def _put(owners: dict[bytes, Any], box: np.ndarray, owner: Any) -> np.ndarray:
    """Write an owner at its box, which is moved a little where that of another is the same; in place, and returned."""
    while owners.get(_key(box), owner) is not owner:
        box[2] += APART
    owners[_key(box)] = owner
    return box


def _mask_overlap(track: _Look, expected: np.ndarray, detection: _Look) -> float:
    """IoU of a mask, moved to where its track is expected by now, and one of this frame."""
    assert track.window is not None
    assert detection.window is not None
    (old, top, left), (new, top_new, left_new) = track.window, detection.window
    shift = np.rint((expected[:2] + expected[2:] - track.box[:2] - track.box[2:]) / 2).astype(int)
    row, column = top + int(shift[1]) - top_new, left + int(shift[0]) - left_new  # of the old one in the new one
    shared = np.count_nonzero(
        old[max(0, -row) : max(0, len(new) - row), max(0, -column) : max(0, new.shape[1] - column)]
        & new[max(0, row) : max(0, row + len(old)), max(0, column) : max(0, column + old.shape[1])]
    )
    union = np.count_nonzero(old) + np.count_nonzero(new) - shared
    return shared / max(1, int(union))


_BOTH = ("track_activation_threshold", "high_conf_det_threshold")
_METHODS: dict[str, tuple[Any, type, tuple[str, ...]]] = {
    "bytetrack": (trackers.ByteTrackTracker, XYXYStateEstimator, _BOTH),
    "sort": (trackers.SORTTracker, XYXYStateEstimator, ("track_activation_threshold",)),
    "botsort": (trackers.BoTSORTTracker, XCYCWHStateEstimator, _BOTH),
}
