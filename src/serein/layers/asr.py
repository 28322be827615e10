"""A sequence-to-sequence speech recogniser (ASR): BLSTM encoder, attention, LSTM decoder of words.

The decoder has location-aware attention: Chorowski et al. 2015, "Attention-Based Models for Speech
Recognition", section 2.2, as Feng et al. 2020 write it (equations 6-11):

    f_l = F * a_{l-1}
    e_lt = z' tanh(Z s_{l-1} + V h_t + U f_l + b),  a_l = softmax(e_l)
    g_l = a_l1 h_1 + a_l2 h_2 + ...
    s_l = LSTM(s_{l-1}, (w_{l-1}, g_l))
    y_l = tanh(W_g g_l + W_s s_l + c),  w_l ~ softmax(O y_l + d)

a_0 and s_0 are zeros. The window of a filter with an even number of taps has one frame more before
its position than after.

B = utterances, F = bins, T = frames (of the encoder: stacks of frames), L = steps of the decoder,
one for each word and one for </s>, W = beams of an utterance (1 in training), V = words of the
vocabulary, H = channels of the encoder, D = channels of s and y, A = channels of the attention,
K = filters, P = taps, G = gates of the LSTM, X = H + D.
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

Count = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class ASRConfig:
    """Sizes of the recogniser, and settings of its training and search.

    Attributes:
        stack: neighbouring frames that are concatenated to one.
        encoder_hidden: units of each direction of the encoder's BLSTMs.
        encoder_layers: number of BLSTM layers.
        decoder_hidden: units of the decoder's LSTM and of its tanh layer.
        decoder_words: channels of the embedding of the previous word.
        decoder_attention: channels of the attention.
        decoder_filters: number of filters over the attention of the previous step.
        decoder_taps: frames in the window of such a filter.
        state: which state of a step other models read: "hidden", the tanh layer, or "lstm".
        ctc: whether there is an auxiliary CTC layer on the encoder.
        scheduled_sampling: how often, in training, the previous word is the predicted one instead
            of the true one.
        teacher_forcing: whether the previous words are the true ones, where they are known, in
            evaluation too.
        beam: hypotheses of an utterance in beam search.
        max_steps: steps after which the search stops.
        length_bonus: added to the score of a hypothesis for each word.
        dropout: between two BLSTM layers.
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
    """Output of the recogniser for a batch.

    Attributes:
        transcript: logits or words of each utterance.
        state_bld: (B, L, D), states of the decoder over the true or the predicted words.
        mask_bl: (B, L), steps up to that of </s>: one for an utterance without words.
        weight_blt: (B, L, T), the attention of each step; zeros after the last one.
    """

    transcript: TranscriptOutput
    state_bld: Tensor
    mask_bl: Tensor
    weight_blt: Tensor


