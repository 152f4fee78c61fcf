"""Instances or truth drawn on their image: (H, W, 3) uint8 RGB, original frame. By supervision, without OpenCV."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.instances import Instances
from maskrcnn.ops.masks import decode_rle, encode_mask, mask_to_rle
from maskrcnn.structures import Record
from maskrcnn.tracks import Counts
from maskrcnn.view.cutouts import image_of
from maskrcnn.view.keypoints import draw_keypoints
from maskrcnn.view.tracks import draw_counts, draw_tracks

if TYPE_CHECKING:
    from PIL import Image

# Neighbours differ in hue and in lightness; the first eight are told apart by colour-blind people too (Okabe and Ito).
COLORS = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#8c6bff", "#7fd13b", "#e6194b",
    "#46d7d7", "#a0522d", "#f58fd0", "#3c5aff", "#c8b400", "#00b35c", "#b34dd9", "#ff8f66", "#4f9d9d", "#9aa400",
)  # fmt: skip

ColorBy = Literal["auto", "class", "instance"]
SMALLEST = 9
"""Pixels of the font."""
MOST_HIDDEN = 0.5
"""Part of a picture that names may cover."""


def draw_instances(
    instances: Instances,
    image: Any = None,
    *,
    masks: bool = True,
    boxes: bool = True,
    labels: bool | Literal["auto"] = "auto",
    keypoints: bool = True,
    color_by: ColorBy = "auto",
    opacity: float = 0.5,
    scale: int = 1,
) -> np.ndarray:
    """The image with masks, boxes, keypoints and "name 0.93" on it; the best instance lies on top.

    Tracked instances get their numbers too ("#4 name 0.93"), a colour and a trail each, and what was counted.

    Args:
        instances: original frame.
        image: array (H, W, 3) uint8 RGB, PIL image, tensor or path; None: read `instances.path`. Other depths and
            channels are shown as `to_display` does.
        masks, boxes, labels, keypoints: what to draw; labels "auto": unless they would cover half of the picture.
        color_by: "class": a class has one colour in all images; "instance": each its own; "auto": by instance when
            there is only one class, or where they are tracked: then an object keeps its colour.
        opacity: of the masks, 0..1.
        scale: enlarge the image this many times first, so that thumbnails have room for the names.

    Raises:
        DataError: no image, or one of another size.
    """
    names = [f"{name} {score:.2f}" for name, score in zip(instances.names, instances.scores, strict=True)]
    if instances.tracks is not None:
        names = [f"#{number} {name}" for number, name in zip(instances.tracks.ids.tolist(), names, strict=True)]
    if not keypoints:
        instances = replace(instances, keypoints=None)
    return _draw(
        instances, image, names if labels else [], masks, boxes, color_by, opacity, scale, always=labels is True
    )


def draw_truth(
    record: Record,
    dataset: Dataset,
    image: Any = None,
    *,
    masks: bool = True,
    boxes: bool = True,
    labels: bool | Literal["auto"] = "auto",
    color_by: ColorBy = "auto",
    opacity: float = 0.5,
    scale: int = 1,
) -> np.ndarray:
    """What the annotations say, drawn as `draw_instances` does; regions to ignore are marked "(crowd)".

    Raises:
        DataError: the image cannot be read, or is of another size than annotated.
    """
    truth = Instances(
        boxes=record.boxes,
        scores=np.ones(len(record), np.float32),
        labels=record.labels,
        classes=dataset.classes,
        size=record.size,
        category_ids=dataset.category_ids,
        path=str(record.path),
        keypoints=record.keypoints,
        keypoint_names=dataset.keypoints.names if dataset.keypoints else (),
        _rle=[mask_to_rle(mask, record.size) for mask in record.masks] if record.masks else None,
    )
    names = [name + " (crowd)" * bool(crowd) for name, crowd in zip(truth.names, record.crowd, strict=True)]
    image = record if image is None else image
    return _draw(truth, image, names if labels else [], masks, boxes, color_by, opacity, scale, always=labels is True)


def side_by_side(
    truth: np.ndarray, prediction: np.ndarray, titles: tuple[str, str] = ("truth", "prediction")
) -> np.ndarray:
    """Two drawings of one image next to each other, a title above each: (H + title, 2W + gap, 3) uint8."""
    return grid([_titled(truth, titles[0]), _titled(prediction, titles[1])], columns=2)


def grid(images: Sequence[np.ndarray], columns: int, gap: int = 8) -> np.ndarray:
    """Drawings of any size in rows of `columns`, each centred in a cell of the largest, on white."""
    if not images:
        return np.full((1, 1, 3), 255, np.uint8)
    columns = max(1, min(columns, len(images)))
    rows = -(-len(images) // columns)
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top = index // columns * (height + gap) + (height - image.shape[0]) // 2
        left = index % columns * (width + gap) + (width - image.shape[1]) // 2
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def to_supervision(instances: Instances) -> Any:
    """The same as `supervision.Detections`: boxes, scores, class ids, `data["class_name"]`, numbers of tracked objects
    as `tracker_id`, and masks as the compact kind, which is box-local too."""
    sv = _supervision()
    return sv.Detections(
        xyxy=instances.boxes.astype(np.float32).reshape(-1, 4),
        confidence=instances.scores.astype(np.float32),
        class_id=instances.labels.astype(int),
        mask=_compact_mask(instances.rle, instances.size) if instances.has_masks else None,
        tracker_id=instances.tracks.ids.astype(int) if instances.tracks else None,
        data={"class_name": np.array(instances.names, dtype=str)},
    )


# ---------------------------------------------------------------- drawing


def _draw(
    instances: Instances,
    image: Any,
    names: list[str],
    masks: bool,
    boxes: bool,
    color_by: ColorBy,
    opacity: float,
    scale: int,
    *,
    always: bool,
) -> np.ndarray:
    if color_by not in ("auto", "class", "instance"):
        raise ValueError(f"color_by {color_by!r} is not one of auto, class, instance")
    pixels = _pixels(instances, image)
    if scale > 1:
        instances, pixels = _enlarged(instances, scale), pixels.repeat(scale, 0).repeat(scale, 1)
    tracks, line = instances.tracks, _line_width(instances)
    if not len(instances):
        return pixels if tracks is None else _counted(draw_tracks(pixels, tracks, [], line), tracks.counts)
    sv = _supervision()
    # Best last, so that it lies on top; and supervision wants BGR.
    colors, scene = _color_numbers(instances, color_by)[::-1], np.ascontiguousarray(pixels[:, :, ::-1])
    detections = to_supervision(instances if masks else replace(instances, roi_masks=None, _rle=None))[::-1]
    palette = sv.ColorPalette.from_hex(list(COLORS))
    strokes = [palette.by_idx(int(color)).as_bgr() for color in colors]
    if detections.mask is not None:
        scene = sv.MaskAnnotator(palette, opacity=opacity).annotate(scene, detections, colors)
        _outline(scene, detections.mask, strokes, line)
    detections.mask = None
    detections.xyxy = np.minimum(detections.xyxy, np.array(instances.size[::-1] * 2, np.float32) - 1)
    if boxes:
        _frame(scene, detections.xyxy, strokes, line)
    if instances.keypoints is not None:
        scene = draw_keypoints(scene, instances, strokes[::-1], line)
    if tracks is not None:
        scene = draw_tracks(scene, tracks, strokes[::-1], line)
    if names:
        scene = _label(scene, detections, names[::-1], colors, instances.size, always)
    if tracks is not None:
        scene = _counted(scene, tracks.counts)
    return np.ascontiguousarray(scene[:, :, ::-1])


def _label(
    scene: np.ndarray, detections: Any, names: list[str], colors: np.ndarray, size: tuple[int, int], always: bool
) -> np.ndarray:
    """The scene with a name at each box; many names are written smaller, or not at all unless `always`."""
    sv = _supervision()
    for points in (_font_size(size), SMALLEST):
        padding = max(1, points // 4)
        annotator = sv.RichLabelAnnotator(
            sv.ColorPalette.from_hex(list(COLORS)),
            text_color=sv.ColorPalette.from_hex([_readable_on(color) for color in COLORS]),
            font_path=font_path(),
            font_size=points,
            text_padding=padding,
        )
        ends = np.array([annotator.font.getbbox(name)[2:] for name in names]) + 2 * padding + 1  # (N, 2) width, height
        if ends.prod(axis=1).sum() <= MOST_HIDDEN * size[0] * size[1]:
            break
    else:
        if not always:
            return scene
    detections.xyxy = _with_room_above(detections.xyxy, ends, size)
    return annotator.annotate(scene, detections, names, colors)


def _color_numbers(instances: Instances, color_by: ColorBy) -> np.ndarray:
    """(N,) indices into `COLORS`."""
    if color_by == "class" or (color_by == "auto" and len(instances.classes) > 1 and instances.tracks is None):
        return instances.labels % len(COLORS)
    numbers = np.arange(len(instances)) if instances.tracks is None else instances.tracks.ids - 1
    return numbers % len(COLORS)


def _pixels(instances: Instances, image: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB, a copy."""
    if image is None and instances.path is None:
        raise DataError("these instances come from no file; give the image to draw on")
    return image_of(instances, image)


