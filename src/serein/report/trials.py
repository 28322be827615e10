"""A search, trial by trial: in the terminal, as Markdown, and as an HTML page.

All scores are on validation speakers; what the best trial is worth on others, its own run says.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import stdev

from rich.console import Group, RenderableType
from rich.text import Text

from serein import config
from serein.files import write_text
from serein.metrics.measures import Score, score_named
from serein.report import markdown, page, plots, summary, terminal
from serein.report.document import Section
from serein.report.page import Figures
from serein.report.table import UNDEFINED, Column, Row, Table, numbers, row, words
from serein.searches import Search, Trial

FILES = ("search.html", "search.md")
NO_SPREAD = "undefined: fewer than two folds were scored"


def title(search: Search) -> str:
    """Which recipe was searched on which corpus."""
    return f"Search: {search.recipe['name']} on {search.corpus['name']}"


def told(search: Search) -> str:
    """How much was searched, in one clause."""
    states = [one.state for one in search.trials]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    folds = f"{search.protocol['name']}, {search.protocol['folds']} folds"
    return f"{len(states)} trials ({', '.join(counts)}), {folds}, seed {search.seed}"


def headline(search: Search) -> Iterator[str]:
    """The best trial, and what its score is not, line by line."""
    if not search.finished:
        yield "No trial has been scored yet."
        return
    best, count = search.finished[0], len(search.finished)
    yield (
        f"Best: trial {best.number}, {_kind(search).title} of {search.task} "
        f"{_score(search, best.score)} on validation speakers, "
        f"with {'; '.join(_settings(best))}."
    )
    yield (
        "All scores are means over folds on validation speakers, at the epochs that they chose. "
        f"The best of {count} trials was picked by that very score, which is optimistic for it; "
        "quote the test score of its own run."
        if count > 1
        else "The score is the mean over folds on validation speakers, at the epochs that they "
        "chose, and optimistic; quote the test score of its own run."
    )


def _settings(trial: Trial) -> list[str]:
    return [config.worded(name, value) for name, value in trial.settings.items()]


def line(trial: Trial, search: Search) -> str:
    """What to say when a trial ends."""
    what = f"trial {trial.number}: {'; '.join(_settings(trial))}"
    if trial.score is None:
        return f"{what}: {trial.state}: {trial.fault}"
    best = search.finished[0]
    return (
        f"{what}: validation {_kind(search).title} {_score(search, trial.score)}, "
        f"best so far {_score(search, best.score)} (trial {best.number})"
    )


def _kind(search: Search) -> Score:
    """What trials are ranked by."""
    return score_named(search.score)


def _score(search: Search, score: float | None) -> str:
    return summary.quoted(score, None, _kind(search))


def tables(search: Search) -> list[Table]:
    """Every trial, the best first; what was drawn from; why trials failed."""
    every = [_trials(search), _space(search)]
    faults = [one for one in search.trials if one.fault]
    return [*every, _faults(faults)] if faults else every


def _trials(search: Search) -> Table:
    rest = [one for one in search.trials if one.score is None]
    kind = _kind(search)
    percent = ", in percent" * kind.percent
    return Table(
        title="Trials",
        note=f"{kind.title} of {search.task} on validation speakers{percent}: mean, "
        f"standard deviation and lowest over folds. The folder {_beside(search)}RUN of a trial "
        "holds its test scores, which nothing here has seen.",
        columns=(
            Column(name="trial"),
            *(Column(name=name, words=_is_worded(search, name)) for name in search.space),
            *numbers(kind.title, undefined="not scored"),
            *numbers("deviation", "lowest", undefined=NO_SPREAD),
            *numbers("run"),
        ),
        rows=tuple(_row(one, search) for one in [*search.finished, *rest]),
    )


def _row(one: Trial, search: Search) -> Row:
    kind = _kind(search)
    known = [score for score in one.folds.values() if score is not None]
    spread = summary.cell(kind, stdev(known)) if len(known) > 1 else UNDEFINED
    return row(
        str(one.number),
        *(str(one.settings[name]) for name in search.space),
        summary.cell(kind, one.score),
        spread,
        summary.cell(kind, min(known, default=None)),
        one.run.removeprefix(_beside(search)) or one.state,
        kind="headline" if one.number == search.best else "",
    )


def _is_worded(search: Search, name: str) -> bool:
    return any(isinstance(one.settings[name], str) for one in search.trials)


def _beside(search: Search) -> str:
    """What the names of a search's folder and those of all its runs begin with."""
    return search.name.rpartition("search-")[0]


def _space(search: Search) -> Table:
    return Table(
        title="Searched settings",
        columns=words("setting", "drawn from"),
        rows=tuple(row(name, text) for name, text in search.space.items()),
    )


def _faults(failed: list[Trial]) -> Table:
    return Table(
        title="Failed trials",
        columns=words("trial", "why"),
        rows=tuple(row(str(one.number), one.fault) for one in failed),
    )


def figures(search: Search) -> Figures:
    """For each searched setting, the scores of all trials against it."""
    if not search.finished:
        return {}
    return {
        f"over-{place}": (
            plots.trials(search, name),
            f"Validation {_kind(search).title} of every trial against {name}; the table below "
            "holds the same numbers",
        )
        for place, name in enumerate(search.space)
    }


def render(search: Search) -> RenderableType:
    """The search for a `rich` console."""
    return Group(*_parts(search))


def _parts(search: Search) -> Iterator[RenderableType]:
    yield terminal.line(title(search), "bold")
    yield terminal.line(told(search))
    for words_ in headline(search):
        yield terminal.line(words_)
    for warning in search.warnings:
        yield terminal.line(f"Warning: {warning}", "yellow")
    for table in tables(search):
        yield Text()
        yield terminal.draw(table)


def as_markdown(search: Search) -> str:
    """The search as Markdown; ends with a newline."""
    warnings = [f"Warning: {warning}" for warning in search.warnings]
    sections = [
        Section(title="", words=(told(search), *headline(search), *warnings)),
        Section(title="Trials", tables=tuple(tables(search))),
        Section(title="Reproduce", code=search.command),
    ]
    if search.evaluation:
        words_ = ("The best trial's settings, on test speakers:",)
        sections.append(Section(title="", words=words_, code=search.evaluation))
    return markdown.write(title(search), sections)


def html(search: Search) -> str:
    """The search as a page that opens offline."""
    from plotly.offline import get_plotlyjs

    drawn = figures(search)
    return page.fill(
        "search.html",
        search=search,
        title=title(search),
        told=told(search),
        headline=list(headline(search)),
        tables=tables(search),
        figures=drawn,
        data={name: figure.to_plotly_json() for name, (figure, _) in drawn.items()},
        script=get_plotlyjs() if drawn else "",
        source="search.json",
    )


def write(search: Search, path: Path) -> tuple[Path, ...]:
    """Write ``search.html`` and ``search.md`` to a folder; give their paths.

    Raises:
        StorageError: a file could not be written; what stood there before still stands.
    """
    for name, text in zip(FILES, (html(search), as_markdown(search)), strict=True):
        write_text(path / name, text)
    return tuple(path / name for name in FILES)
