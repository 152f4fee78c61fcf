"""The truth and the results of a data set as flat arrays: what matching and curves work on. Original frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Items:
    """Objects of many images, in order of the images; results of one image by descending score.

    Attributes:
        images: (N,) int64, row of the image in a list of images by ascending id, as pycocotools goes through them.
        labels: (N,) int64, index of the class.
        boxes: (N, 4) float64 x, y, width, height.
        areas: (N,) float64 pixels.
        scores: (N,) float64; ones for the truth.
        crowd: (N,) bool; all false for results.
        source: (N,) int64, place in the list that they come from.
        rles: N masks `{"size", "counts"}`, or None.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    scores: np.ndarray
    crowd: np.ndarray
    source: np.ndarray
    rles: Sequence[dict[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: np.ndarray) -> Items:
        """A selection (K,) of places, in that order; or those where a mask (N,) bool is true."""
        index = np.flatnonzero(index) if index.dtype == bool else index
        arrays = {name: getattr(self, name)[index] for name in _ARRAYS}
        return replace(self, **arrays, rles=None if self.rles is None else [self.rles[i] for i in index.tolist()])

    def spans(self, images: int) -> np.ndarray:
        """(I + 1,) int64: the objects of image i are those from `spans[i]` to `spans[i + 1]`."""
        return np.searchsorted(self.images, np.arange(images + 1))

    def ranks(self) -> np.ndarray:
        """(N,) int64: how many of the same image and class come before."""
        group = self.images * (int(self.labels.max(initial=0)) + 1) + self.labels
        return place_in_group(group)


_ARRAYS = ("images", "labels", "boxes", "areas", "scores", "crowd", "source")


def place_in_group(group: np.ndarray) -> np.ndarray:
    """(N,) group numbers -> (N,) int64: how many of the same group stand before."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(group) else order
    place = np.empty(len(group), np.int64)
    place[order] = np.arange(len(group)) - np.repeat(first, np.diff(np.append(first, len(group))))
    return place


def by_image_and_score(items: Items) -> Items:
    """Results in the order in which they are matched; equal scores stay as they come."""
    return items.take(np.lexsort((-items.scores, items.images)))
