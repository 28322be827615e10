"""Tests that the scores of a results file follow from its predictions."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.example_results import example_results

from serein.errors import ConfigError
from serein.metrics.word_error_rate import compute_word_scores
from serein.records import Protocol
from serein.results import io
from serein.results.evaluation import Results
from serein.results.intervals import recompute_intervals
from serein.results.verification import find_fault

COMMITTED = sorted((Path(__file__).parents[2] / "results").rglob("*.json.gz"))
Table = dict[str, Any]


@pytest.fixture(scope="module")
def results() -> Results:
    return example_results(utterances=120, epochs=2)


@pytest.fixture(scope="module")
def with_words(results: Results) -> Results:
    """The results of a system that also recognizes words, in two groups of speakers."""
    texts = ["das ist gut", "Das ist GUT!", "heute", "", "es regnet, heute"]
    said = ["das ist", "das ist gut", "heute nicht", "ja", "es regnet heute"]
    predictions = [
        replace(p, text=texts[n % 5], transcripts=dict.fromkeys(results.selections, said[n % 5]))
        for n, p in enumerate(results.predictions)
    ]
    scores = compute_word_scores(
        [str(p.text) for p in predictions],
        [p.transcripts["last"] for p in predictions],
        [p.speaker for p in predictions],
    )
    return replace(results, predictions=predictions, words={"last": scores})


def test_results_follow_from_their_predictions(results: Results, with_words: Results) -> None:
    assert [find_fault(results), find_fault(with_words)] == ["", ""]


@pytest.mark.parametrize("file", COMMITTED[:: len(COMMITTED) // 6 or 1], ids=lambda file: file.name)
def test_some_committed_results_follow_from_their_predictions(file: Path) -> None:
    assert io.load_results(file).predictions


@pytest.mark.slow
def test_all_committed_results_follow_from_their_predictions() -> None:
    assert COMMITTED
    assert all(io.load_results(file).format == io.FORMAT for file in COMMITTED)


def scores_of(table: Table) -> Table:
    scores: Table = table["scores"]["validation"]["emotion"]
    return scores


def swap_two_predictions(table: Table) -> None:
    """Exchange a correct prediction of anger and one of fear: the answers' counts stay."""

    def is_correct(prediction: Table, column: int) -> bool:
        row = prediction["selections"]["last"]["emotion"]
        is_of = prediction["truth"]["emotion"] == table["classes"]["emotion"][column]
        return is_of and max(row) == row[column]

    first, second = (
        next(p["selections"] for p in table["predictions"] if is_correct(p, column))
        for column in (0, 3)
    )
    first["last"], second["last"] = second["last"], first["last"]


EDITS: dict[str, tuple[Callable[[Table], object], str]] = {
    "ua": (lambda t: scores_of(t).update(ua=0.99), r"ua \(emotion, selection validation\) is 0.99"),
    "ua in the fifth digit": (
        lambda t: scores_of(t).update(ua=scores_of(t)["ua"] + 2e-5),
        r"ua \(emotion, selection validation\)",
    ),
    "no ua": (lambda t: scores_of(t).update(ua=None), "ua .* is null, and its predictions give 0"),
    "wa of gender": (
        lambda t: t["scores"]["last"]["gender"].update(wa=1.0),
        r"wa \(gender, selection last\) is 1, ",
    ),
    "recall": (
        lambda t: scores_of(t)["recalls"].update(anger=1.0),
        r"recall of anger \(emotion, selection validation\)",
    ),
    "number of utterances": (
        lambda t: scores_of(t).update(utterances=121),
        "number of utterances .* is 121, and its predictions give 120",
    ),
    "confusion matrix": (
        lambda t: scores_of(t)["confusion"][0].reverse(),
        "the confusion matrix .* is not that of the predictions",
    ),
    "fold": (
        lambda t: t["folds"][3]["scores"]["last"]["emotion"].update(ua=0.99),
        r"ua \(emotion, selection last, fold 10\) is 0.99",
    ),
    "mean of folds": (
        lambda t: t["fold_means"]["last"]["emotion"].update(wa=0.99),
        r"mean wa of the folds \(emotion, selection last\) is 0.99",
    ),
    "seed": (
        lambda t: t["repeats"][0]["scores"]["last"]["emotion"].update(ua=0.99),
        "ua of seed 0 .* is 0.99",
    ),
    "calibration": (
        lambda t: t["calibration"]["emotion"]["raw"].update(brier=0.001),
        r"brier \(emotion, raw\) is 0.001",
    ),
    "calibrated ece": (
        lambda t: t["calibration"]["gender"]["calibrated"].update(ece=0.0123456789),
        r"ece \(gender, calibrated\) is 0.0123457",
    ),
    "word error rate": (
        lambda t: t["words"]["last"].update(wer=0.01),
        r"wer \(words, selection last\) is 0.01",
    ),
    "transcript": (
        lambda t: t["predictions"][0]["transcripts"].update(last="das ist gut"),
        r"deletions \(words, selection last\)",
    ),
    "a prediction less": (
        lambda t: t["predictions"].pop(),
        "fold 16 tests 12 utterances, and its 11 predictions differ",
    ),
    "a prediction twice": (
        lambda t: t["predictions"].append(t["predictions"][0]),
        "utterance 03a0000 is predicted twice in fold 03",
    ),
    "another fold": (
        lambda t: t["predictions"][0].update(fold="08"),
        "fold 03 tests 12 utterances, and its 11 predictions differ",
    ),
    "two predictions exchanged": (swap_two_predictions, "is not that of the predictions"),
    "label": (
        lambda t: t["predictions"][0]["truth"].update(emotion="joy"),
        "cannot be scored .ValueError: unknown labels 'joy'",
    ),
    "a task less": (
        lambda t: t["classes"].pop("gender"),
        "there are scores of task gender, which has no list of classes",
    ),
    "a class less": (
        lambda t: t["classes"]["emotion"].pop(),
        "cannot be scored|confusion matrix",
    ),
    "split": (
        lambda t: t["protocol"]["folds"][0]["train"].pop(),
        "the hash of the protocol is [0-9a-f]{16}, and its folds give",
    ),
}


