"""Inference, whole and by part: from the uint8 photograph to masks in its own pixels."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _timing import Job, Row, compare
from _torchvision import Pair, build_pair, picture
from pycocotools import mask as pycoco
from torch import Tensor
from torchvision.models.detection.roi_heads import maskrcnn_inference
from torchvision.models.detection.rpn import concat_box_prediction_layers

from maskrcnn import Predictor
from maskrcnn.data.resize import pad_to, padded_size
from maskrcnn.model.content import Canvas, canvas_of
from maskrcnn.ops.compact import rows_to_keep, take
from maskrcnn.predict.predictor import Precision

DETECTIONS = 100
Look = Callable[[list[Tensor], Canvas, Tensor, Tensor], Tensor]


def run(device: torch.device, repeat: int, photo: tuple[int, int], sizes: tuple[int, int]) -> list[Row]:
    """Rows of the whole call and of its parts; `photo` is (height, width), `sizes` the network's (min, max) side."""
    image = picture(*photo)
    pair = build_pair(*sizes, image, device)
    rows = whole(pair, image, device, repeat, "float32")
    rows += by_part(pair, image, device, repeat)
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        rows += whole(pair, image, device, repeat, "bf16")
    return rows


def whole(pair: Pair, image: Tensor, device: torch.device, repeat: int, precision: Precision) -> list[Row]:
    """The calls that a user makes; reads the masks back, to the pixels and to RLE."""
    predictor = Predictor(pair.ours, device=device, precision=precision)

    @torch.inference_mode()
    def theirs() -> dict[str, Tensor]:
        bf16 = torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
        with bf16:
            return pair.theirs([image.to(device).float() / 255])[0]

    def their_masks() -> np.ndarray:
        return (theirs()["masks"][:, 0] > 0.5).cpu().numpy()

    def their_rle() -> list[dict[str, Any]]:
        return [pycoco.encode(np.asfortranarray(m, dtype=np.uint8)) for m in their_masks()]

    if precision == "float32":
        with torch.backends.cudnn.flags(allow_tf32=False):  # the same arithmetic, for this comparison only
            same_detections(predictor, image, theirs())
    name = f"inference {precision}"
    return [
        compare(name, "photo to masks", lambda: predictor(image, 0.0).masks, their_masks, repeat=repeat, device=device),
        compare(name, "photo to RLE", lambda: predictor(image, 0.0).rle, their_rle, repeat=repeat, device=device),
    ]


def same_detections(predictor: Predictor, image: Tensor, theirs: dict[str, Tensor]) -> None:
    """A comparison of speed means nothing unless both find the same 100 objects."""
    ours = predictor(image, 0.0)
    if len(ours) != DETECTIONS or len(theirs["boxes"]) != DETECTIONS:
        raise RuntimeError(f"expected {DETECTIONS} detections, ours {len(ours)}, torchvision {len(theirs['boxes'])}")
    apart = np.abs(ours.boxes[:, None] - theirs["boxes"].cpu().numpy()).max(axis=2)  # (N, N) pixels
    apart[ours.labels[:, None] != theirs["labels"].cpu().numpy() - 1] = np.inf
    found = (apart.min(axis=1) <= 0.1).mean()
    if found < 0.95:
        raise RuntimeError(f"only {found:.0%} of the boxes are torchvision's, of the same class and within 0.1 px")
    difference = np.abs(np.sort(ours.scores) - np.sort(theirs["scores"].cpu().numpy())).max()
    if difference > 5e-3:  # rounding gives 1e-4, another network much more
        raise RuntimeError(f"scores differ by {difference:.2g} from torchvision's: not the same network")


@torch.inference_mode()
def by_part(pair: Pair, image: Tensor, device: torch.device, repeat: int) -> list[Row]:
    """Each part of both on its own side's inputs; the sum is a little less than the whole call."""
    predictor = Predictor(pair.ours, device=device, precision="float32")
    ours, theirs = our_parts(predictor, image, device), their_parts(pair, image, device)
    return [
        compare("part of inference", name, inference(ours[name]), inference(theirs[name]), repeat=repeat, device=device)
        for name in ours
    ]


def inference(job: Job) -> Job:
    return torch.inference_mode()(job)


