from __future__ import annotations

import pytest

from maskrcnn.benchmark.settings import make_settings
from maskrcnn.errors import ConfigError


@pytest.mark.parametrize(
    ("keywords", "parts"),
    [
        ({}, ("infer", "train")),
        ({"models": ["runs/x"]}, ("infer", "train")),
        ({"data": ["photos"]}, ("infer", "train", "data")),
        ({"models": ["x.onnx", "x.xml"]}, ("export",)),
        ({"parts": ["eval", "infer"]}, ("infer", "eval")),
    ],
)
def test_parts(keywords: dict, parts: tuple[str, ...]) -> None:
    assert make_settings(**keywords).parts == parts


def test_numbers() -> None:
    settings = make_settings(batch="1,2, 8", size="320x448,800x1344")
    assert settings.batches == (1, 2, 8)
    assert settings.sizes == ((320, 448), (800, 1344))
    assert make_settings().batches == make_settings().sizes == ()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"parts": ["infr"]}, "unknown part 'infr', did you mean 'infer'?; parts: infer, train, data, eval, export"),
        ({"parts": ["data"]}, "the part data needs images to load; give some: --data DATA"),
        ({"parts": ["export"]}, "the part export times written files; give some: --model FILE.onnx"),
        ({"parts": ["infer"], "models": ["x.onnx"]}, "x.onnx is an exported file, which the part infer cannot take"),
        ({"parts": ["infer"], "models": ["a", "b"]}, "the part infer takes one model, got 2: a, b"),
        ({"parts": ["infer"], "data": ["D"]}, "--data is for the parts data and eval, not for infer"),
        ({"parts": ["train"], "scaling": True}, "--scaling belongs to the part infer, not to train"),
        ({"models": ["a"], "preset_name": "small"}, "--model a and --preset small exclude each other"),
        ({"preset_name": "smal"}, "unknown preset 'smal', did you mean 'small'?"),
        ({"precision": "fp8"}, "--precision 'fp8', did you mean 'fp16'?; one of auto, float32, bf16, fp16"),
        ({"parts": ["train"], "precision": "fp16"}, "--precision fp16 is for prediction; training runs in float32"),
        ({"batch": "1,x"}, "--batch 'x' is not a number of images; give numbers such as 1,2,8"),
        ({"batch": "0"}, "--batch '0' is not a number of images"),
        ({"size": "320"}, "--size '320' is not HEIGHTxWIDTH in pixels, from 32 on"),
        ({"size": "800x1344,8x8"}, "--size '8x8' is not HEIGHTxWIDTH"),
        ({"repeat": 0}, "--repeat 0 must be at least 1"),
        ({"threads": -1}, "--threads -1 must be at least 1"),
    ],
)
def test_wrong_requests_end_in_a_sentence(keywords: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_settings(**keywords)
    assert str(caught.value).startswith(message)
