"""The shipped model beside what a user would run instead, in turns, a process and thread each.

The same generated files of 4 s: the shipped model; a network of wav2vec 2.0's base size with
random weights, in fp32 and in bf16; openSMILE's eGeMAPS and a linear SVM. All read the files and
say a class of each. Speed is by processor time, memory the peak of the whole process. Then what
the shipped model takes for one file of 4, 15 and 60 s.
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

from benchmarks.timing import Row
from serein.inference.recognizer import Recognizer
from serein.synthetic import RATE, Voice, synthesize

HOUSE = Path(__file__).parent.parent
FILES, SECONDS, ROUNDS = 6, 4, 3
LENGTHS = (4, 15, 60)
OURS, TOGETHER = "ours", "folder"


class Peer(NamedTuple):
    """Who else could be asked: its name, and the packages that it needs."""

    name: str
    packages: tuple[str, ...]

    @property
    def lacks(self) -> list[str]:
        """What is not installed."""
        return [package for package in self.packages if find_spec(package) is None]


PEERS = {
    "wav2vec2": Peer("wav2vec2-base, random weights, fp32", ("transformers",)),
    "wav2vec2_bf16": Peer("wav2vec2-base, random weights, bf16", ("transformers",)),
    "egemaps": Peer("eGeMAPS + SVM", ("opensmile", "sklearn")),
}
TIMES = {OURS: 10, TOGETHER: 10, "egemaps": 2}
"""That all files are heard in a round, where not once: so that a round is long enough to time."""


class Cost(NamedTuple):
    """Of each round, the seconds of processor time for all files once; and MiB at most."""

    seconds: list[float]
    peak: float


def main() -> list[Row]:
    with TemporaryDirectory() as name:
        files = written(Path(name) / "some", [SECONDS] * FILES)
        there = [who for who, peer in PEERS.items() if not peer.lacks]
        costs = measured([OURS, TOGETHER, *there], files[0].parent)
        longer = written(Path(name) / "longer", LENGTHS)
        return [*compared(costs), *_lengths(longer)]


def written(folder: Path, lengths: Sequence[float]) -> list[Path]:
    """Files of speech-like audio of so many seconds, each by a voice of its own."""
    folder.mkdir()
    files = [folder / f"{number}.wav" for number in range(len(lengths))]
    for number, (file, seconds) in enumerate(zip(files, lengths, strict=True)):
        voice, rng = Voice.for_speaker(file.stem, "female", seed=0), np.random.default_rng(number)
        spoken = synthesize(["mala"] * 16, voice, "neutral", rng)
        soundfile.write(file, np.resize(spoken, round(seconds * RATE)), RATE)
    return files


def measured(who: Sequence[str], folder: Path) -> dict[str, Cost]:
    """What each needs for the files of a folder; all are ready before the first round."""
    seconds: dict[str, list[float]] = {one: [] for one in who}
    with ExitStack() as stack:
        processes = {one: stack.enter_context(_process(one, folder)) for one in who}
        for number in range(ROUNDS):
            for one in who if number % 2 else reversed(who):
                times = TIMES.get(one, 1)
                seconds[one].append(_asked(processes[one], times) / times)
        peaks = {one: float(process.communicate()[0]) for one, process in processes.items()}
    return {one: Cost(seconds[one], peaks[one]) for one in who}


@contextmanager
def _process(who: str, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "benchmarks.hearers", who, str(folder)]
    with subprocess.Popen(
        command,
        text=True,
        cwd=HOUSE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", f"{who} did not start"
            yield process
        finally:
            process.kill()


def _asked(process: "subprocess.Popen[str]", times: int) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{times}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def compared(costs: Mapping[str, Cost]) -> list[Row]:
    """A row of speed for each peer, one of ours as a folder, and one of memory for each."""
    there = [who for who in PEERS if who in costs]
    fastest = min(there, key=lambda who: median(costs[who].seconds), default=None)
    what = f"recognise {FILES} files of {SECONDS} s, one at a time"
    rows = [_speed(costs, OURS, who, what, who == fastest) for who in PEERS]
    if fastest:
        rows.append(_speed(costs, TOGETHER, fastest, "the same files as a folder", True))
    return rows + [_memory(costs, who) for who in there]


def _speed(costs: Mapping[str, Cost], our: str, who: str, what: str, fastest: bool) -> Row:
    mine, name = costs[our].seconds, PEERS[who].name
    ours, unit = FILES * SECONDS / median(mine), "x real time"
    if who not in costs:
        name = f"{name}: {' and '.join(PEERS[who].lacks)} not installed, skipped"
        return Row(what=what, ours=ours, unit=unit, peer_name=name)
    theirs = costs[who].seconds
    return Row(
        what=what,
        ours=ours,
        unit=unit,
        peer_name=name,
        peer=FILES * SECONDS / median(theirs),
        ratio=median(their / my for my, their in zip(mine, theirs, strict=True)),
        asked="20 or more" if fastest else "",
    )


def _memory(costs: Mapping[str, Cost], who: str) -> Row:
    mine, theirs = costs[OURS].peak, costs[who].peak
    return Row(
        what="peak memory of the process that recognises them",
        ours=mine,
        unit="MiB",
        peer_name=PEERS[who].name,
        peer=theirs,
        ratio=theirs / mine,
    )


def _lengths(files: Sequence[Path]) -> Iterator[Row]:
    recognizer = Recognizer()
    for file, seconds in zip(files, LENGTHS, strict=True):
        took = median([_took(recognizer, file) for _ in range(15)])
        what = f"recognise one file of {seconds} s, warm: {seconds / took:,.0f} x real time"
        yield Row(what=what, ours=1e3 * took, unit="ms")


def _took(recognizer: Recognizer, file: Path) -> float:
    begin = process_time()
    recognizer(file)
    return process_time() - begin
