"""The graph in a `torch.export` package, read as data and run operator by operator.

`torch.export.load` is not for a stranger's file: it unpickles parts of it (after a failure without `weights_only`),
evaluates its expressions and calls any function under `torch` that the graph names. For a graph of all sizes it also
takes half a minute. Here nothing is unpickled but plain tensors, and a graph may name the operators below, no others.
"""

from __future__ import annotations

import io
import json
import operator
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskrcnn.errors import WeightsError
from maskrcnn.ops.keypoints import peaks
from maskrcnn.ops.nms import nms_blocks, nms_keep
from maskrcnn.ops.roi_align import roi_align_node

SCHEMA = 8  # of torch.export's JSON since PyTorch 2.5
ATEN = """
    __and__ __iand__ __ior__ __or__ _assert_scalar _assert_tensor_metadata _to_copy _unsafe_view abs add add_
    all amax amin any arange argmax argmin argsort avg_pool2d batch_norm bitwise_and bitwise_not bitwise_or
    bmm cat ceil clamp clamp_ clamp_max clamp_max_ clamp_min clamp_min_ clone constant_pad_nd contiguous
    conv2d conv_transpose2d copy_ cumsum detach_ div div_ dropout einsum empty eq exp exp2 expand expand_as
    embedding eye fill_ flatten flip floor floor_ floor_divide full full_like gather ge gelu group_norm gt hardsigmoid
    hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_ index index_copy index_put index_select isfinite
    isnan layer_norm le leaky_relu leaky_relu_ lift_fresh_copy linear log log2 logical_and logical_not
    logical_or lt matmul max max_pool2d maximum mean min minimum mish mish_ mm mul mul_ mv narrow ne neg
    new_empty new_full new_ones new_zeros nonzero numpy_T ones ones_like pad permute pow prod reciprocal relu
    relu6 relu6_ relu_ remainder repeat reshape round rsqrt rsub scalar_tensor scatter scatter_add select
    sigmoid sigmoid_ silu silu_ slice softmax softplus sort split split_with_sizes sqrt squeeze stack sub sub_
    sum sym_constrain_range sym_constrain_range_for_size sym_numel sym_size t tanh tanh_ tile to topk
    transpose type_as unbind unsqueeze upsample_bilinear2d upsample_nearest2d view view_as where zeros
    zeros_like
"""
"""Operators of PyTorch, with all their overloads. None of them reaches beyond its tensors."""
OPERATORS = frozenset(ATEN.split())
OURS: dict[str, Callable[..., Any]] = {
    **{"nms_keep": nms_keep, "nms_blocks": nms_blocks},
    **{"peaks": peaks, "roi_align": roi_align_node},
}
SYMBOLIC: dict[str, Callable[..., Any]] = {"sym_max": torch.sym_max, "sym_min": torch.sym_min, "sym_not": torch.sym_not}
ARITHMETIC = frozenset(["add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge"])
# The numbers of torch.export's schema.
DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
MEMORY_FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
LAYOUTS = {7: torch.strided}
KEYWORD = 2


class Archive:
    """The members of a `.pt2` file: a zip whose names begin with a folder of any name."""

    def __init__(self, path: Path) -> None:
        """Raises `OSError`, `zipfile.BadZipFile`."""
        self.file = zipfile.ZipFile(path)
        self.size = path.stat().st_size
        self.members = {info.filename.partition("/")[2]: info for info in self.file.infolist()}

    def __contains__(self, name: str) -> bool:
        return name in self.members

    def read(self, name: str) -> bytearray:
        """The bytes of a member. Raises `KeyError` where it is not there."""
        info = self.members[name]
        if info.compress_type != zipfile.ZIP_STORED:  # PyTorch stores; a small file cannot blow up to a large one
            raise ValueError(f"{name} is compressed")
        if info.file_size > self.size:  # before memory is asked for: the number may be anything
            raise ValueError(f"{name} is cut off")
        content = bytearray(info.file_size)
        with self.file.open(info) as member:
            if member.readinto(content) != len(content):  # type: ignore[attr-defined]
                raise ValueError(f"{name} is cut off")
        return content

    def json(self, name: str) -> Any:
        return json.loads(self.read(name))


