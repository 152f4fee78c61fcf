"""One keep mask, whichever way: torchvision's kernel, plain PyTorch, Triton (interpreted here, on a GPU for real)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import batched_nms, nms

import maskrcnn.ops.nms as module
from maskrcnn.ops.nms import (
    best_first,
    first_of_best,
    keep_by_iteration,
    keep_by_torchvision,
    largest_float32,
    nms_first,
    nms_keep,
)

needs_triton = pytest.mark.skipif(module.importlib.util.find_spec("triton") is None, reason="Triton is not installed")


def test_equals_torchvision_per_image_and_group():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2, 60, 2, generator=generator) * 50
    boxes = torch.cat([corner, corner + 20], -1)
    scores = torch.rand(2, 60, generator=generator)
    groups = torch.randint(0, 3, (2, 60), generator=generator)
    valid = torch.rand(2, 60, generator=generator) > 0.2
    keep = nms_keep(boxes, scores, groups, valid, 0.5)
    for image in range(2):
        rows = valid[image].nonzero()[:, 0]
        expected = rows[batched_nms(boxes[image, rows], scores[image, rows], groups[image, rows], 0.5)]
        assert sorted(expected.tolist()) == keep[image].nonzero()[:, 0].tolist()


def crowd(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes that overlap much, scores with ties."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(2, count, 2, generator=generator) * 30
    boxes = torch.cat([corner, corner + 20 + torch.rand(2, count, 2, generator=generator) * 10], -1)
    scores = torch.randint(0, 50, (2, count), generator=generator) / 50
    return boxes, scores, torch.rand(2, count, generator=generator) > 0.1


@pytest.mark.parametrize("wanted", [1, 7, 40, 500])
def test_the_first_that_survive_are_those_of_the_whole_nms(wanted: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BLOCK", 16)  # many blocks
    boxes, scores, valid = crowd(300, wanted)
    indices, real = nms_first(boxes, scores, valid, 0.6, wanted)
    assert indices.shape == real.shape == (2, wanted)
    for image in range(2):
        rows = valid[image].nonzero()[:, 0]
        expected = rows[nms(boxes[image, rows], scores[image, rows], 0.6)][:wanted]
        assert indices[image, real[image]].tolist() == expected.tolist()


@pytest.mark.parametrize("wanted", [1, 40, 500])
def test_without_a_look_at_the_values_the_first_are_the_same(wanted: int):
    boxes, scores, valid = crowd(300, wanted)
    scores = scores + torch.arange(300) * 1e-6  # no ties
    exact, real = nms_first(boxes, scores, valid, 0.6, wanted)
    for some, everything in zip(first_of_best(boxes, scores, valid, 0.6, wanted), (exact, real), strict=True):
        assert torch.equal(some * real, everything * real)


def test_best_first_keeps_the_order_of_ties():
    values, indices = best_first(torch.tensor([[1.0, 3.0, 1.0, 3.0, 2.0]]), 4)
    assert values.tolist() == [[3.0, 3.0, 2.0, 1.0]]
    assert indices.tolist() == [[1, 3, 4, 0]]
    assert best_first(torch.zeros(2, 3), 9)[0].shape == (2, 3)


Case = tuple[Tensor, Tensor, Tensor, Tensor, float]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Boxes on a coarse grid: equal scores, equal boxes, boxes without area and IoUs at the threshold are common."""
    count = draw(st.integers(0, 40))
    numbers = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    corner = torch.randint(0, draw(st.integers(1, 12)), (2, count, 2), generator=numbers).float()
    side = torch.randint(0, 8, (2, count, 2), generator=numbers)
    scores = torch.randint(0, draw(st.integers(1, 9)), (2, count), generator=numbers).float() / 8
    groups = torch.randint(0, draw(st.integers(1, 4)), (2, count), generator=numbers)
    valid = torch.rand(2, count, generator=numbers) > draw(st.sampled_from([0.0, 0.2, 1.0]))
    threshold = draw(st.sampled_from([0.0, 0.1, 0.2, 0.3, 1 / 3, 0.4, 0.5, 0.6, 2 / 3, 0.7, 0.75, 0.9, 1.0]))
    return torch.cat([corner, corner + side], -1), scores, groups, valid, threshold


