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

from serein.metrics.measures import UA, Score, score_named
from serein.results import Calibration, ClassScores, Confidence, Epoch, FoldResult
from serein.searches import Search, Trial
from serein.sweeps import Interval, Seeded, Sweep

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

# Okabe & Ito's vermillion, blue and bluish green: 3:1 or more on white and on near-black.
MEAN, MARKS = "#D55E00", ("#0072B2", "#009E73", "#CC79A7")
SYMBOLS = ("circle", "triangle-up", "square")
FOLD = "#8a8f98"
LEGIBLE = 10
"""With more classes than these, a cell is too small for its numbers."""

Value = Callable[[Epoch], float | None]
Matrix = NDArray[np.float64]
Course = list[tuple[int, float | None]]


def confusion(scores: ClassScores, classes: list[str]) -> "Figure":
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
        z=[[_round(share) for share in row] for row in shares.tolist()],
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
        _words(counts, shares, shares < 48, names, "white"),
        _words(counts, shares, shares >= 48, names, "black"),
    ] * (len(names) <= LEGIBLE)
    figure = Figure(
        [heat, *words], layout=_layout("predicted", "truth", 110 + min(48 * len(names), 560))
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False)
    return figure


def _words(
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


def scatter(truth: list[float], answers: list[float]) -> "Figure":
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
        line={"color": FOLD, "width": 1, "dash": "dash"},
        hoverinfo="skip",
    )
    points = Scatter(
        x=[_round(value) for value in truth],
        y=[_round(value) for value in answers],
        name="an utterance",
        mode="markers",
        opacity=0.5,
        marker={"color": MARKS[0], "size": 6},
        hovertemplate="truth %{x}, answer %{y}<extra></extra>",
    )
    return Figure([same, points], layout=_layout("truth", "answer", 420))


def reliability(calibration: Calibration) -> "Figure":
    """Draw how often answers are right against how sure they are, raw and tempered."""
    from plotly.graph_objects import Figure, Scatter

    ideal = Scatter(
        x=[0, 100],
        y=[0, 100],
        name="as sure as right",
        mode="lines",
        line={"color": FOLD, "width": 1, "dash": "dash"},
        hoverinfo="skip",
    )
    kinds = {"as the model says": calibration.raw, "tempered": calibration.tempered}
    drawn = [
        _reliability(name, confidence, index)
        for index, (name, confidence) in enumerate(kinds.items())
        if confidence is not None
    ]
    figure = Figure([ideal, *drawn], layout=_layout("confidence, %", "right, %", 320))
    figure.update_xaxes(range=[0, 102])
    figure.update_yaxes(range=[0, 102])
    return figure


def _reliability(name: str, confidence: Confidence, index: int) -> "Scatter":
    from plotly.graph_objects import Scatter

    return Scatter(
        x=[_round(100 * sure) for _, sure, _ in confidence.bins],
        y=[_round(100 * right) for _, _, right in confidence.bins],
        customdata=[count for count, _, _ in confidence.bins],
        name=name,
        mode="lines+markers",
        line={"color": (MARKS[0], MEAN)[index], "width": 2, "dash": ("solid", "dot")[index]},
        marker={"symbol": SYMBOLS[index], "size": 9},
        hovertemplate="%{customdata} utterances, sure %{x:.1f} %, right %{y:.1f} %<extra></extra>",
    )


def trials(search: Search, name: str) -> "Figure":
    """Draw the validation score of every scored trial against one searched setting."""
    from plotly.graph_objects import Figure

    choice = ".." not in search.space[name]
    best = [one for one in search.finished if one.number == search.best]
    others = [one for one in reversed(search.finished) if one.number != search.best]
    kind = score_named(search.score)
    traces = [
        _points("a trial", others, name, choice, kind, MARKS[0], "circle"),
        _points("the best", best, name, choice, kind, MEAN, "star"),
    ]
    figure = Figure(traces, layout=_layout(escape(name), f"validation {_titled(kind)}", 320))
    log = search.space[name].endswith(":log")
    figure.update_xaxes(type="category" if choice else "log" if log else "linear")
    return figure


def _points(
    words: str, found: list[Trial], name: str, choice: bool, kind: Score, colour: str, symbol: str
) -> "Scatter":
    from plotly.graph_objects import Scatter

    values = [one.settings[name] for one in found]
    return Scatter(
        x=[escape(str(value)) for value in values] if choice else values,
        y=[_round(_scale(kind) * (one.score or 0)) for one in found],
        customdata=[one.number for one in found],
        name=words,
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 9 if symbol == "circle" else 13},
        hovertemplate=f"trial %{{customdata}}, %{{x}}: %{{y{_digits(kind)}<extra></extra>",
    )


def sweep(sweep: Sweep) -> "Figure":
    """Draw WA and UA against the swept setting with their intervals, and the UA of each seed."""
    from plotly.graph_objects import Figure

    numbers = all(type(one.value) in (int, float) for one in sweep.points)
    values = [one.value if numbers else escape(str(one.value)) for one in sweep.points]
    ends = {
        "UA": [(one.ua, one.ua_interval) for one in sweep.points],
        "WA": [(one.wa, one.wa_interval) for one in sweep.points],
    }
    traces = [_band(name, values, found, index) for index, (name, found) in enumerate(ends.items())]
    seeds = [(x, seed) for x, one in zip(values, sweep.points, strict=True) for seed in one.seeds]
    figure = Figure([_seeds(seeds), *traces], layout=_layout(escape(sweep.setting), "%", 360))
    figure.update_xaxes(type="linear" if numbers else "category")
    return figure


