"""All steps of a decoder with location-aware attention at once, for learning from given words.

Autograd would sum what each step says of what was heard, and of each weight, one large tensor after
the other, and keep the inner tanh of the attention for all steps. Here a step's tanh is made again,
and what is linear in all steps is one product behind the last one.

B = utterances, L = steps, T = frames of the encoder, H = its channels, D = units of the LSTM, G =
its gates, X = H + D, A = channels of the attention, K = filters, P = taps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

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
