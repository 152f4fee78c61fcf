"""What `check_dataset` found, mended where that is safe: on the records, never on files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from maskrcnn.data.check import MANY, Problem, Progress, check_dataset
from maskrcnn.data.check.problem import CUT_BOX, DROP_IMAGE, DROP_OBJECT, RENUMBER, TURN
from maskrcnn.data.turn import orientation_of, turn_record
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.structures import Record
from maskrcnn.table import Table
from maskrcnn.table.change import concat, with_boxes, with_columns

TOLD = {
    DROP_IMAGE: ("left out {} image", "left out {} images"),
    DROP_OBJECT: ("left out {} object", "left out {} objects"),
    CUT_BOX: ("cut {} box to its image", "cut {} boxes to their images"),
    TURN: ("turned the annotations of {} image as the photo is", "turned the annotations of {} images as the photo is"),
    RENUMBER: ("gave {} image a new id", "gave {} images a new id"),
}
"""How each repair is told of one and of many; what comes first makes the later ones on the same thing needless."""


def check_and_repair(
    dataset: Dataset,
    *,
    decode: bool,
    progress: bool | Progress = False,
    detections_per_image: int = MANY,
) -> tuple[Dataset, list[Problem], list[str]]:
    """Look for problems, then mend what is safe to mend.

    Args:
        decode, progress, detections_per_image: as for `check_dataset`.

    Returns:
        (data set, all problems, sentences): what `repair_dataset` makes of it, and what that did.

    Raises:
        DataError: no image is left.
    """
    problems = check_dataset(dataset, decode, progress=progress, detections_per_image=detections_per_image)
    repaired, sentences = repair_dataset(dataset, problems)
    if len(dataset) and not len(repaired):
        raise DataError(f"no image can be used; {sentences[0]}", path=dataset.name or None)
    return repaired, problems, sentences


def repair_dataset(dataset: Dataset, problems: Sequence[Problem]) -> tuple[Dataset, list[str]]:
    """The data set with the repairs that its problems name.

    Args:
        dataset: the one that was checked: problems tell images and objects by their place in it.
        problems: some or all that `check_dataset` found.

    Returns:
        (data set, sentences): the same object where nothing was done; a sentence for each kind of problem, with the
        count and the first example.
    """
    chosen = _chosen(problems)
    if not chosen:
        return dataset, []
    table = dataset.table
    if len(np.unique(table.rows)) < len(table):  # an image chosen twice: each has columns of its own
        table = Table.of(list(table))
    table = _renumbered(_with_objects(table, chosen), _rows(chosen, RENUMBER))
    table, broken = _turned(table, _rows(chosen, TURN))
    chosen = [replace(p, repair=DROP_IMAGE) if p.repair == TURN and p.row in broken else p for p in chosen]
    kept = np.setdiff1d(np.arange(len(table)), _rows(chosen, DROP_IMAGE))
    return replace(dataset, records=table.take(kept)), _sentences(chosen)


def _chosen(problems: Sequence[Problem]) -> list[Problem]:
    """One problem for each thing to do; nothing is done to what is left out."""
    chosen: list[Problem] = []
    done: set[tuple[str, int | None, int | None]] = set()
    for repair in TOLD:
        for problem in problems:
            row, index = problem.row, problem.index if repair in (DROP_OBJECT, CUT_BOX) else None
            before = (DROP_IMAGE, row, None), (DROP_OBJECT, row, index), (repair, row, index)
            if problem.repair == repair and row is not None and not any(key in done for key in before):
                done.add((repair, row, index))
                chosen.append(problem)
    return chosen


def _rows(chosen: Sequence[Problem], repair: str) -> np.ndarray:
    """(R,) int64, ascending: the images that this repair is for."""
    return np.array(sorted({p.row for p in chosen if p.repair == repair and p.row is not None}), np.int64)


def _sentences(chosen: Sequence[Problem]) -> list[str]:
    """ "left out 3 objects (degenerate box), first: a.jpg, image 7, annotation 4: [0, 0, 0, 5] has no area" """
    sentences = []
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in sorted(chosen, key=lambda p: list(TOLD).index(str(p.repair))):
        groups.setdefault((str(problem.repair), problem.kind), []).append(problem)
    for (repair, kind), found in groups.items():
        first = found[0]
        what = TOLD[repair][len(found) > 1].format(len(found))
        number = "" if first.annotation is None else f", annotation {first.annotation}"
        sentences.append(f"{what} ({kind}), first: {first.path}, image {first.image}{number}: {first.message}")
    return sentences


# ---------------------------------------------------------------- the repairs


def _with_objects(table: Table, chosen: Sequence[Problem]) -> Table:
    """Without the objects to be left out, boxes cut where they are to be."""
    starts = np.cumsum(table.counts) - table.counts
    number = {
        repair: np.array([starts[p.row] + p.index for p in chosen if p.repair == repair], np.int64)
        for repair in (DROP_OBJECT, CUT_BOX)
    }
    if not len(number[DROP_OBJECT]) and not len(number[CUT_BOX]):
        return table
    boxes, cut = table.boxes, number[CUT_BOX]
    boxes[cut] = np.clip(boxes[cut], 0, table.sizes[table.image_of[cut]][:, [1, 0, 1, 0]])
    keep = np.ones(len(boxes), bool)
    keep[number[DROP_OBJECT]] = False
    return with_boxes(table, boxes, keep)


def _renumbered(table: Table, rows: np.ndarray) -> Table:
    """New ids, above all others, for these images."""
    if not len(rows):
        return table
    ids = np.array(table.columns["image_id"])
    ids[table.rows[rows]] = max(int(ids.max()), 0) + 1 + np.arange(len(rows))
    return with_columns(table, image_id=ids)


def _turned(table: Table, rows: np.ndarray) -> tuple[Table, set[int]]:
    """These images with their annotations upright; and those among them whose masks cannot be read."""
    upright: list[Record] = []
    order, broken = np.arange(len(table)), set()
    for row in rows.tolist():
        try:
            upright.append(turn_record(table[row], orientation_of(table[row])))
            order[row] = len(table) + len(upright) - 1
        except DataError:
            broken.add(row)
    return (concat([table, Table.of(upright)]).take(order) if upright else table), broken
