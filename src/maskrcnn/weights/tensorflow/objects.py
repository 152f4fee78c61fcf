"""The object graph of a TF2 checkpoint: which name a variable had in the program, and which belong to an optimiser.

Source: tensorflow/core/protobuf/trackable_object_graph.proto.
"""

from __future__ import annotations

from dataclasses import dataclass

from maskrcnn.data.formats.example import Damaged, message_parts
from maskrcnn.weights.tensorflow.wire import integer, parts_of, text

GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
# Children of the checkpoint's root that are no part of a model: tf.train.Checkpoint(step=, model=, optimizer=) and
# what CheckpointManager adds.
_BESIDE = ("optimizer", "_optimizer", "save_counter", "step", "global_step", "epoch")
_MOST_OBJECTS = 1 << 20


@dataclass(frozen=True, slots=True)
class ObjectGraph:
    """What the graph says of the keys of a checkpoint.

    Attributes:
        full_names: key -> name of the variable in the program, "conv2d/kernel".
        slots: keys of an optimiser's variables.
    """

    full_names: dict[str, str]
    slots: frozenset[str]


def read_objects(content: bytes) -> ObjectGraph:
    """From a TrackableObjectGraph: nodes = 1 {attributes = 2 {full_name = 2, checkpoint_key = 3}, slot_variables = 3}.

    Raises:
        Damaged: not such a message.
    """
    full_names: dict[str, str] = {}
    keys_of_node: list[list[str]] = []
    slot_nodes: set[int] = set()
    for node in message_parts(content, 0, len(content)):
        if node.number != 1:
            continue
        keys = []
        for part in parts_of(content, node):
            if part.number not in (2, 3):
                continue
            fields = {field.number: field for field in parts_of(content, part)}
            if part.number == 2 and 3 in fields:
                key = text(content, fields[3])
                keys.append(key)
                full_names[key] = text(content, fields[2]) if 2 in fields else ""
            elif part.number == 3 and 3 in fields:
                slot_nodes.add(integer(content, fields[3]))
        keys_of_node.append(keys)
        if len(keys_of_node) > _MOST_OBJECTS:
            raise Damaged(f"more than {_MOST_OBJECTS} objects")
    slots = [key for node in slot_nodes if 0 <= node < len(keys_of_node) for key in keys_of_node[node]]
    return ObjectGraph(full_names, frozenset(slots))


def is_of_model(key: str, graph: ObjectGraph) -> bool:
    """Whether a key is a variable of the model, neither an optimiser's nor a counter."""
    if not key.endswith(VALUE) or key in graph.slots or "/.OPTIMIZER_SLOT/" in key:
        return False
    return key.partition("/")[0] not in _BESIDE
