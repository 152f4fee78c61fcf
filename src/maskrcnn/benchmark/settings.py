"""What `maskrcnn benchmark` is asked to do, checked before anything is loaded. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from maskrcnn.errors import ConfigError
from maskrcnn.fields import nearest
from maskrcnn.presets import preset

PARTS = ("infer", "train", "data", "eval", "export")
EXPORTED = (".onnx", ".xml", ".pt2")
DEFAULT_PRESET = "r50-fpn"
PRECISIONS = ("auto", "float32", "bf16", "fp16")

Precision = Literal["auto", "float32", "bf16", "fp16"]


@dataclass(frozen=True)
class Settings:
    """A request that makes sense.

    Attributes:
        parts: of `PARTS`, in that order.
        models: runs, checkpoints, weight files; several only for `export`.
        preset: random weights of this preset, where there is no model to load.
        data: what `open_dataset` opens; a list of paths.
        format: of the data.
        device: "auto", "cpu", "cuda", ...
        precision: "auto", "float32", "bf16" or "fp16" (inference on CUDA).
        batches: images at a time; () leaves it to each part.
        sizes: (height, width) of the network's input before padding; () is what the model's config makes of a photo.
        repeat: runs of each measurement; None: as many as fit into a few seconds.
        threads: of PyTorch; None: its own choice.
        scaling: measure how inference grows with proposals, detections, classes and image area.
        trust: run an exported file that holds machine code.
    """

    parts: tuple[str, ...]
    models: tuple[str, ...] = ()
    preset: str = DEFAULT_PRESET
    data: tuple[str, ...] = ()
    format: str = "auto"
    device: str = "auto"
    precision: Precision = "auto"
    batches: tuple[int, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    repeat: int | None = None
    threads: int | None = None
    scaling: bool = False
    trust: bool = False


def make_settings(
    parts: Sequence[str] = (),
    *,
    models: Sequence[str] = (),
    preset_name: str | None = None,
    data: Sequence[str] = (),
    format: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    batch: str | None = None,
    size: str | None = None,
    repeat: int | None = None,
    threads: int | None = None,
    scaling: bool = False,
    trust: bool = False,
) -> Settings:
    """From what stands on the command line.

    Args:
        parts: names of `PARTS`; none: what the models and the data allow, in a minute or two.
        batch: "1,2,8".
        size: "320x448,800x1344".

    Raises:
        ConfigError: an unknown part or preset, a part without what it needs, numbers that cannot be read.
    """
    for part in parts:
        if part not in PARTS:
            raise ConfigError(f"unknown part {part!r}{nearest(part, PARTS)}; parts: {', '.join(PARTS)}")
    exported = [model for model in models if model.endswith(EXPORTED)]
    wanted = tuple(part for part in PARTS if part in (parts or _default_parts(exported, data)))
    _check_models(wanted, models, exported, preset_name)
    if "data" in wanted and not data:
        raise ConfigError("the part data needs images to load; give some: --data DATA")
    if data and not {"data", "eval"} & set(wanted):
        raise ConfigError(f"--data is for the parts data and eval, not for {' and '.join(wanted)}; leave it out")
    if scaling and "infer" not in wanted:
        raise ConfigError(f"--scaling belongs to the part infer, not to {' and '.join(wanted)}; add infer")
    if precision not in PRECISIONS:
        raise ConfigError(f"--precision {precision!r}{nearest(precision, PRECISIONS)}; one of {', '.join(PRECISIONS)}")
    if precision == "fp16" and {"train", "data"} & set(wanted):
        raise ConfigError("--precision fp16 is for prediction; training runs in float32 or bf16")
    for option, number in (("--repeat", repeat), ("--threads", threads)):
        if number is not None and number < 1:
            raise ConfigError(f"{option} {number} must be at least 1")
    name = preset_name or DEFAULT_PRESET
    preset(name)
    return Settings(
        wanted,
        tuple(models),
        name,
        tuple(data),
        format,
        device,
        precision,  # type: ignore[arg-type]
        tuple(map(_batch, batch.split(","))) if batch else (),
        tuple(map(_size, size.split(","))) if size else (),
        repeat,
        threads,
        scaling,
        trust,
    )


def _default_parts(exported: Sequence[str], data: Sequence[str]) -> tuple[str, ...]:
    if exported:
        return ("export",)
    return ("infer", "train", "data") if data else ("infer", "train")


def _check_models(
    parts: tuple[str, ...], models: Sequence[str], exported: Sequence[str], preset_name: str | None
) -> None:
    if models and preset_name:
        raise ConfigError(f"--model {models[0]} and --preset {preset_name} exclude each other; leave one out")
    if "export" in parts and not exported:
        raise ConfigError("the part export times written files; give some: --model FILE.onnx (or .xml, .pt2)")
    others = [part for part in parts if part != "export"]
    if others and exported:
        raise ConfigError(
            f"{exported[0]} is an exported file, which the part {others[0]} cannot take apart; "
            f"maskrcnn benchmark export --model {exported[0]}"
        )
    if others and len(models) > 1:
        raise ConfigError(f"the part {others[0]} takes one model, got {len(models)}: {', '.join(models)}")


def _batch(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise ConfigError(f"--batch {text!r} is not a number of images; give numbers such as 1,2,8")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    height, cross, width = text.strip().partition("x")
    if not (cross and height.isdecimal() and width.isdecimal()) or min(int(height), int(width)) < 32:
        raise ConfigError(
            f"--size {text!r} is not HEIGHTxWIDTH in pixels, from 32 on; give sizes such as 320x448,800x1344"
        )
    return int(height), int(width)
