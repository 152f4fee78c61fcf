"""Sections of the page about a model that come after the proposals: box head, detections, masks, keypoints, losses."""

from __future__ import annotations

import numpy as np

from maskrcnn.inspection.trace import Trace
from maskrcnn.view import model_draw as draw
from maskrcnn.view.charts import bars
from maskrcnn.view.report import (
    Html,
    element,
    folded,
    gallery,
    heading,
    paragraph,
    picture,
    row,
    section,
    table,
)
from maskrcnn.view.sketch import region

SIDE = 560  # pixels of a picture on the page
SCORED = 8  # proposals whose scores are drawn
CLASSES = 5  # bars of each
MASKS = 12  # detections whose masks are shown
OBJECTS = 100  # rows of the table of losses
BESIDE = "display: grid; grid-template-columns: 96px 1fr; gap: .5rem; align-items: center"


def box_head(trace: Trace) -> Html:
    """Scores by class, and how boxes are moved."""
    note = (
        "The box head gives each proposal a probability for every class and for background, and moves its box "
        "once more. "
        "A sure head has one long bar. Two long bars are two classes that it confuses: more examples of both help. All "
        "background on an object: the head has seen too few of them."
    )
    head = trace.stages[-1]
    shown: list[Html] = []
    for number in trace.crops.rows[:SCORED]:
        chances = head.probabilities[number]
        best = np.argsort(-chances, kind="stable")[:CLASSES]
        names = [trace.classes[i] if i < len(trace.classes) else "(background)" for i in best]
        chart = bars(names, {"": [float(chances[i]) for i in best]}, f"proposal {number}", longest=1.0)
        crop = picture(region(trace.input.pixels, trace.proposals.boxes[number], 96), "", 96)
        shown.append(element("div", crop, chart, style=BESIDE))
    parts: list[object] = [paragraph(note), gallery(shown, 420)]
    if len(trace.stages) > 1:
        parts += [heading("The heads of the cascade"), _cascade(trace)]
    caption = "each detection, solid, and the proposal that it comes from, dotted"
    return section("Box head", *parts, picture(draw.draw_refinement(trace), caption, SIDE))


def _cascade(trace: Trace) -> Html:
    """The best class of each shown proposal, head by head."""
    rows: list[list[object]] = []
    for number in trace.crops.rows[:SCORED].tolist():
        cells: list[object] = [number]
        for before, stage in zip((None, *trace.stages), trace.stages, strict=False):
            label = int(stage.best[number])
            moved = (
                "" if before is None else f", moved {np.abs(stage.boxes[number] - before.boxes[number]).max():.1f} px"
            )
            cells.append(f"{trace.classes[label]} {stage.probabilities[number, label]:.2f}{moved}")
        rows.append(cells)
    note = "Each head looks at the boxes of the one before; the scores above are those of the last."
    return element("div", paragraph(note, kind="soft"),
                   table(["proposal", *(f"head {i + 1}" for i in range(len(trace.stages)))], rows))  # fmt: skip


def detections(trace: Trace) -> Html:
    """Before and after NMS within each class."""
    before, after = int(trace.candidate_counts.sum()), len(trace.detections)
    note = (
        f"{before:,} pairs of box and class are above the model's score threshold. Of boxes of one class that "
        "overlap by "
        f"more than model.box.nms_iou only the best stays: {after:,} are left, {len(trace.instances)} of them with a "
        f"score of {trace.score_threshold:g} or more. Two boxes on one object: lower model.box.nms_iou. One box "
        "for two "
        "objects that touch: raise it. Many wrong ones with low scores are normal; ask for higher scores."
    )
    pictures = [
        picture(draw.draw_candidates(trace), "the 60 best before NMS, in the colours of their classes", SIDE),
        picture(draw.draw_detections(trace), "after NMS; dotted: below the score threshold", SIDE),
    ]
    left = np.bincount(trace.detections.labels, minlength=len(trace.classes))
    order = [int(i) for i in np.argsort(-trace.candidate_counts, kind="stable") if trace.candidate_counts[i]][:40]
    counts = table(
        ["class", "before NMS", "after NMS"],
        [[trace.classes[i], int(trace.candidate_counts[i]), int(left[i])] for i in order],
    )
    return section("Detections", paragraph(note), row(*pictures), folded("By class", counts),
                   folded("All detections", _detection_table(trace)))  # fmt: skip


def _detection_table(trace: Trace) -> Html:
    found = trace.detections
    head = ["", "class", "score", "proposal", "x0", "y0", "x1", "y1", "on object", "IoU"]
    rows: list[list[object]] = []
    for index in range(min(len(found), 100)):
        on = int(found.object[index])
        truth = "" if trace.truth is None else "none" if on < 0 else f"{on} {trace.classes[trace.truth.labels[on]]}"
        corners = [f"{value:.1f}" for value in found.boxes[index].tolist()]
        rows.append(
            [index, trace.classes[found.labels[index]], f"{found.scores[index]:.3f}", int(found.proposal[index]),
             *corners, truth, f"{found.iou[index]:.2f}" if on >= 0 else ""]
        )  # fmt: skip
    return table(head, rows)


