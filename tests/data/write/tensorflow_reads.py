"""Run by a Python that has tensorflow: decodes shards with TensorFlow's own parser and prints what it found, as JSON.

Arguments: "png" or "numerical", then the shards.
"""

from __future__ import annotations

import hashlib
import json
import sys

import tensorflow as tf

SIDES = [f"image/object/bbox/{side}" for side in ("ymin", "xmin", "ymax", "xmax")]


def features(kind: str) -> dict:
    mask = tf.string if kind == "png" else tf.float32
    return {
        "image/encoded": tf.io.FixedLenFeature((), tf.string),
        "image/format": tf.io.FixedLenFeature((), tf.string),
        "image/filename": tf.io.FixedLenFeature((), tf.string),
        "image/source_id": tf.io.FixedLenFeature((), tf.string),
        "image/key/sha256": tf.io.FixedLenFeature((), tf.string),
        "image/height": tf.io.FixedLenFeature((), tf.int64),
        "image/width": tf.io.FixedLenFeature((), tf.int64),
        **{side: tf.io.VarLenFeature(tf.float32) for side in SIDES},
        "image/object/class/text": tf.io.VarLenFeature(tf.string),
        "image/object/class/label": tf.io.VarLenFeature(tf.int64),
        "image/object/is_crowd": tf.io.VarLenFeature(tf.int64),
        "image/object/area": tf.io.VarLenFeature(tf.float32),
        "image/object/mask": tf.io.VarLenFeature(mask),
    }


def image(example: dict, kind: str) -> dict:
    pixels = tf.io.decode_image(example["image/encoded"], channels=3).numpy()
    height, width = int(example["image/height"]), int(example["image/width"])
    assert pixels.shape == (height, width, 3)
    stored = example["image/object/mask"].values
    if kind == "png":
        masks = [tf.io.decode_png(one, channels=1).numpy()[..., 0] > 0 for one in stored]
    else:
        masks = list(tf.reshape(stored, (-1, height, width)).numpy() > 0)  # as the API's decoder does
    return {
        "id": int(example["image/source_id"].numpy()),
        "filename": example["image/filename"].numpy().decode(),
        "format": example["image/format"].numpy().decode(),
        "sha256": example["image/key/sha256"].numpy().decode(),
        "pixels": hashlib.sha256(pixels.tobytes()).hexdigest(),
        "size": [height, width],
        "boxes": [list(map(float, row)) for row in zip(*(example[side].values.numpy() for side in SIDES), strict=True)],
        "texts": [text.decode() for text in example["image/object/class/text"].values.numpy()],
        "labels": example["image/object/class/label"].values.numpy().tolist(),
        "crowd": example["image/object/is_crowd"].values.numpy().tolist(),
        "areas": example["image/object/area"].values.numpy().tolist(),
        "masks": [hashlib.sha256(mask.tobytes()).hexdigest() for mask in masks],
        "shapes": [list(mask.shape) for mask in masks],
    }


if __name__ == "__main__":
    records = tf.data.TFRecordDataset(sys.argv[2:])
    examples = (tf.io.parse_single_example(record, features(sys.argv[1])) for record in records)
    print(json.dumps([image(example, sys.argv[1]) for example in examples]))
