"""Tests of the speaker task, which is scored on held-out utterances of training speakers."""

from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.cross_language import ONE_EPOCH, SPEAKER_TASK, read_two_languages
from builders.small_systems import small_recipe

from serein import recipes
from serein.errors import ConfigError
from serein.evaluation.compare import compare
from serein.evaluation.evaluate import Run, evaluate
from serein.evaluation.held_out import build_subsets, held_out_subset_name, select_held_out
from serein.evaluation.labels import held_out_shares
from serein.evaluation.plan import Plan, build_plan
from serein.evaluation.score_saved import NOT_SCORED, score_model
from serein.evaluation.train import train
from serein.records import Corpus, Fold
from serein.report import html as page
from serein.report import markdown, summary, tables
from serein.results import io
from serein.system import System
from serein.tasks.speaker import Config

HALF = (*ONE_EPOCH, *SPEAKER_TASK, "tasks.speaker.held_out=0.5")


def build(corpus: Corpus, folder: Path, *settings: str, seed: int = 0) -> Plan:
    recipe = recipes.load("li2019", [*ONE_EPOCH, *SPEAKER_TASK, *settings])
    return build_plan(recipe, corpus, seed=seed, device="cpu", runs=folder)


def evaluate_speaker(corpus: Corpus, folder: Path, *settings: str) -> Run:
    return evaluate("li2019", corpus, settings=[*HALF, *settings], runs=folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(corpus: Corpus, runs: Path) -> Run:
    return evaluate_speaker(corpus, runs)


def speaker_of(corpus: Corpus) -> dict[str, str | None]:
    return {one.id: one.speaker for one in corpus.utterances}


@pytest.mark.parametrize(("share", "each"), [(0.05, 1), (0.1, 1), (0.5, 3), (0.99, 5)])
def test_share_of_each_training_speaker_is_held_out(
    corpus: Corpus, tmp_path: Path, share: float, each: int
) -> None:
    todo = build(corpus, tmp_path, f"tasks.speaker.held_out={share}")
    who = speaker_of(corpus)
    for fold in todo.protocol.folds:
        held = select_held_out(todo, fold)["speaker"]
        assert set(held) < set(fold.train)
        trained = Counter(who[id_] for id_ in fold.train)
        assert set(trained.values()) == {6}
        assert Counter(who[id_] for id_ in held) == dict.fromkeys(trained, each)
        assert held == select_held_out(todo, fold)["speaker"]
    other = build(corpus, tmp_path, f"tasks.speaker.held_out={share}", seed=1)
    if each < 5:
        assert select_held_out(other, fold) != select_held_out(todo, fold)


def test_a_smaller_share_is_part_of_a_larger_one(corpus: Corpus, tmp_path: Path) -> None:
    few, many = (build(corpus, tmp_path, f"tasks.speaker.held_out={x}") for x in (0.2, 0.6))
    fold = few.protocol.folds[0]
    assert set(select_held_out(few, fold)["speaker"]) < set(select_held_out(many, fold)["speaker"])


def test_labels_are_hidden_in_training(corpus: Corpus, tmp_path: Path) -> None:
    todo = build(corpus, tmp_path, "tasks.speaker.held_out=0.5")
    fold = todo.protocol.folds[0]
    held = select_held_out(todo, fold)["speaker"]
    system = System(todo.recipe, todo.classes)
    train, watched = build_subsets(todo, fold, todo.load_frames(), system)
    assert train.ids == fold.train
    for id_, target in zip(train.ids, train.targets["speaker"].tolist(), strict=True):
        assert (target == -1) == (id_ in held)
    assert bool((train.targets["emotion"] >= 0).all())
    assert list(watched) == ["validation", "test", held_out_subset_name("speaker")]
    for name in ("validation", "test"):
        assert set(watched[name].targets["speaker"].tolist()) == {-1}
        assert bool((watched[name].targets["emotion"] >= 0).all())
    own = watched[held_out_subset_name("speaker")]
    assert own.ids == held
    assert set(own.targets["emotion"].tolist()) == {-1}
    names = [todo.classes["speaker"][k] for k in own.targets["speaker"].tolist()]
    assert names == [speaker_of(corpus)[id_] for id_ in held]


def test_recipe_without_the_task_hides_nothing(corpus: Corpus, tmp_path: Path) -> None:
    recipe = small_recipe("features.pad=false")
    assert held_out_shares(recipe) == {}
    todo = build_plan(recipe, corpus, seed=0, device="cpu", runs=tmp_path)
    assert select_held_out(todo, todo.protocol.folds[0]) == {}
    named = replace(recipe, tasks={**recipe.tasks, "who": {"name": "speaker", "label": "speaker"}})
    assert held_out_shares(named) == {"who": Config().held_out}


def test_the_task_is_scored_on_held_out_utterances(run: Run, corpus: Corpus) -> None:
    results, who = run.results, speaker_of(corpus)
    assert Counter(one.fold for one in results.held_out) == dict.fromkeys(
        ["s01", "s02", "s03", "s04"], 6
    )
    for one in results.held_out:
        assert one.truth == {"emotion": None, "speaker": who[one.id]}
        assert one.speaker not in (one.fold, None)
        assert {tuple(tasks) for tasks in one.selections.values()} == {("speaker",)}
    found = results.scores[results.headline]["speaker"]
    right = [
        one.predicted_label(results.headline, "speaker", results.classes["speaker"])
        == one.truth["speaker"]
        for one in results.held_out
    ]
    assert found.utterances == len(right) == 24
    assert found.wa == pytest.approx(sum(right) / 24)
    folds = [fold.scores[results.headline]["speaker"]["wa"] for fold in results.folds]
    assert sum(wa or 0 for wa in folds) / 4 == pytest.approx(found.wa)
    assert "speaker" not in results.folds[0].temperatures
    assert results.calibration["speaker"].calibrated is None


def test_emotion_scores_do_not_change(run: Run, corpus: Corpus, tmp_path: Path) -> None:
    results = run.results
    assert sorted(one.id for one in results.predictions) == [one.id for one in corpus.utterances]
    assert {one.truth["speaker"] for one in results.predictions} == {None}
    assert results.scores[results.headline]["emotion"].utterances == 24
    idle, other = (
        evaluate_speaker(
            corpus, tmp_path, "tasks.speaker.weight=0", f"tasks.speaker.held_out={share}"
        ).results
        for share in (0.2, 0.8)
    )
    assert len(idle.held_out) < len(other.held_out)
    for one, two in zip(idle.predictions, other.predictions, strict=True):
        assert one.selections["last"]["emotion"] == two.selections["last"]["emotion"]


def test_leakage_check_ignores_speaker_classes(run: Run, corpus: Corpus, tmp_path: Path) -> None:
    verdicts = {one.kind: one.verdict for one in run.results.leakage}
    assert verdicts["classes"] == verdicts["speaker"] == verdicts["validation"] == "clean"
    mixed = build(corpus, tmp_path, "protocol.name=random", "protocol.folds=3")
    assert {one.kind: one.verdict for one in mixed.leakage}["speaker"] == "allowed"


def test_results_and_reports_of_held_out_predictions(run: Run) -> None:
    kept = io.load_results(run.folder)
    assert io.to_builtin(kept.held_out) == io.to_builtin(run.results.held_out)
    assert kept.held_out_tasks == {"speaker"}
    told = [words for words in kept.warnings if "speaker" in words]
    assert len(told) == 1
    assert told[0].startswith("speaker is scored on 24 held-out utterances of training speakers ")
    assert "(50% of each, summed over folds)" in told[0]
    text, html = markdown.render_markdown(kept), page.render_html(kept)
    assert "Scored on held-out utterances of training speakers, not on the test subset." in text
    assert "In each fold, held-out utterances of training speakers" in text
    assert summary.describe_scores(kept, "speaker").endswith(
        ", on held-out utterances of training speakers"
    )
    assert "held-out" not in summary.describe_scores(kept, "emotion")
    assert "on held-out utterances of training speakers" in html
    folds = tables.build_fold_table(kept, "speaker")
    assert folds is not None
    assert [row.cells[1] for row in folds.rows] == ["6"] * 4
    assert folds.columns[0].name == "fold"


def test_compare_leaves_out_held_out_tasks(run: Run, corpus: Corpus, tmp_path: Path) -> None:
    other = evaluate_speaker(corpus, tmp_path, "training.rate=1e-2")
    contests = compare([run.folder, other.folder]).paired_tests
    assert [one.task for one in contests] == ["emotion"]


def test_a_saved_model_is_not_scored_on_speakers(corpus: Corpus, tmp_path: Path) -> None:
    saved = train("li2019", corpus, tmp_path / "a.safetensors", settings=HALF)
    assert saved.system.classes["speaker"] == ("s01", "s02", "s03", "s04")
    assert saved.card.class_counts["speaker"] == dict.fromkeys(saved.system.classes["speaker"], 6)
    results = score_model(saved, corpus)
    assert results.scores["model"]["speaker"].utterances == 0
    assert results.scores["model"]["emotion"].utterances == 24
    told = [words for words in results.warnings if words.startswith("speaker")]
    assert told == [f"speaker: {NOT_SCORED}"]
    assert "speaker: WA n/a, UA n/a" in markdown.render_markdown(results)


def test_class_weights_are_of_trained_labels(corpus: Corpus, tmp_path: Path) -> None:
    balanced = "tasks.speaker.class_weights=balanced"
    results = evaluate_speaker(corpus, tmp_path, balanced, "training.select_by=mean").results
    assert results.scores[results.headline]["speaker"].utterances == 24


FAULTS: list[tuple[tuple[str, ...], str]] = [
    (("tasks.speaker.held_out=0",), "held_out = 0"),
    (("tasks.speaker.held_out=1",), "held_out = 1"),
    (("tasks.emotion=remove",), "task speaker cannot come first: validation speakers have no"),
]


@pytest.mark.parametrize(("settings", "words"), FAULTS)
def test_impossible_settings_are_errors(
    corpus: Corpus, tmp_path: Path, settings: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        build(corpus, tmp_path, *settings)


def test_speakers_of_one_utterance_are_an_error(corpus: Corpus, tmp_path: Path) -> None:
    todo = build(corpus, tmp_path)
    first = {str(one.speaker): one.id for one in corpus.utterances}
    fold = Fold(name="one", train=(first["s01"], first["s02"]), validation=(), test=())
    with pytest.raises(ConfigError, match=r"none of 2 has two; drop .* tasks\.speaker=remove"):
        select_held_out(todo, fold)


def test_two_corpora_with_a_speaker_of_the_same_name(tmp_path: Path) -> None:
    joint = read_two_languages(tmp_path)
    names = {"savee/DC": "savee/same", "emodb/03": "emodb/same"}
    utterances = tuple(
        replace(one, speaker=names.get(str(one.speaker), one.speaker)) for one in joint.utterances
    )
    more = ("protocol.main=savee", "tasks.speaker.held_out=0.5")
    todo = build(replace(joint, utterances=utterances), tmp_path, *more)
    assert {"savee/same", "emodb/same"} < set(todo.classes["speaker"])
    fold = next(fold for fold in todo.protocol.folds if fold.name == "savee/same")
    assert {one.speaker for one in todo.corpus.select(fold.test)} == {"savee/same"}
    held: list[Any] = [
        one.speaker for one in todo.corpus.select(select_held_out(todo, fold)["speaker"])
    ]
    assert "emodb/same" in held
    assert "savee/same" not in held
    assert {one.kind: one.verdict for one in todo.leakage}["speaker"] == "clean"


def test_speaker_task_is_a_classification() -> None:
    recipe = small_recipe("tasks.speaker.weight=0.5", "tasks.speaker.held_out=0.2")
    system = System(recipe, {"emotion": ("a", "b"), "gender": ("f", "m"), "speaker": ("1", "2")})
    assert asdict(system.tasks["speaker"].config)["held_out"] == 0.2
    logits = torch.zeros(3, 2)
    assert system.tasks["speaker"].loss(logits, torch.tensor([0, -1, 1])) == pytest.approx(
        0.6931, abs=1e-4
    )
