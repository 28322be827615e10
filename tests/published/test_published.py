"""Published figures: strict files; the matrices give the scores; the doubts are recomputed."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from serein import published, recipes
from serein.errors import ConfigError, UnknownName
from serein.metrics.classification import (
    recalls_from_confusion,
    unweighted_accuracy_from_confusion,
    weighted_accuracy_from_confusion,
)
from serein.metrics.statistical_tests import two_proportion_test
from serein.published import ConfusionMatrix, Paper, PublishedResult

PAPERS = {paper.name: paper for paper in published.load_papers()}
FU = PAPERS["fu2020"]
SAVEE = dict.fromkeys(FU.matrices[0].classes, 60) | {"neutral": 120}
ROUNDING = 0.0100001
"""In per cent; the authors truncate 54.545 to 54.54 where others round."""


def percent(score: Any, digits: int = 1) -> float:
    return round(100 * float(score), digits)


def test_four_papers_and_their_systems() -> None:
    assert [(paper.name, len(paper.rows)) for paper in PAPERS.values()] == [
        ("feng2020", 23),
        ("fu2020", 6),
        ("li2019", 9),
        ("zhang2019", 12),
    ]
    for paper in PAPERS.values():
        assert published.find_results(paper.name)[0] in paper.rows
        assert {row.recipe for row in paper.rows} >= {matrix.recipe for matrix in paper.matrices}
        for row in paper.rows:
            assert row.recipe is None or row.recipe.startswith(paper.name)
            assert all(0 < value < 100 for task in row.scores.values() for value in task.values())
            assert set(row.significant) <= set(row.scores)


def test_rows_of_a_recipe() -> None:
    own_rows = {
        "feng2020": [68.6],
        "feng2020-improvised": [69.7],
        "feng2020-speaker-dependent": [75.5],
    }
    for name, scores in own_rows.items():
        assert [row.scores["emotion"]["wa"] for row in published.find_results(name)] == scores
    assert published.find_results("li2019-emodb") == []
    assert [row.subset for row in published.find_results("zhang2019")] == ["development", "test"]


@pytest.mark.parametrize("name", recipes.list_recipes())
def test_every_recipe_has_a_paper_or_follows_one_that_has(name: str) -> None:
    about = recipes.load(name).about
    own, followed = published.find_results(name), about.get("follows", "")
    assert bool(own) != ("follows" in about)
    assert not followed or published.find_results(followed)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("li2019", [1103, 1636, 1708, 1084]), ("feng2020", [1633, 1074, 1707, 1101])],
)
def test_matrices_of_counts_give_the_published_scores(name: str, sizes: list[int]) -> None:
    (matrix,) = PAPERS[name].matrices
    counts = np.array(matrix.counts())
    assert counts.sum(axis=1).tolist() == sizes
    row = next(row for row in published.find_results(name) if row.utterances == sum(sizes))
    assert percent(weighted_accuracy_from_confusion(counts)) == row.scores["emotion"]["wa"]
    assert percent(unweighted_accuracy_from_confusion(counts)) == row.scores["emotion"]["ua"]


def test_matrix_of_feng2020_has_true_classes_as_rows() -> None:
    counts = np.array(PAPERS["feng2020"].matrices[0].counts())
    assert percent(recalls_from_confusion(counts)[2]) == 59.1  # as in section 5.4
    assert percent(unweighted_accuracy_from_confusion(counts.T)) != 69.7


def fits(row: list[float], total: int) -> bool:
    """Return whether these percentages can be counts of that many utterances."""
    counts = [round(entry * total / 100) for entry in row]
    near = [abs(100 * n / total - entry) for n, entry in zip(counts, row, strict=True)]
    return sum(counts) == total and max(near) <= ROUNDING


@pytest.mark.parametrize("matrix", FU.matrices, ids=lambda matrix: matrix.table)
def test_totals_of_fu2020_are_the_smallest_that_fit_except_one(matrix: ConfusionMatrix) -> None:
    smallest = [next(n for n in range(1, 481) if fits(row, n)) for row in matrix.entries]
    free = [total != least for total, least in zip(matrix.totals, smallest, strict=True)]
    assert all(map(fits, matrix.entries, matrix.totals))
    assert sum(matrix.totals) == 480 // 5
    expected = {"Table 3": ["sadness"], "Table 4": ["neutral"]}
    assert list(np.array(matrix.classes)[free]) == expected[matrix.table]
    assert np.sum(matrix.counts()) == 96


@pytest.mark.parametrize(
    ("place", "misfits"),
    [(0, ["disgust", "neutral", "surprise"]), (1, ["disgust", "fear", "happiness"])],
)
def test_matrices_of_fu2020_are_not_of_all_of_savee(place: int, misfits: list[str]) -> None:
    matrix = FU.matrices[place]
    whole = zip(matrix.classes, matrix.entries, strict=True)
    assert [name for name, row in whole if not fits(row, SAVEE[name])] == misfits
    words = f"{', '.join(misfits[:2])} and {misfits[2]} in {matrix.table}"
    assert words.lower() in FU.doubts[0].lower()
    assert FU.matrices[0].totals != FU.matrices[1].totals


@pytest.mark.parametrize(
    ("place", "wa", "ua", "hits"), [(0, 69.79, 66.38, 67), (1, 72.92, 68.72, 70)]
)
def test_matrices_of_fu2020_do_not_give_the_printed_scores(
    place: int, wa: float, ua: float, hits: int
) -> None:
    matrix = FU.matrices[place]
    counts = np.array(matrix.counts())
    printed = published.find_results(matrix.recipe)[0].scores["emotion"]
    assert percent(weighted_accuracy_from_confusion(counts), 2) == wa != printed["wa"]
    assert np.trace(counts) == hits
    # For any sizes, UA is the mean of the diagonal.
    recalls = [row[index] for index, row in enumerate(matrix.entries)]
    assert np.mean(recalls) == pytest.approx(ua, abs=0.01)
    assert abs(np.mean(recalls) - printed["ua"]) > 2
    words = f"has WA {wa:.2f} ({hits} of 96) and UA {ua:.2f}, but {printed['wa']:.2f}"
    assert words in FU.doubts[2]


def test_scores_of_fu2020_fit_no_number_of_utterances() -> None:
    own = [row for row in FU.rows if row.recipe and row.table == "Table 2"]
    assert len(own) == 4
    for row in own:
        wa, ua = row.scores["emotion"]["wa"], row.scores["emotion"]["ua"]
        for total in (480, 96):
            assert min(abs(100 * k / total - wa) for k in range(total + 1)) > ROUNDING
        # A mean of six recalls in 60ths and one in 120ths is a multiple of 1/840.
        assert min(abs(100 * k / 840 - ua) for k in range(841)) > ROUNDING


def zhang(system: str, subset: str) -> PublishedResult:
    rows = PAPERS["zhang2019"].rows
    return next(row for row in rows if row.subset == subset and row.system == system)


def stars(system: str, subset: str) -> dict[str, float]:
    """Return z for each task that is significantly better than the paper's baseline."""
    row, base = zhang(system, subset), zhang("e2e STL", subset)
    assert row.utterances is not None
    found = {}
    for task, score in row.scores.items():
        first, second = score["ua"] / 100, base.scores[task]["ua"] / 100
        z, p = two_proportion_test(first, second, row.utterances)
        if p < 0.05:
            found[task] = round(z, 2)
    return found


