"""The history of a training run, and the checkpoint from which an interrupted run continues.

n = utterances of a subset, K = classes of a task, or 1 for a value, L = words.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from serein.labels.vocabulary import SPECIAL_TOKENS, UNKNOWN
from serein.layers.outputs import END_ID
from serein.metrics.scoring import Scores, compute_mean_score, get_scorer, nan_to_none
from serein.metrics.word_error_rate import count_word_errors, word_error_rate_from_counts
from serein.results.evaluation import Epoch
from serein.system import System
from serein.training.dataset import Subset
from serein.training.predict import predict_subset
from serein.utils.device import Precision
from serein.utils.files import write_bytes

MAX_WRITE_SHARE = 0.02
"""Largest share of a training's time that checkpoints within epochs may take."""

SubsetPredictions = dict[str, dict[str, Tensor]]
"""For each evaluated subset and task, (n, K)."""
EpochCallback = Callable[[Epoch], None]
"""Called with each epoch when it ends."""
EpochPredicate = Callable[["TrainingRun"], bool]
"""A decision after an epoch, from the history so far."""


@dataclass
class TrainingRun:
    """The history of a training.

    Attributes:
        epochs: loss of each epoch, and its scores on each evaluated subset.
        predictions: for each epoch, the probabilities on each evaluated subset.
        weights: of the system, after the last epoch whose weights were to be kept.
        selected_settings: for each task, the setting that an estimator selected on validation.
    """

    epochs: list[Epoch] = field(default_factory=list)
    predictions: list[SubsetPredictions] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    selected_settings: dict[str, float] = field(default_factory=dict)

    def best_epoch(self, subset: str, tasks: Sequence[str], *, window: int = 1) -> int:
        """Return the epoch with the highest score, counted from 1; of equal ones the earliest.

        Args:
            subset: name of the evaluated subset.
            tasks: their UA or CCC is compared; of several tasks, the mean of the defined scores.
            window: number of epochs, the last of them the epoch itself, whose scores are averaged.
        """
        means = [compute_mean_score(epoch.scores[subset], tasks) for epoch in self.epochs]
        scores = np.array([-1.0 if mean is None else mean for mean in means])
        ends = range(1, len(scores) + 1)
        return int(np.argmax([scores[max(0, end - window) : end].mean() for end in ends])) + 1


def evaluate_subsets(
    system: System, subsets: Mapping[str, Subset], batch_size: int, precision: Precision = "fp32"
) -> tuple[SubsetPredictions, dict[str, dict[str, Scores]]]:
    """Predict and score every subset; return predictions and scores, by subset and task."""
    predictions = {
        name: predict_subset(system, subset, batch_size, precision)
        for name, subset in subsets.items()
    }
    scores = {
        name: {
            task: compute_scores(predictions[name][task], target_n)
            for task, target_n in subset.targets.items()
            if task in predictions[name]  # distributions of votes only train
        }
        for name, subset in subsets.items()
    }
    return predictions, scores


def compute_scores(prediction_nk: Tensor, target_n: Tensor) -> Scores:
    """Compute WA and UA of classes, CCC, RMSE and correlation of values, or WER of transcripts.

    Args:
        prediction_nk: (n, K) probabilities or values, or (n, L) word ids.
        target_n: (n,) class numbers or values, or (n, L) word ids; class numbers from K on are of
            classes that cannot be predicted.

    Returns:
        Each score by its name; None if no utterance has a label.
    """
    if target_n.dim() == 2:
        return score_transcripts(prediction_nk, target_n)
    is_value = target_n.is_floating_point()
    labelled_n = ~target_n.isnan() if is_value else target_n >= 0
    prediction_n = prediction_nk[:, 0] if is_value else prediction_nk.argmax(dim=1)
    # Targets from K on are of classes that the system does not predict.
    highest = -1 if is_value or not len(target_n) else int(target_n.max())
    classes = () if is_value else range(max(prediction_nk.shape[1], highest + 1))
    truth, predicted = target_n[labelled_n].tolist(), prediction_n[labelled_n].tolist()
    scorer = get_scorer(classes)
    tally = scorer.tally(truth, predicted, [0] * len(truth), classes)
    return scorer.compute_scores(tally.sum(axis=0))


