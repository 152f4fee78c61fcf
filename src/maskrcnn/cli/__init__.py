"""The command `maskrcnn`: one function per command, thin over the public functions. No torch until a command runs.

Bad input ends in one sentence on stderr and exit code 2; `--traceback` shows the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from maskrcnn import __version__, options
from maskrcnn.config import Config
from maskrcnn.errors import ConfigError, DataError, MaskRCNNError
from maskrcnn.presets import PRESETS, preset

if TYPE_CHECKING:
    from maskrcnn.dataset import Dataset

TOLD = 10  # problems of the data that `train` prints
SAVES = ("overlay", "json", "masks")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done, 2 bad input, 130 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    show = "--traceback" in arguments
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            _run([argument for argument in arguments if argument != "--traceback"])
        except MaskRCNNError as error:
            if show:
                traceback.print_exc()
            print(f"error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:  # `maskrcnn config | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it exits
    return 0


def _run(arguments: Sequence[str]) -> None:
    namespace = _parser().parse_args(arguments)
    command = namespace.command
    given = namespace[command]
    if command == "inspect":
        command, given = f"inspect {given.what}", given[given.what]
    COMMANDS[command](given)


# ---------------------------------------------------------------- commands


def demo(given: Any) -> None:
    from maskrcnn.demo import run_demo

    run_demo(Path(given.out), minutes=given.minutes, device=given.device)


def train(given: Any) -> None:
    config, reasons, dataset, val = _planned(given)
    _say("\n".join(["the plan", *(f"  {reason}" for reason in reasons)]))
    _tell_problems(dataset, given.dataset)
    weights = None if given.resume else _weights(given.weights, config.model.backbone.name)
    from maskrcnn.training.loop import train as run_training

    run = run_training(
        config, train=dataset, val=val, weights=weights, out=given.out, resume=given.resume, device=given.device
    )
    _say(f"next: maskrcnn predict {run.checkpoint} IMAGES --out {Path(given.out) / 'predictions'}")


def evaluate(given: Any) -> None:
    from maskrcnn.evaluation.evaluate import evaluate as measure

    metrics = measure(given.model, _part(given.dataset, given.format, given.split), device=given.device)
    print(metrics)
    if given.json:
        _write_json(Path(given.json), metrics.to_dict())


def predict(given: Any) -> None:
    kinds = tuple(given.save.split(","))
    for kind in kinds:
        if kind not in SAVES:
            raise ConfigError(f"cannot save {kind!r}{options.nearest(kind, SAVES)}; kinds: {','.join(SAVES)}")
    if not 0 <= given.score_threshold <= 1:
        raise ConfigError(f"--score-threshold {given.score_threshold} must lie between 0 and 1")
    if given.batch_size < 1:
        raise ConfigError(f"--batch-size {given.batch_size} must be at least 1")
    from maskrcnn.predict.predictor import Predictor
    from maskrcnn.predict.results import save_results

    predictor = Predictor.load(given.model, device=given.device)
    stream = predictor.stream(given.source, batch_size=given.batch_size, score_threshold=given.score_threshold)
    print(save_results(stream, Path(given.out), kinds))


def inspect_data(given: Any) -> None:
    from maskrcnn.data.check import check_dataset

    dataset = _open(given.dataset, given.format)
    print(dataset.summary())
    problems = check_dataset(dataset)
    for problem in problems[: given.most]:
        print(problem)
    more = f", {given.most} shown (--most shows more)" if len(problems) > given.most else ""
    print(f"{len(problems)} problems{more}" if problems else "no problems")


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
    print(options.to_yaml(options.apply(preset(given.preset), _fields(given))), end="")


COMMANDS = {
    "demo": demo,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "inspect data": inspect_data,
    "doctor": doctor,
    "presets": presets,
    "config": show_config,
}


# ---------------------------------------------------------------- what several commands need


def _open(path: str, format: str) -> Dataset:
    from maskrcnn.data.open import open_dataset

    return open_dataset(path, format=format)


def _part(path: str, format: str, split: str) -> Dataset:
    """One split; a data set without any is taken whole."""
    dataset = _open(path, format)
    return dataset.split(split) if dataset.splits else dataset


def _planned(given: Any) -> tuple[Config, list[str], Dataset, Dataset | None]:
    """(config, reasons, train, val): preset and data, then the config file, then the command line.

    A resumed run keeps the config that it was started with.
    """
    from maskrcnn.plan import choose_splits, plan, set_fields

    name = None if given.preset == "auto" else given.preset
    fixed = _fields(given)
    set_fields(preset(name or "small"), fixed)  # mistakes end here, before the data is read
    earlier = _config_of(Path(given.out)) if given.resume else None
    if earlier:
        config = options.apply(earlier, fixed)
        fixed = {"train.seed": config.train.seed}
    dataset = _open(given.dataset, given.format)
    val = _open(given.val, "auto") if given.val else None
    training, validation, reason = choose_splits(dataset, val, fixed.get("train.seed", 0))
    if earlier:
        return config, [reason, f"the config of {given.out}"], training, validation
    planned = plan(
        training, name, fixed=fixed, accelerator=_has_accelerator(given.device), pretrained=given.weights != "none"
    )
    return planned.config, [reason, *planned.reasons], training, validation


def _tell_problems(dataset: Dataset, path: str) -> None:
    """What is wrong with the annotations, before the first step. Files are looked at when they are loaded."""
    from maskrcnn.data.check import check_dataset

    problems = check_dataset(dataset, decode=False)
    for problem in problems[:TOLD]:
        _say(str(problem))
    if len(problems) > TOLD:
        _say(f"and {len(problems) - TOLD} more: maskrcnn inspect data {path}")


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


def _weights(weights: str, backbone: str) -> str | Path | None:
    """What `train` takes: None, "last" or a file."""
    if weights == "none":
        return None
    if weights == "imagenet":
        from maskrcnn.weights.imagenet import imagenet_file

        return imagenet_file(backbone)
    return weights


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    """One line, as the errors; the code that noticed is of no interest to the user."""
    print(f"warning: {message}", file=sys.stderr)


def _say(text: str) -> None:
    """Print once, however many processes `accelerate launch` started."""
    if os.environ.get("RANK", "0") == "0":
        print(text, flush=True)


def _write_json(path: Path, value: Any) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write: {error.strerror}; choose another --json", path=path) from error


# ---------------------------------------------------------------- arguments


def _parser() -> Any:
    from jsonargparse import ArgumentParser

    parsers: list[ArgumentParser] = []

    class Parser(ArgumentParser):
        """Errors become `ConfigError`, one sentence with the nearest option."""

        def __init__(self, **keywords: Any) -> None:
            super().__init__(allow_abbrev=False, formatter_class=_Help, **keywords)
            parsers.append(self)

        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            known = {name for parser in parsers for action in parser._actions for name in action.option_strings}
            raise ConfigError(_sentence(message, known)) from ex

    top = Parser(prog="maskrcnn", description="Mask R-CNN: train, measure, look inside, predict.", epilog=EPILOG)
    top.add_argument("--version", action="version", version=f"maskrcnn {__version__}")
    commands = top.add_subcommands(dest="command", required=True)

    def command(name: str, help: str, group: Any = commands, usage: str | None = None) -> Any:
        parser = Parser(description=f"{help[0].upper()}{help[1:]}.", usage=usage)
        group.add_subcommand(name, parser, help=help)
        return parser

    device = {"type": str, "default": "auto", "help": "auto, cuda, cuda:1, mps or cpu"}
    formats = {"type": str, "default": "auto", "help": "name of the data format; auto looks at the files"}
    file = {"type": str, "metavar": "FILE", "help": "YAML or JSON with config fields, as `maskrcnn config` prints"}
    optional: dict[str, Any] = {"type": str | None, "default": None}

    p = command("demo", "make the Shapes data, train on it, measure, draw")
    p.add_argument("--out", type=str, default="runs/demo", help="folder for data, model and pictures")
    p.add_argument("--minutes", type=float | None, default=None, help="time limit of the training")
    p.add_argument("--device", **device)

    p = command("train", "train on a folder or an annotation file", usage="maskrcnn train DATA [options]")
    p.add_argument("dataset", type=str, metavar="DATA", help="folder or annotation file")
    p.add_argument("--val", **optional, metavar="DATA", help="validation data, where DATA does not hold any")
    p.add_argument("--format", **formats)
    p.add_argument("--preset", type=str, default="auto", help=f"auto looks at the data; or {', '.join(PRESETS)}")
    p.add_argument("--weights", type=str, default="imagenet", help="imagenet, none, last, a weight file or a run")
    p.add_argument("--out", type=str, default="runs/train", help="folder of the run")
    p.add_argument("--resume", action="store_true", help="go on with the run in --out")
    p.add_argument("--device", **device)
    p.add_argument("--config", default=None, **file | {"type": str | None})
    options.add_options(p)

    p = command("evaluate", "measure COCO AP of a model")
    p.add_argument("model", type=str, metavar="MODEL", help="run, checkpoint folder or weight file")
    p.add_argument("dataset", type=str, metavar="DATA", help="folder or annotation file")
    p.add_argument("--split", type=str, default="val", help="part of the data, where it has parts")
    p.add_argument("--format", **formats)
    p.add_argument("--json", **optional, metavar="FILE", help="write all numbers here too")
    p.add_argument("--device", **device)

    p = command("predict", "find objects in images, and draw or save them")
    p.add_argument("model", type=str, metavar="MODEL", help="run, checkpoint folder or weight file")
    p.add_argument("source", type=str, metavar="SOURCE", nargs="+", help="images and folders")
    p.add_argument("--out", type=str, required=True, help="folder for the results")
    p.add_argument("--save", type=str, default="overlay,json", help=f"any of {','.join(SAVES)}")
    p.add_argument("--score-threshold", type=float, default=0.5, help="weaker detections are left out")
    p.add_argument("--batch-size", type=int, default=1, help="images at a time")
    p.add_argument("--device", **device)

    p = command("inspect", "look inside data")
    inside = p.add_subcommands(dest="what", required=True)
    p = command("data", "say what is in a data set and what is wrong with it", inside)
    p.add_argument("dataset", type=str, metavar="DATA", help="folder or annotation file")
    p.add_argument("--format", **formats)
    p.add_argument("--most", type=int, default=50, help="problems to print")

    command("doctor", "print versions, devices and optional packages")
    command("presets", "list the presets")
    usage = "maskrcnn config [--preset NAME] [options]"
    p = command("config", "print every field of a preset with its meaning, as YAML for --config", usage=usage)
    p.add_argument("--preset", type=str, default="r50-fpn", help=", ".join(PRESETS))
    p.add_argument("--config", default=None, **file | {"type": str | None})
    options.add_options(p)
    return top


EPILOG = "Every command takes --help, and --traceback to show where an error came from."


class _Help(argparse.HelpFormatter):
    """Wide enough for dotted names, with the defaults."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=110)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        plain = action.default in (None, False, argparse.SUPPRESS) or not action.option_strings
        return action.help if plain else f"{action.help} (default: %(default)s)"


