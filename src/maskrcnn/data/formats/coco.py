"""COCO instance JSON: one file, or a folder with a file for each split.

Takes a path, gives a `Dataset` whose labels are contiguous in order of category id. Polygons, both kinds of RLE, crowds
and keypoints are understood. What points nowhere is left out and counted; what cannot be read at all is a `DataError`.
"""

from __future__ import annotations

import codecs
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import hotcoco.mask as coco_mask
import numpy as np

from maskrcnn.data.formats.layout import MOST_PIXELS, ImageFinder, json_files, load_json, split_of_name
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.rle import parse_counts
from maskrcnn.structures import RLE, KeypointSchema, Mask, Polygons, Record

NAME = "coco"
ID_KEYS = ("id", "image_id", "category_id")
ODD = "annotations that are not as COCO writes them"
NO_MASK = "objects without a mask, whose box stands in for it"
SHORT_RINGS = "rings of fewer than three points, from objects that have others"
OTHER_TASKS = ("captions", "image_info", "panoptic", "stuff")  # of COCO's own files
LOOKS_FOR = "a .json with images and categories, here or up to two folders down"


def sniff(path: Path) -> bool:
    """Whether there is a COCO JSON: the file itself, or one in the folder, two levels down."""
    return bool(_files(path))


def read(path: Path) -> Dataset:
    """Open a COCO JSON file, or all splits of a folder.

    Raises:
        DataError: not JSON, without images or categories, or files that disagree about the categories.
    """
    files = _files(path)
    if not files:
        raise DataError("no COCO JSON with `images` and `categories` here", path=path)
    skipped = Skipped()
    records: list[Record] = []
    categories: list[dict] | None = None
    schema: KeypointSchema | None = None
    taken: set[int] = set()
    for file in files:
        content = _load(file)
        _check_categories(file, content["categories"])
        found = sorted(content["categories"], key=lambda category: category["id"])
        if categories is not None and _names(found) != _names(categories):
            raise DataError(f"has other categories than {files[0]}; open the two files one by one", path=file)
        categories = found
        split = _split(file, path) if len(files) > 1 else split_of_name(file.stem) or ""
        schema = _schema(found)
        labels = {category["id"]: label for label, category in enumerate(found)}
        records += _records(file, content, labels, len(schema.names) if schema else 0, split, taken, skipped)
    assert categories is not None
    records = _uniform_masks(records, skipped)
    if not records:
        reason = f"; {skipped.sentences()[0]}" if skipped else ""
        raise DataError(f"holds no image that can be used{reason}", path=path)
    return Dataset(
        records=records,
        classes=tuple(str(c["name"]) for c in categories),
        category_ids=tuple(int(c["id"]) for c in categories),
        keypoints=schema,
        name=str(path),
        format=NAME,
        warnings=tuple(skipped.sentences()),
    )


# ---------------------------------------------------------------- which files


def _files(path: Path) -> list[Path]:
    found = json_files(path, 2, _looks_right)
    instances = [file for file in found if file.name.startswith("instances")]
    others = [file for file in found if not file.name.startswith(OTHER_TASKS)]
    return instances or others or found  # person_keypoints_* beside instances_* describes the same images


def _looks_right(file: Path) -> bool:
    """Cheap: two of the three lists show up in the first or last part of the text, by name or by what they hold."""
    with file.open("rb") as stream:
        head = stream.read(1 << 16)
        stream.seek(max(0, file.stat().st_size - (1 << 16)))
        text = head + stream.read()
    if not head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{"):
        return False
    signs = (b'"images"', b'"file_name"'), (b'"annotations"', b'"image_id"'), (b'"categories"', b'"supercategory"')
    return sum(any(key in text for key in keys) for keys in signs) >= 2


def _split(file: Path, root: Path) -> str:
    names = [file.stem, *reversed(file.relative_to(root).parent.parts)]
    return next((split for name in names if (split := split_of_name(name))), file.stem)


def _load(file: Path) -> dict[str, Any]:
    content = load_json(file)
    for key in ("images", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"has no list {key!r}; a COCO file has images, annotations and categories", path=file)
        if not content[key]:
            raise DataError(f"the list `{key}` is empty; export the data again with its {key}", path=file)
    if not isinstance(content.setdefault("annotations", []), list | None):
        raise DataError("`annotations` is not a list; export the data again", path=file)
    return content


def _names(categories: list[dict]) -> list[tuple[int, str]]:
    return [(category["id"], category["name"]) for category in categories]


def _is_id(value: object) -> bool:
    """Whole floats too: tables turn 7 into 7.0, and the two are the same key."""
    return value is None or isinstance(value, (int, str)) or (isinstance(value, float) and value.is_integer())


def _number(value: object) -> int | None:
    """An id as an integer of 64 bits, or None."""
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value) if abs(value) < 1 << 62 else None
    return None


