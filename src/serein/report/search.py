"""Reports of a search: in the terminal, as Markdown and as an HTML page.

All scores are on validation speakers; the test score of a trial is in its own run folder.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import stdev

from rich.console import Group, RenderableType
from rich.text import Text

from serein import config
from serein.metrics.scoring import describe_mean_score, get_metric
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
from serein.utils.files import write_texts

SEARCH_FILES = ("search.html", "search.md")
NO_FOLD_SPREAD = "undefined: fewer than two folds have a score"


def format_search_title(search: Search) -> str:
    """Return recipe and corpus of the search."""
    return f"Search: {search.recipe['name']} on {search.corpus['name']}"


def describe_search(search: Search) -> str:
    """Return numbers of trials, protocol and seed in one clause."""
    states = [trial.state for trial in search.trials]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    folds = f"{search.protocol['name']}, {search.protocol['folds']} folds"
    return f"{len(states)} trials ({', '.join(counts)}), {folds}, seed {search.seed}"


def describe_best_trial(search: Search) -> Iterator[str]:
    """Yield the best trial, and a warning that its score is optimistic."""
    if not search.ranked_trials:
        yield "No trial has a score yet."
        return
    best, count = search.ranked_trials[0], len(search.ranked_trials)
    yield (
        f"Best: trial {best.number}, {_describe_trial_score(search)} "
        f"{_format_trial_score(search, best.score)} on validation speakers, "
        f"with {'; '.join(_format_settings(best))}."
    )
    if count > 1:
        yield (
            "All scores are means over folds on the validation speakers that also select the "
            f"epochs. The score of the best of {count} trials is optimistic, as it selected the "
            "trial; quote the test score of its own run."
        )
    else:
        yield (
            "The score is the mean over folds on the validation speakers that also select the "
            "epochs, and optimistic; quote the test score of its own run."
        )


def _format_settings(trial: Trial) -> list[str]:
    return [config.format_setting(name, value) for name, value in trial.settings.items()]


def describe_trial(trial: Trial, search: Search) -> str:
    """Return the progress line of a trial that has ended."""
    prefix = f"trial {trial.number}: {'; '.join(_format_settings(trial))}"
    if trial.score is None:
        return f"{prefix}: {trial.state}: {trial.fault}"
    best = search.ranked_trials[0]
    title = summary.trial_metric(search).title
    return (
        f"{prefix}: validation {title} {_format_trial_score(search, trial.score)}, "
        f"best so far {_format_trial_score(search, best.score)} (trial {best.number})"
    )


def _describe_trial_score(search: Search) -> str:
    """Describe the score that ranks the trials: metric and tasks."""
    ranked_by = search.ranked_by or {search.task: search.score}
    return describe_mean_score({task: get_metric(name).title for task, name in ranked_by.items()})


def _format_trial_score(search: Search, score: float | None) -> str:
    return summary.format_score_with_interval(score, None, summary.trial_metric(search))


def build_search_tables(search: Search) -> list[Table]:
    """Build the tables of trials, the best first, of the search space and of failed trials."""
    tables = [_trial_table(search), _space_table(search)]
    failed = [trial for trial in search.trials if trial.fault]
    return [*tables, _failure_table(failed)] if failed else tables


def _trial_table(search: Search) -> Table:
    unscored = [trial for trial in search.trials if trial.score is None]
    metric = summary.trial_metric(search)
    percent = ", in percent" * metric.is_percent
    return Table(
        title="Trials",
        note=f"Ranked by {_describe_trial_score(search)} on validation speakers{percent}: mean, "
        "standard deviation and lowest over folds. The folder "
        f"{_get_run_prefix(search)}RUN of a trial has its test scores, which this search has not "
        "used.",
        columns=(
            Column(name="trial"),
            *(Column(name=name, is_text=_has_text_values(search, name)) for name in search.space),
            *number_columns(metric.title, undefined_reason="not scored"),
            *number_columns("deviation", "lowest", undefined_reason=NO_FOLD_SPREAD),
            *number_columns("run"),
        ),
        rows=tuple(_trial_row(trial, search) for trial in [*search.ranked_trials, *unscored]),
    )


def _trial_row(trial: Trial, search: Search) -> Row:
    metric = summary.trial_metric(search)
    scores = [score for score in trial.folds.values() if score is not None]
    spread = summary.format_score(metric, stdev(scores)) if len(scores) > 1 else UNDEFINED
    return make_row(
        str(trial.number),
        *(str(trial.settings[name]) for name in search.space),
        summary.format_score(metric, trial.score),
        spread,
        summary.format_score(metric, min(scores, default=None)),
        trial.run.removeprefix(_get_run_prefix(search)) or trial.state,
        kind="headline" if trial.number == search.best else "",
    )


def _has_text_values(search: Search, name: str) -> bool:
    return any(isinstance(trial.settings[name], str) for trial in search.trials)


def _get_run_prefix(search: Search) -> str:
    """Return the common prefix of the folder names of a search and of its runs."""
    return search.name.rpartition("search-")[0]


def _space_table(search: Search) -> Table:
    return Table(
        title="Search space",
        columns=text_columns("setting", "values"),
        rows=tuple(make_row(name, values) for name, values in search.space.items()),
    )


def _failure_table(failed: list[Trial]) -> Table:
    return Table(
        title="Failed trials",
        columns=text_columns("trial", "reason"),
        rows=tuple(make_row(str(trial.number), trial.fault) for trial in failed),
    )


def build_search_figures(search: Search) -> Figures:
    """Build a figure of the trials' scores against each searched setting."""
    if not search.ranked_trials:
        return {}
    title = summary.trial_metric(search).title
    return {
        f"over-{index}": (
            figures.plot_trials(search, name),
            f"Validation {title} of every trial against {name}; the table below has the same "
            "numbers",
        )
        for index, name in enumerate(search.space)
    }