def _sentence(message: str, known: set[str]) -> str:
    """An argparse message on one line, with the nearest name where one is wrong."""
    message = " ".join(message.split())
    names = tuple(dict.fromkeys(name.split()[0] for name in COMMANDS))
    if found := re.match(r"unrecognized arguments: (\S+)", message):
        name = found[1].partition("=")[0]
        return f"unknown option {name}{options.nearest(name, known)}; `maskrcnn COMMAND --help` lists all"
    if found := re.match(r"argument (\S*\.)?(command|what): invalid choice: '(\S*)' \(choose from (.*)\)", message):
        choices = names if found[2] == "command" else tuple(found[4].replace("'", "").split(", "))
        return f"unknown command {found[3]!r}{options.nearest(found[3], choices)}; commands: {', '.join(choices)}"
    if found := re.match(r'expected "(\S*)" to be one of \{(.*?)\}', message):
        choices = names if found[1] == "command" else tuple(found[2].split(","))  # argparse cuts long lists
        return f"a command is missing: {', '.join(choices)}; `maskrcnn COMMAND --help` explains it"
    if found := re.match(r'Parser key "(\S+)": Expected a <class \'(\w+)\'>\. Got value: (.*)', message):
        return f"--{found[1].replace('_', '-')}: expected {found[2]}, got {found[3]!r}"
    if found := re.match(r"the following arguments are required: (.*)", message):
        missing = [name.rpartition(".")[2] for name in found[1].split(", ")]
        shown = ["--out" if name == "out" else name.replace("dataset", "data").upper() for name in missing]
        return f"missing: {', '.join(shown)}; `maskrcnn COMMAND --help` explains it"
    return message
