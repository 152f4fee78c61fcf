"""A Config of Matterport's: read from its class without running it, from an object, or refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from maskrcnn.errors import ConfigError
from maskrcnn.weights.expressions import Unread
from maskrcnn.weights.matterport.config import read_attributes, to_attributes, to_config

BALLOON = '''
import os
from mrcnn.config import Config

ROOT_DIR = os.path.abspath("../../")
VALIDATION = ["a", "b"]


class BalloonConfig(Config):
    """Configuration for training on the toy dataset."""
    NAME = "balloon"
    IMAGES_PER_GPU = 2
    NUM_CLASSES = 1 + 1  # background + balloon
    STEPS_PER_EPOCH = (100 - len(os.listdir("."))) // IMAGES_PER_GPU
    VALIDATION_STEPS = max(1, len(VALIDATION) // IMAGES_PER_GPU)
    BACKBONE = "resnet50"
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    MEAN_PIXEL = np.array([43.53, 39.56, 48.22])
    LOSS_WEIGHTS = {"rpn_class_loss": 2., "mrcnn_mask_loss": 0.5}
    USE_MINI_MASK = True


class InferenceConfig(BalloonConfig):
    GPU_COUNT = 1
    IMAGES_PER_GPU = 1
    DETECTION_MIN_CONFIDENCE = 0
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "balloon.py"
    path.write_text(BALLOON)
    return path


def test_the_class_that_the_others_inherit_from(file: Path):
    config = to_config(read_attributes(file))
    assert config.model.backbone.name == "resnet50"
    assert config.model.rpn.anchors.sizes == ((8.0,), (16.0,), (32.0,), (64.0,), (128.0,))
    assert config.model.rpn.anchors.ratios == (2.0, 1.0, 0.5)  # height / width here
    assert config.model.image_mean == (43.53, 39.56, 48.22)
    assert (config.model.rpn.score_loss_weight, config.model.mask.loss_weight) == (2.0, 0.5)
    assert (config.train.batch_size, config.data.mask_size) == (2, 56)
    assert config.model.box.score_threshold == 0.7


def test_a_class_by_name(file: Path):
    config = to_config(read_attributes(f"{file}:InferenceConfig"))
    assert config.model.box.score_threshold == 0.0
    assert (config.train.batch_size, config.model.backbone.name) == (1, "resnet50")


def test_the_conventions_are_matterports(file: Path):
    model, data = (config := to_config(read_attributes(file))).model, config.data
    assert (model.inclusive, model.rpn.pool, model.box.classes_per_box) == (True, "image", "best")
    assert (model.backbone.stem_pool, model.backbone.norm_eps) == ("same", 1e-3)
    assert (data.resize, data.pad_place, data.pad_value, data.interpolation) == ("grow", "centre", "black", "skimage")
    assert (data.min_size, data.max_size) == (800, 1024)


def test_an_object_a_class_a_dict_and_json_say_the_same(tmp_path: Path):
    class Config:
        NAME = "mine"
        NUM_CLASSES = 3
        RPN_BBOX_STD_DEV = np.array([0.1, 0.2, 0.3, 0.4])

        def display(self) -> None: ...

    attributes = {"NAME": "mine", "NUM_CLASSES": 3, "RPN_BBOX_STD_DEV": [0.1, 0.2, 0.3, 0.4]}
    (tmp_path / "config.json").write_text(json.dumps(attributes))
    expected = to_config(attributes)
    assert expected.model.rpn.box_weights == pytest.approx((5.0, 10.0, 2.5, 1 / 0.3))  # x, y, w, h
    for source in (Config, Config(), tmp_path / "config.json"):
        assert to_config(read_attributes(source)) == expected


def test_there_and_back(file: Path):
    config = to_config(read_attributes(file))
    again = to_config(to_attributes(config, 1))
    for name in ("backbone", "fpn", "box", "image_mean", "inclusive"):
        ours, theirs = getattr(config.model, name), getattr(again.model, name)
        assert ours == theirs
    assert again.model.rpn.anchors == config.model.rpn.anchors


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BACKBONE", "vgg16", "resnet50 and resnet101"),
        ("IMAGE_RESIZE_MODE", "pad64", "set it to 'square'"),
        ("IMAGE_MIN_SCALE", 2, "IMAGE_MIN_SCALE"),
        ("IMAGE_CHANNEL_COUNT", 4, "IMAGE_CHANNEL_COUNT"),
        ("BACKBONE_STRIDES", [4, 8, 16, 32], "BACKBONE_STRIDES"),
        ("MASK_SHAPE", [56, 56], "twice MASK_POOL_SIZE"),
        ("IMAGE_MAX_DIM", 1000, "multiple of 64"),
        ("RPN_ANCHOR_SCALES", (32, 64), "list of 5 numbers"),
        ("BBOX_STD_DEV", [0.1, 0.1, 0.2, 0], "positive"),
        ("DETECTION_MAX_INSTANCES", 0, "whole number"),
        ("LEARNING_RATE", "fast", "no number"),
        ("LEARNING_RATE", float("nan"), "no finite number"),
        ("IMAGE_MAX_DIM", float("inf"), "no finite number"),
        ("MEAN_PIXEL", [float("nan")] * 3, "list of 3 numbers"),
        ("DETECTION_MIN_CONFIDENCE", [0.5], "no number"),
        ("LOSS_WEIGHTS", {"rpn_class_loss": "b"}, "rpn_class_loss: 'b' is no number"),
    ],
)
def test_what_is_not_built_here_is_named(name: str, value: object, said: str):
    with pytest.raises(ConfigError, match=said):
        to_config({name: value}, "config.py")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "no class that inherits"),
        ("class A(Config):\n    X = 1\nclass B(Config):\n    X = 2", "A, B"),
        ("from other import Mine\nclass A(Mine, Config):\n    X = 1", "inherits from Mine"),
        ("class A(Config:", "no Python in line 1"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(text: str, said: str, tmp_path: Path):
    (tmp_path / "config.py").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_attributes(tmp_path / "config.py")


def test_a_value_that_needs_running_is_refused_where_it_matters(tmp_path: Path):
    path = tmp_path / "config.py"
    path.write_text("class A(Config):\n    LEARNING_RATE = float(open('rate').read())\n")
    with pytest.raises(ConfigError, match="LEARNING_RATE: line 2 calls"):
        to_config(read_attributes(path), str(path))


def test_a_missing_file_or_class(tmp_path: Path, file: Path):
    with pytest.raises(ConfigError, match="no such file"):
        read_attributes(tmp_path / "none.py")
    with pytest.raises(ConfigError, match="no class 'Other'"):
        read_attributes(f"{file}:Other")
    with pytest.raises(ConfigError, match="attributes"):
        read_attributes(object())


def attributes_of(tmp_path: Path, text: str, name: str = "") -> dict:
    (tmp_path / "config.py").write_text(text, encoding="utf-8")
    return read_attributes(f"{tmp_path / 'config.py'}{name}")


@pytest.mark.parametrize(
    "text",
    [
        "    if True:\n        IMAGE_MAX_DIM = 512",
        "    def __init__(self):\n        self.IMAGE_MAX_DIM = 512",
        "    IMAGE_MAX_DIM, OTHER = sizes()",
        "    for IMAGE_MAX_DIM in (1, 2): pass",
        "    IMAGE_MAX_DIM = 512\n    IMAGE_MAX_DIM[0] = 3",
    ],
)
def test_a_value_that_is_set_by_running_is_refused_where_it_matters(text: str, tmp_path: Path):
    attributes = attributes_of(tmp_path, f"class A(Config):\n{text}\n    IMAGE_MIN_DIM = 256\n")
    assert attributes["IMAGE_MIN_DIM"] == 256
    with pytest.raises(ConfigError, match=r"IMAGE_MAX_DIM: line \d .*; write the value itself"):
        to_config(attributes)


def test_what_a_base_sets_on_self_hides_the_attribute_of_a_class(tmp_path: Path):
    text = "class A(Config):\n    def __init__(self):\n        self.X = 1\nclass B(A):\n    X = 2\n"
    assert isinstance(attributes_of(tmp_path, text, ":B")["X"], Unread)


def test_sums_in_place_tuples_and_changes_from_outside_are_followed(tmp_path: Path):
    text = "class A(Config):\n    NUM_CLASSES = 1\n    NUM_CLASSES += 4\n    X, (Y, Z) = 1, (2, 3)\nA.W = 5\n"
    attributes = attributes_of(tmp_path, text)
    assert {name: attributes[name] for name in ("NUM_CLASSES", "X", "Y", "Z", "W")} == {
        "NUM_CLASSES": 5, "X": 1, "Y": 2, "Z": 3, "W": 5
    }  # fmt: skip


def test_bases_are_in_the_order_of_python(tmp_path: Path):
    text = "class A(Config):\n    X = 1\nclass B(A): pass\nclass C(A):\n    X = 2\nclass D(B, C): pass\n"
    assert attributes_of(tmp_path, text, ":D")["X"] == 2


def test_a_byte_order_mark_is_skipped(tmp_path: Path):
    assert attributes_of(tmp_path, "\ufeffclass A(Config):\n    X = 1\n")["X"] == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "class A0(Config): pass\n" + "".join(f"class A{i}(A{i - 1}): pass\n" for i in range(1, 3000)),
            "more than 100",
        ),
        ("a = [1]\n" + "a = [*a, *a]\n" * 40 + "class A(Config): pass", "more than 100000 items"),
        ("a = [1]\n" + "a = [a, a, a, a]\n" * 14 + "class A(Config): pass", "more than 100000 items"),
    ],
)
def test_a_file_that_would_not_end_is_refused(text: str, said: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=said):
        attributes_of(tmp_path, text)


def test_json_that_nests_without_end_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="nested too deeply"):
        read_attributes(tmp_path / "config.json")


def test_a_misspelt_name(tmp_path: Path):
    said = r"IMAGE_MAX_DIMM: no attribute of Matterport's Config, did you mean 'IMAGE_MAX_DIM'\?"
    with pytest.raises(ConfigError, match=said):
        read_attributes({"IMAGE_MAX_DIMM": 512})
    path = tmp_path / "config.json"
    path.write_text('{"IMAGE_MAX_DIMM": 512}')
    with pytest.raises(ConfigError, match=rf"config\.json: {said}"):
        read_attributes(path)
    with pytest.raises(ConfigError, match="QQQ: no attribute of Matterport's Config; leave it out"):
        read_attributes({"QQQ": 1})
    own = "class A(Config):\n    MY_FOLDER = 'x'\n    STEPS_PER_EPOCH = 3\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attributes_of(tmp_path, own)
    with pytest.warns(UserWarning, match=r"config\.py: IMAGE_MAX_DIMM: has no effect, did you mean 'IMAGE_MAX_DIM'\?"):
        attributes_of(tmp_path, f"{own}    IMAGE_MAX_DIMM = 512\n")


def test_a_config_of_another_framework(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text("MODEL: {}")
    with pytest.raises(ConfigError, match=r"config\.yaml: is no Config of Matterport's .*; give the \.py file"):
        read_attributes(path)
