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

from maskrcnn.structures import RLE, Mask, MaskFile, Polygons, Record, Span

VERSION = 1
"""Raised whenever the columns change: older caches are read anew."""
NONE = np.iinfo(np.int64).min
"""Stands for None in an integer column."""
NO_MASK, POLYGONS, RLES, FILES = -1, 0, 1, 2
"""Values of `mask_kind`; NO_MASK is for readers that are not done yet."""

Columns = dict[str, np.ndarray]


class Table(Sequence[Record]):
    """A sequence of records. `table[a:b]` and `take` share the columns."""

    def __init__(
        self,
        columns: Columns,
        rows: np.ndarray,
        makers: Sequence[Callable[[], Any] | None] = (),
        folder: Path | None = None,
    ) -> None:
        """Use `of` or `open`. `rows`: (R,) int64 into the columns. `makers`: `Record.make` of each image, or ()."""
        self._columns, self._rows, self._makers, self._folder = columns, rows, makers, folder

    @classmethod
    def of(cls, records: Sequence[Record]) -> Table:
        """Pack records; a `Table` is returned as it is."""
        if isinstance(records, Table):
            return records
        makers = [record.make for record in records]
        return cls(_pack(records), np.arange(len(records)), makers if any(makers) else ())

    @classmethod
    def joined(cls, tables: Sequence[Table]) -> Table:
        """All rows of several tables, one after the other."""
        if len(tables) == 1:
            return tables[0]
        return cls.of([record for table in tables for record in table])

    @classmethod
    def open(cls, folder: Path) -> Table:
        """Map what `save` wrote. Raises `OSError` or `ValueError` where files are missing or damaged."""
        columns = {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in folder.glob("*.npy")}
        if missing := set(_pack([])) - set(columns):
            raise ValueError(f"{folder} lacks {', '.join(sorted(missing))}")
        return cls(columns, np.arange(len(columns["image_id"])), (), folder)

    def save(self, folder: Path) -> None:
        """Write all columns, whatever rows are chosen. Images without a file cannot be saved: `ValueError`."""
        if self._makers:
            raise ValueError("images that are made by a function cannot be saved")
        folder.mkdir(parents=True, exist_ok=True)
        for name, column in self._columns.items():
            np.save(folder / f"{name}.npy", column, allow_pickle=False)

    def take(self, rows: np.ndarray | Sequence[int]) -> Table:
        """These rows of this table, in this order."""
        return Table(self._columns, self._rows[np.asarray(rows, np.int64)], self._makers, self._folder)

    def __reduce__(self) -> tuple:
        """A mapped table travels to another process as its folder and rows."""
        if self._folder is not None:
            return _reopen, (self._folder, self._rows)
        return Table, (self._columns, self._rows, self._makers)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Table: ...
    def __getitem__(self, index: int | slice) -> Record | Table:
        if isinstance(index, slice):
            return Table(self._columns, self._rows[index], self._makers, self._folder)
        return self._record(int(self._rows[index]))

    def __iter__(self) -> Iterator[Record]:
        return map(self._record, self._rows.tolist())

    # ------------------------------------------------------------ columns of the chosen rows

    @cached_property
    def sizes(self) -> np.ndarray:
        """(R, 2) int64 height, width."""
        return np.stack([self._columns["height"][self._rows], self._columns["width"][self._rows]], axis=1)

    @cached_property
    def counts(self) -> np.ndarray:
        """(R,) int64, objects of each image, crowds included."""
        ends = self._columns["objects"]
        return ends[self._rows + 1] - ends[self._rows]

    @cached_property
    def mask_counts(self) -> np.ndarray:
        """(R,) int64, masks of each image: as many as objects, or none."""
        ends = self._columns["masks"]
        return ends[self._rows + 1] - ends[self._rows]

    @cached_property
    def image_of(self) -> np.ndarray:
        """(N,) int64, row of the table that each object belongs to."""
        return np.repeat(np.arange(len(self)), self.counts)

    @cached_property
    def _objects(self) -> np.ndarray:
        """(N,) index of each object in the columns."""
        first = self._columns["objects"][self._rows]
        before = np.cumsum(self.counts) - self.counts
        return np.arange(self.counts.sum()) + np.repeat(first - before, self.counts)

    @property
    def boxes(self) -> np.ndarray:
        """(N, 4) float32."""
        return self._columns["boxes"][self._objects]

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64."""
        return self._columns["labels"][self._objects]

    @property
    def crowd(self) -> np.ndarray:
        """(N,) bool."""
        return self._columns["crowd"][self._objects]

    @property
    def annotation_ids(self) -> np.ndarray:
        """(N,) int64."""
        return self._columns["annotation_ids"][self._objects]

    @property
    def image_ids(self) -> np.ndarray:
        """(R,) int64."""
        return self._columns["image_id"][self._rows]

    @property
    def splits(self) -> np.ndarray:
        """(R,) str, split of each image; "" for none."""
        return np.array(_strings(self._columns, "split_names"), dtype=object)[self._columns["split"][self._rows]]

    @property
    def paths(self) -> list[str]:
        """Path of each image."""
        names = _strings(self._columns, "paths")
        return [names[row] for row in self._rows.tolist()]

    @property
    def is_made(self) -> bool:
        """Whether images are made by functions."""
        return bool(self._makers)

    def folders(self) -> set[str]:
        """Folders of all images and mask files, whatever rows are chosen."""
        names = chain(_strings(self._columns, "paths"), _strings(self._columns, "file_paths"))
        return {name.rpartition(os.sep)[0] for name in names}

    # ------------------------------------------------------------ one record

    def _record(self, row: int) -> Record:
        c = self._columns
        first, stop = c["objects"][row : row + 2].tolist()
        first_mask, stop_mask = c["masks"][row : row + 2].tolist()
        return Record(
            path=Path(_string(c, "paths", row)),
            image_id=int(c["image_id"][row]),
            height=int(c["height"][row]),
            width=int(c["width"][row]),
            boxes=np.array(c["boxes"][first:stop]),
            labels=np.array(c["labels"][first:stop]),
            masks=tuple(self._mask(i) for i in range(first_mask, stop_mask)),
            crowd=np.array(c["crowd"][first:stop]),
            areas=np.array(c["areas"][first:stop]),
            annotation_ids=np.array(c["annotation_ids"][first:stop]),
            keypoints=np.array(c["keypoints"][first:stop]) if c["has_keypoints"][row] else None,
            split=_string(c, "split_names", int(c["split"][row])),
            span=_span(c["span"][row]),
            make=self._makers[row] if self._makers else None,
        )

    def _mask(self, index: int) -> Mask:
        c = self._columns
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
            Path(_string(c, "file_paths", at)),
            None if value == NONE else value,
            _span(c["file_span"][at]),
            None if height == NONE else (height, width),
        )


def _reopen(folder: Path, rows: np.ndarray) -> Table:
    return Table.open(folder).take(rows)


# ---------------------------------------------------------------- packing


def _pack(records: Sequence[Record]) -> Columns:
    masks = [mask for record in records for mask in record.masks]
    splits = list(dict.fromkeys(record.split for record in records)) or [""]
    points = max((record.keypoints.shape[1] for record in records if record.keypoints is not None), default=0)
    return {
        "image_id": np.array([record.image_id for record in records], np.int64),
        "height": np.array([record.height for record in records], np.int64),
        "width": np.array([record.width for record in records], np.int64),
        "span": spans_of([record.span for record in records]),
        "split": np.array([splits.index(record.split) for record in records], np.int64),
        "has_keypoints": np.array([record.keypoints is not None for record in records], bool),
        "objects": ends_of([len(record) for record in records]),
        "masks": ends_of([len(record.masks) for record in records]),
        "boxes": _joined([record.boxes for record in records], np.float32, (4,)),
        "labels": _joined([record.labels for record in records], np.int64),
        "crowd": _joined([record.crowd for record in records], np.bool_),
        "areas": _joined([record.areas for record in records], np.float32),
        "annotation_ids": _joined([record.annotation_ids for record in records], np.int64),
        "keypoints": _joined([_points_of(record, points) for record in records], np.float32, (points, 3)),
        **text_of("paths", [str(record.path) for record in records]),
        **text_of("split_names", splits),
        **_pack_masks(masks),
    }


def _pack_masks(masks: Sequence[Mask]) -> Columns:
    polygons = [mask for mask in masks if isinstance(mask, Polygons)]
    rles = [mask for mask in masks if isinstance(mask, RLE)]
    files = [mask for mask in masks if isinstance(mask, MaskFile)]
    rings = [ring for mask in polygons for ring in mask.rings]
    kinds = np.array([_kind(mask) for mask in masks], np.int8)
    at = np.zeros(len(masks), np.int64)
    for kind in (POLYGONS, RLES, FILES):
        at[kinds == kind] = np.arange((kinds == kind).sum())
    values = [(NONE if m.value is None else m.value, *((NONE, NONE) if m.raw is None else m.raw)) for m in files]
    return {
        "mask_kind": kinds,
        "mask_at": at,
        "polygon_rings": ends_of([len(mask.rings) for mask in polygons]),
        "ring_points": ends_of([len(ring) for ring in rings]),
        "points": _joined(rings, np.float64, (2,)),
        "rle_size": np.array([mask.size for mask in rles], np.int64).reshape(-1, 2),
        "rle_ends": ends_of([len(mask.counts) for mask in rles]),
        "rle_bytes": np.frombuffer(b"".join(mask.counts for mask in rles), np.uint8),
        "file_value": np.array(values, np.int64).reshape(-1, 3),
        "file_span": spans_of([mask.span for mask in files]),
        **text_of("file_paths", [str(mask.path) for mask in files]),
    }


def _kind(mask: Mask) -> int:
    return POLYGONS if isinstance(mask, Polygons) else RLES if isinstance(mask, RLE) else FILES


def _points_of(record: Record, points: int) -> np.ndarray:
    empty = np.zeros((len(record), points, 3), np.float32)
    return empty if record.keypoints is None else record.keypoints


def ends_of(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """(N + 1,) where each piece starts, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(np.array(lengths, np.int64))]).astype(np.int64)


