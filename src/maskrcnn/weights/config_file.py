"""A config file of another framework -> a network of ours, without any weights. Nothing is run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from maskrcnn.config import Config, TrainConfig
from maskrcnn.errors import ConfigError
from maskrcnn.pipeline.read import looks_like_pipeline, read_pipeline
from maskrcnn.presets import ZOO, preset
from maskrcnn.weights.expressions import MOST_TEXT

KINDS = (
    "Detectron2's YAML or a name of its zoo, MMDetection's or Matterport's .py, a .json of Matterport's attributes, "
    "or a pipeline.config"
)
CLASS = re.compile(r"^class \w+", re.MULTILINE)
LAZY = re.compile(r"\bLazyCall\b|\bfrom detectron2\b|\bmodel_zoo\.get_config\b")
OURS = re.compile(r"^(model|data|train)(:|\.\w+)", re.MULTILINE)


def network_of_file(file: str) -> tuple[Config, tuple[str, ...]]:
    """The network and the preprocessing that a config describes, with our usual schedule, and what is to be said.

    Args:
        file: one of `KINDS`; a Python file can be `config.py:NAME`.

    Raises:
        ConfigError: nothing there, none of these kinds, or a network that is not built here.
    """
    config, notes = _read(file)
    return replace(config, train=TrainConfig()), notes


def _read(file: str) -> tuple[Config, tuple[str, ...]]:
    path = Path(f"{file.partition('.py:')[0]}.py" if ".py:" in file else file)
    if not path.is_file():
        return _of_zoo(file), ()
    suffix = path.suffix.lower()
    if looks_like_pipeline(path):
        return read_pipeline(path).config, ()
    text = _text(path)
    if suffix in (".yaml", ".yml"):
        if OURS.search(text) and "_target_:" not in text:
            raise ConfigError(f"{file}: is a config of maskrcnn; give it with --config")
        from maskrcnn.weights.detectron2.config import read_config

        theirs = read_config(path)
        return theirs.config, theirs.notes
    if suffix == ".json" or (suffix == ".py" and CLASS.search(text)):
        from maskrcnn.weights.matterport.config import read_attributes, to_config

        return to_config(read_attributes(file), file), ()
    if suffix != ".py":
        raise ConfigError(f"{file}: is no config that we know; give {KINDS}")
    if LAZY.search(text):
        raise ConfigError(
            f"{file}: a lazy config of Detectron2 is a program, which is not run; give the zoo's name of the model: "
            "new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ"
        )
    from maskrcnn.weights.mmdetection.config import read_settings
    from maskrcnn.weights.mmdetection.text import read_config_file

    settings = read_settings(read_config_file(path), file)
    return settings.config, settings.notes


def _of_zoo(name: str) -> Config:
    asked = name.removesuffix(".yaml").removesuffix(".py")
    if any(asked in (full, full.rpartition("/")[2]) for full in ZOO):
        return preset(name)
    raise ConfigError(f"{name}: no such file; give {KINDS}")


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return file.read(MOST_TEXT)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as text ({error}); give {KINDS}") from error
