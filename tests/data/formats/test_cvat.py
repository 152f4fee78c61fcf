"""CVAT for images 1.1."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn.data.formats import cvat, cvat_xml
from maskrcnn.data.open import open_dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import decode_rle, mask_to_rle
from maskrcnn.structures import RLE, Polygons
from tests.data.contract import assert_dataset

META = """<meta><task><id>5</id><name>street</name><size>2</size><mode>annotation</mode><labels>
<label><name>car</name><color>#ff0000</color><type>any</type><attributes></attributes></label>
<label><name>nose</name><type>points</type></label>
<label><name>cat</name><type>polygon</type></label>
</labels></task></meta>"""
POLYGON = '<polygon label="cat" source="manual" occluded="0" points="2.50,3.00;12.50,3.00;12.50,13.00" z_order="0"/>'
BOX = '<box label="car" occluded="1" xtl="4" ytl="5" xbr="14" ybr="11" z_order="0"></box>'
MASK = '<mask label="cat" rle="1, 2, 2, 1" left="20" top="10" width="3" height="2" z_order="0"/>'


def picture(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(file)


def image(shapes: str, name: str = "a.jpg", number: int = 0, more: str = "") -> str:
    return f'<image id="{number}" name="{name}" width="50" height="40" {more}>{shapes}</image>'


def export(root: Path, *images: str, name: str = "annotations.xml", meta: str = META) -> Path:
    picture(root / "images" / "a.jpg")
    content = f"<annotations><version>1.1</version>{meta}{''.join(images)}</annotations>"
    (root / name).write_text('<?xml version="1.0" encoding="utf-8"?>' + content)
    return root


def only(root: Path, *shapes: str):
    dataset = open_dataset(export(root, image("".join(shapes))))
    assert_dataset(dataset)
    return dataset


def test_polygons_boxes_and_masks(tmp_path):
    dataset = only(tmp_path, POLYGON, BOX, MASK)
    assert dataset.format == "cvat"
    assert dataset.classes == ("car", "cat")  # in the order of the labels; those of points are none
    record = dataset[0]
    assert [dataset.classes[label] for label in record.labels] == ["cat", "car", "cat"]
    assert record.boxes.tolist() == [[2.5, 3, 12.5, 13], [4, 5, 14, 11], [21, 10, 23, 12]]
    assert isinstance(record.masks[0], Polygons)
    assert record.masks[0].rings[0].tolist() == [[2.5, 3], [12.5, 3], [12.5, 13]]
    assert record.masks[1].rings[0].tolist() == [[4, 5], [14, 5], [14, 11], [4, 11]]  # the box stands in
    expected = np.zeros((40, 50), bool)
    expected[10, 21:23] = expected[11, 22] = True  # runs go row by row, background first
    assert isinstance(record.masks[2], RLE)
    assert (decode_rle(mask_to_rle(record.masks[2], (40, 50))) == expected).all()
    assert record.areas[2] == 3
    assert len(dataset.warnings) == 1
    assert "kept 1 objects without a mask, whose box stands in for it" in dataset.warnings[0]


def test_boxes_alone_stay_boxes(tmp_path):
    dataset = only(tmp_path, BOX)
    assert dataset[0].masks == ()
    assert not dataset.warnings


def test_turned_boxes_and_ellipses(tmp_path):
    dataset = only(
        tmp_path,
        BOX.replace("z_order", 'rotation="90.0" z_order'),
        '<ellipse label="cat" cx="30" cy="20" rx="10" ry="5" rotation="90"/>',
        '<ellipse label="cat" cx="30" cy="20" rx="10" ry="5"/>',
    )
    np.testing.assert_allclose(dataset[0].boxes, [[6, 3, 12, 13], [25, 10, 35, 30], [20, 15, 40, 25]], atol=1e-4)
    np.testing.assert_allclose(dataset[0].areas[1:], np.pi * 50, rtol=0.05)


def test_rotation_goes_clockwise_on_the_screen(tmp_path):
    dataset = only(tmp_path, BOX.replace("z_order", 'rotation="30" z_order'))
    corner = dataset[0].masks[0].rings[0][1]  # the upper right one, at (5, -3) from the centre (9, 8)
    turn = np.deg2rad(30)
    np.testing.assert_allclose(
        corner, [9 + 5 * np.cos(turn) + 3 * np.sin(turn), 8 + 5 * np.sin(turn) - 3 * np.cos(turn)]
    )


def test_groups_are_objects_of_several_parts(tmp_path):
    def grouped(shape: str, group: int) -> str:
        return shape.replace("z_order", f'group_id="{group}" z_order')

    far = POLYGON.replace("12.50,", "32.50,").replace('"2.50,', '"22.50,')
    dataset = only(
        tmp_path, grouped(POLYGON, 1), grouped(far, 1), grouped(POLYGON, 2), grouped(MASK, 2),
        grouped(BOX, 1), grouped(POLYGON, 0), grouped(POLYGON, 0), grouped(BOX.replace('"car"', '"cat"'), 3),
        grouped(POLYGON, 3),
    )  # fmt: skip
    record = dataset[0]
    assert [dataset.classes[label] for label in record.labels] == ["cat", "cat", "car", "cat", "cat", "cat"]
    assert len(record.masks[0].rings) == 2
    assert record.boxes[0].tolist() == [2.5, 3, 32.5, 13]
    assert isinstance(record.masks[1], RLE)  # of a polygon and a mask
    assert record.boxes[1].tolist()[2:] == [23, 13]
    assert record.areas[1] == record.areas[3] + 3
    assert record.boxes[5].tolist() == [4, 5, 14, 11]  # the box frames the polygon of its group
    assert len(record.masks[5].rings) == 1


def test_attributes_and_crowds(tmp_path):
    inside = '<attribute name="colour">red</attribute><attribute name="is_crowd">true</attribute>'
    dataset = only(tmp_path, BOX.replace("></box>", f">{inside}</box>"), BOX)
    assert dataset[0].crowd.tolist() == [True, False]


def test_flat_shapes_and_mistakes_are_counted(tmp_path):
    dataset = only(
        tmp_path,
        POLYGON,
        '<polyline label="cat" points="1,1;2,2;3,1"/>',
        '<points label="nose" points="1,1"/>',
        '<tag label="cat" source="manual"></tag>',
        POLYGON.replace('"2.50,3.00;', '"'),
        POLYGON.replace('"2.50,3.00;', '"1;'),
        POLYGON.replace('"2.50,3.00;', '"one,two;'),
        POLYGON.replace('"2.50,3.00;', '"1e300,3;'),
        POLYGON.replace('"2.50,3.00;', '"nan,3;'),
        POLYGON.replace('label="cat" ', ""),
        MASK.replace("1, 2", "1, 3"),
        MASK.replace("1, 2", "1, -2, 0, 4"),
        MASK.replace('width="3"', 'width="3000000000"'),
        MASK.replace('left="20"', 'left="50"'),
        BOX.replace('xtl="4"', 'xtl="14"'),
        BOX.replace('xtl="4"', 'xtl="inf"'),
    )
    assert len(dataset[0]) == 1
    text = "\n".join(dataset.warnings)
    assert "skipped 3 shapes without an inside (points, lines, cuboids, tags), first: " in text
    assert "image a.jpg, annotation 1: shape 'polyline'" in text
    assert "skipped 7 shapes that are not as CVAT writes them" in text
    assert "skipped 3 objects with wild coordinates" in text
    assert "skipped 1 empty masks" in text
    assert "skipped 1 boxes of zero area or outside the image" in text


def test_a_mask_over_the_edge_is_cut(tmp_path):
    dataset = only(tmp_path, '<mask label="cat" rle="0, 6" left="-1" top="39" width="3" height="2"/>')
    assert dataset[0].boxes.tolist() == [[0, 39, 2, 40]]


@pytest.mark.parametrize(
    ("file", "name", "subset"),
    [
        ("images/a.jpg", "a.jpg", ""),
        ("a.jpg", "a.jpg", ""),
        ("images/Train/b.jpg", "b.jpg", "Train"),
        ("images/cam1/b.jpg", "cam1/b.jpg", ""),
        ("images/Train/cam1/b.jpg", "cam1/b.jpg", "Train"),
        ("images/frame_000007.PNG", "frame_000007", ""),
        ("images/b.jpg", "C:\\\\photos\\\\b.jpg", ""),
        ("images/b.jpg", "/mnt/share/b.jpg", ""),
    ],
)
def test_where_images_lie(tmp_path, file, name, subset):
    picture(tmp_path / file)
    more = f'subset="{subset}"' if subset else ""
    dataset = open_dataset(export(tmp_path, image(POLYGON, name, more=more)))
    assert_dataset(dataset)
    assert dataset[0].path == tmp_path / (file if file != "a.jpg" else "images/a.jpg")
    assert dataset[0].split == ("train" if subset else "")


def test_subsets_are_splits(tmp_path):
    subsets = {"Train": "train", "Validation": "val", "default": "", "night": "night"}
    for subset in subsets:
        picture(tmp_path / "images" / subset / "x.jpg")
    images = [image(POLYGON, "x.jpg", i, f'subset="{s}"') for i, s in enumerate(subsets)]
    dataset = open_dataset(export(tmp_path, *images))
    assert [r.split for r in dataset] == list(subsets.values())
    assert [r.path.parent.name for r in dataset] == list(subsets)


def test_a_file_for_each_split(tmp_path):
    for split in ("train", "val"):
        export(tmp_path / split, image(POLYGON))
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert dataset.splits == ("train", "val")
    assert dataset[1].path == tmp_path / "val" / "images" / "a.jpg"
    assert len(open_dataset(tmp_path / "val" / "annotations.xml")) == 1


def test_size_from_the_image_where_the_file_has_none(tmp_path):
    text = image(POLYGON).replace('width="50"', 'width="x"')
    dataset = open_dataset(export(tmp_path, text))
    assert dataset[0].size == (40, 50)


def test_missing_images_are_counted(tmp_path):
    dataset = open_dataset(export(tmp_path, image(POLYGON), image(POLYGON, "gone.jpg", 7)))
    assert len(dataset) == 1
    assert re.search(
        r"skipped 1 images whose file is missing, first: .*annotations.xml, image 7: 'gone.jpg'", dataset.warnings[0]
    )
    with pytest.raises(DataError, match="holds no image that can be used; skipped 1 images whose file is missing"):
        open_dataset(export(tmp_path, image(POLYGON, "gone.jpg")))


def test_utf16_and_no_meta(tmp_path):
    export(tmp_path, image(POLYGON), meta="")
    file = tmp_path / "annotations.xml"
    file.write_bytes(file.read_text().replace("utf-8", "utf-16").encode("utf-16"))
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("cat",)


def test_video_tracks_name_the_remedy(tmp_path):
    export(tmp_path, '<track id="0" label="car"><box frame="0" xtl="1" ytl="1" xbr="5" ybr="5"/></track>')
    with pytest.raises(DataError, match=r"holds 1 tracks of a video; export the task again as `CVAT for images 1.1`"):
        open_dataset(tmp_path)


def test_attacks_and_broken_files(tmp_path, monkeypatch):
    export(tmp_path, image(POLYGON))
    file = tmp_path / "annotations.xml"
    text = file.read_text()
    lol = '<!DOCTYPE annotations [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'
    file.write_text(text.replace("?>", "?>" + lol, 1))
    with pytest.raises(DataError, match=r"has a document type .*remove that line"):
        open_dataset(tmp_path)
    file.write_text(text[:-20])
    with pytest.raises(DataError, match=r"annotations.xml: is not valid XML \(.*\); export it again"):
        open_dataset(tmp_path)
    file.write_text(text.replace("utf-8", "klingon"))
    with pytest.raises(DataError, match="is not valid XML"):
        open_dataset(tmp_path)
    file.write_text(text.replace("</annotations>", "<a>" * 99 + "</a>" * 99 + "</annotations>"))
    with pytest.raises(DataError, match="has elements in each other 16 deep"):
        open_dataset(tmp_path)
    file.write_text(text)
    monkeypatch.setattr(cvat_xml, "LARGEST", 100)
    with pytest.raises(DataError, match="export it in parts"):
        open_dataset(tmp_path)


def test_other_xml_is_left_alone(tmp_path):
    (tmp_path / "a.xml").write_text("<annotation><filename>a.jpg</filename></annotation>")
    assert not cvat.sniff(tmp_path)
    assert not cvat.sniff(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no XML of CVAT here; export it as `CVAT for images 1.1`"):
        cvat.read(tmp_path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["polygon", "box", "mask", "ellipse", "image", "label", "annotations"]),
    st.sampled_from(["points", "xtl", "rle", "left", "width", "height", "name", "label", "group_id", "rotation", "cx"]),
    st.text(st.characters(blacklist_characters='"<&', blacklist_categories=["Cs", "Cc"]), max_size=8)
    | st.floats().map(str)
    | st.integers().map(str),
)
def test_any_value_in_any_field(tmp_path_factory, tag, field, value):
    root = tmp_path_factory.mktemp("fuzz")
    ellipse = '<ellipse label="cat" cx="30" cy="20" rx="10" ry="5" rotation="0" group_id="0"/>'
    shapes = POLYGON + BOX + MASK + ellipse
    text = export(root, image(shapes), image(shapes, "b.jpg")).joinpath("annotations.xml").read_text()
    text = re.sub(rf'(<{tag}\b[^>]*?\b{field}=)"[^"]*"', lambda match: f'{match[1]}"{value}"', text)
    root.joinpath("annotations.xml").write_text(text)
    try:
        assert_dataset(open_dataset(root))
    except DataError:
        return


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=20), st.integers(0, 2000))
def test_any_bytes(tmp_path_factory, inserted, place):
    root = export(tmp_path_factory.mktemp("fuzz"), image(POLYGON + BOX + MASK))
    file = root / "annotations.xml"
    data = file.read_bytes()
    place %= len(data)
    file.write_bytes(data[:place] + inserted + data[place + len(inserted) // 2 :])
    try:
        assert_dataset(cvat.read(root))
    except DataError:
        return
