"""The figures of the literature beside ours."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from serein.report import summary
from serein.report.table import Column, Row, Table, row, words
from serein.results import Results

MISSING = "not reported"


class Published(Protocol):
    """One system's scores as its paper prints them."""

    @property
    def system(self) -> str:
        """What it is called, with its paper."""

    @property
    def corpus(self) -> str:
        """What it was tested on."""

    @property
    def protocol(self) -> str:
        """How that was split."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """Scores in percent by their names, such as "WA"."""

    @property
    def selection(self) -> str:
        """Which epoch is scored, as far as the paper says."""

    @property
    def doubts(self) -> str | Sequence[str]:
        """What makes the figure hard to compare."""


def sentence(results: Results) -> str | None:
    """What the recipe says that its paper printed; None where it says nothing."""
    about = results.recipe.get("about")
    published = about.get("published") if isinstance(about, dict) else None
    if not published:
        return None
    return f"Published by the paper, on its own data and protocol: {published}"


def table(results: Results, published: Sequence[Published]) -> Table | None:
    """Ours first, then what was published; None where nothing was, or nothing was scored."""
    task = next(iter(summary.tasks(results)), None)
    if not published or task is None:
        return None
    scores = results.scores[results.headline][task]
    ours = {"WA": scores.wa, "UA": scores.ua}
    others = [{_name(name): value for name, value in one.metrics.items()} for one in published]
    names = list(dict.fromkeys([*ours, *(name for other in others for name in other)]))
    return Table(
        title=f"{task}: ours and what was published, %",
        note="Each figure belongs to its corpus, its protocol and its choice of epochs; where "
        "these differ, the figures cannot be compared.",
        columns=(
            *words("system", "corpus", "protocol", "selection"),
            *(Column(name=name, undefined=MISSING) for name in names),
            *words("doubts"),
        ),
        rows=(_ours(results, ours, names), *map(_theirs, published, others, [names] * len(others))),
    )


def _ours(results: Results, scores: Mapping[str, float | None], names: Sequence[str]) -> Row:
    return row(
        f"ours ({summary.title(results)})",
        str(results.corpus.get("name", "")),
        str(results.protocol.get("name", "")),
        results.headline,
        *(summary.percent(scores.get(name)) for name in names),
        summary.caution(results),
        kind="headline",
    )


def _theirs(one: Published, scores: Mapping[str, float], names: Sequence[str]) -> Row:
    shown = [f"{scores[name]:.1f}" if name in scores else summary.percent(None) for name in names]
    doubts = one.doubts if isinstance(one.doubts, str) else "; ".join(one.doubts)
    return row(one.system, one.corpus, one.protocol, one.selection, *shown, doubts)


def _name(metric: str) -> str:
    return metric.upper() if metric in ("wa", "ua") else metric
