"""The decoder process survives mutated audio. `python tests/fuzz_audio.py -h` runs more cases."""

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
from builders.checksums import flip_flac_bits, flip_ogg_bits
from builders.encoded_audio import encode, make_sweep
from builders.mutations import CHANGES, Change, mutate

from serein.audio import Samples, load
from serein.errors import AudioError
from serein.service.decoding import DecoderProcess

SHORT = {kind: encode(kind, make_sweep(0.3)) for kind in ("wav", "flac", "ogg", "mp3")}


class NoChange(Random):
    """A random generator that flips no bits."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return 0


def test_decoder_survives_mutated_audio() -> None:
    tally = fuzz.run(150, seed=0)
    assert tally.outcomes.total() == 150
    assert tally.failed_cases == []
    assert tally.count("died") + tally.count("hung") == 0
    assert tally.count("decoded") > 20
    assert tally.count("refused") > 50
    assert not [reason for reason in tally.reasons if "could not be read" in reason]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_decoder_survives_ten_thousand_mutated_files() -> None:
    tally = fuzz.run(10_000, seed=0)
    assert tally.outcomes.total() == 10_000
    assert tally.failed_cases == []
    assert max(tally.slowest.values()) < fuzz.SECONDS
    assert fuzz.growth(tally.memory) < 8
    assert fuzz.growth(tally.worker) < 64
    assert not [reason for reason in tally.reasons if "could not be read" in reason]


def test_cases_are_reproducible_and_independent() -> None:
    some = list(fuzz.cases(20, seed=3))
    assert some == list(fuzz.cases(20, seed=3))
    assert list(fuzz.cases(1, seed=3, first=7)) == [some[7]]
    assert some != list(fuzz.cases(20, seed=4))
    assert len({content for *_, content in some}) == 20


class Fragile(DecoderProcess):
    """A decoder process that the first upload kills or stops."""

    signal = signal.SIGKILL

    def decode(self, body: bytes) -> Samples:
        if not getattr(self, "struck", False):
            self.struck = True
            os.kill(self.pid, self.signal)
        return super().decode(body)


@pytest.mark.parametrize(("sent", "outcome"), [(signal.SIGKILL, "died"), (signal.SIGSTOP, "hung")])
def test_files_that_kill_or_hang_the_decoder_are_kept(
    sent: signal.Signals, outcome: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fuzz, "DecoderProcess", Fragile)
    monkeypatch.setattr(Fragile, "signal", sent)
    monkeypatch.setattr(fuzz, "SECONDS", 1.0)
    tally = fuzz.run(3, seed=0, first=5, keep=tmp_path)
    assert (tally.count(outcome), tally.failed_cases) == (1, [5])
    assert tally.outcomes.total() == 3
    (kept,) = tmp_path.iterdir()
    assert kept.name.startswith("0-5-")
    assert kept.read_bytes() == next(fuzz.cases(1, 0, 5))[-1]


def test_growth_compares_first_and_last_tenth() -> None:
    assert fuzz.growth([5.0] * 10) == 0
    assert fuzz.growth([1.0, 5.0, *[5.0] * 18]) == 0
    assert fuzz.growth([*map(float, range(100))]) == 89


def test_command_prints_a_table() -> None:
    command = [sys.executable, fuzz.__file__, "--count", "30", "--reasons"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert re.search(r"\| all \| \d+ \| \d+ \| 0 \| 0 \| 0 \| 0\.\d+ \|", done.stdout)
    assert "the upload" in done.stdout
    assert "Cases that killed or hung: none." in done.stdout


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_mutation_changes_every_kind(change: Change) -> None:
    for kind, content in SHORT.items():
        found = [change(content, SHORT["mp3"], Random(seed)) for seed in range(20)]
        assert all(found), kind
        assert sum(one != content for one in found) > 14, kind
        assert len(set(found)) > 10, kind
        assert max(map(len, found)) < 60 * len(content)


def test_all_mutations_occur() -> None:
    names = {mutate(SHORT["wav"], SHORT["ogg"], Random(seed))[0] for seed in range(300)}
    assert names == {change.__name__ for change in CHANGES}


def test_wrong_lengths_are_at_the_positions_of_lengths() -> None:
    set_wrong_length = next(c for c in CHANGES if c.__name__ == "set_wrong_length")
    wav = SHORT["wav"]
    places = set[int]()
    for seed in range(100):
        other = set_wrong_length(wav, b"", Random(seed))
        assert len(other) == len(wav)
        places |= {i & ~3 for i in range(len(wav)) if other[i] != wav[i]}
    assert places == {4, 16, 40}


@pytest.mark.parametrize(("kind", "resealed"), [("ogg", flip_ogg_bits), ("flac", flip_flac_bits)])
def test_flipped_files_have_valid_checksums(
    kind: str, resealed: Callable[[bytes, Random], bytes]
) -> None:
    content = SHORT[kind]
    assert resealed(content, NoChange()) == content
    decoded = 0
    for seed in range(100):
        changed = resealed(content, Random(seed))
        try:
            decoded += not np.array_equal(load(changed), load(content))
        except AudioError:
            continue
    assert decoded > 3
