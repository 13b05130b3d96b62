"""llama.cpp as a peer: the server of the package xllamacpp, in this process.

Requests go over the loopback device, which takes about a millisecond, little for 200 tokens. No
cache is shared between requests.
"""

import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import xllamacpp
from shared.child import serve


class LlamaCpp:
    """A folder with one .gguf file."""

    def prepare(
        self, folder: str, threads: int = 2, dtype: str = "float32", slots: int = 1, **others: Any
    ) -> dict[str, Any]:
        params = xllamacpp.CommonParams()
        params.model.path = str(next(Path(folder).glob("*.gguf")))
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.n_gpu_layers, params.n_parallel = 0, slots
        params.fit_params = params.cache_prompt = False
        params.cache_ram_mib = 0
        params.verbosity = -1
        if dtype == "float32":  # keys and values too, or texts could differ
            kind = xllamacpp.ggml_type.GGML_TYPE_F32
            params.cache_type_k = params.cache_type_v = kind
            off = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
            params.flash_attn_type = off
        self.server = xllamacpp.Server(params)
        self.slots = slots
        return {
            "parameters": None,
            "versions": {"xllamacpp": metadata.version("xllamacpp")},
            "dtype": dtype,
            "system": str(xllamacpp.get_system_info()),
        }

    def generate(
        self, prompts: list[list[int]], tokens: int, temperature: float = 0.0
    ) -> dict[str, Any]:
        began = time.perf_counter()
        with ThreadPoolExecutor(self.slots) as pool:
            made = list(pool.map(lambda prompt: self._write(prompt, tokens, temperature), prompts))
        return {"seconds": time.perf_counter() - began, "ids": made}

    def _write(self, prompt: list[int], tokens: int, temperature: float) -> list[int]:
        sampler = {"samplers": ["top_k"], "top_k": 1}
        if temperature:
            sampler = {"samplers": ["temperature"], "temperature": temperature}
        request = {
            "prompt": prompt, "n_predict": tokens, **sampler,
            "return_tokens": True, "ignore_eos": True, "cache_prompt": False,
        }  # fmt: skip
        sent = urllib.request.Request(
            f"{self.server.listening_address}/completion",
            json.dumps(request).encode(),
            {"Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(sent) as reply:
            found: list[int] = json.load(reply)["tokens"]
        return found


if __name__ == "__main__":
    serve(LlamaCpp())
