"""Hugging Face data sets, by fakes that do what the adapter asks of the real ones."""

from __future__ import annotations

import contextlib
import io
import pickle
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn.data.adapters.huggingface import from_huggingface
from maskrcnn.data.sample import load_record
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import decode_rle, mask_to_rle
from maskrcnn.structures import RLE, Polygons
from tests.data.contract import assert_dataset

# ---------------------------------------------------------------- fakes


@dataclass
class Rows:
    """As `datasets.Dataset`: columns, rows by index, features."""

    rows: list[dict]
    features: dict = field(default_factory=dict)

    @property
    def column_names(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        decode = [name for name, f in self.features.items() if getattr(f, "decode", False)]
        return {k: as_pil(v) if k in decode else v for k, v in self.rows[index].items()}

    def cast_column(self, name: str, feature: Any) -> Rows:
        return type(self)(self.rows, {**self.features, name: feature})

    def select_columns(self, names: list[str]) -> Rows:
        return type(self)([{k: row[k] for k in names} for row in self.rows], self.features)

    def remove_columns(self, name: str) -> Rows:
        return type(self)([{k: v for k, v in row.items() if k != name} for row in self.rows], self.features)


@dataclass
class ImageFeature:
    decode: bool = True


@dataclass
class ClassLabel:
    names: list[str]


@dataclass
class Sequence:
    feature: Any


def as_pil(value: dict) -> Image.Image:
    raise AssertionError("an image was decoded")


def encoded(value: int = 7, size: tuple[int, int] = (40, 50), **options: Any) -> dict:
    stream = io.BytesIO()
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(stream, "PNG", **options)
    return {"bytes": stream.getvalue(), "path": None}


CAT = {"bbox": [5, 6, 10, 20], "category": 1, "area": 90.0, "id": 17, "iscrowd": 0}
NAMES = {"objects": Sequence({"category": ClassLabel(["ant", "cat"])})}


def one(*objects: Any, **row: Any) -> Rows:
    features = {"image": ImageFeature(), **NAMES}
    return Rows([{"image": encoded(), "objects": list(objects), **row}], features)


def pixels(mask: Any, size: tuple[int, int] = (40, 50)) -> np.ndarray:
    return decode_rle(mask_to_rle(mask, size))


# ---------------------------------------------------------------- rows


@pytest.mark.parametrize("listed", [True, False])
def test_objects_as_dict_of_lists_or_list_of_dicts(listed):
    items = [CAT, {**CAT, "bbox": [0, 0, 50, 40], "category": 0, "id": 18, "iscrowd": 1}]
    objects = items if listed else {key: [item[key] for item in items] for key in CAT}
    feature = {"category": ClassLabel(["ant", "cat"])}
    features = {"image": ImageFeature(), "objects": [feature] if listed else Sequence(feature)}
    dataset = from_huggingface(Rows([{"image": encoded(), "objects": objects, "image_id": 40}], features), split="val")
    assert_dataset(dataset)
    assert (dataset.classes, dataset.category_ids, dataset.splits) == (("ant", "cat"), (0, 1), ("val",))
    record = dataset[0]
    assert (record.image_id, record.size, record.masks) == (40, (40, 50), ())
    assert record.boxes.tolist() == [[5, 6, 15, 26], [0, 0, 50, 40]]
    assert record.labels.tolist() == [1, 0]
    assert record.areas.tolist() == [90, 90]
    assert record.crowd.tolist() == [False, True]
    assert record.annotation_ids.tolist() == [17, 18]


def test_boxes_by_their_corners():
    assert from_huggingface(one(CAT), box_format="xyxy")[0].boxes.tolist() == [[5, 6, 10, 20]]
    with pytest.raises(DataError, match='unknown box_format \'cxcywh\'; give "xywh" or "xyxy"'):
        from_huggingface(one(CAT), box_format="cxcywh")


def test_images_are_opened_when_they_are_needed():
    data = Rows([{"image": encoded(9, size), "objects": []} for size in ((40, 50), (20, 30))], one().features)
    dataset = from_huggingface(data)
    assert_dataset(dataset)
    assert [record.size for record in dataset] == [(40, 50), (20, 30)]
    record = pickle.loads(pickle.dumps(dataset.table))[1]
    assert load_record(record).shape == (3, 20, 30)
    assert load_record(record).unique().tolist() == [9]


def test_columns_with_the_size_spare_the_headers():
    class NoImages(Rows):
        def __getitem__(self, index: int) -> dict:
            row = super().__getitem__(index)
            assert "image" not in row
            return row

    data = NoImages([{"image": None, "objects": [CAT], "width": 50, "height": 40}], NAMES)
    assert from_huggingface(data)[0].size == (40, 50)


def test_a_photo_on_its_side_has_the_size_that_people_see():
    exif = Image.Exif()
    exif[0x0112] = 6
    dataset = from_huggingface(Rows([{"image": encoded(exif=exif), "objects": []}]))
    assert dataset[0].size == tuple(load_record(dataset[0]).shape[1:]) == (50, 40)


def test_images_of_all_forms(tmp_path):
    Image.new("RGB", (50, 40)).save(tmp_path / "a.png")
    path = str(tmp_path / "a.png")
    array = np.zeros((40, 50, 3), np.uint8)
    forms = [path, {"bytes": None, "path": path}, Image.new("RGB", (50, 40)), array, array.tolist()]
    dataset = from_huggingface(Rows([{"image": form, "objects": None} for form in forms]))
    assert_dataset(dataset)
    assert [record.make is None for record in dataset] == [True, True, False, False, False]
    assert str(dataset[0].path) == path
    assert {tuple(load_record(record).shape) for record in dataset} == {(3, 40, 50)}


# ---------------------------------------------------------------- masks


SQUARE = np.zeros((40, 50), bool)
SQUARE[10:20, 5:15] = True


@pytest.mark.parametrize(
    ("segmentation", "kind"),
    [
        ([[5, 10, 15, 10, 15, 20, 5, 20]], Polygons),
        ([5, 10, 15, 10, 15, 20, 5, 20], Polygons),
        ([[5, 10], [15, 10], [15, 20], [5, 20]], Polygons),
        ([[[5, 10], [15, 10], [15, 20], [5, 20]]], Polygons),
        ({"size": [40, 50], "counts": [210, *[10, 30] * 9, 10, 1420]}, RLE),
        (SQUARE, RLE),
        (Image.fromarray(SQUARE.astype(np.uint8) * 255), RLE),
    ],
)
def test_masks_of_all_forms(segmentation, kind):
    dataset = from_huggingface(one({"category": 0, "segmentation": segmentation}))
    assert_dataset(dataset)
    (mask,) = dataset[0].masks
    assert isinstance(mask, kind)
    assert np.array_equal(pixels(mask), SQUARE)
    assert dataset[0].boxes.tolist() == [[5, 10, 15, 20]]
    assert dataset[0].areas.tolist() == [100]


def labelled() -> np.ndarray:
    image = np.zeros((40, 50, 3), np.uint8)
    image[3:8, 4:9] = 2, 1, 0
    image[20:30, 20:30] = 1, 7, 0
    image[30:35, 0:5] = 1, 1, 0
    image[0, 0] = 9, 9, 0
    return image


def test_label_images_with_a_channel_of_classes():
    data = Rows([{"image": encoded(), "annotation": Image.fromarray(labelled())}])
    dataset = from_huggingface(data, masks="annotation", classes={"dog": 2, "cat": 1})
    assert_dataset(dataset)
    assert (dataset.classes, dataset.category_ids) == (("cat", "dog"), (1, 2))
    assert dataset[0].labels.tolist() == [0, 0, 1]
    assert dataset[0].boxes.tolist() == [[0, 30, 5, 35], [20, 20, 30, 30], [4, 3, 9, 8]]
    assert np.array_equal(pixels(dataset[0].masks[1]), labelled()[..., 1] == 7)
    (warning,) = dataset.warnings
    assert "skipped 1 objects of an unknown category, first: dataset/0, image 0, annotation 9: category 9" in warning


def test_label_images_of_one_class():
    numbers = labelled()[..., 1]
    for image in (Image.fromarray(numbers), numbers.astype(np.int32), np.repeat(numbers[..., None], 3, axis=2)):
        data = Rows([{"image": encoded(), "m": image}, {"image": encoded(), "m": None}])
        dataset = from_huggingface(data, masks="m", classes=["nucleus"])
        assert_dataset(dataset)
        assert (dataset.classes, [len(record) for record in dataset]) == (("nucleus",), [3, 0])
    with pytest.raises(DataError, match="dataset/0: a label image with one channel says no class; give `classes` one"):
        from_huggingface(data, masks="m", classes=["a", "b"])


# ---------------------------------------------------------------- classes and splits


@pytest.mark.parametrize(
    ("categories", "classes", "names", "ids"),
    [
        ([7, 3], None, ("3", "7"), (3, 7)),
        (["dog", "ant"], None, ("ant", "dog"), (1, 2)),
        ([1, 0], ["ant", "cat"], ("ant", "cat"), (0, 1)),
        ([17, 5], {"dog": 17, "ant": 5}, ("ant", "dog"), (5, 17)),
        (["dog", "ant"], ["dog", "ant"], ("dog", "ant"), (0, 1)),
    ],
)
def test_names_of_classes(categories, classes, names, ids):
    data = Rows([{"image": encoded(), "objects": [{**CAT, "category": c} for c in categories]}])
    dataset = from_huggingface(data, classes=classes)
    assert (dataset.classes, dataset.category_ids) == (names, ids)


def test_class_names_that_are_there_twice():
    with pytest.raises(DataError, match=r"classes \['a', 'a'\] have a name or number twice"):
        from_huggingface(one(CAT), classes=["a", "a"])


def test_a_mapping_holds_the_splits():
    data = {"train": one(CAT), "validation": one(CAT, CAT), "test": Rows([{"image": encoded()}])}
    dataset = from_huggingface(data)
    assert_dataset(dataset)
    assert dataset.splits == ("train", "val")
    assert [len(record) for record in dataset] == [1, 2]
    assert dataset.warnings == ("left out 1 splits without objects, first: test: no column 'objects'",)
    assert len(from_huggingface(data, split="val")) == 1
    with pytest.raises(DataError, match="no split 'tset'; known splits: train, val, test"):
        from_huggingface(data, split="tset")
    with pytest.raises(DataError, match="holds no split that can be used: left out 1 splits without objects"):
        from_huggingface(data, split="test")


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("item", "kind", "value"),
    [
        ({**CAT, "category": 9}, "objects of an unknown category", "category 9"),
        ({**CAT, "category": -1}, "objects of an unknown category", "category -1"),
        ({**CAT, "category": "dog"}, "objects of an unknown category", "category 'dog'"),
        ({**CAT, "category": None}, "objects that are not as Hugging Face data sets have them", "category None"),
        ({**CAT, "bbox": [1, 2, 3]}, "objects that are not as Hugging Face data sets have them", "ValueError"),
        ({**CAT, "bbox": None}, "objects that are not as", "neither box nor mask"),
        ({**CAT, "area": "big"}, "objects that are not as", "big"),
        ("oops", "objects that are not as", "'oops'"),
        ({**CAT, "bbox": [60, 1, 2, 3]}, "boxes of zero area or outside the image", "in 50x40"),
        ({**CAT, "bbox": [1, 1, float("nan"), 3]}, "objects with wild coordinates", "nan"),
        ({**CAT, "segmentation": [[1, 2, 3, 4]]}, "polygons of fewer than three points", "4 numbers"),
        ({**CAT, "segmentation": np.ones((4, 5), bool)}, "masks that cannot be read", "5x4 instead of 50x40"),
        ({**CAT, "segmentation": np.ones((40, 50))}, "masks that cannot be read", "float64"),
        ({**CAT, "segmentation": {"bytes": b"x"}}, "masks that cannot be read", "UnidentifiedImageError"),
        ({**CAT, "segmentation": np.zeros((40, 50), bool)}, "empty masks", "no pixel is set"),
    ],
)
def test_bad_objects_are_skipped_and_counted(item, kind, value):
    dataset = from_huggingface(one(CAT, item, item))
    assert_dataset(dataset)
    assert len(dataset[0]) == 1
    (warning,) = dataset.warnings
    assert f"skipped 2 {kind}" in warning
    assert "dataset/0" in warning
    assert value in warning


