"""Saved models whose classes a corpus does not have: forced choices, shares, single classes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from builders.small_systems import small_system
from sklearn.metrics import recall_score

from serein import corpora
from serein.bundle import Bundle, Card
from serein.errors import UnknownName
from serein.evaluation.score_saved import score_model
from serein.records import Corpus
from serein.report import document
from serein.results import io
from serein.results.evaluation import Results
from serein.synthetic import SyntheticConfig, generate

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A corpus that lacks sadness, and has fear, which the model lacks."""
    folder = tmp_path_factory.mktemp("other")
    emotions = "anger", "fear", "neutral"
    generate(folder, SyntheticConfig(speakers=4, emotions=emotions, sentences=2, words=1, seed=1))
    return corpora.load(f"synthetic={folder}")


@pytest.fixture(scope="module")
def model(other: Corpus) -> Bundle:
    """A model whose answers vary: on average, no class is preferred."""
    bundle = Bundle(small_system("features.pad=false").eval(), Card(name="small"))
    rows = [one.selections["model"]["emotion"] for one in score_model(bundle, other).predictions]
    with torch.no_grad():
        bias = dict(bundle.system.named_parameters())["heads.emotion.head.bias"]
        bias.sub_(torch.tensor(rows).log().mean(dim=0))
    return bundle


def check_forced_rows(results: Results, inside: tuple[str, ...]) -> None:
    """The forced answers are the model's own, divided by the sum over the class set."""
    classes = results.classes["emotion"]
    for item in results.predictions:
        own, forced = (item.selections[name]["emotion"] for name in ("model", "forced"))
        total = sum(p for p, name in zip(own, classes, strict=True) if name in inside)
        wanted = [p / total if c in inside else 0.0 for p, c in zip(own, classes, strict=True)]
        assert forced == pytest.approx(wanted)
        assert item.selections["forced"]["gender"] == item.selections["model"]["gender"]


def test_answers_that_the_corpus_cannot_have_are_counted_and_both_scores_shown(
    model: Bundle, other: Corpus, tmp_path: Path
) -> None:
    results = score_model(model, other)
    assert results.headline == "model"
    assert list(results.selections) == ["model", "forced"]
    assert results.class_set == {"emotion": ["anger", "neutral"]}
    check_forced_rows(results, ("anger", "neutral"))
    labels = ["anger", "neutral"]
    truth = [item.truth["emotion"] for item in results.predictions]
    for selection in results.selections:
        answers = [
            item.predicted_label(selection, "emotion", results.classes["emotion"])
            for item in results.predictions
        ]
        wanted = recall_score(truth, answers, labels=labels, average="macro", zero_division=0.0)
        assert results.scores[selection]["emotion"].ua == pytest.approx(wanted)
    assert "gender" not in results.scores["forced"]
    text = "\n".join(document.describe_headline(results))
    own = [
        item.predicted_label("model", "emotion", results.classes["emotion"])
        for item in results.predictions
    ]
    share = 100 * own.count("sadness") / len(own)
    assert share
    assert (
        f"emotion: {share:.1f} % of the model's answers are classes that the corpus lacks; "
        f"sadness {share:.1f} %."
    ) in text
    assert "as a forced choice among anger, neutral; recalls anger" in text
    io.save_record(results, tmp_path)
    assert io.load_results(tmp_path) == results


def test_requested_class_set_is_quoted_and_leaves_out_other_utterances(
    model: Bundle, other: Corpus, run: Run, tmp_path: Path
) -> None:
    results = score_model(model, other, classes="sadness,anger")
    assert results.headline == "forced"
    assert {item.truth["emotion"] for item in results.predictions} == {"anger"}
    check_forced_rows(results, ("anger", "sadness"))
    both = score_model(model, other, classes="anger,neutral")
    assert both.baselines["chance"]["emotion"]["ua"] == 0.5
    text = "\n".join(document.describe_headline(both))
    assert "the quoted score is a forced choice among anger, neutral; recalls anger" in text
    assert "Among all classes of the model: UA" in text
    assert "% of the model's answers are classes outside the class set; sadness" in text
    with pytest.raises(UnknownName, match="unknown class of emotion 'fear'"):
        score_model(model, other, classes="anger,fear")
    status, _, err = run("evaluate", "li2019", "--corpus", "synthetic", "--classes", "anger,fear")
    assert status == 2
    assert "--classes restricts the answers of a saved model" in err


def test_one_class_is_no_score(model: Bundle, other: Corpus, tmp_path: Path) -> None:
    neutral = tuple(one for one in other.utterances if one.labels["emotion"] == "neutral")
    results = score_model(model, replace(other, utterances=neutral))
    scores = results.scores["model"]["emotion"]
    assert (scores.wa, scores.ua, scores.wa_interval, scores.ua_interval) == (None,) * 4
    assert scores.recalls["neutral"] is not None
    assert results.class_set == {}
    text = "\n".join(document.describe_headline(results))
    assert "emotion: no score, since neutral is the class of all 8 labels" in text
    assert results.scores["model"]["gender"].ua is not None
    io.save_record(results, tmp_path)
    assert io.load_results(tmp_path).scores["model"]["emotion"].ua is None


def test_mapped_labels_are_said_with_recalls(model: Bundle, other: Corpus) -> None:
    results = score_model(model, other, settings=["tasks.emotion.map.fear=sadness"])
    text = "\n".join(document.describe_headline(results))
    assert "labels of the corpus are counted as other classes: fear (8) as sadness; recalls" in text
    assert results.class_set == {}


def test_labels_with_other_names_are_said(model: Bundle, other: Corpus) -> None:
    angry = tuple(
        replace(one, labels={**one.labels, "emotion": "angry"})
        if one.labels["emotion"] == "anger"
        else one
        for one in other.utterances
    )
    results = score_model(model, replace(other, utterances=angry))
    assert (
        "angry would be classes of the model with --set tasks.emotion.scheme=harmonised"
        in (results.warnings[0])
    )


def test_command_scores_a_class_set_in_its_own_folder(
    model: Bundle, other: Corpus, run: Run, tmp_path: Path
) -> None:
    from serein.bundle import save

    save(model, tmp_path / "small.safetensors")
    folder = other.utterances[0].path.parents[1]
    base = ["evaluate", "--model", tmp_path / "small.safetensors", "--corpus"]
    base += [f"synthetic={folder}", "--runs", tmp_path / "runs"]
    status, _, err = run(*base)
    assert status == 0, err
    status, out, _ = run(*base, "--classes", "anger,neutral")
    assert status == 0
    assert "forced (quoted)" in out
    runs = sorted((tmp_path / "runs").glob("*/results.json"))
    headlines = sorted(json.loads(file.read_text())["headline"] for file in runs)
    assert headlines == ["forced", "model"]
