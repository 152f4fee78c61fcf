"""`maskrcnn serve`: the options become `Limits`, and the model goes behind HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskrcnn.errors import ConfigError

LIMITS = {
    "batch_size": "batch",
    "batch_wait": "wait",
    "queue": "queue",
    "max_megabytes": "megabytes",
    "max_megapixels": "megapixels",
    "rate": "rate",
    "timeout": "seconds",
}
"""Options -> fields of `Limits`."""


def serve(given: Any) -> None:
    from maskrcnn.serve.limits import Limits

    try:
        limits = Limits(**{field: given[option] for option, field in LIMITS.items()})
    except ConfigError as error:
        option = next(option for option, field in LIMITS.items() if field == error.field)
        raise ConfigError(str(error).replace(f"{error.field}:", f"--{option.replace('_', '-')}", 1)) from error
    from maskrcnn.cli.measured import open_predictor
    from maskrcnn.serve.run import need_packages
    from maskrcnn.serve.run import serve as run

    need_packages()  # before the model is read, which takes longer
    run(open_predictor(given), given.host, given.port, limits, name=Path(given.model).name)
