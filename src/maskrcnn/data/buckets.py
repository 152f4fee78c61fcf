"""Which images share a batch, and how far the batch is padded: few shapes, little padding, an order that is a pure
function of (seed, epoch).

`plan_shapes` looks at all records once; `training_order` cuts an epoch into `Group`s. Every group is padded to a
size and a count of the plan: at most `data.size_buckets * data.count_buckets` shapes in a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maskrcnn.config import DataConfig
from maskrcnn.data.resize import padded_size, resized_size
from maskrcnn.structures import Record
from maskrcnn.table import Table

COUNT_STEP = 8  # padded object counts are multiples of this
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Padded shapes of a data set.

    Attributes:
        sizes: padded (height, width), smallest area first; the last one holds every image.
        counts: padded object counts, ascending; the last one holds every image.
        size_of: (R,) int64, index into `sizes` of the tightest that holds each record.
        objects: (R,) int64, the most objects that a sample of each record has, crowds included.
    """

    sizes: tuple[tuple[int, int], ...]
    counts: tuple[int, ...]
    size_of: np.ndarray
    objects: np.ndarray

    def size_for(self, records: Sequence[int] | np.ndarray) -> tuple[int, int]:
        """The smallest planned size that holds all of these records."""
        used = [self.sizes[bucket] for bucket in np.unique(self.size_of[np.asarray(records)])]
        height, width = max(h for h, _ in used), max(w for _, w in used)
        return next(size for size in self.sizes if size[0] >= height and size[1] >= width)

    def count_for(self, records: Sequence[int] | np.ndarray) -> int:
        """The smallest planned object count that holds each of these records."""
        most = int(self.objects[np.asarray(records)].max())
        return next(count for count in self.counts if count >= most)


@dataclass(frozen=True, slots=True)
class Group:
    """Records of one batch and the shape it is padded to."""

    records: tuple[int, ...]
    size: tuple[int, int]
    count: int


def plan_shapes(records: Sequence[Record], data: DataConfig, *, training: bool = False) -> Plan:
    """Choose padded sizes that waste few pixels and padded counts of which the smaller fits nine images in ten.

    For training, counts leave room for what copy-paste and mosaic add.
    """
    table = Table.of(records)
    distinct, which = np.unique(table.sizes, axis=0, return_inverse=True)
    inputs = [padded_size(*resized_size(height, width, data), data) for height, width in distinct.tolist()]
    padded = np.array(inputs, np.int64).reshape(-1, 2)[which.ravel()]
    objects = table.counts
    if training:
        objects = objects + _added(objects, data)
    sizes = _choose_sizes(padded, data.size_buckets)
    # Smallest area first, so that the first that holds a record is the tightest.
    holds = (padded[:, None] <= np.array(sizes)[None]).all(axis=-1)  # (R, sizes)
    return Plan(sizes, _choose_counts(objects, data.count_buckets), holds.argmax(axis=1), objects)


def training_order(plan: Plan, batch_size: int, seed: int, epoch: int) -> list[Group]:
    """Every record once, in `ceil(R / batch_size)` full batches of one size bucket each as far as possible.

    The rests of the buckets share batches; the very last is filled up with records that come again.
    """
    order = _generator(seed, epoch).permutation(len(plan.objects))
    batches: list[np.ndarray] = []
    rests: list[np.ndarray] = []
    for bucket in range(len(plan.sizes)):
        mine = order[plan.size_of[order] == bucket]
        full = len(mine) // batch_size * batch_size
        batches += list(mine[:full].reshape(-1, batch_size))
        rests.append(mine[full:])
    rest = np.concatenate(rests)
    batches += [rest[start : start + batch_size] for start in range(0, len(rest), batch_size)]
    if batches and len(batches[-1]) < batch_size:
        batches[-1] = _filled(batches[-1], order, plan, batch_size)
    turn = _generator(seed, epoch, 1).permutation(len(batches))
    return [_group(plan, batches[i]) for i in turn]


def sample_key(*numbers: int) -> int:
    """A hash of (seed, epoch, index) in [0, 2**63): splitmix64, chained."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def _generator(*numbers: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=sample_key(*numbers)))


def _group(plan: Plan, records: np.ndarray) -> Group:
    return Group(tuple(records.tolist()), plan.size_for(records), plan.count_for(records))


def _filled(rest: np.ndarray, order: np.ndarray, plan: Plan, batch_size: int) -> np.ndarray:
    """The rest and then, from the start of the order, records that fit its padded size before those that do not."""
    size = plan.size_for(rest)
    fits = np.array([h <= size[0] and w <= size[1] for h, w in plan.sizes])[plan.size_of[order]]
    new = ~np.isin(order, rest)
    again = np.concatenate([order[new & fits], order[new & ~fits], rest])
    return np.concatenate([rest, np.resize(again, batch_size - len(rest))])


def _choose_sizes(padded: np.ndarray, limit: int) -> tuple[tuple[int, int], ...]:
    """At most `limit` sizes that hold all of `padded` (R, 2), by merging whichever two cost the fewest pixels."""
    if not len(padded):
        return ()
    largest = padded.max(axis=0)
    for room in (limit, limit - 1):
        sizes = _merge(padded, max(room, 1))
        if (sizes == largest).all(axis=1).any():
            break
    else:  # no image is both that high and that wide, but a batch of rests may be
        sizes = np.concatenate([sizes, largest[None]]) if limit > 1 else largest[None]
    order = np.lexsort((sizes[:, 1], sizes[:, 0], sizes.prod(axis=1)))
    return tuple((int(h), int(w)) for h, w in sizes[order])


def _merge(padded: np.ndarray, limit: int) -> np.ndarray:
    """(R, 2) -> (at most limit, 2): greedy agglomeration of the distinct sizes."""
    sizes, weights = np.unique(padded, axis=0, return_counts=True)
    while len(sizes) > limit:
        union = np.maximum(sizes[:, None], sizes[None])  # (S, S, 2)
        extra = (union.prod(axis=-1) - sizes.prod(axis=-1)[:, None]) * weights[:, None]  # pixels row i would gain
        cost = (extra + extra.T).astype(np.float64)
        np.fill_diagonal(cost, np.inf)
        i, j = np.unravel_index(int(cost.argmin()), cost.shape)
        sizes[i], weights[i] = union[i, j], weights[i] + weights[j]
        sizes, weights = np.delete(sizes, j, axis=0), np.delete(weights, j)
    return sizes


def _added(objects: np.ndarray, data: DataConfig) -> int:
    """Room for the objects of other images: enough for nine images in ten; of more, a sample keeps the largest.

    Copy-paste adds half of one image's objects, mosaic three images, some of them cut.
    """
    if not len(objects):
        return 0
    paste = int(np.quantile(objects, 0.9, method="higher")) if data.copy_paste else 0
    mosaic = 3 * int(np.quantile(objects, 0.75, method="higher")) if data.mosaic else 0
    return paste + mosaic


def _choose_counts(objects: np.ndarray, limit: int) -> tuple[int, ...]:
    """The maximum, and below it what nine, ninety-nine ... images in ten, a hundred ... need."""
    parts = [1 - 0.1 ** (i + 1) for i in range(limit - 1)] + [1.0]
    needed = [int(np.quantile(objects, part, method="higher")) if len(objects) else 0 for part in parts]
    return tuple(sorted({max(1, -(-count // COUNT_STEP)) * COUNT_STEP for count in needed}))
