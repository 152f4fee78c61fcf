"""The trackers of the `trackers` library with what they lack for instances: classes, and the overlap of masks.

The library compares boxes alone, and knows its tracks by their boxes. Here every box that it hands around is looked up:
which detection it is, or which track, and what that one looked like when it was seen last.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import supervision as sv
import trackers
from trackers.utils.state_representations import XCYCSRStateEstimator, XCYCWHStateEstimator, XYXYStateEstimator

from maskrcnn.instances import Instances

Window = tuple[np.ndarray, int, int]
"""(mask (h, w) bool, top, left)."""


@dataclass(eq=False)
class _Look:
    """A detection, or a track as it was seen last: box (4,), class, where masks are compared its pixels, and when."""

    box: np.ndarray
    label: int
    window: Window | None
    frame: int


class _Known:
    """Who is who in this frame, by the bytes of boxes: its detections, and the tracks where they are expected in it."""

    def __init__(self) -> None:
        self.frame = 0
        self.detections: dict[bytes, _Look] = {}
        self._tracks: dict[bytes, list[Any]] = {}

    def begin(self, boxes: np.ndarray, instances: Instances, keep: np.ndarray, masks: bool) -> None:
        """The next frame, with those of its instances that are kept; `boxes` (N, 4) none like another."""
        self.frame += 1
        self.detections = {
            _key(box): _Look(box, int(instances.labels[i]), instances.window(i) if masks else None, self.frame)
            for box, i in zip(boxes, keep.tolist(), strict=True)
        }
        self._tracks = {}

    def expect(self, box: np.ndarray, track: Any) -> None:
        """A track, whose `look` changes when it is found, is expected at a box."""
        tracks = self._tracks.setdefault(_key(box), [])
        if track not in tracks:
            tracks.append(track)

    def tracks(self, boxes: np.ndarray) -> list[_Look]:
        """Those at some boxes. Of several at one box they come in the order in which the library asked where they are,
        which is its own, without those that are found already."""
        found, turns = [], Counter[bytes]()
        for key in map(_key, boxes):
            looks = [track.look for track in self._tracks[key]]
            waiting = [look for look in looks if look.frame < self.frame] or looks
            found.append(waiting[turns[key] % len(waiting)])
            turns[key] += 1
        return found


class _Overlap(trackers.BaseIoU):
    """IoU of boxes or of masks; 0 between classes, as an object does not become another."""

    def __init__(self, known: _Known, masks: bool) -> None:
        self._known, self._masks = known, masks

    def _compute(self, boxes_1: np.ndarray, boxes_2: np.ndarray) -> np.ndarray:
        """(N, 4) of tracks, (M, 4) of detections -> (N, M)."""
        tracks = self._known.tracks(boxes_1)
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
        method: "bytetrack", "ocsort", "sort" or "botsort".
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
        boxes = _told_apart(instances.boxes[keep])
        self._known.begin(boxes, instances, keep, self._masks)
        detections = sv.Detections(
            xyxy=boxes,
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


def _remembering(estimator: type, known: _Known) -> type:
    """A motion model of the library that knows what it saw last, and says where it expects it."""

    class Remembering(estimator):
        def __init__(self, bbox: np.ndarray) -> None:
            super().__init__(bbox)
            self.look = known.detections[_key(bbox)]

        def update(self, bbox: np.ndarray) -> None:
            super().update(bbox)
            self.look = known.detections.get(_key(bbox), self.look)

        def state_to_bbox(self) -> np.ndarray:
            box = super().state_to_bbox()
            for place in (box, self.look.box):  # OC-SORT also asks where they were seen last
                known.expect(place, self)
            return box

    return Remembering


def _key(box: np.ndarray) -> bytes:
    return np.asarray(box, np.float64).tobytes()


def _told_apart(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) float64, a copy where none is like another: two classes may have the same box to the last bit."""
    boxes, taken = boxes.astype(np.float64), set()
    for box in boxes:
        while _key(box) in taken:
            box[2] += 1 / 64  # so much that rounding keeps the tracks apart too
        taken.add(_key(box))
    return boxes


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
    "ocsort": (trackers.OCSORTTracker, XCYCSRStateEstimator, ("high_conf_det_threshold",)),
    "sort": (trackers.SORTTracker, XYXYStateEstimator, ("track_activation_threshold",)),
    "botsort": (trackers.BoTSORTTracker, XCYCWHStateEstimator, _BOTH),
}
