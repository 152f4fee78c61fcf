"""What must be right before a time means anything: each check returns a line, or raises `AssertionError` with one."""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from maskrcnn.model.build import fused_copy
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.ops.nms import keep_by_iteration, keep_by_torchvision, nms_keep
from maskrcnn.predict.cuda_graphs import CudaGraphs, make_network
from maskrcnn.predict.transfer import to_host
from maskrcnn.structures import Batch, Detections, Targets

SCORE_TOLERANCE = {"float32": 2e-3, "bf16": 5e-2, "fp16": 2e-2}  # random weights are steep; another network is far off


def check_nms(device: torch.device, counts: tuple[int, ...]) -> str:
    """The device's kernel and plain PyTorch give the CPU's mask, bit for bit."""
    cases = 0
    for count in counts:
        for threshold in (0.3, 0.5, 0.7):
            boxes, scores, groups, valid = boxes_to_suppress(count)
            expected = keep_by_torchvision(boxes, scores, groups, valid, threshold)
            moved = [value.to(device) for value in (boxes, scores, groups, valid)]
            for way in (nms_keep, keep_by_iteration):
                different = int((way(*moved, threshold).cpu() != expected).sum())
                assert not different, f"{way}: {different} of {expected.numel()} boxes differ at N={count}, {threshold}"
                cases += 1
    return f"{cases} masks equal, up to {max(counts)} boxes an image"


