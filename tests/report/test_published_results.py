"""A run next to the published results of its system, in every format."""

from dataclasses import replace
from typing import Any

import pytest
from builders.example_results import CLASSES, example_results
from builders.report_reader import Page, normalize_spaces

from serein import published
from serein.report import html, latex, markdown
from serein.report.published import build_matrix_tables, build_published_tables
from serein.report.table import Table
from serein.results.evaluation import Epoch, FoldResult, Results
from serein.results.inference import WordScores

WORDS = WordScores(
    utterances=9,
    words=20,
    substitutions=3,
    deletions=1,
    insertions=0,
    wer=0.2,
    wer_interval=(0.1, 0.3),
    interval="95 % bootstrap over 9 utterances",
    unknown=0,
    sentences=9,
)


@pytest.fixture(scope="module")
def results() -> Results:
    return example_results(utterances=120, epochs=2)


def follow(results: Results, recipe: str, **changes: Any) -> Results:
    """Return the results of a run of another recipe."""
    return replace(results, recipe={**results.recipe, "about": {"follows": recipe}}, **changes)


def tables_of(results: Results) -> dict[str, Table]:
    return {table.title.partition(":")[0]: table for table in build_published_tables(results)}


def test_every_task_of_both_has_a_table(results: Results) -> None:
    tables = tables_of(results)
    assert list(tables) == ["emotion", "gender"]
    assert [row.cells[0] for row in tables["gender"].rows][1:] == ["Full model (section 5.5)"]
    assert tables["gender"].rows[1].cells[-2:] == ("75.0", "n/a")
    assert [row.kind for row in tables["emotion"].rows] == ["headline", ""]
    only_emotion = {name: {"emotion": tasks["emotion"]} for name, tasks in results.scores.items()}
    assert list(tables_of(replace(results, scores=only_emotion))) == ["emotion"]


def test_f1_and_speakers_of_fu(results: Results) -> None:
    speakers = {name: {**t, "speaker": t["gender"]} for name, t in results.scores.items()}
    classes = {**CLASSES, "speaker": CLASSES["gender"]}
    tables = tables_of(follow(results, "fu2020", scores=speakers, classes=classes))
    emotion = tables["emotion"]
    assert [column.name for column in emotion.columns][-3:] == ["WA", "UA", "macro F1"]
    assert "n/a" not in emotion.rows[0].cells
    assert emotion.rows[1].cells[-3:] == ("73.6", "71.1", "71.0")
    assert tables["speaker"].rows[1].cells[-2] == "94.0"


def test_word_error_rate_is_beside_the_printed_one(results: Results) -> None:
    read = follow(results, "feng2020-text-asr", words={"validation": WORDS})
    table = tables_of(read)["words"]
    assert [column.name for column in table.columns][-1] == "WER"
    assert [row.cells[-1] for row in table.rows] == ["20.0", "40.7"]
    assert list(tables_of(follow(results, "feng2020-text-asr"))) == ["emotion"]


def zhang(results: Results, *, validated: bool = True) -> Results:
    """Return results of Zhang's three tasks, with or without validation scores."""
    names = {"arousal": "emotion", "valence": "emotion", "dominance": "emotion"}
    scores = {
        s: {ours: t[theirs] for ours, theirs in names.items()} for s, t in results.scores.items()
    }
    own: dict[str, dict[str, float | None]] = {task: {"wa": 0.5, "ua": 0.5} for task in names}
    subsets = {"test": own, **({"validation": own} if validated else {})}
    epoch = Epoch(epoch=1, loss=1.0, seconds=1.0, scores=subsets)
    folds = [
        FoldResult(name=name, epochs={"validation": 1}, scores={}, history=[epoch]) for name in "ab"
    ]
    classes = dict.fromkeys(names, CLASSES["emotion"])
    return follow(results, "zhang2019", scores=scores, classes=classes, folds=folds)


