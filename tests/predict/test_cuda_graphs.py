"""Which sizes are captured, kept and dropped, with graphs that only count; what CUDA does is tested on a GPU."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

import maskrcnn.predict.cuda_graphs as module
from maskrcnn.model.build import fused_copy
from maskrcnn.predict.cuda_graphs import CudaGraphs, Forward, make_network
from maskrcnn.predict.transfer import pack, to_device, to_host, unpack
from maskrcnn.structures import Detections
from tests.model.tiny import batch, tiny_model

CPU = torch.device("cpu")


def detections(images: Tensor) -> Detections:
    batch = len(images)
    scores = images.float().mean(dim=(1, 2, 3))[:, None].expand(batch, 3)
    return Detections(
        torch.rand(batch, 3, 4), scores, torch.arange(3).expand(batch, 3), scores > 0, torch.rand(batch, 3, 5, 5)
    )


class Fakes:
    """A forward pass and its graphs, counted."""

    def __init__(self, error: Exception | None = None) -> None:
        self.plain: list[tuple[int, ...]] = []
        self.captured: list[tuple[int, ...]] = []
        self.replayed: list[tuple[int, ...]] = []
        self.error = error

    def forward(self, images: Tensor, sizes: Tensor) -> Detections:
        self.plain.append(tuple(images.shape))
        return detections(images)

    def capture(self, forward: Forward, images: Tensor, sizes: Tensor, pool: Any) -> Any:
        if self.error:
            raise self.error
        self.captured.append(tuple(images.shape))

        def replay(images: Tensor, sizes: Tensor) -> Detections:
            self.replayed.append(tuple(images.shape))
            return detections(images)

        return replay


def call(graphs: CudaGraphs, height: int, batch: int = 1, dtype: torch.dtype = torch.uint8) -> Detections:
    return graphs(torch.ones(batch, 3, height, 32, dtype=dtype), torch.tensor([[height, 32]] * batch))


def test_a_size_is_captured_when_it_comes_again() -> None:
    fakes = Fakes()
    graphs = CudaGraphs(fakes.forward, CPU, capture=fakes.capture)
    shape = (1, 3, 64, 32)
    call(graphs, 64)
    assert (fakes.plain, fakes.captured, fakes.replayed) == ([shape], [], [])
    found = call(graphs, 64)
    assert (fakes.plain, fakes.captured, fakes.replayed) == ([shape], [shape], [shape])
    assert found.scores[0, 0] == 1
    call(graphs, 64)
    assert (fakes.captured, fakes.replayed) == ([shape], [shape, shape])


def test_batch_size_and_dtype_make_graphs_of_their_own() -> None:
    fakes = Fakes()
    graphs = CudaGraphs(fakes.forward, CPU, capture=fakes.capture)
    for count, dtype in ((1, torch.uint8), (2, torch.uint8), (1, torch.float32)) * 2:
        call(graphs, 64, count, dtype)
    assert len(graphs) == len(fakes.captured) == 3


def test_the_graph_not_used_for_longest_makes_room() -> None:
    fakes = Fakes()
    graphs = CudaGraphs(fakes.forward, CPU, most=2, capture=fakes.capture)
    for height in (32, 32, 64, 64, 32, 96, 96):  # 64 goes
        call(graphs, height)
    assert len(graphs) == 2
    before = len(fakes.captured)
    call(graphs, 32)
    assert len(fakes.captured) == before
    call(graphs, 64)  # known already: captured at once
    assert len(fakes.captured) == before + 1
    assert len(graphs) == 2


def test_a_failed_capture_is_said_once_and_the_size_runs_as_it_is() -> None:
    fakes = Fakes(RuntimeError("operation not permitted when stream is capturing\nlong story"))
    graphs = CudaGraphs(fakes.forward, CPU, capture=fakes.capture)
    call(graphs, 64)
    with pytest.warns(
        UserWarning, match=r"no CUDA graph for 1 x 64 x 32 \(operation not permitted .*capturing\): this"
    ):
        call(graphs, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(call(graphs, 64).boxes) == 1
    assert len(fakes.plain) == 3
    assert len(graphs) == 0


def test_when_memory_runs_out_all_graphs_go(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(None))
    fakes = Fakes()
    graphs = CudaGraphs(fakes.forward, CPU, capture=fakes.capture)
    call(graphs, 32)
    call(graphs, 32)
    fakes.error = torch.OutOfMemoryError("CUDA out of memory")
    call(graphs, 64)
    with pytest.warns(UserWarning, match=r"1 x 64 x 32 \(out of memory\)"):
        call(graphs, 64)
    assert (len(graphs), len(emptied)) == (0, 1)


def test_other_errors_pass() -> None:
    fakes = Fakes(TypeError("a bug"))
    graphs = CudaGraphs(fakes.forward, CPU, capture=fakes.capture)
    call(graphs, 64)
    with pytest.raises(TypeError, match="a bug"):
        call(graphs, 64)


def test_the_memory_of_visits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_COUNTED", 4)
    fakes = Fakes()
    graphs = CudaGraphs(fakes.forward, CPU, capture=fakes.capture)
    for height in range(1, 40):
        call(graphs, height)
    assert len(graphs._visits) <= 4


# ---------------------------------------------------------------- transfer


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("batch", [0, 2])
def test_packing_loses_nothing(batch: int, masks: bool) -> None:
    given = detections(torch.rand(batch, 3, 4, 4))
    if not masks:
        given.masks = None
    flat, layout = pack(given)
    assert flat.dtype == torch.uint8
    found = unpack(flat.clone(), layout)
    assert (found.masks is None) == (not masks)
    for name, dtype, shape in layout:
        value = getattr(found, name)
        assert (value.dtype, value.shape) == (dtype, shape)
        assert torch.equal(value, getattr(given, name))


def test_on_a_cpu_nothing_is_copied() -> None:
    images = torch.rand(1, 3, 4, 4)
    assert to_device(images, CPU) is images
    given = detections(images)
    assert to_host(given).boxes is given.boxes


# ---------------------------------------------------------------- the whole network


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_on_a_cpu_the_network_is_the_model(precision: str) -> None:
    model = fused_copy(tiny_model())
    images, sizes = batch()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        expected = model(images, sizes)
    found = make_network(model, CPU, precision)(images, sizes)
    assert torch.equal(found.boxes, expected.boxes)
    assert torch.equal(found.masks, expected.masks)
    assert model.rpn.deltas.weight.dtype == torch.float32  # halved on CUDA alone
