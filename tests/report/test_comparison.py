"""Reports of a comparison in the terminal, as Markdown and as HTML."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from builders.report_reader import Page, normalize_spaces
from rich.console import Console

from serein.report import comparison
from serein.results.studies import Comparison, PairedTest

RUDE = "<b>|a_b"
FIRST = PairedTest(
    task="emotion",
    selection="validation",
    first="li2019",
    second=RUDE,
    utterances=535,
    scores={"wa": (0.61, 0.55), "ua": (0.583, 0.541)},
    main="ua",
    difference=0.042,
    difference_interval=(-0.004, 0.09),
    interval="paired 95 % bootstrap over 10 speakers",
    mcnemar=0.00002,
    permutation=0.031,
    permutation_unit="whole speakers (10, which give no p under 0.002)",
    z=0.024,
    adjusted={"mcnemar": 0.00004, "permutation": 0.062},
    effect=0.122,
)
SECOND = replace(
    FIRST,
    selection="last",
    difference=-0.01,
    difference_interval=None,
    mcnemar=None,
    permutation=None,
    z=None,
    adjusted={},
    effect=None,
)


@pytest.fixture
def compared() -> Comparison:
    return Comparison(
        format=1,
        command="serein compare runs/a runs/b",
        created="2026-11-21T02:46:44+00:00",
        runs=[
            {"name": "li2019", "protocol": "leave-one-speaker-out", "seeds": [0, 1, 2]},
            {"name": RUDE, "protocol": "leave-one-speaker-out", "seeds": None},
        ],
        paired_tests=[FIRST, SECOND],
        warnings=["the splits differ"],
    )


def test_tables_of_each_task_and_selection(compared: Comparison) -> None:
    runs, scores, tests, last, untested = comparison.build_tables(compared)
    assert runs.rows[0].cells == ("li2019", "leave-one-speaker-out", "0, 1, 2")
    assert runs.rows[1].cells[-1] == ""
    assert scores.title == "emotion, validation: scores, %"
    assert scores.rows[0].cells == (
        *("li2019", RUDE, "535", "61.0", "55.0", "58.3", "54.1", "+4.2", "[-0.4, 9.0]"),
    )
    heads = [column.heading for column in tests.columns]
    assert heads[2:] == ["McNemar", "permutation", "z-test", "effect"]
    assert tests.rows[0].cells[2:] == ("< 0.001 (< 0.001)", "0.031 (0.062)", "0.024", "+0.12")
    assert last.rows[0].cells[-2:] == ("-1.0", "n/a")
    assert untested.rows[0].cells == ("li2019", RUDE, "n/a")


def test_text_keeps_names_and_warnings(compared: Comparison) -> None:
    file = io.StringIO()
    Console(file=file, width=80, color_system=None).print(comparison.render_terminal(compared))
    shown = file.getvalue()
    assert shown.startswith("Warning: the splits differ")
    assert RUDE in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "[-0.4, 9.0]" in shown


def test_markdown_and_page_are_written(compared: Comparison, tmp_path: Path) -> None:
    data, html, text = comparison.write_comparison(compared, tmp_path)
    assert json.loads(data.read_text())["paired_tests"][0]["utterances"] == 535
    assert (html.name, text.name) == ("comparison.html", "comparison.md")
    shown = text.read_text()
    assert shown.startswith("# Comparison\n\nWarning: the splits differ\n\nemotion, validation: no")
    assert r"| li2019 | &lt;b&gt;\|a\_b | 535 | 61.0 |" in shown
    assert shown.endswith("```\nserein compare runs/a runs/b\n```\n")
    parsed = Page(html.read_text())
    assert parsed.open == []
    assert parsed.scripts == []
    assert len(parsed.all("table")) == len(parsed.all("caption")) == 5
    words = normalize_spaces(parsed.words)
    assert "2 runs, 2 paired tests" in words
    assert f"li2019 {RUDE} 535 61.0 55.0 58.3 54.1 +4.2 [-0.4, 9.0]" in words
    assert "the splits differ" in words


@pytest.mark.parametrize(
    ("difference", "bounds", "p", "sentence"),
    [
        (
            0.042,
            (0.01, 0.07),
            0.03,
            "li2019 is better than other: UA +4.2 points [1.0, 7.0], p",
        ),
        (
            -0.042,
            (-0.07, -0.01),
            0.0001,
            "other is better than li2019: UA +4.2 points [1.0, 7.0], p",
        ),
        (0.042, (-0.01, 0.09), 0.03, "no winner between li2019 and other: UA +4.2 points [-1.0"),
        (0.042, (0.01, 0.07), 0.08, "no winner between li2019 and other"),
        (0.042, None, None, "no winner between li2019 and other: UA +4.2 points no permutation"),
    ],
)
def test_the_winner_is_named_or_there_is_none(
    compared: Comparison,
    difference: float,
    bounds: tuple[float, float] | None,
    p: float | None,
    sentence: str,
) -> None:
    adjusted = {} if p is None else {"permutation": p}
    pair = replace(
        FIRST,
        second="other",
        difference=difference,
        difference_interval=bounds,
        permutation=p,
        adjusted=adjusted,
    )
    one = replace(compared, paired_tests=[pair])
    (text,) = comparison.describe_winners(one)
    assert text.startswith(f"emotion, validation: {sentence}")
    assert "1 paired test;" in normalize_spaces(Page(comparison.render_html(one)).words)


def test_differences_are_drawn_with_escaped_names(compared: Comparison) -> None:
    chart = comparison.draw_differences(compared.paired_tests)
    assert chart.count('class="dot"') == 1, "a pair without an interval is not drawn"
    assert "li2019 minus &lt;b&gt;|a_b: UA" in chart
    assert comparison.draw_differences([SECOND]) == ""
    wide = replace(FIRST, difference=0.1, difference_interval=(-0.1, 0.3))
    both = comparison.draw_differences([wide, replace(wide, difference_interval=(0.0, 0.2))])
    places = re.findall(r"left:([\d.]+)%(?:;width:([\d.]+)%)?", both)
    assert places == [
        *(("26.0", ""), ("2.0", "96.0"), ("50.0", "")),
        *(("26.0", ""), ("26.0", "48.0"), ("50.0", "")),
    ]


def test_empty_comparison(compared: Comparison) -> None:
    empty = replace(compared, runs=[], paired_tests=[], warnings=[])
    assert comparison.build_tables(empty) == []
    assert "0 runs, 0 paired tests" in comparison.render_html(empty)
    assert "warnings" not in {
        tag.get("id") for tag in Page(comparison.render_html(empty)).all("h2")
    }
