from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn import options
from maskrcnn.config import Config, KeypointHeadConfig
from maskrcnn.errors import ConfigError
from maskrcnn.presets import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json_and_yaml(name: str, tmp_path: Path) -> None:
    config = preset(name)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    file = tmp_path / "config.yaml"
    file.write_text(options.to_yaml(config))
    assert options.apply(Config(), options.read_file(file)) == config


def test_a_config_without_masks_survives() -> None:
    config = Config().replace(**{"model.mask": None})
    assert config.model.mask is None
    assert Config.from_dict(config.to_dict()) == config


@settings(deadline=None)  # a busy machine
@given(
    rate=st.floats(1e-8, 1e3),
    low=st.floats(0.01, 1),
    high=st.floats(1, 10),
    steps=st.none() | st.integers(1, 10**9),
)
def test_values_survive_the_yaml(rate: float, low: float, high: float, steps: int | None) -> None:
    values = {"train.learning_rate": rate, "data.scale_jitter": (low, high), "train.steps": steps}
    config = Config().replace(**values)
    assert options.apply(Config(), dict(options._flatten(options._parse(options.to_yaml(config)), ""))) == config


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train.momentum", 1.0, "1.0 must lie in [0, 1)"),
        ("train.clip_norm", -1.0, "-1.0 must not be negative; 0 switches clipping off"),
        ("train.optimizer_eps", -1.0, "-1.0 must not be negative"),
    ],
)
def test_numbers_of_the_optimiser(name: str, value: float, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{name}: {message}")):
        Config().replace(**{name: value})
    assert Config().replace(**{name: 0.0})


def test_replace_changes_a_copy() -> None:
    config = Config()
    changed = config.replace(**{"model.rpn.nms_iou": 0.6, "train.batch_size": 4})
    assert (changed.model.rpn.nms_iou, changed.train.batch_size) == (0.6, 4)
    assert (config.model.rpn.nms_iou, config.train.batch_size) == (0.7, 2)


def test_whole_numbers_serve_as_floats_and_lists_as_tuples() -> None:
    config = Config().replace(**{"train.learning_rate": 1, "data.scale_jitter": [1, 2]})
    assert config.train.learning_rate == 1.0
    assert config.data.scale_jitter == (1.0, 2.0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.rpn.nms_iuo", "model.rpn.nms_iuo: unknown config key, did you mean 'nms_iou'?"),
        ("trian.batch_size", "trian.batch_size: unknown config key, did you mean 'train'?"),
        ("train.qqqqq", "train.qqqqq: unknown config key; known here: epochs, steps"),
        ("train.epochs.more", "train.epochs.more: .* has no fields"),
    ],
)
def test_unknown_key_names_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Config().replace(**{name: 1})
    assert caught.value.field == name


