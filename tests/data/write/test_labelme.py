"""labelme's JSON, shape by shape."""

from __future__ import annotations

import base64
import json
from io import BytesIO

import numpy as np
from PIL import Image

from maskrcnn.data.write.labelme import write
from maskrcnn.ops.masks import decode_rle, mask_to_rle
from tests.data.write.example import example


def test_shapes(tmp_path):
    data = example(tmp_path / "in")
    (tmp_path / "out").mkdir()
    write(data, tmp_path / "out")
    page = json.loads((tmp_path / "out" / "train" / "a.json").read_text())
    assert (page["imagePath"], page["imageData"], page["imageHeight"], page["imageWidth"]) == ("a.png", None, 40, 48)
    hole, one, two, triangle, over = page["shapes"]
    assert [s["shape_type"] for s in page["shapes"]] == ["mask", *["polygon"] * 4]
    assert [s["label"] for s in page["shapes"]] == ["a cat", *["dog & co"] * 4]
    assert one["group_id"] == two["group_id"] == 2
    assert hole["group_id"] is triangle["group_id"] is over["group_id"] is None
    assert one["points"] == [[2.25, 30], [9.5, 30.5], [6, 38.75]]
    assert over["points"] == [[10, 8], [26, 8], [26, 22], [10, 22]]
    assert (tmp_path / "out" / "train" / "a.png").read_bytes() == data[0].path.read_bytes()
    assert json.loads((tmp_path / "out" / "train" / "empty.json").read_text())["shapes"] == []


def test_a_mask_shape_is_placed_as_labelme_does(tmp_path):
    """labelme: `mask[y1 : y2 + 1, x1 : x2 + 1] = shape["mask"]`, with the two points as whole numbers."""
    data = example(tmp_path / "in")
    (tmp_path / "out").mkdir()
    write(data, tmp_path / "out")
    shape = json.loads((tmp_path / "out" / "train" / "a.json").read_text())["shapes"][0]
    (x1, y1), (x2, y2) = np.array(shape["points"]).astype(int)
    pixels = np.zeros((40, 48), bool)
    pixels[y1 : y2 + 1, x1 : x2 + 1] = np.asarray(Image.open(BytesIO(base64.b64decode(shape["mask"])))).astype(bool)
    assert np.array_equal(pixels, decode_rle(mask_to_rle(data[0].masks[0], (40, 48))))


def test_crowds_have_a_flag(tmp_path):
    data = example(tmp_path / "in")
    (tmp_path / "out").mkdir()
    write(data, tmp_path / "out")
    shapes = json.loads((tmp_path / "out" / "val" / "b.json").read_text())["shapes"]
    assert [shape["flags"] for shape in shapes] == [{}, {"crowd": True}]