@pytest.mark.parametrize("subset", ["development", "test"])
def test_stars_of_zhang2019(subset: str) -> None:
    proposed = zhang("e2e MTL+att.", subset)
    assert list(stars("e2e MTL+att.", subset)) == proposed.significant == ["arousal", "valence"]
    assert stars("e2e STL+att.", subset) == {}


def test_zhang2019_could_have_more_stars() -> None:
    assert stars("e2e MTL", "development") == {"valence": 2.30}
    assert stars("e2e MTL", "test") == {"valence": 2.05, "dominance": 1.69}
    printed = re.findall(r"z = (\d\.\d\d)", PAPERS["zhang2019"].doubts[1])
    assert printed == ["2.30", "2.05", "1.69"]
    assert not zhang("e2e MTL", "test").significant


def test_sizes_of_zhang2019_are_of_other_sessions_than_in_the_text() -> None:
    numbers = [
        int(n.replace(",", "")) for n in re.findall(r"\d,\d{3}", PAPERS["zhang2019"].doubts[0])
    ]
    printed, sessions, third = numbers[:3], numbers[3:8], numbers[8]
    assert sum(sessions) == 10_039
    assert printed[1:] == [sessions[1], sessions[0]]
    assert third == sum(sessions[2:]) == printed[0] + 90


ROW: dict[str, Any] = {
    "table": "Table 1",
    "corpus": "ours",
    "protocol": "random",
    "rows": [{"system": "all", "scores": {"emotion": {"wa": 50}}}],
}
MATRIX: dict[str, Any] = {
    "table": "Table 2",
    "recipe": "li2019",
    "classes": ["joy", "fear"],
    "unit": "percent",
    "entries": [[50, 50], [25, 75]],
    "totals": [2, 4],
}
HEAD: dict[str, Any] = {"title": "On", "authors": ["Noone"], "year": 2019, "venue": "Nowhere"}