def render_search(search: Search) -> RenderableType:
    """Render the search for a `rich` console."""
    parts: list[RenderableType] = [
        terminal.make_line(format_search_title(search), "bold"),
        terminal.make_line(describe_search(search)),
        *map(terminal.make_line, describe_best_trial(search)),
        *(terminal.make_line(f"Warning: {warning}", "yellow") for warning in search.warnings),
    ]
    for table in build_search_tables(search):
        parts += [Text(), terminal.draw_table(table)]
    return Group(*parts)


def render_search_markdown(search: Search) -> str:
    """Render the search as Markdown; ends with a newline."""
    warnings = [f"Warning: {warning}" for warning in search.warnings]
    lines = (describe_search(search), *describe_best_trial(search), *warnings)
    sections = [
        Section(title="", paragraphs=lines),
        Section(title="Trials", tables=tuple(build_search_tables(search))),
        Section(title="Reproduce", code=search.command),
    ]
    if search.evaluation:
        heading = ("The settings of the best trial, evaluated on test speakers:",)
        sections.append(Section(title="", paragraphs=heading, code=search.evaluation))
    return markdown.render_markdown_sections(format_search_title(search), sections)


def render_search_html(search: Search) -> str:
    """Render the search as a page that opens offline."""
    return html.render_template(
        "search.html",
        **html.figure_values(build_search_figures(search)),
        search=search,
        title=format_search_title(search),
        description=describe_search(search),
        headline=list(describe_best_trial(search)),
        tables=build_search_tables(search),
        source="search.json",
    )


def write_search(search: Search, path: Path) -> tuple[Path, ...]:
    """Write ``search.html`` and ``search.md`` to a folder; return their paths.

    Raises:
        StorageError: a file could not be written; an earlier file of its name is unchanged.
    """
    pages = (render_search_html(search), render_search_markdown(search))
    return write_texts(path, dict(zip(SEARCH_FILES, pages, strict=True)))
