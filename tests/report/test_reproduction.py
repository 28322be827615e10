"""Reports of a reproduction, in the terminal, HTML, Markdown and LaTeX."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from builders.report_reader import Page, normalize_spaces
from rich.console import Console

from serein.report import reproduction as report
from serein.report.table import Table, make_row, number_columns, split_columns, text_columns
from serein.results.reproduction import (
    HELD,
    JudgedClaim,
    OwnMatrix,
    OwnResult,
    OwnScore,
    ReproducedMatrix,
    ReproducedRow,
    Reproduction,
)

SCORE = OwnScore(value=0.5, interval=(0.4, 0.6))
OWN = OwnResult(
    variant="paper",
    state="finished",
    recipe="li2019-emodb",
    corpus="emodb",
    runs=["li2019-emodb-emodb-seed0-1234"],
    seeds=[0],
    utterances=535,
    protocol="leave-one-speaker-out",
    folds=10,
    headline="validation",
    selections={
        "validation": "the epoch with the best UA on validation speakers",
        "last": "the last epoch",
        "test": "the best epoch of the test subset: optimistic",
    },
    scores={
        "validation": {
            "test": {"emotion": {"wa": SCORE, "ua": OwnScore(value=None)}},
            "development": {"emotion": {"wa": OwnScore(value=0.7)}},
        },
        "last": {"test": {"emotion": {"wa": OwnScore(value=0.1)}}},
        "test": {"test": {"emotion": {"wa": OwnScore(value=0.9, deviation=0.01)}}},
    },
    confusions={},
    changed=[("training.epochs", "100", "2"), ("features.pad", "True", "False")],
)
MISSING = OwnResult(
    variant="paper", state="missing", reason="needs <b>IEMOCAP</b>", recipe="li2019"
)
PRINTED = {
    "development": {"emotion": {"wa": 61.2}},
    "test": {"emotion": {"wa": 60.1, "ua": 59.0}},
}


def build_row(system: str, recipe: str, *own: OwnResult) -> ReproducedRow:
    return ReproducedRow(
        table="Table 2",
        system=system,
        recipe=recipe,
        corpus="IEMOCAP: four emotions",
        protocol="sessions",
        selections={},
        utterances={"test": 5531},
        printed=PRINTED if recipe else {"test": {"emotion": {"wa": 54.3}}},
        significant={"test": ["emotion"]} if recipe else {},
        own=list(own),
    )


CLAIM = JudgedClaim(
    text="A helps.",
    section="5.4",
    measure="emotion.wa",
    first="Full",
    second="Less",
    variant="paper",
    printed=(81.6, None),
    own=(0.6, 0.5),
    difference=0.1,
    interval=(0.05, 0.15),
    method="95 % bootstrap over 10 speakers",
    p=0.002,
    adjusted=0.01,
    unit="whole speakers (10)",
    verdict=HELD,
)
EXAMPLE = Reproduction(
    format=3,
    name="reproduction-li2019-emodb",
    command="serein reproduce li2019 --corpus emodb --recipe-suffix emodb",
    created="2026-11-30T10:00:00+00:00",
    paper="li2019",
    citation="Li, Zhao 2019",
    title="Improved End-to-End",
    venue="Interspeech",
    corpora={"IEMOCAP": "EMO-DB"},
    tables=["Table 2", "Table 3"],
    variants={"paper": "as the recipes have it"},
    rows=[
        build_row("Full", "li2019", OWN),
        build_row("- Less", "li2019-less", MISSING),
        build_row("Han et al.", ""),
    ],
    matrices=[
        ReproducedMatrix(
            table="Table 3",
            system="Full",
            classes=["joy", "anger"],
            entries=[[3, 1], [0, 4]],
            note="Read by rows.",
            own={"paper": OwnMatrix(classes=["anger", "joy"], counts=[[5, 5], [0, 2]])},
        )
    ],
    claims=[CLAIM, replace(CLAIM, measure="emotion.recall.joy", verdict="cannot be told", p=None)],
    doubts=["81.6 & <more>: no."],
    choices={"li2019": ["As in the paper: all."], "li2019-less": ["As in the paper: all."]},
    warnings=["2 epochs in place of 100_x"],
)


def test_title_names_the_corpora_that_stand_in() -> None:
    assert (
        report.format_title(EXAMPLE) == "Li, Zhao 2019: reproduction on EMO-DB in place of IEMOCAP"
    )
    own = replace(EXAMPLE, corpora={"IEMOCAP": "IEMOCAP"})
    assert report.format_title(own) == "Li, Zhao 2019: reproduction"
    assert report.describe_caution(own) == ""
    assert "figures for 1 of 2 rows" in report.describe_reproduction(EXAMPLE)


def test_printed_row_is_followed_by_ours() -> None:
    table = report.build_score_table(EXAMPLE, "Table 2", EXAMPLE.rows)
    assert [(column.group, column.name) for column in table.columns] == [
        ("", "system"),
        ("", "figures"),
        ("emotion WA", "dev"),
        ("emotion WA", "test"),
        ("emotion UA", "test"),
    ]
    assert [row.cells for row in table.rows] == [
        ("Full", "printed", "61.2", "60.1*", "59.0*"),
        ("Full", "ours (validation)", "70.0", "50.0 [40.0, 60.0]", "n/a"),
        ("Full", "ours (test, optimistic)", "", "90.0 ± 1.0", "n/a"),
        ("- Less", "printed", "61.2", "60.1*", "59.0*"),
        ("- Less", "ours: missing", "n/a", "n/a", "n/a"),
        ("Han et al.", "printed, cited", "n/a", "54.3", "n/a"),
    ]
    assert [row.kind for row in table.rows] == ["", "headline", "optimistic", "", "", "baseline"]
    assert "Development figures (dev) are of the subset on which" in table.note
    assert "A star is the paper's mark" in table.note


def test_wide_tables_are_divided_for_the_terminal() -> None:
    numbers = number_columns("arousal UA dev", "arousal UA test", "valence UA test")
    table = Table(
        title="Table 1",
        note="Printed for IEMOCAP.",
        columns=(*text_columns("system", "figures"), *numbers),
        rows=(
            make_row("cross-language training of two", "printed", "1", "2", "3", kind="baseline"),
        ),
    )
    assert split_columns(table, width=83) == [table]
    narrow = split_columns(table, width=66)
    names = [[column.name for column in part.columns] for part in narrow]
    assert names == [
        ["system", "figures", "arousal UA dev", "arousal UA test"],
        ["system", "figures", "valence UA test"],
    ]
    assert [part.title for part in narrow] == ["Table 1", "Table 1, continued"]
    assert [part.note for part in narrow] == ["", "Printed for IEMOCAP."]
    last = make_row("cross-language training of two", "printed", "3", kind="baseline")
    assert narrow[1].rows == (last,)
    assert len(split_columns(table, width=1)) == 3


def test_variants_are_named_only_if_there_are_several() -> None:
    validation = replace(OWN, variant="validation")
    both = replace(
        EXAMPLE,
        variants={"paper": "own", "validation": "speakers select"},
        rows=[build_row("Full", "li2019", OWN, validation)],
    )
    table = report.build_score_table(both, "Table 2", both.rows)
    assert [row.cells[1] for row in table.rows][1:] == [
        "ours, paper (validation)",
        "ours, paper (test, optimistic)",
        "ours, validation (validation)",
        "ours, validation (test, optimistic)",
    ]
    assert "Variant validation: speakers select." in report.render_markdown(both)


def test_matrices_have_one_order() -> None:
    printed, own = report.build_matrix_tables(EXAMPLE)
    assert [row.cells for row in printed.rows] == [
        ("joy", "75.0", "25.0"),
        ("anger", "0.0", "100.0"),
    ]
    assert [row.cells for row in own.rows] == [("joy", "100.0", "0.0"), ("anger", "50.0", "50.0")]
    assert (printed.title, own.title) == ("Table 3, Full: printed", "Table 3, Full: ours")


def test_markdown_has_every_part() -> None:
    shown = report.render_markdown(EXAMPLE)
    assert shown.startswith("# Li, Zhao 2019: reproduction on EMO-DB in place of IEMOCAP\n")
    assert re.findall("^## (.*)$", shown, re.MULTILINE) == [
        "Warnings",
        "Table 2",
        "Confusion matrices",
        "Statements of the paper",
        "Doubts about the printed figures",
        "What differs from the paper",
        "Runs",
        "Reproduce",
    ]
    assert "CAUTION: our runs are on EMO-DB in place of IEMOCAP" in shown
    assert r"- 2 epochs in place of 100\_x" in shown
    assert "- - Less (missing): needs &lt;b&gt;IEMOCAP&lt;/b&gt;" in shown
    assert (
        "| A helps. (section 5.4: Full against Less) | held | emotion WA | 81.6 | n/a | " in shown
    )
    assert "| 60.0 | 50.0 | +10.0 [5.0, 15.0] | 0.002 (0.010) |" in shown
    assert "| ″ | cannot be told | emotion recall of joy |" in shown
    assert "| training.epochs | 100 | 2 | li2019-emodb |" in shown
    assert "- li2019, li2019-less: As in the paper: all." in shown
    assert (
        "| Table 2, Full | li2019-emodb | finished | emodb | leave-one-speaker-out, 10 folds |"
        in shown
    )
    assert "| 5531 | 535 | 0 | li2019-emodb-emodb-seed0-1234 |" in shown
    assert f"```\n{EXAMPLE.command}\n```" in shown


def test_latex_has_every_part() -> None:
    shown = report.render_latex(EXAMPLE)
    assert shown.count(r"\begin{table}") == shown.count(r"\end{table}") == 6
    assert shown.count(r"\begin{itemize}") == shown.count(r"\end{itemize}") == 4
    assert r"\item 81.6 \& \textless{}more\textgreater{}: no." in shown
    assert shown.count("CAUTION: our runs are on EMO-DB") == 6
    assert r"Full & printed & 61.2 & 60.1{*} & 59.0{*} \\" in shown
    assert "\n'' & cannot be told & emotion recall of joy &" in shown
    assert shown.count(r"\begin{adjustbox}{max width=") == shown.count(r"\end{adjustbox}") > 0
    assert r"\usepackage{booktabs,adjustbox}" in shown
    shares = [
        sum(map(float, re.findall(r"p\{([\d.]+)", line)))
        for line in shown.splitlines()
        if r"\begin{tabular}" in line
    ]
    assert len(shares) == 6
    assert max(shares) <= 0.61


def test_page_nests_escapes_and_has_every_part() -> None:
    text = report.render_html(EXAMPLE)
    page = Page(text)
    assert page.open == []
    assert page.scripts == []
    words = normalize_spaces(page.words)
    headings = {tag["href"] for tag in page.all("a") if tag["href"] != "#main"}
    assert headings == {f"#{tag['id']}" for tag in page.all("h2") if tag["id"] != "warnings"}
    assert "<b>IEMOCAP" not in text
    assert "Statements of the paper, by our runs: 1 held, 0 not held, 1 cannot be told." in words
    assert "our runs are on EMO-DB in place of IEMOCAP" in words
    assert "81.6 & <more>: no." in words
    shaded = [tag["style"] for tag in page.all("td") if tag.get("class") == "shaded"]
    assert len(shaded) == 8
    assert shaded[0] == "--share:75.0"
    kinds = [tag.get("class") for tag in page.all("tr")]
    assert [kinds.count(name) for name in ("headline", "optimistic", "clean")] == [1, 1, 1]


@pytest.mark.parametrize("width", [80, 120])
def test_terminal_report(width: int) -> None:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(report.render_terminal(EXAMPLE))
    words = normalize_spaces(file.getvalue())
    assert max(map(len, file.getvalue().splitlines())) <= width
    assert "CAUTION: our runs are on EMO-DB in place of IEMOCAP" in words
    assert "[40.0, 60.0]" not in words
    assert "needs <b>IEMOCAP</b>" in words
    assert "A helps. held: emotion WA; cannot be told: emotion recall of joy." in words


def test_report_without_any_run(tmp_path: Path) -> None:
    empty = replace(
        EXAMPLE, rows=[build_row("Full", "li2019", MISSING)], matrices=[], claims=[], choices={}
    )
    paths = report.write_reproduction(empty, tmp_path)
    assert [path.name for path in paths] == [
        "reproduction.html",
        "reproduction.md",
        "reproduction.tex",
    ]
    shown = paths[1].read_text()
    assert "## Statements" not in shown
    assert "figures for 0 of 1 rows" in shown
