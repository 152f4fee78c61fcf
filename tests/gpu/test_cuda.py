"""What only a GPU can show: kernels, graphs, streams, and that nothing waits. `benchmarks/gpu.py` runs more of it."""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from maskrcnn.config import TrainConfig
from maskrcnn.model.build import fused_copy
from maskrcnn.ops.nms import keep_by_iteration, keep_by_torchvision, largest_float32, nms_keep
from maskrcnn.predict.cuda_graphs import CudaGraphs, make_network
from maskrcnn.predict.transfer import to_host
from maskrcnn.structures import Batch
from maskrcnn.training.loop import train
from maskrcnn.training.optim import Guard, make_optimizer
from maskrcnn.training.prefetch import on_device
from maskrcnn.training.readback import Readback, Step
from tests.model.tiny import batch, tiny_model, truth
from tests.ops.test_nms import random_case
from tests.training.tiny_run import tiny_config, write_squares

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
CUDA = torch.device("cuda", 0)


def synchronisations(job: Callable[[], object]) -> list[str]:
    """Where `job` waited for the device, as PyTorch's debug mode sees it."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            job()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return [f"{w.filename}:{w.lineno}" for w in caught if "synchronizing CUDA operation" in str(w.message)]


def test_synchronisations_are_seen() -> None:
    assert len(synchronisations(lambda: torch.ones(1, device=CUDA).item())) == 1


# ---------------------------------------------------------------- NMS


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 500, 4819])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_every_way_gives_the_mask_of_the_cpu(count: int, threshold: float) -> None:
    expected = keep_by_torchvision(*random_case(count, count), threshold)
    on_gpu = random_case(count, count, "cuda")
    assert torch.equal(nms_keep(*on_gpu, threshold).cpu(), expected)
    assert torch.equal(keep_by_iteration(*on_gpu, threshold).cpu(), expected)


def test_triton_is_captured_in_a_graph() -> None:
    pytest.importorskip("triton")
    from maskrcnn.ops.nms_triton import keep_by_triton

    boxes, scores, groups, valid = random_case(300, 0, "cuda")
    arguments = (boxes, scores, groups, valid, largest_float32(0.5))
    keep_by_triton(*arguments)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = keep_by_triton(*arguments)
    other = random_case(300, 1)
    for mine, given in zip((boxes, scores, groups, valid), other, strict=True):
        mine.copy_(given)
    graph.replay()
    assert torch.equal(found.cpu(), keep_by_torchvision(*other, 0.5))


# ---------------------------------------------------------------- prediction


@pytest.fixture
def full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def test_the_gpu_finds_what_the_cpu_finds(full_float32: None) -> None:
    model, (images, sizes) = tiny_model(), batch()
    with torch.inference_mode():
        expected = fused_copy(model)(images, sizes)
    found = to_host(make_network(fused_copy(model).to(CUDA), CUDA, "float32")(images, sizes))
    assert torch.equal(found.valid, expected.valid)
    torch.testing.assert_close(found.boxes, expected.boxes, atol=0.1, rtol=0)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-3, rtol=0)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_replay_gives_what_the_plain_pass_gives(precision: str, full_float32: None) -> None:
    model = tiny_model()
    plain = make_network(fused_copy(model).to(CUDA), CUDA, precision, graphs=False)
    graphs = make_network(fused_copy(model).to(CUDA), CUDA, precision)
    assert isinstance(graphs, CudaGraphs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = [(graphs(*batch(seed=seed)), plain(*batch(seed=seed))) for seed in (0, 0, 1, 2)]
    assert len(graphs) == 1
    for found, expected in results:  # compared at the end: no replay may have touched an earlier result
        torch.testing.assert_close(found.scores, expected.scores, atol=0.05 if precision == "bf16" else 1e-3, rtol=0)


def test_evicted_graphs_leave_the_others_right(full_float32: None) -> None:
    plain = make_network(fused_copy(tiny_model()).to(CUDA), CUDA, "float32", graphs=False)
    graphs = CudaGraphs(plain, CUDA, most=2)
    for side in (64, 64, 96, 96, 128, 128, 64, 96, 128, 64):
        found, expected = graphs(*batch(side=side)), plain(*batch(side=side))
        torch.testing.assert_close(found.scores, expected.scores, atol=1e-3, rtol=0)
    assert len(graphs) == 2


@pytest.mark.parametrize("graphs", [False, True])
def test_nothing_waits_between_images_in_and_detections_out(graphs: bool) -> None:
    network = make_network(fused_copy(tiny_model()).to(CUDA), CUDA, "bf16", graphs=graphs)
    images, sizes = batch()
    for _ in range(3):
        found = network(images, sizes)
    assert synchronisations(lambda: network(images, sizes)) == []
    assert len(synchronisations(lambda: to_host(found))) == 1


@pytest.mark.slow
def test_compiled_finds_what_eager_finds() -> None:
    model, (images, sizes) = tiny_model(), batch()
    plain = make_network(fused_copy(model).to(CUDA), CUDA, "bf16", graphs=False)(images, sizes)
    network = make_network(fused_copy(model).to(CUDA), CUDA, "bf16", compiled=True)
    for _ in range(3):
        found = network(images, sizes)
    torch.testing.assert_close(found.scores, plain.scores, atol=0.05, rtol=0)


def test_a_network_that_waits_is_no_graph_but_an_answer() -> None:
    network = make_network(fused_copy(tiny_model()).to(CUDA), CUDA, "float32", graphs=False)

    def waits(images: Tensor, sizes: Tensor):  # type: ignore[no-untyped-def]
        found = network(images, sizes)
        found.scores.sum().item()
        return found

    graphs = CudaGraphs(waits, CUDA)
    graphs(*batch())
    with pytest.warns(UserWarning, match="no CUDA graph for 2 x 96 x 96"):
        assert graphs(*batch()).valid.any()
    assert graphs(*batch()).valid.any()


# ---------------------------------------------------------------- training


def test_losses_of_the_gpu_are_those_of_the_cpu(full_float32: None) -> None:
    (images, sizes), targets = batch(), truth()
    found = []
    for place in (torch.device("cpu"), CUDA):
        model = copy.deepcopy(tiny_model()).to(place).train()
        losses = model(images.to(place), sizes.to(place), targets.to(place))
        torch.stack(list(losses.values())).sum().backward()
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        found.append({name: value.item() for name, value in losses.items()} | {"norm": norm.item()})
    assert found[1] == pytest.approx(found[0], rel=0.02)


def test_nothing_waits_in_a_training_step() -> None:
    import accelerate

    from maskrcnn.training.gradients import backward

    model = tiny_model().to(CUDA, memory_format=torch.channels_last).train()
    images, sizes = batch()
    data = Batch(images, sizes, truth()).pin_memory()
    optimizer = make_optimizer(model, TrainConfig(batch_size=16, learning_rate=1e-4))
    accelerator = accelerate.Accelerator(mixed_precision="no")
    guard, readback = Guard(optimizer, CUDA), Readback(CUDA)

    def steps(count: int) -> None:
        for batches in on_device(([data] for _ in range(count)), CUDA):
            losses = backward(model, model, batches, accelerator, "bf16")
            norm = nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            values = torch.stack([*losses.values(), norm])
            guard.see(values)
            readback.put(Step(1, 0.0, (), ()), values)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    steps(2)
    assert synchronisations(lambda: steps(2)) == []


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_a_bad_gradient_never_reaches_the_weights(kind: str) -> None:
    net = nn.Conv2d(8, 8, 3).to(CUDA, memory_format=torch.channels_last)
    optimizer = make_optimizer(net, TrainConfig(optimizer=kind, batch_size=16))  # type: ignore[arg-type]
    assert optimizer.defaults["fused"]
    guard, x = Guard(optimizer, CUDA), torch.rand(2, 8, 8, 8, device=CUDA)

    def update(factor: float) -> Tensor:
        optimizer.zero_grad()
        (net(x).sum() * factor).backward()
        guard.see(torch.stack([p.grad.norm() for p in net.parameters() if p.grad is not None]))
        optimizer.step()
        return net.weight.detach().clone()

    good = update(1.0)
    assert torch.equal(update(math.nan), good)
    assert torch.equal(update(1.0), good)


def test_batches_arrive_whole_beside_the_computation() -> None:
    batches = [Batch(torch.full((2, 3, 128, 128), i), torch.full((2, 2), i), None).pin_memory() for i in range(20)]
    busy, sums = torch.rand(512, 512, device=CUDA), []
    for step in on_device(([b] for b in batches), CUDA):
        busy = torch.tanh(busy @ busy)
        sums.append(step[0].images.sum() + step[0].sizes.sum())
    assert torch.stack(sums).tolist() == [int(b.images.sum() + b.sizes.sum()) for b in batches]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_run_trains_logs_and_goes_on(tmp_path, monkeypatch, optimizer: str) -> None:  # type: ignore[no-untyped-def]
    from tests.training.tiny_run import tiny_backbone

    monkeypatch.setattr("maskrcnn.model.build.build_backbone", tiny_backbone)
    data = write_squares(tmp_path / "data", 12)
    config = tiny_config(**{"train.optimizer": optimizer, "train.precision": "bf16", "train.steps": 40})
    run = train(config, train=data, val=data, out=tmp_path / "run", device="cuda", progress=False)
    losses = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss/total"] for line in losses if "loss/total" in line]
    assert len(losses) == 20
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0]
    assert "box" in run.metrics


def test_results_on_pinned_memory_are_the_same() -> None:
    found = make_network(fused_copy(tiny_model()).to(CUDA), CUDA, "float32", graphs=False)(*batch())
    host, plain = to_host(found), found.to("cpu")
    for name in ("boxes", "scores", "labels", "valid", "masks"):
        assert torch.equal(getattr(host, name), getattr(plain, name))
