"""Run by `test_two_processes.py` under torchrun: train a few steps on a data set of the Shapes generator."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import maskrcnn.model.build
from maskrcnn.training.loop import train
from tests.training.tiny_run import tiny_backbone, tiny_config, write_squares


def main(folder: Path, out: Path, accumulate: int) -> None:
    torch.set_num_threads(1)
    maskrcnn.model.build.build_backbone = tiny_backbone
    config = tiny_config(
        **{
            "train.steps": 6,
            "train.optimizer": "sgd",
            "train.learning_rate": 0.04,
            "train.log_every": 1,
            "train.accumulate": accumulate,
        }
    )
    data = [write_squares(folder / name, count, seed=count) for name, count in (("train", 12), ("val", 5))]
    train(config, train=data[0], val=data[1], out=out, device="auto", progress=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
