"""What a training would take: one dial in, shape, batch, rates, memory, time and bottleneck out."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .. import config, registry
from ..errors import SettingError
from ..format import model_size
from ..settings import Settings
from ..tokenizers.vocabulary import choose_vocab_size
from ..train import scaling_laws
from ..train.budget import Budget, parse_budget
from ..train.forecast import Forecast, forecast
from ..train.job import Job, job_of
from ..train.machines import machine_of
from ..train.train_plan import check_settings
from .planned import Asked, Planned, report

UTILISATION = 0.4
"""Share of the peak that good trainings reach: docs/scaling.md compares it with published ones."""
MOST_DEVICES = 1 << 20
ROUNDS = 12


def plan(
    size: str | None = None,
    *,
    budget: str | None = None,
    gpus: int = 1,
    arch: str | None = None,
    tokens: str | None = None,
    device: str | None = None,
    peak: float | None = None,
    network: float | None = None,
    utilisation: float = UTILISATION,
    settings: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """A training by calculation: nothing is built, nothing is read.

    Args:
        size: as `train` takes it; by default what suits the budget.
        budget: as `train` takes it; by default 20 tokens per parameter, or one pass through tokens.
        gpus: how many devices.
        arch: the architecture, llama by default.
        tokens: of the text, as in `9B`, or its bytes, as in `40GB`.
        device: a100, h100, h200, cpu; by default what this machine has.
        peak: TFLOPs per second of one device, instead of the table's or the probe's.
        network: gigabytes per second from one computer to others, instead of the table's.
        utilisation: share of the peak that products reach.
        settings: changes of settings, as in {"model.context_length": 2048}.

    Raises:
        SettingError: something impossible, or too little to plan from.
    """
    if not 1 <= gpus <= MOST_DEVICES:
        raise SettingError(f"--gpus={gpus}: from 1 to {MOST_DEVICES:,}")
    for name, value, most in (
        ("utilisation", utilisation, 1.0),
        ("peak", peak, 1e9),
        ("network", network, 1e9),
    ):
        if value is not None and not 0 < value <= most:
            raise SettingError(f"--{name}={value}: above 0, up to {most:g}")
    machine = machine_of(device, probed=peak is None)
    if peak is not None:
        machine = replace(machine, peak=peak * 1e12, source="as given")
    if network is not None:
        machine = replace(machine, network=network * 1e9)
    asked = Asked(
        arch or "llama",
        machine,
        gpus,
        utilisation,
        parse_budget(budget) if budget else None,
        scaling_laws.parse_token_count(tokens) if tokens else None,
        dict(settings or {}),
    )
    return report(asked, _Search(asked, size).run())


class _Search:
    """The way to a plan that agrees with itself.

    Vocabulary, window and batch follow from the tokens, and the tokens, where nobody says, from the
    parameters or the seconds: it goes round until nothing changes.
    """

    def __init__(self, asked: Asked, size: str | None) -> None:
        self.asked, self.budget = asked, asked.budget
        if size is None and self.budget is None and asked.text is None:
            self.budget = Budget("seconds", 600)  # as `train` has it
        self.start = registry.module("scriven.models", asked.architecture).Config()
        sections = config.sections(asked.settings)
        self.fields = sections.pop("model", {})
        self.settings = _changed(sections)
        self.open = size is None and self._unit == "seconds"
        """Whether the size follows from seconds."""
        self.size = size or self._size()

    @property
    def _unit(self) -> str | None:
        return self.budget.unit if self.budget else None

    def run(self) -> Planned:
        """The finished plan."""
        horizon = scaling_laws.compute_optimal_tokens(_blocks(self.size))
        for _ in range(ROUNDS):
            horizon = _rounded(horizon)
            model, job, found = self._build(horizon)
            following = _rounded(self._horizon(job, found))
            share = following / scaling_laws.compute_optimal_tokens(job.parameters)
            if self.open and not 0.95 < share < 1.05:
                self.size = model_size(max(1e3, _blocks(self.size) * share**0.5))
            elif following == horizon:
                break
            horizon = following
        budget = Budget("tokens", horizon)
        if self.budget is not None and self.budget.unit == "steps":
            budget = self.budget
        steps = budget.total_steps(job.tokens, 1)
        assert steps is not None
        return Planned(self.size, model, self.settings, job, found, budget, horizon, steps)

    def _size(self) -> str:
        """What suits a budget: 6 FLOPs for each parameter and token, and 20 tokens for each
        parameter (Hoffmann et al. 2022)."""
        each = scaling_laws.TOKENS_PER_PARAMETER
        if self._unit == "steps":
            raise SettingError("a budget in steps says nothing of a size: add --size, as in 12M")
        if self.budget is not None and self._unit == "seconds":
            parameters = math.sqrt(self._rate * self.budget.amount / (6 * each))
        else:
            parameters = self._read() / each
        return model_size(max(1e3, parameters))

    @property
    def _rate(self) -> float:
        """FLOPs per second of all devices."""
        return self.asked.machine.peak * self.asked.utilisation * self.asked.devices

    def _read(self) -> float:
        """Tokens of a training of which they are said."""
        if self.budget is not None and self.budget.unit == "tokens":
            return self.budget.amount
        if self.asked.text is None:
            raise SettingError("a budget in epochs needs the size of the text: add --tokens 40GB")
        return self.asked.text * (self.budget.amount if self.budget else 1)

    def _build(self, horizon: float) -> tuple[Any, Job, Forecast | None]:
        """Model, job and forecast for so many tokens."""
        text, machine = self.asked.text or horizon, self.asked.machine
        seconds = self._seconds if self._unit == "seconds" else math.inf
        usual: dict[str, object] = {
            "vocab_size": choose_vocab_size(int(text * scaling_laws.BYTES_PER_TOKEN)),
            "context_length": scaling_laws.default_context_length(
                machine.gpu, seconds, not machine.gpu, int(text)
            ),
            **vars(scaling_laws.model_shape(self.size)),
        }
        known = {name: value for name, value in usual.items() if hasattr(self.start, name)}
        model = config.replace(self.start, {**known, **self.fields}, "model")
        told = None if self._unit == "steps" else horizon
        tokens = scaling_laws.tokens_per_step(machine.gpu, told, text)
        rows = self.settings.train.batch_size or scaling_laws.sequences_per_step(
            tokens, model.context_length, text
        )
        optimizer = self.settings.optim.optimizer
        job = replace(job_of(self.asked.architecture, model, optimizer, machine.gpu), rows=rows)
        return model, job, forecast(job, machine, self.asked.devices, self.asked.utilisation)

    def _horizon(self, job: Job, found: Forecast | None) -> float:
        """Tokens of the training."""
        if self._unit == "steps" and self.budget is not None:
            return self.budget.amount * job.tokens
        if self._unit == "seconds":
            if found is None:  # it fits nowhere: what arithmetic alone would allow
                return self._seconds * self._rate / job.flops
            return self._seconds / found.step * job.tokens
        if self.budget is not None or self.asked.text is not None:
            return self._read()
        return scaling_laws.compute_optimal_tokens(job.parameters)

    @property
    def _seconds(self) -> float:
        return self.budget.amount if self.budget else 0.0


def _changed(sections: Mapping[str, dict[str, object]]) -> Settings:
    """The default settings with changes."""
    usual = vars(Settings())
    for name, values in sections.items():
        if name not in usual:
            near = [f"--{each}." for each in ("model", *usual)]
            raise config.unknown(f"--{name}.{next(iter(values))}", near)
    changed = {name: config.replace(usual[name], each, name) for name, each in sections.items()}
    settings = Settings(**{**usual, **changed})
    check_settings(settings)
    return settings


def _blocks(size: str) -> int:
    """Parameters of a size, about."""
    shape = scaling_laws.model_shape(size)
    return 12 * shape.layers * shape.d_model**2


def _rounded(tokens: float) -> float:
    """To three digits, so that a command can name them."""
    digits = 2 - math.floor(math.log10(max(1.0, tokens)))
    return float(round(max(1.0, tokens), digits))
