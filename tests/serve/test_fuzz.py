"""Requests made up from the API's own description: every answer is one that it promises, and none is a 5xx."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serve.live import Live, picture

OPERATIONS = [("/predict", "POST"), ("/predict/batch", "POST"), ("/health", "GET"), ("/metrics", "GET")]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_promises_are_kept(path: str, method: str, mode: str, server: Live) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="pip install 'maskrcnn[web-tests]'")
    operation = schemathesis.openapi.from_url(f"{server.url}/openapi.json")[path][method]
    if mode == "NEGATIVE" and method == "GET":
        pytest.skip("takes nothing that could be wrong")
    # No schema can say that bytes are an image: what is valid may be refused, and any bytes are a valid file.
    unknown = [schemathesis.checks.positive_data_acceptance, schemathesis.checks.negative_data_rejection]

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode[mode]))
    def ask(case: Any) -> None:
        case.call_and_validate(excluded_checks=unknown)

    ask()
    assert server.send("/predict", picture()).status == 200


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.filterwarnings("ignore:Tag data:UserWarning")
@given(
    at=st.integers(0, 1500), value=st.binary(max_size=20), kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
)
def test_damaged_images_are_answered(server: Live, at: int, value: bytes, kind: str) -> None:
    whole = picture(20, 24, kind)
    damaged = whole[: at % len(whole)] + value + whole[at % len(whole) + len(value) :]
    assert server.send("/predict", damaged).status in (200, 413, 415, 422)
