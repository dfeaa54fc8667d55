"""Numbers for Prometheus, of this process since it started.

print(Metrics().text(queued=3, running=1, receiving=0).decode())
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from anomreason.serve.jobs import Ending

_NAME = "anomreason"
_SECONDS = (0.1, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 900, 3600)
_ACCEPTED = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 20)


class Metrics:
    """The numbers of one service."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._jobs = Counter("jobs", "Jobs that ended, by how.", ["outcome"], namespace=_NAME, registry=registry)
        self._cached = Counter(
            "jobs_cached", "Jobs whose detection was kept already.", namespace=_NAME, registry=registry
        )
        self._calls = Counter("model_calls", "Calls of the model.", namespace=_NAME, registry=registry)
        self._tokens = Counter(
            "model_tokens", "Tokens by direction.", ["direction"], namespace=_NAME, registry=registry
        )
        self._cost = Counter(
            "model_cost_dollars", "Cost, where the price is known.", namespace=_NAME, registry=registry
        )
        self._answers = Counter(
            "requests", "Requests by route and status.", ["route", "status"], namespace=_NAME, registry=registry
        )
        self._queued = Gauge("jobs_queued", "Jobs that wait.", namespace=_NAME, registry=registry)
        self._running = Gauge("jobs_running", "Jobs in work.", namespace=_NAME, registry=registry)
        self._receiving = Gauge(
            "upload_bytes", "Bytes of images being received or stored.", namespace=_NAME, registry=registry
        )
        self._seconds = Histogram(
            "job_seconds", "From sent to ended.", buckets=_SECONDS, namespace=_NAME, registry=registry
        )
        self._accepted = Histogram(
            "accept_seconds",
            "To take an image that is queued.",
            buckets=_ACCEPTED,
            namespace=_NAME,
            registry=registry,
        )

    def ended(self, ending: Ending, seconds: float | None = None) -> None:
        """A job has ended; seconds: after it was sent, None for one that never waited."""
        self._jobs.labels(ending.failure.kind if ending.failure else "done").inc()
        self._cached.inc(ending.cached)
        self._calls.inc(ending.usage.calls)
        self._tokens.labels("prompt").inc(ending.usage.prompt_tokens)
        self._tokens.labels("reply").inc(ending.usage.completion_tokens)
        self._cost.inc(ending.usage.cost or 0.0)
        if seconds is not None:
            self._seconds.observe(max(0.0, seconds))

    def answered(self, route: str, status: int) -> None:
        """A request was answered; route: its pattern, so that there are few."""
        self._answers.labels(route, str(status)).inc()

    def accepted(self, seconds: float) -> None:
        """An image was received and queued in so many seconds."""
        self._accepted.observe(seconds)

    def text(self, queued: int, running: int, receiving: int) -> bytes:
        """All numbers in Prometheus' text form."""
        self._queued.set(queued)
        self._running.set(running)
        self._receiving.set(receiving)
        return generate_latest(self._registry)
