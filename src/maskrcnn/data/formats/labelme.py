"""labelme: one JSON an image with `shapes`, versions 3 to 5, the image beside it or inside it.

Polygons, rectangles, circles and masks become objects, lines and points are left out and counted. Shapes of one class
and `group_id` are one object. Coordinates are continuous pixels of the image as a person sees it.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import hotcoco.mask as coco_mask
import numpy as np

from maskrcnn.data.formats.assemble import Found, Object, assemble
from maskrcnn.data.formats.beside import Beside, annotation_files, split_of_place
from maskrcnn.data.formats.layout import MOST_PIXELS
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.sample import image_size
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import mask_to_rle
from maskrcnn.ops.rle import window_to_rle
from maskrcnn.structures import RLE, Mask, Polygons

if TYPE_CHECKING:
    from PIL import Image

NAME = "labelme"
LOOKS_FOR = "labelme's .json (shapes and imagePath, one an image), here or up to two folders down"
DEEPEST = 2  # folders: train/annotations
LARGEST = 512 << 20  # bytes of a JSON, image included
MOST_MASK = 1 << 26  # pixels of a `mask` shape, 8192 x 8192
MOST_EDGES = 1 << 22  # of a `mask` shape, counted along its columns; noise has more
ROUND = 64  # corners of a circle
OUTLINES = ("polygon", "rotation", "oriented_rectangle", "quadrilateral")  # the others: tools of the same format
OPEN = ("linestrip", "line", "point", "points")
NO_OBJECTS = ("__ignore__", "_background_")  # names that labelme's own converters leave out
CROWD_FLAGS = ("crowd", "iscrowd", "ignore", "difficult")
ODD = "shapes that are not as labelme writes them"


def sniff(path: Path) -> bool:
    """Whether the first JSON files of some folder hold one image's shapes each."""
    try:
        return any(
            _looks_right(file) for files in annotation_files(path, ".json", DEEPEST) for file in islice(files, 8)
        )
    except OSError:
        return False


def read(path: Path) -> Dataset:
    """Open one labelme JSON, or all of a folder. Images that are only inside their JSON are decoded when asked for.

    Raises:
        DataError: no labelme JSON, or no image that can be used.
    """
    skipped = Skipped()
    beside = Beside(path)
    found, seen = [], False
    for files in annotation_files(path, ".json", DEEPEST):
        for file in files:
            page = _page(file, path, beside, skipped)
            seen = seen or page is not None
            if isinstance(page, Found):
                found.append(page)
    if not seen and not skipped:
        raise DataError("no labelme JSON with `shapes` here", path=path)
    return assemble(found, path=path, format=NAME, skipped=skipped)


def _looks_right(file: Path) -> bool:
    """By its head and tail: an embedded image may lie between the two lists of signs."""
    with file.open("rb") as stream:
        head = stream.read(1 << 16)
        stream.seek(max(0, file.stat().st_size - (1 << 14)))
        text = head + stream.read()
    if b'"images"' in text and b'"categories"' in text:  # COCO
        return False
    shapes = b'"shapes"' in text or b'"shape_type"' in text
    return shapes and any(key in text for key in (b'"imagePath"', b'"imageData"', b'"imageHeight"'))


# ---------------------------------------------------------------- one JSON


def _page(file: Path, root: Path, beside: Beside, skipped: Skipped) -> Found | None:
    """The image and its objects, or None where that was counted."""
    try:
        content = _load(file)
    except DataError as error:
        skipped.add("JSON files that cannot be read", file, None, None, error.message)
        return None
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        skipped.add("JSON files of another kind", file, None, None, "no list `shapes`")
        return None
    name = content.get("imagePath")
    page = _image(file, name if isinstance(name, str) else "", content.get("imageData"), beside, skipped)
    if page is None:
        return None
    stated = content.get("imageHeight"), content.get("imageWidth")
    if all(isinstance(side, (int, float)) for side in stated) and stated != page.size:
        value = f"{stated} instead of {page.size} (height, width)"
        skipped.add("images of another size than annotated", file, page.path.name, None, value, verb="kept")
    page.split = split_of_place(file, root)
    page.objects = _objects(content["shapes"], page, skipped)
    return page


def _load(file: Path) -> Any:
    try:
        if file.stat().st_size > LARGEST:
            raise DataError(f"has more than {LARGEST >> 20} MB; is this the annotation of one image?", path=file)
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"is not valid JSON ({error}); export it again", path=file) from error


def _image(file: Path, name: str, data: Any, beside: Beside, skipped: Skipped) -> Found | None:
    """The file of the image, or else the one inside the JSON."""
    place = beside(file, name)
    try:
        if place is not None:
            return Found(place, image_size(place), file=file)
        problem = "images whose file is missing", f"{name!r:.200}"
    except DataError as error:
        problem = "images that cannot be opened", error.message
    if isinstance(data, str) and data:
        try:
            shown = file.with_name(PurePosixPath(_text(name).replace("\\", "/").replace("\0", "")).name or file.stem)
            return Found(shown, _size(data), file=file, make=partial(embedded_image, file))
        except (DataError, ValueError) as error:
            problem = "images inside their JSON that cannot be opened", str(error)
    skipped.add(problem[0], file, None, None, problem[1])
    return None


def embedded_image(file: Path) -> Image.Image:
    """The image inside a labelme JSON, decoded; EXIF is still to be applied. Raises `DataError`."""
    content = _load(file)
    data = content.get("imageData") if isinstance(content, dict) else None
    if not isinstance(data, str):
        raise DataError("holds no `imageData` any more; open the data again", path=file)
    image = _decoded(data)
    image.load()
    return image


