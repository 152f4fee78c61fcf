"""pipeline.config -> Config: every field, the API's defaults, what is ignored, and each mistake in one sentence."""

from __future__ import annotations

import pytest

from maskrcnn.errors import ConfigError
from maskrcnn.pipeline.model import mask_depth
from maskrcnn.pipeline.read import looks_like_pipeline, read_pipeline
from maskrcnn.pipeline.write import differences
from maskrcnn.presets import preset
from tests.pipeline.texts import FASTER, MASK, changed, write


def read(tmp_path, text):
    return read_pipeline(write(tmp_path, text))


def config_of(tmp_path, text):
    return read(tmp_path, text).config


# ---------------------------------------------------------------- files of users


@pytest.fixture
def configs(data_dir):
    return data_dir / "tf-configs"


@pytest.mark.parametrize("name", ["mask_rcnn_inception_v2_coco", "mask_rcnn_inception_v2_custom"])
def test_inception_v2_of_a_user(configs, name):
    pipeline = read_pipeline(configs / f"{name}.config")
    expected = {"model.mask.channels"} | ({"train.steps"} if name.endswith("custom") else set())
    assert set(differences(pipeline.config, preset("mask_rcnn_inception_v2_coco"))) == expected
    assert (pipeline.num_classes, pipeline.config.model.mask.channels) == (2, 32)
    assert pipeline.checkpoint_type == "detection"
    assert pipeline.fine_tune_checkpoint.endswith("/model.ckpt")
    assert pipeline.train_data.masks
    assert pipeline.train_data.mask_type == "PNG_MASKS"
    (note,) = pipeline.notes
    assert "from_detection_checkpoint: every tensor that fits is taken here, those of RPN and heads too" in note
    assert [sentence.partition(":")[0] for sentence in pipeline.ignored] == [
        *("lines 37, 67, 82", "line 150", "line 153", "line 164")
    ]


def test_inception_resnet_v2_of_a_user(configs):
    pipeline = read_pipeline(configs / "mask_rcnn_inception_resnet_v2_1024x1024_coco17_gpu-8.config")
    config = pipeline.config
    assert set(differences(config, preset("mask_rcnn_inception_resnet_v2_1024x1024_coco17"))) == {
        *("data.min_size", "data.max_size", "model.mask.channels"),
        *("train.batch_size", "train.learning_rate_batch", "train.steps"),
    }
    assert (config.data.min_size, config.data.max_size, config.model.mask.channels) == (612, 612, 64)
    assert (config.train.steps, config.train.decay_steps) == (1000, 200_000)
    assert pipeline.metrics == ("coco_detection_metrics", "coco_mask_metrics")


def test_thin_model_of_the_original_code(data_dir):
    folder = data_dir.parent / "oracles" / "tensorflow" / "tiny_inception_v2"
    if not folder.is_dir():
        pytest.skip("the thin TensorFlow model is not here")
    written, exported = (read_pipeline(folder / where / "pipeline.config") for where in (".", "export"))
    assert written.config == exported.config
    model = written.config.model
    assert (model.rpn.channels, model.rpn.post_nms_test, model.mask.channels) == (16, 20, 8)
    assert (model.box.detections_per_class, model.box.detections_per_image) == (10, 20)


# ---------------------------------------------------------------- fields and defaults


def test_defaults_are_those_of_the_api(tmp_path):
    text = changed("min_dimension: 96 max_dimension: 128", "", changed("batch_size: 1\n", ""))
    text = changed("use_moving_average: false", "", text)
    text = changed("{ constant_learning_rate { learning_rate: 0.001 } }", "{ constant_learning_rate { } }", text)
    config = config_of(tmp_path, text)
    rpn, box, mask, train = config.model.rpn, config.model.box, config.model.mask, config.train
    assert (rpn.channels, rpn.kernel, rpn.dilation, rpn.samples_per_image, rpn.positive_fraction) == (
        512,
        3,
        1,
        256,
        0.5,
    )
    assert (rpn.nms_iou, rpn.post_nms_train, rpn.post_nms_test) == (0.7, 300, 300)
    assert (rpn.box_loss_weight, rpn.score_loss_weight) == (1.0, 1.0)
    assert (box.samples_per_image, box.positive_fraction, box.box_loss_weight, box.class_loss_weight) == (
        64,
        0.25,
        1,
        1,
    )
    assert (box.score_threshold, box.nms_iou, box.detections_per_class, box.detections_per_image) == (0, 0.6, 100, 100)
    assert (box.class_agnostic, box.dropout) == (False, 0.0)
    assert (mask.resize, mask.convolutions, mask.channels, mask.loss_weight, mask.class_agnostic) == (
        15,
        1,
        256,
        1,
        False,
    )
    assert (config.data.min_size, config.data.max_size) == (600, 1024)
    assert (train.batch_size, train.learning_rate_batch, train.learning_rate) == (32, 32, 0.002)
    assert (train.ema_decay, train.momentum, train.clip_norm, train.weight_decay) == (0.9999, 0.9, 0.0, 0.0)
    assert (config.model.backbone.norm, config.model.backbone.stride) == ("frozen_statistics", 16)
    assert rpn.anchors.border == "drop"
    assert config.data.horizontal_flip == 0.0