def _enlarged(instances: Instances, scale: int) -> Instances:
    """The same in an image `scale` times as large, mask pixels included."""
    rles = None
    if instances.has_masks:
        rles = [encode_mask(decode_rle(rle).repeat(scale, 0).repeat(scale, 1)) for rle in instances.rle]
    height, width = instances.size
    points = None if instances.keypoints is None else instances.keypoints * np.array([scale, scale, 1], np.float32)
    return replace(
        instances,
        boxes=instances.boxes * scale,
        size=(height * scale, width * scale),
        roi_masks=None,
        keypoints=points,
        tracks=instances.tracks and instances.tracks.enlarged(scale),
        _rle=rles,
    )


def _outline(scene: np.ndarray, masks: Any, colors: Sequence[tuple[int, ...]], width: int) -> None:
    """Draw the inner border of each mask, in place. Box-local; supervision's PolygonAnnotator takes 0.2 s an object."""
    for index in range(len(masks)):
        left, top = masks.offsets[index]
        inside = masks.crop(index)
        inner = np.pad(inside, 1)
        for _ in range(width):  # peel off a layer of pixels
            inner[1:-1, 1:-1] &= inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
        height, breadth = inside.shape
        scene[top : top + height, left : left + breadth][inside & ~inner[1:-1, 1:-1]] = colors[index]


