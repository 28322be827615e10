from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from serein.metrics.agreement import interval_alpha, measure_agreement, nominal_alpha
from serein.records import Utterance

KRIPPENDORFF = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3),
    (None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None),
)
"""The example of Krippendorff (2011), sections C and D: four observers, twelve units."""


def answers_by_unit() -> list[list[float]]:
    return [[float(x) for x in unit if x is not None] for unit in zip(*KRIPPENDORFF, strict=True)]


def literal_alpha(units: list[list[float]], *, nominal: bool) -> float:
    """Alpha by the matrix of coincidences, pair by pair, as the paper explains it."""
    values = sorted({value for unit in units for value in unit})
    coincidences = {(c, k): 0.0 for c in values for k in values}
    for unit in units:
        for c, k in permutations(unit, 2):
            coincidences[c, k] += 1 / (len(unit) - 1)
    n = {c: sum(coincidences[c, k] for k in values) for c in values}
    total = sum(n.values())
    difference = {
        (c, k): float(c != k) if nominal else (c - k) ** 2 for c in values for k in values
    }
    observed = sum(coincidences[pair] * difference[pair] for pair in difference)
    expected = sum(n[c] * n[k] * difference[c, k] for c, k in difference) / (total - 1)
    return 1 - observed / expected


def count_classes(units: list[list[float]]) -> list[list[int]]:
    classes = sorted({value for unit in units for value in unit})
    return [[unit.count(value) for value in classes] for unit in units]


def test_published_example() -> None:
    units = answers_by_unit()
    assert nominal_alpha(count_classes(units)) == pytest.approx(0.743, abs=5e-4)
    assert interval_alpha(units) == pytest.approx(0.849, abs=5e-4)


@pytest.mark.parametrize("seed", range(5))
def test_alpha_equals_the_matrix_of_coincidences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    units = [rng.integers(1, 5, rng.integers(0, 6)).astype(float).tolist() for _ in range(40)]
    pairable = [unit for unit in units if len(unit) >= 2]
    assert nominal_alpha(count_classes(units)) == pytest.approx(
        literal_alpha(pairable, nominal=True)
    )
    assert interval_alpha(units) == pytest.approx(literal_alpha(pairable, nominal=False))
    shifted = [[value + 1e6 for value in unit] for unit in units]
    assert interval_alpha(shifted) == pytest.approx(interval_alpha(units))


def test_undefined_agreement() -> None:
    assert np.isnan(nominal_alpha([[2, 0], [3, 0]]))
    assert np.isnan(nominal_alpha(np.zeros((0, 2))))
    assert np.isnan(interval_alpha([[1.0], [2.0]]))
    assert np.isnan(interval_alpha([[2.0, 2.0], [2.0, 2.0]]))
    assert nominal_alpha([[2, 0], [0, 2]]) == 1.0


def utterance(id_: str, **labels: str | float) -> Utterance:
    named = {name.replace("__", ":"): value for name, value in labels.items()}
    return Utterance(id=id_, path=Path("a.wav"), labels=named)


def test_labels_with_answers_are_found_in_every_form() -> None:
    utterances = [
        utterance("1", emotion_votes="anger=2, joy=1", mood_votes__A=2.0, mood_votes__B=1.0),
        utterance("2", emotion_votes="joy=3", mood_votes__A=0.0, mood_votes__B=3.0),
        utterance("3", emotion_votes="joy=0.5, fear=0.5", arousal__a=1.0, arousal__b=2.0),
        utterance("4", arousal__a=4.0, arousal__b=4.0, style__a="x", style__b="y", level="low"),
        utterance("5", arousal__a=4.0, style__a="x", style__b="x"),
    ]
    by_label = {one.label: one for one in measure_agreement(utterances)}
    assert sorted(by_label) == ["arousal", "emotion", "mood", "style"]
    assert by_label["emotion"].alpha == nominal_alpha([[2, 1], [0, 3]])
    assert by_label["emotion"].skipped == 1
    assert by_label["mood"].alpha == by_label["emotion"].alpha
    assert by_label["arousal"].alpha == interval_alpha([[1, 2], [4, 4]])
    assert (by_label["style"].utterances, by_label["style"].answers) == (2, 4)
    assert str(by_label["mood"]) == (
        "agreement of the raters on mood: Krippendorff's alpha "
        f"{by_label['mood'].alpha:.3f} (classes; 6 answers for 2 utterances)"
    )
    (undefined, _) = measure_agreement(utterances[3:4])
    assert "Krippendorff's alpha undefined (all answers are equal)" in str(undefined)
    assert measure_agreement([utterance("1", emotion="joy")]) == []
