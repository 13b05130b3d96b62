"""Downloads against a server of our own: whole, cut, wrong, missing, absent."""

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scriven.data.corpora import tinyshakespeare
from scriven.data.corpora.tinyshakespeare import download_corpus
from scriven.errors import InputError

CONTENT = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """`/whole`, `/cut` (ends early), `/wrong`, `/long` (never ends), anything else is 404."""

    asked: list[str] = []  # noqa: RUF012
    ranges = True

    def do_GET(self) -> None:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(found[1]) if found and self.ranges else 0
        Handler.asked.append(f"{self.path} {start}")
        name = self.path.strip("/")
        if name not in ("whole", "cut", "wrong", "long"):
            self.send_error(404)
            return
        self.send_response(206 if start else 200)
        body = CONTENT[start:] if name != "wrong" else bytes(len(CONTENT))
        if name != "long":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            if name == "cut":
                body = body[:100_000]
            self.wfile.write(body * (50 if name == "long" else 1))
        except OSError:
            pass

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    Handler.asked, Handler.ranges = [], True
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def fetch(url: str, target: Path) -> Path:
    return download_corpus(url, target, DIGEST, len(CONTENT))


def test_a_whole_file_is_fetched_once(server: str, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    for _ in range(2):
        assert fetch(f"{server}/whole", target).read_bytes() == CONTENT
    assert len(Handler.asked) == 1
    target.write_bytes(b"damaged")
    assert fetch(f"{server}/whole", target).read_bytes() == CONTENT


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_download_is_continued(ranges: bool, server: str, tmp_path: Path) -> None:
    Handler.ranges = ranges
    target = tmp_path / "a.txt"
    with pytest.raises(InputError, match=r"cut after 100,000 of 512,000 bytes"):
        fetch(f"{server}/cut", target)
    assert not target.exists()
    assert fetch(f"{server}/whole", target).read_bytes() == CONTENT
    assert Handler.asked[-1] == f"/whole {100_000 if ranges else 0}"


@pytest.mark.parametrize(
    ("name", "message"), [("wrong", "not the expected"), ("long", "not the exp"), ("none", "404")]
)
def test_another_file_is_refused(name: str, message: str, server: str, tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with pytest.raises(InputError, match=f"{message}.*give its path") as caught:
        fetch(f"{server}/{name}", target)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    assert fetch(f"{server}/whole", target).read_bytes() == CONTENT


def test_without_a_network_the_path_is_the_remedy() -> None:
    with pytest.raises(InputError, match="give its path instead of tinyshakespeare"):
        tinyshakespeare.path(url="http://127.0.0.1:9/nothing")


def test_the_corpus_is_the_known_file(shared_data: Path, temporary_cache: Path) -> None:
    raw = (shared_data / "tinyshakespeare.txt").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == tinyshakespeare.SHA256
    assert len(raw) == tinyshakespeare.SIZE
    (temporary_cache / "downloads").mkdir()
    (temporary_cache / "downloads" / "tinyshakespeare.txt").write_bytes(raw)
    assert tinyshakespeare.path(url="http://127.0.0.1:9/nothing").read_bytes() == raw
