"""Parts of pages that are made from the code while the site is built, so that they cannot be out of date.

A fence `{from-code} NAME` in a page stands for the Markdown that `PARTS[NAME]()` returns.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import maskrcnn
from maskrcnn import options
from maskrcnn.cli.arguments import make_parser
from maskrcnn.cli.commands import COMMANDS
from maskrcnn.config import Config, KeypointHeadConfig
from maskrcnn.presets import PRESETS
from maskrcnn.presets.detectron2 import ZOO

DOCS = Path(__file__).parent.resolve()
FENCE = re.compile(r"^```\{from-code\} ([\w-]+)\n```$", re.MULTILINE)


def escaped(text: str) -> str:
    """Plain words as Markdown; what stands in backticks stays, and options get some."""
    text = re.sub(r"(?<![`\w-])--[a-z][\w.-]*", r"`\g<0>`", text)
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*_<>\[\]$|\\])", r"\\\1", part) for part in parts)


def entry(kind: str, name: str, doc: str, *lines: str) -> str:
    """A Sphinx description, which search and links find; `lines` are Markdown after the plain words of `doc`."""
    return "\n".join([f"```{{{kind}}} {name}", "", escaped(doc), *lines, "```", ""])


# ---------------------------------------------------------------- config


def config_fields() -> str:
    """A section for each part of the config, an entry for each field."""
    full = Config().replace(**{"model.keypoint": KeypointHeadConfig()}).to_dict()
    fields = {field.name: field for field in options.fields()}
    lines = []
    for part, doc in config_parts():
        own = [field for name, field in fields.items() if name.rpartition(".")[0] == part]
        lines += [f"## {part}\n", escaped(doc) + "\n", *(field_entry(field, full) for field in own)]
    return "\n".join(lines)


def config_parts(part: type = Config, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, what it is) of every dataclass inside the config."""
    for name, hint in typing.get_type_hints(part).items():
        inner = [kind for kind in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(kind)]
        if inner:
            yield prefix + name, inspect.getdoc(inner[0]) or ""
            yield from config_parts(typing.cast(type, inner[0]), f"{prefix}{name}.")


def field_entry(field: options.Field, full: dict) -> str:
    value: Any = full
    for name in field.name.split("."):
        value = value[name]
    if isinstance(value, dict):  # a part that may be absent
        absent = Config().to_dict()["model"][field.name.rpartition(".")[2]] is None
        default = "`null`" if absent else "the fields of its section below"
        return entry("confval", field.name, field.doc, "", f"`null`, or fields; default: {default}")
    return entry("confval", field.name, field.doc, "", f"`{field.kind}`; default: `{json.dumps(value)}`")


# ---------------------------------------------------------------- command line


def command_line() -> str:
    """A section for each command, an entry for each option."""
    fields = {f"--{field.name}" for field in options.fields()}
    lines = []
    for command in COMMANDS:
        parser = command_parser(command)
        actions = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
        lines += [f"## maskrcnn {command}\n", escaped(parser.description) + "\n"]
        lines += [
            f"```text\n{usage(command, parser, actions)}\n```\n",
            f"```{{program}} maskrcnn {command}\n```\n",
        ]
        lines += [option_entry(action) for action in actions if not fields & set(action.option_strings)]
        if any(fields & set(action.option_strings) for action in actions):
            lines.append("And every [field of the config](config.md) by its dotted name, as in `--train.epochs 20`.\n")
    return "\n".join(lines)


def command_parser(command: str) -> argparse.ArgumentParser:
    """The parser of `maskrcnn COMMAND`, with all its options."""
    parser = make_parser(command.split())
    for name in command.split():
        (group,) = [action for action in parser._actions if hasattr(action, "_name_parser_map")]
        parser = group._name_parser_map[name]
    return parser


def usage(command: str, parser: argparse.ArgumentParser, actions: list[argparse.Action]) -> str:
    if parser.usage:
        return parser.usage
    words = [str(action.metavar) for action in actions if not action.option_strings]
    return " ".join(["maskrcnn", command, *words, "[options]" if len(words) < len(actions) else ""]).strip()


