"""What Prometheus may know: how many, how long, how full; nothing of who or what."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

LATENCY_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """One service's own registry, so that two in one process are told apart."""

    def __init__(self) -> None:
        self.registry = held = CollectorRegistry()
        self.requests = Counter(
            "serein_requests", "Requests answered", ["route", "status"], registry=held
        )
        self.request_seconds = Histogram(
            "serein_request_seconds",
            "Head to answer",
            ["route"],
            registry=held,
            buckets=LATENCY_BUCKETS,
        )
        self.batch_sizes = Histogram(
            "serein_batch_recordings", "Answered at once", registry=held, buckets=SIZE_BUCKETS
        )
        self.in_progress = Gauge("serein_in_progress", "Recordings in work", registry=held)
        self.audio_seconds = Counter("serein_audio_seconds", "Audio recognised", registry=held)
        self.decoder_deaths = Counter("serein_decoder_deaths", "Ended by an upload", registry=held)
        self.open_streams = Gauge("serein_streams_open", "Streams that are open", registry=held)
        self.streams_ended = Counter("serein_streams", "Streams ended", ["code"], registry=held)
        self.streamed_seconds = Counter(
            "serein_stream_audio_seconds", "Heard in streams", registry=held
        )
        self.stream_latency = Histogram(
            "serein_stream_latency_seconds",
            "Block to segment",
            registry=held,
            buckets=LATENCY_BUCKETS,
        )
        self.stream_batch_sizes = Histogram(
            "serein_stream_batch_blocks", "Of streams, at once", registry=held, buckets=SIZE_BUCKETS
        )

    def render(self) -> bytes:
        """In Prometheus's own format, version 0.0.4."""
        return generate_latest(self.registry)
