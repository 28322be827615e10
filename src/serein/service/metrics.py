"""What Prometheus may know: how many, how long, how full; nothing of who or what."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
TOGETHER = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """One service's own registry, so that two in one process are told apart."""

    def __init__(self) -> None:
        self.registry = held = CollectorRegistry()
        self.requests = Counter(
            "serein_requests", "Requests answered", ["route", "status"], registry=held
        )
        self.seconds = Histogram(
            "serein_request_seconds", "Head to answer", ["route"], registry=held, buckets=SECONDS
        )
        self.together = Histogram(
            "serein_batch_recordings", "Answered at once", registry=held, buckets=TOGETHER
        )
        self.in_progress = Gauge("serein_in_progress", "Recordings in work", registry=held)
        self.audio = Counter("serein_audio_seconds", "Audio recognised", registry=held)
        self.deaths = Counter("serein_decoder_deaths", "Ended by an upload", registry=held)
        self.open = Gauge("serein_streams_open", "Streams that are open", registry=held)
        self.ends = Counter("serein_streams", "Streams ended", ["code"], registry=held)
        self.streamed = Counter("serein_stream_audio_seconds", "Heard in streams", registry=held)
        self.late = Histogram(
            "serein_stream_latency_seconds", "Block to segment", registry=held, buckets=SECONDS
        )
        self.ears = Histogram(
            "serein_stream_batch_blocks", "Of streams, at once", registry=held, buckets=TOGETHER
        )

    def text(self) -> bytes:
        """In Prometheus's own format, version 0.0.4."""
        return generate_latest(self.registry)
