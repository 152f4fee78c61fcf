"""Films and cameras through PyAV (the extra `video`): frames in, H.264 with the sound of the source out. RGB uint8."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.data.sample import MAX_PIXELS
from maskrcnn.errors import ConfigError, DataError

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".ts", ".m2ts", ".ogv", ".3gp")
"""Files that count as films."""
STREAMS = ("rtsp", "rtsps", "rtmp", "rtp", "udp", "srt")
"""Schemes of live addresses."""
_CODECS = ("libx264", "libopenh264", "mpeg4")
_TICKS = 90_000  # a second, of the films we write
_TIMEOUT = 10_000_000  # microseconds without a packet of a live address


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a film.

    Attributes:
        pixels: makes (H, W, 3) uint8 RGB; may run in another thread.
        seconds: since the start.
    """

    pixels: Callable[[], np.ndarray]
    seconds: float


@dataclass(frozen=True)
class FilmFacts:
    """What the header of a film says: frames a second, and how many there are, or None where it does not say."""

    rate: float
    frames: int | None


Capture = Callable[[str], Iterator[Frame]]
"""Opens a camera ("0", "1", ...) or a live address, and gives its frames as they come. A test passes its own."""


def is_live(source: str) -> bool:
    """A camera's number or a live address."""
    return source.isdecimal() or source.partition("://")[0].lower() in STREAMS


def film_facts(path: str | Path) -> FilmFacts:
    """Reads the header alone. Raises `DataError` for a file that is no film, `ConfigError` without PyAV."""
    with _opened(str(path), path) as container:
        video = container.streams.video[0]
        rate = float(video.average_rate or video.guessed_rate or 25)
        frames = video.frames or 0
        if not frames and container.duration:
            frames = round(container.duration / 1e6 * rate)
        return FilmFacts(rate, frames or None)


def read_film(path: str | Path) -> Iterator[Frame]:
    """The frames of a file in order, one at a time; FFmpeg decodes a few ahead in its own threads.

    Raises:
        DataError: no film; or a damaged one, after the frames before the damage.
    """
    with _opened(str(path), path) as container:
        yield from _frames(container, path)


def open_capture(source: str) -> Iterator[Frame]:
    """A `Capture` through FFmpeg. Raises `DataError` where there is no such camera or address."""
    if source.isdecimal():
        number = int(source)
        name, kind = {
            "Linux": (f"/dev/video{number}", "v4l2"),
            "Darwin": (str(number), "avfoundation"),
        }.get(platform.system(), (f"video={number}", "dshow"))
        options: dict[str, str] = {}
    else:
        name, kind = source, None
        options = {"rtsp_transport": "tcp", "timeout": str(_TIMEOUT)} if source.lower().startswith("rtsp") else {}
    with _opened(name, source, format=kind, options=options) as container:
        yield from _frames(container, source)


@dataclass
class _News:
    """What the thread of `latest` has for the reader."""

    number: int = -1
    frame: Frame | None = None
    error: Exception | None = None
    over: bool = False


def latest(frames: Iterator[Frame]) -> Generator[tuple[int, Frame], None, None]:
    """(number, frame) of a live source: always the newest; those that came while the network was busy are left out, so
    that the picture does not fall behind. Memory of two frames."""
    news, changed = _News(), threading.Condition()

    def pull() -> None:
        try:
            for number, frame in enumerate(frames):
                with changed:
                    if news.over:
                        break
                    news.number, news.frame = number, frame
                    changed.notify()
        except Exception as error:  # handed to the reader
            news.error = error
        finally:
            with changed:
                news.over = True
                changed.notify()

    threading.Thread(target=pull, name="capture", daemon=True).start()
    shown = -1
    try:
        while True:
            with changed:
                changed.wait_for(lambda last=shown: news.over or news.number > last)  # type: ignore[misc]
                number, frame = news.number, news.frame
            if number == shown or frame is None:
                break
            shown = number
            yield number, frame
        if news.error:
            raise news.error
    finally:
        with changed:
            news.over = True


