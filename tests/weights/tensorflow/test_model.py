"""Weights, pipeline.config and label map of TensorFlow -> our model, and back."""

from __future__ import annotations

import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from maskrcnn.config import Config
from maskrcnn.errors import ConfigError, DataError, WeightsError
from maskrcnn.predict.predictor import Predictor
from maskrcnn.presets import preset
from maskrcnn.structures import empty_targets
from maskrcnn.weights.classes import class_names
from maskrcnn.weights.load import load_weights
from maskrcnn.weights.tensorflow.model import load_tensorflow, training_state
from maskrcnn.weights.tensorflow.write import write_checkpoint
from tests.weights.tensorflow.golden import arrays, tiny
from tests.weights.tensorflow.messages import frozen_array

LABELS = """item { id: 1 name: "cup" display_name: "a cup" }
item { id: 3 name: "jug" }"""
NAMES = ["a", "b", "c"]
MASKS = "SecondStageBoxPredictor/Conv"
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


@pytest.fixture(scope="module")
def variables() -> dict[str, np.ndarray]:
    return arrays(tiny() / "variables.npz")


@pytest.fixture(autouse=True)
def _loud():
    """Warnings are part of what is tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def folder_with(tmp_path: Path, *, config: bool = True, **edits: str) -> Path:
    """The thin model's checkpoint in a folder, with its pipeline.config, edited."""
    folder = tmp_path / "model"
    shutil.copytree(tiny() / "ckpt", folder)
    if config:
        text = (tiny() / "pipeline.config").read_text()
        for old, new in edits.items():
            assert old in text, old
            text = text.replace(old, new)
        (folder / "pipeline.config").write_text(text)
    return folder


def written(folder: Path, variables: dict[str, np.ndarray], config: str | None = None) -> Path:
    prefix = folder / "model.ckpt"
    write_checkpoint(prefix, variables)
    if config is not None:
        (folder / "pipeline.config").write_text(config)
    return prefix


def without_masks(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: value for name, value in variables.items() if not name.startswith(MASKS)}


# ---------------------------------------------------------------- config


def test_what_lies_beside_is_found(tmp_path: Path):
    folder = folder_with(tmp_path)
    (folder / "label_map.pbtxt").write_text(LABELS)
    model = load_tensorflow(folder)
    assert model.classes == ("a cup", "unused 2", "jug")
    assert model.category_ids == (1, 2, 3)
    assert not model.training
    assert (model.data.min_size, model.data.max_size) == (96, 128)
    assert model.config.box.detections_per_image == 20
    assert (model.config.backbone.width, model.config.backbone.min_width) == (0.0625, 8)
    assert model.config.backbone.frozen_stages == 0
    assert all(
        torch.equal(model.state_dict()[n], v)
        for n, v in load_tensorflow(folder / "model.ckpt.index", classes=NAMES).state_dict().items()
    )


def test_without_a_config_the_published_one_is_taken_and_that_is_said(tmp_path: Path):
    folder = folder_with(tmp_path, config=False)
    with pytest.warns(
        UserWarning, match=r"no pipeline\.config lies beside it.* are those of mask_rcnn_inception_v2_coco"
    ):
        model = load_tensorflow(folder, classes=NAMES)
    usual = preset("mask_rcnn_inception_v2_coco").model
    assert model.config == replace(
        usual,
        backbone=replace(usual.backbone, width=0.0625, min_width=8),
        rpn=replace(usual.rpn, channels=16),
        mask=replace(usual.mask, channels=8),
    )
    given = load_tensorflow(folder, classes=NAMES, config=tiny() / "pipeline.config")
    assert given.config.box.detections_per_image == 20
    ours = load_tensorflow(folder, classes=NAMES, config=Config(model=given.config, data=given.data))
    assert ours.config == given.config


