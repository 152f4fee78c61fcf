"""How far a model that was read from TensorFlow's files is from what the original code computed, number by number.

`python -m tests.weights.tensorflow.agreement FOLDER ...` prints the table of the documentation: each folder is one that
the recipe made.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from maskrcnn.data.resize import resize_image, resized_size
from maskrcnn.data.sample import to_image_tensor
from maskrcnn.instances import Instances
from maskrcnn.model.box_head import BoxOutput
from maskrcnn.model.content import Canvas
from maskrcnn.model.mask_rcnn import MaskRCNN
from maskrcnn.ops.compact import put, take
from maskrcnn.ops.crop_and_resize import crops_of_full_masks, sample_axis
from maskrcnn.predict.predictor import Predictor
from maskrcnn.structures import Proposals, Targets, empty_targets
from maskrcnn.weights.tensorflow.model import load_tensorflow
from tests.weights.tensorflow.golden import arrays, error, images

Arrays = dict[str, np.ndarray]
BOX, SCORE, MASK = 0.05, 1e-4, 1e-3  # pixels, probability, probability
LOSSES = {
    "rpn_score": "RPNLoss.objectness_loss",
    "rpn_box": "RPNLoss.localization_loss",
    "class": "BoxClassifierLoss.classification_loss",
    "box": "BoxClassifierLoss.localization_loss",
    "mask": "BoxClassifierLoss.mask_loss",
}


def xyxy(array: np.ndarray) -> Tensor:
    """y, x -> x, y; deltas too."""
    return torch.from_numpy(array)[..., [1, 0, 3, 2]].contiguous()


def side(golden: Arrays) -> tuple[int, int]:
    """(height, width) of the network's input."""
    return golden["preprocessed"].shape[1], golden["preprocessed"].shape[2]


def pixels(fractions: np.ndarray, frame: tuple[int, int]) -> Tensor:
    """Normalised y x boxes -> those in pixels that the original code made them of, to the last bit at the border."""
    scale = np.array([*frame, *frame], np.float64)
    return xyxy((fractions.astype(np.float64) / (np.float32(1) / scale.astype(np.float32))).astype(np.float32))


# ---------------------------------------------------------------- stage by stage


@torch.no_grad()
def stages(model: MaskRCNN, golden: Arrays) -> dict[str, float]:
    """The error of each stage, fed what the original code gave it.

    Relative to the largest value for features and raw outputs; in pixels of the input for boxes; else absolute.
    """
    frame = side(golden)
    sizes = torch.tensor([frame])
    image = to_image_tensor(golden["image"])
    assert resized_size(image.shape[1], image.shape[2], model.data) == frame
    resized = resize_image(image, frame, model.data.interpolation)
    expected = images(golden["preprocessed"])
    found = {"input": error(model.normalise(resized[None], sizes), expected)}
    features = images(golden["rpn_features_to_crop"])
    found["features"] = error(model.backbone(expected)[0], features)

    logits, deltas = model.rpn([features])
    scores = torch.from_numpy(golden["rpn_objectness_predictions_with_background"])
    theirs = [scores[..., 1] - scores[..., 0]], [xyxy(golden["rpn_box_encodings"])]
    found["first stage outputs"] = max(error(logits[0], theirs[0][0]), error(deltas[0], theirs[1][0]))
    proposals = golden_proposals(golden)
    ours = model.rpn.decode(*theirs, model.anchors([features], frame), sizes, train=False)
    assert torch.equal(ours.valid, proposals.valid)
    found["proposals (px)"] = float((ours.boxes - proposals.boxes).abs().max())

    everything = torch.ones_like(proposals.valid)  # the original code sees the empty ones too
    seen_boxes = pixels(golden["proposal_boxes_normalized"], frame)
    _, _, output = model.classify([features], Canvas(frame, sizes), seen_boxes, everything)
    wanted = BoxOutput(
        torch.from_numpy(golden["class_predictions_with_background"]).roll(-1, -1)[None],
        xyxy(golden["refined_box_encodings"])[None],
    )
    found["class logits, box outputs"] = max(error(output.logits, wanted.logits), error(output.deltas, wanted.deltas))
    decoded, count = model.box_head.decode(wanted, proposals, sizes), int(golden["num_detections"][0])
    assert int(decoded.valid.sum()) == count
    boxes = pixels(golden["detection_boxes"][0, :count], frame)
    labels = torch.from_numpy(golden["detection_classes"][0, :count]).long()
    assert torch.equal(decoded.labels[0, :count], labels)
    found["boxes (px)"] = float((decoded.boxes[0, :count] - boxes).abs().max())
    found["scores"] = float(
        (decoded.scores[0, :count] - torch.from_numpy(golden["detection_scores"])[0, :count]).abs().max()
    )

    assert model.mask_head is not None
    seen = model.see_masks([features], Canvas(frame, sizes), boxes, torch.zeros(count, dtype=torch.int64))
    masks = model.mask_head(seen, labels).sigmoid()
    found["masks"] = float((masks - torch.from_numpy(golden["detection_masks"])[0, :count]).abs().max())
    if "full_masks_packed" in golden:
        found["full masks (part of pixels)"] = float((pasted(golden) != full_masks(golden)).mean())
    return found


