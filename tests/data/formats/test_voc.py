"""Pascal VOC: boxes, mask images, split files, LabelImg's folders, and XML that is an attack."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn.data.formats import voc, voc_masks, xml_tree
from maskrcnn.data.formats.voc_masks import CLASSES, VocMasks
from maskrcnn.data.open import open_dataset
from maskrcnn.dataset import Dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import decode_rle, load_mask_file, mask_to_rle
from maskrcnn.structures import MaskFile, Polygons
from tests.data.contract import assert_dataset


def picture(path: Path, height: int = 40, width: int = 50) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path)
    return path


def palette_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels.astype(np.uint8), "L")
    image.putpalette((np.arange(768) % 256).tolist())
    image.save(path)


def thing(name: str = "cat", box: object = (11, 6, 30, 25), more: str = "") -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)  # type: ignore[call-overload]
    corners = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
    return f"<object><name>{name}</name>{more}<bndbox>{corners}</bndbox></object>"


def xml(*things: str, filename: str = "a.jpg", database: str = "Unknown", size: str | None = None) -> str:
    size = "<size><width>50</width><height>40</height><depth>3</depth></size>" if size is None else size
    source = f"<source><database>{database}</database></source>"
    return f"<annotation><filename>{filename}</filename>{source}{size}{''.join(things)}</annotation>"


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def checked(path: Path) -> Dataset:
    dataset = open_dataset(path)
    assert dataset.format == "voc"
    assert_dataset(dataset)
    return dataset


def loose(folder: Path, *things: str, **more: str) -> Dataset:
    """As LabelImg leaves it: a.xml beside a.jpg."""
    picture(folder / "a.jpg")
    write(folder / "a.xml", xml(*things, **more))
    return checked(folder)


# ---------------------------------------------------------------- boxes


def test_labelimg_writes_corners_as_drawn(tmp_path):
    dataset = loose(tmp_path, thing(), thing("dog", (0, 0, 50, 40)))
    assert dataset.classes == ("cat", "dog")
    assert dataset[0].boxes.tolist() == [[11, 6, 30, 25], [0, 0, 50, 40]]
    assert dataset[0].masks == ()
    assert dataset.warnings == ()


@pytest.mark.parametrize("database", ["The VOC2007 Database", "PASCAL VOC2012"])
def test_true_voc_counts_pixels_from_one(tmp_path, database):
    dataset = loose(tmp_path, thing(box=(1, 1, 50, 40)), thing(), database=database)
    assert dataset[0].boxes.tolist() == [[0, 0, 50, 40], [10, 5, 30, 25]]


def test_floats_and_swapped_corners(tmp_path):
    dataset = loose(tmp_path, thing(box=(30.5, 25, 11.25, "6.0")))
    assert dataset[0].boxes.tolist() == [[11.25, 6, 30.5, 25]]


def test_difficult_objects_are_regions_to_ignore(tmp_path):
    dataset = loose(tmp_path, thing(more="<difficult>1</difficult>"), thing(more="<difficult>0</difficult>"))
    assert dataset[0].crowd.tolist() == [True, False]
    assert re.search(r"kept 1 objects marked as difficult, .*annotation 0: a region to ignore", dataset.warnings[0])


def test_size_is_the_header_s(tmp_path):
    assert loose(tmp_path, thing(), size="")[0].size == (40, 50)
    dataset = loose(tmp_path, thing(), size="<size><width>500</width><height>400</height></size>")
    assert dataset[0].size == (40, 50)
    assert "kept 1 images of another size than annotated" in dataset.warnings[0]
    assert "(400, 500) instead of (40, 50)" in dataset.warnings[0]


def test_an_image_without_objects_is_a_negative(tmp_path):
    picture(tmp_path / "b.jpg")
    write(tmp_path / "b.xml", xml(filename="b.jpg"))
    dataset = loose(tmp_path, thing())
    assert [len(record) for record in dataset] == [1, 0]


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        (thing(box=("x", 1, 2, 3)), "objects without a box of four numbers, .*annotation 1: 'cat'.*'xmin': 'x'"),
        (thing(box=("nan", 1, 2, 3)), "objects without a box of four numbers"),
        (thing(box=("1e300", 1, 2, 3)), "objects without a box of four numbers"),
        ("<object><name>cat</name></object>", "objects without a box of four numbers"),
        (thing(name=""), "objects without a name"),
        (thing(more="<deleted>1</deleted>"), "objects marked as deleted"),
        (thing(box=(60, 5, 70, 9)), "boxes of zero area or outside the image"),
    ],
)
def test_odd_objects_are_counted(tmp_path, odd, expected):
    dataset = loose(tmp_path, thing(), odd)
    assert len(dataset[0]) == 1
    assert re.search(f"skipped 1 {expected}", dataset.warnings[0])


def test_polygons_in_the_xml(tmp_path):
    roboflow = "<polygon><x1>11</x1><y1>6</y1><x2>30</x2><y2>6</y2><x3>30</x3><y3>25.5</y3></polygon>"
    points = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((1, 2), (9, 2), (9, 8), (1, 8)))
    mit = f"<object><name>dog</name><deleted>0</deleted><polygon>{points}</polygon></object>"
    dataset = loose(tmp_path, thing(more=roboflow), mit, thing(more="<polygon><x1>1</x1></polygon>"))
    rings = [mask.rings[0].tolist() for mask in dataset[0].masks if isinstance(mask, Polygons)]
    assert rings[0] == [[11, 6], [30, 6], [30, 25.5]]
    assert rings[1] == [[1, 2], [9, 2], [9, 8], [1, 8]]
    assert dataset[0].boxes[1].tolist() == [1, 2, 9, 8]
    assert "kept 1 objects without a mask" in dataset.warnings[0]


# ---------------------------------------------------------------- layouts


@pytest.mark.parametrize(
    ("file", "image", "filename", "split"),
    [
        ("train/a.xml", "train/a.jpg", "a.jpg", "train"),
        ("train_bboxes/a.xml", "train_images/a.jpg", "C:\\me\\a.jpg", "train"),
        ("valid/Annotations/a.xml", "valid/JPEGImages/a.PNG", "old name.jpg", "val"),
        ("annotations/test/a.xml", "images/test/a.jpg", "a", "test"),
        ("VOCdevkit/VOC2012/Annotations/a.xml", "VOCdevkit/VOC2012/JPEGImages/a.jpg", "a.jpg", ""),
    ],
)
def test_layouts(tmp_path, file, image, filename, split):
    picture(tmp_path / image)
    write(tmp_path / file, xml(thing(), filename=filename))
    dataset = checked(tmp_path)
    assert dataset[0].path.resolve() == tmp_path / image
    assert dataset[0].split == split


def test_the_image_named_like_the_xml_goes_first(tmp_path):
    picture(tmp_path / "a.jpg", 30, 30)
    dataset = loose(tmp_path, thing(), filename="b.jpg")
    picture(tmp_path / "b.jpg")
    assert dataset[0].path.name == checked(tmp_path)[0].path.name == "a.jpg"
    (tmp_path / "a.jpg").unlink()
    assert checked(tmp_path)[0].path.name == "b.jpg"


def voc_root(root: Path, lists: dict[str, str], stems: str = "abcd") -> Path:
    for stem in stems:
        picture(root / "JPEGImages" / f"{stem}.jpg")
        write(root / "Annotations" / f"{stem}.xml", xml(thing(), filename=f"{stem}.jpg"))
    for name, text in lists.items():
        write(root / "ImageSets" / f"{name}.txt", text)
    return root


def test_split_files(tmp_path):
    lists = {"Main/train": "a  1\n", "Main/val": "b -1\na\n", "Main/trainval": "a\nb\nc\nz\n", "Layout/test": "d"}
    dataset = checked(voc_root(tmp_path, lists))
    assert [(record.path.stem, record.split) for record in dataset] == [("a", "train"), ("b", "val"), ("c", "")]
    assert dataset[0].boxes.tolist() == [[10, 5, 30, 25]]  # ImageSets: true VOC
    assert [w.partition(", first")[0] for w in dataset.warnings] == [
        "kept 1 images that several splits name",
        "skipped 1 images that no split file names",
        "skipped 1 images of split files without an XML",
    ]
    assert "image a: train" in dataset.warnings[0]
    assert "d.xml: d" in dataset.warnings[1]
    assert "image z: z.xml" in dataset.warnings[2]


def test_a_file_asked_for_by_name_need_not_be_in_a_list(tmp_path):
    root = voc_root(tmp_path, {"Main/train": "a\n"})
    assert checked(root / "Annotations" / "d.xml")[0].path.stem == "d"


# ---------------------------------------------------------------- masks


def instances() -> np.ndarray:
    """Object 1 in columns 10-19, object 2 in columns 20-29, each with a border of 255."""
    pixels = np.zeros((40, 50), np.uint8)
    pixels[5:25, 9:31] = 255
    pixels[6:24, 10:20], pixels[6:24, 20:30] = 1, 2
    return pixels


def test_segmentation_object_numbers_the_objects_of_the_xml(tmp_path):
    root = voc_root(tmp_path, {"Segmentation/train": "a", "Main/train": "a\nb"}, "ab")
    write(root / "Annotations" / "a.xml", xml(thing("cat", (11, 7, 20, 24)), thing("dog"), thing("cow", (1, 1, 5, 5))))
    palette_png(root / "SegmentationObject" / "a.png", instances())
    dataset = checked(root)
    (record,) = dataset
    assert [dataset.classes[label] for label in record.labels] == ["cat", "dog", "cow"]
    assert record.masks[:2] == tuple(MaskFile(root / "SegmentationObject" / "a.png", value) for value in (1, 2))
    assert record.boxes.tolist() == [[10, 6, 20, 24], [10, 5, 30, 25], [0, 0, 5, 5]]  # as given
    assert record.areas.tolist() == [180, 180, 25]
    assert load_mask_file(record.masks[0]).sum() == 180
    assert [w.partition(", first")[0] for w in dataset.warnings] == [
        "skipped 1 images that no split file names",
        "kept 1 objects without a mask, whose box stands in for it",
    ]


def test_images_without_masks_are_left_out_beside_others_that_have_them(tmp_path):
    root = voc_root(tmp_path, {}, "abc")
    write(root / "Annotations" / "c.xml", xml(filename="c.jpg"))
    palette_png(root / "SegmentationObject" / "a.png", instances())
    dataset = checked(root)
    assert [record.path.stem for record in dataset] == ["a", "c"]  # c is a negative
    assert [w.partition(", first")[0] for w in dataset.warnings] == [
        "skipped 1 masks without an object in the XML",
        "skipped 1 images without masks in a data set with masks",
    ]
    assert "image a.jpg: pixels of 2" in dataset.warnings[0]


def test_masks_in_voc_s_colours(tmp_path):
    root = voc_root(tmp_path, {}, "a")
    pixels = np.zeros((40, 50, 3), np.uint8)
    pixels[6:24, 10:20] = (128, 0, 0)  # object 1
    pixels[5, 9:31] = (224, 224, 192)  # the border
    (root / "SegmentationObject").mkdir()
    Image.fromarray(pixels).save(root / "SegmentationObject" / "a.png")
    (mask,) = checked(root)[0].masks
    np.testing.assert_array_equal(decode_rle(mask_to_rle(mask, (40, 50))), pixels[..., 0] == 128)
    pixels[0, 0] = (1, 2, 3)
    Image.fromarray(pixels).save(root / "SegmentationObject" / "a.png")
    assert "has colours that VOC does not use (010203)" in checked(root).warnings[0]


def test_more_than_255_objects_in_16_bits(tmp_path):
    pixels = np.zeros((40, 50), np.uint16)
    pixels[2, 2:6], pixels[4, 4] = 255, 300
    (tmp_path / "SegmentationObject").mkdir()
    Image.fromarray(pixels).save(tmp_path / "SegmentationObject" / "a.png")
    masks = VocMasks.of(tmp_path, voc.Skipped())
    assert masks is not None
    found = masks.by_number(tmp_path / "a.jpg", (40, 50))
    assert {number: area for number, (_, area) in found.items()} == {255: 4, 300: 1}


@pytest.mark.parametrize("damage", ["size", "bytes", "photo"])
def test_mask_images_that_are_no_use(tmp_path, damage, monkeypatch):
    root = voc_root(tmp_path, {}, "a")
    file = root / "SegmentationObject" / "a.png"
    palette_png(file, instances()[:30] if damage == "size" else instances())
    if damage == "bytes":
        file.write_bytes(file.read_bytes()[:60])
    if damage == "photo":
        monkeypatch.setattr("maskrcnn.data.formats.mask_images.MOST_OBJECTS", 1)
    dataset = checked(root)
    expected = {"size": "50x30 instead of 50x40", "bytes": "damaged", "photo": "photo in place of a mask"}[damage]
    assert re.search(f"skipped 1 masks that cannot be read, .*{expected}", dataset.warnings[0])
    assert dataset[0].boxes.tolist() == [[10, 5, 30, 25]]


def test_without_xml_the_classes_are_in_segmentation_class(tmp_path):
    picture(tmp_path / "JPEGImages" / "a.jpg")
    palette_png(tmp_path / "SegmentationObject" / "a.png", instances())
    kinds = instances()
    kinds[kinds == 1], kinds[kinds == 2] = 15, 15
    kinds[6:24, 20:30] = 7
    palette_png(tmp_path / "SegmentationClass" / "a.png", kinds)
    write(tmp_path / "ImageSets" / "Segmentation" / "val.txt", "a\n")
    dataset = checked(tmp_path)
    assert dataset.classes == (CLASSES[7], CLASSES[15]) == ("car", "person")
    assert dataset[0].labels.tolist() == [1, 0]
    assert dataset[0].boxes.tolist() == [[10, 6, 20, 24], [20, 6, 30, 24]]
    assert dataset[0].split == "val"
    write(tmp_path / "class_names.txt", "__ignore__\n_background_\n" + "".join(f"thing{i}\n" for i in range(1, 8)))
    assert checked(tmp_path).classes == ("15", "thing7")


def test_voc_s_colours():
    colours = voc_masks._colours()
    assert [f"{colours[i]:06x}" for i in (0, 1, 2, 15, 255)] == ["000000", "800000", "008000", "c08080", "e0e0c0"]


# ---------------------------------------------------------------- errors

LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><annotation><filename>&b;</filename></annotation>'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LAUGHS, "XML files that cannot be read, .*document type"),
        (LAUGHS.encode("utf-16"), "XML files that cannot be read, .*document type"),
        ("<annotation>", "XML files that cannot be read, .*is not valid XML .no element found"),
        ("", "XML files that cannot be read"),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "XML files that cannot be read"),
        ("<annotations/>", "XML files of another kind, .*<annotations>"),
        ("<annotation>" + "<a>" * 100, "XML files that cannot be read, .*32 inside each other"),
        (xml(filename="gone.jpg"), "images whose file is missing, .*'gone.jpg'"),
    ],
)
def test_files_that_cannot_be_read_are_counted(tmp_path, text, expected):
    file = tmp_path / "b.xml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert re.search(f"skipped 1 {expected}", loose(tmp_path, thing()).warnings[0])


def test_size_and_elements_have_a_limit(tmp_path, monkeypatch):
    file = write(tmp_path / "a.xml", "<annotation>" + "<a/>" * 20 + "</annotation>")
    monkeypatch.setattr(xml_tree, "MOST_ELEMENTS", 20)
    with pytest.raises(DataError, match="has more than 20 elements"):
        xml_tree.read_xml(file)
    monkeypatch.setattr(xml_tree, "LARGEST", 30)
    with pytest.raises(DataError, match="has more than 0 MB"):
        xml_tree.read_xml(file)
    with pytest.raises(DataError, match="cannot be read"):
        xml_tree.read_xml(tmp_path / "gone.xml")


def test_nothing_usable(tmp_path):
    with pytest.raises(DataError, match="no Pascal VOC annotations"):
        voc.read(tmp_path)
    assert not voc.sniff(tmp_path / "gone")
    write(tmp_path / "b.xml", "<annotation/>")
    with pytest.raises(DataError, match="holds no image that can be used; skipped 1 images whose file is missing"):
        open_dataset(tmp_path)


def test_it_takes_no_other_xml(tmp_path):
    write(tmp_path / "annotations.xml", "<annotations><image/></annotations>")
    assert not voc.sniff(tmp_path)


def test_real_data(data_dir):
    dataset = checked(data_dir / "tfrecord-masks" / "source")
    assert len(dataset) == 32
    assert dataset.classes == ("cup", "speaker")
    assert dataset.class_counts().tolist() == [25, 24]
    assert dataset.splits == ("train",)
    assert dataset[0].boxes.tolist() == [[104, 85, 173, 135], [335, 119, 400, 177]]
    assert dataset.warnings == ()
    others = ("coco-mini", "balloon", "nuclei", "nuclei-original", "person-keypoints")
    assert not any(voc.sniff(data_dir / name) for name in others)


# ---------------------------------------------------------------- any bytes


def assert_clean(text: bytes, mask: bytes | None = None, lists: bytes = b"a\n") -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        picture(root / "JPEGImages" / "a.png", 8, 9)
        (root / "Annotations").mkdir()
        (root / "Annotations" / "a.xml").write_bytes(text)
        if mask is not None:
            palette_png(root / "SegmentationObject" / "a.png", np.eye(8, 9))
            (root / "SegmentationObject" / "a.png").write_bytes(mask)
            (root / "ImageSets" / "Segmentation").mkdir(parents=True)
            (root / "ImageSets" / "Segmentation" / "train.txt").write_bytes(lists)
        voc.sniff(root)
        try:
            dataset = voc.read(root)
        except DataError:
            return
        assert_dataset(dataset)


def mutated(data: st.DataObject, text: bytes) -> bytes:
    changed = bytearray(text)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    return bytes(changed)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_bytes_of_any_kind(data):
    text = xml(thing(box=(1, 1, 5, 5)), thing("dog", (2, 2, 7, 7)), filename="a.png").encode()
    with tempfile.TemporaryDirectory() as name:
        palette_png(Path(name) / "m.png", np.eye(8, 9) + 2 * np.eye(8, 9, 1))
        mask = (Path(name) / "m.png").read_bytes()
    lists = data.draw(st.just(b"a\n") | st.binary(max_size=10))
    assert_clean(mutated(data, text), mutated(data, mask) if data.draw(st.booleans()) else None, lists)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats() | st.integers() | st.text(max_size=4), min_size=4, max_size=4), st.text(max_size=5))
def test_fields_of_any_kind(box, name):
    safe = [re.sub(r"[<&\x00-\x1f\ud800-\udfff\ufffe\uffff]", "", str(value)) for value in [*box, name]]
    assert_clean(xml(thing(safe[4], safe[:4]), thing(box=safe[:4], more=f"<difficult>{safe[4]}</difficult>")).encode())
