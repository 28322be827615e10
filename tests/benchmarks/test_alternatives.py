"""The benchmark that compares the shipped model with alternatives."""

import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from benchmarks import alternatives, peer_systems
from benchmarks.alternatives import (
    PEERS,
    Cost,
    Peer,
    compare_costs,
    measure_systems,
    write_files,
)

HOUSE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_files(tmp_path_factory.mktemp("speech") / "files", [0.5, 1.0])


def costs(**seconds: float) -> dict[str, Cost]:
    """Return the same cost for three rounds of each system, and a peak of 100 MiB."""
    return {system: Cost([value] * 3, 100.0) for system, value in seconds.items()}


def test_files_have_the_requested_durations_and_differ(files: list[Path]) -> None:
    assert [soundfile.info(file).duration for file in files] == [0.5, 1.0]
    first, second = (soundfile.read(file)[0][:8000] for file in files)
    assert abs(first - second).max() > 0.01


@pytest.mark.timeout(300)
def test_systems_report_seconds_and_memory(files: list[Path]) -> None:
    found = measure_systems([alternatives.OURS, alternatives.OURS_FOLDER], files[0].parent)
    for cost in found.values():
        assert len(cost.seconds) == alternatives.ROUNDS
        assert all(0 < seconds < 60 for seconds in cost.seconds)
        assert 50 < cost.peak < 4000


def test_system_that_does_not_start_is_an_error(files: list[Path]) -> None:
    with pytest.raises(AssertionError, match="nobody did not start"):
        measure_systems(["nobody"], files[0].parent)


@pytest.mark.parametrize("system", ["ours", "folder", "egemaps"])
def test_each_system_predicts_every_file(system: str, files: list[Path]) -> None:
    if system == "egemaps" and PEERS[system].missing_packages:
        pytest.skip("openSMILE or scikit-learn is not installed")
    answers = peer_systems.SYSTEMS[system]()(files)
    assert isinstance(answers, list)
    assert len(answers) == len(files)


def test_systems_import_only_what_they_need() -> None:
    code = "import sys; from benchmarks import peer_systems; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HOUSE, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_target_is_for_the_faster_peer() -> None:
    rows = compare_costs(
        costs(ours=0.1, folder=0.05, wav2vec2=20.0, wav2vec2_bf16=8.0, egemaps=4.0)
    )
    speeds, memories = rows[:4], rows[4:]
    assert [row.ratio for row in speeds] == pytest.approx([200, 80, 40, 80])
    assert [row.target for row in speeds] == ["", "", "20 or more", "20 or more"]
    assert speeds[0].ours == pytest.approx(240)
    assert speeds[3].peer == pytest.approx(6)
    assert [row.ratio for row in memories] == [1, 1, 1]


def test_missing_packages_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = {system: Peer(system, ("numpy", "no_such_package")) for system in PEERS}
    monkeypatch.setattr(alternatives, "PEERS", peers)
    rows = compare_costs(costs(ours=0.1, folder=0.05))
    assert [row.peer_name for row in rows] == [
        f"{system}: no_such_package not installed, skipped" for system in PEERS
    ]
    assert all(row.peer is None and row.ratio is None and row.ours > 0 for row in rows)
