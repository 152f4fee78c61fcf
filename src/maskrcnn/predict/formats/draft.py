"""`Instances` -> a labelme file for people to correct, which is never written over once they have."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

from maskrcnn.data.write import labelme
from maskrcnn.instances import Instances
from maskrcnn.predict.formats.records import drawn, to_record
from maskrcnn.predict.whole import write_whole

MARK = "maskrcnn"
"""Member of the file with the hash of the shapes as they were written; labelme keeps members that it does not know."""


def write(instances: Instances, image: Path, file: Path) -> Path | None:
    """`file`, or None where it is there with corrections: then it stays, and a warning says so.

    Args:
        instances: original frame; their scores become descriptions.
        image: file beside it.
    """
    if file.exists() and _is_corrected(file):
        warnings.warn(f"{file}: has been corrected and is kept; delete it to have it written anew", stacklevel=2)
        return None
    instances = drawn(instances)
    record = to_record(instances, image, outlines=True)
    told = [f"{score:.3f}" for score in instances.scores.tolist()]
    content = labelme.page(record, image.name, list(range(len(record))), list(instances.classes), told)
    content[MARK] = _hash(content["shapes"])
    return write_whole(file, lambda stream: stream.write(json.dumps(content, indent=1).encode()))


def _is_corrected(file: Path) -> bool:
    try:
        content = json.loads(file.read_bytes())
        return content.get(MARK) != _hash(content["shapes"])
    except (OSError, ValueError, AttributeError, KeyError):
        return True  # somebody's in any case


def _hash(shapes: Any) -> str:
    return hashlib.sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest()
