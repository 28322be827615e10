"""Plotly figures of results, searches and sweeps.

Colours are distinguishable without red and green, and symbols or dashes repeat what they show.
Backgrounds are transparent and text has no colour: the page sets both, light or dark. Labels are
escaped, since plotly parses them as HTML.
"""

import math
from collections.abc import Callable, Iterable
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serein.metrics.scoring import UA, Metric
from serein.report import summary
from serein.results.evaluation import Calibration, CalibrationScores, ClassScores, Epoch, FoldResult
from serein.results.studies import Interval, Search, Sweep, SweepSeed, Trial

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

# Okabe & Ito's vermillion, blue and bluish green: a contrast of at least 3:1 on white and black.
MEAN_COLOR, MARK_COLORS = "#D55E00", ("#0072B2", "#009E73", "#CC79A7")
MARK_SYMBOLS = ("circle", "triangle-up", "square")
FOLD_COLOR = "#8a8f98"
MAX_LABELLED_CLASSES = 10
"""With more classes, the cells of a confusion matrix are too small for numbers."""

EpochValue = Callable[[Epoch], float | None]
Matrix = NDArray[np.float64]
Curve = list[tuple[int, float | None]]


def plot_confusion(scores: ClassScores, classes: list[str]) -> "Figure":
    """Draw a confusion matrix: colour is the share of the true class, text the count and share.

    With many classes, such as speakers, the text is shown on hover only.

    Args:
        scores: of one selection and task.
        classes: K names, in the order of rows and columns.
    """
    from plotly.graph_objects import Figure, Heatmap

    counts = np.array(scores.confusion, dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(100 * counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    names = [escape(name) for name in classes]
    heat = Heatmap(
        z=[[_round_value(share) for share in row] for row in shares.tolist()],
        x=names,
        y=names,
        customdata=counts.astype(int).tolist(),
        hovertemplate="truth %{y}, predicted %{x}: %{customdata} (%{z:.1f} %)<extra></extra>",
        colorscale="Cividis",
        zmin=0,
        zmax=100,
        xgap=1,
        ygap=1,
        showscale=False,
    )
    # Where cividis changes from dark to light, both colours have a contrast of 4.5:1.
    labels = [
        _cell_labels(counts, shares, shares < 48, names, "white"),
        _cell_labels(counts, shares, shares >= 48, names, "black"),
    ] * (len(names) <= MAX_LABELLED_CLASSES)
    figure = Figure(
        [heat, *labels], layout=_layout("predicted", "truth", 110 + min(48 * len(names), 560))
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False)
    return figure


def _cell_labels(
    counts: Matrix, shares: Matrix, where: NDArray[np.bool_], names: list[str], colour: str
) -> "Scatter":
    from plotly.graph_objects import Scatter

    cells = np.argwhere(where).tolist()
    return Scatter(
        x=[names[column] for _, column in cells],
        y=[names[row] for row, _ in cells],
        text=[f"{counts[row, column]:.0f}<br>{shares[row, column]:.0f} %" for row, column in cells],
        mode="text",
        textfont={"color": colour},
        hoverinfo="skip",
        showlegend=False,
    )


def plot_scatter(truth: list[float], predicted: list[float]) -> "Figure":
    """Draw the predictions of a regression task against the labels, and the line of equality.

    Args:
        truth: n labels.
        predicted: n predictions.
    """
    from plotly.graph_objects import Figure, Scatter

    values = [*truth, *predicted]
    ends = [min(values, default=0.0), max(values, default=1.0)]
    equality = Scatter(
        x=ends,
        y=ends,
        name="prediction equals label",
        mode="lines",
        line={"color": FOLD_COLOR, "width": 1, "dash": "dash"},
        hoverinfo="skip",
    )
    points = Scatter(
        x=[_round_value(value) for value in truth],
        y=[_round_value(value) for value in predicted],
        name="utterance",
        mode="markers",
        opacity=0.5,
        marker={"color": MARK_COLORS[0], "size": 6},
        hovertemplate="truth %{x}, predicted %{y}<extra></extra>",
    )
    return Figure([equality, points], layout=_layout("truth", "predicted", 420))


def plot_reliability(calibration: Calibration) -> "Figure":
    """Draw accuracy against confidence, uncalibrated and calibrated."""
    from plotly.graph_objects import Figure, Scatter

    ideal = Scatter(
        x=[0, 100],
        y=[0, 100],
        name="perfect calibration",
        mode="lines",
        line={"color": FOLD_COLOR, "width": 1, "dash": "dash"},
        hoverinfo="skip",
    )
    variants = {"uncalibrated": calibration.raw, "calibrated": calibration.calibrated}
    traces = [
        _reliability_trace(name, scores, index)
        for index, (name, scores) in enumerate(variants.items())
        if scores is not None
    ]
    figure = Figure([ideal, *traces], layout=_layout("confidence, %", "accuracy, %", 320))
    figure.update_xaxes(range=[0, 102])
    figure.update_yaxes(range=[0, 102])
    return figure


def _reliability_trace(name: str, scores: CalibrationScores, index: int) -> "Scatter":
    from plotly.graph_objects import Scatter

    return Scatter(
        x=[_round_value(100 * confidence) for _, confidence, _ in scores.bins],
        y=[_round_value(100 * accuracy) for _, _, accuracy in scores.bins],
        customdata=[count for count, _, _ in scores.bins],
        name=name,
        mode="lines+markers",
        line={
            "color": (MARK_COLORS[0], MEAN_COLOR)[index],
            "width": 2,
            "dash": ("solid", "dot")[index],
        },
        marker={"symbol": MARK_SYMBOLS[index], "size": 9},
        hovertemplate="%{customdata} utterances, confidence %{x:.1f} %, accuracy %{y:.1f} %"
        "<extra></extra>",
    )


def plot_trials(search: Search, name: str) -> "Figure":
    """Draw the validation score of every scored trial against one searched setting."""
    from plotly.graph_objects import Figure

    is_categorical = ".." not in search.space[name]
    best = [trial for trial in search.ranked_trials if trial.number == search.best]
    others = [trial for trial in reversed(search.ranked_trials) if trial.number != search.best]
    metric = summary.trial_metric(search)
    traces = [
        _trial_trace("trial", others, name, is_categorical, metric, MARK_COLORS[0], "circle"),
        _trial_trace("best trial", best, name, is_categorical, metric, MEAN_COLOR, "star"),
    ]
    figure = Figure(
        traces, layout=_layout(escape(name), f"validation {_get_axis_title(metric)}", 320)
    )
    is_log = search.space[name].endswith(":log")
    figure.update_xaxes(type="category" if is_categorical else "log" if is_log else "linear")
    return figure


def _trial_trace(
    label: str,
    trials: list[Trial],
    name: str,
    is_categorical: bool,
    metric: Metric,
    colour: str,
    symbol: str,
) -> "Scatter":
    from plotly.graph_objects import Scatter

    values = [trial.settings[name] for trial in trials]
    return Scatter(
        x=[escape(str(value)) for value in values] if is_categorical else values,
        y=[_round_value(_get_display_factor(metric) * (trial.score or 0)) for trial in trials],
        customdata=[trial.number for trial in trials],
        name=label,
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 9 if symbol == "circle" else 13},
        hovertemplate=f"trial %{{customdata}}, %{{x}}: %{{y{_get_hover_format(metric)}"
        "<extra></extra>",
    )


def plot_sweep(sweep: Sweep) -> "Figure":
    """Draw WA and UA against the swept setting with their intervals, and the UA of each seed."""
    from plotly.graph_objects import Figure

    points = sweep.points
    are_numbers = all(type(point.value) in (int, float) for point in points)
    values = [point.value if are_numbers else escape(str(point.value)) for point in points]
    scores = {
        "UA": [(point.ua, point.ua_interval) for point in points],
        "WA": [(point.wa, point.wa_interval) for point in points],
    }
    traces = [
        _interval_trace(name, values, pairs, index)
        for index, (name, pairs) in enumerate(scores.items())
    ]
    seeds = [(x, seed) for x, point in zip(values, points, strict=True) for seed in point.seeds]
    figure = Figure([_seed_trace(seeds), *traces], layout=_layout(escape(sweep.setting), "%", 360))
    figure.update_xaxes(type="linear" if are_numbers else "category")
    return figure


def _interval_trace(
    name: str, values: list[object], scores: list[tuple[float | None, Interval]], index: int
) -> "Scatter":
    from plotly.graph_objects import Scatter

    bounds = [interval or (score, score) for score, interval in scores]
    gaps = [
        (0.0, 0.0) if score is None or low is None or high is None else (score - low, high - score)
        for (score, _), (low, high) in zip(scores, bounds, strict=True)
    ]
    colour = (MEAN_COLOR, MARK_COLORS[0])[index]
    return Scatter(
        x=values,
        y=[_round_value(None if score is None else 100 * score) for score, _ in scores],
        error_y={
            "array": [_round_value(100 * above) for _, above in gaps],
            "arrayminus": [_round_value(100 * below) for below, _ in gaps],
            "color": colour,
            "thickness": (3, 1)[index],
        },
        name=name,
        mode="lines+markers",
        line={"color": colour, "width": 2, "dash": ("solid", "dot")[index]},
        marker={"symbol": MARK_SYMBOLS[index], "size": 9},
        hovertemplate=f"{name} at %{{x}}: %{{y:.1f}} %<extra></extra>",
    )


def _seed_trace(seeds: list[tuple[object, SweepSeed]]) -> "Scatter":
    from plotly.graph_objects import Scatter

    return Scatter(
        x=[x for x, _ in seeds],
        y=[_round_value(None if seed.ua is None else 100 * seed.ua) for _, seed in seeds],
        customdata=[seed.seed for _, seed in seeds],
        name="UA of a seed",
        mode="markers",
        marker={"color": FOLD_COLOR, "symbol": "circle-open", "size": 7},
        hovertemplate="seed %{customdata}, %{x}: UA %{y:.1f} %<extra></extra>",
    )


def _get_display_factor(metric: Metric) -> int:
    """Return the factor between a score and its drawn value."""
    return 100 if metric.is_percent else 1


def _get_hover_format(metric: Metric) -> str:
    return ":.1f} %" if metric.is_percent else ":.3f}"


def _get_axis_title(metric: Metric) -> str:
    return f"{metric.title}, %" if metric.is_percent else metric.title


def plot_loss(folds: list[FoldResult], marked: dict[str, str]) -> "Figure | None":
    """Draw the training loss over epochs, like `plot_scores`."""
    return _plot_curves(folds, lambda epoch: epoch.loss, marked, "training loss")


def plot_scores(
    folds: list[FoldResult], subset: str, task: str, marked: dict[str, str], metric: Metric = UA
) -> "Figure | None":
    """Draw a score over epochs: a thin line per fold, a bold mean, and the selected epochs.

    Args:
        folds: with their histories.
        subset: "validation" or "test".
        task: name of a task.
        marked: selections whose epochs are marked, and their labels.
        metric: of the task.

    Returns:
        None if the history has no scores of this subset and task.
    """

    def get_value(epoch: Epoch) -> float | None:
        score = epoch.scores.get(subset, {}).get(task, {}).get(metric.name)
        return None if score is None else _get_display_factor(metric) * score

    return _plot_curves(folds, get_value, marked, f"{subset} {_get_axis_title(metric)}")


def _plot_curves(
    folds: list[FoldResult], get_value: EpochValue, marked: dict[str, str], title: str
) -> "Figure | None":
    from plotly.graph_objects import Figure, Scatter

    curves = {
        fold.name: [(epoch.epoch, _round_value(get_value(epoch))) for epoch in fold.history]
        for fold in folds
    }
    curves = {name: curve for name, curve in curves.items() if any(y is not None for _, y in curve)}
    if not curves:
        return None
    first = next(iter(curves))
    traces = [_fold_trace(name, curve, first=name == first) for name, curve in curves.items()]
    if len(curves) > 1:
        epochs, means = _mean_curve(curves.values())
        style = {"color": MEAN_COLOR, "width": 3}
        hover = "mean, epoch %{x}: %{y:.3~g}<extra></extra>"
        traces.append(
            Scatter(x=epochs, y=means, name="mean", mode="lines", line=style, hovertemplate=hover)
        )
    for index, (selection, label) in enumerate(marked.items()):
        traces += _selected_epoch_traces(folds, get_value, selection, label, index)
    return Figure(traces, layout=_layout("epoch", title, 320))


def _fold_trace(name: str, curve: Curve, *, first: bool) -> "Scatter":
    from plotly.graph_objects import Scatter

    return Scatter(
        x=[epoch for epoch, _ in curve],
        y=[y for _, y in curve],
        name="fold" if first else escape(name),
        legendgroup="folds",
        showlegend=first,
        mode="lines",
        opacity=0.55,
        line={"color": FOLD_COLOR, "width": 1},
        hovertemplate=f"fold {escape(name)}, epoch %{{x}}: %{{y:.3~g}}<extra></extra>",
    )


def _selected_epoch_traces(
    folds: list[FoldResult], get_value: EpochValue, selection: str, label: str, index: int
) -> list["Scatter"]:
    from plotly.graph_objects import Scatter

    points = [
        (epoch.epoch, _round_value(get_value(epoch)), fold.name)
        for fold in folds
        for epoch in fold.history
        if epoch.epoch == fold.epochs.get(selection)
    ]
    if not points:
        return []
    x, y, names = zip(*points, strict=True)
    marker = {
        "color": MARK_COLORS[index % len(MARK_COLORS)],
        "symbol": MARK_SYMBOLS[index % len(MARK_SYMBOLS)],
        "size": 9,
        "line": {"color": "white", "width": 1},
    }
    return [
        Scatter(
            x=list(x),
            y=list(y),
            name=escape(label),
            mode="markers",
            marker=marker,
            text=[escape(name) for name in names],
            hovertemplate="fold %{text}, epoch %{x}: %{y:.3~g}<extra></extra>",
        )
    ]


def _mean_curve(curves: Iterable[Curve]) -> tuple[list[int], list[float | None]]:
    """Return the mean over the folds that have an epoch; undefined if one of them is."""
    by_epoch: dict[int, list[float]] = {}
    for curve in curves:
        for epoch, y in curve:
            by_epoch.setdefault(epoch, []).append(math.nan if y is None else y)
    epochs = sorted(by_epoch)
    return epochs, [_round_value(float(np.mean(by_epoch[epoch]))) for epoch in epochs]


def _round_value(value: float | None) -> float | None:
    # Four digits are more than a screen can show, and keep a page of many folds small.
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None


def _layout(x: str, y: str, height: int) -> dict[str, object]:
    axis = {"automargin": True, "fixedrange": True, "zeroline": False, "ticks": "outside"}
    transparent = "rgba(0,0,0,0)"
    return {
        "template": {},
        "height": height,
        "margin": {"l": 8, "r": 20, "t": 32, "b": 8},
        "paper_bgcolor": transparent,
        "plot_bgcolor": transparent,
        "dragmode": False,
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        "xaxis": {**axis, "title": {"text": x, "standoff": 10}},
        "yaxis": {**axis, "title": {"text": y, "standoff": 10}},
    }
