"""Tests of evaluations with several seeds, and of optimistic variants."""

from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from builders.small_systems import QUICK, small_recipe

from serein import config, protocols
from serein.errors import ConfigError, ProtocolError
from serein.evaluation.compare import compare
from serein.evaluation.evaluate import Run
from serein.evaluation.plan import build_plan
from serein.evaluation.repeats import (
    TrainingAmount,
    combine_seeds,
    evaluate_seeds,
    measure_training,
    optimistic_variants,
)
from serein.records import Corpus
from serein.report import audit, tables
from serein.results import io

ONCE = (*QUICK, "training.epochs=1")


def evaluate_two_seeds(corpus: Corpus, runs: Path, *settings: str, **options: Any) -> Run:
    return evaluate_seeds("li2019", corpus, settings=[*ONCE, *settings], runs=runs, **options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(corpus: Corpus, runs: Path) -> Run:
    return evaluate_two_seeds(corpus, runs, seed=3, seeds=2, audit=True)


def test_every_seed_has_a_run_folder(run: Run, runs: Path) -> None:
    assert [one.seed for one in run.results.repeats] == [3, 4]
    for one in run.results.repeats:
        alone = io.load_results(runs / one.run)
        assert alone.environment["seed"] == one.seed
        assert alone.repeats == []
        for selection, tasks in alone.scores.items():
            for task, scores in tasks.items():
                wanted = {"wa": scores.wa, "ua": scores.ua}
                assert one.scores[selection][task] == pytest.approx(wanted, abs=1e-6)


def test_first_seed_is_quoted_with_scores_of_all_seeds(run: Run, runs: Path) -> None:
    first = io.load_results(runs / run.results.repeats[0].run)
    assert io.to_builtin(run.results.scores) == io.to_builtin(first.scores)
    assert io.to_builtin(run.results.predictions) == io.to_builtin(first.predictions)
    assert "-seeds3-4-" in run.results.name
    kept = io.load_results(run.folder)
    assert io.to_builtin(kept.repeats) == io.to_builtin(run.results.repeats)
    scores = [one.scores["validation"]["emotion"]["wa"] or 0 for one in run.results.repeats]
    assert f"WA {100 * fmean(scores):.1f} %" in str(tables.describe_seeds(run.results, "emotion"))


def test_optimistic_variants_are_evaluations(run: Run, runs: Path) -> None:
    found = {one.name: io.load_results(runs / one.run) for one in run.results.optimistic_variants}
    assert list(found) == ["random-split", "test-speaker-normalisation"]
    mixed, standardised = found.values()
    assert mixed.protocol["name"] == "random"
    assert (len(run.results.protocol["folds"]), len(mixed.protocol["folds"])) == (4, 5)
    assert "speaker-dependent" in mixed.protocol["caution"]
    assert standardised.recipe["normalise"]["statistics"] == "speaker"
    assert standardised.protocol["hash"] == run.results.protocol["hash"]
    assert {one.environment["seed"] for one in found.values()} == {3}
    for one in run.results.optimistic_variants:
        quoted = found[one.name].scores[found[one.name].headline]["emotion"]
        wanted = {"wa": quoted.wa, "ua": quoted.ua}
        assert one.scores["emotion"] == pytest.approx(wanted, abs=1e-6)
    table = audit.build_optimistic_table(run.results)
    assert table is not None
    assert [row.cells[0] for row in table.rows] == [
        "as quoted",
        "test-selected epochs",
        "random split",
        "test speaker normalisation",
    ]


def test_finished_seeds_are_read_from_disk(run: Run, corpus: Corpus, runs: Path) -> None:
    again = evaluate_two_seeds(corpus, runs, seed=3, seeds=2, audit=True)
    assert not again.is_new
    assert again.folder == run.folder
    assert io.to_builtin(again.results.scores) == io.to_builtin(run.results.scores)


def test_one_seed_without_audit_is_a_plain_evaluation(run: Run, corpus: Corpus, runs: Path) -> None:
    alone = evaluate_two_seeds(corpus, runs, seed=3)
    assert alone.results.name == run.results.repeats[0].run
    assert alone.results.repeats == []
    assert alone.results.optimistic_variants == []


def test_runs_of_several_seeds_are_compared(run: Run, corpus: Corpus, runs: Path) -> None:
    other = evaluate_two_seeds(corpus, runs, "model.attention=false", seed=3, seeds=2)
    found = compare([run.folder, other.folder])
    assert [one["seeds"] for one in found.runs] == [[3, 4], [3, 4]]
    assert found.paired_tests[0].utterances == len(corpus.utterances)


def test_random_split_keeps_filters(corpus: Corpus, tmp_path: Path) -> None:
    settings = ('protocol.only.emotion=["anger","sadness"]', "protocol.allow=[]")
    done = evaluate_two_seeds(corpus, tmp_path, *settings, audit=True)
    mixed = next(one for one in done.results.optimistic_variants if one.name == "random-split")
    tested = io.load_results(tmp_path / mixed.run).predictions
    assert {one.truth["emotion"] for one in tested} == {"anger", "sadness"}


def test_zero_seeds_are_an_error(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seeds is 0; expected 1 or more"):
        evaluate_two_seeds(corpus, tmp_path, seeds=0)


def test_audit_of_a_fixed_split_has_five_random_folds(corpus: Corpus) -> None:
    table = {"name": "by-label", "by": "speaker", "test": ["s01"], "validation": ["s02"]}
    recipe = replace(small_recipe(*ONCE), protocol={**table, "only": {"gender": "female"}})
    amount = TrainingAmount(folds=1, trained=7, total=12)
    split = optimistic_variants(recipe, amount)["random-split"].protocol
    assert (split["name"], split["folds"], split["validation"]) == ("random", 5, 1)
    assert split["only"] == {"gender": "female"}
    assert not {"by", "test", "train"} & set(split)
    protocols.split(
        corpus.utterances, config.build_config(protocols.SplitConfig, split, "protocol")
    )


def test_impossible_audit_is_an_error_before_training(corpus: Corpus, tmp_path: Path) -> None:
    said = zip(("s01", "s02", "s03", "s04"), ("anger", "neutral", "anger", "neutral"), strict=True)
    pairs = set(said)
    every = {(one.speaker, one.labels["emotion"]): one for one in corpus.utterances}
    few = replace(corpus, utterances=tuple(one for key, one in every.items() if key in pairs))
    settings = [*ONCE, "protocol.validation=none"]
    with pytest.raises(ProtocolError, match="need as many utterances"):
        evaluate_seeds("li2019", few, settings=settings, runs=tmp_path, audit=True)
    assert not list(tmp_path.rglob("*.pt"))


def test_names_of_combined_runs_are_quoted(run: Run) -> None:
    strange = replace(run.results, corpus={**run.results.corpus, "name": "a/b"})
    assert "/" not in combine_seeds([strange, strange]).name


@pytest.mark.parametrize(
    ("amount", "validation", "expected"),
    [
        # EMO-DB by speaker: ten folds with eight parts of ten, as before
        (TrainingAmount(10, 428.0, 535), 1, {"folds": 10}),
        (TrainingAmount(10, 481.5, 535), "none", {"folds": 10}),
        # five folds of speakers, of which four of twenty-four validate: six folds, cut to size
        (TrainingAmount(5, 900.0, 1440), 4, {"folds": 6, "train_size": 900}),
        # one fold that trains on nine tenths needs twenty random ones
        (TrainingAmount(1, 900.0, 1000), 1, {"folds": 20}),
        (TrainingAmount(1, 100.0, 1000), "none", {"folds": 5, "train_size": 100}),
        # more folds than utterances do not exist
        (TrainingAmount(4, 22.0, 24), 1, {"folds": 24}),
    ],
)
def test_the_random_split_trains_on_as_much(
    corpus: Corpus, amount: TrainingAmount, validation: int | str, expected: dict[str, int]
) -> None:
    recipe = replace(small_recipe(*ONCE), protocol={"name": "x", "validation": validation})
    split = optimistic_variants(recipe, amount)["random-split"].protocol
    assert {key: split[key] for key in ("folds", "train_size") if key in split} == expected
    kept = replace(recipe, protocol={**recipe.protocol, "train_size": 5})
    assert optimistic_variants(kept, amount)["random-split"].protocol["train_size"] == 5


def test_training_is_measured_on_the_main_corpus(corpus: Corpus, tmp_path: Path) -> None:
    plan = build_plan(small_recipe(*ONCE), corpus, seed=0, device="cpu", runs=tmp_path)
    assert measure_training(plan) == TrainingAmount(folds=4, trained=12.0, total=24)
