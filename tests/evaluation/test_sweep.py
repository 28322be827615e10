"""Tests of sweeps: points, resumption, trend and report."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from builders.cross_language import CROSS_LANGUAGE, read_two_languages

from serein.errors import ConfigError, ProtocolError, UnknownName
from serein.evaluation.compare import compare
from serein.evaluation.sweep import sweep
from serein.metrics.statistical_tests import slope, slope_test
from serein.records import Corpus
from serein.report import sweep as sweeps
from serein.results import io
from serein.results.evaluation import Results
from serein.results.studies import Sweep, Trend

SHARE = "protocol.auxiliary_share=0,0.5,1"
HASTY = ("training.rate=0.02", "training.batch=4", "training.epochs=3")
"""Settings with which seeds and shares have different scores."""


def run_sweep(
    corpus: Corpus, runs: Path, setting: str = SHARE, *more: str, **options: Any
) -> Sweep:
    options = {"seeds": 2, **options}
    return sweep("li2019", corpus, setting, settings=[*CROSS_LANGUAGE, *more], runs=runs, **options)


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return read_two_languages(tmp_path_factory.mktemp("joint"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def finished_sweep(joint: Corpus, runs: Path) -> Sweep:
    return run_sweep(joint, runs, SHARE, *HASTY)


def results_of(finished_sweep: Sweep, runs: Path) -> list[list[Results]]:
    return [
        [io.load_results(runs / seed.run) for seed in point.seeds]
        for point in finished_sweep.points
    ]


def test_every_point_is_an_evaluation(finished_sweep: Sweep, runs: Path) -> None:
    assert [point.value for point in finished_sweep.points] == [0, 0.5, 1]
    for point, each in zip(finished_sweep.points, results_of(finished_sweep, runs), strict=True):
        assert [one.environment["seed"] for one in each] == [0, 1]
        assert {one.recipe["protocol"]["auxiliary_share"] for one in each} == {point.value}
        quoted = [one.scores[one.headline]["emotion"] for one in each]
        assert [seed.ua for seed in point.seeds] == pytest.approx(
            [one.ua for one in quoted], rel=1e-5
        )
        assert [seed.wa for seed in point.seeds] == pytest.approx(
            [one.wa for one in quoted], rel=1e-5
        )
        assert point.ua == pytest.approx(fmean(one.ua or 0 for one in quoted), rel=1e-5)
        assert point.wa == pytest.approx(fmean(one.wa or 0 for one in quoted), rel=1e-5)
        assert point.ua_interval is not None
        assert point.ua_interval[0] <= (point.ua or 0) <= point.ua_interval[1]
    assert len({seed.ua for point in finished_sweep.points for seed in point.seeds}) > 2
    assert [point.training_utterances for point in finished_sweep.points] == [16, 32, 49]
    assert "emodb (16 of 33 utterances)" in finished_sweep.points[1].split
    assert (finished_sweep.task, finished_sweep.selection, finished_sweep.utterances) == (
        "emotion",
        "validation",
        32,
    )


def test_each_point_is_tested_against_the_first(finished_sweep: Sweep, runs: Path) -> None:
    assert [(one.first, one.second) for one in finished_sweep.paired_tests] == [
        ("protocol.auxiliary_share=0.5", "protocol.auxiliary_share=0"),
        ("protocol.auxiliary_share=1", "protocol.auxiliary_share=0"),
    ]
    seeds = results_of(finished_sweep, runs)
    for contest, first in zip(finished_sweep.paired_tests, (1, 2), strict=True):
        own = [finished_sweep.points[first].ua or 0, finished_sweep.points[0].ua or 0]
        assert contest.scores["ua"] == pytest.approx(own)
        pair = compare([runs / seeds[first][0].name, runs / seeds[0][0].name]).paired_tests[0]
        assert contest.mcnemar == pytest.approx(pair.mcnemar)
        assert contest.adjusted["mcnemar"] >= (contest.mcnemar or 0) - 1e-9


def test_the_trend_is_that_of_the_seeds(finished_sweep: Sweep) -> None:
    assert finished_sweep.trend is not None
    ua_sp = np.array(
        [[point.seeds[s].ua for point in finished_sweep.points] for s in range(2)], dtype=float
    )
    assert finished_sweep.trend.slope == pytest.approx(
        float(slope([0, 0.5, 1], ua_sp.mean(axis=0)))
    )
    assert finished_sweep.trend.p == pytest.approx(slope_test([0, 0.5, 1], ua_sp))
    assert finished_sweep.trend.arrangements == 36
    low, high = finished_sweep.trend.interval or (1, 0)
    assert low <= finished_sweep.trend.slope <= high
    assert "2 seeds (few: likely too narrow)" in finished_sweep.interval


def test_finished_sweep_is_read_from_disk(
    finished_sweep: Sweep, joint: Corpus, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise AssertionError("nothing is to be trained")

    monkeypatch.setattr("serein.evaluation.folds.fit", fail)
    again = run_sweep(joint, runs, SHARE, *HASTY)
    assert io.to_builtin(replace(again, created="")) == io.to_builtin(
        replace(finished_sweep, created="")
    )
    assert io.to_builtin(io.load_record(Sweep, runs / finished_sweep.name)) == io.to_builtin(again)
    fewer = run_sweep(joint, runs, "protocol.auxiliary_share=1,0", *HASTY)
    assert [point.value for point in fewer.points] == [1, 0]
    assert fewer.name != finished_sweep.name
    with pytest.raises(AssertionError, match="nothing is to be trained"):
        run_sweep(joint, runs, SHARE, *HASTY, seeds=3)


def test_interrupted_sweep_is_resumed(
    joint: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[str] = []

    def interrupt_after_two(setting: str, results: Results) -> None:
        evaluated.append(setting)
        if len(evaluated) == 2:
            raise KeyboardInterrupt

    setting = "protocol.auxiliary_share=0,1"
    with pytest.raises(KeyboardInterrupt):
        run_sweep(joint, tmp_path, setting, seeds=1, on_evaluation=interrupt_after_two)
    assert list(tmp_path.glob("*/sweep.json")) == []
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*/results.json")}
    assert len(before) == 2
    finished_sweep = run_sweep(joint, tmp_path, setting, seeds=1, on_evaluation=interrupt_after_two)
    assert evaluated == ["protocol.auxiliary_share=0", "protocol.auxiliary_share=1"] * 2
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert finished_sweep.trend is not None
    assert finished_sweep.trend.arrangements == 2
    assert "cannot be tested: 2 permutations give no p below 0.500" in sweeps.describe_trend(
        finished_sweep
    )
    assert "one training seed; scores differ between seeds" in finished_sweep.interval


def test_values_that_are_not_numbers_have_no_trend(joint: Corpus, tmp_path: Path) -> None:
    one = ("protocol.name=by-label", "protocol.by=speaker", "protocol.test=DC")
    finished_sweep = run_sweep(joint, tmp_path, "training.select_by=first,mean", *one, seeds=1)
    assert (finished_sweep.trend, finished_sweep.utterances) == (None, 8)
    assert [point.value for point in finished_sweep.points] == ["first", "mean"]
    assert "has values that are not numbers" in sweeps.describe_trend(finished_sweep)
    axis = sweeps.build_sweep_figures(finished_sweep)["sweep"][0].to_plotly_json()["layout"][
        "xaxis"
    ]
    assert axis["type"] == "category"


FAULTS: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("protocol.auxiliary_share", {}, ConfigError, "'protocol.auxiliary_share' is not a setting"),
    (
        "protocol.auxiliary_share=",
        {},
        ConfigError,
        "protocol.auxiliary_share= is not a list of two or more values; write",
    ),
    (
        "protocol.auxiliary_share=0.5",
        {},
        ConfigError,
        "share=0.5 is not a list of two or more values",
    ),
    ("protocol.auxiliary_share=1,1.0", {}, ConfigError, "is not a list of two or more values"),
    (
        "protocol.auxiliary_share=0..1",
        {},
        ConfigError,
        r"share=0\.\.1 is not a list of two or more values",
    ),
    (
        "protocol.auxiliary_share=0,1.5",
        {},
        ConfigError,
        "auxiliary_share = 1.5 takes 50 utterances of emodb",
    ),
    ("protocol.auxiliary_shares=0,1", {}, UnknownName, "did you mean 'auxiliary_share'"),
    ("protocol.main=savee,emodb", {}, ConfigError, "main=emodb tests other utterances, or other"),
    ("tasks.emotion.scheme=own,four", {}, ConfigError, "scheme=four tests other utterances"),
    ("protocol.main=savee,paris", {}, ProtocolError, "main = 'paris': expected one of several"),
    (SHARE, {"seeds": 0}, ConfigError, "seeds is 0; expected 1 or more"),
]


@pytest.mark.parametrize(("setting", "options", "kind", "words"), FAULTS)
def test_impossible_sweeps_are_errors_before_training(
    joint: Corpus,
    tmp_path: Path,
    setting: str,
    options: dict[str, Any],
    kind: type[Exception],
    words: str,
) -> None:
    with pytest.raises(kind, match=words):
        run_sweep(joint, tmp_path, setting, **options)
    assert list(tmp_path.iterdir()) == []


CLEAR_TREND = Trend(slope=0.1, interval=(0.05, 0.15), p=0.001, arrangements=36)


@pytest.mark.parametrize(
    ("trend", "words"),
    [
        (CLEAR_TREND, "changes by +10.0 points [5.0, 15.0] per unit of protocol.auxiliary_share"),
        (CLEAR_TREND, "There is a trend: UA rises with protocol.auxiliary_share."),
        (
            replace(CLEAR_TREND, slope=-0.1, interval=(-0.2, -0.1)),
            "UA falls with protocol.auxiliary_share",
        ),
        (replace(CLEAR_TREND, p=0.0004), "as steep a slope with p < 0.001."),
        (replace(CLEAR_TREND, p=0.06), "with p = 0.060. No trend was found, which does not prove"),
        (replace(CLEAR_TREND, interval=(-0.01, 0.2)), "No trend was found"),
        (replace(CLEAR_TREND, interval=None), "points no interval per"),
        (replace(CLEAR_TREND, p=None), "p = n/a. No trend was found"),
        (replace(CLEAR_TREND, arrangements=20), "20 permutations give no p below 0.050"),
    ],
)
def test_description_of_the_trend(finished_sweep: Sweep, trend: Trend, words: str) -> None:
    assert words in sweeps.describe_trend(replace(finished_sweep, trend=trend))


def test_intervals_of_earlier_versions_show_no_trend(finished_sweep: Sweep) -> None:
    words = "95 % bootstrap over 360 utterances (6 speakers are too few; likely too narrow)"
    earlier = replace(finished_sweep, trend=CLEAR_TREND, interval=words)
    assert "Whether there is a trend cannot be told" in sweeps.describe_trend(earlier)


def test_report(finished_sweep: Sweep, tmp_path: Path) -> None:
    html_file, markdown_file = sweeps.write_sweep(finished_sweep, tmp_path)
    html, text = html_file.read_text(), markdown_file.read_text()
    assert (html_file.name, markdown_file.name) == ("sweep.html", "sweep.md")
    for point in finished_sweep.points:
        assert f"{100 * (point.ua or 0):.1f}" in text
        assert all(seed.run in text for seed in point.seeds)
    assert r"# Sweep: protocol.auxiliary\_share of li2019 on savee+emodb" in text
    assert "3 values x 2 seeds (0, 1), leave-one-speaker-out, 32 utterances tested" in text
    assert "**Splits**" in text
    assert "7 utterances of emodb left out: emotion labels without a class in the main" in text
    assert r"protocol.auxiliary\_share=0.5" in text
    (figure,) = json.loads(html.split('id="figures">')[1].split("</script>")[0]).values()
    seeds, ua, wa = figure["data"]
    assert ua["x"] == wa["x"] == [0, 0.5, 1]
    assert ua["y"] == pytest.approx([100 * (p.ua or 0) for p in finished_sweep.points], abs=0.05)
    high = [100 * (p.ua_interval or (0, 0))[1] for p in finished_sweep.points]
    assert np.add(ua["y"], ua["error_y"]["array"]) == pytest.approx(high, abs=0.1)
    assert len(seeds["y"]) == 6
    assert "Plotly" in html


def test_command(run: Callable[..., tuple[int, str, str]], tmp_path: Path, joint: Corpus) -> None:
    place = joint.utterances[0].path.parents[2]
    corpora = [f"--corpus={name}={place / name}" for name in ("savee", "emodb")]
    settings = [f"--set={setting}" for setting in CROSS_LANGUAGE]
    words = ["sweep", "li2019", *corpora, "--partial", *settings, "--jobs=1"]
    status, out, err = run(*words, "--setting", "protocol.auxiliary_share=0,1")
    assert status == 0
    assert "Sweep: protocol.auxiliary_share of li2019 on savee+emodb" in out
    assert "protocol.auxiliary_share=1, seed 0: emotion: WA" in err
    (folder,) = (tmp_path / "runs").glob("*-sweep-*")
    assert {file.name for file in folder.iterdir()} == {"sweep.json", "sweep.html", "sweep.md"}
    (folder / "sweep.md").unlink()
    status, again, _ = run("report", folder)
    assert status == 0
    assert again.split("\n\n")[:-1] == out.split("\n\n")[:-1]
    assert (folder / "sweep.md").is_file()
    status, _, err = run(*words, "--setting", "protocol.auxiliary_share=0,2")
    assert (status, "share = 2 takes 66 utterances of emodb" in err) == (2, True)


def test_first_task_with_values_is_an_error(joint: Corpus, runs: Path) -> None:
    rated = [
        replace(one, labels={**one.labels, "rating": float(1 + place % 5)})
        for place, one in enumerate(joint.utterances)
    ]
    number = "tasks.emotion={name='dimensions', label='rating', scheme='values'}"
    with pytest.raises(ConfigError, match="emotion, the first task, is a regression"):
        run_sweep(replace(joint, utterances=tuple(rated)), runs, SHARE, number)