def test_unknown_key_in_a_table() -> None:
    with pytest.raises(ConfigError, match=r"model\.rpn\.nms_iuo: unknown config key, did you mean 'nms_iou'\?"):
        Config.from_dict({"model": {"rpn": {"nms_iuo": 0.5}}})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train.batch_size", "four", "expected int, got 'four'"),
        ("train.batch_size", 2.5, "expected int, got 2.5"),
        ("train.compile", 1, "expected bool, got 1"),
        ("train.batch_size", True, "expected int, got True"),
        ("train.schedule", "stpe", "'stpe' is not one of 'step', 'cosine', 'constant', 'manual', 'exponential'"),
        ("data.scale_jitter", 1.0, "expected a list, got 1.0"),
        ("data.scale_jitter", [1.0], "expected 2 values, got 1"),
        ("model.rpn", 3, "expected a table of fields, got 3"),
    ],
)
def test_wrong_type_names_field_and_value(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config().replace(**{name: value})
    assert str(caught.value) == f"{name}: {message}"


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"model.rpn.background_iou": 0.8}, "model.rpn.background_iou", "between 0 and model.rpn.foreground_iou = 0.7"),
        ({"model.rpn.anchors.sizes": [[8], [16]]}, "model.rpn.anchors.sizes", "has 2 levels"),
        (
            {"model.rpn.anchors.sizes": [[8], [16], [32], [64], [128, 256]]},
            "model.rpn.anchors.sizes",
            "same number of sizes on each level",
        ),
        ({"model.image_std": [1.0]}, "model.image_std", "has 1 channels but model.image_mean 3"),
        ({"model.image_std": [1.0, 0.0, 1.0]}, "model.image_std", "must be positive"),
        ({"data.min_size": 2000}, "data.min_size", "at most data.max_size = 1333"),
        ({"data.pad_multiple": 16}, "data.pad_multiple", "multiple of 32"),
        ({"data.size_buckets": 0}, "data.size_buckets", "at least 1"),
        ({"data.size_buckets": 5}, "data.size_buckets", "at most 8 shapes"),
        ({"data.scale_jitter": [2.0, 1.0]}, "data.scale_jitter", "0 < low <= high"),
        ({"data.copy_paste": 1.5}, "data.copy_paste", "1.5 must lie between 0 and 1"),
        ({"data.mosaic": -0.1}, "data.mosaic", "-0.1 must lie between 0 and 1"),
        ({"data.rotation": 181.0}, "data.rotation", "181.0 must lie between 0 and 180"),
        ({"data.noise": 300.0}, "data.noise", "300.0 must lie between 0 and 255"),
        ({"data.hue": 0.6}, "data.hue", "0.6 must lie between 0 and 0.5"),
        ({"data.contrast": -1.0}, "data.contrast", "-1.0 must not be negative"),
        ({"data.blur": float("nan")}, "data.blur", "nan must lie between 0 and 1"),
        (
            {"data.pixels": "raw", "data.jpeg": 0.5},
            "data.jpeg",
            '0.5 needs 8-bit RGB; set it to 0, or data.pixels = "rgb8"',
        ),
        ({"data.pixels": "raw", "data.hue": 0.1}, "data.hue", "0.1 needs 8-bit RGB"),
        ({"train.batch_size": 0}, "train.batch_size", "must be positive"),
        ({"train.accumulate": 3}, "train.accumulate", "must divide train.batch_size = 2"),
        ({"train.learning_rate": 0.0}, "train.learning_rate", "must be positive"),
        ({"train.ema_decay": 1.0}, "train.ema_decay", "must lie in [0, 1)"),
        ({"train.epochs": 0.0}, "train.epochs", "must be positive"),
        ({"train.epochs": None}, "train.epochs", "expected float, got None"),
        ({"train.steps": -1}, "train.epochs", "must be positive"),
        ({"model.fpn": None}, "model.rpn.anchors.sizes", "has 5 levels; without a pyramid"),
        (
            {"model.fpn": None, "model.rpn.anchors.sizes": [[64]], "model.backbone.stride": 32},
            "model.backbone.stride",
            "32 must be 8 or 16 without a pyramid",
        ),
        (
            {"model.fpn": None, "model.rpn.anchors.sizes": [[64]], "model.backbone.stride": 16},
            "model.box.fully_connected",
            "must be 0",
        ),
        ({"model.backbone.stride": 16}, "model.backbone.stride", "16 is for networks without a pyramid"),
        ({"model.box.pooler.max_pool": [2, 2]}, "model.box.pooler.max_pool", "for networks without a pyramid"),
        ({"model.backbone.output": "c5"}, "model.backbone.output", "c5 is for networks without a pyramid"),
        (
            {"model.fpn.norm": "gn", "model.fpn.channels": 48},
            "model.fpn.channels",
            "48 must be a multiple of 32 for the 32 groups",
        ),
        (
            {
                "model.fpn": None,
                "model.rpn.anchors.sizes": [[64]],
                "model.backbone.stride": 16,
                "model.backbone.output": "c5",
                "model.box.pooler.levels": "round",
            },
            "model.box.pooler.levels",
            "round chooses between the maps of a pyramid",
        ),
        ({"model.mask.predictor_kernel": 3}, "model.mask.predictor_kernel", "3 needs model.mask.upsamplings 0"),
        ({"model.rpn.kernel": 2}, "model.rpn.kernel", "2 must be odd"),
        ({"model.rpn.pre_nms_test": 0}, "model.rpn.pre_nms_test", "or null for all"),
        ({"model.box.dropout": 1.0}, "model.box.dropout", "must lie in [0, 1)"),
        ({"train.schedule": "manual"}, "train.rates", "is empty"),
        ({"train.rates": [[5, 0.1]]}, "train.rates", "must start at 0 and rise"),
        ({"train.decay_factor": 0.0}, "train.decay_factor", "must lie in (0, 1]"),
    ],
)
def test_fields_must_fit_together(changes: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options.apply(Config(), changes)
    assert caught.value.field == field
    assert message in str(caught.value)


def test_unknown_preset_lists_the_names() -> None:
    with pytest.raises(ConfigError, match=r"unknown preset 'smal', did you mean 'small'\?; presets: r18-fpn"):
        preset("smal")


# ---------------------------------------------------------------- options: names, docs, files


def test_every_field_has_a_doc_and_a_kind() -> None:
    for field in options.fields():
        assert field.doc, f"{field.name} has no doc line"
        assert field.kind, field.name


def test_the_fields_are_all_fields() -> None:
    names = [field.name for field in options.fields()]
    flat = dict(options._flatten(Config().replace(**{"model.keypoint": KeypointHeadConfig()}).to_dict(), ""))
    assert set(flat) | {"model.fpn", "model.mask", "model.keypoint"} == set(names)
    assert len(names) == len(set(names))


def test_apply_checks_only_the_outcome() -> None:
    config = options.apply(Config(), {"data.min_size": 2000, "data.max_size": 3000})
    assert (config.data.min_size, config.data.max_size) == (2000, 3000)


def test_a_file_may_nest_or_dot_and_write_1e_4(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("train.learning_rate: 1e-4\nmodel:\n  rpn: {nms_iou: 0.6}\n  mask: null\n")
    values = {"train.learning_rate": 1e-4, "model.rpn.nms_iou": 0.6, "model.mask": None}
    assert options.read_file(file) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {rpn: {nms_iuo: 0.6}}", "unknown config key in {file}, did you mean 'model.rpn.nms_iou'?"),
        ("train: [", "{file} is not YAML or JSON: "),
        ("- 1", "{file} must hold a table of config fields"),
        ("", "{file} must hold a table of config fields"),
        ("!!python/object/apply:os.getcwd []", "{file} is not YAML or JSON: could not determine a constructor"),
    ],
)
def test_bad_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        options.read_file(file)
    assert message.format(file=file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the config file .*c\.yaml: No such file"):
        options.read_file(tmp_path / "c.yaml")
