"""Layers of Matterport's Mask_RCNN (Keras) <-> our state dict.

Kernels change their axes: HWIO -> OIHW, [in, out] -> [out, in]. Boxes are dy, dx, dh, dw there and dx, dy, dw, dh here;
the background is the first class there and the last here, and has rows for boxes and masks that nothing reads. All
convolutions have a bias, also before a norm: ours goes into the norm's mean. The box head's norms, with fixed
statistics, go into its linear layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskrcnn.errors import WeightsError

Array = np.ndarray
Arrays = Mapping[str, Array]

EPS = 1e-3  # of every norm there
MASK_EPS = 1e-5  # of the norms of our mask head
NORM = (("gamma", "weight"), ("beta", "bias"), ("moving_mean", "running_mean"), ("moving_variance", "running_var"))
BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
MASK_CONVOLUTIONS = 4
# dx, dy, dw, dh <- dy, dx, dh, dw, and back.
SWAPPED = [1, 0, 3, 2]


@dataclass(frozen=True)
class Convolution:
    """Attributes: layer and norm, their names; ours, our convolution; our_norm, the norm behind it, or "" for none."""

    layer: str
    norm: str
    ours: str
    our_norm: str


def trunk_of(arrays: Arrays) -> str:
    """resnet50 or resnet101. Raises `WeightsError` for another trunk."""
    for trunk, blocks in reversed(BLOCKS.items()):
        last = f"res4{chr(97 + blocks[2] - 1)}_branch2a/kernel"
        beyond = f"res4{chr(97 + blocks[2])}_branch2a/kernel"
        if last in arrays and beyond not in arrays:
            return trunk
    raise WeightsError(
        "its trunk is neither the ResNet-50 nor the ResNet-101 of Matterport's Mask_RCNN (layers res4f, res4w); a "
        "network with another BACKBONE is not built here"
    )


def trunk_layers(trunk: str) -> Iterator[Convolution]:
    """Convolutions of a trunk, each with its norm, in the order of Keras's layers; shortcuts after their block's."""
    yield Convolution("conv1", "bn_conv1", "backbone.conv1", "backbone.bn1")
    for stage, count in enumerate(BLOCKS[trunk]):
        for block in range(count):
            theirs, ours = f"{stage + 2}{chr(97 + block)}_branch", f"backbone.layer{stage + 1}.{block}"
            for i, letter in enumerate("abc", 1):
                name = f"{theirs}2{letter}"
                yield Convolution(f"res{name}", f"bn{name}", f"{ours}.conv{i}", f"{ours}.bn{i}")
            if block == 0:
                name = f"{theirs}1"
                yield Convolution(f"res{name}", f"bn{name}", f"{ours}.downsample.0", f"{ours}.downsample.1")


def plain_layers() -> Iterator[tuple[str, str]]:
    """Convolutions without a norm: (their layer, ours)."""
    for level in (5, 4, 3, 2):
        yield f"fpn_c{level}p{level}", f"fpn.lateral.{level - 2}.0"
    for level in (5, 2, 3, 4):
        yield f"fpn_p{level}", f"fpn.output.{level - 2}.0"
    yield "rpn_conv_shared", "rpn.convolutions.0"
    yield "rpn_class_raw", "rpn.objectness"
    yield "rpn_bbox_pred", "rpn.deltas"


def mask_layers() -> Iterator[Convolution]:
    """Convolutions of the mask head."""
    for i in range(1, MASK_CONVOLUTIONS + 1):
        ours = f"mask_head.layers.{i - 1}"
        yield Convolution(f"mrcnn_mask_conv{i}", f"mrcnn_mask_bn{i}", f"{ours}.0", f"{ours}.1")


# ---------------------------------------------------------------- theirs -> ours


def to_state(arrays: Arrays) -> tuple[dict[str, Tensor], str]:
    """Our state dict from `read_arrays`, and the name of the trunk.

    Raises:
        WeightsError: a missing array, one of another shape, or another trunk; `missing` names what is missing.
    """
    trunk = trunk_of(arrays)
    reader = _Reader(arrays)
    state = trunk_state(arrays, trunk, reader)
    for layer, ours in plain_layers():
        kernel, bias = reader.convolution(layer)
        if layer == "rpn_bbox_pred":
            kernel, bias = _swapped(kernel), _swapped(bias)
        state |= {f"{ours}.weight": kernel, f"{ours}.bias": bias}
    state |= _box_head(reader)
    for convolution in mask_layers():
        state |= reader.with_norm(convolution, EPS - MASK_EPS)
    kernel, bias = reader.convolution(
        "mrcnn_mask_deconv", outputs=2
    )  # (kh, kw, out, in) becomes (in, out, kh, kw) like any
    up = f"mask_head.layers.{MASK_CONVOLUTIONS}"
    state |= {f"{up}.weight": kernel, f"{up}.bias": bias}
    kernel, bias = reader.convolution("mrcnn_mask")
    if len(bias) < 2:
        raise WeightsError("array 'mrcnn_mask/bias' has no class besides the background")
    state |= {"mask_head.logits.weight": kernel[1:], "mask_head.logits.bias": bias[1:]}
    reader.check_all_read()
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in state.items()}, trunk


def trunk_state(arrays: Arrays, trunk: str, reader: _Reader | None = None) -> dict[str, Array]:
    """The trunk's part of `to_state`: of the ImageNet weights that training there began with, too."""
    reader = reader or _Reader(arrays)
    state: dict[str, Array] = {}
    for convolution in trunk_layers(trunk):
        state |= reader.with_norm(convolution, 0.0)
    return state


