"""What a comparison of several runs leaves."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedTest:
    """Two runs on the utterances that both tested, for one task and selection.

    Attributes:
        task: what was foretold.
        selection: which epochs.
        first: name of one run.
        second: name of the other.
        utterances: how many both tested.
        scores: each score of first and second on them: of classes the mean over seeds, of numbers
            over the answers of all seeds together.
        main: name of the score that is tested: "ua" or "ccc".
        difference: that of the first less that of the second.
        difference_interval: 95 % interval of ``difference``.
        interval: how it was made, in words.
        mcnemar: p of McNemar's test; None for numbers.
        permutation: p of the permutation test of ``difference``.
        swapped: what that test swaps, in words.
        z: p of the test of two proportions that Zhang et al. use, one-tailed: that the first is
            the better one, as its user claims by naming it first; None for numbers.
        adjusted: for each test, p after Holm's correction over all contests.
        effect: Cohen's h of the two WA; None for numbers.
    """

    task: str
    selection: str
    first: str
    second: str
    utterances: int
    scores: dict[str, tuple[float, float]]
    main: str
    difference: float
    difference_interval: tuple[float, float] | None
    interval: str
    mcnemar: float | None
    permutation: float | None
    swapped: str
    z: float | None
    adjusted: dict[str, float]
    effect: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Several runs, each against each.

    Attributes:
        format: version of this layout.
        command: what was typed.
        created: when it ended, ISO 8601, UTC.
        runs: name, recipe, corpus, name and hash of the protocol, and seeds of each run.
        contests: each pair of runs, for each task and selection.
        warnings: what a reader must know before believing a difference.
    """

    format: int
    command: str
    created: str
    runs: list[dict[str, Any]]
    contests: list[PairedTest]
    warnings: list[str]
