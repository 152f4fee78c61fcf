"""Oxford-IIIT Pets, by breed and by species."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn.data.formats import pets, pets_species
from maskrcnn.data.open import open_dataset
from maskrcnn.errors import DataError
from maskrcnn.ops.masks import load_mask_file
from maskrcnn.structures import MaskFile
from tests.data.contract import assert_dataset

NAMES = ("Abyssinian_1", "Abyssinian_100", "american_bulldog_7", "Egyptian_Mau_3")


def trimap() -> np.ndarray:
    """A pet of 6 x 8 pixels in a border of 2."""
    pixels = np.full((24, 32), 2, np.uint8)
    pixels[4:14, 5:17] = 3
    pixels[6:12, 7:15] = 1
    return pixels


def folder(root: Path) -> Path:
    for place in ("images", "annotations/trimaps", "annotations/xmls"):
        (root / place).mkdir(parents=True)
    for name in NAMES:
        Image.fromarray(np.full((24, 32, 3), 90, np.uint8)).save(root / "images" / f"{name}.jpg")
        Image.fromarray(trimap()).save(root / "annotations" / "trimaps" / f"{name}.png")
    lines = ["Abyssinian_1 1 1 1", "Abyssinian_100 1 1 1", "american_bulldog_7 2 2 1", "Egyptian_Mau_3 6 1 5"]
    lists = root / "annotations"
    lists.joinpath("list.txt").write_text("\n".join(["#Image CLASS-ID SPECIES BREED ID", "#1:Cat 2:Dog", *lines]))
    lists.joinpath("trainval.txt").write_text("\n".join(lines[:2]))
    lists.joinpath("test.txt").write_text(lines[2] + "\n")
    lists.joinpath("trimaps", "._Abyssinian_1.png").write_bytes(b"macOS")
    lists.joinpath("xmls", "Abyssinian_1.xml").write_text(
        "<annotation><filename>Abyssinian_1.jpg</filename><object><name>cat</name><bndbox><xmin>9</xmin><ymin>7</ymin>"
        "<xmax>12</xmax><ymax>9</ymax></bndbox></object></annotation>"
    )
    root.joinpath("images", "Abyssinian_100.mat").write_bytes(b"MATLAB 5.0")
    return root


@pytest.mark.parametrize("inside", ["", "oxford-iiit-pet"])
def test_a_class_per_breed(tmp_path, inside):
    folder(tmp_path / inside)
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert dataset.format == "pets"
    assert dataset.classes == ("Abyssinian", "american_bulldog", "Egyptian_Mau")
    assert dataset.category_ids == (1, 2, 6)
    assert [r.path.stem for r in dataset] == sorted(NAMES)
    assert [dataset.classes[r.labels[0]] for r in dataset][-2:] == ["Egyptian_Mau", "american_bulldog"]
    assert [r.split for r in dataset] == ["train", "train", "", "test"]
    assert dataset.splits == ("train", "test")
    assert dataset.warnings == ("the border of the trimaps (value 3) is left out of the masks",)


def test_the_border_is_not_part_of_the_pet(tmp_path):
    record = open_dataset(folder(tmp_path))[0]
    assert record.boxes.tolist() == [[7, 6, 15, 12]]
    assert record.areas.tolist() == [48]
    (mask,) = record.masks
    assert isinstance(mask, MaskFile)
    assert mask.value == 1
    assert load_mask_file(mask).sum() == 48


def test_cats_and_dogs(tmp_path):
    dataset = open_dataset(folder(tmp_path), format="pets_species")
    assert_dataset(dataset)
    assert (dataset.format, dataset.classes, dataset.category_ids) == ("pets_species", ("cat", "dog"), (1, 2))
    assert [dataset.classes[r.labels[0]] for r in dataset] == ["cat", "cat", "cat", "dog"]
    (tmp_path / "annotations" / "list.txt").unlink()  # then the names say it
    again = open_dataset(tmp_path, format="pets_species")
    assert [dataset.classes[r.labels[0]] for r in again] == ["cat", "cat", "cat", "dog"]


def test_without_list_the_breeds_are_counted(tmp_path):
    (folder(tmp_path) / "annotations" / "list.txt").unlink()
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert dataset.classes == ("Abyssinian", "american_bulldog", "Egyptian_Mau")
    assert dataset.category_ids == (1, 2, 3)


def test_mistakes_are_counted(tmp_path):
    folder(tmp_path)
    lists = tmp_path / "annotations"
    lists.joinpath("list.txt").write_text("Abyssinian_1 one 1 1\nEgyptian_Mau_3 6 7 5\nAbyssinian_100 1 1 1\n")
    (tmp_path / "images" / "Abyssinian_1.jpg").unlink()
    Image.fromarray(trimap()[:9]).save(lists / "trimaps" / "Abyssinian_100.png")
    Image.fromarray(np.full((24, 32), 2, np.uint8)).save(lists / "trimaps" / "Egyptian_Mau_3.png")
    dataset = open_dataset(tmp_path)
    assert_dataset(dataset)
    assert [len(record) for record in dataset] == [0, 1]
    text = "\n".join(dataset.warnings)
    assert "skipped 2 lines that are not NAME CLASS-ID SPECIES BREED, first: " in text
    assert "list.txt: 'Abyssinian_1 one 1 1'" in text
    assert "skipped 2 images or trimaps that cannot be used, first: " in text
    assert "Abyssinian_1.jpg: image file not found" in text
    assert "kept 1 trimaps without a pet" in text


def test_errors(tmp_path):
    with pytest.raises(DataError, match="no folders images and annotations/trimaps here; unpack both archives"):
        pets.read(tmp_path)
    folder(tmp_path)
    for file in (tmp_path / "images").glob("*.jpg"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match="holds no image that can be used; skipped 4 images or trimaps"):
        open_dataset(tmp_path)
    assert not pets.sniff(tmp_path / "nowhere")
    assert pets_species.sniff(tmp_path)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["annotations/list.txt", "annotations/test.txt", "annotations/trimaps/Abyssinian_1.png"]),
    st.binary(max_size=40),
    st.integers(0, 300),
)
def test_any_bytes(tmp_path_factory, name, inserted, place):
    file = folder(tmp_path_factory.mktemp("fuzz")) / name
    data = file.read_bytes()
    place %= len(data)
    file.write_bytes(data[:place] + inserted + data[place + len(inserted) // 2 :])
    for reader in (pets, pets_species):
        assert_dataset(reader.read(file.parents[2 if file.suffix == ".png" else 1]))
