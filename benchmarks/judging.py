"""What judging costs beside training: statistics, a report, reading corpora, looking for leaks.

The sizes are those of IEMOCAP's usual four classes; corpora are read where ``../shared`` has them.
"""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.timing import Row, paired
from serein import corpora, protocols
from serein.metrics import statistical_tests as tests
from serein.metrics.bootstrap import bootstrap_difference, bootstrap_interval, confusion_by_group
from serein.metrics.classification import unweighted_accuracy_from_confusion
from serein.protocols import SplitConfig, find_leaks, hash_audio
from serein.records import Corpus
from serein.report import write_report

HOUSE = Path(__file__).parent.parent
SHARED = HOUSE.parent / "shared" / "data"
COPIES = {"emodb": "emodb", "ravdess": "ravdess", "librispeech": "an4"}
UTTERANCES = 5531


def main() -> list[Row]:
    return [_statistics(), _report(), *_reading(), *_leaks()]


def _alone(what: str, ours: Callable[[], object], asked: str, repeats: int = 5) -> Row:
    mine, _, _ = paired(ours, lambda: None, repeats=repeats)
    return Row(what=what, ours=mine, unit="s", asked=asked)


def _statistics() -> Row:
    draw = np.random.default_rng(0)
    classes, speakers = list("ahns"), draw.integers(0, 10, UTTERANCES).tolist()
    truth = draw.choice(classes, UTTERANCES)
    first, second = (np.where(draw.random(UTTERANCES) < p, truth, "n") for p in (0.6, 0.55))

    def judge() -> None:
        ours, theirs = (
            confusion_by_group(truth.tolist(), one.tolist(), speakers, classes)
            for one in (first, second)
        )
        score = unweighted_accuracy_from_confusion
        bootstrap_interval(ours, score)
        bootstrap_difference(ours, theirs, score)
        tests.permutation_test(ours, theirs, score)
        tests.mcnemar_test(*tests.discordant_counts(truth, first, second))

    what = "bootstraps (10,000) and all paired tests of 5,531 utterances, 10 speakers"
    return _alone(what, judge, "under 3 s")


def _report() -> Row:
    sys.path.append(str(HOUSE / "tests"))
    from builders.example_results import example

    results = example(UTTERANCES)
    with tempfile.TemporaryDirectory() as folder:
        what = "report of 10 folds x 5,531 utterances: HTML, Markdown and LaTeX"
        return _alone(what, lambda: write_report(results, Path(folder)), "under 3 s")


def _reading() -> list[Row]:
    return [
        _alone(f"read {folder}", partial(corpora.load, spec), "under 1 s")
        for folder, spec in _specs().items()
    ]


def _leaks() -> list[Row]:
    read = [corpora.load(spec) for spec in _specs().values()]
    if not read:
        what = "leakage check with audio hashes, EMO-DB + RAVDESS + AN4"
        return [Row(what=what, ours=float("nan"), unit="s", peer_name="skipped: no ../shared")]

    def check() -> None:
        for corpus in read:
            _check(corpus)

    count = sum(len(corpus.utterances) for corpus in read)
    return [_alone(f"leakage check with audio hashes, {count:,} files", check, "under 5 s", 3)]


def _check(corpus: Corpus) -> None:
    split = protocols.split(corpus.utterances, SplitConfig())
    contents, samples = corpora.hash_contents(corpus.utterances), hash_audio(corpus.utterances)
    find_leaks(split, corpus.utterances, contents, audio_hashes=samples)


def _specs() -> dict[str, str]:
    return {
        folder: f"{name}={SHARED / folder}"
        for name, folder in COPIES.items()
        if (SHARED / folder).is_dir()
    }
