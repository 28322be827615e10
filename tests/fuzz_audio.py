"""Mutated audio through the service's decoding worker: `make fuzz`, `python tests/fuzz.py -h`.

Of each file the parent must get samples or a reason, within five seconds, and grow by nothing.
Case n of seed s is the same file in every run: `--only n` runs it alone, `--keep` writes it down.
"""

import argparse
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
from builders.checksums import renumbered_ogg
from builders.encoded_audio import FFMPEG, FORMATS, encoded, muxed, sweep
from builders.mutations import mutated

from serein.service.config import ServiceConfig
from serein.service.decoding import DecoderProcess
from serein.service.schemas import Problem

SECONDS = 5.0
"""That one file may take; beyond, it hangs."""
EVERY = 50
"""Files between two looks at the memory."""
RATE = 16_000
WAVS = ("FLOAT", "DOUBLE", "PCM_24", "PCM_U8", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610")
OUTCOMES = ("heard", "refused", "too much", "died", "hung")


@dataclass
class Tally:
    """What came of the files.

    Attributes:
        outcomes: how many, by kind of file and outcome.
        reasons: how many, by how their reason begins.
        slowest: seconds, by kind of file.
        worst: numbers of the cases that killed their worker, or would not end.
        memory: MB of the parent, now and then.
        worker: MB of the worker at the same moments.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)
    worst: list[int] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    worker: list[float] = field(default_factory=list)

    def count(self, outcome: str) -> int:
        """Over all kinds."""
        return sum(found for (_, name), found in self.outcomes.items() if name == outcome)


def growth(memory: list[float]) -> float:
    """MB by which a process is larger at its end than in its first tenth."""
    tenth = len(memory) // 10 + 1
    return max(memory[-tenth:]) - max(memory[:tenth])


def seeds() -> dict[str, bytes]:
    """Whole files of every kind, a third of a second each; no number in them is by chance."""
    wave_s = sweep(0.3)
    stereo = np.stack([wave_s, wave_s[::-1]], axis=1)
    exact = {"fflags": "+bitexact"}
    found = {kind: encoded(kind, wave_s) for kind in FORMATS}
    found |= {kind: renumbered_ogg(found[kind]) for kind in ("ogg", "opus")}
    found |= {kind: muxed(*how, wave_s, exact) for kind, how in FFMPEG.items()}
    found |= {f"wav {name}": _undated(encoded("wav", wave_s, subtype=name)) for name in WAVS}
    return found | {f"{kind} stereo": encoded(kind, stereo, 44_100) for kind in ("wav", "flac")}


def _undated(wav: bytes) -> bytes:
    """Without the time at which libsndfile measured the peak."""
    place = wav.find(b"PEAK") + 12
    return wav[:place] + bytes(4) + wav[place + 4 :] if place > 12 else wav


def cases(count: int, seed: int, first: int = 0) -> Iterator[tuple[int, str, str, bytes]]:
    """Number, kind, name of the change, and content."""
    whole = seeds()
    for number in range(first, first + count):
        chance = Random(f"{seed} {number}")
        kind, other = chance.choice(sorted(whole)), chance.choice(sorted(whole))
        yield number, kind, *mutated(whole[kind], whole[other], chance)


def run(count: int, seed: int, first: int = 0, keep: Path | None = None) -> Tally:
    """Hand all of them to one worker, that is started anew when it dies."""
    tally, deaths = Tally(), list[bool]()
    decoder = DecoderProcess(
        RATE, ServiceConfig(decode_seconds=SECONDS), lambda: deaths.append(True)
    )
    try:
        for number, kind, change, content in cases(count, seed, first):
            deaths.clear()
            outcome, seconds = _outcome(decoder, content, tally)
            if deaths:
                outcome = "hung" if seconds >= SECONDS else "died"
                tally.worst.append(number)
            if keep and (deaths or count == 1):
                (keep / f"{seed}-{number}-{change}.{kind.replace(' ', '-')}").write_bytes(content)
            tally.outcomes[kind, outcome] += 1
            tally.slowest[kind] = max(seconds, tally.slowest.get(kind, 0.0))
            if (number - first) % EVERY == 0:
                tally.memory.append(megabytes(os.getpid()))
                tally.worker.append(megabytes(decoder.pid))
    finally:
        decoder.close()
    return tally


def _outcome(decoder: DecoderProcess, content: bytes, tally: Tally) -> tuple[str, float]:
    decoder._ensure_started()  # that a worker starts slowly is not what is measured
    begun = time.perf_counter()
    try:
        wave_s = decoder.decode(content)
    except Problem as problem:
        seconds = time.perf_counter() - begun
        tally.reasons[_kind_of(problem.detail)] += 1
        return "too much" if problem.status == 413 else "refused", seconds
    seconds = time.perf_counter() - begun
    assert np.isfinite(wave_s).all()
    return "heard", seconds


def _kind_of(reason: str) -> str:
    """A reason without its numbers, and without what the file begins with."""
    begun = re.sub(r"begins with .*", "begins with ...", reason)
    return re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "N", begun)[:100]


def megabytes(pid: int) -> float:
    """Resident in a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def table(tally: Tally) -> str:
    """The outcomes as Markdown."""
    lines = [f"| file | {' | '.join(OUTCOMES)} | slowest, s |", "|---" * 7 + "|"]
    for kind in sorted(tally.slowest):
        cells = [f"{tally.outcomes[kind, outcome]:,}" for outcome in OUTCOMES]
        lines.append(f"| {kind} | {' | '.join(cells)} | {tally.slowest[kind]:.3f} |")
    cells = [f"{tally.count(outcome):,}" for outcome in OUTCOMES]
    lines.append(f"| all | {' | '.join(cells)} | {max(tally.slowest.values()):.3f} |")
    return "\n".join(lines)


def told(memory: list[float]) -> str:
    return f"{memory[-1]:.0f} ({growth(memory):+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the one case of this number")
    parser.add_argument("--keep", type=Path, help="a folder for files that kill or hang")
    parser.add_argument("--reasons", action="store_true", help="how the reasons begin")
    asked = parser.parse_args()
    alone = asked.only is not None
    begun = time.perf_counter()
    tally = run(1 if alone else asked.count, asked.seed, asked.only or 0, asked.keep)
    print(table(tally))
    if asked.reasons:
        print(*(f"{count:6} {reason}" for reason, count in tally.reasons.most_common()), sep="\n")
    print(
        f"\n{tally.outcomes.total():,} files in {time.perf_counter() - begun:.0f} s. MB at the "
        f"end, and more than in the first tenth: parent {told(tally.memory)}, worker "
        f"{told(tally.worker)}. Cases that killed or hung: {tally.worst or 'none'}."
    )
    sys.exit(bool(tally.count("hung")))


if __name__ == "__main__":
    main()
