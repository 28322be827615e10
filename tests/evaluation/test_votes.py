"""An evaluation of a corpus with raters' votes, from the table to the report."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.report_reader import normalize_spaces
from builders.small_systems import QUICK
from rich.console import Console
from scipy import stats

from serein import corpora, recipes
from serein.bundle import load
from serein.errors import ConfigError
from serein.evaluation.evaluate import evaluate
from serein.evaluation.labels import apply_label_scheme
from serein.evaluation.score_saved import score_model
from serein.evaluation.train import train
from serein.evaluation.votes import add_votes, score_votes
from serein.inference.formats import as_card
from serein.records import Corpus
from serein.report import html, markdown, terminal
from serein.results import io
from serein.results.evaluation import Results

Table = dict[str, Any]
SETTINGS = [*QUICK, "tasks.gender=remove", "tasks.emotion.targets=votes", "training.epochs=2"]
WORDS = {"anger": "A", "neutral": "N", "sadness": "S"}


@pytest.fixture(scope="module")
def voted(corpus: Corpus) -> Corpus:
    """The spoken corpus with votes: of others, ties, none, all zero, and of unknown classes."""
    kinds = ["{own}=5, N=3", "A:S", None, "A=0", "envy=9", "{own}=2, envy=2"]
    utterances = []
    for number, utterance in enumerate(corpus.utterances):
        kind = kinds[number % len(kinds)]
        votes = kind and kind.format(own=WORDS[str(utterance.labels["emotion"])])
        own = {"emotion_votes": votes} if votes else {}
        utterances.append(replace(utterance, labels={**utterance.labels, **own}))
    return replace(corpus, utterances=tuple(utterances))


MAP = [f"tasks.emotion.map.{code}={emotion}" for emotion, code in WORDS.items()]


@pytest.fixture(scope="module")
def results(voted: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("runs")
    run = evaluate("li2019", voted, settings=[*SETTINGS, *MAP], runs=folder)
    return run.results


def test_votes_are_scored_beside_labels(results: Results, voted: Corpus) -> None:
    with_votes = [one for one in results.predictions if one.votes]
    assert len(with_votes) == len(voted.utterances) // 2 < len(results.predictions)
    scores = results.vote_scores[results.headline]["emotion"]
    truth = np.array([one.votes["emotion"] for one in with_votes])
    rows = np.array([one.selections[results.headline]["emotion"] for one in with_votes])
    expected = stats.entropy(truth, axis=1) + stats.entropy(truth, rows, axis=1)
    assert scores.utterances == len(with_votes)
    assert scores.cross_entropy == pytest.approx(expected.mean())
    assert scores.total_variation == pytest.approx(np.abs(truth - rows).sum(axis=1).mean() / 2)
    assert scores.entropy == pytest.approx(stats.entropy(truth, axis=1).mean())
    assert scores.uniform["cross_entropy"] == pytest.approx(np.log(3))
    assert results.scores[results.headline]["emotion"].utterances == len(results.predictions)


def test_warnings_say_which_votes_count(results: Results) -> None:
    text = "\n".join(results.warnings)
    assert "emotion is trained on raters' votes: 12 of 24 utterances" in text
    assert "utterances have votes, and none for a class of emotion" in text
    assert "of the votes are for no class of emotion: envy" in text


def test_results_round_trip_and_older_ones_load(results: Results, tmp_path: Path) -> None:
    io.save_record(results, tmp_path)
    again = io.load_results(tmp_path)
    assert again.vote_scores["last"]["emotion"].utterances == 12
    table = json.loads((tmp_path / "results.json").read_text())
    del table["vote_scores"]
    for prediction in table["predictions"]:
        del prediction["votes"]
    (tmp_path / "results.json").write_text(json.dumps(table))
    assert io.load_results(tmp_path).vote_scores == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cross_entropy", "cross_entropy of the votes"),
        ("total_variation", "total_variation of the votes"),
        ("entropy", "entropy of the votes"),
        ("utterances", "number with votes"),
    ],
)
def test_scores_that_do_not_follow_from_votes_are_refused(
    results: Results, tmp_path: Path, name: str, message: str
) -> None:
    table = io.to_builtin(results)
    stated = table["vote_scores"][results.headline]["emotion"]
    stated[name] += 1
    (tmp_path / "results.json").write_text(json.dumps(table))
    with pytest.raises(ConfigError, match=message):
        io.load_results(tmp_path)


def test_uniform_predictions_and_chance_are_recomputed(results: Results, tmp_path: Path) -> None:
    def edit_uniform(table: Table) -> None:
        table["vote_scores"]["last"]["emotion"]["uniform"]["cross_entropy"] = 0.1

    def edit_chance(table: Table) -> None:
        table["baselines"]["chance"]["emotion"]["ua"] = 0.9

    edits: dict[str, Callable[[Table], None]] = {
        "cross_entropy of uniform predictions .* is 0.1": edit_uniform,
        "ua of chance .* is 0.9": edit_chance,
    }
    for message, edit in edits.items():
        table = io.to_builtin(results)
        edit(table)
        (tmp_path / "results.json").write_text(json.dumps(table))
        with pytest.raises(ConfigError, match=message):
            io.load_results(tmp_path)


def test_every_report_shows_the_scores(results: Results) -> None:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(terminal.render_terminal(results))
    texts = [
        captured.get(),
        markdown.render_markdown(results),
        html.render_html(results),
    ]
    score = results.vote_scores[results.headline]["emotion"].cross_entropy
    for text in texts:
        plain = normalize_spaces(text)
        assert "scores against the raters' votes" in plain.replace("&#39;", "'")
        assert f"{score:.3f}" in plain
        assert "the votes themselves" in plain
    assert max(map(len, captured.get().splitlines())) <= 80


def test_a_corpus_without_votes_has_no_scores_of_them(results: Results) -> None:
    bare = [replace(one, votes={}) for one in results.predictions]
    assert score_votes(bare, ["last"], {"emotion": ("anger", "neutral", "sadness")}) == {}
    silent = replace(results, vote_scores={}, warnings=[])
    assert "Raters' votes" not in markdown.render_markdown(silent)


def test_votes_are_scored_too_where_labels_train(voted: Corpus, results: Results) -> None:
    recipe = recipes.load("li2019", [*QUICK, "tasks.gender=remove", *MAP])
    kept, _ = apply_label_scheme(voted, recipe)
    stripped = [replace(one, votes={}) for one in results.predictions]
    by_id = {one.id: one for one in kept.utterances}
    tested = [by_id[one.id] for one in stripped]
    again = add_votes(stripped, tested, recipe, {"emotion": ("anger", "neutral", "sadness")})
    assert [one.votes for one in again] == [one.votes for one in results.predictions]


def test_a_saved_model_is_scored_against_votes(voted: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "voted.safetensors"
    train("li2019", voted, path, settings=[*SETTINGS, *MAP])
    assert "emotion: anger, neutral, sadness, as shares of raters' votes" in as_card(load(path))
    scored = score_model(load(path), voted)
    assert scored.vote_scores["model"]["emotion"].utterances == 12
    other = score_model(load(path), voted, settings=["tasks.emotion.votes=nothing"])
    assert other.vote_scores == {}
    forced = score_model(load(path), voted, classes=["anger", "neutral"])
    rows = [one.votes["emotion"] for one in forced.predictions if one.votes]
    assert {row[2] for row in rows} == {0.0}
    assert [sum(row) for row in rows] == pytest.approx([1.0] * len(rows))
    entropy = forced.vote_scores[forced.headline]["emotion"].cross_entropy
    assert entropy is not None
    assert entropy < 5


def test_votes_in_a_table(folder: Path, tmp_path: Path) -> None:
    path = folder / "labels.csv"
    path.write_text(
        "file,speaker,emotion,emotion_votes\n"
        'a.wav,1,anger,"anger=2, neutral=1"\nc.wav,2,neutral,neutral\nsub/b.wav,3,anger,\n'
    )
    read = corpora.load(f"mine={path}")
    assert [one.label("emotion_votes") for one in read.utterances] == [
        *("anger=2, neutral=1", "neutral", None)
    ]
