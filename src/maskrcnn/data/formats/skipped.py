"""What a reader left out: counted by kind, with the first example of each."""

from __future__ import annotations

from pathlib import Path


class Skipped:
    """Collects, then speaks: one sentence a kind."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, kind: str, path: Path, image: object, annotation: object, value: str) -> None:
        """One more of `kind`, a plural: "boxes of zero area"."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if kind not in self._first:
            where = [str(path)]
            where += [] if image is None else [f"image {image}"]
            where += [] if annotation is None else [f"annotation {annotation}"]
            self._first[kind] = f"{', '.join(where)}: {value}"

    def sentences(self) -> list[str]:
        """ "skipped 3 boxes of zero area, first: train.json, image 4, annotation 17: bbox [0, 0, 0, 5]" """
        return [f"skipped {count} {kind}, first: {self._first[kind]}" for kind, count in self._counts.items()]
