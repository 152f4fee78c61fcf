"""Parts of a self-contained HTML page: one file without network, scripts or fonts, light or dark as the system is.

Every function takes text or `Html` and gives `Html`. Text is escaped; `Html` is markup already and stays as it is.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

QUALITY = 82  # of JPEG images
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")  # what a page must not hold

STYLE = """
:root { color-scheme: light dark; --paper: #fbfbf9; --card: #ffffff; --ink: #1d1f21; --soft: #62676d; --line: #dcdedf;
  --series-0: #0072b2; --series-1: #d55e00; --series-2: #009e73; --series-3: #8a5fd0; --series-4: #b08900;
  --bad: #b3261e; --warn: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181a; --card: #1f2225; --ink: #e8e9ea; --soft: #a2a8ae;
  --line: #383c40; --series-0: #56b4e9; --series-1: #f08a4b; --series-2: #35c295; --series-3: #b79cf0;
  --series-4: #e3c04f; --bad: #ff8a80; --warn: #f0b95b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin: 0 0 .75rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .5rem; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: .5rem 0 1rem; } a { color: var(--series-0); }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem 1.25rem;
  margin: 0 0 1rem; }
p { margin: .5rem 0; max-width: 70ch; overflow-wrap: anywhere; } .soft { color: var(--soft); }
.error { color: var(--bad); } .warning { color: var(--warn); }
.tiles { display: flex; flex-wrap: wrap; gap: .5rem 2.25rem; } .tiles div { min-width: 5rem; }
.tiles b { display: block; font-size: 1.5rem; font-weight: 600; line-height: 1.2; } .tiles span { color: var(--soft); }
.row { display: flex; flex-wrap: wrap; gap: 1rem 2rem; align-items: flex-start; }
.row > * { flex: 1 1 24rem; min-width: 0; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem 1rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 500; } .number { text-align: right; white-space: nowrap; }
figure { margin: 0; } figure img { display: block; max-width: 100%; height: auto; border-radius: 4px; }
figcaption { font-size: .85rem; color: var(--soft); overflow-wrap: anywhere; margin-top: .25rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(var(--least), 1fr)); gap: 1rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .35rem; align-items: start; }
details { margin: .5rem 0; } summary { cursor: pointer; } ul.lines { margin: .25rem 0; padding-left: 1.25rem;
  font: 12.5px/1.45 ui-monospace, monospace; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
svg .name, svg .title { fill: var(--ink); } svg .grid { stroke: var(--line); } svg .mark { stroke: var(--ink);
  stroke-dasharray: 3 3; opacity: .55; } svg .shape { fill: none; stroke: var(--ink); stroke-width: 1.5; }
"""


class Html(str):
    """Markup: escaped already."""

    __slots__ = ()


def text(value: object) -> Html:
    """Escaped; `Html` stays as it is."""
    if isinstance(value, Html):
        return value
    return Html(html.escape(_CONTROL.sub("�", str(value))))


def element(name: str, *children: object, **attributes: object) -> Html:
    """`<name key="value">children</name>`; `class_` is class, `_` in other keys is `-`; None leaves a key out."""
    names = {key: key.rstrip("_").replace("_", "-") for key in attributes}
    given = "".join(f' {names[key]}="{text(value)}"' for key, value in attributes.items() if value is not None)
    return Html(f"<{name}{given}>{joined(children)}</{name}>")


def joined(parts: Iterable[object]) -> Html:
    """One after the other."""
    return Html("".join(map(text, parts)))


def page(title: str, *parts: object, subtitle: str = "") -> Html:
    """A whole document. Sections among the parts get a line of links."""
    links = re.findall(r'<section id="([^"]*)"><h2>(.*?)</h2>', joined(parts))
    menu = [Html(f'<a href="#{anchor}">{name}</a>') for anchor, name in links]
    head = element("head", Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width">'),
                   element("title", title), element("style", Html(STYLE)))  # fmt: skip
    top = [element("h1", title), element("p", subtitle, class_="soft") if subtitle else ""]
    body = element("body", *top, element("nav", *menu) if menu else "", *parts)
    return Html(f'<!doctype html>\n<html lang="en">{head}{body}</html>\n')


def write_page(path: str | Path, document: Html) -> Path:
    """Write a page; its folder is made. Raises `OSError`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document, encoding="utf-8")
    return path


# ---------------------------------------------------------------- what stands on a page


def section(title: str, *parts: object) -> Html:
    """A card with a heading, and a link to it at the top of the page."""
    anchor = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return element("section", element("h2", title), *parts, id=anchor)


def heading(title: str) -> Html:
    """Of a part of a section."""
    return element("h3", title)


def paragraph(*parts: object, kind: str | None = None) -> Html:
    """`kind`: soft, warning or error."""
    return element("p", *parts, class_=kind)


def tiles(values: Mapping[str, object]) -> Html:
    """Large numbers, each over its name."""
    parts = [element("div", element("b", value), element("span", name)) for name, value in values.items()]
    return element("div", *parts, class_="tiles")


def row(*parts: object) -> Html:
    """Side by side where there is room."""
    return element("div", *parts, class_="row")


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> Html:
    """A table; numbers stand to the right."""

    def cell(name: str, value: object) -> Html:
        number = isinstance(value, (int, float)) or (isinstance(value, str) and value.endswith(" %"))
        return element(name, f"{value:,}" if isinstance(value, int) else value, class_="number" if number else None)

    rows = [list(values) for values in rows]
    right = [isinstance(values, (int, float)) for values in (rows[0] if rows else head)]
    titles = [element("th", name, class_="number" if at else None) for name, at in zip(head, right, strict=False)]
    body = [element("tr", *(cell("td", value) for value in values)) for values in rows]
    return element("div", element("table", element("tr", *titles), *body), class_="scroll")


def folded(summary: object, *parts: object) -> Html:
    """Shown when the summary is clicked."""
    return element("details", element("summary", summary), *parts)


def lines(texts: Iterable[object]) -> Html:
    """A list in small type."""
    return element("ul", *(element("li", line) for line in texts), class_="lines")


def picture(image: np.ndarray, caption: object = "", side: int = 320) -> Html:
    """An image (H, W, 3) uint8 as a JPEG of at most `side` pixels a side, inside the page."""
    from PIL import Image

    small = Image.fromarray(np.ascontiguousarray(image))
    small.thumbnail((side, side))
    stream = BytesIO()
    small.save(stream, "JPEG", quality=QUALITY)
    source = f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
    shown = Html(f'<img src="{source}" width="{small.width}" height="{small.height}" alt="{_plain(caption)}">')
    return _figure(shown, caption)


def gallery(pictures: Sequence[Any], least: int = 200) -> Html:
    """Pictures in a grid, each column at least this many pixels wide."""
    return element("div", *pictures, class_="gallery", style=f"--least: {least}px")


def pair(left: Html, right: Html, caption: object = "") -> Html:
    """Two pictures with one caption."""
    return _figure(element("div", left, right, class_="pair"), caption)


def _figure(shown: Html, caption: object) -> Html:
    return element("figure", shown, element("figcaption", caption) if caption else "")


def _plain(caption: object) -> Html:
    """A caption without its markup."""
    return text(html.unescape(re.sub(r"<[^>]*>", " ", caption))) if isinstance(caption, Html) else text(caption)
