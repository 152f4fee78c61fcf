"""Weight files in memory maps, and the sentences about those that are something else."""

from __future__ import annotations

from mmap import ACCESS_COPY, mmap
from pathlib import Path

from maskrcnn.data.formats.example import Buffer
from maskrcnn.errors import WeightsError

_LFS = b"version https://git-lfs.github.com/spec/"
_HTML = (b"<!doctype html", b"<html")
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_TAR, _TAR_AT = b"ustar", 257

STATE = "checkpoint"
"""The file that names the newest checkpoint of its folder."""


def mapped(path: Path) -> Buffer:
    """The bytes of a file; arrays on them can be written to, and the file stays as it is. Raises `WeightsError`."""
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:  # cannot be mapped
                return b""
            return mmap(file.fileno(), 0, access=ACCESS_COPY)
    except FileNotFoundError:
        raise WeightsError(
            f"{path}: no such file; give the prefix of a checkpoint, a .pb file or their folder"
        ) from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error


def check_no_stranger(path: Path, data: Buffer | memoryview) -> None:
    """Raises `WeightsError` for a web page, a Git LFS pointer, an archive, or nothing, in the place of weights."""
    head = bytes(data[:300])
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not head:
        message = "is empty; copy or download it again"
    elif start.startswith(_HTML):
        message = "is a web page, not weights; download the file itself (the link called Raw or Download)"
    elif head.startswith(_LFS):
        message = "is a Git LFS pointer, not weights; fetch the file with git lfs pull"
    elif head.startswith((_GZIP, _ZIP)) or head.startswith(_TAR, _TAR_AT):
        message = "is a packed archive; unpack it (tar -xf) and give the folder"
    else:
        return
    raise WeightsError(f"{path}: {message}")


def damaged(path: Path, what: object) -> WeightsError:
    """To raise."""
    return WeightsError(f"{path}: damaged ({what}); copy it again, or take another checkpoint")