def masks(trace: Trace) -> Html:
    """Predicted masks in their boxes against the targets, and pasted."""
    found = trace.masks
    if found is None:
        return Html("")
    side = found.probabilities.shape[-1]
    note = (
        f"The mask head draws each detection in {side} x {side} cells of its box. From left: the image in the box, the "
        "predicted probability, the truth in the same cells (where an object lies under the detection), and the "
        "difference: yellow is right, red too much, blue missing. Blurred borders are normal; for sharper ones set "
        "model.mask.upsamplings 2. Truth that does not fit the image is a mistake in the annotations."
    )
    shown = []
    for index in range(min(len(trace.detections), MASKS)):
        name = trace.classes[trace.detections.labels[index]]
        overlap = "" if np.isnan(found.iou[index]) else f", mask IoU {found.iou[index]:.2f} in the box"
        caption = f"{index}: {name} {trace.detections.scores[index]:.2f}{overlap}"
        shown.append(picture(draw.draw_mask(trace, index), caption, 420))
    if not shown:
        return section("Masks", paragraph("Nothing was found, so that there are no masks."))
    result = trace.instances.draw(trace.photo, boxes=False, labels=False, color_by="instance")
    pasted = picture(
        result, f"pasted into the image: detections with a score of {trace.score_threshold:g} or more", SIDE
    )
    return section("Masks", paragraph(note), gallery(shown, 300), pasted)


def keypoints(trace: Trace) -> Html:
    """Heat maps."""
    maps = trace.heat_maps
    if maps is None:
        return Html("")
    note = (
        "For each keypoint the head makes a map of where in the box it may be; its highest cell is the answer. One "
        "bright spot is a sure answer, several are a doubt (left and right are easily taken for each other), an even "
        f"veil means that it does not know. In order: the image, {', '.join(maps.names)}."
    )
    shown = []
    for index in range(len(maps.maps)):
        caption = f"{index}: {trace.classes[trace.detections.labels[index]]} {trace.detections.scores[index]:.2f}"
        shown.append(picture(draw.draw_heat_maps(trace, index), caption, 600))
    if not shown:
        return section("Keypoints", paragraph("Nothing was found, so that there are no keypoints."))
    places = picture(draw.draw_keypoints(trace), "what is read from the maps; the truth is white", SIDE)
    return section("Keypoints", paragraph(note), gallery(shown, 400), places)


def losses(trace: Trace) -> Html:
    """Each part, and what every object costs."""
    found = trace.losses
    if found is None or trace.truth is None:
        return Html("")
    note = (
        "What training would have been told about this image, without augmentation. rpn_score and rpn_box: "
        "anchors take "
        "objects for background or the reverse, and are moved wrongly; class and box: the same for the box head; mask: "
        "wrong cells. Each loss is shared out to the objects that cause it. One object that costs much more than the "
        "others is hard, or wrongly annotated: look at it first."
    )
    background = found.shares[-1]
    parts = [
        [name, f"{value:.4f}", int(count), f"{100 * other / value if value else 0:.0f} %"]
        for name, value, count, other in zip(found.parts, found.values, found.counts, background, strict=True)
    ]
    total = float(found.values.sum())
    cost = found.shares[:-1].sum(axis=1)
    order = np.argsort(-cost, kind="stable")[:OBJECTS].tolist()
    names = [f"{i} {trace.classes[trace.truth.labels[i]]}" for i in order]
    rows: list[list[object]] = [
        [name, f"{cost[i]:.4f}", f"{100 * cost[i] / total if total else 0:.0f} %",
         *(f"{value:.4f}" for value in found.shares[i]), int(found.anchors[i]), int(found.samples[i])]
        for name, i in zip(names, order, strict=True)
    ]  # fmt: skip
    rows.append(["(background)", f"{background.sum():.4f}", f"{100 * background.sum() / total if total else 0:.0f} %",
                 *(f"{value:.4f}" for value in background), "", ""])  # fmt: skip
    head = ["object", "sum", "share", *found.parts, "anchors", "proposals"]
    dearest = bars(names[:20], {"": [float(cost[i]) for i in order[:20]]}, "Sum of the losses of each object",
                   longest=float(cost.max(initial=1e-9)))  # fmt: skip
    drawn = picture(draw.draw_losses(trace), "sum of the losses of each object; the dearer the more yellow", SIDE)
    return section(
        "Losses",
        paragraph(note),
        row(element("div", table(["loss", "value", "samples", "from background"], parts), dearest), drawn),
        heading("By object, the dearest first"),
        table(head, rows),
        paragraph("anchors, proposals: positive samples of the object; without any it teaches the model nothing.",
                  kind="soft"),
    )  # fmt: skip
