"""`Instances` -> files of every kind: pictures and films, masks, and annotations that other programs open.

Original frame; a file is there whole or not at all. Files of one image are written as it comes; those of the whole run
are made of its `Journal` at the end, and also when it is interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn.data.formats.skipped import Skipped
from maskrcnn.data.write import yolo
from maskrcnn.errors import ConfigError, DataError
from maskrcnn.instances import Instances
from maskrcnn.predict import coco
from maskrcnn.predict.coco import to_coco
from maskrcnn.predict.film import FilmWriter
from maskrcnn.predict.formats import draft, geojson, mot, table, via
from maskrcnn.predict.formats.records import put_image, to_record
from maskrcnn.predict.items import Names
from maskrcnn.predict.journal import Journal
from maskrcnn.predict.reduced import MOST_PIXELS, factor_of, reduced
from maskrcnn.predict.whole import make_folder, write_image, write_whole

__all__ = [
    "FILMS",
    "KINDS",
    "NEED_MASKS",
    "NEED_TRACKS",
    "Saved",
    "index_mask",
    "save_results",
    "to_coco",
    "write_whole",
]

KINDS = ("overlay", "json", "masks", "coco", "labelme", "via", "yolo", "geojson", "csv", "cutouts", "splash",
         "mot", "mots", "counts")  # fmt: skip
"""What `save_results` can write."""
FILMS = ("overlay", "splash")
"""Pictures; those of a film become a film."""
NEED_MASKS = ("masks", "cutouts", "splash", "mots")
"""Kinds that a model without masks cannot give."""
NEED_TRACKS = ("mot", "mots", "counts")
"""Kinds for instances that went through a tracker."""


@dataclass
class Saved:
    """What `save_results` wrote; printed, it is a sentence.

    Attributes:
        folder: where.
        images, instances: how many.
        overlays, masks: one file an image, or a film, in order; empty when not asked for.
        json: `predictions.json`, or None.
        others: files of the other kinds.
        without_masks: images that masks were asked for, of a model that has none.
        reduced: pictures that are smaller than their image, see `predict.reduced`.
    """

    folder: Path
    images: int = 0
    instances: int = 0
    overlays: list[Path] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)
    json: Path | None = None
    others: list[Path] = field(default_factory=list)
    without_masks: int = 0
    reduced: int = 0

    @property
    def paths(self) -> list[Path]:
        """Every file."""
        return [*self.overlays, *self.masks, *self.others, *([self.json] if self.json else [])]

    def __str__(self) -> str:
        told = "; no masks are among them: the model has no mask head" if self.without_masks else ""
        if self.reduced:
            told += (
                f"; {self.reduced} of them show an image of more than {MOST_PIXELS // 10**6} megapixels made smaller"
            )
        return f"{self.instances} instances in {self.images} images; {len(self.paths)} files in {self.folder}{told}"


def index_mask(instances: Instances) -> np.ndarray:
    """(H, W) uint8, or uint16 from 256 instances on: 0 is background, i + 1 instance i; the best on top."""
    numbers = np.zeros(instances.size, np.uint8 if len(instances) < 256 else np.uint16)
    for index in range(len(instances) - 1, -1, -1):
        mask, top, left = instances.window(index)
        numbers[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = index + 1
    return numbers


def save_results(
    results: Iterable[Instances | tuple[Instances, Any]],
    out: str | Path,
    save: Collection[str] = KINDS[:3],
    journal: Journal | None = None,
) -> Saved:
    """Write what was found, image by image as it comes.

    NAME is that of the image file, of a page `NAME_p3`, of a frame `NAME_000012`; the second of one name becomes
    `NAME_2`. Kinds, and what they write:

        overlay   `NAME.jpg`: masks, boxes, keypoints and names on the image, which is made smaller from 67 megapixels
                  on; of a film `NAME.mp4`, with its sound
        splash    `NAME_splash.jpg` or `.mp4`: the objects in colour, the rest grey
        masks     `NAME_masks.png`: `index_mask`
        cutouts   `cutouts/NAME_1.png` ...: each object alone, transparent around it
        json      `predictions.json`: a COCO data set whose annotations carry a `score` and `keypoint_scores`
        coco      `coco_results.json`: COCO's results file
        labelme   `labelme/NAME.json` beside the image, for people who correct it, after which it is never written
                  over; opens as a data set
        via       `via/via.json` beside the images; opens as a data set
        yolo      `yolo/data.yaml`, `images/train`, `labels/train`; opens as a data set
        geojson   `NAME.geojson`: outlines, on the map where the image lies on one
        csv       `predictions.csv`: a row an instance
        mot       `FILM_mot.txt`: boxes of tracked objects, a line each; opens in tools for the MOT benchmark
        mots      `FILM_mots.txt`: the same with masks, for MOTS
        counts    `counts.json`: how many objects there were, and crossed lines, and were in zones

    Args:
        results: instances, or pairs of instances and their image (H, W, 3) uint8 RGB, or None where there is a file.
        out: the folder; made when missing.
        save: any of `KINDS`.
        journal: that of this run, where a restart shall go on; closed at the end.

    Raises:
        ConfigError: an unknown kind; one that needs tracks, which are not there.
        DataError: the folder cannot be written, or is that of the images, which overlays would overwrite.
    """
    unknown = [kind for kind in save if kind not in KINDS]
    if unknown:
        raise ConfigError(f"cannot save {unknown[0]!r}; kinds: {', '.join(KINDS)}", field="save")
    writer = _Writer(make_folder(Path(out)), save, Journal() if journal is None else journal)
    try:
        for result in results:
            writer.add(*(result if isinstance(result, tuple) else (result, None)))
    except KeyboardInterrupt:
        writer.finish(whole=False)
        raise
    except BaseException:
        writer.give_up()
        raise
    return writer.finish(whole=True)


class _Writer:
    """All files of one run."""

    def __init__(self, out: Path, save: Collection[str], journal: Journal) -> None:
        self._out, self._save, self._journal = out, save, journal
        self._names = Names()
        self._films: dict[str, FilmWriter] = {}
        self._film: tuple[str, str] | None = None  # file and key of the film that the last image is of
        self._classes: tuple[str, ...] = ()
        self.saved = Saved(out)

    def add(self, instances: Instances, image: Any) -> None:
        saved, place = self.saved, instances.place
        self._check(instances)
        saved.images, saved.instances = saved.images + 1, saved.instances + len(instances)
        saved.without_masks += not instances.has_masks and any(kind in self._save for kind in NEED_MASKS)
        name = place.name if place and place.name else self._names.free(_stem(instances, saved.images))
        if self._film and (place is None or place.file != self._film[0]):
            self._close_films(whole=True)
        if place is not None and place.film:
            self._film = (place.file or "", place.key)
        self._classes = instances.classes
        for kind in self._save:
            if kind in _WRITE and (instances.has_masks or kind not in NEED_MASKS):
                _WRITE[kind](self, name, instances, image)
        self._journal.add(instances, name)

    def finish(self, *, whole: bool) -> Saved:
        """The films, and the files of the whole run."""
        self._close_films(whole=whole)
        saved, lines, out = self.saved, self._journal, self._out
        if "json" in self._save:
            saved.json = coco.write_data_set(lines, out / "predictions.json")
        if "coco" in self._save:
            saved.others.append(coco.write_results(lines, out / "coco_results.json"))
        if "csv" in self._save:
            saved.others.append(table.write(lines, out / "predictions.csv"))
        if "mot" in self._save:
            saved.others.extend(mot.write_boxes(lines, out))
        if "mots" in self._save:
            saved.others.extend(mot.write_masks(lines, out))
        if "counts" in self._save:
            saved.others.append(mot.write_counts(lines, out / "counts.json"))
        if "via" in self._save:
            folder = make_folder(out / "via")
            images = {file.stem: file.name for file in folder.iterdir() if file.name != via.FILE}
            saved.others.append(via.write(lines, folder, images))
        if "yolo" in self._save and self._classes:
            yolo.write_yaml(list(self._classes), ["train"], out / "yolo" / "data.yaml")
            saved.others.append(out / "yolo" / "data.yaml")
        self._journal.close()
        return saved

    def give_up(self) -> None:
        """After an error: no half films; the journal keeps what is done."""
        for film in self._films.values():
            film.discard()
        self._journal.close()

    def overlay(self, name: str, instances: Instances, image: Any) -> None:
        instances, image = self._drawable(instances, image)
        self._picture("", name, instances, instances.draw(image), self.saved.overlays)

    def splash(self, name: str, instances: Instances, image: Any) -> None:
        instances, image = self._drawable(instances, image)
        self._picture("_splash", name, instances, instances.splash(image), self.saved.others)

    def masks(self, name: str, instances: Instances, image: Any) -> None:
        self.saved.masks.append(write_image(self._out / f"{name}_masks.png", index_mask(instances)))

    def cutouts(self, name: str, instances: Instances, image: Any) -> None:
        folder = make_folder(self._out / "cutouts")
        for number, pixels in enumerate(instances.cutouts(image), 1):
            self.saved.others.append(write_image(folder / f"{name}_{number}.png", pixels))

    def geojson(self, name: str, instances: Instances, image: Any) -> None:
        self.saved.others.append(geojson.write(instances, self._out / f"{name}.geojson"))

    def labelme(self, name: str, instances: Instances, image: Any) -> None:
        path = put_image(make_folder(self._out / "labelme"), name, instances, image)
        if file := draft.write(instances, path, path.with_name(f"{name}.json")):
            self.saved.others.append(file)

    def via(self, name: str, instances: Instances, image: Any) -> None:
        self.saved.others.append(put_image(make_folder(self._out / "via"), name, instances, image))

    def yolo(self, name: str, instances: Instances, image: Any) -> None:
        folders = [make_folder(self._out / "yolo" / kind / "train") for kind in ("images", "labels")]
        record = to_record(instances, put_image(folders[0], name, instances, image), outlines=False)
        lines = [yolo.line(record, index, Skipped()) for index in range(len(record))]
        text = "".join(f"{line}\n" for line in lines if line)
        self.saved.others.append(write_whole(folders[1] / f"{name}.txt", lambda stream: stream.write(text.encode())))

    def _drawable(self, instances: Instances, image: Any) -> tuple[Instances, Any]:
        """The same, or both made smaller where the image is too large to draw on."""
        factor = factor_of(instances.size)
        if factor == 1:
            return instances, image
        self.saved.reduced += 1
        return reduced(instances, image, factor)

    def _picture(self, kind: str, name: str, instances: Instances, pixels: np.ndarray, paths: list[Path]) -> None:
        place = instances.place
        if place is None or not place.film:
            paths.append(write_image(self._out / f"{name}{kind}.jpg", pixels))
            return
        if kind not in self._films:
            sound = place.file if place.key else None  # a camera has none to copy
            self._films[kind] = FilmWriter(
                self._out / f"{name.rpartition('_')[0]}{kind}.mp4", place.rate or 25.0, sound
            )
            paths.append(self._films[kind].path)
        self._films[kind].add(pixels, place.seconds or 0.0)

    def _close_films(self, *, whole: bool) -> None:
        for film in self._films.values():
            film.close()
        if self._film and self._film[1] and whole:
            self._journal.close_film(self._film[1])
        self._films, self._film = {}, None

    def _check(self, instances: Instances) -> None:
        if instances.path and Path(instances.path).resolve().parent == self._out.resolve():
            raise DataError("the results would overwrite the images; choose another folder", path=self._out)
        wanted = next((kind for kind in self._save if kind in NEED_TRACKS), None)
        if wanted and instances.tracks is None:
            raise ConfigError(
                f"{wanted} is of objects with numbers; give --track, or use Predictor.track", field="save"
            )


_WRITE: dict[str, Callable[[_Writer, str, Instances, Any], None]] = {
    "overlay": _Writer.overlay,
    "masks": _Writer.masks,
    "labelme": _Writer.labelme,
    "via": _Writer.via,
    "yolo": _Writer.yolo,
    "geojson": _Writer.geojson,
    "cutouts": _Writer.cutouts,
    "splash": _Writer.splash,
}


def _stem(instances: Instances, number: int) -> str:
    return Path(instances.path).stem if instances.path else f"image_{number}"