def _box_head(reader: _Reader) -> dict[str, Array]:
    state: dict[str, Array] = {}
    for i in (1, 2):
        kernel, bias = reader.convolution(f"mrcnn_class_conv{i}")  # a linear layer on 7x7 cells, then on one
        gamma, beta, mean, variance = reader.norm(f"mrcnn_class_bn{i}", len(kernel))
        scale = gamma / np.sqrt(variance.astype(np.float64) + EPS)
        ours = f"box_head.fully_connected.{i - 1}"
        flat = kernel.reshape(len(kernel), -1)
        state[f"{ours}.weight"] = (flat * scale[:, None]).astype(np.float32)
        state[f"{ours}.bias"] = ((bias - mean) * scale + beta).astype(np.float32)
    kernel, bias = reader.linear("mrcnn_class_logits")
    state |= {f"box_head.class_logits.{n}": np.roll(v, -1, 0) for n, v in (("weight", kernel), ("bias", bias))}
    kernel, bias = reader.linear("mrcnn_bbox_fc")
    state |= {f"box_head.box_deltas.{n}": _swapped(v)[4:] for n, v in (("weight", kernel), ("bias", bias))}
    return state


class _Reader:
    """Arrays by layer, in our axes. It remembers what was read."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays, self.read = arrays, set[str]()

    def array(self, name: str, axes: int, length: int | None = None) -> Array:
        """Raises `WeightsError` for a missing one or one of another number of axes or another length."""
        if name not in self.arrays:
            raise WeightsError(
                f"not a complete Mask R-CNN of Matterport: it has no array {name!r}; give the .h5 of its "
                "model.keras_model.save_weights",
                missing=[name],
            )
        self.read.add(name)
        if self.arrays[name].ndim != axes:
            raise WeightsError(f"array {name!r} has the shape {self.arrays[name].shape}, but needs {axes} axes")
        if length not in (None, len(self.arrays[name])):
            raise WeightsError(f"array {name!r} has {len(self.arrays[name])} numbers, but its layer has {length}")
        return self.arrays[name]

    def convolution(self, layer: str, *, outputs: int = 3) -> tuple[Array, Array]:
        """Kernel HWIO -> OIHW, and bias; `outputs` is the axis that has as many entries as the bias."""
        kernel = self.array(f"{layer}/kernel", 4)
        return kernel.transpose(3, 2, 0, 1), self.array(f"{layer}/bias", 1, kernel.shape[outputs])

    def linear(self, layer: str) -> tuple[Array, Array]:
        """Kernel [in, out] -> [out, in], and bias."""
        kernel = self.array(f"{layer}/kernel", 2)
        return kernel.T, self.array(f"{layer}/bias", 1, kernel.shape[1])

    def norm(self, layer: str, channels: int) -> list[Array]:
        """Scale, shift, mean, variance."""
        return [self.array(f"{layer}/{name}", 1, channels) for name, _ in NORM]

    def with_norm(self, names: Convolution, more_variance: float) -> dict[str, Array]:
        """A convolution without its bias, which the norm's mean takes, and the norm."""
        kernel, bias = self.convolution(names.layer)
        gamma, beta, mean, variance = self.norm(names.norm, len(kernel))
        values = (gamma, beta, mean - bias, variance + np.float32(more_variance))
        norm = {f"{names.our_norm}.{ours}": value for (_, ours), value in zip(NORM, values, strict=True)}
        return {f"{names.ours}.weight": kernel, **norm}

    def check_all_read(self) -> None:
        """Raises `WeightsError` for arrays of no layer; what training leaves (`anchors`) apart."""
        left = [name for name in self.arrays if name not in self.read and not name.startswith("anchors/")]
        if left:
            raise WeightsError(
                f"array {left[0]!r} is not part of Matterport's Mask_RCNN; changed networks are not built here",
                unexpected=left,
            )


