"""The ASR decoder against its equations in NumPy, and its steps against all steps at once."""

import numpy as np
import pytest
import torch
from builders.numpy_layers import run_decoder, to_array
from torch import Tensor

from serein.layers.asr import AttentionDecoder, DecoderState
from serein.layers.outputs import START_ID

LENGTHS = [7, 3, 1, 12]
WORDS = 9
CHANNELS = 5


def build_decoder(taps: int = 4, attention: int = 6) -> AttentionDecoder:
    torch.manual_seed(0)
    sizes = {"hidden": 4, "words": 3, "attention": attention, "filters": 2, "taps": taps}
    return AttentionDecoder(CHANNELS, WORDS, **sizes).double()


def encoder_output(lengths: list[int] = LENGTHS) -> tuple[Tensor, Tensor]:
    """Random values, also on padding."""
    torch.manual_seed(1)
    h_bth = torch.randn(len(lengths), max(lengths) + 2, CHANNELS, dtype=torch.float64)
    return h_bth, torch.arange(h_bth.shape[1]) < torch.tensor(lengths)[:, None]


def target_words(count: int = 4, steps: int = 5) -> Tensor:
    previous_bl = torch.randint(
        2, WORDS, (count, steps), generator=torch.Generator().manual_seed(2)
    )
    previous_bl[:, 0] = START_ID
    return previous_bl


@pytest.mark.parametrize("taps", [1, 2, 3, 4, 100])
@pytest.mark.parametrize("learning", [True, False])
def test_decoder_matches_equations_6_to_11(taps: int, learning: bool) -> None:
    decoder, (h_bth, mask_bt), previous_bl = build_decoder(taps), encoder_output(), target_words()
    with torch.set_grad_enabled(learning):
        passed = decoder(h_bth, mask_bt, previous_bl)
    for b, length in enumerate(LENGTHS):
        wanted = run_decoder(decoder, to_array(h_bth[b, :length]), previous_bl[b].tolist())
        np.testing.assert_allclose(to_array(passed.s_bld[b]), wanted.s, atol=1e-12)
        np.testing.assert_allclose(to_array(passed.y_bld[b]), wanted.y, atol=1e-12)
        weights = to_array(passed.weight_blt[b])
        np.testing.assert_allclose(weights[:, :length], wanted.weights, atol=1e-12)
        assert (weights[:, length:] == 0).all()


@torch.no_grad()
def test_decoder_steps_equal_forward_over_given_words() -> None:
    decoder, (h_bth, mask_bt), previous_bl = build_decoder(), encoder_output(), target_words()
    passed = decoder(h_bth, mask_bt, previous_bl)
    state = decoder.initial_state(h_bth, mask_bt)
    for step, previous_b in enumerate(previous_bl.T):
        score_b1v, state = decoder.step(previous_b[:, None], state)
        wanted_bv = decoder.output(passed.y_bld[:, step]).log_softmax(dim=-1)
        torch.testing.assert_close(score_b1v[:, 0, 1:], wanted_bv[:, 1:])
        assert (score_b1v[..., START_ID] == -torch.inf).all()
        torch.testing.assert_close(state.s_bwd[:, 0], passed.s_bld[:, step])
        torch.testing.assert_close(state.weight_bwt[:, 0], passed.weight_blt[:, step])


@torch.no_grad()
def test_energies_of_the_search_lack_a_constant() -> None:
    """The search computes 2 z' sigmoid(2 x) in place of z' tanh(x): the sum of z more."""
    decoder = build_decoder(attention=6)
    key_b1ta, left_bwtk, right_bwka = (
        torch.randn(sizes, dtype=torch.float64) * 3
        for sizes in ((3, 1, 12, 6), (3, 4, 12, 5), (3, 4, 5, 6))
    )
    literal_bwt = (key_b1ta + left_bwtk @ right_bwka).tanh() @ decoder.energy.weight[0]
    parts = key_b1ta, left_bwtk, right_bwka
    torch.testing.assert_close(decoder._attention_energies(*parts), literal_bwt)
    constant_bwt = decoder._relative_energies(*parts) - literal_bwt
    torch.testing.assert_close(constant_bwt, decoder.energy.weight.sum().expand(3, 4, 12))


