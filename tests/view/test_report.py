"""Pages stand alone, hold what they were given as text, and charts survive odd numbers."""

import base64
import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from maskrcnn.view.charts import Axis, bars, histogram, scatter
from maskrcnn.view.report import (
    Html,
    element,
    folded,
    gallery,
    lines,
    page,
    pair,
    paragraph,
    picture,
    row,
    section,
    table,
    text,
    tiles,
    write_page,
)

VOID = {"meta", "img"}


class Balance(HTMLParser):
    """Fails where tags do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def assert_page(document: str) -> None:
    """Tags nest, nothing is loaded from elsewhere."""
    parser = Balance()
    parser.feed(document)
    assert parser.open == []
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", document)
    assert not re.search(r"<(?:script|link|iframe)|@import|url\(|https?:", document)


def test_text_is_escaped_once():
    assert text("<b>&\"'") == "&lt;b&gt;&amp;&quot;&#x27;"
    assert text(text("<b>")) == "&lt;b&gt;"
    assert text("a\x00b\ud800c") == "a�b�c"
    assert element("p", "a<b", Html("<i>c</i>"), class_="soft", data_name='"x"', id=None) == (
        '<p class="soft" data-name="&quot;x&quot;">a&lt;b<i>c</i></p>'
    )


def test_a_page_with_everything(tmp_path):
    wild = "<script>alert('x')</script>"
    image = np.zeros((400, 200, 3), np.uint8)
    body = section(
        f"One & {wild}",
        tiles({wild: wild}),
        paragraph(wild, kind="warning"),
        row(table([wild, "number"], [[wild, 1234567], ["share", 5]]), table(["empty"], [])),
        folded(wild, lines([wild, "b"])),
        gallery([picture(image, wild), pair(picture(image), picture(image), element("b", wild))]),
        bars([wild], {wild: [1], "b": [2]}, wild),
        histogram([0, 1, 2], {"": [1, 2]}, wild, label=wild, marks=[(1, wild)]),
        scatter(np.ones(2), np.ones(2), wild, labels=(wild, wild)),
    )
    path = write_page(tmp_path / "new" / "page.html", page(wild, body, section("Two", ""), subtitle=wild))
    document = path.read_text()
    assert_page(document)
    assert "1,234,567" in document
    assert '<a href="#two">Two</a>' in document
    assert "prefers-color-scheme: dark" in document


def test_pictures_are_small_jpegs():
    pixels = np.full((300, 600, 3), [200, 30, 90], np.uint8)
    shown = picture(pixels[:, ::-1], "caption", side=100)
    assert 'width="100" height="50" alt="caption"' in shown
    data = base64.b64decode(re.search(r"base64,([^\"]*)", shown)[1])
    image = Image.open(BytesIO(data))
    assert (image.format, image.size) == ("JPEG", (100, 50))
    assert np.abs(np.asarray(image).astype(int) - [200, 30, 90]).max() < 6
    assert 'width="7" height="5"' in picture(np.zeros((5, 7, 3), np.uint8)), "small ones stay small"


def test_bars_are_as_long_as_their_values():
    chart = bars(["a", "b"], {"train": [100, 50], "val": [0, 25]}, "title")
    widths = [float(w) for w in re.findall(r'width="([\d.]+)" height="11.0"', chart)]
    np.testing.assert_allclose(widths, [300, 0, 150, 75])
    assert "<title>a, train: 100</title>" in chart


def test_columns_stack():
    chart = histogram([0, 10, 20], {"one": [4, 1], "two": [4, 0]}, "", height=240)
    heights = [float(h) for h in re.findall(r'height="([\d.]+)" rx', chart)][2:]  # after the legend
    assert heights[0] == heights[2] == pytest.approx(4 * heights[1], abs=0.2)


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("values", [[], [5], [5, 5], [1, 1e6], [0.01, 0.02], [3, np.nan, np.inf], [700, 800], [0]])
def test_axes_hold_their_values_and_have_ticks(values, log):
    axis = Axis.around(np.array(values, float), 0, 100, log)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 12
    inside = np.array([v for v in [*values, *ticks] if np.isfinite(v) and (v > 0 or not log)])
    assert (axis.at(inside) >= -1e-6).all()
    assert (axis.at(inside) <= 100 + 1e-6).all()
    chart = scatter(np.array(values, float), np.array(values, float), "t", labels=("x", "y"), log=log)
    assert "nan" not in chart
    assert "inf" not in chart


def test_many_points_are_thinned():
    values = np.random.default_rng(0).uniform(1, 9, 10_000)
    assert scatter(values, values, "", labels=("", "")).count("<circle") == 2000
    weighted = scatter(np.arange(2), np.arange(2), "", labels=("", ""), weights=np.array([1, 4]))
    assert re.findall(r' r="([\d.]+)"', weighted) == ["5.0", "10.0"]
