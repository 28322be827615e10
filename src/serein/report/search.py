"""A search, trial by trial: in the terminal, as Markdown, and as an HTML page.

All scores are on validation speakers; what the best trial is worth on others, its own run says.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import stdev

from rich.console import Group, RenderableType
from rich.text import Text

from serein import config
from serein.metrics.scoring import Metric, get_metric
from serein.report import figures, html, markdown, summary, terminal
from serein.report.document import Section
from serein.report.html import Figures
from serein.report.table import (
    UNDEFINED,
    Column,
    Row,
    Table,
    make_row,
    number_columns,
    text_columns,
)
from serein.results.studies import Search, Trial
from serein.utils.files import write_text

SEARCH_FILES = ("search.html", "search.md")
NO_FOLD_SPREAD = "undefined: fewer than two folds were scored"


def format_search_title(search: Search) -> str:
    """Which recipe was searched on which corpus."""
    return f"Search: {search.recipe['name']} on {search.corpus['name']}"


def describe_search(search: Search) -> str:
    """How much was searched, in one clause."""
    states = [one.state for one in search.trials]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    folds = f"{search.protocol['name']}, {search.protocol['folds']} folds"
    return f"{len(states)} trials ({', '.join(counts)}), {folds}, seed {search.seed}"


def describe_best_trial(search: Search) -> Iterator[str]:
    """The best trial, and what its score is not, line by line."""
    if not search.ranked_trials:
        yield "No trial has been scored yet."
        return
    best, count = search.ranked_trials[0], len(search.ranked_trials)
    yield (
        f"Best: trial {best.number}, {_get_search_metric(search).title} of {search.task} "
        f"{_format_trial_score(search, best.score)} on validation speakers, "
        f"with {'; '.join(_format_settings(best))}."
    )
    yield (
        "All scores are means over folds on validation speakers, at the epochs that they chose. "
        f"The best of {count} trials was picked by that very score, which is optimistic for it; "
        "quote the test score of its own run."
        if count > 1
        else "The score is the mean over folds on validation speakers, at the epochs that they "
        "chose, and optimistic; quote the test score of its own run."
    )


def _format_settings(trial: Trial) -> list[str]:
    return [config.format_setting(name, value) for name, value in trial.settings.items()]


def describe_trial(trial: Trial, search: Search) -> str:
    """What to say when a trial ends."""
    what = f"trial {trial.number}: {'; '.join(_format_settings(trial))}"
    if trial.score is None:
        return f"{what}: {trial.state}: {trial.fault}"
    best = search.ranked_trials[0]
    return (
        f"{what}: validation {_get_search_metric(search).title} {_format_trial_score(search, trial.score)}, "
        f"best so far {_format_trial_score(search, best.score)} (trial {best.number})"
    )


def _get_search_metric(search: Search) -> Metric:
    """What trials are ranked by."""
    return get_metric(search.score)


def _format_trial_score(search: Search, score: float | None) -> str:
    return summary.format_score_with_interval(score, None, _get_search_metric(search))


def build_search_tables(search: Search) -> list[Table]:
    """Every trial, the best first; what was drawn from; why trials failed."""
    every = [_trial_table(search), _space_table(search)]
    faults = [one for one in search.trials if one.fault]
    return [*every, _failure_table(faults)] if faults else every


def _trial_table(search: Search) -> Table:
    rest = [one for one in search.trials if one.score is None]
    kind = _get_search_metric(search)
    percent = ", in percent" * kind.is_percent
    return Table(
        title="Trials",
        note=f"{kind.title} of {search.task} on validation speakers{percent}: mean, "
        f"standard deviation and lowest over folds. The folder {_get_run_prefix(search)}RUN of a trial "
        "holds its test scores, which nothing here has seen.",
        columns=(
            Column(name="trial"),
            *(Column(name=name, is_text=_has_text_values(search, name)) for name in search.space),
            *number_columns(kind.title, undefined_reason="not scored"),
            *number_columns("deviation", "lowest", undefined_reason=NO_FOLD_SPREAD),
            *number_columns("run"),
        ),
        rows=tuple(_trial_row(one, search) for one in [*search.ranked_trials, *rest]),
    )


def _trial_row(one: Trial, search: Search) -> Row:
    kind = _get_search_metric(search)
    known = [score for score in one.folds.values() if score is not None]
    spread = summary.format_score(kind, stdev(known)) if len(known) > 1 else UNDEFINED
    return make_row(
        str(one.number),
        *(str(one.settings[name]) for name in search.space),
        summary.format_score(kind, one.score),
        spread,
        summary.format_score(kind, min(known, default=None)),
        one.run.removeprefix(_get_run_prefix(search)) or one.state,
        kind="headline" if one.number == search.best else "",
    )


def _has_text_values(search: Search, name: str) -> bool:
    return any(isinstance(one.settings[name], str) for one in search.trials)


def _get_run_prefix(search: Search) -> str:
    """What the names of a search's folder and those of all its runs begin with."""
    return search.name.rpartition("search-")[0]