@dataclass(frozen=True)
class Slot:
    """Where a value lies while the graph runs."""

    index: int


@dataclass(frozen=True)
class Step:
    """One operator.

    Attributes:
        call: the function.
        arguments, keywords: constants, slots and lists of them.
        outputs: where the results go; a list for an operator that returns one.
        several: whether the operator returns a tuple or list.
        free: slots that nothing reads afterwards.
    """

    call: Callable[..., Any]
    arguments: list[Any]
    keywords: dict[str, Any]
    outputs: list[int]
    several: bool
    free: list[int]


class Graph:
    """A callable graph.

    Attributes:
        inputs: names of the tensors that it takes.
    """

    def __init__(self, archive: Archive, path: Path, device: torch.device) -> None:
        """Raises `WeightsError` for operators that are not listed; KeyError, TypeError, ValueError ... for damage."""
        program = archive.json("models/model.json")
        if program["schema_version"]["major"] != SCHEMA:
            raise WeightsError(
                f"{path}: written by PyTorch {program.get('torch_version')} in a form that this maskrcnn does not "
                "know; export the model again"
            )
        graph, signature = program["graph_module"]["graph"], program["graph_module"]["signature"]
        self._slots: dict[str, int] = {}
        self._device, self._path = device, path
        self.inputs: list[str] = []
        self._start: list[Tensor | None] = []
        self._read_inputs(signature["input_specs"], _tensors(archive, "weights") | _tensors(archive, "constants"))
        steps = [self._step(node) for node in graph["nodes"]]
        self._outputs = [_slots(self._value(spec["user_output"]["arg"])) for spec in signature["output_specs"]]
        self._steps = _with_frees(steps, keep={*range(len(self._start)), *(i for out in self._outputs for i in out)})
        self._count = len(self._slots)

    @torch.inference_mode()
    def __call__(self, inputs: Mapping[str, Tensor]) -> list[Tensor]:
        """Tensors by name, on the CPU -> the outputs in order, on the CPU."""
        values: list[Any] = [*self._start, *[None] * (self._count - len(self._start))]
        for name in self.inputs:
            values[self._slots[name]] = inputs[name].to(self._device)
        for step in self._steps:
            result = step.call(
                *[_filled(value, values) for value in step.arguments],
                **{name: _filled(value, values) for name, value in step.keywords.items()},
            )
            if step.several:
                for index, value in zip(step.outputs, result, strict=True):
                    values[index] = value
            elif step.outputs:
                values[step.outputs[0]] = result
            for index in step.free:
                values[index] = None
        return [values[index].cpu() for (index,) in self._outputs]

    def _read_inputs(self, specs: list[dict], tensors: dict[str, Tensor]) -> None:
        for spec in specs:
            ((kind, value),) = spec.items()
            if kind == "user_input":
                name = value["arg"]["as_tensor"]["name"]
                self.inputs.append(name)
                self._start.append(None)
            else:
                name = value["arg"]["name"]
                tensor = tensors[value[{"tensor_constant": "tensor_constant_name"}.get(kind, f"{kind}_name")]]
                self._start.append(tensor.detach().to(self._device))
            self._new_slot(name)

    def _new_slot(self, name: str) -> int:
        if name in self._slots:
            raise ValueError(f"two values are called {name}")
        return self._slots.setdefault(name, len(self._slots))

    def _step(self, node: dict) -> Step:
        call = self._resolve(node["target"])
        arguments, keywords = [], {}
        for given in node["inputs"]:
            if given.get("kind") == KEYWORD:
                keywords[given["name"]] = self._value(given["arg"])
            else:
                arguments.append(self._value(given["arg"]))
        if call is torch.ops.aten._assert_tensor_metadata.default:
            keywords.pop("device", None)  # that of the machine on which it was exported
        outputs, several = [], len(node["outputs"]) > 1
        for output in node["outputs"]:
            ((kind, value),) = output.items()
            names = (
                [one["name"] for one in value] if kind == "as_tensors" else [value.get("name", value.get("as_name"))]
            )
            outputs += [self._new_slot(name) for name in names if kind != "as_none"]
            several |= kind == "as_tensors"
        return Step(call, arguments, keywords, outputs, several, [])

    def _resolve(self, target: str) -> Callable[..., Any]:
        parts = target.split(".")
        match parts:
            case ["torch", "ops", "aten", name, overload] if name in OPERATORS:
                packet = getattr(torch.ops.aten, name)
                if overload in packet.overloads():  # any other attribute of a packet leads into Python itself
                    return getattr(packet, overload)
            case ["torch", "ops", "maskrcnn", name, "default"] if name in OURS:
                return OURS[name]
            case ["torch", name] if name in SYMBOLIC:
                return SYMBOLIC[name]
            case ["_operator", name] if name in ARITHMETIC:
                return getattr(operator, name)
        raise WeightsError(f"{self._path}: its graph calls {target}, which no exported model does; it is not opened")

    def _value(self, argument: dict) -> Any:
        """One argument of the schema -> a constant, a `Slot`, or a list of these."""
        ((kind, value),) = argument.items()
        match kind:
            case "as_none":
                return None
            case "as_tensor" | "as_optional_tensor" | "as_sym_int" | "as_sym_float" | "as_sym_bool":
                return self._reference(value)
            case "as_tensors" | "as_optional_tensors" | "as_sym_ints" | "as_sym_floats" | "as_sym_bools":
                return [self._reference(one) for one in value]
            case "as_int" | "as_ints" | "as_bool" | "as_bools" | "as_string":
                return value
            case "as_float":
                return float(value)  # infinity is written as text
            case "as_floats":
                return [float(one) for one in value]
            case "as_scalar_type":
                return DTYPES[value]
            case "as_memory_format":
                return MEMORY_FORMATS[value]
            case "as_layout":
                return LAYOUTS[value]
            case "as_device":
                return self._device
        raise ValueError(f"an argument is of the kind {kind}")

    def _reference(self, value: dict) -> Any:
        """{"name": ...}, {"as_name": ...}, {"as_tensor": {...}}, {"as_int": ...}, {"as_none": ...} ..."""
        if "as_tensor" in value:
            value = value["as_tensor"]
        name = value.get("name", value.get("as_name"))
        if name is not None:
            return Slot(self._slots[name])
        ((kind, constant),) = value.items()
        return None if kind == "as_none" else constant