def _check_categories(file: Path, categories: list[dict]) -> None:
    for category in categories:
        if not isinstance(category, dict) or not isinstance(category.get("id"), int):
            raise DataError(f"category {category!r:.80} has no integer id; give it one", path=file)
        if not isinstance(category.get("name"), str):
            raise DataError(f"category {category['id']} has no name; give it one", path=file)
    ids, names = [c.get("id") for c in categories], [c.get("name") for c in categories]
    for kind, values in (("id", ids), ("name", names)):
        for value in values:
            if values.count(value) > 1:
                raise DataError(f"category {kind} {value!r} is there twice; give each its own", path=file)


# ---------------------------------------------------------------- images and annotations


def _records(
    file: Path,
    content: dict,
    label_of: dict[int, int],
    keypoint_count: int,
    split: str,
    taken: set[int],
    skipped: Skipped,
) -> list[Record]:
    by_image: dict[Any, list[dict]] = defaultdict(list)
    seen: set[Any] = set()
    images = []
    for image in content["images"]:
        if isinstance(image, dict) and "id" in image and _is_id(image["id"]):
            images.append(image)
        else:
            skipped.add("images that are not as COCO writes them", file, None, None, f"{image!r:.100}")
    known = {image["id"] for image in images}
    for annotation in content.get("annotations") or []:
        if not isinstance(annotation, dict) or not all(map(_is_id, map(annotation.get, ID_KEYS))):
            skipped.add(ODD, file, None, None, f"{annotation!r:.100}")
            continue
        name, image_id = annotation.get("id"), annotation.get("image_id")
        if name in seen and name is not None:
            skipped.add("annotations whose id is there twice", file, image_id, name, f"id {name}")
        elif image_id not in known:
            skipped.add("annotations of an unknown image", file, image_id, name, f"image_id {image_id}")
        elif annotation.get("category_id") not in label_of:
            value = f"category_id {annotation.get('category_id')}"
            skipped.add("annotations of an unknown category", file, image_id, name, value)
        else:
            by_image[image_id].append(annotation)
        seen.add(name)
    records, done = [], set()
    folders = _image_folders(file, split)
    find = ImageFinder(folders, (str(image.get("file_name", "")) for image in images))
    spare = max([0, *taken, *(number for i in known if (number := _number(i)) is not None)])  # ids above it are free
    for image in images:
        image_id = image["id"]
        name = str(image.get("file_name", ""))
        if image_id in done:
            skipped.add("images whose id is there twice", file, image_id, None, f"id {image_id}")
            continue
        done.add(image_id)
        place = find(name)
        if place is None:
            skipped.add("images whose file is missing", file, image_id, None, f"{name!r}")
            continue
        height, width = image.get("height"), image.get("width")
        if not (
            isinstance(height, int)
            and isinstance(width, int)
            and 0 < min(height, width) <= max(height, width) < MOST_PIXELS
        ):
            skipped.add("images without width and height", file, image_id, None, f"{height} x {width}")
            continue
        number = _number(image_id)
        if number is None or number in taken:
            number = spare = spare + 1
        taken.add(number)
        annotations = by_image.get(image_id, [])
        records.append(
            _record(file, place, number, (height, width), annotations, label_of, keypoint_count, split, skipped)
        )
    return records


def _image_folders(file: Path, split: str) -> list[Path]:
    """Where images may lie, nearest first."""
    here = file.parent
    base = re.sub(r"^(instances|person_keypoints|annotations|captions)_?", "", file.stem)
    names = [base, split, "images", "data", *(f"images/{n}" for n in (base, split))]
    places = [here, *(here / n for n in names if n), *(here.parent / n for n in names if n), here.parent]
    return list(dict.fromkeys(place for place in places if place.is_dir()))


def _record(
    file: Path,
    place: Path,
    image_id: int,
    size: tuple[int, int],
    annotations: list[dict],
    label_of: dict[int, int],
    keypoint_count: int,
    split: str,
    skipped: Skipped,
) -> Record:
    height, width = size
    boxes, labels, crowd, areas, points = [], [], [], [], []
    masks: list[Mask | None] = []
    ids: list[int] = []
    for annotation in annotations:
        name = annotation.get("id")
        try:
            mask, problem = _mask(annotation.get("segmentation"), size)
            box = None if problem else _box(annotation, mask, size)
            area = float(annotation.get("area") or 0)
            row = _keypoint_row(annotation.get("keypoints"))
        except (TypeError, ValueError, KeyError, IndexError, OverflowError, AttributeError):
            problem = ODD, f"{annotation!r:.100}"
        if problem:
            skipped.add(problem[0], file, image_id, name, problem[1])
            continue
        if box is None:
            value = f"bbox {annotation.get('bbox')} in {width}x{height}"
            skipped.add("boxes of zero area or outside the image", file, image_id, name, value)
            continue
        if isinstance(mask, Polygons) and (short := len(annotation["segmentation"]) - len(mask.rings)):
            skipped.add(SHORT_RINGS, file, image_id, name, f"{short} of {short + len(mask.rings)} rings")
        boxes.append(box)
        labels.append(label_of[annotation["category_id"]])
        masks.append(mask)
        crowd.append(bool(annotation.get("iscrowd", 0)))
        areas.append(area if 0 < area <= height * width else (box[2] - box[0]) * (box[3] - box[1]))
        number = _number(name)
        ids.append(len(ids) if number is None else number)
        points.append(row)
    if any(mask is not None for mask in masks):
        for i, mask in enumerate(masks):
            if mask is None:
                skipped.add(NO_MASK, file, image_id, ids[i], f"box {boxes[i]}", verb="kept")
                masks[i] = _box_mask(boxes[i])
    return Record(
        path=place,
        image_id=image_id,
        height=height,
        width=width,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        masks=tuple(mask for mask in masks if mask is not None),
        crowd=np.array(crowd, bool),
        areas=np.array(areas, np.float32),
        annotation_ids=np.array(ids, np.int64),
        keypoints=_keypoints(points, keypoint_count),
        split=split,
    )


