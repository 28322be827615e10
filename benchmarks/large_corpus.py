"""Reading and batching of 281,241 empty utterances, as many as LibriSpeech-960 has.

Audio files are empty, and the frames are a sparse file of the true size; names, labels, words,
order and batches are those of training on 960 hours. Each corpus is measured in a fresh process.

    python -m benchmarks.large_corpus librispeech|table FOLDER    # the measured process
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks.timing import Row, peak_memory

UTTERANCES, SPEAKERS, CHAPTERS = 281_241, 2_338, 5_466
"""Sums over train-clean-100, train-clean-360 and train-other-500."""
WIDTH, FRAMES = 120, 409
"""Bins, and frames of an utterance of mean duration (12.3 s): stacks of three at 10 ms."""
BATCH, BUCKET, BATCHES = 20, 50, 20
"""Utterances per batch, batches per bucket, and number of batches to read."""
WORDS = "HE HOPED THERE WOULD BE STEW FOR DINNER TURNIPS AND CARROTS AND BRUISED POTATOES"


def main() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write_corpora(root)
        return [row for corpus in ("librispeech", "table") for row in _measure(root, corpus)]


def _measure(root: Path, corpus: str) -> list[Row]:
    command = [sys.executable, "-m", "benchmarks.large_corpus", corpus, str(root)]
    environment = {**os.environ, "SEREIN_CACHE": str(root / "cache")}
    first, again = (
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        for _ in range(2)
    )
    first_values, values = (list(map(float, run.stdout.split())) for run in (first, again))
    what = f"{UTTERANCES:,} rows, {corpus}"
    rows = [
        (f"{what}: read", values[0], "s", ""),
        (f"{what}: first hashing of {UTTERANCES:,} empty files", first_values[1], "s", ""),
        (f"{what}: with cached hashes", values[1], "s", ""),
        (f"{what}: targets, bucketed order of an epoch, {BATCHES} batches", values[2], "s", ""),
        (f"{what}: everything, with cached hashes", sum(values[:3]), "s", "under 10 s"),
        (f"{what}: peak memory", values[3], "MB", "under 1,000"),
    ]
    return [
        Row(what=name, ours=value, unit=unit, target=target) for name, value, unit, target in rows
    ]


def _write_corpora(root: Path) -> None:
    """Write empty recordings with transcripts in LibriSpeech's layout, and all as one table."""
    rows = ["file,speaker,gender,text,chapter"]
    for c in range(CHAPTERS):
        speaker, chapter = 1000 + c % SPEAKERS, 100_000 + c
        where = f"LibriSpeech/train/{speaker}/{chapter}"
        (root / where).mkdir(parents=True)
        count = UTTERANCES // CHAPTERS + (c < UTTERANCES % CHAPTERS)
        lines = {f"{speaker}-{chapter}-{i:04}": f"{WORDS} {i} OF {c}" for i in range(count)}
        for name, words in lines.items():
            (root / where / f"{name}.flac").touch()
            rows.append(f"{where}/{name}.flac,{speaker},{'fm'[c % 2]},{words},{chapter}")
        text = "".join(f"{name} {words}\n" for name, words in lines.items())
        (root / where / f"{speaker}-{chapter}.trans.txt").write_text(text)
    speaker_rows = [f"{1000 + s} | {'FM'[s % 2]} | train | 25.0 | A" for s in range(SPEAKERS)]
    (root / "LibriSpeech" / "SPEAKERS.TXT").write_text("\n".join(speaker_rows))
    (root / "labels.csv").write_text("\n".join(rows))


def _prepare_training(kind: str, root: Path) -> None:
    """Do the work before the first training step (without the front end), and print its times."""
    from serein import corpora, recipes, system
    from serein.evaluation.labels import apply_label_scheme
    from serein.labels import targets
    from serein.training.dataset import Frames, Subset
    from serein.training.sampling import shard_batches

    path = root / ("labels.csv" if kind == "table" else "LibriSpeech")
    name = "mine" if kind == "table" else kind
    recipe = recipes.load("li2019", ["tasks.emotion=remove"])
    start = perf_counter()
    loaded = corpora.load(f"{name}={path}")
    read_seconds, start = perf_counter() - start, perf_counter()
    corpora.fingerprint(loaded, corpora.hash_contents(loaded.utterances))
    hash_seconds, start = perf_counter() - start, perf_counter()
    corpus, _ = apply_label_scheme(loaded, recipe)
    network = system.System(recipe, targets.find_classes(corpus.utterances, recipe))
    lengths = np.random.default_rng(0).integers(50, 2 * FRAMES - 50, UTTERANCES)
    ends = lengths.cumsum().tolist()
    x_nf = np.memmap(root / "frames", np.float32, "w+", shape=(ends[-1], WIDTH))
    spans = zip([0, *ends[:-1]], ends, strict=True)
    frames = Frames(x_nf, {u.id: span for u, span in zip(corpus.utterances, spans, strict=True)})
    ids = tuple(utterance.id for utterance in corpus.utterances)
    subset = Subset(ids, frames, network.targets(corpus.utterances))
    order = subset.shuffled_order(BATCH, BUCKET, seed=1)
    for _, batch in zip(range(BATCHES), shard_batches(subset, order, BATCH), strict=False):
        assert len(batch) == BATCH
    batch_seconds = perf_counter() - start
    print(read_seconds, hash_seconds, batch_seconds, 1.024**2 * peak_memory())


if __name__ == "__main__":
    _prepare_training(sys.argv[1], Path(sys.argv[2]))
