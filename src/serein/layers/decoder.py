"""A decoder that looks where it listened before: words out of what an encoder heard.

Chorowski et al. 2015, "Attention-Based Models for Speech Recognition", section 2.2, as Feng et al.
2020 write it (equations 6-11):

    f_l = F * a_{l-1}
    e_lt = z' tanh(Z s_{l-1} + V h_t + U f_l + b),  a_l = softmax(e_l)
    g_l = a_l1 h_1 + a_l2 h_2 + ...
    s_l = LSTM(s_{l-1}, (w_{l-1}, g_l))
    y_l = tanh(W_g g_l + W_s s_l + c),  w_l ~ softmax(O y_l + d)

a_0 and s_0 are zeros. A filter of an even number of taps sees one frame more before than behind.

B = utterances, W = beams of one (1 in training), L = words, V = words of the vocabulary, T = frames
of the encoder, H = its channels, D = channels of s and y, A = channels of the attention, K =
filters, G = the gates of the LSTM.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serein.layers.outputs import START_ID
from serein.layers.unrolled import StepWeights, unroll_decoder


class DecoderState(NamedTuple):
    """What the next step needs; the beams of an utterance share what was heard.

    Attributes:
        s_bwd: of the LSTM.
        cell_bwd: of the LSTM.
        weight_bwt: a_l.
        h_b1th: what was heard.
        key_b1ta: V h_t + b.
        mask_b1t: False on padding.
    """

    s_bwd: Tensor
    cell_bwd: Tensor
    weight_bwt: Tensor
    h_b1th: Tensor
    key_b1ta: Tensor
    mask_b1t: Tensor


class DecoderOutput(NamedTuple):
    """What the decoder went through over given words.

    Attributes:
        s_bld: states of the LSTM.
        y_bld: states of the tanh layer, before the softmax over words.
        weight_blt: attention, 0 on padding.
    """

    s_bld: Tensor
    y_bld: Tensor
    weight_blt: Tensor


class AttentionDecoder(nn.Module):
    """Location-aware attention, an LSTM, a tanh layer and the softmax over words."""

    def __init__(
        self,
        channels: int,
        vocabulary: int,
        *,
        hidden: int,
        words: int,
        attention: int,
        filters: int,
        taps: int,
    ) -> None:
        """Draw weights as torch's own layers do.

        Args:
            channels: H.
            vocabulary: V.
            hidden: D.
            words: channels of a word.
            attention: A.
            filters: K, of F.
            taps: frames that a filter sees.
        """
        super().__init__()
        self.words = nn.Embedding(vocabulary, words)
        self.key = nn.Linear(channels, attention)
        self.query = nn.Linear(hidden, attention, bias=False)
        self.location = nn.Conv1d(1, filters, taps, bias=False)
        self.place = nn.Linear(filters, attention, bias=False)
        self.energy = nn.Linear(attention, 1, bias=False)
        self.word_gates = nn.Linear(words, 4 * hidden)
        self.gates = nn.Linear(channels + hidden, 4 * hidden, bias=False)
        self.from_context = nn.Linear(channels, hidden)
        self.from_state = nn.Linear(hidden, hidden, bias=False)
        self.output = nn.Linear(hidden, vocabulary)

    def initial_state(self, h_bth: Tensor, mask_bt: Tensor) -> DecoderState:
        """What was heard (B, T, H) and its mask -> the state before the first word."""
        zeros_b1d = h_bth.new_zeros(
            len(h_bth), 1, self.from_state.in_features, dtype=_wide_dtype(h_bth)
        )
        return DecoderState(
            s_bwd=zeros_b1d,
            cell_bwd=zeros_b1d,
            weight_bwt=torch.zeros_like(mask_bt, dtype=_wide_dtype(h_bth))[:, None],
            h_b1th=h_bth[:, None],
            key_b1ta=self.key(h_bth).to(_wide_dtype(h_bth))[:, None],
            mask_b1t=mask_bt[:, None],
        )

    def step(self, previous_bw: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, DecoderState]:
        """The words before (B, W) -> log-probabilities (B, W, V) of the next ones, and the state.

        No next word is <s>.
        """
        context_bwh, after = self._advance(self._embed_to_gates(previous_bw), DecoderState(*state))
        logits_bwv = self.output(self._compute_hidden(context_bwh, after.s_bwd))
        score_bwv = logits_bwv.to(_wide_dtype(logits_bwv)).log_softmax(dim=-1)
        score_bwv[..., START_ID] = -torch.inf
        return score_bwv, after

    def forward(
        self, h_bth: Tensor, mask_bt: Tensor, previous_bl: Tensor, *, sampling: float = 0.0
    ) -> DecoderOutput:
        """Go over given words.

        Args:
            h_bth: (B, T, H), what was heard.
            mask_bt: (B, T), False on padding.
            previous_bl: (B, L), the word before each step; <s> first.
            sampling: how often to go on from the likeliest word instead of the given one (scheduled
                sampling, Bengio et al. 2015), drawn for each step of each utterance.
        """
        state, gate_blg = self.initial_state(h_bth, mask_bt), self._embed_to_gates(previous_bl)
        if sampling:
            own_bl = torch.rand(previous_bl.shape, device=previous_bl.device) < sampling
            context_blh, s_bld, weight_blt = self._run_with_sampling(state, gate_blg, own_bl)
        else:
            weights = (self.query, self.location, self.place, self.energy, self.gates)
            of_step = StepWeights(*(layer.weight for layer in weights))
            context_blh, s_bld, weight_blt = unroll_decoder(self._advance, state, gate_blg, of_step)
        return DecoderOutput(s_bld, self._compute_hidden(context_blh, s_bld), weight_blt)

    def _run_with_sampling(
        self, state: DecoderState, gate_blg: Tensor, own_bl: Tensor
    ) -> tuple[Tensor, ...]:
        """Step by step, as what the decoder says decides how it goes on."""
        steps: list[tuple[Tensor, Tensor, Tensor]] = []
        for step, gate_bg in enumerate(gate_blg.unbind(dim=1)):
            gate_b1g = gate_bg[:, None]
            if steps:
                own_b1g = self._embed_to_gates(self._predict_word(*steps[-1][:2]))
                gate_b1g = torch.where(own_bl[:, step, None, None], own_b1g, gate_b1g)
            context_b1h, state = self._advance(gate_b1g, state)
            steps.append((context_b1h, state.s_bwd, state.weight_bwt))
        return tuple(torch.cat(parts, dim=1) for parts in zip(*steps, strict=True))

    def _embed_to_gates(self, word_bl: Tensor) -> Tensor:
        """What words add to the gates: (B, L) -> (B, L, G)."""
        return self.word_gates(self.words(word_bl))

    def _compute_hidden(self, context_bwh: Tensor, s_bwd: Tensor) -> Tensor:
        return torch.tanh(self.from_context(context_bwh) + self.from_state(s_bwd))

    @torch.no_grad()
    def _predict_word(self, context_b1h: Tensor, s_b1d: Tensor) -> Tensor:
        logits_b1v = self.output(self._compute_hidden(context_b1h, s_b1d))
        logits_b1v[..., START_ID] = -torch.inf
        return logits_b1v.argmax(dim=-1)

    def _advance(self, gate_bwg: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """One step: g_l (B, W, H) and the state behind it."""
        weight_bwt = self._attend(state)
        context_bwh = weight_bwt.to(state.h_b1th.dtype) @ state.h_b1th[:, 0]
        gate_bwg = gate_bwg + self.gates(torch.cat([context_bwh, state.s_bwd], dim=-1))
        enter, forget, new, leave = gate_bwg.chunk(4, dim=-1)
        cell_bwd = forget.sigmoid() * state.cell_bwd + enter.sigmoid() * new.tanh()
        s_bwd = leave.sigmoid() * cell_bwd.tanh()
        return context_bwh, state._replace(s_bwd=s_bwd, cell_bwd=cell_bwd, weight_bwt=weight_bwt)

    def _attend(self, state: DecoderState) -> Tensor:
        """a_l, from a_{l-1} and s_{l-1}: (B, W, T), in fp32 at least."""
        batch, beams, _ = state.s_bwd.shape
        place_bwkt = self._location_features(state.weight_bwt).expand(-1, beams, -1, -1)
        query_bw1a = self.query(state.s_bwd)[:, :, None]
        # As one product, U f_l + Z s_{l-1} need no large sum of their own.
        left_bwkt = torch.cat([place_bwkt, torch.ones_like(place_bwkt[:, :, :1])], dim=2)
        place_bwka = self.place.weight.T.expand(batch, beams, -1, -1)
        right_bwka = torch.cat([place_bwka, query_bw1a.to(place_bwka.dtype)], dim=2)
        wide = state.key_b1ta.dtype
        with torch.autocast(state.key_b1ta.device.type, enabled=False):  # tanh is slow in bf16
            parts = state.key_b1ta, left_bwkt.mT.to(wide), right_bwka.to(wide)
            score_bwt = self._attention_energies(*parts).masked_fill(~state.mask_b1t, -torch.inf)
        return score_bwt.softmax(dim=-1)

    def _location_features(self, weight_bwt: Tensor) -> Tensor:
        """f_l: (B, W, T) -> (B, W, K, T)."""
        taps = self.location.kernel_size[0]
        around_nt = F.pad(weight_bwt.flatten(0, 1), (taps // 2, (taps - 1) // 2))
        return self.location(around_nt[:, None]).unflatten(0, weight_bwt.shape[:2])

    def _attention_energies(
        self, key_b1ta: Tensor, left_bwtk: Tensor, right_bwka: Tensor
    ) -> Tensor:
        """Energies z' tanh(keys + left right): (B, W, T)."""
        batch, beams, frames, _ = left_bwtk.shape
        energy_a = self.energy.weight[0].to(key_b1ta.dtype)
        if torch.is_grad_enabled():
            key_nta = key_b1ta.expand(-1, beams, -1, -1).flatten(0, 1)
            sum_nta = torch.baddbmm(key_nta, left_bwtk.flatten(0, 1), right_bwka.flatten(0, 1))
            return (sum_nta.tanh() @ energy_a).view(batch, beams, frames)
        energy_bwt = left_bwtk.new_empty(batch, beams, frames)
        sum_wta = key_b1ta.new_empty(beams, frames, len(energy_a))  # fits a processor's cache
        parts = key_b1ta, left_bwtk, right_bwka, energy_bwt
        for key_1ta, left_wtk, right_wka, energy_wt in zip(*parts, strict=True):
            torch.bmm(left_wtk, right_wka, out=sum_wta)
            torch.mv(sum_wta.add_(key_1ta).tanh_().flatten(0, 1), energy_a, out=energy_wt.view(-1))
        return energy_bwt


def _wide_dtype(x: Tensor) -> torch.dtype:
    """Sums and softmaxes in fp32 at least."""
    return torch.promote_types(x.dtype, torch.float32)
