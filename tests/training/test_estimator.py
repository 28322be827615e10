"""An estimator in the place of a network: the same course, results, report, model and answers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from builders.small_systems import QUICK, random_side
from rich.console import Console

from serein import bundle, recipes
from serein.errors import ConfigError
from serein.evaluation.compare import compare
from serein.evaluation.evaluate import Run, evaluate
from serein.evaluation.repeats import evaluate_seeds
from serein.evaluation.score_saved import score_model
from serein.evaluation.train import apply_evaluation, train
from serein.inference.recognizer import Recognizer
from serein.records import Corpus
from serein.report import audit, latex, markdown, tables, terminal
from serein.report import html as page
from serein.results import io
from serein.results.evaluation import Epoch
from serein.system import System
from serein.training.checkpoint import TrainingRun
from serein.training.config import TrainingConfig
from serein.training.dataset import Subset
from serein.training.estimator import fit_estimator

TRAIN = random_side([9, 30, 12, 5, 21, 17, 3, 40, 8, 26, 14, 11, 33, 7] * 3)
VALIDATION = random_side([10, 20, 6, 15] * 3, seed=5)
TEST = random_side([13, 4, 19] * 3, seed=9)
WATCHED = {"validation": VALIDATION, "test": TEST}
SPECTRA = ("model.name=svm", "features.bands=16", "features.window=400", "features.pad=false")
CLASSES = {"emotion": ("anger", "neutral", "sadness"), "gender": ("female", "male")}


def fitted(
    train: Subset = TRAIN, watched: dict[str, Subset] = WATCHED, **options: Any
) -> tuple[System, TrainingRun]:
    system = System(recipes.load("li2019", SPECTRA), CLASSES)
    return system, fit_estimator(system, train, watched, TrainingConfig(batch=5), **options)


def test_a_course_has_one_epoch() -> None:
    told: list[Epoch] = []
    system, course = fitted(progress=told.append)
    assert told == course.epochs
    assert [epoch.epoch for epoch in course.epochs] == [1]
    assert set(course.selected_settings) == {"emotion", "gender"}
    assert course.weights == {}
    for name, side in WATCHED.items():
        for task, names in CLASSES.items():
            p_nk = course.predictions[0][name][task]
            assert p_nk.shape == (len(side.ids), len(names))
            torch.testing.assert_close(p_nk.sum(dim=1), torch.ones(len(side.ids)))
    ua = course.epochs[0].scores["validation"]["emotion"]["ua"]
    assert ua is not None
    assert ua > 0.5  # the mean of the frames tells the emotion
    whole = next(TRAIN.iter_batches(len(TRAIN.ids)))
    with torch.no_grad():
        expected = system.loss(system(whole.inputs), whole.targets)
    assert course.epochs[0].loss == pytest.approx(float(expected), abs=0.05)


def test_it_is_the_same_every_time_and_the_test_side_teaches_nothing() -> None:
    one, first = fitted()
    other, _ = fitted(watched={**WATCHED, "test": random_side([7] * 9, seed=11)})
    a, b = one.state_dict(), other.state_dict()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert fitted()[1].epochs[0].loss == first.epochs[0].loss


def test_what_is_finished_is_read_and_not_fitted_again(tmp_path: Path) -> None:
    state, told = tmp_path / "a.pt", list[Epoch]()
    one, first = fitted(state=state, keep=lambda course: True)
    nothing = Subset(("u000",), TRAIN.frames, {name: x[:1] for name, x in TRAIN.targets.items()})
    other, again = fitted(train=nothing, state=state, progress=told.append)
    assert told == again.epochs == first.epochs
    assert again.selected_settings == first.selected_settings
    assert set(again.weights) == set(one.state_dict())
    for name, x in one.state_dict().items():
        assert torch.equal(x, other.state_dict()[name])
    state.write_bytes(state.read_bytes()[:100])
    assert fitted(state=state)[1].epochs[0].loss == first.epochs[0].loss


# On a corpus


RECIPE = "egemaps-svm"


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def finished(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluate(RECIPE, corpus, runs=tmp_path_factory.mktemp("runs"))


def test_results_hold_the_one_selection_that_there_is(finished: Run) -> None:
    results = finished.results
    assert list(results.selections) == ["validation"] == [results.headline]
    assert results.selections["validation"].startswith("fitted once, C of each task by its own UA")
    assert len(results.folds) == 4
    for fold in results.folds:
        assert fold.epochs == {"validation": 1}
        assert fold.selected_c["emotion"] in [2.0**n for n in range(-16, 1)]
        assert fold.temperatures["emotion"] > 0
    assert all(list(one.selections) == ["validation"] for one in results.predictions)
    assert results.environment["versions"]["opensmile"]
    assert results.environment["versions"]["scikit-learn"]
    assert [note for note in results.warnings if "openSMILE" in note and "no product" in note]
    found = results.scores["validation"]["emotion"].ua
    assert found is not None
    assert found > 1 / 3
    assert results.confident_errors or found == 1
    assert [fold.selected_c for fold in io.load_results(finished.folder).folds] == [
        {task: float(f"{c:.6g}") for task, c in fold.selected_c.items()} for fold in results.folds
    ]


def test_it_is_read_from_disk_when_asked_for_again(finished: Run, corpus: Corpus) -> None:
    again = evaluate(RECIPE, corpus, runs=finished.folder.parent)
    assert not again.is_new
    assert io.to_json(again.results) == io.to_json(finished.results)


def test_without_a_validation_side_there_is_the_one_that_was_fitted(
    corpus: Corpus, tmp_path: Path
) -> None:
    settings = ["protocol.validation=none", "model.default_c=0.125"]
    results = evaluate(RECIPE, corpus, settings=settings, runs=tmp_path).results
    assert list(results.selections) == ["last"]
    assert "no validation speakers" in results.selections["last"]
    assert {fold.selected_c["emotion"] for fold in results.folds} == {0.125}
    assert all(fold.temperatures == {} for fold in results.folds)
    assert apply_evaluation(recipes.load(RECIPE, settings), results).model["c"]["emotion"] == 0.125


def test_every_form_of_the_report_copes(finished: Run) -> None:
    results = finished.results
    html = page.render_html(results)
    with Console(width=200).capture() as told:
        Console(width=200).print(terminal.render_terminal(results))
    forms = [html, markdown.render_markdown(results), latex.render_latex(results), told.get()]
    for form in forms:
        assert "over epochs" not in form
        assert "chosen epochs" not in form
        assert "training seed" not in form
    for form in (forms[0], forms[1]):
        assert "by audEERING" in form
        assert "the C that its machines had" in form
    folds = tables.build_fold_table(results, "emotion")
    assert folds is not None
    named = [column.name for column in folds.columns]
    assert "C" in named
    assert "epoch" not in named
    costs = [f"{fold.selected_c['emotion']:.3g}" for fold in results.folds]
    assert [line.cells[named.index("C")] for line in folds.rows] == costs


def test_it_is_compared_with_a_network_on_the_same_folds(
    finished: Run, corpus: Corpus, tmp_path: Path
) -> None:
    network = evaluate("li2019", corpus, settings=[*QUICK, "tasks.gender=remove"], runs=tmp_path)
    found = compare([finished.folder, network.folder])
    (contest,) = found.paired_tests
    assert contest.selection == "validation"
    assert contest.utterances == len(corpus.utterances)
    assert not [words for words in found.warnings if "epochs alike" in words]


def test_fooling_oneself_is_measured_but_for_what_there_is_not(
    corpus: Corpus, tmp_path: Path
) -> None:
    results, _, _ = evaluate_seeds(RECIPE, corpus, seeds=2, audit=True, runs=tmp_path)
    assert [one.name for one in results.optimistic_variants] == [
        "random-split",
        "test-speaker-normalisation",
    ]
    shown = audit.build_optimistic_table(results)
    assert shown is not None
    assert not [line for line in shown.rows if "test-picked" in line.cells[0]]
    assert results.repeats[0].scores == results.repeats[1].scores  # nothing in it is chance


def test_folds_in_parallel_processes_give_the_same_numbers(
    finished: Run, corpus: Corpus, tmp_path: Path
) -> None:
    other = evaluate(RECIPE, corpus, runs=tmp_path, jobs=2)
    assert other.folder.name == finished.folder.name
    assert other.results.predictions == finished.results.predictions
    assert [fold.selected_c for fold in other.results.folds] == [
        fold.selected_c for fold in finished.results.folds
    ]


def test_a_model_of_the_whole_corpus_takes_the_median_c(
    finished: Run, corpus: Corpus, tmp_path: Path
) -> None:
    file = tmp_path / "svm.safetensors"
    made = train(RECIPE, corpus, file, run=finished.folder)
    wanted = median(fold.selected_c["emotion"] for fold in finished.results.folds)
    assert made.system.recipe.model["c"] == {"emotion": pytest.approx(wanted)}
    assert made.system.recipe.training["epochs"] == 1
    assert "no product" in made.card.licence
    assert made.card.training["versions opensmile"]
    assert made.confidence["emotion"].temperature > 0
    assert not list(tmp_path.glob(".svm*"))
    one = corpus.utterances[0]
    answer = Recognizer(file)(one.path, start=one.start, end=one.end)
    assert answer.tasks["emotion"].probabilities == pytest.approx(
        Recognizer(made)(one.path, start=one.start, end=one.end).tasks["emotion"].probabilities
    )
    assert answer.attention == {}
    judged = score_model(bundle.load(file), corpus)
    place = [prediction.id for prediction in judged.predictions].index(one.id)
    row = judged.predictions[place].selections["model"]["emotion"]
    assert row == pytest.approx(list(answer.tasks["emotion"].probabilities.values()), abs=1e-5)
    assert [note for note in judged.warnings if "openSMILE" in note]


def test_a_run_of_another_system_is_told_of(finished: Run) -> None:
    with pytest.raises(ConfigError, match="with other settings of features"):
        apply_evaluation(recipes.load(RECIPE, ["features.version=v02"]), finished.results)


def test_train_without_a_run_takes_c_as_it_is_said(corpus: Corpus, tmp_path: Path) -> None:
    settings = ["model.default_c=0.5"]
    made = train(RECIPE, corpus, tmp_path / "a.safetensors", settings=settings)
    again = train(RECIPE, corpus, tmp_path / "b.safetensors", settings=["model.c.emotion=0.5"])
    a, b = made.system.state_dict(), again.system.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert made.confidence == {}
    assert made.card.scores == "not evaluated"


def test_by_its_run(root: Path, run: Command) -> None:
    heard = f"synthetic={root}"
    status, told, _ = run("evaluate", RECIPE, "--corpus", heard, "--jobs", 1)
    assert status == 0
    assert told.count("by audEERING's licence") == 1
    status, _, complaints = run("train", RECIPE, "--corpus", heard, "-o", "svm.safetensors")
    assert status == 0
    assert complaints.count("by audEERING's licence") == 1
    status, told, _ = run("card", "svm.safetensors")
    assert status == 0
    assert "no product" in told
    status, told, _ = run("recognize", next(root.rglob("*.wav")), "--model", "svm.safetensors")
    assert status == 0
    assert any(name in told for name in ("anger", "neutral", "sadness"))


def test_a_fold_that_lacks_a_class_still_ends(corpus: Corpus, tmp_path: Path) -> None:
    lonely = {one.speaker for one in corpus.utterances[:1]}
    kept = tuple(
        one
        for one in corpus.utterances
        if one.labels["emotion"] != "anger" or one.speaker in lonely
    )
    results = evaluate(RECIPE, replace(corpus, utterances=kept), runs=tmp_path).results
    assert len(results.predictions) == len(kept)
    recall = results.scores["validation"]["emotion"].recalls["anger"]
    assert recall == 0  # nobody else was ever angry
    assert results.scores["validation"]["emotion"].ua is not None
