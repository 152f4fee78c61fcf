"""Shards behind URLs, from a server on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from maskrcnn.data.remote import expand, is_url, local_copy
from maskrcnn.errors import DataError


class Handler(BaseHTTPRequestHandler):
    """Serves x-00.tar ... by content; other names misbehave."""

    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        name = self.path.rpartition("/")[2]
        if name.startswith("missing"):
            self.send_error(404)
        elif name in ("to_file.tar", "to_ftp.tar"):
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname" if "file" in name else "ftp://127.0.0.1/x")
            self.end_headers()
        elif name == "moved.tar":
            self.send_response(301)
            self.send_header("Location", "/x-00.tar")
            self.end_headers()
        else:
            content = name.partition("?")[0].encode() * 10
            self.send_response(200)
            self.send_header("Content-Length", str(len(content) + (5 if name == "short.tar" else 0)))
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Handler.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_a_file_is_downloaded_once(server, tmp_path):
    file = local_copy(f"{server}/x-00.tar?token=1", tmp_path)
    assert file.name == "x-00.tar"
    assert file.read_bytes() == b"x-00.tar" * 10
    assert local_copy(f"{server}/x-00.tar?token=1", tmp_path) == file
    assert Handler.asked == ["/x-00.tar?token=1"]
    assert list(file.parent.iterdir()) == [file]
    assert local_copy(f"{server}/moved.tar", tmp_path).read_bytes() == b"x-00.tar" * 10


def test_a_pattern_gives_a_folder(server, tmp_path):
    folder = local_copy(f"{server}/d/x-{{08..10}}.tar", tmp_path)
    assert sorted(file.name for file in folder.iterdir()) == ["x-08.tar", "x-09.tar", "x-10.tar"]
    assert (folder / "x-09.tar").read_bytes() == b"x-09.tar" * 10
    one = local_copy(f"{server}/d/x-{{08..08}}.tar", tmp_path)
    assert one.is_dir()
    assert one != folder


def test_a_local_file(tmp_path):
    source = tmp_path / "a b.record"
    source.write_bytes(b"content")
    file = local_copy(source.as_uri(), tmp_path / "cache")
    assert file.name == "a b.record"
    assert file.read_bytes() == b"content"
    with pytest.raises(DataError, match="cannot be downloaded"):
        local_copy((tmp_path / "none.record").as_uri(), tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.tar", "cannot be downloaded .*404"),
        ("short.tar", r"broke off after 90 of 95 bytes; try again"),
        ("to_file.tar", "cannot be downloaded"),
        ("to_ftp.tar", "neither http:// nor https://|cannot be downloaded"),
        ("{a,b}/x.tar", "two of its files have the same name"),
        ("", "names no file"),
        ("..", "names no file"),
        ("%2e%2e", "names no file"),
    ],
)
def test_errors(server, tmp_path, name, message):
    with pytest.raises(DataError, match=message):
        local_copy(f"{server}/{name}", tmp_path)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []  # nothing half done


def test_the_limit_holds_for_all_files_together(server, tmp_path):
    assert local_copy(f"{server}/x-{{00..01}}.tar", tmp_path / "a", most_bytes=160).is_dir()
    with pytest.raises(DataError, match=r"x-01\.tar goes beyond the limit of 159 bytes"):
        local_copy(f"{server}/x-{{00..01}}.tar", tmp_path / "b", most_bytes=159)


def test_nobody_answers(tmp_path):
    with pytest.raises(DataError, match="cannot be downloaded"):
        local_copy("http://127.0.0.1:9/x.tar", tmp_path)


@pytest.mark.parametrize("url", ["ftp://x/y", "x.tar", "http://[x/y", "http:///", "data:,x", "http://x y/z\n"])
def test_what_is_no_url_of_ours(tmp_path, url):
    with pytest.raises(DataError):
        local_copy(url, tmp_path)


def test_an_unwritable_cache(server, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match="cannot be written"):
        local_copy(f"{server}/x-00.tar", tmp_path / "cache")


def test_patterns():
    assert expand("a-{8..10}-{x,y}") == [f"a-{number}-{letter}" for number in (8, 9, 10) for letter in "xy"]
    assert expand("{000..001}.tar") == ["000.tar", "001.tar"]
    assert expand("plain") == ["plain"]
    for pattern, message in [
        ("{3..1}", "must count upwards"),
        ("{0..99999999}", "at most 10000"),
        ("{0..999}{0..999}", "more than 10000 files"),
        ("{x}", "is not understood"),
        ("{}", "is not understood"),
    ]:
        with pytest.raises(DataError, match=message):
            expand(pattern)


def test_urls_are_told_from_paths():
    assert is_url("HTTPS://x/y")
    assert is_url("file:///x")
    assert not is_url("/data/x")
    assert not is_url("http")
    assert not is_url("ftp://x")