@pytest.mark.parametrize("paper", PAPERS.values(), ids=PAPERS.keys())
def test_claims_compare_printed_figures_of_two_rows(paper: Paper) -> None:
    assert paper.claims
    for claim in paper.claims:
        tables = claim.table, claim.second_table or claim.table
        rows = [
            paper.find_row(table, system)
            for table, system in zip(tables, (claim.first, claim.second), strict=True)
        ]
        assert rows[0].recipe
        gains = []
        for measure in map(published.parse_measure, claim.measures):
            if measure.label:
                continue
            first, second = (row.scores[measure.task][measure.metric] for row in rows)  # type: ignore[index]
            gains.append(second - first if measure.metric == "wer" else first - second)
        if claim.margin:
            assert all(abs(gain) < claim.margin for gain in gains)
        else:
            assert sum(gain > 0 for gain in gains) * 2 >= len(gains)


def test_claims_about_classes_agree_with_the_matrices() -> None:
    by_recipe = {matrix.recipe: matrix for matrix in FU.matrices}
    whole, single = by_recipe["fu2020"], by_recipe["fu2020-multitask"]
    compared = 0
    for claim in FU.claims:
        for measure in map(published.parse_measure, claim.measures):
            if measure.label:
                place = whole.classes.index(measure.label)
                gain = whole.entries[place][place] - single.entries[place][place]
                assert gain * (1 if claim.first.startswith("multitask cross") else -1) > 0
                compared += 1
    assert compared == 7


def test_settings_of_rows_and_variants_load() -> None:
    for paper in PAPERS.values():
        assert set(paper.corpora) >= {name for row in paper.rows for name in row.corpora}
        for row in paper.rows:
            if row.recipe and not row.transcribes:
                recipes.load(row.recipe, row.settings)
        for variant in paper.variants:
            assert set(variant.tables) <= set(paper.list_tables())
            recipes.load(paper.name, variant.settings)


def made(row: Mapping[str, Any] = {}, matrix: Mapping[str, Any] = {}, **head: Any) -> Paper:
    parts = {"tables": [ROW | dict(row)], "matrices": [MATRIX | dict(matrix)]}
    return published.from_table("noone2019", HEAD | parts | head)


def test_custom_paper() -> None:
    paper = made(matrix={"entries": [[50, 50], [24.99, 75]]})
    assert paper.rows[0].corpus == "ours"
    assert paper.matrices[0].counts() == [[1, 1], [1, 3]]
    assert paper.doubts == []


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"row": {"rows": [{"system": "all"}]}}, r"Table 1 of noone2019.scores"),
        ({"row": {"rows": [{"system": "all", "scores": {"emotion": {"uar": 1}}}]}}, "'wa', 'ua'"),
        ({"row": {"subset": "training"}}, "'test' or 'development'"),
        ({"row": {"utterances": 0}}, "greater than 0"),
        ({"matrix": {"entries": [[50, 50]]}}, r"has sizes \[1, 2\]; expected a square"),
        ({"matrix": {"totals": [4]}}, r"1 totals for 2 classes; expected 2 \(percent\)"),
        ({"matrix": {"unit": "counts"}}, r"2 totals for 2 classes; expected 0 \(counts\)"),
        ({"year": "last"}, "paper noone2019.year = 'last'"),
    ],
)
def test_wrong_file_is_an_error(parts: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        made(**parts)


CLAIM: dict[str, Any] = {
    "text": "All is better than all.",
    "section": "1",
    "table": "Table 1",
    "first": "all",
    "second": "all",
    "measures": ["emotion.wa"],
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"first": "none"}, "unknown system of Table 1 'none'"),
        ({"second_table": "Table 9"}, "unknown system of Table 9 'all'"),
        ({"measures": ["emotion.uar"]}, r"compares 'emotion.uar'; expected TASK.METRIC with one"),
        ({"measures": ["emotion.wa.joy"]}, "compares 'emotion.wa.joy'"),
        ({"margin": 0}, "greater than 0"),
    ],
)
def test_wrong_claim_is_an_error(changes: dict[str, Any], words: str) -> None:
    assert made(claims=[CLAIM]).claims[0].margin is None
    with pytest.raises(ConfigError, match=words):
        made(claims=[{**CLAIM, **changes}])


def test_result_that_is_printed_twice_is_found_once() -> None:
    rows = [row for row in PAPERS["feng2020"].rows if row.recipe == "feng2020"]
    assert [row.table for row in rows] == ["Table 1", "Table 2"]
    assert [row.table for row in published.find_results("feng2020")] == ["Table 1"]


def test_unknown_field_is_an_error() -> None:
    with pytest.raises(UnknownName, match="unknown setting of Table 1 of noone2019 'protocoll'"):
        made(row={"protocoll": "random"})
    with pytest.raises(UnknownName, match="unknown setting of matrix of noone2019 'total'"):
        made(matrix={"total": [1]})
    with pytest.raises(UnknownName, match="unknown setting of paper noone2019 'doubt'"):
        made(doubt="none")
