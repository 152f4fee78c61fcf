"""COCO results of any framework -> checked results in one form. Original frame.

Takes a JSON file or a list of dicts; gives dicts with `image_id`, `category_id`, `score`, `bbox` (x, y, width,
height), and where there are masks `segmentation` (compressed RLE, text), where there are keypoints `keypoints`. A file
is read in pieces, so that its text is never in memory as a whole beside what is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from pathlib import Path
from typing import Any

import hotcoco.mask as coco_mask
import numpy as np

from maskrcnn.data.formats.json_parts import NotInParts, json_parts, list_parts
from maskrcnn.data.formats.layout import load_json
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.evaluation.result_ids import Ids, ids_by_name
from maskrcnn.evaluation.rle_check import total_runs
from maskrcnn.ops.rle import polygons_to_rle

MOST_WHOLE = 1 << 30
"""Bytes of a file that is read as a whole, because it is not written in the common way."""
PIECE = 50_000
"""Results of a list that are checked together."""
LONGEST = 100_000
"""Numbers of a polygon or of one mask's runs; more is a broken file."""
LARGEST = 1e12
"""Of scores and coordinates; more is a broken file, and areas of it would overflow."""


def read_results(given: str | Path | Sequence[Any], dataset: Dataset) -> list[dict[str, Any]]:
    """Results that can be measured on a data set.

    Args:
        given: a JSON file, a list of results or a COCO file whose annotations have a score; or such a list.
        dataset: where the ids of images and categories come from. A COCO file that names its images and categories
            may have ids of its own (see `ids_by_name`).

    Raises:
        DataError: no such file, no list of results, or the first result that is wrong, with its place in the list.
    """
    path = Path(given) if isinstance(given, (str, Path)) else None
    if path is not None and not path.is_file():
        raise DataError("no such file; give the JSON with the results", path=path)
    try:
        if path is None:
            check, pieces = _Check(dataset, None), _cut(given)
        elif _is_list(path):
            check, pieces = _Check(dataset, path), list_parts(path)
        else:
            check, pieces = _Check(dataset, path, *ids_by_name(json_parts(path), dataset)), _annotations(path)
        return [result for piece in pieces for result in check(piece)]
    except NotInParts:
        assert path is not None
        content = _whole(path)
        check = _Check(dataset, path, *ids_by_name(content.items() if isinstance(content, dict) else (), dataset))
        return [result for piece in _cut(_listed(content, path)) for result in check(piece)]


