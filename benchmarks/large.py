"""LibriSpeech-960 at full row count: 281,241 utterances in its layout, without anything in them.

Files are empty and frames are a file of holes, as large as the true one; names, labels, words,
order and batches are what a training of 960 hours has. Each part is measured in a fresh process.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from benchmarks.timing import Row, peak

UTTERANCES, SPEAKERS, CHAPTERS = 281_241, 2_338, 5_466
"""Of train-clean-100, train-clean-360 and train-other-500."""
WIDTH, FRAMES = 120, 409
"""Bins, and frames of a mean utterance of 12.3 s: three of 10 ms stacked."""
BATCH, BUCKET, READ = 20, 50, 20
"""Utterances of a batch, batches of a bucket, and how many batches are read, besides ordered."""
WORDS = "HE HOPED THERE WOULD BE STEW FOR DINNER TURNIPS AND CARROTS AND BRUISED POTATOES"


def main() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _lay_out(root)
        return [row for corpus in ("librispeech", "table") for row in _measured(root, corpus)]


def _measured(root: Path, corpus: str) -> list[Row]:
    words = [sys.executable, "-m", "benchmarks.large", corpus, str(root)]
    environment = {**os.environ, "SEREIN_CACHE": str(root / "cache")}
    done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    known = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    first, again = (list(map(float, one.stdout.split())) for one in (done, known))
    what = f"{UTTERANCES:,} rows, {corpus}"
    rows = [
        (f"{what}: read", again[0], "s", ""),
        (f"{what}: hash {UTTERANCES:,} empty files for the first time", first[1], "s", ""),
        (f"{what}: hashes of before", again[1], "s", ""),
        (f"{what}: targets, an epoch's order in buckets, {READ} batches", again[2], "s", ""),
        (f"{what}: all of it, with hashes of before", sum(again[:3]), "s", "under 10 s"),
        (f"{what}: peak memory", again[3], "MB", "under 1,000"),
    ]
    return [Row(what=one, ours=ours, unit=unit, asked=asked) for one, ours, unit, asked in rows]


def _lay_out(root: Path) -> None:
    """Folders, empty recordings and transcripts as LibriSpeech has them; and all as one table."""
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
    people = [f"{1000 + s} | {'FM'[s % 2]} | train | 25.0 | A" for s in range(SPEAKERS)]
    (root / "LibriSpeech" / "SPEAKERS.TXT").write_text("\n".join(people))
    (root / "labels.csv").write_text("\n".join(rows))


def _once(corpus: str, root: Path) -> None:
    """What a training does before its first step, but for the front end; print how long it took."""
    from serein import corpora, recipes, system
    from serein.evaluation.labels import apply_label_scheme
    from serein.labels import targets
    from serein.training.dataset import Frames, Subset
    from serein.training.sampling import shard_batches

    place = root / ("labels.csv" if corpus == "table" else "LibriSpeech")
    name = "mine" if corpus == "table" else corpus
    recipe = recipes.load("li2019", ["tasks.emotion=remove"])
    begun = perf_counter()
    read = corpora.load(f"{name}={place}")
    read_seconds, begun = perf_counter() - begun, perf_counter()
    corpora.fingerprint(read, corpora.hash_contents(read.utterances))
    hashed_seconds, begun = perf_counter() - begun, perf_counter()
    kept, _ = apply_label_scheme(read, recipe)
    made = system.System(recipe, targets.find_classes(kept.utterances, recipe))
    lengths = np.random.default_rng(0).integers(50, 2 * FRAMES - 50, UTTERANCES)
    ends = lengths.cumsum().tolist()
    x_nf = np.memmap(root / "frames", np.float32, "w+", shape=(ends[-1], WIDTH))
    spans = zip([0, *ends[:-1]], ends, strict=True)
    frames = Frames(x_nf, {u.id: span for u, span in zip(kept.utterances, spans, strict=True)})
    ids = tuple(utterance.id for utterance in kept.utterances)
    side = Subset(ids, frames, made.targets(kept.utterances))
    order = side.shuffled_order(BATCH, BUCKET, seed=1)
    for _, batch in zip(range(READ), shard_batches(side, order, BATCH), strict=False):
        assert len(batch) == BATCH
    batched_seconds = perf_counter() - begun
    print(read_seconds, hashed_seconds, batched_seconds, 1.024**2 * peak())


if __name__ == "__main__":
    _once(sys.argv[1], Path(sys.argv[2]))
