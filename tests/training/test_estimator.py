"""Estimators: history, results, report, saved model and predictions, as of networks."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from builders.small_systems import QUICK, random_subset
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

TRAIN = random_subset([9, 30, 12, 5, 21, 17, 3, 40, 8, 26, 14, 11, 33, 7] * 3)
VALIDATION = random_subset([10, 20, 6, 15] * 3, seed=5)
TEST = random_subset([13, 4, 19] * 3, seed=9)
EVAL_SUBSETS = {"validation": VALIDATION, "test": TEST}
SPECTRA = ("model.name=svm", "features.bands=16", "features.window=400", "features.pad=false")
CLASSES = {"emotion": ("anger", "neutral", "sadness"), "gender": ("female", "male")}


def fit_svm(
    train: Subset = TRAIN, eval_subsets: dict[str, Subset] = EVAL_SUBSETS, **options: Any
) -> tuple[System, TrainingRun]:
    system = System(recipes.load("li2019", SPECTRA), CLASSES)
    return system, fit_estimator(system, train, eval_subsets, TrainingConfig(batch=5), **options)


def test_history_of_an_estimator_has_one_epoch() -> None:
    seen: list[Epoch] = []
    system, history = fit_svm(on_epoch_end=seen.append)
    assert seen == history.epochs
    assert [epoch.epoch for epoch in history.epochs] == [1]
    assert set(history.selected_settings) == {"emotion", "gender"}
    assert history.weights == {}
    for name, subset in EVAL_SUBSETS.items():
        for task, names in CLASSES.items():
            p_nk = history.predictions[0][name][task]
            assert p_nk.shape == (len(subset.ids), len(names))
            torch.testing.assert_close(p_nk.sum(dim=1), torch.ones(len(subset.ids)))
    ua = history.epochs[0].scores["validation"]["emotion"]["ua"]
    assert ua is not None
    assert ua > 0.5  # the mean of the frames depends on the emotion
    whole = next(TRAIN.iter_batches(len(TRAIN.ids)))
    with torch.no_grad():
        expected = system.loss(system(whole.inputs), whole.targets)
    assert history.epochs[0].loss == pytest.approx(float(expected), abs=0.05)


def test_fit_estimator_is_deterministic_and_independent_of_the_test_subset() -> None:
    one, first = fit_svm()
    other, _ = fit_svm(eval_subsets={**EVAL_SUBSETS, "test": random_subset([7] * 9, seed=11)})
    a, b = one.state_dict(), other.state_dict()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert fit_svm()[1].epochs[0].loss == first.epochs[0].loss


def test_fit_estimator_reads_its_checkpoint(tmp_path: Path) -> None:
    checkpoint, seen = tmp_path / "a.pt", list[Epoch]()
    one, first = fit_svm(checkpoint=checkpoint, keep_weights=lambda run: True)
    one_utterance = Subset(
        ("u000",), TRAIN.frames, {name: x[:1] for name, x in TRAIN.targets.items()}
    )
    other, again = fit_svm(train=one_utterance, checkpoint=checkpoint, on_epoch_end=seen.append)
    assert seen == again.epochs == first.epochs
    assert again.selected_settings == first.selected_settings
    assert set(again.weights) == set(one.state_dict())
    for name, x in one.state_dict().items():
        assert torch.equal(x, other.state_dict()[name])
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    assert fit_svm(checkpoint=checkpoint)[1].epochs[0].loss == first.epochs[0].loss


# On a corpus


RECIPE = "egemaps-svm"


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def finished(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluate(RECIPE, corpus, runs=tmp_path_factory.mktemp("runs"))


def test_results_have_one_selection(finished: Run) -> None:
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
    loaded = io.load_results(finished.folder)
    assert [fold.selected_c for fold in loaded.folds] == [f.selected_c for f in results.folds]


def test_a_finished_evaluation_is_read_from_disk(finished: Run, corpus: Corpus) -> None:
    again = evaluate(RECIPE, corpus, runs=finished.folder.parent)
    assert not again.is_new
    assert io.to_json(again.results) == io.to_json(finished.results)


def test_without_validation_subset_the_default_c_is_used(corpus: Corpus, tmp_path: Path) -> None:
    settings = ["protocol.validation=none", "model.default_c=0.125"]
    results = evaluate(RECIPE, corpus, settings=settings, runs=tmp_path).results
    assert list(results.selections) == ["last"]
    assert "no validation speakers" in results.selections["last"]
    assert {fold.selected_c["emotion"] for fold in results.folds} == {0.125}
    assert all(fold.temperatures == {} for fold in results.folds)
    assert apply_evaluation(recipes.load(RECIPE, settings), results).model["c"]["emotion"] == 0.125


def test_every_report_format_renders_an_estimator(finished: Run) -> None:
    results = finished.results
    html = page.render_html(results)
    with Console(width=200).capture() as captured:
        Console(width=200).print(terminal.render_terminal(results))
    forms = [html, markdown.render_markdown(results), latex.render_latex(results), captured.get()]
    for form in forms:
        assert "over epochs" not in form
        assert "chosen epochs" not in form
        assert "training seed" not in form
    for form in (forms[0], forms[1]):
        assert "by audEERING" in form
        assert "the C of its estimator" in form
    folds = tables.build_fold_table(results, "emotion")
    assert folds is not None
    named = [column.name for column in folds.columns]
    assert "C" in named
    assert "epoch" not in named
    costs = [f"{fold.selected_c['emotion']:.3g}" for fold in results.folds]
    assert [line.cells[named.index("C")] for line in folds.rows] == costs


def test_an_estimator_is_compared_with_a_network_on_the_same_folds(
    finished: Run, corpus: Corpus, tmp_path: Path
) -> None:
    network = evaluate("li2019", corpus, settings=[*QUICK, "tasks.gender=remove"], runs=tmp_path)
    found = compare([finished.folder, network.folder])
    (contest,) = found.paired_tests
    assert contest.selection == "validation"
    assert contest.utterances == len(corpus.utterances)
    assert not [words for words in found.warnings if "select their epochs" in words]


def test_audit_of_an_estimator_has_no_test_picked_epoch(corpus: Corpus, tmp_path: Path) -> None:
    results, _, _ = evaluate_seeds(RECIPE, corpus, seeds=2, audit=True, runs=tmp_path)
    assert [one.name for one in results.optimistic_variants] == [
        "random-split",
        "test-speaker-normalisation",
    ]
    shown = audit.build_optimistic_table(results)
    assert shown is not None
    assert not [line for line in shown.rows if "test-selected" in line.cells[0]]
    assert results.repeats[0].scores == results.repeats[1].scores  # an estimator is deterministic


def test_parallel_folds_give_the_same_results(
    finished: Run, corpus: Corpus, tmp_path: Path
) -> None:
    other = evaluate(RECIPE, corpus, runs=tmp_path, jobs=2)
    assert other.folder.name == finished.folder.name
    assert other.results.predictions == finished.results.predictions
    assert [fold.selected_c for fold in other.results.folds] == [
        fold.selected_c for fold in finished.results.folds
    ]


def test_a_model_of_the_whole_corpus_uses_the_median_c(
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


def test_apply_evaluation_refuses_a_run_of_another_system(finished: Run) -> None:
    with pytest.raises(ConfigError, match="with other settings of features"):
        apply_evaluation(recipes.load(RECIPE, ["features.version=v02"]), finished.results)


def test_train_without_a_run_uses_c_of_the_recipe(corpus: Corpus, tmp_path: Path) -> None:
    settings = ["model.default_c=0.5"]
    made = train(RECIPE, corpus, tmp_path / "a.safetensors", settings=settings)
    again = train(RECIPE, corpus, tmp_path / "b.safetensors", settings=["model.c.emotion=0.5"])
    a, b = made.system.state_dict(), again.system.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert made.confidence == {}
    assert made.card.scores == "not evaluated"


def test_commands_with_an_estimator(root: Path, run: Command) -> None:
    corpus = f"synthetic={root}"
    status, output, _ = run("evaluate", RECIPE, "--corpus", corpus, "--jobs", 1)
    assert status == 0
    assert output.count("by audEERING's licence") == 1
    status, _, complaints = run("train", RECIPE, "--corpus", corpus, "-o", "svm.safetensors")
    assert status == 0
    assert complaints.count("by audEERING's licence") == 1
    status, output, _ = run("card", "svm.safetensors")
    assert status == 0
    assert "no product" in output
    status, output, _ = run("recognize", next(root.rglob("*.wav")), "--model", "svm.safetensors")
    assert status == 0
    assert any(name in output for name in ("anger", "neutral", "sadness"))


def test_a_fold_without_a_class_is_fitted(corpus: Corpus, tmp_path: Path) -> None:
    lonely = {one.speaker for one in corpus.utterances[:1]}
    kept = tuple(
        one
        for one in corpus.utterances
        if one.labels["emotion"] != "anger" or one.speaker in lonely
    )
    results = evaluate(RECIPE, replace(corpus, utterances=kept), runs=tmp_path).results
    assert len(results.predictions) == len(kept)
    recall = results.scores["validation"]["emotion"].recalls["anger"]
    assert recall == 0  # no other speaker has an angry utterance
    assert results.scores["validation"]["emotion"].ua is not None
