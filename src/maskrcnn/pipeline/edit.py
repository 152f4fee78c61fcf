"""Changes to a parsed `pipeline.config`: values by dotted name, masks read, paths, classes."""

from __future__ import annotations

from collections.abc import Sequence

from maskrcnn.pipeline.model import RCNN
from maskrcnn.pipeline.values import value, word
from maskrcnn.text_proto import Message, Scalar, parse


def put(message: Message, dotted: str, *values: Scalar | Message) -> None:
    """Set a field, making the messages on the way to it; no value removes it."""
    *parents, leaf = dotted.split(".")
    for parent in parents:
        message = message.part(parent)
    message.put(leaf, *values)


def message_at(message: Message, dotted: str) -> Message | None:
    """The message of that name; None where the file has none."""
    for name in dotted.split("."):
        entry = message.first(name)
        if entry is None or not isinstance(entry.value, Message):
            return None
        message = entry.value
    return message


def form(text: str) -> Message:
    """A text of ours to put in: its fields have no lines, because none of the user's file is theirs."""
    return _without_lines(parse(text))


def _without_lines(message: Message) -> Message:
    for entry in message.entries:
        entry.line = 0
        if isinstance(entry.value, Message):
            _without_lines(entry.value)
    return message


def readers(message: Message, name: str) -> list[Message]:
    """The `train_input_reader` or all of `eval_input_reader`; one is made where there is none."""
    message.part(name)
    return [entry.value for entry in message.all(name) if isinstance(entry.value, Message)]


def load_masks(message: Message, mask_type: str) -> None:
    """Have every reader load instance masks of this type."""
    for name in ("train_input_reader", "eval_input_reader"):
        for reader in readers(message, name):
            reader.put("load_instance_masks", value(True))
            reader.put("mask_type", word(mask_type))


def set_paths(
    message: Message,
    *,
    train: Sequence[str] = (),
    val: Sequence[str] = (),
    label_map: str = "",
    checkpoint: str = "",
) -> None:
    """Put the given paths in; what is empty stays as it is."""
    for name, paths in (("train_input_reader", train), ("eval_input_reader", val)):
        for reader in readers(message, name):
            if paths:
                reader.part("tf_record_input_reader").put("input_path", *map(value, paths))
            if label_map:
                reader.put("label_map_path", value(label_map))
    if checkpoint:
        put(message, "train_config.fine_tune_checkpoint", value(checkpoint))


def with_classes(message: Message, classes: int | None) -> Message:
    """The parsed file, with another number of classes unless that is None; changed in place."""
    if classes is not None and message_at(message, RCNN.rstrip(".")) is not None:
        put(message, RCNN + "num_classes", value(classes))
    return message
