"""What a report says, before it is known where it is shown: sentences and rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from serein.metrics.classification import (
    confusion_matrix,
    unweighted_accuracy_from_confusion,
    weighted_accuracy_from_confusion,
)
from serein.records import Prediction, Results

OPTIMISTIC = "optimistic: picked on the test side"
BASELINES = {
    "majority": "always answers the most frequent class of the training side",
    "chance": "draws each answer uniformly from the classes",
}

Interval = tuple[float, float] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of a comparison; None is undefined.

    Attributes:
        name: of the selection or baseline.
        note: what it means.
        kind: "headline", "selection", "optimistic" or "baseline".
        wa: weighted accuracy of all predictions together.
        ua: unweighted accuracy of all predictions together.
        wa_interval: interval of ``wa``.
        ua_interval: interval of ``ua``.
        fold_wa: mean of the folds' weighted accuracies.
        fold_ua: mean of the folds' unweighted accuracies.
    """

    name: str
    note: str
    kind: str
    wa: float | None
    ua: float | None
    wa_interval: Interval = None
    ua_interval: Interval = None
    fold_wa: float | None = None
    fold_ua: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """The headline's scores on the utterances of one speaker or gender."""

    name: str
    utterances: int
    wa: float | None
    ua: float | None


def percent(score: float | None) -> str:
    """A score in percent with one decimal.

    >>> percent(0.81649), percent(None)
    ('81.6', 'n/a')
    """
    return "n/a" if score is None else f"{100 * score:.1f}"


def bounds(interval: Interval) -> str:
    """An interval in percent; nothing where there is none.

    >>> bounds((0.7801, 0.85)), bounds(None)
    ('[78.0, 85.0]', '')
    """
    return f"[{percent(interval[0])}, {percent(interval[1])}]" if interval else ""


def quoted(score: float | None, interval: Interval) -> str:
    """A score as it is quoted in a sentence.

    >>> quoted(0.816, (0.7801, 0.85)), quoted(None, None)
    ('81.6 % [78.0, 85.0]', 'n/a')
    """
    return "n/a" if score is None else f"{percent(score)} % {bounds(interval)}".strip()


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(5025.4), duration(61), duration(0.25)
    ('1 h 23 min 45 s', '1 min 1 s', '0.2 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{f'{hours} h ' if hours else ''}{minutes} min {rest} s"


def tasks(results: Results) -> list[str]:
    """The tasks that were scored, the deciding one first."""
    scored = results.scores.get(results.headline, {})
    return [task for task in results.classes if task in scored]


def title(results: Results) -> str:
    """Which recipe was run on which corpus."""
    name = results.recipe.get("name", results.name)
    return f"{name} on {results.corpus['name']}" if "name" in results.corpus else f"{name}"


def protocol(results: Results) -> str:
    """How the corpus was split and how much was tested, in one clause."""
    folds = results.protocol.get("folds") or results.folds
    count = folds if isinstance(folds, int) else len(folds)
    name = str(results.protocol.get("name", "no protocol"))
    # Its scores answer another question, and must not be quoted without saying so.
    clauses = [f"{name} (speaker-dependent)" if "random" in name else name]
    if count:
        clauses.append(f"{count} fold{'s' * (count != 1)}")
    clauses.append(f"{len(results.predictions)} utterances tested")
    speakers = {item.speaker for item in results.predictions} - {None}
    if speakers:
        clauses.append(f"{len(speakers)} speaker{'s' * (len(speakers) != 1)}")
    return ", ".join(clauses)


def is_optimistic(results: Results, selection: str) -> bool:
    """Whether a selection saw the test side."""
    return selection.startswith("best") or "optimistic" in results.selections.get(selection, "")


def comparison(results: Results, task: str) -> list[Row]:
    """Every selection of a task, then what knowing nothing scores."""
    rows = [_selection(results, name, task) for name in results.selections]
    chosen = [row for row in rows if row is not None]
    return chosen + [
        Row(name=name, note=note, kind="baseline", wa=scores.get("wa"), ua=scores.get("ua"))
        for name, note in BASELINES.items()
        if (scores := results.baselines.get(name, {}).get(task))
    ]


def _selection(results: Results, name: str, task: str) -> Row | None:
    scores = results.scores.get(name, {}).get(task)
    if scores is None:
        return None
    optimistic = is_optimistic(results, name)
    note = results.selections[name]
    if optimistic and "optimistic" not in note:
        note = f"{note}; {OPTIMISTIC}"
    other = "optimistic" if optimistic else "selection"
    means = results.fold_means.get(name, {}).get(task, {})
    return Row(
        name=name,
        note=note,
        kind="headline" if name == results.headline else other,
        wa=scores.wa,
        ua=scores.ua,
        wa_interval=scores.wa_interval,
        ua_interval=scores.ua_interval,
        fold_wa=means.get("wa"),
        fold_ua=means.get("ua"),
    )


def gap(results: Results, task: str) -> str | None:
    """What picking epochs on the test side would have added, in one sentence."""
    rows = comparison(results, task)
    quoted = next((row for row in rows if row.name == results.headline), None)
    best = next((row for row in rows if row.kind == "optimistic"), None)
    if quoted is None or best is None or quoted.ua is None or best.ua is None:
        return None
    pair = f"{percent(best.ua)} % instead of {percent(quoted.ua)} %"
    points = round(100 * best.ua, 1) - round(100 * quoted.ua, 1)
    if points <= 0:
        return f"Picking epochs on the test side would have gained nothing here: UA {pair}."
    return (
        f"Picking epochs on the test side would have reported a UA of {pair}: {points:.1f} points "
        "that come from having seen the answers."
    )


def parts(results: Results, task: str, attribute: str) -> list[Part]:
    """The headline's scores for each speaker or gender, in sorting order."""
    groups: dict[str, list[Prediction]] = {}
    for item in results.predictions:
        name = getattr(item, attribute)
        answered = task in item.selections.get(results.headline, {})
        if name is not None and item.truth.get(task) is not None and answered:
            groups.setdefault(name, []).append(item)
    return [_part(results, task, name, items) for name, items in sorted(groups.items())]


def _part(results: Results, task: str, name: str, items: list[Prediction]) -> Part:
    classes = results.classes[task]
    shares = [item.selections[results.headline][task] for item in items]
    answers = [classes[row.index(max(row))] for row in shares]
    confusion = confusion_matrix([item.truth[task] for item in items], answers, classes)
    return Part(
        name=name,
        utterances=len(items),
        wa=float(weighted_accuracy_from_confusion(confusion)),
        ua=float(unweighted_accuracy_from_confusion(confusion)),
    )


def mistaken_for(results: Results, task: str) -> dict[str, str]:
    """For each class of the headline, the class that it is most often taken for.

    A class that never occurs, or is never missed, is left out.
    """
    classes = results.classes[task]
    found = {}
    for index, row in enumerate(results.scores[results.headline][task].confusion):
        missed = [count if other != index else 0 for other, count in enumerate(row)]
        if any(missed):
            most = max(missed)
            share = percent(most / sum(row))
            found[classes[index]] = f"{classes[missed.index(most)]} ({share} %)"
    return found


def flat(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """A nested table as dotted names and values.

    >>> list(flat({"model": {"heads": 8, "sizes": [2, 3]}}))
    [('model.heads', '8'), ('model.sizes', '2, 3')]
    """
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{key}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{key}", "none" if value is None else str(value)
