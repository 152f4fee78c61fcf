"""`maskrcnn serve` from the command line: options, mistakes, and a process that stops when it is told to."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from maskrcnn import cli
from maskrcnn.predict.predictor import Predictor
from maskrcnn.serve.limits import Limits
from maskrcnn.serve.run import make_server
from maskrcnn.weights.native import save_model
from tests.model.tiny import tiny_model


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the server was started with."""
    seen: list[Any] = []
    monkeypatch.setattr("maskrcnn.cli.measured.open_predictor", lambda given: given.model)
    monkeypatch.setattr("maskrcnn.serve.run.serve", lambda *given, **named: seen.append((*given, named)))
    return seen


def test_defaults_are_those_of_limits_and_local(served: list[Any]) -> None:
    assert cli.main(["serve", "runs/a"]) == 0
    assert served == [("runs/a", "127.0.0.1", 8000, Limits(), {"name": "a"})]


def test_options(served: list[Any]) -> None:
    options = "--host 0.0.0.0 --port 1 --batch-size 2 --batch-wait 0 --queue 3 --max-megabytes 4 --max-megapixels 5.5"
    assert cli.main(["serve", "m.onnx", *options.split(), "--rate", "0", "--timeout", "7"]) == 0
    limits = Limits(batch=2, wait=0, queue=3, megabytes=4, megapixels=5.5, rate=0, seconds=7)
    assert served[0][1:4] == ("0.0.0.0", 1, limits)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--batch-size 0", "--batch-size 0 must be at least 1"),
        ("--max-megabytes -1", "--max-megabytes -1.0 must be at least 0.001"),
        ("--port no", "--port: expected int, got"),
        ("--bind x", "unknown option --bind"),
    ],
)
def test_mistakes_end_in_one_sentence(arguments: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "runs/a", *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_a_missing_package_is_said_before_the_model_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.main(["serve", "gone"]) == 2
    assert "pip install 'maskrcnn[serve]'" in capsys.readouterr().err


def test_a_taken_port_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Exception, match=f"port {port} .*choose another --port"):
            make_server(Predictor(tiny_model(), "cpu"), "127.0.0.1", port, Limits())


def test_other_hosts_are_warned_about() -> None:
    with pytest.warns(UserWarning, match="no password"):
        server, listening = make_server(Predictor(tiny_model(), "cpu"), "0.0.0.0", 0, Limits())
    listening.close()
    server.config.app.state.service.close()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_process_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    save_model(tiny_model(), tmp_path / "model")
    command = [sys.executable, "-m", "maskrcnn", "serve", str(tmp_path / "model"), "--port", "0", "--device", "cpu"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # Who runs the tests in the background may have Ctrl-C ignored, which a child inherits.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, **pipes, preexec_fn=heard) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert found, (said, process.communicate()[1])
        with urllib.request.urlopen(f"{found[0]}/health", timeout=30) as reply:
            assert json.load(reply)["status"] == "ok"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.communicate()[1] == ""
