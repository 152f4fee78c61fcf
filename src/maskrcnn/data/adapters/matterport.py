"""Data sets written as subclasses of Matterport's `Dataset`: the base class to subclass, and the way in.

Only the import changes, `mrcnn.utils.Dataset` to `maskrcnn.data.adapters.matterport.Dataset`; objects of the original
class are taken too. Their class 0 is the background, a negative class id is a crowd; here labels start at 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.data.formats.assemble import Found, Object, assemble
from maskrcnn.data.formats.layout import MOST_PIXELS
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.sample import image_size, load_image, load_record, opened
from maskrcnn.dataset import Dataset as Records
from maskrcnn.errors import DataError
from maskrcnn.ops.rle import window_to_rle
from maskrcnn.structures import RLE, Record

BACKGROUND = {"source": "", "id": 0, "name": "BG"}
EMPTY = "empty masks"
TURNED = "masks drawn on the photo as the camera stored it"


class Dataset:
    """Base class: subclasses call `add_class` and `add_image`, and override `load_mask`, perhaps `load_image`.

    Attributes:
        class_info: one {"source", "id", "name"} a class; the first is the background.
        image_info: one {"id", "source", "path", ...} an image, with whatever else `add_image` was given.
        source_class_ids: source -> its class ids here, the background included; after `prepare`.
        num_classes, class_ids, class_names, num_images, sources: after `prepare`; the background counts as a class.
    """

    def __init__(self, class_map: Any = None) -> None:
        """`class_map` is not used, as in the original."""
        self.class_info: list[dict[str, Any]] = [dict(BACKGROUND)]
        self.image_info: list[dict[str, Any]] = []
        self.source_class_ids: dict[str, list[int]] = {}
        self._image_ids = np.arange(0)

    # ------------------------------------------------------------ filling it

    def add_class(self, source: str, class_id: Any, class_name: str) -> None:
        """Make a class known; one that is there already (same source and id) stays as it is."""
        if "." in source:
            raise DataError(f"source {source!r} has a dot; use another character")
        if not any(info["source"] == source and info["id"] == class_id for info in self.class_info):
            self.class_info.append({"source": source, "id": class_id, "name": class_name})

    def add_image(self, source: str, image_id: Any, path: Any, **kwargs: Any) -> None:
        """Make an image known; `kwargs` are kept in its `image_info`, for `load_mask` and `load_image`."""
        self.image_info.append({"id": image_id, "source": source, "path": path, **kwargs})

    def append_data(self, class_info: Sequence[dict], image_info: Sequence[dict]) -> None:
        """Take over the classes and images of another data set, in its own form."""
        for info in class_info:
            if info["source"]:
                self.add_class(info["source"], info["id"], info["name"])
        self.image_info += [dict(info) for info in image_info]

    def prepare(self, class_map: Any = None) -> None:
        """Number classes and images; call it after the last `add_...`."""
        self.num_classes = len(self.class_info)
        self.class_ids = np.arange(self.num_classes)
        self.class_names = [str(info["name"]).split(",")[0] for info in self.class_info]
        self.num_images = len(self.image_info)
        self._image_ids = np.arange(self.num_images)
        self.class_from_source_map = {f"{c['source']}.{c['id']}": i for i, c in enumerate(self.class_info)}
        self.image_from_source_map = {f"{m['source']}.{m['id']}": i for i, m in enumerate(self.image_info)}
        self.sources = list(dict.fromkeys(info["source"] for info in self.class_info))
        self.source_class_ids = {
            source: [i for i, info in enumerate(self.class_info) if i == 0 or info["source"] == source]
            for source in self.sources
        }

    # ------------------------------------------------------------ asking it

    @property
    def image_ids(self) -> np.ndarray:
        """(I,) int64: 0, 1, 2 ... as in `image_info`; empty before `prepare`."""
        return self._image_ids

    def map_source_class_id(self, source_class_id: str) -> int:
        """ "source.id" -> class id here. Raises `KeyError` for an unknown one."""
        return self.class_from_source_map[source_class_id]

    def get_source_class_id(self, class_id: int, source: str) -> Any:
        """The id that `source` gave to a class. Raises `DataError` where the class is of another source."""
        info = self.class_info[class_id]
        if info["source"] != source:
            raise DataError(f"class {class_id} is of source {info['source']!r}, not {source!r}")
        return info["id"]

    def source_image_link(self, image_id: int) -> Any:
        """The path or address of an image."""
        return self.image_info[image_id]["path"]

    def image_reference(self, image_id: int) -> Any:
        """What to show a person for an image; override it."""
        return ""

    def load_image(self, image_id: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB, as a person sees it. Raises `DataError` where the file is no image."""
        path = self.image_info[image_id]["path"]
        if path is None:
            raise DataError("has no path; override load_image, or give add_image a path", image=image_id)
        return load_image(path).permute(1, 2, 0).contiguous().numpy()

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """(H, W, N) bool masks and (N,) int32 class ids from 1 on; override it. Here: no object."""
        return np.zeros((0, 0, 0), bool), np.zeros(0, np.int32)


