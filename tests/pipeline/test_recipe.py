"""The six steps from Faster R-CNN to Mask R-CNN."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskrcnn.errors import ConfigError
from maskrcnn.pipeline.model import mask_depth
from maskrcnn.pipeline.read import from_message, read_pipeline
from maskrcnn.pipeline.recipe import add_masks
from maskrcnn.pipeline.write import differences
from maskrcnn.text_proto import write as to_text
from tests.pipeline.texts import FASTER, MASK, changed, write


def masked(tmp_path, text, **options):
    message, steps = add_masks(write(tmp_path, text), **options)
    return from_message(message, Path("x.config")), steps, to_text(message)


def test_six_steps(tmp_path):
    before = read_pipeline(write(tmp_path, FASTER)).config
    after, steps, text = masked(tmp_path, FASTER, train=("t-*.record",), val=("v.record",), label_map="m.pbtxt")
    assert [step.number for step in steps] == [1, 2, 3, 4, 5, 6]
    assert all(step.done and step.why and "\n" not in str(step) for step in steps)
    assert differences(before, after.config) == ["model.mask"]
    mask = after.config.model.mask
    assert (mask.resize, mask.convolutions, mask.channels, mask.loss_weight) == (15, 1, 32, 4.0)
    assert (after.train_data.masks, after.train_data.mask_type, after.val_data.masks) == (True, "PNG_MASKS", True)
    assert after.train_data.paths == ("t-*.record",)
    assert after.val_data.paths == ("v.record",)
    assert after.metrics == ("coco_detection_metrics", "coco_mask_metrics")
    assert "# Cups." in text


def test_numerical_masks_and_what_is_there_stays(tmp_path):
    text = changed("eval_config { }", 'eval_config { metrics_set: "coco_mask_metrics" }', FASTER)
    text = changed("{ op: FC }", "{ op: FC } mask_height: 21 mask_width: 21 mask_prediction_conv_depth: 64", text)
    after, _, _ = masked(tmp_path, text, mask_type="NUMERICAL_MASKS")
    assert after.train_data.mask_type == "NUMERICAL_MASKS"
    assert (after.config.model.mask.resize, after.config.model.mask.channels) == (21, 64)
    assert after.metrics == ("coco_mask_metrics", "coco_detection_metrics")
    assert after.train_data.paths == ("train.record",)


def test_large_trunks_get_the_larger_mask(tmp_path):
    text = changed("'faster_rcnn_inception_v2'", "'faster_rcnn_resnet50' first_stage_features_stride: 8", FASTER)
    text = changed("{ scales:", "{ height_stride: 8 width_stride: 8 scales:", text)
    mask = masked(tmp_path, text)[0].config.model.mask
    assert (mask.resize, mask.convolutions) == (33, 3)


def test_r_fcn_gets_another_predictor(tmp_path):
    text = changed(
        "mask_rcnn_box_predictor { fc_hyperparams { op: FC } }", "rfcn_box_predictor { depth: 1024 }", FASTER
    )
    text = changed("    initial_crop_size: 14\n    maxpool_kernel_size: 2\n    maxpool_stride: 2\n", "", text)
    after, steps, written = masked(tmp_path, text)
    assert after.config.model.mask is not None
    assert after.config.model.box.pooler.resolution == 14
    assert steps[1].done == "mask_rcnn_box_predictor in place of rfcn_box_predictor"
    assert "rfcn" not in written


def test_done_twice_changes_nothing(tmp_path):
    once = masked(tmp_path, FASTER)[2]
    assert masked(tmp_path, once)[2] == once
    assert masked(tmp_path, MASK)[0].config.model.mask is not None


def test_another_model(tmp_path):
    with pytest.raises(ConfigError, match=r"model\.ssd: another kind of model"):
        masked(tmp_path, "model { ssd { } }")


def test_another_number_of_classes_chooses_another_depth(tmp_path):
    text = changed("'faster_rcnn_inception_v2'", "'faster_rcnn_resnet101'", FASTER)
    message, _ = add_masks(write(tmp_path, text), classes=90)
    pipeline = from_message(message, tmp_path / "pipeline.config")
    assert (pipeline.num_classes, pipeline.config.model.mask.channels) == (90, mask_depth(2048, 90))
    assert "mask_prediction_conv_depth: 0" in to_text(message)
    assert mask_depth(2048, 90) != mask_depth(2048, 3)


def test_what_the_recipe_puts_in_is_not_listed_as_ignored(tmp_path):
    message, _ = add_masks(write(tmp_path, FASTER))
    assert "initializer" in to_text(message)
    assert "initializer" not in " ".join(from_message(message, tmp_path / "pipeline.config").ignored)