def score_transcripts(prediction_nl: Tensor, target_nl: Tensor) -> Scores:
    """Compute the WER of word ids; an unknown word in a target always counts as an error."""
    unknown = SPECIAL_TOKENS.index(UNKNOWN)
    counts = [
        count_word_errors(
            [" ".join("?" if word == unknown else str(word) for word in target if word > END_ID)],
            [" ".join(str(word) for word in prediction if word >= 0)],
        )[0]
        for prediction, target in zip(prediction_nl.tolist(), target_nl.tolist(), strict=True)
        if any(word >= 0 for word in target)
    ]
    total = np.sum(counts, axis=0) if counts else np.zeros(4)
    return {"wer": nan_to_none(word_error_rate_from_counts(total))}


def save_checkpoint(path: Path, run: TrainingRun, states: Mapping[str, Any]) -> None:
    """Write the history and the state of the training loop, atomically.

    Args:
        path: of the file.
        run: the history so far.
        states: the loop's state, by name; empty if the training needs none to continue.
    """
    epochs = [
        {"epoch": e.epoch, "loss": e.loss, "seconds": e.seconds, "scores": e.scores}
        for e in run.epochs
    ]
    history = {
        "epochs": epochs,
        "predictions": run.predictions,
        "weights": run.weights,
        "selected_settings": run.selected_settings,
    }
    content = BytesIO()
    torch.save({**history, **states}, content)
    write_bytes(path, content.getbuffer())


def load_checkpoint(path: Path) -> tuple[TrainingRun, dict[str, Any]]:
    """Return history and loop state of a checkpoint; both empty if it is missing or damaged."""
    with suppress(Exception):  # torch raises exceptions of any type on damaged files
        states = torch.load(path, map_location="cpu", weights_only=True)
        epochs = [Epoch(**epoch) for epoch in states.pop("epochs")]
        history = [states.pop(name) for name in ("predictions", "weights", "selected_settings")]
        return TrainingRun(epochs, *history), states
    return TrainingRun(), {}


@dataclass
class EpochPosition:
    """The position of a training within an epoch, between two batches.

    Attributes:
        batches: number of finished batches.
        loss: their contribution to the loss of the epoch.
        seconds: duration so far, including interrupted processes that worked on this epoch.
        rng_states: of torch's generators: the CPU's, then each CUDA device's.
    """

    batches: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    rng_states: list[Tensor] = field(default_factory=list)

    def capture_rng(self) -> None:
        """Save the state of torch's random generators."""
        devices = torch.cuda.get_rng_state_all() if _count_cuda_devices() else []
        self.rng_states = [torch.get_rng_state(), *devices]

    def restore_rng(self) -> None:
        """Restore the saved state of the generators; do nothing at the start of an epoch."""
        if self.rng_states:
            torch.set_rng_state(self.rng_states[0])
        if len(self.rng_states) - 1 == _count_cuda_devices() > 0:
            torch.cuda.set_rng_state_all(self.rng_states[1:])


def _count_cuda_devices() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


class CheckpointWriter:
    """Writes checkpoints, within an epoch at intervals that keep their cost below 2 % of time."""

    def __init__(self, path: Path | None, interval: float) -> None:
        """Prepare.

        Args:
            path: of the file; None writes no checkpoints.
            interval: seconds between two checkpoints within an epoch; 0 writes none there.
        """
        self.path = path
        self.interval = interval
        self._last_duration = 0.0
        self._last_time = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time for a checkpoint within an epoch."""
        if self.path is None or not self.interval:
            return False
        elapsed = time.monotonic() - self._last_time
        return elapsed >= max(self.interval, self._last_duration / MAX_WRITE_SHARE)

    def write(self, run: TrainingRun, stateful: Mapping[str, Any], position: EpochPosition) -> None:
        """Write a checkpoint now, whether or not one is due.

        Args:
            run: the history so far.
            stateful: objects with a ``state_dict``, by name.
            position: within the epoch.

        Raises:
            StorageError: the file could not be written.
        """
        if self.path is None:
            return
        started = time.monotonic()
        states = {name: part.state_dict() for name, part in stateful.items()}
        save_checkpoint(self.path, run, {**states, "position": vars(position)})
        self._last_time = time.monotonic()
        self._last_duration = self._last_time - started