def golden_proposals(golden: Arrays) -> Proposals:
    boxes = xyxy(golden["proposal_boxes"])
    valid = torch.arange(boxes.shape[1])[None] < int(golden["num_proposals"][0])
    return Proposals(boxes, valid.float(), valid)


def full_masks(golden: Arrays) -> np.ndarray:
    """(N, H, W) bool, of the original code."""
    count, width = int(golden["num_detections"][0]), golden["image"].shape[1]
    return np.unpackbits(golden["full_masks_packed"][:count], axis=2)[:, :, :width].astype(bool)


def pasted(golden: Arrays) -> np.ndarray:
    """Our paste of their boxes and masks."""
    (height, width), count = golden["image"].shape[:2], int(golden["num_detections"][0])
    boxes = xyxy(golden["detection_boxes"])[0, :count].numpy() * np.array([width, height, width, height], np.float32)
    labels = np.zeros(count, np.int64)
    instances = Instances(boxes, np.ones(count, np.float32), labels, ("a",), (height, width), paste="tensorflow")
    return replace(instances, roi_masks=golden["detection_masks"][0, :count]).masks


# ---------------------------------------------------------------- losses


def losses(model: MaskRCNN, lesson: Arrays) -> dict[str, float]:
    """Relative error of each loss, weights included, with every anchor and every proposal in it."""
    frame = side(lesson)
    sizes, targets = torch.tensor([frame]), truth(lesson)
    rpn, box = model.rpn.config, model.box_head.config
    model.rpn.config = replace(rpn, samples_per_image=10**6, positive_fraction=1.0, post_nms_train=64)
    model.box_head.config = replace(box, samples_per_image=64, positive_fraction=1.0)
    try:
        features = model.backbone(images(lesson["preprocessed"]))
        anchors = model.anchors(features, frame)
        sampled = model.rpn.targets(torch.cat(anchors), targets, sizes)
        parts = model.rpn.loss(*model.rpn.at(features, sampled.indices), sampled)
        samples = model.box_head.targets(golden_proposals(lesson), targets)
        rows, seen, output = model.classify(features, Canvas(frame, sizes), samples.boxes, samples.valid, targets.keys)
        parts |= model.box_head.loss(output, samples, targets)
        assert model.mask_head is not None
        chosen = model.mask_head.foreground(samples)
        logits = model.mask_head(take(put(seen, rows, *samples.valid.shape), chosen.places), chosen.labels)
        goal = crops_of_full_masks(
            torch.from_numpy(lesson["gt_masks"]),
            chosen.boxes,
            chosen.matched,
            frame=frame,
            resolution=model.mask_head.resolution,
        )
        parts |= model.mask_head.loss(logits, goal, chosen.valid)
    finally:
        model.rpn.config, model.box_head.config = rpn, box
    found = {}
    for ours, theirs in LOSSES.items():
        expected = float(lesson[f"loss|{theirs}"])
        found[ours] = abs(float(parts[ours].total.detach() / parts[ours].count) - expected) / expected
    return found


