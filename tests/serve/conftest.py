"""One server with a tiny model for all tests that only ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from maskrcnn.predict.predictor import Predictor
from tests.model.tiny import tiny_model
from tests.serve.live import Live, live


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    return Predictor(tiny_model(), "cpu")


@pytest.fixture(scope="session")
def server(predictor: Predictor) -> Iterator[Live]:
    with live(predictor, rate=0, megabytes=1, megapixels=1, upload_seconds=1) as server:
        yield server
