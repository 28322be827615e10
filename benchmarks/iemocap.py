"""Planning and training on a corpus of IEMOCAP's size: noise with its names, labels, durations."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from benchmarks.timing import Row
from serein.synthetic.iemocap import write_iemocap

RECIPE = "li2019"
WHAT = f"{RECIPE}, a generated copy of IEMOCAP's size"


@dataclass(frozen=True)
class Usage:
    """What a finished command used: wall and processor time in seconds, peak memory in MB."""

    wall: float
    processor: float
    memory: float


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
        (f"{epoch}: peak memory", training.memory, "MB", "under 2,000"),
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
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"serein {command} {RECIPE} ended with status {process.returncode}")
    return Usage(perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss * 1.024e-3)
