"""What a reader left out or mended: counted by kind, with the first example of each."""

from __future__ import annotations

from pathlib import Path


class Skipped:
    """Collects, then speaks: one sentence a kind."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._first: dict[tuple[str, str], str] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(
        self,
        kind: str,
        path: Path,
        image: object,
        annotation: object,
        value: str,
        verb: str = "skipped",
        times: int = 1,
    ) -> None:
        """More of `kind`, a plural: "boxes of zero area"; `verb` says what was done."""
        key = verb, kind
        self._counts[key] = self._counts.get(key, 0) + times
        if key not in self._first:
            where = [str(path)]
            where += [] if image is None else [f"image {image}"]
            where += [] if annotation is None else [f"annotation {annotation}"]
            self._first[key] = f"{', '.join(where)}: {value:.200}"

    def extend(self, other: Skipped) -> None:
        """All that another one counted."""
        for key, count in other._counts.items():
            self._counts[key] = self._counts.get(key, 0) + count
            self._first.setdefault(key, other._first[key])

    def sentences(self) -> list[str]:
        """ "skipped 3 boxes of zero area, first: train.json, image 4, annotation 17: bbox [0, 0, 0, 5]" """
        return [f"{verb} {n} {kind}, first: {self._first[verb, kind]}" for (verb, kind), n in self._counts.items()]
