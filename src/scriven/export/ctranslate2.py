"""CTranslate2, a fast engine for processors; written by its own converter, from the run's twin."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MissingExtra
from ..runs.load import Loaded
from . import hf
from .base import (
    Floats,
    ParityProbe,
    ProbeAnswer,
    asked_as,
    describe,
    example,
    only_writes,
    why_no_twin,
)
from .shared import child

DTYPES = ("f32", "f16", "bf16", "int8")
BOUNDS = {"f32": 1e-4, "f16": 0.02, "bf16": 0.2}
WRITES, CHECKS, EXTRA = ("ctranslate2", "transformers"), ("ctranslate2", "tokenizers"), "ct2"
RUNTIME, LIBRARY = "CTranslate2", "ctranslate2"

QUANTISATION = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "int8": "int8"}
KINDS = ("GPT2LMHeadModel", "LlamaForCausalLM", "Qwen3ForCausalLM", "MarianMTModel")
FILES = ("tokenizer.json", "tokenizer_config.json")


def refuse(loaded: Loaded, dtype: str) -> str | None:
    """Why CTranslate2 cannot compute this run."""
    config = describe(loaded)
    if reason := only_writes(loaded, RUNTIME):
        return reason
    if config is None:
        return why_no_twin(loaded, RUNTIME)
    kind = config["architectures"][0]
    if kind not in KINDS:
        return f"CTranslate2 generates text with {', '.join(KINDS)}, not with {kind}"
    return None


def write(loaded: Loaded, folder: Path, dtype: str) -> None:
    """model.bin with its vocabulary and config, and the tokenizer."""
    for package in WRITES:
        if not has(package):
            raise MissingExtra(package, EXTRA, "writing for CTranslate2")
    with tempfile.TemporaryDirectory() as work:
        source = Path(work)
        hf.write(loaded, source, "f32")
        child.call("ctranslate2", "convert", folder, {"source": work, "dtype": dtype})
        for name in FILES:
            (folder / name).write_bytes((source / name).read_bytes())
    path = folder / "config.json"
    config = json.loads(path.read_text())
    tokenizer = loaded.tokenizer
    for name in ("bos_token", "eos_token", "unk_token"):
        # it demands all three; ours are one, and every text has ids
        if name in config:
            config[name] = tokenizer.eos_token
    path.write_text(json.dumps(config, indent=2) + "\n")


def convert(folder: Path, request: dict[str, Any]) -> None:
    """In a process of its own: the converter loads the whole of transformers."""
    from ctranslate2.converters import TransformersConverter, transformers

    parent = transformers.BartLoader

    class Pairs(transformers.MarianMTLoader):  # type: ignore[misc]
        """Marian's own models have a last token that is always zero, and begin to write with it.

        Ours begin with a learnt one, so the loader of the same shape without that is wanted.
        """

        def get_model_spec(self, model: Any) -> Any:
            model.config.normalize_before = model.config.normalize_embedding = False
            return parent.get_model_spec(self, model)

        def set_decoder(self, spec: Any, decoder: Any) -> None:
            parent.set_decoder(self, spec, decoder)

        def get_vocabulary(self, model: Any, tokenizer: Any) -> Any:
            return parent.get_vocabulary(self, model, tokenizer)

        def set_config(self, config: Any, model: Any, tokenizer: Any) -> None:
            super().set_config(config, model, tokenizer)
            config.decoder_start_token = tokenizer.pad_token

    transformers.register_loader("MarianConfig")(Pairs)
    converter = TransformersConverter(request["source"])
    converter.convert(str(folder), quantization=QUANTISATION[request["dtype"]], force=True)


def answer(folder: Path, probe: ParityProbe) -> ProbeAnswer:
    """CTranslate2's logits and greedy text."""
    import ctranslate2

    import tokenizers

    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.encode_special_tokens = True
    ids = [backend.encode(text, add_special_tokens=False).ids for text in probe.texts]
    whole = backend.get_vocab(with_added_tokens=True)
    names = sorted(whole, key=lambda name: whole[name])
    forms = {"inter_threads": 1, "intra_threads": 1}
    pairs = probe.task == "seq2seq"
    never = [[names[number]] for number in probe.never]
    model: Any = (ctranslate2.Translator if pairs else ctranslate2.Generator)(str(folder), **forms)
    tokens, logits = [], []
    for prompt, count in zip(probe.prompts, probe.counts, strict=True):
        spelt = [names[number] for number in prompt]
        if pairs:
            written, scores = _translate(model, spelt, count, never)
        else:
            written, scores = _generate(model, spelt, count, never)
        tokens.append([whole[name] for name in written])
        logits.append(scores)
    return ProbeAnswer(ids, tokens, logits)


def _generate(
    model: Any, prompt: list[str], count: int, never: list[list[str]]
) -> tuple[list[str], Floats]:
    made = model.generate_batch(
        [prompt],
        max_length=count,
        min_length=count,
        sampling_topk=1,
        include_prompt_in_result=False,
        end_token=[],
        suppress_sequences=never,
    )
    written = list(made[0].sequences[0])
    return written, _floats(model.forward_batch([prompt + written]))[0, len(prompt) - 1 : -1]


def _translate(
    model: Any, source: list[str], count: int, never: list[list[str]]
) -> tuple[list[str], Floats]:
    made = model.translate_batch(
        [source],
        beam_size=1,
        max_decoding_length=count,
        min_decoding_length=count,
        end_token=[],
        suppress_sequences=never,
        return_logits_vocab=True,
    )
    steps = [_floats(step) for step in made[0].logits[0]]
    return list(made[0].hypotheses[0]), np.stack(steps)


def _floats(storage: Any) -> Floats:
    import ctranslate2

    return np.array(storage.to(ctranslate2.DataType.float32))


def has(package: str) -> bool:
    """Whether a package is installed; it is not imported."""
    from importlib import util

    return util.find_spec(package) is not None


def usage(loaded: Loaded, dtype: str) -> str:
    """How to write with it."""
    if asked_as(loaded) == "seq2seq":
        return """```
import ctranslate2, tokenizers
tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
source = tokenizer.encode("It was", add_special_tokens=False).tokens
made = ctranslate2.Translator(".").translate_batch([source])
print(made[0].hypotheses[0])
```
"""
    ends = [
        name
        for name, number in loaded.tokenizer.special.items()
        if number in loaded.task.stop_token_ids
    ]
    return f"""```
import ctranslate2, tokenizers
tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
prompt = tokenizer.encode({example(loaded)!r}, add_special_tokens=False).tokens
made = ctranslate2.Generator(".").generate_batch(
    [prompt], max_length=100, sampling_topk=50, end_token={ends!r}, include_prompt_in_result=False
)
print(tokenizer.decode(made[0].sequences_ids[0]))
```
"""
