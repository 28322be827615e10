"""Markdown, LaTeX, terminal tables, and drawings of errors."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from builders.example_results import example_results
from builders.report_reader import Page, with_undefined_scores, without_folds
from rich.console import Console

from serein import report
from serein.report import attention, checks, document, html, latex, markdown, summary, terminal
from serein.report.table import Column, Table, make_row, text_columns
from serein.results.evaluation import AttentionTrace, Results

NASTY = "a_b&c%"
TABLE = Table(
    title="scores of a|b",
    note="See [1](x).",
    columns=(
        *text_columns("what"),
        Column(name="WA", group="first"),
        Column(name="UA", group="first"),
    ),
    rows=(make_row(NASTY, "1.0", "n/a"), make_row("[x] | y", "2.0", "[1.0, 3.0]")),
)


@pytest.fixture(scope="module")
def results() -> Results:
    return example_results()


def test_markdown_table() -> None:
    assert markdown.render_markdown_table(TABLE).splitlines() == [
        r"**scores of a\|b**",
        "",
        "| what | first WA | first UA |",
        "| :--- | ---: | ---: |",
        r"| a\_b&amp;c% | 1.0 | n/a |",
        r"| \[x] \| y | 2.0 | [1.0, 3.0] |",
        "",
        r"See [1]\(x).",
    ]


def test_latex_table() -> None:
    assert latex.render_latex_table(TABLE, "see below").splitlines() == [
        r"\begin{table}[htbp]",
        r"\centering",
        r"\caption{scores of a\textbar{}b. See {[}1{]}(x). CAUTION: see below}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r" & \multicolumn{2}{c}{first} \\",
        r"\cmidrule(lr){2-3}",
        r"what & WA & UA \\",
        r"\midrule",
        r"a\_b\&c\% & 1.0 & n/a \\",
        r"{[}x{]} \textbar{} y & 2.0 & {[}1.0, 3.0{]} \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def test_terminal_table_fits_and_keeps_brackets() -> None:
    file = io.StringIO()
    Console(file=file, width=60, color_system=None).print(terminal.draw_table(TABLE))
    shown = file.getvalue()
    assert "[x] | y" in shown
    assert "first UA" in shown
    note = " ".join(shown.split())
    assert note.endswith("See [1](x). n/a of first UA: undefined: nothing was scored.")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("\\input{x}", r"\textbackslash{}input\{x\}"),
        ("50 % ~ #1 $x$ ^2", r"50 \% \textasciitilde{} \#1 \$x\$ \textasciicircum{}2"),
        ('<a> "b"\n*c', r'\textless{}a\textgreater{} "b" {*}c'),
    ],
)
def test_latex_escapes(raw: str, expected: str) -> None:
    assert latex.escape_latex(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("`x` *y* ~z~", r"\`x\` \*y\* \~z\~"),
        ("<script> & \\", r"&lt;script&gt; &amp; \\"),
        ("one\n\n# two", r"one \# two"),
        ("[78.0, 85.0] [-3.0, 1.0]", "[78.0, 85.0] [-3.0, 1.0]"),
    ],
)
def test_markdown_escapes(raw: str, expected: str) -> None:
    assert markdown.escape_markdown(raw) == expected


def test_markdown_contains_the_main_tables(results: Results) -> None:
    shown = markdown.render_markdown(results)
    assert shown.startswith("# li2019-emodb on emodb\n\nleave-one-speaker-out, 10 folds, 535 ")
    assert re.findall("^## (.*)$", shown, re.MULTILINE) == [
        "Headline",
        "Optimistic evaluations",
        "Selection audit",
        "Published results",
        "Classes",
        "Speakers",
        "Seeds",
        "Confidence",
        "Leakage check",
        "Labels",
        "Reproduce",
    ]
    scores = results.scores["validation"]["emotion"]
    cells = [summary.format_percent(scores.wa), summary.format_interval(scores.wa_interval)]
    assert f"| validation (quoted) | {' | '.join(cells)} |" in shown
    assert f"```\n{results.command}\n```" in shown
    assert f"| protocol: hash | {results.protocol['hash']} |" in shown
    assert "| sentence | warning | 5350 | every test sentence is also in" in shown
    assert shown.endswith("versions.\n")


def test_every_markdown_row_has_the_columns_of_its_head(results: Results) -> None:
    rude = replace(results, classes={**results.classes, "emotion": ["a|b", *"cdefgh"]})
    rude = replace(rude, predictions=[])
    widths: list[int] = []
    for line in markdown.render_markdown(rude).splitlines():
        if not line.startswith("|"):
            widths = []
            continue
        widths.append(len(re.findall(r"(?<!\\)\|", line)))
        assert widths[-1] == widths[0]


def test_code_fence_is_longer_than_its_backticks(results: Results) -> None:
    shown = markdown.render_markdown(replace(results, command="serein ````x"))
    assert "`````\nserein ````x\n`````" in shown


def test_latex_contains_the_main_tables(results: Results) -> None:
    shown = latex.render_latex(results)
    found = re.findall(r"\\begin\{tabular\}\{(.*)\}\n\\toprule\n(?s:(.*?))\\bottomrule", shown)
    tables = [one for part in document.build_sections(results) for one in part.tables]
    assert len(found) == len(tables) > 15
    for (columns, body), table in zip(found, tables, strict=True):
        assert len(re.findall(r"p\{[^}]*\}|[lr]", columns)) == len(table.columns)
        rows = body.split("\\midrule\n")[1].splitlines()
        assert [len(re.findall(r"(?<!\\)&", line)) for line in rows] == [
            len(table.columns) - 1
        ] * len(table.rows)
    assert shown.splitlines()[1].startswith(r"% \usepackage{booktabs")
    wa = summary.format_percent(results.scores["validation"]["emotion"].wa)
    assert rf"validation (quoted) & {wa} & {{[}}" in shown


def test_names_from_files_are_escaped(results: Results) -> None:
    items = [replace(item, speaker=f"{NASTY}{item.speaker}") for item in results.predictions]
    rude = replace(results, predictions=items, corpus={"name": f"{NASTY}\n\\input{{x}}"})
    shown = latex.render_latex(rude)
    assert shown.splitlines()[0].startswith("% li2019-emodb on a_b&c% \\input{x}: leave-one")
    assert shown.splitlines()[1].startswith("% ")
    assert r"a\_b\&c\%03 & 54 &" in shown
    assert r"| a\_b&amp;c%03 | 54 |" in markdown.render_markdown(rude)


@pytest.mark.parametrize("change", [without_folds, with_undefined_scores])
def test_formats_of_incomplete_results(results: Results, change: object) -> None:
    assert callable(change)
    poor = change(results)
    assert "n/a" in markdown.render_markdown(with_undefined_scores(results))
    assert "## Reproduce" in markdown.render_markdown(poor)
    assert latex.render_latex(poor).count(r"\begin{table}") == latex.render_latex(poor).count(
        r"\end{table}"
    )
    bare = replace(poor, scores={}, predictions=[], folds=[], fold_means={}, baselines={})
    assert "## Classes" not in markdown.render_markdown(bare)


def test_write_report_writes_all_formats(results: Results, tmp_path: Path) -> None:
    paths = report.write_report(results, tmp_path)
    assert [path.name for path in paths] == ["report.html", "report.md", "report.tex"]
    assert paths[0].read_text() == html.render_html(results)
    assert paths[1].read_text() == markdown.render_markdown(results)
    assert paths[2].read_text() == latex.render_latex(results)


def test_label_tables_count_every_label(results: Results) -> None:
    emotion, gender = checks.build_label_tables(results)
    assert emotion.rows[0].cells[1].startswith("Wut (")
    assert [line.cells for line in emotion.rows[-2:]] == [
        ("(dropped)", "unbestimmt (4)", "4"),
        ("(no label)", "", "2"),
    ]
    assert len(gender.rows) == 2
    assert sum(int(line.cells[2]) for line in emotion.rows) == 535 + 6


def test_confidence_with_and_without_temperatures(results: Results) -> None:
    own = results.calibration["emotion"]
    assert str(checks.describe_confidence(results)).startswith(
        f"Confidence of emotion: ECE {own.raw.ece:.3f}, Brier {own.raw.brier:.3f}; with a "
    )
    cold = replace(
        results,
        calibration={"emotion": replace(own, calibrated=None, thresholds=[])},
        folds=[replace(fold, temperatures={}) for fold in results.folds],
    )
    table = checks.build_calibration_table(cold)
    assert table is not None
    assert [line.cells[1] for line in table.rows] == ["uncalibrated"]
    assert str(checks.describe_confidence(cold)).endswith(f"{own.raw.brier:.3f}.")
    assert checks.build_threshold_table(cold, "emotion") is None
    assert checks.build_temperature_table(cold) is None
    warm = checks.build_temperature_table(results)
    assert warm is not None
    assert warm.rows[-1].cells == ("16", "n/a", "n/a")
    assert "no temperature: the fold has no labelled validation subset" in html.render_html(results)


def test_drawing_of_an_error(results: Results) -> None:
    error = replace(
        results.confident_errors[0],
        seconds=2.0,
        envelope=[(-2.0, 2.0), (-0.5, 0.5)],
        attention={"pooling": AttentionTrace(times=[0.0, 0.5, 1.5], weight=[0.2, 0.6, 0.2])},
    )
    (drawing,) = attention.draw_errors(replace(results, confident_errors=[error]))
    assert drawing.waveform_path == "M0.0,0.0 320.0,22.5 320.0,67.5 0.0,90.0Z"
    assert drawing.attention_paths["pooling"] == "M0.0,90V60.0H80.0V0.0H240.0V60.0H320.0V90Z"
    assert drawing.ticks == [(0.0, "0"), (80.0, "0.5"), (160.0, "1"), (240.0, "1.5"), (320.0, "2")]
    assert drawing.description.endswith("highest from 0.50 to 1.50 s, with 60.0 % of its weight")


def test_long_drawings_are_downsampled(results: Results) -> None:
    trace = AttentionTrace(times=[0.01 * step for step in range(1000)], weight=[0.001] * 1000)
    long = replace(
        results.confident_errors[0],
        seconds=10.0,
        envelope=[(-0.1, 0.1)] * 5000,
        attention={"pooling": trace},
    )
    (drawing,) = attention.draw_errors(replace(results, confident_errors=[long]))
    assert len(drawing.waveform_path) < 4000
    assert len(drawing.attention_paths["pooling"]) < 2000
    assert [label for _, label in drawing.ticks] == ["0", "2", "4", "6", "8", "10"]


@pytest.mark.parametrize(
    "change",
    [
        {"envelope": [], "attention": {}},
        {"seconds": 0.0},
        {"envelope": [(-0.1, 0.1)], "attention": {"pooling": AttentionTrace(times=[], weight=[])}},
        {"attention": {"pooling": AttentionTrace(times=[0.0, 1.0], weight=[0.0, 0.0])}},
    ],
)
def test_drawings_of_incomplete_errors(results: Results, change: dict[str, object]) -> None:
    poor = replace(results, confident_errors=[replace(results.confident_errors[0], **change)])  # type: ignore[arg-type]
    parsed = Page(html.render_html(poor))
    assert len(parsed.all("svg")) == 1
    assert all("nan" not in str(path["d"]) for path in parsed.all("path"))


def test_undefined_cells_are_explained_below_a_table() -> None:
    table = Table(
        title="t",
        columns=(Column(name="name", is_text=True), Column(name="UA", undefined_reason="no label")),
        rows=(make_row("n/a", "n/a"), make_row("b", "61.0")),
    )
    assert table.describe_undefined() == "n/a of UA: no label."
    assert replace(table, rows=table.rows[1:]).describe_undefined() == ""
