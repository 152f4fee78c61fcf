"""How sure an AP is: the images are drawn anew many times, with repetition, and AP is computed each time.

Matches stay as they are; an image that is drawn twice counts twice. Efron and Tibshirani, An Introduction to the
Bootstrap, 1993. Two models are compared on the same draws, so that hard images are hard for both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from maskrcnn.evaluation.precision import NOT_DEFINED, Ranking, mean_defined

SAMPLES = 200
LEVEL = 0.95
FEWEST = 2
"""Images with objects that an interval takes: with one every draw is the same, and nothing is known of others."""


@dataclass(frozen=True)
class Interval:
    """A number, and where it would lie with other images of the same kind: from `low` to `high`, 19 times out of 20.

    All that is possible (0 to 1, of a difference -1 to 1) where the objects lie in a single image.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """AP of the second model less that of the first, on the same images.

    Attributes:
        first, second: the AP of each.
        difference: an interval.
        p: how often a difference this clear, of either sign, turns up by chance where there is none.
    """

    first: float
    second: float
    difference: Interval
    p: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.difference.low > 0 or self.difference.high < 0


def bootstrap_ap(
    ranking: Ranking, images: np.ndarray, names: list[str], *, samples: int = SAMPLES, seed: int = 0
) -> tuple[Interval, dict[str, Interval]]:
    """Intervals of AP over all thresholds of the ranking: of the mean, and of each class that has objects.

    Args:
        ranking: what was found.
        images: (I,) bool, the images that count.
        names: of the classes.
        samples: draws.
        seed: of the draws.
    """
    tables = [ranking.average_precision(weights) for weights in draws(images, samples, seed)]
    whole = ranking.average_precision()
    means = np.array([mean_defined(table) for table in tables])
    classes = {}
    for label, name in enumerate(names):
        if whole[0, label] > NOT_DEFINED:
            drawn = np.array([mean_defined(table[:, label]) for table in tables])
            value, enough = mean_defined(whole[:, label]), _enough(ranking.true_images[ranking.true_labels == label])
            classes[name] = _interval(value, drawn[drawn > NOT_DEFINED], (0.0, 1.0), enough)
    means = means[means > NOT_DEFINED]
    return _interval(mean_defined(whole), means, (0.0, 1.0), _enough(ranking.true_images)), classes


def compare_ap(
    first: Ranking, second: Ranking, images: np.ndarray, *, samples: int = SAMPLES, seed: int = 0
) -> Difference:
    """The difference in AP of two models' results on the same images; arguments as in `bootstrap_ap`."""
    both = [mean_defined(ranking.average_precision()) for ranking in (first, second)]
    drawn = []
    for weights in draws(images, samples, seed):
        one, other = (mean_defined(ranking.average_precision(weights)) for ranking in (first, second))
        if one > NOT_DEFINED and other > NOT_DEFINED:
            drawn.append(other - one)
    values, enough = np.array(drawn), _enough(first.true_images)
    tail = min((values <= 0).sum(), (values >= 0).sum()) if enough else len(values)
    p = min(1.0, 2 * (int(tail) + 1) / (len(values) + 1))
    return Difference(both[0], both[1], _interval(both[1] - both[0], values, (-1.0, 1.0), enough), p)


def draws(images: np.ndarray, samples: int, seed: int) -> Iterator[np.ndarray]:
    """(I,) int64 each: how often each image is drawn; as many draws as images that count."""
    rows = np.flatnonzero(images)
    generator = np.random.default_rng(seed)
    for _ in range(samples):
        chosen = rows[generator.integers(0, max(len(rows), 1), len(rows))]
        yield np.bincount(chosen, minlength=len(images)).astype(np.int64)


def _enough(images: np.ndarray) -> bool:
    """Whether the objects, by their images, lie in enough of them."""
    return len(np.unique(images)) >= FEWEST


def _interval(value: float, drawn: np.ndarray, whole: tuple[float, float], enough: bool) -> Interval:
    """Of the draws; all that is possible where there are too few images to say more."""
    if not len(drawn):
        return Interval(value, value, value)
    if not enough:
        return Interval(value, *whole)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))
