"""COCO's numbers: a data set's truth and a list of results in, `Metrics` out. Original frame; no network here."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from operator import itemgetter
from typing import Any

import hotcoco.mask as coco_mask
import numpy as np
from hotcoco import COCO, COCOeval

from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.evaluation.keypoints import KEYPOINT_NUMBERS, oks_sigmas, shown_keypoints, with_keypoints
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
NUMBERS = tuple(_NUMBERS)
"""COCO's 12 numbers, in pycocotools' order."""
_TABLES = {"bbox": _NUMBERS, "segm": _NUMBERS, "keypoints": KEYPOINT_NUMBERS}


@dataclass(frozen=True)
class Metrics:
    """What an evaluation found. AP and AR lie in 0..1; -1 where there is no true object to find, as in pycocotools.

    Attributes:
        box: the 12 numbers of `NUMBERS`; `ap_all` and `ar_all` too, at `max_detections`, when that is more than 100.
        mask: the same for masks; None without a mask head or without true masks.
        per_class: class name -> {"box": AP, "mask": AP, "keypoint": AP}, those that were measured.
        speed: `images_per_second`, and seconds by part: `load`, `model`, `masks`, `score`.
        images: images evaluated.
        objects: true objects in them, crowds left out.
        max_detections: most detections that the model gives an image.
        keypoint: COCO's 10 numbers of keypoints, `KEYPOINT_NUMBERS`, at 20 detections an image; None where the model
            or the truth has none.
        boundary: None.
    """

    box: dict[str, float]
    mask: dict[str, float] | None
    per_class: dict[str, dict[str, float]]
    speed: dict[str, float] = field(default_factory=dict)
    images: int = 0
    objects: int = 0
    max_detections: int = 100
    keypoint: dict[str, float] | None = None
    boundary: None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Metrics:
        """The inverse of `to_dict`; names of later versions are passed over."""
        known = {f.name for f in fields(Metrics)}
        return Metrics(**{name: value for name, value in data.items() if name in known})

    def __str__(self) -> str:
        lines = [f"{self.images} images, {self.objects} objects"]
        columns = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar_100"]
        columns += ["ap_all"] if "ap_all" in self.box else []
        titles = ["AP", "AP50", "AP75", "small", "medium", "large", "AR100", f"AP@{self.max_detections}"]
        rows = [("box", self.box)] + ([("mask", self.mask)] if self.mask else [])
        lines.append("      " + "".join(f"{title:>8}" for title, _ in zip(titles, columns, strict=False)))
        lines += [f"{kind:6}" + "".join(f"{_shown(numbers[name]):>8}" for name in columns) for kind, numbers in rows]
        lines += shown_keypoints(self.keypoint, _shown) if self.keypoint else []
        if len(self.per_class) > 1:
            lines += _class_lines(self.per_class)
        if self.speed:
            parts = ", ".join(f"{name} {value:.1f} s" for name, value in self.speed.items() if "per" not in name)
            lines.append(f"{self.speed['images_per_second']:.1f} images/s ({parts})")
        return "\n".join(lines)


def _shown(value: float) -> str:
    return "-" if value < 0 else f"{value:.3f}"


def _class_lines(per_class: dict[str, dict[str, float]], most: int = 20) -> list[str]:
    width = max(len(name) for name in list(per_class)[:most])
    kinds = list(next(iter(per_class.values())))
    wide = {kind: max(10, len(kind) + 5) for kind in kinds}
    lines = [f"{'class':{width}}" + "".join(f"{kind + ' AP':>{wide[kind]}}" for kind in kinds)]
    for name, values in list(per_class.items())[:most]:
        lines.append(f"{name:{width}}" + "".join(f"{_shown(values[kind]):>{wide[kind]}}" for kind in kinds))
    return lines + ([f"and {len(per_class) - most} more classes"] if len(per_class) > most else [])


class GroundTruth:
    """The truth of a data set as hotcoco wants it. Making it reads every mask once; keep it for the next evaluation.

    Attributes:
        coco: images, categories and annotations, numbered 1, 2, 3 ...: images by ascending id, categories
            in the order of the data set.
        classes: category id -> class name.
        has_masks: whether the objects have masks.
        keypoints: names of the keypoints, or ().
        image_ids: of all images.

    Raises:
        DataError: a mask that cannot be read, or of another size than its image.
    """

    def __init__(self, dataset: Dataset) -> None:
        table = dataset.table
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
        # Annotation ids are 1..N, not the file's: COCO's matching takes the id 0 for "unmatched".
        self.coco = COCO.from_arrays(
            images,
            [{"id": number, "name": name} for number, name in enumerate(self.classes.values(), start=1)],
            np.asarray(numbers, np.int64)[table.image_of],
            table.labels + 1,
            boxes,
            area=table.areas.astype(np.float64),
            iscrowd=table.crowd,
            segmentation=_segmentations(dataset) if self.has_masks else None,
        )
        if self.keypoints and len(table.image_of):
            self.coco.update_anns(with_keypoints(dataset))

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
    max_detections: int = 100,
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
        max_detections: most detections an image; beyond 100, `ap_all` and `ar_all` are measured there as well.
    """
    image_ids = truth.image_ids if image_ids is None else image_ids
    masks = masks and truth.has_masks
    rles = [result["segmentation"] for result in results] if masks else None
    found = truth.coco.load_res(_columns(truth, results), segmentation=rles)
    box, box_classes = _score(truth, found, "bbox", image_ids, max_detections)
    per_class = {name: {"box": ap} for name, ap in box_classes.items()}
    mask = None
    if rles is not None:
        if rles:  # small, medium and large by the area of the mask, not of the box
            found.update_anns(ids=np.arange(1, len(rles) + 1), area=coco_mask.area(rles))
        mask, mask_classes = _score(truth, found, "segm", image_ids, max_detections)
        for name, ap in mask_classes.items():
            per_class[name]["mask"] = ap
    points = None
    if keypoints and truth.keypoints:
        poses = truth.coco.load_res(_poses(truth, results)) if results else found
        points, point_classes = _score(truth, poses, "keypoints", image_ids, max_detections)
        for name, ap in point_classes.items():
            per_class[name]["keypoint"] = ap
    return Metrics(box, mask, per_class, {}, len(image_ids), truth.objects(image_ids), max_detections, points)


