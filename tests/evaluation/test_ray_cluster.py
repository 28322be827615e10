"""Tests on a real Ray cluster: two workers on this machine, each with a cache of its own."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders.progress import EpochLog, load_reproducible_part, log_epochs
from builders.small_systems import QUICK

from serein.evaluation.evaluate import Run, evaluate
from serein.evaluation.ray_backend import FoldJob, RayEngine
from serein.evaluation.search import search
from serein.records import Corpus
from serein.results.evaluation import Epoch

LONG = (*QUICK, "training.epochs=20")
FOLDS = [f"s{n:02}" for n in range(1, 5)]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster whose workers have no access to this process's cache."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEREIN_CACHE", str(tmp_path_factory.mktemp("workers")))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="module")
def local(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    runs = tmp_path_factory.mktemp("runs")
    return evaluate("li2019", corpus, settings=LONG, runs=runs)


def training_processes() -> list[int]:
    """Return the child processes that train a fold."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_text()
        except OSError:
            continue
        if command.startswith("ray::train") and _is_below(int(place.name)):
            found.append(int(place.name))
    return sorted(found)


def _is_below(process: int) -> bool:
    while process > 1:
        status = Path(f"/proc/{process}/status").read_text()
        process = int(status.split("PPid:")[1].split()[0])
        if process == os.getpid():
            return True
    return False


def test_killed_worker_changes_no_number(
    corpus: Corpus, head: str, local: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []
    failed = RayEngine._handle_failure

    def count_failures(self: RayEngine, job: FoldJob, error: Exception) -> None:
        lost.append(job.fold.name)
        failed(self, job, error)

    def act(fold: str, epoch: Epoch) -> None:
        if not killed and (running := training_processes()):
            killed.append(running[0])
            os.kill(running[0], signal.SIGKILL)

    killed: list[int] = []
    told: EpochLog = []
    monkeypatch.setattr(RayEngine, "_handle_failure", count_failures)
    done = evaluate(
        "li2019",
        corpus,
        settings=LONG,
        runs=tmp_path,
        engine="ray",
        open_progress=log_epochs(told, act),
    )
    assert len(killed) == 1
    assert len(lost) == 1
    assert load_reproducible_part(done.folder) == load_reproducible_part(local.folder)
    for fold in FOLDS:
        epochs = [epoch for name, epoch in told if name == fold]
        assert epochs == sorted(epochs)  # a lost fold is resumed, not started again
        assert set(epochs) == set(range(1, 21))
    assert done.results.environment["jobs"] == 2


def test_trials_of_a_search_share_a_cluster(corpus: Corpus, head: str, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    options: dict[str, Any] = {"settings": [*QUICK, "training.epochs=1"], "trials": 2}
    over = ["tasks.gender.weight=0..1"]
    done = search("li2019", corpus, over, runs=tmp_path / "a", engine="ray", **options)
    alone = search("li2019", corpus, over, runs=tmp_path / "b", **options)
    for one, other in zip(done.trials, alone.trials, strict=True):
        assert one.score == other.score
        assert load_reproducible_part(tmp_path / "a" / one.run) == load_reproducible_part(
            tmp_path / "b" / other.run
        )


def test_interrupted_command_is_resumed(root: Path, head: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serein", "evaluate", "li2019", "--runs", str(tmp_path)]
    command += ["--corpus", f"synthetic={root}"]
    command += [word for one in LONG for word in ("--set", one)]
    there = [*command, "--engine", "ray", "--address", head]
    begun = subprocess.Popen(there, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("*/folds/*.pt")) and begun.poll() is None:
        time.sleep(0.1)
    begun.send_signal(signal.SIGINT)
    _, err = begun.communicate()
    assert begun.returncode == 130, err
    assert err.splitlines()[-1].startswith("serein: interrupted; finished parts are kept")
    states = sorted(tmp_path.glob("*/folds/*.pt"))
    assert states
    assert not list(tmp_path.glob("*/results.json"))
    ended = subprocess.run(there, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    (folder,) = tmp_path.iterdir()
    alone = tmp_path / "local"
    subprocess.run([*command, "--runs", alone, "--jobs", "1"], check=True, capture_output=True)
    assert load_reproducible_part(folder) == load_reproducible_part(alone / folder.name)
