"""A dict of a config with its place in the file, so that what is asked of it and refused can be named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maskrcnn.errors import ConfigError
from maskrcnn.weights.expressions import Unread, is_number


@dataclass(frozen=True)
class Part:
    """Attributes: values, the dict; path, its dotted name in the file, "" for the whole; where, the file."""

    values: Mapping[str, Any]
    path: str
    where: str

    def field(self, name: str) -> str:
        """The dotted name of an entry."""
        return f"{self.path}.{name}" if self.path else name

    def get(self, name: str, default: Any = None) -> Any:
        """An entry. Raises `ConfigError` where it is more than data."""
        value = self.values.get(name, default)
        if isinstance(value, Unread):
            raise self.error(name, f"line {value.line} {value.why}; write the value itself")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """An entry that must be a number. Raises `ConfigError`."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(name, f"{value!r:.60} is no number")
        if not is_number(value):
            raise self.error(name, f"{value!r:.60} is no finite number")
        return value

    def whole(self, name: str, default: int | None = None) -> int:
        """An entry that must be a whole number. Raises `ConfigError`."""
        value = self.number(name, default)
        if value != int(value):
            raise self.error(name, f"{value!r} is no whole number")
        return int(value)

    def numbers(self, name: str, default: Sequence[float] | None = None, count: int | None = None) -> tuple[float, ...]:
        """An entry that must be a list of numbers, perhaps of a given length. Raises `ConfigError`."""
        value = self.get(name, default)
        good = isinstance(value, (list, tuple)) and all(is_number(item) for item in value)
        if not good or (count is not None and len(value) != count):
            raise self.error(name, f"{value!r:.60} is no list of {count or 'some'} numbers")
        return tuple(float(item) for item in value)

    def part(self, name: str) -> Part:
        """An entry that must be a dict; empty where there is none. Raises `ConfigError`."""
        value = self.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise self.error(name, f"{value!r:.60} is no dict")
        return Part(value or {}, self.field(name), self.where)

    def parts(self, name: str, count: int) -> list[Part]:
        """An entry that must be a list of `count` dicts, or one dict for all. Raises `ConfigError`."""
        value = self.get(name)
        if not isinstance(value, (list, tuple)):
            return [self.part(name)] * count
        if len(value) != count or not all(isinstance(item, Mapping) for item in value):
            raise self.error(name, f"has not one dict for each of {count} stages")
        return [Part(item, f"{self.field(name)}[{i}]", self.where) for i, item in enumerate(value)]

    def only(self, **fixed: Any) -> None:
        """Refuse entries with another value than the one that is built here, which is that of a missing entry too."""
        for name, wanted in fixed.items():
            value = self.get(name, wanted)
            if _plain(value) != _plain(wanted):
                raise self.error(name, f"{value!r:.60} is not built here, only {wanted!r}; take another checkpoint")

    def choice(self, name: str, known: Mapping[str, Any], what: str) -> Any:
        """What the name in an entry stands for; `mmdet.` and the like in front of it are dropped."""
        value = self.get(name)
        short = str(value).rpartition(".")[2]
        if short not in known:
            raise self.error(name, f"{value!r:.60} is no {what} that is read; {', '.join(known)} are")
        return known[short]

    def error(self, name: str, message: str) -> ConfigError:
        """With the file and the place in it."""
        return ConfigError(f"{self.field(name)}: {message}", field=self.where)


def _plain(value: Any) -> Any:
    """Lists and tuples compare alike."""
    return tuple(_plain(item) for item in value) if isinstance(value, (list, tuple)) else value
