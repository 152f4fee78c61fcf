"""Opening a checkpoint of MMDetection: what it carries, what is assumed, what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from maskrcnn.errors import ConfigError, WeightsError
from maskrcnn.weights.mmdetection import model as model_module
from maskrcnn.weights.mmdetection.model import load_mmdetection, open_mmdetection
from tests.weights.oracle import empty_state, folder

CLASSES = tuple(f"thing {i}" for i in range(80))


@pytest.fixture
def config(data_dir: Path) -> str:
    return (folder(data_dir, "mm_r50_caffe_fpn") / "config.py").read_text()


@pytest.fixture
def state(data_dir: Path) -> dict[str, torch.Tensor]:
    """One number in memory for each tensor; the first convolution sees blue, green, red."""
    state = empty_state(folder(data_dir, "mm_r50_caffe_fpn"))
    first = torch.zeros(64, 3, 7, 7)
    first[:, 0] = 1.0
    return state | {"backbone.conv1.weight": first}


@pytest.fixture
def opens(monkeypatch):
    """Makes the reader give a state dict with some `meta`, without 170 MB of zeros on the disk: gives the path."""

    def opens(state: dict, **meta: object) -> str:
        data = {"meta": meta, "state_dict": state} if meta else state
        monkeypatch.setattr(model_module, "read_pth", lambda path: data)
        return "model.pth"

    return opens


def test_a_file_of_3x(state, config, opens):
    path = opens(state, cfg=config, mmengine_version="0.10.7", dataset_meta={"classes": CLASSES})
    model, run = open_mmdetection(path, **{"box.score_threshold": 0.3})
    assert model.classes == CLASSES
    assert not model.training
    assert model.config.box.score_threshold == 0.3
    assert run.train.optimizer == "sgd"
    weight = model.state_dict()["backbone.conv1.weight"]
    assert (weight[:, 2] == 1).all()  # blue is the last channel now
    assert (weight[:, :2] == 0).all()


def test_a_file_of_2x(state, config, opens):
    path = opens(state, config=config, mmdet_version="2.28.2", CLASSES=CLASSES)
    assert load_mmdetection(path).classes == CLASSES


def test_cocos_names_where_there_are_none(state, config, opens):
    model = load_mmdetection(opens(state, cfg=config))
    assert (model.classes[0], model.classes[-1], model.category_ids[-1]) == ("person", "toothbrush", 90)


def test_without_a_config_the_usual_one_is_assumed(state, opens):
    path = opens(state)
    with pytest.warns(UserWarning, match="no config is in it"):
        model = load_mmdetection(path)
    assert (model.data.min_size, model.data.max_size) == (800, 1333)
    assert not model.config.backbone.stride_in_1x1


@pytest.mark.parametrize("name", ["mm_cascade_r50_fpn", "mm_swin_t", "mm_convnext_t", "mm_x101_32x4d"])
def test_the_assumed_config_has_the_layers_of_the_weights(name: str, data_dir: Path, opens):
    state = {k: v for k, v in empty_state(folder(data_dir, name)).items() if "relative_position_index" not in k}
    path = opens(state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load_mmdetection(path)
    assert len(model.config.box.cascade) == (2 if "cascade" in name else 0)


def test_a_config_given_by_hand(state, config, opens, tmp_path: Path):
    path = opens(state)
    (tmp_path / "config.py").write_text(config)
    model = load_mmdetection(path, config=tmp_path / "config.py", classes=CLASSES)
    assert model.config.backbone.stride_in_1x1
    assert model.classes == CLASSES


@pytest.mark.parametrize("version", ["1.2.0", "0.6.0+unknown"])
def test_files_of_1x_are_refused_with_the_reason(version: str, state, config, opens):
    path = opens(state, config=config, mmdet_version=version)
    with pytest.raises(WeightsError, match=r"1\.x, whose background is class 0"):
        load_mmdetection(path)


def test_files_of_1x_are_known_by_their_names_too(state, opens):
    old = {name.removeprefix("roi_head."): value for name, value in state.items()}
    with pytest.raises(WeightsError, match=r"upgrade_model_version"):
        load_mmdetection(opens(old))


def test_a_config_of_other_weights_is_refused(state, config, opens):
    path = opens(state, cfg=config.replace("depth=50", "depth=101"))
    with pytest.raises(WeightsError, match=r"for resnet101, but the weights are those of resnet50"):
        load_mmdetection(path)
    path = opens(state, cfg=config.replace("num_classes=80", "num_classes=3"))
    with pytest.raises(WeightsError, match="for 3 classes, but the weights have 80"):
        load_mmdetection(path)


def test_a_missing_tensor_is_named(state, config, opens):
    del state["rpn_head.rpn_reg.bias"]
    whole = "not a whole detector of MMDetection: tensor"
    with pytest.raises(WeightsError, match=rf"{whole} 'rpn_head\.rpn_reg\.bias' is missing; give the whole") as caught:
        load_mmdetection(opens(state, cfg=config))
    assert caught.value.missing == ("rpn.deltas.bias",)
    del state["roi_head.bbox_head.fc_reg.weight"], state["roi_head.bbox_head.fc_reg.bias"]
    with pytest.raises(WeightsError, match=rf"{whole} 'roi_head\.bbox_head\.fc_reg\.weight' and 1 more are missing"):
        load_mmdetection(opens(state))


def test_another_number_of_names_is_refused(state, config, opens):
    with pytest.raises(WeightsError, match="2 names"):
        load_mmdetection(opens(state, cfg=config), classes=["a", "b"])


def test_no_names_are_another_number_too(state, config, opens):
    with pytest.raises(WeightsError, match="0 names"):
        load_mmdetection(opens(state, cfg=config), classes=[])


def test_our_own_config_is_taken(state, config, opens):
    _, run = open_mmdetection(opens(state, cfg=config))
    mine = run.replace(**{"model.box.score_threshold": 0.3})
    for path in (opens(state, cfg=config), opens(state)):  # told by the file, or by the trunk
        model, again = open_mmdetection(path, config=mine)
        assert again == mine
        assert (model.state_dict()["backbone.conv1.weight"][:, 2] == 1).all()


@pytest.mark.parametrize("wrong", [{"model": {}}, 3, ["a.py"]])
def test_a_config_of_another_kind_is_refused(wrong: object, state, opens):
    with pytest.raises(ConfigError, match="give the path of a config file"):
        load_mmdetection(opens(state), config=wrong)  # type: ignore[arg-type]


def test_other_heads_than_the_config_has_are_refused(config, opens, data_dir: Path):
    cascade = empty_state(folder(data_dir, "mm_cascade_r50_fpn"))
    with pytest.raises(WeightsError, match="for 1 box heads in a row, but the weights have 3"):
        load_mmdetection(opens(cascade, cfg=config))


def test_masks_that_the_weights_have_not_are_refused(state, config, opens):
    plain = {name: value for name, value in state.items() if "mask_head" not in name}
    with pytest.raises(WeightsError, match="has a mask head, unlike the weights"):
        load_mmdetection(opens(plain, cfg=config))


def test_the_table_is_found_as_the_recogniser_finds_it(state, config):
    data = {"model_state_dict": {f"model.{name}": value for name, value in state.items()}, "meta": {"cfg": config}}
    assert load_mmdetection("model.pth", data=data).config.backbone.stride_in_1x1


def test_a_config_that_holds_itself_is_refused(state, opens):
    values: dict = {"model": {}}
    values["model"]["again"] = values
    with pytest.raises(ConfigError, match="more than 100 deep"):
        load_mmdetection(opens(state, cfg=values))