def _band(
    name: str, values: list[object], found: list[tuple[float | None, Interval]], index: int
) -> "Scatter":
    from plotly.graph_objects import Scatter

    bounds = [own or (score, score) for score, own in found]
    gaps = [
        (0.0, 0.0) if score is None or low is None or high is None else (score - low, high - score)
        for (score, _), (low, high) in zip(found, bounds, strict=True)
    ]
    colour = (MEAN, MARKS[0])[index]
    return Scatter(
        x=values,
        y=[_round(None if score is None else 100 * score) for score, _ in found],
        error_y={
            "array": [_round(100 * above) for _, above in gaps],
            "arrayminus": [_round(100 * below) for below, _ in gaps],
            "color": colour,
            "thickness": (3, 1)[index],
        },
        name=name,
        mode="lines+markers",
        line={"color": colour, "width": 2, "dash": ("solid", "dot")[index]},
        marker={"symbol": SYMBOLS[index], "size": 9},
        hovertemplate=f"{name} at %{{x}}: %{{y:.1f}} %<extra></extra>",
    )


def _seeds(seeds: list[tuple[object, Seeded]]) -> "Scatter":
    from plotly.graph_objects import Scatter

    return Scatter(
        x=[x for x, _ in seeds],
        y=[_round(None if one.ua is None else 100 * one.ua) for _, one in seeds],
        customdata=[one.seed for _, one in seeds],
        name="UA of a seed",
        mode="markers",
        marker={"color": FOLD, "symbol": "circle-open", "size": 7},
        hovertemplate="seed %{customdata}, %{x}: UA %{y:.1f} %<extra></extra>",
    )


def _scale(kind: Score) -> int:
    """What a score is multiplied by to be drawn."""
    return 100 if kind.percent else 1


def _digits(kind: Score) -> str:
    return ":.1f} %" if kind.percent else ":.3f}"


def _titled(kind: Score) -> str:
    return f"{kind.title}, %" if kind.percent else kind.title


def loss(folds: list[FoldResult], chosen: dict[str, str]) -> "Figure | None":
    """Draw the training loss over epochs, like `accuracy`."""
    return _curves(folds, lambda epoch: epoch.loss, chosen, "training loss")


def accuracy(
    folds: list[FoldResult], side: str, task: str, chosen: dict[str, str], kind: Score = UA
) -> "Figure | None":
    """Draw a score over epochs: each fold thin, their mean bold, the chosen epochs marked.

    Args:
        folds: with their histories.
        side: which side was scored, "validation" or "test".
        task: which task.
        chosen: selections whose epochs are marked, and what to call them.
        kind: which score.

    Returns:
        None where that side and task were never scored.
    """

    def value(epoch: Epoch) -> float | None:
        score = epoch.scores.get(side, {}).get(task, {}).get(kind.name)
        return None if score is None else _scale(kind) * score

    return _curves(folds, value, chosen, f"{side} {_titled(kind)}")


def _curves(
    folds: list[FoldResult], value: Value, chosen: dict[str, str], title: str
) -> "Figure | None":
    from plotly.graph_objects import Figure, Scatter

    courses = {
        fold.name: [(epoch.epoch, _round(value(epoch))) for epoch in fold.history] for fold in folds
    }
    courses = {name: line for name, line in courses.items() if any(y is not None for _, y in line)}
    if not courses:
        return None
    first = next(iter(courses))
    traces = [_thin(name, course, first=name == first) for name, course in courses.items()]
    if len(courses) > 1:
        epochs, means = _mean(courses.values())
        style = {"color": MEAN, "width": 3}
        hover = "mean, epoch %{x}: %{y:.3~g}<extra></extra>"
        traces.append(
            Scatter(x=epochs, y=means, name="mean", mode="lines", line=style, hovertemplate=hover)
        )
    for index, (selection, words) in enumerate(chosen.items()):
        traces += _marks(folds, value, selection, words, index)
    return Figure(traces, layout=_layout("epoch", title, 320))


def _thin(name: str, course: Course, *, first: bool) -> "Scatter":
    from plotly.graph_objects import Scatter

    return Scatter(
        x=[epoch for epoch, _ in course],
        y=[y for _, y in course],
        name="a fold" if first else escape(name),
        legendgroup="folds",
        showlegend=first,
        mode="lines",
        opacity=0.55,
        line={"color": FOLD, "width": 1},
        hovertemplate=f"fold {escape(name)}, epoch %{{x}}: %{{y:.3~g}}<extra></extra>",
    )


def _marks(
    folds: list[FoldResult], value: Value, selection: str, words: str, index: int
) -> list["Scatter"]:
    from plotly.graph_objects import Scatter

    points = [
        (epoch.epoch, _round(value(epoch)), fold.name)
        for fold in folds
        for epoch in fold.history
        if epoch.epoch == fold.epochs.get(selection)
    ]
    if not points:
        return []
    x, y, names = zip(*points, strict=True)
    marker = {
        "color": MARKS[index % len(MARKS)],
        "symbol": SYMBOLS[index % len(SYMBOLS)],
        "size": 9,
        "line": {"color": "white", "width": 1},
    }
    return [
        Scatter(
            x=list(x),
            y=list(y),
            name=escape(words),
            mode="markers",
            marker=marker,
            text=[escape(name) for name in names],
            hovertemplate="fold %{text}, epoch %{x}: %{y:.3~g}<extra></extra>",
        )
    ]


def _mean(courses: Iterable[Course]) -> tuple[list[int], list[float | None]]:
    # Over the folds that got so far; undefined where any of those is.
    by_epoch: dict[int, list[float]] = {}
    for course in courses:
        for epoch, y in course:
            by_epoch.setdefault(epoch, []).append(math.nan if y is None else y)
    epochs = sorted(by_epoch)
    return epochs, [_round(float(np.mean(by_epoch[epoch]))) for epoch in epochs]


def _round(value: float | None) -> float | None:
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
