"""`maskrcnn predict --track` as a user meets it: numbers in every file, what is counted, a film with its sound."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import hotcoco.mask as coco_mask
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from maskrcnn import cli
from maskrcnn.cli.tracked import METHODS, OVERLAPS, SAVES
from maskrcnn.dataset import Dataset
from maskrcnn.predict.film import FilmWriter, film_facts, read_film
from maskrcnn.predict.journal import Journal, instances_of
from maskrcnn.predict.predictor import Predictor
from maskrcnn.predict.results import NEED_TRACKS
from maskrcnn.predict.track import Method, Overlap, Tracker, Tracking
from maskrcnn.structures import Detections
from maskrcnn.view.draw import draw_instances
from tests.predict.test_predictor import Fake
from tests.test_cli_predicted import interrupted_in, load_always

trackers = pytest.importorskip("trackers", reason="pip install 'maskrcnn[video]'")
SIZE = (64, 96)
STEPS = 12


class Finder(Fake):
    """Finds the red square, a dog, and the blue one, a cat. Film and input frame are one."""

    def __init__(self) -> None:
        super().__init__(min_size=64, max_size=96)

    def forward(self, images: Tensor, sizes: Tensor) -> Detections:
        self.seen.append(tuple(images.shape))
        boxes, valid = torch.zeros(len(images), 2, 4), torch.zeros(len(images), 2, dtype=torch.bool)
        for index, image in enumerate(images.float()):
            for row, (one, other) in enumerate([(0, 2), (2, 0)]):
                rows, columns = torch.nonzero((image[one] - image[other]) > 90, as_tuple=True)
                if len(rows):
                    ends = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                    boxes[index, row], valid[index, row] = torch.stack(ends).float(), True
        count = len(images)
        return Detections(
            boxes=boxes, scores=torch.tensor([0.9, 0.8]).repeat(count, 1), labels=torch.tensor([1, 0]).repeat(count, 1),
            valid=valid, masks=torch.ones(count, 2, 28, 28),
        )  # fmt: skip


def pixels(step: int) -> np.ndarray:
    """The red one goes to the right, the blue one stands; (64, 96, 3) uint8."""
    image = np.full((*SIZE, 3), 40, np.uint8)
    image[8:20, 6 * step : 6 * step + 12] = 230, 20, 20
    image[40:52, 60:72] = 20, 20, 230
    return image


def write_film(path: Path, steps: Sequence[int] = range(STEPS)) -> Path:
    writer = FilmWriter(path, 10.0)
    for number, step in enumerate(steps):
        writer.add(pixels(step), number / 10)
    return writer.close()


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Finder:
    fake = Finder()
    load_always(fake, monkeypatch)
    monkeypatch.chdir(tmp_path)
    return fake


def run(*arguments: str) -> int:
    return cli.main(["predict", "M", *arguments])


def test_a_film_with_all_that_is_written(model: Finder, capsys: pytest.CaptureFixture[str]) -> None:
    write_film(Path("street.mp4"))
    asked = ["--track", "--line", "door=48,0,48,64", "--zone", "yard=50,30,90,30,90,64,50,64"]
    assert run("street.mp4", "--out", "o", "--save", "overlay,splash,json,csv,mot,mots,counts", *asked) == 0
    said = capsys.readouterr().out
    assert (
        "street: 1 cat, 1 dog in 12 frames; door: 1 dog to the left, no objects to the right; "
        "yard: 1 cat in all, 1 at most\n" in said
    )
    assert film_facts("o/street.mp4").frames == film_facts("o/street_splash.mp4").frames == STEPS

    boxes = trackers.load_mot_file("o/street_mot.txt")
    assert sorted(boxes) == list(range(2, STEPS + 1))  # a number comes with the second frame
    assert all(sorted(boxes[frame].ids.tolist()) == [1, 2] for frame in boxes)
    red = [boxes[frame].boxes[boxes[frame].ids.tolist().index(1)].tolist() for frame in sorted(boxes)]
    for frame, (left, top, right, bottom) in zip(sorted(boxes), red, strict=True):
        step = frame - 1
        ends = (right, bottom) if right > left + 12.5 else (left + right, top + bottom)
        assert (left, top, *ends) == pytest.approx((6 * step, 8, 6 * step + 12, 20), abs=1.5)

    rows = [line.split() for line in Path("o/street_mots.txt").read_text().splitlines()]
    assert len(rows) == 2 * (STEPS - 1)
    frame, number, category, height, width, counts = rows[0]
    assert (frame, number, category, height, width) == ("2", "1", "3", "64", "96")
    assert coco_mask.area({"size": [64, 96], "counts": counts.encode()}) == pytest.approx(144, abs=30)

    counted = json.loads(Path("o/counts.json").read_text())
    assert counted["street"]["frames"] == STEPS
    assert counted["street"]["objects"] == {"cat": 1, "dog": 1}
    assert counted["street"]["lines"] == [
        {"name": "door", "ends": [48, 0, 48, 64], "to_left": {"dog": 1}, "to_right": {}}
    ]
    assert counted["street"]["zones"][0]["entered"] == {"cat": 1}

    content = json.loads(Path("o/predictions.json").read_text())
    assert {annotation["track_id"] for annotation in content["annotations"]} == {1, 2}
    table = list(csv.DictReader(Path("o/predictions.csv").read_text().splitlines()))
    assert {(row["track"], row["class"]) for row in table} == {("1", "dog"), ("2", "cat")}
    lines = [json.loads(line) for line in Path("o/results.jsonl").read_text().splitlines()]
    assert [found["track_id"] for found in lines[5]["instances"]] == [1, 2]
    assert lines[5]["seconds"] == pytest.approx(0.4, abs=0.01)


def test_the_journal_gives_back_what_was_tracked(model: Finder) -> None:
    write_film(Path("f.mp4"))
    tracking = Tracking(lines={"door": (48, 0, 48, 64)}, zones={"yard": ((50, 30), (90, 30), (90, 64))})
    found = list(Predictor(model, "cpu").track("f.mp4", tracking))  # type: ignore[arg-type]
    journal = Journal()
    for instances in found:
        journal.add(instances, instances.place.name if instances.place else "")
    for line, instances in zip(journal, found, strict=True):
        back = instances_of(line).tracks
        assert back is not None
        assert instances.tracks is not None
        assert back.ids.tolist() == instances.tracks.ids.tolist()
        assert (back.sequence, back.frame, back.counts) == ("f", instances.tracks.frame, instances.tracks.counts)


def test_a_folder_of_frames_is_tracked_and_done_anew_as_a_whole(model: Finder) -> None:
    Path("frames").mkdir()
    for step in range(6):
        Image.fromarray(pixels(step)).save(f"frames/{step:03}.png")
    assert run("frames", "--out", "o", "--track", "sort", "--save", "mot,json") == 0
    first = Path("o/frames_mot.txt").read_text()
    assert {line.split(",")[1] for line in first.splitlines()} == {"1", "2"}
    Image.fromarray(pixels(6)).save("frames/006.png")
    assert run("frames", "--out", "o", "--track", "sort", "--save", "mot,json") == 0
    assert len(model.seen) == 7
    assert Path("o/frames_mot.txt").read_text().startswith(first)
    assert {line.split(",")[1] for line in Path("o/frames_mot.txt").read_text().splitlines()} == {"1", "2"}


def test_a_film_that_is_done_is_not_done_again(model: Finder) -> None:
    write_film(Path("f.mp4"))
    for passes in (STEPS, 0):
        assert run("f.mp4", "--out", "o", "--track", "--save", "mot,counts") == 0
        assert len(model.seen) == passes
    assert json.loads(Path("o/counts.json").read_text())["f"]["objects"] == {"cat": 1, "dog": 1}


def test_a_film_that_was_replaced_leaves_nothing(model: Finder) -> None:
    write_film(Path("f.mp4"))
    assert run("f.mp4", "--out", "o", "--track", "--save", "mot,counts,json") == 0
    write_film(Path("f.mp4"), range(5))
    assert run("f.mp4", "--out", "o", "--track", "--save", "mot,counts,json") == 0
    assert json.loads(Path("o/counts.json").read_text())["f"]["frames"] == 5
    assert max(trackers.load_mot_file("o/f_mot.txt")) == 5
    assert len(json.loads(Path("o/predictions.json").read_text())["images"]) == 5


def test_an_image_that_is_gone_leaves_nothing(model: Finder) -> None:
    Path("frames").mkdir()
    for step in range(6):
        Image.fromarray(pixels(step)).save(f"frames/{step}.png")
    assert run("frames", "--out", "o", "--track", "--save", "mot") == 0
    Path("frames/3.png").unlink()
    assert run("frames", "--out", "o", "--track", "--save", "mot") == 0
    assert sorted(trackers.load_mot_file("o/frames_mot.txt")) == [2, 3, 4, 5]


def test_frames_are_taken_in_the_order_of_their_numbers(model: Finder) -> None:
    Path("frames").mkdir()
    for step in range(STEPS):
        Image.fromarray(pixels(step)).save(f"frames/{step}.png")
    assert run("frames", "--out", "o", "--track", "--save", "counts") == 0
    assert json.loads(Path("o/counts.json").read_text())["frames"]["objects"] == {"cat": 1, "dog": 1}


def test_a_film_and_a_folder_of_one_name(model: Finder) -> None:
    write_film(Path("street.mp4"))
    Path("street").mkdir()
    for step in range(4):
        Image.fromarray(pixels(step)).save(f"street/{step}.png")
    for _ in range(2):
        assert run("street.mp4", "street", "--out", "o", "--track", "--save", "mot,counts") == 0
        counted = json.loads(Path("o/counts.json").read_text())
        assert {name: each["frames"] for name, each in counted.items()} == {"street": STEPS, "street_2": 4}
        assert len(Path("o/street_2_mot.txt").read_text().splitlines()) == 6


def test_an_interrupted_film_is_tracked_from_its_start(model: Finder) -> None:
    write_film(Path("f.mp4"))
    with interrupted_in(6):
        assert run("f.mp4", "--out", "o", "--track", "--save", "mot,counts") == 130
    assert json.loads(Path("o/counts.json").read_text())["f"]["frames"] == 5
    assert run("f.mp4", "--out", "o", "--track", "--save", "mot,counts") == 0
    assert len(model.seen) == STEPS
    assert json.loads(Path("o/counts.json").read_text())["f"]["frames"] == STEPS
    assert sorted(trackers.load_mot_file("o/f_mot.txt")) == list(range(2, STEPS + 1))


def test_a_mistake_in_a_line_is_mended_by_the_next_command(model: Finder) -> None:
    write_film(Path("f.mp4"), range(3))
    assert run("f.mp4", "--out", "o", "--track", "--line", "480,0,48,64") == 2
    assert run("f.mp4", "--out", "o", "--track", "--line", "48,0,48,64") == 0


def test_several_lines_patience_and_classes(model: Finder, capsys: pytest.CaptureFixture[str]) -> None:
    write_film(Path("f.mp4"))
    lines = ["--line", "a=48,0,48,64", "b=20,0,20,64", "--line", "c=90,0,90,64"]
    asked = ["--track", "--classes", "dog", "--patience", "0.2", *lines]
    assert run("f.mp4", "--out", "o", "--save", "counts,csv", *asked) == 0
    counted = json.loads(Path("o/counts.json").read_text())["f"]
    assert [line["name"] for line in counted["lines"]] == ["a", "b", "c"]
    assert counted["objects"] == {"dog": 1}
    assert run("f.mp4", "--out", "p", "--classes", "dogs") == 2
    assert "--classes 'dogs' is not one of the model's, did you mean 'dog'?: cat, dog" in capsys.readouterr().err
    assert run("f.mp4", "--out", "p", "--classes", "cat, dog", "--save", "csv") == 0
    assert "dog" in Path("p/predictions.csv").read_text()


def test_sequences_that_come_in_turns(tmp_path: Path) -> None:
    """As from two cameras."""
    from maskrcnn.predict.results import save_results
    from tests.predict.test_track import disc, frame

    cameras = [Tracker(name=name) for name in ("left/door", "right")]
    one = frame([disc(60, 60)], [0])
    found = [camera.update(one) for _ in range(3) for camera in cameras]
    save_results(found, tmp_path, ["mot", "mots", "counts"])
    for name in ("left_door", "right"):
        assert [line.split(",")[0] for line in (tmp_path / f"{name}_mot.txt").read_text().splitlines()] == ["2", "3"]
        assert len((tmp_path / f"{name}_mots.txt").read_text().splitlines()) == 2
    assert set(json.loads((tmp_path / "counts.json").read_text())) == {"left/door", "right"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_command_knows_what_the_library_does() -> None:
    assert get_args(Method) == METHODS
    assert get_args(Overlap) == OVERLAPS
    assert NEED_TRACKS == SAVES


def test_what_is_saved_opens_as_a_data_set(model: Finder) -> None:
    from maskrcnn.data.open import open_dataset

    write_film(Path("f.mp4"), range(4))
    assert run("f.mp4", "--out", "o", "--track", "--save", "labelme,json") == 0
    opened = open_dataset("o/labelme")
    assert isinstance(opened, Dataset)
    assert [len(record) for record in opened] == [0, 2, 2, 2]


def test_the_drawing_has_trails_lines_zones_and_numbers(model: Finder) -> None:
    write_film(Path("f.mp4"))
    tracking = Tracking(lines={"door": (48, 0, 48, 64)}, zones={"yard": ((50, 30), (90, 30), (90, 60), (50, 60))})
    found = list(Predictor(model, "cpu").track("f.mp4", tracking))[8]  # type: ignore[arg-type]
    image = [frame.pixels() for frame in read_film("f.mp4")][8]
    plain = draw_instances(found, image, masks=False, boxes=False, labels=False)
    changed = np.argwhere((plain != image).any(axis=2))
    assert (plain[14, 20] != image[14, 20]).any()  # the trail
    assert (plain[5, 48] == 255).all()  # the line
    assert (plain[60, 55] == 255).all()  # the zone
    assert len(changed) > 100
    large = draw_instances(found, image, masks=False, boxes=False, labels=False, scale=2)
    assert (large[10, 96] == 255).all()
    assert (large[28, 40] != image[14, 20]).any()
    nobody = draw_instances(found[np.zeros(0, int)], image)
    assert (nobody[60, 55] == 255).all()
    assert (nobody[14, 20] == image[14, 20]).all()


def test_colours_follow_the_object(model: Finder) -> None:
    """Also when it is alone in the picture."""
    write_film(Path("f.mp4"))
    found = list(Predictor(model, "cpu").track("f.mp4"))[8]  # type: ignore[arg-type]
    image = np.zeros((*SIZE, 3), np.uint8)
    both = draw_instances(found, image, labels=False, boxes=False)
    alone = draw_instances(found[[1]], image, labels=False, boxes=False)
    assert found.names == ["dog", "cat"]
    np.testing.assert_array_equal(both[42, 66], alone[42, 66])
    assert both[42, 66].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--line", "1,2,3,4"], "--line is of tracked objects; give --track too"),
        (["--track-overlap", "mask"], "--track-overlap is of tracked objects; give --track too"),
        (["--save", "mot"], "--save mot is of objects with numbers; give --track too"),
        (["--track", "bytetracks"], "--track 'bytetracks' is not one of bytetrack, sort, botsort"),
        (["--track", "--track-overlap", "masks"], "--track-overlap 'masks' is not one of box, mask"),
        (["--track", "--line", "1,2,3"], "--line '1,2,3': expected X0,Y0,X1,Y1 in pixels, with NAME= in front"),
        (["--track", "--line", "door=1,2,3,x"], "--line 'door=1,2,3,x': expected X0,Y0,X1,Y1 in pixels"),
        (["--track", "--line", "1,2,3,nan"], "line line 1: 3,nan is not in the picture"),
        (["--track", "--zone", "a=1,2,3,4"], "--zone 'a=1,2,3,4': expected X0,Y0,X1,Y1,X2,Y2 or more corners"),
        (["--track", "--line", "a=1,2,3,4", "a=1,2,3,5"], "--line 'a' is there twice; give another name"),
        (["--track", "--line", "a=1,2,3,400"], "line a: 3,400 is not in the picture, which has 96 x 64 pixels"),
    ],
)
def test_messages(model: Finder, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_film(Path("f.mp4"), range(2))
    assert run("f.mp4", "--out", "o", *arguments) == 2
    assert message in capsys.readouterr().err


def test_tracked_kinds_from_python(model: Finder) -> None:
    from maskrcnn.errors import ConfigError
    from maskrcnn.predict.results import save_results

    write_film(Path("f.mp4"), range(2))
    found = list(Predictor(model, "cpu").stream("f.mp4"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="mot is of objects with numbers; give --track"):
        save_results(found, "o", ["mot"])
