"""How many images go through the network together: what the user says, or what the memory of the device allows."""

from __future__ import annotations

import torch

MOST = 16  # answers come when a whole batch is through
BYTES_A_PIXEL = 4096  # of the padded input: a first guess, a shortage halves what it gives


class BatchSizes:
    """Remembers what did not fit, so that no shortage comes twice.

    Args:
        device: of the network. Elsewhere than on CUDA images go one by one, which takes the least memory.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._most_pixels: int | None = None

    def most(self, padded: tuple[int, int], asked: int | None) -> int:
        """Images of this (height, width) in one pass; `asked`: not more than the user wants, None: automatic."""
        pixels = padded[0] * padded[1]
        wanted = self._automatic(pixels) if asked is None else asked
        return wanted if self._most_pixels is None else max(1, min(wanted, self._most_pixels // pixels))

    def lookahead(self, asked: int | None) -> int:
        """Images among which those of one padded size are looked for."""
        if asked is not None:
            return asked
        return MOST if self._device.type == "cuda" else 1

    def note_shortage(self, padded: tuple[int, int], count: int) -> None:
        """So many images of this size did not fit: from now on half as many pixels."""
        half = padded[0] * padded[1] * max(1, count // 2)
        self._most_pixels = half if self._most_pixels is None else min(half, self._most_pixels)

    def _automatic(self, pixels: int) -> int:
        if self._device.type != "cuda":
            return 1
        reserved = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        free = torch.cuda.mem_get_info(self._device)[0] + reserved
        return max(1, min(MOST, free // (BYTES_A_PIXEL * pixels)))
