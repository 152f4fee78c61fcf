"""`maskrcnn predict` as a user meets it: files of a run, a restart, Ctrl-C, broken files, a window."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskrcnn import cli
from maskrcnn.cli.window import Window, fitted
from maskrcnn.errors import ConfigError
from maskrcnn.predict.film import film_facts
from maskrcnn.predict.journal import Journal
from maskrcnn.predict.predictor import Predictor
from tests.predict.test_items import write_film
from tests.predict.test_predictor import Fake


def load_always(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the command names, this is the model; its `seen` counts the passes of each run."""

    def load(path: str, **options: Any) -> Predictor:
        predictor = Predictor(fake, "cpu")  # type: ignore[arg-type]
        predictor.model.seen = fake.seen = []  # type: ignore[union-attr]
        return predictor

    monkeypatch.setattr("maskrcnn.predict.predictor.Predictor.load", load)


@contextlib.contextmanager
def interrupted_in(passes: int) -> Iterator[None]:
    """Ctrl-C while the network's pass of this number is worked on."""
    whole = Predictor._instances

    def interrupted(self: Predictor, *given: Any) -> Any:
        if len(self.model.seen) == passes:  # type: ignore[union-attr]
            raise KeyboardInterrupt
        return whole(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "_instances", interrupted)
        yield


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """What `M` loads."""
    fake = Fake()
    load_always(fake, monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for index in range(4):
        Image.new("RGB", (40, 32), (60 * index, 0, 0)).save(tmp_path / "in" / f"{index}.png")
    return fake


def run(*arguments: str) -> int:
    return cli.main(["predict", "M", *arguments])


def names(file: str) -> list[str]:
    return [Path(image["file_name"]).name for image in json.loads(Path(file).read_text())["images"]]


def test_a_restart_skips_what_is_done(model: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("in", "--out", "o") == 0
    assert len(model.seen) == 4
    before = {file: file.stat().st_mtime_ns for file in Path("o").glob("*.jpg")}
    Image.new("RGB", (40, 32)).save("in/9.png")
    Image.new("RGB", (48, 32)).save("in/2.png")  # changed: predicted again
    capsys.readouterr()
    assert run("in", "--out", "o") == 0
    assert len(model.seen) == 2
    assert "3 images were done before; --overwrite does them again" in capsys.readouterr().out
    assert sorted(names("o/predictions.json")) == ["0.png", "1.png", "2.png", "3.png", "9.png"]
    assert Path("o/0.jpg").stat().st_mtime_ns == before[Path("o/0.jpg")]
    assert run("in", "--out", "o", "--overwrite", "--save", "overlay, json,") == 0
    assert sorted(names("o/predictions.json")) == ["0.png", "1.png", "2.png", "3.png", "9.png"]


def test_other_settings_are_another_run(model: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("in", "--out", "o") == 0
    assert run("in", "--out", "o", "--score-threshold", "0.7") == 2
    assert (
        "an earlier run had another model, threshold, tiles, tracking or kinds of files; give --overwrite"
        in capsys.readouterr().err
    )


def test_ctrl_c_keeps_what_is_done(model: Fake) -> None:
    with interrupted_in(3):
        assert run("in", "--out", "o", "--save", "json,csv,overlay") == 130
    assert names("o/predictions.json") == ["0.png", "1.png"]
    assert run("in", "--out", "o", "--save", "json,csv,overlay") == 0
    assert len(model.seen) == 2
    assert names("o/predictions.json") == ["0.png", "1.png", "2.png", "3.png"]
    assert sorted(file.name for file in Path("o").glob("*.jpg")) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]


def test_a_line_cut_off_by_a_crash_is_not_done(model: Fake) -> None:
    assert run("in", "--out", "o", "--save", "json") == 0
    journal = Path("o/results.jsonl")
    journal.write_bytes(journal.read_bytes()[:-20])
    assert run("in", "--out", "o", "--save", "json") == 0
    assert len(model.seen) == 1
    assert names("o/predictions.json") == ["0.png", "1.png", "2.png", "3.png"]


def test_a_broken_file_is_reported_and_left_out(model: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in/1.png").write_bytes(b"no picture")
    assert run("in", "--out", "o", "--save", "json") == 1
    said = capsys.readouterr().err
    assert "in/1.png" in said
    assert "1 image could not be read and is left out, see the warnings" in said
    assert names("o/predictions.json") == ["0.png", "2.png", "3.png"]


def test_a_film_becomes_a_film(model: Fake) -> None:
    write_film(Path("f.mp4"))
    assert run("f.mp4", "--out", "o", "--save", "overlay,splash,json,csv") == 0
    assert sorted(file.name for file in Path("o").iterdir()) == [
        "f.mp4",
        "f_splash.mp4",
        "predictions.csv",
        "predictions.json",
        "results.jsonl",
    ]
    assert film_facts("o/f.mp4").frames == film_facts("o/f_splash.mp4").frames == 5
    assert names("o/predictions.json")[-1] == "f_000004"
    assert run("f.mp4", "--out", "o", "--save", "overlay,splash,json,csv") == 0
    assert model.seen == []
    assert film_facts("o/f.mp4").frames == 5


def test_an_interrupted_film_is_begun_again(model: Fake) -> None:
    write_film(Path("f.mp4"))
    with interrupted_in(3):
        assert run("f.mp4", "--out", "o") == 130
    assert film_facts("o/f.mp4").frames == 2
    assert run("f.mp4", "--out", "o") == 0
    assert film_facts("o/f.mp4").frames == 5
    assert names("o/predictions.json") == [f"f_{number:06}" for number in range(5)]


def test_no_screen_is_one_sentence(model: Fake, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    def no_screen() -> None:
        raise RuntimeError("no display name")

    monkeypatch.setitem(__import__("sys").modules, "tkinter", SimpleNamespace(Tk=no_screen))
    assert run("in", "--out", "o", "--show") == 2
    said = capsys.readouterr().err
    assert said == "error: --show needs a screen (no display name); leave it out, the results are in --out\n"


def test_the_window_shows_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tk:
        keys: dict[str, Any] = {}

        def __getattr__(self, name: str) -> Any:
            return lambda *_: None

        def bind(self, key: str, act: Any) -> None:
            self.keys[key] = act

        def winfo_screenheight(self) -> int:
            return 100

        winfo_screenwidth = winfo_screenheight

    shown = []
    monkeypatch.setattr(Window, "_photo", lambda self, pixels: shown.append(pixels.shape))
    label = SimpleNamespace(pack=lambda: None, configure=lambda image: None)
    window = Window("t", SimpleNamespace(Tk=Tk, Label=lambda root: label))
    assert window.show(np.zeros((300, 100, 3), np.uint8))
    assert shown == [(90, 30, 3)]
    Tk.keys["q"](None)
    assert not window.show(np.zeros((30, 10, 3), np.uint8))


def test_pictures_that_fit_stay_as_they_are() -> None:
    pixels = np.zeros((30, 10, 3), np.uint8)
    assert fitted(pixels, 30, 10) is pixels


def test_no_toolkit() -> None:
    with pytest.raises(ConfigError, match="--show needs a screen"):
        Window("t", SimpleNamespace())


@pytest.mark.skipif(sys.platform == "win32", reason="terminals")
def test_a_terminal_has_a_bar_with_the_time_left(model: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    seen = [b""]

    def read() -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(master, 65536):
                seen.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "100")
        for name in ("NO_COLOR", "CI", "TTY_COMPATIBLE"):
            monkeypatch.delenv(name, raising=False)
        assert run("in", "--out", "o", "--save", "json") == 0
    reader.join(10)
    os.close(master)
    shown = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", b"".join(seen)).decode()
    assert "4/4" in shown
    assert re.search(r"4/4 \d:\d\d:\d\d 0:00:00", shown)  # gone by, left


def test_a_full_disk_is_one_sentence(model: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    class Full:
        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, content: bytes) -> None:
            raise OSError(28, "No space left on device")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    whole, count = Journal.add, iter(range(9))

    def add(self: Any, *given: Any) -> None:
        if next(count) == 2:
            self._file = Full(self._file)
        whole(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "add", add)
        assert run("in", "--out", "o", "--save", "json") == 2
    said = capsys.readouterr().err.strip()
    assert said == "error: o/results.jsonl: cannot write: No space left on device; free some space"
    assert run("in", "--out", "o", "--save", "json") == 0
    assert len(model.seen) == 2
    assert len(names("o/predictions.json")) == 4
