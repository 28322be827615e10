"""States of many layers into one vector: a learnt mean over layers, and one over time.

Yang et al.: "SUPERB: Speech Processing Universal PERformance Benchmark", Interspeech 2021: an
encoder is judged by a weighted sum of the states of all its layers, the weights learnt with the
task.

B = batch, T = frames, N = states, D = channels, E = channels after the projection, H = tasks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from serein.layers.attention import AttentionWeights, ModelOutput, attention_pool
from serein.layers.dropout import Dropout


class WeightedLayerSum(nn.Module):
    """The mean of the states, weighed by the softmax of a learnt number for each."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.score_n = nn.Parameter(torch.zeros(states))

    def forward(self, x_btnd: Tensor) -> Tensor:
        """(B, T, N, D) -> (B, T, D)."""
        return torch.einsum("btnd,n->btd", x_btnd, self.score_n.softmax(dim=0).to(x_btnd.dtype))


class StatePooling(nn.Module):
    """The mean over layers, a dense layer with ReLU, and a mean over time for each task."""

    def __init__(
        self,
        states: int,
        channels: int,
        tasks: Sequence[str],
        *,
        hidden: int,
        attention: bool,
        dropout: float,
    ) -> None:
        """Draw weights; all layers weigh the same at first.

        Args:
            states: N.
            channels: D.
            tasks: names of those who get a vector each.
            hidden: E.
            attention: whether each task weighs moments by scores of its own (Zhang et al. 2019,
                equations 3 and 4); else they weigh the same for all.
            dropout: of the dense layer's output.
        """
        super().__init__()
        self.tasks = tuple(tasks)
        self.width = hidden
        self.layers = WeightedLayerSum(states)
        self.dense = nn.Linear(channels, hidden)
        self.dropout = Dropout(dropout)
        self.attend = nn.Linear(hidden, len(self.tasks), bias=False) if attention else None

    def forward(self, x_btnd: Tensor, mask_bt: Tensor) -> ModelOutput:
        """(B, T, N, D) and mask (B, T) -> a vector (B, E) and weights (B, 1, T) for each task."""
        h_bte = self.dropout(self.dense(self.layers(x_btnd)).relu())
        h_bte = h_bte.masked_fill(~mask_bt[..., None], 0)
        if self.attend is None:
            mean_be = h_bte.sum(dim=1) / mask_bt.sum(dim=1, keepdim=True)
            return ModelOutput(dict.fromkeys(self.tasks, mean_be), {})
        r_bhe, weight_bht = attention_pool(h_bte, self.attend(h_bte), mask_bt)
        vectors = dict(zip(self.tasks, r_bhe.unbind(dim=1), strict=True))
        maps = zip(self.tasks, torch.split(weight_bht, 1, dim=1), strict=True)
        return ModelOutput(
            vectors, {task: AttentionWeights(weight, stride=1) for task, weight in maps}
        )
