"""The course of one training: what each epoch cost and foretold, kept on disk.

n = utterances of a side, K = classes of a task, or 1 for a number.

Where a training is within an epoch, and when to write that down.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from serein.labels.vocabulary import SPECIAL_TOKENS, UNKNOWN
from serein.layers.outputs import END_ID
from serein.metrics.scoring import Scores, get_main_score, get_scorer, nan_to_none
from serein.metrics.word_error_rate import count_word_errors, word_error_rate_from_counts
from serein.results.evaluation import Epoch
from serein.system import System
from serein.training.dataset import Subset
from serein.training.predict import predict_subset
from serein.utils.device import Precision
from serein.utils.files import write_bytes

SubsetPredictions = dict[str, dict[str, Tensor]]
"""For each watched side and task, (n, K)."""
EpochCallback = Callable[[Epoch], None]
"""Is told of every epoch as it ends."""
EpochPredicate = Callable[["TrainingRun"], bool]
"""Says yes or no of the epoch that has just ended."""


@dataclass
class TrainingRun:
    """What happened in a training.

    Attributes:
        epochs: what each one cost and how well it did on each watched side.
        foretold: for each epoch, the probabilities on each watched side.
        weights: the system's, at the last epoch that was to be kept.
        chosen: for each task, the setting that an estimator picked on validation.
    """

    epochs: list[Epoch] = field(default_factory=list)
    predictions: list[SubsetPredictions] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    selected_settings: dict[str, float] = field(default_factory=dict)

    def best_epoch(self, subset: str, tasks: Sequence[str], *, smooth: int = 1) -> int:
        """The epoch with the highest score on a side, counted from 1; the earliest of equals.

        Args:
            subset: which watched side.
            tasks: whose UA, or CCC; of several, the mean of those that are defined.
            smooth: epochs, the one itself and those before it, whose score is averaged.
        """
        known = np.array([_mean_score(epoch.scores[subset], tasks) for epoch in self.epochs])
        means = [known[max(0, last - smooth) : last].mean() for last in range(1, len(known) + 1)]
        return int(np.argmax(means)) + 1


def _mean_score(scores: Mapping[str, Scores], tasks: Sequence[str]) -> float:
    known = [score for task in tasks if (score := get_main_score(scores[task])) is not None]
    return fmean(known) if known else -1.0


def compute_scores(answer_nk: Tensor, target_n: Tensor) -> Scores:
    """WA and UA of the likeliest classes, or CCC, RMSE and correlation of values.

    None where no utterance has a label. Of transcripts, their word error rate.
    """
    if target_n.dim() == 2:
        return score_transcripts(answer_nk, target_n)
    value = target_n.is_floating_point()
    known_n = ~target_n.isnan() if value else target_n >= 0
    answer_n = answer_nk[:, 0] if value else answer_nk.argmax(dim=1)
    classes = () if value else range(answer_nk.shape[1])
    truth, answers = target_n[known_n].tolist(), answer_n[known_n].tolist()
    measure = get_scorer(classes)
    return measure.compute_scores(
        measure.tally(truth, answers, [0] * len(truth), classes).sum(axis=0)
    )


def score_transcripts(answer_nl: Tensor, target_nl: Tensor) -> Scores:
    """The word error rate of transcripts as numbers; a word that has none is never found."""
    unknown = SPECIAL_TOKENS.index(UNKNOWN)
    counts = [
        count_word_errors(
            [" ".join("?" if word == unknown else str(word) for word in target if word > END_ID)],
            [" ".join(str(word) for word in answer if word >= 0)],
        )[0]
        for answer, target in zip(answer_nl.tolist(), target_nl.tolist(), strict=True)
        if any(word >= 0 for word in target)
    ]
    total = np.sum(counts, axis=0) if counts else np.zeros(4)
    return {"wer": nan_to_none(word_error_rate_from_counts(total))}


def evaluate_subsets(
    system: System, subsets: Mapping[str, Subset], batch_size: int, precision: Precision = "fp32"
) -> tuple[SubsetPredictions, dict[str, dict[str, dict[str, float | None]]]]:
    """What a system foretells of every watched side, ``batch_size`` at a time, and how well it does."""
    foretold = {
        name: predict_subset(system, side, batch_size, precision) for name, side in subsets.items()
    }
    scores = {
        name: {task: compute_scores(foretold[name][task], t) for task, t in side.targets.items()}
        for name, side in subsets.items()
    }
    return foretold, scores


def save_checkpoint(path: Path, run: TrainingRun, rest: Mapping[str, Any]) -> None:
    """Write the course and the state of the loop, whole or not at all."""
    epochs = [
        {"epoch": e.epoch, "loss": e.loss, "seconds": e.seconds, "scores": e.scores}
        for e in run.epochs
    ]
    content = BytesIO()
    kept = {"foretold": run.predictions, "weights": run.weights, "chosen": run.selected_settings}
    torch.save({"epochs": epochs, **kept, **rest}, content)
    write_bytes(path, content.getbuffer())


def load_checkpoint(path: Path) -> tuple[TrainingRun, dict[str, Any]]:
    """Read what `save` wrote; a missing or broken file is a training that has not begun."""
    with suppress(Exception):  # torch raises errors of any kind over damaged bytes
        state = torch.load(path, map_location="cpu", weights_only=True)
        epochs = [Epoch(**epoch) for epoch in state.pop("epochs")]
        kept = [state.pop(name) for name in ("foretold", "weights", "chosen")]
        return TrainingRun(epochs, *kept), state
    return TrainingRun(), {}


MAX_WRITE_SHARE = 0.02
"""Of a training's time, the most that writing within epochs may take."""


