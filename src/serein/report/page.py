"""One HTML page that says what a run found; it opens offline, on a phone too.

What has no data (no histories, no speakers) is left out. Whatever comes from results is escaped.
"""

from pathlib import Path
from typing import Any

from serein.files import write_text
from serein.metrics.measures import Score
from serein.report import (
    audit,
    checks,
    document,
    flattery,
    mistakes,
    paper,
    plots,
    seeds,
    summary,
    tables,
    transcripts,
)
from serein.results import Results

NAME = "report.html"
SECTIONS = {  # for each section its heading (the first depends), and the values that it shows
    "fooled": ("How you could have been fooled", ("fooled",)),
    "audit": ("", ("tasks",)),
    "paper": ("The paper's figures", ("paper",)),
    "classes": ("Classes", ("classified",)),
    "values": ("Values", ("scatters",)),
    "words": ("Words", ("words",)),
    "speakers": ("Speakers", ("parts",)),
    "confidence": ("Confidence", ("calibration", "temperatures")),
    "curves": ("Learning curves", ("curves",)),
    "mistakes": ("Confident errors", ("drawings",)),
    "leakage": ("Leakage check", ("leakage",)),
    "labels": ("Labels", ("labels",)),
    "seeds": ("Seeds", ("seeds",)),
    "reproduce": ("Reproduce", ("facts",)),
}

Figures = dict[str, tuple[Any, str]]
Values = dict[str, Any]


def write(results: Results, path: Path) -> None:
    """Write the page to a run folder.

    Raises:
        StorageError: the file could not be written; what stood there before still stands.
    """
    write_text(path / NAME, html(results))


def html(results: Results) -> str:
    """The page as text; `plotly`'s script stands in it once."""
    from plotly.offline import get_plotlyjs

    drawn = figures(results)
    values: Values = {
        **_headline(results),
        **_scores(results, drawn),
        **_checks(results),
        "fooled": flattery.table(results),
        "paper": paper.table(results),
        "doubts": paper.doubts(results),
        "words": [one for one in (transcripts.table(results), transcripts.worst(results)) if one],
        "scatters": [name for name in drawn if name.startswith("scatter-")],
        "curves": [name for name in ("loss", "validation", "test") if name in drawn],
    }
    return fill(
        "report.html",
        **values,
        results=results,
        summary=summary,
        title=f"{summary.title(results)}: report",
        source="results.json",
        contents=_contents(values, audit.heading(results)),
        figures=drawn,
        data={name: figure.to_plotly_json() for name, (figure, _) in drawn.items()},
        script=get_plotlyjs() if drawn else "",
    )


def fill(template: str, **values: Any) -> str:
    """A template of this package with values in it, escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tight"] = lambda words: words.replace(" %", "\u00a0%")
    return environment.get_template(template).render(values) + "\n"


def _contents(values: Values, first: str) -> list[tuple[str, str]]:
    return [
        (id_, heading or first)
        for id_, (heading, needed) in SECTIONS.items()
        if any(values[name] for name in needed)
    ]


def figures(results: Results) -> Figures:
    """Every figure that the results hold data for, and what it shows in words, by its name."""
    return {
        **_confusions(results),
        **_scatters(results),
        **_reliabilities(results),
        **_curves(results),
    }


def _confusions(results: Results) -> Figures:
    return {
        f"confusion-{task}": (
            plots.confusion(results.scores[results.headline][task], results.classes[task]),
            f"Confusion matrix of {task}: counts, and the share of each true class; "
            "the table below it holds the same numbers",
        )
        for task in summary.of_classes(results)
    }


def _scatters(results: Results) -> Figures:
    return {
        f"scatter-{task}": (
            plots.scatter(*summary.pairs(results, task)),
            f"Answers of {task} against the truth; on the dashed line they are the same",
        )
        for task in summary.tasks(results)
        if not results.classes[task]
    }


def _reliabilities(results: Results) -> Figures:
    return {
        f"reliability-{task}": (
            plots.reliability(own),
            f"Reliability of {task}: share of right answers against confidence",
        )
        for task in summary.tasks(results)
        if (own := results.calibration.get(task)) and own.raw.bins
    }


def _curves(results: Results) -> Figures:
    drawn: Figures = {}
    if summary.is_fitted(results):
        return drawn
    quoted = {results.headline: f"{results.headline} picks"}
    for task in summary.tasks(results)[:1]:
        seen = [name for name in results.selections if audit.is_optimistic(results, name, task)]
        main = summary.measure(results, task).main
        picks = {**quoted, **{name: f"{name} picks" for name in seen}}
        curves = {
            "loss": ("Training loss", plots.loss(results.folds, quoted)),
            **{
                side: (
                    f"{main.title} of {task} on the {side} side",
                    plots.accuracy(results.folds, side, task, chosen, main),
                )
                for side, chosen in (("validation", quoted), ("test", picks))
            },
        }
        for name, (words, figure) in curves.items():
            if figure is not None:
                drawn[name] = (figure, f"{words} over epochs, for each fold and on average")
    return drawn


def _headline(results: Results) -> Values:
    return {
        "caution": summary.caution(results),
        "sentences": document.told(results),
        "gap": audit.gap(results),
    }


def _scores(results: Results, drawn: Figures) -> Values:
    every = summary.tasks(results)
    tasks = [_task(results, task, drawn) for task in every]
    by_seed = (seeds.table(results, task) for task in every)
    return {
        "tasks": tasks,
        "classified": [task for task in tasks if task["classes"]],
        "parts": [task for task in tasks if task["parts"]],
        "seeds": [table for table in by_seed if table],
    }


def _task(results: Results, task: str, drawn: Figures) -> Values:
    parts = {kind: tables.parts(results, task, kind) for kind in tables.kinds(task)}
    reliability = f"reliability-{task}"
    of_classes = bool(results.classes[task])
    return {
        "name": task,
        "cards": [_card(results, task, kind) for kind in summary.measure(results, task).scores],
        "brackets": summary.brackets(results, task),
        "rows": audit.comparison(results, task),
        "selections": tables.selections(results, task),
        "folds": tables.folds(results, task),
        "classes": tables.classes(results, task) if of_classes else None,
        "confusion": tables.confusion(results, task) if of_classes else None,
        "parts": {kind: table for kind, table in parts.items() if table},
        "reliability": reliability if reliability in drawn else "",
        "thresholds": checks.thresholds(results, task),
    }


def _card(results: Results, task: str, kind: Score) -> Values:
    scores = results.scored(results.headline)[task]
    score = scores.score(kind.name)
    return {
        "title": kind.title,
        "words": kind.words,
        "score": "" if score is None else f"{summary.cell(kind, score)}{summary.unit(kind)}",
        "interval": summary.bounds(scores.bounds(kind.name), kind),
        "moments": seeds.moments(results, task, kind),
    }


def _checks(results: Results) -> Values:
    return {
        "calibration": checks.calibration(results),
        "temperatures": checks.temperatures(results),
        "leakage": checks.leakage(results),
        "labels": checks.labels(results),
        "drawings": mistakes.drawings(results),
        "facts": checks.facts(results),
        "settings": checks.settings(results),
    }
