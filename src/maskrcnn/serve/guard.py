"""Before the app: who may ask, how often, how much, how slowly. After it: headers for browsers, and the counts.

Plain ASGI. A request is turned away before a byte of its body is read, where its headers say enough.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

import orjson

from maskrcnn.serve.batching import BusyError
from maskrcnn.serve.limits import Limits
from maskrcnn.serve.metrics import Metrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

CLIENTS = 10_000
"""Addresses whose rate is remembered."""
DRAINED = 4
"""Times the largest request that a refused one may have to be read to its end."""
HEADERS = [
    (b"content-security-policy",
     b"default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]  # fmt: skip


class Refusal(Exception):
    """Not answered by the app: `status` of HTTP and a sentence."""

    def __init__(self, status: int, sentence: str, retry: float | None = None) -> None:
        super().__init__(sentence)
        self.status, self.retry = status, retry


class Rate:
    """A bucket of tokens for each client: `rate` a second, as many again at once."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, when

    def wait(self, client: str) -> float:
        """0 when this request may pass, else after how many seconds another may."""
        if not self._rate:
            return 0.0
        now, most = self._clock(), max(self._rate, 1.0)
        tokens, before = self._buckets.pop(client, (most, now))
        tokens = min(most, tokens + (now - before) * self._rate)
        passes = tokens >= 1
        self._buckets[client] = (tokens - passes, now)
        while len(self._buckets) > CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if passes else (1 - tokens) / self._rate


class Guard:
    """The app behind its limits."""

    def __init__(
        self,
        app: App,
        limits: Limits,
        metrics: Metrics,
        *,
        paths: frozenset[str],
        hosts: frozenset[str] | None,
        check: Callable[[], None],
    ) -> None:
        """Args:
        app: what answers.
        limits: see `Limits`.
        metrics: gets every request.
        paths: the app's own; all others are counted as one.
        hosts: names that the Host header may have, None: any. On loopback it keeps web pages whose name was pointed
            at 127.0.0.1 from reading what the server says.
        check: raises `BusyError` when one more image would be answered too late.
        """
        self._app, self._limits, self._metrics = app, limits, metrics
        self._paths, self._hosts = paths, hosts
        self._rate, self._uploads, self._check = Rate(limits.rate), 0, check

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 0
        path = scope["path"] if scope["path"] in self._paths else "other"

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the server sends the headers alone
        try:
            await self._pass(scope, receive, counted)
        except Exception:
            if not status:
                await say(Refusal(500, "a mistake of the server; its log says more"), counted)
            raise  # into the log
        finally:
            self._metrics.request(path, status or 500, time.monotonic() - began)

    async def _pass(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            posts = self._admit(scope)
        except Refusal as refusal:
            await self._drain(scope, receive)
            await say(refusal, send)
            return
        if not posts:
            await self._app(scope, receive, send)
            return
        upload, here = _Upload(receive, self._limits), True
        self._uploads += 1

        def leave() -> None:
            nonlocal here
            self._uploads -= here
            here = False

        async def patient(message: Message) -> None:
            early = message["type"] == "http.response.start" and not (upload.whole or upload.late)
            if early and not await self._drain(scope, receive):  # a form that cannot be read, too many parts
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                leave()  # before the client knows, whose next request may be here at once
            await send(message)

        try:
            await self._app(scope, upload.measured, patient)
        finally:
            leave()

    def _admit(self, scope: Message) -> bool:
        """Whether it brings a body. Raises `Refusal`."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if self._hosts is not None and _host(headers.get(b"host", "")) not in self._hosts:
            raise Refusal(421, "this server answers to its own address only; ask for http://127.0.0.1")
        if scope["method"] == "GET":
            return False
        if _is_foreign(headers):
            raise Refusal(403, "another site's page may not use this server; open the server's own page")
        wait = self._rate.wait((scope.get("client") or ("",))[0])
        if wait:
            raise Refusal(429, "too many requests; slow down", retry=wait)
        length = headers.get(b"content-length", "")
        if length.isdecimal() and (len(length) > 18 or int(length) > self._limits.bytes):
            raise _too_large(self._limits)
        if self._uploads >= self._limits.uploads:
            raise Refusal(503, "too many requests at a time; try again in a moment", retry=1)
        if scope["path"] in self._paths:
            try:
                self._check()
            except BusyError as error:
                raise Refusal(503, str(error), retry=error.retry) from None
        return True

    async def _drain(self, scope: Message, receive: Receive) -> bool:
        """Read and forget a body that is not much too large: clients that are cut off while they send see no answer.
        Returns whether all of it came."""
        most = DRAINED * self._limits.bytes
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if scope["method"] == "GET" or not length.isdigit() or len(length) > 18 or int(length) > most:
            return False
        total = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.upload_seconds):
                while total <= most:
                    message = await receive()
                    total += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return True
        return False


class _Upload:
    """The body of a request with an end: of bytes, and of patience.

    Attributes:
        whole: all of it has come.
        late: it did not come in time.
    """

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive, self._limits = receive, limits
        self._deadline, self._total = time.monotonic() + limits.upload_seconds, 0
        self.whole = self.late = False

    async def measured(self) -> Message:
        """`receive` for the app."""
        if self.whole:  # the app waits for the client to hang up
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), max(self._deadline - time.monotonic(), 0))
        except TimeoutError:
            self.late = True
            raise _for_app(408, f"nothing whole came in {self._limits.upload_seconds:g} seconds") from None
        self._total += len(message.get("body", b""))
        self.whole = not message.get("more_body", False)
        if self._total > self._limits.bytes:
            refusal = _too_large(self._limits)
            raise _for_app(refusal.status, str(refusal))
        return message


def _too_large(limits: Limits) -> Refusal:
    return Refusal(413, f"more than {limits.megabytes:g} megabytes; send fewer or smaller images")


def _for_app(status: int, sentence: str) -> Exception:
    """What FastAPI lets through while it reads a body; the connection ends, because its rest was not read."""
    from fastapi import HTTPException

    return HTTPException(status, sentence, headers={"connection": "close"})


def _is_foreign(headers: Mapping[bytes, str]) -> bool:
    """Whether a page of another site asks. Browsers that do not say so name the page's origin, programs neither."""
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site is None:
        return origin is not None and origin.partition("://")[2] != headers.get(b"host", "")
    return site not in ("none", "same-origin")


def _host(header: str) -> str:
    """The Host header without its port."""
    name, colon, port = header.rpartition(":")
    return (name if colon and port.isdecimal() else header).lower()


async def say(refusal: Refusal, send: Send, more: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """Send a refusal, with more headers where no `Guard` adds them."""
    start, body = answer(refusal)
    await send({"type": "http.response.start", "status": refusal.status, "headers": [*start, *more]})
    await send({"type": "http.response.body", "body": body})


def answer(refusal: Refusal) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """(headers, body) of a refusal, after which the connection ends."""
    body = orjson.dumps({"detail": str(refusal)})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    if refusal.retry is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(refusal.retry))))
    return headers, body
