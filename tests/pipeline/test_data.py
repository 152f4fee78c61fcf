"""Input readers -> data sets: paths, label maps, classes by the API's ids, and each mistake in one sentence."""

from __future__ import annotations

import re

import pytest

from maskrcnn.data.formats.label_map import label_map_text
from maskrcnn.errors import ConfigError, DataError
from maskrcnn.pipeline.data import fine_tune_checkpoint, open_pipeline_data, open_validation
from maskrcnn.pipeline.read import read_pipeline
from tests.data.formats.tf_shards import example, ints, write_shard
from tests.pipeline.texts import FASTER, MASK, changed, write

BOX = (2, 1, 8, 6)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Records for training and validation and a label map with ids 1 and 3, beside the pipeline.config."""
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    for name, images in (("train", 3), ("val", 2)):
        records = [example(BOX, (9, 2, 15, 9), class_text=[b"cup", b"jug"], class_label=ints(1, 3))] * images
        write_shard(tmp_path / f"{name}.record", *records)
    (tmp_path / "label_map.pbtxt").write_text(label_map_text(["cup", "jug"], [1, 3]))
    return tmp_path


def opened(folder, text=MASK, **options):
    return open_pipeline_data(read_pipeline(write(folder, text)), **options)


def test_readers_become_data_sets(folder):
    train, val, notes = opened(folder)
    assert (len(train), len(val), notes) == (3, 2, [])
    assert (train.classes, train.category_ids) == (("cup", "jug"), (1, 3))
    assert train.table.labels.tolist() == [0, 1] * 3
    assert train.has_masks
    assert train.splits == ()


def test_patterns_and_several_files(folder):
    for number in range(2):
        write_shard(folder / f"x.record-0000{number}-of-00002", example(BOX))
    train, _, _ = opened(folder, changed('"train.record"', '["x.record-?????-of-00002", "val.record"]'))
    assert len(train) == 4


def test_paths_may_lie_below_the_working_directory(folder, monkeypatch, tmp_path_factory):
    config = write(tmp_path_factory.mktemp("elsewhere"), MASK)
    monkeypatch.chdir(folder)
    assert len(open_pipeline_data(read_pipeline(config))[0]) == 3


def test_records_can_be_given(folder):
    train, val, _ = opened(folder, train=[str(folder / "val.record")], val=[str(folder / "train.record")])
    assert (len(train), len(val)) == (2, 3)


def test_without_validation(folder):
    assert opened(folder, MASK[: MASK.index("eval_input_reader")])[1] is None


def test_names_of_the_label_map_win(folder):
    (folder / "label_map.pbtxt").write_text(
        "item { id: 3 name: 'jug' display_name: 'Krug' } item { id: 1 name: 'cup' } item { id: 0 name: 'background' }"
    )
    train, _, notes = opened(folder)
    assert (train.classes, train.category_ids, notes) == (("cup", "Krug"), (1, 3), [])
    assert train.table.labels.tolist() == [0, 1] * 3


def test_unknown_names_are_taken_by_id_or_left_out(folder):
    record = example(BOX, BOX, BOX, class_text=[b"mug", b"dog", b"jug"], class_label=ints(1, 2, 3))
    write_shard(folder / "train.record", record)
    train, _, notes = opened(folder)
    assert train.table.labels.tolist() == [0, 1]
    assert train.table.mask_counts.tolist() == [2]
    assert notes == [
        "class 'mug' (id 1, 1 objects) is not in the label map: taken for 'cup', whose id it has",
        "class 'dog' (id 2, 1 objects) is not in the label map: left out",
    ]


def test_a_name_without_an_id_is_never_taken_for_another(folder):
    write_shard(folder / "train.record", example(BOX, BOX, class_text=[b"ant", b"jug"], class_label=None))
    train, _, notes = opened(folder)
    assert train.table.labels.tolist() == [1]
    assert "'ant'" in notes[0]
    assert "left out" in notes[0]


def test_a_label_map_may_have_fewer_ids(folder):
    train, val, notes = opened(folder, changed("num_classes: 3", "num_classes: 90"))
    assert (train.classes, train.category_ids, val.category_ids) == (("cup", "jug"), (1, 3), (1, 3))
    (note,) = notes
    assert note.endswith("go up to 3, num_classes is 90: ids without a name get no class here")


def test_a_contradiction_is_told_once(folder):
    write_shard(folder / "train.record", example(BOX, class_text=[b"mug"], class_label=ints(1)))
    train, val, notes = opened(folder, MASK.replace("val.record", "train.record"))
    assert val is train
    assert notes == ["class 'mug' (id 1, 1 objects) is not in the label map: taken for 'cup', whose id it has"]
    assert train.warnings == ()


def test_the_validation_alone(folder):
    pipeline = read_pipeline(write(folder, FASTER.replace("train.record", "PATH_TO/train.record")))
    dataset, notes = open_validation(pipeline)
    assert (dataset.classes, notes) == (("cup", "jug"), [])
    (folder / "other.pbtxt").write_text("item { id: 1 name: 'Tasse' } item { id: 2 name: 'cup' }")
    assert open_validation(pipeline, [str(folder / "train.record")], "other.pbtxt")[0].classes == ("Tasse", "cup")
    with pytest.raises(ConfigError, match="has no eval_input_reader"):
        open_validation(read_pipeline(write(folder, MASK[: MASK.index("eval_input_reader")])))


def refused(folder, text, message, kind=ConfigError, **options):
    with pytest.raises(kind, match=message) as caught:
        opened(folder, text, **options)
    assert "\n" not in str(caught.value)


def test_placeholders_are_named_together(folder):
    text = changed('"train.record"', '"PATH_TO_BE_CONFIGURED/train.record-?????-of-00100"')
    text = text.replace('"label_map.pbtxt"', '"PATH_TO_BE_CONFIGURED/map.pbtxt"', 1)
    message = (
        r"pipeline\.config:29: 'PATH_TO_BE_CONFIGURED/train.record-\?{5}-of-00100' is still a placeholder; put real "
        r"paths into train_input_reader\.tf_record_input_reader\.input_path \(line 29\), "
        r"train_input_reader\.label_map_path \(line 28\), or use `maskrcnn convert config` with --train-records"
    )
    refused(folder, text, message)
    refused(folder, text, r"into train_input_reader\.label_map_path", train=[str(folder / "train.record")])


@pytest.mark.parametrize("text", ["<path>/x", "path/to/x", "/home/YOUR_NAME/x", "${DATA}/x", "PATH_TO_RECORDS/x"])
def test_other_placeholders(folder, text):
    refused(folder, changed('"train.record"', f'"{text}"'), "is still a placeholder")


def test_a_config_without_masks_names_the_recipe(folder):
    refused(
        folder,
        FASTER,
        r"describes Faster R-CNN, without masks; `maskrcnn convert config .* mask_rcnn.config --add-masks`",
    )
    assert opened(folder, FASTER, masks=False)[0].classes == ("cup", "jug")
    text = changed("load_instance_masks: true", "load_instance_masks: false")
    text = text.replace("load_instance_masks: false", "load_instance_masks: true", 1).replace(
        "load_instance_masks: true", "load_instance_masks: false", 1
    )
    refused(folder, text, r":29: train_input_reader does not load masks .*--add-masks")


def test_records_without_masks(folder):
    write_shard(folder / "train.record", example(BOX, kind="none"))
    refused(folder, MASK, "train_input_reader loads instance masks, but no record has image/object/mask", DataError)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "train.record",
            "none.record",
            r":29: train_input_reader.tf_record_input_reader.input_path: no file 'none.record'",
        ),
        ("train.record", "none-*", r"no file 'none-\*'"),
        ('"train.record"', "[]", "input_path is empty; name the TFRecords"),
        ('label_map_path: "label_map.pbtxt"', "", "train_input_reader.label_map_path is missing; it names the classes"),
        ("label_map.pbtxt", "none.pbtxt", r":28: train_input_reader.label_map_path: no file 'none.pbtxt'"),
        (
            "num_classes: 3",
            "num_classes: 1",
            r"go up to 3, but model.faster_rcnn.num_classes is 1; make num_classes the largest id",
        ),
    ],
)
def test_wrong_paths_and_numbers(folder, old, new, message):
    text = changed(old, new)
    if "label_map" in old or old == "train.record":  # in the first reader only
        text = MASK.replace(old, new, 1)
    refused(folder, text, message)


def test_wrong_files(folder):
    (folder / "train.record").write_bytes(b"hello, this is no record at all")
    refused(folder, MASK, "holds no TFRecords", DataError)
    (folder / "label_map.pbtxt").write_text("item { id: 1 name: 'a' } item { id: 1 name: 'b' }")
    refused(folder, MASK, "line 1 of the label map: id 1 is there twice", DataError)
    (folder / "label_map.pbtxt").write_text("item { id: 0 name: 'background' }")
    refused(folder, MASK, "has no class with an id from 1 on", DataError)
    (folder / "label_map.pbtxt").write_text("item { id: 0 name: 'cup' } item { id: 1 name: 'jug' }")
    refused(folder, MASK, "id 0 of 'cup': ids begin at 1, 0 is the background", DataError)


def test_no_reader(folder):
    refused(folder, MASK[: MASK.index("train_input_reader")], "has no train_input_reader")


def checkpoint(folder, path):
    return fine_tune_checkpoint(
        read_pipeline(write(folder, changed("num_steps: 10", f"fine_tune_checkpoint: '{path}'")))
    )


def test_checkpoints(folder):
    assert fine_tune_checkpoint(read_pipeline(write(folder, MASK))) is None
    (folder / "model.ckpt.index").write_bytes(b"")
    assert checkpoint(folder, "model.ckpt") == folder / "model.ckpt"
    assert checkpoint(folder, folder / "model.ckpt") == folder / "model.ckpt"
    with pytest.raises(
        ConfigError, match=r":\d+: train_config\.fine_tune_checkpoint: no checkpoint 'old/model\.ckpt'; mend"
    ):
        checkpoint(folder, "old/model.ckpt")


def test_real_records(data_dir, tmp_path):
    records = data_dir / "tfrecord-masks"
    text = changed("num_classes: 3", "num_classes: 2").replace("label_map.pbtxt", str(records / "label.pbtxt"))
    text = re.sub(r'"(train|val)\.record"', f'"{records}/train_data-?????-of-00001"', text)
    train, val, notes = opened(tmp_path, text)
    assert (len(train), len(val), train.classes) == (32, 32, ("speaker076", "cup026"))
    assert train.class_counts().tolist() == [24, 25]
    assert len(notes) == 2
