"""Weights averaged over the steps of a training."""

from copy import deepcopy
from typing import Any

import torch

from serein.system import System


class WeightAverage:
    """An exponential moving average of a system's weights; with a decay of 0, the system itself.

    Over the first steps the decay is lower, (1 + n) / (10 + n) after n of them, so that the weights
    that a training began with are soon forgotten.

    Attributes:
        system: the average; what is watched, kept and saved.
    """

    def __init__(self, system: System, decay: float) -> None:
        """Begin with the weights as they are.

        Args:
            system: that trains, on its device.
            decay: what remains of the average at each step.
        """
        self.decay = decay
        self.steps = 0
        self.system = deepcopy(system) if decay else system
        self._last = system

    def step(self) -> None:
        """Take in the weights of a step."""
        if not self.decay:
            return
        self.steps += 1
        gain = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for mean, last in zip(self.system.parameters(), self._last.parameters(), strict=True):
                mean.lerp_(last, gain)
            buffers = zip(self.system.buffers(), self._last.buffers(), strict=True)
            for kept, now in buffers:
                kept.copy_(now)

    def state_dict(self) -> dict[str, Any]:
        """What a training that goes on needs."""
        return {"steps": self.steps, "system": self.system.state_dict()} if self.decay else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        if self.decay:
            self.steps = state["steps"]
            self.system.load_state_dict(state["system"])