def test_fields_of_the_model_can_be_changed(tmp_path: Path):
    model = load_weights(tiny() / "export", **{"box.score_threshold": 0.3, "classes": NAMES})
    assert model.config.box.score_threshold == 0.3
    with pytest.raises(ConfigError, match=r"box\.score_treshold"):
        load_tensorflow(tiny() / "export", classes=NAMES, **{"box.score_treshold": 0.3})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("num_classes: 3", "num_classes: 5", r"number of classes: 3 in the weights, but 5 in .*pipeline\.config"),
        ("faster_rcnn_inception_v2", "faster_rcnn_resnet50", r"trunk: inception_v2 in the weights, but resnet_v1_50"),
        ("_num_conv_layers: 2", "_num_conv_layers: 4", r"hidden convolutions of the mask head \(.*\): 1 in.*but 3"),
        ("first_stage_box_predictor_depth: 16", "", r"channels of the first stage's convolution.*: 16 in.*but 512"),
        ("scales: 0.25", "", r"anchors of a cell: 12 in the weights, but 9"),
        ("number_of_stages: 3", "number_of_stages: 2", r"mask head: masks in the weights, but none in"),
    ],
)  # fmt: skip
def test_a_config_of_other_weights_is_told(tmp_path: Path, old: str, new: str, message: str):
    folder = folder_with(tmp_path, **{old: new})
    with pytest.raises(WeightsError, match=rf"model\.ckpt: {message}.*; give the config that these weights were"):
        load_tensorflow(folder, classes=NAMES)


def test_the_automatic_depth_of_the_mask_head_follows_the_width(tmp_path: Path):
    folder = folder_with(tmp_path, **{"mask_prediction_conv_depth: 8": "mask_prediction_conv_depth: 0"})
    model = load_tensorflow(folder, classes=NAMES)
    assert model.config.mask is not None
    assert model.config.mask.channels == 8


