"""One reader a file: `sniff(path) -> bool`, `read(path) -> Dataset`, and `LOOKS_FOR`, what it recognises, in words."""

from __future__ import annotations

from types import ModuleType

from maskrcnn.data.formats import coco, png_objects, via

# In the order in which they are tried.
FORMATS: dict[str, ModuleType] = {"coco": coco, "via": via, "png_objects": png_objects}
