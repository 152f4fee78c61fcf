"""A Faster R-CNN and a Mask R-CNN pipeline.config of our own, short, and how tests change them."""

from __future__ import annotations

from pathlib import Path

FASTER = """
# Cups.
model {
  faster_rcnn {
    num_classes: 3
    image_resizer { keep_aspect_ratio_resizer { min_dimension: 96 max_dimension: 128 } }
    feature_extractor { type: 'faster_rcnn_inception_v2' }
    first_stage_anchor_generator {
      grid_anchor_generator { scales: [0.25, 0.5] aspect_ratios: [0.5, 1.0, 2.0] }
    }
    first_stage_box_predictor_conv_hyperparams { regularizer { l2_regularizer { weight: 0.0 } } }
    initial_crop_size: 14
    maxpool_kernel_size: 2
    maxpool_stride: 2
    second_stage_box_predictor { mask_rcnn_box_predictor { fc_hyperparams { op: FC } } }
    second_stage_post_processing { batch_non_max_suppression { } score_converter: SOFTMAX }
  }
}
train_config {
  batch_size: 1
  optimizer {
    momentum_optimizer { learning_rate { constant_learning_rate { learning_rate: 0.001 } } }
    use_moving_average: false
  }
  num_steps: 10
}
train_input_reader {
  label_map_path: "label_map.pbtxt"
  tf_record_input_reader { input_path: "train.record" }
}
eval_config { }
eval_input_reader {
  label_map_path: "label_map.pbtxt"
  tf_record_input_reader { input_path: "val.record" }
}
"""
MASK = (
    FASTER.replace("num_classes: 3", "num_classes: 3 number_of_stages: 3")
    .replace("{ op: FC }", "{ op: FC } conv_hyperparams { } predict_instance_masks: true")
    .replace("tf_record_input_reader", "load_instance_masks: true mask_type: PNG_MASKS tf_record_input_reader")
)


def changed(old: str, new: str, text: str = MASK) -> str:
    """The text with one part replaced, which must be there."""
    assert old in text, old
    return text.replace(old, new)


def write(folder: Path, text: str, name: str = "pipeline.config") -> Path:
    """A file of that text."""
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file
