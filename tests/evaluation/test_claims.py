"""Tests of the judgement of a paper's statements by runs of ours."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from builders.example_results import CLASSES, example_results

from serein import published
from serein.evaluation.claims import ClaimRuns, judge_claims
from serein.evaluation.compare import ComparedRun
from serein.published import Paper
from serein.results.evaluation import Prediction, Results
from serein.results.reproduction import HELD, NOT_HELD, UNDECIDED, JudgedClaim

HEAD: dict[str, Any] = {"title": "On", "authors": ["Noone"], "year": 2019, "venue": "Nowhere"}


def build_paper(*claims: dict[str, Any]) -> Paper:
    """A paper with systems A and B of its own and cited work C."""
    rows = [
        {"system": "A", "recipe": "li2019", "scores": {"emotion": {"wa": 60, "ua": 60}}},
        {"system": "B", "recipe": "li2019-single-task", "scores": {"emotion": {"ua": 50}}},
        {"system": "C", "scores": {"emotion": {"wa": 40, "ua": 40}}},
        {"system": "D", "scores": {"emotion": {"ua": 99}}},
    ]
    table = {"table": "Table 1", "corpus": "ours", "protocol": "ours", "rows": rows}
    common = {"text": "A is better.", "section": "5", "table": "Table 1", "first": "A"}
    parts = [{**common, "second": "B", "measures": ["emotion.ua"], **claim} for claim in claims]
    return published.from_table("noone2019", {**HEAD, "tables": [table], "claims": parts})


@pytest.fixture(scope="module")
def weak() -> Results:
    return example_results(utterances=300, epochs=1)


@pytest.fixture(scope="module")
def strong(weak: Results) -> Results:
    """The same run with two of three predictions correct, and transcripts without errors."""
    return replace(weak, predictions=correct(weak.predictions, 3), name="strong")


def correct(predictions: Sequence[Prediction], every: int) -> list[Prediction]:
    """Correct all emotions except those of every n-th prediction."""
    return [p if index % every == 0 else correct_one(p) for index, p in enumerate(predictions)]


def correct_one(prediction: Prediction) -> Prediction:
    row = [float(name == prediction.truth["emotion"]) for name in CLASSES["emotion"]]
    selections = {name: {**tasks, "emotion": row} for name, tasks in prediction.selections.items()}
    return replace(prediction, selections=selections)


def transcribe(results: Results, words: str) -> Results:
    """Add a reference of two words, and a transcript."""
    predictions = [
        replace(p, text="So, yes!", transcripts=dict.fromkeys(p.selections, words))
        for p in results.predictions
    ]
    return replace(results, predictions=predictions)


def judge(
    ours: Results | None, theirs: Results | None, has_stand_ins: bool = False, **claim: Any
) -> JudgedClaim:
    """Judge one statement about A and B; None is a system without a run."""
    runs = {
        ("Table 1", name): ComparedRun(name, (results,))
        for name, results in (("A", ours), ("B", theirs))
        if results is not None
    }
    paper = build_paper(claim)
    (judged,) = judge_claims(paper, paper.claims, ClaimRuns("paper", runs, has_stand_ins))
    return judged


def test_claim_is_judged_by_the_paired_test(weak: Results, strong: Results) -> None:
    held = judge(strong, weak)
    assert (held.verdict, held.printed, held.reason) == (HELD, (60, 50), "")
    assert held.own[0] is not None
    assert held.own[1] is not None
    assert held.difference == pytest.approx(held.own[0] - held.own[1])
    assert held.interval is not None
    assert held.interval[0] > 0
    assert held.p == held.adjusted == pytest.approx(2 / 2**10)
    assert "whole speakers (10" in held.unit
    opposite = judge(weak, strong)
    assert (opposite.verdict, opposite.p) == (NOT_HELD, held.p)
    equal = judge(weak, weak)
    assert (equal.verdict, equal.p, equal.difference) == (UNDECIDED, 1, 0)
    assert equal.reason == "the difference may be chance"


@pytest.mark.parametrize("measure", ["emotion.wa", "emotion.f1", "emotion.recall.anger"])
def test_measures_of_a_claim(weak: Results, strong: Results, measure: str) -> None:
    judged = judge(strong, weak, measures=[measure])
    assert (judged.verdict, judged.measure) == (HELD, measure)
    assert judged.printed == ((60, None) if measure == "emotion.wa" else (None, None))


def test_lower_word_error_rate_is_better(weak: Results) -> None:
    right, wrong = transcribe(weak, "so yes"), transcribe(weak, "no yes")
    held = judge(right, wrong, measures=["transcript.wer"])
    assert (held.verdict, held.own, held.difference) == (HELD, (0, 0.5), -0.5)
    assert judge(wrong, right, measures=["transcript.wer"]).verdict == NOT_HELD
    lacking = judge(right, weak, measures=["transcript.wer"])
    assert (lacking.verdict, lacking.reason) == (UNDECIDED, "A and B have no transcripts in common")


def test_p_is_corrected_over_all_claims(weak: Results, strong: Results) -> None:
    paper = build_paper({"measures": [f"emotion.recall.{name}" for name in CLASSES["emotion"]]})
    runs = {
        ("Table 1", "A"): ComparedRun("A", (strong,)),
        ("Table 1", "B"): ComparedRun("B", (weak,)),
    }
    judged = judge_claims(paper, paper.claims, ClaimRuns("paper", runs, has_stand_ins=False))
    assert len(judged) == 7
    assert all((one.adjusted or 0) >= (one.p or 0) for one in judged)
    assert max(one.adjusted or 0 for one in judged) >= 7 * min(one.p or 0 for one in judged)


def test_few_speakers_cannot_decide(weak: Results, strong: Results) -> None:
    def keep(results: Results) -> Results:
        kept = [p for p in results.predictions if p.speaker in ("03", "08", "09", "10")]
        return replace(results, predictions=kept)

    judged = judge(keep(strong), keep(weak))
    assert (judged.verdict, judged.p) == (UNDECIDED, 0.125)
    assert judged.reason == "4 speakers give no p below 0.125"


def test_cited_work_is_compared_by_the_interval(strong: Results) -> None:
    held = judge(strong, None, second="C")
    assert (held.verdict, held.p, held.own[1]) == (HELD, None, None)
    assert held.own[0] is not None
    assert held.difference == pytest.approx(held.own[0] - 0.4)
    assert judge(strong, None, second="D").verdict == NOT_HELD
    elsewhere = judge(strong, None, second="C", has_stand_ins=True)
    assert (elsewhere.verdict, elsewhere.difference) == (UNDECIDED, None)
    assert elsewhere.reason == "the printed figure is of another corpus"
    assert elsewhere.own == held.own
    unprinted = judge(strong, None, second="D", measures=["emotion.wa"])
    assert unprinted.reason == "no printed figure of D"


def test_equality_is_judged_by_the_margin(weak: Results, strong: Results) -> None:
    assert judge(weak, weak, margin=2).verdict == HELD
    assert judge(strong, weak, margin=2).verdict == NOT_HELD
    wide = judge(strong, weak, margin=100)
    assert (wide.verdict, wide.reason) == (HELD, "the interval lies within 100 points")
    almost = replace(weak, predictions=correct(weak.predictions[:20], 2) + weak.predictions[20:])
    assert judge(almost, weak, margin=1).verdict == UNDECIDED


def test_claims_without_runs_say_what_is_missing(weak: Results) -> None:
    assert judge(None, weak).reason == "no run of A"
    assert judge(weak, None).reason == "no run of B"
    missing = judge(weak, weak, measures=["emotion.recall.awe"])
    assert (missing.verdict, missing.reason.split(";")[0]) == (UNDECIDED, "no class awe here")
    assert "has no classes of arousal" in judge(weak, weak, measures=["arousal.ua"]).reason
    fewer = replace(weak, classes={**weak.classes, "emotion": CLASSES["emotion"][:2]})
    assert judge(weak, fewer).reason == "A and B have different classes"


def test_several_seeds_are_judged_together(weak: Results, strong: Results) -> None:
    paper = build_paper({})
    runs = {
        ("Table 1", "A"): ComparedRun("A", (strong, weak)),
        ("Table 1", "B"): ComparedRun("B", (weak, weak, weak)),
    }
    (judged,) = judge_claims(paper, paper.claims, ClaimRuns("paper", runs, has_stand_ins=False))
    single = judge(strong, weak)
    assert judged.own[0] is not None
    assert single.own[0] is not None
    assert single.own[1] is not None
    assert judged.own[0] == pytest.approx((single.own[0] + single.own[1]) / 2)
