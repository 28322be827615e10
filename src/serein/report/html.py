"""The report as one HTML page, which opens offline and on a phone.

Sections without data are left out. All text from results is escaped.
"""

from pathlib import Path
from typing import Any

from serein.metrics.scoring import Metric
from serein.report import attention, audit, checks, document, figures, summary, tables, votes
from serein.report import published as published_results
from serein.results.evaluation import Results
from serein.utils.files import write_text

REPORT_NAME = "report.html"
SECTIONS = {
    "optimistic": (document.OPTIMISTIC_HEADING, ("optimistic",)),
    "audit": ("", ("tasks",)),
    "published": (document.PUBLISHED_HEADING, ("published",)),
    "classes": ("Classes", ("classification",)),
    "votes": (votes.VOTES_HEADING, ("vote_tables",)),
    "values": ("Values", ("scatter_plots",)),
    "words": ("Words", ("word_tables",)),
    "speakers": ("Speakers", ("grouped",)),
    "confidence": ("Confidence", ("calibration", "temperatures")),
    "curves": ("Learning curves", ("curves",)),
    "errors": ("Confident errors", ("drawings",)),
    "leakage": ("Leakage check", ("leakage",)),
    "labels": ("Labels", ("labels",)),
    "seeds": ("Seeds", ("seeds",)),
    "reproduce": ("Reproduce", ("provenance",)),
}
"""Heading of each section (the audit's depends on the results), and the values that it shows."""

Figures = dict[str, tuple[Any, str]]
"""Figures and their descriptions, by name."""
TemplateValues = dict[str, Any]


def write_page(results: Results, path: Path) -> None:
    """Write the page to a run folder.

    Raises:
        StorageError: the file could not be written; an earlier page is unchanged.
    """
    write_text(path / REPORT_NAME, render_html(results))


def render_html(results: Results) -> str:
    """Render the page; it contains the script of `plotly` once."""
    plots = build_figures(results)
    word_tables = (tables.build_word_table(results), tables.build_transcript_table(results))
    values: TemplateValues = {
        "caution": summary.get_caution(results),
        "sentences": document.describe_highlights(results),
        "gap": audit.describe_selection_gap(results),
        **_score_values(results, plots),
        **_check_values(results),
        "optimistic": audit.build_optimistic_table(results),
        "published": published_results.build_published_tables(results),
        "published_matrices": published_results.build_matrix_tables(results),
        "doubts": published_results.list_doubts(results),
        "doubts_heading": published_results.DOUBTS_HEADING,
        "vote_tables": votes.build_vote_tables(results),
        "word_tables": [table for table in word_tables if table],
        "scatter_plots": [name for name in plots if name.startswith("scatter-")],
        "curves": [name for name in ("loss", "validation", "test") if name in plots],
    }
    return render_template(
        "report.html",
        **values,
        **figure_values(plots),
        results=results,
        summary=summary,
        title=f"{summary.format_title(results)}: report",
        source="results.json",
        contents=[
            (id_, heading or audit.get_audit_heading(results))
            for id_, (heading, names) in SECTIONS.items()
            if any(values[name] for name in names)
        ],
    )


def figure_values(plots: Figures) -> TemplateValues:
    """Return what a template needs to show figures: descriptions, data and the plotly script."""
    from plotly.offline import get_plotlyjs

    return {
        "figures": plots,
        "data": {name: figure.to_plotly_json() for name, (figure, _) in plots.items()},
        "script": get_plotlyjs() if plots else "",
    }


