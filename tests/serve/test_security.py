"""Keys, hosts, origins and headers; hostile requests get an answer, and the server goes on."""

import base64
import json
import math
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from running import Running

from scriven.errors import SettingError
from scriven.serve import security
from scriven.serve.server import ServeOptions

Start = Callable[..., Running]
ROUTES = ["/v1/models", "/metrics", "/", "/api/models", "/api/training", "/openapi.json"]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::"])
def test_other_machines_need_a_key(host: str) -> None:
    with pytest.raises(SettingError, match="--api-key"):
        ServeOptions(host=host)
    assert ServeOptions(host=host, api_key="secret").hosts is None


def test_a_key_covers_every_route_but_health(start: Start) -> None:
    server = start(api_key="sécret")
    basic = base64.b64encode("me:sécret".encode()).decode()
    for route in ROUTES:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic !!"}):
            answer = server.get(route, headers=headers)
            assert answer.status_code == 401, route
            assert "Basic" in answer.headers["www-authenticate"]
        for value in ("Bearer sécret".encode(), f"Basic {basic}".encode()):
            assert server.get(route, headers={"authorization": value}).status_code == 200, route
    assert server.get("/health").status_code == 200


def test_foreign_names_and_pages_are_refused(server: Running) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "user@127.0.0.1", "[::1", "", "a b"):
        assert server.get("/v1/models", headers={"host": host}).status_code in (400, 421), host
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "file://"):
        assert server.get("/v1/models", headers={"origin": origin}).status_code == 403, origin
    assert server.get("/v1/models", headers={"origin": server.url}).status_code == 200


def test_an_allowed_origin_may_call(start: Start) -> None:
    server = start(allowed_origins=("https://friend.example",))
    headers = {"origin": "https://friend.example"}
    answer = server.get("/v1/models", headers=headers)
    assert answer.headers["access-control-allow-origin"] == "https://friend.example"
    assert httpx.options(f"{server.url}/v1/completions", headers=headers).status_code == 204


def test_every_answer_has_the_headers_of_safety(server: Running) -> None:
    for route in [*ROUTES, "/nowhere"]:
        found = server.get(route).headers
        assert all(found[name] == value for name, value in security.HEADERS.items()), route


def test_bodies_that_are_too_large_or_slow_are_refused(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security, "MAX_BODY_BYTES", 1000)
    monkeypatch.setattr(security, "BODY_SECONDS", 0.5)
    server = start()
    body = {"prompt": "x" * 2000}
    assert server.post("/v1/completions", body).status_code == 413
    chunked = httpx.post(f"{server.url}/v1/completions", content=iter([b"x" * 600] * 3))
    assert chunked.status_code == 413
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as slow:
        slow.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 90\r\n\r\n{"
        )
        slow.settimeout(10)
        assert b" 408 " in slow.recv(4096).partition(b"\r\n")[0]


def test_more_requests_than_the_queue_holds_are_told_to_wait(start: Start) -> None:
    server = start(slots=2, max_queue=4)
    body = {"prompt": "The ", "max_tokens": 400, "seed": 1}
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: server.post("/v1/completions", body), range(24)))
    statuses = [each.status_code for each in answers]
    assert set(statuses) == {200, 429} and statuses.count(200) >= 6
    assert all(each.headers["retry-after"] for each in answers if each.status_code == 429)
    assert len({each.json()["choices"][0]["text"] for each in answers if each.is_success}) == 1


def test_a_seed_gives_one_text_whatever_else_is_served(server: Running) -> None:
    def ask(number: int) -> str:
        body = {"model": "book", "prompt": "The " * (number % 9), "max_tokens": 30, "seed": number}
        return str(server.post("/v1/completions", body).json()["choices"][0]["text"])

    alone = [ask(number) for number in range(24)]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(24))) == alone


def test_clients_that_vanish_leave_nothing_behind(server: Running) -> None:
    port = int(server.url.rpartition(":")[2])
    body = json.dumps({"model": "book", "prompt": "a", "max_tokens": 5000, "stream": True}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    scheduler = server.served[0].scheduler
    assert scheduler is not None
    for number in range(30):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            if number % 3:
                client.recv(200)
    ends = time.monotonic() + 20
    while (scheduler.running or scheduler.waiting) and time.monotonic() < ends:
        time.sleep(0.05)
    assert (scheduler.running, scheduler.waiting) == (0, 0)


def test_a_server_that_ends_finishes_what_it_began(start: Start) -> None:
    server = start()
    body = {"prompt": "The ", "max_tokens": 800, "seed": 1}
    whole = server.post("/v1/completions", body).json()["choices"][0]["text"]
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(server.post("/v1/completions", body)))
    asking.start()
    scheduler = server.served[0].scheduler
    assert scheduler is not None
    while not scheduler.running:
        time.sleep(0.01)
    server.draining.asked = True
    refused = server.post("/v1/completions", body)
    assert refused.status_code == 503 and refused.headers["retry-after"]
    asking.join()
    assert answers[0].json()["choices"][0]["text"] == whole