def _swapped(rows: Array) -> Array:
    """Rows dy, dx, dh, dw of each anchor or class <-> dx, dy, dw, dh."""
    if len(rows) % 4:
        raise WeightsError(f"a box predictor has {len(rows)} rows, no multiple of 4; give another file")
    return rows.reshape(-1, 4, *rows.shape[1:])[:, SWAPPED].reshape(rows.shape)


# ---------------------------------------------------------------- ours -> theirs


def to_groups(state: Mapping[str, Tensor], trunk: str, norm_eps: float) -> Iterator[tuple[str, dict[str, Array]]]:
    """The inverse of `to_state`: (group, {`layer/weight`: array}) in the order of Keras's layers.

    Args:
        state: of a model that `write.check_expressible` let pass.
        trunk: resnet50 or resnet101.
        norm_eps: of the trunk's norms; the scale takes the difference to theirs.
    """
    values = {name: tensor.detach().cpu().float().numpy() for name, tensor in state.items()}
    yield from _trunk_groups(values, trunk, norm_eps)
    rpn: dict[str, Array] = {}
    for layer, ours in plain_layers():
        made = _kernel(layer, values[f"{ours}.weight"], values[f"{ours}.bias"])
        if layer.startswith("rpn_"):
            rpn |= made
        else:
            yield layer, made
    yield "rpn_model", _rpn(rpn)
    yield from _box_groups(values)
    for convolution in mask_layers():
        yield convolution.layer, _biasless(convolution, values)
        yield convolution.norm, _norm(convolution, values, MASK_EPS)
    up = f"mask_head.layers.{MASK_CONVOLUTIONS}"
    yield "mrcnn_mask_deconv", _kernel("mrcnn_mask_deconv", values[f"{up}.weight"], values[f"{up}.bias"])
    logits = [_background(values[f"mask_head.logits.{name}"]) for name in ("weight", "bias")]
    yield "mrcnn_mask", _kernel("mrcnn_mask", *logits)


def _trunk_groups(values: Mapping[str, Array], trunk: str, eps: float) -> Iterator[tuple[str, dict[str, Array]]]:
    """The third convolution and the shortcut of a stage's first block come before their norms, as Keras sorts them."""
    layers = list(trunk_layers(trunk))
    for i, layer in enumerate(layers):
        shortcut = layers[i + 1] if i + 1 < len(layers) and layers[i + 1].layer.endswith("branch1") else None
        if layer.layer.endswith("branch1"):
            continue
        pair = [layer, shortcut] if shortcut else [layer]
        for one in pair:
            yield one.layer, _biasless(one, values)
        for one in pair:
            yield one.norm, _norm(one, values, eps)


