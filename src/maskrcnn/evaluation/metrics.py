"""`Metrics`: the numbers of an evaluation, as a record, as text and as plain JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from maskrcnn.evaluation.keypoints import shown_keypoints


@dataclass(frozen=True)
class Metrics:
    """What an evaluation found. AP and AR lie in 0..1; -1 where there is no true object to find, as in pycocotools.

    Attributes:
        box: the 12 numbers of `NUMBERS`; `ap_all` and `ar_all` too, at `max_detections`, when that is more than 100.
            With limits of one's own `ar_K` for each K of `limits`, and every other number at the largest.
        mask: the same for masks; None without a mask head or without true masks.
        per_class: class name -> {"box": AP, "mask": AP, "keypoint": AP}, those that were measured.
        speed: `images_per_second`, and seconds by part: `load`, `model`, `masks`, `score`; empty for results files.
        images: images evaluated.
        objects: true objects in them, crowds left out.
        max_detections: most detections that the model gives an image.
        keypoint: COCO's 10 numbers of keypoints, `KEYPOINT_NUMBERS`, at 20 detections an image; None where the model
            or the truth has none.
        boundary: the 12 numbers of masks, where the IoU of a pair is that of its masks or of their boundaries,
            whichever is less; None where not asked for.
        lvis: "box" and "mask" -> LVIS's 13 numbers, `LVIS_NUMBERS`; None where not asked for.
        voc: "box" and "mask" -> {"ap50": area under the curve, "ap50_11": mean at 11 recalls}; None where not asked
            for.
        by_class: "box" and "mask" -> class name -> its numbers: `objects`, AP at all thresholds, at 0.5 and 0.75 and by
            size, AR at the largest limit and by size.
        by_count: objects in the image ("1", "2-5", "6-20", "more") -> `images`, `objects`, and AP of "box" and "mask".
        limits: most detections an image and class that count.
    """

    box: dict[str, float]
    mask: dict[str, float] | None
    per_class: dict[str, dict[str, float]]
    speed: dict[str, float] = field(default_factory=dict)
    images: int = 0
    objects: int = 0
    max_detections: int = 100
    keypoint: dict[str, float] | None = None
    boundary: dict[str, float] | None = None
    lvis: dict[str, dict[str, float]] | None = None
    voc: dict[str, dict[str, float]] | None = None
    by_class: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    by_count: dict[str, dict[str, float]] = field(default_factory=dict)
    limits: tuple[int, ...] = (1, 10, 100)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"limits": list(self.limits)}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Metrics:
        """The inverse of `to_dict`; names of later versions are passed over."""
        known = {f.name for f in fields(Metrics)}
        given = {name: value for name, value in data.items() if name in known}
        return Metrics(**given | {"limits": tuple(given.get("limits", (1, 10, 100)))})

    def kinds(self) -> dict[str, dict[str, float]]:
        """ "box", "mask", "keypoint", "boundary", "lvis box", "voc mask" ... -> numbers, those that were measured."""
        found = {"box": self.box, "mask": self.mask, "keypoint": self.keypoint, "boundary": self.boundary}
        several = {
            f"{name} {kind}": numbers
            for name, group in (("lvis", self.lvis), ("voc", self.voc))
            for kind, numbers in (group or {}).items()
        }
        return {kind: numbers for kind, numbers in (found | several).items() if numbers is not None}

    def __str__(self) -> str:
        lines = [f"{self.images} images, {self.objects} objects"]
        columns = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", f"ar_{self.limits[-1]}"]
        columns += ["ap_all"] if "ap_all" in self.box else []
        titles = ["AP", "AP50", "AP75", "small", "medium", "large", f"AR{self.limits[-1]}", f"AP@{self.max_detections}"]
        rows = [("box", self.box), ("mask", self.mask), ("boundary", self.boundary)]
        wide = 10 if self.boundary else 6
        lines.append(" " * wide + "".join(f"{title:>8}" for title, _ in zip(titles, columns, strict=False)))
        for kind, numbers in rows:
            if numbers:
                cells = "".join(f"{shown(numbers[name]):>8}" for name in columns if name in numbers)
                lines.append(f"{kind:{wide}}{cells}")
        lines += shown_keypoints(self.keypoint, shown) if self.keypoint else []
        lines += _lvis_lines(self.lvis) + _voc_lines(self.voc)
        if len(self.by_count) > 1:
            lines += _count_lines(self.by_count)
        if len(self.per_class) > 1:
            lines += _class_lines(self.per_class)
        if self.speed:
            parts = ", ".join(f"{name} {value:.1f} s" for name, value in self.speed.items() if "per" not in name)
            lines.append(f"{self.speed['images_per_second']:.1f} images/s ({parts})")
        return "\n".join(lines)


def shown(value: float) -> str:
    """Three digits, or a dash where the number is not defined."""
    return "-" if value < 0 else f"{value:.3f}"


def _lvis_lines(lvis: dict[str, dict[str, float]] | None) -> list[str]:
    titles = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_rare": "rare", "ap_common": "common",
              "ap_frequent": "frequent", "ar_300": "AR300"}  # fmt: skip
    head = ["LVIS      " + "".join(f"{title:>9}" for title in titles.values())]
    rows = [f"{kind:10}" + "".join(f"{shown(n[name]):>9}" for name in titles) for kind, n in (lvis or {}).items()]
    return head + rows if rows else []


def _voc_lines(voc: dict[str, dict[str, float]] | None) -> list[str]:
    return [
        f"VOC {kind}: AP50 {shown(numbers['ap50'])}, at 11 recalls {shown(numbers['ap50_11'])}"
        for kind, numbers in (voc or {}).items()
    ]


def _count_lines(by_count: dict[str, dict[str, float]]) -> list[str]:
    kinds = [kind for kind in ("box", "mask") if kind in next(iter(by_count.values()))]
    lines = ["objects in the image     images" + "".join(f"{kind + ' AP':>10}" for kind in kinds)]
    for name, row in by_count.items():
        lines.append(f"{name:<22}{int(row['images']):>9}" + "".join(f"{shown(row[kind]):>10}" for kind in kinds))
    return lines


def _class_lines(per_class: dict[str, dict[str, float]], most: int = 20) -> list[str]:
    width = max(len(name) for name in list(per_class)[:most])
    kinds = list(next(iter(per_class.values())))
    wide = {kind: max(10, len(kind) + 5) for kind in kinds}
    lines = [f"{'class':{width}}" + "".join(f"{kind + ' AP':>{wide[kind]}}" for kind in kinds)]
    for name, values in list(per_class.items())[:most]:
        lines.append(f"{name:{width}}" + "".join(f"{shown(values[kind]):>{wide[kind]}}" for kind in kinds))
    return lines + ([f"and {len(per_class) - most} more classes"] if len(per_class) > most else [])