def our_parts(predictor: Predictor, image: Tensor, device: torch.device) -> dict[str, Job]:
    """Part name -> a call of it on the outputs of the parts before."""
    model = predictor.model
    box, mask = model.box_head, model.mask_head
    assert mask is not None

    def prepare() -> tuple[Tensor, Tensor]:
        content = predictor.prepare(image).content
        height, width = content.shape[-2:]
        batch = pad_to(content, padded_size(height, width, model.data))[None].to(device)
        sizes = torch.tensor([[height, width]], device=device)
        return model.normalise(batch, sizes), sizes

    x, sizes = prepare()
    maps = model.backbone(x)
    features = model.fpn(maps)
    logits, deltas = model.rpn(features)

    def propose() -> Any:
        anchors = model.anchors(features, (x.shape[-2], x.shape[-1]))
        return model.rpn.decode(logits, deltas, anchors, sizes, train=False)

    proposals, canvas = propose(), canvas_of(x, sizes)

    def see(look: Look, boxes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """(rows, features) of the boxes that are real."""
        rows = rows_to_keep(valid)
        return rows, look(features, canvas, take(boxes, rows), rows // valid.shape[1])

    def see_boxes() -> tuple[Tensor, Tensor]:
        return see(model.see_boxes, proposals.boxes, proposals.valid)

    rows, seen = see_boxes()
    shape = (proposals.valid.shape[0], proposals.valid.shape[1])
    output = box(seen, rows, shape)
    detections = box.decode(output, proposals, sizes)

    def see_masks() -> tuple[Tensor, Tensor]:
        return see(model.see_masks, detections.boxes, detections.valid)

    found_rows, mask_seen = see_masks()
    found = predictor(image, 0.0)

    def paste() -> np.ndarray:
        found._rle = None  # what it keeps from the last access
        return found.masks

    return {
        "resize, normalise, pad": prepare,
        "trunk": lambda: model.backbone(x),
        "FPN": lambda: model.fpn(maps),
        "RPN head": lambda: model.rpn(features),
        "proposals": propose,
        "box RoIAlign": see_boxes,
        "box head": lambda: box(seen, rows, shape),
        "postprocess": lambda: box.decode(output, proposals, sizes),
        "mask RoIAlign": see_masks,
        "mask head": lambda: mask.decode(mask_seen, found_rows, detections),
        "paste": paste,
    }


def their_parts(pair: Pair, image: Tensor, device: torch.device) -> dict[str, Job]:
    """The same names for torchvision."""
    model = pair.theirs
    rpn, heads = model.rpn, model.roi_heads

    def prepare() -> Any:
        return model.transform([image.to(device).float() / 255])[0]

    images = prepare()
    maps = model.backbone.body(images.tensors)
    features = model.backbone.fpn(maps)
    levels = list(features.values())
    objectness, deltas = rpn.head(levels)

    def propose() -> list[Tensor]:
        anchors = rpn.anchor_generator(images, levels)
        counts = [o[0].numel() for o in objectness]
        scores, flat = concat_box_prediction_layers(list(objectness), list(deltas))
        boxes = rpn.box_coder.decode(flat, anchors).view(len(anchors), -1, 4)
        return rpn.filter_proposals(boxes, scores, images.image_sizes, counts)[0]

    proposals = propose()
    pooled = heads.box_roi_pool(features, proposals, images.image_sizes)

    def box_head() -> Any:
        return heads.box_predictor(heads.box_head(pooled))

    logits, regression = box_head()
    boxes, scores, labels = heads.postprocess_detections(logits, regression, proposals, images.image_sizes)
    mask_pooled = heads.mask_roi_pool(features, boxes, images.image_sizes)

    def mask_head() -> list[Tensor]:
        return maskrcnn_inference(heads.mask_predictor(heads.mask_head(mask_pooled)), labels)

    masks = mask_head()[0]

    def paste() -> np.ndarray:
        found = [{"boxes": boxes[0], "scores": scores[0], "labels": labels[0], "masks": masks}]
        original = [(image.shape[-2], image.shape[-1])]
        pasted = model.transform.postprocess(found, images.image_sizes, original)[0]["masks"]
        return (pasted[:, 0] > 0.5).cpu().numpy()

    return {
        "resize, normalise, pad": prepare,
        "trunk": lambda: model.backbone.body(images.tensors),
        "FPN": lambda: model.backbone.fpn(maps),
        "RPN head": lambda: rpn.head(levels),
        "proposals": propose,
        "box RoIAlign": lambda: heads.box_roi_pool(features, proposals, images.image_sizes),
        "box head": box_head,
        "postprocess": lambda: heads.postprocess_detections(logits, regression, proposals, images.image_sizes),
        "mask RoIAlign": lambda: heads.mask_roi_pool(features, boxes, images.image_sizes),
        "mask head": mask_head,
        "paste": paste,
    }
