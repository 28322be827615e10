"""The benchmark that lays what a user would run instead beside the shipped model."""

import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from benchmarks import alternatives, hearers
from benchmarks.alternatives import PEERS, Cost, Peer, compared, measured, written

HOUSE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return written(tmp_path_factory.mktemp("spoken") / "files", [0.5, 1.0])


def costs(**seconds: float) -> dict[str, Cost]:
    """Of each the same in three rounds, and a hundred MiB."""
    return {who: Cost([one] * 3, 100.0) for who, one in seconds.items()}


def test_files_are_as_long_as_asked_and_unlike(files: list[Path]) -> None:
    assert [soundfile.info(file).duration for file in files] == [0.5, 1.0]
    first, second = (soundfile.read(file)[0][:8000] for file in files)
    assert abs(first - second).max() > 0.01


@pytest.mark.timeout(300)
def test_what_hears_says_seconds_and_its_memory(files: list[Path]) -> None:
    found = measured([alternatives.OURS, alternatives.TOGETHER], files[0].parent)
    for cost in found.values():
        assert len(cost.seconds) == alternatives.ROUNDS
        assert all(0 < seconds < 60 for seconds in cost.seconds)
        assert 50 < cost.peak < 4000


def test_who_does_not_start_is_said(files: list[Path]) -> None:
    with pytest.raises(AssertionError, match="nobody did not start"):
        measured(["nobody"], files[0].parent)


@pytest.mark.parametrize("who", ["ours", "folder", "egemaps"])
def test_each_hears_every_file(who: str, files: list[Path]) -> None:
    if who == "egemaps" and PEERS[who].lacks:
        pytest.skip("openSMILE or scikit-learn is not installed")
    answers = hearers.HEARERS[who]()(files)
    assert isinstance(answers, list)
    assert len(answers) == len(files)


def test_nobody_needs_what_others_do() -> None:
    code = "import sys; from benchmarks import hearers; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HOUSE, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_the_faster_peer_is_what_is_asked_about() -> None:
    rows = compared(costs(ours=0.1, folder=0.05, wav2vec2=20.0, wav2vec2_bf16=8.0, egemaps=4.0))
    speeds, memories = rows[:4], rows[4:]
    assert [row.ratio for row in speeds] == pytest.approx([200, 80, 40, 80])
    assert [row.asked for row in speeds] == ["", "", "20 or more", "20 or more"]
    assert speeds[0].ours == pytest.approx(240)
    assert speeds[3].peer == pytest.approx(6)
    assert [row.ratio for row in memories] == [1, 1, 1]


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = {who: Peer(who, ("numpy", "no_such_package")) for who in PEERS}
    monkeypatch.setattr(alternatives, "PEERS", lacking)
    rows = compared(costs(ours=0.1, folder=0.05))
    assert [row.peer_name for row in rows] == [
        f"{who}: no_such_package not installed, skipped" for who in PEERS
    ]
    assert all(row.peer is None and row.ratio is None and row.ours > 0 for row in rows)