class FilmWriter:
    """A film that appears at its place when it is closed.

    Args:
        path: .mp4, to be written.
        rate: frames a second; the times of the frames are kept as they are.
        sound: a film whose sound is copied, or None.
    """

    def __init__(self, path: Path, rate: float, sound: str | None = None) -> None:
        self.path, self._part = path, path.with_name(f".{path.stem}.part{path.suffix}")
        self._av = load_av()
        self._rate, self._sound_file = rate, sound
        self._output: Any = None
        self._source: Any = None
        self._last = -1

    def add(self, pixels: np.ndarray, seconds: float) -> None:
        """One frame (H, W, 3) uint8 RGB, all of one size. Raises `DataError` when it cannot be written."""
        try:
            if self._output is None:
                self._start(pixels)
            height, width = self._video.height, self._video.width
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), format="rgb24")
            frame.pts = self._last = max(round(seconds * _TICKS), self._last + 1)
            frame.time_base = Fraction(1, _TICKS)
            self._copy_sound(seconds)
            self._output.mux(self._video.encode(frame))
        except (self._av.FFmpegError, OSError, ValueError) as error:
            self.discard()
            raise DataError(f"the film cannot be written ({error}); free some space", path=self.path) from error

    def close(self) -> Path:
        """Finish the file and put it in its place."""
        self._copy_sound(None)
        self._output.mux(self._video.encode(None))
        self._end()
        os.replace(self._part, self.path)
        return self.path

    def discard(self) -> None:
        """Leave nothing behind."""
        with contextlib.suppress(Exception):
            self._end()
        self._part.unlink(missing_ok=True)

    def _start(self, pixels: np.ndarray) -> None:
        codec = next(name for name in _CODECS if name in self._av.codecs_available)
        self._output = self._av.open(str(self._part), "w", format="mp4")
        self._video = self._output.add_stream(codec, rate=Fraction(self._rate).limit_denominator(1001))
        height, width = (max(2, side - side % 2) for side in pixels.shape[:2])  # 4:2:0 has no odd sides
        self._video.height, self._video.width, self._video.pix_fmt = height, width, "yuv420p"
        self._video.codec_context.time_base = Fraction(1, _TICKS)
        if codec == "libx264":
            self._video.options = {"crf": "20", "preset": "veryfast"}
        self._packets: Iterator[Any] = iter(())
        self._waiting = None
        if self._sound_file:
            self._open_sound(self._sound_file)

    def _open_sound(self, file: str) -> None:
        self._source = self._av.open(file)
        if self._source.streams.audio:
            audio = self._source.streams.audio[0]
            self._audio = self._output.add_stream_from_template(audio)
            self._packets = (packet for packet in self._source.demux(audio) if packet.dts is not None)

    def _copy_sound(self, until: float | None) -> None:
        """The packets up to a time in seconds; None: up to the end of the pictures."""
        limit = self._last / _TICKS + 1 / self._rate if until is None else until
        while True:
            packet = self._waiting or next(self._packets, None)
            self._waiting = packet
            if packet is None or float(packet.dts * packet.time_base) > limit:
                return
            packet.stream, self._waiting = self._audio, None
            self._output.mux(packet)

    def _end(self) -> None:
        for container in (self._output, self._source):
            if container is not None:
                container.close()
        self._output = self._source = None


def load_av() -> Any:
    """PyAV. Raises `ConfigError` with the line that installs it."""
    try:
        import av
    except ImportError as error:
        raise ConfigError(f"films and cameras need PyAV ({error}); pip install 'maskrcnn[video]'") from error
    return av


@contextlib.contextmanager
def _opened(name: str, source: str | Path, **options: Any) -> Iterator[Any]:
    av = load_av()
    try:
        container = av.open(name, **options)
    except (av.FFmpegError, OSError, ValueError) as error:
        remedy = "check its number or address" if is_live(str(source)) else "check that it is a film"
        raise DataError(f"cannot be opened ({error}); {remedy}", path=source) from error
    with container:
        if not container.streams.video:
            raise DataError("has no pictures, only sound; give a film", path=source)
        video = container.streams.video[0]
        if video.height * video.width > MAX_PIXELS:
            raise DataError(f"has frames of {video.width} x {video.height} pixels, more than 500 megapixels; cut it",
                            path=source)  # fmt: skip
        yield container


def _frames(container: Any, source: str | Path) -> Iterator[Frame]:
    av, video = load_av(), container.streams.video[0]
    video.thread_type = "AUTO"
    rate, start = float(video.average_rate or 25), None
    frames = container.decode(video)
    number = 0
    while True:
        try:
            frame = next(frames, None)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise DataError(f"is damaged after frame {number} ({error}); write it again", path=source) from error
        if frame is None:
            return
        seconds = number / rate if frame.time is None else frame.time
        start = seconds if start is None else start
        yield Frame(partial(_pixels, frame), max(0.0, seconds - start))
        number += 1


def _pixels(frame: Any) -> np.ndarray:
    """As a person sees it: phones write films lying on their side, and say so."""
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.rot90(frame.to_ndarray(format="rgb24"), turns)
