"""What a server tells Prometheus of itself."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
BATCHES = (1, 2, 4, 8, 16, 32)


class Telemetry:
    """One server's figures, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        here = self.registry
        self.requests = Counter("hymunet_requests", "Requests for a mask, by HTTP status", ["status"], registry=here)
        self.seconds = Histogram("hymunet_request_seconds", "From head to answer", buckets=SECONDS, registry=here)
        self.stages = Histogram(
            "hymunet_stage_seconds",
            "upload, decode, model, encode",
            ["stage"],
            buckets=SECONDS,
            registry=here,
        )
        self.batches = Histogram("hymunet_batch_images", "Images the model saw at once", buckets=BATCHES, registry=here)
        self.model_seconds = Counter("hymunet_model_seconds", "Seconds in which the model computed", registry=here)
        self.in_flight = Gauge("hymunet_requests_in_flight", "Requests between head and answer", registry=here)
        self.model = Gauge("hymunet_model", "1 for the model that answers", ["source", "weights_sha256"], registry=here)
        self.switches = Counter("hymunet_model_switches", "Versions taken over from the registry", registry=here)
        self.failures = Counter("hymunet_follow_failures", "Looks at the registry that failed", registry=here)

    def batch(self, size: int, seconds: float) -> None:
        self.batches.observe(size)
        self.model_seconds.inc(seconds)

    def followed(self, switched: bool) -> None:
        (self.switches if switched else self.failures).inc()

    def text(self, source: str, weights: str) -> bytes:
        self.model.clear()
        self.model.labels(source, weights).set(1)
        return generate_latest(self.registry)
