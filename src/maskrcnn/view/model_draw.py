"""Every stage of a `Trace` as a picture, (h, w, 3) uint8, input frame: for pages and notebooks."""

from __future__ import annotations

from typing import Literal

import numpy as np

from maskrcnn.errors import ConfigError
from maskrcnn.fields import nearest
from maskrcnn.inspection.activations import Activation
from maskrcnn.inspection.trace import IGNORED, NEGATIVE, POSITIVE, Found, Trace
from maskrcnn.view.sketch import SIDE, WHITE, Sketch, color_of, heat, mosaic, overlay, region, resized

FADE = 0.35
RED = "#e6194b"
GREY = "#b0b4b8"
MOST_BOXES = 60
TILE = 96  # pixels of a small picture

Step = Literal["anchors", "refined", "clipped", "kept"]


def draw_input(trace: Trace, side: int = SIDE) -> np.ndarray:
    """The tensor as an image, its padding striped."""
    pixels = trace.input.pixels.copy()
    height, width = trace.input.frame
    x0, y0, x1, y1 = trace.input.content
    stripes = (np.arange(height)[:, None] + np.arange(width)) // max(4, max(height, width) // 80) % 2
    padding = np.ones((height, width), bool)
    padding[y0:y1, x0:x1] = False
    pixels[padding] = np.where(stripes[padding, None] == 1, 90, 60)
    return Sketch(pixels, side).boxes(np.array([trace.input.content]), WHITE, width=1).array()


def draw_truth(trace: Trace, side: int = SIDE) -> np.ndarray:
    """The true objects with their numbers and classes; regions to ignore are dotted."""
    sketch = Sketch(trace.input.pixels, side)
    if trace.truth is not None:
        names = [f"{i} {trace.classes[label]}" for i, label in enumerate(trace.truth.labels)]
        sketch.boxes(trace.truth.crowds, WHITE, ["ignore"] * len(trace.truth.crowds), dotted=True)
        sketch.boxes(trace.truth.boxes, [color_of(i) for i in range(len(names))], names)
    return sketch.array()


def draw_anchors(
    trace: Trace, state: Literal["positive", "negative", "ignored"] = "positive", side: int = SIDE
) -> np.ndarray:
    """At most 60 anchors of one kind: the positive in the colour of their object, true boxes white and solid.

    Of the negative those that enter the loss are taken, of the ignored any.
    """
    anchors, sketch = trace.anchors, Sketch(trace.input.pixels, side, FADE)
    if anchors.state is None or anchors.object is None or anchors.sampled is None or trace.truth is None:
        return sketch.array()
    wanted = {"positive": POSITIVE, "negative": NEGATIVE, "ignored": IGNORED}[state]
    rows = np.flatnonzero(anchors.state == wanted)
    if state != "ignored":
        inside = rows[np.isin(rows, anchors.sampled)]
        rows = inside if len(inside) else rows
    rows = np.random.default_rng(0).permutation(rows)[:MOST_BOXES]
    colors = [color_of(int(i)) if i >= 0 else GREY if state == "ignored" else RED for i in anchors.object[rows]]
    sketch.boxes(trace.truth.boxes, WHITE, [str(i) for i in range(len(trace.truth.boxes))])
    return sketch.boxes(anchors.boxes[rows], colors, dotted=True).array()


def draw_proposals(trace: Trace, step: Step = "refined", most: int = 25, side: int = SIDE) -> np.ndarray:
    """The best anchors on their way to proposals.

    Args:
        trace: of a model.
        step: "anchors": dotted, as they are; "refined": dotted anchors and the boxes that they become; "clipped": these
            cut to the image; "kept": those that NMS left.
        most: of the highest scores; of "kept" so many of those that are left.
        side: pixels of the longer side.
    """
    proposals, sketch = trace.proposals, Sketch(trace.input.pixels, side, FADE)
    rows = np.flatnonzero(proposals.kept)[:most] if step == "kept" else np.arange(min(most, len(proposals.top)))
    colors = [color_of(int(row)) for row in rows]
    if step in ("anchors", "refined"):
        sketch.boxes(proposals.anchors[rows], colors, dotted=True)
    if step != "anchors":
        boxes = proposals.refined if step == "refined" else proposals.clipped
        names = [f"{score:.2f}" for score in proposals.scores[rows]] if step == "kept" else None
        sketch.boxes(boxes[rows], colors, names)
    return sketch.array()