def _space_table(search: Search) -> Table:
    return Table(
        title="Searched settings",
        columns=text_columns("setting", "drawn from"),
        rows=tuple(make_row(name, text) for name, text in search.space.items()),
    )


def _failure_table(failed: list[Trial]) -> Table:
    return Table(
        title="Failed trials",
        columns=text_columns("trial", "why"),
        rows=tuple(make_row(str(one.number), one.fault) for one in failed),
    )


def build_search_figures(search: Search) -> Figures:
    """For each searched setting, the scores of all trials against it."""
    if not search.ranked_trials:
        return {}
    return {
        f"over-{place}": (
            figures.plot_trials(search, name),
            f"Validation {_get_search_metric(search).title} of every trial against {name}; the table below "
            "holds the same numbers",
        )
        for place, name in enumerate(search.space)
    }


def render_search(search: Search) -> RenderableType:
    """The search for a `rich` console."""
    return Group(*_search_parts(search))


def _search_parts(search: Search) -> Iterator[RenderableType]:
    yield terminal.make_line(format_search_title(search), "bold")
    yield terminal.make_line(describe_search(search))
    for words_ in describe_best_trial(search):
        yield terminal.make_line(words_)
    for warning in search.warnings:
        yield terminal.make_line(f"Warning: {warning}", "yellow")
    for table in build_search_tables(search):
        yield Text()
        yield terminal.draw_table(table)


def render_search_markdown(search: Search) -> str:
    """The search as Markdown; ends with a newline."""
    warnings = [f"Warning: {warning}" for warning in search.warnings]
    sections = [
        Section(
            title="", paragraphs=(describe_search(search), *describe_best_trial(search), *warnings)
        ),
        Section(title="Trials", tables=tuple(build_search_tables(search))),
        Section(title="Reproduce", code=search.command),
    ]
    if search.evaluation:
        words_ = ("The best trial's settings, on test speakers:",)
        sections.append(Section(title="", paragraphs=words_, code=search.evaluation))
    return markdown.render_markdown_sections(format_search_title(search), sections)


def render_search_html(search: Search) -> str:
    """The search as a page that opens offline."""
    from plotly.offline import get_plotlyjs

    drawn = build_search_figures(search)
    return html.render_template(
        "search.html",
        search=search,
        title=format_search_title(search),
        told=describe_search(search),
        headline=list(describe_best_trial(search)),
        tables=build_search_tables(search),
        figures=drawn,
        data={name: figure.to_plotly_json() for name, (figure, _) in drawn.items()},
        script=get_plotlyjs() if drawn else "",
        source="search.json",
    )


def write_search(search: Search, path: Path) -> tuple[Path, ...]:
    """Write ``search.html`` and ``search.md`` to a folder; give their paths.

    Raises:
        StorageError: a file could not be written; what stood there before still stands.
    """
    for name, text in zip(
        SEARCH_FILES, (render_search_html(search), render_search_markdown(search)), strict=True
    ):
        write_text(path / name, text)
    return tuple(path / name for name in SEARCH_FILES)
