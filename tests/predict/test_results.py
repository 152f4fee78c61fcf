from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.open import open_dataset
from maskrcnn.errors import ConfigError, DataError
from maskrcnn.instances import Instances
from maskrcnn.predict.results import index_mask, save_results, to_coco
from maskrcnn.structures import KeypointSchema


def make_instances(path: Path | str | None = None, count: int = 2, size: tuple[int, int] = (20, 30)) -> Instances:
    """Full-box masks; the second overlaps the first."""
    boxes = np.array([[2, 3, 12, 13], [8, 8, 28.5, 18]] + [[0, 0, 1, 1]] * 400, np.float32)[:count]
    return Instances(
        boxes=boxes,
        scores=np.linspace(0.9, 0.1, count, dtype=np.float32),
        labels=np.arange(count) % 2,
        classes=("cat", "dog"),
        size=size,
        roi_masks=np.ones((count, 28, 28), np.float32),
        category_ids=(7, 3),
        path=None if path is None else str(path),
    )


def write_image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (30, 20), (90, 120, 40)).save(path)
    return path


def test_to_coco_is_plain_json_in_the_data_sets_ids() -> None:
    results = to_coco(make_instances(), image_id=17)
    assert [result["category_id"] for result in results] == [7, 3]
    assert results[0]["image_id"] == 17
    assert results[0]["bbox"] == [2, 3, 10, 10]
    assert results[1]["bbox"] == [8, 8, 20.5, 10]
    assert results[0]["segmentation"]["size"] == [20, 30]
    assert json.loads(json.dumps(results)) == results


def test_to_coco_without_masks_or_image_id() -> None:
    instances = make_instances()
    instances.roi_masks = None
    assert [set(result) for result in to_coco(instances)] == [{"image_id", "category_id", "bbox", "score"}] * 2
    assert to_coco(instances)[0]["image_id"] == 0
    instances.image_id = 5
    assert to_coco(instances)[0]["image_id"] == 5


def with_keypoints(path: Path | None = None, names: tuple[str, ...] = ("head", "left_paw", "right_paw")) -> Instances:
    points = np.array(
        [[[3, 4, 0.9], [5, 6, 0.2], [11, 12, -3]], [[9, 9, 0.1], [20, 10, 0.5], [25, 15, 0.6]]], np.float32
    )
    return replace(make_instances(path), keypoints=points, keypoint_names=names)


def test_keypoints_are_saved_and_open_as_a_data_set(tmp_path: Path) -> None:
    """Results carry their scores; as annotations they are all visible, whatever the score."""
    found = with_keypoints(write_image(tmp_path / "in" / "a.png"))
    assert to_coco(found)[0]["keypoints"] == pytest.approx([3, 4, 0.9, 5, 6, 0.2, 11, 12, -3])
    saved = save_results([found], tmp_path / "out")
    assert saved.json is not None
    document = json.loads(saved.json.read_text())
    assert document["annotations"][0]["keypoints"] == [3, 4, 2, 5, 6, 2, 11, 12, 2]
    assert document["annotations"][1]["keypoint_scores"] == pytest.approx([0.1, 0.5, 0.6])
    dataset = open_dataset(saved.json)
    assert dataset.keypoints == KeypointSchema(("head", "left_paw", "right_paw"), ((1, 2),))
    np.testing.assert_array_equal(dataset[0].keypoints[..., :2], found.keypoints[..., :2])  # type: ignore[index]
    assert (dataset[0].keypoints[..., 2] == 2).all()  # type: ignore[index]


def test_keypoints_without_names(tmp_path: Path) -> None:
    saved = save_results([with_keypoints(names=())], tmp_path, save=("json",))
    assert saved.json is not None
    document = json.loads(saved.json.read_text())
    assert document["categories"][0]["keypoints"] == ["point_1", "point_2", "point_3"]


def test_index_mask_puts_the_better_instance_on_top() -> None:
    numbers = index_mask(make_instances())
    assert numbers.dtype == np.uint8
    assert (numbers[3:13, 2:12] == 1).all()
    assert numbers[16, 20] == 2
    assert numbers[0, 0] == 0


def test_index_mask_counts_beyond_255() -> None:
    numbers = index_mask(make_instances(count=300))
    assert numbers.dtype == np.uint16
    assert numbers[0, 0] == 3


def test_index_mask_of_nothing() -> None:
    assert not index_mask(make_instances(count=0)).any()


