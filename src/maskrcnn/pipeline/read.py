"""`pipeline.config` of the TensorFlow Object Detection API -> our `Config`, its data, and what was left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrcnn.config import Config
from maskrcnn.errors import ConfigError
from maskrcnn.fields import nearest
from maskrcnn.pipeline.augment import read_augmentation
from maskrcnn.pipeline.edit import with_classes
from maskrcnn.pipeline.messages import SCHEMA
from maskrcnn.pipeline.model import SIMPLE, at, has_masks, number_of_classes, read_model, read_resizer
from maskrcnn.pipeline.schedule import read_optimizer
from maskrcnn.pipeline.schema import NOT_NEGATIVE, View, check, check_supported, ignored, load
from maskrcnn.presets import preset
from maskrcnn.text_proto import Message

BASE = "mask_rcnn_inception_v2_coco"
"""The preset whose conventions are the API's; every number that a pipeline.config can say is put in its place."""
OUR_METRICS = ("coco_detection_metrics", "coco_mask_metrics")
METRICS = (
    *OUR_METRICS,
    *("coco_keypoint_metrics", "coco_panoptic_metrics", "lvis_mask_metrics", "pascal_voc_detection_metrics"),
    *("weighted_pascal_voc_detection_metrics", "pascal_voc_instance_segmentation_metrics"),
    *("weighted_pascal_voc_instance_segmentation_metrics", "oid_V2_detection_metrics"),
    *("oid_challenge_detection_metrics", "oid_challenge_segmentation_metrics"),
    *("pascal_voc_metrics", "weighted_pascal_voc_metrics", "open_images_metrics"),  # of its first releases
    *("open_images_V2_detection_metrics", "open_images_detection_metrics", "precision_at_recall_detection_metrics"),
)
OTHERS = (".yaml", ".yml", ".json")
BEGINS = re.compile(
    r"(\s|#[^\n]*\n)*(model|train_config|train_input_reader|eval_config|eval_input_reader|graph_rewriter)\s*:?\s*[{<]"
)
CHECKPOINT_TYPES = ("", "detection", "classification", "full", "fine_tune")


@dataclass(frozen=True)
class Reader:
    """What an input reader reads.

    Attributes:
        paths: records, patterns of shards among them, as in the file.
        label_map: path of the label map, as in the file.
        masks: `load_instance_masks`.
        mask_type: NUMERICAL_MASKS or PNG_MASKS; our reader sees by itself which of them the records hold.
        field: dotted name of the message.
        lines: line of each field that the file gives, and of the message (key "").
    """

    paths: tuple[str, ...]
    label_map: str
    masks: bool
    mask_type: str
    field: str
    lines: dict[str, int]


@dataclass(frozen=True)
class Pipeline:
    """A pipeline.config, read.

    Attributes:
        path: the file.
        config: model, data and schedule; `model.mask` None for Faster R-CNN.
        num_classes: `num_classes`; ids of the label map go from 1 to this.
        train_data, val_data: the input readers; None where the file has none.
        fine_tune_checkpoint: path as in the file; "" for none.
        checkpoint_type: "detection", "classification", "full", "fine_tune", or "" where the file does not say.
        steps: `num_steps`; None for 0, which never ends.
        metrics: `metrics_set`.
        ignored: one sentence for each field without an effect here, with its lines.
        notes: one sentence for each field that means something slightly different here.
        message: the parsed file, for writing it again.
    """

    path: Path
    config: Config
    num_classes: int
    train_data: Reader | None
    val_data: Reader | None
    fine_tune_checkpoint: str
    checkpoint_type: str
    steps: int | None
    metrics: tuple[str, ...]
    ignored: list[str]
    notes: list[str]
    message: Message


def looks_like_pipeline(path: str | Path) -> bool:
    """Whether a path is named `.config` or is a text that begins as a pipeline.config does; never raises."""
    path = Path(path)
    try:
        if path.suffix == ".config" or path.suffix in OTHERS or not path.is_file():
            return path.suffix == ".config" and not path.is_dir()
        with path.open("rb") as stream:
            head = stream.read(1 << 14)
    except (OSError, ValueError):
        return False
    return bool(BEGINS.match(head.decode("utf-8-sig", "replace")))


def load_pipeline(path: str | Path) -> Message:
    """The parsed file with names and types checked, nothing else. Raises `ConfigError`."""
    return load(Path(path), SCHEMA, "Pipeline")


def read_pipeline(path: str | Path, *, classes: int | None = None) -> Pipeline:
    """Read a pipeline.config; `classes` in place of its num_classes, from which the mask head's depth may follow.

    Raises:
        ConfigError: not the format, an unknown field or value, another model than Faster or Mask R-CNN, or something
            that would change what it computes and cannot be followed. File, line and field are named.
    """
    return from_message(with_classes(load_pipeline(path), classes), Path(path))