@pytest.mark.parametrize(
    ("old", "new", "fields"),
    [
        ("initial_crop_size: 14", "initial_crop_size: 17", {"model.box.pooler.resolution": 17}),
        ("num_classes: 3", "num_classes: 3 clip_anchors_to_image: true", {"model.rpn.anchors.border": "clip"}),
        ("num_classes: 3", "num_classes: 3 first_stage_max_proposals: 50",
         {"model.rpn.post_nms_train": 50, "model.rpn.post_nms_test": 50}),
        ("num_classes: 3", "num_classes: 3 second_stage_mask_prediction_loss_weight: 4.0",
         {"model.mask.loss_weight": 4.0}),
        ("'faster_rcnn_inception_v2'", "'faster_rcnn_inception_v2' batch_norm_trainable: true",
         {"model.backbone.norm": "bn"}),
        ("'faster_rcnn_inception_v2'", "'faster_rcnn_resnet101'",
         {"model.backbone.name": "resnet_v1_101", "model.image_std": [1.0] * 3, "model.backbone.norm_eps": 1e-5}),
        ("'faster_rcnn_inception_v2'", "'faster_rcnn_resnet152'",
         {"model.backbone.name": "resnet_v1_152", "model.image_std": [1.0] * 3, "model.backbone.norm_eps": 1e-5}),
        ("'faster_rcnn_inception_v2'", "'faster_rcnn_inception_resnet_v2_keras'",
         {"model.backbone.name": "inception_resnet_v2", "model.backbone.stage_two_padding": "same"}),
        ("{ scales:", "{ height: 128 width: 128 scales:", {"model.rpn.anchors.sizes": [[32.0, 64.0]]}),
        ("{ scales:", "{ height: 64 width: 256 scales:",
         {"model.rpn.anchors.sizes": [[32.0, 64.0]], "model.rpn.anchors.ratios": [0.5, 0.25, 0.125]}),
        ("predict_instance_masks: true", "predict_instance_masks: true mask_prediction_conv_depth: 0",
         {"model.mask.channels": mask_depth(1024, 3)}),
        ("predict_instance_masks: true", "predict_instance_masks: true masks_are_class_agnostic: true mask_height: 33 "
         "mask_width: 33 mask_prediction_num_conv_layers: 4",
         {"model.mask.class_agnostic": True, "model.mask.resize": 33, "model.mask.convolutions": 3}),
        ("{ op: FC }", "{ op: FC } use_dropout: true dropout_keep_probability: 0.8", {"model.box.dropout": 0.2}),
        ("{ op: FC }", "{ op: FC } dropout_keep_probability: 0.8", {"model.box.dropout": 0.0}),
        ("{ op: FC }", "{ op: FC regularizer { l2_regularizer { } } }", {"train.weight_decay": 1.0}),
        ("{ op: FC }", "{ op: FC regularizer { l2_regularizer { weight: 4e-5 } } }", {"train.weight_decay": 4e-5}),
        ("keep_aspect_ratio_resizer { min_dimension: 96 max_dimension: 128 }", "fixed_shape_resizer { height: 64 }",
         {"data.resize": "fixed", "data.min_size": 64, "data.max_size": 300}),
        ("num_steps: 10", "num_steps: 0", {"train.steps": None}),
        ("num_steps: 10", "gradient_clipping_by_norm: 10", {"train.clip_norm": 10.0, "train.steps": None}),
        ("num_steps: 10", "use_bfloat16: true", {"train.precision": "bf16"}),
        ("batch_size: 1", "batch_size: 8", {"train.batch_size": 8, "train.learning_rate_batch": 8}),
        ("use_moving_average: false", "moving_average_decay: 0.99", {"train.ema_decay": 0.99}),
        ("eval_config { }", 'eval_config { metrics_set: "coco_detection_metrics" }', {"train.monitor": "box"}),
        ("eval_config { }", 'eval_config { metrics_set: ["coco_detection_metrics", "coco_mask_metrics"] }',
         {"train.monitor": "auto"}),
    ],
)  # fmt: skip
def test_fields(tmp_path, old, new, fields):
    table = config_of(tmp_path, changed(old, new)).to_dict()
    for name, expected in fields.items():
        found = table
        for key in name.split("."):
            found = found[key]
        assert found == expected, name


