"""One function per command, thin over the public functions. Each takes the parsed arguments; torch loads in there."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskrcnn import options
from maskrcnn.cli.evaluated import evaluate
from maskrcnn.cli.inspected import inspect_model, inspect_run, inspect_weights
from maskrcnn.cli.output import say, speaks
from maskrcnn.cli.predicted import predict
from maskrcnn.cli.served import serve
from maskrcnn.config import Config, ModelConfig
from maskrcnn.errors import ConfigError
from maskrcnn.pipeline.read import looks_like_pipeline
from maskrcnn.presets import PRESETS, preset

if TYPE_CHECKING:
    from maskrcnn.dataset import Dataset

TOLD = 10  # problems of the data that `train` prints
MOST_DECODED = 20_000  # images that `train` reads before its first step; more would take many minutes
CHECKS = ("auto", "all", "annotations", "none")


def demo(given: Any) -> None:
    from maskrcnn.demo import run_demo

    run_demo(Path(given.out), minutes=given.minutes, device=given.device)


def train(given: Any) -> None:
    if given.check not in CHECKS:
        raise ConfigError(f"--check {given.check!r}{options.nearest(given.check, CHECKS)}; one of {', '.join(CHECKS)}")
    if looks_like_pipeline(given.dataset[0]):
        from maskrcnn.cli.pipeline import planned

        config, reasons, dataset, val, weights = planned(given)
    else:
        config, reasons, dataset, val = _planned(given)
        weights = None if given.resume else _weights(given.weights, config.model)
    say("\n".join(["the plan", *(f"  {reason}" for reason in reasons)]))
    from maskrcnn.training.loop import train as run_training

    run = run_training(
        config,
        train=dataset,
        val=val,
        weights=weights,
        weights_config=given.model_config,
        out=given.out,
        resume=given.resume,
        device=given.device,
    )
    say(f"next: maskrcnn predict {run.checkpoint} IMAGES --out {Path(given.out) / 'predictions'}")


def export(given: Any) -> None:
    from maskrcnn.exporting.export import export as write
    from maskrcnn.weights.load import load_weights

    sizes = [_pair(text) for text in given.size or []]
    batch = None if given.batch == "any" else _number("--batch", given.batch)
    files = write(
        load_weights(given.model, config=given.model_config) if given.model_config else given.model,
        given.file,
        precision=given.precision,
        size=sizes or None,
        batch=batch,
        opset=given.opset,
        calibrate=given.calibrate,
        compiled=given.compiled,
    )
    print("\n".join(map(str, files)))


def _pair(text: str) -> tuple[int, int]:
    """ "800x1344" -> (800, 1344)."""
    height, cross, width = text.partition("x")
    if not (cross and height.isdecimal() and width.isdecimal()):
        raise ConfigError(f"--size {text!r} must be HEIGHTxWIDTH in pixels, such as 800x1344")
    return int(height), int(width)


def _number(option: str, text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"{option} {text!r} must be a number or any")
    return int(text)


def benchmark(given: Any) -> None:
    from maskrcnn.benchmark.report import check_writable, compare, read_report, write_report
    from maskrcnn.benchmark.settings import make_settings

    settings = make_settings(
        given.parts,
        models=given.model or [],
        preset_name=given.preset,
        data=given.data or [],
        format=given.format,
        device=given.device,
        precision=given.precision,
        batch=given.batch,
        size=given.size,
        repeat=given.repeat,
        threads=given.threads,
        scaling=given.scaling,
        trust=given.trust,
    )
    earlier = read_report(given.compare) if given.compare else None
    if given.json:
        check_writable(given.json)
    from maskrcnn.benchmark.run import run
    from maskrcnn.benchmark.show import show, show_comparison

    report = run(settings)
    show(report)
    if given.json:
        write_report(report, given.json)
    if earlier:
        show_comparison(compare(report, earlier), given.compare)


def inspect_data(given: Any) -> None:
    from maskrcnn.data.check import check_dataset

    dataset = _open(given)
    print(dataset.summary(warnings=False))
    problems = check_dataset(dataset, progress=True)
    for problem in problems[: given.most]:
        print(problem)
    more = f", {given.most} shown (--most shows more)" if len(problems) > given.most else ""
    print(f"{len(problems)} problems{more}" if problems else "no problems")
    if given.html:
        from maskrcnn.view.data import data_report

        print(f"page: {data_report(dataset, problems, _config_for(dataset, _fields(given)), given.html)}")


def _config_for(dataset: Dataset, fixed: dict[str, Any]) -> Config:
    """What `train` would choose; for data without anything to learn from, the light preset."""
    from maskrcnn.plan import plan, set_fields

    learnable = len(dataset) and not dataset.table.crowd.all()
    return plan(dataset, fixed=fixed).config if learnable else set_fields(preset("small"), fixed)


def convert_data(given: Any) -> None:
    from maskrcnn.data.convert import convert_dataset
    from maskrcnn.data.splits import hold_out

    chosen = {"mask_type": given.mask_type, "shards": given.shards}
    dataset = _part(given, given.split)
    if given.hold_out is not None:
        dataset = hold_out(dataset, given.hold_out)
    changed = convert_dataset(dataset, given.dst, given.to, **{k: v for k, v in chosen.items() if v is not None})
    print("\n".join([*(f"note: {sentence}" for sentence in changed), f"{len(dataset)} images written to {given.dst}"]))


def convert_config(given: Any) -> None:
    from maskrcnn.cli.pipeline import convert

    convert(given)


def convert_weights(given: Any) -> None:
    from maskrcnn.weights.convert import convert_weights as convert

    for one, other in (("config", "pipeline_config"), ("classes", "label_map")):
        if given[one] and given[other]:
            raise ConfigError(f"--{one} and --{other.replace('_', '-')} say the same thing; leave one of them out")
    files = convert(
        given.src,
        given.dst,
        to=given.to,
        config=given.config or given.pipeline_config,
        classes=given.classes or given.label_map,
        moving_averages=given.moving_averages or None,
    )
    print("\n".join(f"written: {file}" for file in files))
    theirs = next((f" --model-config {file}" for file in files if file.suffix == ".py"), "")  # Matterport's Config
    print(f"next: maskrcnn predict {given.dst} IMAGES{theirs} --out predictions")


def doctor(given: Any) -> None:
    from maskrcnn.doctor import report

    print(report())


def presets(given: Any) -> None:
    for name in PRESETS:
        config = preset(name)
        data, schedule = config.data, config.train
        print(
            f"{name:22} {config.model.backbone.name}, input {data.min_size}-{data.max_size} px, "
            f"{schedule.optimizer}, {schedule.epochs:g} epochs"
        )


def show_config(given: Any) -> None:
    from maskrcnn.plan import set_fields

    print(options.to_yaml(set_fields(preset(given.preset), _fields(given))), end="")


COMMANDS = {
    "demo": demo,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "serve": serve,
    "benchmark": benchmark,
    "inspect data": inspect_data,
    "inspect model": inspect_model,
    "inspect weights": inspect_weights,
    "inspect run": inspect_run,
    "convert data": convert_data,
    "convert config": convert_config,
    "convert weights": convert_weights,
    "doctor": doctor,
    "presets": presets,
    "config": show_config,
}


# ---------------------------------------------------------------- what several commands need


def _open(given: Any) -> Dataset:
    from maskrcnn.data.open import open_dataset

    return open_dataset(given.dataset, given.format, boxes=given.boxes)


def _part(given: Any, split: str | None) -> Dataset:
    """One split; a data set without any is taken whole."""
    dataset = _open(given)
    return dataset.split(split) if split and dataset.splits else dataset


def _planned(given: Any) -> tuple[Config, list[str], Dataset, Dataset | None]:
    """(config, reasons, train, val): preset and data, then the config file, then the command line.

    A resumed run keeps the config that it was started with.
    """
    from maskrcnn.cli.start import check_model_config, network_of_start
    from maskrcnn.data.open import open_dataset
    from maskrcnn.plan import choose_splits, plan, set_fields

    name = None if given.preset == "auto" else given.preset
    fixed = _fields(given)
    set_fields(preset(name or "small"), fixed)  # mistakes end here, before the data is read
    check_model_config(given)
    earlier = _config_of(Path(given.out)) if given.resume else None
    network, origin, notes = (None, "", ()) if name or given.resume else network_of_start(given)
    if earlier:
        config = options.apply(earlier, fixed)
        fixed = {"train.seed": config.train.seed}
    dataset = _checked(_open(given), given)
    val = _checked(open_dataset(given.val), given) if given.val else None
    training, validation, reason = choose_splits(dataset, val, fixed.get("train.seed", 0))
    if earlier:
        return config, [reason, f"the config of {given.out}"], training, validation
    heads: list[str] = []
    if network:
        from maskrcnn.weights.start import fit_heads

        network, heads = fit_heads(network, training)
    planned = plan(
        training,
        name or network,
        fixed=fixed,
        accelerator=_has_accelerator(given.device),
        pretrained=given.weights != "none",
        origin=origin,
    )
    return planned.config, [reason, *planned.reasons, *heads, *notes], training, validation


def _checked(dataset: Dataset, given: Any) -> Dataset:
    """The data set with its safe repairs made, after saying what is in it and what is wrong with it."""
    from maskrcnn.data.repair import check_and_repair

    say(dataset.summary(warnings=False))
    if given.check == "none":
        return dataset
    decode = given.check == "all" or (given.check == "auto" and len(dataset) <= MOST_DECODED)
    repaired, problems, sentences = check_and_repair(dataset, decode=decode, progress=speaks())
    for problem in problems[:TOLD]:
        say(str(problem))
    if len(problems) > TOLD:
        say(f"and {len(problems) - TOLD} more: maskrcnn inspect data {' '.join(map(shlex.quote, given.dataset))}")
    for sentence in sentences:
        say(sentence)
    if not decode:
        say("only the annotations were checked, the files will be when they are loaded; --check all reads them first")
    return repaired


def _config_of(out: Path) -> Config | None:
    """The config of the run in `out`; None when there is none (then `train` says so)."""
    from maskrcnn.weights.folder import current_folder
    from maskrcnn.weights.native import HEADER, read_json

    header = current_folder(out / "checkpoints" / "last") / HEADER
    return Config.from_dict(read_json(header).get("config", {})) if header.is_file() else None


def _has_accelerator(device: str) -> bool:
    import torch

    return device != "cpu" and (torch.cuda.is_available() or torch.backends.mps.is_available())


def _fields(given: Any) -> dict[str, Any]:
    """The config fields that the user set, in the config file and, stronger, on the command line."""
    return {**(options.read_file(Path(given.config)) if given.config else {}), **options.chosen(given)}


def _weights(weights: str, model: ModelConfig) -> str | Path | None:
    """What `train` takes: None, "last", a published name or a path."""
    if weights == "none":
        return None
    if weights in ("auto", "imagenet"):
        from maskrcnn.weights.imagenet import imagenet_file

        return imagenet_file(model.backbone.name)
    if weights == "coco":
        from maskrcnn.weights.start import coco_name

        return coco_name(model)
    return weights