# ---------------------------------------------------------------- from their form to ours


def from_matterport(dataset: Any, split: str = "") -> Records:
    """Images and objects of a Matterport-style data set; `load_mask` is called once for each image.

    Args:
        dataset: an object of our `Dataset`, of Matterport's, or of anything that behaves alike. `prepare` is called
            if it was not.
        split: "train", "val" or "test", for all its images.

    Returns:
        Masks as RLE; images as paths where `load_image` is not overridden, else made by it when they are needed.

    Raises:
        DataError: no image or no class; a mask of another size than its image, a class id out of range, a method that
            fails or gives something of another shape.
    """
    name = type(dataset).__name__
    for attribute in ("class_info", "image_info", "load_mask", "load_image"):
        if not hasattr(dataset, attribute):
            raise DataError(f"has no {attribute}; give an object of a subclass of Dataset", path=name)
    if not dataset.image_info:
        raise DataError("holds no image; call add_image, or the method that does, first", path=name)
    if len(dataset.class_info) < 2:
        raise DataError("has no class but the background; call add_class first", path=name)
    if len(getattr(dataset, "image_ids", ())) != len(dataset.image_info):
        dataset.prepare()
    skipped, classes = Skipped(), _classes(dataset.class_info)
    made = assemble(
        [_image(dataset, index, classes, split, skipped) for index in range(len(dataset.image_info))],
        path=Path(name),
        format="matterport",
        skipped=skipped,
        classes=classes,
        category_ids=_category_ids(dataset.class_info),
    )
    ids = _image_ids(dataset.image_info)
    return replace(made, records=[replace(record, image_id=i) for record, i in zip(made, ids, strict=True)])


def _classes(class_info: Sequence[dict]) -> list[str]:
    """Names without the background; those that two sources share get their source and id."""
    names = [str(info["name"]).split(",")[0] for info in class_info[1:]]
    shared = {name for name, count in Counter(names).items() if count > 1}
    return [
        f"{name} ({info['source']}.{info['id']})" if name in shared else name
        for name, info in zip(names, class_info[1:], strict=True)
    ]


def _category_ids(class_info: Sequence[dict]) -> list[int] | None:
    """The source's own ids where they are numbers and unique (COCO's); else None, for 1, 2, 3 ..."""
    return _numbers([info["id"] for info in class_info[1:]])


def _image_ids(image_info: Sequence[dict]) -> list[int]:
    """The source's own ids where they are numbers and unique; else the index that `load_mask` is called with."""
    return _numbers([info.get("id") for info in image_info]) or list(range(len(image_info)))


def _numbers(ids: list[Any]) -> list[int] | None:
    whole = [int(i) for i in ids if isinstance(i, (int, np.integer)) and not isinstance(i, bool) and 0 <= i < 1 << 62]
    return whole if len(whole) == len(ids) == len(set(whole)) else None


def _image(dataset: Any, index: int, classes: Sequence[str], split: str, skipped: Skipped) -> Found:
    info = dataset.image_info[index]
    path = info.get("path")
    named = isinstance(path, (str, Path)) and str(path) != ""
    where = Path(path) if named else Path(f"{info.get('source', '')}-{info.get('id', index)}")
    make = partial(_load_image, dataset, index) if _overridden(dataset) else None
    if make is None and not named:
        message = f"has path {path!r:.80}, and load_image is not overridden; override it, or give add_image a path"
        raise DataError(message, path=where, image=index)
    masks, class_ids = _load_mask(dataset, index, where)
    size = image_size(where) if make is None else _stated_size(info)
    if size is None or (make is not None and len(class_ids) and masks.shape[:2] != size):
        size = _made_size(make, where, index)  # the pixels decide
    if len(class_ids) and masks.shape[:2] != size:
        masks = _upright(masks, where, index, size, make is None, skipped)
    objects = []
    for number, (class_id, rle) in enumerate(zip(class_ids.tolist(), _encode(masks, size), strict=False)):
        if not 0 < abs(class_id) <= len(classes):
            message = f"class id {class_id} of object {number} is not one of 1 to {len(classes)}; mend load_mask"
            raise DataError(message, path=where, image=index)
        if rle is None:
            skipped.add(EMPTY, where, index, number, f"class id {class_id}")
        else:
            objects.append(Object(classes[abs(class_id) - 1], rle, crowd=class_id < 0))
    return Found(where, size, objects, split, make=make)


