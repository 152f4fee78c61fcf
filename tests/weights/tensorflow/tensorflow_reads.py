"""Prints what TensorFlow finds in a checkpoint, as JSON: `PYTHON tensorflow_reads.py PREFIX`.

Not a test: it runs in a Python of its own that has TensorFlow.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf

prefix = sys.argv[1]
reader = tf.train.load_checkpoint(prefix)
found = {}
for name in reader.get_variable_to_shape_map():
    array = reader.get_tensor(name)
    found[name] = [array.dtype.name, list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
print(json.dumps({"latest": tf.train.latest_checkpoint(Path(prefix).parent), "variables": found}))