class Seq2SeqASR(nn.Module):
    """Frames in; words, and the states of their decoder, out."""

    def __init__(self, config: ASRConfig, width: int, vocabulary: int) -> None:
        """Build the network.

        Args:
            config: sizes.
            width: F.
            vocabulary: V, including <s> and </s>.
        """
        super().__init__()
        self.config = config
        channels = 2 * config.encoder_hidden
        sizes = config.encoder_hidden, config.encoder_layers, config.dropout
        self.encoder = StackedBLSTM(config.stack * width, *sizes)
        self.decoder = AttentionDecoder(
            channels,
            vocabulary,
            hidden=config.decoder_hidden,
            words=config.decoder_words,
            attention=config.decoder_attention,
            filters=config.decoder_filters,
            taps=config.decoder_taps,
        )
        self.ctc = nn.Linear(channels, vocabulary) if config.ctc else None

    def forward(
        self, frames: tuple[Tensor, Tensor], words: tuple[Tensor, Tensor] | None = None
    ) -> ASROutput:
        """Frames (B, T, F) and mask, words (B, L - 1) and mask -> transcript, states, attention.

        Given words are the decoder's input in training, and in evaluation with
        ``teacher_forcing``; otherwise beam search predicts the words.
        """
        h_bth, mask_bt = self.encode(*frames)
        if words is not None and (self.training or self.config.teacher_forcing):
            decoded, mask_bl = self._decode(h_bth, mask_bt, *words)
            logits_blv = self.decoder.output(decoded.y_bld)
            ctc_btv = None if self.ctc is None else self.ctc(h_bth)
            transcript = TranscriptOutput(logits_blv, None, None, ctc_btv, mask_bt)
        else:
            best = self.search(h_bth, mask_bt)
            decoded, mask_bl = self._decode(h_bth, mask_bt, best.id_bl, best.id_bl >= 0)
            transcript = TranscriptOutput(
                None, best.id_bl, best.score_b, None, mask_bt, best.ended_b
            )
        state_bld = decoded.y_bld if self.config.state == "hidden" else decoded.s_bld
        return ASROutput(transcript, state_bld, mask_bl, decoded.weight_blt * mask_bl[..., None])

    def encode(self, x_btf: Tensor, mask_bt: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, T, F) and mask -> encoder output (B, T', H) and mask."""
        x_btf, mask_bt = stack_frames(x_btf, mask_bt, self.config.stack)
        return self.encoder(x_btf, mask_bt), mask_bt

    @torch.no_grad()
    def search(self, h_bth: Tensor, mask_bt: Tensor) -> BeamSearchResult:
        """Return the likeliest words of encoder output (B, T, H) and mask."""
        return beam_search(
            self.decoder.step,
            self.decoder.initial_state(h_bth, mask_bt),
            start=START_ID,
            end=END_ID,
            width=self.config.beam,
            max_length=self.config.max_steps,
            bonus=self.config.length_bonus,
        )

    def _decode(
        self, h_bth: Tensor, mask_bt: Tensor, id_bl: Tensor, token_mask_bl: Tensor
    ) -> tuple["DecoderOutput", Tensor]:
        """Run the decoder over words; return its output and the mask of its steps (B, L)."""
        previous_bl = F.pad(id_bl.masked_fill(~token_mask_bl, END_ID), (1, 0), value=START_ID)
        sampling = self.config.scheduled_sampling if self.training else 0.0
        decoded = self.decoder(h_bth, mask_bt, previous_bl, sampling=sampling)
        return decoded, F.pad(token_mask_bl, (1, 0), value=True)


def stack_frames(x_btf: Tensor, mask_bt: Tensor, stack: int) -> tuple[Tensor, Tensor]:
    """Concatenate neighbouring frames, without overlap.

    Args:
        x_btf: (B, T, F).
        mask_bt: (B, T).
        stack: frames in one; the last ones are padded with zeros.

    Returns:
        (B, T / stack, stack x F) and its mask.
    """
    missing = -x_btf.shape[1] % stack
    x_btf = F.pad(x_btf.masked_fill(~mask_bt[..., None], 0), (0, 0, 0, missing))
    return x_btf.reshape(len(x_btf), -1, stack * x_btf.shape[2]), mask_bt[:, ::stack]


class DecoderState(NamedTuple):
    """State of the decoder between two steps; the beams of an utterance share the encoder output.

    Attributes:
        s_bwd: hidden state of the LSTM.
        cell_bwd: cell state of the LSTM.
        weight_bwt: a_l.
        h_b1th: encoder output.
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
    """Output of the decoder for all steps.

    Attributes:
        s_bld: hidden states of the LSTM.
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
        """Initialize the weights as torch's own layers do.

        Args:
            channels: H.
            vocabulary: V.
            hidden: D.
            words: channels of a word's embedding.
            attention: A.
            filters: K, of F.
            taps: P, frames in the window of a filter.
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
        """Encoder output (B, T, H) and its mask -> the state before the first word."""
        dtype = _wide_dtype(h_bth)
        zeros_b1d = h_bth.new_zeros(len(h_bth), 1, self.from_state.in_features, dtype=dtype)
        return DecoderState(
            s_bwd=zeros_b1d,
            cell_bwd=zeros_b1d,
            weight_bwt=torch.zeros_like(mask_bt, dtype=dtype)[:, None],
            h_b1th=h_bth[:, None],
            key_b1ta=self.key(h_bth).to(dtype)[:, None],
            mask_b1t=mask_bt[:, None],
        )

    def step(self, previous_bw: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, DecoderState]:
        """Previous words (B, W) -> log-probabilities (B, W, V) of the next ones, and the state.

        <s> has probability 0.
        """
        gate_bwg, before = self._embed_to_gates(previous_bw), DecoderState(*state)
        relative = not torch.is_grad_enabled()  # the faster form has no gradient
        context_bwh, after = self._advance(gate_bwg, before, relative=relative)
        logits_bwv = self.output(self._compute_hidden(context_bwh, after.s_bwd))
        score_bwv = logits_bwv.to(_wide_dtype(logits_bwv)).log_softmax(dim=-1)
        score_bwv[..., START_ID] = -torch.inf
        return score_bwv, after

    def forward(
        self, h_bth: Tensor, mask_bt: Tensor, previous_bl: Tensor, *, sampling: float = 0.0
    ) -> DecoderOutput:
        """Run all steps over given words.

        Args:
            h_bth: (B, T, H), encoder output.
            mask_bt: (B, T), False on padding.
            previous_bl: (B, L), the word before each step; <s> first.
            sampling: how often to replace the given word by the predicted one (scheduled sampling,
                Bengio et al. 2015), drawn for each step of each utterance.
        """
        state, gate_blg = self.initial_state(h_bth, mask_bt), self._embed_to_gates(previous_bl)
        if sampling:
            sampled_bl = torch.rand(previous_bl.shape, device=previous_bl.device) < sampling
            context_blh, s_bld, weight_blt = self._run_with_sampling(state, gate_blg, sampled_bl)
        else:
            layers = (self.query, self.location, self.place, self.energy, self.gates)
            weights = StepWeights(*(layer.weight for layer in layers))
            context_blh, s_bld, weight_blt = unroll_decoder(self._advance, state, gate_blg, weights)
        return DecoderOutput(s_bld, self._compute_hidden(context_blh, s_bld), weight_blt)

    def _run_with_sampling(
        self, state: DecoderState, gate_blg: Tensor, sampled_bl: Tensor
    ) -> tuple[Tensor, ...]:
        """Run step by step, since a predicted word may be the input of the next step."""
        steps: list[tuple[Tensor, Tensor, Tensor]] = []
        for step, gate_bg in enumerate(gate_blg.unbind(dim=1)):
            gate_b1g = gate_bg[:, None]
            if steps:
                predicted_b1g = self._embed_to_gates(self._predict_word(*steps[-1][:2]))
                gate_b1g = torch.where(sampled_bl[:, step, None, None], predicted_b1g, gate_b1g)
            context_b1h, state = self._advance(gate_b1g, state)
            steps.append((context_b1h, state.s_bwd, state.weight_bwt))
        return tuple(torch.cat(parts, dim=1) for parts in zip(*steps, strict=True))

    def _embed_to_gates(self, word_bl: Tensor) -> Tensor:
        """Words (B, L) -> their part of the gates (B, L, G)."""
        return self.word_gates(self.words(word_bl))

    def _compute_hidden(self, context_bwh: Tensor, s_bwd: Tensor) -> Tensor:
        """g_l and s_l -> y_l."""
        return torch.tanh(self.from_context(context_bwh) + self.from_state(s_bwd))

    @torch.no_grad()
    def _predict_word(self, context_b1h: Tensor, s_b1d: Tensor) -> Tensor:
        logits_b1v = self.output(self._compute_hidden(context_b1h, s_b1d))
        logits_b1v[..., START_ID] = -torch.inf
        return logits_b1v.argmax(dim=-1)

    def _advance(
        self, gate_bwg: Tensor, state: DecoderState, *, relative: bool = False
    ) -> tuple[Tensor, DecoderState]:
        """Run one step: return g_l (B, W, H) and the state after it.

        Args:
            gate_bwg: (B, W, G), the words' part of the gates.
            state: before the step.
            relative: whether to compute the attention from `_relative_energies`.
        """
        weight_bwt = self._attend(state, self._relative_energies if relative else None)
        context_bwh = weight_bwt.to(state.h_b1th.dtype) @ state.h_b1th[:, 0]
        gate_bwg = gate_bwg + self.gates(torch.cat([context_bwh, state.s_bwd], dim=-1))
        input_gate, forget_gate, candidate, output_gate = gate_bwg.chunk(4, dim=-1)
        kept_bwd = forget_gate.sigmoid() * state.cell_bwd
        cell_bwd = kept_bwd + input_gate.sigmoid() * candidate.tanh()
        s_bwd = output_gate.sigmoid() * cell_bwd.tanh()
        return context_bwh, state._replace(s_bwd=s_bwd, cell_bwd=cell_bwd, weight_bwt=weight_bwt)

    def _attend(self, state: DecoderState, energies: Callable[..., Tensor] | None = None) -> Tensor:
        """Return a_l, from a_{l-1} and s_{l-1}: (B, W, T), in fp32 or wider."""
        batch, beams, _ = state.s_bwd.shape
        filter_bwkt = self._location_features(state.weight_bwt).expand(-1, beams, -1, -1)
        query_bw1a = self.query(state.s_bwd)[:, :, None]
        # U f_l + Z s_{l-1} as one product: no large tensor for the sum.
        left_bwkt = torch.cat([filter_bwkt, torch.ones_like(filter_bwkt[:, :, :1])], dim=2)
        weight_bwka = self.place.weight.T.expand(batch, beams, -1, -1)
        right_bwka = torch.cat([weight_bwka, query_bw1a.to(weight_bwka.dtype)], dim=2)
        dtype = state.key_b1ta.dtype
        with torch.autocast(state.key_b1ta.device.type, enabled=False):  # tanh is slow in bf16
            parts = state.key_b1ta, left_bwkt.mT.to(dtype), right_bwka.to(dtype)
            score_bwt = (energies or self._attention_energies)(*parts)
            score_bwt = score_bwt.masked_fill(~state.mask_b1t, -torch.inf)
        return score_bwt.softmax(dim=-1)

    def _location_features(self, weight_bwt: Tensor) -> Tensor:
        """Return f_l: (B, W, T) -> (B, W, K, T)."""
        taps = self.location.kernel_size[0]
        padded_nt = F.pad(weight_bwt.flatten(0, 1), (taps // 2, (taps - 1) // 2))
        return self.location(padded_nt[:, None]).unflatten(0, weight_bwt.shape[:2])

    def _attention_energies(
        self, key_b1ta: Tensor, left_bwtk: Tensor, right_bwka: Tensor
    ) -> Tensor:
        """Return the energies z' tanh(keys + left right): (B, W, T)."""
        batch, beams, frames, _ = left_bwtk.shape
        energy_a = self.energy.weight[0].to(key_b1ta.dtype)
        if torch.is_grad_enabled():
            key_nta = key_b1ta.expand(-1, beams, -1, -1).flatten(0, 1)
            sum_nta = torch.baddbmm(key_nta, left_bwtk.flatten(0, 1), right_bwka.flatten(0, 1))
            return (sum_nta.tanh() @ energy_a).view(batch, beams, frames)
        energy_bwt = left_bwtk.new_empty(batch, beams, frames)
        sum_wta = key_b1ta.new_empty(beams, frames, len(energy_a))  # fits the cache of a CPU core
        parts = key_b1ta, left_bwtk, right_bwka, energy_bwt
        for key_1ta, left_wtk, right_wka, energy_wt in zip(*parts, strict=True):
            torch.bmm(left_wtk, right_wka, out=sum_wta)
            torch.mv(sum_wta.add_(key_1ta).tanh_().flatten(0, 1), energy_a, out=energy_wt.view(-1))
        return energy_bwt

    def _relative_energies(self, key_b1ta: Tensor, left_bwtk: Tensor, right_bwka: Tensor) -> Tensor:
        """Return the energies plus the sum of z, which the softmax removes: (B, W, T).

        z' tanh(x) = 2 z' sigmoid(2 x) - sum of z. On a CPU the sigmoid takes a sixth of the time of
        the tanh, which would be more than half of a step of the search. There is no gradient.
        """
        _, beams, frames, _ = left_bwtk.shape
        energy_bwt = torch.empty_like(left_bwtk[..., 0])
        double_energy_a = 2 * self.energy.weight[0].to(key_b1ta.dtype)
        sum_wta = key_b1ta.new_empty(beams, frames, len(double_energy_a))
        parts = key_b1ta, left_bwtk, right_bwka, energy_bwt
        for key_1ta, left_wtk, right_wka, energy_wt in zip(*parts, strict=True):
            key_wta = key_1ta.expand(beams, -1, -1)
            torch.baddbmm(key_wta, left_wtk, right_wka, beta=2, alpha=2, out=sum_wta)
            torch.mv(sum_wta.sigmoid_().flatten(0, 1), double_energy_a, out=energy_wt.view(-1))
        return energy_bwt


def _wide_dtype(x: Tensor) -> torch.dtype:
    """Return the type for sums and softmaxes: fp32 or wider."""
    return torch.promote_types(x.dtype, torch.float32)


# All steps with given words, with a gradient by hand. Autograd would add up the gradients of the
# encoder output and of each weight step by step, one large tensor after the other, and keep the
# inner tanh of the attention of all steps. Here the tanh of a step is computed again, and the
# gradients that are linear in all steps are one product after the last one: a training step of 35
# words takes 1/2.4 of the time.

DecoderStep = Callable[[Tensor, Any], tuple[Tensor, Any]]


class StepWeights(NamedTuple):
    """Weights that every step uses: Z, F, U, z, and those of the LSTM for g and s."""

    query_ad: Tensor
    location_k1p: Tensor
    place_ak: Tensor
    energy_1a: Tensor
    recurrent_gx: Tensor


def unroll_decoder(
    step: DecoderStep, state: Any, gate_blg: Tensor, weights: StepWeights
) -> tuple[Tensor, Tensor, Tensor]:
    """Run all steps over the words' part of the gates.

    Args:
        step: one step of the decoder.
        state: before the first one; all zeros except the encoder output and its keys.
        gate_blg: (B, L, G).
        weights: those that ``step`` uses.

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
        backward = _UnrolledBackward(gate_blg, h_b1th[:, 0], key_b1ta[:, 0], *rest)
        return (None, None, *backward.run(*grads))


class _UnrolledBackward:
    """Backward pass over all steps; its values of the forward pass are computed again at once."""

    def __init__(self, gate_blg: Tensor, h_bth: Tensor, key_bta: Tensor, *rest: Tensor) -> None:
        *weights, context_blh, s_bld, weight_blt, cell_bld = rest
        self.gate_blg, self.h_bth, self.key_bta = gate_blg, h_bth, key_bta
        self.weights, self.attention_blt = StepWeights(*weights), weight_blt
        before = map(_shift_steps, (s_bld, weight_blt, cell_bld))
        self.s_before_bld, self.attention_before_blt, self.cell_before_bld = before
        self.recurrent_gx = self.weights.recurrent_gx.to(h_bth.dtype)
        self.input_blx = torch.cat([context_blh, self.s_before_bld.to(h_bth.dtype)], dim=2)
        gates_blg = (gate_blg + self.input_blx @ self.recurrent_gx.T).to(s_bld.dtype)
        input_gate, forget_gate, candidate, output_gate = gates_blg.chunk(4, dim=2)
        self.gate_bljd = torch.stack([input_gate, forget_gate, output_gate], dim=2).sigmoid()
        self.candidate_bld, self.tanh_cell_bld = candidate.tanh(), cell_bld.tanh()
        taps = self.weights.location_k1p.shape[2]
        self.padded_blr = F.pad(self.attention_before_blt, (taps // 2, (taps - 1) // 2))
        filters_nkt = F.conv1d(self.padded_blr.flatten(0, 1)[:, None], self.weights.location_k1p)
        filters_blkt = filters_nkt.view(*weight_blt.shape[:2], *filters_nkt.shape[1:])
        self.left_blct = torch.cat([filters_blkt, torch.ones_like(filters_blkt[:, :, :1])], dim=2)
        self.query_bla = self.s_before_bld @ self.weights.query_ad.T

    def run(
        self, grad_context_blh: Tensor, grad_s_bld: Tensor, grad_weight_blt: Tensor
    ) -> tuple[Tensor, ...]:
        """Return the gradients of the gates, the encoder output, its keys, and each weight."""
        channels = self.h_bth.shape[2]
        self.grad_key_bta = torch.zeros_like(self.key_bta)
        self.grad_energy_a = torch.zeros_like(self.key_bta[0, 0])
        self.grad_place_ka = torch.zeros_like(self.weights.place_ak.T)
        s_bd, cell_bd, weight_bt = (
            torch.zeros_like(x[:, 0]) for x in (grad_s_bld, self.cell_before_bld, grad_weight_blt)
        )
        steps = []
        for step in reversed(range(self.gate_blg.shape[1])):
            gate_bg, cell_bd = self._lstm_gradient(step, grad_s_bld[:, step] + s_bd, cell_bd)
            input_bx = gate_bg.to(self.recurrent_gx.dtype) @ self.recurrent_gx
            context_bh = grad_context_blh[:, step] + input_bx[:, :channels]
            weighted_bt = (self.h_bth @ context_bh[..., None].to(self.h_bth.dtype))[..., 0]
            weight_bt = grad_weight_blt[:, step] + weight_bt + weighted_bt
            query_ba, filter_bkt, weight_bt = self._attention_gradient(step, weight_bt)
            s_bd = input_bx[:, channels:] + query_ba @ self.weights.query_ad
            steps.append((gate_bg, context_bh, query_ba, filter_bkt))
        return self._sum_over_steps(*(torch.stack(x[::-1], 1) for x in zip(*steps, strict=True)))

    def _lstm_gradient(self, step: int, s_bd: Tensor, cell_bd: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of a step's gates, and of the cell before it."""
        input_bd, forget_bd, output_bd = self.gate_bljd[:, step].unbind(1)
        candidate_bd, tanh_bd = self.candidate_bld[:, step], self.tanh_cell_bld[:, step]
        cell_bd = cell_bd + s_bd * output_bd * (1 - tanh_bd.square())
        parts = (
            cell_bd * candidate_bd * input_bd * (1 - input_bd),
            cell_bd * self.cell_before_bld[:, step] * forget_bd * (1 - forget_bd),
            cell_bd * input_bd * (1 - candidate_bd.square()),
            s_bd * tanh_bd * output_bd * (1 - output_bd),
        )
        return torch.cat(parts, dim=1), cell_bd * forget_bd

    def _attention_gradient(self, step: int, weight_bt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of a step's query and filters, and of the attention before it."""
        attention_bt, left_bct = self.attention_blt[:, step], self.left_blct[:, step]
        energy_bt = attention_bt * (weight_bt - (attention_bt * weight_bt).sum(1, keepdim=True))
        place_ak, energy_1a = self.weights.place_ak, self.weights.energy_1a
        place_bka = place_ak.T.expand(len(left_bct), -1, -1)
        right_bca = torch.cat([place_bka, self.query_bla[:, step, None]], dim=1)
        inner_bta = torch.baddbmm(self.key_bta, left_bct.mT, right_bca).tanh_()
        self.grad_energy_a += energy_bt.flatten() @ inner_bta.flatten(0, 1)
        # z' (1 - tanh^2), in place.
        inner_bta.square_().neg_().add_(1).mul_(energy_1a).mul_(energy_bt[..., None])
        self.grad_key_bta += inner_bta
        grad_right_bca = left_bct @ inner_bta
        self.grad_place_ka += grad_right_bca[:, :-1].sum(dim=0)
        filter_bkt = (inner_bta @ place_ak).mT
        padded_b1r = F.conv_transpose1d(filter_bkt, self.weights.location_k1p)
        first = self.weights.location_k1p.shape[2] // 2
        before_bt = padded_b1r[:, 0, first : first + attention_bt.shape[1]]
        return grad_right_bca[:, -1], filter_bkt, before_bt

    def _sum_over_steps(
        self, gate_blg: Tensor, context_blh: Tensor, query_bla: Tensor, filter_blkt: Tensor
    ) -> tuple[Tensor, ...]:
        """Return all gradients, those that are linear in all steps as one product each."""
        dtype, taps = self.h_bth.dtype, self.weights.location_k1p.shape[2]
        h_bth = self.attention_blt.mT.to(dtype) @ context_blh.to(dtype)
        window_np = self.padded_blr.unfold(2, taps, 1).reshape(-1, taps)
        filter_kn = filter_blkt.movedim(2, 0).flatten(1)
        recurrent_gx = gate_blg.flatten(0, 1).T.to(dtype) @ self.input_blx.flatten(0, 1)
        return (
            gate_blg.to(self.gate_blg.dtype),
            h_bth[:, None],
            self.grad_key_bta[:, None],
            query_bla.flatten(0, 1).T @ self.s_before_bld.flatten(0, 1),
            (filter_kn @ window_np)[:, None],
            self.grad_place_ka.T,
            self.grad_energy_a[None],
            recurrent_gx.to(self.weights.recurrent_gx.dtype),
        )


def _shift_steps(x_bln: Tensor) -> Tensor:
    """Return the value before each step: that of the previous step, zeros at first."""
    return F.pad(x_bln, (0, 0, 1, -1))