def draw_levels(trace: Trace, most: int = 30, side: int = SIDE) -> np.ndarray:
    """The best proposals in the colour of the pyramid level that the box head reads them from."""
    proposals = trace.proposals
    levels = proposals.roi_level[:most]
    names = [f"P{level + 2}" for level in levels]
    colors = [color_of(int(level)) for level in levels]
    return Sketch(trace.input.pixels, side, FADE).boxes(proposals.boxes[:most], colors, names, width=1).array()


def draw_refinement(trace: Trace, most: int = 12, side: int = SIDE) -> np.ndarray:
    """Each of the best detections, solid, with the proposal that it comes from, dotted."""
    found, sketch = trace.detections, Sketch(trace.input.pixels, side, FADE)
    colors = [color_of(i) for i in range(min(most, len(found)))]
    sketch.boxes(trace.proposals.boxes[found.proposal[:most]], colors, dotted=True)
    return sketch.boxes(found.boxes[:most], colors, _names(trace, found)[:most]).array()


def draw_candidates(trace: Trace, most: int = MOST_BOXES, side: int = SIDE) -> np.ndarray:
    """The best boxes before NMS, in the colours of their classes."""
    found = trace.candidates
    colors = [color_of(int(label)) for label in found.labels[:most]]
    return Sketch(trace.input.pixels, side, FADE).boxes(found.boxes[:most], colors, width=1).array()


def draw_detections(trace: Trace, most: int = MOST_BOXES, side: int = SIDE) -> np.ndarray:
    """The boxes that NMS left, those below the score threshold dotted and without a name."""
    found, sketch = trace.detections, Sketch(trace.input.pixels, side, FADE)
    strong = int((found.scores >= trace.score_threshold).sum())  # they come first
    colors = [color_of(int(label)) for label in found.labels[:most]]
    sketch.boxes(found.boxes[strong:most], colors[strong:], dotted=True, width=1)
    return sketch.boxes(found.boxes[:most][:strong], colors[:strong], _names(trace, found)).array()


def draw_losses(trace: Trace, side: int = SIDE) -> np.ndarray:
    """The true objects, each with its share of the sum of all losses; the dearer the more yellow."""
    sketch = Sketch(trace.input.pixels, side, FADE)
    if trace.truth is None or trace.losses is None or not len(trace.truth.boxes):
        return sketch.array()
    cost = trace.losses.shares[:-1].sum(axis=1)
    colors = heat(cost[None], 0.0, float(cost.max(initial=1e-9)))[0]
    hexes = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in colors.tolist()]
    labels = [trace.classes[label] for label in trace.truth.labels]
    names = [f"{i} {label} {value:.2f}" for i, (label, value) in enumerate(zip(labels, cost, strict=True))]
    return sketch.boxes(trace.truth.boxes, hexes, names, width=3).array()


