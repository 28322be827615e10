"""Long recordings and streams with the shipped model, one thread.

An hour of generated speech, with pauses and without, is made in a temporary folder. Speed is
by processor time, which neighbours on the machine disturb least; each memory is the peak of a
process of its own. The peer of speech detection is silero-vad as its package runs it.
"""

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np
import soundfile
import torch

from benchmarks.timing import Row, paired, peak
from serein import audio
from serein.inference.recognizer import Recognizer
from serein.inference.vad import BLOCK_SAMPLES, ChunkedVAD, contains_speech
from serein.synthetic import SyntheticConfig, generate

HOUSE = Path(__file__).parent.parent
RATE = 16_000
HOUR = 3600
SECONDS = 30
"""Of each live stream."""
LIVE = 0.02
"""Seconds of a live stream's block."""


def main() -> list[Row]:
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        talk, dense = (written(Path(folder), pauses) for pauses in (True, False))
        rows = [_detection(talk), *map(_voice, (1, 16), [dense] * 2)]
        for file, what in ((talk, "with pauses"), (dense, "without pauses")):
            rows += _hour(file, f"an hour of speech {what}", ["speech", "everything"])
        ten = Path(folder) / "ten.flac"
        _joined([talk] * 10, ten)
        return [*rows, *_memory(ten), *_streams(talk, 50), *_streams(dense, 50)]


def _hour(file: Path, what: str, kinds: list[str]) -> Iterator[Row]:
    asked = {"speech": "200 or more", "everything": "400 or more"}
    for kind in kinds:
        found = _alone(file, kind)
        how = "its speech alone" if kind == "speech" else "all of it"
        what_of = f"{what}, {how}: {found['windows']:.0f} windows of 4 s every 1 s"
        speed = HOUR / found["seconds"]
        yield Row(what=what_of, ours=speed, unit="x real time", asked=asked[kind])
        if kind == "speech":
            yield Row(what="its peak memory", ours=found["peak"], unit="MiB", asked="under 600")


def _memory(ten: Path) -> Iterator[Row]:
    found = _alone(ten, "speech")
    yield Row(what="ten hours: peak memory", ours=found["peak"], unit="MiB", asked="under 600")


def _streams(file: Path, count: int) -> Iterator[Row]:
    """Live streams on one core: what they cost, and how late answers are behind their samples.

    They begin within a second, evenly. A block arrives when its last sample does, and waits until
    those before it are done; the sample that makes an answer certain may be its first. Processor
    time is the clock.
    """
    recognizer = Recognizer()
    size, ticks = round(LIVE * RATE), round(SECONDS / LIVE)
    waves = [audio.load(file, RATE, start=7.3 * i, end=7.3 * i + SECONDS) for i in range(count)]
    streams = [recognizer.stream(RATE) for _ in waves]
    done, busy, late = 0.0, 0.0, []
    calls = [
        ((tick + 1) * LIVE + i / count, tick, i) for i in range(count) for tick in range(ticks)
    ]
    for arrived, tick, i in sorted(calls):
        begin = process_time()
        found = streams[i].feed(waves[i][tick * size :][:size])
        spent = process_time() - begin
        done, busy = max(done, arrived) + spent, busy + spent
        late += [1000 * (done - arrived + LIVE)] * len(found)
    name = f"{count} live streams on one core, {file.stem}, 20 ms blocks"
    load = 100 * busy / SECONDS
    yield Row(what=f"{name}: the core is busy", ours=load, unit="%", asked="under 100")
    worst = float(np.quantile(late, 0.99))
    waits = f"{name}: p99 of {len(late)} segments behind the sample that makes them certain"
    yield Row(what=waits, ours=worst, unit="ms", asked="at most 50")


def _detection(file: Path) -> Row:
    wave = audio.load(file, RATE, end=64)
    ours, theirs, ratio = paired(lambda: ChunkedVAD()(wave), lambda: _package(wave), repeats=5)
    return Row(
        what="speech detection in 64 s",
        ours=64 / ours,
        unit="x real time",
        peer_name="silero-vad's own model, block by block",
        peer=64 / theirs,
        ratio=ratio,
    )


def _voice(count: int, file: Path) -> Row:
    """What it takes to know that somebody speaks, before a recording is answered."""
    waves = [audio.load(file, RATE, start=4 * i, end=4 * i + 4) for i in range(count)]
    ours, _, _ = paired(lambda: contains_speech(waves, RATE), lambda: None, repeats=31)
    what = f"whether anybody speaks in 4 s, {count} at a time"
    return Row(what=what, ours=1000 * ours / count, unit="ms")


def _package(wave: np.ndarray) -> None:
    places = getattr(find_spec("silero_vad"), "submodule_search_locations", None) or [""]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        path = str(Path(places[0]) / "data" / "silero_vad.jit")
        model = torch.jit.load(path)  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        for block in torch.from_numpy(wave[: len(wave) // BLOCK_SAMPLES * BLOCK_SAMPLES]).view(
            -1, BLOCK_SAMPLES
        ):
            model(block, RATE)


def written(folder: Path, pauses: bool) -> Path:
    """An hour of generated utterances, end to end or up to two seconds apart."""
    generator = np.random.default_rng(0)
    made = generate(folder / "voices", SyntheticConfig(speakers=4, sentences=2))
    waves = [soundfile.read(one.path, dtype="float32")[0] for one in made]
    path = folder / ("pauses.flac" if pauses else "dense.flac")
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        while file.frames < HOUR * RATE:
            gap = np.zeros(generator.integers(2 * RATE) if pauses else 0, np.float32)
            wave = np.concatenate([waves[generator.integers(len(waves))], gap])
            file.write(wave[: HOUR * RATE - file.frames])
    return path


def _joined(files: list[Path], path: Path) -> None:
    with soundfile.SoundFile(path, "w", RATE, 1) as out:
        for file in files:
            for samples, _ in audio.iter_blocks(file):
                out.write(samples)


def _alone(file: Path, kind: str) -> dict[str, float]:
    """Seconds of processor time, windows and peak memory of a process that hears one file."""
    command = [sys.executable, "-m", "benchmarks.apply", str(file), kind]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=HOUSE)
    return json.loads(done.stdout)


if __name__ == "__main__":
    recognizer, begin = Recognizer(), process_time()
    heard = recognizer.timeline(sys.argv[1], speech=sys.argv[2] == "speech")
    facts = {"seconds": process_time() - begin, "windows": len(heard.windows), "peak": peak()}
    print(json.dumps(facts))
