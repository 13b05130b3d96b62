"""Counters of the server in Prometheus' text format (`/metrics`), through prometheus_client."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class ServerMetrics:
    """What one server counts; names end in their unit, as Prometheus asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "scriven_requests", "Answered requests.", ["route", "status"], registry=self.registry
        )
        self.prompt_tokens = Counter(
            "scriven_prompt_tokens", "Tokens of prompts.", ["model"], registry=self.registry
        )
        self.generated_tokens = Counter(
            "scriven_generated_tokens", "Generated tokens.", ["model"], registry=self.registry
        )
        self.first_token_seconds = Histogram(
            "scriven_time_to_first_token_seconds", "From a request to its first token.",
            ["model"], buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.request_seconds = Histogram(
            "scriven_request_seconds", "From a request to the end of its answer.",
            ["route"], buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.running = Gauge(
            "scriven_running_texts", "Texts being generated.", ["model"], registry=self.registry
        )
        self.waiting = Gauge(
            "scriven_waiting_requests", "Requests without a slot.", ["model"],
            registry=self.registry,
        )  # fmt: skip

    def text(self) -> bytes:
        """All of it, as /metrics gives it."""
        return generate_latest(self.registry)
