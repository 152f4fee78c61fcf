"""The HTML page of `maskrcnn inspect data`: what a data set holds, how it fits the config, what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from maskrcnn.config import Config
from maskrcnn.data.check import Problem
from maskrcnn.data.repair import repair_dataset
from maskrcnn.dataset import Dataset
from maskrcnn.view.box_shapes import anchor_shapes, best_anchor_iou, input_sides
from maskrcnn.view.charts import bars, histogram, scatter
from maskrcnn.view.report import (
    Html,
    element,
    folded,
    gallery,
    heading,
    lines,
    page,
    pair,
    paragraph,
    picture,
    row,
    section,
    table,
    tiles,
    write_page,
)
from maskrcnn.view.samples import before_and_after, choose, draw_problem

SIDE = 320  # pixels of a sample
THUMB = 200  # pixels of an image with a problem
MOST_THUMBS = 30
MOST_BARS = 40  # classes in the chart; the table has more
IN_COLUMN = 12  # classes in one column of the chart
MOST_CLASSES = 2000  # of the table
MOST_LINES = 5000  # problems as text
LONGEST_LINE = 500  # letters
SIZES = (("below 32 pixels", 0.0, 32.0), ("32 to 96", 32.0, 96.0), ("96 and more", 96.0, np.inf))  # COCO's, pixels


def data_report(
    dataset: Dataset,
    problems: Sequence[Problem],
    config: Config,
    path: str | Path,
    *,
    samples: int = 12,
    seed: int = 0,
) -> Path:
    """Write the page, one file of a few megabytes at most.

    Args:
        dataset: as opened, all splits.
        problems: what `check_dataset` found in it.
        config: input size, anchors and augmentation that the page compares with.
        path: of the page; its folder is made.
        samples: images to show before and after augmentation.
        seed: of the choice and the augmentation.

    Returns:
        The path.

    Raises:
        OSError: the page cannot be written.
    """
    parts = [_summary(dataset, problems, config), _classes(dataset), _images(dataset, config)]
    parts += [_boxes(dataset, config), _samples(dataset, problems, config, samples, seed), _problems(dataset, problems)]
    subtitle = f"{dataset.format or 'made'}, {len(dataset):,} images"
    return write_page(path, page(f"Data: {dataset.name or 'dataset'}", *parts, subtitle=subtitle))


# ---------------------------------------------------------------- counts


def _summary(dataset: Dataset, problems: Sequence[Problem], config: Config) -> Html:
    data = config.data
    errors = sum(problem.severity == "error" for problem in problems)
    numbers = {
        "images": f"{len(dataset):,}",
        "objects": f"{int((~dataset.table.crowd).sum()):,}",
        "crowd regions": f"{int(dataset.table.crowd.sum()):,}",
        "classes": f"{len(dataset.classes):,}",
        "errors": f"{errors:,}",
        "warnings": f"{len(problems) - errors:,}",
    }
    fits = (
        f"square of {data.max_size}"
        if data.resize in ("square", "grow")
        else f"short side {data.min_size}, long side at most {data.max_size}"
    )
    anchors = ", ".join("/".join(f"{size:g}" for size in level) for level in config.model.rpn.anchors.sizes)
    ratios = ", ".join(f"{ratio:g}" for ratio in config.model.rpn.anchors.ratios)
    masks = "with masks" if dataset.has_masks else "boxes only, no masks"
    settings = f"{masks}; input: {fits} pixels; anchors: {anchors} pixels with height / width {ratios}"
    splits = [[name or "(none)", int(images), int(objects)] for name, images, objects in _split_counts(dataset)]
    return section(
        "Summary", tiles(numbers), paragraph(settings, kind="soft"), table(["split", "images", "objects"], splits)
    )


def _split_counts(dataset: Dataset) -> list[tuple[str, int, int]]:
    """(split, images, objects) of each split that there is, "" for none."""
    of_image = dataset.table.splits
    names = list(dict.fromkeys(of_image.tolist()))
    objects = dataset.table.image_of[~dataset.table.crowd]
    return [(name, int((of_image == name).sum()), int((of_image[objects] == name).sum())) for name in names]


def _classes(dataset: Dataset) -> Html:
    splits = [name for name, _, _ in _split_counts(dataset)] or [""]
    counts = _class_counts(dataset, splits)  # (splits, classes)
    order = np.argsort(-counts.sum(axis=0), kind="stable")
    top = order[:MOST_BARS]
    labels = [name or "no split" for name in splits] if len(splits) > 1 else [""]
    charts = []
    for part in np.array_split(top, 2 if len(top) > IN_COLUMN else 1):
        series = {label: values[part].tolist() for label, values in zip(labels, counts, strict=True)}
        charts.append(bars([dataset.classes[i] for i in part], series, "", longest=float(counts.max(initial=1))))
    title = "Objects of each class" if len(order) <= MOST_BARS else f"Objects of the {MOST_BARS} most frequent classes"
    images = _images_with(dataset)
    rows = [
        [dataset.classes[i], dataset.category_ids[i], *(int(n) for n in counts[:, i]), int(images[i])]
        for i in order[:MOST_CLASSES].tolist()
    ]
    head = ["class", "id", *([f"objects in {label}" for label in labels] if len(labels) > 1 else ["objects"]), "images"]
    more = f", the first {MOST_CLASSES:,}" if len(order) > MOST_CLASSES else ""
    return section("Classes", paragraph(title), row(*charts), folded(f"As a table{more}", table(head, rows)))


def _class_counts(dataset: Dataset, splits: Sequence[str]) -> np.ndarray:
    """(splits, C) int64, crowds left out."""
    columns = dataset.table
    known = ~columns.crowd & (columns.labels >= 0) & (columns.labels < len(dataset.classes))
    labels, of_object = columns.labels[known], columns.splits[columns.image_of[known]]
    parts = [np.bincount(labels[of_object == name], minlength=len(dataset.classes)) for name in splits]
    return np.stack(parts)


def _images_with(dataset: Dataset) -> np.ndarray:
    """(C,) int64: images that hold a class."""
    columns = dataset.table
    known = (columns.labels >= 0) & (columns.labels < len(dataset.classes))
    pairs = np.unique(np.stack([columns.image_of[known], columns.labels[known]]), axis=1)
    return np.bincount(pairs[1], minlength=len(dataset.classes))


def _images(dataset: Dataset, config: Config) -> Html:
    columns = dataset.table
    if not len(columns):
        return section("Images", paragraph("There are none."))
    sizes, times = np.unique(columns.sizes, axis=0, return_counts=True)
    per_image = np.bincount(columns.image_of[~columns.crowd], minlength=len(columns))
    common = np.argsort(-times, kind="stable")[:10]
    rows = [[f"{int(sizes[i, 1])} x {int(sizes[i, 0])}", int(times[i]), _share(times[i], len(columns))] for i in common]
    most = "" if len(sizes) <= 10 else f", the 10 most frequent of {len(sizes):,}"
    width, height = sizes[:, 1].astype(np.float64), sizes[:, 0].astype(np.float64)
    edges = _count_edges(int(per_image.max()))
    log = bool(max(width.max() / width.min(), height.max() / height.min()) > 8)
    labels = ("width in pixels", "height in pixels")
    spread = scatter(width, height, "Image sizes", labels=labels, log=log, weights=times, height=300)
    counts = np.histogram(per_image, edges)[0]
    limit = config.model.box.detections_per_image or 100
    marks = [(limit, f"at most {limit}")]
    objects = histogram(edges, {"": counts}, "Objects of an image", label="objects", marks=marks, height=300)
    facts = f"Median {int(np.median(per_image))} objects an image, most {int(per_image.max())}; "
    facts += f"{int((columns.counts == 0).sum())} images without an object."
    sizes_table = folded(f"Sizes as a table{most}", table(["width x height", "images", "share"], rows))
    return section("Images", row(spread, objects), paragraph(facts), sizes_table)


def _count_edges(most: int) -> np.ndarray:
    """Edges of at most 40 columns of whole numbers: 0, 1, 2 ..."""
    step = max(1, -(-(most + 1) // 40))
    return np.arange(0, most + step + 1, step, dtype=np.float64)


# ---------------------------------------------------------------- boxes and anchors


def _boxes(dataset: Dataset, config: Config) -> Html:
    sides = input_sides(dataset.table, config.data)
    if not len(sides):
        return section("Boxes and anchors", paragraph("There is no box with an area."))
    anchors = config.model.rpn.anchors
    shapes = anchor_shapes(anchors)
    best = best_anchor_iou(sides, shapes)
    side, ratio = np.sqrt(sides.prod(axis=1)), sides[:, 0] / sides[:, 1]
    size_marks = [(size, f"{size:g}") for level in anchors.sizes for size in level]
    size_edges = np.geomspace(max(side.min() / 1.1, 0.5), max(side.max() * 1.1, 2.0), 41)
    low, high = min(ratio.min(), 1 / 4) / 1.1, max(ratio.max(), 4) * 1.1
    ratio_edges = np.geomspace(max(low, 1 / 32), min(high, 32), 41)
    charts = [
        histogram(size_edges, {"": np.histogram(side, size_edges)[0]}, "Box sizes, dashed: anchors",
                  label="square root of the area in input pixels", log=True, marks=size_marks),
        histogram(ratio_edges, {"": np.histogram(np.clip(ratio, 1 / 32, 32), ratio_edges)[0]},
                  "Box shapes, dashed: anchors", label="height / width", log=True,
                  marks=[(value, f"{value:g}") for value in anchors.ratios]),
    ]  # fmt: skip
    labels = ("width in input pixels", "height in input pixels")
    spread = scatter(
        sides[:, 1], sides[:, 0], "Boxes and anchors", labels=labels, log=True, shapes=shapes[:, ::-1],
        shapes_name="anchor shapes",
    )  # fmt: skip
    names = ["side in the input", "boxes", "share", "IoU ≥ 0.5", "IoU ≥ 0.7", "median IoU"]
    note = (
        "IoU of each box with the anchor that fits it best, both around the same centre: what the shapes allow. "
        "Anchors lie on a grid, so that the best match in training is a little lower."
    )
    fit = element("div", table(names, _fit_rows(side, best)), paragraph(note, kind="soft"))
    return section("Boxes and anchors", row(*charts), row(spread, fit))


def _fit_rows(side: np.ndarray, best: np.ndarray) -> list[list[object]]:
    groups = [("all", np.ones(len(side), bool)), *((name, (side >= a) & (side < b)) for name, a, b in SIZES)]
    rows: list[list[object]] = []
    for name, chosen in groups:
        some = best[chosen]
        shares = [_share((some >= iou).sum(), len(some)) for iou in (0.5, 0.7)]
        rows.append(
            [name, len(some), _share(len(some), len(side)), *shares, f"{np.median(some):.2f}" if len(some) else ""]
        )
    return rows


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


# ---------------------------------------------------------------- pictures and problems


def _samples(dataset: Dataset, problems: Sequence[Problem], config: Config, count: int, seed: int) -> Html:
    sound, _ = repair_dataset(dataset, problems)
    rows = choose(sound, count + 8, seed)  # a few may be unreadable, where files were not looked at
    pictures: list[Html] = []
    for record, before, after in before_and_after(sound, rows, config.data, SIDE, seed):
        split = f", {record.split}" if record.split else ""
        caption = f"{record.path.name}{split}: {record.width} x {record.height}, {len(record)} objects"
        pictures.append(pair(picture(before, side=SIDE), picture(after, side=SIDE), caption))
        if len(pictures) == count:
            break
    note = "Left as the model is given them for evaluation, right with the augmentation of the config."
    return section("Samples", paragraph(note, kind="soft"), gallery(pictures, 460) if pictures else "")


def _problems(dataset: Dataset, problems: Sequence[Problem]) -> Html:
    if not problems:
        return section("Problems", paragraph("None."))
    counts = Counter((problem.severity, problem.kind, problem.repair or "") for problem in problems)
    rows = [[kind, element("span", severity, class_=severity), number, repair]
            for (severity, kind, repair), number in counts.items()]  # fmt: skip
    parts = [table(["problem", "severity", "number", "repair"], rows)]
    if thumbs := _thumbs(dataset, problems):
        parts += [heading("Images concerned"), gallery(thumbs, THUMB)]
    room = MOST_LINES
    for kind, found in _by_kind(problems).items():
        shown, room = found[:room], max(0, room - len(found))
        more = "" if len(shown) == len(found) else f", {len(shown):,} shown"
        parts.append(folded(f"{kind}: {len(found):,}{more}", lines(_cut(str(problem)) for problem in shown)))
    return section("Problems", *parts)


def _thumbs(dataset: Dataset, problems: Sequence[Problem]) -> list[Html]:
    """Pictures of the first images of each kind of problem, taken in turns; one that cannot be read is not shown."""
    pictures: list[Html] = []
    for problem in _in_turns(
        _by_kind(problem for problem in problems if problem.row is not None).values(), 3 * MOST_THUMBS
    ):
        drawn = draw_problem(dataset, problem, THUMB)
        if drawn is not None:
            name = problem.path.name if problem.path else f"image {problem.image}"
            kind = element("span", problem.kind, class_=problem.severity)
            pictures.append(picture(drawn, element("span", kind, f" {name}", title=_cut(str(problem))), THUMB))
        if len(pictures) == MOST_THUMBS:
            break
    return pictures


def _by_kind(problems: Iterable[Problem]) -> dict[str, list[Problem]]:
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.kind, []).append(problem)
    return groups


def _in_turns(groups: Iterable[list[Problem]], most: int) -> list[Problem]:
    """The first of each group, then the second of each, up to `most`."""
    turns = [(place, group[place]) for group in groups for place in range(min(most, len(group)))]
    return [problem for _, problem in sorted(turns, key=lambda turn: turn[0])][:most]


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ..."
