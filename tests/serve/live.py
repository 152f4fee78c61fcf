"""A real server on a free port of this machine, asked with the standard library."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from maskrcnn.predict.predictor import Predictor
from maskrcnn.serve.limits import Limits
from maskrcnn.serve.run import make_server

BOUNDARY = "boundary-of-the-tests"


@dataclass
class Reply:
    """What the server said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Live:
    """A server that runs in a thread."""

    port: int
    service: Any
    server: Any

    def get(self, path: str, **headers: str) -> Reply:
        return self._ask(urllib.request.Request(self.url + path, headers=headers))

    def send(self, path: str, *files: bytes, field: str = "image", **headers: str) -> Reply:
        body = form(*files, field=field)
        kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        return self._ask(urllib.request.Request(self.url + path, body, {**kind, **headers}))

    def post(self, body: bytes, kind: str = f"multipart/form-data; boundary={BOUNDARY}") -> Reply:
        return self._ask(urllib.request.Request(f"{self.url}/predict", body, {"Content-Type": kind}))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _ask(self, request: urllib.request.Request) -> Reply:
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return Reply(reply.status, dict(reply.headers), reply.read())
        except urllib.error.HTTPError as error:
            return Reply(error.code, dict(error.headers), error.read())

    def raw(self, start: bytes, *, pieces: int = 0, pause: float = 0.1) -> bytes:
        """Bytes as they are, then `pieces` more slowly; what comes back until the server hangs up."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(start)
            try:
                for _ in range(pieces):
                    time.sleep(pause)
                    connection.sendall(b"x")
                answer = b""
                while piece := connection.recv(65536):
                    answer += piece
            except ConnectionError:
                return b""
            return answer


@contextmanager
def live(predictor: Predictor, **limits: Any) -> Iterator[Live]:
    """Serve for the length of the `with`; stopped as by Ctrl-C."""
    server, listening = make_server(predictor, "127.0.0.1", 0, Limits(**limits), name="tiny")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield Live(listening.getsockname()[1], server.config.app.state.service, server)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def form(*files: bytes, field: str = "image") -> bytes:
    """The body of a form with these files."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="photo {i + 1}.png"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for i, content in enumerate(files)
    ]
    return b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


def picture(height: int = 60, width: int = 80, kind: str = "PNG", seed: int = 0) -> bytes:
    """A file of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.fromarray(pixels).save(file, kind)
    return file.getvalue()
