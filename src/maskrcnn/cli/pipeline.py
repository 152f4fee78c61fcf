"""What the commands do with a `pipeline.config` of the TensorFlow Object Detection API: convert it, train from it."""

from __future__ import annotations

import json
import shlex
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskrcnn import options
from maskrcnn.cli.commands import _checked, _config_of, _fields, _weights
from maskrcnn.cli.output import say
from maskrcnn.config import Config, TrainConfig
from maskrcnn.errors import ConfigError
from maskrcnn.pipeline.labels import PLACEHOLDER, is_there, places
from maskrcnn.pipeline.read import Pipeline, from_message, looks_like_pipeline, read_pipeline
from maskrcnn.pipeline.schedule import PLAIN

if TYPE_CHECKING:
    from maskrcnn.dataset import Dataset

MASK_TYPES = {"png": "PNG_MASKS", "numerical": "NUMERICAL_MASKS"}
YAML = (".yaml", ".yml", ".json")


def convert(given: Any) -> None:
    """SRC, a pipeline.config or a config of ours -> DST, the other or the same kind, with fields changed."""
    source, target = Path(given.src), Path(given.dst)
    if target.suffix not in (*YAML, ".config"):
        raise ConfigError(f"{target}: name it .yaml for maskrcnn's own format, or .config for a pipeline.config")
    if target.exists():
        raise ConfigError(f"{target}: is there already; choose another name, or delete it")
    paths: dict[str, Any] = {
        "train": tuple(given.train_records or ()),
        "val": tuple(given.val_records or ()),
        "label_map": given.label_map or "",
        "checkpoint": given.checkpoint or "",
    }
    base: Pipeline | None = None
    if looks_like_pipeline(source):
        base = (
            _with_masks(source, given, paths) if given.add_masks else read_pipeline(source, classes=given.num_classes)
        )
        config = with_fields(base.config, _fields(given))
        _tell(base)
    else:
        if given.add_masks:
            raise ConfigError(f"{source}: --add-masks is for a pipeline.config (named .config)")
        config = _ours(source, _fields(given))
    if target.suffix == ".config":
        from maskrcnn.pipeline.write import pipeline_text

        if base is None and given.num_classes is None:
            raise ConfigError("--num-classes is missing: a pipeline.config names the number of classes")
        text = pipeline_text(config, classes=given.num_classes, base=base, **paths)
    else:
        unused = [f"--{name.replace('_', '-')}" for name in ("label_map", "num_classes") if getattr(given, name)]
        unused += ["--train-records"] * bool(paths["train"]) + ["--val-records"] * bool(paths["val"])
        if unused and not given.add_masks:
            raise ConfigError(
                f"{', '.join(unused)}: YAML holds no paths or classes; write a .config, or leave them out"
            )
        text = (
            _text(config, source, base) if target.suffix != ".json" else json.dumps(config.to_dict(), indent=2) + "\n"
        )
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written ({error.strerror})") from error
    print(f"written: {target}\nnext: {_next(target, base)}")


def _text(config: Config, source: Path, base: Pipeline | None) -> str:
    """YAML, with what it cannot hold as a comment on top."""
    lines = [f"# from {source}"]
    if base:
        lines[0] += f", {base.num_classes} classes"
        for reader in filter(None, (base.train_data, base.val_data)):
            lines.append(f"# {reader.field}: {' '.join(reader.paths)}, label map {reader.label_map}")
        if base.fine_tune_checkpoint:
            lines.append(f"# fine_tune_checkpoint: {base.fine_tune_checkpoint}")
    return "\n".join(lines) + "\n" + options.to_yaml(config)


def _next(target: Path, base: Pipeline | None) -> str:
    """The command to train with, and what becomes of what YAML cannot hold. Placeholders are left out of it."""
    if target.suffix == ".config":
        return f"maskrcnn train {shlex.quote(str(target))}"
    if base is None:
        return f"maskrcnn train DATA --config {shlex.quote(str(target))}"
    records, val = ([_found(base, path) for path in reader.paths if not PLACEHOLDER.search(path)] if reader else []
                    for reader in (base.train_data, base.val_data))  # fmt: skip
    words = ["maskrcnn", "train", *(records or ["DATA"]), *(["--val", val[0]] if val else [])]
    if base.fine_tune_checkpoint and not PLACEHOLDER.search(base.fine_tune_checkpoint):
        words += ["--weights", _found(base, base.fine_tune_checkpoint)]
    lines = [shlex.join([*words, "--config", str(target)])]
    if base.train_data and base.train_data.label_map:
        lines.append("note: the class names then come from the records, not from the label map")
    if len(val) > 1:
        lines.append(f"note: --val takes one path, eval_input_reader has {len(val)}: {', '.join(val)}")
    return "\n".join(lines)


def _found(pipeline: Pipeline, given: str) -> str:
    """A path of the file as it is seen from here; as it stands where nothing is there."""
    return str(next((place for place in places(given, pipeline.path) if is_there(place)), given))


def _with_masks(source: Path, given: Any, paths: dict[str, Any]) -> Pipeline:
    from maskrcnn.pipeline.recipe import add_masks

    if given.mask_type not in MASK_TYPES:
        raise ConfigError(f"--mask-type {given.mask_type!r} must be png or numerical")
    message, steps = add_masks(source, mask_type=MASK_TYPES[given.mask_type], classes=given.num_classes, **paths)
    print("\n".join(map(str, steps)))
    return from_message(message, source)


