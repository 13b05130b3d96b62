"""CTranslate2, a fast inference engine for CPUs; its own converter writes the files."""

import json
from importlib import util
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...errors import MissingExtra
from ...files import temporary_folder
from ...runs.huggingface import WEIGHTS
from ...runs.load import Loaded
from ...runs.weights import load_tensors, save_tensors
from ..base import (
    ExportTarget,
    Floats,
    ParityProbe,
    ProbeAnswer,
    copy_files,
    encode_with_tokenizers,
    example_prompt,
    probe_task,
    why_no_text,
)
from ..parity_check import call_in_child
from . import hf

NEEDED = ("ctranslate2", "transformers")
QUANTIZATION = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "int8": "int8"}
CLASSES = ("GPT2LMHeadModel", "LlamaForCausalLM", "Qwen3ForCausalLM", "MarianMTModel")
COPIED = ("tokenizer.json", "tokenizer_config.json")
VOCABULARY_LAYERS = ("wte", "embed_tokens", "lm_head", "shared")


class Target(ExportTarget):
    """CTranslate2."""

    DTYPES = ("f32", "f16", "bf16", "int8")
    BOUNDS: ClassVar = {"f32": 1e-4, "f16": 0.02, "bf16": 0.2}
    CHECKS, EXTRA = ("ctranslate2", "tokenizers"), "ct2"
    RUNTIME, LIBRARY = "CTranslate2", "ctranslate2"

    def refuse(self, loaded: Loaded, dtype: str) -> str | None:
        """Refuses what is no model of transformers that CTranslate2 knows."""
        return why_no_text(loaded, self.RUNTIME, CLASSES)

    def write(self, loaded: Loaded, folder: Path, dtype: str) -> None:
        """model.bin with its vocabulary and config, and the tokenizer."""
        for package in NEEDED:
            if util.find_spec(package) is None:
                raise MissingExtra(package, self.EXTRA, "writing for CTranslate2")
        # 1. the Hugging Face files, from which 2. the converter makes its own
        with temporary_folder() as source:
            hf.Target().write(loaded, source, "f32")
            if loaded.task.vocab_size > loaded.tokenizer.vocab_size:
                _cut_vocabulary(source, loaded.tokenizer.vocab_size)
            request = {"source": str(source), "dtype": dtype}
            call_in_child("ctranslate2", "convert", folder, request)
            copy_files(COPIED, source, folder)
        # 3. it demands three special tokens where our models have one, which ends a text
        path = folder / "config.json"
        config = json.loads(path.read_text())
        for name in ("bos_token", "eos_token", "unk_token"):
            if name in config:
                config[name] = loaded.tokenizer.eos_token
        path.write_text(json.dumps(config, indent=2) + "\n")

    def convert(self, folder: Path, request: dict[str, Any]) -> None:
        """Runs the converter; in a child process, as it loads the whole of transformers."""
        from ctranslate2.converters import TransformersConverter, transformers

        parent = transformers.BartLoader

        class MarianLoader(transformers.MarianMTLoader):  # type: ignore[misc]
            """Marian's published models start decoding from a token whose embedding is zero; ours
            from a learned one, as Bart's do."""

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

        transformers.register_loader("MarianConfig")(MarianLoader)
        converter = TransformersConverter(request["source"])
        converter.convert(str(folder), quantization=QUANTIZATION[request["dtype"]], force=True)

    def run_probe(self, folder: Path, probe: ParityProbe) -> ProbeAnswer:
        """CTranslate2's logits and greedy text."""
        import ctranslate2

        backend, ids = encode_with_tokenizers(folder, probe.texts)
        # CTranslate2 takes and gives tokens by their text
        token_ids = backend.get_vocab(with_added_tokens=True)
        names = sorted(token_ids, key=lambda name: token_ids[name])
        never = [[names[number]] for number in probe.never]
        seq2seq = probe.task == "seq2seq"
        runner = ctranslate2.Translator if seq2seq else ctranslate2.Generator
        model: Any = runner(str(folder), inter_threads=1, intra_threads=1)
        generate = _translate if seq2seq else _generate
        tokens, logits = [], []
        for prompt, count in zip(probe.prompts, probe.counts, strict=True):
            written, scores = generate(model, [names[number] for number in prompt], count, never)
            tokens.append([token_ids[name] for name in written])
            logits.append(scores)
        return ProbeAnswer(ids, tokens, logits)

    def usage(self, loaded: Loaded, dtype: str) -> str:
        """How to generate with CTranslate2."""
        if probe_task(loaded) == "seq2seq":
            return SEQ2SEQ_USAGE
        special = loaded.tokenizer.special.items()
        ends = [name for name, number in special if number in loaded.task.stop_token_ids]
        return f"""```
import ctranslate2, tokenizers
tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
prompt = tokenizer.encode({example_prompt(loaded)!r}, add_special_tokens=False).tokens
made = ctranslate2.Generator(".").generate_batch(
    [prompt], max_length=100, sampling_topk=50, end_token={ends!r}, include_prompt_in_result=False
)
print(tokenizer.decode(made[0].sequences_ids[0]))
```
"""


SEQ2SEQ_USAGE = """```
import ctranslate2, tokenizers
tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
source = tokenizer.encode("It was", add_special_tokens=False).tokens
made = ctranslate2.Translator(".").translate_batch([source])
print(made[0].hypotheses[0])
```
"""


def _cut_vocabulary(folder: Path, rows: int) -> None:
    """Leaves out embeddings that have no token: CTranslate2 wants a token for each."""
    weights = load_tensors(folder / WEIGHTS)
    for name in weights:
        if name.rpartition(".")[0].rpartition(".")[2] in VOCABULARY_LAYERS:
            weights[name] = weights[name][:rows].contiguous()
    save_tensors(folder / WEIGHTS, weights)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {name: rows for name in ("vocab_size", "decoder_vocab_size") if name in config}
    path.write_text(json.dumps(config), encoding="utf-8")


def _generate(
    model: Any, prompt: list[str], count: int, never: list[list[str]]
) -> tuple[list[str], Floats]:
    """(tokens, logits (count, V) before each) of a decoder."""
    results = model.generate_batch(
        [prompt], max_length=count, min_length=count, sampling_topk=1, end_token=[],
        include_prompt_in_result=False, suppress_sequences=never,
    )  # fmt: skip
    # generation gives no logits: a second pass over prompt and text does
    written = list(results[0].sequences[0])
    return written, _floats(model.forward_batch([prompt + written]))[0, len(prompt) - 1 : -1]


def _translate(
    model: Any, source: list[str], count: int, never: list[list[str]]
) -> tuple[list[str], Floats]:
    """(tokens, logits (count, V) before each) of an encoder-decoder."""
    results = model.translate_batch(
        [source], beam_size=1, max_decoding_length=count, min_decoding_length=count, end_token=[],
        suppress_sequences=never, return_logits_vocab=True,
    )  # fmt: skip
    steps = [_floats(step) for step in results[0].logits[0]]
    return list(results[0].hypotheses[0]), np.stack(steps)


def _floats(storage: Any) -> Floats:
    import ctranslate2

    return np.array(storage.to(ctranslate2.DataType.float32))
