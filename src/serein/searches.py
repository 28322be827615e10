"""What a search leaves. Times are in seconds."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One evaluation of a search, on validation speakers alone.

    Attributes:
        number: counted from 0; the search's seed and this make its settings.
        settings: value of each searched setting.
        state: "finished", "failed", "running" (somewhere), or "waiting" (it was interrupted).
        score: mean of ``folds`` where they are defined.
        folds: for each fold the leading task's main score on its validation side, at the epoch
            that was chosen there.
        run: name of the evaluation's folder, beside the search's.
        seconds: wall-clock time of its epochs together.
        fault: why it failed.
    """

    number: int
    settings: dict[str, Any]
    state: str
    score: float | None = None
    folds: dict[str, float | None] = field(default_factory=dict)
    run: str = ""
    seconds: float | None = None
    fault: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """A random search; ``search.json`` holds it.

    Attributes:
        format: version of this layout.
        name: of its folder.
        command: what was typed.
        created: when it was written, ISO 8601, UTC.
        recipe: every setting, before a trial changed any.
        corpus: its name, counts of utterances and speakers, hash of its audio and labels.
        protocol: name, hash, choice of validation speakers, and number of folds.
        task: whose main score counts.
        space: for each searched setting, what it was drawn from.
        seed: of the draws and of every training.
        trials: in order of their numbers.
        best: number of the trial with the highest score, the earliest of equals.
        evaluation: the command that evaluates it.
        warnings: what a reader must know before believing the scores.
        score: its name, "ua" of classes and "ccc" of numbers.
    """

    format: int
    name: str
    command: str
    created: str
    recipe: dict[str, Any]
    corpus: dict[str, Any]
    protocol: dict[str, Any]
    task: str
    space: dict[str, str]
    seed: int
    trials: list[Trial]
    best: int | None
    evaluation: str
    warnings: list[str]
    score: str = "ua"

    @property
    def ranked_trials(self) -> list[Trial]:
        """Trials that have a score, the best first."""
        return rank_trials(self.trials)


def rank_trials(trials: Iterable[Trial]) -> list[Trial]:
    """Those that have a score, the best first, the earlier of equals before the later."""
    scored = [one for one in trials if one.score is not None]
    return sorted(scored, key=lambda one: (-(one.score or 0), one.number))
