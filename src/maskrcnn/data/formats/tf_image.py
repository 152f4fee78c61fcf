"""One record of a TFRecord shard -> one image with its objects, by the keys of the Object Detection API.

The record's frame is that of the pixels as they are stored: TensorFlow's decoders know no EXIF. Where a tag turns the
image for us, boxes and masks are turned with it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from maskrcnn.data.decode import opened, orientation, upright
from maskrcnn.data.formats.assemble import Found, Object
from maskrcnn.data.formats.example import Buffer, Damaged, Feature, parse_example
from maskrcnn.data.formats.keypoint_rows import Rows
from maskrcnn.data.formats.label_map import ClassNames
from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import decode_rle, encode_mask, load_mask_file
from maskrcnn.structures import RLE, Mask, MaskFile, Span

KEYPOINT = "image/object/keypoint"
BOX_KEYS = tuple(f"image/object/bbox/{side}" for side in ("xmin", "ymin", "xmax", "ymax"))
_PNG = b"\x89PNG\r\n\x1a\n"
_SIZES = "masks of another size than their image"
_FAR = 2.0  # a normalised coordinate beyond it was never normalised


@dataclass(slots=True)
class TFImage:
    """An image, its image/source_id, and the keypoints of its objects, all of them with these names."""

    found: Found
    source_id: str
    rows: Rows
    point_names: tuple[str, ...]


@dataclass(slots=True)
class ImageReader:
    """Reads records of one shard.

    Attributes:
        file: the shard; `data` its bytes.
        split: of its images.
        names: gathers the classes.
        skipped: gathers what is left out.
    """

    file: Path
    data: Buffer
    split: str
    names: ClassNames
    skipped: Skipped

    def image(self, start: int, stop: int, number: int) -> TFImage | None:
        """The image of the record in [start, stop); None, counted, where it has none that can be used."""
        where: object = f"record {number}"
        try:
            features = parse_example(self.data, start, stop)
            record = _Features(features, self.data)
            names = [text for key in ("image/filename", "image/source_id") for text in record(key).strings()]
            where = next((name for name in names if name), where)
            return self._found(record, where)
        except Damaged as error:
            self._skip("records that are not a tf.train.Example", where, None, str(error))
        except DataError as error:
            self._skip("images that cannot be opened", where, None, error.message)
        return None

    def _found(self, record: _Features, where: object) -> TFImage | None:
        spans = record("image/encoded").spans()
        if len(spans) != 1 or spans[0][0] == spans[0][1]:
            self._skip("records without image/encoded", where, None, f"keys {sorted(record.features)[:5]}")
            return None
        span = _span(spans[0])
        with opened(self.file, span) as image:
            stored, turn = (image.height, image.width), orientation(image)
        upright = stored if turn < 5 else (stored[1], stored[0])
        stated = tuple(record(f"image/{key}").ints().tolist() for key in ("height", "width"))
        stated_size = (stated[0][0], stated[1][0]) if all(stated) else stored
        if stated_size == upright != stored:
            turn = 1  # whoever wrote the record turned the boxes
        elif stated_size != stored:
            value = f"{stated_size[1]}x{stated_size[0]} stated, {stored[1]}x{stored[0]} in the file"
            self._skip("images whose stated size is not that of their file", where, None, value, "kept")
        frame = upright if turn == 1 else stored
        rows: Rows = {}
        objects = self._objects(record, frame, turn, where, rows)
        if objects is None:
            return None
        source_id = next(iter(record("image/source_id").strings()), "")
        return TFImage(Found(self.file, upright, objects, self.split, span), source_id, rows, record.point_names(rows))

    def _objects(
        self, record: _Features, frame: tuple[int, int], turn: int, where: object, rows: Rows
    ) -> list[Object] | None:
        """None where the lists do not belong together. Puts keypoints into `rows`."""
        boxes = record.boxes()
        texts, labels = record("image/object/class/text").strings(), record("image/object/class/label").ints().tolist()
        masks, problem = self._masks(record("image/object/mask"), frame, where)
        lengths = {len(found) for found in (*boxes, texts, labels, masks) if len(found)}
        if problem or len(lengths) > 1 or len({len(side) for side in boxes}) > 1:
            counts = f"boxes {[len(side) for side in boxes]}, texts {len(texts)}, labels {len(labels)}"
            self._skip("images whose object lists do not fit together", where, None, f"{counts}, masks {len(masks)}")
            return None
        if not lengths:
            return []
        count = lengths.pop()
        crowd, areas = record.row("is_crowd", count), record.row("area", count)
        hard, numbers = record.row("difficult", count), record.row("id", count)
        points = record.keypoints(count, frame, turn)
        pixels = _pixels(boxes, frame) if len(boxes[0]) else None
        if pixels is None and not masks:
            self._skip("images with classes but neither boxes nor masks", where, None, f"{count} objects")
            return None
        objects = []
        for i in range(count):
            if hard is not None and hard[i]:
                self._skip("objects marked as difficult", where, i, "image/object/difficult 1", "kept")
            made = Object(
                self._name(texts[i] if texts else "", labels[i] if labels else None, where, i),
                masks[i] if masks else None,
                None if pixels is None else pixels[i].tolist(),
                crowd is not None and bool(crowd[i]),
                None if areas is None else float(areas[i]),
                int(numbers[i]) if numbers is not None else None if points is None else i,
            )
            if self._usable(made, frame, where, i) and self._turned(made, frame, turn, where, i):
                objects.append(made)
                if points is not None and made.number is not None:
                    rows[made.number] = points[i]
        return objects

    def _name(self, text: str, label: int | None, where: object, index: int) -> str:
        label = None if label is None or abs(label) >= 1 << 31 else label
        mapped = None if label is None else self.names.mapped(label)
        name = self.names.name(text, label)
        if text and mapped is not None and mapped != name:
            value = f"{name!r} with label {label}, which the map calls {mapped!r}; the text is taken for the class"
            self._skip("objects whose class/text is not what the label map says", where, index, value, "kept")
        return name or self.names.name("object", None)

    def _usable(self, made: Object, frame: tuple[int, int], where: object, index: int) -> bool:
        """Whether the mask is as large as the image, and the box was normalised; a box that was not is dropped."""
        try:
            size = self._mask_size(made.mask) if isinstance(made.mask, MaskFile) else frame
        except DataError as error:
            self._skip("masks that cannot be read", where, index, error.message)
            return False
        if size != frame:
            self._skip(_SIZES, where, index, f"{size[1]}x{size[0]} instead of {frame[1]}x{frame[0]}")
            return False
        if made.box is not None and max(map(abs, made.box)) > _FAR * max(frame):
            value = f"box {made.box} after multiplying by the size"
            self._skip("boxes that are not normalised to 0..1", where, index, value)
            made.box = None
        return made.box is not None or made.mask is not None

    def _mask_size(self, mask: MaskFile) -> tuple[int, int]:
        """From the header of the PNG alone."""
        if mask.raw is not None:
            return mask.raw
        assert mask.span is not None
        head = bytes(self.data[mask.span.start : mask.span.start + 24])
        if head[:8] == _PNG and mask.span.length > 24:
            width, height = struct.unpack(">II", head[16:24])
            return height, width
        with opened(self.file, mask.span) as image:
            return image.height, image.width

    def _turned(self, made: Object, frame: tuple[int, int], turn: int, where: object, index: int) -> bool:
        """Turns box and mask as the EXIF tag turns the image; the mask must be decoded for it."""
        if turn not in range(2, 9):
            return True
        self._skip("objects turned with their image, whose EXIF tag says so", where, index, f"tag {turn}", "kept")
        try:
            if made.mask is not None:
                pixels = load_mask_file(made.mask) if isinstance(made.mask, MaskFile) else _decoded(made.mask)
                made.mask = _encoded(upright(pixels[:, :, None], turn)[:, :, 0])
        except DataError as error:
            self._skip("masks that cannot be read", where, index, error.message)
            return False
        if made.box is not None:
            made.box = _turned_box(made.box, frame, turn)
        return True

    def _masks(self, feature: Feature, frame: tuple[int, int], where: object) -> tuple[Sequence[Mask | None], bool]:
        """A mask an object, in whichever way they are stored; True where floats do not fill whole masks."""
        if feature.kind == "bytes":
            return [MaskFile(self.file, span=_span(s)) if s[1] > s[0] else None for s in feature.spans()], False
        step = frame[0] * frame[1]
        run = feature.packed_floats()
        if run is not None:
            if (run[1] - run[0]) % (4 * step):
                return [], True
            ends = pairwise(range(run[0], run[1] + 1, 4 * step))
            return [MaskFile(self.file, span=_span(s), raw=frame) for s in ends], False
        values = feature.floats()
        if len(values) % step:
            return [], True
        return [_encoded(mask > 0) for mask in values.reshape(-1, *frame)], False

    def _skip(self, kind: str, where: object, index: int | None, value: str, verb: str = "skipped") -> None:
        self.skipped.add(kind, self.file, where, None if index is None else index, value, verb=verb)


@dataclass(slots=True)
class _Features:
    """A record's features; one that is absent is empty."""

    features: dict[str, Feature]
    data: Buffer

    def __call__(self, key: str) -> Feature:
        return self.features.get(key) or Feature(self.data)

    def boxes(self) -> list[np.ndarray]:
        """xmin, ymin, xmax, ymax: (N,) float32 each."""
        return [self(key).floats() for key in BOX_KEYS]

    def row(self, name: str, count: int) -> np.ndarray | None:
        """A list that need not be there: (count,) numbers, or None."""
        feature = self(f"image/object/{name}")
        values = feature.ints() if feature.kind == "int64" else feature.floats()
        return values if len(values) == count else None

    def keypoints(self, count: int, frame: tuple[int, int], turn: int) -> np.ndarray | None:
        """(count, K, 3) x, y, visibility; None where there are none, or not as many for each object."""
        x, y = self(f"{KEYPOINT}/x").floats(), self(f"{KEYPOINT}/y").floats()
        if not len(x) or len(x) != len(y) or len(x) % count:
            return None
        seen = self(f"{KEYPOINT}/visibility").ints()
        seen = seen if len(seen) == len(x) else np.where((x > 0) | (y > 0), 2, 0)
        points = _pixels([x, y, x, y], frame)
        if turn in range(2, 9):
            points = np.array([_turned_box(point, frame, turn) for point in points.tolist()])
        points = np.where(seen[:, None] > 0, points[:, :2], 0.0)
        return np.concatenate([points, seen[:, None]], axis=1).reshape(count, -1, 3).astype(np.float32)

    def point_names(self, rows: Rows) -> tuple[str, ...]:
        """Of the K keypoints that each object has; () without."""
        count = next((len(row) for row in rows.values()), 0)
        names = self(f"{KEYPOINT}/text").strings()[:count] if count else []
        return tuple(names) if len(names) == count else tuple(map(str, range(count)))


