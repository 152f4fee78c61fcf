"""One reader a file: `sniff(path) -> bool`, `read(path) -> Dataset`, and `LOOKS_FOR`, what it recognises, in words."""

from __future__ import annotations

from types import ModuleType

from maskrcnn.data.formats import (
    cityscapes,
    coco,
    cvat,
    label_png,
    labelme,
    mask_folder,
    pets,
    pets_species,
    png_objects,
    tar,
    tfrecord,
    via,
    voc,
    yolo,
)

# In the order in which they are tried.
FORMATS: dict[str, ModuleType] = {
    "tfrecord": tfrecord,
    "tar": tar,
    "coco": coco,
    "via": via,
    "cityscapes": cityscapes,
    "pets": pets,
    "pets_species": pets_species,
    "cvat": cvat,
    "labelme": labelme,
    "voc": voc,
    "yolo": yolo,
    "png_objects": png_objects,
    "label_png": label_png,
    "mask_folder": mask_folder,
}
