"""`serein serve` on loopback, with load from a second process: batched, and one at a time."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.timing import MODEL, Row
from serein.synthetic import RATE, Voice, synthesize

AUDIO = 2.8  # seconds, the mean of EMO-DB
CLIENTS = (1, 2, 4, 8, 16, 32)
SECONDS = float(os.environ.get("SEREIN_LOAD_SECONDS", "5"))


@dataclass(frozen=True, kw_only=True)
class Load:
    """The result of one load: responses per second, and the 95th percentile in seconds."""

    rate: float
    p95: float
    failed: int


def main() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speech.flac"
        voice, rng = Voice.for_speaker("ann", "female", seed=0), np.random.default_rng(0)
        speech = synthesize(["mala"] * 12, voice, "neutral", rng)
        soundfile.write(file, np.resize(speech, round(AUDIO * RATE)), RATE)
        with (
            run_service(Path(folder)) as batched,
            run_service(Path(folder), "--batch", "1") as unbatched,
        ):
            pairs = [
                (_run_clients(batched, file, clients), _run_clients(unbatched, file, clients))
                for clients in CLIENTS
            ]
            peak = max(ours.rate for ours, _ in pairs)
            half = run_load(batched, file, "--rate", str(peak / 2))
    reference = max((theirs for _, theirs in pairs), key=lambda load: load.rate)
    best = max((ours.rate for ours, _ in pairs if ours.p95 <= reference.p95), default=0.0)
    loads = [load for pair in (*pairs, (half,)) for load in pair]
    return [
        Row(
            what=f"serve: {AUDIO} s FLACs, batched, at the p95 of one at a time "
            f"({1e3 * reference.p95:.0f} ms)",
            ours=best,
            unit="requests/s",
            peer_name="--batch 1 at its peak",
            peer=reference.rate,
            ratio=best / reference.rate,
            target="2 or more",
        ),
        Row(what="serve: peak", ours=peak, unit="requests/s"),
        Row(
            what="serve: p95 at half of the peak",
            ours=1e3 * half.p95,
            unit="ms",
            target="under 100 ms",
        ),
        Row(
            what="serve: requests with a status other than 200 and 429, under all loads",
            ours=sum(load.failed for load in loads),
            unit="requests",
            target="0",
        ),
    ]


@contextmanager
def run_service(folder: Path, *options: str) -> Iterator[int]:
    """Run a service in a separate process, and yield its port."""
    command = [sys.executable, "-m", "serein", "serve", "--port", "0", "--model", MODEL, *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder)
    assert process.stderr is not None
    with tempfile.TemporaryFile("w") as log:
        for line in process.stderr:
            if "port" in (entry := json.loads(line)):
                break
        drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=log)
        try:
            yield int(entry["port"])
        finally:
            process.terminate()
            process.wait()
            drain.wait()
            process.stderr.close()


def run_load(port: int, file: Path, *options: str, seconds: float = SECONDS) -> Load:
    """Send requests to a service from another process."""
    command = [sys.executable, "-m", "benchmarks.load_client", str(port), str(file), *options]
    command += ["--seconds", str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout)
    return Load(
        rate=len(result["latencies"]) / result["seconds"],
        p95=float(np.quantile(result["latencies"], 0.95)),
        failed=result["failed"],
    )


def _run_clients(port: int, file: Path, clients: int) -> Load:
    run_load(port, file, "--clients", str(clients), seconds=0.5)
    return run_load(port, file, "--clients", str(clients))
