"""Random results of a run with ten speakers, seven emotions and a hundred epochs per fold."""

from dataclasses import replace
from typing import Any

import numpy as np
from builders import example_records
from builders.example_records import round_to_six_digits
from numpy.typing import NDArray

from serein.evaluation.scores import pool_scores, score_groups
from serein.metrics.bootstrap import confusion_by_group
from serein.metrics.classification import (
    chance_scores,
    confusion_matrix,
    majority_class,
    recalls_from_confusion,
    unweighted_accuracy_from_confusion,
    unweighted_accuracy_score,
    weighted_accuracy_from_confusion,
    weighted_accuracy_score,
)
from serein.metrics.intervals import choose_groups
from serein.metrics.scoring import UA, WA, compute_interval
from serein.records import Protocol
from serein.results import io
from serein.results.evaluation import ClassScores, Epoch, FoldResult, Prediction, Results

CLASSES = {
    "emotion": ["anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness"],
    "gender": ["female", "male"],
}
SKILL = {"validation": 1.6, "last": 1.5, "best": 2.0}
SELECTIONS = {
    "validation": "the epoch with the best UA on the validation speakers",
    "last": "the last epoch",
    "best": "the best epoch on each fold's test subset; optimistic: selected on the test subset",
}
SPEAKERS = ["03", "08", "09", "10", "11", "12", "13", "14", "15", "16"]


def example_results(utterances: int = 535, epochs: int = 100, seed: int = 0) -> Results:
    rng = np.random.default_rng(seed)
    predictions = [example_prediction(index, rng) for index in range(utterances)]
    scores = {
        selection: {task: score_task(predictions, selection, task) for task in CLASSES}
        for selection in SELECTIONS
    }
    folds = [example_fold(speaker, predictions, epochs, rng) for speaker in SPEAKERS]
    plain = {
        selection: {task: {"wa": own.wa, "ua": own.ua} for task, own in by_task.items()}
        for selection, by_task in scores.items()
    }
    return Results(
        format=io.FORMAT,
        name="li2019-emodb-loso",
        command="serein evaluate li2019-emodb --corpus emodb --workers 2",
        created="2026-11-21T02:46:44+00:00",
        recipe=example_recipe(),
        corpus={"name": "emodb", "utterances": utterances, "speakers": 10, "hash": "9f3b52c0e1d4"},
        protocol=example_protocol(predictions),
        environment={
            "seed": 0,
            "threads": 2,
            "device": "cpu",
            "machine": "x86_64, 2 cores, 8 GB",
            "versions": {"serein": "0.1.0", "python": "3.11.9", "torch": "2.13.0"},
        },
        seconds=5025.4,
        classes=CLASSES,
        headline="validation",
        selections=SELECTIONS,
        scores=scores,
        fold_means={
            selection: {task: mean_of_folds(folds, selection, task) for task in CLASSES}
            for selection in SELECTIONS
        },
        baselines={
            "majority": {task: majority_scores(predictions, task) for task in CLASSES},
            "chance": {
                task: dict.fromkeys(("wa", "ua"), round_to_six_digits(chance_scores(names)[0]))
                for task, names in CLASSES.items()
            },
        },
        folds=folds,
        predictions=predictions,
        warnings=["3 utterances are shorter than 1 s and were padded."],
        mapping=example_records.example_mapping(predictions),
        leakage=example_records.example_findings(),
        calibration=example_records.example_calibration(predictions, CLASSES),
        repeats=example_records.example_seeds(plain, seeds=(0, 1, 2)),
        confident_errors=example_records.example_errors(predictions, CLASSES["emotion"], rng),
    )


def rescore(results: Results) -> Results:
    """Return results with the scores of their predictions, without folds, calibration, baselines.

    Changed results must be scored again: files whose scores do not follow are refused.
    """
    predictions, names = results.scored_predictions, list(results.selections)
    return replace(
        results,
        **pool_scores(predictions, names, results.classes),
        groups=score_groups(predictions, results.headline, results.classes),
        baselines={},
        folds=[],
        fold_means={},
        calibration={},
        repeats=[],
        protocol={**results.protocol, "folds": []},
    )


def example_protocol(predictions: list[Prediction]) -> dict[str, Any]:
    table = {
        "name": "leave-one-speaker-out",
        "validation": "1 speakers after the tested one",
        "folds": split_by_speaker(predictions),
    }
    return {**table, "hash": Protocol.from_table(table).hash}


def split_by_speaker(predictions: list[Prediction]) -> list[dict[str, Any]]:
    """Leave one speaker out; the next one is for validation, and none for the last fold."""
    ids = {name: [item.id for item in predictions if item.speaker == name] for name in SPEAKERS}
    folds = []
    for index, name in enumerate(SPEAKERS):
        validation_speakers = SPEAKERS[index + 1 : index + 2]
        rest = [other for other in SPEAKERS if other not in (name, *validation_speakers)]
        train = [id_ for other in rest for id_ in ids[other]]
        validation = [id_ for other in validation_speakers for id_ in ids[other]]
        folds.append({"name": name, "train": train, "validation": validation, "test": ids[name]})
    return folds


