"""A crash or a full disk at any moment leaves a checkpoint that loads."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import maskrcnn.weights.folder as folder_module
from maskrcnn.errors import TrainingError
from maskrcnn.training.loop import train
from maskrcnn.weights.folder import current_folder, replace_folder
from maskrcnn.weights.native import load_model
from tests.training.tiny_run import tiny_config


def writer(text: str):
    return lambda folder: (folder / "content").write_text(text)


def test_replaces_whole_folders(tmp_path):
    target = tmp_path / "a" / "last"
    replace_folder(target, writer("one"))
    (target / "stale").write_text("")
    replace_folder(target, writer("two"))
    assert [path.name for path in target.parent.iterdir()] == ["last"]
    assert [path.name for path in target.iterdir()] == ["content"]
    assert (target / "content").read_text() == "two"


class Crash(BaseException):
    pass


@pytest.mark.parametrize("moment", range(4))
def test_a_crash_at_any_moment_leaves_a_whole_folder(tmp_path, monkeypatch, moment):
    target = tmp_path / "last"
    replace_folder(target, writer("old"))
    calls = []

    def crashing(real):
        def call(*args, **kwargs):
            if len(calls) == moment:
                raise Crash
            calls.append(None)
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", crashing(Path.mkdir))
        patch.setattr(Path, "rename", crashing(Path.rename))
        with pytest.raises(Crash):
            replace_folder(target, writer("new"))
    assert (current_folder(target) / "content").read_text() in ("old", "new")
    replace_folder(target, writer("next"))  # and saving goes on
    assert (target / "content").read_text() == "next"
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_recovers_between_the_two_renames(tmp_path):
    target = tmp_path / "last"
    replace_folder(target, writer("old"))
    target.rename(tmp_path / "last.old")
    assert (current_folder(target) / "content").read_text() == "old"


def full_disk(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk_keeps_the_earlier_checkpoint(squares, tmp_path, monkeypatch):
    real, out, saved = folder_module._write, tmp_path / "run", []

    def write(path, content):
        saved.append(path.name)
        if saved.count("state.safetensors") == 2:  # the second checkpoint
            path.write_bytes(content[:10])
            full_disk()
        real(path, content)

    monkeypatch.setattr(folder_module, "_write", write)
    with pytest.raises(TrainingError) as caught:
        train(tiny_config(), train=squares[0], out=out, device="cpu", progress=False)
    last = out / "checkpoints" / "last"
    assert re.fullmatch(
        rf"{re.escape(str(last))}: cannot save the checkpoint: No space left on device; "
        "earlier checkpoints are intact; free some space or choose another folder with --out",
        str(caught.value),
    )
    assert load_model(last)[2]["step"] == 3
    assert [path.name for path in last.parent.iterdir()] == ["last"]
    monkeypatch.setattr(folder_module, "_write", real)
    run = train(tiny_config(), train=squares[0], out=out, resume=True, device="cpu", progress=False)
    assert load_model(run.checkpoint)[2]["step"] == 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX file size limits")
def test_a_real_write_error_is_one_sentence(tmp_path):
    code = f"""
import resource, signal, pathlib, torch
from maskrcnn.weights.folder import replace_folder, write_tensors
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    tensors = {{"a": torch.zeros(9999)}}
    replace_folder(pathlib.Path({str(tmp_path / "last")!r}), lambda folder: write_tensors(tensors, folder / "x"))
except Exception as error:
    print(type(error).__name__, error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("TrainingError ")
    assert "cannot save the checkpoint: File too large" in said
    assert not list(tmp_path.iterdir())


def test_out_that_is_a_file(squares, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"is a file; choose another folder with --out"):
        train(tiny_config(), train=squares[0], out=tmp_path / "file", device="cpu", progress=False)


def test_full_disk_while_logging(squares, tmp_path, monkeypatch):
    real = Path.open

    def opened(path, mode="r", *args, **kwargs):
        return full_disk() if path.name == "metrics.jsonl" and mode == "a" else real(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(TrainingError, match=r"metrics.jsonl: cannot write: No space left on device; .*--resume"):
        train(tiny_config(), train=squares[0], out=tmp_path / "run", device="cpu", progress=False)
