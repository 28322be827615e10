"""What a report says is what results hold: in JSON, in the terminal, and on the page."""

import io
import json
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plotly.offline import get_plotlyjs
from reporting import CLASSES, SPEAKERS, WORDS, example
from rich.console import Console

from serein import store
from serein.errors import ConfigError
from serein.metrics.classification import weighted_accuracy_score
from serein.report import audit, page, plots, speakers, summary, terminal
from serein.results import Epoch, Results

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags nest; collects attributes, scripts, and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not self.open or self.open[-1] != "style":
            self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def results() -> Results:
    return example()


@pytest.fixture(scope="module")
def parsed(results: Results) -> Page:
    return Page(page.html(results))


def only_a_model(results: Results) -> Results:
    """What scoring a saved bundle leaves: one selection, no folds, no histories, no speakers."""
    item = results.headline
    nameless = [
        replace(prediction, speaker=None, gender=None, selections={"model": shares})
        for prediction in results.predictions
        if (shares := prediction.selections[item])
    ]
    return replace(
        results,
        recipe={},
        protocol={},
        headline="model",
        selections={"model": "the saved model, as it is"},
        scores={"model": results.scores[item]},
        fold_means={},
        baselines={"chance": results.baselines["chance"]},
        folds=[],
        predictions=nameless,
        warnings=[],
    )


def undefined(results: Results) -> Results:
    """A class that never occurs, and scores that nobody could compute."""
    confusion = [list(row) for row in results.scores["validation"]["emotion"].confusion]
    confusion[2] = [0] * 7
    scores = replace(
        results.scores["validation"]["emotion"],
        wa=None,
        ua=None,
        wa_interval=None,
        ua_interval=None,
        recalls={**results.scores["validation"]["emotion"].recalls, "disgust": None},
        confusion=confusion,
    )
    return replace(
        results, scores={**results.scores, "validation": {"emotion": scores}}, classes=CLASSES
    )


def text(results: Results, width: int = 100) -> str:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(terminal.render(results))
    return file.getvalue()


def plain(words: str) -> str:
    return " ".join(words.replace("\u00a0", " ").split())


def test_round_trip(results: Results, tmp_path: Path) -> None:
    store.save(results, tmp_path / "run")
    assert store.load(tmp_path / "run") == results
    assert store.load(tmp_path / "run" / "results.json") == results
    store.save(undefined(results), tmp_path / "other.json")
    assert store.load(tmp_path / "other.json") == undefined(results)


