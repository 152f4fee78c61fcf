"""ONNX: our operators as ONNX's own, so that every runtime can run the file."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from maskrcnn.errors import ExportError
from maskrcnn.exporting.onnx_masks import lighten_masks
from maskrcnn.exporting.onnx_peaks import peaks_of
from maskrcnn.exporting.traced import Traced
from maskrcnn.predict.exported.info import KEY
from maskrcnn.predict.exported.packages import need

OPSETS = range(18, 22)
"""Opsets that can be asked for: PyTorch's exporter writes 18 and later, ONNX Runtime has no `RoiAlign` of 22."""
DEFAULT_OPSET = 18


def to_onnx(traced: Traced, opset: int = DEFAULT_OPSET) -> Any:
    """A traced model -> `onnx.ModelProto`, its description in the metadata.

    A trace can be converted once: PyTorch's converter leaves symbols of its own behind in it.

    Raises:
        ExportError: onnx or onnxscript is not installed; an opset that we cannot write; PyTorch cannot convert it.
    """
    if opset not in OPSETS:
        raise ExportError(f"opset {opset} is not one of {OPSETS[0]} to {OPSETS[-1]}")
    need("onnx")
    need("onnxscript")
    try:
        with _quietly():
            program = torch.onnx.export(
                traced.program,
                dynamo=True,
                opset_version=opset,
                input_names=traced.inputs,
                output_names=traced.outputs,
                custom_translation_table=_translations(opset),
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(f"the model cannot be converted to ONNX: {str(error).splitlines()[0]}") from error
    assert program is not None
    proto = program.model_proto
    for node in proto.graph.node:  # where in whose folders each line of the source lies
        del node.metadata_props[:]
    proto.metadata_props.add(key=KEY, value=traced.info.to_json())
    return proto


def write_onnx(proto: Any, path: Path) -> None:
    """One file; beyond protobuf's 2 GB the weights go into `NAME.data` beside it. Changes `proto`: `lighten_masks`."""
    onnx = need("onnx")
    lighten_masks(proto)
    large = proto.ByteSize() > 1_900_000_000
    onnx.save(proto, str(path), save_as_external_data=large, location=f"{path.name}.data" if large else None)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's progress, which tells of its own parts."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _translations(opset: int) -> dict[Any, Any]:
    """Our operators -> functions that build ONNX nodes."""
    op = getattr(need("onnxscript"), f"opset{opset}")

    def ints(*values: int) -> Any:
        return op.Constant(value_ints=list(values))

    def nms_keep(boxes: Any, scores: Any, groups: Any, valid: Any, iou_threshold: float) -> Any:
        """`NonMaxSuppression` on boxes that are moved apart by group; what it picks becomes a mask."""
        extent = op.Add(op.ReduceMax(boxes, keepdims=0), op.Constant(value_float=1.0))
        shift = op.Mul(op.Cast(groups, to=1), extent)
        apart = op.Add(boxes, op.Unsqueeze(shift, ints(-1)))
        usable = op.Where(valid, scores, op.Constant(value_float=-2e38))
        picked = op.NonMaxSuppression(
            apart,
            op.Unsqueeze(usable, ints(1)),
            ints(2**30),
            op.Constant(value_floats=[float(iou_threshold)]),
            op.Constant(value_floats=[-1e38]),
        )  # (K, 3): image, 0, box
        places = op.Gather(picked, ints(0, 2), axis=1)
        ones = op.Expand(ints(1), op.Shape(places, end=1))
        nothing = op.Mul(op.Cast(valid, to=7), ints(0))
        return op.Cast(op.ScatterND(nothing, places, ones), to=9)

    def nms_blocks(boxes: Any, scores: Any, valid: Any, iou_threshold: float, count: int) -> Any:
        """`NonMaxSuppression`, which stops at `count`; its answer (image after image, best first) in rows, -1 after."""
        picked = op.NonMaxSuppression(
            boxes,
            op.Unsqueeze(op.Where(valid, scores, op.Constant(value_float=-2e38)), ints(1)),
            ints(count),
            op.Constant(value_floats=[float(iou_threshold)]),
            op.Constant(value_floats=[-1e38]),
        )  # (K, 3): image, 0, box
        image, box = op.Gather(picked, ints(0), axis=1), op.Gather(picked, ints(2), axis=1)  # (K, 1)
        batch = op.Shape(scores, start=0, end=1)
        images = op.Range(op.Constant(value_int=0), op.Squeeze(batch), op.Constant(value_int=1))
        mine = op.Cast(op.Equal(image, images), to=7)  # (K, B)
        place = op.Sub(op.ReduceSum(op.Mul(op.CumSum(mine, op.Constant(value_int=0)), mine), ints(1)), ints(1))
        nothing = op.Expand(ints(-1), op.Concat(batch, ints(count), axis=0))
        return op.ScatterND(nothing, op.Concat(image, place, axis=1), op.Squeeze(box, ints(1)))

    def roi_align(
        features: Sequence[Any], boxes: Any, image_index: Any, resolution: int, sampling_ratio: int, aligned: bool
    ) -> Any:
        """`RoiAlign` of each level on its own RoIs, the results back in order."""
        side = op.Sqrt(
            op.ReduceProd(
                op.Relu(op.Sub(op.Slice(boxes, ints(2), ints(4), ints(1)), op.Slice(boxes, ints(0), ints(2), ints(1)))),
                ints(1),
                keepdims=0,
            )
        )
        # log2(x) = ln(x) / ln(2), as in `assign_levels`
        level = op.Floor(
            op.Add(
                op.Div(
                    op.Log(op.Div(side, op.Constant(value_float=224.0))), op.Constant(value_float=0.6931471805599453)
                ),
                op.Constant(value_float=4.000001),
            )
        )
        last = op.Constant(value_float=float(1 + len(features)))
        level = op.Min(op.Max(level, op.Constant(value_float=2.0)), last)
        pooled, owners = [], []
        for number, feature in enumerate(features):
            mine = op.Squeeze(op.NonZero(op.Equal(level, op.Constant(value_float=float(number + 2)))), ints(0))
            owners.append(mine)
            pooled.append(
                op.RoiAlign(
                    feature,
                    op.Gather(boxes, mine),
                    op.Gather(image_index, mine),
                    output_height=resolution,
                    output_width=resolution,
                    sampling_ratio=sampling_ratio,
                    spatial_scale=1.0 / 2 ** (number + 2),
                    coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
                )
            )
        order = op.Concat(*owners, axis=0)
        place = op.Range(op.Constant(value_int=0), op.Squeeze(op.Shape(order)), op.Constant(value_int=1))
        back = op.ScatterElements(order, order, place, axis=0)  # the inverse permutation
        return op.Gather(op.Concat(*pooled, axis=0), back)

    return {
        torch.ops.maskrcnn.nms_blocks.default: nms_blocks,
        torch.ops.maskrcnn.nms_keep.default: nms_keep,
        torch.ops.maskrcnn.peaks.default: peaks_of(op),
        torch.ops.maskrcnn.roi_align.default: roi_align,
    }
