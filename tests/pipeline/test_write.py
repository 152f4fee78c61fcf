"""Config -> pipeline.config: what is written is read to the same config, what cannot be said is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.cli.pipeline import with_fields
from maskrcnn.errors import ConfigError
from maskrcnn.options import apply
from maskrcnn.pipeline.read import from_message, read_pipeline
from maskrcnn.pipeline.write import differences, pipeline_text
from maskrcnn.presets import PRESETS, preset
from maskrcnn.text_proto import parse
from tests.pipeline.texts import FASTER, MASK, changed, write

OURS = [name for name in PRESETS if name.startswith("mask_rcnn_")]


def read(text: str):
    return from_message(parse(text), Path("x.config"))


@pytest.mark.parametrize("name", OURS)
def test_presets_come_back_the_same(name):
    back = read(pipeline_text(preset(name), classes=90))
    assert back.config == preset(name)
    assert (back.num_classes, back.ignored[0].partition(": ")[2].partition(":")[0]) == (90, "initializer")


@pytest.mark.parametrize("text", [FASTER, MASK])
def test_an_edited_file_keeps_the_rest(tmp_path, text):
    text = changed("num_steps: 10", "num_steps: 10  # ten\n  startup_delay_steps: 0", text)
    base = read_pipeline(write(tmp_path, text))
    config = apply(base.config, {"model.rpn.nms_iou": 0.6, "train.steps": 20})
    written = pipeline_text(config, base=base, train=("a.record", "b.record"), label_map="m.pbtxt", checkpoint="c.ckpt")
    back = read(written)
    assert back.config == config
    assert back.train_data.paths == ("a.record", "b.record")
    assert back.val_data.paths == ("val.record",)
    assert (back.train_data.label_map, back.val_data.label_map) == ("m.pbtxt", "m.pbtxt")
    assert back.fine_tune_checkpoint == "c.ckpt"
    assert "# Cups." in written
    assert "startup_delay_steps: 0" in written
    assert "num_steps: 20  # ten" in written


def test_an_unchanged_file_keeps_the_automatic_mask_depth(tmp_path):
    text = changed("predict_instance_masks: true", "predict_instance_masks: true mask_prediction_conv_depth: 0")
    base = read_pipeline(write(tmp_path, text))
    assert "mask_prediction_conv_depth: 0" in pipeline_text(base.config, base=base)
    other = pipeline_text(base.config, base=base, classes=90)  # the config says how deep, whatever the classes
    assert read(other).config == base.config


def test_masks_can_be_taken_away_and_added(tmp_path):
    base = read_pipeline(write(tmp_path, MASK))
    boxes = base.config.replace(**{"model.mask": None})
    assert read(pipeline_text(boxes, base=base)).config == boxes
    faster = read_pipeline(write(tmp_path, FASTER))
    masks = faster.config.replace(**{"model.mask": preset("mask_rcnn_resnet50_atrous_coco").model.mask})
    back = read(pipeline_text(masks, base=faster))
    assert back.config == masks
    assert back.train_data.masks


def test_ignored_augmentation_stays(tmp_path):
    options = (
        "data_augmentation_options { random_rgb_to_gray { } } data_augmentation_options { random_vertical_flip { } }"
    )
    base = read_pipeline(write(tmp_path, changed("num_steps: 10", options)))
    written = pipeline_text(base.config.replace(**{"data.vertical_flip": 0.0, "data.hue": 0.1}), base=base)
    assert "random_rgb_to_gray" in written
    assert "random_vertical_flip" not in written
    assert "random_adjust_hue" in written


fractions = st.floats(0.01, 0.99)
small = st.floats(1e-6, 0.1)
whole = st.integers(1, 500)
side = st.integers(33, 2000)
schedules = st.one_of(
    st.fixed_dictionaries({"train.schedule": st.just("constant"), "train.rates": st.just([])}),
    st.builds(
        lambda rates, warm, factor: (
            {
                "train.schedule": "manual",
                "train.learning_rate": rates[0],
                "train.rates": [[0, rates[0]], *([100 * (i + 1), rate] for i, rate in enumerate(rates[1:]))],
            }
            | ({"train.warmup_steps": 50, "train.warmup_factor": factor} if warm else {})
        ),
        st.lists(small, min_size=1, max_size=4),
        st.booleans(),
        fractions,
    ),
    st.builds(
        lambda steps, factor, stairs, end: {
            "train.schedule": "exponential",
            "train.rates": [],
            "train.decay_steps": steps,
            "train.decay_factor": factor,
            "train.decay_staircase": stairs,
            "train.end_rate": end,
            "train.hold_steps": steps // 2,
        },
        *(whole, fractions, st.booleans(), small),
    ),
    st.builds(
        lambda warm, hold, rest, factor: {
            "train.schedule": "cosine",
            "train.rates": [],
            "train.decay_steps": warm + hold + rest,
            "train.hold_steps": hold,
            "train.warmup_steps": warm,
            "train.warmup_factor": factor,
        },
        *(whole, whole, whole, fractions),
    ),
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "model.rpn.channels": whole,
        "model.rpn.kernel": st.sampled_from([1, 3, 5]),
        "model.rpn.dilation": st.integers(1, 4),
        "model.rpn.nms_iou": fractions,
        "model.rpn.samples_per_image": whole,
        "model.rpn.positive_fraction": fractions,
        "model.rpn.box_loss_weight": fractions,
        "model.rpn.score_loss_weight": fractions,
        "model.rpn.anchors.sizes": st.lists(st.floats(8, 600), min_size=1, max_size=4).map(lambda sizes: [sizes]),
        "model.rpn.anchors.border": st.sampled_from(["drop", "clip"]),
        "model.box.pooler.resolution": st.integers(8, 30),
        "model.box.pooler.max_pool": st.sampled_from([[1, 1], [2, 2], [2, 1]]),
        "model.box.class_agnostic": st.booleans(),
        "model.box.dropout": fractions.map(lambda value: round(value, 3)),
        "model.box.score_threshold": fractions,
        "model.box.nms_iou": fractions,
        "model.box.detections_per_class": whole,
        "model.box.detections_per_image": whole,
        "model.box.samples_per_image": whole,
        "model.mask.resize": st.integers(2, 60),
        "model.mask.convolutions": st.integers(0, 5),
        "model.mask.channels": whole,
        "model.mask.class_agnostic": st.booleans(),
        "model.mask.loss_weight": fractions,
        "model.backbone.norm": st.sampled_from(["bn", "frozen_statistics"]),
        "data.horizontal_flip": fractions,
        "data.vertical_flip": fractions,
        "data.brightness": fractions,
        "data.hue": st.floats(0.01, 0.5),
        "data.contrast": fractions.map(lambda value: round(value, 6)),
        "data.saturation": fractions.map(lambda value: round(value, 6)),
        "data.crop": fractions.map(lambda value: round(value, 6)),
        "data.jpeg": fractions.map(lambda value: round(value, 6)),
        "train.steps": whole,
        "train.clip_norm": fractions,
        "train.weight_decay": small,
        "train.ema_decay": fractions,
        "train.momentum": fractions,
        "train.monitor": st.sampled_from(["auto", "box", "mask"]),
        "train.precision": st.sampled_from(["float32", "bf16"]),
    },
)


@settings(max_examples=50, deadline=None)
@given(
    fields=fields,
    schedule=schedules,
    rate=small,
    batch=whole,
    size=st.one_of(
        st.tuples(st.just("fixed"), side, side),
        st.tuples(st.just("short"), side, side).map(lambda kind: (kind[0], *sorted(kind[1:]))),
    ),
)
def test_every_mapped_field_comes_back(fields, schedule, rate, batch, size):
    values = {"train.learning_rate": rate, **fields, **schedule}
    values |= {"train.batch_size": batch, "train.learning_rate_batch": batch}
    values |= dict(zip(("data.resize", "data.min_size", "data.max_size"), size, strict=True))
    config = apply(preset("mask_rcnn_inception_v2_coco"), values)
    assert differences(read(pipeline_text(config, classes=7)).config, config) == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=3))
def test_ratios_are_turned_over_and_come_back(ratios):
    there = [1 / ratio for ratio in ratios]  # what some file could say
    config = apply(preset("mask_rcnn_inception_v2_coco"), {"model.rpn.anchors.ratios": there})
    assert differences(read(pipeline_text(config, classes=7)).config, config) == []


def test_rounding_is_no_difference():
    fields = {"train.warmup_steps": 50, "train.warmup_factor": 0.2109375, "train.learning_rate": 0.0171}
    config = apply(preset("mask_rcnn_inception_v2_coco"), fields | {"train.rates": [[0, 0.0171]]})
    assert differences(read(pipeline_text(config, classes=7)).config, config) == []
    assert differences(config, apply(config, {"train.warmup_factor": 0.2109376})) == ["train.warmup_factor"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model.rpn.foreground_iou": 0.8}, r"model\.rpn\.foreground_iou: 0\.8 cannot be said in a pipeline\.config, "
         r"which would be read as 0\.7; write YAML"),
        ({"train.optimizer": "adamw"}, r"train\.optimizer: 'adamw' cannot be said"),
        ({"train.schedule": "step"}, r"train\.schedule: 'step' falls at parts of the run"),
        ({"data.rotation": 10.0}, r"data\.rotation: 10\.0 cannot be said"),
        ({"train.batch_size": 4}, r"train\.learning_rate_batch: is 1, but the API does not scale rates"),
        ({"model.rpn.post_nms_train": 500}, r"model\.rpn\.post_nms_train: 500 must be model\.rpn\.post_nms_test"),
        ({"model.box.detections_per_image": None}, r"model\.box\.detections_per_image: null cannot"),
    ],
)  # fmt: skip
def test_what_cannot_be_said(fields, message):
    config = apply(preset("mask_rcnn_inception_v2_coco"), fields)
    with pytest.raises(ConfigError, match=message):
        pipeline_text(config, classes=7)


@pytest.mark.parametrize("name", ["r50-fpn", "small"])
def test_a_pyramid_cannot_be_said(name):
    with pytest.raises(ConfigError, match=r"model\.fpn: the API's Mask R-CNN has no pyramid; write YAML"):
        pipeline_text(preset(name), classes=7)


def test_a_trunk_of_ours_cannot_be_said():
    config = apply(preset("mask_rcnn_resnet50_atrous_coco"), {"model.backbone.name": "resnet50"})
    with pytest.raises(
        ConfigError, match=r"model\.backbone\.name: 'resnet50' is not in the API; it has inception_resnet"
    ):
        pipeline_text(config, classes=7)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_the_default_epsilon_is_written_as_a_number(tmp_path, optimizer):
    base = read_pipeline(write(tmp_path, MASK))
    config = with_fields(base.config, {"train.optimizer": optimizer})
    assert config.train.optimizer_eps is None
    again = read_pipeline(write(tmp_path, pipeline_text(config, base=base), "again.config")).config
    assert again.train.optimizer_eps == {"adam": 1e-8, "rmsprop": 1.0}[optimizer]
