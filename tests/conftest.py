"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# The same examples in every run: a failure is found again. HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile("same", derandomize=True)
settings.register_profile("search", max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

torch.set_num_threads(1)  # the suite runs two processes on two cores


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data, not part of the repository."""
    path = Path(os.environ.get("MASKRCNN_TEST_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")).resolve()
    if not path.is_dir():
        pytest.skip(f"real data not found at {path}; set MASKRCNN_TEST_DATA")
    return path


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
