"""Tokens per second of a server with one client and with 32 together, and the time to first token.

Beside llama.cpp's server (through xllamacpp) on the exported GGUF in float32 and `transformers
serve` with continuous batching and without, on the run folder: the same requests, in turns. Texts
are drawn at temperature 0.8; nothing is speculated.
Run: python bench/serving.py RUN [--rounds 3] [--tokens 128] [--peers llama.cpp]
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import rows

import scriven

CLIENTS = 32
LLAMA = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_parallel, params.n_ctx = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
params.port, params.warmup = 0, True
params.cpuparams.n_threads = int(sys.argv[4])
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
time.sleep(100000)
"""


def start_scriven(run: Path) -> tuple[subprocess.Popen[str], str]:
    """Our server and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "scriven", "serve", str(run), "--port", "0", "--dtype", "float32"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    line = next(line for line in process.stderr if "http://" in line)
    return process, "http://" + line.partition("http://")[2].split()[0].rstrip("/")


def start_llama(gguf: Path, context: int, threads: int) -> tuple[subprocess.Popen[str], str]:
    """llama.cpp's server and its address."""
    numbers = [str(CLIENTS), str(CLIENTS * context), str(threads)]
    process = subprocess.Popen(
        [sys.executable, "-c", LLAMA, str(gguf), *numbers],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    return process, next(line for line in process.stdout if "http" in line).strip()


def start_transformers(run: Path, *more: str) -> tuple[subprocess.Popen[str], str]:
    """transformers' server, once it answers, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    process = subprocess.Popen(
        [program, "serve", str(run), "--port", str(port), "--device", "cpu", "--dtype", "float32",
         *more],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    url = f"http://localhost:{port}"
    while True:
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return process, url
        except httpx.TransportError:
            time.sleep(0.5)


async def rate(url: str, clients: int, tokens: int, model: dict[str, str]) -> float:
    """Generated tokens per second of all clients together."""
    async with httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=64)) as client:

        async def ask(seed: int) -> int:
            body = {"prompt": "The ", "max_tokens": tokens, "temperature": 0.8, "seed": seed}
            answer = await client.post(f"{url}/v1/completions", json={**body, **model})
            answer.raise_for_status()
            return int(answer.json()["usage"]["completion_tokens"])

        await ask(0)
        began = time.perf_counter()
        counts = await asyncio.gather(*(ask(seed) for seed in range(clients)))
        return sum(counts) / (time.perf_counter() - began)


async def first_token(url: str, beside: int, prompt: str) -> float:
    """Seconds to the first token of a prompt, while `beside` other texts are generated."""
    async with httpx.AsyncClient(timeout=600) as client:

        async def stream(body: dict[str, Any]) -> float:
            began = time.perf_counter()
            async with client.stream("POST", f"{url}/v1/completions", json=body) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("data: ") and json.loads(line[6:])["choices"][0]["text"]:
                        return time.perf_counter() - began
            raise RuntimeError("no token came")

        async def busy() -> None:
            body = {"prompt": "The ", "max_tokens": 3000, "stream": True}
            async with client.stream("POST", f"{url}/v1/completions", json=body) as answer:
                async for _ in answer.aiter_lines():
                    pass

        others = [asyncio.ensure_future(busy()) for _ in range(beside)]
        await asyncio.sleep(1.0 if beside else 0.0)
        body = {"prompt": prompt, "max_tokens": 2, "stream": True}
        found = [await stream(body) for _ in range(5)]
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        return statistics.median(found)


def main() -> None:
    """Measures in turns and writes one row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=128)
    peers = ("llama.cpp", "transformers", "transformers batching")
    parser.add_argument("--peers", nargs="*", default=peers)
    asked = parser.parse_args()
    machine, model = rows.machine(), scriven.load(asked.run)
    context, threads = model.task.max_context, os.cpu_count() or 1
    prompt = (
        "It was the best of times, it was the worst of times, it was the age of wisdom, it was "
    )
    with tempfile.TemporaryDirectory() as folder:
        gguf = Path(folder, "model.gguf")
        scriven.export(asked.run, "gguf", out=gguf, dtype="f32")
        servers: dict[str, Callable[[], tuple[subprocess.Popen[str], str]]] = {
            "scriven": lambda: start_scriven(asked.run),
            "llama.cpp": lambda: start_llama(gguf, context, threads),
            "transformers": lambda: start_transformers(asked.run),
            "transformers batching": lambda: start_transformers(asked.run, "--continuous-batching"),
        }
        servers = {
            name: each for name, each in servers.items() if name in ("scriven", *asked.peers)
        }
        found: dict[str, list[float]] = {}
        for _ in range(asked.rounds):
            for name, start in servers.items():
                process, url = start()
                try:
                    named = {"model": str(asked.run)} if name.startswith("transformers") else {}
                    for clients in (1, CLIENTS):
                        speed = asyncio.run(rate(url, clients, asked.tokens, named))
                        found.setdefault(f"{name} {clients}", []).append(speed)
                    if name == "scriven":
                        for beside in (0, 8):
                            seconds = asyncio.run(first_token(url, beside, prompt))
                            found.setdefault(f"first token beside {beside}", []).append(seconds)
                finally:
                    process.kill()
                    process.wait()
    medians = {name: round(statistics.median(each), 4) for name, each in found.items()}
    rows.write(
        "serving",
        machine,
        parameters=sum(weight.numel() for weight in model.task.parameters()),
        dtype="float32",
        speculation=False,
        tokens=asked.tokens,
        rounds=asked.rounds,
        **{name.replace(" ", "_").replace(".", "_"): each for name, each in medians.items()},
        together_over_alone=round(medians[f"scriven {CLIENTS}"] / medians["scriven 1"], 2),
        **{
            f"over_{name.replace(' ', '_').replace('.', '_')}": round(
                medians[f"scriven {CLIENTS}"] / medians[f"{name} {CLIENTS}"], 2
            )
            for name in asked.peers
        },
    )


if __name__ == "__main__":
    main()
