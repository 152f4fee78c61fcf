"""Code written for Matterport's `Dataset`, in the style of its users, and what becomes of their mistakes."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from maskrcnn.data.adapters.matterport import Dataset, from_matterport
from maskrcnn.data.formats import via
from maskrcnn.data.sample import load_record
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import decode_rle, mask_to_rle
from tests.data.contract import assert_dataset

# ---------------------------------------------------------------- two classics, as people write them


class ShapesDataset(Dataset):
    """Draws its images; the third shape hides what lies under it."""

    def load_shapes(self, count, height, width):
        self.add_class("shapes", 1, "square")
        self.add_class("shapes", 2, "circle")
        for i in range(count):
            shapes = [("square", (200, 0, 0), (10 + i, 12, 4)), ("circle", (0, 200, 0), (20, 20 + i, 5))]
            self.add_image(
                "shapes", image_id=i, path=None, width=width, height=height, bg_color=(9, 9, 9), shapes=shapes
            )

    def load_image(self, image_id):
        info = self.image_info[image_id]
        image = Image.new("RGB", (info["width"], info["height"]), info["bg_color"])
        for shape, color, dims in info["shapes"]:
            self.draw_shape(image, shape, dims, color)
        return np.array(image, np.int64)

    def image_reference(self, image_id):
        info = self.image_info[image_id]
        return info["shapes"] if info["source"] == "shapes" else super(self.__class__, self).image_reference(image_id)

    def load_mask(self, image_id):
        info = self.image_info[image_id]
        shapes = info["shapes"]
        mask = np.zeros([info["height"], info["width"], len(shapes)], dtype=np.uint8)
        for i, (shape, _, dims) in enumerate(shapes):
            layer = Image.new("L", (info["width"], info["height"]))
            self.draw_shape(layer, shape, dims, 1)
            mask[:, :, i] = np.array(layer)
        class_ids = np.array([self.class_names.index(s[0]) for s in shapes])
        return mask.astype(bool), class_ids.astype(np.int32)

    def draw_shape(self, image, shape, dims, color):
        x, y, s = dims
        draw = ImageDraw.Draw(image)
        (draw.rectangle if shape == "square" else draw.ellipse)([x - s, y - s, x + s, y + s], fill=color)


class BalloonDataset(Dataset):
    def load_balloon(self, dataset_dir, subset):
        self.add_class("balloon", 1, "balloon")
        dataset_dir = Path(dataset_dir) / subset
        annotations = json.load(open(dataset_dir / "via_region_data.json"))  # noqa: SIM115
        annotations = [a for a in annotations.values() if a["regions"]]
        for a in annotations:
            polygons = [r["shape_attributes"] for r in a["regions"].values()]
            image_path = str(dataset_dir / a["filename"])
            width, height = Image.open(image_path).size
            self.add_image(
                "balloon", image_id=a["filename"], path=image_path, width=width, height=height, polygons=polygons
            )

    def load_mask(self, image_id):
        image_info = self.image_info[image_id]
        if image_info["source"] != "balloon":
            return super(self.__class__, self).load_mask(image_id)
        info = self.image_info[image_id]
        mask = np.zeros([info["height"], info["width"], len(info["polygons"])], dtype=np.uint8)
        for i, p in enumerate(info["polygons"]):
            layer = Image.new("L", (info["width"], info["height"]))
            corners = list(zip(p["all_points_x"], p["all_points_y"], strict=True))
            ImageDraw.Draw(layer).polygon(corners, fill=1)
            mask[:, :, i] = np.array(layer)
        return mask.astype(bool), np.ones([mask.shape[-1]], dtype=np.int32)


def shapes(count: int = 3) -> ShapesDataset:
    dataset = ShapesDataset()
    dataset.load_shapes(count, 40, 50)
    dataset.prepare()
    return dataset


def pixels(mask, size) -> np.ndarray:
    return decode_rle(mask_to_rle(mask, size))


def test_shapes_are_drawn_when_they_are_needed():
    theirs = shapes()
    dataset = from_matterport(theirs, split="train")
    assert_dataset(dataset)
    assert (dataset.classes, dataset.category_ids, dataset.format) == (("square", "circle"), (1, 2), "matterport")
    assert dataset.splits == ("train",)
    assert [record.image_id for record in dataset] == [0, 1, 2]
    record = dataset[1]
    assert (record.size, record.labels.tolist()) == ((40, 50), [0, 1])
    assert record.boxes[0].tolist() == [7, 8, 16, 17]
    masks, _ = theirs.load_mask(1)
    for i, mask in enumerate(record.masks):
        assert np.array_equal(pixels(mask, record.size), masks[:, :, i])
        assert record.areas[i] == masks[:, :, i].sum()
    assert np.array_equal(load_record(record).permute(1, 2, 0).numpy(), theirs.load_image(1))


def test_drawn_images_travel_to_another_process():
    dataset = from_matterport(shapes())
    record = pickle.loads(pickle.dumps(dataset.table))[2]
    assert (load_record(record) == load_record(dataset[2])).all()


def test_masks_are_loaded_once_an_image():
    class Counting(ShapesDataset):
        calls = 0

        def load_mask(self, image_id):
            self.calls += 1
            return super().load_mask(image_id)

    dataset = Counting()
    dataset.load_shapes(4, 40, 50)
    from_matterport(dataset)  # `prepare` was forgotten
    assert dataset.calls == 4
    assert dataset.num_images == 4


def test_balloons_keep_their_files(data_dir):
    theirs = BalloonDataset()
    theirs.load_balloon(data_dir / "balloon", "val")
    theirs.prepare()
    dataset = from_matterport(theirs, "val")
    assert_dataset(dataset)
    reference = via.read(data_dir / "balloon").split("val")
    by_path = {record.path: record for record in reference}
    assert (len(dataset), len(dataset.table.boxes)) == (13, 50)
    for record in dataset:
        assert record.make is None
        assert record.size == by_path[record.path].size
        assert np.abs(record.boxes - by_path[record.path].boxes).max() <= 1


# ---------------------------------------------------------------- the base class


def test_the_base_class_answers_as_documented(tmp_path):
    dataset = Dataset()
    dataset.add_class("coco", 17, "cat,feline")
    dataset.add_class("coco", 17, "again")
    dataset.add_class("ours", 1, "widget")
    Image.fromarray(np.full((4, 6), 7, np.uint8)).save(tmp_path / "grey.png")
    dataset.add_image("coco", "a", tmp_path / "grey.png", width=6)
    assert len(dataset.image_ids) == 0
    dataset.prepare()
    assert dataset.class_info[0] == {"source": "", "id": 0, "name": "BG"}
    assert dataset.class_info[1] == {"source": "coco", "id": 17, "name": "cat,feline"}
    assert dataset.image_info == [{"id": "a", "source": "coco", "path": tmp_path / "grey.png", "width": 6}]
    assert (dataset.num_classes, dataset.num_images) == (3, 1)
    assert dataset.class_names == ["BG", "cat", "widget"]
    assert dataset.class_ids.tolist() == [0, 1, 2]
    assert dataset.image_ids.tolist() == [0]
    assert set(dataset.sources) == {"", "coco", "ours"}
    assert dataset.source_class_ids == {"": [0], "coco": [0, 1], "ours": [0, 2]}
    assert dataset.map_source_class_id("coco.17") == 1
    assert dataset.get_source_class_id(1, "coco") == 17
    assert dataset.source_image_link(0) == tmp_path / "grey.png"
    assert dataset.image_reference(0) == ""
    image = dataset.load_image(0)
    assert (image.shape, image.dtype, image[0, 0].tolist()) == ((4, 6, 3), np.uint8, [7, 7, 7])
    mask, class_ids = dataset.load_mask(0)
    assert (mask.shape, class_ids.shape, class_ids.dtype) == ((0, 0, 0), (0,), np.int32)
    with pytest.raises(DataError, match="class 1 is of source 'coco', not 'ours'"):
        dataset.get_source_class_id(1, "ours")
    with pytest.raises(DataError, match=r"source 'a\.b' has a dot"):
        dataset.add_class("a.b", 1, "x")
    other = Dataset()
    other.append_data(dataset.class_info, dataset.image_info)
    other.prepare()
    assert (other.class_names, other.num_images) == (dataset.class_names, 1)
    assert from_matterport(other)[0].size == (4, 6)  # one image, no object


# ---------------------------------------------------------------- what they may do


class Given(Dataset):
    """One image of 20 x 30 (height, width), with the masks and class ids that a test gives."""

    def __init__(self, masks, class_ids, size=(20, 30), path=None, image=None, **info):
        super().__init__()
        self.masks, self.ids, self.size, self.image = masks, class_ids, size, image
        self.add_class("coco", 3, "cat")
        self.add_class("coco", 8, "dog")
        self.add_image("coco", "one", path, **info)
        self.prepare()

    def load_image(self, image_id):
        return np.zeros((*self.size, 3), np.uint8) if self.image is None else self.image

    def load_mask(self, image_id):
        return self.masks, self.ids


def blocks(*corners, size=(20, 30), dtype=bool) -> np.ndarray:
    """(H, W, N): a block of 4 x 5 pixels at each (y, x)."""
    masks = np.zeros((*size, len(corners)), dtype)
    for i, (y, x) in enumerate(corners):
        masks[y : y + 4, x : x + 5, i] = 1
    return masks


def test_negative_class_ids_are_crowds_and_sparse_ids_stay():
    dataset = from_matterport(Given(blocks((1, 2), (8, 9)), np.array([1, -2], np.int32)))
    assert_dataset(dataset)
    assert dataset.category_ids == (3, 8)
    assert dataset[0].labels.tolist() == [0, 1]
    assert dataset[0].crowd.tolist() == [False, True]
    assert dataset[0].boxes.tolist() == [[2, 1, 7, 5], [9, 8, 14, 12]]
    assert dataset[0].path == Path("coco-one")


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_masks_of_any_number_type(dtype):
    assert from_matterport(Given(blocks((1, 2), dtype=dtype), [2]))[0].labels.tolist() == [1]


def test_hidden_objects_are_skipped_and_images_without_objects_kept():
    masks = blocks((1, 2), (8, 9))
    masks[..., 0] = False
    dataset = from_matterport(Given(masks, [1, 1]))
    assert len(dataset[0]) == 1
    assert dataset.warnings == ("skipped 1 empty masks, first: coco-one, image 0, annotation 0: class id 1",)
    for empty in (np.zeros((20, 30, 0)), np.zeros((0, 0, 0))):
        dataset = from_matterport(Given(empty, np.zeros(0, np.int32)))
        assert_dataset(dataset)
        assert (len(dataset[0]), dataset[0].size) == (0, (20, 30))


def test_a_stated_size_counts_only_where_the_masks_agree():
    assert from_matterport(Given(blocks((1, 2)), [1], height=20, width=30))[0].size == (20, 30)
    assert from_matterport(Given(blocks((1, 2)), [1], height=30, width=20))[0].size == (20, 30)
    empty = np.zeros((0, 0, 0))
    assert from_matterport(Given(empty, [], height=7, width=8))[0].size == (7, 8)  # the image is not drawn for it


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.float64])
def test_numbers_up_to_255_are_pixels_of_any_type(dtype):
    image = np.full((20, 30, 3), 200, dtype)
    assert load_record(from_matterport(Given(blocks((1, 2)), [1], image=image))[0]).unique().tolist() == [200]


def test_two_sources_may_share_a_class_name():
    theirs = Given(blocks((1, 2)), [3])
    theirs.add_class("ours", 8, "cat")
    theirs.prepare()
    dataset = from_matterport(theirs)
    assert dataset.classes == ("cat (coco.3)", "dog", "cat (ours.8)")
    assert dataset.category_ids == (1, 2, 3)  # 8 is there twice
    assert dataset[0].labels.tolist() == [2]


def test_a_class_of_another_library_that_behaves_alike():
    class Base:
        """As the original: nothing of ours in its family."""

        def __init__(self):
            self.class_info = [{"source": "", "id": 0, "name": "BG"}, {"source": "a", "id": 1, "name": "thing"}]
            self.image_info, self._image_ids = [], []

        def add_image(self, source, image_id, path):
            self.image_info.append({"id": image_id, "source": source, "path": path})

        def prepare(self):
            self._image_ids = np.arange(len(self.image_info))

        @property
        def image_ids(self):
            return self._image_ids

        def load_image(self, image_id):
            raise AssertionError("not overridden: we read the file")

        def load_mask(self, image_id):
            return blocks((2, 2), size=(8, 9)), np.array([1])

    class Theirs(Base):
        pass

    class Drawn(Base):
        def load_image(self, image_id):
            return np.zeros((8, 9, 3), np.uint8)

    drawn = Drawn()
    drawn.add_image("a", 5, None)
    assert [(r.image_id, r.make is None) for r in from_matterport(drawn)] == [(5, False)]
    theirs = Theirs()
    theirs.add_image("a", 5, "no-such-file.png")
    with pytest.raises(DataError, match=r"no-such-file\.png: image file not found"):
        from_matterport(theirs)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_masks_on_the_stored_pixels_of_a_turned_photo_are_turned_along(tmp_path, orientation):
    class File(Dataset):
        def load_mask(self, image_id):
            return (stored[..., None] > 100) & (stored[..., None] < 180), np.array([1])

    stored = np.arange(20 * 12, dtype=np.uint8).reshape(20, 12)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "turned.png", exif=exif)
    theirs = File()
    theirs.add_class("a", 1, "thing")
    theirs.add_image("a", 1, str(tmp_path / "turned.png"))
    dataset = from_matterport(theirs)
    assert_dataset(dataset)
    seen = load_record(dataset[0])[0].numpy()
    assert seen.shape == (12, 20)
    assert np.array_equal(pixels(dataset[0].masks[0], (12, 20)), (seen > 100) & (seen < 180))
    assert "turned upright 1 masks drawn on the photo as the camera stored it" in dataset.warnings[0]


# ---------------------------------------------------------------- their mistakes


@pytest.mark.parametrize(
    ("masks", "class_ids", "message"),
    [
        (blocks((1, 2), size=(21, 30)), [1], "masks of 30x21 for an image of 30x20; make them equal"),
        (blocks((1, 2), size=(30, 20)), [1], "masks of 20x30 for an image of 30x20; make them equal"),
        (blocks((1, 2)), [3], "class id 3 of object 0 is not one of 1 to 2; mend load_mask"),
        (blocks((1, 2), (3, 4)), [1, 0], "class id 0 of object 1 is not one of 1 to 2"),
        (blocks((1, 2)), [1, 1], "gave 1 masks and 2 class ids; give one for each"),
        (
            blocks((1, 2))[..., 0],
            [1],
            r"bool masks of shape \(20, 30\) and class ids of shape \(1,\); give \(H, W, N\)",
        ),
        (blocks((1, 2)), 1, r"class ids of shape \(\)"),
        (blocks((1, 2)), [1.5], r"class ids \[1.5\] are not whole numbers"),
        (blocks((1, 2)), ["cat"], r"class ids \['cat'\] are not whole numbers"),
        (blocks((1, 2)), [float("nan")], "are not whole numbers"),
        ([[["x"]]], [1], "<U1 masks of shape"),
        ([[1], [1, 2]], [1], "load_mask failed"),
    ],
)
def test_mistakes_name_the_image_and_the_value(masks, class_ids, message):
    with pytest.raises(DataError, match=f"coco-one, image 0: .*{message}"):
        from_matterport(Given(masks, class_ids))


def test_methods_that_fail_are_named():
    class Failing(Given):
        def load_mask(self, image_id):
            raise KeyError("polygons")

        def load_image(self, image_id):
            raise OSError("gone")

    with pytest.raises(DataError, match=r"load_mask failed \(KeyError: 'polygons'\); mend it"):
        from_matterport(Failing(None, None))
    Failing.load_mask = Given.load_mask
    with pytest.raises(DataError, match=r"image 0: the function that makes this image failed \(OSError: gone\)"):
        from_matterport(Failing(blocks((1, 2)), [1]))


def test_a_data_set_without_content_says_what_to_call():
    with pytest.raises(DataError, match="dict: has no class_info; give an object of a subclass of Dataset"):
        from_matterport({})
    with pytest.raises(DataError, match="holds no image; call add_image"):
        from_matterport(Dataset())
    dataset = Dataset()
    dataset.add_image("a", 1, None)
    with pytest.raises(DataError, match="has no class but the background; call add_class first"):
        from_matterport(dataset)
    dataset.add_class("a", 1, "thing")
    with pytest.raises(DataError, match="has path None, and load_image is not overridden"):
        from_matterport(dataset)
    with pytest.raises(DataError, match="has no path; override load_image"):
        dataset.load_image(0)
