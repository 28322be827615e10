"""Long recordings and streams with the shipped model, one thread.

The recording is an hour of synthetic speech, with and without pauses. Speed is measured by CPU
time, which depends least on other load; memory is the peak of a separate process. The peer of
speech detection is the model of silero-vad as its package runs it.

    python -m benchmarks.long_audio FILE speech|everything [MODEL [BACKEND]]    # one file
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
from typing import Any

import numpy as np
import soundfile
import torch

from benchmarks.timing import MODEL, Row, peak_memory, time_alternately
from serein import audio
from serein.inference.recognizer import Recognizer
from serein.inference.vad import BLOCK_SAMPLES, ChunkedVAD, contains_speech
from serein.synthetic import SyntheticConfig, generate
from serein.utils.distributed import tune_process

ROOT = Path(__file__).parent.parent
RATE = 16_000
HOUR = 3600
STREAM_SECONDS = 30
"""Duration of each live stream."""
BACKENDS = ("onnx", "torch")
BOUNDS = {
    "onnx": "every window goes through the graph alone, 8 ms, most of it the front end; batches of "
    "windows took as long",
    "torch": "windows share their frames; the networks take 3 ms of a window",
}
"""What limits an hour in each backend."""
BLOCK_SECONDS = 0.02
"""Duration of a block of a live stream."""


def main() -> list[Row]:
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        with_pauses, dense = (write_hour(Path(folder), pauses) for pauses in (True, False))
        rows = [_time_detection(with_pauses), *map(_time_speech_check, (1, 16), [dense] * 2)]
        for file, kind in ((with_pauses, "with pauses"), (dense, "without pauses")):
            for backend in BACKENDS:
                rows += _time_hour(file, f"an hour {kind}, {backend}", backend)
        ten_hours = Path(folder) / "ten.flac"
        _concatenate([with_pauses] * 10, ten_hours)
        peak = _measure_process(ten_hours, "speech", "onnx")["peak"]
        return [
            *rows,
            Row(what="ten hours: peak memory", ours=peak, unit="MiB", target="under 600"),
            *_time_streams(with_pauses, "with pauses", 50),
            *_time_streams(dense, "no pauses", 50),
        ]


def _time_hour(file: Path, what: str, backend: str) -> Iterator[Row]:
    targets = {"speech": "200 or more", "everything": "400 or more"}
    for mode, target in targets.items():
        result = _measure_process(file, mode, backend)
        part = f"{what}, {'speech only' if mode == 'speech' else mode}"
        description = f"{part}: {result['windows']:.0f} windows of 4 s every 1 s"
        speed = HOUR / result["seconds"]
        yield Row(
            what=description, ours=speed, unit="x real time", target=target, bound=BOUNDS[backend]
        )
        if mode == "speech":
            peak = result["peak"]
            yield Row(what=f"{part}: peak memory", ours=peak, unit="MiB", target="under 600")


def _time_streams(file: Path, kind: str, count: int) -> Iterator[Row]:
    """Measure the load of live streams on one core, and the delay of their segments.

    The streams start evenly within a second. A block arrives with its last sample, and waits until
    all blocks before it are processed; the sample that completes a segment may be its first. The
    clock is CPU time.
    """
    recognizer = Recognizer(MODEL)
    size, block_count = round(BLOCK_SECONDS * RATE), round(STREAM_SECONDS / BLOCK_SECONDS)
    starts = [7.3 * number for number in range(count)]
    waves = [audio.load(file, RATE, start=start, end=start + STREAM_SECONDS) for start in starts]
    streams = [recognizer.stream(RATE) for _ in waves]
    done, busy, delays = 0.0, 0.0, []
    arrivals = [
        ((block + 1) * BLOCK_SECONDS + number / count, block, number)
        for number in range(count)
        for block in range(block_count)
    ]
    for arrival, block, number in sorted(arrivals):
        start = process_time()
        segments = streams[number].feed(waves[number][block * size :][:size])
        seconds = process_time() - start
        done, busy = max(done, arrival) + seconds, busy + seconds
        delays += [1000 * (done - arrival + BLOCK_SECONDS)] * len(segments)
    name = f"{count} live streams on one core, {kind}, 20 ms blocks"
    load = 100 * busy / STREAM_SECONDS
    yield Row(what=f"{name}: load of the core", ours=load, unit="%", target="under 100")
    p99 = float(np.quantile(delays, 0.99))
    what = f"{name}: p99 of {len(delays)} segments, delay after the sample that completes them"
    yield Row(what=what, ours=p99, unit="ms", target="at most 50")


def _time_detection(file: Path) -> Row:
    wave = audio.load(file, RATE, end=64)
    ours, theirs, ratio = time_alternately(
        lambda: ChunkedVAD()(wave), lambda: _run_silero(wave), repeats=5
    )
    return Row(
        what="speech detection in 64 s",
        ours=64 / ours,
        unit="x real time",
        peer_name="silero-vad's own model, block by block",
        peer=64 / theirs,
        ratio=ratio,
    )


def _time_speech_check(count: int, file: Path) -> Row:
    """Measure the check for speech before a prediction."""
    waves = [audio.load(file, RATE, start=4 * i, end=4 * i + 4) for i in range(count)]
    ours, _, _ = time_alternately(lambda: contains_speech(waves, RATE), lambda: None, repeats=31)
    what = f"check of 4 s for speech, {count} at a time"
    return Row(what=what, ours=1000 * ours / count, unit="ms")


def _run_silero(wave: np.ndarray) -> None:
    folders = getattr(find_spec("silero_vad"), "submodule_search_locations", None) or [""]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        path = str(Path(folders[0]) / "data" / "silero_vad.jit")
        model = torch.jit.load(path)  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        for block in torch.from_numpy(wave[: len(wave) // BLOCK_SAMPLES * BLOCK_SAMPLES]).view(
            -1, BLOCK_SAMPLES
        ):
            model(block, RATE)


def write_hour(folder: Path, pauses: bool) -> Path:
    """Write an hour of synthetic utterances, with pauses of up to two seconds or without."""
    generator = np.random.default_rng(0)
    utterances = generate(folder / "voices", SyntheticConfig(speakers=4, sentences=2))
    waves = [soundfile.read(one.path, dtype="float32")[0] for one in utterances]
    path = folder / ("pauses.flac" if pauses else "dense.flac")
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        while file.frames < HOUR * RATE:
            gap = np.zeros(generator.integers(2 * RATE) if pauses else 0, np.float32)
            wave = np.concatenate([waves[generator.integers(len(waves))], gap])
            file.write(wave[: HOUR * RATE - file.frames])
    return path


def _concatenate(files: list[Path], path: Path) -> None:
    with soundfile.SoundFile(path, "w", RATE, 1) as out:
        for file in files:
            for samples, _ in audio.iter_blocks(file):
                out.write(samples)


def _measure_process(file: Path, mode: str, backend: str) -> dict[str, float]:
    """Return CPU seconds, windows and peak memory of a process that recognizes one file."""
    command = [sys.executable, "-m", "benchmarks.long_audio", str(file), mode, MODEL, backend]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return json.loads(done.stdout)


if __name__ == "__main__":
    tune_process()  # as commands do
    backend: Any
    model, backend = (*sys.argv[3:], *(MODEL, "auto")[len(sys.argv) - 3 :])
    recognizer, start = Recognizer(model, backend=backend), process_time()
    timeline = recognizer.timeline(sys.argv[1], speech=sys.argv[2] == "speech")
    seconds, windows = process_time() - start, len(timeline.windows)
    print(json.dumps({"seconds": seconds, "windows": windows, "peak": peak_memory()}))
