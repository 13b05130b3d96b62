"""CTranslate2 as a peer: greedy generation with an exported model."""

import json
import time
from pathlib import Path
from typing import Any

import ctranslate2
from shared.child import serve


class CTranslate2:
    """A folder from `scriven export --to ctranslate2`."""

    def prepare(self, folder: str, threads: int = 2, **others: Any) -> dict[str, Any]:
        self.model = ctranslate2.Generator(
            folder, device="cpu", inter_threads=1, intra_threads=threads, compute_type="default"
        )
        words = json.loads((Path(folder) / "tokenizer.json").read_text())
        ids = dict(words["model"]["vocab"])
        ids |= {each["content"]: each["id"] for each in words["added_tokens"]}
        self.ids = ids
        self.names = {number: name for name, number in ids.items()}
        return {
            "parameters": None,
            "versions": {"ctranslate2": ctranslate2.__version__},
            "dtype": self.model.compute_type,
        }

    def generate(
        self, prompts: list[list[int]], tokens: int, temperature: float = 0.0
    ) -> dict[str, Any]:
        began = time.perf_counter()
        made = self.model.generate_batch(
            [[self.names[number] for number in prompt] for prompt in prompts],
            max_length=tokens, min_length=tokens, beam_size=1,
            sampling_topk=0 if temperature else 1, sampling_temperature=temperature or 1,
            end_token=[], include_prompt_in_result=False, return_scores=False,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "ids": [each.sequences_ids[0] for each in made]}


if __name__ == "__main__":
    serve(CTranslate2())
