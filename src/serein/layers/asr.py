"""A recogniser of words: stacked frames, layers of BLSTMs, and a decoder that attends to them.

B = batch, T = frames, F = bins, T' = stacks of frames, H = channels of the encoder, L = steps of
the decoder, one for each word and one for </s>, D = channels of its states.

A decoder that looks where it listened before: words out of what an encoder heard.

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

All steps of a decoder with location-aware attention at once, for learning from given words.

Autograd would sum what each step says of what was heard, and of each weight, one large tensor after
the other, and keep the inner tanh of the attention for all steps. Here a step's tanh is made again,
and what is linear in all steps is one product behind the last one.

B = utterances, L = steps, T = frames of the encoder, H = its channels, D = units of the LSTM, G =
its gates, X = H + D, A = channels of the attention, K = filters, P = taps.

Neighbouring frames laid side by side, without overlap.

B = batch, T = frames, F = bins.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le, Lt
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from serein.layers.beam_search import BeamSearchResult, beam_search
from serein.layers.outputs import END_ID, START_ID, TranscriptOutput
from serein.layers.recurrent import StackedBLSTM

DecoderStep = Callable[[Tensor, Any], tuple[Tensor, Any]]


class StepWeights(NamedTuple):
    """Of what goes from step to step: Z, F, U, z, and those of the LSTM behind its words."""

    query_ad: Tensor
    location_k1p: Tensor
    place_ak: Tensor
    energy_1a: Tensor
    recurrent_gx: Tensor


def unroll_decoder(
    step: DecoderStep, state: Any, gate_blg: Tensor, weights: StepWeights
) -> tuple[Tensor, Tensor, Tensor]:
    """Step over what the words add to the gates.

    Args:
        step: a step of the decoder.
        state: before the first one, all zeros but what was heard and its keys.
        gate_blg: (B, L, G).
        weights: that ``step`` uses.

    Returns:
        g (B, L, H), s (B, L, D) and the attention (B, L, T).
    """
    return _UnrolledDecoder.apply(step, state, gate_blg, state.h_b1th, state.key_b1ta, *weights)  # type: ignore[no-untyped-call]


class _UnrolledDecoder(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, step: DecoderStep, state: Any, gate_blg: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        steps = []
        for gate_bg in gate_blg.unbind(dim=1):
            context_b1h, state = step(gate_bg[:, None], state)
            steps.append((context_b1h, state.s_bwd, state.weight_bwt, state.cell_bwd))
        *out, cell_bld = (torch.cat(parts, dim=1) for parts in zip(*steps, strict=True))
        ctx.save_for_backward(gate_blg, *tensors, *out, cell_bld)
        return tuple(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        gate_blg, h_b1th, key_b1ta, *rest = ctx.saved_tensors
        return (
            None,
            None,
            *_UnrolledBackward(gate_blg, h_b1th[:, 0], key_b1ta[:, 0], *rest).run(*grads),
        )


class _UnrolledBackward:
    """What the gradients of all steps need, and the way back over them."""

    def __init__(self, gate_blg: Tensor, h_bth: Tensor, key_bta: Tensor, *rest: Tensor) -> None:
        *weights, context_blh, s_bld, weight_blt, cell_bld = rest
        self.gate_blg, self.h_bth, self.key_bta = gate_blg, h_bth, key_bta
        self.weights, self.attended_blt = StepWeights(*weights), weight_blt
        self.s_bld, self.before_blt, self.cell_bld = map(
            _shift_steps, (s_bld, weight_blt, cell_bld)
        )
        self.recurrent_gx = self.weights.recurrent_gx.to(h_bth.dtype)
        self.seen_blx = torch.cat([context_blh, self.s_bld.to(h_bth.dtype)], dim=2)
        gates_blg = (gate_blg + self.seen_blx @ self.recurrent_gx.T).to(s_bld.dtype)
        enter_bld, forget_bld, new_bld, leave_bld = gates_blg.chunk(4, dim=2)
        self.open_bljd = torch.stack([enter_bld, forget_bld, leave_bld], dim=2).sigmoid()
        self.new_bld, self.out_bld = new_bld.tanh(), cell_bld.tanh()
        self.around_blr = self._pad_attention()
        filters_nkt = F.conv1d(self.around_blr.flatten(0, 1)[:, None], self.weights.location_k1p)
        place_blkt = filters_nkt.view(*weight_blt.shape[:2], *filters_nkt.shape[1:])
        self.left_blct = torch.cat([place_blkt, torch.ones_like(place_blkt[:, :, :1])], dim=2)
        self.query_bla = self.s_bld @ self.weights.query_ad.T

    def _pad_attention(self) -> Tensor:
        taps = self.weights.location_k1p.shape[2]
        return F.pad(self.before_blt, (taps // 2, (taps - 1) // 2))

    def run(
        self, grad_context_blh: Tensor, grad_s_bld: Tensor, grad_weight_blt: Tensor
    ) -> tuple[Tensor, ...]:
        """Gradients of the gates, of what was heard, of its keys, and of each weight."""
        heard = self.h_bth.shape[2]
        self.grad_key_bta = torch.zeros_like(self.key_bta)
        self.grad_energy_a = torch.zeros_like(self.key_bta[0, 0])
        self.grad_place_ka = torch.zeros_like(self.weights.place_ak.T)
        s_bd, cell_bd, weight_bt = (
            torch.zeros_like(x[:, 0]) for x in (grad_s_bld, self.cell_bld, grad_weight_blt)
        )
        steps = []
        for step in reversed(range(self.gate_blg.shape[1])):
            gate_bg, cell_bd = self._lstm_gradient(step, grad_s_bld[:, step] + s_bd, cell_bd)
            seen_bx = gate_bg.to(self.recurrent_gx.dtype) @ self.recurrent_gx
            context_bh = grad_context_blh[:, step] + seen_bx[:, :heard]
            weight_bt = grad_weight_blt[:, step] + weight_bt + self._context_gradient(context_bh)
            query_ba, place_bkt, weight_bt = self._attention_gradient(step, weight_bt)
            s_bd = seen_bx[:, heard:] + query_ba @ self.weights.query_ad
            steps.append((gate_bg, context_bh, query_ba, place_bkt))
        return self._sum_over_steps(*(torch.stack(x[::-1], 1) for x in zip(*steps, strict=True)))

    def _lstm_gradient(self, step: int, s_bd: Tensor, cell_bd: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of a step's gates, and of the cell before it."""
        enter_bd, forget_bd, leave_bd = self.open_bljd[:, step].unbind(1)
        new_bd, out_bd = self.new_bld[:, step], self.out_bld[:, step]
        cell_bd = cell_bd + s_bd * leave_bd * (1 - out_bd.square())
        parts = (
            cell_bd * new_bd * enter_bd * (1 - enter_bd),
            cell_bd * self.cell_bld[:, step] * forget_bd * (1 - forget_bd),
            cell_bd * enter_bd * (1 - new_bd.square()),
            s_bd * out_bd * leave_bd * (1 - leave_bd),
        )
        return torch.cat(parts, dim=1), cell_bd * forget_bd

    def _context_gradient(self, context_bh: Tensor) -> Tensor:
        return (self.h_bth @ context_bh[..., None].to(self.h_bth.dtype))[..., 0]

    def _attention_gradient(self, step: int, weight_bt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of a step's query and filters, and of the attention before it."""
        attended_bt, left_bct = self.attended_blt[:, step], self.left_blct[:, step]
        energy_bt = attended_bt * (weight_bt - (attended_bt * weight_bt).sum(1, keepdim=True))
        place_ak, energy_1a = self.weights.place_ak, self.weights.energy_1a
        place_bka = place_ak.T.expand(len(left_bct), -1, -1)
        right_bca = torch.cat([place_bka, self.query_bla[:, step, None]], dim=1)
        inner_bta = torch.baddbmm(self.key_bta, left_bct.mT, right_bca).tanh_()
        self.grad_energy_a += energy_bt.flatten() @ inner_bta.flatten(0, 1)
        # z' (1 - tanh^2), with no other tensor of this size.
        inner_bta.square_().neg_().add_(1).mul_(energy_1a).mul_(energy_bt[..., None])
        self.grad_key_bta += inner_bta
        grad_right_bca = left_bct @ inner_bta
        self.grad_place_ka += grad_right_bca[:, :-1].sum(dim=0)
        place_bkt = (inner_bta @ place_ak).mT
        around_b1r = F.conv_transpose1d(place_bkt, self.weights.location_k1p)
        first = self.weights.location_k1p.shape[2] // 2
        before_bt = around_b1r[:, 0, first : first + attended_bt.shape[1]]
        return grad_right_bca[:, -1], place_bkt, before_bt

    def _sum_over_steps(
        self, gate_blg: Tensor, context_blh: Tensor, query_bla: Tensor, place_blkt: Tensor
    ) -> tuple[Tensor, ...]:
        """Of all steps, what is linear in them."""
        low, taps = self.h_bth.dtype, self.weights.location_k1p.shape[2]
        h_bth = self.attended_blt.mT.to(low) @ context_blh.to(low)
        near_np = self.around_blr.unfold(2, taps, 1).reshape(-1, taps)
        place_kn = place_blkt.movedim(2, 0).flatten(1)
        recurrent_gx = gate_blg.flatten(0, 1).T.to(low) @ self.seen_blx.flatten(0, 1)
        return (
            gate_blg.to(self.gate_blg.dtype),
            h_bth[:, None],
            self.grad_key_bta[:, None],
            query_bla.flatten(0, 1).T @ self.s_bld.flatten(0, 1),
            (place_kn @ near_np)[:, None],
            self.grad_place_ka.T,
            self.grad_energy_a[None],
            recurrent_gx.to(self.weights.recurrent_gx.dtype),
        )


def _shift_steps(x_bln: Tensor) -> Tensor:
    """What each step begins from: that of the step before, zeros at first."""
    return F.pad(x_bln, (0, 0, 1, -1))


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


def stack_frames(x_btf: Tensor, mask_bt: Tensor, stack: int) -> tuple[Tensor, Tensor]:
    """(B, T, F) and mask -> (B, T / stack, stack x F) and mask; zeros fill a last stack up."""
    missing = -x_btf.shape[1] % stack
    x_btf = F.pad(x_btf.masked_fill(~mask_bt[..., None], 0), (0, 0, 0, missing))
    return x_btf.reshape(len(x_btf), -1, stack * x_btf.shape[2]), mask_bt[:, ::stack]


Count = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class ASRConfig:
    """What may vary.

    Attributes:
        stack: neighbouring frames that are laid side by side as one.
        encoder_hidden: units of each direction of its BLSTMs.
        encoder_layers: of BLSTMs.
        decoder_hidden: units of its LSTM and of its tanh layer.
        decoder_words: channels of a word that the decoder is fed.
        decoder_attention: channels of its attention.
        decoder_filters: over its attention of the step before.
        decoder_taps: frames that one of these sees.
        state: what others read of a step: "hidden", the tanh layer, or "lstm".
        ctc: whether an auxiliary CTC reads the encoder.
        sampling: how often training goes on from the likeliest word instead of the true one.
        forced: whether true words are followed in evaluation, where they are known, as in training.
        beam: hypotheses of an utterance that the search keeps.
        longest: steps after which it stops.
        length_bonus: what it adds to the score of a hypothesis for each word.
        dropout: between two layers of BLSTMs.
    """

    stack: Count = 3
    encoder_hidden: Count = 320
    encoder_layers: Count = 5
    decoder_hidden: Count = 320
    decoder_words: Count = 320
    decoder_attention: Count = 320
    decoder_filters: Count = 10
    decoder_taps: Count = 100
    state: Literal["hidden", "lstm"] = "hidden"
    ctc: bool = False
    scheduled_sampling: Annotated[float, Ge(0), Le(1)] = 0.0
    teacher_forcing: bool = False
    beam: Count = 4
    max_steps: Count = 200
    length_bonus: float = 0.0
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.2


class ASROutput(NamedTuple):
    """What a recogniser makes of a batch.

    Attributes:
        transcript: of each utterance.
        state_bld: (B, L, D), the decoder's, over the words given or found.
        mask_bl: (B, L), its steps up to that of </s>: one for an utterance without words.
        weight_blt: (B, L, T'), where each step looked; zeros behind the last one.
    """

    transcript: TranscriptOutput
    state_bld: Tensor
    mask_bl: Tensor
    weight_blt: Tensor


class Seq2SeqASR(nn.Module):
    """Frames in; words, and the states of their decoder, out."""

    def __init__(self, config: ASRConfig, width: int, vocabulary: int) -> None:
        """Build it.

        Args:
            config: sizes.
            width: F.
            vocabulary: how many words there are, <s> and </s> among them.
        """
        super().__init__()
        self.config = config
        heard = 2 * config.encoder_hidden
        sizes = config.encoder_hidden, config.encoder_layers, config.dropout
        self.encoder = StackedBLSTM(config.stack * width, *sizes)
        self.decoder = AttentionDecoder(
            heard,
            vocabulary,
            hidden=config.decoder_hidden,
            words=config.decoder_words,
            attention=config.decoder_attention,
            filters=config.decoder_filters,
            taps=config.decoder_taps,
        )
        self.ctc = nn.Linear(heard, vocabulary) if config.ctc else None

    def forward(
        self, frames: tuple[Tensor, Tensor], words: tuple[Tensor, Tensor] | None = None
    ) -> ASROutput:
        """Frames (B, T, F) and mask, words (B, L - 1) and mask -> what was heard.

        Words are followed in training, and where the setting ``forced`` says so; else they are
        searched for.
        """
        h_bth, mask_bt = self.encode(*frames)
        if words is not None and (self.training or self.config.teacher_forcing):
            passed, mask_bl = self._run_decoder(h_bth, mask_bt, *words)
            logits_blv = self.decoder.output(passed.y_bld)
            ctc_btv = None if self.ctc is None else self.ctc(h_bth)
            told = TranscriptOutput(logits_blv, None, None, ctc_btv, mask_bt)
        else:
            found = self.search(h_bth, mask_bt)
            passed, mask_bl = self._run_decoder(h_bth, mask_bt, found.id_bl, found.id_bl >= 0)
            told = TranscriptOutput(None, found.id_bl, found.score_b, None, mask_bt, found.ended_b)
        state_bld = passed.y_bld if self.config.state == "hidden" else passed.s_bld
        return ASROutput(told, state_bld, mask_bl, passed.weight_blt * mask_bl[..., None])

    def encode(self, x_btf: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, T, F) and mask -> (B, T', H) and mask."""
        x_btf, mask_bt = stack_frames(x_btf, mask_bt, self.config.stack)
        return self.encoder(x_btf, mask_bt), mask_bt

    @torch.no_grad()
    def search(self, h_bth: Tensor, mask_bt: Tensor) -> BeamSearchResult:
        """The likeliest words of what was encoded, (B, T', H) and mask."""
        return beam_search(
            self.decoder.step,
            self.decoder.initial_state(h_bth, mask_bt),
            start=START_ID,
            end=END_ID,
            width=self.config.beam,
            max_length=self.config.max_steps,
            bonus=self.config.length_bonus,
        )

    def _run_decoder(
        self, h_bth: Tensor, mask_bt: Tensor, id_bl: Tensor, token_mask_bl: Tensor
    ) -> tuple[DecoderOutput, Tensor]:
        """Through the decoder over words: what it went through, and which steps are of words."""
        previous_bl = F.pad(id_bl.masked_fill(~token_mask_bl, END_ID), (1, 0), value=START_ID)
        own = self.config.scheduled_sampling if self.training else 0.0
        passed = self.decoder(h_bth, mask_bt, previous_bl, own=own)
        return passed, F.pad(token_mask_bl, (1, 0), value=True)