def _joined(parts: Sequence[np.ndarray], dtype: Any, shape: tuple[int, ...] = ()) -> np.ndarray:
    return np.concatenate([np.zeros((0, *shape), dtype), *parts], dtype=dtype, casting="unsafe")


def spans_of(spans: Sequence[Span | None]) -> np.ndarray:
    """(N, 2) start and length; -1 for None."""
    return np.array([(-1, -1) if s is None else (s.start, s.length) for s in spans], np.int64).reshape(-1, 2)


def _span(pair: np.ndarray) -> Span | None:
    start, length = pair.tolist()
    return None if start < 0 else Span(start, length)


def text_of(name: str, texts: Sequence[str]) -> Columns:
    """Strings as one run of bytes. `surrogateescape`: file names need not be valid UTF-8."""
    encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
    joined = np.frombuffer(b"".join(encoded), np.uint8)
    return {f"{name}_bytes": joined, f"{name}_ends": ends_of([len(text) for text in encoded])}


def _string(columns: Columns, name: str, index: int) -> str:
    first, stop = columns[f"{name}_ends"][index : index + 2].tolist()
    return columns[f"{name}_bytes"][first:stop].tobytes().decode("utf-8", "surrogateescape")


def _strings(columns: Columns, name: str) -> list[str]:
    joined, ends = columns[f"{name}_bytes"].tobytes(), columns[f"{name}_ends"].tolist()
    return [joined[a:b].decode("utf-8", "surrogateescape") for a, b in pairwise(ends)]
