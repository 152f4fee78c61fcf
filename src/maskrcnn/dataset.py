"""A data set: records, and what their labels mean. A value that is passed around; there is no catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import overload

import numpy as np

from maskrcnn.errors import DataError
from maskrcnn.structures import KeypointSchema, Record
from maskrcnn.table import Table


@dataclass(frozen=True)
class Federated:
    """What LVIS says beside its objects: not every class was looked for in every image.

    Attributes:
        negative: image id -> labels that were looked for and are not there.
        not_exhaustive: image id -> labels of which some objects are annotated and others not.
        frequency: of each class "r", "c" or "f": rare, common or frequent in the training images.
    """

    negative: Mapping[int, tuple[int, ...]]
    not_exhaustive: Mapping[int, tuple[int, ...]]
    frequency: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A value: records and what their labels mean.

    Attributes:
        records: the images.
        classes: class names, index = label.
        category_ids: the external id of each class (COCO's sparse ids), same order as `classes`.
        keypoints: names and left-right pairs of the keypoints, or None.
        name: for messages, usually the path.
        format: the reader that made it.
        warnings: what the reader skipped or repaired, one sentence each.
        federated: which classes were looked for in which image, where the file says so (LVIS); else None.
    """

    records: Sequence[Record]
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    keypoints: KeypointSchema | None = None
    name: str = ""
    format: str = ""
    warnings: tuple[str, ...] = ()
    federated: Federated | None = None

    @cached_property
    def table(self) -> Table:
        """The records as columns, for questions about all of them."""
        return Table.of(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Dataset: ...
    def __getitem__(self, index: int | slice) -> Record | Dataset:
        if isinstance(index, slice):
            return replace(self, records=self.records[index])
        return self.records[index]

    def take(self, indices: np.ndarray | Sequence[int]) -> Dataset:
        """These images, in this order."""
        return replace(self, records=self.table.take(indices))

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits present, in order of first appearance; () when the data has none."""
        return tuple(name for name in dict.fromkeys(self.table.splits.tolist()) if name)

    def split(self, name: str) -> Dataset:
        """The records of one split. Raises `DataError` naming the known ones."""
        if name not in self.splits:
            known = ", ".join(self.splits) or "none: the data set has no splits"
            raise DataError(f"no split {name!r}; known splits: {known}", path=self.name or None)
        return self.take(np.flatnonzero(self.table.splits == name))

    @property
    def has_masks(self) -> bool:
        """Whether any object has a mask."""
        return bool(self.table.mask_counts.any())

    def class_counts(self) -> np.ndarray:
        """(C,) int64: objects per class, crowds left out."""
        labels = self.table.labels
        known = ~self.table.crowd & (labels >= 0) & (labels < len(self.classes))
        return np.bincount(labels[known], minlength=len(self.classes))

    def summary(self, warnings: bool = True) -> str:
        """A few lines: images, objects, classes with counts, sizes, and what the reader has to say."""
        objects, sizes = self.table.counts, self.table.sizes
        lines = [f"{self.name or 'dataset'}: {len(self)} images, {objects.sum()} objects ({self.format or 'made'})"]
        counts = self.class_counts()
        order = np.argsort(-counts, kind="stable")[:20]
        shown = ", ".join(f"{self.classes[i]} {counts[i]}" for i in order)
        more = "" if len(self.classes) <= 20 else f", and {len(self.classes) - 20} more"
        lines.append(f"classes ({len(self.classes)}): {shown}{more}")
        if len(objects):
            (low_height, low_width), (high_height, high_width) = sizes.min(axis=0), sizes.max(axis=0)
            lines.append(
                f"sizes: {low_width}-{high_width} wide, {low_height}-{high_height} high; "
                f"objects per image: median {int(np.median(objects))}, most {objects.max()}"
            )
        if self.splits:
            of_image = self.table.splits
            lines.append("splits: " + ", ".join(f"{name} {(of_image == name).sum()}" for name in self.splits))
        return "\n".join([*lines, *(f"warning: {w}" for w in self.warnings if warnings)])