def boxes_to_suppress(count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two images; half of the boxes on whole pixels and with equal scores, so that ties and thresholds are met."""
    generator = torch.Generator().manual_seed(count)
    corner = torch.rand(2, count, 2, generator=generator) * max(20.0, count / 10)
    boxes = torch.cat([corner, corner + torch.rand(2, count, 2, generator=generator) * 20], -1)
    boxes[:, ::2] = boxes[:, ::2].round()
    scores = torch.randint(0, 50, (2, count), generator=generator) / 50
    groups = torch.randint(0, 5, (2, count), generator=generator)
    return boxes, scores, groups, torch.rand(2, count, generator=generator) > 0.1


def check_detections(found: Detections, expected: Detections, tolerance: float, what: str) -> str:
    """As many objects (within 3 in 100, which rounding moves over the threshold) with the same scores."""
    a, b = (d.to("cpu") for d in (found, expected))
    for image in range(len(a.valid)):
        count, wanted = int(a.valid[image].sum()), int(b.valid[image].sum())
        assert wanted, f"{what}: nothing found to compare"
        assert abs(count - wanted) <= max(3, 0.03 * wanted), f"{what}: {count} objects, expected {wanted}"
        together = min(count, wanted)
        difference = float((a.scores[image, :together] - b.scores[image, :together]).abs().max())
        assert difference <= tolerance, f"{what}: scores differ by {difference:.2g}, at most {tolerance:.2g} allowed"
    return f"{what}: {int(a.valid.sum())} objects, scores within {tolerance:g}"


def check_same_arithmetic(model: MaskRCNN, images: Tensor, sizes: Tensor, device: torch.device) -> str:
    """The device gives what the CPU gives, in float32 without TensorFloat-32."""
    with full_float32(), torch.inference_mode():
        expected = fused_copy(model).to("cpu")(images, sizes)
        found = make_network(fused_copy(model).to(device), device, "float32", graphs=False)(images, sizes)
    return check_detections(found, expected, SCORE_TOLERANCE["float32"], f"{device} against the CPU, float32")


def check_graphs(model: MaskRCNN, images: Tensor, sizes: Tensor, device: torch.device, precision: str) -> str:
    """A replay gives what the plain pass gives, and the next input another answer; a failed capture fails here."""
    plain = make_network(fused_copy(model).to(device), device, precision, graphs=False)
    graphs = make_network(fused_copy(model).to(device), device, precision)
    assert isinstance(graphs, CudaGraphs)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        first = [graphs(images, sizes) for _ in range(3)][-1]
    assert len(graphs) == 1, "no graph was captured"
    kept = first.scores.clone()
    other = images.flip(-1)
    line = check_detections(first, plain(images, sizes), SCORE_TOLERANCE[precision], f"CUDA graph, {precision}")
    check_detections(graphs(other, sizes), plain(other, sizes), SCORE_TOLERANCE[precision], "CUDA graph, second input")
    assert torch.equal(first.scores, kept), "a replay has overwritten an earlier result"
    return line


def check_synchronisations(model: MaskRCNN, images: Tensor, sizes: Tensor, device: torch.device) -> str:
    """Nothing waits between images in and detections out, with and without graphs; reading them waits once."""
    lines = []
    for graphs in (False, True):
        network = make_network(fused_copy(model).to(device), device, "bf16", graphs=graphs)
        for _ in range(3):
            found = network(images, sizes)
        waits = synchronisations(lambda network=network: network(images, sizes))
        assert not waits, f"{len(waits)} synchronisations {'with' if graphs else 'without'} graphs: {waits[0]}"
        lines.append(f"0 {'with' if graphs else 'without'} graphs")
    waits = synchronisations(lambda: to_host(found))
    assert len(waits) == 1, f"{len(waits)} synchronisations reading the detections, expected 1: {waits}"
    return f"synchronisations in a forward pass: {', '.join(lines)}; 1 to read the result"


def check_losses(model: MaskRCNN, images: Tensor, sizes: Tensor, targets: Targets, device: torch.device) -> str:
    """One training forward and backward in float32: losses within 1 %, gradient norm within 5 % of the CPU's."""
    numbers = []
    for place in (torch.device("cpu"), device):
        network = copy.deepcopy(model).to(place).train()
        with full_float32():
            losses = network(images.to(place), sizes.to(place), targets.to(place))
            torch.stack(list(losses.values())).sum().backward()
        norm = nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
        numbers.append({name: value.item() for name, value in losses.items()} | {"gradient norm": norm.item()})
    for name, expected in numbers[0].items():
        allowed = (0.05 if name == "gradient norm" else 0.01) * abs(expected) + 1e-4
        assert math.isclose(numbers[1][name], expected, abs_tol=allowed), (
            f"{name}: {numbers[1][name]:.5g}, {expected:.5g}"
        )
    return "losses and gradient norm: " + ", ".join(f"{name} {value:.4g}" for name, value in numbers[1].items())


def check_guard(device: torch.device) -> str:
    """A fused update with a bad gradient changes neither weights nor state, and no later one does."""
    from maskrcnn.config import TrainConfig
    from maskrcnn.training.optim import Guard, make_optimizer

    for kind in ("sgd", "adamw"):
        net = nn.Conv2d(8, 8, 3).to(device, memory_format=torch.channels_last)
        optimizer = make_optimizer(net, TrainConfig(optimizer=kind, batch_size=16))  # type: ignore[arg-type]
        assert optimizer.defaults["fused"], "the optimiser is not fused"
        guard = Guard(optimizer, device)
        x = torch.rand(2, 8, 8, 8, device=device)

        def update(factor: float, net=net, optimizer=optimizer, guard=guard, x=x) -> Tensor:  # type: ignore[no-untyped-def]
            optimizer.zero_grad()
            (net(x).sum() * factor).backward()
            guard.see(torch.stack([net.weight.grad.norm()]))
            optimizer.step()
            return net.weight.detach().clone()

        good = update(1.0)
        assert torch.equal(update(math.nan), good), f"{kind}: a bad gradient has reached the weights"
        assert torch.equal(update(1.0), good), f"{kind}: an update after a bad one was not held back"
    return "no update from a bad gradient on, SGD and AdamW"


def check_prefetch(device: torch.device) -> str:
    """Batches that travel on a stream of their own arrive whole while the computation is busy."""
    from maskrcnn.training.prefetch import on_device

    batches = [
        Batch(torch.full((4, 3, 256, 256), i, dtype=torch.uint8), torch.full((4, 2), i), None) for i in range(20)
    ]
    pinned = [batch.pin_memory() if device.type == "cuda" else batch for batch in batches]
    busy = torch.rand(1024, 1024, device=device)
    sums = []
    for step in on_device(([batch] for batch in pinned), device):
        busy = torch.tanh(busy @ busy)
        sums.append(step[0].images.long().sum() + step[0].sizes.sum())
    expected = [int(batch.images.long().sum() + batch.sizes.sum()) for batch in batches]
    assert torch.stack(sums).tolist() == expected, "a batch arrived broken"
    return f"{len(batches)} batches arrived whole"


def synchronisations(job: Callable[[], object]) -> list[str]:
    """The places where `job` waited for the device, as PyTorch's debug mode sees them."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            job()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return [f"{w.filename}:{w.lineno}" for w in caught if "synchronizing CUDA operation" in str(w.message)]


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """No TensorFloat-32."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
