"""How wide a checkpoint's Inception v2 is: slim's depth_multiplier and min_depth, which no pipeline.config tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from maskrcnn.config import BackboneConfig
from maskrcnn.errors import WeightsError
from maskrcnn.model.backbones import build_backbone, build_stage_two
from maskrcnn.weights.tensorflow.names_trunk import inception_v2

USUAL_MINIMUM = 16  # slim's default


def inception_v2_width(variables: Mapping[str, np.ndarray]) -> tuple[float, int]:
    """`BackboneConfig.width` and `.min_width` of a detector's Inception v2, from the shapes of its variables.

    Where the full network has `channels`, a thinner one has max(int(width * channels), min_width). Many widths give the
    same numbers; of them it is the one with the smallest denominator, and 16 for a minimum that does not show.

    Args:
        variables: TF1 name -> array, with all of the trunk's.

    Raises:
        WeightsError: no such numbers explain the shapes.
    """
    full = _channels()
    found = {}
    for layer in inception_v2():
        name = f"{layer.theirs}/{'pointwise_weights' if layer.kind == 'separable' else 'weights'}"
        found[layer.ours] = variables[name].shape[-1]
    minima = (USUAL_MINIMUM, min(found.values()))
    for width in _widths():
        for minimum in minima:
            if all(count == max(int(full[name] * width), minimum) for name, count in found.items()):
                return width, minimum
    raise WeightsError(
        f"the inception_v2 of this file has other channels than slim's at any width (first layer: "
        f"{found['backbone.conv_1a']}, full {full['backbone.conv_1a']}); only slim's can be read"
    )


def _channels() -> dict[str, int]:
    """Outputs of each layer of the full network."""
    with torch.device("meta"):
        stages = {
            "backbone": build_backbone(BackboneConfig(name="inception_v2")),
            "stage_two": build_stage_two(BackboneConfig(name="inception_v2")),
        }
    counts = {}
    for layer in inception_v2():
        stage, _, name = layer.ours.partition(".")
        norm = stages[stage].get_submodule(f"{name}.norm")
        counts[layer.ours] = len(norm.get_buffer("running_mean"))
    return counts


def _widths() -> Iterator[float]:
    """1, 2, then halves, thirds, ... up to 2, in 64ths at the finest; then hundredths as people write them."""
    for denominator in (*range(1, 65), 100):
        for numerator in range(1, 2 * denominator + 1):
            yield numerator / denominator