def _kernel(layer: str, weight: Array, bias: Array) -> dict[str, Array]:
    """OIHW -> HWIO, [out, in] -> [in, out]."""
    turned = weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T
    return {f"{layer}/kernel": turned, f"{layer}/bias": bias}


def _biasless(names: Convolution, values: Mapping[str, Array]) -> dict[str, Array]:
    weight = values[f"{names.ours}.weight"]
    return _kernel(names.layer, weight, np.zeros(len(weight), np.float32))


def _norm(names: Convolution, values: Mapping[str, Array], eps: float) -> dict[str, Array]:
    """With the variance that gives the same with their epsilon; where that would be negative, with the scale."""
    found = {theirs: values[f"{names.our_norm}.{ours}"] for theirs, ours in NORM}
    if eps != EPS:
        variance = found["moving_variance"].astype(np.float64)
        less = variance + (eps - EPS)
        scale = np.where(less > 0, 1.0, np.sqrt((variance + EPS) / (variance + eps)))
        found["moving_variance"] = np.where(less > 0, less, variance).astype(np.float32)
        found["gamma"] = (found["gamma"] * scale).astype(np.float32)
    return {f"{names.norm}/{theirs}": array for theirs, array in found.items()}


def _rpn(layers: Mapping[str, Array]) -> dict[str, Array]:
    """Boxes in their order; a single logit becomes that of the object, beside 0 for the background."""
    made = dict(layers)
    for kind in ("kernel", "bias"):
        boxes = made[f"rpn_bbox_pred/{kind}"]
        made[f"rpn_bbox_pred/{kind}"] = np.moveaxis(_swapped(np.moveaxis(boxes, -1, 0)), 0, -1)
        scores = made[f"rpn_class_raw/{kind}"]
        if scores.shape[-1] * 4 == boxes.shape[-1]:
            pair = np.stack([np.zeros_like(scores), scores], axis=-1)
            made[f"rpn_class_raw/{kind}"] = pair.reshape(*scores.shape[:-1], -1)
    return made


def _box_groups(values: Mapping[str, Array]) -> Iterator[tuple[str, dict[str, Array]]]:
    """Norms that change nothing follow the linear layers, which they are in."""
    for i in (1, 2):
        weight, bias = (values[f"box_head.fully_connected.{i - 1}.{name}"] for name in ("weight", "bias"))
        width, one = len(weight), np.ones(len(weight), np.float32)
        channels = values["fpn.output.0.0.weight"].shape[0] if i == 1 else weight.shape[1]
        side = round((weight.shape[1] / channels) ** 0.5)
        kernel = weight.reshape(width, channels, side, side)
        yield f"mrcnn_class_conv{i}", _kernel(f"mrcnn_class_conv{i}", kernel, bias)
        neutral = (one, 0 * one, 0 * one, one - np.float32(EPS))
        yield f"mrcnn_class_bn{i}", {f"mrcnn_class_bn{i}/{n}": v for (n, _), v in zip(NORM, neutral, strict=True)}
    logits = [np.roll(values[f"box_head.class_logits.{name}"], 1, 0) for name in ("weight", "bias")]
    yield "mrcnn_class_logits", _kernel("mrcnn_class_logits", *logits)
    boxes = [_background(_swapped(values[f"box_head.box_deltas.{name}"]), 4) for name in ("weight", "bias")]
    yield "mrcnn_bbox_fc", _kernel("mrcnn_bbox_fc", *boxes)


def _background(rows: Array, count: int = 1) -> Array:
    """With rows of 0 in front for the background, which nothing reads."""
    return np.concatenate([np.zeros((count, *rows.shape[1:]), np.float32), rows])