def test_bad_images_are_skipped_and_counted(tmp_path):
    rows = [
        {"image": image, "objects": [CAT]} for image in (encoded(), {"bytes": b"no"}, str(tmp_path / "x.png"), None)
    ]
    dataset = from_huggingface(Rows(rows, NAMES))
    assert len(dataset) == 1
    assert "skipped 3 images that cannot be opened, first: dataset/1, image 1: Unidentified" in dataset.warnings[0]
    with pytest.raises(DataError, match="dataset: holds no image that can be used; skipped 3 images that cannot be"):
        from_huggingface(Rows(rows[1:], NAMES))


def test_missing_columns_and_streams():
    with pytest.raises(DataError, match="dataset: has no column 'image', only: objects; name it with image="):
        from_huggingface(Rows([{"objects": []}]))
    with pytest.raises(DataError, match="train: has no column 'm', only: image, objects"):
        from_huggingface(one(CAT), masks="m", split="train")
    with pytest.raises(DataError, match="a generator has no length; load the data without streaming"):
        from_huggingface(row for row in ())


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*CAT, "counts", "bytes"]), inner),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from([*CAT, "segmentation", "mask"]), ANYTHING), ANYTHING)
def test_any_object_is_taken_or_counted(changes, other):
    for data in (one({**CAT, **changes}), one(CAT, other), one(objects=other), one(CAT, image_id=other, width=other)):
        with contextlib.suppress(DataError):
            assert_dataset(from_huggingface(data))