def test_regularisation_may_be_off(tmp_path):
    text = changed("{ op: FC }", "{ op: FC regularizer { l2_regularizer { weight: 1 } } }")
    assert (
        config_of(tmp_path, changed("num_steps: 10", "add_regularization_loss: false", text)).train.weight_decay == 0.0
    )


@pytest.mark.parametrize(("channels", "classes", "depth"), [(1024, 90, 256), (2048, 90, 256), (1536, 90, 256),
                                                           (1024, 7, 64), (1024, 1, 16)])  # fmt: skip
def test_automatic_mask_depth(channels, classes, depth):
    assert mask_depth(channels, classes) == depth


AUGMENTED = [
    ("random_horizontal_flip { }", {"horizontal_flip": 0.5}),
    ("random_horizontal_flip { probability: 0.3 }", {"horizontal_flip": 0.3}),
    ("random_vertical_flip { }", {"vertical_flip": 0.5}),
    ("random_adjust_brightness { }", {"brightness": 0.2}),
    ("random_adjust_contrast { max_delta: 1.1 }", {"contrast": 0.2}),
    ("random_adjust_saturation { }", {"saturation": 0.25}),
    ("random_adjust_hue { max_delta: 0.1 }", {"hue": 0.1}),
    ("random_crop_image { random_coef: 0.25 }", {"crop": 0.75}),
    ("random_jpeg_quality { random_coef: 0.5 }", {"jpeg": 0.5}),
    ("random_distort_color { }", {"brightness": 32 / 255, "contrast": 0.5, "saturation": 0.5, "hue": 0.2}),
]


@pytest.mark.parametrize(("option", "fields"), AUGMENTED)
def test_augmentation(tmp_path, option, fields):
    text = changed("num_steps: 10", f"data_augmentation_options {{ {option} }}")
    data = config_of(tmp_path, text).data
    names = ("horizontal_flip", "vertical_flip", "brightness", "contrast", "saturation", "hue", "crop", "jpeg")
    assert {name: getattr(data, name) for name in names if getattr(data, name)} == pytest.approx(fields)


def test_faster_rcnn_has_no_masks(tmp_path):
    assert config_of(tmp_path, FASTER).model.mask is None
    assert config_of(tmp_path, changed("number_of_stages: 3", "number_of_stages: 2")).model.mask is None


def test_a_file_with_the_model_alone(tmp_path):
    pipeline = read(tmp_path, MASK[: MASK.index("train_config")])
    assert pipeline.train_data is pipeline.val_data is None
    assert "there is no train_config" in pipeline.notes[0]


def test_numbers_as_protobuf_writes_them(tmp_path):
    text = changed("mask_type: PNG_MASKS", "mask_type: 2", changed("score_converter: SOFTMAX", "score_converter: 2"))
    text = changed("num_steps: 10", "num_steps: 045 gradient_clipping_by_norm: -1", text)
    pipeline = read(tmp_path, changed("{ op: FC }", "{ op: 2 }", text))
    assert (pipeline.train_data.mask_type, pipeline.steps) == ("PNG_MASKS", 37)
    assert pipeline.config.train.clip_norm == 0.0  # off, as in the API


def test_two_flips_are_one_after_the_other(tmp_path):
    flip = "data_augmentation_options { random_horizontal_flip { probability: 0.3 } }"
    hue = "data_augmentation_options { random_adjust_hue { } }"
    pipeline = read(tmp_path, changed("num_steps: 10", f"{flip} {flip} {hue}\n {hue}"))
    assert pipeline.config.data.horizontal_flip == pytest.approx(0.3 * 0.7 * 2)
    assert any("line 26: random_adjust_hue: is there more than once; here the last" in note for note in pipeline.notes)