def test_development_rows_never_look_like_test_rows(results: Results) -> None:
    tables = tables_of(zhang(results))
    assert list(tables) == ["arousal", "valence", "dominance"]
    rows = tables["arousal"].rows
    assert [(row.cells[1], row.kind) for row in rows] == [
        ("test", "headline"),
        ("test", ""),
        ("development", "development"),
        ("development", "development"),
    ]
    assert rows[2].cells[0].startswith("this run")
    assert rows[2].cells[-2:] == ("50.0", "50.0")
    assert rows[3].cells[-1] == "48.7"
    assert rows[1].cells[-1] == "48.5"
    assert "no test scores" in tables["arousal"].note
    unvalidated = tables_of(zhang(results, validated=False))["arousal"].rows
    assert unvalidated[2].cells[-2:] == ("n/a", "n/a")
    page = Page(html.render_html(zhang(results)))
    assert sum(tag.get("class") == "development" for tag in page.all("tr")) == 6


def test_confusion_matrices_are_side_by_side_in_one_order(results: Results) -> None:
    printed, own = build_matrix_tables(follow(results, "fu2020-multitask"))
    assert printed.title == "emotion: published confusion matrix (Table 3)"
    assert printed.rows[0].cells[:4] == ("anger", "58.3", "0.0", "25.0")
    assert "Totals are inferred" in printed.note
    assert [row.cells[0] for row in own.rows] == CLASSES["emotion"]
    classes = {"emotion": ["sadness", "neutral", "happiness", "anger"]}
    matrix = [[4, 0, 0, 0], [0, 3, 1, 0], [0, 0, 2, 0], [1, 0, 0, 1]]
    score = replace(results.scores["validation"]["emotion"], confusion=matrix)
    four = replace(results, classes=classes, scores={"validation": {"emotion": score}})
    printed, own = build_matrix_tables(four)
    assert [row.cells[0] for row in printed.rows] == [row.cells[0] for row in own.rows]
    assert own.rows[0].cells == ("anger", "50.0", "0.0", "0.0", "50.0")
    assert own.rows[1].cells == ("happiness", "0.0", "100.0", "0.0", "0.0")
    assert own.rows[2].cells == ("neutral", "0.0", "25.0", "75.0", "0.0")


def test_empty_class_of_a_matrix_is_not_a_number(results: Results) -> None:
    score = results.scores["validation"]["emotion"]
    empty = [[0] * 7, *score.confusion[1:]]
    changed = {"validation": {"emotion": replace(score, confusion=empty)}}
    own = build_matrix_tables(replace(results, scores=changed))[-1]
    assert own.rows[0].cells[1:] == ("n/a",) * 7


def test_doubts_are_in_every_format(results: Results) -> None:
    doubts = published.load_paper("li2019").doubts
    shown = markdown.render_markdown(results)
    tex = latex.render_latex(results)
    page = normalize_spaces(Page(html.render_html(results)).words)
    assert len(doubts) == 4
    for doubt in doubts:
        assert f"- {markdown.escape_markdown(doubt)}" in shown
        assert rf"\item {latex.escape_latex(doubt)}" in tex
        assert doubt in page
    assert "**Contradictions and gaps in the paper**" in shown
    assert r"\paragraph{Contradictions and gaps in the paper}" in tex
    assert "emotion: published confusion matrix (Table 3)" in shown
    own = replace(results, recipe={"name": "serein-base", "about": {"follows": ""}})
    assert "Contradictions" not in markdown.render_markdown(own)
    assert build_matrix_tables(own) == build_published_tables(own) == []


@pytest.mark.parametrize(
    "parts", [{"model": {"name": "my_lab.cnn"}}, {"features": {"name": "my_lab.mfcc"}},
              {"model": {"name": "external"}}]
)  # fmt: skip
def test_a_model_of_ones_own_follows_no_paper(results: Results, parts: dict[str, Any]) -> None:
    followed = follow(results, "li2019")
    assert build_published_tables(followed)
    own = replace(followed, recipe={**followed.recipe, **parts})
    assert build_published_tables(own) == []
    assert "Published results" not in markdown.render_markdown(own)
