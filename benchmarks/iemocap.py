"""Planning and training on a corpus of IEMOCAP's size: noise with its names, labels, durations."""

import os
import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

from benchmarks.timing import Row
from serein.synthetic.iemocap import write_iemocap

RECIPE = "li2019"
WHAT = f"{RECIPE}, a generated copy of IEMOCAP's size"
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Usage:
    """What a finished command used.

    Attributes:
        wall: time in seconds.
        processor: time in seconds.
        memory: peak in MB of what the system cannot take back; pages of mapped files it can.
        resident: peak in MB with the pages of mapped files.
    """

    wall: float
    processor: float
    memory: float
    resident: float


def main() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_iemocap(root / "iemocap")
        first, again = (_run(root, "plan", "--no-timing") for _ in range(2))
        training = _run(root, "evaluate", "--set", "training.epochs=1", "--runs", str(root))
    plan, epoch = f"serein plan {WHAT}", f"serein evaluate {WHAT}, one epoch of five folds"
    rows = [
        (f"{plan}: first time", first.wall, "s", ""),
        (f"{plan}: with cached hashes", again.wall, "s", "under 3 s"),
        (f"{plan}: processor time", again.processor, "s", ""),
        (f"{epoch}, with features and tests", training.wall, "s", ""),
        (f"{epoch}: processor time", training.processor, "s", ""),
        (
            f"{epoch}: peak memory, without pages of the file of features",
            training.memory,
            "MB",
            "under 2,000",
        ),
        (f"{epoch}: peak memory, with these pages", training.resident, "MB", ""),
    ]
    return [
        Row(what=name, ours=value, unit=unit, target=target) for name, value, unit, target in rows
    ]


def _run(root: Path, command: str, *options: str) -> Usage:
    """Run a command of serein on the corpus, one fold at a time, on one thread."""
    corpus = ("--corpus", f"iemocap={root / 'iemocap'}", "--jobs", "1")
    environment = {**os.environ, "SEREIN_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1"}
    start = perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "serein", command, RECIPE, *corpus, *options],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    memory = 0.0
    while not (found := os.wait4(process.pid, os.WNOHANG))[0]:
        memory = max(memory, _read_anonymous_memory(process.pid))
        sleep(POLL_SECONDS)
    _, status, used = found
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"serein {command} {RECIPE} ended with status {process.returncode}")
    processor = used.ru_utime + used.ru_stime
    return Usage(perf_counter() - start, processor, memory, used.ru_maxrss * 1.024e-3)


def _read_anonymous_memory(pid: int) -> float:
    """Return the memory of a process in MB that belongs to no file (on Linux); 0 if it ended."""
    with suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        if found := re.search(r"RssAnon:\s*(\d+) kB", status):
            return int(found[1]) * 1.024e-3
    return 0.0
