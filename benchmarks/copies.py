"""Find twenty kinds of copy of a recording by fingerprints: `python -m benchmarks.copies DATA`.

With ``--pairs`` it lists all pairs of recordings of the complete corpora that share audio instead.

DATA is a folder with a folder of recordings for each corpus (emodb, ravdess, cremad). Of each
corpus, recordings at equal distances are taken, and some of them are altered; every kind of copy
must be paired with its original and with nothing else. Prints the table of docs/protocols.md.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import av
import numpy as np
import soundfile
import soxr

from serein.corpora import hash_contents
from serein.protocols.fingerprints import (
    Codes,
    find_copies,
    fingerprint_audio,
    match_card,
    match_codes,
    pack_card,
)
from serein.records import Utterance

CORPORA = ("emodb", "ravdess", "cremad")
SUFFIXES = (".wav", ".flac", ".opus", ".mp3")
NUM_RECORDINGS, NUM_COPIES = 200, 20
"""Recordings of each corpus, and those of which copies are made."""
SILENCE_RANGE = 1e-2
"""Samples within 40 dB of the loudest one are not trimmed."""

Wave = np.ndarray
WriteCopy = Callable[[Path, Path], Path]
"""Write an altered copy of a file, and return its path; the second path has no extension."""


@dataclass(frozen=True)
class Outcome:
    """What was found of one kind of copy, in all corpora.

    Attributes:
        found: copies that are paired with their originals, of each corpus.
        on_card: copies that are found among the fingerprints of a model's card, of each corpus.
        copies: number of copies of each corpus.
        false: pairs of recordings that are neither copies nor known to be the same.
        seconds: CPU time of reading and fingerprinting all copies.
    """

    found: list[int]
    on_card: list[int]
    copies: list[int]
    false: int
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pairs", action="store_true", help="list pairs in the complete corpora")
    options = parser.parse_args()
    data = options.data
    start = process_time()
    if options.pairs:
        for corpus in CORPORA:
            _list_pairs(corpus, _find_files(data / corpus))
        print(f"{process_time() - start:.0f} s of CPU in all")
        return
    files, originals = {}, {}
    for corpus in CORPORA:
        files[corpus] = _select_files(data / corpus)
        originals[corpus] = _fingerprint(files[corpus])
        pairs = match_codes(originals[corpus])
        same = ", ".join(f"{pair.first} = {pair.second}" for pair in pairs)
        print(f"{corpus}: {len(originals[corpus])} recordings; pairs among them: {same or 'none'}")
    print("| copy | EMO-DB | RAVDESS | CREMA-D | by card | false pairs | CPU per recording |")
    print("|---|---|---|---|---|---|---|")
    for kind, write_copy in KINDS.items():
        print(_format_row(kind, _measure(files, originals, write_copy)), flush=True)
    print(f"{process_time() - start:.0f} s of CPU in all")


def _list_pairs(corpus: str, files: Sequence[Path]) -> None:
    utterances = [Utterance(id=file.stem, path=file) for file in files]
    pairs = find_copies(utterances, hash_contents(utterances))
    print(f"{corpus}: {len(utterances)} recordings, {len(pairs)} pairs")
    for pair in sorted(pairs, key=lambda pair: pair.bit_error_rate):
        print(f"  {pair.first} = {pair.second}: {pair.bit_error_rate:.2f}, {pair.seconds:.1f} s")


def _find_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)


def _select_files(folder: Path) -> dict[str, Path]:
    found = _find_files(folder)
    at = np.unique(np.linspace(0, len(found) - 1, NUM_RECORDINGS).astype(int))
    return {found[index].stem: found[index] for index in at}


def _fingerprint(files: Mapping[str, Path]) -> dict[str, Codes]:
    return fingerprint_audio([Utterance(id=id_, path=file) for id_, file in files.items()], {})


def _measure(
    files: Mapping[str, dict[str, Path]],
    originals: Mapping[str, dict[str, Codes]],
    write_copy: WriteCopy,
) -> Outcome:
    found, on_card, copies, false, seconds = [], [], [], 0, 0.0
    for corpus, codes in originals.items():
        chosen = list(files[corpus])[:: len(files[corpus]) // NUM_COPIES][:NUM_COPIES]
        with tempfile.TemporaryDirectory() as folder:
            written = {
                f"copy of {id_}": write_copy(files[corpus][id_], Path(folder) / id_)
                for id_ in chosen
            }
            start = process_time()
            altered = _fingerprint(written)
            seconds += process_time() - start
        known = {(pair.first, pair.second) for pair in match_codes(codes)}
        pairs = {(pair.first, pair.second) for pair in match_codes(codes | altered)} - known
        right = {(id_, f"copy of {id_}") for id_ in chosen}
        found.append(len(pairs & right))
        on_card.append(len(match_card(pack_card(codes.values()), altered)))
        copies.append(len(chosen))
        false += len(pairs - right)
    return Outcome(found, on_card, copies, false, seconds)


def _format_row(kind: str, outcome: Outcome) -> str:
    cells = [f"{n} of {total}" for n, total in zip(outcome.found, outcome.copies, strict=True)]
    total = sum(outcome.copies)
    cells += [f"{sum(outcome.on_card)} of {total}", str(outcome.false)]
    return f"| {kind} | {' | '.join(cells)} | {1000 * outcome.seconds / total:.1f} ms |"


def _alter(
    change: Callable[[Wave, int], Wave],
    *,
    rate: int | None = None,
    suffix: str = ".wav",
    subtype: str = "PCM_16",
) -> WriteCopy:
    """Return a function that writes changed samples, at another rate if one is given."""

    def write_copy(source: Path, target: Path) -> Path:
        wave, own_rate = soundfile.read(source, dtype="float32", always_2d=True)
        wave = change(wave.mean(axis=1), own_rate)
        if rate is not None and rate != own_rate:
            wave = soxr.resample(wave, own_rate, rate)
        target = target.with_name(target.name + suffix)
        soundfile.write(target, np.clip(wave, -1, 1), rate or own_rate, subtype=subtype)
        return target

    return write_copy


def _write_mp3(source: Path, target: Path) -> Path:
    wave, rate = soundfile.read(source, dtype="float32", always_2d=True)
    target = target.with_name(f"{target.name}.mp3")
    with av.open(str(target), "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=rate)
        stream.bit_rate, stream.layout = 64_000, "mono"
        samples = np.ascontiguousarray(wave.mean(axis=1))[None]
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return target


def _link(source: Path, target: Path) -> Path:
    target = target.with_name(target.name + source.suffix)
    os.symlink(source.absolute(), target)
    return target


def _copy_bytes(source: Path, target: Path) -> Path:
    return Path(shutil.copyfile(source, target.with_name(target.name + source.suffix)))


def _change_sample(wave: Wave, _rate: int) -> Wave:
    changed = wave.copy()
    changed[len(wave) // 2] += 2**-10
    return changed


def _add_noise(wave: Wave, _rate: int) -> Wave:
    noise = np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32)
    return wave + noise * np.float32(np.sqrt((wave**2).mean()) * 10 ** (-30 / 20))


def _trim(wave: Wave, _rate: int) -> Wave:
    loud = (np.abs(wave) > np.abs(wave).max() * SILENCE_RANGE).nonzero()[0]
    return wave[loud[0] : loud[-1] + 1]


def _delay(wave: Wave, rate: int) -> Wave:
    return np.append(np.zeros(rate // 50, np.float32), wave)[: len(wave)]


KINDS: dict[str, WriteCopy] = {
    "byte copy": _copy_bytes,
    "symbolic link": _link,
    "FLAC": _alter(lambda wave, _: wave, suffix=".flac"),
    "24 bits": _alter(lambda wave, _: wave, subtype="PCM_24"),
    "stereo": _alter(lambda wave, _: np.stack([wave, wave], axis=1)),
    "8 kHz": _alter(lambda wave, _: wave, rate=8_000),
    "48 kHz": _alter(lambda wave, _: wave, rate=48_000),
    "MP3, 64 kbit/s": _write_mp3,
    "Ogg Vorbis": _alter(lambda wave, _: wave, suffix=".ogg", subtype="VORBIS"),
    "gain -6 dB": _alter(lambda wave, _: wave / 2),
    "polarity": _alter(lambda wave, _: -wave),
    "noise at 30 dB": _alter(_add_noise),
    "one sample changed": _alter(_change_sample),
    "one sample dropped": _alter(lambda wave, _: np.delete(wave, len(wave) // 2)),
    "20 ms later": _alter(_delay),
    "20 ms cut off": _alter(lambda wave, rate: wave[rate // 50 :]),
    "silence trimmed": _alter(_trim),
    "1 s of silence before and after": _alter(lambda wave, rate: np.pad(wave, rate)),
    "speed 1.02": _alter(lambda wave, _: soxr.resample(wave, 51_000, 50_000)),
    "last two thirds": _alter(lambda wave, _: wave[len(wave) // 3 :]),
}

if __name__ == "__main__":
    main()
