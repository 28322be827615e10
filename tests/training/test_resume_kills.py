"""Runs that are killed (SIGKILL) at random moments, also while they write. `make test-slow`."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from builders.small_systems import SIZES
from builders.training import largest_difference

from serein.synthetic import SyntheticConfig, generate
from serein.training.checkpoint import load_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
KILLS = 20
FREQUENT_CHECKPOINTS = """
from serein.cli import main
from serein.training import checkpoint
checkpoint.MAX_WRITE_SHARE = 0.5
main()
"""
"""The command line, spending half of the time, and so half of the kills, on checkpoints."""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """An evaluation of two folds, 12 steps an epoch, with checkpoints within epochs."""
    synthetic = SyntheticConfig(speakers=4, emotions=("anger", "sadness"), sentences=3, words=1)
    generate(tmp_path / "speech", synthetic)
    (tmp_path / "frequent.py").write_text(FREQUENT_CHECKPOINTS)
    settings = [
        *SIZES,
        "protocol.name=by-label",
        "protocol.by=gender",
        "protocol.train=female",
        "protocol.test=male",
        "protocol.validation=none",
        "training.epochs=60",
        "training.batch=1",
        "training.checkpoint=0.001",
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    corpus = f"synthetic={tmp_path / 'speech'}"
    return [
        sys.executable,
        str(tmp_path / "frequent.py"),
        "evaluate",
        "li2019",
        "--corpus",
        corpus,
        *words,
    ]


def last_written(folder: Path) -> int:
    """Return the time at which a checkpoint of the run was last replaced."""
    return max((file.stat().st_mtime_ns for file in folder.glob("*/folds/*.pt")), default=0)


def start_and_kill(command: list[str], folder: Path, rng: random.Random) -> None:
    """Start or resume the run, and kill it soon after its first checkpoint."""
    before = last_written(folder)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while last_written(folder) == before and process.poll() is None:
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.4))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it was killed"


def test_a_training_killed_20_times_equals_an_uninterrupted_one(
    command: list[str], tmp_path: Path
) -> None:
    rng = random.Random(0)
    within_epoch = 0
    for _ in range(KILLS):
        start_and_kill([*command, "--runs", str(tmp_path / "killed")], tmp_path / "killed", rng)
        (checkpoint,) = (tmp_path / "killed").glob("*/folds/*.pt")
        _, states = load_checkpoint(checkpoint)
        assert states, "a kill has left a checkpoint that cannot be read"
        within_epoch += states["position"]["batches"] > 0
    assert within_epoch >= KILLS / 2
    for name in ("killed", "calm"):
        subprocess.run([*command, "--runs", tmp_path / name], check=True, capture_output=True)
    one, other = (next((tmp_path / name).iterdir()) for name in ("killed", "calm"))
    assert one.name == other.name
    assert read_results(one) == read_results(other)
    (first, first_states), (second, second_states) = (
        load_checkpoint(next(folder.glob("folds/*.pt"))) for folder in (one, other)
    )
    assert [epoch.loss for epoch in first.epochs] == [epoch.loss for epoch in second.epochs]
    assert largest_difference(first_states["system"], second_states["system"]) == 0


def read_results(folder: Path) -> dict[str, Any]:
    """Return the results that must not depend on interruptions."""
    results = json.loads((folder / "results.json").read_text())
    kept = {key: results[key] for key in ("scores", "fold_means", "predictions", "protocol")}
    losses = [epoch["loss"] for fold in results["folds"] for epoch in fold["history"]]
    return {**kept, "losses": losses}