def test_saves_overlays_json_and_masks(tmp_path: Path) -> None:
    """Two inputs of one name, in other folders or with another suffix or case, do not overwrite each other."""
    files = [write_image(tmp_path / name) for name in ("a/photo.png", "b/photo.png", "c/Photo.jpg", "d/other.png")]
    out = tmp_path / "out"
    saved = save_results((make_instances(path, count=index) for index, path in enumerate(files)), out)
    assert [path.name for path in saved.overlays] == ["photo.jpg", "photo_2.jpg", "Photo_3.jpg", "other.jpg"]
    assert [path.name for path in saved.masks] == [
        "photo_masks.png",
        "photo_2_masks.png",
        "Photo_3_masks.png",
        "other_masks.png",
    ]
    assert sorted(saved.paths) == sorted(out.iterdir())  # nothing else, no partial file
    assert Image.open(saved.overlays[3]).size == (30, 20)
    assert (np.asarray(Image.open(saved.masks[3])) == index_mask(make_instances(count=3))).all()
    assert str(saved) == f"6 instances in 4 images; 9 files in {out}"

    document = json.loads((out / "predictions.json").read_text())
    assert [image["file_name"] for image in document["images"]] == [str(path) for path in files]
    assert [image["id"] for image in document["images"]] == [1, 2, 3, 4]
    assert [a["image_id"] for a in document["annotations"]] == [2, 3, 3, 4, 4, 4]
    assert document["categories"] == [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]
    assert document["annotations"][0]["area"] == 100
    assert document["annotations"][0]["score"] == pytest.approx(0.9)


def test_image_ids_of_a_data_set_are_kept(tmp_path: Path) -> None:
    first, second, third = make_instances(), make_instances(), make_instances()
    first.image_id, second.image_id = 40, 40
    save_results([first, second, third], tmp_path, save=("json",))
    document = json.loads((tmp_path / "predictions.json").read_text())
    assert [image["id"] for image in document["images"]] == [40, 41, 42]


def test_images_that_are_no_files(tmp_path: Path) -> None:
    saved = save_results([(make_instances(), np.zeros((20, 30, 3), np.uint8))], tmp_path, save=["overlay", "masks"])
    assert [path.name for path in saved.paths] == ["image_1.jpg", "image_1_masks.png"]
    assert saved.json is None
    with pytest.raises(DataError, match="come from no file; give the image to draw on"):
        save_results([make_instances()], tmp_path, save=["overlay"])


def test_sixteen_bit_masks_survive_the_file(tmp_path: Path) -> None:
    saved = save_results([make_instances(count=300)], tmp_path, save=["masks"])
    assert (np.asarray(Image.open(saved.masks[0])) == index_mask(make_instances(count=300))).all()


def test_nothing_found_is_saved_too(tmp_path: Path) -> None:
    saved = save_results([make_instances(write_image(tmp_path / "in" / "a.png"), count=0)], tmp_path / "out")
    assert len(saved.paths) == 3
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["annotations"] == []


def test_a_model_without_masks_is_told(tmp_path: Path) -> None:
    instances = make_instances()
    instances.roi_masks = None
    saved = save_results([instances], tmp_path / "a", ("json", "masks"))
    assert (saved.masks, saved.without_masks) == ([], 1)
    assert str(saved).endswith("; no masks are among them: the model has no mask head")
    assert "no masks" not in str(save_results([instances], tmp_path / "b", ("json",)))
    assert "no masks" not in str(save_results([make_instances(count=0)], tmp_path / "c", ("json", "masks")))


def test_messages(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.jpg")
    before = image.read_bytes()
    with pytest.raises(DataError, match="would overwrite the images; choose another folder"):
        save_results([make_instances(image)], tmp_path)
    assert image.read_bytes() == before
    with pytest.raises(ConfigError, match="save: cannot save 'video'; kinds: overlay, json, masks"):
        save_results([], tmp_path, save=["video"])
    with pytest.raises(DataError, match=r"a\.jpg: cannot make this folder: File exists; choose another one"):
        save_results([], image)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_results([make_instances()], tmp_path, save=["json"])
    before = (tmp_path / "predictions.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(DataError, match=r"predictions\.json: cannot write: No space left on device; free some space"):
        save_results([make_instances(count=1)], tmp_path, save=["json"])
    assert (tmp_path / "predictions.json").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
