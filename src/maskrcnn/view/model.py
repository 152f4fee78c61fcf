"""The HTML page of `maskrcnn inspect model`: every stage of one image.

Each says what is seen and what to do about it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maskrcnn.inspection.trace import IGNORED, NEGATIVE, POSITIVE, Trace
from maskrcnn.view import model_draw as draw
from maskrcnn.view.model_heads import box_head, detections, keypoints, losses, masks
from maskrcnn.view.report import (
    Html,
    folded,
    gallery,
    page,
    paragraph,
    picture,
    row,
    section,
    table,
    tiles,
    write_page,
)

SIDE = 560  # pixels of a picture on the page
LEVELS = ("P2", "P3", "P4", "P5", "P6")


def model_report(trace: Trace, path: str | Path, *, name: str = "model") -> Path:
    """Write the page, one file of a few megabytes.

    Args:
        trace: see `inspect_model`.
        path: of the page; its folder is made.
        name: of the model, for the title.

    Returns:
        The path.

    Raises:
        OSError: the page cannot be written.
    """
    parts = [_summary(trace), _input(trace), _activations(trace), _anchors(trace), _proposals(trace), _rois(trace)]
    parts += [box_head(trace), detections(trace), masks(trace), keypoints(trace), losses(trace)]
    subtitle = f"{trace.path or 'an image from memory'}, every stage from the pixels to the result"
    return write_page(path, page(f"Model: {name}", *(part for part in parts if part), subtitle=subtitle))


def _summary(trace: Trace) -> Html:
    height, width = trace.input.frame
    numbers = {
        "image": f"{trace.instances.size[1]} x {trace.instances.size[0]}",
        "input, padded": f"{width} x {height}",
        "anchors": f"{len(trace.anchors.boxes):,}",
        "proposals": f"{len(trace.proposals.boxes):,}",
        f"found, score {trace.score_threshold:g} and more": f"{len(trace.instances):,}",
    }
    if trace.truth is not None:
        numbers["true objects"] = f"{len(trace.truth.boxes):,}"
    result = trace.instances.draw(trace.photo, scale=max(1, SIDE // max(trace.photo.shape[:2])))
    pictures = [
        picture(result, f"found: {len(trace.instances)} with a score of {trace.score_threshold:g} or more", SIDE)
    ]
    if trace.truth is not None:
        pictures.insert(0, picture(draw.draw_truth(trace), "the truth, with the numbers used on this page", SIDE))
    note = (
        "A Mask R-CNN looks at an image in steps: a trunk makes maps of features, the region proposal network (RPN) "
        "points at places that may hold an object, the box head names and moves them, the mask head draws them. Where "
        "a result is wrong, the first step at which it goes wrong is the one to mend."
    )
    notes = [paragraph(f"Note: {sentence}.", kind="warning") for sentence in trace.notes]
    return section("Summary", tiles(numbers), paragraph(note, kind="soft"), *notes, row(*pictures), _verdict(trace))


def _verdict(trace: Trace) -> Html:
    """For each true object, the first stage that loses it."""
    if trace.truth is None or not len(trace.truth.boxes):
        return Html("")
    recall = trace.proposals.recall
    assert recall is not None
    rows: list[list[object]] = []
    for number, label in enumerate(trace.truth.labels):
        on = np.flatnonzero(trace.detections.object == number)
        right = on[trace.detections.labels[on] == label]
        best = right[trace.detections.scores[right].argmax()] if len(right) else -1
        if best >= 0 and trace.detections.scores[best] >= trace.score_threshold:
            what = f"found, score {trace.detections.scores[best]:.2f}, IoU {trace.detections.iou[best]:.2f}"
        elif best >= 0:
            what = f"found, but its score {trace.detections.scores[best]:.2f} is below {trace.score_threshold:g}"
        elif len(on):
            wrong = on[trace.detections.scores[on].argmax()]
            what = (
                f"found as {trace.classes[trace.detections.labels[wrong]]} "
                f"({trace.detections.scores[wrong]:.2f}): look at the box head"
            )
        elif recall[number] < 0.5:
            what = "no proposal lies on it: look at anchors and proposals"
        else:
            what = "proposals lie on it, but the box head takes them for background: look at its scores"
        rows.append([number, trace.classes[label], f"{recall[number]:.2f}", what])
    shown = table(["object", "class", "best proposal's IoU", "what became of it"], rows[:40])
    more = paragraph(f"The first 40 of {len(rows)}.", kind="soft") if len(rows) > 40 else ""
    return Html(f"{shown}{more}")


def _input(trace: Trace) -> Html:
    height, width = trace.input.frame
    x0, y0, x1, y1 = trace.input.content
    share = 1 - (x1 - x0) * (y1 - y0) / (height * width)
    head = ["channel", "mean", "std", "min", "max", "mean, normalised", "std", "min", "max"]
    names = ("red", "green", "blue") if len(trace.input.raw) == 3 else [str(i) for i in range(len(trace.input.raw))]
    rows = [
        [name, *(f"{value:.1f}" for value in raw), *(f"{value:.2f}" for value in normal)]
        for name, raw, normal in zip(names, trace.input.raw, trace.input.normalised, strict=False)
    ]
    padded = f"padded to {width} x {height} (striped; {share:.0%} of the tensor)" if share else "not padded"
    note = (
        f"The image is resized to {x1 - x0} x {y1 - y0} and {padded}. Then the model's mean is taken out and its "
        "deviation divided by: normalised numbers should lie around 0, between about -3 and 3. Other numbers "
        "mean that the image is of "
        "another kind than those of the training: other channels, depth or brightness. Objects that are a few pixels "
        "wide here cannot be found: raise data.min_size and data.max_size."
    )
    return section("Input", paragraph(note), picture(draw.draw_input(trace), f"{width} x {height}", SIDE),
                   folded("Numbers of the content by channel", table(head, rows)))  # fmt: skip


def _activations(trace: Trace) -> Html:
    if not trace.activations:
        return Html("")
    note = (
        "Left how strongly a layer answers over the image (dark blue: not at all, yellow: most), right the eight "
        "channels that vary most. Early maps show edges, later ones whole objects in few cells. A layer that is dark "
        "everywhere, or has many silent channels, is dead; one with huge numbers has exploded: train with a "
        "lower rate, or look at maskrcnn inspect weights."
    )
    head = ["layer", "channels", "height", "width", "mean", "std", "min", "max", "zeros", "silent channels"]
    rows = [
        [a.name, *a.shape, *(f"{v:.3g}" for v in (a.mean, a.std, a.low, a.high)), f"{100 * a.zeros:.0f} %", a.silent]
        for a in trace.activations
    ]
    pictures = [
        picture(draw.activation_picture(trace, a), f"{a.name}: {a.shape[0]} x {a.shape[1]} x {a.shape[2]}", 1000)
        for a in trace.activations
    ]
    return section("Activations", paragraph(note), gallery(pictures, 420), folded("Statistics", table(head, rows)))


# ---------------------------------------------------------------- anchors and proposals


def _level_names(count: int) -> list[str]:
    return list(LEVELS[:count]) if count > 1 else ["the one map"]


def _anchors(trace: Trace) -> Html:
    anchors, names = trace.anchors, _level_names(len(trace.anchors.shapes))
    head: list[object] = ["level", "map", "anchors", "median side"]
    known = anchors.state is not None
    if known:
        head += ["positive", "ignored", "negative", "in the loss"]
    rows: list[list[object]] = []
    for level, (name, shape) in enumerate(zip(names, anchors.shapes, strict=True)):
        mine = anchors.level == level
        boxes = anchors.boxes[mine]
        sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
        cells: list[object] = [name, f"{shape[1]} x {shape[0]}", int(mine.sum()), f"{np.median(sides):.0f}"]
        if anchors.state is not None and anchors.sampled is not None:
            cells += [int((anchors.state[mine] == state).sum()) for state in (POSITIVE, IGNORED, NEGATIVE)]
            cells.append(int((anchors.level[anchors.sampled] == level).sum()))
        rows.append(cells)
    note = (
        "Anchors are the boxes from which the RPN starts, a few shapes at every cell of every map. One that "
        "overlaps an "
        "object enough is positive and learns to move onto it, one that overlaps none is negative, those in "
        "between are "
        "ignored. Of each kind a few enter the loss."
    )
    if not known:
        return section("Anchors", paragraph(note), table(head, rows), paragraph(NO_TRUTH, kind="soft"))
    pictures = [
        picture(
            draw.draw_anchors(trace, "positive"), "positive anchors in the colour of their object, truth white", SIDE
        ),
        picture(draw.draw_anchors(trace, "negative"), "negative anchors that enter the loss", SIDE),
        picture(draw.draw_anchors(trace, "ignored"), "ignored anchors, some of them", SIDE),
    ]
    return section("Anchors", paragraph(note), table(head, rows), _anchors_of_objects(trace), gallery(pictures, 420))


NO_TRUTH = "Give the truth (--data) to see which anchors are positive, what the losses are and who causes them."


def _anchors_of_objects(trace: Trace) -> Html:
    assert trace.truth is not None
    assert trace.anchors.object is not None
    counts = np.bincount(trace.anchors.object[trace.anchors.object >= 0], minlength=len(trace.truth.boxes))
    few = [str(i) for i in np.flatnonzero(counts <= 1)[:20]]
    if not len(counts):
        return paragraph("There is no object: all anchors learn background.")
    if not few:
        return paragraph(f"Every object has at least {counts.min()} positive anchors: their sizes and shapes fit.")
    return paragraph(
        f"Objects with one positive anchor or none: {', '.join(few)}. They are learned slowly or never; "
        "choose model.rpn.anchors.sizes and ratios nearer to them (maskrcnn inspect data DATA --html page.html "
        "compares all boxes with the anchors).",
        kind="warning",
    )


def _proposals(trace: Trace) -> Html:
    proposals, names = trace.proposals, _level_names(len(trace.anchors.shapes))
    note = (
        "The RPN gives every anchor a score (is there an object?) and four numbers that move it. Shown are those "
        "of the "
        "25 highest scores: as anchors, moved (dotted to solid), cut to the image, and what is left when of boxes that "
        "overlap by more than model.rpn.nms_iou only the best stays."
    )
    steps: tuple[tuple[draw.Step, str], ...] = (
        ("anchors", "the anchors of the highest scores"),
        ("refined", "moved: dotted before, solid after"),
        ("clipped", "cut to the image"),
        ("kept", "after non-maximum suppression, with scores"),
    )
    pictures = [picture(draw.draw_proposals(trace, step), caption, SIDE) for step, caption in steps]
    level = trace.anchors.level
    rows = [
        [
            name,
            int((level == i).sum()),
            int((level[proposals.top] == i).sum()),
            int((level[proposals.anchor] == i).sum()),
        ]
        for i, name in enumerate(names)
    ]
    head = ["level", "anchors", f"among the {len(proposals.top)} highest scores", "proposals"]
    return section("Proposals", paragraph(note), gallery(pictures, 420), _recall(trace), table(head, rows))


def _recall(trace: Trace) -> Html:
    recall = trace.proposals.recall
    if recall is None or not len(recall):
        return Html("")
    found = int((recall >= 0.5).sum())
    text = f"{found} of {len(recall)} true objects have a proposal that overlaps them by half or more"
    if found == len(recall):
        return paragraph(f"{text}: nothing is lost before the box head.")
    lost = ", ".join(str(i) for i in np.flatnonzero(recall < 0.5)[:20])
    return paragraph(
        f"{text}; {lost} have none, and no later step can find them. Anchors of other sizes, a larger input "
        "(data.min_size), more proposals (model.rpn.post_nms_test), or longer training help.",
        kind="warning",
    )


def _rois(trace: Trace) -> Html:
    levels = trace.proposals.roi_level
    note = (
        "RoIAlign reads the same number of cells out of every proposal, whatever its size. Left of each pair the image "
        "inside the proposal, right the eight channels that vary most: what the box head sees. If they look alike for "
        "different objects, the features do not tell them apart yet."
    )
    crops = []
    for index, number in enumerate(trace.crops.rows):
        score = trace.proposals.box_scores[number]
        caption = f"proposal {number}, objectness {score:.2f}" + (f", P{levels[number] + 2}" if _pyramid(trace) else "")
        crops.append(picture(draw.draw_crop(trace, index), caption, 400))
    parts: list[object] = [paragraph(note)]
    if _pyramid(trace):
        counts = np.bincount(levels, minlength=4)
        where = "Large boxes are read from coarse maps, small ones from fine maps: " + ", ".join(
            f"{count:,} from {name}" for name, count in zip(LEVELS, counts.tolist(), strict=False)
        )
        parts += [
            paragraph(f"{where}."),
            picture(draw.draw_levels(trace), "proposals in the colour of their level", SIDE),
        ]
    return section("RoIs", *parts, gallery(crops, 300))


def _pyramid(trace: Trace) -> bool:
    return len(trace.anchors.shapes) > 1
