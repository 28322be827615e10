"""Tests of classes that the training subset of a fold lacks: they are scored as missed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from builders.small_systems import QUICK, small_recipe

from serein.evaluation.evaluate import Run, evaluate
from serein.evaluation.plan import build_plan
from serein.records import Corpus, Utterance
from serein.report import summary, terminal
from serein.results import io
from serein.training.checkpoint import compute_scores

ONE_FOLD = [
    *QUICK,
    "training.epochs=2",
    "protocol.name=by-label",
    "protocol.by=speaker",
    "protocol.train=s01,s02",
    "protocol.validation=s03",
    "protocol.test=s04",
]


def relabel(corpus: Corpus, change: Callable[[Utterance], str | None]) -> Corpus:
    """Give some utterances another emotion."""
    utterances = [
        u if (label := change(u)) is None else replace(u, labels={**u.labels, "emotion": label})
        for u in corpus.utterances
    ]
    return replace(corpus, utterances=tuple(utterances))


def bore_tested(utterance: Utterance) -> str | None:
    is_bored = utterance.speaker == "s04" and utterance.labels["emotion"] == "anger"
    return "boredom" if is_bored else None


@pytest.fixture(scope="module")
def runs(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """One fold, and the same one with a class that is only tested."""
    folder = tmp_path_factory.mktemp("runs")
    corpora = corpus, relabel(corpus, bore_tested)
    first, second = (evaluate("li2019", one, settings=ONE_FOLD, runs=folder) for one in corpora)
    return first, second


def test_a_class_that_is_only_tested_is_missed(runs: tuple[Run, Run]) -> None:
    results = runs[1].results
    assert results.classes["emotion"] == ["anger", "neutral", "sadness", "boredom"]
    for selection in results.selections:
        scores = results.scores[selection]["emotion"]
        assert scores.utterances == 6
        assert scores.recalls["boredom"] == 0.0
        assert scores.recalls["anger"] is None
        assert sum(scores.confusion[3]) == 2
        assert [row[3] for row in scores.confusion] == [0, 0, 0, 0]
        assert scores.ua == pytest.approx(
            ((scores.recalls["neutral"] or 0) + (scores.recalls["sadness"] or 0)) / 3
        )
    rows = [p.selections["last"]["emotion"] for p in results.predictions]
    assert {row[3] for row in rows} == {0.0}
    assert io.load_results(runs[1].folder).scores == results.scores


def test_it_is_said_before_every_score(runs: tuple[Run, Run], corpus: Corpus) -> None:
    text = "scored as missed, as the training subset of the fold lacks it: emotion boredom (2)"
    assert text in summary.get_caution(runs[1].results)
    assert "scored as missed" not in summary.get_caution(runs[0].results)
    assert terminal.render_terminal(runs[1].results)


def test_test_labels_do_not_change_the_system(runs: tuple[Run, Run]) -> None:
    """Every prediction, epoch and validation score is the same, bit by bit."""
    first, second = (run.results for run in runs)
    assert first.folds[0].epochs["validation"] == second.folds[0].epochs["validation"]
    for one, other in zip(first.predictions, second.predictions, strict=True):
        assert one.id == other.id
        for selection in ("validation", "last"):
            rows = one.selections[selection], other.selections[selection]
            assert rows[0]["emotion"] == rows[1]["emotion"][:3]
            assert rows[0]["gender"] == rows[1]["gender"]
    for one_epoch, other_epoch in zip(first.folds[0].history, second.folds[0].history, strict=True):
        assert one_epoch.loss == other_epoch.loss
        assert one_epoch.scores["validation"] == other_epoch.scores["validation"]


def test_each_fold_has_the_classes_of_its_training_subset(corpus: Corpus, tmp_path: Path) -> None:
    """A class of one speaker is trained in the folds that do not test or validate that speaker."""
    plan = build_plan(
        small_recipe(), relabel(corpus, bore_tested), seed=0, device="cpu", runs=tmp_path
    )
    assert plan.classes["emotion"] == ("anger", "boredom", "neutral", "sadness")
    trained = {
        fold.name: "boredom" in plan.find_trained_classes(fold)["emotion"]
        for fold in plan.protocol.folds
    }
    expected = {
        fold.name: any(id_.startswith("s04") for id_ in fold.train) for fold in plan.protocol.folds
    }
    assert trained == expected
    assert trained["s04"] is False
    assert sum(trained.values()) == 2


def test_one_trained_class_keeps_all(corpus: Corpus, tmp_path: Path) -> None:
    """A task of which the training subset has one class has the classes of the corpus."""
    women = [u.speaker for u in corpus.utterances if u.gender == "female"]
    settings = [
        "protocol.name=by-label",
        "protocol.by=gender",
        "protocol.test=male",
        "protocol.validation=none",
    ]
    assert women
    plan = build_plan(small_recipe(*settings), corpus, seed=0, device="cpu", runs=tmp_path)
    classes = plan.find_trained_classes(plan.protocol.folds[0])
    assert classes["gender"] == plan.classes["gender"] == ("female", "male")


def test_targets_beyond_the_classes_are_wrong() -> None:
    p_nk = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    assert compute_scores(p_nk, torch.tensor([0, 1, 2])) == {
        "wa": pytest.approx(2 / 3),
        "ua": pytest.approx(2 / 3),
    }
    assert compute_scores(p_nk, torch.tensor([-1, -1, -1])) == {"wa": None, "ua": None}
