from __future__ import annotations

import pytest
import torch

from tests.training.tiny_run import tiny_backbone, write_squares


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
    """A trunk of a few thousand weights, and one thread: the tests are about the loop, not about the network."""
    monkeypatch.setattr("maskrcnn.model.build.build_backbone", tiny_backbone)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def squares(tmp_path_factory):
    """Training and validation data: 12 and 4 images with red and green squares."""
    folder = tmp_path_factory.mktemp("squares")
    return write_squares(folder / "train", 12), write_squares(folder / "val", 4, seed=1)
