"""What commands print, and the JSON that they write."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from maskrcnn.errors import DataError


def say(text: str) -> None:
    """Print once, however many processes `accelerate launch` started."""
    if speaks():
        print(text, flush=True)


def speaks() -> bool:
    """Whether this process is the one that prints."""
    return os.environ.get("RANK", "0") == "0"


def write_json(path: Path, value: Any) -> None:
    """Raises `DataError` when it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write: {error.strerror}; choose another --json", path=path) from error
