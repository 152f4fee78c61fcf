"""A config file of another framework gives a network without any weights."""

from __future__ import annotations

import pytest

from maskrcnn.config import TrainConfig
from maskrcnn.errors import ConfigError
from maskrcnn.presets import preset
from maskrcnn.weights.config_file import network_of_file
from tests.weights.oracle import folder

BALLOON = """class BalloonConfig(Config):
    NAME = 'balloon'
    IMAGE_MIN_DIM = 400
    IMAGE_MAX_DIM = 512
    BACKBONE = 'resnet50'
"""


def test_each_framework(data_dir, tmp_path):
    (tmp_path / "balloon.py").write_text(BALLOON)
    matterport, notes = network_of_file(str(tmp_path / "balloon.py"))
    assert (matterport.model.backbone.name, matterport.data.max_size, notes) == ("resnet50", 512, ())
    assert network_of_file(f"{tmp_path / 'balloon.py'}:BalloonConfig")[0] == matterport
    assert matterport.train == TrainConfig()

    file = tmp_path / "d2.yaml"
    file.write_text("_BASE_: Base-RCNN-FPN.yaml\nMODEL: {MASK_ON: true, RESNETS: {DEPTH: 101}}\n")
    assert network_of_file(str(file))[0].model.backbone.name == "resnet101"
    caffe = network_of_file(str(folder(data_dir, "mm_r50_caffe_fpn") / "config.py"))[0]
    assert (caffe.model.backbone.stride_in_1x1, caffe.train) == (True, TrainConfig())
    name = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x"
    assert network_of_file(f"{name}.yaml")[0].model == preset(name).model


def test_what_is_no_config(tmp_path):
    def told(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError) as error:
            network_of_file(str(tmp_path / name))
        return str(error.value)

    assert "is a config of maskrcnn; give it with --config" in told("ours.yaml", "model:\n  fpn: null\n")
    assert "a lazy config of Detectron2 is a program" in told("lazy.py", "from detectron2.config import LazyCall\n")
    assert "is no config that we know; give Detectron2's YAML" in told("a.txt", "hello")
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such file; give Detectron2's YAML or a name"):
        network_of_file("gone.yaml")
