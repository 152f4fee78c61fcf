"""Images of an evaluation's page: the worst ones with truth beside results, and annotations that may be wrong."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from maskrcnn.dataset import Dataset
from maskrcnn.evaluation.explain import Part
from maskrcnn.evaluation.suspects import Suspect
from maskrcnn.structures import Record
from maskrcnn.view.evaluation_draw import COLORS, FALSE, draw_suspect, draw_worst
from maskrcnn.view.report import Html, element, gallery, heading, joined, pair, paragraph, picture, section

SIDE = 420  # pixels of an image of a pair
THUMB = 240
MOST_WORST, MOST_SUSPECTS = 12, 12
_PROBLEMS = {
    "missing": (
        "Found, but not annotated",
        "The model is sure that there is something, and no annotation is near. If it is there, add it; if not, images "
        "of such things without an annotation teach the model better.",
    ),
    "class": (
        "Another class",
        "The model is sure of another class, and nobody finds the annotated one. If the model is right, rename the "
        "annotation (dotted yellow).",
    ),
    "extra": (
        "Annotated, but not found",
        "Half or more of the objects of this class and size are found, this one by nobody. Remove or tighten the "
        "annotation if it is wrong; if it is right, the model needs more like it.",
    ),
}


def worst(part: Part, dataset: Dataset, page: Path) -> Html:
    """The images with the most errors: truth left, results right. `page` is where links start."""
    note = (
        "The images with the most missed objects and the surest false results, at the best score threshold. Look for "
        "what they share, such as light, size or crowding, and add images like these to the training data."
    )
    records = _Records(dataset)
    pictures = []
    for image in part.worst[:MOST_WORST]:
        record = records(image.image_id)
        truth, results = draw_worst(image, record, SIDE)
        link = link_to(record, page)
        errors = ", ".join(f"{count} {name}" for name, count in image.errors.items())
        caption = element("span", _name(record, link), f": {image.right} right, {image.missed} missed, "
                          f"{image.false} false" + (f" ({errors})" if errors else ""))  # fmt: skip
        pictures.append(pair(_linked(picture(truth, side=SIDE), link), _linked(picture(results, side=SIDE), link),
                             caption))  # fmt: skip
    shown = gallery(pictures, 460) if pictures else paragraph("There is no error.")
    unread = any(not _is_there(records(image.image_id)) for image in part.worst[:MOST_WORST])
    gone = paragraph("An image is grey: the file cannot be read.", kind="warning") if unread else ""
    return section("Worst images", paragraph(note), _legend(), gone, shown)


def suspects(part: Part, dataset: Dataset, page: Path) -> Html:
    """Annotations that may be wrong, by problem."""
    note = (
        "Annotations that the model contradicts although it is usually right about their like. They are the errors "
        "that are cheapest to mend, and they count against every model: correct them, then evaluate again."
    )
    records, body = _Records(dataset), []
    for problem, (title, what) in _PROBLEMS.items():
        found = [suspect for suspect in part.suspects if suspect.problem == problem]
        if found:
            more = f", the first {MOST_SUSPECTS} of {len(found)}" if len(found) > MOST_SUSPECTS else ""
            pictures = [_suspect(one, records(one.image_id), page) for one in found[:MOST_SUSPECTS]]
            body += [heading(f"{title}{more}"), paragraph(what), gallery(pictures, THUMB)]
    return section("Likely label errors", paragraph(note), *(body or [paragraph("None was found.")]))


def _suspect(suspect: Suspect, record: Record, page: Path) -> Html:
    link = link_to(record, page)
    said = {
        "missing": lambda: f"{suspect.result.name} {suspect.confidence:.2f}",  # type: ignore[union-attr]
        "class": lambda: f"{suspect.truth.name}, or {suspect.result.name} {suspect.confidence:.2f}?",  # type: ignore[union-attr]
        "extra": lambda: f"{suspect.truth.name}, {suspect.confidence:.0%} of the like are found",  # type: ignore[union-attr]
    }[suspect.problem]()
    number = f", annotation {suspect.truth.source}" if suspect.truth is not None else ""
    caption = element("span", _name(record, link), f": {said}{number}")
    return element("figure", _linked(picture(draw_suspect(suspect, record, THUMB), side=THUMB), link),
                   element("figcaption", caption))  # fmt: skip


def link_to(record: Record, page: Path) -> str | None:
    """The address of an image's file, seen from the page; None for an image inside a shard, or made by a function."""
    if record.make is not None or record.span is not None or not _is_there(record):
        return None
    file, folder = record.path.resolve(), page.resolve().parent
    try:
        return quote(Path(os.path.relpath(file, folder)).as_posix())
    except ValueError:  # another drive
        return file.as_uri()


def _is_there(record: Record) -> bool:
    return record.make is not None or record.path.is_file()


def _name(record: Record, link: str | None) -> Html:
    name = record.path.name or f"image {record.image_id}"
    return element("a", name, href=link) if link else element("span", name)


def _linked(shown: Html, link: str | None) -> Html:
    return element("a", shown, href=link) if link else shown


def _legend() -> Html:
    """What the colours say."""
    names: Sequence[tuple[str, str]] = (
        (COLORS["right"], "found and right"),
        (COLORS["missed"], "missed"),
        (FALSE, "false, with the kind of error"),
        (COLORS["crowd"], "crowds, and results on them, which do not count"),
    )
    keys = [element("span", element("b", "■ ", style=f"color: {color}"), f"{name} ") for color, name in names]
    return element("p", "Left what is there, right what was found: ", joined(keys), class_="soft")


class _Records:
    """The record of each image id."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        ids = dataset.table.image_ids
        self.order = np.argsort(ids, kind="stable")
        self.ids = ids[self.order]

    def __call__(self, image_id: int) -> Record:
        return self.dataset[int(self.order[np.searchsorted(self.ids, image_id)])]
