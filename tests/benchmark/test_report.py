from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from maskrcnn.benchmark.report import Report, Row, check_writable, compare, read_report, write_report
from maskrcnn.benchmark.show import show, show_comparison
from maskrcnn.errors import DataError

ROW = Row("infer", "whole call", "small", 1, (96, 128), 20.0, 22.0, 4.0, 5, 50.0, 300.0, 4.0, 0.5, {"detections": 100})
LINE = {"per": "10 classes", "x": [2, 80], "ms": [10.0, 11.0], "intercept_ms": 9.9, "r2": 1.0}
SCALING = Row("infer", "scaling: classes", "small", 1, None, 0.1, 0.1, 0.0, 3, extra=LINE)


def a_report(*rows: Row, **changes: dict) -> Report:
    report = Report(
        date="2026-01-01",
        machine={"cpu": "one", "threads": 2, "peak_gflops": {"best": 100.0}},
        versions={"torch": "2.14"},
        config={"preset": "small", "parts": ("infer",), "network": {"model": {"fpn": {"channels": 96}}}},
        rows=list(rows),
        notes=["a sentence"],
    )
    return replace(report, **changes)


def test_a_report_comes_back(tmp_path: Path) -> None:
    report = a_report(ROW, SCALING)
    write_report(report, tmp_path / "deep" / "a.json")
    again = read_report(tmp_path / "deep" / "a.json")
    assert again.rows == report.rows
    assert compare(again, report).differences == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no", "is not JSON"),
        ("[]", "was not written by `maskrcnn benchmark --json`"),
        ('{"rows": []}', "was not written by `maskrcnn benchmark --json`"),
        ('{"schema": "maskrcnn-benchmark", "schema_version": 99}', "has schema version 99, this maskrcnn reads 1"),
        ('{"schema": "maskrcnn-benchmark", "schema_version": 1, "rows": [{}]}', "is damaged"),
        ('{"schema": "maskrcnn-benchmark", "schema_version": 1, "rows": []}', "is damaged"),
    ],
)
def test_other_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(DataError, match=r"a\.json: ") as caught:
        read_report(file)
    assert message in str(caught.value)


def test_missing_and_unwritable_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.json: cannot be read: No such file"):
        read_report(tmp_path / "no.json")
    with pytest.raises(DataError, match="is no file that can be written"):
        check_writable(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is no file that can be written"):
        check_writable(tmp_path / "file" / "a.json")
    check_writable(tmp_path / "new" / "a.json")


def test_rows_meet_by_what_they_measured() -> None:
    faster, other = replace(ROW, median_ms=10.0), replace(ROW, batch=2)
    found = compare(a_report(faster, other), a_report(ROW, SCALING))
    assert found.pairs == [(faster, ROW)]
    assert (found.only_now, found.only_earlier) == ([other], [SCALING])
    assert found.comparable


def test_two_models_are_compared_and_two_files_are_not_mixed_up() -> None:
    assert len(compare(a_report(replace(ROW, model="runs/b")), a_report(ROW)).pairs) == 1
    one, other = replace(ROW, part="export", model="a.onnx"), replace(ROW, part="export", model="b.onnx")
    assert compare(a_report(one, other), a_report(other, one)).pairs == [(one, one), (other, other)]


def test_other_machines_and_networks_are_named_and_versions_are_what_is_compared() -> None:
    now = a_report(ROW, versions={"torch": "2.15"})
    found = compare(now, a_report(ROW))
    assert found.differences == [("versions.torch", "2.14", "2.15")]
    assert found.comparable
    config = {"preset": "small", "parts": ("train",), "network": {"model": {"fpn": {"channels": 256}}}}
    machine = {"cpu": "two", "threads": 2, "peak_gflops": {"best": 90.0}}
    found = compare(replace(now, config=config, machine=machine), a_report(ROW))
    assert [name for name, _, _ in found.differences] == [
        "machine.cpu",
        "versions.torch",
        "config.network.model.fpn.channels",
    ]
    assert not found.comparable


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    now = a_report(replace(ROW, median_ms=10.0), SCALING, machine={"cpu": "two"})
    show(now)
    show_comparison(compare(now, a_report(ROW)), "earlier.json")
    text = capsys.readouterr().out
    for wanted in ("whole call", "96x128", "100 detections", "0.10 ±0.00 for 10 classes", "a sentence", "2.00x"):
        assert wanted in text
    assert "differs: machine.cpu was one, is two" in text
    assert "not comparable" in text
    assert "only now: scaling: classes" in text
    json.dumps(now.to_dict())