@pytest.mark.parametrize("name", ["a.pbtxt", "a.CONFIG", "a.txt", "a"])
def test_a_pipeline_is_known_by_its_first_field(tmp_path, name):
    assert looks_like_pipeline(write(tmp_path, MASK, name))
    (tmp_path / "map.pbtxt").write_text("item { id: 1 name: 'model { }' }")
    (tmp_path / "c.yaml").write_text("model: {}")
    assert not looks_like_pipeline(tmp_path / "map.pbtxt")
    assert not looks_like_pipeline(tmp_path / "c.yaml")
    assert not looks_like_pipeline(tmp_path)
    assert not looks_like_pipeline("https://x.org/a\0b")


def test_paths_and_checkpoint(tmp_path):
    text = changed('"train.record"', '["a-*", "b.record"]')
    text = changed("num_steps: 10", "fine_tune_checkpoint: 'model.ckpt' from_detection_checkpoint: true", text)
    pipeline = read(tmp_path, text)
    assert pipeline.train_data.paths == ("a-*", "b.record")
    assert (pipeline.train_data.label_map, pipeline.val_data.paths) == ("label_map.pbtxt", ("val.record",))
    assert (pipeline.fine_tune_checkpoint, pipeline.checkpoint_type) == ("model.ckpt", "detection")


def notes(tmp_path, old, new):
    return read(tmp_path, changed(old, new)).notes


def test_what_a_checkpoint_gives_is_noted(tmp_path):
    checkpoint = "num_steps: 10 fine_tune_checkpoint: 'm'"
    (note,) = notes(tmp_path, "num_steps: 10", checkpoint)
    assert note.startswith("line 25: fine_tune_checkpoint: of a classifier the trunk is taken, but of a detector every")
    (note,) = notes(tmp_path, "num_steps: 10", f"{checkpoint}\nfine_tune_checkpoint_type: 'detection'")
    assert note.startswith("line 26: fine_tune_checkpoint_type: every tensor that fits is taken here")
    whole = "from_detection_checkpoint: true load_all_detection_checkpoint_vars: true"
    assert notes(tmp_path, "num_steps: 10", f"{checkpoint} {whole}") == []
    assert notes(tmp_path, "num_steps: 10", "num_steps: 10 from_detection_checkpoint: true") == []


def test_averaged_weights_are_noted(tmp_path):
    (note,) = notes(tmp_path, "use_moving_average: false", "moving_average_decay: 0.99")
    assert "use_moving_average (true where it is not given): the averaged weights are measured and saved" in note
    assert "rises to 0.99 as (1 + t) / (10 + t)" in note


# ---------------------------------------------------------------- what is ignored


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("batch_size: 1", "batch_size: 1\nstartup_delay_steps: 0", "startup_delay_steps: processes are started by"),
        ("batch_size: 1", "batch_size: 1 freeze_variables: 'Conv'", "freeze_variables: model.backbone.frozen_stages"),
        ("batch_size: 1", "batch_size: 1 data_augmentation_options { random_rotation90 { } }",
         "random_rotation90: an augmentation without a counterpart; data.rotation is the nearest"),
        ("eval_config { }", "eval_config { metrics_set: 'pascal_voc_detection_metrics' }",
         "metrics_set pascal_voc_detection_metrics: COCO's box and mask measures"),
        ("eval_config { }", "eval_config { } eval_input_reader { }", "eval_input_reader: the first one is measured"),
        ("eval_config { }", "graph_rewriter { quantization { delay: 1 } }", "graph_rewriter: quantisation is done by"),
        ("num_classes: 3", "num_classes: 3 hard_example_miner { }", "hard_example_miner: hard examples are not mined"),
    ],
)  # fmt: skip
def test_ignored_fields_are_listed_with_their_line(tmp_path, old, new, sentence):
    text = changed(old, new)
    name = sentence.partition(":")[0].split()[0]
    line = text[: text.rindex(name)].count("\n") + 1
    assert len(ignored := read(tmp_path, text).ignored) == 1
    assert ignored[0].startswith(f"line {line}: {sentence}")