def _ours(source: Path, fixed: dict[str, Any]) -> Config:
    """A YAML or JSON file, or the config of a run."""
    earlier = _config_of(source) if source.is_dir() else None
    if earlier:
        return with_fields(earlier, fixed)
    values = options.read_file(source)
    if "model.backbone.name" not in values:
        raise ConfigError(f"{source}: is not a whole config, as `maskrcnn config` prints it; it names no trunk")
    return options.apply(Config(), {**values, **fixed})


def with_fields(config: Config, fixed: dict[str, Any]) -> Config:
    """The config with the user's fields. Rates count for the batch as it is, as in the API, whatever its size.

    A new learning rate scales a manual schedule as a whole; a new schedule or optimiser forgets the numbers of the old
    one; epochs take the place of steps.
    """
    follow: dict[str, Any] = {}
    train = config.train
    if "train.epochs" in fixed:
        follow["train.steps"] = None
    if "train.batch_size" in fixed:
        follow["train.learning_rate_batch"] = fixed["train.batch_size"]
    if fixed.get("train.optimizer", train.optimizer) != train.optimizer:
        follow |= {f"train.{name}": getattr(TrainConfig, name) for name in ("optimizer_eps", "momentum", "rms_decay")}
    if "model.mask" in fixed and fixed["model.mask"] is None:
        follow["train.monitor"] = "auto"  # there is nothing but boxes to watch
    if fixed.get("train.schedule", train.schedule) != train.schedule:
        follow |= PLAIN
        if fixed["train.schedule"] == "cosine":
            follow["train.decay_steps"] = {"train.steps": train.steps, **follow, **fixed}["train.steps"]
    elif train.schedule == "manual" and isinstance(rate := fixed.get("train.learning_rate"), float | int):
        follow["train.rates"] = [[step, float(f"{old * rate / train.learning_rate:.12g}")] for step, old in train.rates]
    return options.apply(config, {**follow, **fixed})


def _tell(pipeline: Pipeline) -> None:
    classes = f"{pipeline.num_classes} classes"
    model = "Faster R-CNN, without masks" if pipeline.config.model.mask is None else "Mask R-CNN"
    say(f"{pipeline.path}: {model} on {pipeline.config.model.backbone.name}, {classes}")
    for kind, sentences in (("not the same here", pipeline.notes), ("ignored", pipeline.ignored)):
        if sentences:
            say("\n".join([f"{kind}:", *(f"  {sentence}" for sentence in sentences)]))


# ---------------------------------------------------------------- train


def planned(given: Any) -> tuple[Config, list[str], Dataset, Dataset | None, Any]:
    """(config, reasons, train, val, weights) of `maskrcnn train pipeline.config [RECORDS ...]`.

    The config is taken as it is, nothing is fitted to the data.
    """
    from maskrcnn.pipeline.data import check_masks, check_placeholders, fine_tune_checkpoint, open_pipeline_data

    if given.preset != "auto":
        raise ConfigError(f"--preset {given.preset}: the model is that of {given.dataset[0]}; leave one of the two out")
    if given.model_config:
        raise ConfigError(
            f"--model-config {given.model_config}: the model is that of {given.dataset[0]}; leave one of the two out"
        )
    fixed = _fields(given)
    pipeline = read_pipeline(given.dataset[0])
    _tell(pipeline)
    config = with_fields(pipeline.config, fixed)
    records, validation = given.dataset[1:], [given.val] if given.val else []
    masks = config.model.mask is not None or "model.mask" not in fixed
    starts = given.weights == "auto" and not given.resume
    if masks:
        check_masks(pipeline)
    check_placeholders(pipeline, train=not records, val=not validation, weights=starts)
    weights: Any = None
    if not given.resume:
        weights = fine_tune_checkpoint(pipeline) if starts else _weights(given.weights, config.model)
    train, val, notes = open_pipeline_data(pipeline, train=records, val=validation, masks=masks)
    reasons = [f"the config of {pipeline.path}", *notes]
    if given.resume and (earlier := _config_of(Path(given.out))):
        config, edits = _resumed(earlier, config, fixed, pipeline)
        reasons = [f"the config of {given.out}", *edits, *notes]
    same = val is train
    if given.boxes == "masks":
        from maskrcnn.data.regenerate import boxes_from_masks

        train, val = boxes_from_masks(train), val and boxes_from_masks(val)
    train = _checked(train, given)
    if same:
        say("the validation is on the same records")
    val = train if same else val and _checked(val, given)
    return config, reasons, train, val, weights


def _resumed(earlier: Config, now: Config, fixed: dict[str, Any], pipeline: Pipeline) -> tuple[Config, list[str]]:
    """The config of the run, with more steps where the file has more by now; and what else differs from the file."""
    from maskrcnn.pipeline.write import differences
    from maskrcnn.training.optim import may_go_on

    config, reasons = with_fields(earlier, fixed), []
    old, new = config.train.steps, now.train.steps
    if not {"train.steps", "train.epochs"} & fixed.keys() and old and new and new > old:
        longer = config.replace(**{"train.steps": new})
        if may_go_on(config.train, longer.train):
            config = longer
            reasons.append(
                f"train.steps {new}, as {pipeline.path} says now; {old} before (--train.steps {old} keeps it)"
            )
    for name in differences(config, now):
        here, there = (reduce(getattr, name.split("."), c) for c in (config, now))
        reasons.append(f"{name} stays {here!r} in this run, although {pipeline.path} says {there!r}")
    return config, reasons