def test_anchors_cannot_be_guessed(tmp_path: Path, variables):
    nine = dict(variables)
    for name in variables:
        if name.startswith("FirstStageBoxPredictor/"):
            nine[name] = variables[name][..., : variables[name].shape[-1] // 4 * 3]
    with pytest.raises(WeightsError, match=r"has 9 anchors a cell, the published configs 12, and no pipeline\.config"):
        load_tensorflow(written(tmp_path, nine), classes=NAMES)


def test_faster_rcnn_has_no_masks(tmp_path: Path, variables):
    boxes = without_masks(variables)
    with pytest.warns(UserWarning, match="no pipeline"):
        model = load_tensorflow(written(tmp_path / "bare", boxes), classes=NAMES)
    assert model.mask_head is None
    text = (tiny() / "pipeline.config").read_text()
    with pytest.raises(WeightsError, match=r"mask head: none in the weights, but masks in"):
        load_tensorflow(written(tmp_path / "three", boxes, text), classes=NAMES)
    prefix = written(tmp_path / "two", boxes, text.replace("number_of_stages: 3", "number_of_stages: 2"))
    predictor = Predictor(load_tensorflow(prefix, classes=NAMES), device="cpu")
    golden = arrays(tiny() / "case0.npz")
    found = predictor(golden["image"], score_threshold=0.0)
    assert (len(found), found.roi_masks) == (20, None)
    np.testing.assert_allclose(found.scores, golden["detection_scores"][0], atol=1e-4)


def test_moving_averages(tmp_path: Path, variables):
    name = "SecondStageBoxPredictor/ClassPredictor/biases"
    more = {**variables, f"{name}/ExponentialMovingAverage": variables[name] + 1}
    text = (tiny() / "pipeline.config").read_text()
    plain = load_tensorflow(written(tmp_path / "plain", more, text), classes=NAMES)
    averaged = load_tensorflow(tmp_path / "plain", classes=NAMES, moving_averages=True)
    text = text.replace("eval_config {", "eval_config {\n  use_moving_averages: true")
    as_told = load_tensorflow(written(tmp_path / "told", more, text), classes=NAMES)
    bias = plain.box_head.class_logits.bias
    with pytest.raises(WeightsError, match=r"model\.ckpt: has no moving averages; leave moving_averages out"):
        load_tensorflow(tiny() / "ckpt", classes=NAMES, moving_averages=True)
    assert torch.equal(averaged.box_head.class_logits.bias, bias + 1)
    assert torch.equal(as_told.box_head.class_logits.bias, bias + 1)


# ---------------------------------------------------------------- classes


def test_names_of_classes():
    names, ids = class_names(90)
    assert (names[0], names[11], names[89], ids) == ("person", "unused 12", "toothbrush", list(range(1, 91)))
    assert class_names(2) == (["class 1", "class 2"], [1, 2])
    with pytest.raises(WeightsError, match="has 3 classes besides the background, but 2 names are given"):
        class_names(3, ["a", "b"])


def test_label_maps(tmp_path: Path):
    folder = folder_with(tmp_path)
    with pytest.warns(
        UserWarning, match=r"no label map lies beside it, so its 3 classes are called 'class 1', \.\.\. 'class 3'"
    ):
        load_tensorflow(folder)
    (folder / "mscoco.pbtxt").write_text('item { id: 90 name: "brush" }')
    with pytest.warns(UserWarning, match=r"mscoco\.pbtxt beside it has other ids"):
        load_tensorflow(folder)
    other = tmp_path / "other.pbtxt"
    other.write_text(LABELS)
    assert load_tensorflow(folder, classes=other).classes == ("a cup", "unused 2", "jug")
    # The one that the config names, wherever its path once was, before any other that lies about.
    (folder / "pipeline.config").write_text(
        (folder / "pipeline.config").read_text().replace('"label_map.pbtxt"', '"/home/somebody/data/theirs.pbtxt"')
    )
    (folder / "theirs.pbtxt").write_text('item { id: 2 name: "jug" }')
    shutil.copy(other, folder / "another.pbtxt")
    assert load_tensorflow(folder).classes == ("unused 1", "jug", "unused 3")
    other.write_text('item { id: 4 name: "jug" }')
    with pytest.raises(WeightsError, match=r"other\.pbtxt: has ids from 4 to 4, but the weights have 3 classes"):
        load_tensorflow(folder, classes=other)
    (folder / "theirs.pbtxt").write_text('item { id: 2 name: "jug" } item { id: 2 name: "mug" }')
    with pytest.raises(Exception, match="id 2 is there twice"):
        load_tensorflow(folder)
    (folder / "theirs.pbtxt").write_text('item { id: 1 name: "jug" } item { id: 2 name: "jug" }')
    with pytest.raises(DataError, match=r"theirs\.pbtxt: class 'jug' is there twice in the label map; rename"):
        load_tensorflow(folder)


# ---------------------------------------------------------------- other files


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["BoxPredictor_0/ClassPredictor/weights", "FeatureExtractor/MobilenetV1/weights"], r"seems to be an SSD \("),
        (["WeightSharedConvolutionalBoxPredictor/x/weights"], "seems to be a RetinaNet"),
        (["InceptionV2/Conv2d_1a_7x7/weights", "InceptionV2/Logits/x/weights"], "seems to be a classifier"),
        (["resnet_v1_50/conv1/weights"], "seems to be a classifier.*maskrcnn train --weights"),
        (["conv1/kernel", "predictions/kernel"], r"seems to be a classifier \(variable 'predictions/kernel'\)"),
        (["dense/kernel"], r"is not a detector that we know \(variable 'dense/kernel'\)"),
        (["FirstStageFeatureExtractor/MobilenetV1/x/weights"], "trunk.* 'MobilenetV1'; known: InceptionV2"),
        (["FirstStageBoxPredictor/x", "SecondStageBoxPredictor/reduce_depth/weights"], "seems to be an R-FCN"),
        (["model/_first_stage_box_predictor/x/kernel" + VALUE, "model/_feature/conv1_conv/kernel" + VALUE],
         "is a Faster R-CNN of TF2 with another trunk than Inception-ResNet v2"),
        (["model/_box_predictor/x/kernel" + VALUE], r"seems to be an SSD \(variable 'model/_box_predictor/x/kernel'\)"),
    ],
)  # fmt: skip
def test_another_model_is_called_by_its_name(tmp_path: Path, names: list[str], message: str):
    file = tmp_path / "graph.pb"
    file.write_bytes(b"".join(frozen_array(name, np.zeros((2, 2), np.float32)) for name in names))
    with pytest.raises(WeightsError, match=rf"graph\.pb: .*{message}"):
        load_weights(file)


def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, variables):
    with pytest.raises(WeightsError, match=r"none\.pb: no such file"):
        load_weights(tmp_path / "none.pb")
    (tmp_path / "model.tar.gz").write_bytes(b"\x1f\x8b" + bytes(30))
    with pytest.raises(WeightsError, match=r"model\.tar\.gz: is a packed archive; unpack it"):
        load_weights(tmp_path / "model.tar.gz")
    with pytest.raises(WeightsError, match=r"model\.ckpt-7: no such file or folder"):
        load_weights(tmp_path / "model.ckpt-7")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(WeightsError, match=r"unknown kind of checkpoint; give .*TensorFlow's model\.ckpt"):
        load_weights(tmp_path / "notes.txt")
    folder = folder_with(tmp_path)
    data = folder / "model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"model\.ckpt\.data-00000-of-00001"):
        load_weights(folder)
    less = {name: value for name, value in variables.items() if name != "Conv/biases"}
    with pytest.raises(WeightsError, match=r"model\.ckpt: .*missing variable 'Conv/biases'$") as caught:
        load_tensorflow(written(tmp_path / "less", less))
    assert caught.value.missing == ("Conv/biases",)
    (folder_with(tmp_path / "x") / "pipeline.config").write_text("model {")
    with pytest.raises(ConfigError, match=r"pipeline\.config:1"):
        load_tensorflow(tmp_path / "x" / "model")