@dataclass
class EpochPosition:
    """A place in an epoch, between two of its batches.

    Attributes:
        batches: that are done.
        loss: what they have added to the epoch's.
        seconds: that they took, in all processes that worked on this epoch.
        random: the states of torch's generators: the processor's, and each CUDA device's.
    """

    batches: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    rng_states: list[Tensor] = field(default_factory=list)

    def restore_rng(self) -> None:
        """Let what is drawn next be what would have been; where an epoch begins, change nothing."""
        if self.rng_states:
            torch.set_rng_state(self.rng_states[0])
        if len(self.rng_states) - 1 == _count_cuda_devices() > 0:
            torch.cuda.set_rng_state_all(self.rng_states[1:])

    def capture_rng(self, seconds: float) -> None:
        """Note what only matters when the epoch is gone on with: the time, and what is drawn next.

        Args:
            seconds: since the epoch began.
        """
        self.seconds = seconds
        devices = torch.cuda.get_rng_state_all() if _count_cuda_devices() else []
        self.rng_states = [torch.get_rng_state(), *devices]


def _count_cuda_devices() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


class CheckpointWriter:
    """Writes a training's state when it is time, and so seldom that it costs little."""

    def __init__(self, path: Path | None, every: float) -> None:
        """Prepare.

        Args:
            path: the file; None writes nothing at all.
            every: seconds between two states within an epoch; 0 writes none there.
        """
        self.path = path
        self.every = every
        self._cost = 0.0
        self._last = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time to write within an epoch."""
        if self.path is None or not self.every:
            return False
        return time.monotonic() - self._last >= max(self.every, self._cost / MAX_WRITE_SHARE)

    def write(self, run: TrainingRun, parts: Mapping[str, Any], position: EpochPosition) -> None:
        """Write, whether or not it is time.

        Args:
            run: what happened so far.
            parts: what has a state, by name.
            position: where in the epoch this is.

        Raises:
            StorageError: the file could not be written.
        """
        if self.path is None:
            return
        begun = time.monotonic()
        states = {name: part.state_dict() for name, part in parts.items()}
        save_checkpoint(self.path, run, {**states, "place": vars(position)})
        self._last = time.monotonic()
        self._cost = self._last - begun