def option_entry(action: argparse.Action) -> str:
    name = action.option_strings[-1] if action.option_strings else str(action.metavar)
    takes = action.option_strings and action.nargs != 0
    value = f" {action.metavar or action.dest.upper()}" if takes else ""
    more = " ..." if action.nargs in ("+", "*") else ""
    doc = action.help or ""
    if takes and action.default not in (None, False, argparse.SUPPRESS):
        doc += f" (default: `{action.default}`)"
    return entry("option", f"{name}{value}{more}", doc)


# ---------------------------------------------------------------- presets


def presets() -> str:
    """What each preset sets, where it differs from the defaults of the config."""
    plain = dict(flat(Config().to_dict()))
    lines = []
    for name, make in PRESETS.items():
        config = dict(flat(make().to_dict()))
        changed = {key: value for key, value in config.items() if key not in plain or plain[key] != value}
        gone = [key for key in plain if key not in config and key.rpartition(".")[0] not in changed]
        changed |= {part: None for part in {".".join(key.split(".")[:2]) for key in gone} if part not in changed}
        lines += [f"## {name}\n"]
        if not changed:
            lines.append("The defaults of every field.\n")
            continue
        if len(changed) == 1:
            lines += [f"`{key}`: `{json.dumps(value)}`.\n" for key, value in changed.items()]
            continue
        lines += ["| field | value |", "|---|---|"]
        lines += [f"| `{key}` | `{json.dumps(value)}` |" for key, value in changed.items()] + [""]
    lines += ["## Detectron2's model zoo\n", "| name | trunk | steps | learning rate |", "|---|---|---|---|"]
    for name, make in ZOO.items():
        model, train = make().model, make().train
        lines.append(f"| `{name}` | {model.backbone.name} | {train.steps} | {train.learning_rate} |")
    return "\n".join(lines) + "\n"


def flat(table: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


# ---------------------------------------------------------------- Python


def public_names() -> str:
    """Autodoc of every name in `maskrcnn.__all__`: functions, then classes, then errors."""
    names = [name for name in maskrcnn.__all__ if not name.startswith("__")]
    values = {name: getattr(maskrcnn, name) for name in names}
    errors = [name for name, value in values.items() if inspect.isclass(value) and issubclass(value, Exception)]
    classes = [name for name, value in values.items() if inspect.isclass(value) and name not in errors]
    functions = [name for name in names if name not in errors and name not in classes]
    lines = []
    for title, group in (("Functions", functions), ("Classes", classes), ("Errors", errors)):
        lines += [f"## {title}\n"]
        for name in group:
            kind = "function" if group is functions else "exception" if group is errors else "class"
            members = [] if group is functions else ["   :members:"]
            members += ["   :show-inheritance:"] if group is errors else []
            lines += [f"### {name}\n", "```{eval-rst}", f".. auto{kind}:: maskrcnn.{name}", *members, "```", ""]
    return "\n".join(lines)


PARTS = {
    "config-fields": config_fields,
    "command-line": command_line,
    "presets": presets,
    "public-names": public_names,
}


def fill(text: str) -> str:
    """A page's Markdown with its `{from-code}` fences replaced."""
    return FENCE.sub(lambda match: PARTS[match[1]](), text)


def outside(text: str, page: str) -> str:
    """Links to Markdown files that lie outside docs/, and so have no page, become downloads."""

    def download(match: re.Match) -> str:
        there = (DOCS / page).parent / match[2]
        return match[0] if there.resolve().is_relative_to(DOCS) else f"{{download}}`{match[1]} <{match[2]}>`"

    return re.sub(r"\[([^\]]+)\]\(([^)#:]+\.md)(?:#[^)]*)?\)", download, text)


def setup(app: Any) -> dict[str, bool]:
    def read(app: Any, page: str, source: list[str]) -> None:
        source[0] = outside(fill(source[0]), page)

    def literal(app: Any, what: str, name: str, value: Any, settings: Any, lines: list[str]) -> None:
        lines[:] = [re.sub(r"(?<!`)(`[^`]+`)(?![`_])", r"`\1`", line) for line in lines]

    app.connect("source-read", read)
    app.connect("autodoc-process-docstring", literal, priority=400)  # before napoleon splits at colons
    return {"parallel_read_safe": True}