def example_recipe() -> dict[str, Any]:
    return {
        "name": "li2019-emodb",
        "about": {
            "paper": "Li, Zhao, Kawahara: Improved end-to-end SER (Interspeech 2019)",
            "follows": "li2019",
        },
        "features": {"name": "logmel", "rate": 16000, "bands": 128},
        "normalise": {"name": "mean-variance", "per": "training fold"},
        "model": {"name": "li2019", "heads": 8, "dropout": 0.3},
        "tasks": {"emotion": {"weight": 1.0}, "gender": {"weight": 0.5}},
        "training": {"epochs": 100, "learning_rate": 0.0001, "batch": 32},
        "protocol": {"name": "leave-one-speaker-out", "validation": 1},
    }


def example_prediction(index: int, rng: np.random.Generator) -> Prediction:
    speaker = SPEAKERS[index % len(SPEAKERS)]
    gender = CLASSES["gender"][SPEAKERS.index(speaker) % 2]
    truth = {"emotion": str(rng.choice(CLASSES["emotion"])), "gender": gender}
    noise = {task: rng.normal(size=len(names)) for task, names in CLASSES.items()}
    return Prediction(
        id=f"{speaker}a{index:04}",
        fold=speaker,
        speaker=speaker,
        gender=gender,
        truth={**truth},
        selections={
            selection: {
                task: to_probabilities(noise[task] + skill * (np.array(names) == truth[task]))
                for task, names in CLASSES.items()
            }
            for selection, skill in SKILL.items()
        },
    )


def to_probabilities(logits: NDArray[np.float64]) -> list[float]:
    shares = np.exp(logits) / np.exp(logits).sum()
    return [float(f"{share:.6g}") for share in shares]


def predicted_classes(predictions: list[Prediction], selection: str, task: str) -> list[str]:
    rows = [item.selections[selection][task] for item in predictions]
    return [CLASSES[task][int(np.argmax(row))] for row in rows]


def true_classes(predictions: list[Prediction], task: str) -> list[str]:
    return [str(item.truth[task]) for item in predictions]


def wa_and_ua(confusion: NDArray[np.int64]) -> dict[str, float | None]:
    return {
        "wa": round_to_six_digits(float(weighted_accuracy_from_confusion(confusion))),
        "ua": round_to_six_digits(float(unweighted_accuracy_from_confusion(confusion))),
    }


def score_task(predictions: list[Prediction], selection: str, task: str) -> ClassScores:
    truth, answer = true_classes(predictions, task), predicted_classes(predictions, selection, task)
    groups, words = choose_groups([item.speaker for item in predictions])
    grouped = confusion_by_group(truth, answer, groups, CLASSES[task])
    confusion = grouped.sum(axis=0)
    recalls = [round_to_six_digits(float(recall)) for recall in recalls_from_confusion(confusion)]
    return ClassScores(
        utterances=len(truth),
        **wa_and_ua(confusion),
        wa_interval=compute_interval(grouped, WA),
        ua_interval=compute_interval(grouped, UA),
        interval=words,
        recalls=dict(zip(CLASSES[task], recalls, strict=True)),
        confusion=confusion.tolist(),
    )


def example_fold(
    name: str, predictions: list[Prediction], epochs: int, rng: np.random.Generator
) -> FoldResult:
    own = [item for item in predictions if item.fold == name]
    scores = {
        selection: {
            task: wa_and_ua(
                confusion_matrix(
                    true_classes(own, task), predicted_classes(own, selection, task), CLASSES[task]
                )
            )
            for task in CLASSES
        }
        for selection in SELECTIONS
    }
    chosen, best = sorted(rng.choice(np.arange(1, epochs + 1), size=2).tolist())
    picked = {"validation": chosen, "last": epochs, "best": best}
    history = [example_epoch(number, rng) for number in range(1, epochs + 1)]
    warmth = example_records.example_temperatures(name)
    return FoldResult(name=name, epochs=picked, scores=scores, history=history, temperatures=warmth)


def example_epoch(number: int, rng: np.random.Generator) -> Epoch:
    level = 0.7 - 0.5 * np.exp(-number / 15)
    jitter = rng.normal(scale=0.04, size=8)
    scores: dict[str, dict[str, dict[str, float | None]]] = {
        side: {
            task: {
                "wa": round_to_six_digits(level + jitter[4 * row + 2 * column] - 0.05 * row),
                "ua": round_to_six_digits(level + jitter[4 * row + 2 * column + 1] - 0.05 * row),
            }
            for column, task in enumerate(CLASSES)
        }
        for row, side in enumerate(("validation", "test"))
    }
    loss = round_to_six_digits(0.2 + 1.8 * float(np.exp(-number / 20)) + abs(float(jitter[0])))
    return Epoch(epoch=number, loss=loss, seconds=5.0, scores=scores)


def mean_of_folds(folds: list[FoldResult], selection: str, task: str) -> dict[str, float | None]:
    rows = [item.scores[selection][task] for item in folds]
    return {
        key: round_to_six_digits(float(np.mean([row[key] or 0.0 for row in rows])))
        for key in ("wa", "ua")
    }


def majority_scores(predictions: list[Prediction], task: str) -> dict[str, float | None]:
    truth = true_classes(predictions, task)
    answers = [majority_class(truth)] * len(truth)
    wa, ua = weighted_accuracy_score(truth, answers), unweighted_accuracy_score(truth, answers)
    return {"wa": round_to_six_digits(wa), "ua": round_to_six_digits(ua)}
