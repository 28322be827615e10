"""Time and memory over ten-fold steps, as a table and as curves.

    python -m benchmarks.growth                     # writes docs/growth.md and docs/growth.svg
    python -m benchmarks.growth WHAT SIZE FOLDER    # the measured process

Every point is a fresh process on one thread; processor time is shown, which depends least on other
programs. What is prepared before (a table, a recording) is not counted.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from textwrap import wrap
from time import process_time

import numpy as np
import soundfile
from numpy.typing import NDArray

from benchmarks.timing import peak_memory

DOCS = Path(__file__).parent.parent / "docs"
HEAD = """# Growth

Time and memory over ten-fold steps, each point a fresh process on one thread. *Growth* is the
factor of time over that of size: 1 is linear, 10 quadratic. `python -m benchmarks.growth` writes
this page and the picture.

![Processor time and memory over the size of six tasks, on logarithmic axes](growth.svg)

- **Folds** above 1 from 10,000 to 100,000 utterances: no step is quadratic in the profile; larger
  sets of ids take longer for each id.
- **Copies** above 1 from 10,000 to 100,000 recordings: of six million codes of 26 bits, some
  270,000 pairs are equal by chance, and each is compared. Ten times as many recordings have a
  hundred times as many such pairs.
- **Streams** of one process share forward passes; 200 streams of 10 s take less than one core.
"""
"""The page before the table."""
RATE = 16_000
SPEAKERS, EMOTIONS = 200, ("anger", "fear", "happiness", "neutral", "sadness")
RECORDINGS = 100
"""Files of a table; its rows are stretches of them."""
CODES = 60
"""Codes of a fingerprint, about as many as a recording of two seconds has."""
STREAM_SECONDS = 10.0
MODEL = "serein-light"
COLUMNS = 3
"""Of the picture."""
SIZES = {
    "rows": (1_000, 10_000, 100_000, 1_000_000),
    "folds": (1_000, 10_000, 100_000),
    "copies": (1_000, 10_000, 100_000),
    "report": (1_000, 10_000, 100_000),
    "recording": (10, 100, 1_000, 10_000, 36_000),
    "streams": (1, 10, 100, 200),
}
TITLES = {
    "rows": "read a table of N rows",
    "folds": "ten folds of N utterances by speaker, with the leakage check",
    "copies": "find copies among the fingerprints of N recordings",
    "report": "score and report N predictions of two tasks",
    "recording": f"answers along a recording of N seconds ({MODEL})",
    "streams": f"N streams of {STREAM_SECONDS:g} s ({MODEL})",
}


def main() -> int:
    """Measure every point, and write the page and its picture."""
    from serein.evaluation.provenance import describe_machine, utc_now

    found: dict[str, list[tuple[int, float, float]]] = {}
    lines = [
        "| what | N | processor time, s | growth | peak memory, MiB |",
        "|---|---|---|---|---|",
    ]
    for what, sizes in SIZES.items():
        for size in sizes:
            seconds, memory = _run(what, size)
            found.setdefault(what, []).append((size, seconds, memory))
            lines.append(f"| {TITLES[what]} | {_format_point(found[what])} |")
            print(lines[-1], flush=True)
    draw_curves(found, DOCS / "growth.svg")
    conditions = f"Measured {utc_now()} on {describe_machine()}."
    (DOCS / "growth.md").write_text("\n".join([HEAD, conditions, "", *lines, ""]), encoding="utf-8")
    return 0


def _format_point(points: list[tuple[int, float, float]]) -> str:
    """Format the last point; growth is the factor of time over that of size."""
    size, seconds, memory = points[-1]
    growth = ""
    if len(points) > 1:
        earlier = points[-2]
        growth = f"{(seconds / earlier[1]) / (size / earlier[0]):.2f}"
    return f"{size:,} | {seconds:.2f} | {growth} | {memory:,.0f}"


def _run(what: str, size: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.growth", what, str(size), folder]
        environment = {**os.environ, "SEREIN_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    seconds, memory = map(float, done.stdout.split()[-2:])
    return seconds, memory


def draw_curves(found: dict[str, list[tuple[int, float, float]]], path: Path) -> None:
    """Draw time and memory of every measurement over its size, on logarithmic axes."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "serein"
    from matplotlib import pyplot

    rows = -(-len(found) // COLUMNS)
    figure, axes = pyplot.subplots(2 * rows, COLUMNS, figsize=(9.6, 5 * rows), squeeze=False)
    for axis in axes.flat[len(found) :]:
        axis.set_axis_off()
    for number, (what, points) in enumerate(found.items()):
        sizes, seconds, memory = zip(*points, strict=True)
        row, column = divmod(number, COLUMNS)
        above, below = axes[2 * row][column], axes[2 * row + 1][column]
        linear = [seconds[-1] * size / sizes[-1] for size in sizes]
        above.loglog(sizes, linear, linestyle=":", color="gray", label="linear")
        above.set_title("\n".join(wrap(TITLES[what], 34)), fontsize=9)
        for axis, values, label in ((above, seconds, "time, s"), (below, memory, "memory, MiB")):
            axis.set_axis_on()
            axis.loglog(sizes, values, marker="o", label="measured")
            axis.set_xlabel("N", fontsize=8)
            axis.set_ylabel(label, fontsize=8)
            axis.tick_params(labelsize=7, which="both")
            axis.grid(alpha=0.3)
        below.set_ylim(10, 10_000)
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _measure(what: str, size: int, folder: Path) -> None:
    run = PREPARATIONS[what](size, folder)
    start = process_time()
    run()
    print(process_time() - start, peak_memory())


def prepare_rows(size: int, folder: Path) -> Callable[[], object]:
    """Write a table whose rows are stretches of a few recordings."""
    from serein import corpora

    noise = np.random.default_rng(0).normal(0, 0.1, RATE)
    length = -(-size // RECORDINGS)
    with (folder / "labels.csv").open("w") as file:
        file.write("file,start,end,speaker,emotion\n")
        for number in range(RECORDINGS):
            name = f"{number:03}.flac"
            samples = np.tile(noise.astype("f4"), -(-length // 100) + 1)
            soundfile.write(folder / name, samples, RATE)
            for row in range(min(length, size - number * length)):
                begin = row * 0.01
                speaker, emotion = (number * 7 + row) % SPEAKERS, EMOTIONS[row % 5]
                file.write(f"{name},{begin:.2f},{begin + 0.5:.2f},s{speaker},{emotion}\n")
    return lambda: corpora.load(f"mine={folder / 'labels.csv'}")


def prepare_folds(size: int, folder: Path) -> Callable[[], object]:
    """Make utterances with speakers and emotions; the folds and their check are measured."""
    from serein.protocols import split
    from serein.protocols.leakage import find_leaks
    from serein.protocols.settings import SplitConfig
    from serein.records import Utterance

    utterances = [
        Utterance(
            id=f"u{n}",
            path=folder / f"{n}.wav",
            speaker=f"s{n % SPEAKERS}",
            labels={"emotion": EMOTIONS[n % 5]},
        )
        for n in range(size)
    ]
    marks = {one.id: one.id for one in utterances}
    config = SplitConfig(name="speaker-k-fold", folds=10)
    return lambda: find_leaks(split(utterances, config), utterances, marks, audio_hashes=marks)


def prepare_copies(size: int, folder: Path) -> Callable[[], object]:
    """Make random fingerprints, of which one is a copy."""
    from serein.protocols.fingerprints import match_codes

    codes = np.random.default_rng(0).integers(1, 2**26, (size, CODES), dtype=np.uint32)
    members = {str(number): one for number, one in enumerate(codes)}
    return lambda: match_codes(members | {"copy": codes[5]})


def prepare_report(size: int, folder: Path) -> Callable[[], object]:
    """Make random predictions; scores, intervals and the page are measured."""
    from benchmarks.load_results import CLASSES, SELECTIONS, build_results
    from serein.evaluation.scores import pool_scores
    from serein.report.html import write_page

    results = build_results(size)

    def run() -> None:
        pool_scores(results.predictions, SELECTIONS, CLASSES)
        write_page(results, folder)

    return run


def prepare_recording(size: int, folder: Path) -> Callable[[], object]:
    """Write a recording of generated speech."""
    from serein.inference.recognizer import Recognizer

    file = folder / "long.flac"
    speech = _generate_speech(folder)
    with soundfile.SoundFile(file, "w", RATE, 1) as sound:
        for _ in range(-(-size * RATE // len(speech))):
            sound.write(speech)
    recognizer = Recognizer(MODEL)
    return lambda: recognizer.timeline(file)


def prepare_streams(size: int, folder: Path) -> Callable[[], object]:
    """Open streams; their blocks of a tenth of a second are measured."""
    from serein.inference.recognizer import Recognizer
    from serein.inference.streaming import feed_streams

    recognizer = Recognizer(MODEL)
    speech = _generate_speech(folder)
    speech = np.resize(speech, int(STREAM_SECONDS * RATE))
    streams = [recognizer.stream(RATE) for _ in range(size)]
    block = RATE // 10

    def run() -> None:
        for first in range(0, len(speech), block):
            feed_streams(
                recognizer, [(stream, speech[first : first + block]) for stream in streams]
            )

    return run


def _generate_speech(folder: Path) -> NDArray[np.float32]:
    """Generate a minute of speech with pauses."""
    from serein import audio
    from serein.synthetic import SyntheticConfig, generate

    settings = SyntheticConfig(speakers=2, emotions=EMOTIONS[:3], sentences=4)
    utterances = generate(folder / "speech", settings)
    pause = np.zeros(RATE, np.float32)
    parts = [part for one in utterances for part in (audio.load(one.path, RATE), pause)]
    speech: NDArray[np.float32] = np.concatenate(parts)[: 60 * RATE]
    return speech


PREPARATIONS: dict[str, Callable[[int, Path], Callable[[], object]]] = {
    "rows": prepare_rows,
    "folds": prepare_folds,
    "copies": prepare_copies,
    "report": prepare_report,
    "recording": prepare_recording,
    "streams": prepare_streams,
}

if __name__ == "__main__":
    if len(sys.argv) > 1:
        _measure(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
    else:
        raise SystemExit(main())
