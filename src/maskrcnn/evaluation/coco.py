"""COCO's numbers: a data set's truth and a list of results in, `Metrics` out. Original frame; no network here."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from operator import itemgetter
from typing import Any

import hotcoco.mask as coco_mask
import numpy as np
from hotcoco import COCO, COCOeval

from maskrcnn.dataset import Dataset
from maskrcnn.errors import ConfigError, DataError
from maskrcnn.evaluation.items import Items, by_image_and_score
from maskrcnn.evaluation.keypoints import KEYPOINT_NUMBERS, oks_sigmas, with_keypoints
from maskrcnn.evaluation.metrics import Metrics
from maskrcnn.evaluation.precision import mean_defined
from maskrcnn.ops.masks import mask_to_rle

# name: (precision or recall, IoU threshold index or all, area range index, detections an image index)
_ALL = slice(None)
_NUMBERS: dict[str, tuple[str, int | slice, int, int]] = {
    "ap": ("precision", _ALL, 0, 2),
    "ap50": ("precision", 0, 0, 2),
    "ap75": ("precision", 5, 0, 2),
    "ap_small": ("precision", _ALL, 1, 2),
    "ap_medium": ("precision", _ALL, 2, 2),
    "ap_large": ("precision", _ALL, 3, 2),
    "ar_1": ("recall", _ALL, 0, 0),
    "ar_10": ("recall", _ALL, 0, 1),
    "ar_100": ("recall", _ALL, 0, 2),
    "ar_small": ("recall", _ALL, 1, 2),
    "ar_medium": ("recall", _ALL, 2, 2),
    "ar_large": ("recall", _ALL, 3, 2),
}
MOST_LIMIT = 1_000_000_000
"""Detections an image; the COCO library takes no arbitrarily large numbers."""
NUMBERS = tuple(_NUMBERS)
"""COCO's 12 numbers, in pycocotools' order."""


class GroundTruth:
    """The truth of a data set as hotcoco wants it. Making it reads every mask once; keep it for the next evaluation.

    Attributes:
        coco: images, categories and annotations, numbered 1, 2, 3 ...: images by ascending id, categories
            in the order of the data set.
        classes: category id -> class name.
        has_masks: whether the objects have masks.
        keypoints: names of the keypoints, or ().
        image_ids: of all images.
        table: the records as columns.
        federated: which classes were looked for in which image, or None.
        name: of the data set.
        segmentations: mask of each annotation, as hotcoco has it; None where the objects have none.

    Raises:
        DataError: a mask that cannot be read, or of another size than its image.
    """

    def __init__(self, dataset: Dataset) -> None:
        table = dataset.table
        self.table, self.federated, self.name = table, dataset.federated, dataset.name
        self.classes = dict(zip(dataset.category_ids, dataset.classes, strict=True))
        self.has_masks = dataset.has_masks
        self.keypoints = dataset.keypoints.names if dataset.keypoints else ()
        self.image_ids = table.image_ids.tolist()
        # hotcoco sees 1, 2, 3 ...: it reads a result's ids from a table of float64, which merges those beyond 2**53.
        # In ascending order, in which pycocotools goes through images: that decides between equal scores.
        self._numbers = {image_id: number for number, image_id in enumerate(sorted(self.image_ids), start=1)}
        self._category_numbers = {category: number for number, category in enumerate(self.classes, start=1)}
        counted = np.bincount(table.image_of, weights=~table.crowd, minlength=len(table)).astype(int)
        self._objects = dict(zip(self.image_ids, counted.tolist(), strict=True))
        boxes = table.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]  # x, y, width, height
        numbers = self.numbers(self.image_ids)
        images = [
            {"id": number, "height": height, "width": width}
            for number, (height, width) in zip(numbers, table.sizes.tolist(), strict=True)
        ]
        self.segmentations = _segmentations(dataset) if self.has_masks else None
        # Annotation ids are 1..N, not the file's: COCO's matching takes the id 0 for "unmatched".
        self.coco = COCO.from_arrays(
            images,
            [{"id": number, "name": name} for number, name in enumerate(self.classes.values(), start=1)],
            np.asarray(numbers, np.int64)[table.image_of],
            table.labels + 1,
            boxes,
            area=table.areas.astype(np.float64),
            iscrowd=table.crowd,
            segmentation=self.segmentations,
        )
        if self.keypoints and len(table.image_of):
            self.coco.update_anns(with_keypoints(dataset))

    @cached_property
    def items(self) -> Items:
        """The objects as arrays, by image in ascending order of ids, crowds included."""
        table = self.table
        boxes = table.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        images = np.asarray(self.numbers(self.image_ids), np.int64)[table.image_of] - 1
        order = np.argsort(images, kind="stable")
        rles = None
        if self.segmentations is not None:
            sizes = table.sizes[table.image_of].tolist()
            rles = [_as_rle(mask, size) for mask, size in zip(self.segmentations, sizes, strict=True)]
        count = len(images)
        items = Items(images, table.labels.astype(np.int64), boxes, table.areas.astype(np.float64), np.ones(count),
                      table.crowd.astype(bool), np.arange(count), rles)  # fmt: skip
        return items.take(order)

    def found_items(self, results: Sequence[Mapping[str, Any]], *, masks: bool) -> Items:
        """Results as arrays, by image, then by falling score. `areas` are those of the masks where there are masks."""
        columns = results_table(self, results)
        rles = [result["segmentation"] for result in results] if masks else None
        areas = columns[:, 3] * columns[:, 4]
        if rles:
            areas = np.asarray(coco_mask.area(rles), np.float64)
        count = len(results)
        items = Items(columns[:, 0].astype(np.int64) - 1, columns[:, 6].astype(np.int64) - 1, columns[:, 1:5], areas,
                      columns[:, 5], np.zeros(count, bool), np.arange(count), rles)  # fmt: skip
        return by_image_and_score(items)

    def numbers(self, image_ids: Iterable[int]) -> list[int]:
        """Numbers of images in `coco`. Raises `DataError` for an image that the data set does not have."""
        return _looked_up(self._numbers, image_ids, "image")

    def category_numbers(self, category_ids: Iterable[int]) -> list[int]:
        """Numbers of categories in `coco`. Raises `DataError` for one that the data set does not have."""
        return _looked_up(self._category_numbers, category_ids, "category")

    def objects(self, image_ids: Collection[int]) -> int:
        """True objects in these images, crowds left out."""
        return sum(self._objects[image_id] for image_id in image_ids)


def _looked_up(numbers: Mapping[int, int], ids: Iterable[int], what: str) -> list[int]:
    try:
        return [numbers[one] for one in ids]
    except KeyError as error:
        raise DataError(f"a result is of {what} {error.args[0]}, which the data set does not have") from None


def _as_rle(mask: dict[str, Any] | list[list[float]], size: list[int]) -> dict[str, Any]:
    return mask if isinstance(mask, dict) else coco_mask.fr_py_objects(mask, *size)[0]


def _segmentations(dataset: Dataset) -> list[dict[str, Any] | list[list[float]]]:
    """The mask of each object as RLE; in images without any its box as a polygon.

    Raises `DataError` for a mask of another size than its image.
    """
    found: list[dict[str, Any] | list[list[float]]] = []
    for record in dataset.records:
        if not record.masks:
            found += [[[x0, y0, x1, y0, x1, y1, x0, y1]] for x0, y0, x1, y1 in record.boxes.tolist()]
        for index, mask in enumerate(record.masks):
            rle = mask_to_rle(mask, record.size)
            if tuple(rle["size"]) != record.size:
                raise DataError(
                    f"mask is {rle['size'][1]} x {rle['size'][0]} pixels but its image {record.width} x "
                    f"{record.height}; mend or remove the annotation",
                    path=record.path,
                    image=record.image_id,
                    annotation=int(record.annotation_ids[index]),
                )
            found.append({"size": rle["size"], "counts": rle["counts"].decode("ascii")})  # text as in the results
    return found


def measure(
    truth: GroundTruth,
    results: Sequence[Mapping[str, Any]],
    *,
    image_ids: Sequence[int] | None = None,
    masks: bool = True,
    keypoints: bool = False,
    max_detections: int | Sequence[int] = 100,
) -> Metrics:
    """COCO's numbers of a list of results.

    Args:
        truth: what there is to find.
        results: COCO results: `image_id`, `category_id`, `score`, `bbox` (x, y, width, height) and, with `masks`,
            `segmentation` (RLE with `counts` as text), with `keypoints` `keypoints` (x, y and a score of each), as
            `to_coco` makes them; all in the ids of the data set.
        image_ids: the images that count; None: all.
        masks: measure masks too, when the truth has them.
        keypoints: measure keypoints too, when the truth has them.
        max_detections: most detections an image; beyond 100, `ap_all` and `ar_all` are measured there as well. Or the
            limits themselves, such as [1, 10, 300]: AR at each, and all other numbers at the largest.

    Raises:
        DataError: a result of an image or a category that the data set does not have.
    """
    image_ids = truth.image_ids if image_ids is None else image_ids
    masks = masks and truth.has_masks
    limits = _Limits(max_detections)
    rles = [result["segmentation"] for result in results] if masks else None
    found = truth.coco.load_res(results_table(truth, results), segmentation=rles)
    by_class = {}
    box, by_class["box"] = _score(truth, found, "bbox", image_ids, limits)
    mask = None
    if rles is not None:
        if rles:  # small, medium and large by the area of the mask, not of the box
            found.update_anns(ids=np.arange(1, len(rles) + 1), area=coco_mask.area(rles))
        mask, by_class["mask"] = _score(truth, found, "segm", image_ids, limits)
    points = None
    if keypoints and truth.keypoints:
        poses = truth.coco.load_res(_poses(truth, results)) if results else found
        points, by_class["keypoint"] = _score(truth, poses, "keypoints", image_ids, limits)
    per_class: dict[str, dict[str, float]] = {name: {} for name in truth.classes.values()}
    for kind, classes in by_class.items():
        for name, numbers in classes.items():
            per_class[name][kind] = numbers["ap"]
    return Metrics(
        box,
        mask,
        per_class,
        {},
        len(image_ids),
        truth.objects(image_ids),
        limits.most,
        points,
        by_class=by_class,
        limits=limits.counted,
    )


class _Limits:
    """Which numbers of detections an image are measured.

    Attributes:
        counted: ascending; COCO's 1, 10 and 100, or those that were given.
        most: detections an image that the model gives.
        extra: `counted`, and `most` where that is more than COCO's 100.
    """

    def __init__(self, given: int | Sequence[int]) -> None:
        self.counted: tuple[int, ...] = (1, 10, 100)
        asked = [given] if isinstance(given, int) else list(given)
        if not asked or min(asked) < 1 or max(asked) > MOST_LIMIT:
            message = f"max_detections {asked} must be positive numbers, such as 1 10 100, and at most {MOST_LIMIT:,}"
            raise ConfigError(message)
        if isinstance(given, int):
            self.most = given
            self.extra = [1, 10, 100, *([given] if given > 100 else [])]
            return
        self.counted = tuple(sorted(set(given)))
        self.most, self.extra = self.counted[-1], list(self.counted)

    def numbers(self) -> dict[str, tuple[str, int | slice, int, int]]:
        """The table of numbers: as `_NUMBERS`, for these limits."""
        last = len(self.counted) - 1
        named = {
            name: (*entry[:3], last) for name, entry in _NUMBERS.items() if not name.removeprefix("ar_").isdecimal()
        }
        limits: dict[str, tuple[str, int | slice, int, int]]
        limits = {f"ar_{limit}": ("recall", _ALL, 0, place) for place, limit in enumerate(self.counted)}
        names = list(named)
        split = names.index("ar_small")
        ordered = {**{name: named[name] for name in names[:split]}, **limits, **{n: named[n] for n in names[split:]}}
        if len(self.extra) > len(self.counted):
            ordered |= {"ap_all": ("precision", _ALL, 0, last + 1), "ar_all": ("recall", _ALL, 0, last + 1)}
        return ordered


def results_table(truth: GroundTruth, results: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """(N, 7) float64: image, x, y, width, height, score, category. A third of hotcoco's time for dicts."""
    count = len(results)
    table = np.empty((count, 7))
    corners = chain.from_iterable(map(itemgetter("bbox"), results))
    table[:, 1:5] = np.fromiter(corners, np.float64, 4 * count).reshape(count, 4)
    table[:, 0] = truth.numbers(map(itemgetter("image_id"), results))
    table[:, 5] = np.fromiter(map(itemgetter("score"), results), np.float64, count)
    table[:, 6] = truth.category_numbers(map(itemgetter("category_id"), results))
    return table


