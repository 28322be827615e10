"""Sentences and tables on selections, speakers, intervals and seeds."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import scipy.stats
from builders.example_results import CLASSES, SELECTIONS, SPEAKERS, example_results
from builders.report_reader import (
    Page,
    normalize_spaces,
    render_text,
    with_undefined_scores,
    without_folds,
)

from serein.metrics.classification import weighted_accuracy_score
from serein.report import audit, html, latex, markdown, speakers, summary, tables
from serein.results.evaluation import Results
from serein.results.intervals import recompute_intervals

MOMENTS = ["mean", "standard deviation"]


@pytest.fixture(scope="module")
def results() -> Results:
    return example_results()


def test_gap_is_the_difference_of_the_printed_scores(results: Results) -> None:
    rows = {row.name: row for row in audit.compare_selections(results, "emotion")}
    best, quoted, last = (
        float(summary.format_percent(rows[name].scores["ua"]))
        for name in ("best", "validation", "last")
    )
    sentence = str(audit.describe_selection_gap(results))
    assert sentence.startswith(
        f"Selecting epochs on the test subset reports a UA of {best} %: "
        f"{best - quoted:.1f} points above the epochs selected on validation "
        f"and {best - last:.1f} points above the last epoch. "
    )
    pair = audit.pair_selections(results, "emotion", "best", "validation")
    low, high = (summary.format_percent(bound) for bound in pair.interval or ())
    test = f"(permutation of whole speakers: p = {pair.p:.3f})"
    assert sentence.endswith(f"differ by {low} to {high} points {test}: paired {pair.method}.")
    swapped = replace(results, scores={**results.scores, "best": results.scores["last"]})
    assert f"{quoted - last:.1f} points below the epochs selected" in str(
        audit.describe_selection_gap(swapped)
    )
    assert "and the same as the last epoch" in str(audit.describe_selection_gap(swapped))
    assert audit.describe_selection_gap(with_undefined_scores(results)) is None
    assert audit.describe_selection_gap(without_folds(results)) is None
    quoting = replace(
        results, headline="last", selections={k: SELECTIONS[k] for k in ("last", "best")}
    )
    assert f": {best - last:.1f} points above the last epoch." in str(
        audit.describe_selection_gap(quoting)
    )


def test_gap_interval_equals_leaving_out_speakers_one_by_one(results: Results) -> None:
    names = results.classes["emotion"]
    hits: dict[str, Any] = {speaker: np.zeros((3, 7)) for speaker in SPEAKERS}
    for item in results.predictions:
        gold = names.index(str(item.truth["emotion"]))
        hits[str(item.speaker)][2, gold] += 1
        for side, name in enumerate(("best", "validation")):
            hits[str(item.speaker)][side, gold] += (
                int(np.argmax(item.selections[name]["emotion"])) == gold
            )

    def gap(speakers: list[str]) -> float:
        best, quoted, total = sum(hits[name] for name in speakers)
        return float(np.mean(best / total) - np.mean(quoted / total))

    without = [gap([other for other in SPEAKERS if other != name]) for name in SPEAKERS]
    error = np.sqrt(9 / 10 * sum((value - np.mean(without)) ** 2 for value in without))
    half = scipy.stats.t.ppf(0.975, 9) * error
    pair = audit.pair_selections(results, "emotion", "best", "validation")
    assert pair.method == "95 % jackknife over 10 speakers"
    assert pair.interval == pytest.approx((gap(SPEAKERS) - half, gap(SPEAKERS) + half))
    assert pair.p is not None
    assert (pair.p * 2**10).is_integer()
    nobody = [replace(item, speaker=None) for item in results.predictions]
    unknown = replace(results, predictions=nobody)
    assert audit.pair_selections(unknown, "emotion", "best", "validation").p is None


def test_gap_of_one_speaker_has_no_interval(results: Results) -> None:
    two = [item for item in results.predictions if item.speaker in SPEAKERS[:2]]
    assert "paired 95 % jackknife over 2 speakers" in str(
        audit.describe_selection_gap(replace(results, predictions=two))
    )
    for few in ([item for item in two if item.speaker == SPEAKERS[0]], []):
        sentence = str(audit.describe_selection_gap(replace(results, predictions=few)))
        assert sentence.endswith("the last epoch.")


def test_only_the_first_task_is_optimistic(results: Results) -> None:
    kinds = {task: {r.name: r for r in audit.compare_selections(results, task)} for task in CLASSES}
    assert kinds["emotion"]["best"].kind == "optimistic"
    assert kinds["gender"]["best"].kind == "selection"
    assert [row.selected_by for row in kinds["emotion"].values()] == [None] * 5
    followers = [name for name, row in kinds["gender"].items() if row.selected_by == "emotion"]
    assert followers == ["validation", "best"]
    words = render_text(results, 80)
    assert words.count("best (optimistic)") == 1
    assert "validation, best: epoch selected by emotion." in normalize_spaces(words)
    shown = normalize_spaces(Page(html.render_html(results)).words)
    assert shown.count("best (optimistic)") == 3  # the scores, the folds and the seeds of emotion
    assert "validation, best: epoch selected by emotion" in shown
    assert "selection by the UA of emotion." in shown


@pytest.mark.parametrize("stored", ["95 % bootstrap over 10 speakers", None])
def test_intervals_have_caveats(results: Results, stored: str | None) -> None:
    """A caveat is added to old bootstrap intervals; the jackknife needs none for few speakers."""
    scores = results.scores["validation"]
    old = {task: replace(s, interval=stored or s.interval) for task, s in scores.items()}
    again = replace(results, scores={**results.scores, "validation": old}, repeats=[])
    few = " (few: likely too narrow)" if stored else ""
    caveat = f"over 10 speakers{few}; one training seed; scores differ"
    assert caveat in normalize_spaces(render_text(again))
    assert caveat in normalize_spaces(Page(html.render_html(again)).words)


def test_group_scores_equal_scores_of_the_speaker(results: Results) -> None:
    parts = speakers.compute_group_scores(results, "emotion", "speaker")
    assert [part.name for part in parts] == sorted({str(p.speaker) for p in results.predictions})
    own = [item for item in results.predictions if item.speaker == "08"]
    classes = results.classes["emotion"]
    answers = [classes[int(np.argmax(p.selections["validation"]["emotion"]))] for p in own]
    expected = weighted_accuracy_score([p.truth["emotion"] for p in own], answers)
    assert parts[1].scores["wa"] == pytest.approx(expected)
    assert sum(part.utterances for part in parts) == 535
    unlabelled = [replace(p, truth={"emotion": None}) for p in results.predictions]
    assert (
        speakers.compute_group_scores(
            replace(results, predictions=unlabelled), "emotion", "speaker"
        )
        == []
    )


def ua(part: speakers.GroupScores) -> float:
    return part.scores["ua"] or 0.0


def test_best_and_worst_speaker_are_named(results: Results) -> None:
    parts = speakers.compute_group_scores(results, "emotion", "speaker")
    best, worst = max(parts, key=ua), min(parts, key=ua)
    sentence = str(speakers.describe_extremes(results, "emotion"))
    assert f": {best.name}, UA {100 * ua(best):.1f} % ({best.utterances} utterances)" in sentence
    assert f"; worst: {worst.name}, UA {100 * ua(worst):.1f} % (" in sentence
    assert sentence in normalize_spaces(render_text(results))
    assert sentence in normalize_spaces(Page(html.render_html(results)).words)
    assert speakers.describe_extremes(without_folds(results), "emotion") is None
    genders = str(speakers.describe_extremes(results, "emotion", "gender"))
    assert re.fullmatch(
        r"Best gender of emotion: \w+, UA .* \(26\d utterances\); worst: .*", genders
    )
    assert genders in normalize_spaces(render_text(results))


def test_folds_name_the_validation_speakers(results: Results) -> None:
    found = speakers.find_validation_speakers(results)
    assert list(found) == SPEAKERS
    assert (found["03"], found["15"], found["16"]) == ("08", "16", "none")
    ids = [item.id for item in results.predictions[:6]]
    sides = {"four": ids[:4], "six": ids, "untested": ["x", "y"], "nobody": []}
    folds = [{"name": name, "validation": side} for name, side in sides.items()]
    told = speakers.find_validation_speakers(replace(results, protocol={"folds": folds}))
    assert list(told.values()) == ["03, 08, 09, 10", "6 speakers", "2 utterances", "none"]
    assert speakers.find_validation_speakers(replace(results, protocol={"folds": SPEAKERS})) == {}
    assert "validated by" not in html.render_html(replace(results, protocol={}))


def test_speakers_have_tables_with_and_without_speaker_folds(results: Results) -> None:
    assert speakers.has_speaker_folds(results)
    shown = html.render_html(results)
    assert "emotion: each speaker, validation, %" in shown
    assert "emotion: each gender, validation, %" in shown
    assert "gender: each gender" not in shown
    assert "one speaker each" in shown
    own = [replace(item, fold="1") for item in results.predictions]
    pooled = replace(results, predictions=own, folds=[replace(results.folds[0], name="1")])
    shown = html.render_html(pooled)
    assert "emotion: each speaker, validation, %" in shown
    assert "one speaker each" not in shown
    assert not speakers.has_speaker_folds(without_folds(results))
    assert "each speaker" not in html.render_html(without_folds(results))


def test_speaker_dependent_protocol_is_in_the_headline(results: Results) -> None:
    random = replace(results, protocol={**results.protocol, "name": "random"})
    assert "random (speaker-dependent), 10 folds" in render_text(random)
    assert "random (speaker-dependent), 10 folds" in html.render_html(random)


def test_caution_precedes_every_score(results: Results) -> None:
    words = "speaker-dependent: the tested speakers were trained on"
    warned = replace(results, protocol={**results.protocol, "name": "random", "caution": words})
    told = normalize_spaces(render_text(warned))
    assert f"random, 10 folds, 535 utterances tested, 10 speakers CAUTION: {words}" in told
    shown = html.render_html(warned)
    main = shown[shown.index("<main") :]
    assert main.index(words) < main.index('class="cards"')
    assert main.count("see caution") == 4
    assert f"CAUTION: {words}" in markdown.render_markdown(warned).split("## Selection audit")[0]
    captions = re.findall(r"\\caption\{.*\}", latex.render_latex(warned))
    assert all(f"CAUTION: {words}" in caption for caption in captions)
    assert "caution" not in render_text(results).lower()
    empty = replace(results, protocol={**results.protocol, "caution": ""})
    assert "see caution" not in html.render_html(empty)


def test_leaks_are_listed_once_among_the_warnings(results: Results) -> None:
    sentence = results.leakage[2].description
    assert summary.list_warnings(results) == [
        "3 utterances are shorter than 1 s and were padded.",
        sentence,
        results.leakage[3].description,
    ]
    told = replace(results, warnings=[sentence], leakage=results.leakage[:3])
    assert summary.list_warnings(told) == [sentence]
    assert "clean: speaker, duplicate; warning: sentence" in normalize_spaces(render_text(told))


def test_recall_intervals_equal_leaving_out_speakers_one_by_one(results: Results) -> None:
    names = results.classes["emotion"]
    found, words = speakers.compute_recall_intervals(results, "emotion")
    assert words == "95 % jackknife over 10 speakers"
    hits = dict.fromkeys(SPEAKERS, 0)
    counts = dict.fromkeys(SPEAKERS, 0)
    for item in results.predictions:
        if item.truth["emotion"] == "fear":
            shares = item.selections["validation"]["emotion"]
            counts[str(item.speaker)] += 1
            hits[str(item.speaker)] += names[int(np.argmax(shares))] == "fear"
    own = [name for name in SPEAKERS if counts[name]]
    total_hits, total = sum(hits.values()), sum(counts.values())
    without = [(total_hits - hits[name]) / (total - counts[name]) for name in own]
    recall, spread = total_hits / total, np.var(without) * (len(own) - 1)
    half = scipy.stats.t.ppf(0.975, len(own) - 1) * np.sqrt(spread) / (recall * (1 - recall))
    middle = np.log(recall / (1 - recall))
    bounds = [1 / (1 + np.exp(-side)) for side in (middle - half, middle + half)]
    assert found["fear"] == pytest.approx(bounds)


def test_recall_of_a_class_of_one_speaker_has_no_interval(results: Results) -> None:
    one = [
        replace(item, truth={**item.truth, "gender": "male" if item.speaker == "03" else "female"})
        for item in results.predictions
    ]
    found, _ = speakers.compute_recall_intervals(replace(results, predictions=one), "gender")
    assert found["female"] is not None
    assert found["male"] is None
    nobody = speakers.compute_recall_intervals(replace(results, predictions=[]), "gender")[0]
    assert nobody == {"female": None, "male": None}


def test_groups_of_one_speaker_have_no_interval(results: Results) -> None:
    found, words = speakers.compute_group_intervals(results, "emotion", "speaker")
    assert words == "none, as each speaker is one speaker"
    assert {bound for own in found.values() for bound in own.values()} == {None}
    table = tables.build_group_table(results, "emotion", "speaker")
    assert table is not None
    assert [column.name for column in table.columns] == ["speaker", "utterances", "WA", "UA"]


def test_group_intervals_are_over_the_speakers_of_each(results: Results) -> None:
    one = [replace(item, gender="female") for item in results.predictions]
    found, words = speakers.compute_group_intervals(
        replace(results, predictions=one), "emotion", "gender"
    )
    assert words == "95 % jackknife over the speakers of each gender"
    wa = results.scores["validation"]["emotion"].wa_interval
    assert found["female"]["wa"] == pytest.approx(wa)
    alone = [
        replace(item, gender="male" if item.speaker == "03" else "female")
        for item in results.predictions
    ]
    found, words = speakers.compute_group_intervals(
        replace(results, predictions=alone), "emotion", "gender"
    )
    assert words.endswith("of each gender; none for one speaker")
    assert found["male"] == {"wa": None, "ua": None}
    assert None not in found["female"].values()
    unknown = [replace(item, speaker=None) for item in results.predictions]
    found, words = speakers.compute_group_intervals(
        replace(results, predictions=unknown), "emotion", "gender"
    )
    assert "over the utterances of each gender; likely too narrow" in words


def test_the_bootstrap_is_kept_by_name(results: Results) -> None:
    named = recompute_intervals(results, "bootstrap")
    scores = named.scores["validation"]["emotion"]
    assert scores.interval == "95 % percentile bootstrap over 10 speakers (few: likely too narrow)"
    for text in (
        speakers.compute_recall_intervals(named, "emotion")[1],
        audit.pair_selections(named, "emotion", "best", "validation").method,
        speakers.compute_group_intervals(named, "emotion", "speaker")[1],
    ):
        assert text.startswith("95 % percentile bootstrap over ")
    assert recompute_intervals(named).scores == named.scores
    assert recompute_intervals(named, "jackknife").scores == results.scores


def test_seeds_have_a_mean_and_a_deviation(results: Results) -> None:
    table = tables.build_seed_table(results, "emotion")
    assert table is not None
    first = results.scores["validation"]["emotion"].wa or 0
    assert [row.cells[0] for row in table.rows] == ["0 (quoted)", "1", "2", *MOMENTS]
    assert [row.cells[1] for row in table.rows] == [
        *(f"{100 * (first - 0.02 * place):.1f}" for place in range(3)),
        f"{100 * (first - 0.02):.1f}",
        "2.0",
    ]
    assert [column.heading for column in table.columns][-1] == "best (optimistic) UA"
    sentence = str(tables.describe_seeds(results, "emotion"))
    mean = f"WA {100 * (first - 0.02):.1f} % (standard deviation 2.0)"
    assert sentence.startswith(f"Mean of emotion over 3 seeds (0, 1, 2): {mean}, UA ")
    assert sentence.endswith("; quoted is seed 0.")
    assert sentence in normalize_spaces(render_text(results))
    shown = normalize_spaces(Page(html.render_html(results)).words)
    assert sentence in shown
    assert f"] 3 seeds: {100 * (first - 0.02):.1f} ± 2.0 emotion UA" in shown


def test_one_seed_has_no_spread_and_undefined_scores_no_mean(results: Results) -> None:
    alone = replace(results, repeats=results.repeats[:1])
    assert tables.build_seed_table(alone, "emotion") is None
    assert tables.describe_seeds(alone, "emotion") is None
    broken = replace(results.repeats[1], scores={"validation": {"emotion": {"wa": None}}})
    partly = replace(results, repeats=[results.repeats[0], broken])
    table = tables.build_seed_table(partly, "emotion")
    assert table is not None
    assert [row.cells[1] for row in table.rows[-2:]] == ["n/a", "n/a"]
    assert tables.describe_seeds(partly, "emotion") is None