def _filled(value: Any, values: list[Any]) -> Any:
    if isinstance(value, Slot):
        return values[value.index]
    if isinstance(value, list):
        return [_filled(one, values) for one in value]
    return value


def _slots(value: Any) -> list[int]:
    if isinstance(value, Slot):
        return [value.index]
    return [index for one in value for index in _slots(one)] if isinstance(value, list) else []


def _with_frees(steps: list[Step], keep: set[int]) -> list[Step]:
    """Each step with the slots that it is the last to use: memory is given back as early as in eager mode."""
    last: dict[int, int] = {}
    for number, step in enumerate(steps):
        used = [index for value in (*step.arguments, *step.keywords.values()) for index in _slots(value)]
        last |= dict.fromkeys([*used, *step.outputs], number)
    for index, number in last.items():
        if index not in keep:
            steps[number].free.append(index)
    return steps


def _tensors(archive: Archive, folder: str) -> dict[str, Tensor]:
    """Weights or constants by their names in the model."""
    if f"data/{folder}/model.pt" in archive:  # PyTorch 2.8
        content = archive.read(f"data/{folder}/model.pt")
        return dict(torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")) if content else {}
    tensors, payloads = {}, {}
    for name, meta in archive.json(f"data/{folder}/model_{folder}_config.json")["config"].items():
        if meta["use_pickle"] or meta["tensor_meta"] is None:
            raise ValueError(f"{name} is pickled")
        member, layout = meta["path_name"], meta["tensor_meta"]
        if member not in payloads:
            content = archive.read(f"data/{folder}/{member}")
            payloads[member] = torch.frombuffer(content, dtype=DTYPES[layout["dtype"]]) if content else torch.empty(0)
        sizes, strides = ([one["as_int"] for one in layout[field]] for field in ("sizes", "strides"))
        tensors[name] = payloads[member].as_strided(sizes, strides, layout["storage_offset"]["as_int"])
    return tensors
