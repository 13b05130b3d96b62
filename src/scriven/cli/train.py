"""`scriven train`: text in, a finished model out."""

import shlex
import time
import typing
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from .. import config, registry
from ..config import SECTIONS
from ..format import decimal, percent
from ..settings import Settings as AllSettings
from .base import Json, Quiet, Seed, Settings, Size, emit, for_terminal

BEGAN = time.monotonic()
"""A wall-clock budget counts from here: this file is the first thing the command imports."""

DEFAULTS = ("arch", "budget", "preset", "seed", "size", *SECTIONS)

FEW_TOKENS = 1000
"""Held-out tokens below which chance decides which of two losses is less."""

AUTO = ("context_length", "layers", "heads", "d_model", "dropout")
"""Fields of every architecture that are chosen for the text and the machine."""


def train(
    *sources: str,
    budget: str | None = None,
    size: Size = None,
    out: str | None = None,
    seed: Seed = None,
    arch: str | None = None,
    preset: str | None = None,
    parallel: Literal["ddp", "fsdp"] | None = None,
    resume: str | None = None,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    lora: int | None = None,
    replay: str | None = None,
    control: bool = False,
    merge: bool = False,
    explain: bool = False,
    watch: bool = False,
    quiet: Quiet = False,
    json: Json = False,
    help_all: bool = False,
    settings: Settings = None,
) -> None:
    """Train a language model on your own text.

    The same command resumes an interrupted run.

    Parameters
    ----------
    sources
        Files, folders, globs, - for standard input, or a built-in corpus (shakespeare,
        tinyshakespeare).
    budget
        Training length: 10m (the default), 2h, 2000steps, 3epochs or 50Mtokens; with --resume a
        larger one, or +1h for an hour more, goes on from before the learning rate fell.
    out
        The run folder; runs/NAME by default.
    arch
        The architecture, or a .py file of your own (llama by default).
    preset
        A TOML file, or the name of a built-in one, with settings that differ from the defaults.
    parallel
        With several processes under torchrun: replicate the weights (ddp) or shard them (fsdp);
        chosen by size.
    resume
        Resume this run, with its text and settings.
    from_
        Go on from this model instead of random weights: a run, whose tokenizer and shape stay.
    lora
        With --from: train LoRA adapters of this rank, such as 8; 0 for all weights. By default
        adapters where the model is large for this machine.
    replay
        With --from: mix older text in, against forgetting, as SOURCE:0.5. By default half of a
        batch is the model's own text where it is at hand; 0 for none.
    control
        With --from: train a new model on the same text with the same budget too, for comparison.
    merge
        With --from and LoRA: save whole weights, not the adapters alone.
    explain
        Print every setting with the reason for it, then train.
    watch
        Open a page that shows the training and writes with the model as it learns.
    help_all
        List every setting.
    """
    if help_all:
        print(all_settings(arch or "llama"))
        return
    # imported here, as it loads torch
    from ..distributed import is_main_process
    from ..train.request import TrainRequest
    from ..train.run import train_and_report

    if lora is not None:
        chosen = {"weights": "lora", "lora_rank": lora} if lora else {"weights": "full"}
        settings = {f"finetune.{name}": value for name, value in chosen.items()} | (settings or {})
    if parallel is not None:
        settings = {"runtime.parallel": parallel} | (settings or {})
    if watch:
        trackers = str((settings or {}).get("train.trackers", ""))
        settings = (settings or {}) | {"train.trackers": f"{trackers},watch".lstrip(",")}
    request = TrainRequest(
        sources=sources, budget=budget, size=size, out=out, seed=seed, arch=arch, preset=preset,
        resume=resume, start=from_, replay=replay, control=control, merge=merge, explain=explain,
        quiet=quiet, settings=settings or {}, began=BEGAN,
    )  # fmt: skip
    results = train_and_report(request).results
    # under torchrun the other processes have no results
    if is_main_process():
        emit(results, _summary(results), json)


def _summary(results: dict[str, Any]) -> str:
    """The results for a person, and the command that generates text."""
    run = results["run"]
    # a run below runs/ is found by its name alone
    name = shlex.quote(run.removeprefix("runs/") if run.count("/") == 1 else run)
    prompts = {"hidden token": '"Your <mask> words"', "target token": '"A source"'}
    words = prompts.get(results.get("measure", ""), '"Your words"')
    # of a run that was imported, or whose loss became NaN, they are not known
    loss, bits = decimal(results.get("val_loss")), decimal(results.get("val_bits_per_byte"))
    accuracy = percent(results.get("val_accuracy")).replace("\u00a0", "")
    return (
        f"\n{for_terminal(results.get('sample', '').strip())}\n\n"
        f"validation loss {loss} ({bits} bits per byte, accuracy {accuracy}): "
        f"{_verdict(results)}\n"
        f"{_before(results)}"
        f"report    {run}/report.html\n"
        f"write     scriven generate {name} {words}"
    )


def _before(results: dict[str, Any]) -> str:
    """What going on from a model was worth, in bits per byte; empty for any other run."""
    if "base_val_bits_per_byte" not in results:
        return ""
    parts = [f"{results['base_val_bits_per_byte']:.3f} before"]
    if results.get("control"):
        parts.append(f"{results['control']['val_bits_per_byte']:.3f} without the model")
    lines = f"bits per byte  {results['val_bits_per_byte']:.3f}, {', '.join(parts)}\n"
    if "old_bits_per_byte" in results:
        before, after = results["old_bits_per_byte_before"], results["old_bits_per_byte"]
        lines += f"old text       {after:.3f}, {before:.3f} before\n"
    return lines


def _verdict(results: dict[str, Any]) -> str:
    """Compares the loss with that of n-grams if it is a loss of the next token too."""
    measure = results.get("measure", "next token")
    if measure not in ("next token", "target token"):
        return f"per {measure}, not comparable with losses per next token"
    loss, ngram = results.get("val_loss"), results.get("ngram_loss")
    if ngram is None:
        return "with no n-gram baseline to compare"
    counting = f"counting {results.get('ngram_order') or 'n'}-grams ({decimal(ngram)})"
    if (results.get("val_tokens") or FEW_TOKENS) < FEW_TOKENS:
        return f"{results['val_tokens']:,} held-out tokens are too few to compare with {counting}"
    better = loss is not None and loss < ngram
    return f"{'better than' if better else 'not yet better than'} {counting}"


def shown_default(section: str, name: str, default: object) -> str | None:
    """The default as lists of settings show it; None for what the user does not set."""
    if section == "model" and name == "vocab_size":
        return None  # the tokenizer decides it
    auto = default is None or (section == "model" and name in AUTO)
    return "auto" if auto else str(default).lower()


def all_settings(architecture: str) -> str:
    """The settings of an architecture and of every other section, as text."""
    model = registry.module("scriven.models", architecture).Config
    titles = {"model": f" of {architecture}", "finetune": ", of scriven finetune alone"}
    lines = [f"architectures: {', '.join(registry.names('scriven.models'))} (--arch)", ""]
    for section, kind in {"model": model, **typing.get_type_hints(AllSettings)}.items():
        lines.append(f"{section}{titles.get(section, '')}")
        for name, default, help_text in config.settings_help(kind):
            shown = shown_default(section, name, default)
            if shown is not None:
                lines += [f"  --{section}.{name}={shown}", f"        {help_text}"]
        lines.append("")
    return "\n".join(lines)
