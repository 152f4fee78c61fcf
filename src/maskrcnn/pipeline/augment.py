"""`train_config.data_augmentation_options` <-> the augmentation fields of `DataConfig`.

Flips and the hue mean the same; factors and windows are drawn a little differently, which is said. The others of the
API have no counterpart and are reported as ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maskrcnn.config import DataConfig
from maskrcnn.pipeline.messages import MAPPED
from maskrcnn.pipeline.schema import NOT_NEGATIVE, Range, View
from maskrcnn.pipeline.values import number, value
from maskrcnn.text_proto import Entry, Message

FLIPS = ("random_horizontal_flip", "random_vertical_flip")
NONE = {
    f"data.{name}": 0.0
    for name in ("horizontal_flip", "vertical_flip", "brightness", "contrast", "saturation", "hue", "crop", "jpeg")
}
"""Without options nothing is augmented."""
HALF = Range(lambda value: 0 <= value <= 0.5, "lie between 0 and 0.5")
FACTOR = "the factor is drawn from 1 +- {value:g}"
DISTORTED = {"data.brightness": 32.0 / 255.0, "data.saturation": 0.5, "data.hue": 0.2, "data.contrast": 0.5}
"""What random_distort_color draws from, in both of its orders."""


def read_augmentation(train: View, notes: list[str]) -> dict[str, Any]:
    """Dotted fields of the data. Raises `ConfigError` for a chance that is none."""
    changes: dict[str, Any] = dict(NONE)
    seen: set[str] = set()
    for option in train.parts("data_augmentation_options"):
        for name in option.given():
            if name in MAPPED:
                found = _READ[name](option.part(name))
                if name in seen and name in FLIPS:
                    found = {field: _one_of(chance, changes[field]) for field, chance in found.items()}
                elif name in seen:
                    notes.append(f"line {option.line(name)}: {name}: is there more than once; here the last one counts")
                changes |= found
                seen.add(name)
                if name in _SAID:
                    notes.append(f"line {option.line(name)}: {name}: {_SAID[name](changes)}")
    return changes


def _one_of(chance: float, other: float) -> float:
    """Two flips after each other: they are none where both happen."""
    return round(chance + other - 2 * chance * other, 12)


def _chance(field: str) -> Callable[[View], dict[str, Any]]:
    def read(view: View) -> dict[str, Any]:
        chance = view.get("probability")
        if not 0 <= chance <= 1:
            raise view.error("probability", f"{chance} must lie between 0 and 1")
        return {field: chance}

    return read


def _spread(field: str) -> Callable[[View], dict[str, Any]]:
    """The larger distance from 1: 0.8 to 1.25 becomes 1 +- 0.25."""

    def read(view: View) -> dict[str, Any]:
        return {field: round(max(1 - view.get("min_delta"), view.get("max_delta") - 1, 0.0), 12)}

    return read


def _unless(field: str) -> Callable[[View], dict[str, Any]]:
    """`random_coef` is the chance that nothing happens."""

    def read(view: View) -> dict[str, Any]:
        if not 0 <= (kept := view.get("random_coef")) <= 1:
            raise view.error("random_coef", f"{kept} must lie between 0 and 1")
        return {field: round(1 - kept, 12)}

    return read


_READ: dict[str, Callable[[View], dict[str, Any]]] = {
    "random_horizontal_flip": _chance("data.horizontal_flip"),
    "random_vertical_flip": _chance("data.vertical_flip"),
    "random_adjust_brightness": lambda view: {"data.brightness": view.within("max_delta", NOT_NEGATIVE)},
    "random_adjust_contrast": _spread("data.contrast"),
    "random_adjust_saturation": _spread("data.saturation"),
    "random_adjust_hue": lambda view: {"data.hue": view.within("max_delta", HALF)},
    "random_distort_color": lambda view: DISTORTED,
    "random_crop_image": _unless("data.crop"),
    "random_jpeg_quality": _unless("data.jpeg"),
}
_SAID: dict[str, Callable[[dict[str, Any]], str]] = {
    "random_adjust_brightness": lambda c: f"brightness is multiplied here, {FACTOR.format(value=c['data.brightness'])}",
    "random_adjust_contrast": lambda c: FACTOR.format(value=c["data.contrast"]),
    "random_adjust_saturation": lambda c: FACTOR.format(value=c["data.saturation"]),
    "random_distort_color": lambda c: "brightness is multiplied here; the order is ours",
    "random_crop_image": lambda c: f"a window of 50 to 100 % of each side, with probability {c['data.crop']:g}",
    "random_jpeg_quality": lambda c: f"quality 30 to 95, with probability {c['data.jpeg']:g}",
}


# ---------------------------------------------------------------- writing


def write_augmentation(data: DataConfig, message: Message) -> None:
    """Put the options into a `train_config`; those without a counterpart here stay."""
    kept = [
        entry
        for entry in message.all("data_augmentation_options")
        if isinstance(entry.value, Message) and not any(inner.name in MAPPED for inner in entry.value.entries)
    ]
    message.put("data_augmentation_options")
    message.entries += [*kept, *(_option(name, fields) for name, fields in _options(data))]


def _options(data: DataConfig) -> list[tuple[str, dict[str, float]]]:
    options: list[tuple[str, dict[str, float]]] = []
    for name, chance in (("horizontal", data.horizontal_flip), ("vertical", data.vertical_flip)):
        if chance:
            options.append((f"random_{name}_flip", {} if chance == 0.5 else {"probability": chance}))
    for name, delta in (("brightness", data.brightness), ("hue", data.hue)):
        if delta:
            options.append((f"random_adjust_{name}", {"max_delta": delta}))
    for name, spread in (("contrast", data.contrast), ("saturation", data.saturation)):
        if spread:
            high = number(1 + spread, lambda high: round(high - 1, 12), spread)
            options.append((f"random_adjust_{name}", {"min_delta": max(0.0, round(1 - spread, 12)), "max_delta": high}))
    for name, chance in (("crop_image", data.crop), ("jpeg_quality", data.jpeg)):
        if chance:
            options.append((f"random_{name}", {"random_coef": round(1 - chance, 12)}))
    return options


def _option(name: str, fields: dict[str, float]) -> Entry:
    message = Message()
    inner = message.part(name)
    for field, given in fields.items():
        inner.put(field, value(given))
    return Entry("data_augmentation_options", message)
