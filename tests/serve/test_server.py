"""A real server with a tiny model: what it answers."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskrcnn.ops.rle import decode_rle
from maskrcnn.predict.predictor import Predictor
from maskrcnn.predict.results import index_mask
from tests.model.tiny import tiny_model
from tests.serve.live import BOUNDARY, Live, form, live, picture


def pixels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(file)).convert("RGB"))


def test_the_answer_is_that_of_the_predictor(server: Live, predictor: Predictor) -> None:
    file = picture()
    wanted = predictor(pixels(file), 0.5)
    answer = server.send("/predict?score_threshold=0.5", file).json
    assert (answer["file"], answer["width"], answer["height"], answer["error"]) == ("photo 1.png", 80, 60, None)
    found = answer["instances"]
    assert len(found) == len(wanted) > 3
    np.testing.assert_allclose([one["box"] for one in found], wanted.boxes, atol=0.01)
    np.testing.assert_allclose([one["score"] for one in found], wanted.scores, atol=1e-5)
    assert [one["name"] for one in found] == wanted.names
    assert [one["category_id"] for one in found] == [label + 1 for label in wanted.labels]
    for one, rings in zip(found, wanted.polygons, strict=True):
        assert [len(ring) for ring in one["polygons"]] == [ring.size for ring in rings]
        assert one["rle"] is None


def test_rle_png_and_none(server: Live, predictor: Predictor) -> None:
    file = picture(seed=1)
    wanted = predictor(pixels(file), 0.5)
    found = server.send("/predict?output=rle", file).json["instances"]
    masks = [decode_rle({"size": one["rle"]["size"], "counts": one["rle"]["counts"].encode()}) for one in found]
    np.testing.assert_array_equal(masks, wanted.masks)
    reply = server.send("/predict?output=png", file)
    assert reply.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(reply.body))), index_mask(wanted))
    plain = server.send("/predict?output=none", file).json["instances"]
    assert {(one["polygons"], one["rle"]) for one in plain} == {(None, None)}


def test_nothing_found_is_an_answer(server: Live) -> None:
    reply = server.send("/predict?output=png&score_threshold=1", picture())
    assert Image.open(BytesIO(reply.body)).size == (80, 60)
    assert not pixels(reply.body).any()
    for output in ("polygons", "rle", "none"):
        assert server.send(f"/predict?output={output}&score_threshold=1", picture()).json["instances"] == []


def test_a_body_in_chunks_of_no_stated_length(server: Live) -> None:
    def chunks() -> Iterator[bytes]:
        content = form(picture())
        yield from (content[start : start + 999] for start in range(0, len(content), 999))

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    connection.request("POST", "/predict", chunks(), kind, encode_chunked=True)
    answers = [json.load(connection.getresponse())]
    connection.request("POST", "/predict", form(picture()), kind)  # the connection stays open
    answers.append(json.load(connection.getresponse()))
    connection.close()
    assert answers[0] == answers[1] == server.send("/predict", picture()).json


@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/page.js", "/openapi.json"])
def test_other_methods(path: str, server: Live) -> None:
    assert server.get(path).status == 200
    for method, status in (("HEAD", 200), ("OPTIONS", 405), ("PUT", 405), ("DELETE", 405)):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request(method, path)
        reply = connection.getresponse()
        assert (reply.status, reply.read() == b"") == (status, method == "HEAD")
        connection.close()


def test_a_path_that_is_none_names_those_that_are(server: Live) -> None:
    assert "/predict/batch" in server.get("/docs").json["detail"]
    assert "/openapi.json" in server.get("/predict").json["detail"]


def test_the_threshold_leaves_out(server: Live) -> None:
    counts = [len(server.send(f"/predict?score_threshold={at}", picture()).json["instances"]) for at in (0, 0.7, 1)]
    assert counts[0] > counts[1] > counts[2] == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_kinds_of_files(server: Live, kind: str) -> None:
    answer = server.send("/predict", picture(30, 50, kind)).json
    assert (answer["width"], answer["height"]) == (50, 30)


def test_orientation_is_obeyed(server: Live) -> None:
    file, exif = BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (50, 30)).save(file, "JPEG", exif=exif)
    answer = server.send("/predict", file.getvalue()).json
    assert (answer["width"], answer["height"]) == (30, 50)


def test_a_batch_keeps_the_order_and_names_what_is_broken(server: Live) -> None:
    files = [picture(30, 50), b"no image", picture(50, 30)]
    images = server.send("/predict/batch", *files, field="images").json["images"]
    assert [(one["width"], one["height"]) for one in images] == [(50, 30), (0, 0), (30, 50)]
    assert [one["file"] for one in images] == ["photo 1.png", "photo 2.png", "photo 3.png"]
    assert [one["error"] is None for one in images] == [True, False, True]
    assert images[0]["instances"] == server.send("/predict", files[0]).json["instances"]


def test_health_and_metrics(server: Live) -> None:
    health = server.get("/health").json
    assert (health["status"], health["model"], health["classes"]) == ("ok", "tiny", ["square", "circle", "triangle"])
    server.get("/no/such/page")
    text = server.get("/metrics").body.decode()
    assert 'maskrcnn_requests_total{path="other",status="404"}' in text
    assert "no/such" not in text


def test_the_api_is_documented(server: Live) -> None:
    document = server.get("/openapi.json").json
    assert {"/predict", "/predict/batch", "/health", "/metrics"} == document["paths"].keys()
    post = document["paths"]["/predict"]["post"]
    assert {"200", "400", "408", "413", "415", "422", "429", "503", "504"} <= post["responses"].keys()
    assert "image/png" in post["responses"]["200"]["content"]


def test_the_page_comes_whole_and_from_here(server: Live) -> None:
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
        reply = server.get(path)
        assert reply.status == 200
        assert reply.headers["content-type"].startswith(kind)
        assert "default-src 'self'" in reply.headers["content-security-policy"]
        assert not re.search(rb"https?://", reply.body)
    assert server.get("/docs").status == 404  # FastAPI's own page loads scripts from elsewhere


def test_a_model_without_masks() -> None:
    with live(Predictor(tiny_model(**{"model.mask": None}), "cpu")) as server:
        found = server.send("/predict", picture()).json["instances"]
        assert found
        assert found[0]["polygons"] is None
        assert "no mask head" in server.send("/predict?output=png", picture()).json["detail"]
        assert server.get("/health").json["masks"] is False


class Held(Predictor):
    """Waits with each batch until it may; the first one, at the start, passes."""

    def __init__(self) -> None:
        super().__init__(tiny_model(), "cpu")
        self.may, self.batches = threading.Event(), []

    def predict_prepared(self, images: Sequence[Any], *arguments: Any, **keywords: Any) -> Any:
        self.batches.append(len(images))
        assert len(self.batches) == 1 or self.may.wait(20)
        return super().predict_prepared(images, *arguments, **keywords)


def until(true: Any) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_requests_share_a_batch() -> None:
    held = Held()
    with live(held, batch=4) as server, ThreadPoolExecutor(5) as pool:
        first = pool.submit(server.send, "/predict", picture())
        until(lambda: len(held.batches) == 2)
        others = [pool.submit(server.send, "/predict", picture()) for _ in range(4)]
        until(lambda: server.service.batcher.queued == 4)
        held.may.set()
        answers = [future.result().json["instances"] for future in (first, *others)]
    for answer in answers[1:]:
        np.testing.assert_allclose([one["box"] for one in answer], [one["box"] for one in answers[0]], atol=0.02)
    assert held.batches == [1, 1, 4]


def test_a_full_server_says_so_and_a_late_answer_is_given_up() -> None:
    held = Held()
    with live(held, batch=1, queue=1, seconds=1, uploads=3) as server, ThreadPoolExecutor(3) as pool:
        first = pool.submit(server.send, "/predict", picture())
        until(lambda: len(held.batches) == 2)
        second = pool.submit(server.send, "/predict", picture())
        until(lambda: server.service.batcher.queued == 1)
        refused = server.send("/predict", picture())
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        assert first.result().status == second.result().status == 504
        held.may.set()
        until(lambda: server.service.batcher.queued == 0)
        assert server.send("/predict", picture()).status == 200


def test_who_would_wait_too_long_is_told_before_anything_is_read() -> None:
    held = Held()
    with live(held, batch=1, seconds=60) as server, ThreadPoolExecutor(1) as pool:
        server.service.pace.note("network", 1000)
        first = pool.submit(server.send, "/predict", picture())
        until(lambda: len(held.batches) == 2)
        start = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nbody that"
        refused = server.raw(start)
        held.may.set()
        assert b" 503 " in refused
        assert int(re.findall(rb"retry-after: (\d+)", refused)[0]) > 100
        assert b"try again later" in refused
        assert first.result().status == 200
        assert server.send("/predict", picture()).status == 200


class Failing(Predictor):
    """Its second batch fails."""

    batches = 0

    def predict_prepared(self, *arguments: Any, **keywords: Any) -> Any:
        self.batches += 1
        if self.batches == 2:
            raise RuntimeError("a secret of the server")
        return super().predict_prepared(*arguments, **keywords)


def test_a_mistake_of_the_server_is_a_500_with_all_headers() -> None:
    with live(Failing(tiny_model(), "cpu")) as server:
        reply = server.send("/predict", picture())
        assert (reply.status, set(reply.json)) == (500, {"detail"})
        assert "secret" not in reply.json["detail"]
        assert protected(reply.headers)
        assert server.send("/predict", picture()).status == 200
        assert 'path="/predict",status="500"} 1' in server.get("/metrics").body.decode()


def protected(headers: dict[str, str]) -> bool:
    named = {name.lower(): value for name, value in headers.items()}
    return "default-src 'self'" in named["content-security-policy"] and named["x-content-type-options"] == "nosniff"


def test_every_answer_has_the_headers(server: Live) -> None:
    replies = [
        server.get("/"),
        server.get("/health"),
        server.get("/nothing"),
        server.get("/predict"),
        server.get("/health", Host="evil.example"),
        server.send("/predict", picture()),
        server.send("/predict", b"text"),
        server.send("/predict?score_threshold=9", picture()),
        server.post(b"junk"),
    ]
    assert [reply.status for reply in replies] == [200, 200, 404, 405, 421, 200, 415, 422, 400]
    assert all(protected(reply.headers) for reply in replies)


@pytest.mark.parametrize(
    "junk", [b"junk\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"]
)
def test_what_is_not_http_gets_the_headers_too(junk: bytes, server: Live) -> None:
    answer = server.raw(junk)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"content-security-policy" in answer
    assert b'{"detail":' in answer


def test_a_connection_too_many_is_told(predictor: Predictor) -> None:
    with live(predictor, connections=2, upload_seconds=20) as server:
        with socket.create_connection(("127.0.0.1", server.port)), socket.create_connection(("127.0.0.1", server.port)):
            reply = server.get("/health")
            assert reply.status == 503
            assert reply.headers["retry-after"] == "1"
            assert protected(reply.headers)
        until(lambda: server.get("/health").status == 200)


def test_stopping_finishes_what_runs() -> None:
    held = Held()
    with ThreadPoolExecutor(1) as pool:
        with live(held) as server:
            idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            idle.request("GET", "/health")
            idle.getresponse().read()  # a connection that stays open does not hold up the end
            running = pool.submit(server.send, "/predict", picture())
            until(lambda: len(held.batches) == 2)
            threading.Timer(0.3, held.may.set).start()
        assert running.result().status == 200
        assert not server.service.batcher.alive


def test_a_place_is_free_as_soon_as_the_answer_is_there(predictor: Predictor) -> None:
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    with live(predictor, uploads=1, rate=0) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        for _ in range(40):
            connection.request("POST", "/predict", form(b"no image"), kind)
            reply = connection.getresponse()
            assert (reply.status, len(reply.read()) > 0) == (415, True)
        connection.close()
