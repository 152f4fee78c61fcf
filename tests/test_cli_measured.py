"""What `maskrcnn evaluate` and `predict` measure and name: splits, label maps, pipeline.configs."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest

from maskrcnn import cli
from maskrcnn.data.formats.label_map import label_map_text
from tests.data.formats.tf_shards import example, ints, write_shard
from tests.pipeline.texts import changed, write

BOX = (2, 2, 30, 30)


@pytest.fixture
def model():
    return SimpleNamespace(classes=("cup", "jug"), category_ids=(1, 2))


@pytest.fixture
def seen(model, tmp_path, monkeypatch):
    """A working directory; the model and data that the fakes were given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MASKRCNN_CACHE", str(tmp_path / "cache"))
    found = []

    def find(predictor, dataset, tiling=None):
        found.append((predictor.model, dataset))

    def score(findings, dataset, **options):
        return "AP"

    def save(results, out, kinds, journal):
        found.append(model)
        return "saved"

    def load(path, **options):
        items = SimpleNamespace(count=lambda: 0, skipped=0)
        return SimpleNamespace(
            model=model,
            items=lambda sources, **options: items,
            stream_items=lambda *given, **options: iter([]),
            skipped=[],
        )

    monkeypatch.setattr("maskrcnn.evaluation.evaluate.find", find)
    monkeypatch.setattr("maskrcnn.evaluation.findings.score", score)
    monkeypatch.setattr("maskrcnn.predict.results.save_results", save)
    monkeypatch.setattr("maskrcnn.predict.predictor.Predictor.load", load)
    return found


def run(*arguments: str) -> int:
    return cli.main(list(arguments))


def shard(name: str, *texts: bytes) -> None:
    from pathlib import Path

    record = example(BOX, size=(48, 64), class_text=list(texts), class_label=ints(1))
    write_shard(Path(name), record)


def test_the_only_split_is_measured_with_a_note(seen, capsys):
    shard("test.record", b"cup")
    assert run("evaluate", "M", "test.record") == 0
    assert len(seen[0][1]) == 1
    assert capsys.readouterr().out == "note: the data has the split 'test' alone: measured on that\nAP\n"
    assert run("evaluate", "M", "test.record", "--split", "val") == 2


def test_several_splits_are_a_choice(seen, tmp_path, capsys):
    shard("train.record", b"cup")
    shard("test.record", b"cup")
    assert run("evaluate", "M", str(tmp_path)) == 2
    assert "has no split 'val' but test, train; choose one with --split" in capsys.readouterr().err
    assert run("evaluate", "M", str(tmp_path), "--split", "test") == 0


def test_a_label_map_names_the_classes_of_the_records(seen, tmp_path, capsys):
    shard("test.record", b"mug")
    (tmp_path / "names.pbtxt").write_text(label_map_text(["cup", "jug"], [1, 2]))
    assert run("evaluate", "M", "test.record", "--label-map", "names.pbtxt") == 0
    ((model, dataset),) = seen
    assert (model.classes, dataset.classes, dataset.table.labels.tolist()) == (("cup", "jug"), ("cup", "jug"), [0])
    assert "note: class 'mug' (id 1, 1 objects) is not in the label map: taken for 'cup'" in capsys.readouterr().out


def test_a_pipeline_config_names_the_records_and_their_classes(seen, tmp_path, capsys):
    shard("val.record", b"mug")
    (tmp_path / "label_map.pbtxt").write_text(label_map_text(["cup"], [1]))
    write(tmp_path, changed("num_classes: 3", "num_classes: 1"))
    assert run("evaluate", "M", "pipeline.config") == 0
    assert (seen[0][1].classes, len(seen[0][1])) == (("cup",), 1)
    assert "taken for 'cup'" in capsys.readouterr().out
    assert run("evaluate", "M", "pipeline.config", "--split", "val") == 2
    assert "--split val: the records are those of pipeline.config" in capsys.readouterr().err


def test_a_label_map_names_a_model_by_id(seen, tmp_path, capsys):
    (tmp_path / "names.pbtxt").write_text(label_map_text(["Tasse"], [2]))
    assert run("predict", "M", "a.png", "--out", "o", "--label-map", "names.pbtxt") == 0
    assert seen[0].classes == ("cup", "Tasse")
    (tmp_path / "names.pbtxt").write_text(label_map_text(["Tasse", "Krug"], [2, 7]))
    assert run("predict", "M", "a.png", "--out", "o", "--label-map", "names.pbtxt") == 2
    assert capsys.readouterr().err == (
        "error: names.pbtxt: has ids from 2 to 7, but M has 2 classes with ids from 1 to 2; give the label map of this "
        "model\n"
    )


@pytest.mark.parametrize(("name", "text"), [("n.txt", "Tasse\nKrug\n"), ("n.json", '{"0": "Tasse", "1": "Krug"}')])
def test_names_without_ids_are_those_of_the_classes_in_their_order(seen, tmp_path, capsys, name, text):
    (tmp_path / name).write_text(text)
    assert run("predict", "M", "a.png", "--out", "o", "--label-map", name) == 0
    assert seen[0].classes == ("Tasse", "Krug")
    (tmp_path / name).write_text('["Tasse"]' if name.endswith("json") else "Tasse")
    assert run("predict", "M", "a.png", "--out", "o", "--label-map", name) == 2
    assert capsys.readouterr().err == (
        f"error: {name}: has 1 names, but M has 2 classes besides the background; give the names of this model\n"
    )


@pytest.mark.parametrize("told", ["m.pb: it has no names; give one to name them", "m.pb: another matter"])
def test_a_model_without_names_is_measured_with_those_of_the_map(seen, model, tmp_path, monkeypatch, capsys, told):
    def load(path, **options):
        warnings.warn(told, stacklevel=2)
        return SimpleNamespace(model=model)

    monkeypatch.setattr("maskrcnn.predict.predictor.Predictor.load", load)
    shard("test.record", b"jug")
    (tmp_path / "names.pbtxt").write_text(label_map_text(["jug", "cup"], [1, 2]))
    assert run("evaluate", "M", "test.record", "--label-map", "names.pbtxt") == 0
    nameless = "name them" in told
    assert seen[0][0].classes == (("jug", "cup") if nameless else ("cup", "jug"))
    assert (told in capsys.readouterr().err) != nameless


def test_options_are_suggested_from_the_command_at_hand(capsys):
    assert run("convert", "data", "A", "B", "--to", "coco", "--label-map", "m") == 2
    assert capsys.readouterr().err == "error: unknown option --label-map; `maskrcnn COMMAND --help` lists all\n"
    assert run("convert", "weights", "A", "B", "--labelmap", "m") == 2
    assert "did you mean '--label-map'?" in capsys.readouterr().err
