"""A server on a port, until it is told to stop."""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import socket
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from maskrcnn.errors import ConfigError
from maskrcnn.predict.predictor import Predictor
from maskrcnn.serve.app import make_app
from maskrcnn.serve.guard import HEADERS, Refusal, answer, say
from maskrcnn.serve.limits import Limits

LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})


def serve(
    predictor: Predictor,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    *,
    name: str = "model",
    say: Callable[[str], None] = print,
) -> None:
    """Serve until Ctrl-C or SIGTERM; requests that run are finished first.

    Args:
        host: address to listen on; 127.0.0.1 is for this machine alone.
        port: 0 takes a free one.
        say: gets the sentence with the address.

    Raises:
        ConfigError: the packages are not installed, or the address cannot be had.
    """
    server, listening = make_server(predictor, host, port, limits or Limits(), name=name)
    shown = f"[{host}]" if ":" in host else host
    say(f"{name} is served at http://{shown}:{listening.getsockname()[1]} (Ctrl-C stops)")
    server.run(sockets=[listening])


def need_packages() -> None:
    """Raises `ConfigError` with the pip line when a package is not installed."""
    for package in ("fastapi", "uvicorn", "python_multipart"):
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise ConfigError(f"{error.name} is not installed; pip install 'maskrcnn[serve]'") from error


def make_server(
    predictor: Predictor, host: str, port: int, limits: Limits, *, name: str = "model"
) -> tuple[Any, socket.socket]:
    """(uvicorn's Server, a socket that listens). The model has seen one image. Raises `ConfigError` as `serve`."""
    need_packages()
    import uvicorn

    listening = _listen(host, port)
    try:
        hosts = LOCAL | {f"[{host}]" if ":" in host else host} if is_loopback(host) else None
        if hosts is None:
            warnings.warn(
                f"--host {host}: everybody who reaches this machine can use the server, there is no password; "
                "put a proxy with one in front of it",
                stacklevel=2,
            )
        app = make_app(predictor, limits, name=name, hosts=hosts)
        warm_up(app)
    except BaseException:
        listening.close()
        raise
    config = uvicorn.Config(
        app,
        http=patient_protocol(limits),
        ws="none",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=int(limits.seconds) + 1,
    )
    return uvicorn.Server(config), listening


def warm_up(app: Any) -> None:
    """One image through the model's own thread, so that the first client does not wait for what happens once."""
    service = app.state.service
    channels = len(service.predictor.model.config.image_mean)
    service.batcher.submit([service.predictor.prepare(np.zeros((64, 64, channels), np.uint8))])[0].result()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port {port} must lie between 0 and 65535")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host} port {port} ({error.strerror or error}); choose another --port or --host"
        ) from error


def patient_protocol(limits: Limits) -> type:
    """uvicorn's protocol, which waits for the headers of a request for `limits.upload_seconds` and not for ever, and
    which answers in our words and with our headers what never reaches the app."""
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Patient(H11Protocol):
        waiting = False

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                self.app = crowded
            self._wait()

        def send_400_response(self, msg: str) -> None:
            headers, body = answer(Refusal(400, "not a request of HTTP/1.1 that can be read; ask again"))
            with contextlib.suppress(h11.LocalProtocolError):  # the client has an answer already
                for event in (
                    h11.Response(status_code=400, headers=[*headers, *HEADERS], reason=b"Bad Request"),
                    h11.Data(data=body),
                    h11.EndOfMessage(),
                ):
                    self.transport.write(self.conn.send(event))
            self.transport.close()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._wait()

        def _between(self) -> bool:
            """No request yet, or half of its headers; or the rest of a body that was answered early."""
            return self.conn.their_state is h11.IDLE or (self.cycle is not None and self.cycle.response_complete)

        def _wait(self) -> None:
            if self._between() and not self.waiting:
                self.waiting = True
                self.loop.call_later(limits.upload_seconds, self._give_up, self.cycle)

        def _give_up(self, before: Any) -> None:
            self.waiting = False
            if self.cycle is before and self._between():
                self.transport.close()
            elif not self.transport.is_closing():
                self._wait()

    return Patient


async def crowded(scope: Any, receive: Any, send: Any) -> None:
    """The app of a connection too many."""
    await say(Refusal(503, "too many connections; try again in a moment", retry=1), send, HEADERS)
