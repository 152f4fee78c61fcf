from __future__ import annotations

from pathlib import Path

import pytest

from maskrcnn import demo
from maskrcnn.errors import TrainingError
from maskrcnn.presets import preset


def test_a_foreign_folder_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(TrainingError, match="holds something that is not an earlier demo; choose another --out"):
        demo.run_demo(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    with pytest.raises(TrainingError, match="choose another --out"):
        demo.run_demo(tmp_path / "thesis.txt")


def test_an_earlier_demo_is_replaced_and_the_rest_kept(tmp_path: Path) -> None:
    demo._clear(tmp_path / "demo")
    for name in ("run", "notes"):
        (tmp_path / "demo" / name).mkdir()
    demo._clear(tmp_path / "demo")
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {demo.MARK, "notes"}


def test_the_demo_from_data_to_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of it in seconds: two steps on a few small images."""
    from maskrcnn.data import synthetic

    def few_shapes(folder: Path, train: int) -> Path:
        return write_shapes(folder, train=4, val=3, size=(64, 64))

    def short(name: str) -> object:
        changes = {"train.steps": 2, "train.batch_size": 2, "data.min_size": 64, "data.workers": 0}
        return preset(name).replace(**changes)

    write_shapes = synthetic.write_shapes
    monkeypatch.setattr(synthetic, "write_shapes", few_shapes)
    monkeypatch.setattr(demo, "preset", short)
    metrics = demo.run_demo(tmp_path / "demo", device="cpu")
    assert 0 <= metrics["mask"]["ap"] <= 1
    assert len(list((tmp_path / "demo" / "pictures").glob("*.png"))) == 3
    shown = capsys.readouterr().out
    assert "mask AP 0." in shown
    assert str(tmp_path / "demo" / "overview.png") in shown
    assert (tmp_path / "demo" / "overview.png").is_file()
