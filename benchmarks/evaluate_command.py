"""Parts of `serein evaluate li2019-emodb`, in seconds of processor time, on one thread.

The command runs on EMO-DB in a process of its own, with a few folds and epochs and an empty cache.
Its parts are timed by wrappers around the functions that compute them. The first row is computed
from the others: ten folds of 100 epochs in two processes that have a core each.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.timing import Row

ROOT = Path(__file__).parent.parent
CORPUS = ROOT.parent / "shared" / "data" / "emodb"
RECIPE, FOLDS, EPOCHS = "li2019-emodb", 2, 5
ALL_FOLDS, ALL_EPOCHS, JOBS = 10, 100, 2
WHAT = f"serein evaluate {RECIPE}"
PER_PROCESS = "imports"
ONCE = (PER_PROCESS, "corpus, split and leakage check", "features", "scores and tests", "report")
"""Parts that do not depend on the number of folds and epochs."""
PER_FOLD = "statistics, targets and model"
STEPS = "training steps"
PER_EPOCH = (STEPS, "batches", "validation and test passes", "saved states")
Seconds = defaultdict[str, float]
"""Processor time of each part."""


def main() -> list[Row]:
    if not CORPUS.is_dir():
        return [Row(what=WHAT, ours=float("nan"), unit="s", peer_name="skipped: no ../shared")]
    seconds = _run_in_process()
    per_epoch = {part: seconds[part] / (FOLDS * EPOCHS) for part in PER_EPOCH}
    per_fold = seconds[PER_FOLD] / FOLDS
    epoch = sum(per_epoch.values())
    total = sum(seconds[part] for part in ONCE) + JOBS * seconds[PER_PROCESS]
    total += ALL_FOLDS * (per_fold + ALL_EPOCHS * epoch)
    size = f"{ALL_FOLDS} folds x {ALL_EPOCHS} epochs, {JOBS} processes"
    parts = [(f"once, {part}", seconds[part]) for part in ONCE]
    parts += [(f"a fold, {PER_FOLD}", per_fold)]
    parts += [(f"an epoch, {part}: {s / epoch:.0%}", s) for part, s in per_epoch.items()]
    return [
        Row(
            what=f"{WHAT}, {size}: from the parts below",
            ours=total / JOBS / 60,
            unit="minutes",
            target="6 or less",
            bound=f"{per_epoch[STEPS] / epoch:.0%} of an epoch are training steps, and of a step "
            "matrix products and LSTMs take some 70 %; without all other parts it would be "
            f"{ALL_FOLDS * ALL_EPOCHS * per_epoch[STEPS] / JOBS / 60:.1f} minutes",
        ),
        *(Row(what=f"{WHAT}: {part}", ours=s, unit="s of processor time") for part, s in parts),
    ]


def _run_in_process() -> dict[str, float]:
    """Run the command in a process of its own; return the seconds of each part."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.run(
            [sys.executable, "-m", "benchmarks.evaluate_command", folder],
            cwd=ROOT,
            env={**os.environ, "SEREIN_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": "1"},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    seconds: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return seconds


def run_command(folder: Path) -> dict[str, float]:
    """Evaluate in this process; return the seconds of each part.

    Args:
        folder: in which the run folder is created.
    """
    from serein.evaluation import evaluate, folds
    from serein.evaluation.plan import Plan
    from serein.report import terminal, write_report
    from serein.training import loop
    from serein.training.checkpoint import CheckpointWriter

    seconds: Seconds = defaultdict(float, {PER_PROCESS: process_time()})
    time_calls(evaluate, "build_plan", seconds, "corpus, split and leakage check")
    time_calls(Plan, "load_frames", seconds, "features")
    time_calls(folds, "run_folds", seconds, PER_FOLD)
    time_calls(loop, "launch_fabric", seconds, PER_PROCESS)
    time_calls(loop, "evaluate_subsets", seconds, "validation and test passes")
    time_calls(CheckpointWriter, "write", seconds, "saved states")
    time_calls(evaluate, "assemble_results", seconds, "scores and tests")
    time_batches(loop, "shard_batches", seconds)
    settings = [f"protocol.max_folds={FOLDS}", f"training.epochs={EPOCHS}"]
    run = evaluate.evaluate(RECIPE, f"emodb={CORPUS}", settings=settings, jobs=1, runs=folder)
    begin = process_time()
    write_report(run.results, run.folder)
    terminal.render_terminal(run.results)
    seconds["report"] = process_time() - begin
    return dict(seconds)


def time_calls(owner: Any, name: str, seconds: Seconds, part: str) -> None:
    """Replace a function by one that adds its processor time to a part; inner parts count once."""
    inner: Callable[..., Any] = getattr(owner, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        begin, before = process_time(), sum(seconds.values())
        try:
            return inner(*arguments, **options)
        finally:
            seconds[part] += process_time() - begin - (sum(seconds.values()) - before)

    setattr(owner, name, timed)


def time_batches(owner: Any, name: str, seconds: Seconds) -> None:
    """Replace an iterator of batches by one that times the batches and the steps with them."""
    inner: Callable[..., Iterator[Any]] = getattr(owner, name)

    def timed(*arguments: Any) -> Iterator[Any]:
        batches = inner(*arguments)
        while True:
            begin = process_time()
            batch = next(batches, None)
            ready = process_time()
            seconds["batches"] += ready - begin
            if batch is None:
                return
            yield batch
            seconds[STEPS] += process_time() - ready

    setattr(owner, name, timed)


if __name__ == "__main__":
    print(json.dumps(run_command(Path(sys.argv[1]))))
