"""Draw every figure of the explanation anew: `make figures`, or `python docs/figures/draw_all.py`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).parent
FIGURES = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in ("canvas", "draw_all"))


def main() -> None:
    sys.path.insert(0, str(HERE))
    for name in FIGURES:
        importlib.import_module(name).main()


if __name__ == "__main__":
    main()