def _overridden(dataset: Any) -> bool:
    """Whether `load_image` is another than that of the class that has `add_image`: the base class, ours or theirs."""
    bases = [cls for cls in type(dataset).__mro__ if "add_image" in vars(cls)]
    if "load_image" in vars(dataset) or not bases:
        return True
    owner = next((cls for cls in type(dataset).__mro__ if "load_image" in vars(cls)), None)
    return owner is not bases[-1]


def _load_image(dataset: Any, index: int) -> Any:
    """What `Record.make` calls; at the top of the module, so that it can go to another process."""
    image = dataset.load_image(index)
    if isinstance(image, np.ndarray) and image.size and image.dtype.kind in "iuf" and image.dtype != np.uint8:
        low, high = image.min(), image.max()
        if low >= 0 and high <= 255 and (high > 1 or image.dtype.kind != "f"):
            return np.rint(image).astype(np.uint8)  # Matterport's model takes any type, in 0..255
    return image


def _stated_size(info: dict) -> tuple[int, int] | None:
    """(height, width) given to `add_image`, or None."""
    try:
        height, width = int(info["height"]), int(info["width"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return (height, width) if 0 < min(height, width) <= max(height, width) < MOST_PIXELS else None


def _made_size(make: Any, path: Path, index: int) -> tuple[int, int]:
    nothing = np.zeros(0)
    record = Record(path, index, 0, 0, nothing, nothing, (), nothing, nothing, nothing, make=make)
    height, width = load_record(record).shape[-2:]
    return int(height), int(width)


def _load_mask(dataset: Any, index: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, N) of any dtype, and (N,) int64 class ids."""
    try:
        masks, class_ids = dataset.load_mask(index)
        masks, class_ids = np.asarray(masks), np.asarray(class_ids)
    except Exception as error:
        message = f"load_mask failed ({type(error).__name__}: {error}); mend it"
        raise DataError(message, path=path, image=index) from error
    if masks.ndim != 3 or class_ids.ndim != 1 or masks.dtype.kind not in "biuf":
        message = (
            f"load_mask gave {masks.dtype} masks of shape {masks.shape} and class ids of shape {class_ids.shape}; "
            "give (H, W, N) bool and (N,) int32"
        )
        raise DataError(message, path=path, image=index)
    if masks.shape[2] != len(class_ids):
        message = f"load_mask gave {masks.shape[2]} masks and {len(class_ids)} class ids; give one for each"
        raise DataError(message, path=path, image=index)
    if len(class_ids) and (class_ids.dtype.kind not in "biuf" or not np.array_equal(class_ids, np.trunc(class_ids))):
        raise DataError(f"class ids {class_ids.tolist()} are not whole numbers", path=path, image=index)
    return masks, class_ids.astype(np.int64)


def _upright(
    masks: np.ndarray, path: Path, index: int, size: tuple[int, int], is_file: bool, skipped: Skipped
) -> np.ndarray:
    """Masks that were drawn on the stored pixels of a turned photo, turned as the photo is."""
    height, width = masks.shape[:2]
    turn = _exif_turn(path) if is_file and (width, height) == size else None
    if turn is None:
        message = f"load_mask gave masks of {width}x{height} for an image of {size[1]}x{size[0]}; make them equal"
        raise DataError(message, path=path, image=index)
    skipped.add(TURNED, path, index, None, f"{width}x{height} instead of {size[1]}x{size[0]}", verb="turned upright")
    turned = masks.swapaxes(0, 1)
    return turned[:: -1 if turn in (7, 8) else 1, :: -1 if turn in (6, 7) else 1]


def _exif_turn(path: Path) -> int | None:
    """The EXIF orientation, where it swaps height and width."""
    with opened(path) as image:
        turn = image.getexif().get(0x0112, 1)
    return turn if turn in (5, 6, 7, 8) else None


def _encode(masks: np.ndarray, size: tuple[int, int]) -> list[RLE | None]:
    """(H, W, N) -> N masks; None for an empty one. Beyond the array that is there, memory of one box."""
    rows, columns = np.any(masks, axis=1), np.any(masks, axis=0)  # (H, N), (W, N)
    encoded: list[RLE | None] = []
    for number in range(masks.shape[2]):
        y, x = np.flatnonzero(rows[:, number]), np.flatnonzero(columns[:, number])
        if not len(y):
            encoded.append(None)
            continue
        window = masks[y[0] : y[-1] + 1, x[0] : x[-1] + 1, number] != 0
        encoded.append(RLE(size, window_to_rle(window, int(y[0]), int(x[0]), size)["counts"]))
    return encoded
