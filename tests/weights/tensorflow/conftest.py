"""Weight files of TensorFlow: small ones that it wrote itself (tensorflow_writes.py), and the thin oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def written() -> Path:
    """What tensorflow_writes.py made."""
    return Path(__file__).parent / "files"


@pytest.fixture(scope="session")
def tiny(data_dir) -> Path:
    """The thin Inception v2 model as the original code wrote it; not part of the repository."""
    path = data_dir.parent / "oracles" / "tensorflow" / "tiny_inception_v2"
    if not path.is_dir():
        pytest.skip(f"the thin model is not at {path}")
    return path


@pytest.fixture(scope="session")
def truth(tiny) -> dict[str, np.ndarray]:
    """All variables of the thin model."""
    with np.load(tiny / "variables.npz") as file:
        return dict(file)