def test_step_is_the_same_with_and_without_gradient() -> None:
    decoder, (h_bth, mask_bt), previous_bl = build_decoder(), encoder_output(), target_words()
    state = decoder.initial_state(h_bth, mask_bt)
    score_b1v, after = decoder.step(previous_bl[:, 1:2], state)
    with torch.no_grad():
        found_b1v, found_after = decoder.step(previous_bl[:, 1:2], state)
    assert score_b1v.requires_grad
    assert not found_b1v.requires_grad
    torch.testing.assert_close(found_b1v, score_b1v.detach())
    torch.testing.assert_close(found_after.weight_bwt, after.weight_bwt.detach())


@torch.no_grad()
def test_decoder_beams_are_independent() -> None:
    """Compare three beams of each utterance with three copies of the utterance."""
    decoder, (h_bth, mask_bt), previous_bl = build_decoder(), encoder_output(), target_words(12)
    apart = decoder(*(x.repeat_interleave(3, dim=0) for x in (h_bth, mask_bt)), previous_bl)
    state: DecoderState = decoder.initial_state(h_bth, mask_bt)
    for step in range(previous_bl.shape[1]):
        score_bwv, state = decoder.step(previous_bl[:, step].view(4, 3), state)
        wanted_nv = decoder.output(apart.y_bld[:, step]).log_softmax(dim=-1)
        torch.testing.assert_close(score_bwv.flatten(0, 1)[:, 1:], wanted_nv[:, 1:])
    assert state.h_b1th.shape[1] == state.key_b1ta.shape[1] == 1
    assert state.h_b1th.data_ptr() == h_bth.data_ptr()


@pytest.mark.parametrize("learning", [True, False])
def test_decoder_ignores_padding_and_other_utterances(learning: bool) -> None:
    decoder, (h_bth, mask_bt), previous_bl = build_decoder(), encoder_output(), target_words()
    with torch.set_grad_enabled(learning):
        together = decoder(h_bth, mask_bt, previous_bl)
        for b, length in enumerate(LENGTHS):
            alone = decoder(
                h_bth[b : b + 1, :length], mask_bt[b : b + 1, :length], previous_bl[b : b + 1]
            )
            torch.testing.assert_close(together.y_bld[b], alone.y_bld[0])
            torch.testing.assert_close(together.weight_blt[b, :, :length], alone.weight_blt[0])


def objective(decoder: AttentionDecoder, h_bth: Tensor, mask_bt: Tensor, weight: Tensor) -> Tensor:
    passed = decoder(h_bth, mask_bt, target_words())
    logits_blv = decoder.output(passed.y_bld)
    return (logits_blv * weight).sum() + passed.s_bld.sum() + passed.weight_blt[..., 0].sum()


def test_gradients_match_finite_differences() -> None:
    decoder, (h_bth, mask_bt) = build_decoder(), encoder_output()
    weight = torch.randn(4, 5, WORDS, dtype=torch.float64)
    h_bth.requires_grad_()
    torch.autograd.backward(objective(decoder, h_bth, mask_bt, weight))
    watched = {"h": h_bth, **dict(decoder.named_parameters())}
    for name, parameter in watched.items():
        direction = torch.randn_like(parameter)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * 1e-6 * direction
                values.append(float(objective(decoder, h_bth, mask_bt, weight)))
                parameter -= sign * 1e-6 * direction
        assert parameter.grad is not None
        slope = float((parameter.grad * direction).sum())
        assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-7), name
        assert slope != 0