def from_message(message: Message, path: Path) -> Pipeline:
    """The same from a parsed file, which `path` names in errors."""
    top = View(message, "Pipeline", SCHEMA, path)
    check(top)
    rcnn = _rcnn(top)
    check_supported(top)
    train = top.part("train_config")
    notes: list[str] = []
    changes = _simple(top, masks=has_masks(rcnn)) | read_model(rcnn) | read_resizer(rcnn)
    if train.present:
        changes |= _train(train, notes) | read_augmentation(train, notes)
    else:
        notes.append("there is no train_config: the schedule is that of the COCO configs")
    changes["train.learning_rate_batch"] = changes.get("train.batch_size", 1)
    if (decay := _weight_decay(rcnn, train, notes)) is not None:
        changes["train.weight_decay"] = decay
    metrics = _metrics(top)
    if "coco_mask_metrics" not in metrics and "coco_detection_metrics" in metrics and has_masks(rcnn):
        changes["train.monitor"] = "box"
    elif metrics == ("coco_mask_metrics",) and has_masks(rcnn):
        changes["train.monitor"] = "mask"
    readers = [_reader(view, f"eval_input_reader{i or ''}") for i, view in enumerate(top.parts("eval_input_reader"))]
    return Pipeline(
        path=path,
        config=_config(changes, top),
        num_classes=number_of_classes(rcnn),
        train_data=_reader(top.part("train_input_reader"), "train_input_reader")
        if top.has("train_input_reader")
        else None,
        val_data=readers[0] if readers else None,
        fine_tune_checkpoint=train.get("fine_tune_checkpoint"),
        checkpoint_type=_checkpoint_type(train),
        steps=train.get("num_steps") or None,
        metrics=metrics,
        ignored=list(_left_out(top)),
        notes=notes,
        message=message,
    )


def _rcnn(top: View) -> View:
    model = top.part("model")
    if not model.has("faster_rcnn"):
        check_supported(model)  # names the other kind of model
        raise ConfigError(f"{top.path}: has no model {{ faster_rcnn {{ ... }} }}; is this a pipeline.config?")
    return model.part("faster_rcnn")


def _simple(top: View, *, masks: bool) -> dict[str, Any]:
    changes = {}
    for ours, theirs in SIMPLE.items():
        if masks or not ours.startswith("model.mask."):
            view, leaf = at(top, theirs)
            changes[ours] = view.get(leaf)
    changes["train.clip_norm"] = max(0.0, changes["train.clip_norm"])  # there too, clipping is on above 0 alone
    return changes


def _config(changes: dict[str, Any], top: View) -> Config:
    """The config; its own checks get file and line where the field is one of theirs."""
    try:
        return preset(BASE).replace(**changes)
    except ConfigError as error:
        theirs = SIMPLE.get(error.field or "")
        if theirs is None:
            raise ConfigError(f"{top.path}: {error}") from error
        view, leaf = at(top, theirs)
        raise ConfigError(f"{top.path}:{view.line(leaf)}: {theirs} ({error})") from error


def _train(train: View, notes: list[str]) -> dict[str, Any]:
    if train.get("batch_size") < 1:
        raise train.error("batch_size", f"{train.get('batch_size')} must be at least 1")
    steps = train.within("num_steps", NOT_NEGATIVE)
    if not steps:
        notes.append("num_steps 0 trains for ever there; here train.epochs ends it (--train.steps N sets the length)")
    notes += _checkpoint_notes(train)
    changes = {"train.steps": steps or None, "train.precision": "bf16" if train.get("use_bfloat16") else "float32"}
    return changes | read_optimizer(train, notes)


def _weight_decay(rcnn: View, train: View, notes: list[str]) -> float | None:
    """L2 weights of the heads. There they stand for w / 2 * sum(x ** 2), as our decay does."""
    if train.present and not train.get("add_regularization_loss"):
        return 0.0
    weights = {}
    for name, view in hyperparams(rcnn):
        regularizer = view.part("regularizer")
        if regularizer.has("l1_regularizer") and regularizer.part("l1_regularizer").get("weight"):
            line = regularizer.line("l1_regularizer")
            notes.append(f"line {line}: {name}: an L1 regulariser has no counterpart here and is left out")
        if regularizer.has("l2_regularizer"):
            weights[name] = regularizer.part("l2_regularizer").get("weight")
    largest = max(weights.values(), default=0.0)
    if largest:
        differ = "" if len(set(weights.values())) == 1 else f", the largest of {', '.join(map(str, weights.values()))}"
        notes.append(f"weight decay {largest:g}{differ}: here the trunk decays too, there only the heads")
    return float(largest)


