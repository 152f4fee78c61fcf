"""Does the written file give what the model gives? Run on images with no, one and a hundred detections.

The score threshold is an input of every graph, so any model, trained or not, gives each of these numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskrcnn.data.resize import pad_to, resize_image
from maskrcnn.data.synthetic import draw_shapes
from maskrcnn.errors import ExportError
from maskrcnn.exporting.traced import Traced
from maskrcnn.ops.boxes import iou
from maskrcnn.predict.exported.info import ExportInfo
from maskrcnn.predict.exported.model import Run
from maskrcnn.structures import Detections

BOX_TOLERANCE = 0.1  # pixels
MASK_IOU = 0.99
SCORE_TOLERANCE = 1e-3
KEYPOINT_TOLERANCE = 0.5  # pixels
SAME_CROPPED = 0.75  # with crop_and_resize the last bit also decides whether a sample on the image's border is 0
SAME = 0.98  # part of the detections that has to be found again: some NMS decisions hang on the last bit
UNDECIDED = 1e-3  # mask cells whose probability is this close to the threshold may fall either way


@dataclass(frozen=True)
class Agreement:
    """How far an exported file is from the model, over the detections of one image.

    Attributes:
        wanted: detections of the model.
        found: of the file.
        same: those of the model that have one of the same class within `BOX_TOLERANCE` pixels.
        box: largest distance of a box side over these, pixels.
        score: largest difference of a score over these.
        mask_iou: smallest intersection over union of masks over these; 1 without masks.
        masks: those of `same` whose masks have an IoU of at least `MASK_IOU`.
        points: keypoints of `same`.
        near: those of `points` that lie within `KEYPOINT_TOLERANCE`.
        keypoint: largest distance of one along an axis, pixels.
        overlapping: those of the model that have one of the same class with IoU >= 0.5, for reduced precision.
    """

    wanted: int
    found: int
    same: int
    box: float
    score: float
    mask_iou: float
    masks: int
    points: int
    near: int
    keypoint: float
    overlapping: int

    def __str__(self) -> str:
        if not self.wanted:
            return "0 detections: 0 found"
        counts = f"{self.wanted} detections: {self.found} found, {self.overlapping} overlapping by half"
        near = f"box {self.box:.3f} px, score {self.score:.1e}, mask IoU {self.mask_iou:.3f}"
        if self.points:
            near += f", {self.near} of {self.points} keypoints within {KEYPOINT_TOLERANCE} px"
        return f"{counts}, {self.same} within {BOX_TOLERANCE} px" + (f" ({near})" if self.same else "")


def verify(traced: Traced, run: Run, path: Path) -> list[Agreement]:
    """Compare a file with the model it was made from.

    Args:
        traced: the model.
        run: runs the file.
        path: the file, for messages.

    Returns:
        One row an image and number of detections.

    Raises:
        ExportError: a float32 file finds other objects, boxes, scores, masks or keypoints than the model; a file in
            reduced precision finds nothing; the model itself finds nothing, even without a threshold.
    """
    rows = []
    for inputs in check_inputs(traced):
        first = _eager(traced, inputs)
        if not first.valid.any():
            raise ExportError(
                f"{path}: the model finds nothing at all, so that its export cannot be checked; are its weights finite?"
            )
        most = _compared(traced, run, path, inputs, first, threshold=0.0)
        best = first.scores[0][first.valid[0]].sort(descending=True).values
        between = float((best[0] + best[1]) / 2) if len(best) > 1 else 0.0
        for row in (most, *(_compared(traced, run, path, inputs, None, limit) for limit in (between, 1.0))):
            rows.append(row)
            _check(row, traced.info, path)
    return rows


def check_inputs(traced: Traced) -> Iterator[dict[str, Tensor]]:
    """Drawn pictures in both orientations, without the threshold: as many as the graph takes at once, else 2."""
    info = traced.info
    channels = len(info.model.image_mean)
    for number, size in enumerate(((480, 640), (640, 427))):
        pictures = [_picture(size, channels, info.image_dtype, seed=number + 10 * i) for i in range(info.batch or 2)]
        if info.takes == "photo":
            yield {"images": torch.stack(pictures)}
            continue
        content, padded = info.fit(size)
        resized = [resize_image(picture, content, info.data.interpolation) for picture in pictures]
        images = torch.stack([pad_to(image, padded, info.data.pad_place) for image in resized])
        yield {"images": images, "sizes": torch.tensor([content] * len(pictures))}


def _picture(size: tuple[int, int], channels: int, dtype: str, seed: int) -> Tensor:
    drawn = torch.from_numpy(draw_shapes(size, np.random.default_rng(seed))[0]).permute(2, 0, 1)  # (3, h, w)
    return drawn[torch.arange(channels) % 3].to(getattr(torch, dtype)).contiguous()


@torch.no_grad()
def _eager(traced: Traced, inputs: dict[str, Tensor], threshold: float = 0.0) -> Detections:
    values = traced.module(**inputs, score_threshold=torch.tensor(threshold))
    return Detections(**dict(zip(traced.outputs, values, strict=True)))


def _compared(
    traced: Traced, run: Run, path: Path, inputs: dict[str, Tensor], eager: Detections | None, threshold: float
) -> Agreement:
    """The rows of all images of a batch as one."""
    arrays = {name: value.numpy() for name, value in inputs.items()}
    outputs = run(arrays | {"score_threshold": np.asarray(threshold, np.float32)})
    if outputs.keys() != set(traced.outputs):
        raise ExportError(f"{path}: gives {', '.join(outputs)} instead of {', '.join(traced.outputs)}; it is not kept")
    ours = eager or _eager(traced, inputs, threshold)
    theirs = Detections(**{name: torch.from_numpy(value) for name, value in outputs.items()})
    mask = traced.info.model.mask
    parts = [compare(_row(ours, i), _row(theirs, i), mask.threshold if mask else 0.5) for i in range(len(ours.valid))]
    return Agreement(
        wanted=sum(part.wanted for part in parts),
        found=sum(part.found for part in parts),
        same=sum(part.same for part in parts),
        box=max(part.box for part in parts),
        score=max(part.score for part in parts),
        mask_iou=min(part.mask_iou for part in parts),
        masks=sum(part.masks for part in parts),
        points=sum(part.points for part in parts),
        near=sum(part.near for part in parts),
        keypoint=max(part.keypoint for part in parts),
        overlapping=sum(part.overlapping for part in parts),
    )


def _row(detections: Detections, index: int) -> Detections:
    """The real detections of one image."""
    valid = detections.valid[index]
    return Detections(
        boxes=detections.boxes[index][valid].float(),
        scores=detections.scores[index][valid].float(),
        labels=detections.labels[index][valid],
        valid=valid[valid],
        masks=None if detections.masks is None else detections.masks[index][valid].float(),
        keypoints=None if detections.keypoints is None else detections.keypoints[index][valid].float(),
    )


def compare(ours: Detections, theirs: Detections, mask_threshold: float) -> Agreement:
    """The detections (N, ...) of one image against another's (M, ...): each of ours with the nearest of its class."""
    wanted, found = len(ours.boxes), len(theirs.boxes)
    if not wanted or not found:
        return Agreement(wanted, found, 0, 0.0, 0.0, 1.0, 0, 0, 0, 0.0, 0)
    distance = (ours.boxes[:, None] - theirs.boxes).abs().amax(dim=2)  # (N, M)
    distance = torch.where(ours.labels[:, None] == theirs.labels, distance, torch.inf)
    # Two boxes may lie as near; of these the one with the nearer score.
    apart = (ours.scores[:, None] - theirs.scores).abs()
    nearest = torch.where(distance <= BOX_TOLERANCE, apart, torch.inf).argmin(dim=1)
    same = distance.gather(1, nearest[:, None])[:, 0] <= BOX_TOLERANCE
    partner = nearest[same]
    overlap = torch.where(torch.isfinite(distance), iou(ours.boxes, theirs.boxes), 0.0).amax(dim=1) >= 0.5
    mask_iou = torch.ones(len(partner))
    if ours.masks is not None and theirs.masks is not None:
        mask_iou = _mask_iou(ours.masks[same], theirs.masks[partner], mask_threshold)
    away = torch.zeros(0)
    if ours.keypoints is not None and theirs.keypoints is not None:
        away = (ours.keypoints[same] - theirs.keypoints[partner])[..., :2].abs().amax(dim=2).flatten()
    return Agreement(
        wanted=wanted,
        found=found,
        same=int(same.sum()),
        box=float(distance[same].amin(dim=1).max()) if len(partner) else 0.0,
        score=float(apart[same].gather(1, partner[:, None]).max()) if len(partner) else 0.0,
        mask_iou=float(mask_iou.min()) if len(partner) else 1.0,
        masks=int((mask_iou >= MASK_IOU).sum()),
        points=len(away),
        near=int((away <= KEYPOINT_TOLERANCE).sum()),
        keypoint=float(away.max()) if len(away) else 0.0,
        overlapping=int(overlap.sum()),
    )


def _mask_iou(ours: Tensor, theirs: Tensor, threshold: float) -> Tensor:
    """IoU (N,) of masks (N, M, M) in the roi frame."""
    inside = ours >= threshold
    other = torch.where((ours - theirs).abs() <= UNDECIDED, inside, theirs >= threshold)
    both, either = (inside & other).sum(dim=(1, 2)), (inside | other).sum(dim=(1, 2))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def _check(row: Agreement, info: ExportInfo, path: Path) -> None:
    """Written so that a NaN fails."""
    if info.precision != "float32":
        good = row.wanted < 2 or row.found > 0
    elif info.model.box.pooler.kind == "crop_and_resize":
        good = row.masks >= SAME_CROPPED * row.wanted and abs(row.found - row.wanted) <= row.wanted - row.masks
    else:
        good = row.found == row.wanted and row.same >= SAME * row.wanted and row.masks == row.same
        good &= row.score <= SCORE_TOLERANCE
        # Two peaks of a heat map may be as high.
        good &= row.points - row.near <= max(1, (1 - SAME) * row.points)
    if not good:
        raise ExportError(f"{path}: what was written does not agree with the model, so it is not kept: {row}")
