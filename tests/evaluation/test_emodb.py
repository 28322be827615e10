"""Slow tests: whole commands, kills at random moments, real speech. `make test-slow`."""

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

from serein.synthetic import SyntheticConfig, generate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
EMODB = Path(__file__).parents[3] / "shared/data/emodb"
SMALL = [word for setting in SIZES for word in ("--set", setting)]


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "serein", *map(str, words)]


def numbers(folder: Path) -> dict[str, Any]:
    """Return the results that must not depend on interruptions."""
    results = json.loads((folder / "results.json").read_text())
    return {key: results[key] for key in ("scores", "fold_means", "predictions", "protocol")}


def test_quickstart_command(tmp_path: Path) -> None:
    done = subprocess.run(command("quickstart"), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "What to try next" in done.stdout
    assert len(list(tmp_path.glob("runs/quickstart/*/report.html"))) == 1


def test_run_killed_at_random_has_the_same_numbers(tmp_path: Path) -> None:
    made = SyntheticConfig(speakers=4, emotions=("anger", "sadness"), sentences=2, words=2)
    generate(tmp_path / "speech", made)
    words = command("evaluate", "li2019", "--corpus", f"synthetic={tmp_path / 'speech'}", *SMALL)
    words += ["--set", "training.epochs=40", "--jobs", "2", "--runs"]
    subprocess.run([*words, tmp_path / "calm"], check=True, capture_output=True)
    moments = random.Random(0)
    for _ in range(6):
        process = subprocess.Popen(
            [*words, tmp_path / "killed"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(moments.uniform(3, 14))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*words, tmp_path / "killed"], check=True, capture_output=True)
    calm, killed = (next((tmp_path / name).iterdir()) for name in ("calm", "killed"))
    assert calm.name == killed.name
    assert numbers(calm) == numbers(killed)


@pytest.mark.skipif(not EMODB.is_dir(), reason=f"needs the real EMO-DB in {EMODB}")
def test_emodb_is_learned_in_a_few_epochs(tmp_path: Path) -> None:
    words = ["evaluate", "li2019-emodb", "--corpus", f"emodb={EMODB}", "--runs", str(tmp_path)]
    subprocess.run(command(*words, "--set", "training.epochs=8"), check=True, capture_output=True)
    scores = json.loads((next(tmp_path.iterdir()) / "results.json").read_text())["scores"]
    assert scores["last"]["emotion"]["ua"] > 3 / 7
    assert scores["last"]["gender"]["ua"] > 0.8
    assert scores["test"]["emotion"]["ua"] >= scores["validation"]["emotion"]["ua"]