@given(cases())
@settings(max_examples=200, deadline=None)
def test_plain_pytorch_gives_the_same_mask(case: Case):
    assert torch.equal(keep_by_iteration(*case), keep_by_torchvision(*case))


@given(cases())
@settings(max_examples=100, deadline=None)
def test_every_group_is_torchvisions_nms(case: Case):
    boxes, scores, groups, valid, threshold = case
    expected = torch.zeros_like(valid)
    for image in range(2):
        for group in range(4):
            rows = (valid[image] & (groups[image] == group)).nonzero()[:, 0]
            expected[image, rows[nms(boxes[image, rows], scores[image, rows], threshold)]] = True
    assert torch.equal(nms_keep(*case), expected)


@pytest.mark.parametrize("threshold", [0.3, 0.1, 1 / 3, 0.7])
def test_an_overlap_exactly_at_the_threshold(threshold: float):
    """IoU 3/10 as a float32 is a little above 0.3: torchvision drops the second box, and so does every way of ours."""
    common, union = {0.3: (3, 10), 0.1: (1, 10), 1 / 3: (1, 3), 0.7: (7, 10)}[threshold]
    boxes = torch.tensor([[[0.0, 0.0, union, 1.0], [0.0, 0.0, common, 1.0]]])
    case = (boxes, torch.tensor([[0.9, 0.8]]), torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2) > 0, threshold)
    expected = [row in nms(boxes[0], case[1][0], threshold).tolist() for row in range(2)]
    assert keep_by_torchvision(*case)[0].tolist() == expected
    assert keep_by_iteration(*case)[0].tolist() == expected


def test_of_equal_scores_the_first_is_kept():
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]]])
    case = (boxes, torch.ones(1, 3), torch.zeros(1, 3, dtype=torch.int64), torch.ones(1, 3) > 0, 0.5)
    assert keep_by_torchvision(*case).tolist() == keep_by_iteration(*case).tolist() == [[True, False, False]]


def test_a_chain_keeps_every_other_box():
    x = torch.arange(50.0)[:, None] * 6
    boxes = torch.cat([x, torch.zeros_like(x), x + 10, torch.full_like(x, 10.0)], 1)[None]  # neighbours: IoU 1/4
    scores, groups = torch.arange(50.0, 0, -1)[None], torch.zeros(1, 50, dtype=torch.int64)
    keep = keep_by_iteration(boxes, scores, groups, torch.ones(1, 50) > 0, 0.2)
    assert keep[0].nonzero()[:, 0].tolist() == list(range(0, 50, 2))


def test_chunks_of_the_overlap_matrix(monkeypatch: pytest.MonkeyPatch):
    boxes = torch.rand(1, 50, 4, generator=torch.Generator().manual_seed(0)) * 20
    boxes[..., 2:] += boxes[..., :2]
    case = (boxes, torch.rand(1, 50), torch.zeros(1, 50, dtype=torch.int64), torch.ones(1, 50) > 0, 0.3)
    whole = keep_by_iteration(*case)
    monkeypatch.setattr(module, "CHUNK", 7)
    assert torch.equal(keep_by_iteration(*case), whole)


@given(st.floats(0, 1))
def test_largest_float32_is_not_above_and_the_next_one_is(value: float):
    found = torch.tensor(largest_float32(value))
    assert found.item() == largest_float32(value) <= value
    assert torch.nextafter(found, torch.tensor(2.0)).item() > value


def test_nothing_valid_and_nothing_at_all():
    boxes, scores, groups = torch.zeros(1, 4, 4), torch.zeros(1, 4), torch.zeros(1, 4, dtype=torch.int64)
    assert not nms_keep(boxes, scores, groups, torch.zeros(1, 4, dtype=torch.bool), 0.5).any()
    none = nms_keep(boxes[:, :0], scores[:, :0], groups[:, :0], torch.zeros(1, 0, dtype=torch.bool), 0.5)
    assert none.shape == (1, 0)


