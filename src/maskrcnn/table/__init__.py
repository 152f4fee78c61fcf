"""Records as columns: flat arrays that all loader processes and ranks share, instead of a Python object per annotation.

`Table.of(records)` packs, `table[i]` unpacks one record, `save` and `Table.open` go through memory-mapped files. What a
whole data set is asked for (counts, sizes, boxes) is arithmetic on columns and makes no record.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, overload

import numpy as np

from maskrcnn.structures import RLE, Mask, MaskFile, Polygons, Record
from maskrcnn.table.pack import NONE, POLYGONS, RLES, Columns, pack, span_of, string_of, strings_of

VERSION = 1
"""Raised whenever the columns change: older caches are read anew."""


class Table(Sequence[Record]):
    """A sequence of records. `table[a:b]` and `take` share the columns."""

    def __init__(
        self,
        columns: Columns,
        rows: np.ndarray,
        makers: Sequence[Callable[[], Any] | None] = (),
        folder: Path | None = None,
    ) -> None:
        """Most callers want `of` or `open`.

        Args:
            columns: as in `pack.py`.
            rows: (R,) int64, the chosen images, into the image columns.
            makers: `Record.make` of each image of the columns, or ().
            folder: where the columns are mapped from.
        """
        self.columns, self.rows, self.makers, self._folder = columns, rows, makers, folder

    @classmethod
    def of(cls, records: Sequence[Record]) -> Table:
        """Pack records; a `Table` is returned as it is."""
        if isinstance(records, Table):
            return records
        makers = [record.make for record in records]
        return cls(pack(records), np.arange(len(records)), makers if any(makers) else ())

    @classmethod
    def open(cls, folder: Path) -> Table:
        """Map what `save` wrote. Raises `OSError` or `ValueError` where files are missing or damaged."""
        columns = {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in folder.glob("*.npy")}
        if missing := set(pack([])) - set(columns):
            raise ValueError(f"{folder} lacks {', '.join(sorted(missing))}")
        return cls(columns, np.arange(len(columns["image_id"])), (), folder)

    def save(self, folder: Path) -> None:
        """Write all columns, whatever rows are chosen. Images without a file cannot be saved: `ValueError`."""
        if self.makers:
            raise ValueError("images that are made by a function cannot be saved")
        folder.mkdir(parents=True, exist_ok=True)
        for name, column in self.columns.items():
            np.save(folder / f"{name}.npy", column, allow_pickle=False)

    def take(self, rows: np.ndarray | Sequence[int]) -> Table:
        """These rows, in this order; or those where a mask (R,) bool is true."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        return Table(self.columns, self.rows[rows], self.makers, self._folder)

    def __reduce__(self) -> tuple:
        """A mapped table travels to another process as its folder and rows."""
        if self._folder is not None:
            return _reopen, (self._folder, self.rows)
        return Table, (self.columns, self.rows, self.makers)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Table: ...
    def __getitem__(self, index: int | slice) -> Record | Table:
        if isinstance(index, slice):
            return Table(self.columns, self.rows[index], self.makers, self._folder)
        return self._record(int(self.rows[index]))

    def __iter__(self) -> Iterator[Record]:
        return map(self._record, self.rows.tolist())

    # ------------------------------------------------------------ columns of the chosen rows

    @cached_property
    def sizes(self) -> np.ndarray:
        """(R, 2) int64 height, width."""
        return np.stack([self.columns["height"][self.rows], self.columns["width"][self.rows]], axis=1)

    @cached_property
    def counts(self) -> np.ndarray:
        """(R,) int64, objects of each image, crowds included."""
        ends = self.columns["objects"]
        return ends[self.rows + 1] - ends[self.rows]

    @cached_property
    def mask_counts(self) -> np.ndarray:
        """(R,) int64, masks of each image: as many as objects, or none."""
        ends = self.columns["masks"]
        return ends[self.rows + 1] - ends[self.rows]

    @cached_property
    def image_of(self) -> np.ndarray:
        """(N,) int64, row of the table that each object belongs to."""
        return np.repeat(np.arange(len(self)), self.counts)

    @cached_property
    def objects(self) -> np.ndarray:
        """(N,) index of each object into the object columns."""
        first = self.columns["objects"][self.rows]
        before = np.cumsum(self.counts) - self.counts
        return np.arange(self.counts.sum()) + np.repeat(first - before, self.counts)

    @property
    def boxes(self) -> np.ndarray:
        """(N, 4) float32."""
        return self.columns["boxes"][self.objects]

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64."""
        return self.columns["labels"][self.objects]

    @property
    def crowd(self) -> np.ndarray:
        """(N,) bool."""
        return self.columns["crowd"][self.objects]

    @property
    def areas(self) -> np.ndarray:
        """(N,) pixels of each mask, or of the box where there is none."""
        return self.columns["areas"][self.objects]

    @property
    def annotation_ids(self) -> np.ndarray:
        """(N,) int64."""
        return self.columns["annotation_ids"][self.objects]

    @property
    def image_ids(self) -> np.ndarray:
        """(R,) int64."""
        return self.columns["image_id"][self.rows]

    @property
    def splits(self) -> np.ndarray:
        """(R,) str, split of each image; "" for none."""
        return np.array(strings_of(self.columns, "split_names"), dtype=object)[self.columns["split"][self.rows]]

    @property
    def paths(self) -> list[str]:
        """Path of each image."""
        names = strings_of(self.columns, "paths")
        return [names[row] for row in self.rows.tolist()]

    @property
    def is_made(self) -> bool:
        """Whether images are made by functions."""
        return bool(self.makers)

    def folders(self) -> set[str]:
        """Folders of all images and mask files, whatever rows are chosen."""
        names = chain(strings_of(self.columns, "paths"), strings_of(self.columns, "file_paths"))
        return {name.rpartition(os.sep)[0] for name in names}

    # ------------------------------------------------------------ one record

    def _record(self, row: int) -> Record:
        c = self.columns
        first, stop = c["objects"][row : row + 2].tolist()
        first_mask, stop_mask = c["masks"][row : row + 2].tolist()
        return Record(
            path=Path(string_of(c, "paths", row)),
            image_id=int(c["image_id"][row]),
            height=int(c["height"][row]),
            width=int(c["width"][row]),
            boxes=np.array(c["boxes"][first:stop]),
            labels=np.array(c["labels"][first:stop]),
            masks=tuple(self.mask(i) for i in range(first_mask, stop_mask)),
            crowd=np.array(c["crowd"][first:stop]),
            areas=np.array(c["areas"][first:stop]),
            annotation_ids=np.array(c["annotation_ids"][first:stop]),
            keypoints=np.array(c["keypoints"][first:stop]) if c["has_keypoints"][row] else None,
            split=string_of(c, "split_names", int(c["split"][row])),
            span=span_of(c["span"][row]),
            make=self.makers[row] if self.makers else None,
        )

    def mask(self, index: int) -> Mask:
        """The mask at an index into the mask columns."""
        c = self.columns
        kind, at = int(c["mask_kind"][index]), int(c["mask_at"][index])
        if kind == POLYGONS:
            first, stop = c["polygon_rings"][at : at + 2].tolist()
            ends = c["ring_points"][first : stop + 1].tolist()
            points = c["points"]
            return Polygons(tuple(np.array(points[a:b]) for a, b in pairwise(ends)))
        if kind == RLES:
            first, stop = c["rle_ends"][at : at + 2].tolist()
            height, width = c["rle_size"][at].tolist()
            return RLE((height, width), c["rle_bytes"][first:stop].tobytes())
        value, height, width = c["file_value"][at].tolist()
        return MaskFile(
            Path(string_of(c, "file_paths", at)),
            None if value == NONE else value,
            span_of(c["file_span"][at]),
            None if height == NONE else (height, width),
        )


def _reopen(folder: Path, rows: np.ndarray) -> Table:
    return Table.open(folder).take(rows)
