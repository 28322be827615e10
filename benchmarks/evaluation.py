"""Time of evaluation without training: statistics, a report, reading corpora, the leakage check.

The sizes are those of IEMOCAP's usual four classes; corpora are read if ``../shared`` has them.
"""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.timing import Row, time_alternately
from serein import corpora, protocols
from serein.metrics import statistical_tests as tests
from serein.metrics.bootstrap import bootstrap_difference, bootstrap_interval, confusion_by_group
from serein.metrics.classification import unweighted_accuracy_from_confusion
from serein.protocols import SplitConfig, find_leaks, hash_audio
from serein.records import Corpus
from serein.report import write_report

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"
FOLDERS = {"emodb": "emodb", "ravdess": "ravdess", "librispeech": "an4"}
UTTERANCES = 5531


def main() -> list[Row]:
    return [_time_statistics(), _time_report(), *_time_reading(), *_time_leakage_check()]


def _time(what: str, ours: Callable[[], object], target: str, repeats: int = 5) -> Row:
    mine, _, _ = time_alternately(ours, lambda: None, repeats=repeats)
    return Row(what=what, ours=mine, unit="s", target=target)


def _time_statistics() -> Row:
    rng = np.random.default_rng(0)
    classes, speakers = list("ahns"), rng.integers(0, 10, UTTERANCES).tolist()
    truth = rng.choice(classes, UTTERANCES)
    first, second = (np.where(rng.random(UTTERANCES) < p, truth, "n") for p in (0.6, 0.55))

    def run_statistics() -> None:
        ours, theirs = (
            confusion_by_group(truth.tolist(), predictions.tolist(), speakers, classes)
            for predictions in (first, second)
        )
        score = unweighted_accuracy_from_confusion
        bootstrap_interval(ours, score)
        bootstrap_difference(ours, theirs, score)
        tests.permutation_test(ours, theirs, score)
        tests.mcnemar_test(*tests.discordant_counts(truth, first, second))

    what = "bootstraps (10,000) and all paired tests of 5,531 utterances, 10 speakers"
    return _time(what, run_statistics, "under 3 s")


def _time_report() -> Row:
    sys.path.append(str(ROOT / "tests"))
    from builders.example_results import example_results

    results = example_results(UTTERANCES)
    with tempfile.TemporaryDirectory() as folder:
        what = "report of 10 folds x 5,531 utterances: HTML, Markdown and LaTeX"
        return _time(what, lambda: write_report(results, Path(folder)), "under 3 s")


def _time_reading() -> list[Row]:
    return [
        _time(f"read {folder}", partial(corpora.load, spec), "under 1 s")
        for folder, spec in _specs().items()
    ]


def _time_leakage_check() -> list[Row]:
    loaded = [corpora.load(spec) for spec in _specs().values()]
    if not loaded:
        what = "leakage check with audio hashes, EMO-DB + RAVDESS + AN4"
        return [Row(what=what, ours=float("nan"), unit="s", peer_name="skipped: no ../shared")]

    def check() -> None:
        for corpus in loaded:
            _check(corpus)

    count = sum(len(corpus.utterances) for corpus in loaded)
    return [_time(f"leakage check with audio hashes, {count:,} files", check, "under 5 s", 3)]


def _check(corpus: Corpus) -> None:
    split = protocols.split(corpus.utterances, SplitConfig())
    content_hashes, samples = (
        corpora.hash_contents(corpus.utterances),
        hash_audio(corpus.utterances),
    )
    find_leaks(split, corpus.utterances, content_hashes, audio_hashes=samples)


def _specs() -> dict[str, str]:
    return {
        folder: f"{name}={SHARED / folder}"
        for name, folder in FOLDERS.items()
        if (SHARED / folder).is_dir()
    }
