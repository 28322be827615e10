"""Tests of a regression next to a classification, from evaluation to comparison."""

import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
from builders.report_reader import Page, normalize_spaces
from builders.small_systems import QUICK
from rich.console import Console

from serein import recipes
from serein.bundle import load
from serein.corpora import iemocap
from serein.errors import ConfigError, ProtocolError
from serein.evaluation.compare import compare
from serein.evaluation.evaluate import Run, evaluate
from serein.evaluation.plan import build_plan
from serein.evaluation.repeats import combine_seeds
from serein.evaluation.score_saved import score_model
from serein.evaluation.search import search
from serein.evaluation.train import train
from serein.inference import formats
from serein.inference.recognizer import Recognizer
from serein.metrics.regression import concordance_score, pearson_score, root_mean_squared_error
from serein.records import Corpus
from serein.report import audit, comparison, figures, html, latex, markdown, progress, terminal
from serein.report import search as trials
from serein.results import io
from serein.results.evaluation import Results
from serein.synthetic.iemocap import write_small_iemocap

SETTINGS = [
    *QUICK,
    "tasks.emotion=remove",
    "tasks.gender=remove",
    "tasks.arousal={name='dimensions', scheme='values'}",
    "tasks.sex={name='gender', label='gender'}",
    "training.rate=0.01",
    "training.epochs=3",
    "training.batch=10",
    "protocol.name=leave-one-session-out",
    "protocol.validation=1",
    "protocol.unlabelled=keep",
]


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A small IEMOCAP; one utterance has no arousal label."""
    root = tmp_path_factory.mktemp("iemocap")
    write_small_iemocap(root, utterances=60, words=1)
    first, *rest = iemocap.read(root, partial=True)
    known = {name: value for name, value in first.labels.items() if name != "arousal"}
    return Corpus(name="rated", utterances=(replace(first, labels=known), *rest))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(rated: Corpus, runs: Path) -> Run:
    return evaluate("li2019", rated, settings=SETTINGS, runs=runs)


@pytest.fixture(scope="module")
def results(run: Run) -> Results:
    return run.results


def pairs(results: Results, selection: str) -> tuple[list[float], list[float]]:
    known = [one for one in results.predictions if one.truth["arousal"] is not None]
    rows = [one.selections[selection]["arousal"] for one in known]
    assert all(len(row) == 1 for row in rows)
    return [float(one.truth["arousal"] or 0) for one in known], [row[0] for row in rows]


def text(results: Results) -> str:
    console = Console(width=200)
    with console.capture() as caught:
        console.print(terminal.render_terminal(results))
    return normalize_spaces(caught.get())


def test_scores_are_of_pooled_predictions(results: Results) -> None:
    assert list(results.classes) == ["arousal", "sex"]
    assert results.classes["arousal"] == []
    assert results.headline == "validation"
    assert list(results.scores["validation"]) == ["sex"]
    for selection, tasks in results.value_scores.items():
        truth, answers = pairs(results, selection)
        own = tasks["arousal"]
        assert own.utterances == len(truth) == 59
        assert own.ccc == pytest.approx(concordance_score(truth, answers), abs=1e-5)
        assert own.pearson == pytest.approx(pearson_score(truth, answers), abs=1e-5)
        assert own.rmse == pytest.approx(root_mean_squared_error(truth, answers), abs=1e-5)
        assert own.interval == "95 % jackknife over 10 speakers"
        for name in ("ccc", "rmse", "pearson"):
            low, high = own.bounds(name) or (0.0, 0.0)
            assert low <= (own.score(name) or 0) <= high
    assert "1 of 60 utterances have no arousal label: predicted, not scored" in results.warnings


def test_epochs_are_selected_by_concordance(results: Results) -> None:
    assert results.selections["validation"].startswith("the epoch with the best CCC of arousal")
    for fold in results.folds:
        found = [one.scores["validation"]["arousal"]["ccc"] or 0 for one in fold.history]
        assert fold.epochs["validation"] == found.index(max(found)) + 1


def test_baseline_is_the_mean_of_the_training_subset(results: Results, rated: Corpus) -> None:
    labels = {one.id: one.labels.get("arousal") for one in rated.utterances}
    means = {
        fold["name"]: fmean(float(x) for id_ in fold["train"] if (x := labels[id_]) is not None)
        for fold in results.protocol["folds"]
    }
    known = [one for one in results.predictions if one.truth["arousal"] is not None]
    truth = [float(one.truth["arousal"] or 0) for one in known]
    found = results.baselines["mean"]["arousal"]
    answers = [means[one.fold] for one in known]
    assert found["rmse"] == pytest.approx(root_mean_squared_error(truth, answers))
    assert found["ccc"] == pytest.approx(concordance_score(truth, answers))
    assert list(results.baselines["majority"]) == list(results.baselines["chance"]) == ["sex"]


def test_regression_has_no_class_scores(results: Results) -> None:
    assert results.confident_errors == []
    assert {one.kind: one.verdict for one in results.leakage}["classes"] == "clean"
    assert list(results.calibration) == ["sex"]
    assert all("arousal" not in fold.temperatures for fold in results.folds)
    assert results.mapping["arousal"].missing == 1
    assert list(results.mapping["arousal"].mapped) == ["values"]


def test_results_round_trip(run: Run, results: Results) -> None:
    again = io.load_results(run.folder)
    assert io.to_json(again) == io.to_json(results)
    assert again.predictions[1].truth["arousal"] == results.predictions[1].truth["arousal"]


def test_selection_by_mean_over_both_kinds_of_tasks(rated: Corpus, tmp_path: Path) -> None:
    settings = [*SETTINGS, "training.select_by=mean", "training.epochs=1"]
    chosen = evaluate("li2019", rated, settings=settings, runs=tmp_path).results
    assert "best mean of CCC of arousal, UA of sex on" in chosen.selections["validation"]
    assert "epoch selected by" not in markdown.render_markdown(chosen)
    assert audit.is_optimistic(chosen, "test", "sex")


def test_subset_without_ratings_is_an_error(rated: Corpus, tmp_path: Path) -> None:
    """A validation subset must have ratings, but not of every utterance."""
    unrated = tuple(
        replace(one, labels={"emotion": "anger"}) if one.session == "2" else one
        for one in rated.utterances
    )
    read, recipe = replace(rated, utterances=unrated), recipes.load("li2019", SETTINGS)
    with pytest.raises(ProtocolError, match=r"validation subset of .* has no arousal label"):
        build_plan(recipe, read, seed=0, device="cpu", runs=tmp_path)


# Reports


def test_reports_show_values_in_their_unit(results: Results) -> None:
    own = results.value_scores["validation"]["arousal"]
    low, high = own.ccc_interval or (0.0, 0.0)
    quoted = f"CCC {own.ccc:.3f} [{low:.3f}, {high:.3f}], RMSE {own.rmse:.3f} ["
    shown = html.render_html(results)
    assert quoted in text(results)
    assert quoted in normalize_spaces(markdown.render_markdown(results))
    assert f"{own.ccc:.3f} [{low:.3f}, {high:.3f}]" in normalize_spaces(Page(shown).words)
    for form in (
        text(results),
        normalize_spaces(markdown.render_markdown(results)),
        normalize_spaces(latex.render_latex(results)),
    ):
        assert "arousal: scores" in form
        assert "arousal: scores, " not in form
        assert "59 predictions together (folds: means over folds)." in form
        assert "sex: classes, validation" in form
        assert "arousal: classes" not in form
    assert "predicts the mean of the training subset" in normalize_spaces(Page(shown).words)
    assert "epoch selected by arousal" in normalize_spaces(Page(shown).words)


def test_scores_fit_a_terminal_of_80_columns(results: Results) -> None:
    console = Console(width=80)
    with console.capture() as caught:
        console.print(terminal.render_terminal(results))
    own = results.value_scores["validation"]["arousal"]
    lines = [line for line in caught.get().splitlines() if line.startswith("validation (quoted)")]
    assert [line.split()[2:4] for line in lines[:3]] == [
        ["CCC", f"{own.ccc:.3f}"],
        ["RMSE", f"{own.rmse:.3f}"],
        ["Pearson", f"{own.pearson:.3f}"],
    ]


def test_page_plots_predictions_over_labels(results: Results) -> None:
    drawn = html.build_figures(results)
    assert "scatter-arousal" in drawn
    assert "confusion-arousal" not in drawn
    assert "confusion-sex" in drawn
    line, points = drawn["scatter-arousal"][0].data
    truth, answers = pairs(results, "validation")
    assert list(points.x) == pytest.approx(truth, abs=1e-3)
    assert list(points.y) == pytest.approx(answers, abs=1e-3)
    assert list(line.x) == list(line.y) == [min([*truth, *answers]), max([*truth, *answers])]
    assert drawn["validation"][1].startswith("CCC of arousal on the validation subset")
    assert drawn["validation"][0].layout.yaxis.title.text == "validation CCC"
    assert 'href="#values"' in html.render_html(results)
    assert len(figures.plot_scatter([], []).data) == 2


def test_selection_gap_of_concordance(results: Results) -> None:
    sentence = str(audit.describe_selection_gap(results))
    best = results.value_scores["test"]["arousal"].ccc
    assert sentence.startswith(f"Selecting epochs on the test subset reports a CCC of {best:.3f}: ")
    assert "points" not in sentence
    assert "%:" not in sentence


def test_seeds_and_optimistic_variants_are_of_concordance(
    rated: Corpus, run: Run, tmp_path: Path
) -> None:
    other = evaluate("li2019", rated, settings=SETTINGS, seed=1, runs=tmp_path).results
    joined = combine_seeds([run.results, other])
    assert joined.repeats[1].scores["last"]["arousal"]["ccc"] == (
        other.value_scores["last"]["arousal"].ccc
    )
    shown = text(joined)
    assert "Mean of arousal over 2 seeds (0, 1): CCC " in shown
    assert "arousal: seeds" in normalize_spaces(markdown.render_markdown(joined))
    assert "gain in CCC" in normalize_spaces(markdown.render_markdown(joined))


def test_progress_shows_concordance(results: Results) -> None:
    epoch = results.folds[0].history[0]
    course = progress.TrainingProgress(1, 3, Console())
    ccc = epoch.scores["validation"]["arousal"]["ccc"] or 0
    assert course._format_validation(epoch) == f" validation CCC {ccc:.3f}"


# Comparison and search


def test_two_runs_are_compared_by_concordance(
    rated: Corpus, run: Run, runs: Path, tmp_path: Path
) -> None:
    other = evaluate("li2019", rated, settings=[*SETTINGS, "model.heads=1"], runs=runs)
    found = compare([run.folder, other.folder])
    first, second = found.paired_tests
    assert (first.task, first.main, second.main) == ("arousal", "ccc", "ua")
    ours, theirs = (concordance_score(*pairs(one.results, "validation")) for one in (run, other))
    assert first.scores["ccc"] == pytest.approx((ours, theirs), abs=1e-5)
    assert first.difference == pytest.approx(ours - theirs, abs=1e-5)
    low, high = first.difference_interval or (0.0, 0.0)
    assert low <= first.difference <= high
    assert 0 < (first.permutation or 0) <= 1
    assert (first.mcnemar, first.z, first.effect) == (None, None, None)
    assert list(first.adjusted) == ["permutation"]
    shown = normalize_spaces(comparison.render_markdown(found))
    assert "difference: CCC of the first minus that of the second. Intervals" in shown
    assert f"{first.difference:+.3f}" in shown
    files = comparison.write_comparison(found, tmp_path)
    assert json.loads(files[0].read_text())["paired_tests"][0]["main"] == "ccc"


def test_runs_of_levels_and_of_values_do_not_compare(rated: Corpus, run: Run, runs: Path) -> None:
    settings = [*SETTINGS, "tasks.arousal.scheme=levels", "tasks.sex=remove"]
    levels = evaluate("li2019", rated, settings=settings, runs=runs)
    message = r"have no task in common: .* predicts values of it, the other run classes"
    with pytest.raises(ConfigError, match=message):
        compare([run.folder, levels.folder])


def test_a_search_ranks_by_concordance(rated: Corpus, tmp_path: Path) -> None:
    found = search(
        "li2019",
        rated,
        ["tasks.sex.weight=0..1"],
        trials=2,
        settings=[*SETTINGS, "training.epochs=1"],
        runs=tmp_path,
    )
    best = found.ranked_trials[0]
    run = io.load_results(tmp_path / best.run)
    ccc = [fold.history[0].scores["validation"]["arousal"]["ccc"] or 0 for fold in run.folds]
    assert (found.task, found.score) == ("arousal", "ccc")
    assert best.score == pytest.approx(fmean(ccc))
    shown = normalize_spaces(trials.render_search_markdown(found))
    assert f"CCC of arousal {best.score:.3f} on validation speakers" in shown
    assert "in percent" not in shown
    assert f"validation CCC {best.score:.3f}" in trials.describe_trial(best, found)
    assert (
        trials.build_search_figures(found)["over-0"][0].layout.yaxis.title.text == "validation CCC"
    )


# Saved models


@pytest.fixture(scope="module")
def model(rated: Corpus, run: Run, runs: Path) -> Path:
    path = runs / "rated.safetensors"
    train("li2019", rated, path, settings=SETTINGS, run=run.folder)
    return path


def test_saved_model_recognizes_a_value(model: Path, rated: Corpus) -> None:
    recognizer = Recognizer(model)
    found = recognizer(rated.utterances[0].path)
    assert list(found.values) == ["arousal"]
    assert list(found.tasks) == ["sex"]
    assert found.label == found.tasks["sex"].label
    assert recognizer(rated.utterances[0].path).values == found.values
    document = json.loads(formats.as_json([found], {}))["recognized"][0]
    assert document["values"]["arousal"] == pytest.approx(found.values["arousal"], rel=1e-5)
    head, line = formats.as_csv([found]).splitlines()
    names = head.split(",")
    assert names[:7] == ["file", "start", "end", "sex", "sex_female", "sex_male", "arousal"]
    assert names[7:] == [
        *("first_sex", "first_sex_probability", "second_sex", "second_sex_probability"),
        *("scaled_arousal", "scaled_arousal_basis"),
    ]
    row = dict(zip(names, line.split(","), strict=True))
    assert float(row["arousal"]) == pytest.approx(found.values["arousal"], rel=1e-5)
    table = formats.as_table([found])
    assert [column.header for column in table.columns] == [
        *("file", "seconds", "sex", "next", "arousal")
    ]
    assert list(table.columns[-1].cells) == [f"{found.values['arousal']:.2f}"]


def test_card_of_a_regression(model: Path, results: Results) -> None:
    saved = load(model)
    card = formats.as_card(saved)
    own = results.value_scores["validation"]["arousal"]
    assert "arousal: a number; sex: female, male" in card
    assert f"CCC {own.ccc:.3f} RMSE {own.rmse:.3f} Pearson {own.pearson:.3f} (" in card
    assert list(saved.confidence) == ["sex"]
    assert sum(saved.card.class_counts["arousal"].values()) == 59


def test_saved_model_is_scored_by_concordance(model: Path, rated: Corpus) -> None:
    found = score_model(load(model), rated)
    truth, answers = pairs(found, "model")
    assert len(found.predictions) == len(truth) == 59
    own = found.value_scores["model"]["arousal"]
    assert own.ccc == pytest.approx(concordance_score(truth, answers), abs=1e-5)
    assert own.rmse == pytest.approx(root_mean_squared_error(truth, answers), abs=1e-5)
    recognised = Recognizer(model)(rated.utterances[1].path).values["arousal"]
    assert answers[0] == pytest.approx(recognised, abs=1e-4)
    mean = fmean(truth)
    assert found.baselines["mean"]["arousal"]["rmse"] == pytest.approx(
        root_mean_squared_error(truth, [mean] * 59), abs=1e-6
    )
    assert "1 of 60 utterances left out: arousal is one of ['missing']" in found.warnings
    assert list(found.calibration) == ["sex"]
    assert "CCC" in text(found)
    assert "scatter-arousal" in html.build_figures(found)


def test_regression_model_without_classes(rated: Corpus, tmp_path: Path) -> None:
    settings = [*SETTINGS, "tasks.sex=remove", "training.epochs=1"]
    saved = train("li2019", rated, tmp_path / "a.safetensors", settings=settings)
    found = Recognizer(saved)(rated.utterances[0].path)
    assert (found.label, found.tasks, list(found.values)) == (None, {}, ["arousal"])
    head = formats.as_csv([found]).splitlines()[0]
    assert head == "file,start,end,arousal,scaled_arousal,scaled_arousal_basis"
    assert [str(c.header) for c in formats.as_table([found]).columns] == [
        *("file", "seconds", "arousal")
    ]
    with pytest.raises(ConfigError, match="has no threshold"):
        Recognizer(saved, confidence="auto")


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("tasks.arousal.scheme=levels", "the model predicts values of arousal"),
        ("tasks.sex.scheme=values", "the model predicts classes of sex"),
        ("tasks.arousal.label=energy", "the model a number. If the label has another name"),
    ],
)
def test_regression_model_is_not_scored_on_classes(
    model: Path, rated: Corpus, setting: str, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        score_model(load(model), rated, settings=[setting])


def test_rating_outside_the_scale_is_a_warning(model: Path, rated: Corpus) -> None:
    first, second, *rest = rated.utterances
    wrong = replace(second, labels={**second.labels, "arousal": 6.5})
    changed = replace(rated, utterances=(first, wrong, *rest))
    with pytest.raises(
        ConfigError, match=rf"utterance {wrong.id}, task arousal: a rating is '6.5'"
    ):
        score_model(load(model), changed)
