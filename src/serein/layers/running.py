"""Standardisation by statistics that run along with a training.

B = batch, F = numbers of an utterance.
"""

import torch
from torch import Tensor, nn

MIN_MOMENTUM = 0.01
"""Share of a batch in what is known of all before it, once there have been a hundred."""
RUNNING_EPSILON = 1e-3
"""Of a deviation; what varies less is hardly there."""
RUNNING_CLIP = 5.0
"""Deviations from the mean; what lies farther off is taken for that."""


class RunningStandardizer(nn.Module):
    """(x - mean) / deviation of each number, by the batches seen so far: never by its own alone.

    Unlike batch normalisation, an utterance does not depend on who trains beside it.
    """

    mean_f: Tensor
    square_f: Tensor
    steps_1: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean_f", torch.zeros(width))
        self.register_buffer("square_f", torch.ones(width))
        self.register_buffer("steps_1", torch.zeros(1))

    def forward(self, x_bf: Tensor) -> Tensor:
        """(B, F) -> (B, F)."""
        if self.training:
            self._update(x_bf.detach())
        deviation_f = (self.square_f - self.mean_f.square()).clamp(min=0).sqrt() + RUNNING_EPSILON
        return ((x_bf - self.mean_f) / deviation_f).clamp(-RUNNING_CLIP, RUNNING_CLIP)

    def _update(self, x_bf: Tensor) -> None:
        self.steps_1 += 1
        gain_1 = (1 / self.steps_1).clamp(min=MIN_MOMENTUM)
        self.mean_f.lerp_(x_bf.mean(dim=0), float(gain_1))
        self.square_f.lerp_(x_bf.square().mean(dim=0), float(gain_1))