def _decoded(data: str) -> Image.Image:
    """Base64 -> a lazy Pillow image, below Pillow's own limit of pixels. Raises `DataError`."""
    from PIL import Image

    try:
        return Image.open(BytesIO(base64.b64decode(data.removeprefix("data:").split("base64,")[-1])))
    except Exception as error:  # decoders raise whatever they like: OSError, SyntaxError, struct.error ...
        raise DataError(f"`imageData` or `mask` is no image ({error}); export it again") from error


def _size(data: str) -> tuple[int, int]:
    """(height, width), EXIF applied."""
    image = _decoded(data)
    try:
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Exception:  # a damaged EXIF block says nothing about the pixels
        turned = False
    return (image.width, image.height) if turned else (image.height, image.width)


# ---------------------------------------------------------------- shapes


@dataclass(frozen=True, slots=True)
class _Shape:
    """One shape that has an inside: what becomes an object, or part of one."""

    name: str
    mask: Mask
    crowd: bool


def _objects(shapes: list[Any], page: Found, skipped: Skipped) -> list[Object]:
    """One object a shape, or a group."""
    groups: dict[Any, list[_Shape]] = {}
    for index, raw in enumerate(shapes):
        try:
            shape = _shape(raw, page.size)
        except DataError as error:
            shape = ODD, error.message
        except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError):
            shape = ODD, f"{raw!r:.100}"
        if isinstance(shape, tuple):
            skipped.add(shape[0], page.file or page.path, page.path.name, index, shape[1])
            continue
        group = raw.get("group_id")
        named = isinstance(group, (int, str)) and group != ""
        groups.setdefault((shape.name, str(group)) if named else index, []).append(shape)
    return [_joined(parts, page.size) for parts in groups.values()]


def _joined(parts: list[_Shape], size: tuple[int, int]) -> Object:
    masks = [part.mask for part in parts]
    crowd = any(part.crowd for part in parts)
    if len(masks) == 1:
        return Object(parts[0].name, masks[0], crowd=crowd)
    rings = [ring for mask in masks if isinstance(mask, Polygons) for ring in mask.rings]
    if all(isinstance(mask, Polygons) for mask in masks):
        return Object(parts[0].name, Polygons(tuple(rings)), crowd=crowd)
    merged = coco_mask.merge([mask_to_rle(mask, size) for mask in masks])
    return Object(parts[0].name, RLE(size, merged["counts"]), crowd=crowd)


def _shape(raw: dict[str, Any], size: tuple[int, int]) -> _Shape | tuple[str, str]:
    """The shape, or what is wrong with it: (kind, value)."""
    label, kind = raw.get("label"), raw.get("shape_type") or "polygon"  # labelme 3.0 knew no other
    if not isinstance(label, (str, int, float)) or not str(label).strip():
        return "shapes without a label", f"label {label!r:.60}"
    name = _text(str(label).strip())
    if name in NO_OBJECTS:
        return "shapes that are marked as no object", f"label {name!r}"
    if kind in OPEN:
        return "shapes without an inside", f"shape_type {kind!r}"
    flags = raw.get("flags")
    crowd = raw.get("difficult") is True or (
        isinstance(flags, dict) and any(flags.get(flag) is True for flag in CROWD_FLAGS)
    )
    points = np.array(raw["points"], np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError
    if not (np.abs(points) < MOST_PIXELS).all():  # NaN fails too
        return "shapes with wild coordinates", f"up to {np.abs(points).max()}"
    if kind == "mask":
        return _Shape(name, _bitmap(raw["mask"], points, size), crowd)
    ring = _ring(str(kind), points)
    if ring is None:
        return "shapes of another kind", f"shape_type {kind!r:.60} with {len(points)} points"
    return _Shape(name, Polygons((ring,)), crowd)


def _ring(kind: str, points: np.ndarray) -> np.ndarray | None:
    """(P, 2) corners, or None for what has no inside."""
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    if kind == "circle" and len(points) == 2:
        angle = np.arange(ROUND) * (2 * np.pi / ROUND)
        radius = np.hypot(*(points[1] - points[0]))
        return points[0] + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    if kind in OUTLINES or (kind == "rectangle" and len(points) == 4):
        return points if len(points) >= 3 else None
    return None


def _bitmap(data: str, points: np.ndarray, size: tuple[int, int]) -> RLE:
    """A `mask` shape: a PNG whose top left pixel is the first point. Raises `DataError` for what is no mask."""
    image = _decoded(data)
    if image.width * image.height > MOST_MASK:
        raise DataError(f"the mask has {image.width}x{image.height} pixels, more than {MOST_MASK}; make it smaller")
    try:
        pixels = np.asarray(image)
    except Exception as error:  # as above
        raise DataError(f"the mask is truncated or damaged ({error}); export it again") from error
    inside = (pixels if pixels.ndim == 2 else pixels[..., :3].max(axis=-1)) > 0
    left, top = (int(value) for value in points.min(axis=0).tolist())
    low_x, low_y = max(-left, 0), max(-top, 0)
    inside = inside[low_y : max(size[0] - top, 0), low_x : max(size[1] - left, 0)]
    if not inside.any():
        raise DataError(f"the mask at {left}, {top} has no pixel inside the image")
    if np.count_nonzero(inside[1:] != inside[:-1]) > MOST_EDGES:
        raise DataError("the mask is noise, not an object; draw it again")
    return RLE(size, window_to_rle(inside, top + low_y, left + low_x, size)["counts"])


def _text(name: str) -> str:
    """JSON can hold halves of characters, which no file can."""
    return name.encode("utf-8", "replace").decode("utf-8")
