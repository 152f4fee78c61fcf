"""ImageNet weight files of trunks, loaded without running pickled code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from maskrcnn.errors import WeightsError
from maskrcnn.file_kinds import check_file
from maskrcnn.model.backbones.channels import first_convolution, inflate
from maskrcnn.model.backbones.foreign import torchvision_names

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
INCEPTION = ((127.5,) * 3, (127.5,) * 3)  # -1..1
SLIM_RESNET = ((123.68, 116.779, 103.939), (1.0,) * 3)  # VGG's mean
# Trunks that were not trained with torchvision's preprocessing.
PREPROCESSING = {
    "efficientnet_lite0": ((127.0,) * 3, (128.0,) * 3),
    "inception_v2": INCEPTION,
    "inception_resnet_v2": INCEPTION,
    "resnet_v1_50": SLIM_RESNET,
    "resnet_v1_101": SLIM_RESNET,
    "resnet_v1_152": SLIM_RESNET,
}


def preprocessing(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation (RGB, 0..255) that a trunk's published weights were trained with."""
    return PREPROCESSING.get(name, IMAGENET)


def load_backbone(
    module: nn.Module,
    path: str | Path,
    stage_two: nn.Module | None = None,
    *,
    state: Mapping[str, Tensor] | None = None,
) -> str:
    """Load ImageNet weights into a trunk, in place. Returns a line that says what was loaded and left out.

    Understands torchvision's files (also MobileNetV2 with flat names `features.N.conv.M`), EfficientNet-Lite0
    (`_conv_stem.weight`, ...), timm's ResNet, ResNeXt, Swin and ConvNeXt, the last two also as their authors published
    them; as .pth, .pt or .safetensors. The first convolution is fitted to the trunk's input channels by `inflate`. The
    norms on the maps of Swin and ConvNeXt, which no classifier has, stay as they are.

    Args:
        module: the trunk.
        path: the file.
        stage_two: the trunk's last stage where it is apart (C4); its weights come from the same file.
        state: what is in the file by torchvision's names, if it was read already.

    Raises:
        WeightsError: unreadable file, or tensors missing or of another shape.
    """
    state = torchvision_names(read_state(Path(path))) if state is None else dict(state)
    own = module.state_dict() | (stage_two.state_dict() if stage_two is not None else {})
    note = _inflate_first(module, state)
    own = {name: value for name, value in own.items() if not _not_in_files(name)}
    missing = [name for name in own if name not in state]
    if missing:
        raise WeightsError(
            f"{path}: not weights of this trunk ({type(module).__name__}): {len(missing)} of {len(own)} tensors are "
            f"missing, first {missing[0]!r}; choose the matching model.backbone.name",
            missing=missing,
            unexpected=[name for name in state if name not in own],
        )
    for name, value in own.items():
        if state[name].shape != value.shape:
            raise WeightsError(
                f"{path}: {name!r} has shape {tuple(state[name].shape)}, this trunk needs {tuple(value.shape)}; "
                "choose the matching model.backbone.name"
            )
    for part in (module, stage_two):
        if part is not None:
            part.load_state_dict({name: state[name] for name in part.state_dict() if name in own}, strict=False)
    dropped = sorted({name.rpartition(".")[0] for name in state if name not in own and not _not_in_files(name)})
    left_out = f", left out: {', '.join(dropped)}" if dropped else ""
    return f"trunk weights: {len(own)} tensors from {path}{left_out}{note}"


def _not_in_files(name: str) -> bool:
    """Counters, constants and what comes after a trunk, which files of classifiers lack."""
    return name.endswith(("num_batches_tracked", "relative_position_index")) or name.startswith(
        ("norms.", "projection.")
    )


def _inflate_first(module: nn.Module, state: dict[str, Tensor]) -> str:
    """Fit the first convolution in `state` to the trunk, in place; returns what was done, or nothing."""
    name, convolution = first_convolution(module)
    weight, channels = state.get(f"{name}.weight"), convolution.in_channels
    if weight is None or weight.ndim != 4 or weight.shape[1] * convolution.groups == channels:
        return ""
    state[f"{name}.weight"] = inflate(weight, channels)
    return f", {name} from {weight.shape[1]} to {channels} input channels (mean repeated, magnitude kept)"


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a weight file. Raises `WeightsError` saying what is wrong with it."""
    check_file(path, safetensors=True)
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(
            f"{path}: truncated or not a weight file ({type(error).__name__}); fetch it again"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path}: holds no table of tensors; save model.state_dict()")
    return state
