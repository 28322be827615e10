"""One HTML page that says what a run found; it opens offline, on a phone too.

What has no data (no histories, no speakers) is left out. Whatever comes from results is escaped.
"""

from pathlib import Path
from typing import Any

from serein.files import write_text
from serein.report import audit, plots, speakers, summary
from serein.results import Results

NAME = "report.html"

Figures = dict[str, tuple[Any, str]]


def write(results: Results, path: Path) -> None:
    """Write the page to a run folder.

    Raises:
        StorageError: the file could not be written; what stood there before still stands.
    """
    write_text(path / NAME, html(results))


def html(results: Results) -> str:
    """The page as text; `plotly`'s script stands in it once."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawn = figures(results)
    page = environment.get_template("page.html").render(
        results=results,
        summary=summary,
        audit=audit,
        extremes=speakers.extremes(results, summary.leading(results)),
        one_speaker_each=speakers.are_folds(results),
        validators=speakers.validators(results),
        tasks=[_task(results, task) for task in summary.tasks(results)],
        figures=drawn,
        data={name: figure.to_plotly_json() for name, (figure, _) in drawn.items()},
        facts=_facts(results),
        settings=list(summary.flat(results.recipe)),
        script=get_plotlyjs() if drawn else "",
    )
    return page + "\n"


def figures(results: Results) -> Figures:
    """Every figure that the results hold data for, and what it shows in words, by its name."""
    return {**_confusions(results), **_curves(results)}


def _confusions(results: Results) -> Figures:
    scores = results.scores.get(results.headline, {})
    return {
        f"confusion-{task}": (
            plots.confusion(scores[task], results.classes[task]),
            f"Confusion matrix of {task}; the table below it holds the same numbers",
        )
        for task in summary.tasks(results)
    }


def _curves(results: Results) -> Figures:
    drawn: Figures = {}
    quoted = {results.headline: f"{results.headline} picks"}
    for task in summary.tasks(results)[:1]:
        seen = [name for name in results.selections if audit.is_optimistic(results, name, task)]
        picks = {**quoted, **{name: f"{name} picks" for name in seen}}
        curves = {
            "loss": ("Training loss", plots.loss(results.folds, quoted)),
            **{
                side: (
                    f"UA of {task} on the {side} side",
                    plots.accuracy(results.folds, side, task, chosen),
                )
                for side, chosen in (("validation", quoted), ("test", picks))
            },
        }
        for name, (words, figure) in curves.items():
            if figure is not None:
                drawn[name] = (figure, f"{words} over epochs, for each fold and on average")
    return drawn


def _task(results: Results, task: str) -> dict[str, Any]:
    scores = results.scores[results.headline][task]
    return {
        "name": task,
        "scores": scores,
        "brackets": summary.brackets(results, task),
        "rows": audit.comparison(results, task),
        "classes": results.classes[task],
        "mistaken": summary.mistaken_for(results, task),
        "parts": _parts(results, task),
        "tested": {part.name: part.utterances for part in speakers.parts(results, task, "fold")},
        "folds": [fold for fold in results.folds if _scored(fold.scores, task)],
    }


def _parts(results: Results, task: str) -> dict[str, list[speakers.Part]]:
    # Where folds are speakers, the table of the folds holds the speakers' scores.
    kinds = ["speaker"] * (not speakers.are_folds(results)) + ["gender"] * (task != "gender")
    found = {kind: speakers.parts(results, task, kind) for kind in kinds}
    return {kind: parts for kind, parts in found.items() if parts}


def _scored(scores: dict[str, dict[str, Any]], task: str) -> bool:
    return any(task in by_task for by_task in scores.values())


def _facts(results: Results) -> list[tuple[str, str]]:
    split = {key: value for key, value in results.protocol.items() if key != "folds"}
    return [
        ("run", results.name),
        ("ended", results.created),
        ("training time, all processes", summary.duration(results.seconds)),
        *((f"corpus: {name}", value) for name, value in summary.flat(results.corpus)),
        *((f"protocol: {name}", value) for name, value in summary.flat(split)),
        *summary.flat(results.environment),
    ]
