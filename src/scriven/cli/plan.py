"""`scriven plan`: what a training would take, by calculation."""

from typing import Annotated, Any

from cyclopts import Parameter

from ..config import SECTIONS
from ..format import format_bytes, rough_duration, si, table
from .base import Json, Settings, emit

DEFAULTS = ("arch", "budget", "size", *SECTIONS)


def plan(
    *,
    size: str | None = None,
    budget: str | None = None,
    gpus: int = 1,
    device: str | None = None,
    tokens: str | None = None,
    arch: str | None = None,
    peak: float | None = None,
    network: float | None = None,
    utilisation: float = 0.4,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    lora: int | None = None,
    json: Json = False,
    settings: Settings = None,
) -> None:
    """Estimate a training: shape, batch size, learning rates, memory, time and bottleneck.

    Parameters
    ----------
    size
        Model size, as train takes it: small, 12M, 1B; by default what suits the budget.
    budget
        Length, as train takes it; by default 20 tokens per parameter, or one epoch of the text.
    gpus
        Number of devices.
    device
        a100, h100, h200 or cpu; by default what this machine has, measured.
    tokens
        Tokens of the text, as in 9B, or its bytes, as in 40GB.
    arch
        The architecture (llama by default).
    peak
        TFLOPs per second of a device that is not in the table.
    network
        Gigabytes per second from one node to others.
    utilisation
        Fraction of the peak that matmuls reach.
    from_
        Plan going on from this model with a text, as train --from does.
    lora
        With --from: rank of the LoRA adapters; 0 for all weights.
    """
    if from_ is not None:
        from ..plan.adaptation import estimate_adaptation

        data = estimate_adaptation(
            from_, budget=budget, tokens=tokens, lora=lora, arch=arch, device=device,
            utilisation=utilisation, settings=settings or {},
        )  # fmt: skip
        emit(data, f"{table(_adaptation(data))}\n\n{data['command']}", json)
        return
    from ..plan.planner import plan as estimate

    data = estimate(
        size, budget=budget, gpus=gpus, arch=arch, tokens=tokens, device=device, peak=peak,
        network=network, utilisation=utilisation, settings=settings or {},
    )  # fmt: skip
    parts = [table(_model(data)), _memory(data), table(_time(data)), data["command"]]
    emit(data, "\n\n".join(parts), json)


def _adaptation(data: dict[str, Any]) -> list[tuple[str, str]]:
    memory, device = data["memory"], data["device"]
    parts = ", ".join(f"{name} {format_bytes(each)}" for name, each in memory.items())
    weights = f"LoRA adapters of rank {data['lora']}" if data["lora"] else "all weights"
    room = "fits into" if data["fits"] else "does not fit into"
    total = f"{format_bytes(sum(memory.values()))}, {room} {format_bytes(device['memory'])}"
    return [
        ("model", f"{data['architecture']}, {data['parameters']:,} parameters"),
        ("trained", f"{weights}: {data['trained_parameters']:,}"),
        ("step", f"{data['batch_tokens']:,} tokens in rows of {data['sequence_length']:,}"),
        ("memory", f"{total} ({parts})"),
        ("device", f"{device['name']}, {si(device['peak'])}FLOPs ({device['source']})"),
        ("speed", f"{data['tokens_per_second']:,.0f} tokens per second"),
        ("training", f"{data['steps']:,} steps, {si(data['tokens'])} tokens"),
        ("time", rough_duration(data["seconds"])),
    ]


def _model(data: dict[str, Any]) -> list[tuple[str, str]]:
    model, rates = data["model"], data["learning_rates"]
    shape = ", ".join(
        f"{name} {model[name]:,}"
        for name in ("layers", "heads", "d_model", "context_length", "vocab_size")
        if model.get(name) is not None
    )
    lr = f"matrices {rates['matrices']:.3g}, the rest {rates['rest']:.3g}"
    length = f"{si(data['tokens'])} tokens, {data['tokens_per_parameter']:.3g} per parameter"
    epochs = f", {data['epochs']:.3g} epochs of the text" if data["epochs"] else ""
    # 6 FLOPs per weight and token, and those of attention
    flops, attention = data["flops_per_token"], data["attention_flops_per_token"]
    weights = f"6 x {si((flops - attention) / 6)} weights"
    return [
        ("size", f"{data['size']}: {data['architecture']}, {shape}"),
        ("parameters", f"{data['parameters']:,}"),
        ("batch", f"{data['batch_size']:,} sequences, {data['batch_tokens']:,} tokens"),
        ("learning rates", f"{data['optimizer']}: {lr}"),
        ("length", f"{length}, {data['steps']:,} steps{epochs}"),
        ("FLOPs per token", f"{si(flops)} = {weights} + {si(attention)} of attention"),
        ("FLOPs in total", f"{data['flops']:.3g}"),
    ]


def _memory(data: dict[str, Any]) -> str:
    """Memory of one device by part and layout, with one sequence at a time."""
    from ..plan.estimate import peak_memory

    # one line per layout, one column per part
    names = list(next(iter(data["memory"].values())))
    head = ["memory per device", *names, "peak"]
    rows = [
        [layout, *(format_bytes(parts[name]) for name in names), format_bytes(peak_memory(parts))]
        for layout, parts in data["memory"].items()
    ]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    padded = [
        [row[0], *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))]
        for row in (head, *rows)
    ]
    return table(padded)


def _time(data: dict[str, Any]) -> list[tuple[str, str]]:
    from ..plan.estimate import PARTS

    machine = data["device"]
    speed = f"{si(machine['peak'])}FLOP/s ({machine['source']})"
    machines = f"{data['gpus']:,} x {machine['name']}: {speed}, {machine['memory'] / 1e9:.3g} GB"
    rows = [("machine", f"{machines}; {data['utilisation']:.0%} of it for matmuls")]
    for layout, sent in data["bytes_sent_per_token"].items():
        rows.append((f"sent, {layout}", f"{si(sent)}B per token that a device reads"))
    # it does not fit: no speed to report
    if data["layout"] is None:
        needed = data["min_gpus"]
        how = f"{needed:,} of them would hold it" if needed else "no number of them holds it"
        return [*rows, ("bottleneck", f"memory: it does not fit; {how}")]
    parts, share = data["seconds_per_step"], data["mfu"]
    # device hours are what a cloud charges for
    hours = data["seconds"] * data["gpus"] / 3600
    places = 0 if hours >= 100 else 2
    rows += [
        ("layout", f"{data['layout']}, micro-batch {data['micro_batch_size']}"),
        *((PARTS[name], f"{rough_duration(n)} per step") for name, n in parts.items() if n),
        ("speed", f"{si(data['tokens_per_second'])} tokens/s, {share:.1%} of the peak"),
        ("time", f"{rough_duration(data['seconds'])}, {hours:,.{places}f} device hours"),
    ]
    # more devices than sequences in a batch
    if data["idle_gpus"]:
        idle = f"{data['idle_gpus']:,} devices: a step has {data['batch_size']:,} sequences"
        rows.append(("idle", idle))
    return [*rows, ("bottleneck", PARTS[data["bottleneck"]])]
