"""Objects keep their numbers: methods, classes, masks, time, sequences; lines, zones and what is counted."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn.errors import ConfigError
from maskrcnn.instances import Instances, Place
from maskrcnn.ops.masks import encode_mask
from maskrcnn.predict.items import Names
from maskrcnn.predict.track import Method, Tracker, Tracking, track, track_items
from maskrcnn.tracks import Counts

trackers = pytest.importorskip("trackers", reason="pip install 'maskrcnn[video]'")
HEIGHT, WIDTH = 120, 200
METHODS: tuple[Method, ...] = ("bytetrack", "sort", "botsort")


def disc(x: float, y: float, radius: float = 12) -> np.ndarray:
    """(HEIGHT, WIDTH) bool."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def stick(middle: float, rise: int) -> np.ndarray:
    """A bar from (middle - 30) to (middle + 30), rising by 45 degrees to the right or to the left."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return (abs(columns - middle) < 30) & (abs(rows - 60 + rise * (columns - middle)) < 6)


def frame(masks: Sequence[np.ndarray], labels: Sequence[int], scores: Sequence[float] | None = None) -> Instances:
    boxes = []
    for mask in masks:
        rows, columns = np.nonzero(mask)
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return Instances(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array([0.9] * len(masks) if scores is None else scores, np.float32),
        labels=np.array(labels, np.int64),
        classes=("cat", "dog"),
        size=(HEIGHT, WIDTH),
        _rle=[encode_mask(mask) for mask in masks],
    )


def follow(frames: Sequence[Instances], tracking: Tracking | None = None) -> list[Instances]:
    """With grey pictures, which tell nothing of a movement of the camera."""
    picture = np.full((HEIGHT, WIDTH, 3), 127, np.uint8)
    return [instances for instances, _ in track_items(((instances, picture) for instances in frames), tracking)]


def ids(instances: Instances) -> list[int]:
    assert instances.tracks is not None
    return instances.tracks.ids.tolist()


def counts(found: Sequence[Instances]) -> Counts:
    assert found[-1].tracks is not None
    return found[-1].tracks.counts


@pytest.mark.parametrize("overlap", ["box", "mask"])
@pytest.mark.parametrize("method", METHODS)
def test_two_that_pass_each_other_and_a_third_of_another_class(method: Method, overlap: str) -> None:
    """The third lies exactly under the first."""
    frames = [frame([disc(20 + 5 * t, 40), disc(180 - 5 * t, 60), disc(20 + 5 * t, 40)], [0, 1, 1]) for t in range(30)]
    found = follow(frames, Tracking(method, overlap))  # type: ignore[arg-type]
    numbers = ids(found[5])
    assert sorted(numbers) == [1, 2, 3]
    assert all(ids(instances) == numbers for instances in found[5:])
    assert counts(found).objects == {"cat": 1, "dog": 2}


def test_masks_tell_apart_what_boxes_cannot() -> None:
    """Two bars like an X meet, stay where their boxes are the same, and turn back: only their shapes tell which is
    which."""
    there = [frame([stick(60 + 3 * t, 1), stick(150 - 3 * t, -1)], [0, 0]) for t in range(16)]
    frames = [*there, *[there[-1]] * 3, *there[::-1]]
    found = list(track(frames, Tracking(overlap="mask")))
    assert [ids(instances) for instances in found[1:]] == [[1, 2]] * (len(frames) - 1)
    boxes = list(track(frames, Tracking(overlap="box")))
    assert ids(boxes[-1]) == [2, 1]


def test_masks_are_moved_to_where_the_object_is_expected() -> None:
    """A small fast disc shares no pixel with itself of the frame before, once its speed is known."""
    steps = [0, 3, 8, 15, 24, 35, 48, 62, 77, 93]
    found = list(track((frame([disc(15 + step, 60, 8)], [0]) for step in steps), Tracking(overlap="mask")))
    assert [ids(instances) for instances in found] == [[], *[[1]] * (len(steps) - 1)]


@pytest.mark.parametrize("method", METHODS)
def test_other_classes_are_other_objects(method: Method) -> None:
    """A still object, whose tracks are expected at one place to the last bit."""
    found = follow([frame([disc(60, 60)], [int(t > 4)]) for t in range(12)], Tracking(method))
    assert ids(found[4]) == [1]
    assert [ids(instances) for instances in found[7:]] == [[2]] * 5
    assert counts(found).objects == {"cat": 1, "dog": 1}


@pytest.mark.parametrize("method", METHODS)
def test_other_shapes_are_other_objects_where_masks_are_compared(method: Method) -> None:
    """Two bars of one box that share few pixels."""
    frames = [frame([stick(100, 1 if t < 6 else -1)], [0]) for t in range(14)]
    assert ids(follow(frames, Tracking(method, "box"))[-1]) == [1]
    assert ids(follow(frames, Tracking(method, "mask"))[-1]) == [2]


def test_a_number_is_given_after_some_frames_in_a_row() -> None:
    seen = [True, False, True, True, True, True]
    frames = [frame([disc(60, 60)] * t, [0] * t) for t in seen]
    assert [ids(found) for found in track(frames, Tracking(confirm=3))] == [[], [], [], [], [1], [1]]
    assert [ids(found) for found in track(frames, Tracking())] == [[], [], [], [1], [1], [1]]


def test_weak_instances_continue_an_object_but_begin_none() -> None:
    scores = [0.3, 0.9, 0.9, 0.2, 0.2, 0.2, 0.9]
    frames = [frame([disc(60, 60)], [0], [score]) for score in scores]
    found = list(track(frames, Tracking(score=0.5)))
    assert [ids(instances) for instances in found] == [[], [], [1], [1], [1], [1], [1]]


@pytest.mark.parametrize(("gap", "expected"), [(8, [1]), (12, [2])])
def test_patience_is_in_seconds(gap: int, expected: list[int]) -> None:
    """At ten frames a second."""
    frames = [frame([disc(60, 60)], [0])] * 5 + [frame([], [])] * gap + [frame([disc(60, 60)], [0])] * 2
    tracker = Tracker(Tracking(patience=1), rate=10)
    assert ids([tracker.update(instances) for instances in frames][-1]) == expected


def test_frames_of_a_camera_come_when_they_come() -> None:
    """Moving at one speed, with some frames left out: times say where it is expected."""
    seconds = [0, 0.1, 0.2, 0.3, 0.4, 1.0, 1.1]
    tracker = Tracker(Tracking(), rate=10)
    found = [tracker.update(frame([disc(20 + 100 * t, 60)], [0]), seconds=t) for t in seconds]
    assert [ids(instances) for instances in found] == [[], *[[1]] * 6]


def place(file: str, number: int, **more: object) -> Place:
    name = f"{Path(file).stem}_{number:06}"
    return Place(**{"name": name, "key": f"{file}#{number}", "file": file, "film": True, "frame": number} | more)  # type: ignore[arg-type]


def test_each_film_and_folder_begins_anew() -> None:
    one = frame([disc(60, 60)], [0])
    frames = [replace(one, place=place("a/x.mp4", n)) for n in range(3)]
    frames += [replace(one, place=place("b/x.mp4", n)) for n in range(3)]
    frames += [replace(one, path=f"pictures/{n}.jpg", place=Place(name=f"{n}")) for n in range(3)]
    frames += [replace(one, path=f"others/pictures/{n}.jpg") for n in range(3)]
    frames += [replace(one, place=place("t.tif", n, film=False, name=f"t_p{n}")) for n in range(3)]
    found = [instances.tracks for instances in track(frames, Tracking(confirm=2))]
    assert [tracks.ids.tolist() for tracks in found if tracks] == [[], [1], [1]] * 5
    assert [tracks.sequence for tracks in found if tracks][::3] == ["x", "x_2", "pictures", "pictures_2", "t"]
    assert [tracks.frame for tracks in found if tracks] == [0, 1, 2] * 5


def test_a_film_that_comes_again_begins_anew() -> None:
    one = frame([disc(60, 60)], [0])
    found = [i.tracks for i in track(replace(one, place=place("x.mp4", n)) for n in [0, 1, 3, 4, 0, 1, 2])]
    assert [(tracks.sequence, tracks.frame) for tracks in found if tracks] == [
        ("x", 0), ("x", 1), ("x", 3), ("x", 4), ("x_2", 0), ("x_2", 1), ("x_2", 2),
    ]  # fmt: skip


def test_folders_in_turns_and_names_of_films() -> None:
    one = frame([disc(60, 60)], [0])
    frames = [replace(one, path=f"{folder}/{n}.jpg") for n in range(3) for folder in ("a/left", "b/left", "street")]
    names = Names()
    names.free("street")  # a film
    found = [i.tracks for i, _ in track_items(((frame, None) for frame in frames), None, names)]
    assert [tracks.sequence for tracks in found if tracks] == ["left", "left_2", "street_2"] * 3
    assert [tracks.ids.tolist() for tracks in found if tracks] == [[]] * 3 + [[1]] * 6


def test_a_clock_that_stands_still_or_jumps_back() -> None:
    tracker = Tracker(Tracking(), rate=10)
    times = [0, 0.1, 0.2, 0.2, 0.2, 0.0, 0.1, 9.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [tracker.update(frame([disc(60, 60)], [0]), seconds=t) for t in times]
    assert [ids(instances) for instances in found[1:7]] == [[1]] * 6
    assert ids(found[7]) == []  # after a long time


def test_a_pause_of_a_film_counts_in_seconds() -> None:
    frames = [replace(frame([disc(60, 60)], [0]), place=place("x.mp4", n, seconds=s, rate=10.0))
              for n, s in enumerate([0, 0.1, 0.2, 3.5, 3.6, 3.7])]  # fmt: skip
    assert [ids(instances) for instances in track(frames)] == [[], [1], [1], [], [2], [2]]


def test_trails_and_selection() -> None:
    found = list(track((frame([disc(20 + 5 * t, 40), disc(100, 90)], [0, 1]) for t in range(20)), Tracking(trail=0.3)))
    tracks = found[-1].tracks
    assert tracks is not None
    np.testing.assert_allclose(tracks.trails[0], [[20 + 5 * t, 40] for t in range(10, 20)], atol=0.1)
    dog = found[-1].filter(classes=["dog"])
    assert dog.tracks is not None
    assert dog.tracks.ids.tolist() == [2]
    np.testing.assert_allclose(dog.tracks.trails[0], [[100, 90]] * 10, atol=0.1)
    assert found[-1].to_supervision().tracker_id.tolist() == [1, 2]
    assert [result["track_id"] for result in found[-1].to_coco()] == [1, 2]


def test_lines_and_zones() -> None:
    """A cat goes from left to right, a dog from right to left, and another dog only comes into the zone."""
    frames = [
        frame([disc(20 + 5 * t, 30), disc(180 - 5 * t, 90), disc(100, 60 if t > 10 else 105, 5)], [0, 1, 1])
        for t in range(33)
    ]
    tracking = Tracking(
        lines={"door": (110, 0, 110, 120), "short": (110, 100, 110, 120)},
        zones={"court": ((90, 0), (120, 0), (120, 70), (90, 70))},
    )  # fmt: skip
    found = list(track(frames, tracking))
    door, short = counts(found).lines
    # Who walks down the picture has its right side on the left hand.
    assert (door.to_left, door.to_right) == ({"cat": 1}, {"dog": 1})
    assert (short.to_left, short.to_right) == ({}, {})
    (court,) = counts(found).zones
    assert court.entered == {"cat": 1, "dog": 1}
    assert court.most == 2
    assert court.now == {"dog": 1}


def test_one_that_is_hidden_on_the_line_is_counted_once() -> None:
    steps = [0, 10, 20, 30, 40, None, None, None, None, None, 100, 110, 120]
    frames = [frame([disc(40 + s, 60)], [0]) if s is not None else frame([], []) for s in steps]
    found = list(track(frames, Tracking(lines={"door": (100, 120, 100, 0)})))
    (door,) = counts(found).lines
    assert (door.to_left, door.to_right) == ({}, {"cat": 1})


def test_one_that_shakes_on_the_line_is_not_counted() -> None:
    for places in ([98, 102] * 10, [98, 98, 98, 102, 98, 98, 98]):
        frames = [frame([disc(x, 60)], [0]) for x in places]
        (door,) = counts(list(track(frames, Tracking(lines={"door": (100, 120, 100, 0)})))).lines
        assert (door.to_left, door.to_right) == ({}, {})


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_every_number_is_there_once_and_belongs_to_one_class(data: st.DataObject) -> None:
    """Whatever comes: as many instances go out as have a number, and memory forgets who is gone."""
    method = data.draw(st.sampled_from(METHODS))
    overlap = data.draw(st.sampled_from(["box", "mask"]))
    place = st.tuples(st.integers(15, WIDTH - 15), st.integers(15, HEIGHT - 15), st.integers(3, 14), st.integers(0, 1))
    tracker = Tracker(Tracking(method, overlap, patience=0.1), rate=30)
    label: dict[int, str] = {}
    grey = np.full((HEIGHT, WIDTH, 3), 127, np.uint8)
    for _ in range(8):
        drawn = data.draw(st.lists(place, max_size=5))
        scores = data.draw(st.lists(st.floats(0.125, 1, width=32), min_size=len(drawn), max_size=len(drawn)))
        instances = frame([disc(*d[:3]) for d in drawn], [d[3] for d in drawn], scores)
        found = tracker.update(instances, grey)
        numbers = ids(found)
        assert len(set(numbers)) == len(numbers) == len(found)
        for number, name in zip(numbers, found.names, strict=True):
            assert label.setdefault(number, name) == name
    for _ in range(10):
        tracker.update(frame([], []), grey)
    assert tracker._counting is not None
    assert tracker._counting._lives == {}
    objects = tracker.update(frame([], []), grey).tracks.counts.objects  # type: ignore[union-attr]
    assert sum(objects.values()) == len(label)


def test_botsort_follows_the_camera() -> None:
    """The camera moves by 12 pixels a frame at once; objects that stand on the ground keep their numbers."""
    noise = np.random.default_rng(0).integers(0, 255, (30, 60), dtype=np.uint8)
    ground = np.asarray(Image.fromarray(noise).resize((360, 180), Image.Resampling.BICUBIC))
    camera = [0] * 5 + [12, 24, 36, 48, 60]

    def items() -> Iterator[tuple[Instances, np.ndarray]]:
        for x in camera:
            picture = np.repeat(ground[:HEIGHT, x : x + WIDTH, None], 3, 2)
            yield frame([disc(120 - x, 40, 5), disc(150 - x, 80, 5)], [0, 0]), picture

    followed = [ids(instances) for instances, _ in track_items(items(), Tracking("botsort"))]
    assert followed == [[1, 2]] * len(camera)
    lost = [ids(instances) for instances, _ in track_items(items(), Tracking("bytetrack"))]
    assert lost[-1] != [1, 2]


def test_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    one = [frame([disc(60, 60)], [0])]
    for tracking, message in [
        (Tracking("deepsort"), "method: 'deepsort' is not one of bytetrack, sort, botsort"),  # type: ignore[arg-type]
        (Tracking(overlap="giou"), "overlap: 'giou' is not one of box, mask"),  # type: ignore[arg-type]
        (Tracking(weak_score=0.7), "weak_score: 0.7 and score 0.5 must rise from 0 to 1"),
        (Tracking(patience=-1), "patience: -1 seconds must lie between 0 and 3600"),
        (Tracking(trail=float("nan")), "trail: nan seconds must lie between 0 and 3600"),
        (Tracking(confirm=1), "confirm: 1 must be a number of frames, at least 2"),
        (Tracking(lines={"a": (1, 2, 3)}), r"line a: needs x0, y0, x1, y1, not \(1, 2, 3\)"),  # type: ignore[dict-item]
        (Tracking(lines={"a": None}), "line a: needs x0, y0, x1, y1, not None"),  # type: ignore[dict-item]
        (Tracking(confirm=2.5), "confirm: 2.5 must be a number of frames, at least 2"),  # type: ignore[arg-type]
        (Tracking(lines={"a": (1, 2, 1, 2)}), "line a: has no length; give two different points"),
        (Tracking(lines={"a": (1, 2, 1, 300)}), "line a: 1,300 is not in the picture, which has 200 x 120 pixels"),
        (Tracking(zones={"z": ((0, 0), (9, 9))}), "zone z: needs three corners .x, y. or more, not"),
        (Tracking(zones={"z": ((1, 1), (2, 2), (3, 3))}), "zone z: has no area; give the corners in their order"),
        (Tracking(zones={"z": ((0, 0), (-9, 9), (4, 4))}), "zone z: -9,9 is not in the picture"),
    ]:
        with pytest.raises(ConfigError, match=message):
            list(track(one, tracking))
    with pytest.raises(ConfigError, match="botsort looks at the frames too; use"):
        list(track(one, Tracking("botsort")))
    with pytest.raises(ConfigError, match="nan frames a second must be more than 0"):
        Tracker(rate=float("nan"))
    with pytest.raises(ConfigError, match="objects cannot be followed by their masks, this model has none"):
        list(track([replace(one[0], _rle=None)], Tracking(overlap="mask")))
    monkeypatch.setitem(sys.modules, "trackers", None)
    monkeypatch.delitem(sys.modules, "maskrcnn.predict.association", raising=False)
    monkeypatch.delattr("maskrcnn.predict.association", raising=False)
    with pytest.raises(ConfigError, match=r"tracking needs the trackers library .*; pip install 'maskrcnn\[video\]'"):
        track(one)  # before anything is predicted