def draw_crop(trace: Trace, index: int, tile: int = TILE) -> np.ndarray:
    """What the box head sees of a proposal: the image inside it, and the eight channels that vary most.

    `index` counts `trace.crops.rows`.
    """
    row, features = int(trace.crops.rows[index]), trace.crops.features[index]
    best = np.argsort(-features.reshape(len(features), -1).std(axis=1), kind="stable")[:8]
    maps = [resized(heat(features[channel]), tile // 2, tile // 2) for channel in best]
    inside, rest = region(trace.input.pixels, trace.proposals.boxes[row], tile + 2), np.full((tile + 2, 4, 3), 255)
    return np.concatenate([inside, rest.astype(np.uint8), _padded(mosaic(maps, 4), tile + 2)], axis=1)


def draw_mask(trace: Trace, index: int, tile: int = TILE) -> np.ndarray:
    """A detection's image, predicted mask, and, where an object lies under it, target and difference, side by side.

    In the difference yellow is right, red too much, blue missing. `index` counts `trace.detections`.
    """
    masks = trace.masks
    if masks is None:
        raise ConfigError("the model has no mask head, so that there are no masks to draw", field="model.mask")
    probability = masks.probabilities[index]
    tiles = [region(trace.input.pixels, trace.detections.boxes[index], tile)]
    tiles.append(resized(heat(probability, 0.0, 1.0), tile, tile))
    if masks.targets is not None and np.isfinite(masks.targets[index]).all():
        target = masks.targets[index]
        said, true = probability >= masks.threshold, target >= 0.5
        verdict = np.zeros((*said.shape, 3), np.uint8)
        for chosen, color in (
            (said & true, (250, 232, 70)),
            (said & ~true, (214, 60, 50)),
            (~said & true, (40, 110, 220)),
        ):
            verdict[chosen] = color
        tiles += [resized(heat(target, 0.0, 1.0), tile, tile), resized(verdict, tile, tile)]
    return mosaic(tiles, len(tiles))


def draw_heat_maps(trace: Trace, index: int, tile: int = TILE, columns: int = 6) -> np.ndarray:
    """A detection's image and, over it, the heat map of each keypoint. `index` counts `trace.heat_maps.maps`."""
    maps = trace.heat_maps
    if maps is None:
        raise ConfigError("the model has no keypoint head, so that there are no heat maps", field="model.keypoint")
    ground = region(trace.input.pixels, trace.detections.boxes[index], tile)
    return mosaic([ground, *(overlay(ground, heat(one)) for one in maps.maps[index])], columns)


def draw_keypoints(trace: Trace, side: int = SIDE) -> np.ndarray:
    """The keypoints read from the heat maps, on the image; those of the truth are white."""
    sketch = Sketch(trace.input.pixels, side)
    if trace.truth is not None and trace.truth.keypoints is not None:
        points = trace.truth.keypoints.reshape(-1, 3)
        sketch.dots(points[points[:, 2] > 0], WHITE)
    if trace.heat_maps is not None:
        for index, points in enumerate(trace.heat_maps.points):
            sketch.boxes(trace.detections.boxes[index][None], color_of(index), width=1).dots(points, color_of(index))
    return sketch.array()


def draw_activation(trace: Trace, name: str, side: int = 400) -> np.ndarray:
    """A layer: how strong all its channels are together, over the image, and beside it its most lively channels."""
    known = {activation.name: activation for activation in trace.activations}
    if name not in known:
        raise ConfigError(f"{name!r} was not kept{nearest(name, known)}; kept: {', '.join(known)}", field="layers")
    return activation_picture(trace, known[name], side)


def activation_picture(trace: Trace, activation: Activation, side: int = 400) -> np.ndarray:
    """See `draw_activation`."""
    height, width = trace.input.frame
    scale = side / max(height, width)
    tall, wide = max(8, round(height * scale)), max(8, round(width * scale))
    ground = resized(trace.input.pixels, tall, wide, smooth=True)
    strength = overlay(ground, heat(activation.strength), 0.75)
    small = [resized(heat(one), max(4, tall // 2 - 1), max(4, wide // 2 - 1)) for one in activation.maps]
    channels = mosaic(small, 4)
    rest = np.full((tall, 6, 3), 255, np.uint8)
    return np.concatenate([strength, rest, _padded(channels, tall)], axis=1)


def _padded(pixels: np.ndarray, height: int) -> np.ndarray:
    """White below, or cut, so that it is so high."""
    missing = max(0, height - len(pixels))
    return np.pad(pixels[:height], ((0, missing), (0, 0), (0, 0)), constant_values=255)


def _names(trace: Trace, found: Found) -> list[str]:
    return [f"{trace.classes[label]} {score:.2f}" for label, score in zip(found.labels, found.scores, strict=True)]
