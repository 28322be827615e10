"""Reports of a search, and the command."""

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders.report_reader import Page, normalize_spaces
from builders.small_systems import SIZES

from serein import cli
from serein.errors import ConfigError
from serein.evaluation.evaluate import Run, evaluate
from serein.records import Recipe
from serein.report import figures
from serein.report import search as trials
from serein.results import io
from serein.results.studies import Search, Trial

RUDE = "<b>|a_b"


@pytest.fixture
def search() -> Search:
    def trial(number: int, weight: float, name: str, score: float, spread: float) -> Trial:
        return Trial(
            number=number,
            settings={"tasks.gender.weight": weight, "model.name": name, "training.rate": 1e-3},
            state="finished",
            score=score,
            folds={"a": score - spread, "b": score + spread, "c": None},
            run=f"li2019-spoken-seed3-{number}abc",
            seconds=60.0,
        )

    settings = {"tasks.gender.weight": 0.9, "model.name": RUDE, "training.rate": 0.01}
    return Search(
        format=io.FORMAT,
        name="li2019-spoken-seed3-search-abcd",
        command="serein search li2019 --corpus spoken=x",
        created="2026-11-21T02:46:44+00:00",
        recipe={"name": "li2019"},
        corpus={"name": "spoken"},
        protocol={"name": "leave-one-speaker-out", "folds": 3},
        task="emotion",
        space={
            "tasks.gender.weight": "0..1",
            "model.name": f"li2019,{RUDE}",
            "training.rate": "0.0001..0.01:log",
        },
        seed=3,
        trials=[
            trial(0, 0.25, "li2019", 0.5, 0.1),
            trial(1, 0.5, RUDE, 0.613, 0.05),
            Trial(number=2, settings=settings, state="failed", fault="no such model"),
            Trial(number=3, settings=settings, state="running"),
        ],
        best=1,
        evaluation="serein evaluate li2019 --set tasks.gender.weight=0.5",
        warnings=["a warning"],
    )


def test_table_lists_every_trial_the_best_first(search: Search) -> None:
    every, space, faults = trials.build_search_tables(search)
    assert [row.cells for row in every.rows] == [
        ("1", "0.5", RUDE, "0.001", "61.3", "7.1", "56.3", "1abc"),
        ("0", "0.25", "li2019", "0.001", "50.0", "14.1", "40.0", "0abc"),
        ("2", "0.9", RUDE, "0.01", "n/a", "n/a", "n/a", "failed"),
        ("3", "0.9", RUDE, "0.01", "n/a", "n/a", "n/a", "running"),
    ]
    assert [row.kind for row in every.rows] == ["headline", "", "", ""]
    assert "li2019-spoken-seed3-RUN" in every.note
    assert [row.cells for row in space.rows] == list(search.space.items())
    assert [row.cells for row in faults.rows] == [("2", "no such model")]


def test_headline_warns_of_optimistic_scores(search: Search) -> None:
    best, caution = trials.describe_best_trial(search)
    assert "trial 1, UA of emotion 61.3 % on validation speakers" in best
    assert "The score of the best of 2 trials is optimistic" in caution
    assert "4 trials (2 finished, 1 failed, 1 running)" in trials.describe_search(search)
    alone = replace(search, trials=search.trials[1:2])
    assert "best of" not in list(trials.describe_best_trial(alone))[1]
    assert list(trials.describe_best_trial(replace(search, trials=[]))) == [
        "No trial has a score yet."
    ]


@pytest.mark.parametrize(
    ("ranked_by", "described", "title", "score"),
    [
        ({}, "UA of emotion", "UA", "61.3 %"),
        ({"emotion": "ua"}, "UA of emotion", "UA", "61.3 %"),
        ({"arousal": "ua", "valence": "ua"}, "mean UA of arousal, valence", "mean UA", "61.3 %"),
        (
            {"emotion": "ua", "arousal": "ccc"},
            "mean of UA of emotion, CCC of arousal",
            "mean score",
            "0.613",
        ),
    ],
)
def test_report_names_the_score_that_ranks_trials(
    search: Search, ranked_by: dict[str, str], described: str, title: str, score: str
) -> None:
    search = replace(search, ranked_by=ranked_by)
    best = next(iter(trials.describe_best_trial(search)))
    assert f"trial 1, {described} {score} on validation speakers" in best
    table = trials.build_search_tables(search)[0]
    assert f"Ranked by {described} on validation speakers" in table.note
    assert ("in percent" in table.note) == score.endswith("%")
    assert title in [column.name for column in table.columns]
    line = trials.describe_trial(search.trials[0], search)
    assert f"validation {title} " in line
    assert f"best so far {score} (trial 1)" in line
    axis = figures.plot_trials(search, "training.rate").layout.yaxis.title.text
    assert axis.startswith(f"validation {title}")
    for page in (trials.render_search_markdown(search), trials.render_search_html(search)):
        assert described in page


def test_progress_line_of_a_trial(search: Search) -> None:
    line = trials.describe_trial(search.trials[0], search)
    assert line.startswith("trial 0: tasks.gender.weight=0.25; model.name=li2019;")
    assert line.endswith("validation UA 50.0 %, best so far 61.3 % (trial 1)")
    assert trials.describe_trial(search.trials[2], search).endswith("failed: no such model")


