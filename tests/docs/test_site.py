"""The site builds without a warning, and its reference has everything that the code has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import maskrcnn
from maskrcnn import options
from maskrcnn.presets import PRESETS
from tests.docs.pages import DOCS, ROOT

sys.path.append(str(DOCS))
import from_code


def build(out: Path) -> dict[str, str]:
    """Every page of the site, path -> HTML. Fails with what Sphinx says at any warning."""
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-d", str(out / "trees")]
    result = subprocess.run(
        [*command, str(DOCS), str(out / "site")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    assert result.returncode == 0, result.stderr
    return {str(path.relative_to(out / "site")): path.read_text() for path in (out / "site").rglob("*.html")}


def test_builds_without_warnings_and_has_every_name(tmp_path: Path) -> None:
    pages = build(tmp_path)
    assert {f"{page.relative_to(DOCS).with_suffix('')}.html" for page in DOCS.rglob("*.md")} <= pages.keys()
    for field in options.fields():
        assert f'id="confval-{field.name}"' in pages["reference/config.html"], field.name
    for name in maskrcnn.__all__[1:]:
        assert f'id="maskrcnn.{name}"' in pages["reference/api.html"], name
    for page, text in pages.items():
        assert "{from-code}" not in text, page
        assert not re.search(r'<(img|script|link)[^>]*(src|href)="(https?:)?//', text), f"{page} loads from the network"


def test_every_field_is_there_with_its_default_and_meaning() -> None:
    text = from_code.config_fields()
    for field in options.fields():
        assert f"{{confval}} {field.name}\n" in text
        assert from_code.escaped(field.doc) in text
    assert "`FLOAT`; default: `0.7`" in text.partition("{confval} model.rpn.nms_iou\n")[2].partition("```")[0]


@pytest.mark.parametrize("command", from_code.COMMANDS)
def test_every_option_is_there(command: str) -> None:
    section = from_code.command_line().partition(f"## maskrcnn {command}\n")[2].partition("\n## ")[0]
    fields = {f"--{field.name}" for field in options.fields()}
    for action in from_code.command_parser(command)._actions:
        names = set(action.option_strings) - {"-h", "--help"}
        if names & fields:
            assert "every [field of the config]" in section
        else:
            assert not names or any(f"{{option}} {name}" in section for name in names), names


def test_every_preset_is_there() -> None:
    text = from_code.presets()
    assert all(f"## {name}\n" in text for name in PRESETS)
    assert "| `model.fpn.channels` | `96` |" in text.partition("## small\n")[2].partition("## ")[0]
    assert "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x" in text


def test_plain_words_stay_plain() -> None:
    assert from_code.escaped("pre_nms_* of `a_b`") == r"pre\_nms\_\* of `a_b`"
    assert from_code.escaped("go on in --out, see `--x`") == "go on in `--out`, see `--x`"


def test_links_that_leave_the_pages_become_downloads() -> None:
    assert (
        from_code.outside("[a](../README.md#x) [b](data.md#y)", "index")
        == "{download}`a <../README.md>` [b](data.md#y)"
    )
