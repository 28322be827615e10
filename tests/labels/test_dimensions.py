"""Levels of ratings, and proxies for corpora without ratings."""

from dataclasses import replace
from pathlib import Path

import pytest
from builders.small_systems import QUICK

from serein import corpora, labels, recipes
from serein.errors import ConfigError
from serein.evaluation.evaluate import Run, evaluate
from serein.evaluation.score_saved import score_model
from serein.evaluation.train import train
from serein.labels import dimensions
from serein.records import Corpus
from serein.report import html, summary
from serein.synthetic.iemocap import write_small_iemocap

PROXIES = [
    f"tasks.{dimension}={{name='dimensions', label='emotion', scheme='proxy-{dimension}'}}"
    for dimension in ("arousal", "valence", "dominance")
]
NO_OTHER_TASKS = ["tasks.emotion=remove", "tasks.gender=remove"]


@pytest.mark.parametrize(
    ("rating", "level"),
    [
        *(("1", "low"), ("1.5", "low"), ("2", "low"), ("2.0", "low")),
        *(("2.001", "middle"), ("3", "middle"), ("3.999", "middle")),
        *(("4", "high"), ("4.5", "high"), ("5.0", "high")),
    ],
)
def test_levels_have_the_limits_of_the_paper(rating: str, level: str) -> None:
    assert labels.map_to_class(rating, "levels") == level


@pytest.mark.parametrize("rating", ["0.99", "5.01", "-3", "nan", "inf", "calm", ""])
def test_get_rating_level_of_an_invalid_rating_is_an_error(rating: str) -> None:
    with pytest.raises(ConfigError, match="expected a number from 1 to 5"):
        dimensions.get_rating_level(rating)


def test_proxies_of_each_dimension_have_three_levels() -> None:
    words = {
        "emodb": ["anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness"],
        "ravdess": ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"],
    }
    for names in words.values():
        for dimension in dimensions.DIMENSIONS:
            found = [labels.map_to_class(name, f"proxy-{dimension}") for name in names]
            assert set(found) == {"low", "middle", "high"}


@pytest.mark.parametrize(
    ("emotion", "levels"),
    [
        ("anger", ("low", "high", "high")),
        ("sadness", ("low", "low", "low")),
        ("fear", ("low", "high", "low")),
        ("happiness", ("high", "high", "high")),
        ("neutral", ("middle", "middle", "middle")),
    ],
)
def test_proxy_levels_follow_the_norms(emotion: str, levels: tuple[str, ...]) -> None:
    found = tuple(
        dimensions.get_proxy_level(emotion, dimension) for dimension in dimensions.DIMENSIONS
    )
    assert found == levels


def test_norms_have_known_emotions_and_stay_within_their_scale() -> None:
    for name, norm in dimensions._read_norms().items():
        assert labels.harmonize_emotion(name) == name
        assert len(norm) == 3
        assert all(-1 <= value <= 1 for value in norm)


@pytest.fixture(scope="module")
def run(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    runs = tmp_path_factory.mktemp("runs")
    return evaluate("li2019", corpus, settings=[*QUICK, *PROXIES, *NO_OTHER_TASKS], runs=runs)


def test_results_with_proxies_carry_a_caution(run: Run) -> None:
    results = run.results
    assert list(results.classes) == ["arousal", "valence", "dominance"]
    assert "proxy labels: arousal, valence, dominance are norms" in results.protocol["caution"]
    assert summary.get_caution(results).startswith("proxy labels")
    assert 'role="note"><strong>Caution:</strong> proxy labels' in html.render_html(results)
    assert results.mapping["arousal"].scheme == "proxy-arousal"
    assert results.mapping["arousal"].mapped["high"] == {"anger": 8}


def test_scores_of_a_saved_model_with_proxies_carry_a_caution(
    corpus: Corpus, tmp_path: Path
) -> None:
    settings = [*QUICK, *PROXIES, *NO_OTHER_TASKS, "training.epochs=1"]
    saved = train("li2019", corpus, tmp_path / "a.safetensors", settings=settings)
    assert "proxy labels" in score_model(saved, corpus).protocol["caution"]


def test_ratings_of_iemocap_become_levels(tmp_path: Path) -> None:
    write_small_iemocap(tmp_path, utterances=60, words=1)
    from serein.corpora import iemocap

    first, *rest = iemocap.read(tmp_path, partial=True)
    rated = {name: value for name, value in first.labels.items() if name != "dominance"}
    read = Corpus(name="iemocap", utterances=(replace(first, labels=rated), *rest))
    ratings = [
        f"tasks.{dimension}={{name='dimensions', scheme='levels'}}"
        for dimension in ("arousal", "valence", "dominance")
    ]
    settings = [*QUICK, *ratings, *NO_OTHER_TASKS, "training.epochs=1", "protocol.name=zhang-text"]
    results = evaluate("li2019", read, settings=settings, runs=tmp_path / "runs").results
    assert results.protocol["caution"] == ""
    lows = sum(float(u.labels.get("valence", 3)) <= 2 for u in read.utterances)
    assert sum(results.mapping["valence"].mapped.get("low", {}).values()) == lows
    missing = sum("dominance" not in u.labels for u in read.utterances)
    assert results.mapping["dominance"].missing == missing > 0


def test_a_rating_out_of_range_is_an_error_with_its_utterance(folder: Path, tmp_path: Path) -> None:
    (folder / "labels.csv").write_text(
        "path,speaker,gender,arousal\na.wav,1,f,1.0\nsub/b.wav,2,f,7.5\nc.wav,3,f,4.0\n"
    )
    read = corpora.load(f"mine={folder / 'labels.csv'}")
    settings = [*QUICK, *NO_OTHER_TASKS, "tasks.arousal={name='dimensions', scheme='levels'}"]
    with pytest.raises(ConfigError, match=r"utterance sub/b.wav, task arousal: a rating is '7.5'"):
        evaluate(recipes.load("li2019", settings), read, runs=tmp_path)
