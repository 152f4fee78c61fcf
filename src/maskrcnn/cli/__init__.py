"""The command `maskrcnn`: one function per command, thin over the public functions. No torch until a command runs.

Bad input ends in one sentence on stderr and exit code 2; `--traceback` shows the rest.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from maskrcnn.cli.arguments import make_parser
from maskrcnn.cli.commands import COMMANDS
from maskrcnn.errors import MaskRCNNError
from maskrcnn.memory import keep_memory

HEAVY = ("demo", "train", "evaluate", "predict", "export", "serve", "benchmark")
"""Commands that run the network."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done, 1 done in part, 2 bad input, 130 interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    show = "--traceback" in arguments
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            return _run([argument for argument in arguments if argument != "--traceback"])
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


def _run(arguments: Sequence[str]) -> int:
    namespace = make_parser(arguments).parse_args(arguments)
    command = namespace.command
    given = namespace[command]
    if command in ("inspect", "convert"):
        command, given = f"{command} {given.what}", given[given.what]
    if command in HEAVY:
        keep_memory()
    return COMMANDS[command](given) or 0


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    """One line, as the errors; the code that noticed is of no interest to the user."""
    print(f"warning: {message}", file=sys.stderr)
