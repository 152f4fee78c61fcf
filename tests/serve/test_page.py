"""The page in a real browser: dropped, seen, pointed at, sifted, saved; on a desk, on a phone, by keyboard."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.serve.live import Live, picture

pytestmark = pytest.mark.slow
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install 'maskrcnn[web-tests]'")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    with playwright.sync_playwright() as driver:
        if not found and not Path(driver.chromium.executable_path).exists():
            pytest.skip("no Chromium; python -m playwright install chromium")
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, 800), (390, 844)], ids=["desktop", "phone"])
def page(request: Any, browser: Any, server: Live) -> Iterator[Any]:
    """The page with its server; it may ask nobody else, and nothing may go wrong in its script."""
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, has_touch=width < 500)
    page, said, asked = context.new_page(), [], []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("request", lambda sent: asked.append(sent.url))
    page.goto(server.url)
    page.get_by_text("it keeps none").wait_for()
    yield page
    assert [text for text in said if "415" not in text] == []
    assert all(url.startswith((server.url, "blob:", "data:")) for url in asked)
    context.close()


def choose(page: Any, content: bytes = b"", name: str = "noise.png") -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": content or picture(120, 160)})


def counts(page: Any) -> tuple[int, int]:
    """(shown, found), when the page says so."""
    page.get_by_text("objects shown").wait_for()
    words = page.inner_text("#status").split()
    return int(words[0]), int(words[2])


def test_an_image_is_chosen_seen_and_sifted(page: Any) -> None:
    choose(page)
    shown, found = counts(page)
    assert 0 < shown <= found
    assert page.locator("#objects button").count() == shown
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("#threshold").fill("0.8")
    fewer, _ = counts(page)
    assert fewer < shown
    page.locator("#threshold").fill("0.5")
    name = page.locator("#classes label span:nth-child(3)").first.inner_text()
    page.locator("#classes input").first.uncheck()
    assert counts(page)[0] < shown
    assert name not in page.locator("#objects").inner_text().split()
    page.locator("#classes input").first.check()
    assert counts(page)[0] == shown


def test_pointing_at_an_object_says_what_it_is(page: Any) -> None:
    choose(page)
    counts(page)
    before = page.evaluate("canvas.toDataURL()")
    box = page.locator("#canvas").bounding_box()
    for part in range(1, 20):
        page.mouse.move(box["x"] + box["width"] * part / 20, box["y"] + box["height"] / 2)
        if page.locator("#tip").is_visible():
            break
    name, _, score = page.inner_text("#tip").rpartition(" ")
    assert name in ("square", "circle", "triangle")
    assert 0.5 <= float(score) <= 1
    assert page.locator("#objects button.on").inner_text().split() == [name, score]
    assert page.evaluate("canvas.toDataURL()") != before
    page.mouse.move(box["x"] + 1, box["y"] - 30)
    assert page.locator("#tip").is_hidden()


def test_everything_by_keyboard(page: Any) -> None:
    choose(page)
    shown, _ = counts(page)
    page.locator("#file").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "canvas"
    page.keyboard.press("ArrowRight")
    first = page.inner_text("#tip")
    assert page.locator("#objects button").first.inner_text().split() == first.split()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#objects button").nth(shown - 1).inner_text().split() == page.inner_text("#tip").split()
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "threshold"
    page.keyboard.press("End")
    assert counts(page)[0] == 0
    page.keyboard.press("Home")
    assert counts(page)[0] == counts(page)[1]
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert counts(page)[0] < counts(page)[1]


def test_results_are_saved(page: Any, tmp_path: Path) -> None:
    choose(page)
    shown, _ = counts(page)
    with page.expect_download() as waited:
        page.click("#save-json")
    waited.value.save_as(tmp_path / "found.json")
    assert waited.value.suggested_filename == "noise.json"
    saved = json.loads((tmp_path / "found.json").read_text())
    assert (saved["width"], saved["height"], len(saved["instances"])) == (160, 120, shown)
    assert {"name", "score", "box", "polygons"} <= saved["instances"][0].keys()
    assert "path" not in saved["instances"][0]
    with page.expect_download() as waited:
        page.click("#save-picture")
    waited.value.save_as(tmp_path / "noise.png")
    assert Image.open(tmp_path / "noise.png").size == (160, 120)


def test_dropping_a_file(page: Any) -> None:
    page.evaluate(
        """async (bytes) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
            const event = new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
            document.getElementById("drop").dispatchEvent(event);
        }""",
        list(picture()),
    )
    assert counts(page)[1] > 0


def saved(image: Any, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_a_photo_that_lies_on_its_side_is_shown_upright(page: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[:, :20] = 255, 0, 0  # seen upright, the top
    choose(page, saved(Image.fromarray(pixels), "JPEG", exif=exif, quality=95), "phone.jpg")
    counts(page)
    page.locator("#threshold").fill("1")
    assert "60 x 80 pixels" in page.inner_text("#status")
    top, bottom = page.evaluate(
        """["0.05", "0.95"].map((part) => [...canvas.getContext("2d").getImageData(
            canvas.width / 2, Math.floor(canvas.height * part), 1, 1).data])"""
    )
    assert top[0] > 200
    assert max(bottom[:3]) < 60


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "I;16"])
def test_pictures_of_other_colours(mode: str, page: Any) -> None:
    choose(page, saved(Image.new(mode, (80, 60)), "JPEG" if mode == "CMYK" else "PNG"))
    counts(page)
    assert "80 x 60 pixels" in page.inner_text("#status")


def test_of_two_pictures_dropped_at_once_the_last_is_shown(page: Any) -> None:
    page.evaluate(
        """(files) => files.forEach((bytes, i) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], `${i}.png`, { type: "image/png" }));
            document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        })""",
        [list(picture(30, 40)), list(picture(50, 70))],
    )
    counts(page)
    assert "70 x 50 pixels" in page.inner_text("#status")
    with page.expect_download() as waited:
        page.click("#save-json")
    assert waited.value.suggested_filename == "1.json"


def test_what_the_server_refuses_is_said(page: Any) -> None:
    choose(page, b"<b>no image</b>", "<img src=x onerror=alert(1)>.png")
    page.get_by_text("not an image of a known kind").wait_for()
    assert page.locator("#status img").count() == 0
    assert "wrong" in page.get_attribute("#status", "class")
    choose(page)
    assert counts(page)[1] > 0


def test_a_file_that_browsers_cannot_show(page: Any) -> None:
    choose(page, picture(60, 80, "TIFF"), "scan.tif")
    assert counts(page)[1] > 0
    assert page.locator("#canvas").is_visible()
