"""The parts of an evaluation are counted once each, and the whole command is computed from them."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from types import SimpleNamespace

import pytest

from benchmarks import evaluate_command

SECONDS = {
    "imports": 3.0,
    "corpus, split and leakage check": 2.0,
    "features": 1.0,
    "scores and tests": 2.0,
    "report": 1.0,
    "statistics, targets and model": 0.4,
    "training steps": 9.0,
    "batches": 0.5,
    "validation and test passes": 1.0,
    "saved states": 0.0,
}


@pytest.fixture
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes from each look at the clock to the next one."""
    ticks = count()
    monkeypatch.setattr(evaluate_command, "process_time", lambda: float(next(ticks)))


@pytest.mark.usefixtures("_clock")
def test_inner_part_counts_once() -> None:
    def run_fold() -> str:
        return str(owner.evaluate()) + "!"

    owner = SimpleNamespace(evaluate=lambda: "tested", run_fold=run_fold)
    seconds: evaluate_command.Seconds = defaultdict(float)
    evaluate_command.time_calls(owner, "evaluate", seconds, "inner")
    evaluate_command.time_calls(owner, "run_fold", seconds, "outer")
    assert owner.run_fold() == "tested!"
    assert seconds == {"inner": 1.0, "outer": 2.0}


@pytest.mark.usefixtures("_clock")
def test_failed_call_is_counted() -> None:
    def fail() -> None:
        raise OSError("full disk")

    owner = SimpleNamespace(write=fail)
    seconds: evaluate_command.Seconds = defaultdict(float)
    evaluate_command.time_calls(owner, "write", seconds, "saved states")
    with pytest.raises(OSError, match="full disk"):
        owner.write()
    assert seconds == {"saved states": 1.0}


@pytest.mark.usefixtures("_clock")
def test_steps_are_timed_between_batches() -> None:
    def iter_batches(first: int) -> Iterator[int]:
        yield from range(first, 3)

    owner = SimpleNamespace(iter_batches=iter_batches)
    seconds: evaluate_command.Seconds = defaultdict(float)
    evaluate_command.time_batches(owner, "iter_batches", seconds)
    assert list(owner.iter_batches(1)) == [1, 2]
    assert seconds == {"batches": 3.0, "training steps": 2.0}


def test_whole_command_is_computed_from_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_command, "_run_in_process", lambda: SECONDS)
    monkeypatch.setattr(evaluate_command, "CORPUS", SimpleNamespace(is_dir=lambda: True))
    total, *parts = evaluate_command.main()
    processor_seconds = 9 + 2 * 3 + 10 * (0.2 + 100 * 1.05)
    assert total.ours == pytest.approx(processor_seconds / 2 / 60)
    assert total.bound.startswith("86% of an epoch are training steps")
    assert [part.ours for part in parts] == pytest.approx([3, 2, 1, 2, 1, 0.2, 0.9, 0.05, 0.1, 0])
    assert parts[-2].what.endswith("an epoch, validation and test passes: 10%")


def test_missing_corpus_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_command, "CORPUS", SimpleNamespace(is_dir=lambda: False))
    (row,) = evaluate_command.main()
    assert row.peer_name == "skipped: no ../shared"
