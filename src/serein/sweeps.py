"""What a sweep of one setting leaves."""

from dataclasses import dataclass
from typing import Any

from serein.results.studies import PairedTest

Interval = tuple[float, float] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepSeed:
    """One evaluation.

    Attributes:
        seed: of weights, order and dropout.
        run: name of its folder, beside the sweep's.
        wa: weighted accuracy of the leading task at the headline's epochs; None is undefined.
        ua: unweighted accuracy, likewise.
    """

    seed: int
    run: str
    wa: float | None
    ua: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepPoint:
    """One value of the setting, with all seeds.

    Attributes:
        value: of the setting.
        split: what the protocol says of itself with this value.
        trained: training utterances of a fold, the mean over folds.
        wa: weighted accuracy of all seeds' answers together.
        ua: unweighted accuracy, likewise.
        wa_interval: 95 % interval of ``wa``.
        ua_interval: 95 % interval of ``ua``.
        seeds: each evaluation.
    """

    value: Any
    split: str
    trained: float
    wa: float | None
    ua: float | None
    wa_interval: Interval
    ua_interval: Interval
    seeds: list[SweepSeed]


@dataclass(frozen=True, kw_only=True, slots=True)
class Trend:
    """Whether UA rises or falls with the setting, over all its values.

    Attributes:
        slope: by how much UA changes with each unit of the setting, by least squares.
        interval: 95 % interval of ``slope``.
        p: of the permutation test that exchanges the values within each seed.
        arrangements: how many such exchanges there are; there is no p below one over them.
    """

    slope: float
    interval: Interval
    p: float | None
    arrangements: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """One setting over several values; ``sweep.json`` holds it.

    Attributes:
        format: version of this layout.
        name: of its folder.
        command: what was typed.
        created: when it ended, ISO 8601, UTC.
        recipe: every setting, before the sweep changed one.
        corpus: its name, counts of utterances and speakers, hash of its audio and labels.
        protocol: name of the split.
        task: whose scores these are.
        selection: which epochs.
        setting: its name.
        utterances: how many were tested with every value.
        points: in the order in which the values were given.
        interval: how the intervals of scores and slope were made, in words.
        contests: each point but the first against the first, on the same utterances.
        trend: None where a value is no number, or a score is undefined.
        warnings: what a reader must know before believing the scores.
    """

    format: int
    name: str
    command: str
    created: str
    recipe: dict[str, Any]
    corpus: dict[str, Any]
    protocol: str
    task: str
    selection: str
    setting: str
    utterances: int
    points: list[SweepPoint]
    interval: str
    contests: list[PairedTest]
    trend: Trend | None
    warnings: list[str]