def _is_list(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _annotations(path: Path) -> Iterator[list[Any]]:
    found = False
    for key, value in json_parts(path):
        if key == "annotations" and isinstance(value, list):
            found = True
            yield value
    if not found:
        raise DataError(_NO_LIST, path=path)


def _whole(path: Path) -> Any:
    if path.stat().st_size > MOST_WHOLE:
        message = f"is larger than {MOST_WHOLE >> 30} GB and not plain JSON in UTF-8; write it again with json.dump"
        raise DataError(message, path=path)
    return load_json(path)


def _listed(content: Any, path: Path) -> list[Any]:
    content = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(content, list):
        raise DataError(_NO_LIST, path=path)
    return content


def _cut(results: Any) -> Iterator[list[Any]]:
    for start in range(0, len(results), PIECE):
        yield list(results[start : start + PIECE])


_NO_LIST = "holds no list of results; a results file is [{image_id, category_id, score, bbox, ...}, ...]"


class _Check:
    """Checks piece after piece, and knows what the first one had."""

    def __init__(self, dataset: Dataset, path: Path | None, images: Ids = None, categories: Ids = None) -> None:
        table = dataset.table
        self.path, self.seen = path, 0
        self.own_ids = {"image_id": images, "category_id": categories}
        self.sizes = dict(zip(table.image_ids.tolist(), map(tuple, table.sizes.tolist()), strict=True))
        self.categories = set(dataset.category_ids)
        self.points = len(dataset.keypoints.names) if dataset.keypoints else 0
        self.kinds: tuple[bool, ...] | None = None

    def __call__(self, piece: list[Any]) -> list[dict[str, Any]]:
        if not piece:
            return []
        kept = []
        for index, result in enumerate(piece):
            if not isinstance(result, dict):
                raise self._error(index, f"{result!r:.60} is no result; each is an object with image_id and score")
            result = self._renumbered(index, result)
            self._check_ids(index, result)
            self._check_kinds(index, result)
            kept.append({name: result[name] for name in _KEPT if result.get(name) is not None})
        self._check_numbers(kept)
        self._check_masks(kept)
        self.seen += len(piece)
        return kept

    def _error(self, index: int, message: str) -> DataError:
        return DataError(f"result {self.seen + index}: {message}", path=self.path)

    def _renumbered(self, index: int, result: dict[str, Any]) -> dict[str, Any]:
        """With the data's own ids, where the file has others."""
        for name, ids in self.own_ids.items():
            if ids is None or name not in result:
                continue
            number = result[name]
            if not isinstance(number, (int, str)) or number not in ids:
                message = f"is of {name[:-3]} {number!r:.40}, whose name the data does not have"
                raise self._error(index, f"{message}; evaluate on the data that the results were made on")
            result = result | {name: ids[number]}
        return result

    def _check_ids(self, index: int, result: dict[str, Any]) -> None:
        for name in ("image_id", "category_id", "score"):
            if name not in result:
                raise self._error(index, f"has no {name}; write image_id, category_id and score with every result")
        image, category = result["image_id"], result["category_id"]
        try:
            known = image in self.sizes, category in self.categories
        except TypeError:
            known = False, False
        if not known[0]:
            some = ", ".join(map(str, list(self.sizes)[:3]))
            message = f"is of image {image!r:.40}, which the data does not have (its ids: {some} ...)"
            raise self._error(index, f"{message}; evaluate on the data that the results were made on")
        if not known[1]:
            some = ", ".join(map(str, sorted(self.categories)[:5]))
            message = f"is of category {category!r:.40}, which the data does not have (its ids: {some} ...)"
            raise self._error(index, f"{message}; write the data's own category ids")

    def _check_kinds(self, index: int, result: dict[str, Any]) -> None:
        """Every result has the same parts as the first."""
        kinds = tuple(result.get(name) is not None for name in ("bbox", "segmentation", "keypoints"))
        if not any(kinds):
            raise self._error(index, "has neither bbox nor segmentation nor keypoints; write what was found")
        if self.kinds is None:
            self.kinds = kinds
        if kinds != self.kinds:
            names = ("bbox", "segmentation", "keypoints")
            odd = next(name for name, here, first in zip(names, kinds, self.kinds, strict=True) if here != first)
            verb = "lacks" if self.kinds[names.index(odd)] else "has"
            message = f"{verb} {odd}, unlike the results before it; write the same parts with every result"
            raise self._error(index, message)

    def _check_numbers(self, results: list[dict[str, Any]]) -> None:
        self._numbers(results, "score", lambda result: [result.get("score")], 1)
        boxes, masks, points = self.kinds or (True, False, False)
        if boxes:
            sides = self._numbers(results, "bbox", lambda result: result["bbox"], 4)[:, 2:]
            if (sides < 0).any():
                index = int(np.flatnonzero((sides < 0).any(axis=1))[0])
                message = f"bbox {results[index]['bbox']} has a negative side; write x, y, width, height"
                raise self._error(index, message)
        if points:
            first = results[0]["keypoints"]
            count = self.points or (len(first) // 3 if isinstance(first, Sized) else 0) or 1
            table = self._numbers(results, "keypoints", lambda result: result["keypoints"], 3 * count)
            if not boxes and not masks:  # as pycocotools: the extent of the points
                low, high = table.reshape(len(table), -1, 3)[..., :2].min(1), table.reshape(len(table), -1, 3)[..., :2]
                for result, corner, end in zip(results, low.tolist(), high.max(1).tolist(), strict=True):
                    result["bbox"] = [*corner, end[0] - corner[0], end[1] - corner[1]]

    def _numbers(self, results: list[dict[str, Any]], name: str, get: Any, count: int) -> np.ndarray:
        """(N, count) float64. All at once first; then the search for the one that is wrong."""
        table = _table([get(result) for result in results], (len(results), count))
        if table is not None:
            return table
        for index, result in enumerate(results):
            if _table(get(result), (count,)) is None:
                expected = "a finite number" if count == 1 else f"{count} finite numbers"
                message = f"{name} {result.get(name)!r:.60} is not {expected} up to {LARGEST:g}; write it again"
                raise self._error(index, message)
        raise AssertionError("one of them is wrong")

    def _check_masks(self, results: list[dict[str, Any]]) -> None:
        """RLE and polygons -> compressed RLE of the image's size; a box from the mask where none is given."""
        if not (self.kinds and self.kinds[1]):
            return
        for index, result in enumerate(results):
            size = self.sizes[result["image_id"]]
            try:
                result["segmentation"] = _compressed(result["segmentation"], size)
            except _Wrong as wrong:
                raise self._error(index, str(wrong)) from None
            except (TypeError, ValueError, KeyError, OverflowError, AttributeError):
                message = "segmentation is neither RLE nor a list of polygons; write {size, counts} as pycocotools does"
                raise self._error(index, message) from None
        totals = total_runs([result["segmentation"]["counts"] for result in results])
        sizes = np.array([result["segmentation"]["size"] for result in results], np.int64).reshape(-1, 2)
        if (broken := np.flatnonzero(totals != sizes.prod(axis=1))).size:
            index = int(broken[0])
            height, width = sizes[index].tolist()
            message = f"the runs of the mask do not fill its {width} x {height} pixels; write the file again"
            raise self._error(index, message)
        if not self.kinds[0] and results:
            boxes = coco_mask.to_bbox([result["segmentation"] for result in results])
            for result, box in zip(results, np.asarray(boxes).reshape(-1, 4).tolist(), strict=True):
                result["bbox"] = box


_KEPT = ("image_id", "category_id", "score", "bbox", "segmentation", "keypoints")


def _table(values: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """These numbers in this shape as float64, or None. A text is no number, though numpy would read it as one."""
    try:
        table = np.array(values)
    except (TypeError, ValueError, OverflowError):
        return None
    if table.shape != shape or table.dtype.kind not in "iuf":
        return None
    table = table.astype(np.float64)
    return table if (np.abs(table) <= LARGEST).all() else None  # NaN fails too


class _Wrong(Exception):
    """What is wrong with one mask, as the end of a sentence."""


def _compressed(mask: Any, size: tuple[int, int]) -> dict[str, Any]:
    """A mask of a result -> `{"size", "counts"}` with text; its runs are not checked yet."""
    if isinstance(mask, dict):
        if tuple(mask["size"]) != size:
            height, width = mask["size"]
            raise _Wrong(
                f"mask is {width} x {height} pixels but its image {size[1]} x {size[0]}; write masks in the image's "
                "own size"
            )
        counts = mask["counts"]
        if isinstance(counts, list):
            if len(counts) > LONGEST or sum(counts) != size[0] * size[1] or min(counts, default=0) < 0:
                raise _Wrong("the runs of the mask do not fill its image; write the file again")
            counts = coco_mask.fr_py_objects({"size": list(size), "counts": counts}, *size)["counts"]
        if not isinstance(counts, (str, bytes)):
            raise TypeError
        if len(counts) > 10 * LONGEST:  # letters
            raise _Wrong("the runs of the mask are too many for a mask; write the file again")
        return {"size": list(size), "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}
    rings = [np.array(ring, np.float64) for ring in mask]
    if not rings or any(ring.ndim != 1 or len(ring) < 6 or len(ring) % 2 or len(ring) > LONGEST for ring in rings):
        raise _Wrong("a polygon of the mask is not x, y, x, y, ... of at least three points; leave it out")
    if not all((np.abs(ring) <= 4 * max(size) + 1000).all() for ring in rings):  # NaN fails too
        raise _Wrong("a polygon of the mask lies far outside the image; write pixels of the image")
    rle = polygons_to_rle([ring.reshape(-1, 2) for ring in rings], size)
    return {"size": list(size), "counts": rle["counts"].decode("ascii")}
