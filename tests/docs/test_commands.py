"""Every `maskrcnn` command in the pages is one that the parser takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from maskrcnn.cli.arguments import make_parser
from maskrcnn.errors import ConfigError
from tests.docs.pages import PAGES, commands, name


def mistake(typed: str, whole: bool) -> str | None:
    """What the parser says against it; in a sentence, what is required may be left out."""
    words = shlex.split(typed)[1:]
    pattern = "..." in words or not words[0].islower() or (not whole and "[" in typed)
    if pattern or "--help" in words:
        return None
    try:
        make_parser(words).parse_args(words)
    except ConfigError as error:
        left_out = re.match(
            r"missing|a command is missing|argument \S+: expected (one|at least one) argument", str(error)
        )
        return None if left_out and not whole else f"{typed}: {error}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_parse(page: Path) -> None:
    assert [said for typed, whole in commands(page) if (said := mistake(typed, whole))] == []


def test_the_check_sees_a_wrong_option() -> None:
    assert "unknown option --epochs" in (mistake("maskrcnn train data --epochs 5", True) or "")
    assert "missing" in (mistake("maskrcnn train", True) or "")
    assert mistake("maskrcnn train", False) is None
