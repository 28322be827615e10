"""Zhang et al. 2019 in plain PyTorch: every segment is convolved separately."""

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serein.models.zhang2019 import Model


class PerSegment(nn.Module):
    """A model in torch's modules with the weights of another, for utterances of equal length."""

    def __init__(self, model: Model, hop: int) -> None:
        super().__init__()
        self.config, self.hop = model.config, hop
        filters, taps = self.config.filters, self.config.taps
        self.conv1 = nn.Conv1d(1, filters, taps)
        self.conv2 = nn.Conv1d(filters, filters, taps)
        twin = model.convolutions
        with torch.no_grad():
            self.conv1.weight.copy_(twin.weight1_kc.T[:, None])
            self.conv2.weight.copy_(twin.weight2_kcd.permute(2, 1, 0))
            for convolution, bias in ((self.conv1, twin.bias1_c), (self.conv2, twin.bias2_c)):
                assert convolution.bias is not None
                convolution.bias.copy_(bias)
        self.gru = deepcopy(model.gru)
        self.attend = deepcopy(model.attend) if self.config.attention else None

    def forward(self, wave_bs: Tensor) -> Tensor:
        """(B, S) -> a vector for each task, (B, H, D)."""
        h_bld, _ = self.gru(self.segments(wave_bs))
        if self.attend is None:
            return h_bld[:, -1:]
        return self.attend(h_bld).softmax(dim=1).mT @ h_bld

    def segments(self, wave_bs: Tensor) -> Tensor:
        """(B, S) -> the vectors of the segments, (B, L, F)."""
        segment_bls = wave_bs.unfold(1, self.config.hops * self.hop, self.hop)
        padding = (self.config.taps - 1) // 2, self.config.taps // 2
        x_ncs = F.pad(segment_bls.flatten(0, 1)[:, None], padding)
        x_ncs = F.max_pool1d(self.conv1(x_ncs).relu(), self.config.pool)
        x_ncs = self.conv2(F.pad(x_ncs, padding)).relu()
        x_ngs = x_ncs.unflatten(1, (-1, self.config.group)).amax(dim=2)
        v_bld = x_ngs.mT.reshape(*segment_bls.shape[:2], -1)
        return F.dropout(v_bld, self.config.dropout, self.training)

    def gradients(self) -> dict[str, Tensor]:
        """Return gradients with the names and shapes of the original model's parameters."""
        found = {n: p.grad for n, p in self.named_parameters() if p.grad is not None}
        first, second = found.pop("conv1.weight"), found.pop("conv2.weight")
        return {
            "convolutions.weight1_kc": first[:, 0].T.contiguous(),
            "convolutions.weight2_kcd": second.permute(2, 1, 0).contiguous(),
            "convolutions.bias1_c": found.pop("conv1.bias"),
            "convolutions.bias2_c": found.pop("conv2.bias"),
            **found,
        }
