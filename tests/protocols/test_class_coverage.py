"""Classes that a subset of a fold lacks."""

from dataclasses import replace
from pathlib import Path

import pytest
from builders.protocols import UTTERANCES, check_leakage, list_verdicts, make_protocol
from builders.small_systems import small_recipe

from serein.errors import ProtocolError
from serein.evaluation.plan import build_plan
from serein.protocols import raise_on_leaks
from serein.records import Corpus, Protocol

MOODS = {"a-0": "joy", "a-1": "fear", "b-0": "joy", "b-1": "fear", "c-0": "joy", "c-1": "fear"}


def test_untrained_and_untested_classes_are_counted() -> None:
    target = {"a-0": "joy", "a-1": "fear", "b-0": "rage", "b-1": "joy", "c-0": None}
    found = check_leakage(
        make_protocol("a0 a1", "", "b0 b1 c0"), UTTERANCES, targets={"mood": target}
    )
    assert (found["classes"].verdict, found["classes"].count) == ("warning", 2)
    assert found["classes"].examples == ("mood rage in fold one", "mood fear")
    assert (
        "that the training subset of the fold lacks: mood rage in fold one"
        in found["classes"].description
    )
    labelled = [replace(one, labels={"emotion": str(target.get(one.id))}) for one in UTTERANCES]
    assert check_leakage(make_protocol("a0 a1", "", "b0"), labelled)["classes"].count == 3


def test_unvalidated_classes_are_a_warning() -> None:
    one = make_protocol("a0 a1", "c0", "b0 b1").folds[0]
    two = replace(one, name="two", train=("b-0", "b-1"), validation=("c-0", "c-1"), test=("a-0",))
    protocol = Protocol(name="by hand", validation="by hand", folds=(one, two))
    other = dict.fromkeys(MOODS, "female") | {"a-0": "male", "b-0": "male"}
    found = check_leakage(protocol, UTTERANCES, targets={"mood": MOODS, "gender": other})["classes"]
    assert (found.verdict, found.count) == ("warning", 1)
    assert (
        found.description
        == "validation lacks 1 class in fold one: the other classes select the epoch"
    )
    assert found.examples == ("fear not validated in fold one",)
    many = tuple(replace(one, name=f"{number}") for number in range(7))
    found = check_leakage(replace(protocol, folds=many), UTTERANCES, targets={"mood": MOODS})[
        "classes"
    ]
    assert (
        "1 class in fold 3, 1 class in fold 4 and in 2 more folds: the other" in found.description
    )
    assert (found.count, len(found.examples)) == (7, 5)


def test_folds_without_validation_have_no_unvalidated_classes() -> None:
    found = check_leakage(make_protocol("a0 a1", "", "b0 b1"), UTTERANCES, targets={"mood": MOODS})
    assert list_verdicts(found) == {}


def test_validation_subset_without_labels_is_an_error() -> None:
    target = {**MOODS, "c-0": None, "c-1": None}
    found = check_leakage(
        make_protocol("a0 a1", "c0 c1", "b0 b1"),
        UTTERANCES,
        targets={"mood": target},
        allow="speaker",
    )
    assert list_verdicts(found) == {"validation": "error"}
    message = (
        r"the split cannot be used\. validation: the validation subset of 1 fold has no mood label"
    )
    with pytest.raises(ProtocolError, match=message + r'.*higher, or to "none", .* fold one\.$'):
        raise_on_leaks(found.values())
    second = {"gender": MOODS, "mood": target}
    assert check_leakage(make_protocol("a0 a1", "c0 c1", "b0"), UTTERANCES, targets=second)[
        "validation"
    ].verdict == ("clean")


@pytest.mark.parametrize(
    ("target", "verdict"),
    [
        ({**MOODS, "a-0": None, "a-1": None}, "error"),
        ({**MOODS, "a-0": "rage", "a-1": "rage", "c-0": "rage"}, "error"),
        ({**MOODS, "a-0": None, "a-1": None, "b-0": None, "b-1": None}, "error"),
        ({**MOODS, "a-0": "rage", "c-0": "rage"}, "warning"),
        ({**MOODS, "b-0": None, "b-1": None}, "warning"),
    ],
)
def test_fold_that_trains_no_tested_class_is_an_error(
    target: dict[str, str | None], verdict: str
) -> None:
    found = check_leakage(
        make_protocol("a0 a1", "c0 c1", "b0 b1"), UTTERANCES, targets={"mood": target}
    )
    assert found["classes"].verdict == verdict
    if verdict == "error":
        message = (
            "cannot be used.*classes: 1 fold whose training subset has none of the tested classes"
        )
        with pytest.raises(ProtocolError, match=message):
            raise_on_leaks(found.values())


def test_corpus_without_labels_gives_no_finding() -> None:
    assert list_verdicts(check_leakage(make_protocol("a0", "c0", "b0"), UTTERANCES)) == {}


def test_an_evaluation_without_validation_labels_does_not_start(
    corpus: Corpus, tmp_path: Path
) -> None:
    bare = tuple(
        replace(one, labels={}) if one.speaker == "s02" else one for one in corpus.utterances
    )
    unlabelled = replace(corpus, utterances=bare)
    keeping = "protocol.unlabelled=keep"
    with pytest.raises(ProtocolError, match="validation subset of 1 fold has no emotion label"):
        build_plan(small_recipe(keeping), unlabelled, seed=0, device="cpu", runs=tmp_path)
    for settings, folds in ((("protocol.validation=none", keeping), 4), ((), 3)):
        plan = build_plan(small_recipe(*settings), unlabelled, seed=0, device="cpu", runs=tmp_path)
        assert {one.kind: one.verdict for one in plan.leakage}["validation"] == "clean"
        assert len(plan.protocol.folds) == folds