def render_template(template: str, **values: Any) -> str:
    """Render a template of this package with escaped values."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tight"] = lambda text: text.replace(" %", "\u00a0%")
    return environment.get_template(template).render(values) + "\n"


def build_figures(results: Results) -> Figures:
    """Build every figure that the results have data for."""
    return {
        **_confusion_figures(results),
        **_scatter_figures(results),
        **_reliability_figures(results),
        **_curve_figures(results),
    }


def _confusion_figures(results: Results) -> Figures:
    return {
        f"confusion-{task}": (
            figures.plot_confusion(results.scores[results.headline][task], results.classes[task]),
            f"Confusion matrix of {task}: counts, and the share of each true class; "
            "the table below it has the same numbers",
        )
        for task in summary.list_classification_tasks(results)
    }


def _scatter_figures(results: Results) -> Figures:
    return {
        f"scatter-{task}": (
            figures.plot_scatter(*summary.get_value_pairs(results, task)),
            f"Predictions of {task} against the labels; on the dashed line they are equal",
        )
        for task in summary.list_scored_tasks(results)
        if not results.classes[task]
    }


def _reliability_figures(results: Results) -> Figures:
    return {
        f"reliability-{task}": (
            figures.plot_reliability(calibration),
            f"Reliability of {task}: accuracy against confidence",
        )
        for task in summary.list_scored_tasks(results)
        if (calibration := results.calibration.get(task)) and calibration.raw.bins
    }


def _curve_figures(results: Results) -> Figures:
    """Build the learning curves of the first scored task; an estimator has none."""
    tasks = summary.list_scored_tasks(results)[:1]
    if summary.is_fitted(results) or not tasks:
        return {}
    (task,) = tasks
    metric = summary.get_task_scorer(results, task).main
    quoted = {results.headline: f"selected by {results.headline}"}
    optimistic = [name for name in results.selections if audit.is_optimistic(results, name, task)]
    marks = {
        "validation": quoted,
        "test": {**quoted, **{name: f"selected by {name}" for name in optimistic}},
    }
    curves = {}
    if not summary.is_external(results):  # of which only the answers are known
        curves["loss"] = ("Training loss", figures.plot_loss(results.folds, quoted))
    for subset, marked in marks.items():
        curves[subset] = (
            f"{metric.title} of {task} on the {subset} subset",
            figures.plot_scores(results.folds, subset, task, marked, metric),
        )
    return {
        name: (figure, f"{title} over epochs, for each fold and on average")
        for name, (title, figure) in curves.items()
        if figure is not None
    }


def _score_values(results: Results, plots: Figures) -> TemplateValues:
    names = summary.list_scored_tasks(results)
    tasks = [_task_values(results, task, plots) for task in names]
    seed_tables = (tables.build_seed_table(results, task) for task in names)
    return {
        "tasks": tasks,
        "classification": [task for task in tasks if task["classes"]],
        "grouped": [task for task in tasks if task["groups"]],
        "seeds": [table for table in seed_tables if table],
    }


def _task_values(results: Results, task: str, plots: Figures) -> TemplateValues:
    groups = {
        attribute: tables.build_group_table(results, task, attribute)
        for attribute in tables.list_group_attributes(task)
    }
    reliability = f"reliability-{task}"
    has_classes = bool(results.classes[task])
    return {
        "name": task,
        "cards": [
            _score_card(results, task, metric)
            for metric in summary.get_task_scorer(results, task).metrics
        ],
        "intervals": summary.describe_intervals(results, task),
        "rows": audit.compare_selections(results, task),
        "selections": tables.build_selection_table(results, task),
        "folds": tables.build_fold_table(results, task),
        "classes": tables.build_class_table(results, task) if has_classes else None,
        "confusion": tables.build_confusion_table(results, task) if has_classes else None,
        "groups": {attribute: table for attribute, table in groups.items() if table},
        "reliability": reliability if reliability in plots else "",
        "thresholds": checks.build_threshold_table(results, task),
    }


def _score_card(results: Results, task: str, metric: Metric) -> TemplateValues:
    scores = results.scores_by_task(results.headline)[task]
    score = scores.score(metric.name)
    value = f"{summary.format_score(metric, score)}{summary.format_unit(metric)}"
    return {
        "title": metric.title,
        "description": metric.description,
        "score": "" if score is None else value,
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
        "provenance": checks.build_provenance_table(results),
        "settings": checks.build_settings_table(results),
    }
