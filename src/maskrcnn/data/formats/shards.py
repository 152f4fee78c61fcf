"""Shards of a data set: a file, those that a pattern matches, or those of a folder; and the ones that are missing."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

_NUMBERED = re.compile(r"(.*)-(\d{5})-of-(\d{5})(.*)")


def shard_files(path: Path, names: str, depth: int = 2) -> list[Path]:
    """Files whose whole name matches the expression `names`, sorted; never raises.

    Args:
        path: a folder, searched down to `depth` folders below it; or a pattern like `x.record-?????-of-00010`, whose
            files count whatever they are called; or a file.
    """
    if path.is_file():
        return [path] if re.fullmatch(names, path.name) else []
    if path.is_dir():
        return sorted(_below(path, re.compile(names), depth))
    if not re.search(r"[*?\[]", path.name):
        return []
    try:
        return sorted(file for file in path.parent.glob(path.name) if file.is_file())
    except (OSError, ValueError):
        return []


def absent_shards(files: list[Path]) -> list[Path]:
    """What is missing of `NAME-00000-of-00010` where another one of the ten is there, sorted."""
    present: dict[tuple[Path, str, int, str], set[int]] = defaultdict(set)
    for file in files:
        if match := _NUMBERED.fullmatch(file.name):
            present[file.parent, match[1], int(match[3]), match[4]].add(int(match[2]))
    return sorted(
        folder / f"{base}-{number:05}-of-{count:05}{rest}"
        for (folder, base, count, rest), numbers in present.items()
        for number in sorted(set(range(count)) - numbers)
    )


def _below(folder: Path, names: re.Pattern[str], depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if names.fullmatch(entry.name) and entry.is_file():
                    yield folder / entry.name
                elif depth and entry.is_dir():
                    yield from _below(folder / entry.name, names, depth - 1)
    except OSError:  # a folder that may not be read holds nothing for us
        return