def test_page_and_markdown_hold_every_trial(search: Search, tmp_path: Path) -> None:
    html, text = trials.write_search(search, tmp_path)
    page = Page(html.read_text())
    assert page.open == []
    line = normalize_spaces(page.words)
    for row in trials.build_search_tables(search)[0].rows:
        assert " ".join(row.cells) in line
    assert "a warning" in line
    assert search.evaluation in line
    assert [div["data-figure"] for div in page.all("div") if "data-figure" in div] == [
        *("over-0", "over-1", "over-2"),
    ]
    drawn = json.loads(page.scripts[0])
    assert [figure["layout"]["xaxis"]["type"] for figure in drawn.values()] == [
        *("linear", "category", "log"),
    ]
    markdown = text.read_text()
    assert markdown.startswith("# Search: li2019 on spoken\n")
    assert r"| 1 | 0.5 | &lt;b&gt;\|a\_b | 0.001 | 61.3 | 7.1 | 56.3 | 1abc |" in markdown
    assert "Warning: a warning" in markdown
    assert markdown.endswith(f"```\n{search.evaluation}\n```\n")


def test_figure_has_a_point_per_scored_trial(search: Search) -> None:
    others, best = figures.plot_trials(search, "tasks.gender.weight").data
    assert [(*others.x, *others.y), (*best.x, *best.y)] == [(0.25, 50.0), (0.5, 61.3)]
    assert figures.plot_trials(search, "model.name").data[1].x == ("&lt;b&gt;|a_b",)


def test_a_search_without_scores_has_no_figures(search: Search) -> None:
    empty = replace(search, trials=search.trials[2:], best=None, evaluation="")
    page = Page(trials.render_search_html(empty))
    assert page.scripts == []
    assert "On test speakers" not in page.words
    assert trials.render_search_markdown(empty).endswith(f"```\n{search.command}\n```\n")


def test_search_round_trip(search: Search, tmp_path: Path) -> None:
    io.save_record(search, tmp_path)
    assert io.load_record(Search, tmp_path) == search
    (tmp_path / io.SEARCH_FILE).write_text('{"format": 2, "name": "x"}')
    with pytest.raises(ConfigError, match="holds no search: command: Field required"):
        io.load_record(Search, tmp_path)
    with pytest.raises(ConfigError, match="cannot read"):
        io.load_record(Search, tmp_path / "nowhere")


def command(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["serein", *words])
    status = 0
    try:
        cli.main()
    except SystemExit as ended:
        status = int(ended.code or 0)
    return status, *capsys.readouterr()


def test_command_searches_and_prints_what_to_evaluate(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    small = [word for one in (*SIZES, "training.epochs=1") for word in ("--set", one)]
    words = ["search", "li2019", "--corpus", f"spoken={root / 'labels.csv'}", *small]
    words += ["--set", "features.pad=false", "--jobs", "1", "--trials", "2"]
    status, out, err = command([*words, "--over", "model.heads=1,2"], monkeypatch, capsys)
    assert status == 0, err
    assert err.count("best so far") == 2
    folder = next(tmp_path.glob("runs/*search*"))
    files = {"search.json", "search.html", "search.md"}
    assert files <= {file.name for file in folder.iterdir()}
    evaluation = next(line for line in out.splitlines() if line.startswith("serein evaluate"))
    status, out, err = command(shlex.split(evaluation)[1:], monkeypatch, capsys)
    assert status == 0, err
    assert "was finished on" in err
    status, again, _ = command(["report", str(folder)], monkeypatch, capsys)
    assert status == 0
    assert "Best: trial" in again


def test_failed_trial_is_listed_and_fails_the_command(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fussy(recipe: Recipe, *arguments: Any, **options: Any) -> Run:
        if recipe.model["heads"] == 1:
            raise ConfigError("one head is no head")
        return evaluate(recipe, *arguments, **options)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("serein.evaluation.search.evaluate", fussy)
    small = [word for one in (*SIZES, "training.epochs=1") for word in ("--set", one)]
    words = ["search", "li2019", "--corpus", f"synthetic={root}", *small, "--jobs", "1"]
    status, out, err = command([*words, "--over", "model.heads=1,2"], monkeypatch, capsys)
    assert status == 1
    assert "failed: one head is no head" in err
    assert "Failed trials" in out
    assert "2 of 20 trials: the space has no more" in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (["--over", "model.heads"], 2, "write table.key=value"),
        (["--over", "model.heads=4"], 2, "neither a range nor a choice"),
        (["--set", "protocol.validation=none"], 2, "no validation speakers"),
        (["--storage", "nothing://x"], 2, "cannot open the storage"),
        (["--corpus", "emodb=nowhere"], 1, "does not exist"),
    ],
)
def test_bad_options_give_one_line(
    words: list[str],
    status: int,
    expected: str,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    speakers = ["--set", "protocol.name=leave-one-speaker-out", "--set", "protocol.validation=1"]
    asked = ["search", "li2019", "--corpus", f"synthetic={root}", *speakers, *words]
    found, out, err = command(asked, monkeypatch, capsys)
    assert (found, out) == (status, "")
    assert err.count("\n") == 1
    assert expected in err