def gradients(
    decoder: AttentionDecoder, *, sampling: float = 0.0, low: bool = False
) -> dict[str, Tensor]:
    """Return the gradients of all weights and of the encoder output."""
    h_bth, mask_bt = encoder_output()
    h_bth = h_bth.to(decoder.output.weight.dtype).requires_grad_()
    decoder.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        heard_bth = h_bth.bfloat16() if low else h_bth
        passed = decoder(heard_bth, mask_bt, target_words(), sampling=sampling)
        logits_blv = decoder.output(passed.y_bld)
    cost = logits_blv.square().sum() + passed.s_bld.sum() + passed.weight_blt.square().sum()
    torch.autograd.backward(cost)
    found = {"h": h_bth, **dict(decoder.named_parameters())}
    return {name: x.grad for name, x in found.items() if x.grad is not None}


@pytest.mark.parametrize("taps", [1, 4, 100])
def test_gradients_match_autograd(taps: int) -> None:
    """With a sampling rate near 0, the loop over steps uses the given words, under autograd."""
    found, wanted = gradients(build_decoder(taps)), gradients(build_decoder(taps), sampling=1e-12)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-10, rtol=1e-8)


def test_gradients_in_bf16_are_close() -> None:
    found, wanted = (
        gradients(build_decoder(attention=32).float(), low=low) for low in (True, False)
    )
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert found[name].dtype == torch.float32
        assert (found[name] - gradient).norm() <= 0.05 * gradient.norm() + 1e-4, name


def test_padding_gets_no_gradient() -> None:
    decoder, (h_bth, mask_bt) = build_decoder(), encoder_output()
    h_bth.requires_grad_()
    torch.autograd.backward(decoder(h_bth, mask_bt, target_words()).y_bld.sum())
    assert h_bth.grad is not None
    assert (h_bth.grad[~mask_bt] == 0).all()
    assert (h_bth.grad[mask_bt].abs().sum(dim=1) > 0).all()


def test_full_sampling_uses_predicted_words() -> None:
    decoder, (h_bth, mask_bt), previous_bl = (
        build_decoder(),
        encoder_output(),
        target_words(steps=12),
    )
    decoded = decoder(h_bth, mask_bt, previous_bl, sampling=1.0)
    logits_blv = decoder.output(decoded.y_bld)
    logits_blv[..., START_ID] = -torch.inf
    likeliest_bl = logits_blv.argmax(dim=-1)
    fed_bl = torch.cat([previous_bl[:, :1], likeliest_bl[:, :-1]], dim=1)
    assert (fed_bl != previous_bl).any()
    torch.testing.assert_close(decoded.y_bld, decoder(h_bth, mask_bt, fed_bl).y_bld)


def test_sampling_depends_on_the_seed() -> None:
    decoder, (h_bth, mask_bt), previous_bl = (
        build_decoder(),
        encoder_output(),
        target_words(steps=12),
    )
    answers = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        answers.append(decoder(h_bth, mask_bt, previous_bl, sampling=0.5).y_bld)
    plain_bld = decoder(h_bth, mask_bt, previous_bl).y_bld
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])
    torch.testing.assert_close(answers[0][:, 0], plain_bld[:, 0])
    same_bl = (answers[0] - plain_bld).abs().amax(dim=-1) < 1e-12
    assert 0 < same_bl[:, 1:].sum() < same_bl[:, 1:].numel()


@pytest.mark.parametrize("learning", [True, False])
def test_bf16_output_is_close_and_attention_is_fp32(learning: bool) -> None:
    decoder = build_decoder(attention=32).float()
    h_bth, mask_bt = encoder_output()
    with torch.set_grad_enabled(learning):
        wanted = decoder(h_bth.float(), mask_bt, target_words())
        with torch.autocast("cpu", torch.bfloat16):
            found = decoder(h_bth.bfloat16(), mask_bt, target_words())
            score_b1v, _ = decoder.step(
                target_words()[:, :1], decoder.initial_state(h_bth.bfloat16(), mask_bt)
            )
    assert found.weight_blt.dtype == score_b1v.dtype == torch.float32
    torch.testing.assert_close(found.weight_blt.sum(dim=-1), torch.ones(4, 5))
    torch.testing.assert_close(found.y_bld.float(), wanted.y_bld, atol=0.02, rtol=0)
    torch.testing.assert_close(found.weight_blt, wanted.weight_blt, atol=0.02, rtol=0)