def _frame(scene: np.ndarray, boxes: np.ndarray, colors: Sequence[tuple[int, ...]], width: int) -> None:
    """Draw the edges of each box, in place. Supervision's BoxAnnotator goes through the whole picture for each."""
    starts = boxes.astype(int) - width // 2
    for (left, top, right, bottom), color in zip(starts.tolist(), colors, strict=True):
        rows, columns = slice(max(0, top), bottom + width), slice(max(0, left), right + width)
        for y in (top, bottom):
            scene[max(0, y) : max(0, y + width), columns] = color
        for x in (left, right):
            scene[rows, max(0, x) : max(0, x + width)] = color


def _compact_mask(rles: Sequence[dict], size: tuple[int, int]) -> Any:
    from hotcoco import mask
    from supervision.detection.compact_mask import CompactMask

    # The box of the pixels, not of the instance: a mask may reach a pixel beyond.
    boxes = np.array([mask.to_bbox(rle) for rle in rles], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2] - 1  # supervision counts the last pixel in
    return CompactMask.from_coco_rle(rles, boxes, size)


def _with_room_above(boxes: np.ndarray, ends: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The boxes, moved so that a label of (width, height) `ends` above the top left corner lies inside the image."""
    corners = np.maximum(np.minimum(boxes[:, :2], [size[1], size[0]] - ends * [1, 0]), ends * [0, 1])
    return np.concatenate([corners, np.maximum(boxes[:, 2:], corners)], axis=1).clip(min=0)


def _line_width(instances: Instances) -> int:
    """By the size of the picture, but thin enough that it leaves something to see of small objects."""
    sides = (instances.boxes[:, 2:] - instances.boxes[:, :2]).min(axis=1) if len(instances) else np.inf
    return max(1, round(min(min(instances.size) / 300, float(np.median(sides)) / 12)))


def _font_size(size: tuple[int, int]) -> int:
    return int(np.clip(round(min(size) / 40), SMALLEST, 60))


def _counted(scene: np.ndarray, counts: Counts) -> np.ndarray:
    from PIL import ImageFont

    font = ImageFont.truetype(font_path(), _font_size((scene.shape[0], scene.shape[1])))
    return draw_counts(scene, counts, font)


def _readable_on(color: str) -> str:
    """Black or white, whichever stands out from this background (luma weights of Rec. 601)."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"


def _titled(image: np.ndarray, title: str) -> np.ndarray:
    """The image under a white strip with a title."""
    from PIL import Image, ImageDraw, ImageFont

    size = max(12, _font_size((image.shape[0], image.shape[1])))
    strip: Image.Image = Image.new("RGB", (image.shape[1], 2 * size), "white")
    font = ImageFont.truetype(font_path(), size)
    ImageDraw.Draw(strip).text((image.shape[1] / 2, size), title, fill="black", font=font, anchor="mm")
    return np.concatenate([np.asarray(strip), image])


@cache
def _supervision() -> ModuleType:
    with warnings.catch_warnings():  # it recommends OpenCV, which we do without
        warnings.simplefilter("ignore")
        import supervision
    return supervision


@cache
def font_path() -> str:
    """DejaVu Sans, which matplotlib (a dependency of supervision) carries: Latin, Greek, Cyrillic and more."""
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
