"""What was found, one line of JSON an image, as it comes: what a restart reads, and what the files of a whole run are
made of at its end, without holding the run in memory.

The first line holds the settings of the run. A line that was cut off by a crash counts as not written.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from maskrcnn.errors import ConfigError, DataError
from maskrcnn.instances import Instances, Place
from maskrcnn.predict.coco import to_coco
from maskrcnn.tracks import Counts, LineCount, Tracks, ZoneCount

NAME = "results.jsonl"


class Journal:
    """Lines of one run. `Journal()` keeps them in a temporary file that nobody sees.

    Attributes:
        path: the file, or None.
        resumed: images that an earlier run has left here.
    """

    def __init__(self, path: Path | None = None, settings: Mapping[str, Any] | None = None, *,
                 overwrite: bool = False, films: bool = False, tracked: bool = False) -> None:  # fmt: skip
        """Args:
            path: continued where it is there already.
            settings: what the results depend on: the model, the threshold, what is saved.
            overwrite: begin anew.
            films: films are written: one that an earlier run has not finished is begun again.
            tracked: so is every other sequence of images, as a tracker has to see all of them.

        Raises:
            ConfigError: an earlier run with other settings.
            DataError: it cannot be read or written.
        """
        self.path, self.resumed = path, 0
        self._done: set[str] = set()
        self._whole_films, self._tracked = films or tracked, tracked
        head = json.dumps({"settings": dict(settings or {})}).encode() + b"\n"
        self._file: BinaryIO
        try:
            if path is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115
            elif path.is_file() and not overwrite:
                self._file = path.open("r+b")
                self._continue(head)
                return
            else:
                self._file = path.open("w+b")
            self._file.write(head)
        except OSError as error:
            raise DataError(f"cannot write: {error.strerror or error}; choose another folder", path=path) from error

    def done(self, key: str) -> bool:
        """Whether an earlier run has finished the image with this `Place.key`."""
        return key in self._done

    def add(self, instances: Instances, name: str) -> None:
        """One more image, whose other files are written. Raises `DataError`: the disk is full."""
        place = instances.place or Place()
        content = {
            **asdict(place),
            "name": name,
            "path": instances.path,
            "image_id": instances.image_id,
            "height": instances.size[0],
            "width": instances.size[1],
            "classes": instances.classes,
            "category_ids": instances.category_ids,
            "keypoint_names": instances.keypoint_names,
            "masks": instances.has_masks,
            "tracks": _told(instances.tracks),
            "instances": to_coco(instances),
        }
        try:
            self._file.write(json.dumps(content).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise DataError(f"cannot write: {error.strerror or error}; free some space", path=self.path) from error

    def close_film(self, key: str) -> None:
        """All frames of a film are in its file: a restart need not begin it again. `key`: of one of its frames."""
        self._file.write(json.dumps({"film_done": _file(key)}).encode() + b"\n")
        self._file.flush()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The lines in order; of two with the same name the last one, as its files are the ones that are there. A film
        that has changed since leaves nothing of what it was."""
        last: dict[str, int] = {}
        films: dict[str, str] = {}
        for number, line in enumerate(self._lines()):
            if "instances" in line:
                last[line["name"]] = number
                films[_film(line["name"])] = _file(line["key"])
        for number, line in enumerate(self._lines()):
            if "instances" not in line or last[line["name"]] != number:
                continue
            if line["frame"] is None or films[_film(line["name"])] == _file(line["key"]):
                yield line

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _lines(self) -> Iterator[dict[str, Any]]:
        self._file.seek(0)
        next(iter(self._file.readline, b""), None)
        for text in iter(self._file.readline, b""):
            yield json.loads(text)

    def _continue(self, head: bytes) -> None:
        first = self._file.readline()
        if first != head and not self._file.readline():  # that run has found nothing
            self._file.seek(0)
            self._file.truncate()
            self._file.write(head)
            return
        if first != head:
            self._file.close()
            raise ConfigError(
                f"{self.path}: an earlier run had another model, threshold, tiles, tracking or kinds of files; "
                "give --overwrite, or another --out"
            )
        films, end = set(), self._file.tell()
        keys: list[tuple[str, bool]] = []
        for text in iter(self._file.readline, b""):
            try:
                line = json.loads(text) if text.endswith(b"\n") else None
            except ValueError:
                line = None
            if not isinstance(line, dict):
                break
            end = self._file.tell()
            if "film_done" in line:
                films.add(line["film_done"])
            elif line.get("key"):
                keys.append((line["key"], bool(line["film"])))
        self._file.seek(end)
        self._file.truncate()
        self._done = {
            key
            for key, film in keys
            if not (self._whole_films if film else self._tracked) or (film and _file(key) in films)
        }
        self.resumed = len(self._done)
        if any(key not in self._done for key, _ in keys):
            self._forget()

    def _forget(self) -> None:
        """Write the file anew without the images that come again."""
        assert self.path is not None
        partial = self.path.with_name(f".{self.path.name}.part")
        with partial.open("wb") as file:
            self._file.seek(0)
            for text in self._file:
                line = json.loads(text)
                if not line.get("key") or line["key"] in self._done:
                    file.write(text)
        self._file.close()
        os.replace(partial, self.path)
        self._file = self.path.open("r+b")
        self._file.seek(0, os.SEEK_END)


def _film(name: str) -> str:
    return name.rpartition("_")[0]


def _file(key: str) -> str:
    return key.rpartition("#")[0]


def instances_of(line: Mapping[str, Any]) -> Instances:
    """A line of the journal -> what was found; masks as RLE."""
    found = line["instances"]
    ids = line["category_ids"] or list(range(1, len(line["classes"]) + 1))
    boxes = np.array([result["bbox"] for result in found], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    rle = None
    if line["masks"]:
        rle = [result["segmentation"] | {"counts": result["segmentation"]["counts"].encode()} for result in found]
    points = None
    if found and "keypoints" in found[0]:
        points = np.array([result["keypoints"] for result in found], np.float32).reshape(len(found), -1, 3)
    fields = {name: line[name] for name in Place.__dataclass_fields__}
    fields["corner"] = tuple(fields["corner"])
    fields["to_map"] = fields["to_map"] and tuple(fields["to_map"])
    return Instances(
        boxes=boxes.astype(np.float32),
        scores=np.array([result["score"] for result in found], np.float32),
        labels=np.array([ids.index(result["category_id"]) for result in found], np.int64),
        classes=tuple(line["classes"]),
        size=(line["height"], line["width"]),
        category_ids=tuple(line["category_ids"]),
        keypoints=points,
        keypoint_names=tuple(line["keypoint_names"]),
        path=line["path"],
        image_id=line["image_id"],
        place=Place(**fields),
        tracks=_tracks(line),
        _rle=rle,
    )


def _told(tracks: Tracks | None) -> dict[str, Any] | None:
    """What a line says of the sequence; the numbers stand beside each instance."""
    if tracks is None:
        return None
    return {"sequence": tracks.sequence, "frame": tracks.frame, "counts": asdict(tracks.counts)}


def _tracks(line: Mapping[str, Any]) -> Tracks | None:
    told = line.get("tracks")
    if told is None:
        return None
    counts = told["counts"]
    lines = tuple(LineCount(**{**each, "ends": tuple(each["ends"])}) for each in counts["lines"])
    zones = tuple(ZoneCount(**{**each, "corners": tuple(map(tuple, each["corners"]))}) for each in counts["zones"])
    ids = np.array([result["track_id"] for result in line["instances"]], np.int64)
    return Tracks(ids, (), told["sequence"], told["frame"], Counts(counts["objects"], lines, zones))
