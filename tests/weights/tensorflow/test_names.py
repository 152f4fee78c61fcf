"""TensorFlow's variables <-> our tensors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from maskrcnn.config import (
    AnchorConfig,
    BackboneConfig,
    BoxHeadConfig,
    MaskHeadConfig,
    ModelConfig,
    PoolerConfig,
    RPNConfig,
)
from maskrcnn.errors import WeightsError
from maskrcnn.model.backbones import build_backbone, build_stage_two
from maskrcnn.model.build import build_model
from maskrcnn.weights.tensorflow.names import (
    SHADOW,
    mask_layers,
    pairs,
    state_to_variables,
    trunk_of,
    trunk_state,
    variables_to_state,
)
from maskrcnn.weights.tensorflow.names_object import PARTS, by_depth, to_slim
from maskrcnn.weights.tensorflow.names_trunk import LAYERS
from maskrcnn.weights.tensorflow.names_width import inception_v2_width
from tests.weights.tensorflow.golden import TF2, TINY, TRUNKS, arrays, full_size, tiny

VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"


@pytest.fixture(scope="module")
def variables() -> dict[str, np.ndarray]:
    return arrays(tiny() / "variables.npz")


def object_variables(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What a reader finds in the TF2 checkpoint of the recipe: arrays by key, and names in the program by key."""
    names = json.loads((folder / "layer_with_weights.json").read_text())
    found, full_names = {}, {}
    for name, array in arrays(folder / "variables.npz").items():
        part, _, full = name.partition("|")
        full = full.removesuffix(":0")
        layer, _, leaf = full.rpartition("/")
        if part in names:
            position = [name for name, _ in names[part]].index(layer)
            key = f"model/{part}/layer_with_weights-{position}/{leaf}{VALUE}"
        else:
            key = head_key(part, layer, leaf)
        found[key], full_names[key] = array, full
    return found, full_names


def head_key(part: str, layer: str, leaf: str) -> str:
    """The path of a variable of the heads, as the checkpoint has it."""
    if part.endswith("first_conv"):
        return f"model/{part}/layer_with_weights-0/{leaf}{VALUE}"
    last = layer.rpartition("/")[2]
    masks = {"MaskPredictor_last_conv2d": 9} | {f"MaskPredictor_conv2d_{i}": 3 * i for i in range(3)}
    if last in masks:
        place = f"_third_stage_heads/mask_predictions/_mask_predictor_layers/{masks[last]}"
    else:
        place = {
            "BoxEncodingPredictor": "_prediction_heads/box_encodings/0/_box_encoder_layers/0",
            "ClassPredictor": "_prediction_heads/class_predictions_with_background/0/_class_predictor_layers/0",
            "BoxEncodingPredictor_dense": "_box_prediction_head/_box_encoder_layers/1",
            "ClassPredictor_dense": "_class_prediction_head/_class_predictor_layers/1",
        }[last]
    return f"model/{part}/{place}/{leaf}{VALUE}"


