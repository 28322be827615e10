"""Decode mutated audio in the service's decoder process: `make fuzz`, `tests/fuzz_audio.py -h`.

For each file the parent process must get samples or a reason within five seconds, and its memory
must not grow. Case n of seed s is the same file in every run: `--only n` runs it alone, `--keep`
saves it.
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
from builders.checksums import reset_ogg_serial
from builders.encoded_audio import FFMPEG, FORMATS, encode, make_sweep, mux
from builders.mutations import mutate

from serein.service.config import ServiceConfig
from serein.service.decoding import DecoderProcess
from serein.service.schemas import Problem

SECONDS = 5.0
"""Time limit of a file; beyond it, the decoder hangs."""
FILES_PER_SAMPLE = 50
"""Files between two measurements of memory."""
RATE = 16_000
WAVS = ("FLOAT", "DOUBLE", "PCM_24", "PCM_U8", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610")
OUTCOMES = ("decoded", "refused", "too much", "died", "hung")


@dataclass
class Tally:
    """The outcomes of all files.

    Attributes:
        outcomes: number of files by kind and outcome.
        reasons: number of files by the start of their reason.
        slowest: maximum seconds by kind of file.
        failed_cases: numbers of the cases that killed or hung their decoder process.
        memory: samples of the parent's memory in MB.
        worker: samples of the decoder process's memory in MB, at the same times.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    slowest: dict[str, float] = field(default_factory=dict)
    failed_cases: list[int] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    worker: list[float] = field(default_factory=list)

    def count(self, outcome: str) -> int:
        """Return the number of files with an outcome, over all kinds."""
        return sum(found for (_, name), found in self.outcomes.items() if name == outcome)


def growth(memory: list[float]) -> float:
    """Return the growth in MB from the first tenth of the samples to the last."""
    tenth = len(memory) // 10 + 1
    return max(memory[-tenth:]) - max(memory[:tenth])


def seed_files() -> dict[str, bytes]:
    """Return valid, reproducible files of every kind, 0.3 s each."""
    wave_s = make_sweep(0.3)
    stereo = np.stack([wave_s, wave_s[::-1]], axis=1)
    exact = {"fflags": "+bitexact"}
    found = {kind: encode(kind, wave_s) for kind in FORMATS}
    found |= {kind: reset_ogg_serial(found[kind]) for kind in ("ogg", "opus")}
    found |= {kind: mux(*how, wave_s, exact) for kind, how in FFMPEG.items()}
    found |= {f"wav {name}": _clear_peak_time(encode("wav", wave_s, subtype=name)) for name in WAVS}
    return found | {f"{kind} stereo": encode(kind, stereo, 44_100) for kind in ("wav", "flac")}


def _clear_peak_time(wav: bytes) -> bytes:
    """Clear the time at which libsndfile measured the peak."""
    place = wav.find(b"PEAK") + 12
    return wav[:place] + bytes(4) + wav[place + 4 :] if place > 12 else wav


def cases(count: int, seed: int, first: int = 0) -> Iterator[tuple[int, str, str, bytes]]:
    """Yield number, kind, name of the mutation, and content of each case."""
    files = seed_files()
    for number in range(first, first + count):
        rng = Random(f"{seed} {number}")
        kind, other = rng.choice(sorted(files)), rng.choice(sorted(files))
        yield number, kind, *mutate(files[kind], files[other], rng)


def run(count: int, seed: int, first: int = 0, keep: Path | None = None) -> Tally:
    """Decode all cases in one process, which is started again when it dies."""
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
                tally.failed_cases.append(number)
            if keep and (deaths or count == 1):
                (keep / f"{seed}-{number}-{change}.{kind.replace(' ', '-')}").write_bytes(content)
            tally.outcomes[kind, outcome] += 1
            tally.slowest[kind] = max(seconds, tally.slowest.get(kind, 0.0))
            if (number - first) % FILES_PER_SAMPLE == 0:
                tally.memory.append(megabytes(os.getpid()))
                tally.worker.append(megabytes(decoder.pid))
    finally:
        decoder.close()
    return tally


def _outcome(decoder: DecoderProcess, content: bytes, tally: Tally) -> tuple[str, float]:
    decoder.ensure_started()  # do not measure the start
    start = time.perf_counter()
    try:
        wave_s = decoder.decode(content)
    except Problem as problem:
        seconds = time.perf_counter() - start
        tally.reasons[_generalize_reason(problem.detail)] += 1
        return "too much" if problem.status == 413 else "refused", seconds
    seconds = time.perf_counter() - start
    assert np.isfinite(wave_s).all()
    return "decoded", seconds


def _generalize_reason(reason: str) -> str:
    """Return a reason without its numbers and without the start of the file."""
    start = re.sub(r"begins with .*", "begins with ...", reason)
    return re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "N", start)[:100]


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


def format_memory(memory: list[float]) -> str:
    return f"{memory[-1]:.0f} ({growth(memory):+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run only the case of this number")
    parser.add_argument("--keep", type=Path, help="folder for files that kill or hang the decoder")
    parser.add_argument("--reasons", action="store_true", help="print the start of the reasons")
    args = parser.parse_args()
    alone = args.only is not None
    start = time.perf_counter()
    tally = run(1 if alone else args.count, args.seed, args.only or 0, args.keep)
    print(table(tally))
    if args.reasons:
        print(*(f"{count:6} {reason}" for reason, count in tally.reasons.most_common()), sep="\n")
    print(
        f"\n{tally.outcomes.total():,} files in {time.perf_counter() - start:.0f} s. MB at the "
        f"end, and growth since the first tenth: parent {format_memory(tally.memory)}, worker "
        f"{format_memory(tally.worker)}. Cases that killed or hung: {tally.failed_cases or 'none'}."
    )
    sys.exit(bool(tally.count("hung")))


if __name__ == "__main__":
    main()
