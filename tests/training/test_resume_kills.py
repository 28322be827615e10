"""Real runs, killed with -9 at random moments, also while they write. `make test-slow`."""

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
from training.test_loop import largest_difference

from serein.synthetic import SyntheticConfig, generate
from serein.training.checkpoint import load_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
KILLS = 20
OFTEN = """
from serein.cli import main
from serein.training import place
place.SHARE = 0.5
main()
"""
"""Half of the time is spent writing, and so half of the kills fall there."""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """One training of 2 x 12 steps an epoch; its state is written within, too."""
    made = SyntheticConfig(speakers=4, emotions=("anger", "sadness"), sentences=3, words=1)
    generate(tmp_path / "speech", made)
    (tmp_path / "often.py").write_text(OFTEN)
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
        str(tmp_path / "often.py"),
        "evaluate",
        "li2019",
        "--corpus",
        corpus,
        *words,
    ]


def stamp(folder: Path) -> int:
    """When the run's state was last replaced."""
    return max((file.stat().st_mtime_ns for file in folder.glob("*/folds/*.pt")), default=0)


def killed(command: list[str], folder: Path, moments: random.Random) -> None:
    """Begin or go on, and kill soon after the first state that this process writes."""
    before = stamp(folder)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while stamp(folder) == before and process.poll() is None:
        time.sleep(0.002)
    time.sleep(moments.uniform(0, 0.4))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it was killed"


def test_a_training_killed_20_times_ends_as_if_nothing_had_been(
    command: list[str], tmp_path: Path
) -> None:
    moments = random.Random(0)
    within = 0
    for _ in range(KILLS):
        killed([*command, "--runs", str(tmp_path / "killed")], tmp_path / "killed", moments)
        (state,) = (tmp_path / "killed").glob("*/folds/*.pt")
        _, kept = load_checkpoint(state)
        assert kept, "a kill has left a state that cannot be read"
        within += kept["place"]["batches"] > 0
    assert within >= KILLS / 2
    for name in ("killed", "calm"):
        subprocess.run([*command, "--runs", tmp_path / name], check=True, capture_output=True)
    one, other = (next((tmp_path / name).iterdir()) for name in ("killed", "calm"))
    assert one.name == other.name
    assert numbers(one) == numbers(other)
    (first, first_kept), (second, second_kept) = (
        load_checkpoint(next(folder.glob("folds/*.pt"))) for folder in (one, other)
    )
    assert [epoch.loss for epoch in first.epochs] == [epoch.loss for epoch in second.epochs]
    assert largest_difference(first_kept["system"], second_kept["system"]) == 0


def numbers(folder: Path) -> dict[str, Any]:
    """What must not depend on how a run came about."""
    results = json.loads((folder / "results.json").read_text())
    kept = {key: results[key] for key in ("scores", "fold_means", "predictions", "protocol")}
    losses = [epoch["loss"] for fold in results["folds"] for epoch in fold["history"]]
    return {**kept, "losses": losses}
