"""Parts of the example results: label mapping, leakage, calibration, seeds, errors."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serein.metrics.calibration import apply_temperatures, normalize_probabilities
from serein.metrics.classification import (
    unweighted_accuracy_score,
    weighted_accuracy_score,
)
from serein.records import Finding
from serein.results.evaluation import (
    AttentionTrace,
    Calibration,
    CalibrationScores,
    ConfidentError,
    LabelMapping,
    Prediction,
    SeedResult,
)

GERMAN = {
    "anger": "Wut",
    "boredom": "Langeweile",
    "disgust": "Ekel",
    "fear": "Angst",
    "happiness": "Freude",
    "neutral": "neutral",
    "sadness": "Trauer",
}
COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
BINS = 10
SECONDS, HOP = 2.4, 0.048


def example_findings() -> list[Finding]:
    return [
        Finding(kind="speaker", verdict="clean", count=0, description="no speaker in two subsets"),
        Finding(
            kind="duplicate", verdict="clean", count=0, description="no recording in two subsets"
        ),
        Finding(
            kind="sentence",
            verdict="warning",
            count=5350,
            description="every test sentence is also in the training subset",
            examples=("a01", "a02", "a04", "a05", "a07"),
        ),
        Finding(
            kind="validation",
            verdict="allowed",
            count=1,
            description="1 fold has no validation subset and trains on all other speakers",
            examples=("16",),
        ),
    ]


def example_mapping(predictions: Sequence[Prediction]) -> dict[str, LabelMapping]:
    def counts(task: str, name: str) -> int:
        return sum(item.truth[task] == name for item in predictions)

    return {
        "emotion": LabelMapping(
            scheme="emodb-7",
            mapped={name: {word: counts("emotion", name)} for name, word in GERMAN.items()},
            dropped={"unbestimmt": 4},
            missing=2,
        ),
        "gender": LabelMapping(
            scheme="as they are",
            mapped={name: {name: counts("gender", name)} for name in ("female", "male")},
            dropped={},
            missing=0,
        ),
    }


def example_calibration(
    predictions: Sequence[Prediction], classes: dict[str, list[str]]
) -> dict[str, Calibration]:
    found = {}
    for task, names in classes.items():
        rows = np.array([item.selections["validation"][task] for item in predictions])
        gold = np.array([names.index(str(item.truth[task])) for item in predictions])
        temperatures = [example_temperatures(item.fold).get(task, 1.0) for item in predictions]
        calibrated = apply_temperatures(normalize_probabilities(rows), temperatures)
        found[task] = Calibration(
            raw=calibration_scores(rows, gold),
            calibrated=calibration_scores(calibrated, gold),
            thresholds=[threshold_row(rows, gold, share) for share in COVERAGES],
        )
    return found


def example_temperatures(fold: str) -> dict[str, float]:
    """Return the temperatures of a fold; the last one has none."""
    return {} if fold == "16" else {"emotion": 1 + int(fold) / 20, "gender": 1.2}


def round_to_six_digits(value: float) -> float:
    """Round as saved results are."""
    return float(f"{value:.6g}")


def calibration_scores(rows: NDArray[np.float64], gold: NDArray[np.int64]) -> CalibrationScores:
    sure, right = rows.max(axis=1), rows.argmax(axis=1) == gold
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    bins = [
        (
            int(own.sum()),
            round_to_six_digits(sure[own].mean()),
            round_to_six_digits(right[own].mean()),
        )
        for bin_ in range(BINS)
        if (own := place == bin_).any()
    ]
    ece = sum(count * abs(mean - hits) for count, mean, hits in bins) / len(gold)
    brier = float(((rows - np.eye(rows.shape[1])[gold]) ** 2).sum(axis=1).mean())
    return CalibrationScores(
        ece=round_to_six_digits(ece), brier=round_to_six_digits(brier), bins=bins
    )


def threshold_row(
    rows: NDArray[np.float64], gold: NDArray[np.int64], share: float
) -> tuple[float, float, float | None, float | None]:
    order = np.argsort(-rows.max(axis=1))[: round(share * len(rows))]
    truth, answers = gold[order].tolist(), rows[order].argmax(axis=1).tolist()
    lowest = round_to_six_digits(rows[order].max(axis=1).min())
    wa, ua = weighted_accuracy_score(truth, answers), unweighted_accuracy_score(truth, answers)
    return (
        lowest,
        round_to_six_digits(len(order) / len(rows)),
        round_to_six_digits(wa),
        round_to_six_digits(ua),
    )


def example_seeds(
    first: dict[str, dict[str, dict[str, float | None]]], seeds: Sequence[int]
) -> list[SeedResult]:
    """Return the same scores for several seeds, two points apart."""
    return [
        SeedResult(
            seed=seed,
            run=f"li2019-emodb-seed{seed}",
            scores={
                selection: {
                    task: {
                        key: None if value is None else round_to_six_digits(value - 0.02 * place)
                        for key, value in pair.items()
                    }
                    for task, pair in by_task.items()
                }
                for selection, by_task in first.items()
            },
        )
        for place, seed in enumerate(seeds)
    ]


def example_errors(
    predictions: Sequence[Prediction],
    classes: list[str],
    rng: np.random.Generator,
    max_count: int = 6,
) -> list[ConfidentError]:
    wrong = [
        (max(shares), item, answer)
        for item in predictions
        if (shares := item.selections["validation"]["emotion"])
        and (answer := classes[int(np.argmax(shares))]) != item.truth["emotion"]
    ]
    surest = sorted(wrong, key=lambda found: (-found[0], found[1].id))[:max_count]
    return [example_error(item, answer, sure, rng) for sure, item, answer in surest]


def example_error(
    item: Prediction, answer: str, sure: float, rng: np.random.Generator
) -> ConfidentError:
    time = np.linspace(0, SECONDS, 240)
    loud = 0.05 + 0.8 * np.abs(np.sin(2.6 * time)) * np.exp(-((time - 1.2) ** 2))
    high, low = (loud * rng.uniform(0.4, 1, size=240) for _ in range(2))
    times = np.arange(0, SECONDS, HOP)
    weight = np.exp(3 * np.exp(-((times - rng.uniform(0.5, 2)) ** 2) / 0.05))
    look = AttentionTrace(
        times=times.round(3).tolist(), weight=(weight / weight.sum()).round(6).tolist()
    )
    return ConfidentError(
        id=item.id,
        fold=item.fold,
        task="emotion",
        truth=str(item.truth["emotion"]),
        answer=answer,
        confidence=sure,
        seconds=SECONDS,
        envelope=[
            (round(-float(a), 3), round(float(b), 3)) for a, b in zip(low, high, strict=True)
        ],
        attention={"pooling": look, "mean of heads": look},
    )