def test_what_says_the_default_is_not_listed(tmp_path):
    assert read(tmp_path, changed("num_classes: 3", "num_classes: 3 use_static_shapes: false")).ignored == []


# ---------------------------------------------------------------- mistakes

MISTAKES = [
    ("nms_iou", "initial_crop_size: 14", "initial_crop_size: 14\n    first_stage_nms_iou_treshold: 0.7",
     r":13: unknown field 'first_stage_nms_iou_treshold' in model\.faster_rcnn, did you mean "
     r"'first_stage_nms_iou_threshold'\?"),
    ("top", "eval_config { }", "evaluation { }", r"unknown field 'evaluation'"),
    ("bracket", "score_converter: SOFTMAX }", "score_converter: SOFTMAX",
     r":3: the file ends inside 'model': a bracket is not closed, perhaps that of 'second_stage_post_processing'"),
    ("type", "num_classes: 3", "num_classes: 'three'",
     r':5: model\.faster_rcnn\.num_classes: "three" is not a whole number'),
    ("bool", "predict_instance_masks: true", "predict_instance_masks: yes", "yes is not true or false"),
    ("string", "'faster_rcnn_inception_v2'", "faster_rcnn_inception_v2", "is not a string; put it into quotes"),
    ("enum", "PNG_MASKS", "PNG_MASK", "is not one of DEFAULT, NUMERICAL_MASKS, PNG_MASKS, did you mean 'PNG_MASKS'"),
    ("message", "num_classes: 3", "num_classes { }", "num_classes must be a value .a whole number. here"),
    ("scalar", "eval_config { }", "eval_config: 3", "eval_config must be a message"),
    ("twice", "num_classes: 3", "num_classes: 3 num_classes: 4", "num_classes is there twice, first in line 5"),
    ("both", "keep_aspect_ratio_resizer {", "fixed_shape_resizer { } keep_aspect_ratio_resizer {",
     r"image_resizer has fixed_shape_resizer \(line 6\) and keep_aspect_ratio_resizer; only one"),
    ("ssd", "faster_rcnn {", "ssd {", r"unknown field|model\.ssd: another kind of model; maskrcnn reads faster_rcnn"),
    ("extractor", "'faster_rcnn_inception_v2'", "'faster_rcnn_inception_v3'",
     r":7: model\.faster_rcnn\.feature_extractor\.type 'faster_rcnn_inception_v3' is not a feature extractor known "
     r"here, did you mean 'faster_rcnn_inception_v2'\?; known: faster_rcnn_inception_v2, faster_rcnn_resnet50, "),
    ("stride", "'faster_rcnn_inception_v2'", "'faster_rcnn_inception_v2' first_stage_features_stride: 8",
     "first_stage_features_stride 8 is not possible with faster_rcnn_inception_v2; 16 is"),
    ("anchors", "{ scales:", "{ height_stride: 8 scales:", "height_stride 8 must be first_stage_features_stride"),
    ("scales", "scales: [0.25, 0.5]", "", "scales must be a list of positive numbers"),
    ("offset", "{ scales:", "{ height_offset: 8 scales:", "height_offset 8 is not supported; 0 is"),
    ("classes", "num_classes: 3", "", "num_classes must be at least 1, it is 0"),
    ("crop", "initial_crop_size: 14", "", "initial_crop_size must be at least 1, it is 0"),
    ("stages", "number_of_stages: 3", "number_of_stages: 1", "number_of_stages 1 is not supported; 2 is Faster R-CNN"),
    ("converter", "score_converter: SOFTMAX", "", "score_converter is IDENTITY; .* write SOFTMAX"),
    ("soft nms", "batch_non_max_suppression { }", "batch_non_max_suppression { soft_nms_sigma: 0.5 }",
     r"soft_nms_sigma 0\.5 is not supported; 0\.0 is"),
    ("loss", "num_classes: 3", "num_classes: 3 second_stage_classification_loss { weighted_sigmoid { } }",
     "weighted_sigmoid: must be weighted_softmax"),
    ("rfcn", "mask_rcnn_box_predictor { fc", "rfcn_box_predictor { fc", "R-FCN is another model"),
    ("square", "predict_instance_masks: true", "predict_instance_masks: true mask_width: 33",
     "mask_width 33 must be mask_height, which is 15"),
    ("norm", "conv_hyperparams { }", "conv_hyperparams { batch_norm { } }", "batch_norm: the layers of the heads have"),
    ("resizer", "keep_aspect_ratio_resizer { min_dimension: 96 max_dimension: 128 }", "", "image_resizer must hold"),
    ("identity", "keep_aspect_ratio_resizer { min_dimension: 96 max_dimension: 128 }", "identity_resizer { }",
     "identity_resizer: must be keep_aspect_ratio_resizer or fixed_shape_resizer"),
    ("range", "initial_crop_size: 14", "initial_crop_size: 14 first_stage_box_predictor_kernel_size: 2",
     r":12: model\.faster_rcnn\.first_stage_box_predictor_kernel_size \(model\.rpn\.kernel: 2 must be odd\)"),
    ("metric", "eval_config { }", "eval_config { metrics_set: 'coco_masks_metrics' }",
     "is not a set of metrics, did you mean 'coco_mask_metrics'"),
    ("checkpoint", "num_steps: 10", "fine_tune_checkpoint_type: 'detections'", "is not one of detection, "),
    ("chance", "num_steps: 10", "data_augmentation_options { random_horizontal_flip { probability: 2 } }",
     r"probability 2\.0 must lie between 0 and 1"),
    ("batch", "batch_size: 1", "batch_size: 0", "train_config.batch_size 0 must be at least 1"),
    ("schedule", "constant_learning_rate { learning_rate: 0.001 }", "", "learning_rate says no schedule"),
    ("steps", "constant_learning_rate { learning_rate: 0.001 }",
     "manual_step_learning_rate { schedule { step: 5 } schedule { step: 5 } }", "step 5 must be greater than"),
    ("cosine", "constant_learning_rate { learning_rate: 0.001 }", "cosine_decay_learning_rate { total_steps: 9 }",
     "total_steps 9 must not be less than warmup_steps"),
    ("octal", "num_steps: 10", "num_steps: 089", "num_steps: 089 is not a whole number"),
    ("bits", "num_steps: 10", "num_steps: 5000000000", r":25: .*num_steps: 5000000000 does not fit into 32 bits"),
    ("negative", "num_steps: 10", "num_steps: -5", r":25: train_config\.num_steps -5 must not be negative"),
    ("decay", "constant_learning_rate { learning_rate: 0.001 }", "exponential_decay_learning_rate { decay_steps: 0 }",
     r":22: .*exponential_decay_learning_rate\.decay_steps 0 must be positive"),
    ("factor", "constant_learning_rate { learning_rate: 0.001 }",
     "exponential_decay_learning_rate { decay_factor: 1.5 }", r":22: .*decay_factor 1\.5 must lie in \(0, 1\]"),
    ("rate", "constant_learning_rate { learning_rate: 0.001 }",
     "manual_step_learning_rate { initial_learning_rate: 0 }", r":22: .*initial_learning_rate 0\.0 must be positive"),
    ("average", "use_moving_average: false", "moving_average_decay: 1.5",
     r":23: .*optimizer\.moving_average_decay 1\.5 must lie in \[0, 1\)"),
    ("momentum", "momentum_optimizer {", "momentum_optimizer { momentum_optimizer_value: 1.0",
     r":22: .*momentum_optimizer_value 1\.0 must lie in \[0, 1\)"),
    ("hue", "num_steps: 10", "data_augmentation_options { random_adjust_hue { max_delta: 0.9 } }",
     r":25: .*random_adjust_hue\.max_delta 0\.9 must lie between 0 and 0\.5"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), [case[1:] for case in MISTAKES], ids=[case[0] for case in MISTAKES])
def test_mistakes_name_file_line_and_remedy(tmp_path, old, new, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, changed(old, new))
    assert str(caught.value).startswith(f"{tmp_path / 'pipeline.config'}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["ssd", "center_net", "experimental_model"])
def test_other_models_are_refused_by_name(tmp_path, name):
    with pytest.raises(ConfigError, match=rf":2: model\.{name}: another kind of model; maskrcnn reads faster_rcnn"):
        read(tmp_path, f"model {{\n{name} {{ num_classes: 90 anything {{ at: all }} }} }}")


def test_files_that_are_something_else(tmp_path):
    with pytest.raises(ConfigError, match="is this a pipeline"):
        read(tmp_path, "")
    with pytest.raises(ConfigError, match="unknown field 'item'"):
        read(tmp_path, "item { id: 1 }")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_pipeline(tmp_path / "none.config")
