"""Uploads that mean harm get a 4xx and one sentence, and the server goes on."""

from __future__ import annotations

import socket
import struct
import time
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from maskrcnn.predict.predictor import Predictor
from tests.serve.live import BOUNDARY, Live, form, live, picture


def png(width: int, height: int, data: bytes = b"", kind: int = 2) -> bytes:
    """A PNG that claims a size, with this for its pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bomb() -> bytes:
    """16 megapixels of black in 16 kB."""
    return png(4000, 4000, zlib.compress(b"\0" * 4000 * 4001), kind=0)


LOOP = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 0) + struct.pack("<I", 8)
"""A TIFF whose first page says that it is the next page, too."""
HUGE_TIFF = (
    b"II*\0" + struct.pack("<IH", 8, 2)
    + struct.pack("<HHII", 256, 4, 1, 2**31) + struct.pack("<HHII", 257, 4, 1, 2**31) + struct.pack("<I", 0)
)  # fmt: skip
HOSTILE = {
    "nothing": (b"", 422),
    "text": (b"hello", 415),
    "web page": (b"<!doctype html><script>alert(1)</script>", 415),
    "drawing": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415),
    "archive": (b"PK\x03\x04" + bytes(100), 415),
    "NumPy": (b"\x93NUMPY" + bytes(100), 415),
    "sound": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), 422),
    "bomb": (bomb(), 413),
    "huge": (png(2**31 - 1, 2**31 - 1), 422),
    "wide": (png(2_000_000, 1), 413),
    "no width": (png(0, 5), 422),
    "only a signature": (b"\x89PNG\r\n\x1a\n", 422),
    "pixels missing": (png(50, 50), 422),
    "pixels are noise": (png(50, 50, b"\x12\x34" * 50), 422),
    "cut PNG": (picture()[:-300], 422),
    "cut JPEG": (picture(kind="JPEG")[:400], 422),
    "cut WebP": (picture(kind="WEBP")[:60], 422),
    "cut TIFF": (picture(kind="TIFF")[:200], 422),
    "TIFF in a circle": (LOOP, 422),
    "huge TIFF": (HUGE_TIFF, 4),
    "bytes": (b"\xff\xd8\xff" + bytes(range(256)) * 20, 422),
    "too many bytes": (bytes(1_100_000), 413),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_in_one_sentence(name: str, server: Live) -> None:
    content, status = HOSTILE[name]
    reply = server.send("/predict", content)
    assert reply.status == status or reply.status // 100 == status
    sentence = reply.json["detail"]
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    assert "/tmp" not in sentence
    assert server.send("/predict", picture()).status == 200


def test_a_bomb_is_known_by_its_header(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(image: Image.Image) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "load", load)
    assert "more than 1 megapixels" in server.send("/predict", bomb()).json["detail"]


def test_nothing_of_an_upload_stays(server: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for content in (picture(), b"\x89PNG\r\n\x1a\n" + bytes(900_000), b""):
        server.send("/predict", content)
    assert list(tmp_path.iterdir()) == []


def test_file_names_are_only_words(server: Live) -> None:
    body = form(picture()).replace(b"photo 1.png", b"../../../etc/passwd")
    reply = server.post(body)
    assert reply.status == 200
    assert reply.json["file"].endswith("passwd")


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", f"multipart/form-data; boundary={BOUNDARY}", 422),
        (b"junk", "multipart/form-data; boundary=x", 400),
        (b"junk", "multipart/form-data", 400),
        (b"{}", "application/json", 422),
        (form(picture(), field="other"), f"multipart/form-data; boundary={BOUNDARY}", 422),
        (b"image=text", "application/x-www-form-urlencoded", 422),
    ],
)
def test_forms_that_are_none(body: bytes, kind: str, status: int, server: Live) -> None:
    reply = server.post(body, kind)
    assert (reply.status, set(reply.json)) == (status, {"detail"})


@pytest.mark.parametrize("query", ["output=gif", "score_threshold=2", "score_threshold=nan", "score_threshold=x"])
def test_wrong_parameters(query: str, server: Live) -> None:
    reply = server.send(f"/predict?{query}", picture())
    assert reply.status == 422
    assert reply.json["detail"].startswith(query.partition("=")[0])


def test_too_many_images(server: Live) -> None:
    assert server.send("/predict/batch", *[b"x"] * 17, field="images").status == 413


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_thousands_of_parts(path: str, server: Live) -> None:
    field = "image" if path == "/predict" else "images"
    reply = server.send(path, *[b"x"] * 5000, field=field)
    assert reply.status == 400
    assert "Too many files" in reply.json["detail"]


@pytest.mark.parametrize(
    "part", ['name="image"; filename="{}"\r\n\r\nx', 'name="word"\r\n\r\n{}', 'name="{}"\r\n\r\nx']
)
def test_parts_that_never_end(part: str, predictor: Predictor) -> None:
    content = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {part.format('y' * 4_000_000)}\r\n--{BOUNDARY}--\r\n"
    with live(predictor, megabytes=5) as server:
        reply = server.post(content.encode())
        # Before Starlette 0.40 a field may be as long as the request: then it is no file, which is 422.
        assert (reply.status, reply.json["detail"][:23]) in [
            (400, "the form cannot be read"),
            (422, "image: send a file in a"),
        ]


def test_one_image_means_one(server: Live) -> None:
    reply = server.send("/predict", picture(), picture())
    assert (reply.status, "/predict/batch" in reply.json["detail"]) == (422, True)


def test_a_word_is_no_file(server: Live) -> None:
    reply = server.post(form(b"hello").replace(b'; filename="photo 1.png"', b""))
    assert (reply.status, reply.json["detail"]) == (422, "image: send a file in a form field of this name")


@pytest.mark.parametrize(
    "how", ["L PNG", "LA PNG", "P PNG", "RGBA WEBP", "1 PNG", "I;16 PNG", "CMYK JPEG", "CMYK TIFF", "F TIFF"]
)
def test_pictures_of_other_colours(how: str, server: Live) -> None:
    mode, kind = how.split()
    file = BytesIO()
    Image.new(mode, (40, 30)).save(file, kind)
    assert server.send("/predict", file.getvalue()).json["width"] == 40


def test_clients_that_hang_up(server: Live) -> None:
    content = form(picture())
    kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n".encode()
    whole = (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %d\r\n\r\n" % (kind, len(content)) + content
    )
    for length in (30, 300, len(whole)):
        for _ in range(20):  # more than the requests at a time
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(whole[:length])
    deadline = time.monotonic() + 20
    while (reply := server.send("/predict", picture())).status == 503:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert reply.status == 200


def test_a_stated_length_is_refused_before_the_body(server: Live) -> None:
    start = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %s\r\n\r\n"
    assert b" 413 " in server.raw(start % b"99999999999")
    assert b" 413 " in server.raw(start % (b"9" * 19))
    assert b" 400 " in server.raw(start % b"-5")


def test_an_unstated_length_is_counted(server: Live) -> None:
    kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n".encode()
    start = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n" + kind + b"Transfer-Encoding: chunked\r\n\r\n"
    content = form(bytes(1_200_000))
    assert b" 413 " in server.raw(start + b"%x\r\n" % len(content) + content)


@pytest.mark.parametrize(("first", "status"), [(form(picture())[:200], b" 408 "), (b"no form", b" 400 ")])
def test_a_slow_body_is_given_up(first: bytes, status: bytes, server: Live) -> None:
    kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n".encode()
    start = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n" + kind + b"Content-Length: 5000\r\n\r\n" + first
    began = time.monotonic()
    assert status in server.raw(start, pieces=5)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "start", [b"", b"POST /predict HTTP/1.1\r\nHost: loc", b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET"]
)
def test_slow_headers_are_given_up(start: bytes, server: Live) -> None:
    began = time.monotonic()
    answer = server.raw(start)
    assert (b" 200 " in answer) == (b"health" in start)
    assert time.monotonic() - began < 5


def test_other_hosts_and_other_sites_are_refused(server: Live) -> None:
    assert server.get("/health", Host="evil.example").status == 421
    assert server.get("/health", Host=f"localhost:{server.port}").status == 200
    assert server.send("/predict", picture(), **{"Sec-Fetch-Site": "cross-site"}).status == 403
    assert server.send("/predict", picture(), **{"Sec-Fetch-Site": "same-origin"}).status == 200
    for origin, status in (("http://evil.com", 403), ("null", 403), (f"http://127.0.0.1:{server.port}", 200)):
        assert server.send("/predict", picture(), Origin=origin).status == status


def test_rate(predictor: Predictor) -> None:
    with live(predictor, rate=1) as server:
        assert server.send("/predict", picture()).status == 200
        reply = server.send("/predict", picture())
        assert reply.status == 429
        assert reply.headers["retry-after"] == "1"
        assert server.get("/health").status == 200