@pytest.mark.parametrize(("edit", "message"), EDITS.values(), ids=EDITS)
def test_edited_results_are_refused_in_one_line(
    with_words: Results, tmp_path: Path, edit: Callable[[Table], object], message: str
) -> None:
    table = io.to_builtin(with_words)
    edit(table)
    (tmp_path / "results.json").write_text(json.dumps(table))
    with pytest.raises(ConfigError, match=message) as caught:
        io.load_results(tmp_path)
    text = str(caught.value)
    assert "was changed after it was written" in text
    assert "\n" not in text
    assert text.endswith(f"or run its command again: {with_words.command}")
    assert io.load_record(Results, tmp_path).name == with_words.name


def test_rounded_probabilities_may_have_been_scored_before_they_were_equal(
    results: Results,
) -> None:
    """A tie in six digits may have been broken by the digits that are not in the file."""
    number, rows = next(
        (n, p.selections["last"])
        for n, p in enumerate(results.predictions)
        if p.predicted_label("last", "emotion", results.classes["emotion"]) == "sadness"
        and p.truth["emotion"] == "sadness"
    )
    tied = [1e-6] * 7
    tied[0] = tied[6] = 0.4
    predictions = list(results.predictions)
    changed = {**predictions[number].selections, "last": {**rows, "emotion": tied}}
    predictions[number] = replace(predictions[number], selections=changed)
    assert find_fault(recompute_intervals(replace(results, predictions=predictions))) == ""
    tied[0] = 0.400001
    assert "the confusion matrix" in find_fault(replace(results, predictions=predictions))


def test_all_digits_are_kept(results: Results, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).dirichlet(np.ones(7), size=len(results.predictions)).tolist()
    predictions = [
        replace(p, selections={**p.selections, "best": {**p.selections["best"], "emotion": row}})
        for p, row in zip(results.predictions, rows, strict=True)
    ]
    io.save_record(replace(results, predictions=predictions), tmp_path / "some.json.gz")
    loaded = io.load_record(Results, tmp_path / "some.json.gz")
    assert [p.selections["best"]["emotion"] for p in loaded.predictions] == rows


def test_hashes_of_earlier_formats_become_those_of_the_subsets(
    results: Results, tmp_path: Path
) -> None:
    table = {**io.to_builtin(results), "format": 3}
    wanted = table["protocol"]["hash"]
    table["protocol"]["hash"] = Protocol.from_table(table["protocol"]).listing_hash
    assert table["protocol"]["hash"] != wanted
    file = tmp_path / "old.json.gz"
    file.write_bytes(gzip.compress(json.dumps(table).encode()))
    assert io.load_results(file).protocol["hash"] == wanted
    table["protocol"]["hash"] = "0" * 16
    file.write_bytes(gzip.compress(json.dumps(table).encode()))
    with pytest.raises(ConfigError, match="the hash of the protocol is 0000000000000000"):
        io.load_results(file)
