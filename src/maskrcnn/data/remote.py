"""Shards behind a URL -> files in a cache folder, which the readers open like any other."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.error import URLError
from urllib.parse import unquote, urlsplit
from urllib.request import (
    FileHandler,
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from maskrcnn.errors import DataError

MOST_BYTES = 1 << 40
MOST_URLS = 10_000
SCHEMES = ("http", "https", "file")
_PIECE = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte
_BRACES = re.compile(r"\{([^{}]*)\}")


def is_url(text: str) -> bool:
    """Whether `local_copy` takes it."""
    return text.partition("://")[0].lower() in SCHEMES and "://" in text


def local_copy(url: str, cache: Path, *, most_bytes: int = MOST_BYTES, refresh: bool = False) -> Path:
    """Download what is not in the cache yet.

    Args:
        url: http, https or file; `{000..009}` and `{a,b}` stand for several.
        cache: a folder, made where it is missing. What was downloaded once is not asked for again.
        most_bytes: of all files together.
        refresh: download anew what is there.

    Returns:
        the file; for a pattern the folder that holds all of its files, and nothing else.

    Raises:
        DataError: another kind of URL, a server that refuses or breaks off, more bytes than allowed, a full disk.
    """
    urls = expand(url)
    folder = cache / hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    names = [name_of(one) for one in urls]
    if len(set(names)) < len(names):
        raise DataError(f"{url}: two of its files have the same name; give the pattern in the last part of the URL")
    left = most_bytes
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one, name in zip(urls, names, strict=True):
            file = folder / name
            if refresh or not file.is_file():
                _download(one, file, left, most_bytes)
            left -= file.stat().st_size
    except OSError as error:
        raise DataError(f"cannot be written ({error}); free the disk, or choose another cache", path=folder) from error
    return folder if _BRACES.search(url) else folder / names[0]


def expand(pattern: str) -> list[str]:
    """`x-{08..10}.tar` -> x-08.tar, x-09.tar, x-10.tar; `{a,b}` -> both. Raises `DataError` for more than 10,000."""
    found = [pattern]
    while (match := _BRACES.search(found[0])) is not None:
        words = _alternatives(match[1], pattern)
        if len(found) * len(words) > MOST_URLS:
            raise DataError(f"{pattern} stands for more than {MOST_URLS} files; cut it into several")
        found = [text.replace(match[0], word, 1) for text in found for word in words]
    return found


def _alternatives(inside: str, pattern: str) -> list[str]:
    if match := re.fullmatch(r"(\d{1,18})\.\.(\d{1,18})", inside):
        first, last = int(match[1]), int(match[2])
        if not 0 <= last - first < MOST_URLS:
            raise DataError(f"{pattern}: {{{inside}}} must count upwards, to at most {MOST_URLS} files")
        width = len(match[1]) if match[1].startswith("0") else 0
        return [f"{number:0{width}}" for number in range(first, last + 1)]
    if "," in inside:
        return inside.split(",")
    raise DataError(f"{pattern}: {{{inside}}} is not understood; write {{000..009}} or {{a,b}}")


def name_of(url: str) -> str:
    """The last part of the path: a name, never a way out of the cache. Raises `DataError`: there is none."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise DataError(f"{url!r:.200} is not a URL ({error})") from None
    if parts.scheme.lower() not in SCHEMES:
        raise DataError(f"{url!r:.200}: cannot open {parts.scheme or 'this'}; give http://, https:// or file://")
    name = PurePosixPath(unquote(parts.path)).name.replace("\0", "")
    if name in ("", ".", ".."):
        raise DataError(f"{url!r:.200} names no file; give the address of a file, such as https://host/a.jpg")
    return name


def _opener(url: str) -> OpenerDirector:
    """Of one kind: a web server cannot send us to a local file."""
    opener = OpenerDirector()
    local = url.lower().startswith("file:")
    handlers: list[Any] = [FileHandler()] if local else [ProxyHandler(), HTTPHandler(), HTTPSHandler()]
    for handler in (*handlers, HTTPRedirectHandler(), HTTPDefaultErrorHandler(), HTTPErrorProcessor()):
        opener.add_handler(handler)
    return opener


def _download(url: str, file: Path, left: int, most_bytes: int) -> None:
    """Into a file of its own until it is whole: several processes may do the same at once."""
    try:
        reply = _opener(url).open(Request(url), timeout=_TIMEOUT)
        if reply is None:
            raise DataError(f"{url} leads to something that is neither http:// nor https://")
        with reply, tempfile.NamedTemporaryFile(dir=file.parent, prefix=".", suffix=".part", delete=False) as part:
            unfinished = Path(part.name)
            try:
                _stream(reply, part, url, left, most_bytes)
                part.close()
                os.replace(unfinished, file)
            finally:
                unfinished.unlink(missing_ok=True)
    except (URLError, HTTPException, ValueError) as error:
        raise DataError(f"{url} cannot be downloaded ({error}); check the address and the network") from error


def _stream(reply: Any, part: IO[bytes], url: str, left: int, most_bytes: int) -> None:
    length = reply.headers.get("Content-Length") or ""
    stated = int(length) if length.isdigit() else None
    total = 0
    while piece := _read(reply, url):
        total += len(piece)
        if total > left or (stated or 0) > left:
            raise DataError(f"{url} goes beyond the limit of {most_bytes} bytes; raise it, or take fewer shards")
        part.write(piece)
    if stated is not None and total < stated:
        raise DataError(f"{url} broke off after {total} of {stated} bytes; try again")


def _read(reply: Any, url: str) -> bytes:
    try:
        return reply.read(_PIECE)
    except TimeoutError as error:
        raise DataError(f"{url} sent nothing for {_TIMEOUT:.0f} seconds; try again") from error
    except OSError as error:
        raise DataError(f"{url} broke off ({error}); try again") from error