def test_is_a_sound_operator():
    arguments = (torch.rand(1, 4, 4), torch.rand(1, 4), torch.zeros(1, 4, dtype=torch.int64), torch.ones(1, 4) > 0, 0.5)
    torch.library.opcheck(nms_keep, arguments)


def random_case(count: int, seed: int, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Half of the boxes on a grid, half anywhere; many equal scores."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(2, count, 2, generator=generator) * 12
    side = torch.rand(2, count, 2, generator=generator) * 8
    boxes = torch.cat([corner, corner + side], -1)
    boxes[:, ::2] = boxes[:, ::2].round()
    scores = torch.randint(0, 9, (2, count), generator=generator) / 8
    groups = torch.randint(0, 3, (2, count), generator=generator)
    valid = torch.rand(2, count, generator=generator) > 0.1
    return boxes.to(device), scores.to(device), groups.to(device), valid.to(device)


# ---------------------------------------------------------------- Triton


def interpreted() -> None:
    """What the test below runs in a process of its own: TRITON_INTERPRET has to be set before Triton is imported."""
    from maskrcnn.ops.nms_triton import keep_by_triton

    for count in (0, 1, 32, 33, 129):
        for threshold in (0.3, 0.5, 0.7):
            case = random_case(count, seed=count)
            expected = keep_by_torchvision(*case, threshold)
            assert torch.equal(keep_by_triton(*case, largest_float32(threshold)), expected), (count, threshold)


@needs_triton
def test_triton_gives_the_same_mask_in_the_interpreter():
    code = "import tests.ops.test_nms as t; t.interpreted()"
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_triton
@pytest.mark.parametrize("architecture", [75, 80, 90])
def test_triton_compiles_for_nvidia_without_fused_arithmetic(architecture: int):
    """Triton brings its own assembler, so that this needs no GPU. A fused multiply-add would round otherwise."""
    triton = pytest.importorskip("triton")
    compiler = pytest.importorskip("triton.compiler")
    from triton.backends.compiler import GPUTarget

    from maskrcnn.ops import nms_triton

    def compiled(kernel: object, constants: dict[str, int], types: str, **options: object) -> str:
        names = kernel.arg_names  # type: ignore[attr-defined]
        signature = dict(zip(names, [*types.split(), "constexpr"], strict=True))
        target = GPUTarget("cuda", architecture, 32)
        return triton.compile(compiler.ASTSource(kernel, signature, constants), target=target, options=options).asm[
            "ptx"
        ]

    overlap = compiled(
        nms_triton._overlap_bits, {"ROWS": 128}, "*fp32 *i64 *i32 fp32 i32 i32", num_warps=4, enable_fp_fusion=False
    )
    assert re.search(r"div\.rn(\.ftz)?\.f32", overlap)
    assert "div.full.f32" not in overlap
    assert "fma." not in overlap
    assert compiled(nms_triton._scan, {"WIDTH": 256}, "*i32 *i64 *u8 *u8 i32 i32", num_warps=8)


def test_without_triton_one_warning_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    module._triton_problem.cache_clear()
    try:
        with pytest.warns(UserWarning, match="Triton is not installed: non-maximum suppression runs in plain PyTorch"):
            assert module._triton_problem(0) == "Triton is not installed"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            module._triton_problem(0)
    finally:
        module._triton_problem.cache_clear()


def test_triton_that_cannot_compile_is_a_warning(monkeypatch: pytest.MonkeyPatch):
    def broken(device: torch.device) -> None:
        raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.")

    monkeypatch.setattr(module, "_try_triton", broken)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    module._triton_problem.cache_clear()
    try:
        with pytest.warns(UserWarning, match=r"Failed to find C compiler.*plain PyTorch, slower"):
            assert module._triton_problem(0)
    finally:
        module._triton_problem.cache_clear()