def test_stored_numbers_have_six_digits_and_no_nan(results: Results, tmp_path: Path) -> None:
    epoch = Epoch(epoch=1, loss=float("nan"), seconds=1 / 3, scores={"test": {"emotion": {}}})
    diverged = replace(results, folds=[replace(results.folds[0], history=[epoch])])
    store.save(diverged, tmp_path)
    text = (tmp_path / "results.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["folds"][0]["history"][0]["seconds"] == 0.333333
    again = store.load(tmp_path).folds[0].history[0]
    assert np.isnan(again.loss)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3}, "has format 3; this serein reads 1 to 2; upgrade serein"),
        ({"format": "1"}, "has format '1'; this serein reads 1 to 2"),
        ({"seconds": "long"}, "holds no results: seconds: Input should be a valid number"),
        ({"scores": None, "folds": "none"}, "holds no results: .*more"),
    ],
)
def test_foreign_results_are_refused(
    results: Results, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    (tmp_path / "results.json").write_text(json.dumps({**store.plain(results), **change}))
    with pytest.raises(ConfigError, match=message) as refusal:
        store.load(tmp_path)
    assert "\n" not in str(refusal.value)


def test_unreadable_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*give a run folder"):
        store.load(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        store.load(tmp_path)
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(ConfigError, match="has format None"):
        store.load(tmp_path)


@pytest.mark.parametrize("width", [80, 100])
def test_text_says_the_scores_within_its_width(results: Results, width: int) -> None:
    words = text(results, width)
    lines = words.splitlines()
    assert max(map(len, lines)) <= width
    assert "\x1b" not in words
    assert lines[0] == "li2019-emodb on emodb"
    assert lines[1].startswith("leave-one-speaker-out, 10 folds, 535 utterances tested")
    scores = results.scores["validation"]["emotion"]
    assert scores.wa_interval is not None
    low, high = scores.wa_interval
    quoted = f"emotion: WA {100 * (scores.wa or 0):.1f} % [{100 * low:.1f}, {100 * high:.1f}], UA "
    assert quoted in words
    assert "Quoted: validation (the epoch with the best UA" in words
    assert "optimistic: picked on the test side" in " ".join(words.split())
    assert "Warning: 3 utterances are shorter than 1 s" in words
    for row in ("validation, quoted", "last", "best, optimistic", "majority", "chance"):
        assert any(line.startswith(row) for line in lines), row


def test_gap_is_the_difference_of_the_printed_scores(results: Results) -> None:
    rows = {row.name: row for row in audit.comparison(results, "emotion")}
    best, quoted, last = (
        float(summary.percent(rows[name].ua)) for name in ("best", "validation", "last")
    )
    sentence = str(audit.gap(results))
    assert sentence.startswith(
        f"Picking epochs on the test side reports a UA of {best} %: "
        f"{best - quoted:.1f} points above the epochs that validation chose "
        f"and {best - last:.1f} points above the last epoch. "
    )
    interval, words = audit.difference(results, "emotion", "best", "validation")
    low, high = (summary.percent(bound) for bound in interval or ())
    assert sentence.endswith(f"differ by {low} to {high} points: paired {words}.")
    swapped = replace(results, scores={**results.scores, "best": results.scores["last"]})
    assert f"{quoted - last:.1f} points below the epochs that" in str(audit.gap(swapped))
    assert "and the same as the last epoch" in str(audit.gap(swapped))
    assert audit.gap(undefined(results)) is None
    assert audit.gap(only_a_model(results)) is None
    quoting = replace(results, headline="last", selections={k: WORDS[k] for k in ("last", "best")})
    assert f": {best - last:.1f} points above the last epoch." in str(audit.gap(quoting))


def test_gap_interval_equals_drawing_speakers_one_by_one(results: Results) -> None:
    names = results.classes["emotion"]
    hits: dict[str, Any] = {speaker: np.zeros((3, 7)) for speaker in SPEAKERS}
    for item in results.predictions:
        gold = names.index(str(item.truth["emotion"]))
        hits[str(item.speaker)][2, gold] += 1
        for side, name in enumerate(("best", "validation")):
            hits[str(item.speaker)][side, gold] += (
                int(np.argmax(item.selections[name]["emotion"])) == gold
            )
    rng = np.random.default_rng(1)
    gaps = []
    for _ in range(10_000):
        best, quoted, total = sum(hits[name] for name in rng.choice(SPEAKERS, size=10))
        gaps.append(np.mean(best / total) - np.mean(quoted / total))
    interval, words = audit.difference(results, "emotion", "best", "validation")
    assert words == "95 % bootstrap over 10 speakers (few: likely too narrow)"
    assert interval == pytest.approx(np.quantile(gaps, [0.025, 0.975]), abs=0.003)


def test_gap_of_few_speakers_resamples_utterances(results: Results) -> None:
    few = [item for item in results.predictions if item.speaker in SPEAKERS[:7]]
    assert "over 376 utterances (7 speakers are too few" in str(
        audit.gap(replace(results, predictions=few))
    )
    nobody = str(audit.gap(replace(results, predictions=[])))
    assert nobody.endswith("the last epoch.")


def test_only_the_leading_task_is_optimistic(results: Results) -> None:
    kinds = {task: {r.name: r for r in audit.comparison(results, task)} for task in CLASSES}
    assert kinds["emotion"]["best"].kind == "optimistic"
    assert kinds["gender"]["best"].kind == "selection"
    assert [row.chosen_by for row in kinds["emotion"].values()] == [None] * 5
    followers = [name for name, row in kinds["gender"].items() if row.chosen_by == "emotion"]
    assert followers == ["validation", "best"]
    words = text(results, 80)
    assert words.count("best, optimistic") == 1
    assert "validation, best: epoch chosen by emotion." in words
    shown = plain(Page(page.html(results)).words)
    assert shown.count("best optimistic") == 2  # the comparison and the folds of emotion
    assert "best epoch chosen by emotion" in shown
    assert "picked by the UA of emotion." in shown


@pytest.mark.parametrize("stored", ["95 % bootstrap over 10 speakers", None])
def test_intervals_say_what_they_leave_out(results: Results, stored: str | None) -> None:
    """Old runs say less of theirs; a run that says it is not told it twice."""
    scores = results.scores["validation"]
    old = {task: replace(s, interval=stored or s.interval) for task, s in scores.items()}
    again = replace(results, scores={**results.scores, "validation": old})
    caveat = "over 10 speakers (few: likely too narrow); one training seed, another would"
    assert caveat in plain(text(again))
    assert caveat in plain(Page(page.html(again)).words)


def test_parts_are_the_speakers_own(results: Results) -> None:
    parts = speakers.parts(results, "emotion", "speaker")
    assert [part.name for part in parts] == sorted({str(p.speaker) for p in results.predictions})
    own = [item for item in results.predictions if item.speaker == "08"]
    classes = results.classes["emotion"]
    answers = [classes[int(np.argmax(p.selections["validation"]["emotion"]))] for p in own]
    expected = weighted_accuracy_score([p.truth["emotion"] for p in own], answers)
    assert parts[1].wa == pytest.approx(expected)
    assert sum(part.utterances for part in parts) == 535
    unlabelled = [replace(p, truth={"emotion": None}) for p in results.predictions]
    assert speakers.parts(replace(results, predictions=unlabelled), "emotion", "speaker") == []


def test_best_and_worst_speaker_are_named(results: Results) -> None:
    parts = speakers.parts(results, "emotion", "speaker")
    best, worst = max(parts, key=lambda part: part.ua), min(parts, key=lambda part: part.ua)
    sentence = str(speakers.extremes(results, "emotion"))
    assert f": {best.name}, UA {100 * best.ua:.1f} % ({best.utterances} utterances)" in sentence
    assert f"; worst: {worst.name}, UA {100 * worst.ua:.1f} % (" in sentence
    assert sentence in plain(text(results))
    assert sentence in plain(Page(page.html(results)).words)
    assert speakers.extremes(only_a_model(results), "emotion") is None


def test_folds_name_who_validated(results: Results) -> None:
    found = speakers.validators(results)
    assert list(found) == SPEAKERS
    assert (found["03"], found["15"], found["16"]) == ("08", "16", "none")
    ids = [item.id for item in results.predictions[:6]]
    sides = {"four": ids[:4], "six": ids, "untested": ["x", "y"], "nobody": []}
    folds = [{"name": name, "validation": side} for name, side in sides.items()]
    told = speakers.validators(replace(results, protocol={"folds": folds}))
    assert list(told.values()) == ["03, 08, 09, 10", "6 speakers", "2 utterances", "none"]
    assert speakers.validators(replace(results, protocol={"folds": SPEAKERS})) == {}
    assert "validated by" not in page.html(replace(results, protocol={}))


def test_speakers_have_a_table_only_where_folds_do_not_show_them(results: Results) -> None:
    assert speakers.are_folds(results)
    shown = page.html(results)
    assert "scores of each gender" in shown
    assert "scores of each speaker" not in shown
    assert "one speaker each" in shown
    own = [replace(item, fold="1") for item in results.predictions]
    pooled = replace(results, predictions=own, folds=[replace(results.folds[0], name="1")])
    shown = page.html(pooled)
    assert "scores of each speaker" in shown
    assert "one speaker each" not in shown
    assert not speakers.are_folds(only_a_model(results))


def test_speaker_dependent_protocol_is_in_the_headline(results: Results) -> None:
    random = replace(results, protocol={**results.protocol, "name": "random"})
    assert "random (speaker-dependent), 10 folds" in text(random)
    assert "random (speaker-dependent), 10 folds" in page.html(random)


def test_text_passes_no_markup_and_no_escape_codes(results: Results) -> None:
    rude = replace(results, corpus={"name": "[red]\x1b[2Jx"}, warnings=["[/bold] \x07"])
    file = io.StringIO()
    Console(file=file, force_terminal=True, width=80, color_system=None).print(
        terminal.render(rude)
    )
    assert "[red]?[2Jx" in file.getvalue()
    assert "[/bold] ?" in file.getvalue()


def test_page_is_well_formed_and_needs_no_network(parsed: Page) -> None:
    assert parsed.open == []
    for tag, attributes in parsed.tags:
        for name in ("src", "href", "data", "action", "poster", "srcset"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith("#"), (tag, value)
    assert not parsed.all("link")
    policy = [tag["content"] for tag in parsed.all("meta") if "http-equiv" in tag]
    assert "default-src 'none'" in str(policy)
    library = get_plotlyjs()
    assert sum(library in script for script in parsed.scripts) == 1
    targets = {attributes["id"] for _, attributes in parsed.tags if "id" in attributes}
    assert {str(a["href"])[1:] for a in parsed.all("a")} <= targets


def test_page_says_the_scores(results: Results, parsed: Page) -> None:
    words = " ".join(parsed.words.replace("\u00a0", " ").split())
    for task in results.classes:
        scores = results.scores["validation"][task]
        for value, interval in ((scores.wa, scores.wa_interval), (scores.ua, scores.ua_interval)):
            assert f"{summary.percent(value)} % {summary.bounds(interval)}" in words
    assert str(audit.gap(results)) in words
    assert "Published by the paper, on its own data and protocol: WA 81.6, UA 82.8" in words
    assert "validation (quoted)" in words
    assert "best optimistic" in words
    assert "3 utterances are shorter than 1 s" in words
    assert results.command in words
    for fact in ("0123456789abcdef", "9f3b52c0e1d4", "model.heads", "1 h 23 min 45 s", "2.13.0"):
        assert fact in words


def test_tables_can_be_read_aloud(parsed: Page) -> None:
    tables, captions = parsed.all("table"), parsed.all("caption")
    assert len(tables) == len(captions) >= 10
    assert {header.get("scope") for header in parsed.all("th")} == {"col", "row", "colgroup"}
    regions = [tag for tag in parsed.all("div") if tag.get("class") == "scroll"]
    assert all(tag["tabindex"] == "0" and tag["aria-label"] for tag in regions)
    plotted = [tag for tag in parsed.all("div") if "data-figure" in tag]
    assert len(plotted) == 5
    assert all(tag["role"] == "img" and tag["aria-label"] for tag in plotted)


def test_page_escapes_whatever_results_say(results: Results) -> None:
    rude = "</script><script>alert(1)</script>"
    names = [rude, *results.classes["emotion"][1:]]
    hostile = replace(
        results,
        name=rude,
        command=rude,
        corpus={"name": "<script>", "hash": rude},
        recipe={"name": rude, "about": {"published": rude}, rude: {rude: rude}},
        selections={**results.selections, "validation": rude},
        classes={**results.classes, "emotion": names},
        predictions=[replace(item, truth={"emotion": rude}) for item in results.predictions],
        folds=[replace(fold, name=f"{rude}{fold.name}") for fold in results.folds],
        warnings=[rude],
    )
    text = page.html(hostile)
    parsed = Page(text)
    assert parsed.open == []
    assert len(parsed.scripts) == 3
    assert "<script>alert" not in text
    assert f"{rude} on <script>" in parsed.words
    figures = json.loads(parsed.scripts[0])
    assert "&lt;/script&gt;" in figures["confusion-emotion"]["data"][0]["x"][0]


def test_missing_parts_are_left_out(results: Results, tmp_path: Path) -> None:
    bare = only_a_model(results)
    parsed = Page(page.html(bare))
    headings = {tag.get("id") for tag in parsed.all("h2")}
    assert headings == {"audit", "classes", "reproduce"}
    assert "Selection audit" not in parsed.words
    assert "model (quoted)" in parsed.words
    words = text(bare, 80)
    assert "WA folds" not in words
    assert "model, quoted" in words
    store.save(bare, tmp_path)
    assert store.load(tmp_path) == bare


def test_a_run_that_scored_nothing_still_has_a_page(results: Results) -> None:
    empty = replace(results, scores={}, folds=[], predictions=[], fold_means={}, baselines={})
    parsed = Page(page.html(empty))
    assert "Nothing was scored" in parsed.words
    assert parsed.scripts == []
    assert text(empty).startswith("li2019-emodb on emodb")


def test_undefined_is_said(results: Results) -> None:
    parsed = Page(page.html(undefined(results)))
    reasons = {str(tag["title"]) for tag in parsed.all("abbr")}
    assert "undefined: nothing was scored" in reasons
    assert "undefined: no utterance of this class was tested" in reasons
    assert "n/a" in parsed.words
    assert "emotion: WA n/a, UA n/a" in text(undefined(results))


def test_confusion_figure_shows_shares_of_rows(results: Results) -> None:
    scores = undefined(results).scores["validation"]["emotion"]
    heat, *words = plots.confusion(scores, CLASSES["emotion"]).data
    assert list(heat.z[2]) == [None] * 7
    assert sum(heat.z[0]) == pytest.approx(100, abs=0.1)
    assert sum(len(trace.text) for trace in words) == 42
    many = replace(scores, confusion=np.eye(24, dtype=int).tolist())
    assert len(plots.confusion(many, [f"speaker {index}" for index in range(24)]).data) == 1


def test_curves_show_every_fold_and_their_mean(results: Results) -> None:
    chosen = {"validation": "validation picks", "best": "best picks"}
    figure = plots.accuracy(results.folds, "test", "emotion", chosen)
    assert figure is not None
    *folds, mean, picked, best = figure.data
    assert len(folds) == 10
    expected = np.mean([fold.history[4].scores["test"]["emotion"]["ua"] for fold in results.folds])
    assert mean.y[4] == pytest.approx(100 * expected, abs=0.1)
    assert list(picked.x) == [fold.epochs["validation"] for fold in results.folds]
    assert picked.marker.symbol != best.marker.symbol
    assert plots.accuracy(results.folds, "test", "valence", chosen) is None
    assert plots.loss([], {}) is None


def test_page_of_a_large_corpus_is_quick_and_small(tmp_path: Path) -> None:
    results = example(5531)
    start = time.process_time()
    page.write(results, tmp_path)
    assert time.process_time() - start < 5
    assert (tmp_path / "report.html").stat().st_size - len(get_plotlyjs().encode()) < 1e6


def test_report_is_light_to_import() -> None:
    code = (
        "import sys, serein.report.page, serein.report.terminal, serein.store;"
        "heavy = {'torch', 'typer', 'plotly', 'jinja2', 'pydantic', 'pandas'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