def _mask(segmentation: Any, size: tuple[int, int]) -> tuple[Mask | None, tuple[str, str] | None]:
    """The mask, or what is wrong with it: (kind, value)."""
    if not segmentation:
        return None, None
    if isinstance(segmentation, dict):
        stated = tuple(segmentation.get("size") or ())
        if stated != size:
            return None, ("masks of another size than their image", f"size {list(stated)} instead of {list(size)}")
        counts = segmentation.get("counts", b"")
        if isinstance(counts, list):
            if sum(counts) != size[0] * size[1] or min(counts, default=0) < 0:
                return None, ("masks whose runs do not fill the image", f"sum {sum(counts)}")
            counts = coco_mask.fr_py_objects({"size": list(size), "counts": counts}, *size)["counts"]
        text = counts.encode() if isinstance(counts, str) else counts
        runs = parse_counts(text)  # a broken string must not reach the decoder
        if len(text) > 8 * MOST_PIXELS or (runs < 0).any() or runs.sum() != size[0] * size[1]:
            return None, ("masks whose runs do not fill the image", f"sum {runs.sum()}")
        return RLE(size, text), None
    if not isinstance(segmentation, list):
        raise TypeError
    whole = [ring for ring in segmentation if len(ring) >= 6 and len(ring) % 2 == 0]
    if not whole:
        return None, ("polygons of fewer than three points", f"{len(segmentation[0])} numbers")
    rings = [np.array(ring, np.float64).reshape(-1, 2) for ring in whole]
    if not all((np.abs(ring) < MOST_PIXELS).all() for ring in rings):  # NaN fails too
        return None, ("polygons with wild coordinates", f"{max(np.abs(ring).max() for ring in rings)}")
    return Polygons(tuple(rings)), None


def _box(annotation: dict, mask: Mask | None, size: tuple[int, int]) -> list[float] | None:
    """Given box, or that of the mask; cut to the image; None when nothing is left."""
    box = annotation.get("bbox")
    if box and len(box) != 4:
        raise ValueError
    if box:
        x, y, w, h = map(float, box)
    elif isinstance(mask, Polygons):
        points = np.concatenate(mask.rings)
        (x, y), (w, h) = points.min(axis=0), np.ptp(points, axis=0)
    elif isinstance(mask, RLE):
        x, y, w, h = coco_mask.to_bbox({"size": list(mask.size), "counts": mask.counts})
    else:
        return None
    x0, y0, x1, y1 = max(x, 0.0), max(y, 0.0), min(x + w, size[1]), min(y + h, size[0])
    return [x0, y0, x1, y1] if x1 > x0 and y1 > y0 else None  # NaN fails both


def _uniform_masks(records: list[Record], skipped: Skipped) -> list[Record]:
    """A data set has a mask for every object or for none."""
    if not any(record.masks for record in records):
        return records
    uniform = []
    for record in records:
        if len(record.masks) < len(record):
            for box, number in zip(record.boxes, record.annotation_ids, strict=True):
                skipped.add(NO_MASK, record.path, record.image_id, number, f"box {box.tolist()}", verb="kept")
            record = replace(record, masks=tuple(map(_box_mask, record.boxes)))
        uniform.append(record)
    return uniform


def _box_mask(box: list[float] | np.ndarray) -> Polygons:
    x0, y0, x1, y1 = map(float, box)
    return Polygons((np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]),))


# ---------------------------------------------------------------- keypoints


def _schema(categories: list[dict]) -> KeypointSchema | None:
    names = next((tuple(map(str, c["keypoints"])) for c in categories if c.get("keypoints")), None)
    if names is None:
        return None
    index = {name: i for i, name in enumerate(names)}
    pairs = [(i, index[other]) for name, i in index.items()
             if name.startswith("left") and (other := "right" + name[4:]) in index]  # fmt: skip
    return KeypointSchema(names, tuple(pairs))


def _keypoint_row(values: Any) -> list[float] | None:
    return [float(value) for value in values] if values else None


def _keypoints(rows: list[list[float] | None], count: int) -> np.ndarray | None:
    """(N, K, 3); zeros, "not labelled", for objects without."""
    if not count:
        return None
    full = [row if row and len(row) == 3 * count else [0.0] * (3 * count) for row in rows]
    return np.array(full, np.float32).reshape(-1, count, 3)
