"""The command line's options, and mistakes in them as one sentence."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from maskrcnn import __version__, options
from maskrcnn.cli.commands import COMMANDS
from maskrcnn.cli.predicted import SAVES
from maskrcnn.cli.tracked import METHODS
from maskrcnn.errors import ConfigError
from maskrcnn.presets import PRESETS


def make_parser(arguments: Sequence[str]) -> Any:
    """The parser for these arguments. Only the command that they name gets its options, which are hundreds."""
    if arguments[:1] in (["-h"], ["--help"]):
        return _overview()
    wanted, inner = [*(argument for argument in arguments if not argument.startswith("-")), "", ""][:2]
    from jsonargparse import ArgumentParser

    at_hand: list[ArgumentParser] = []

    class Parser(ArgumentParser):
        """Errors become `ConfigError`, one sentence with the nearest option."""

        def __init__(self, **keywords: Any) -> None:
            super().__init__(allow_abbrev=False, formatter_class=_Help, **keywords)

        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            known = {name for parser in at_hand for action in parser._actions for name in action.option_strings}
            raise ConfigError(_sentence(message, known)) from ex

    top = Parser(**TOP)
    top.add_argument("--version", action="version", version=f"maskrcnn {__version__}")
    commands = top.add_subcommands(dest="command", required=True)

    def command(name: str, help: str, group: Any = commands, usage: str | None = None) -> Any:
        parser = Parser(description=f"{help[0].upper()}{help[1:]}.", usage=usage)
        if name == (wanted if group is commands else inner):
            at_hand.append(parser)
        group.add_subcommand(name, parser, help=help)
        return _Unasked() if group is commands and name != wanted else parser

    _declare(command)
    return top


def _overview() -> Any:
    """What `maskrcnn --help` needs, without jsonargparse, whose import takes longer than all the rest."""
    lines: list[str] = []

    def command(name: str, help: str, group: Any = None, usage: str | None = None) -> Any:
        if group is None:
            lines.append(f"  {name:11}{help}")
        return _Unasked()

    _declare(command)
    epilog = "\n".join(["commands:", *lines, "", TOP["epilog"]])
    kind = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(**TOP | {"epilog": epilog}, usage="maskrcnn COMMAND ...", formatter_class=kind)
    top.add_argument("--version", action="version", help="print the version")
    return top


class _Unasked:
    """Stands for the parser of a command that is not asked for: takes options, and forgets them."""

    def add_argument(self, *names: str, **keywords: Any) -> None:
        pass

    def add_argument_group(self, *titles: str) -> _Unasked:
        return self

    def add_subcommands(self, **keywords: Any) -> _Unasked:
        return self

    def add_subcommand(self, *subcommand: Any, **keywords: Any) -> None:
        pass


def _declare(command: Any) -> None:
    """Every command and its options. `command(name, help, group, usage)` makes a parser."""
    device = {"type": str, "default": "auto", "help": "auto, cuda, cuda:1, mps or cpu"}
    trust = {"action": "store_true", "help": "run an exported .pt2 that holds machine code"}
    formats = {"type": str, "default": "auto", "help": "name of the data format; auto looks at the files"}
    file = {"type": str, "metavar": "FILE", "help": "YAML or JSON with config fields, as `maskrcnn config` prints"}
    boxes = {"type": str, "default": "given", "help": "given: as annotated; masks: made anew around the masks"}
    optional: dict[str, Any] = {"type": str | None, "default": None}
    theirs = {**optional, "metavar": "FILE", "help": f"that the weights had: {CONFIGS}"}

    tile = {**optional, "nargs": "?", "const": "auto", "metavar": "SIZE",
            "help": "cut large images into tiles of this side in pixels; without a number: as in training"}  # fmt: skip
    overlap = {"type": int | None, "default": None, "metavar": "N",
               "help": "pixels that tiles share at least; without: by the sizes of the objects"}  # fmt: skip

    p = command("demo", "make the Shapes data, train on it, measure, draw")
    p.add_argument("--out", type=str, default="runs/demo", help="folder for data, model and pictures")
    p.add_argument("--minutes", type=float | None, default=None, help="time limit of the training")
    p.add_argument("--device", **device)

    p = command("train", "train on a folder or an annotation file", usage=TRAIN)
    p.add_argument("dataset", type=str, nargs="+", metavar="DATA", help=f"{DATA}; or {PIPELINE}")
    p.add_argument("--val", **optional, metavar="DATA", help="validation data, where DATA does not hold any")
    p.add_argument("--format", **formats)
    p.add_argument("--boxes", **boxes)
    p.add_argument(
        "--preset",
        type=str,
        default="auto",
        help=f"auto looks at weights and data; or {', '.join(PRESETS)}",
    )
    p.add_argument("--weights", type=str, default="auto", help=WEIGHTS)
    p.add_argument("--model-config", **theirs | {"help": f"of the network, with or without its --weights: {CONFIGS}"})
    p.add_argument("--out", type=str, default="runs/train", help="folder of the run")
    p.add_argument("--check", type=str, default="auto", help=CHECK)
    p.add_argument("--resume", action="store_true", help="go on with the run in --out")
    p.add_argument("--device", **device)
    p.add_argument("--config", default=None, **file | {"type": str | None})
    options.add_options(p)

    usage = "maskrcnn evaluate MODEL|RESULTS.json DATA [DATA ...] [options]"
    p = command("evaluate", "measure AP of a model, or of a file of COCO results, and explain it", usage=usage)
    p.add_argument("model", type=str, metavar="MODEL", help="run, checkpoint, weight file, or .json of COCO results")
    p.add_argument("dataset", type=str, nargs="+", metavar="DATA", help=f"{DATA}; or {PIPELINE}")
    p.add_argument("--split", **optional, help="part of the data, where it has parts; without: val, or the only one")
    p.add_argument("--label-map", **optional, metavar="FILE", help=f"names the classes of the records: {NAMES}")
    p.add_argument("--model-config", **theirs)
    p.add_argument("--format", **formats)
    p.add_argument("--boxes", **boxes)
    p.add_argument("--max-detections", type=int, nargs="+", metavar="N",
                   help="limits of detections an image and class; without: 1 10 100")  # fmt: skip
    p.add_argument("--boundary", action="store_true", help="boundary AP too")
    p.add_argument("--lvis", action="store_true", help="LVIS's numbers too; needs LVIS's annotations")
    p.add_argument("--voc", action="store_true", help="Pascal VOC's AP too")
    p.add_argument("--explain", action="store_true", help="say what is wrong most, and how sure the numbers are")
    p.add_argument("--compare", **optional, metavar="OTHER", help="model or results: is it better than MODEL?")
    p.add_argument("--tile", **tile)
    p.add_argument("--overlap", **overlap)
    p.add_argument("--draws", type=int | None, default=None, metavar="N",
                   help="samples of the images for --explain and --compare; without: 200, to compare 1000")  # fmt: skip
    p.add_argument("--out", **optional, metavar="DIR", help="write all numbers, the results and report.html here")
    p.add_argument("--json", **optional, metavar="FILE", help="write all numbers here too")
    p.add_argument("--device", **device)
    p.add_argument("--trust", **trust)

    p = command("predict", "find objects in images, and draw or save them", usage=PREDICT)
    p.add_argument("model", type=str, metavar="MODEL", help=f"{MODEL}; without: torchvision's published one, for COCO")
    p.add_argument("source", type=str, metavar="SOURCE", nargs="*", help=SOURCES)
    p.add_argument("--out", type=str, default="predictions", help="folder for the results")
    p.add_argument("--save", type=str, default="overlay,json", help=f"any of {','.join(SAVES)}")
    p.add_argument("--label-map", **optional, metavar="FILE", help=f"names the model's classes: {NAMES}")
    p.add_argument("--model-config", **theirs)
    p.add_argument("--score-threshold", type=float, default=0.5, help="weaker detections are left out")
    p.add_argument("--classes", **optional, metavar="NAME,...", help="leave out all others; without: all")
    p.add_argument("--batch-size", type=int | None, default=None, help="images at a time; without: what fits")
    p.add_argument("--tile", **tile)
    p.add_argument("--overlap", **overlap)
    p.add_argument("--track", type=str | None, nargs="?", const="bytetrack", default=None, metavar="METHOD",
                   help=f"number objects through films and folders of frames: {', '.join(METHODS)}")  # fmt: skip
    p.add_argument("--track-overlap", **optional, metavar="KIND", help="box or mask: by what an object is found again")
    p.add_argument("--patience", type=float | None, default=None, metavar="S",
                   help="seconds that a tracked object out of sight is waited for; without: 1")  # fmt: skip
    line, zone = "NAME=X0,Y0,X1,Y1", "NAME=X0,Y0,X1,Y1,X2,Y2..."
    p.add_argument("--line", type=str, nargs="+", action="extend", metavar=line, help="count what crosses it")
    p.add_argument("--zone", type=str, nargs="+", action="extend", metavar=zone, help="count what is in it")
    p.add_argument("--overwrite", action="store_true", help="begin anew, downloads too; without: go on")
    p.add_argument("--show", action="store_true", help="open a window; q or Escape stops")
    p.add_argument("--device", **device)
    p.add_argument("--trust", **trust)

    p = command("export", "write a model for other runtimes and check what was written", usage=EXPORT)
    p.add_argument("model", type=str, metavar="MODEL", help="run, checkpoint folder or weight file")
    p.add_argument("file", type=str, metavar="FILE", help="to write: .onnx, .xml (OpenVINO) or .pt2 (PyTorch)")
    p.add_argument("--model-config", **theirs)
    p.add_argument("--precision", type=str, default="float32", help="float32; for .xml also float16 and int8")
    p.add_argument("--calibrate", **optional, metavar="DATA", help="typical images for int8: a data set or a folder")
    p.add_argument("--size", type=str, nargs="+", metavar="HxW", help="of the network's input; without: all sizes")
    p.add_argument("--batch", type=str, default="1", help="images at a time, or any")
    p.add_argument("--opset", type=int | None, default=None, help="of an .onnx file")
    p.add_argument("--compiled", action="store_true", help="a .pt2 with machine code for this kind of processor")

    p = command("serve", "answer over HTTP, with a page to try the model on", usage="maskrcnn serve MODEL [options]")
    p.add_argument("model", type=str, metavar="MODEL", help=f"{MODEL}, or an exported file")
    p.add_argument("--host", type=str, default="127.0.0.1", help="127.0.0.1: this machine alone; 0.0.0.0: everybody")
    p.add_argument("--port", type=int, default=8000, help="0: a free one")
    p.add_argument("--label-map", **optional, metavar="FILE", help=f"names the model's classes: {NAMES}")
    p.add_argument("--model-config", **theirs)
    p.add_argument(
        "--batch-size", type=int | None, default=None, help="images through the network together; 8, on a CPU 1"
    )
    p.add_argument("--batch-wait", type=float, default=5, metavar="MS", help="that a batch waits for more images")
    p.add_argument("--queue", type=int, default=64, metavar="N", help="images that may wait; more are answered 503")
    p.add_argument("--max-megabytes", type=float, default=25, metavar="N", help="of one request")
    p.add_argument("--max-megapixels", type=float, default=50, metavar="N", help="of one image")
    p.add_argument("--rate", type=float, default=50, metavar="N", help="requests a second and client; 0: no limit")
    p.add_argument("--timeout", type=float, default=60, metavar="S", help="seconds for an answer")
    p.add_argument("--device", **device)
    p.add_argument("--trust", **trust)

    several: dict[str, Any] = {"type": str, "nargs": "+"}
    number: dict[str, Any] = {"type": int | None, "default": None}
    p = command("benchmark", "measure how fast a model trains and predicts on this machine", usage=BENCHMARK)
    p.add_argument("parts", type=str, nargs="*", metavar="PART", help="infer, train, data, eval, export")
    p.add_argument("--model", **several, help="run, checkpoint, weight file; for the part export also exported files")
    p.add_argument("--preset", **optional, metavar="NAME", help="instead of a model, with random weights; r50-fpn")
    p.add_argument("--data", **several, help="for the parts data and eval")
    p.add_argument("--format", **formats)
    p.add_argument("--device", **device)
    p.add_argument("--precision", type=str, default="auto", help="auto, float32, bf16 or fp16")
    p.add_argument("--batch", **optional, metavar="N,N", help="images at a time, such as 1,2,8")
    p.add_argument("--size", **optional, metavar="HxW,HxW", help="of the network's input, such as 320x448,800x1344")
    p.add_argument("--repeat", **number, metavar="N", help="runs of each; without: as many as fit into seconds")
    p.add_argument("--threads", **number, metavar="N", help="of PyTorch")
    p.add_argument("--scaling", action="store_true", help="how time grows with proposals, detections, classes, area")
    p.add_argument("--json", **optional, metavar="FILE", help="write all numbers here too")
    p.add_argument("--compare", **optional, metavar="EARLIER.json", help="put the numbers next to earlier ones")
    p.add_argument("--trust", **trust)

    p = command("inspect", "look inside data, a model, its weights, or a run")
    inside = p.add_subcommands(dest="what", required=True)
    p = command("data", "say what is in a data set and what is wrong with it", inside)
    p.add_argument("dataset", type=str, nargs="+", metavar="DATA", help=DATA)
    p.add_argument("--format", **formats)
    p.add_argument("--boxes", **boxes)
    p.add_argument("--most", type=int, default=50, help="problems to print")
    p.add_argument("--html", **optional, metavar="FILE", help="write a page with pictures, charts and all problems")
    p.add_argument("--config", default=None, **file | {"type": str | None})
    options.add_options(p)

    usage = "maskrcnn inspect model MODEL [IMAGE] [--data DATA] [options]"
    p = command("model", "show every stage of one image's way through a model, on a page", inside, usage)
    p.add_argument("model", type=str, metavar="MODEL", help=MODEL)
    p.add_argument("image", type=str | None, nargs="?", metavar="IMAGE", help="without: the first annotated of --data")
    p.add_argument("--data", **several, metavar="DATA", help="where the truth of IMAGE is; without: no losses")
    p.add_argument("--format", **formats)
    p.add_argument("--boxes", **boxes)
    p.add_argument("--model-config", **theirs)
    p.add_argument("--layers", **several, metavar="NAME", help="whose maps to show; without: trunk and pyramid")
    p.add_argument("--score-threshold", type=float, default=0.5, help="weaker detections are drawn dotted")
    p.add_argument("--out", type=str, default="inspect-model.html", metavar="FILE", help="the page")

    usage = "maskrcnn inspect weights MODEL [OTHER] [options]"
    p = command("weights", "say what is odd about the numbers of a model, or compare two", inside, usage)
    p.add_argument("model", type=str, metavar="MODEL", help=MODEL)
    p.add_argument("other", type=str | None, nargs="?", metavar="OTHER", help="to compare with")
    p.add_argument("--model-config", **theirs)
    p.add_argument("--out", **optional, metavar="FILE", help="write a page with histograms and charts")

    p = command("run", "show the curves of training runs and what is odd about them", inside)
    p.add_argument("run", type=str, nargs="+", metavar="DIR", help="folder of a run; several are compared")
    p.add_argument("--out", **optional, metavar="FILE", help="write a page with charts")

    p = command("convert", "write data, weights or a config in another format")
    inside = p.add_subcommands(dest="what", required=True)
    usage = "maskrcnn convert data SRC DST --to FORMAT [options]"
    p = command("data", "write a data set in another format, into a new folder", inside, usage)
    p.add_argument("dataset", type=str, metavar="SRC", help=DATA)
    p.add_argument("dst", type=str, metavar="DST", help="new folder")
    p.add_argument("--to", type=str, required=True, help="coco, tfrecord, yolo, labelme, voc, png or tar")
    p.add_argument("--format", **formats)
    p.add_argument("--boxes", **boxes)
    p.add_argument("--split", **optional, help="only this part of the data")
    share = {"type": float | None, "default": None, "metavar": "SHARE"}
    p.add_argument("--hold-out", **share, help="draw this share of the images as split val (seeded, class by class)")
    p.add_argument("--mask-type", **optional, metavar="TYPE", help="masks of a tfrecord: png or numerical")
    p.add_argument("--shards", type=int | None, default=None, help="files of a tfrecord, for each split")

    usage = "maskrcnn convert config SRC DST [options]"
    p = command("config", "turn a pipeline.config into YAML, or a config into a pipeline.config", inside, usage)
    p.add_argument("src", type=str, metavar="SRC", help="a pipeline.config (.config), YAML, JSON or a run")
    p.add_argument("dst", type=str, metavar="DST", help="new file: .yaml, or .config for a pipeline.config")
    p.add_argument("--add-masks", action="store_true", help="turn Faster R-CNN into Mask R-CNN, in six steps")
    p.add_argument("--mask-type", type=str, default="png", help="with --add-masks: png or numerical, as in the records")
    p.add_argument("--train-records", type=str, nargs="+", metavar="FILE", help="put into train_input_reader")
    p.add_argument("--val-records", type=str, nargs="+", metavar="FILE", help="put into eval_input_reader")
    p.add_argument("--label-map", **optional, metavar="FILE", help="put into both input readers")
    p.add_argument("--checkpoint", **optional, metavar="PATH", help="put into fine_tune_checkpoint")
    p.add_argument("--num-classes", **number, metavar="N", help="number of classes of a pipeline.config")
    p.add_argument("--config", default=None, **file | {"type": str | None})
    options.add_options(p)

    usage = "maskrcnn convert weights SRC DST [options]"
    p = command("weights", "write another framework's weights as a checkpoint, or the other way", inside, usage)
    p.add_argument("src", type=str, metavar="SRC", help=f"{MODEL}, TensorFlow's model.ckpt, .pb or SavedModel")
    p.add_argument("dst", type=str, metavar="DST", help="new folder, DIR/model.ckpt, NAME.pth or NAME.h5, see --to")
    p.add_argument("--to", **optional, help="maskrcnn, tensorflow, torchvision (.pth), matterport (.h5); by the name")
    p.add_argument("--config", **theirs)
    p.add_argument("--pipeline-config", **optional, metavar="FILE", help="of TensorFlow's SRC; the same as --config")
    p.add_argument("--label-map", **optional, metavar="FILE", help=f"names of SRC: {NAMES}")
    p.add_argument("--classes", **several, metavar="NAME", help="names of SRC, without the background")
    p.add_argument("--moving-averages", action="store_true", help="take the moving averages of the variables")

    command("doctor", "print versions, devices and optional packages")
    command("presets", "list the presets")
    usage = "maskrcnn config [--preset NAME] [options]"
    p = command("config", "print every field of a preset with its meaning, as YAML for --config", usage=usage)
    p.add_argument("--preset", type=str, default="r50-fpn", help=", ".join(PRESETS))
    p.add_argument("--config", default=None, **file | {"type": str | None})
    options.add_options(p)


TOP: dict[str, Any] = {
    "prog": "maskrcnn",
    "description": "Mask R-CNN: train, measure, look inside, predict.",
    "epilog": "Every command takes --help, and --traceback to show where an error came from.",
}
BENCHMARK = "maskrcnn benchmark [PART ...] [options]"
TRAIN = "maskrcnn train DATA [options]"
PIPELINE = "a pipeline.config of the TensorFlow Object Detection API, which names its data"
WEIGHTS = (
    "coco (torchvision's detector), imagenet, last, none, a weight file or a run; auto: imagenet, or the "
    "fine_tune_checkpoint of a pipeline.config"
)
MODEL = "run, checkpoint folder, weight file or torchvision:NAME"
SOURCES = (
    "image, film, folder, pattern, http(s):// or rtsp:// address, number of a camera, TIFF@TOP:BOTTOM,LEFT:RIGHT, or - "
    "for a list of them on stdin; in any mix"
)
PREDICT = "maskrcnn predict [MODEL] SOURCE [SOURCE ...] [options]"
CONFIGS = "Detectron2's YAML, MMDetection's or Matterport's .py, a pipeline.config"
NAMES = "a .pbtxt, a text with one name a line, or JSON"
EXPORT = "maskrcnn export MODEL FILE [options]"
CHECK = "all reads every file first, annotations none; auto: all up to 20,000 images; none checks nothing"
DATA = "folder, annotation file or shards; several are joined, their classes by name"


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
    kind = r"<class '((?!NoneType)\w+)'>"
    union = rf'Parser key "(\S+)": Does not validate against any of the Union .*?{kind}.* Given value: (.*)'
    if found := re.match(union, message):
        return f"--{found[1].replace('_', '-')}: expected {found[2]}, got {found[3]!r}"
    if found := re.match(r"the following arguments are required: (.*)", message):
        missing = [name.rpartition(".")[2] for name in found[1].split(", ")]
        shown = [f"--{name}" if name in ("out", "to") else name.replace("dataset", "data").upper() for name in missing]
        return f"missing: {', '.join(shown)}; `maskrcnn COMMAND --help` explains it"
    return message
