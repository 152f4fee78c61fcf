"""What lies where a weight file should be."""

from __future__ import annotations

import re
from pathlib import Path

from maskrcnn.errors import WeightsError


def check_file(path: str | Path, *, safetensors: bool = False) -> Path:
    """The path, if a weight file can be there.

    Args:
        path: of a file.
        safetensors: whether the file may be of that kind.

    Raises:
        WeightsError: saying what lies there instead.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder; give the weight file in it")
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error
    if not head:
        raise WeightsError(f"{path}: an empty file; fetch it again")
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path}: a Git LFS pointer, not the weights; run `git lfs pull` where it came from")
    if safetensors and _is_safetensors(head):
        return path
    if kind := _other_kind(head):
        raise WeightsError(f"{path}: {kind}")
    if safetensors and path.suffix == ".safetensors":
        raise WeightsError(f"{path}: truncated or no safetensors file; fetch it again")
    return path


def _other_kind(head: bytes) -> str:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] == b"<":
        return "a web page, not weights; download the file itself"
    if re.match(rb"[{\[]\s*[\"{\[]", text):
        return "JSON text, not weights; download the file itself"
    if _is_safetensors(head):
        return "a safetensors file; give a checkpoint of maskrcnn, or what its framework saves as .pth"
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it and give the weight file in it"
    return ""


def _is_safetensors(head: bytes) -> bool:
    return head[8:9] == b"{" and head[6:8] == b"\0\0"


def is_text(path: Path) -> bool:
    """Whether it begins with printed characters alone, as no file of torch.save does."""
    with path.open("rb") as file:
        return re.fullmatch(rb"[\t\r\n -~]+", file.read(512).removeprefix(b"\xef\xbb\xbf")) is not None