def test_new_weights_are_taken_up_only_when_asked(
    start: Start, runs: dict[str, Path], tmp_path: Path
) -> None:
    server = start()
    served = server.served[0]
    body = {"prompt": "The ", "max_tokens": 20, "seed": 1}
    before = server.post("/v1/completions", body).json()["choices"][0]["text"]
    elsewhere = tmp_path / "away"
    runs["book"].rename(elsewhere)
    try:
        assert server.post("/v1/completions", body).json()["choices"][0]["text"] == before
        gone = server.post("/api/reload", {})
        assert gone.status_code == 400 and str(tmp_path) not in gone.text
        assert server.post("/v1/completions", body).json()["choices"][0]["text"] == before
    finally:
        elsewhere.rename(runs["book"])
    old = served.scheduler
    assert server.post("/api/reload", {}).json()["id"] == "book"
    assert served.scheduler is not old
    assert server.post("/v1/completions", body).json()["choices"][0]["text"] == before


VALUES = [
    None, True, 0, -1, 1 << 70, 1e308, math.inf, "", "x", "\x00", "\ud800", "../../etc/passwd",
    [], [[]], {}, [None], {"a": {}}, "<script>", "%s%n", ["x"] * 300, "🙂" * 50,
]  # fmt: skip
FIELDS = [
    "model", "prompt", "messages", "max_tokens", "temperature", "top_p", "n", "stop", "stream",
    "logprobs", "seed", "logit_bias", "response_format", "input", "inputs", "text", "echo",
]  # fmt: skip
PATHS = [
    "/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/v1/predict", "/api/inspect",
    "/api/tokenize", "/api/reload", "/v1/models/..%2f", "/nowhere", "/%00", "/..", "/page/../../x",
]  # fmt: skip


def hostile(server: Running, count: int, seed: int) -> list[int]:
    """Sends requests that no client of good will would."""
    draw, statuses = random.Random(seed), []
    with httpx.Client(base_url=server.url, timeout=600) as client:
        for _ in range(count):
            body = {name: draw.choice(VALUES) for name in draw.sample(FIELDS, draw.randint(0, 5))}
            body.setdefault("max_tokens", 2)
            raw = json.dumps(body).encode("utf-8", "replace")
            change = draw.random()
            if change < 0.15:
                raw = raw[: draw.randint(0, len(raw))]
            elif change < 0.25:
                raw = bytes(draw.randint(0, 255) for _ in range(draw.randint(0, 80)))
            elif change < 0.3:
                raw = b"[" * 50_000
            method = draw.choice(["POST"] * 8 + ["GET", "PUT", "DELETE", "PATCH", "HEAD", "TRACE"])
            kind = draw.choice(["application/json"] * 6 + ["text/plain", "", "multipart/form-data"])
            try:
                answer = client.request(
                    method, draw.choice(PATHS), content=raw, headers={"content-type": kind}
                )
                statuses.append(answer.status_code)
                assert "Traceback" not in answer.text and "/scriven/" not in answer.text
            except httpx.RemoteProtocolError:  # the connection was closed: no answer is an answer
                statuses.append(400)
    return statuses


def check_hostile(server: Running, count: int, seed: int) -> None:
    body = {"model": "book", "prompt": "The ", "max_tokens": 10, "seed": 1}
    before = server.post("/v1/completions", body).json()["choices"]
    statuses = hostile(server, count, seed)
    assert max(statuses) < 500, sorted(set(statuses))
    assert statuses.count(200) < count
    assert server.post("/v1/completions", body).json()["choices"] == before


def test_hostile_requests_get_no_error_of_the_server(server: Running) -> None:
    check_hostile(server, 150, 1)


def resident_memory() -> int:
    """Of this process, in kilobytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_thousand_hostile_requests_leave_no_memory_behind(server: Running) -> None:
    check_hostile(server, 500, 2)  # caches fill
    before = resident_memory()
    check_hostile(server, 10_000, 3)
    assert resident_memory() - before < 50_000, "kilobytes"


SOAK_MINUTES = float(os.environ.get("SCRIVEN_SOAK_MINUTES", 0))


@pytest.mark.slow
@pytest.mark.skipif(not SOAK_MINUTES, reason="make soak")
@pytest.mark.timeout(60 * SOAK_MINUTES + 1200)
def test_a_soak_of_hostile_requests_leaves_no_memory_behind(server: Running) -> None:
    check_hostile(server, 500, 2)
    before, ends, rounds = resident_memory(), time.monotonic() + 60 * SOAK_MINUTES, 0
    while time.monotonic() < ends:
        rounds += 1
        check_hostile(server, 500, 1000 + rounds)
        grown = resident_memory() - before
        print(f"{500 * rounds} requests, {grown} kilobytes more", flush=True)
        assert grown < 50_000
