"""What bad bytes do to the service: nothing. `python tests/fuzz.py -h` runs more of it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import fuzz_audio as fuzz
import numpy as np
import pytest
from builders.checksums import resealed_flac, resealed_ogg
from builders.encoded_audio import encoded, sweep
from builders.mutations import CHANGES, Change, mutated

from serein.audio import Samples, load
from serein.errors import AudioError
from serein.service.decoding import DecoderProcess

SHORT = {kind: encoded(kind, sweep(0.3)) for kind in ("wav", "flac", "ogg", "mp3")}


class Calm(Random):
    """Dice that change nothing."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return 0


def test_mutated_audio_harms_nobody() -> None:
    tally = fuzz.run(150, seed=0)
    assert tally.outcomes.total() == 150
    assert tally.worst == []
    assert tally.count("died") + tally.count("hung") == 0
    assert tally.count("heard") > 20
    assert tally.count("refused") > 50
    assert not [reason for reason in tally.reasons if "could not be read" in reason]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_mutated_files_harm_nobody() -> None:
    tally = fuzz.run(10_000, seed=0)
    assert tally.outcomes.total() == 10_000
    assert tally.worst == []
    assert max(tally.slowest.values()) < fuzz.SECONDS
    assert fuzz.growth(tally.memory) < 8
    assert fuzz.growth(tally.worker) < 64
    assert not [reason for reason in tally.reasons if "could not be read" in reason]


def test_a_case_is_the_same_in_every_run_and_alone() -> None:
    some = list(fuzz.cases(20, seed=3))
    assert some == list(fuzz.cases(20, seed=3))
    assert list(fuzz.cases(1, seed=3, first=7)) == [some[7]]
    assert some != list(fuzz.cases(20, seed=4))
    assert len({content for *_, content in some}) == 20


class Fragile(DecoderProcess):
    """A worker that the first upload kills, or stops."""

    signal = signal.SIGKILL

    def decode(self, body: bytes) -> Samples:
        if not getattr(self, "struck", False):
            self.struck = True
            os.kill(self.pid, self.signal)
        return super().decode(body)


@pytest.mark.parametrize(("sent", "outcome"), [(signal.SIGKILL, "died"), (signal.SIGSTOP, "hung")])
def test_a_worker_that_dies_or_hangs_is_seen_and_kept(
    sent: signal.Signals, outcome: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fuzz, "DecoderProcess", Fragile)
    monkeypatch.setattr(Fragile, "signal", sent)
    monkeypatch.setattr(fuzz, "SECONDS", 1.0)
    tally = fuzz.run(3, seed=0, first=5, keep=tmp_path)
    assert (tally.count(outcome), tally.worst) == (1, [5])
    assert tally.outcomes.total() == 3
    (kept,) = tmp_path.iterdir()
    assert kept.name.startswith("0-5-")
    assert kept.read_bytes() == next(fuzz.cases(1, 0, 5))[-1]


def test_growth_is_from_the_first_tenth_to_the_last() -> None:
    assert fuzz.growth([5.0] * 10) == 0
    assert fuzz.growth([1.0, 5.0, *[5.0] * 18]) == 0
    assert fuzz.growth([*map(float, range(100))]) == 89


def test_the_command_prints_a_table() -> None:
    command = [sys.executable, fuzz.__file__, "--count", "30", "--reasons"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert re.search(r"\| all \| \d+ \| \d+ \| 0 \| 0 \| 0 \| 0\.\d+ \|", done.stdout)
    assert "the upload" in done.stdout
    assert "Cases that killed or hung: none." in done.stdout


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_change_changes_every_kind(change: Change) -> None:
    for kind, content in SHORT.items():
        found = [change(content, SHORT["mp3"], Random(seed)) for seed in range(20)]
        assert all(found), kind
        assert sum(one != content for one in found) > 14, kind
        assert len(set(found)) > 10, kind
        assert max(map(len, found)) < 60 * len(content)


def test_all_changes_come_up() -> None:
    names = {mutated(SHORT["wav"], SHORT["ogg"], Random(seed))[0] for seed in range(300)}
    assert names == {change.__name__ for change in CHANGES}


def test_a_length_that_lies_is_where_the_container_keeps_it() -> None:
    lying = next(change for change in CHANGES if change.__name__ == "lying")
    wav = SHORT["wav"]
    places = set[int]()
    for seed in range(100):
        other = lying(wav, b"", Random(seed))
        assert len(other) == len(wav)
        places |= {i & ~3 for i in range(len(wav)) if other[i] != wav[i]}
    assert places == {4, 16, 40}


@pytest.mark.parametrize(("kind", "resealed"), [("ogg", resealed_ogg), ("flac", resealed_flac)])
def test_resealed_files_get_past_their_checksums(
    kind: str, resealed: Callable[[bytes, Random], bytes]
) -> None:
    content = SHORT[kind]
    assert resealed(content, Calm()) == content
    heard = 0
    for seed in range(100):
        changed = resealed(content, Random(seed))
        try:
            heard += not np.array_equal(load(changed), load(content))
        except AudioError:
            continue
    assert heard > 3
