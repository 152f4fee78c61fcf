"""CUDA graphs: the thousands of launches of a forward pass recorded once and replayed with one, for each input size
that comes again."""

from __future__ import annotations

import threading
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from maskrcnn.model.half import halve_weights
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.predict.transfer import to_device
from maskrcnn.structures import Detections

Forward = Callable[[Tensor, Tensor], Detections]
Signature = tuple[torch.Size, torch.dtype, torch.dtype]

MOST_GRAPHS = 8  # each keeps its inputs and outputs; their working memory is shared
SECOND_TIME = 2  # a folder of photos of many sizes would pay for graphs that nobody replays
WARM_UP = 2  # passes on the capturing stream: libraries choose algorithms and allocate there
MOST_COUNTED = 1000  # sizes whose visits are remembered


HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def make_network(
    model: MaskRCNN, device: torch.device, precision: str, *, compiled: bool = False, graphs: bool = True
) -> Forward:
    """The forward pass of a prediction, as fast as the device allows: images (B, C, H, W) and sizes (B, 2) from the
    host or the device in, detections on the device out. On CUDA nothing in between waits.

    Args:
        model: a fused copy, on the device. In half precision on CUDA its weights are halved in place.
        device: where it runs.
        precision: "float32", "bf16", or "fp16" (CUDA).
        compiled: through Inductor; a minute for each new size (batch, height, width).
        graphs: on CUDA, replay sizes that come again, see `CudaGraphs`.
    """
    half = HALF.get(precision)
    on_cuda = device.type == "cuda"
    if half and on_cuda:
        halve_weights(model, half)
    run = torch.compile(model, dynamic=False) if compiled else model

    @torch.inference_mode()
    def forward(images: Tensor, sizes: Tensor) -> Detections:
        with torch.autocast(device.type, half, enabled=half is not None):
            return run(to_device(images, device), to_device(sizes, device))

    return CudaGraphs(forward, device) if on_cuda and graphs else forward


class Graph(Protocol):
    """A captured forward pass."""

    def __call__(self, images: Tensor, sizes: Tensor) -> Detections:
        """New tensors, as `Forward` gives them; the images may lie on the host."""


class CudaGraphs:
    """A forward pass that is replayed where it can be; same arguments, same numbers.

    A size (batch, height, width, dtype) runs as it is the first time, and is captured the second. All calls must come
    from one stream. Where capturing fails, a warning says why, and that size runs as it is from then on.

    Args:
        forward: the network, with its autocast or compilation inside. Nothing in it may wait for the device.
        device: a CUDA device.
        most: graphs to keep; the one not used for longest makes room.
        capture: makes a graph; a test passes its own.
    """

    def __init__(
        self,
        forward: Forward,
        device: torch.device,
        *,
        most: int = MOST_GRAPHS,
        capture: Callable[[Forward, Tensor, Tensor, Any], Graph] | None = None,
    ) -> None:
        self._forward, self._device, self._most = forward, device, most
        self._capture = capture or CapturedPass
        self._pool: Any = None if capture else torch.cuda.graph_pool_handle()
        self._graphs: OrderedDict[Signature, Graph] = OrderedDict()
        self._visits: Counter[Signature] = Counter()
        self._refused: set[Signature] = set()
        self._lock = threading.Lock()  # a graph has one set of inputs

    @torch.inference_mode()
    def __call__(self, images: Tensor, sizes: Tensor) -> Detections:
        """Args: images (B, C, H, W), sizes (B, 2), on the device or on the host. Returns new tensors on the device."""
        signature = images.shape, images.dtype, sizes.dtype
        with self._lock:
            if signature not in self._graphs and self._is_due(signature):
                self._try_capture(signature, images, sizes)
            if graph := self._graphs.get(signature):
                self._graphs.move_to_end(signature)
                return graph(images, sizes)
        return self._forward(to_device(images, self._device), to_device(sizes, self._device))

    def __len__(self) -> int:
        """Graphs kept."""
        return len(self._graphs)

    def _is_due(self, signature: Signature) -> bool:
        if signature in self._refused:
            return False
        if len(self._visits) >= MOST_COUNTED:
            self._visits.clear()
        self._visits[signature] += 1
        return self._visits[signature] >= SECOND_TIME

    def _try_capture(self, signature: Signature, images: Tensor, sizes: Tensor) -> None:
        while len(self._graphs) >= self._most:
            self._graphs.popitem(last=False)
        problem = ""
        try:
            self._graphs[signature] = self._capture(self._forward, images.to(self._device), sizes, self._pool)
        except torch.OutOfMemoryError:
            problem = "out of memory"
        except RuntimeError as error:
            problem = str(error).splitlines()[0] if str(error) else repr(error)
        if not problem:
            return
        self._refused.add(signature)
        if problem == "out of memory":  # outside of `except`, whose traceback holds the tensors
            self._graphs.clear()
            torch.cuda.empty_cache()
        batch, _, height, width = signature[0]
        warnings.warn(
            f"no CUDA graph for {batch} x {height} x {width} ({problem}): this size runs without one, slower",
            stacklevel=3,
        )


class CapturedPass:
    """One forward pass as a CUDA graph, with inputs and outputs of its own.

    Args:
        forward: what to record.
        images, sizes: of the size to record, and something to warm up on.
        pool: memory that the graphs of a network share: they never run at the same time, and their results are copied
            out before another one runs.
    """

    def __init__(self, forward: Forward, images: Tensor, sizes: Tensor, pool: Any) -> None:
        device = images.device
        self._images = images.clone(memory_format=torch.contiguous_format)
        self._sizes = to_device(sizes, device).clone()
        side, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
        side.wait_stream(current)
        # cuDNN tries its algorithms for these shapes during the warm-up, and records the fastest.
        benchmark, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
        try:
            with torch.cuda.device(device), torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    forward(self._images, self._sizes)
            current.wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            # Other threads, which decode images, may go on allocating memory.
            with (
                torch.cuda.device(device),
                torch.cuda.graph(self._graph, pool=pool, stream=side, capture_error_mode="thread_local"),
            ):
                self._detections = forward(self._images, self._sizes)
        finally:
            torch.backends.cudnn.benchmark = benchmark

    def __call__(self, images: Tensor, sizes: Tensor) -> Detections:
        for mine, given in ((self._images, images), (self._sizes, sizes)):
            on_host = given.device.type == "cpu" and not given.is_pinned()
            mine.copy_(given.pin_memory() if on_host else given, non_blocking=True)
        self._graph.replay()
        return self._detections.map(torch.clone)
