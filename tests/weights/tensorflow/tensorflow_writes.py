"""Small weight files as TensorFlow 2.15 writes them: `PYTHON tensorflow_writes.py FOLDER`; those in `files/` are its.

Not a test: it runs in a Python of its own that has TensorFlow.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
FLOATS = ("float16", "float32", "float64", "bfloat16")
TYPES = (*FLOATS, "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")


def values(kind: str = "float32") -> np.ndarray:
    return np.arange(6).reshape(3, 2) % (2 if kind == "bool" else 7)


def checkpoints(folder: Path) -> None:
    """tf1/model.ckpt-7: every type, strings, a variable in pieces, optimisers. v1/model.ckpt: the old form."""
    with tf.Graph().as_default():
        for kind in TYPES:
            v1.get_variable(f"type/{kind}", initializer=tf.cast(tf.constant(values(kind)), kind), use_resource=True)
        v1.get_variable("strings", initializer=tf.constant(["a", "", "länger"]), use_resource=True)
        v1.get_variable("scalar", initializer=np.float32(3.5))
        v1.get_variable("empty", initializer=np.zeros((0, 3), np.float32))
        rows = np.arange(600, dtype=np.float32).reshape(200, 3)
        v1.get_variable(
            "cut",
            shape=rows.shape,
            initializer=lambda shape, dtype, partition_info: tf.constant(
                rows[partition_info.var_offset[0] : partition_info.var_offset[0] + shape[0]], dtype
            ),
            partitioner=v1.fixed_size_partitioner(3, axis=0),
            use_resource=False,
        )
        w = v1.get_variable("w", initializer=np.array([1, 2, 3, 4], np.float32))
        v1.train.MomentumOptimizer(0.1, 0.9).minimize(tf.reduce_sum(w))
        with v1.variable_scope("OptimizeLoss"):
            v1.train.AdamOptimizer(0.1).minimize(tf.reduce_sum(w))
        v1.train.get_or_create_global_step()
        both = v1.train.Saver(), v1.train.Saver(var_list=[w], write_version=1)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            both[0].save(session, str(folder / "tf1" / "model.ckpt"), global_step=7, write_meta_graph=False)
            both[1].save(session, str(folder / "v1" / "model.ckpt"), write_meta_graph=False)


def graph(folder: Path) -> None:
    """frozen.pb: constants in every form that TensorFlow gives them."""
    with tf.Graph().as_default() as made:
        for kind in (*FLOATS, "int32", "int64", "bool"):
            filled = tf.constant(kind == "bool" or 1, kind, shape=(3, 2), name=f"filled/{kind}")  # one value
            array = values(kind).astype(tf.as_dtype(kind).as_numpy_dtype)
            whole = tf.constant(array, name=f"whole/{kind}")  # tensor_content
            tf.identity(filled, name=f"filled/{kind}/read")
            tf.identity(whole, name=f"whole/{kind}/read")
        tf.constant([1.0, 2.0], name="anchors")  # nobody's variable
        tf.identity(tf.constant(2.0, name="scalar"), name="scalar/read")
    definition = made.as_graph_def()
    for node in definition.node:  # one by one, as the Python API of old did
        if node.op == "Const" and node.name.startswith("whole/"):
            listed(node.attr["value"].tensor)
    (folder / "frozen_lists.pb").write_bytes(definition.SerializeToString())
    (folder / "frozen.pb").write_bytes(made.as_graph_def().SerializeToString())


def listed(tensor: Any) -> None:
    array = tf.make_ndarray(tensor)
    tensor.ClearField("tensor_content")
    flat = array.ravel()
    if array.dtype.itemsize == 2:
        tensor.half_val.extend(int(bits) for bits in flat.view(np.uint16))
    else:
        name = {"float32": "float", "float64": "double", "int32": "int", "int64": "int64", "bool": "bool"}
        getattr(tensor, f"{name[array.dtype.name]}_val")[:] = flat.tolist()


def objects(folder: Path) -> None:
    """object/ckpt-1: an object-based checkpoint with an optimiser. object_model: a SavedModel of TF2."""
    layers = [tf.keras.layers.Conv2D(4, 3, name="conv2d"), tf.keras.layers.BatchNormalization(name="bn", scale=False)]
    model = tf.keras.Sequential([tf.keras.layers.Input((8, 8, 3)), *layers])
    for number, weight in enumerate(model.weights):
        weight.assign(np.arange(weight.numpy().size, dtype=np.float32).reshape(weight.shape) + number)
    optimizer = tf.keras.optimizers.legacy.SGD(0.0, momentum=0.9)
    optimizer.apply_gradients([(tf.zeros_like(weight), weight) for weight in model.trainable_weights])
    checkpoint = tf.train.Checkpoint(step=tf.Variable(3, dtype=tf.int64), model=model, optimizer=optimizer)
    tf.train.CheckpointManager(checkpoint, str(folder / "object"), 3).save()
    module = tf.Module()
    module._model = model
    tf.saved_model.save(module, str(folder / "object_model"))


if __name__ == "__main__":
    out = Path(sys.argv[1])
    for name in ("tf1", "v1"):
        (out / name).mkdir(parents=True, exist_ok=True)
    graph(out)
    objects(out)
    v1.disable_eager_execution()
    checkpoints(out)
