"""One HTML page that says what a run found; it opens offline, on a phone too.

What has no data (no histories, no speakers) is left out. Whatever comes from results is escaped.
"""

from pathlib import Path
from typing import Any

from serein.metrics.scoring import Metric
from serein.report import attention, audit, checks, document, summary, tables
from serein.report import figures as plots
from serein.results.evaluation import Results
from serein.utils.files import write_text

REPORT_NAME = "report.html"
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
TemplateValues = dict[str, Any]


def write_page(results: Results, path: Path) -> None:
    """Write the page to a run folder.

    Raises:
        StorageError: the file could not be written; what stood there before still stands.
    """
    write_text(path / REPORT_NAME, render_html(results))


def render_html(results: Results) -> str:
    """The page as text; `plotly`'s script stands in it once."""
    from plotly.offline import get_plotlyjs

    drawn = build_figures(results)
    values: TemplateValues = {
        **_headline_values(results),
        **_score_values(results, drawn),
        **_check_values(results),
        "fooled": audit.build_optimistic_table(results),
        "paper": audit.build_published_table(results),
        "doubts": audit.list_doubts(results),
        "words": [
            one
            for one in (
                tables.build_word_table(results),
                tables.build_transcript_table(results),
            )
            if one
        ],
        "scatters": [name for name in drawn if name.startswith("scatter-")],
        "curves": [name for name in ("loss", "validation", "test") if name in drawn],
    }
    return render_template(
        "report.html",
        **values,
        results=results,
        summary=summary,
        title=f"{summary.format_title(results)}: report",
        source="results.json",
        contents=_list_contents(values, audit.get_audit_heading(results)),
        figures=drawn,
        data={name: figure.to_plotly_json() for name, (figure, _) in drawn.items()},
        script=get_plotlyjs() if drawn else "",
    )


def render_template(template: str, **values: Any) -> str:
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


def _list_contents(values: TemplateValues, first: str) -> list[tuple[str, str]]:
    return [
        (id_, heading or first)
        for id_, (heading, needed) in SECTIONS.items()
        if any(values[name] for name in needed)
    ]


def build_figures(results: Results) -> Figures:
    """Every figure that the results hold data for, and what it shows in words, by its name."""
    return {
        **_confusion_figures(results),
        **_scatter_figures(results),
        **_reliability_figures(results),
        **_curve_figures(results),
    }


def _confusion_figures(results: Results) -> Figures:
    return {
        f"confusion-{task}": (
            plots.plot_confusion(results.scores[results.headline][task], results.classes[task]),
            f"Confusion matrix of {task}: counts, and the share of each true class; "
            "the table below it holds the same numbers",
        )
        for task in summary.list_classification_tasks(results)
    }


def _scatter_figures(results: Results) -> Figures:
    return {
        f"scatter-{task}": (
            plots.plot_scatter(*summary.get_value_pairs(results, task)),
            f"Answers of {task} against the truth; on the dashed line they are the same",
        )
        for task in summary.list_scored_tasks(results)
        if not results.classes[task]
    }


def _reliability_figures(results: Results) -> Figures:
    return {
        f"reliability-{task}": (
            plots.plot_reliability(own),
            f"Reliability of {task}: share of right answers against confidence",
        )
        for task in summary.list_scored_tasks(results)
        if (own := results.calibration.get(task)) and own.raw.bins
    }


def _curve_figures(results: Results) -> Figures:
    drawn: Figures = {}
    if summary.is_fitted(results):
        return drawn
    quoted = {results.headline: f"{results.headline} picks"}
    for task in summary.list_scored_tasks(results)[:1]:
        seen = [name for name in results.selections if audit.is_optimistic(results, name, task)]
        main = summary.get_task_scorer(results, task).main
        picks = {**quoted, **{name: f"{name} picks" for name in seen}}
        curves = {
            "loss": ("Training loss", plots.plot_loss(results.folds, quoted)),
            **{
                side: (
                    f"{main.title} of {task} on the {side} side",
                    plots.plot_scores(results.folds, side, task, chosen, main),
                )
                for side, chosen in (("validation", quoted), ("test", picks))
            },
        }
        for name, (words, figure) in curves.items():
            if figure is not None:
                drawn[name] = (figure, f"{words} over epochs, for each fold and on average")
    return drawn


def _headline_values(results: Results) -> TemplateValues:
    return {
        "caution": summary.get_caution(results),
        "sentences": document.describe_highlights(results),
        "gap": audit.describe_selection_gap(results),
    }


def _score_values(results: Results, figures: Figures) -> TemplateValues:
    every = summary.list_scored_tasks(results)
    tasks = [_task_values(results, task, figures) for task in every]
    by_seed = (tables.build_seed_table(results, task) for task in every)
    return {
        "tasks": tasks,
        "classified": [task for task in tasks if task["classes"]],
        "parts": [task for task in tasks if task["parts"]],
        "seeds": [table for table in by_seed if table],
    }


def _task_values(results: Results, task: str, figures: Figures) -> TemplateValues:
    parts = {
        kind: tables.build_group_table(results, task, kind)
        for kind in tables.list_group_attributes(task)
    }
    reliability = f"reliability-{task}"
    of_classes = bool(results.classes[task])
    return {
        "name": task,
        "cards": [
            _score_card(results, task, kind)
            for kind in summary.get_task_scorer(results, task).metrics
        ],
        "brackets": summary.describe_intervals(results, task),
        "rows": audit.compare_selections(results, task),
        "selections": tables.build_selection_table(results, task),
        "folds": tables.build_fold_table(results, task),
        "classes": tables.build_class_table(results, task) if of_classes else None,
        "confusion": tables.build_confusion_table(results, task) if of_classes else None,
        "parts": {kind: table for kind, table in parts.items() if table},
        "reliability": reliability if reliability in figures else "",
        "thresholds": checks.build_threshold_table(results, task),
    }


def _score_card(results: Results, task: str, metric: Metric) -> TemplateValues:
    scores = results.scores_by_task(results.headline)[task]
    score = scores.score(metric.name)
    return {
        "title": metric.title,
        "words": metric.description,
        "score": ""
        if score is None
        else f"{summary.format_score(metric, score)}{summary.format_unit(metric)}",
        "interval": summary.format_interval(scores.bounds(metric.name), metric),
        "moments": tables.format_seed_moments(results, task, metric),
    }


def _check_values(results: Results) -> TemplateValues:
    return {
        "calibration": checks.build_calibration_table(results),
        "temperatures": checks.build_temperature_table(results),
        "leakage": checks.build_leakage_table(results),
        "labels": checks.build_label_tables(results),
        "drawings": attention.draw_errors(results),
        "facts": checks.build_provenance_table(results),
        "settings": checks.build_settings_table(results),
    }