def _span(ends: tuple[int, int]) -> Span:
    return Span(ends[0], ends[1] - ends[0])


def _pixels(boxes: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """(N, 4) float64. What lies within float32's rounding of a whole pixel was one before it was divided."""
    scale = np.array([size[1], size[0]] * 2, np.float64)
    values = np.stack(boxes, axis=1).astype(np.float64) * scale
    whole = np.round(values)
    return np.where(np.abs(values - whole) <= scale * 2.0**-23, whole, values)


def _turned_box(box: Sequence[float], frame: tuple[int, int], turn: int) -> list[float]:
    x0, y0, x1, y1 = box
    height, width = frame
    if turn >= 5:
        x0, y0, x1, y1, height, width = y0, x0, y1, x1, width, height
    if turn in (2, 3, 6, 7):
        x0, x1 = width - x1, width - x0
    if turn in (3, 4, 7, 8):
        y0, y1 = height - y1, height - y0
    return [x0, y0, x1, y1]


def _encoded(mask: np.ndarray) -> RLE:
    rle = encode_mask(mask)
    return RLE((mask.shape[0], mask.shape[1]), rle["counts"])


def _decoded(mask: Mask) -> np.ndarray:
    assert isinstance(mask, RLE)
    return decode_rle({"size": list(mask.size), "counts": mask.counts})
