"""The shipped model and alternatives, alternately, each in a process with one thread.

All recognize the same synthetic files of 4 s: the shipped model; a network of wav2vec 2.0's base
size with random weights, in fp32 and in bf16; openSMILE's eGeMAPS with a linear SVM. All read the
files and predict a class. Speed is measured by CPU time; memory is the peak of the process. Then
the time of the shipped model for one file of 4, 15 and 60 s.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time
from typing import NamedTuple

import numpy as np
import soundfile

from benchmarks.timing import MODEL, Row
from serein.inference.recognizer import Recognizer
from serein.synthetic import RATE, Voice, synthesize

ROOT = Path(__file__).parent.parent
FILES, SECONDS, ROUNDS = 6, 4, 3
TASK = f"recognize {FILES} files of {SECONDS} s"
LENGTHS = (4, 15, 60)
OURS, OURS_FOLDER = "ours", "folder"


class Peer(NamedTuple):
    """An alternative system: its name, and the packages that it needs."""

    name: str
    packages: tuple[str, ...]

    @property
    def missing_packages(self) -> list[str]:
        """The packages that are not installed."""
        return [package for package in self.packages if find_spec(package) is None]


PEERS = {
    "wav2vec2": Peer("wav2vec2-base, random weights, fp32", ("transformers",)),
    "wav2vec2_bf16": Peer("wav2vec2-base, random weights, bf16", ("transformers",)),
    "egemaps": Peer("eGeMAPS + SVM", ("opensmile", "sklearn")),
}
REPEATS = {OURS: 10, OURS_FOLDER: 10, "egemaps": 2}
"""Repeats of all files in a round, so that a round is long enough to time; 1 for others."""


class Cost(NamedTuple):
    """CPU seconds for all files, of each round; and the peak memory in MiB."""

    seconds: list[float]
    peak: float


def main() -> list[Row]:
    with TemporaryDirectory() as name:
        files = write_files(Path(name) / "equal", [SECONDS] * FILES)
        available = [system for system, peer in PEERS.items() if not peer.missing_packages]
        costs = measure_systems([OURS, OURS_FOLDER, *available], files[0].parent)
        files = write_files(Path(name) / "lengths", LENGTHS)
        return [*compare_costs(costs), *_time_lengths(files)]


def write_files(folder: Path, lengths: Sequence[float]) -> list[Path]:
    """Write files of synthetic speech of these durations in seconds, each by another voice."""
    folder.mkdir()
    files = [folder / f"{number}.wav" for number in range(len(lengths))]
    for number, (file, seconds) in enumerate(zip(files, lengths, strict=True)):
        voice, rng = Voice.for_speaker(file.stem, "female", seed=0), np.random.default_rng(number)
        speech = synthesize(["mala"] * 16, voice, "neutral", rng)
        soundfile.write(file, np.resize(speech, round(seconds * RATE)), RATE)
    return files


def measure_systems(systems: Sequence[str], folder: Path) -> dict[str, Cost]:
    """Measure each system on the files of a folder; all are ready before the first round."""
    seconds: dict[str, list[float]] = {system: [] for system in systems}
    with ExitStack() as stack:
        processes = {system: stack.enter_context(_process(system, folder)) for system in systems}
        for number in range(ROUNDS):
            for system in systems if number % 2 else reversed(systems):
                repeats = REPEATS.get(system, 1)
                seconds[system].append(_request_round(processes[system], repeats) / repeats)
        peaks = {system: float(process.communicate()[0]) for system, process in processes.items()}
    return {system: Cost(seconds[system], peaks[system]) for system in systems}


@contextmanager
def _process(system: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "benchmarks.peer_systems", system, str(folder)]
    with subprocess.Popen(
        command,
        text=True,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", f"{system} did not start"
            yield process
        finally:
            process.kill()


def _request_round(process: "subprocess.Popen[str]", repeats: int) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{repeats}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def compare_costs(costs: Mapping[str, Cost]) -> list[Row]:
    """Build rows of speed for each peer and for ours as a folder, and of memory for each peer."""
    available = [system for system in PEERS if system in costs]
    fastest = min(available, key=lambda system: median(costs[system].seconds), default=None)
    what = f"{TASK}, one at a time"
    rows = [_speed(costs, OURS, system, what, system == fastest) for system in PEERS]
    if fastest:
        rows.append(_speed(costs, OURS_FOLDER, fastest, f"{TASK} as a folder", True))
    return rows + [_memory(costs, system) for system in available]


def _speed(costs: Mapping[str, Cost], our: str, system: str, what: str, is_fastest: bool) -> Row:
    mine, name = costs[our].seconds, PEERS[system].name
    ours, unit = FILES * SECONDS / median(mine), "x real time"
    if system not in costs:
        missing = " and ".join(PEERS[system].missing_packages)
        name = f"{name}: {missing} not installed, skipped"
        return Row(what=what, ours=ours, unit=unit, peer_name=name)
    theirs = costs[system].seconds
    return Row(
        what=what,
        ours=ours,
        unit=unit,
        peer_name=name,
        peer=FILES * SECONDS / median(theirs),
        ratio=median(their / my for my, their in zip(mine, theirs, strict=True)),
        target="20 or more" if is_fastest else "",
    )


def _memory(costs: Mapping[str, Cost], system: str) -> Row:
    mine, theirs = costs[OURS].peak, costs[system].peak
    return Row(
        what=f"{TASK}, one at a time: peak memory of the process",
        ours=mine,
        unit="MiB",
        peer_name=PEERS[system].name,
        peer=theirs,
        ratio=theirs / mine,
    )


def _time_lengths(files: Sequence[Path]) -> Iterator[Row]:
    recognizer = Recognizer(MODEL)
    for file, seconds in zip(files, LENGTHS, strict=True):
        cpu_seconds = median([_time_file(recognizer, file) for _ in range(15)])
        speed = seconds / cpu_seconds
        what = f"recognize one file of {seconds} s, warm: {speed:,.0f} x real time"
        yield Row(what=what, ours=1e3 * cpu_seconds, unit="ms")


def _time_file(recognizer: Recognizer, file: Path) -> float:
    start = process_time()
    recognizer(file)
    return process_time() - start
