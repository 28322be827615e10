"""Agreement of raters: Krippendorff's alpha for classes and for numbers.

Krippendorff, "Computing Krippendorff's Alpha-Reliability", 2011: 1 is perfect agreement, and 0 the
agreement of answers that are drawn at random from all answers. Utterances with one answer do not
count. U = utterances, K = classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serein.labels.votes import VOTES_SUFFIX, read_votes
from serein.records import Utterance


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Agreement of the raters on one label.

    Attributes:
        label: name of the label.
        alpha: Krippendorff's alpha; nan if it is undefined, because all answers are equal.
        scale: "classes" or "numbers".
        utterances: number of utterances with at least two answers.
        answers: number of their answers.
        skipped: utterances whose votes are no whole numbers, which do not count.
    """

    label: str
    alpha: float
    scale: str
    utterances: int
    answers: int
    skipped: int = 0

    def __str__(self) -> str:
        """Describe the agreement in a sentence."""
        skipped = (
            f"; {self.skipped:,} utterances with divided votes do not count" if self.skipped else ""
        )
        value = "undefined (all answers are equal)" if np.isnan(self.alpha) else f"{self.alpha:.3f}"
        return (
            f"agreement of the raters on {self.label}: Krippendorff's alpha {value} "
            f"({self.scale}; {self.answers:,} answers for {self.utterances:,} "
            f"{'utterance' if self.utterances == 1 else 'utterances'}{skipped})"
        )


def nominal_alpha(count_uk: ArrayLike) -> float:
    """Return Krippendorff's alpha of classes; nan if fewer than two classes were answered.

    >>> round(nominal_alpha([[2, 0], [0, 2], [1, 1]]), 3)
    0.444

    Args:
        count_uk: (U, K) numbers of answers.
    """
    x_uk: NDArray[np.float64] = np.asarray(count_uk, float)
    x_uk = x_uk[x_uk.sum(axis=1) >= 2]
    size_u = x_uk.sum(axis=1)
    total, count_k = size_u.sum(), x_uk.sum(axis=0)
    # Pairs of different answers, in the order of raters: all pairs less the pairs of equal ones.
    observed = ((size_u**2 - (x_uk**2).sum(axis=1)) / (size_u - 1)).sum() / total if total else 0.0
    expected = (total**2 - (count_k**2).sum()) / (total * (total - 1)) if total > 1 else 0.0
    return float(1 - observed / expected) if expected else float("nan")


def interval_alpha(answers: Sequence[Sequence[float]]) -> float:
    """Return Krippendorff's alpha of numbers with squared differences; nan if all are equal.

    >>> round(interval_alpha([[1, 1], [3, 4], [5, 5]]), 3)
    0.95

    Args:
        answers: those of each utterance; any number of them.
    """
    units = [np.asarray(own, float) for own in answers if len(own) >= 2]
    if not units:
        return float("nan")
    x_n = np.concatenate(units)
    centre = x_n.mean()
    observed = sum(_sum_squared_differences(own - centre) / (len(own) - 1) for own in units)
    expected = _sum_squared_differences(x_n - centre) / (len(x_n) - 1)
    return float(1 - observed / expected) if expected > 0 else float("nan")


def _sum_squared_differences(x_n: NDArray[np.float64]) -> float:
    """Return the sum of squared differences over all ordered pairs."""
    return float(2 * len(x_n) * (x_n**2).sum() - 2 * x_n.sum() ** 2)


def measure_agreement(utterances: Sequence[Utterance]) -> list[Agreement]:
    """Return the agreement on each label of which a corpus has several raters' answers.

    Votes are read in each of their forms (see ``labels.votes``), and numbers from one label for
    each rater, such as ``arousal:ann``.
    """
    names = {name for utterance in utterances for name in utterance.labels}
    voted = {name.partition(":")[0] for name in names}
    voted = {name for name in voted if name.endswith(VOTES_SUFFIX)}
    by_rater = {base for name in names if (base := name.partition(":")[0]) != name} - voted
    measured = [_measure_votes(utterances, name) for name in sorted(voted)]
    measured += [
        _measure_raters(utterances, name)
        for name in sorted(by_rater)
        if f"{name}{VOTES_SUFFIX}" not in voted
    ]
    return sorted((one for one in measured if one is not None), key=lambda one: one.label)


def _measure_votes(utterances: Sequence[Utterance], name: str) -> Agreement | None:
    """Return the agreement of votes with counts; None without two votes for an utterance."""
    votes = [read_votes(utterance, name) for utterance in utterances]
    whole = [own for own in votes if all(count == int(count) for count in own.values())]
    counted = [own for own in whole if sum(own.values()) >= 2]
    if not counted:
        return None
    classes = sorted({word for own in counted for word in own})
    count_uk = [[own.get(word, 0.0) for word in classes] for own in counted]
    return Agreement(
        label=name.removesuffix(VOTES_SUFFIX),
        alpha=nominal_alpha(count_uk),
        scale="classes",
        utterances=len(counted),
        answers=int(np.sum(count_uk)),
        skipped=len(votes) - len(whole),
    )


def _measure_raters(utterances: Sequence[Utterance], name: str) -> Agreement | None:
    """Return the agreement of one label for each rater; None without two for an utterance."""
    prefix = f"{name}:"
    answers = [
        [value for label, value in utterance.labels.items() if label.startswith(prefix)]
        for utterance in utterances
    ]
    answers = [own for own in answers if len(own) >= 2]
    if not answers:
        return None
    values = [value for own in answers for value in own]
    if all(isinstance(value, float) for value in values):
        alpha, scale = (
            interval_alpha([[float(value) for value in own] for own in answers]),
            "numbers",
        )
    else:
        classes = sorted({str(value) for value in values})
        texts = [[str(value) for value in own] for own in answers]
        alpha, scale = (
            nominal_alpha([[own.count(word) for word in classes] for own in texts]),
            "classes",
        )
    return Agreement(
        label=name, alpha=alpha, scale=scale, utterances=len(answers), answers=len(values)
    )
