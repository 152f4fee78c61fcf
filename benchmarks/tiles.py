"""Time and memory of an image in tiles: 20,000 x 20,000 pixels with 5,000 discs, from a TIFF to one RLE for each disc.

    python benchmarks/tiles.py [--side 20000] [--objects 5000] [--tile N] [--network 3] [--file image.tif] [--json FILE]

The network of the first part is a perfect one that reads the number of a disc from its colour, so that what is found
is checked: every disc once, with all of its pixels. It takes no memory of its own: what is measured is reading, cutting
and putting together. The second part runs a ResNet-50 FPN with random weights on `--network` tiles and says how long
one takes and how high the memory goes; all tiles take as much. Everything runs on the CPU.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import tifffile
import torch

from maskrcnn.config import DataConfig
from maskrcnn.data.windows import open_windows
from maskrcnn.instances import Instances
from maskrcnn.model.build import build_model
from maskrcnn.ops.rle import rle_area, window_to_rle
from maskrcnn.predict.predictor import Predictor
from maskrcnn.predict.tiles import Tiling, layout, predict_tiled
from maskrcnn.presets import preset

BLOCK = 256  # side of a tile of the TIFF


def discs(side: int, count: int) -> np.ndarray:
    """(N, 3) int64 x, y, radius of discs that do not touch, on a grid, none alike."""
    rng = np.random.default_rng(0)
    across = int(np.ceil(count**0.5))
    step = side // across
    radius = rng.integers(step // 16, int(step * 0.4), count)
    cell = np.stack(np.divmod(np.arange(count), across)[::-1], axis=1) * step
    free = step - 2 * radius - 2
    return np.column_stack([cell + radius[:, None] + (rng.random((count, 2)) * free[:, None]).astype(int), radius])


def blocks(side: int, objects: np.ndarray, areas: np.ndarray) -> Iterator[np.ndarray]:
    """The TIFF's tiles, row by row; `areas` counts the pixels of each disc."""
    for top in range(0, side, BLOCK):
        for left in range(0, side, BLOCK):
            pixels = np.zeros((BLOCK, BLOCK, 3), np.uint8)
            x, y, radius = objects.T
            near = (abs(x - left - BLOCK / 2) < BLOCK / 2 + radius) & (abs(y - top - BLOCK / 2) < BLOCK / 2 + radius)
            for number in np.flatnonzero(near).tolist():
                rows = np.arange(top, min(top + BLOCK, side))[:, None] - y[number]
                columns = np.arange(left, min(left + BLOCK, side)) - x[number]
                inside = rows**2 + columns**2 <= radius[number] ** 2
                pixels[: len(rows), : len(columns)][inside] = *divmod(number + 1, 256), 200
                areas[number] += int(inside.sum())
            yield pixels


class Reads:
    """A perfect network: (h, w, 3) -> the discs in it. Of an image that was made smaller nothing is left to read."""

    device = torch.device("cpu")

    def __init__(self, tile: int) -> None:
        self.model = SimpleNamespace(
            data=DataConfig(min_size=tile, max_size=tile),
            config=SimpleNamespace(image_mean=(0.0, 0.0, 0.0)),
            object_sizes=None,
        )
        self.tile, self.tiles = tile, 0

    def fit(self, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        return (self.tile, self.tile), (self.tile, self.tile)

    def prepare(self, image: Any) -> np.ndarray:
        pixels = np.asarray(image).astype(np.int64)
        return pixels[:, :, 0] * 256 + pixels[:, :, 1]

    def predict_prepared(self, images: list[np.ndarray], threshold: float, size: int = 8) -> list[Instances]:
        return [self.read(image) for image in images]

    def read(self, numbers: np.ndarray) -> Instances:
        self.tiles += numbers.shape == (self.tile, self.tile)
        rows, columns = np.nonzero(numbers if numbers.shape == (self.tile, self.tile) else np.zeros((1, 1)))
        which = numbers[rows, columns]
        boxes, rles = [], []
        for number in np.unique(which).tolist():
            y, x = rows[which == number], columns[which == number]
            top, left, bottom, right = y.min(), x.min(), y.max() + 1, x.max() + 1
            boxes.append([left, top, right, bottom])
            rles.append(window_to_rle(numbers[top:bottom, left:right] == number, int(top), int(left), numbers.shape))
        count = len(boxes)
        return Instances(
            boxes=np.array(boxes, np.float32).reshape(-1, 4),
            scores=np.full(count, 0.9, np.float32),
            labels=np.zeros(count, np.int64),
            classes=("disc",),
            size=numbers.shape,
            _rle=rles,
        )


def peak_mb() -> float:
    """Most memory that this process had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def network(path: Path, tile: int, count: int) -> float:
    """Seconds a tile of a ResNet-50 FPN with random weights, over `count` tiles in the middle of the image."""
    config = preset("r50-fpn")
    predictor = Predictor(build_model(config.model, classes=("disc",), data=config.data), "cpu")
    with open_windows(path) as windows:
        middle = layout(windows.size, (tile, tile), 0)
        middle = middle[len(middle) // 2 :][: count + 1]
        seconds = []
        for window in middle:
            began = time.perf_counter()
            predictor(np.ascontiguousarray(windows.read(window)))
            seconds.append(time.perf_counter() - began)
    return float(np.median(seconds[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--objects", type=int, default=5_000)
    parser.add_argument("--tile", type=int, default=800)
    parser.add_argument("--network", type=int, default=0, help="tiles to run a real network on")
    parser.add_argument("--file", type=Path, help="write the image here and keep it")
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or Path(folder) / "image.tif"
        objects, areas = discs(options.side, options.objects), np.zeros(options.objects, np.int64)
        tifffile.imwrite(
            path,
            blocks(options.side, objects, areas),
            shape=(options.side, options.side, 3),
            dtype=np.uint8,
            tile=(BLOCK, BLOCK),
            photometric="rgb",
            compression="zlib",
            compressionargs={"level": 1},
        )
        numbers: dict[str, Any] = {"side": options.side, "objects": options.objects, "tile": options.tile}
        numbers["memory_before_mb"] = peak_mb()
        reader, began = Reads(options.tile), time.perf_counter()
        found = predict_tiled(reader, path, Tiling(options.tile))  # type: ignore[arg-type]
        numbers["seconds"] = time.perf_counter() - began
        numbers["tiles"] = reader.tiles
        numbers["peak_mb"] = peak_mb()
        numbers["found"] = len(found)
        numbers["exact"] = sorted(map(rle_area, found.rle)) == sorted(areas.tolist())
        numbers["rle_mb"] = sum(len(rle["counts"]) for rle in found.rle) / 1e6
        if options.network:
            numbers["network_seconds_a_tile"] = network(path, options.tile, options.network)
            numbers["network_peak_mb"] = peak_mb()
    for name, value in numbers.items():
        print(f"{name:24} {value:.1f}" if isinstance(value, float) else f"{name:24} {value}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=1) + "\n")
    if not numbers["exact"]:
        raise SystemExit("what was found is not what is in the image")


if __name__ == "__main__":
    main()
