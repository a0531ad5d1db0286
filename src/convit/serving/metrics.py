"""What a service counts, in the form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("convit_requests", "Requests answered.", ("route", "status"), registry=self.registry)
        self.refusals = Counter("convit_refusals", "Requests turned away.", ("reason",), registry=self.registry)
        self.in_flight = Gauge("convit_requests_in_flight", "Requests being answered.", registry=self.registry)
        self.seconds = self._histogram("request_seconds", "From head to answer.", "route")
        self.batches = self._histogram("batch_images", "Images in a batch.", "model", _SIZES)
        self.model = self._histogram("model_seconds", "Model time of a batch.", "model")
        self.queue = self._histogram(
            "queue_seconds", "From accepted until the model starts, decoding included.", "model"
        )

    def _histogram(self, name: str, told: str, label: str, buckets: Sequence[float] = _SECONDS) -> Histogram:
        return Histogram(f"convit_{name}", told, (label,), buckets=buckets, registry=self.registry)

    def count_batch(self, model: str, seconds: float, waited: Sequence[float]) -> None:
        """Count one batch: its model time, and how long each image waited, in seconds."""
        self.batches.labels(model).observe(len(waited))
        self.model.labels(model).observe(seconds)
        queue = self.queue.labels(model)
        for each in waited:
            queue.observe(each)

    def count_request(self, route: str, status: int, seconds: float, reason: str) -> None:
        """Count one answered request, and why it was turned away if it was."""
        self.requests.labels(route, status).inc()
        self.seconds.labels(route).observe(seconds)
        if reason:
            self.refusals.labels(reason).inc()

    def text(self) -> bytes:
        """All of it, in Prometheus's text format."""
        return generate_latest(self.registry)
