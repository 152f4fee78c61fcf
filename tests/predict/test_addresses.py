"""Addresses as sources: what they are called afterwards, in files and messages, and when they are asked for again."""

from __future__ import annotations

import csv
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from maskrcnn import cli
from maskrcnn.predict.items import Items
from maskrcnn.predict.results import save_results
from maskrcnn.predict.tiles import Tiling, stream_tiled
from tests.predict.test_items import predictor
from tests.predict.test_predictor import Fake, photo
from tests.test_cli_predicted import load_always


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder and its address."""
    folder = tmp_path / "web"
    folder.mkdir()
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_files_name_the_address(web: tuple[Path, str], tmp_path: Path) -> None:
    folder, base = web
    for name in "abc":
        Image.fromarray(photo(32, 40)).save(folder / f"{name}.png")
    Image.fromarray(photo(32, 40)).save(tmp_path / "here.png")
    tifffile.imwrite(folder / "s.tif", np.zeros((2, 32, 40), np.uint8), photometric="minisblack")
    sources = [f"{base}/a.png", f"{base}/{{b,c}}.png", f"{base}/s.tif", tmp_path / "here.png"]
    network = predictor()
    save_results(network.stream_items(network.items(sources)), tmp_path / "out", ["json", "csv"])
    addresses = [f"{base}/{name}" for name in ("a.png", "b.png", "c.png", "s.tif", "s.tif")]
    images = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]
    assert [image.get("coco_url") for image in images] == [*addresses, None]
    assert Path(images[0]["file_name"]).is_file()  # the data set opens
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        named = {row["image"]: row["file"] for row in csv.DictReader(file)}
    assert list(named.values()) == [*addresses, str(tmp_path / "here.png")]
    assert list(named) == ["a", "b", "c", "s_p0", "s_p1", "here"]


def test_messages_name_the_address(web: tuple[Path, str], tmp_path: Path) -> None:
    folder, base = web
    names = ["a.png", "b.mp4", "c.tif"]
    for name in names:
        (folder / name).write_bytes(b"<html>no image</html>")
    sources = [f"{base}/{name}" for name in names]
    whole, tiled = predictor(), predictor()
    with pytest.warns(UserWarning, match="skipped"):
        assert not list(whole.stream(sources))
    with pytest.warns(UserWarning, match="skipped"):
        assert not list(stream_tiled(tiled, tiled.items(sources), Tiling(64, 8)))
    for skipped in (whole.skipped, tiled.skipped):
        assert [message.startswith(f"{url}: ") for message, url in zip(skipped, sources, strict=True)] == [True] * 3
        assert not any(str(tmp_path) in message for message in skipped)


def test_an_address_without_a_file(web: tuple[Path, str]) -> None:
    network = predictor()
    with pytest.warns(UserWarning, match="skipped"):
        assert not list(network.stream(f"{web[1]}/"))
    assert "names no file; give the address of a file" in network.skipped[0]


def test_an_address_is_asked_for_again(web: tuple[Path, str], tmp_path: Path) -> None:
    folder, base = web

    def contents(*, refresh: bool = False) -> list[bytes]:
        items = Items([f"{base}/a.png", f"{base}/{{b,c}}.png"], cache=tmp_path / "c", refresh=refresh)
        return [Path(item.read()).read_bytes() for item in items]

    for word in (b"old", b"new"):
        for name in "abc":
            (folder / f"{name}.png").write_bytes(word)
        assert contents() == [b"old"] * 3
    assert contents(refresh=True) == [b"new"] * 3
    assert contents() == [b"new"] * 3


def test_overwrite_downloads_anew(web: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, base = web
    load_always(Fake(), monkeypatch)
    out = tmp_path / "out"
    command = ["predict", "M", f"{base}/a.png", "--out", str(out), "--save", "json"]
    widths = []
    for width, more in ((40, []), (48, []), (48, ["--overwrite"])):
        Image.new("RGB", (width, 32)).save(folder / "a.png")
        assert cli.main([*command, *more]) == 0
        widths.append(json.loads((out / "predictions.json").read_text())["images"][0]["width"])
    assert widths == [40, 40, 48]