def truth(lesson: Arrays) -> Targets:
    """Boxes and labels; the masks come from the whole image, see `crops_of_full_masks`."""
    height, width = side(lesson)
    targets = empty_targets(1, len(lesson["gt_boxes"]), 112)
    targets.boxes = (xyxy(lesson["gt_boxes"]) * torch.tensor([width, height, width, height]))[None]
    targets.labels, targets.valid[:] = torch.from_numpy(lesson["gt_classes"])[None], True
    return targets


# ---------------------------------------------------------------- from the image to the detections


@dataclass
class EndToEnd:
    """One image through the predictor.

    Attributes:
        count: detections of the original code.
        found: how many of them are ours too: same class, box within 0.05 px of the input, score within 1e-4.
        boxes, scores: largest error of those found, in pixels of the input, and as probability.
        masks: largest error of their masks, those apart that follow.
        mask_outliers: masks of those found that are further off than 1e-3.
        unexplained: mask outliers whose box has the same samples inside the image as the original's.
        flipped: proposals of which the last bit of an edge at the image's border moves samples in or out.
        pixels: part of the pixels that differ, in full masks that are no outliers.
    """

    count: int
    found: int
    boxes: float
    scores: float
    masks: float
    mask_outliers: int
    unexplained: int
    flipped: int
    pixels: float

    @property
    def lost(self) -> int:
        return self.count - self.found


@dataclass
class Run:
    """What the predictor makes of an image: detections and proposals in the input's frame, and what a user gets."""

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    masks: Tensor
    proposals: Tensor
    instances: Instances


@torch.no_grad()
def run(predictor: Predictor, golden: Arrays) -> Run:
    model, frame = predictor.model, side(golden)
    assert isinstance(model, MaskRCNN)
    image = predictor.prepare(golden["image"])
    content, sizes = image.content[None], torch.tensor([frame])
    ours = predictor.raw(content, sizes)
    valid = ours.valid[0]
    assert ours.masks is not None
    features = model.features(content, sizes)
    proposals = model.rpn.decode(*model.rpn(features), model.anchors(features, frame), sizes, train=False)
    return Run(
        *(x[0][valid] for x in (ours.boxes, ours.labels, ours.scores, ours.masks)),
        proposals=proposals.boxes[proposals.valid],
        instances=predictor._instances(ours, 0, image, 0.0),
    )


def end_to_end(ours: Run, golden: Arrays, cells_of_crop: int, answer: Arrays | None = None) -> EndToEnd:
    """Compare with the graph's detections in `golden`, or with another answer for the same image (the frozen graph's,
    whose classes begin with 1)."""
    first, answer = (0, golden) if answer is None else (1, answer)
    frame, cells = side(golden), golden["rpn_features_to_crop"].shape[1:3]
    count = int(answer["num_detections"][0])
    fractions = answer["detection_boxes"][0, :count]
    theirs = pixels(fractions, frame)
    kinds = torch.from_numpy(answer["detection_classes"])[0, :count].long() - first
    apart = (theirs[:, None] - ours.boxes).abs().amax(-1) + 1e6 * (kinds[:, None] != ours.labels)  # (theirs, ours)
    distance, match = apart.min(dim=1)
    off = (torch.from_numpy(answer["detection_scores"])[0, :count] - ours.scores[match]).abs()
    same = (distance <= BOX) & (off <= SCORE)
    assert len(set(match[same].tolist())) == int(same.sum())

    difference = (torch.from_numpy(answer["detection_masks"])[0, :count] - ours.masks[match]).abs().amax((1, 2))
    outlier = same & (difference > MASK)

    def other_samples(fractions: np.ndarray, boxes: Tensor) -> Tensor:
        known = inside(torch.from_numpy(fractions), cells, cells_of_crop)
        return (known != inside(normalised(boxes, frame), cells, cells_of_crop)).any(dim=1)

    wanted = golden_proposals(golden)
    nearest = torch.cdist(wanted.boxes[wanted.valid], ours.proposals, p=torch.inf).argmin(dim=1)
    flipped = other_samples(golden["proposal_boxes_normalized"][wanted.valid.numpy()], ours.proposals[nearest])
    whole = 0.0
    if "full_masks_packed" in golden and not first:
        good = torch.nonzero(same & ~outlier)[:, 0].numpy()
        whole = float((ours.instances[match.numpy()[good]].masks != full_masks(golden)[good]).mean())
    return EndToEnd(
        count=count,
        found=int(same.sum()),
        boxes=float(distance[same].max()),
        scores=float(off[same].max()),
        masks=float(difference[same & ~outlier].max()),
        mask_outliers=int(outlier.sum()),
        unexplained=int((outlier & ~other_samples(fractions, ours.boxes[match])).sum()),
        flipped=int(flipped.sum()),
        pixels=whole,
    )


