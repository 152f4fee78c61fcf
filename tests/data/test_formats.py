"""Readers on small files made here, and on the real data."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn.data.formats import coco
from maskrcnn.data.open import open_dataset
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import decode_rle, encode_mask, mask_to_rle
from tests.data.contract import assert_dataset

SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]


def picture(path: Path, size: tuple[int, int] = (40, 50)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(path)


def coco_file(folder: Path, annotations: list[dict] | None = None, **changes: object) -> Path:
    """Two pictures of 50 x 40, categories 3 and 7; `annotations` are completed."""
    for name in ("a.png", "b.png"):
        picture(folder / name)
    base = {
        "image_id": 1,
        "category_id": 7,
        "bbox": [10, 10, 20, 20],
        "segmentation": [SQUARE],
        "area": 400,
        "iscrowd": 0,
    }
    annotations = annotations if annotations is not None else [{}]
    content = {
        "images": [{"id": i + 1, "file_name": n, "height": 40, "width": 50} for i, n in enumerate(("a.png", "b.png"))],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [{"id": i + 1, **base, **a} for i, a in enumerate(annotations)],
        **changes,
    }
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_coco_labels_are_contiguous_in_order_of_category_id(tmp_path):
    dataset = open_dataset(coco_file(tmp_path, [{}, {"category_id": 3, "image_id": 2}]))
    assert_dataset(dataset)
    assert dataset.classes == ("dog", "cat")
    assert dataset.category_ids == (3, 7)
    assert dataset[0].labels.tolist() == [1]
    assert dataset[1].labels.tolist() == [0]
    assert dataset[0].boxes.tolist() == [[10, 10, 30, 30]]
    assert dataset.format == "coco"


def test_coco_masks_of_all_kinds_and_crowds(tmp_path):
    mask = np.zeros((40, 50), bool)
    mask[5:9, 6:20] = True
    compressed = encode_mask(mask)
    runs = [6 * 40 + 5] + [4, 36] * 13 + [4]
    runs.append(2000 - sum(runs))
    annotations = [
        {"segmentation": {"size": [40, 50], "counts": compressed["counts"].decode()}, "bbox": None},
        {"segmentation": {"size": [40, 50], "counts": runs}, "iscrowd": 1},
        {"segmentation": [SQUARE, [0, 0, 5, 0, 5, 5]], "bbox": []},
    ]
    record = open_dataset(coco_file(tmp_path, annotations))[0]
    assert np.array_equal(decode_rle(mask_to_rle(record.masks[0], (40, 50))), mask)
    assert np.array_equal(decode_rle(mask_to_rle(record.masks[1], (40, 50))), mask)
    assert record.boxes[0].tolist() == [6, 5, 20, 9]  # from the mask
    assert record.boxes[2].tolist() == [0, 0, 30, 30]
    assert record.crowd.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("change", "kind", "value"),
    [
        ({"image_id": 99}, "annotations of an unknown image", "image_id 99"),
        ({"category_id": 99}, "annotations of an unknown category", "category_id 99"),
        ({"segmentation": [[1, 1, 5, 5]]}, "polygons of fewer than three points", "4 numbers"),
        ({"bbox": [10, 10, 0, 5]}, "boxes of zero area or outside the image", "bbox [10, 10, 0, 5] in 50x40"),
        ({"bbox": [60, 10, 5, 5]}, "boxes of zero area or outside the image", "bbox [60, 10, 5, 5]"),
        ({"bbox": [1, 1, float("nan"), 5]}, "boxes of zero area or outside the image", "nan"),
        (
            {"segmentation": {"size": [4, 5], "counts": [20]}},
            "masks of another size",
            "size [4, 5] instead of [40, 50]",
        ),
        ({"segmentation": {"size": [40, 50], "counts": [7]}}, "masks whose runs do not fill the image", "sum 7"),
        ({"segmentation": {"size": [40, 50], "counts": "~~~"}}, "masks whose runs do not fill the image", "sum"),
        ({"segmentation": [[1e9, 0, 1, 1, 2, 2]]}, "polygons with wild coordinates", "1000000000.0"),
        ({"bbox": [1, 2, 3]}, "annotations that are not as COCO writes them", "[1, 2, 3]"),
        ({"image_id": [1]}, "annotations that are not as COCO writes them", "[1]"),
        ({"segmentation": "oops"}, "annotations that are not as COCO writes them", "oops"),
        ({"bbox": "oops"}, "annotations that are not as COCO writes them", "oops"),
        ({"id": 1}, "annotations that are there twice", "id 1"),
    ],
)
def test_coco_bad_annotations_are_skipped_and_counted(tmp_path, change, kind, value):
    dataset = open_dataset(coco_file(tmp_path, [{}, change, change | ({} if "id" in change else {"id": 9})]))
    assert_dataset(dataset)
    assert len(dataset[0]) == 1
    (warning,) = dataset.warnings
    assert f"skipped 2 {kind}" in warning
    assert value in warning
    assert "instances.json" in warning
    assert "annotation" in warning


def test_coco_bad_images_are_skipped_and_counted(tmp_path):
    images = [
        {"id": 1, "file_name": "a.png", "height": 40, "width": 50},
        {"id": 1, "file_name": "b.png", "height": 40, "width": 50},
        {"id": 3, "file_name": "gone.png", "height": 40, "width": 50},
        {"id": 4, "file_name": "b.png"},  # its own header knows the size
        {"id": 5, "file_name": "c.png"},
    ]
    (tmp_path / "c.png").write_bytes(b"no picture")
    dataset = open_dataset(coco_file(tmp_path, images=images))
    assert [record.size for record in dataset] == [(40, 50), (40, 50)]
    text = "\n".join(dataset.warnings)
    assert "1 images whose id is there twice" in text
    assert "1 images whose file is missing, first: " in text
    assert "'gone.png'" in text
    assert "1 images without width and height" in text
    assert "None x None, and file is not an image" in text


def test_boxes_that_reach_out_are_cut_and_counted(tmp_path):
    dataset = open_dataset(coco_file(tmp_path, [{"bbox": [40, 30, 99, 99]}, {"bbox": [-0.5, 0, 50, 40.7]}]))
    assert dataset[0].boxes.tolist() == [[40, 30, 50, 40], [0, 0, 49.5, 40]]
    (warning,) = dataset.warnings
    assert "cut 1 boxes that reach beyond the image, first: " in warning
    assert "bbox [40, 30, 99, 99] in 50x40" in warning


def test_coco_one_id_for_all_loses_no_object(tmp_path):
    annotations = [{"id": 0}, {"id": 0, "bbox": [0, 0, 5, 5]}, {"id": 0, "image_id": 2}, {"id": 0}]
    dataset = open_dataset(coco_file(tmp_path, annotations))
    assert [len(record) for record in dataset] == [2, 1]
    assert dataset.table.annotation_ids.tolist() == [0, 1, 2]
    text = "\n".join(dataset.warnings)
    assert "numbered anew 2 annotations whose id another one has" in text
    assert "skipped 1 annotations that are there twice" in text


def test_coco_one_picture_under_two_ids_is_one_image(tmp_path):
    images = [{"id": i, "file_name": "a.png", "height": 40, "width": 50} for i in (1, 2)]
    dataset = open_dataset(coco_file(tmp_path, [{}, {"image_id": 2, "bbox": [0, 0, 5, 5]}], images=images))
    assert [len(record) for record in dataset] == [2]
    assert "joined 1 images that are listed before" in dataset.warnings[0]


def test_coco_two_files_for_one_split_are_read_once(tmp_path):
    coco_file(tmp_path).rename(tmp_path / "train_old.json")
    coco_file(tmp_path).rename(tmp_path / "train_new.json")
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 2
    assert "skipped 2 images that another file lists too" in dataset.warnings[0]


def test_coco_keypoints_that_do_not_fit_are_counted(tmp_path):
    categories = [{"id": 7, "name": "person", "keypoints": ["nose", "left_eye", "right_eye"]}]
    dataset = open_dataset(coco_file(tmp_path, [{"keypoints": [1, 2, 2]}], categories=categories))
    assert not dataset[0].keypoints.any()
    assert "1 keypoints that do not fit the skeleton" in dataset.warnings[0]
    assert "3 numbers for 3 points" in dataset.warnings[0]


def test_coco_gzip_lvis_and_roboflow(tmp_path):
    lvis = [{"id": 1, "coco_url": "http://images.cocodataset.org/val2017/a.png", "height": 40, "width": 50}]
    path = coco_file(tmp_path / "val2017", images=lvis)
    packed = tmp_path / "lvis_v1_val.json.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    dataset = open_dataset(tmp_path)
    assert dataset.splits == () or dataset.splits == ("val",)
    assert dataset[0].path == tmp_path / "val2017" / "a.png"
    assert len(dataset[0]) == 1
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DataError, match="cannot be unpacked"):
        open_dataset(packed)
    categories = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 7, "name": "cat", "supercategory": "pets"},
        {"id": 3, "name": "dog", "supercategory": "pets"},
    ]
    for split in ("train", "valid"):
        coco_file(tmp_path / "rf" / split, categories=categories).rename(
            tmp_path / "rf" / split / "_annotations.coco.json"
        )
    dataset = open_dataset(tmp_path / "rf")
    assert dataset.classes == ("dog", "cat")
    assert dataset.category_ids == (3, 7)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [, "categories"', "is not valid JSON"),
        ('{"images": [], "categories": [{"id": 1, "name": "a"}]}', "the list `images` is empty"),
        ('{"images": {}, "categories": []}', "has no list 'images'"),
        ('{"images": [{"id": 1}], "categories": []}', "the list `categories` is empty"),
        ('{"images": [{"id": 1}], "categories": [{"id": 1, "name": "a"}], "annotations": 5}', "is not a list"),
        ('{"images": [{"id": 1}], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}', "category id 1 is"),
        (
            '{"images": [{"id": 1, "file_name": "x.png"}], "categories": [{"id": 1, "name": "a"}]}',
            "no image that can be used",
        ),
    ],
)
def test_coco_unreadable_files_end_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "instances.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as error:
        open_dataset(path)
    assert "instances.json" in str(error.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers(-5, 99) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["size", "counts", "id"]), inner),
        max_leaves=8,
    ),
    st.sampled_from(["bbox", "segmentation", "category_id", "image_id", "iscrowd", "area", "id", "keypoints"]),
)
def test_coco_any_value_in_any_field_is_kept_or_skipped(tmp_path, value, key):
    """Never a traceback: a clean data set, or a DataError."""
    path = coco_file(tmp_path, [{}, {key: value}])
    try:
        dataset = open_dataset(path)
    except DataError:
        return
    assert_dataset(dataset)


def test_coco_is_recognised_however_it_was_written(tmp_path):
    note = {"note": "x" * 30_000}
    images = [{"id": i, "file_name": n, "height": 40, "width": 50} | note for i, n in ((1, "a.png"), (2, "b.png"))]
    path = coco_file(tmp_path, [{"note": "y" * 99_000}], images=images)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content, sort_keys=True), encoding="utf-8-sig")  # the three names lie far apart
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    assert len(open_dataset(tmp_path)) == 2
    path.write_text(json.dumps(content)[:-70_000])
    with pytest.raises(DataError, match=r"instances\.json: is not valid JSON"):
        open_dataset(tmp_path)


def test_coco_whole_floats_are_ids_and_other_ids_are_counted(tmp_path):
    images = [{"id": i, "file_name": n, "height": 40, "width": 50} for i, n in ((4.0, "a.png"), (None, "b.png"))]
    images += [{"id": "five", "file_name": "b.png", "height": 40, "width": 50}, {"id": [6], "file_name": "b.png"}, 7]
    annotations = [{"image_id": 4}, {"image_id": "five", "id": 12.0, "category_id": 3.0}]
    dataset = open_dataset(coco_file(tmp_path, annotations, images=images[:1] + images[2:]))
    assert_dataset(dataset)
    assert [record.image_id for record in dataset] == [4, 5]
    assert dataset[1].annotation_ids.tolist() == [12]
    (warning,) = dataset.warnings
    assert "skipped 2 images that are not as COCO writes them" in warning


def test_coco_image_paths_of_another_machine(tmp_path):
    names = ["C:\\photos\\a.png", "photos/b.png", "p/c.png", "q/c.png", "/" + "long" * 99 + "/d.png"]
    images = [{"id": i + 1, "file_name": name, "height": 40, "width": 50} for i, name in enumerate(names)]
    picture(tmp_path / "c.png")  # which of the two is it?
    dataset = open_dataset(coco_file(tmp_path, images=images))
    assert [record.path.name for record in dataset] == ["a.png", "b.png"]
    assert "skipped 3 images whose file is missing" in dataset.warnings[0]


def test_coco_every_object_has_a_mask_or_none_has(tmp_path):
    annotations = [{}, {"segmentation": None}, {"image_id": 2, "segmentation": [], "bbox": [1, 2, 3, 4]}]
    dataset = open_dataset(coco_file(tmp_path, annotations))
    assert_dataset(dataset)
    assert dataset[1].masks[0].rings[0].tolist() == [[1, 2], [4, 2], [4, 6], [1, 6]]
    (warning,) = dataset.warnings
    assert "kept 2 objects without a mask, whose box stands in for it, first: " in warning


def test_coco_short_rings_beside_good_ones_are_counted(tmp_path):
    dataset = open_dataset(coco_file(tmp_path, [{"segmentation": [SQUARE, [1, 1, 5, 5]]}]))
    assert len(dataset[0].masks[0].rings) == 1
    assert "skipped 1 rings of fewer than three points" in dataset.warnings[0]
    assert "1 of 2 rings" in dataset.warnings[0]


def test_coco_files_of_other_tasks_are_passed_over(tmp_path):
    coco_file(tmp_path).rename(tmp_path / "person_keypoints_train.json")
    captions = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "caption": "a cat"}]}
    (tmp_path / "captions_train.json").write_text(json.dumps(captions))
    assert len(open_dataset(tmp_path)) == 2


def test_coco_splits_of_a_folder(tmp_path):
    for split in ("train", "valid"):
        coco_file(tmp_path / split).rename(tmp_path / split / "_annotations.coco.json")
    dataset = open_dataset(tmp_path)
    assert dataset.splits == ("train", "val")
    assert_dataset(dataset)  # ids are unique although both files say 1 and 2
    assert len(open_dataset(tmp_path, split="val")) == 2


def test_coco_layout_of_the_original(tmp_path):
    source = coco_file(tmp_path / "x")
    (tmp_path / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        picture(tmp_path / split / "a.png")
        picture(tmp_path / split / "b.png")
        (tmp_path / "annotations" / f"instances_{split}.json").write_bytes(source.read_bytes())
        (tmp_path / "annotations" / f"person_keypoints_{split}.json").write_bytes(source.read_bytes())
    source.unlink()
    dataset = open_dataset(tmp_path)
    assert dataset.splits == ("train", "val")
    assert len(dataset) == 4
    assert {record.path.parent.name for record in dataset} == {"train2017", "val2017"}


def test_coco_keypoints(tmp_path):
    categories = [{"id": 7, "name": "person", "keypoints": ["nose", "left_eye", "right_eye"]}]
    annotations = [{"keypoints": [1, 2, 2, 3, 4, 1, 0, 0, 0]}, {}]
    dataset = open_dataset(coco_file(tmp_path, annotations, categories=categories))
    assert_dataset(dataset)
    assert dataset.keypoints.names == ("nose", "left_eye", "right_eye")
    assert dataset.keypoints.flip_pairs == ((1, 2),)
    assert dataset[0].keypoints[0].tolist() == [[1, 2, 2], [3, 4, 1], [0, 0, 0]]
    assert not dataset[0].keypoints[1].any()


def test_boxes_only_data_has_no_masks(tmp_path):
    dataset = open_dataset(coco_file(tmp_path, [{"segmentation": None}, {"segmentation": []}]))
    assert_dataset(dataset)
    assert dataset[0].masks == ()
    mixed = open_dataset(coco_file(tmp_path, [{"segmentation": None}, {}]))
    assert len(mixed[0].masks) == 2  # a box among masks is its own mask


# ---------------------------------------------------------------- VIA


def via_folder(folder: Path, regions: object) -> Path:
    for split in ("train", "val"):
        picture(folder / split / "a.jpg")
        content = {"a.jpg99": {"filename": "a.jpg", "size": 99, "regions": regions, "file_attributes": {}}}
        (folder / split / "via_region_data.json").write_text(json.dumps(content))
    return folder


def polygon(**attributes: object) -> dict:
    shape = {"name": "polygon", "all_points_x": [5, 25, 25], "all_points_y": [5, 5, 30]}
    return {"shape_attributes": shape, "region_attributes": attributes}


@pytest.mark.parametrize("regions", [{"0": polygon(), "1": polygon()}, [polygon(), polygon()]], ids=["via1", "via2"])
def test_via_regions_of_both_versions(tmp_path, regions):
    dataset = open_dataset(via_folder(tmp_path / "kites", regions))
    assert_dataset(dataset)
    assert dataset.format == "via"
    assert dataset.classes == ("kites",)
    assert dataset.splits == ("train", "val")
    assert dataset[0].boxes.tolist() == [[5, 5, 25, 30]] * 2
    assert dataset[0].areas.tolist() == [250, 250]


def test_via_shapes_and_classes(tmp_path):
    def region(kind: str, name: object = None, **shape: object) -> dict:
        return {"shape_attributes": {"name": kind, **shape}, "region_attributes": {"label": name} if name else {}}

    regions = [
        region("rect", "box", x=1, y=2, width=10, height=5),
        region("circle", "disc", cx=20, cy=20, r=8),
        region("ellipse", {"disc": False, "egg": True}, cx=20, cy=20, rx=8, ry=4),
        region("point", cx=3, cy=3),
        region("polygon", all_points_x=[1, 2], all_points_y=[1, 2]),
        region("rect", x=100, y=2, width=10, height=5),
        region("circle"),
    ]
    dataset = open_dataset(via_folder(tmp_path / "d", regions), split="val")
    assert_dataset(dataset)
    record = dataset[0]
    assert [dataset.classes[label] for label in record.labels] == ["box", "disc", "egg"]
    assert record.boxes[0].tolist() == [1, 2, 11, 7]
    np.testing.assert_allclose(record.areas, [50, np.pi * 64, np.pi * 32], rtol=0.01)
    text = "\n".join(dataset.warnings)
    assert "skipped 4 regions that enclose nothing" in text  # two in each split
    assert "skipped 2 regions that are not as VIA writes them" in text
    assert "shape 'point'" in text
    assert "skipped 2 boxes of zero area or outside the image" in text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "0"]), inner),
        max_leaves=8,
    ),
    st.sampled_from(["regions", "region", "shape_attributes", "region_attributes", "name", "all_points_x", "filename"]),
)
def test_via_any_value_in_any_field_is_kept_or_skipped(tmp_path, value, key):
    """Never a traceback: a clean data set, or a DataError."""
    region = polygon()
    for part in (region, region["shape_attributes"]):
        if key in part:
            part[key] = value
    folder = via_folder(
        tmp_path / "d", value if key == "regions" else [polygon(), value if key == "region" else region]
    )
    if key == "filename":
        entries = [{"filename": value, "regions": [region]}, {"filename": "a.jpg", "regions": [region]}]
        (folder / "val" / "via_region_data.json").write_text(json.dumps(entries))
    try:
        dataset = open_dataset(folder)
    except DataError:
        return
    assert_dataset(dataset)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ({"all_points_x": [5, 1e300, 25]}, "regions with wild coordinates, first: .*1e\\+300"),
        ({"all_points_x": [5, float("nan"), 25]}, "regions with wild coordinates, first: .*nan"),
        ({"all_points_x": [5, 10, 30], "all_points_y": [5, 10, 30]}, "regions that enclose nothing"),
        ({"all_points_x": None}, "regions that are not as VIA writes them"),
    ],
)
def test_via_bad_regions_are_counted(tmp_path, shape, kind):
    bad = polygon()
    bad["shape_attributes"] |= shape
    dataset = open_dataset(via_folder(tmp_path / "kites", [polygon(), bad]))
    assert_dataset(dataset)
    assert [len(record) for record in dataset] == [1, 1]
    (warning,) = dataset.warnings
    assert re.search(f"skipped 2 {kind}", warning)
    assert "image a.jpg, annotation 1: " in warning


def test_via_class_is_the_folder_name_from_inside_too(tmp_path, monkeypatch):
    folder = via_folder(tmp_path / "kites", [polygon()])
    monkeypatch.chdir(folder)
    assert open_dataset("train").classes == open_dataset(".").classes == ("kites",)
    assert open_dataset(via_folder(tmp_path / "sky", [])).classes == ("sky",)  # pictures without any object


def test_via_missing_images_and_bad_json(tmp_path):
    folder = via_folder(tmp_path / "d", [polygon()])
    (folder / "val" / "a.jpg").unlink()
    assert "skipped 1 images whose file is missing" in open_dataset(folder).warnings[0]
    (folder / "train" / "a.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"no image that can be used; skipped 1 images that cannot be opened"):
        open_dataset(folder)
    file = folder / "train" / "via_region_data.json"
    file.write_text(file.read_text()[:-3])
    with pytest.raises(DataError, match="is not valid JSON"):
        open_dataset(file)


# ---------------------------------------------------------------- one PNG per object


def test_png_objects(tmp_path):
    for number in ("x1", "x2"):
        picture(tmp_path / number / "images" / f"{number}.png")
        (tmp_path / number / "masks").mkdir()
        for index, box in enumerate([(5, 6, 20, 30), (30, 3, 33, 9)]):
            mask = np.zeros((40, 50), np.uint8)
            mask[box[1] : box[3], box[0] : box[2]] = 255
            Image.fromarray(mask).save(tmp_path / number / "masks" / f"{index}.png")
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(tmp_path / "x1" / "masks" / "empty.png")
    Image.fromarray(np.ones((4, 5), np.uint8)).save(tmp_path / "x1" / "masks" / "small.png")
    (tmp_path / "x1" / "masks" / "broken.png").write_bytes(b"\x89PNG")
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert dataset.format == "png_objects"
    assert dataset[1].boxes.tolist() == [[5, 6, 20, 30], [30, 3, 33, 9]]
    assert dataset[1].areas.tolist() == [15 * 24, 18]
    text = "\n".join(dataset.warnings)
    for kind in ("1 empty masks", "1 masks of another size than their image", "1 masks that cannot be read"):
        assert kind in text


# ---------------------------------------------------------------- real data


@pytest.mark.parametrize(
    ("name", "format", "images", "objects", "splits"),
    [
        ("balloon", "via", 74, 305, ("train", "val")),
        ("nuclei", "coco", 664, 28986, ("train", "val")),
        ("nuclei-original", "png_objects", 20, 777, ()),
        ("coco-mini", "coco", 125, 1213, ("train", "val")),
        ("person-keypoints", "coco", 215, 215, ("train", "val")),
    ],
)
def test_real_data_opens_with_its_path_alone(data_dir, name, format, images, objects, splits):
    dataset = open_dataset(data_dir / name)
    assert_dataset(dataset)
    assert isinstance(dataset, Dataset)
    assert (dataset.format, dataset.splits) == (format, splits)
    assert (len(dataset), sum(len(record) for record in dataset)) == (images, objects)
    assert not dataset.warnings


def test_sniff_leaves_other_json_alone(tmp_path):
    (tmp_path / "package.json").write_text('{"name": "x"}')
    assert not coco.sniff(tmp_path)
