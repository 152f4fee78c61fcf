"""Which network `train` starts with: that of the weights or of another framework's config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskrcnn.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from maskrcnn.config import Config

WITHOUT_NETWORK = ("none", "auto", "imagenet")


def check_model_config(given: Any) -> None:
    """Raises `ConfigError` where --model-config and something else name the network."""
    if not given.model_config:
        return
    if given.preset != "auto":
        raise ConfigError(f"--preset {given.preset} and --model-config both name a network; leave one of them out")
    if given.resume:
        raise ConfigError(f"--model-config {given.model_config}: a resumed run keeps its own network; leave it out")


def network_of_start(given: Any) -> tuple[Config | None, str, tuple[str, ...]]:
    """(network, what it is from, notes); None where the preset is to be chosen: no config, and no detector's weights.

    Raises:
        ConfigError: a config that cannot be read or does not belong to the weights.
        WeightsError: damaged weights, or those of another config.
    """
    if found := _of_weights(given):
        told = f"the weights, as {given.model_config} describes it" if given.model_config else "the weights"
        return found, told, ()
    if not given.model_config:
        return None, "", ()
    from maskrcnn.weights.config_file import network_of_file

    network, notes = network_of_file(given.model_config)
    notes = ("its schedule is not taken over, the fields of train set it", *notes)
    return network, given.model_config, tuple(f"{given.model_config}: {note}" for note in notes)


def _of_weights(given: Any) -> Config | None:
    if given.weights in WITHOUT_NETWORK:
        return None
    from maskrcnn.weights.start import network_of, newest_run

    weights = given.weights
    if weights == "last":
        try:
            weights = str(newest_run(Path(given.out)))
        except WeightsError:
            return None  # said when training looks for it
    return network_of(weights, given.model_config)
