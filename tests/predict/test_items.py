"""Sources of every kind and mix: films, cameras, addresses, pages and windows of TIFFs, lists on stdin."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from maskrcnn.dataset import Dataset
from maskrcnn.errors import ConfigError, DataError
from maskrcnn.predict.film import FilmWriter, Frame, film_facts, latest, read_film
from maskrcnn.predict.items import Items, Names
from maskrcnn.predict.pages import Window, map_of, moved
from maskrcnn.predict.predictor import Predictor
from maskrcnn.predict.results import save_results
from maskrcnn.structures import Record, Span
from tests.predict.test_predictor import Fake, photo


def write_film(path: Path, frames: int = 5, size: tuple[int, int] = (32, 48)) -> Path:
    """Frame n is grey, 40 n bright; ten a second."""
    writer = FilmWriter(path, 10.0)
    for number in range(frames):
        writer.add(np.full((*size, 3), 40 * number, np.uint8), number / 10)
    return writer.close()


def predictor() -> Predictor:
    return Predictor(Fake(), "cpu")  # type: ignore[arg-type]


def test_a_film_gives_its_frames_in_order(tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4")
    facts = film_facts(film)
    assert (facts.rate, facts.frames) == (pytest.approx(10, rel=0.01), 5)
    frames = list(read_film(film))
    assert [round(frame.seconds, 2) for frame in frames] == [0, 0.1, 0.2, 0.3, 0.4]
    assert [frame.pixels().mean() for frame in frames] == pytest.approx([0, 40, 80, 120, 160], abs=4)
    found = list(predictor().stream(film))
    assert [f.place.name for f in found if f.place] == [f"film_{n:06}" for n in range(5)]
    assert found[3].path is None
    assert found[3].size == (32, 48)


def test_everything_in_one_list(tmp_path: Path) -> None:
    Image.new("RGB", (40, 32)).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((3, 32, 40), np.uint16), photometric="minisblack")
    write_film(tmp_path / "c.mp4", 2)
    sources = [str(tmp_path / "*.png"), tmp_path, photo(32, 44), str(tmp_path / "b.tif@4:20,8:40")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO(f"{tmp_path / 'a.png'}\n\n{tmp_path / 'none.png'}\n"))
        with pytest.warns(UserWarning, match=r"none\.png: no such file or folder"):
            found = list(predictor().stream([*sources, "-"]))
    names = [f.place.name for f in found if f.place]
    assert names == ["a", "a_2", "b_p0", "b_p1", "b_p2", "c_000000", "c_000001", "image_5", "b_4_8", "a_3"]
    assert found[8].size == (16, 32)
    assert found[8].place.corner == (4, 8)  # type: ignore[union-attr]


def test_a_file_that_comes_again_is_taken_once(tmp_path: Path) -> None:
    Image.new("RGB", (40, 32)).save(tmp_path / "a.png")
    Image.new("RGB", (40, 32)).save(tmp_path / "b.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "m.tif", np.zeros((20, 30), np.uint16))
    window = str(tmp_path / "m.tif@0:9,0:9")
    other = str(tmp_path / "m.tif@1:9,0:9")
    array = photo(32, 44)
    sources = [tmp_path / "a.png", tmp_path, tmp_path / "b.png", window, other, window, array, array]
    assert Items(sources).count() == len(list(Items(sources))) == 11
    items = Items(sources, once=True)
    for _ in range(2):  # the same when it is gone through again
        with pytest.warns(UserWarning, match=r"a\.png is named twice and taken once") as told:
            names = [item.place.name.split("_")[0] for item in items]
        assert names == ["a", "b", "m", "m", "m", "image", "image"]
        assert len(told) == 1
    assert items.count() == 8  # what links point to is not looked up for a bar


def test_records_are_images(tmp_path: Path) -> None:
    """Of a file, of a function, and of a part of a file; alone, in lists, and as a data set."""
    Image.fromarray(photo(32, 44)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "shard.tar").write_bytes(b"12345" + content)
    none = np.zeros(0, np.int64)
    boxes = np.zeros((0, 4), np.float32)
    record = Record(tmp_path / "a.png", 7, 32, 44, boxes, none, (), none.astype(bool), none.astype(np.float32), none)
    made = replace(record, path=Path("made"), make=lambda: photo(32, 44))
    part = replace(record, path=tmp_path / "shard.tar", span=Span(5, len(content)))
    dataset = Dataset([record, made, part], ("cat",), (1,))
    for sources in (dataset, [record, made, part], (one for one in dataset)):
        found = list(predictor().stream(sources))
        assert [f.place.name for f in found if f.place] == ["a", "made", "shard"]
        assert [f.size for f in found] == [(32, 44)] * 3
        assert [f.path for f in found] == [str(tmp_path / "a.png"), None, None]
    (one,) = predictor().stream(record)
    assert one.path == str(tmp_path / "a.png")
    for item in Items([made, part]):
        np.testing.assert_array_equal(np.asarray(item.read()).transpose(1, 2, 0), photo(32, 44))
    results = predictor().stream_items(Items([record, made, part]))
    assert len(save_results(results, tmp_path / "out", ["overlay", "labelme"]).paths) == 6


def test_the_pages_of_a_tiff_are_read_as_they_are(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (3, 20, 30), np.uint8)
    tifffile.imwrite(tmp_path / "s.tif", stack, photometric="minisblack")
    pages = [np.asarray(item.read()) for item in Items(tmp_path / "s.tif")]
    assert all((page.squeeze()[..., None] == stack[n][..., None]).any() for n, page in enumerate(pages))
    np.testing.assert_array_equal([page.reshape(20, 30, -1)[:, :, 0] for page in pages], stack)
    assert len(list(Items(tmp_path / "s.tif", pixels="raw"))) == 1


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16), "compression": "zlib"}, {"rowsperstrip": 7}])
def test_a_window_is_the_same_part_and_keeps_its_map(tmp_path: Path, options: dict) -> None:
    values = np.random.default_rng(0).integers(0, 60000, (60, 50, 3), np.uint16)
    scale, tie = (33550, "d", 3, (0.5, 0.5, 0.0)), (33922, "d", 6, (0.0, 0, 0, 400000.0, 5000000.0, 0))
    keys = (34735, "H", 8, (1, 1, 0, 1, 3072, 0, 1, 32633))
    extra = [(*tag, True) for tag in (scale, tie, keys)]
    tifffile.imwrite(tmp_path / "m.tif", values, photometric="rgb", extratags=extra, **options)
    (item,) = Items(str(tmp_path / "m.tif@10:30,20:45"))
    np.testing.assert_array_equal(np.asarray(item.read()), values[10:30, 20:45] >> 8)
    assert item.place.to_map == (0.5, 0, 400010.0, 0, -0.5, 4999995.0)
    assert item.place.crs == "EPSG:32633"
    assert map_of(tmp_path / "m.tif")[0] == (0.5, 0, 400000.0, 0, -0.5, 5000000.0)


def test_a_moved_map_says_the_same_of_the_same_pixel() -> None:
    to_map = (0.5, 0.1, 7.0, -0.2, -0.5, 9.0)
    a, b, c, d, e, f = moved(to_map, top=11, left=5)  # type: ignore[misc]
    assert a * 2 + b * 3 + c == pytest.approx(0.5 * 7 + 0.1 * 14 + 7.0)
    assert d * 2 + e * 3 + f == pytest.approx(-0.2 * 7 - 0.5 * 14 + 9.0)


def test_addresses_are_downloaded(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    Image.new("RGB", (40, 32)).save(tmp_path / "web" / "a b.png")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    try:
        items = Items([f"{base}/a%20b.png", f"{base}/none.png"], cache=tmp_path / "cache")
        first, second = items
        assert first.place.name == "a b"
        assert Image.open(first.read()).size == (40, 32)
        with pytest.raises(DataError, match="cannot be downloaded"):
            second.read()
        assert items.count() == 2
    finally:
        server.shutdown()
        server.server_close()


def test_a_camera_gives_its_newest_frame() -> None:
    """While the first frame is looked at, five more come: the next one is the last of them."""
    seen, go = threading.Event(), threading.Event()

    def camera() -> Iterator[Frame]:
        yield Frame(lambda: photo(32, 40), 0.0)
        seen.wait(20)
        for number in range(1, 6):
            yield Frame(lambda: photo(32, 40), number / 10)
        go.set()

    frames = latest(camera())
    assert next(frames)[0] == 0
    seen.set()
    assert go.wait(20)
    assert [number for number, _ in frames] == [5]


def test_a_camera_goes_through_the_model(tmp_path: Path) -> None:
    asked = []

    def capture(source: str) -> Iterator[Frame]:
        asked.append(source)
        yield Frame(lambda: photo(32, 40), 0.0)

    with pytest.warns(UserWarning, match="0 is live"):
        found = list(predictor().stream([0, "rtsp://door.example/live"], capture=capture))
    assert asked == ["0", "rtsp://door.example/live"]
    first, second = (instances.place for instances in found)
    assert first is not None
    assert first.name.startswith("camera_0_")
    assert second is not None
    assert second.name.startswith("door_example_")
    assert second.film


def test_a_camera_that_fails_is_reported() -> None:
    def capture(source: str) -> Iterator[Frame]:
        yield Frame(lambda: photo(32, 40), 0.0)
        raise DataError("is gone", path=source)

    network = predictor()
    with pytest.warns(UserWarning, match="7: is gone; skipped, 1 so far"):
        list(network.stream("7", capture=capture))
    assert network.skipped == ["7: is gone"]


def test_a_damaged_film_and_one_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no film")
    network = predictor()
    with pytest.warns(UserWarning, match="check that it is a film"):
        assert len(list(network.stream([tmp_path / "a.mp4", photo(32, 40)]))) == 1


def test_without_pyav_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ConfigError, match=r"pip install 'maskrcnn\[video\]'"):
        list(predictor().stream(tmp_path / "a.mp4"))


def test_sound_is_kept(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "in.mp4"), "w") as output:
        video: Any = output.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        sound: Any = output.add_stream("aac", rate=8000, layout="mono")
        for number in range(5):
            output.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 48, 3), np.uint8), format="rgb24")))
            tone = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.float32), format="fltp", layout="mono")
            tone.sample_rate, tone.pts, tone.time_base = 8000, 800 * number, Fraction(1, 8000)
            output.mux(sound.encode(tone))
        output.mux(video.encode(None))
        output.mux(sound.encode(None))
    writer = FilmWriter(tmp_path / "out.mp4", 10.0, str(tmp_path / "in.mp4"))
    for frame in read_film(tmp_path / "in.mp4"):
        writer.add(frame.pixels(), frame.seconds)
    with av.open(str(writer.close())) as result:
        assert len(result.streams.audio) == 1
        assert sum(1 for _ in result.decode(video=0)) == 5
        assert not list(tmp_path.glob(".*"))


def test_names_are_never_alike() -> None:
    names = Names()
    given = ["photo", "Photo", "photo_2", "film_000001", "film", "scan", "scan_p1", "scan"]
    made = [names.free(stem) for stem in given]
    assert made == ["photo", "Photo_2", "photo_2_2", "film_000001", "film_2", "scan", "scan_p1_2", "scan_2"]


def test_windows_are_parsed() -> None:
    assert Window.parse("big.TIF@0:10,5:20") == Window(Path("big.TIF"), (0, 10), (5, 20))
    assert Window.parse("big.tif") is None
    assert str(Window(Path("a.tif"), (1, 2), (3, 4))) == "a.tif@1:2,3:4"


@pytest.mark.parametrize(
    ("window", "message"), [("5:5,0:9", "holds no pixel"), ("0:99,0:9", "has 20 rows and 30 columns")]
)
def test_windows_outside(tmp_path: Path, window: str, message: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 30), np.uint16))
    (item,) = Items(f"{tmp_path / 'a.tif'}@{window}")
    with pytest.raises(DataError, match=message):
        item.read()


def test_what_is_named_after_a_camera_is_warned_about(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="0 is live: .*name it last"):
        Items(["0", photo(32, 44)])
    Items([photo(32, 44), "0"])  # warnings are errors here


def test_a_list_with_what_is_missing_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (40, 32)).save(tmp_path / "a.png")
    lines = [
        "",
        "   ",
        tmp_path / "none.png",
        tmp_path / "*.bmp",
        "http://127.0.0.1:9/x.jpg",
        "http://127.0.0.1:9/x.mp4",
    ]
    text = "".join(f"{line}\r\n" for line in [*lines, tmp_path / "a.png"])
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    model = predictor()
    with pytest.warns(UserWarning, match="skipped"):
        found = list(model.stream("-"))
    assert [f.place.name for f in found if f.place] == ["a"]
    assert [word in message for word, message in zip(
        ["none.png", "*.bmp", "x.jpg", "x.mp4"], model.skipped, strict=True)] == [True] * 4  # fmt: skip
