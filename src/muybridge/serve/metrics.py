"""Counters of a server in the text format of Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """What a server has done since it was started."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "muybridge_requests", "Requests by route and status.", ("route", "status"), registry=self.registry
        )
        self.request_seconds = Histogram(
            "muybridge_request_seconds",
            "Seconds from the first byte of a request to the last of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_progress = Gauge(
            "muybridge_requests_in_progress", "Recordings that arrive, wait or are computed.", registry=self.registry
        )
        self.rejected = Counter(
            "muybridge_rejected_requests", "Requests refused because the queue was full.", registry=self.registry
        )
        self.bytes = Counter("muybridge_received_bytes", "Bytes of recordings.", registry=self.registry)
        self.recording_seconds = Counter(
            "muybridge_recording_seconds", "Duration of the recordings that were read.", registry=self.registry
        )
        self.batch_size = Histogram(
            "muybridge_batch_size",
            "Recordings, or windows of them, that the model computed together.",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self.streams = Gauge("muybridge_streams", "Clients that send live frames.", registry=self.registry)
        self.frames = Counter("muybridge_stream_frames", "Live frames that were looked at.", registry=self.registry)
        self.workers = Gauge("muybridge_workers", "Processes that read recordings.", registry=self.registry)
        self.restarts = Gauge(
            "muybridge_worker_restarts", "Processes that were replaced after they ended.", registry=self.registry
        )

    def text(self) -> bytes:
        """All of them as Prometheus reads them."""
        return generate_latest(self.registry)
