"""Arousal and valence of an answer as numbers on one scale, whatever tasks a model has.

The scale is from -1 (calm, unpleasant) to 1 (excited, pleasant); 0 is the middle. By basis:

- "ratings": a task that predicts ratings from 1 to 5; its value v becomes (v - 3) / 2, limited to
  the scale;
- "levels": a task that predicts levels of ratings: the mean of the levels' midpoints (ratings 1.5,
  3 and 4.5, so -0.75, 0 and 0.75), weighted by their probabilities;
- "norm levels": the same for levels that were norms of the emotion's name in training, not ratings
  of recordings (midpoints -0.6, 0 and 0.6);
- "norms": without such a task, the expected value of the norms of the emotions' names
  (``labels/norms.toml``) under the probabilities of the emotions. The norms are ratings of words:
  the number says what people associate with the predicted emotions, not what they hear in a voice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from serein import labels
from serein.inference.recognition import Answer, Dimension
from serein.labels.dimensions import (
    HIGH_LIMIT,
    LEVELS,
    LOW_LIMIT,
    MAX_RATING,
    MIDDLE_LIMIT,
    MIN_RATING,
    get_norm,
)
from serein.labels.targets import get_label_name, get_scheme
from serein.records import Recipe

ANSWERED_DIMENSIONS = ("arousal", "valence")
MIN_NORM_MASS = 0.5
"""Least probability of emotions that have a norm, of all emotions, for an expected value."""

MIDDLE_RATING = (MIN_RATING + MAX_RATING) / 2
RATING_SCALE = (MAX_RATING - MIN_RATING) / 2
LOW_RATING = ((MIN_RATING + LOW_LIMIT) / 2 - MIDDLE_RATING) / RATING_SCALE
HIGH_RATING = ((HIGH_LIMIT + MAX_RATING) / 2 - MIDDLE_RATING) / RATING_SCALE
NORM_MIDPOINT = (MIDDLE_LIMIT + 1) / 2


@dataclass(frozen=True, slots=True)
class DimensionSource:
    """How a model's answer gives a dimension.

    Attributes:
        task: name of the task.
        basis: as in the head of this module.
        values: for each class of the task its value; empty for ratings.
    """

    task: str
    basis: Literal["ratings", "levels", "norm levels", "norms"]
    values: Mapping[str, float]


def find_dimension_sources(
    recipe: Recipe, classes: Mapping[str, Sequence[str]]
) -> dict[str, DimensionSource]:
    """Return how a model gives arousal and valence; without either, neither.

    Args:
        recipe: of the model.
        classes: of each of its tasks; empty for values.
    """
    sources = {}
    for dimension in ANSWERED_DIMENSIONS:
        found = [_find_in_task(dimension, task, recipe, names) for task, names in classes.items()]
        # Tasks of the dimension come before norms of another task's classes.
        ordered = sorted(filter(None, found), key=lambda source: source.basis == "norms")
        if ordered:
            sources[dimension] = ordered[0]
    return sources


def _find_in_task(
    dimension: str, task: str, recipe: Recipe, names: Sequence[str]
) -> DimensionSource | None:
    scheme = get_scheme(task, recipe)
    is_proxy = scheme == f"{labels.PROXY_PREFIX}{dimension}"
    if is_proxy or dimension in (task.rpartition(".")[2], get_label_name(task, recipe)):
        if not names:
            return DimensionSource(task, "ratings", {})
        if {*names} <= {*LEVELS}:
            low, high = (-NORM_MIDPOINT, NORM_MIDPOINT) if is_proxy else (LOW_RATING, HIGH_RATING)
            values = dict(zip(LEVELS, (low, 0.0, high), strict=True))
            return DimensionSource(task, "norm levels" if is_proxy else "levels", values)
    norms = {name: get_norm(labels.harmonize_emotion(name), dimension) for name in names}
    known = {name: value for name, value in norms.items() if value is not None}
    return DimensionSource(task, "norms", known) if len(known) > 1 else None


def estimate_dimensions(
    sources: Mapping[str, DimensionSource],
    tasks: Mapping[str, Answer],
    values: Mapping[str, float],
) -> dict[str, Dimension]:
    """Return arousal and valence of an answer; one that the answer does not give is left out.

    Args:
        sources: of the model, by dimension.
        tasks: answer of each classification task.
        values: value of each regression task.
    """
    estimates = {}
    for dimension, source in sources.items():
        value = _estimate(source, tasks.get(source.task), values.get(source.task))
        if value is not None:
            estimates[dimension] = Dimension(value=value, basis=source.basis)
    return estimates


def _estimate(source: DimensionSource, answer: Answer | None, rating: float | None) -> float | None:
    if rating is not None:
        return min(1.0, max(-1.0, (rating - MIDDLE_RATING) / RATING_SCALE))
    if answer is None:
        return None
    known = {name: p for name, p in answer.probabilities.items() if name in source.values}
    mass, total = sum(known.values()), sum(answer.probabilities.values())
    if not mass >= MIN_NORM_MASS * total > 0:
        return None
    return sum(p * source.values[name] for name, p in known.items()) / mass
