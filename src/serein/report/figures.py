"""Figures of a run. Colours tell nothing alone, and are told apart without red and green.

Backgrounds are transparent and text has no colour of its own: the page sets both, light or dark.
Labels are escaped, as plotly reads them as HTML.
"""

import math
from collections.abc import Callable, Iterable
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serein.metrics.scoring import UA, Metric, get_metric
from serein.results.evaluation import Calibration, CalibrationScores, ClassScores, Epoch, FoldResult
from serein.results.studies import Interval, Search, Sweep, SweepSeed, Trial

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

# Okabe & Ito's vermillion, blue and bluish green: 3:1 or more on white and on near-black.
MEAN_COLOR, MARK_COLORS = "#D55E00", ("#0072B2", "#009E73", "#CC79A7")
MARK_SYMBOLS = ("circle", "triangle-up", "square")
FOLD_COLOR = "#8a8f98"
MAX_LABELLED_CLASSES = 10
"""With more classes than these, a cell is too small for its numbers."""

EpochValue = Callable[[Epoch], float | None]
Matrix = NDArray[np.float64]
Curve = list[tuple[int, float | None]]


def plot_confusion(scores: ClassScores, classes: list[str]) -> "Figure":
    """Draw a confusion matrix: colour is the share of the true class, text the count and share.

    With many classes, such as speakers, the text would not fit; hovering shows it.

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
    # Where cividis turns from dark to light, both colours still have 4.5:1.
    words = [
        _cell_labels(counts, shares, shares < 48, names, "white"),
        _cell_labels(counts, shares, shares >= 48, names, "black"),
    ] * (len(names) <= MAX_LABELLED_CLASSES)
    figure = Figure(
        [heat, *words], layout=_layout("predicted", "truth", 110 + min(48 * len(names), 560))
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


def plot_scatter(truth: list[float], answers: list[float]) -> "Figure":
    """Draw the answers of a task of numbers against the truth, and where both are the same.

    Args:
        truth: n labels.
        answers: n values.
    """
    from plotly.graph_objects import Figure, Scatter

    ends = [min([*truth, *answers], default=0.0), max([*truth, *answers], default=1.0)]
    same = Scatter(
        x=ends,
        y=ends,
        name="answer is truth",
        mode="lines",
        line={"color": FOLD_COLOR, "width": 1, "dash": "dash"},
        hoverinfo="skip",
    )
    points = Scatter(
        x=[_round_value(value) for value in truth],
        y=[_round_value(value) for value in answers],
        name="an utterance",
        mode="markers",
        opacity=0.5,
        marker={"color": MARK_COLORS[0], "size": 6},
        hovertemplate="truth %{x}, answer %{y}<extra></extra>",
    )
    return Figure([same, points], layout=_layout("truth", "answer", 420))


def plot_reliability(calibration: Calibration) -> "Figure":
    """Draw how often answers are right against how sure they are, raw and tempered."""
    from plotly.graph_objects import Figure, Scatter

    ideal = Scatter(
        x=[0, 100],
        y=[0, 100],
        name="as sure as right",
        mode="lines",
        line={"color": FOLD_COLOR, "width": 1, "dash": "dash"},
        hoverinfo="skip",
    )
    kinds = {"as the model says": calibration.raw, "tempered": calibration.calibrated}
    drawn = [
        _reliability_trace(name, confidence, index)
        for index, (name, confidence) in enumerate(kinds.items())
        if confidence is not None
    ]
    figure = Figure([ideal, *drawn], layout=_layout("confidence, %", "right, %", 320))
    figure.update_xaxes(range=[0, 102])
    figure.update_yaxes(range=[0, 102])
    return figure


def _reliability_trace(name: str, confidence: CalibrationScores, index: int) -> "Scatter":
    from plotly.graph_objects import Scatter

    return Scatter(
        x=[_round_value(100 * sure) for _, sure, _ in confidence.bins],
        y=[_round_value(100 * right) for _, _, right in confidence.bins],
        customdata=[count for count, _, _ in confidence.bins],
        name=name,
        mode="lines+markers",
        line={
            "color": (MARK_COLORS[0], MEAN_COLOR)[index],
            "width": 2,
            "dash": ("solid", "dot")[index],
        },
        marker={"symbol": MARK_SYMBOLS[index], "size": 9},
        hovertemplate="%{customdata} utterances, sure %{x:.1f} %, right %{y:.1f} %<extra></extra>",
    )


def plot_trials(search: Search, name: str) -> "Figure":
    """Draw the validation score of every scored trial against one searched setting."""
    from plotly.graph_objects import Figure

    choice = ".." not in search.space[name]
    best = [one for one in search.ranked_trials if one.number == search.best]
    others = [one for one in reversed(search.ranked_trials) if one.number != search.best]
    kind = get_metric(search.score)
    traces = [
        _trial_trace("a trial", others, name, choice, kind, MARK_COLORS[0], "circle"),
        _trial_trace("the best", best, name, choice, kind, MEAN_COLOR, "star"),
    ]
    figure = Figure(
        traces, layout=_layout(escape(name), f"validation {_get_axis_title(kind)}", 320)
    )
    log = search.space[name].endswith(":log")
    figure.update_xaxes(type="category" if choice else "log" if log else "linear")
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

    values = [one.settings[name] for one in trials]
    return Scatter(
        x=[escape(str(value)) for value in values] if is_categorical else values,
        y=[_round_value(_get_display_factor(metric) * (one.score or 0)) for one in trials],
        customdata=[one.number for one in trials],
        name=label,
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 9 if symbol == "circle" else 13},
        hovertemplate=f"trial %{{customdata}}, %{{x}}: %{{y{_get_hover_format(metric)}<extra></extra>",
    )


def plot_sweep(sweep: Sweep) -> "Figure":
    """Draw WA and UA against the swept setting with their intervals, and the UA of each seed."""
    from plotly.graph_objects import Figure

    numbers = all(type(one.value) in (int, float) for one in sweep.points)
    values = [one.value if numbers else escape(str(one.value)) for one in sweep.points]
    ends = {
        "UA": [(one.ua, one.ua_interval) for one in sweep.points],
        "WA": [(one.wa, one.wa_interval) for one in sweep.points],
    }
    traces = [
        _interval_trace(name, values, found, index)
        for index, (name, found) in enumerate(ends.items())
    ]
    seeds = [(x, seed) for x, one in zip(values, sweep.points, strict=True) for seed in one.seeds]
    figure = Figure([_seed_trace(seeds), *traces], layout=_layout(escape(sweep.setting), "%", 360))
    figure.update_xaxes(type="linear" if numbers else "category")
    return figure


def _interval_trace(
    name: str, values: list[object], found: list[tuple[float | None, Interval]], index: int
) -> "Scatter":
    from plotly.graph_objects import Scatter

    bounds = [own or (score, score) for score, own in found]
    gaps = [
        (0.0, 0.0) if score is None or low is None or high is None else (score - low, high - score)
        for (score, _), (low, high) in zip(found, bounds, strict=True)
    ]
    colour = (MEAN_COLOR, MARK_COLORS[0])[index]
    return Scatter(
        x=values,
        y=[_round_value(None if score is None else 100 * score) for score, _ in found],
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
        y=[_round_value(None if one.ua is None else 100 * one.ua) for _, one in seeds],
        customdata=[one.seed for _, one in seeds],
        name="UA of a seed",
        mode="markers",
        marker={"color": FOLD_COLOR, "symbol": "circle-open", "size": 7},
        hovertemplate="seed %{customdata}, %{x}: UA %{y:.1f} %<extra></extra>",
    )


def _get_display_factor(metric: Metric) -> int:
    """What a score is multiplied by to be drawn."""
    return 100 if metric.is_percent else 1


def _get_hover_format(metric: Metric) -> str:
    return ":.1f} %" if metric.is_percent else ":.3f}"


def _get_axis_title(metric: Metric) -> str:
    return f"{metric.title}, %" if metric.is_percent else metric.title


def plot_loss(folds: list[FoldResult], marked: dict[str, str]) -> "Figure | None":
    """Draw the training loss over epochs, like `accuracy`."""
    return _plot_curves(folds, lambda epoch: epoch.loss, marked, "training loss")


def plot_scores(
    folds: list[FoldResult], subset: str, task: str, marked: dict[str, str], metric: Metric = UA
) -> "Figure | None":
    """Draw a score over epochs: each fold thin, their mean bold, the chosen epochs marked.

    Args:
        folds: with their histories.
        subset: which side was scored, "validation" or "test".
        task: which task.
        marked: selections whose epochs are marked, and what to call them.
        metric: which score.

    Returns:
        None where that side and task were never scored.
    """

    def value(epoch: Epoch) -> float | None:
        score = epoch.scores.get(subset, {}).get(task, {}).get(metric.name)
        return None if score is None else _get_display_factor(metric) * score

    return _plot_curves(folds, value, marked, f"{subset} {_get_axis_title(metric)}")


def _plot_curves(
    folds: list[FoldResult], value: EpochValue, marked: dict[str, str], title: str
) -> "Figure | None":
    from plotly.graph_objects import Figure, Scatter

    courses = {
        fold.name: [(epoch.epoch, _round_value(value(epoch))) for epoch in fold.history]
        for fold in folds
    }
    courses = {name: line for name, line in courses.items() if any(y is not None for _, y in line)}
    if not courses:
        return None
    first = next(iter(courses))
    traces = [_fold_trace(name, course, first=name == first) for name, course in courses.items()]
    if len(courses) > 1:
        epochs, means = _mean_curve(courses.values())
        style = {"color": MEAN_COLOR, "width": 3}
        hover = "mean, epoch %{x}: %{y:.3~g}<extra></extra>"
        traces.append(
            Scatter(x=epochs, y=means, name="mean", mode="lines", line=style, hovertemplate=hover)
        )
    for index, (selection, words) in enumerate(marked.items()):
        traces += _chosen_epoch_traces(folds, value, selection, words, index)
    return Figure(traces, layout=_layout("epoch", title, 320))


def _fold_trace(name: str, curve: Curve, *, first: bool) -> "Scatter":
    from plotly.graph_objects import Scatter

    return Scatter(
        x=[epoch for epoch, _ in curve],
        y=[y for _, y in curve],
        name="a fold" if first else escape(name),
        legendgroup="folds",
        showlegend=first,
        mode="lines",
        opacity=0.55,
        line={"color": FOLD_COLOR, "width": 1},
        hovertemplate=f"fold {escape(name)}, epoch %{{x}}: %{{y:.3~g}}<extra></extra>",
    )


def _chosen_epoch_traces(
    folds: list[FoldResult], value: EpochValue, selection: str, label: str, index: int
) -> list["Scatter"]:
    from plotly.graph_objects import Scatter

    points = [
        (epoch.epoch, _round_value(value(epoch)), fold.name)
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
    # Over the folds that got so far; undefined where any of those is.
    by_epoch: dict[int, list[float]] = {}
    for course in curves:
        for epoch, y in course:
            by_epoch.setdefault(epoch, []).append(math.nan if y is None else y)
    epochs = sorted(by_epoch)
    return epochs, [_round_value(float(np.mean(by_epoch[epoch]))) for epoch in epochs]


def _round_value(value: float | None) -> float | None:
    # Four digits are more than a screen shows, and a page of many folds stays small.
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None


def _layout(x: str, y: str, height: int) -> dict[str, object]:
    axis = {"automargin": True, "fixedrange": True, "zeroline": False, "ticks": "outside"}
    clear = "rgba(0,0,0,0)"
    return {
        "template": {},
        "height": height,
        "margin": {"l": 8, "r": 20, "t": 32, "b": 8},
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "dragmode": False,
        "hovermode": "closest",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        "xaxis": {**axis, "title": {"text": x, "standoff": 10}},
        "yaxis": {**axis, "title": {"text": y, "standoff": 10}},
    }