def hyperparams(rcnn: View) -> Iterator[tuple[str, View]]:
    """The three groups of layer settings, with their names."""
    yield "first_stage_box_predictor_conv_hyperparams", rcnn.part("first_stage_box_predictor_conv_hyperparams")
    head = rcnn.part("second_stage_box_predictor").part("mask_rcnn_box_predictor")
    yield "fc_hyperparams", head.part("fc_hyperparams")
    yield "conv_hyperparams", head.part("conv_hyperparams")


def _metrics(top: View) -> tuple[str, ...]:
    view = top.part("eval_config")
    names = tuple(view.get("metrics_set"))
    for name in names:
        if name not in METRICS:
            raise view.error("metrics_set", f'"{name}" is not a set of metrics{nearest(name, METRICS)}')
    return names


def _checkpoint_type(train: View) -> str:
    kind = train.get("fine_tune_checkpoint_type")
    if kind not in CHECKPOINT_TYPES:
        known = ", ".join(filter(None, CHECKPOINT_TYPES))
        raise train.error("fine_tune_checkpoint_type", f'"{kind}" is not one of {known}')
    if kind or not train.has("from_detection_checkpoint"):
        return str(kind)
    return "detection" if train.get("from_detection_checkpoint") else "classification"


def _checkpoint_notes(train: View) -> Iterator[str]:
    """Whatever the type says, what fits is taken; and the file itself says whether it is a detector."""
    kind = _checkpoint_type(train)
    if not train.get("fine_tune_checkpoint") or train.get("load_all_detection_checkpoint_vars") or kind == "full":
        return
    names = ("fine_tune_checkpoint_type", "from_detection_checkpoint", "fine_tune_checkpoint")
    name = next(name for name in names if train.has(name))
    sentence = {
        "detection": "every tensor that fits is taken here, those of RPN and heads too; there only those of the "
        "feature extractors are, without load_all_detection_checkpoint_vars",
        "fine_tune": "every tensor that fits is taken here, those of the heads too",
    }.get(kind, "of a classifier the trunk is taken, but of a detector every tensor that fits; there the trunk alone")
    yield f"line {train.line(name)}: {name}: {sentence}"


def _reader(view: View, name: str) -> Reader:
    records = view.part("tf_record_input_reader")
    lines = {field: view.line(field) for field in view.given()} | {"": view.line()}
    lines |= {"tf_record_input_reader.input_path": records.line("input_path")}
    return Reader(
        paths=tuple(records.get("input_path")),
        label_map=view.get("label_map_path"),
        masks=view.get("load_instance_masks"),
        mask_type=view.get("mask_type").replace("DEFAULT", "NUMERICAL_MASKS"),
        field=name,
        lines=lines,
    )


# ---------------------------------------------------------------- what is left out


def _left_out(top: View) -> Iterator[str]:
    """One sentence a field, fields of the same name and reason together."""
    found: dict[tuple[str, str], list[int]] = {}
    for name, line, reason in [*ignored(top), *_further(top)]:
        found.setdefault((name.rpartition(".")[2], reason), []).append(line)
    for (name, reason), lines in sorted(found.items(), key=lambda item: item[1]):
        numbers = list(dict.fromkeys(lines))
        yield f"line{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}: {name}: {reason}"


def _further(top: View) -> Iterator[tuple[str, int, str]]:
    """What the table of messages cannot say, because it depends on other fields."""
    evaluation, train, rcnn = top.part("eval_config"), top.part("train_config"), top.part("model").part("faster_rcnn")
    for entry in evaluation.message.all("metrics_set"):
        name = evaluation._value("metrics_set", entry.value)
        if name not in OUR_METRICS:
            yield f"metrics_set {name}", entry.line, "COCO's box and mask measures are computed"
    for view in top.parts("eval_input_reader")[1:]:
        yield "eval_input_reader", view.line(), "the first one is measured"
    if (
        evaluation.get("use_moving_averages")
        and train.present
        and not train.part("optimizer").get("use_moving_average")
    ):
        yield "use_moving_averages", evaluation.line("use_moving_averages"), "no average is made in training"
    head = rcnn.part("second_stage_box_predictor").part("mask_rcnn_box_predictor")
    if not has_masks(rcnn):
        for field in ("mask_height", "mask_width", "mask_prediction_num_conv_layers", "mask_prediction_conv_depth"):
            if head.has(field):
                yield (
                    field,
                    head.line(field),
                    "there are no masks without number_of_stages 3 and predict_instance_masks",
                )
