"""Where a training is within an epoch, and when to write that down."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from serein.training.checkpoint import TrainingRun, save_checkpoint

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
