"""A small data set that has everything which a format may lose, and how two data sets are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from maskrcnn.data.sample import load_record
from maskrcnn.dataset import Dataset
from maskrcnn.ops.masks import mask_to_rle
from maskrcnn.ops.rle import encode_mask, rle_area
from maskrcnn.structures import RLE, Mask, MaskFile, Polygons, Record

CLASSES = ("a cat", "dog & co", "never seen")


def ring(*points: float) -> np.ndarray:
    return np.array(points, np.float64).reshape(-1, 2)


def square_with_hole(size: tuple[int, int]) -> RLE:
    mask = np.zeros(size, bool)
    mask[5:25, 8:30] = True
    mask[10:15, 12:20] = False
    return RLE(size, encode_mask(mask)["counts"])


def make_record(
    path: Path, image_id: int, size: tuple[int, int], split: str, objects: list[tuple[int, Mask, bool]], first: int = 1
) -> Record:
    """A record and its image file, with the boxes and areas of the masks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(image_id).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    rles = [mask_to_rle(mask, size) for _, mask, _ in objects]
    return Record(
        path=path,
        image_id=image_id,
        height=size[0],
        width=size[1],
        boxes=np.array([box_of(mask, size) for _, mask, _ in objects], np.float32).reshape(-1, 4),
        labels=np.array([label for label, _, _ in objects], np.int64),
        masks=tuple(mask for _, mask, _ in objects),
        crowd=np.array([crowd for _, _, crowd in objects], bool),
        areas=np.array([rle_area(rle) for rle in rles], np.float32),
        annotation_ids=np.arange(first, first + len(objects)),
        split=split,
    )


def box_of(mask: Mask, size: tuple[int, int]) -> list[float]:
    import hotcoco.mask as coco_mask

    if isinstance(mask, Polygons):
        points = np.concatenate(mask.rings)
        return [*points.min(axis=0), *points.max(axis=0)]
    x, y, width, height = coco_mask.to_bbox(mask_to_rle(mask, size))
    return [x, y, x + width, y + height]


def example(root: Path, *, overlap: bool = True, crowd: bool = True) -> Dataset:
    """Two splits, three classes of which one has no object, an image without objects, and every kind of mask."""
    one, two = (40, 48), (33, 64)
    parts = Polygons((ring(2.25, 30, 9.5, 30.5, 6, 38.75), ring(30, 30.1, 40.3, 31, 35, 38)))
    triangle = Polygons((ring(33.1, 2.2, 46.7, 3, 40, 20.3),))
    over = Polygons((ring(10, 8, 26, 8, 26, 22, 10, 22),))
    labels = np.zeros(two, np.uint8)
    labels[20:30, 40:60] = 7
    (root / "label").mkdir(parents=True)
    Image.fromarray(labels).save(root / "label" / "b.png")
    group = np.zeros(two, bool)
    group[2:12, 3:50:2] = True
    first = [(0, square_with_hole(one), False), (1, parts, False), (1, triangle, False)]
    second = [(1, MaskFile(root / "label" / "b.png", 7), False)]
    if overlap:
        first.append((1, over, False))
    if crowd:
        second.append((0, RLE(two, encode_mask(group)["counts"]), True))
    records = [
        make_record(root / "x" / "a.png", 5, one, "train", first, 1),
        make_record(root / "y" / "b.jpg", 9, two, "val", second, 1 + len(first)),
        make_record(root / "x" / "empty.png", 12, (10, 20), "train", [], 0),
    ]
    return Dataset(records, CLASSES, (1, 2, 3), name="example")


def key_of(record: Record, shards: bool) -> str:
    return str(record.image_id) if shards else record.path.stem


def assert_same(a: Dataset, b: Dataset, *, tolerance: float = 0.0, crowds: bool = True) -> None:
    """Same images, splits, classes, masks and crowds, whatever the order of images and classes.

    Args:
        tolerance: of boxes, in pixels.
        crowds: whether `b` has the crowds of `a`.
    """
    shards = any(record.span is not None for record in b)  # all images of a shard have the same path
    found = {key_of(record, shards): record for record in b}
    assert sorted(found) == sorted(key_of(record, shards) for record in a)
    for old in a:
        new = found[key_of(old, shards)]
        assert (old.size, old.split) == (new.size, new.split)
        assert np.array_equal(load_record(old), load_record(new))
        kept = [i for i in range(len(old)) if crowds or not old.crowd[i]]
        assert [a.classes[old.labels[i]] for i in kept] == [b.classes[label] for label in new.labels]
        assert old.crowd[kept].tolist() == new.crowd.tolist()
        np.testing.assert_allclose(new.boxes, old.boxes[kept], rtol=0, atol=tolerance)
        for i, mask in zip(kept if old.masks else [], new.masks if old.masks else [], strict=True):
            assert mask_to_rle(mask, new.size)["counts"] == mask_to_rle(old.masks[i], old.size)["counts"]
