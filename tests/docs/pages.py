"""What stands in the pages: fences and commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def fences(page: Path, *languages: str) -> Iterator[str]:
    """The text of each fenced block in one of these languages; "" is a block that names none."""
    for language, text in re.findall(r"^```(\S*)[^\n]*\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
        if language in languages:
            yield text


def commands(page: Path) -> Iterator[tuple[str, bool]]:
    """(what is typed, whether it is whole): lines of fenced blocks, and commands inside a sentence or table."""
    for text in fences(page, "", "bash", "sh"):
        for line in text.replace("\\\n", " ").splitlines():
            found = re.match(r"(?:\w+=\S+ )*(maskrcnn .*)", line)
            if found:
                yield re.split(r"\s+#|\s{3,}", found[1])[0].strip(), True
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for typed in re.findall(r"`(maskrcnn [^`]*)`", prose):
        yield " ".join(typed.replace("\\|", "|").rstrip(" \\").split()), False