def meta_state(trunk: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a trunk's tensors."""
    config = BackboneConfig(name=trunk, norm="frozen_statistics")
    with torch.device("meta"):
        stages = {"backbone": build_backbone(config), "stage_two": build_stage_two(config)}
    return {f"{stage}.{n}": tuple(v.shape) for stage, m in stages.items() for n, v in m.state_dict().items()}


@pytest.mark.parametrize("trunk", LAYERS)
def test_every_tensor_of_a_trunk_has_one_variable(trunk: str):
    wanted = [pair for pair in pairs(trunk, 0) if pair.ours.startswith(("backbone.", "stage_two."))]
    assert sorted(pair.ours for pair in wanted) == sorted(meta_state(trunk))
    assert len({pair.theirs for pair in wanted}) == len(wanted)


def test_the_model_takes_every_tensor(variables):
    """Names of the heads are those that the model has."""
    state = variables_to_state(variables, "inception_v2")
    pooler = PoolerConfig(resolution=14, kind="crop_and_resize", max_pool=(2, 2))
    config = ModelConfig(
        backbone=TINY,
        fpn=None,
        rpn=RPNConfig(
            anchors=AnchorConfig(sizes=((64.0, 128.0, 256.0, 512.0),), ratios=(2.0, 1.0, 0.5)),
            channels=16,
            score="softmax",
        ),
        box=BoxHeadConfig(pooler=pooler, fully_connected=0),
        mask=MaskHeadConfig(convolutions=1, channels=8, upsamplings=0, resize=15, predictor_kernel=3),
    )
    model = build_model(config, classes=["a", "b", "c"])
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert (sorted(missing), unexpected) == (["mean", "std"], [])


def test_there_and_back_again(variables):
    state = variables_to_state(variables, "inception_v2")
    back = state_to_variables({**state, "mean": torch.zeros(3), "std": torch.ones(3)}, "inception_v2")
    assert back.keys() == variables.keys() - {"global_step"}
    for name, array in back.items():
        assert np.array_equal(array, variables[name]), name
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
    assert all(value.dtype == torch.float32 and value.is_contiguous() for value in state.values())


def test_rows_change_their_order(variables):
    """Background last; x before y."""
    state = variables_to_state(variables, "inception_v2")
    logits = variables["SecondStageBoxPredictor/ClassPredictor/biases"]
    assert state["box_head.class_logits.bias"].tolist() == [*logits[1:].tolist(), logits[0]]
    deltas = variables["SecondStageBoxPredictor/BoxEncodingPredictor/weights"]
    ty, tx, th, tw = (torch.from_numpy(deltas[:, 4 + i].copy()) for i in range(4))  # of the second class
    assert torch.equal(state["box_head.box_deltas.weight"][4:8], torch.stack([tx, ty, tw, th]))
    anchors = variables["FirstStageBoxPredictor/BoxEncodingPredictor/biases"]
    assert state["rpn.deltas.bias"][4 * 7 : 4 * 8].tolist() == [anchors[29], anchors[28], anchors[31], anchors[30]]
    scores = variables["FirstStageBoxPredictor/ClassPredictor/weights"]
    assert torch.equal(state["rpn.objectness.weight"][:, :, 0, 0], torch.from_numpy(scores[0, 0].T.copy()))


def test_what_training_leaves_is_passed_over(variables):
    more = dict(variables)
    name = "FirstStageFeatureExtractor/InceptionV2/Conv2d_2b_1x1/weights"
    more[f"{name}/Momentum"] = more[f"{name}/Adam_1"] = more[f"{name}/RMSProp"] = variables[name]
    more["beta1_power"] = np.float32(0.9)
    more[name + SHADOW] = variables[name] + 1
    plain = variables_to_state(more, "inception_v2")["backbone.conv_2b.conv.weight"]
    assert torch.equal(plain, variables_to_state(variables, "inception_v2")["backbone.conv_2b.conv.weight"])
    averaged = variables_to_state(more, "inception_v2", moving_averages=True)
    assert torch.equal(averaged["backbone.conv_2b.conv.weight"], plain + 1)
    assert torch.equal(averaged["backbone.conv_2c.conv.weight"], plain_of(variables, "backbone.conv_2c.conv.weight"))


def plain_of(variables: dict[str, np.ndarray], name: str) -> Tensor:
    return variables_to_state(variables, "inception_v2")[name]


def test_missing_and_unknown_variables_are_named(variables):
    less = dict(variables)
    name = "SecondStageFeatureExtractor/InceptionV2/Mixed_5b/Branch_0/Conv2d_0a_1x1/weights"
    less["SecondStageFeatureExtractor/InceptionV2/Mixed_5b/Branch_0/Conv2d_0a_1x1/weight"] = less.pop(name)
    with pytest.raises(WeightsError, match=rf"unknown variable '{name[:-1]}', did you mean '{name}'\?") as caught:
        variables_to_state(less, "inception_v2")
    assert caught.value.missing == (name,)
    assert caught.value.unexpected == (name[:-1],)
    less.pop(name[:-1])
    with pytest.raises(WeightsError, match=rf"trunk inception_v2: missing variable '{name}'$"):
        variables_to_state(less, "inception_v2")
    flat = {**variables, name: variables[name].reshape(-1)}
    with pytest.raises(WeightsError, match=rf"variable '{name}' has shape \(\d+,\), expected 4 axes"):
        variables_to_state(flat, "inception_v2")
    state = variables_to_state(variables, "inception_v2")
    with pytest.raises(WeightsError, match=r"tensor 'fpn\.lateral\.0\.0\.weight' has no counterpart in TensorFlow's"):
        state_to_variables({**state, "fpn.lateral.0.0.weight": torch.zeros(1)}, "inception_v2")
    state.pop("rpn.deltas.bias")
    with pytest.raises(WeightsError, match=r"tensor 'rpn\.deltas\.bias' is missing, but needed for"):
        state_to_variables(state, "inception_v2")


def test_a_detector_without_masks_has_no_mask_head(variables):
    boxes = {name: value for name, value in variables.items() if "SecondStageBoxPredictor/Conv" not in name}
    assert (mask_layers(variables), mask_layers(boxes)) == (2, 0)
    state = variables_to_state(boxes, "inception_v2")
    assert not [name for name in state if name.startswith("mask_head")]
    assert state_to_variables(state, "inception_v2").keys() == boxes.keys() - {"global_step"}


def test_the_trunk_is_known_by_its_scope(variables):
    assert trunk_of(variables) == "inception_v2"
    assert trunk_of({"resnet_v1_101/conv1/weights": np.zeros(1)}) == "resnet_v1_101"
    assert trunk_of({"FirstStageFeatureExtractor/resnet_v1_152/conv1/weights": np.zeros(1)}) == "resnet_v1_152"
    other = {name.replace("InceptionV2", "MobilenetV1"): value for name, value in variables.items()}
    with pytest.raises(WeightsError, match=r"its trunk is 'MobilenetV1'; known: InceptionV2, InceptionResnetV2"):
        trunk_of(other)
    with pytest.raises(WeightsError, match=r"it begins with 'dense/kernel'"):
        trunk_of({"dense/kernel": np.zeros(1)})


def test_the_trunk_alone_comes_from_a_detector_or_from_imagenet(variables):
    """slim's ImageNet checkpoint has no stages in its names, a classifier, and no scales."""
    state = trunk_state(variables, "inception_v2")
    assert {name.partition(".")[0] for name in state} == {"backbone", "stage_two"}
    classifier = {
        name.partition("/")[2]: value
        for name, value in variables.items()
        if "FeatureExtractor" in name and not name.endswith("gamma")
    }
    classifier["InceptionV2/Logits/Conv2d_1c_1x1/biases"] = np.zeros(1001, np.float32)
    alone = trunk_state(classifier, "inception_v2")
    assert alone.keys() == state.keys()
    for name, value in alone.items():
        expected = torch.ones_like(value) if name.endswith("norm.weight") else state[name]
        assert torch.equal(value, expected), name
    classifier.pop("InceptionV2/Conv2d_2b_1x1/weights")
    with pytest.raises(WeightsError, match="missing variable 'InceptionV2/Conv2d_2b_1x1/weights'"):
        trunk_state(classifier, "inception_v2")


def test_imagenets_inception_resnet_counts_its_blocks_on():
    """There the blocks of stage two are Repeat_2, in a detector Repeat."""
    shapes = {pair.ours: shape for pair, shape in zip_shapes("inception_resnet_v2")}
    state = {name: torch.full((1,) * len(shape), float(i)) for i, (name, shape) in enumerate(shapes.items())}
    classifier = {}
    for pair, _ in zip_shapes("inception_resnet_v2"):
        name = pair.theirs.partition("/")[2]
        if pair.ours.startswith("stage_two.block8."):
            name = name.replace("/Repeat/", "/Repeat_2/")
        classifier[name] = pair.to_theirs(state[pair.ours].numpy())
    assert "InceptionResnetV2/Repeat_2/block8_1/Conv2d_1x1/weights" in classifier
    found = trunk_state(classifier, "inception_resnet_v2")
    assert all(torch.equal(found[name], value) for name, value in state.items())


def zip_shapes(trunk: str):
    shapes = meta_state(trunk)
    return [(pair, shapes[pair.ours]) for pair in pairs(trunk, 0) if pair.ours in shapes]


def test_a_resnet_also_gets_the_block_that_it_never_runs():
    state = {pair.ours: torch.zeros((1,) * (1 if pair.layout == "vector" else 4)) for pair in pairs("resnet_v1_50", 0)}
    state |= {name: torch.zeros(4, 1, 1, 1) for name in ("rpn.deltas.weight", "rpn.objectness.weight")}
    state |= {name: torch.zeros(4, 1) for name in ("box_head.class_logits.weight", "box_head.box_deltas.weight")}
    state |= {name: torch.zeros(4) for name in ("rpn.deltas.bias", "box_head.box_deltas.bias")}
    found = state_to_variables(state, "resnet_v1_50")
    unused = [name for name in found if name.startswith("FirstStageFeatureExtractor/resnet_v1_50/block4/")]
    assert len(unused) == 50
    assert variables_to_state(found, "resnet_v1_50").keys() == state.keys()


def test_the_width_is_read_from_the_shapes(variables):
    assert inception_v2_width(variables) == (TINY.width, TINY.min_width)
    odd = dict(variables)
    name = "FirstStageFeatureExtractor/InceptionV2/Conv2d_2c_3x3/weights"
    odd[name] = odd[name][..., :-1]
    with pytest.raises(WeightsError, match="other channels than slim's at any width"):
        inception_v2_width(odd)


def keras_variables(first: int = 0) -> tuple[dict[str, np.ndarray], dict[str, str], dict[str, str]]:
    """Weights by position, their names in a program that has made `first` layers before, and slim's names."""
    convolutions = [layer for layer in LAYERS["inception_resnet_v2"]() if layer.kind == "unscaled"]
    number = {layer.theirs: first + i for i, layer in enumerate(convolutions[:-1])}
    found, full_names, expected = {}, {}, {}
    for part, prefix in PARTS.items():
        seen: set[str] = set()
        layers = [layer for layer in LAYERS["inception_resnet_v2"]() if layer.ours.startswith(prefix)]
        for position, scope in enumerate(by_depth(layers)):
            leaf = "beta" if scope in seen else "kernel"
            seen.add(scope)
            key = f"model/{part}/layer_with_weights-{position}/{leaf}{VALUE}"
            kind = "freezable_batch_norm" if leaf == "beta" else "conv2d"
            if scope in number:
                name = f"{kind}_{number[scope]}" if number[scope] else kind
            elif scope.endswith("Conv2d_7b_1x1"):
                name = "conv_7b_bn" if leaf == "beta" else "conv_7b"
            else:
                block = re.sub(r".*/(block\d+_\d+|Block8)/.*", r"\1", scope).replace("Block8", "block8_10")
                name = f"{block}_conv"
            found[key], full_names[key] = np.zeros(1), f"{name}/{leaf}"
            expected[key] = f"{scope}/{'BatchNorm/beta' if leaf == 'beta' else 'weights'}"
    return found, full_names, expected


@pytest.mark.parametrize("first", [0, 12])
def test_keras_layers_have_slims_names(first: int):
    found, full_names, expected = keras_variables(first)
    for names in (full_names, {}):
        assert list(to_slim(found, names)) == list(expected.values())


def test_keras_counts_layers_from_the_deepest():
    """Positions 10 to 23, of Mixed_5b, as Keras 2 numbers them: the ends of the branches stand beside each other."""
    layers = [layer for layer in LAYERS["inception_resnet_v2"]() if layer.ours.startswith("backbone.")]
    found = [scope.partition("Mixed_5b/")[2] for scope in list(by_depth(layers))[10:24]]
    ends = ["Branch_0/Conv2d_1x1", "Branch_1/Conv2d_0b_5x5", "Branch_2/Conv2d_0c_3x3", "Branch_3/Conv2d_0b_1x1"]
    middle = ["Branch_1/Conv2d_0a_1x1", "Branch_2/Conv2d_0b_3x3"]
    assert found == ["Branch_2/Conv2d_0a_1x1"] * 2 + middle * 2 + ends * 2


def test_heads_of_keras_have_slims_names():
    paths = {
        "_first_stage_box_predictor_first_conv/layer_with_weights-0/kernel": "Conv/weights",
        "_first_stage_box_predictor/_prediction_heads/box_encodings/0/_box_encoder_layers/0/bias": (
            "FirstStageBoxPredictor/BoxEncodingPredictor/biases"
        ),
        "_mask_rcnn_box_predictor/_class_prediction_head/_class_predictor_layers/1/kernel": (
            "SecondStageBoxPredictor/ClassPredictor/weights"
        ),
        "_mask_rcnn_box_predictor/_third_stage_heads/mask_predictions/_mask_predictor_layers/0/kernel": (
            "SecondStageBoxPredictor/Conv/weights"
        ),
        "_mask_rcnn_box_predictor/_third_stage_heads/mask_predictions/_mask_predictor_layers/3/bias": (
            "SecondStageBoxPredictor/Conv_1/biases"
        ),
        "_mask_rcnn_box_predictor/unheard_of/kernel": None,
    }
    found = to_slim({f"model/{path}{VALUE}": np.zeros(1) for path in paths}, {})
    assert list(found) == [slim or f"model/{path}{VALUE}" for path, slim in paths.items()]


def test_other_keras_trunks_are_refused():
    found = {f"model/layer_with_weights-{i}/kernel{VALUE}": np.zeros(1) for i in range(5)}
    names = {key: f"conv2d_{i}/kernel" for i, key in enumerate(found)}
    with pytest.raises(WeightsError, match="5 layers are called 'conv2d', Inception-ResNet v2 has 203"):
        to_slim(found, names)
    plain = {"FirstStageFeatureExtractor/InceptionV2/Conv2d_2b_1x1/weights": np.zeros(1)}
    assert to_slim(plain, {}) == plain


@pytest.mark.slow
@pytest.mark.parametrize("name", TRUNKS)
def test_full_size_checkpoints_there_and_back(name: str):
    found = arrays(full_size(name) / "variables.npz")
    trunk = TRUNKS[name].name
    back = state_to_variables(variables_to_state(found, trunk), trunk)
    assert back.keys() == found.keys() - {"global_step"}
    for key, array in back.items():
        if "/block4/" not in key or key.startswith("Second"):
            assert np.array_equal(array, found[key]), key
    if trunk == "inception_v2":
        assert inception_v2_width(found) == (1.0, 16)


@pytest.mark.slow
def test_keras_layers_are_known_by_name_and_by_position():
    found, full_names = object_variables(full_size(TF2))
    by_name, by_position = to_slim(found, full_names), to_slim(found, {})
    assert len(variables_to_state(by_name, "inception_resnet_v2")) == len(found)
    assert by_name.keys() == by_position.keys()
    assert all(by_name[key] is by_position[key] for key in by_name)