def _poses(truth: GroundTruth, results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Results with keypoints alone: their extent is then the area that sorts them into medium and large, as in a
    results file for COCO's keypoints. `bbox` would give the area of the box."""
    images = truth.numbers(map(itemgetter("image_id"), results))
    categories = truth.category_numbers(map(itemgetter("category_id"), results))
    return [
        {"image_id": image, "category_id": category, "keypoints": result["keypoints"], "score": result["score"]}
        for image, category, result in zip(images, categories, results, strict=True)
    ]


def _score(
    truth: GroundTruth, found: COCO, kind: str, image_ids: Sequence[int], limits: _Limits
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The numbers, and those of each class by its name. `kind` is "bbox", "segm" or "keypoints"."""
    wanted = dict(KEYPOINT_NUMBERS) if kind == "keypoints" else limits.numbers()
    classes = list(truth.classes.values())
    if not image_ids:  # an empty list means "all" to hotcoco
        nothing = dict.fromkeys(wanted, -1.0)
        return nothing, {name: dict(nothing) for name in classes}
    evaluation = COCOeval(truth.coco, found, kind)
    evaluation.params.img_ids = sorted(truth.numbers(image_ids))
    if kind == "keypoints":
        evaluation.params.kpt_oks_sigmas = oks_sigmas(truth.keypoints)
    else:
        evaluation.params.max_dets = limits.extra
    with warnings.catch_warnings():  # of sigmas and limits that are not COCO's
        warnings.simplefilter("ignore")
        evaluation.evaluate()
        evaluation.accumulate()
    # precision (T, R, K, A, M), recall (T, K, A, M): IoU threshold, recall level, class, area, detections an image
    tables: dict[str, Any] = evaluation.eval or {}
    numbers, by_class = {}, {name: {} for name in classes}  # type: tuple[dict[str, float], dict[str, dict[str, float]]]
    for name, (table, iou, area, count) in wanted.items():
        chosen = np.asarray(tables[table][iou, ..., area, count])  # (..., K)
        numbers[name] = mean_defined(chosen)
        flat = chosen.reshape(-1, len(classes))
        for label, one in enumerate(classes):
            by_class[one][name] = mean_defined(flat[:, label])
    return numbers, by_class
