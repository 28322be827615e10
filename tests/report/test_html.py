"""The HTML page: well-formed, escaped, accessible, small and complete."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.example_results import CLASSES, example_results
from builders.report_reader import (
    Page,
    normalize_spaces,
    render_text,
    with_undefined_scores,
    without_folds,
)
from plotly.offline import get_plotlyjs

from serein.records import Finding
from serein.report import audit, figures, html, summary
from serein.results import io
from serein.results.evaluation import AttentionTrace, LabelMapping, OptimisticVariant, Results

TRACE = AttentionTrace(times=[0.0, 1.2], weight=[0.25, 0.75])


@pytest.fixture(scope="module")
def results() -> Results:
    return example_results()


@pytest.fixture(scope="module")
def parsed(results: Results) -> Page:
    return Page(html.render_html(results))


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


def test_page_contains_the_scores(results: Results, parsed: Page) -> None:
    words = " ".join(parsed.words.replace("\u00a0", " ").split())
    for task in results.classes:
        scores = results.scores["validation"][task]
        for value, interval in ((scores.wa, scores.wa_interval), (scores.ua, scores.ua_interval)):
            assert f"{summary.format_percent(value)} % {summary.format_interval(interval)}" in words
    assert str(audit.describe_selection_gap(results)) in words
    assert "Full model (Table 2) test IEMOCAP: anger, happiness with excitement" in words
    assert "validation (quoted)" in words
    assert "best (optimistic)" in words
    assert "3 utterances are shorter than 1 s" in words
    assert results.command in words
    for fact in (
        results.protocol["hash"],
        "9f3b52c0e1d4",
        "model.heads",
        "1 h 23 min 45 s",
        "2.13.0",
    ):
        assert fact in words


def test_tables_and_figures_are_accessible(parsed: Page) -> None:
    tables, captions = parsed.all("table"), parsed.all("caption")
    assert len(tables) == len(captions) >= 10
    assert {header.get("scope") for header in parsed.all("th")} == {"col", "row", "colgroup"}
    regions = [tag for tag in parsed.all("div") if tag.get("class") == "scroll"]
    assert all(tag["tabindex"] == "0" and tag["aria-label"] for tag in regions)
    plotted = [tag for tag in parsed.all("div") if "data-figure" in tag]
    assert len(plotted) == 7
    assert all(tag["role"] == "img" and tag["aria-label"] for tag in plotted)


def test_page_escapes_all_text_of_results(results: Results) -> None:
    rude = "</script><script>alert(1)</script>"
    names = [rude, *results.classes["emotion"][1:]]
    hostile = replace(
        results,
        protocol={**results.protocol, "caution": rude},
        name=rude,
        command=rude,
        corpus={"name": "<script>", "hash": rude},
        recipe={"name": rude, "about": {"system": rude}, rude: {rude: rude}},
        selections={**results.selections, "validation": rude},
        classes={**results.classes, "emotion": names},
        predictions=[replace(item, truth={"emotion": rude}) for item in results.predictions],
        folds=[replace(fold, name=f"{rude}{fold.name}") for fold in results.folds],
        warnings=[rude],
        mapping={
            rude: LabelMapping(scheme=rude, mapped={rude: {rude: 1}}, dropped={rude: 1}, missing=1)
        },
        leakage=[
            Finding(kind=rude, verdict=rude, count=1, description=rude, examples=(rude,)),
        ],
        confident_errors=[
            replace(results.confident_errors[0], id=rude, truth=rude, attention={rude: TRACE})
        ],
        repeats=[replace(repeat, run=rude) for repeat in results.repeats],
    )
    text = html.render_html(hostile)
    parsed = Page(text)
    assert parsed.open == []
    assert len(parsed.scripts) == 3
    assert "<script>alert" not in text
    assert f"{rude} on <script>" in parsed.words
    drawn = json.loads(parsed.scripts[0])
    assert "&lt;/script&gt;" in drawn["confusion-emotion"]["data"][0]["x"][0]


def test_sections_without_data_are_left_out(results: Results, tmp_path: Path) -> None:
    bare = without_folds(results)
    parsed = Page(html.render_html(bare))
    headings = {tag.get("id") for tag in parsed.all("h2")}
    assert headings == {"audit", "classes", "reproduce"}
    assert "Selection audit" not in parsed.words
    assert "model (quoted)" in parsed.words
    words = render_text(bare, 80)
    assert "WA folds" not in words
    assert "model (quoted)" in words
    io.save_record(bare, tmp_path)
    assert io.load_results(tmp_path) == bare


def test_page_without_scores(results: Results) -> None:
    empty = replace(results, scores={}, folds=[], predictions=[], fold_means={}, baselines={})
    parsed = Page(html.render_html(empty))
    assert "There are no scores" in parsed.words
    assert parsed.scripts == []
    assert render_text(empty).startswith("li2019-emodb on emodb")


def test_undefined_scores_have_a_reason(results: Results) -> None:
    parsed = Page(html.render_html(with_undefined_scores(results)))
    reasons = {str(tag["title"]) for tag in parsed.all("abbr")}
    assert "undefined: nothing was scored" in reasons
    assert "undefined: no utterance of this class was tested" in reasons
    assert "n/a" in parsed.words
    assert "emotion: WA n/a, UA n/a" in render_text(with_undefined_scores(results))


def test_confusion_figure_shows_shares_of_rows(results: Results) -> None:
    scores = with_undefined_scores(results).scores["validation"]["emotion"]
    heat, *words = figures.plot_confusion(scores, CLASSES["emotion"]).data
    assert list(heat.z[2]) == [None] * 7
    assert sum(heat.z[0]) == pytest.approx(100, abs=0.1)
    assert sum(len(trace.text) for trace in words) == 42
    many = replace(scores, confusion=np.eye(24, dtype=int).tolist())
    assert len(figures.plot_confusion(many, [f"speaker {index}" for index in range(24)]).data) == 1


def test_curves_show_every_fold_and_their_mean(results: Results) -> None:
    chosen = {"validation": "selected by validation", "best": "selected by best"}
    figure = figures.plot_scores(results.folds, "test", "emotion", chosen)
    assert figure is not None
    *folds, mean, quoted, best = figure.data
    assert len(folds) == 10
    expected = np.mean([fold.history[4].scores["test"]["emotion"]["ua"] for fold in results.folds])
    assert mean.y[4] == pytest.approx(100 * expected, abs=0.1)
    assert list(quoted.x) == [fold.epochs["validation"] for fold in results.folds]
    assert quoted.marker.symbol != best.marker.symbol
    assert figures.plot_scores(results.folds, "test", "valence", chosen) is None
    assert figures.plot_loss([], {}) is None


def test_confident_errors_are_drawn_and_described(results: Results, parsed: Page) -> None:
    drawn = parsed.all("svg")
    assert len(drawn) == len(results.confident_errors) == 6
    first = results.confident_errors[0]
    assert drawn[0]["role"] == "img"
    told = str(drawn[0]["aria-label"])
    assert told.startswith(
        f"Waveform of {first.id}, 2.40 s, {first.truth} predicted as {first.answer} with "
        f"{100 * first.confidence:.1f} % confidence; pooling is highest from "
    )
    assert (
        f"{first.truth} predicted as {first.answer}, {100 * first.confidence:.1f} %" in parsed.words
    )
    assert f"{first.id}, fold {first.fold}, pooling" in parsed.words
    assert next(iter(first.attention)) == "pooling"
    assert len(first.attention) == 2
    kinds = [tag["class"] for tag in parsed.all("path")][:4]
    assert kinds == ["wave", "attention", "attention line1", "axis"]


def test_every_map_of_an_error_is_drawn(results: Results) -> None:
    late = AttentionTrace(times=[0.0, 1.2], weight=[0.1, 0.9])
    two = replace(results.confident_errors[0], attention={"local": TRACE, "self": late})
    drawn = Page(html.render_html(replace(results, confident_errors=[two])))
    assert [tag["class"] for tag in drawn.all("path")] == [
        *("wave", "attention", "attention line1", "axis")
    ]
    assert "local, self (line 1)" in normalize_spaces(drawn.words)
    told = str(drawn.all("svg")[0]["aria-label"])
    assert "self is highest from 1.20 to 2.40 s, with 90.0 % of its weight" in told


def test_verdicts_are_text_and_style(results: Results, parsed: Page) -> None:
    kinds = [tag.get("class") for tag in parsed.all("tr")]
    assert [kind for kind in kinds if kind in ("clean", "warning", "allowed", "error")] == [
        finding.verdict for finding in results.leakage
    ]
    words = normalize_spaces(parsed.words)
    assert "sentence warning 5350 every test sentence" in words
    assert "a01, a02, a04 and 2 more" in words


def test_reliability_figure_has_bins_and_the_ideal_line(results: Results) -> None:
    own = results.calibration["emotion"]
    ideal, raw, tempered = figures.plot_reliability(own).data
    assert list(ideal.x) == list(ideal.y) == [0, 100]
    assert list(raw.customdata) == [count for count, _, _ in own.raw.bins]
    assert raw.y[2] == pytest.approx(100 * own.raw.bins[2][2], abs=0.01)
    assert raw.marker.symbol != tempered.marker.symbol
    assert raw.line.dash != tempered.line.dash
    assert len(figures.plot_reliability(replace(own, calibrated=None)).data) == 2


def test_published_results_are_next_to_the_scores(results: Results) -> None:
    words = normalize_spaces(Page(html.render_html(results)).words)
    score = results.scores["validation"]["emotion"]
    ours = f"{summary.format_percent(score.wa)} {summary.format_percent(score.ua)}"
    assert f"validation {ours} Full model (Table 2) test IEMOCAP" in words
    assert "leave-one-session-out the best of 100 epochs, probably on the test subset 81.6" in words
    assert "Contradictions and gaps in the paper" in words
    assert "Published results" not in html.render_html(replace(results, recipe={}))
    none = replace(results, recipe={"name": "li2019-emodb", "about": {"follows": ""}})
    assert "Published results" not in html.render_html(none)


def test_optimistic_evaluations_are_in_one_table(results: Results) -> None:
    asked = normalize_spaces(Page(html.render_html(results)).words)
    assert "Optimistic evaluations" in asked
    assert "with --audit to measure a random split" in asked
    scores: dict[str, dict[str, float | None]] = {"emotion": {"wa": 0.9, "ua": 0.95}}
    variant = OptimisticVariant(
        name="random-split", description="mixed speakers", run="r", scores=scores
    )
    words = normalize_spaces(
        Page(html.render_html(replace(results, optimistic_variants=[variant]))).words
    )
    quoted = results.scores["validation"]["emotion"]
    assert quoted.wa is not None
    assert quoted.ua is not None
    gains = [90.0 - round(100 * quoted.wa, 1), 95.0 - round(100 * quoted.ua, 1)]
    assert f"random split mixed speakers 90.0 95.0 {gains[0]:+.1f} {gains[1]:+.1f}" in words
    assert "--audit" not in words
    assert "test-selected epochs the best epoch on each fold" in words
    honest = replace(results, selections={"last": "the last epoch"}, headline="last")
    assert "Optimistic evaluations" not in html.render_html(honest)


def test_page_of_a_large_corpus_is_small(tmp_path: Path) -> None:
    results = example_results(5531)
    html.write_page(results, tmp_path)
    assert (tmp_path / "report.html").stat().st_size - len(get_plotlyjs().encode()) < 5e5