def _columns(truth: GroundTruth, results: Sequence[Mapping[str, Any]]) -> np.ndarray:
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
    truth: GroundTruth, found: COCO, kind: str, image_ids: Sequence[int], max_detections: int
) -> tuple[dict[str, float], dict[str, float]]:
    """The numbers, and AP by class name. `kind` is "bbox", "segm" or "keypoints"."""
    wanted = dict(_TABLES[kind])
    if not image_ids:  # an empty list means "all" to hotcoco
        return dict.fromkeys(wanted, -1.0), dict.fromkeys(truth.classes.values(), -1.0)
    evaluation = COCOeval(truth.coco, found, kind)
    evaluation.params.img_ids = sorted(truth.numbers(image_ids))
    if kind == "keypoints":
        evaluation.params.kpt_oks_sigmas = oks_sigmas(truth.keypoints)
    else:
        evaluation.params.max_dets = [1, 10, 100] + ([max_detections] if max_detections > 100 else [])
    with warnings.catch_warnings():  # of sigmas that are not COCO's
        warnings.simplefilter("ignore")
        evaluation.evaluate()
    evaluation.accumulate()
    # precision (T, R, K, A, M), recall (T, K, A, M): IoU threshold, recall level, class, area, detections an image
    tables: dict[str, Any] = evaluation.eval or {}
    if max_detections > 100 and kind != "keypoints":
        wanted |= {"ap_all": ("precision", _ALL, 0, 3), "ar_all": ("recall", _ALL, 0, 3)}
    numbers = {name: _mean(tables[table][iou, ..., area, count]) for name, (table, iou, area, count) in wanted.items()}
    most = wanted["ap"][3]
    return numbers, {
        name: _mean(tables["precision"][:, :, label, 0, most]) for label, name in enumerate(truth.classes.values())
    }


def _mean(table: np.ndarray) -> float:
    """Mean of what is defined (> -1); -1 when nothing is."""
    defined = table[table > -1]
    return float(defined.mean()) if defined.size else -1.0
