"""Images and their masks by name: `images/a.jpg` with `masks/a.png`, or `a.jpg` with `a_mask.png` beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from maskrcnn.data.formats.layout import SPLITS, split_of_name

MASK_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm"))
IMAGE_SUFFIXES = MASK_SUFFIXES | {".npy"}
MASK_FOLDERS = ("pedmasks", "instances", "instance", "masks", "mask", "labels", "label")  # the first that fits
IMAGE_FOLDERS = ("pngimages", "images", "image", "imgs", "img", "jpegimages", "photos", "pictures")
MASK_WORD = re.compile(
    r"^(?:mask[_\- ]+)?(.*?)(?:[_\- ]+(?:mask|masks|label|labels|instance|instances|segmentation))?$"
)
IMAGE_WORD = re.compile(r"^(?:(?:image|img)[_\- ]+)?(.*?)(?:[_\- ]+(?:image|img))?$")


@dataclass(frozen=True, slots=True)
class Pair:
    """An image, its mask image, and "train", "val", "test" or ""."""

    image: Path
    mask: Path
    split: str


@dataclass(slots=True)
class Pairs:
    """What lies in a folder.

    Attributes:
        lone_images, lone_masks: files whose partner is missing.
    """

    pairs: list[Pair] = field(default_factory=list)
    lone_images: list[Path] = field(default_factory=list)
    lone_masks: list[Path] = field(default_factory=list)


def pairs_of(path: Path) -> Pairs:
    """All pairs of a folder, its train/, val/ and test/ folders, and of its only folder. Empty for a file."""
    found = Pairs()
    for base in _bases(path):
        folders = list(_folder_pairs(base))
        for images, masks, split in folders:
            files = image_files(images, 1 if images == base else 2)
            _match(files, image_files(masks, 2, MASK_SUFFIXES), images, masks, split or _split_of_folder(base), found)
        if not folders:
            _match_beside(base, found)
    found.pairs.sort(key=lambda pair: pair.image)
    return found


def _bases(path: Path) -> list[Path]:
    below = subfolders(path)
    return [path, *(f for f in below if f.name.lower() in SPLITS or len(below) == 1)]


def _split_of_folder(base: Path) -> str:
    return SPLITS.get(base.name.lower(), "")


def _folder_pairs(base: Path) -> Iterator[tuple[Path, Path, str]]:
    """Image folder, mask folder, split: `images` and `masks`, `train_images` and `train_masks`, `train` and
    `train_masks`, or `masks` in the folder of the images."""
    folders = {folder.name.lower(): folder for folder in subfolders(base)}
    taken: set[Path] = set()
    for word in MASK_FOLDERS:
        for name, masks in folders.items():
            if name != word and not name.endswith(("_" + word, "-" + word)):
                continue
            prefix = name[: -len(word)]
            wanted = [*(prefix + image for image in IMAGE_FOLDERS), prefix[:-1]]
            images = next(
                (folders[w] for w in wanted if w in folders), base if name == word and image_files(base, 1) else None
            )
            if images is not None and images not in taken and image_files(masks, 2, MASK_SUFFIXES):
                taken.add(images)
                yield images, masks, split_of_name(prefix) or ""


def _match(images: list[Path], masks: list[Path], image_root: Path, mask_root: Path, split: str, found: Pairs) -> None:
    """Same folder below the roots and same stem; or else the same stem but for words like `mask`."""
    masks_left = {(mask.relative_to(mask_root).parent, mask.stem): mask for mask in masks}
    bare = {(folder, _bare(MASK_WORD, stem)): (folder, stem) for folder, stem in masks_left}
    for image in images:
        folder = image.relative_to(image_root).parent
        keys = (folder, image.stem), bare.get((folder, _bare(IMAGE_WORD, image.stem)))
        mask = next((masks_left.pop(key) for key in keys if key in masks_left), None)
        of_folder = split_of_name(folder.parts[0]) if folder.parts else None
        if mask is None:
            found.lone_images.append(image)
        else:
            found.pairs.append(Pair(image, mask, split or of_folder or ""))
    found.lone_masks += masks_left.values()


def _match_beside(base: Path, found: Pairs) -> None:
    """`a.jpg` and `a_mask.png` in one folder; nothing where no file is called a mask of another."""
    files = image_files(base, 1)
    names = {file.stem.lower() for file in files} | {_bare(IMAGE_WORD, file.stem) for file in files}
    masks = [f for f in files if (bare := _bare(MASK_WORD, f.stem)) != f.stem.lower() and bare in names]
    if masks:
        _match(sorted(set(files) - set(masks)), masks, base, base, _split_of_folder(base), found)


def _bare(word: re.Pattern[str], stem: str) -> str:
    match = word.match(stem.lower())
    return (match[1] if match else "") or stem.lower()


def subfolders(path: Path) -> list[Path]:
    """Folders in a folder, sorted, hidden ones left out; [] for a file, or where it cannot be listed."""
    try:
        return sorted(Path(entry.path) for entry in os.scandir(path) if entry.name[0] != "." and entry.is_dir())
    except OSError:
        return []


def image_files(path: Path, depth: int = 1, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Image files of a folder, down to `depth` levels, sorted; without macOS's `._` files."""
    try:
        entries = [entry for entry in os.scandir(path) if entry.name[0] != "."]
        files = [Path(e.path) for e in entries if os.path.splitext(e.name)[1].lower() in suffixes and e.is_file()]
        below = [Path(entry.path) for entry in entries if depth > 1 and entry.is_dir()]
    except OSError:
        return []
    return sorted(files + [file for folder in below for file in image_files(folder, depth - 1, suffixes)])
