"""`serein serve` on loopback, under load from a second process: batched beside one at a time."""

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

from benchmarks.timing import Row
from serein.synthetic import RATE, Voice, synthesize

AUDIO = 2.8  # seconds, the mean of EMO-DB
CLIENTS = (1, 2, 4, 8, 16, 32)
SECONDS = float(os.environ.get("SEREIN_LOAD_SECONDS", "5"))


@dataclass(frozen=True, kw_only=True)
class Load:
    """What came of one load: answers a second, and the 95th percentile in seconds."""

    rate: float
    p95: float
    statuses: tuple[int, ...]


def main() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speech.flac"
        voice, rng = Voice.for_speaker("ann", "female", seed=0), np.random.default_rng(0)
        spoken = synthesize(["mala"] * 12, voice, "neutral", rng)
        soundfile.write(file, np.resize(spoken, round(AUDIO * RATE)), RATE)
        with serving(Path(folder)) as batched, serving(Path(folder), "--batch", "1") as alone:
            pairs = [
                (_closed(batched, file, clients), _closed(alone, file, clients))
                for clients in CLIENTS
            ]
            peak = max(ours.rate for ours, _ in pairs)
            half = load(batched, file, "--rate", str(peak / 2))
    slowest = max((theirs for _, theirs in pairs), key=lambda one: one.rate)
    within = [ours.rate for ours, _ in pairs if ours.p95 <= slowest.p95]
    best = max(within, default=0.0)
    errors = {s for pair in (*pairs, (half,)) for one in pair for s in one.statuses} - {200}
    return [
        Row(
            what=f"serve: {AUDIO} s FLACs, batched, at the p95 of one at a time "
            f"({1e3 * slowest.p95:.0f} ms)",
            ours=best,
            unit="requests/s",
            peer_name="--batch 1 at its peak",
            peer=slowest.rate,
            ratio=best / slowest.rate,
            asked="2 or more",
        ),
        Row(what="serve: peak", ours=peak, unit="requests/s"),
        Row(
            what=f"serve: p95 at half of the peak; statuses but 200: {sorted(errors) or 'none'}",
            ours=1e3 * half.p95,
            unit="ms",
            asked="under 100 ms, no error but 429",
        ),
    ]


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[int]:
    """A service in a process of its own; its port."""
    command = [sys.executable, "-m", "serein", "serve", "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder)
    assert process.stderr is not None
    with tempfile.TemporaryFile("w") as nowhere:
        for line in process.stderr:
            if "port" in (told := json.loads(line)):
                break
        drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=nowhere)
        try:
            yield int(told["port"])
        finally:
            process.terminate()
            process.wait()
            drain.wait()
            process.stderr.close()


def load(port: int, file: Path, *options: str, seconds: float = SECONDS) -> Load:
    """Put load on it from another process."""
    command = [sys.executable, "-m", "benchmarks.load", str(port), str(file), *options]
    command += ["--seconds", str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    return Load(
        rate=len(found["latencies"]) / found["seconds"],
        p95=float(np.quantile(found["latencies"], 0.95)),
        statuses=tuple(found["statuses"]),
    )


def _closed(port: int, file: Path, clients: int) -> Load:
    load(port, file, "--clients", str(clients), seconds=0.5)
    return load(port, file, "--clients", str(clients))