def normalised(boxes: Tensor, frame: tuple[int, int]) -> Tensor:
    """x y boxes in pixels -> y x boxes as fractions, as both sides compute them."""
    height, width = frame
    return (boxes * torch.tensor([1.0 / width, 1.0 / height] * 2))[:, [1, 0, 3, 2]]


def inside(fractions: Tensor, cells: tuple[int, ...], count: int) -> Tensor:
    """Which samples of each box lie in the map: (R, 2 * count) bool, rows then columns."""
    y0, x0, y1, x1 = fractions.float().unbind(1)
    rows, columns = (
        sample_axis(start, end, torch.full((len(start),), length), count)[2]
        for start, end, length in ((y0, y1, cells[0]), (x0, x1, cells[1]))
    )
    return torch.cat([rows, columns], dim=1)


# ---------------------------------------------------------------- the table


def cases(folder: Path) -> Iterator[tuple[Arrays, Arrays | None]]:
    """What the graph gave for each image, and what the frozen graph gave, if it is there."""
    for case in ("case0", "case1"):
        if (folder / f"{case}.npz").is_file():
            frozen = folder / f"frozen_{case}.npz"
            yield arrays(folder / f"{case}.npz"), arrays(frozen) if frozen.is_file() else None


def weights_of(folder: Path) -> Path:
    """The checkpoint that the recipe wrote."""
    return folder / "ckpt" / "model.ckpt" if (folder / "ckpt").is_dir() else folder / "ckpt-1"


def measured(folder: Path) -> dict[str, str]:
    """The rows of the table for one model: the worst of its images; outliers are counted over all of them."""
    model = load_tensorflow(weights_of(folder))
    predictor = Predictor(model, device="cpu", precision="float32")
    size = model.config.box.pooler.resolution
    worst: dict[str, float] = {}
    runs: dict[str, list[EndToEnd]] = {"graph": [], "frozen graph": []}
    for golden, frozen in cases(folder):
        ours = run(predictor, golden)
        runs["graph"].append(end_to_end(ours, golden, size))
        if frozen is not None:
            runs["frozen graph"].append(end_to_end(ours, golden, size, frozen))
        for stage, value in stages(model, golden).items():
            worst[stage] = max(worst.get(stage, 0.0), value)
    if (folder / "loss.npz").is_file():
        worst |= {f"loss {name}": value for name, value in losses(model, arrays(folder / "loss.npz")).items()}
    rows = {stage: f"{value:.0e}" for stage, value in worst.items()}
    for name, found in runs.items():
        if not found:
            continue
        rows |= {
            f"{name}: detections found": f"{sum(r.found for r in found)} of {sum(r.count for r in found)}",
            f"{name}: boxes (px)": f"{max(r.boxes for r in found):.0e}",
            f"{name}: scores": f"{max(r.scores for r in found):.0e}",
            f"{name}: masks": f"{max(r.masks for r in found):.0e}",
            f"{name}: masks further off": str(sum(r.mask_outliers for r in found)),
            f"{name}: proposals with other samples": str(sum(r.flipped for r in found)),
        }
        if name == "graph":
            rows["graph: pixels of full masks"] = f"{max(r.pixels for r in found):.0e}"
    return rows


def main() -> None:
    torch.set_num_threads(1)
    columns = {}
    for name in sys.argv[1:]:
        columns[Path(name).name] = measured(Path(name))
        print(name, columns[Path(name).name], file=sys.stderr, flush=True)
    rows = list(dict.fromkeys(row for column in columns.values() for row in column))
    print("| |", " | ".join(columns), "|")
    print("|---" * (len(columns) + 1) + "|")
    for row in rows:
        print(f"| {row} |", " | ".join(column.get(row, "") for column in columns.values()), "|")


if __name__ == "__main__":
    main()
