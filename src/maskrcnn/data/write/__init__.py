"""One writer a file: `write(dataset, folder, ...)`, and `CANNOT_HOLD`, what the format has no place for, in words.

A writer fills a folder that is there and empty. What it has to leave out or change it counts in its argument `lost`.
"""

from __future__ import annotations

from types import ModuleType

from maskrcnn.data.write import coco, labelme, png, tar, tfrecord, voc, yolo

WRITERS: dict[str, ModuleType] = {
    "coco": coco,
    "tfrecord": tfrecord,
    "yolo": yolo,
    "labelme": labelme,
    "voc": voc,
    "png": png,
    "tar": tar,
}
