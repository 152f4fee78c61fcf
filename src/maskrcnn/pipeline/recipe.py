"""A Faster R-CNN `pipeline.config` turned into a Mask R-CNN one: the six steps of the API's guide to instance masks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maskrcnn.pipeline.edit import form, load_masks, message_at, put, readers, set_paths, with_classes
from maskrcnn.pipeline.messages import SCHEMA
from maskrcnn.pipeline.model import EXTRACTORS, PREDICTOR, RCNN
from maskrcnn.pipeline.read import OUR_METRICS, from_message, load_pipeline
from maskrcnn.pipeline.schema import View
from maskrcnn.pipeline.values import value
from maskrcnn.pipeline.write import CONV, FORM
from maskrcnn.text_proto import Message

WEIGHT = 4.0
"""Of the mask loss in the four published configs; the API's default is 1."""


@dataclass(frozen=True)
class Step:
    """One step of the recipe: what was done, and why."""

    number: int
    done: str
    why: str

    def __str__(self) -> str:
        return f"{self.number}. {self.done}: {self.why}"


def add_masks(
    path: str | Path,
    *,
    mask_type: str = "PNG_MASKS",
    classes: int | None = None,
    train: Sequence[str] = (),
    val: Sequence[str] = (),
    label_map: str = "",
    checkpoint: str = "",
) -> tuple[Message, list[Step]]:
    """Do the six steps.

    Args:
        path: a pipeline.config, usually of Faster R-CNN; of one with masks, what is missing is added.
        mask_type: how the records hold masks: PNG_MASKS or NUMERICAL_MASKS.
        classes: number of classes, in place of the file's.
        train, val, label_map, checkpoint: paths for the sixth step.

    Returns:
        The new file, which `read_pipeline` accepts, and the steps.

    Raises:
        ConfigError: the file is wrong, or of another model.
    """
    path = Path(path)
    message = with_classes(copy.deepcopy(load_pipeline(path)), classes)
    rcnn = View(message, "Pipeline", SCHEMA, path).part("model").part("faster_rcnn")
    steps = [_read_masks(message, mask_type)]
    if rcnn.present:  # or else reading it back says what model it is
        steps += [_predictor(message, rcnn), _head(message, rcnn), _stages(message, rcnn)]
    steps += [_metrics(message), _paths(message, train, val, label_map, checkpoint)]
    from_message(message, path)
    return message, steps


def _read_masks(message: Message, mask_type: str) -> Step:
    load_masks(message, mask_type)
    done = f"load_instance_masks: true and mask_type: {mask_type} in train_input_reader and eval_input_reader"
    return Step(1, done, "readers leave the masks in the records unless they are asked for them")


def _predictor(message: Message, rcnn: View) -> Step:
    predictor = message.part("model").part("faster_rcnn").part("second_stage_box_predictor")
    why = "it is the only predictor with a mask branch"
    if predictor.first("mask_rcnn_box_predictor"):
        return Step(2, "second_stage_box_predictor is a mask_rcnn_box_predictor already", why)
    old = predictor.entries[0].name if predictor.entries else "nothing"
    predictor_form = message_at(form(FORM), RCNN + "second_stage_box_predictor.mask_rcnn_box_predictor")
    predictor.entries = []
    predictor.put("mask_rcnn_box_predictor", predictor_form or Message())
    extractor = EXTRACTORS.get(rcnn.part("feature_extractor").get("type"))
    crop = extractor.crop if extractor else (14, 2, 2)
    for field, size in zip(("initial_crop_size", "maxpool_kernel_size", "maxpool_stride"), crop, strict=True):
        if not rcnn.has(field):
            put(message, RCNN + field, value(size))
    return Step(2, f"mask_rcnn_box_predictor in place of {old}", why)


def _head(message: Message, rcnn: View) -> Step:
    put(message, PREDICTOR + "predict_instance_masks", value(True))
    if message_at(message, PREDICTOR + "conv_hyperparams") is None:
        put(message, PREDICTOR + "conv_hyperparams", form(CONV))
    head = message_at(message, PREDICTOR.rstrip(".")) or Message()
    fine = rcnn.part("feature_extractor").get("first_stage_features_stride") == 8 or "resnet_v2" in str(
        rcnn.part("feature_extractor").get("type")
    )
    sizes = {
        "mask_height": 33 if fine else 15,
        "mask_width": 33 if fine else 15,
        "mask_prediction_conv_depth": 0,
        "mask_prediction_num_conv_layers": 4 if fine else 2,
    }
    for field, size in sizes.items():
        if head.first(field) is None:
            head.put(field, value(size))
    shown = " ".join(
        str(entry.value.text) for name in sizes for entry in head.all(name) if not isinstance(entry.value, Message)
    )
    return Step(
        3,
        f"predict_instance_masks: true with conv_hyperparams; height, width, depth and layers of the branch: {shown}",
        "the branch is made of convolutions, which need settings of their own; depth 0 chooses it from the classes",
    )


def _stages(message: Message, rcnn: View) -> Step:
    put(message, RCNN + "number_of_stages", value(3))
    done = "number_of_stages: 3"
    if not rcnn.has("second_stage_mask_prediction_loss_weight"):
        put(message, RCNN + "second_stage_mask_prediction_loss_weight", value(WEIGHT))
        done += f", and second_stage_mask_prediction_loss_weight: {WEIGHT:g} as in the published configs"
    return Step(4, done, "proposals and boxes are two stages, masks on the refined boxes the third")


def _metrics(message: Message) -> Step:
    evaluation = message.part("eval_config")
    old = [entry.value for entry in evaluation.all("metrics_set")]
    names = [entry.text for entry in old if not isinstance(entry, Message)]
    wanted = [name for name in OUR_METRICS if name not in names]
    evaluation.put("metrics_set", *old, *map(value, wanted))
    done = f"metrics_set: {', '.join([*names, *wanted])}"
    return Step(5, done, "without coco_mask_metrics only boxes are measured")


def _paths(message: Message, train: Sequence[str], val: Sequence[str], label_map: str, checkpoint: str) -> Step:
    set_paths(message, train=train, val=val, label_map=label_map, checkpoint=checkpoint)
    given = {"--train-records": train, "--val-records": val, "--label-map": label_map}
    missing = [option for option, paths in given.items() if not paths]
    shown = {
        name: [
            entry.value.text
            for reader in readers(message, name)
            for entry in reader.part("tf_record_input_reader").all("input_path")
            if not isinstance(entry.value, Message)
        ]
        for name in ("train_input_reader", "eval_input_reader")
    }
    now = "; ".join(f"{name}: {', '.join(paths) or 'none'}" for name, paths in shown.items())
    rest = f" ({', '.join(missing)} would change {'it' if len(missing) == 1 else 'them'})" if missing else ""
    return Step(6, f"input_path of {now}{rest}", "the records must be those that hold masks")