# ---------------------------------------------------------------- training goes on


def test_a_training_step():
    model = load_tensorflow(tiny() / "ckpt", classes=NAMES).train()
    golden = arrays(tiny() / "case0.npz")
    content = Predictor(model, device="cpu").prepare(golden["image"]).content[None]
    targets = empty_targets(1, 2, 112)
    targets.boxes[0] = torch.tensor([[10.0, 10, 60, 70], [40, 20, 110, 90]])
    targets.labels[0, 1], targets.valid[:], targets.masks[:] = 2, True, 255
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = model(content, torch.tensor([tuple(content.shape[2:])]), targets)
    sum(losses.values()).backward()
    optimizer.step()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert set(losses) == {"rpn_score", "rpn_box", "class", "box", "mask"}
    changed = {name.partition(".")[0] for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"backbone", "stage_two", "rpn", "box_head", "mask_head"}


def test_training_starts_from_a_detector(tmp_path: Path):
    state, classes, told = training_state(tiny() / "export", "inception_v2")
    assert (classes, "box_head.class_logits.weight" in state) == (("class 1", "class 2", "class 3"), True)
    assert "no label map lies beside it" in told
    with pytest.raises(WeightsError, match=r"its trunk is inception_v2, but the model to train has resnet_v1_50"):
        training_state(tiny() / "ckpt", "resnet_v1_50")
    # A config beside that was edited for other classes is the one of the training to come.
    folder = folder_with(tmp_path, **{"num_classes: 3": "num_classes: 7", '"label_map.pbtxt"': '"new.pbtxt"'})
    (folder / "new.pbtxt").write_text('item { id: 7 name: "jug" }')
    assert training_state(folder, "inception_v2", labels={7: "jug"})[1] == ("class 1", "class 2", "class 3")


def test_a_config_that_cannot_be_read_does_not_hide_the_label_map(tmp_path: Path):
    folder = folder_with(tmp_path)
    with (folder / "pipeline.config").open("a") as file:
        file.write("}")
    (folder / "label_map.pbtxt").write_text(LABELS)
    _, classes, told = training_state(folder, "inception_v2", labels={1: "dog", 3: "pig"})
    assert classes == ("a cup", "unused 2", "jug")
    assert re.fullmatch(
        r"the pipeline\.config beside it cannot be read and is passed over \(.*\.config:\d+: .*\)", told
    )
    (folder / "label_map.pbtxt").unlink()
    _, classes, told = training_state(folder, "inception_v2", labels={1: "dog", 3: "pig"})
    assert classes == ("dog", "unused 2", "pig")
    assert "with the same ids; the pipeline.config beside it cannot be read" in told


def test_classes_without_names_are_those_of_the_data_with_the_same_ids(tmp_path: Path):
    _, classes, told = training_state(tiny() / "ckpt", "inception_v2", labels={1: "cup", 3: "jug"})
    assert classes == ("cup", "unused 2", "jug")
    assert told == "its classes have no names, they are taken for those of the data with the same ids"
    folder = folder_with(tmp_path)
    (folder / "label_map.pbtxt").write_text(LABELS)
    _, classes, told = training_state(folder, "inception_v2", labels={1: "jug", 3: "a cup"})
    assert (classes, told) == (("a cup", "unused 2", "jug"), "")


def test_training_starts_from_an_imagenet_trunk(tmp_path: Path, variables):
    trunk = {name.partition("/")[2]: value for name, value in variables.items() if "FeatureExtractor/" in name}
    state, classes, told = training_state(written(tmp_path, trunk), "inception_v2")
    assert (classes, told) == ((), "")
    assert {name.partition(".")[0] for name in state} == {"backbone", "stage_two"}
    with pytest.raises(WeightsError, match=r"its trunk is inception_v2, but the model to train has resnet_v1_101"):
        training_state(tmp_path, "resnet_v1_101")
