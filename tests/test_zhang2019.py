"""Zhang et al. 2019 against the paper's equations, number by number, and against the obvious way.

Sections 3.1, 3.2 and 4.2, equations 1 to 4; at the end, the parts that make it fast.
"""

from typing import Any

import numpy as np
import pytest
import torch
from persegment import PerSegment
from torch import Tensor

from serein import config
from serein.errors import ConfigError
from serein.layers.correlation import correlate
from serein.layers.filters import maxima
from serein.layers.segments import SegmentConvolutions
from serein.models.zhang2019 import Config, Model
from serein.predict import steps

Array = np.ndarray[Any, np.dtype[np.float64]]
HOP = 24
SMALL = {"filters": 6, "taps": 8, "group": 3, "hidden": 5}
TASKS = ["arousal", "valence", "dominance"]


def made(hop: int = HOP, **settings: Any) -> Model:
    torch.manual_seed(0)
    sizes = config.build(Config, {**SMALL, **settings}, "model")
    return Model(sizes, hop, TASKS).double().eval()


def drawn(lengths: list[int], hop: int = HOP) -> tuple[Tensor, Tensor]:
    """Frames of these lengths, rubbish behind them, and their mask."""
    generator = torch.Generator().manual_seed(1)
    size = len(lengths), max(lengths), hop
    x_btf = torch.randn(size, generator=generator, dtype=torch.float64)
    mask_bt = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    x_btf[~mask_bt] *= 100
    return x_btf, mask_bt


# The paper, one number at a time


def kept_length(x: Array, weight: Array, bias: Array) -> Array:
    """A convolution that keeps length, and ReLU: (S, C) with taps (K, C, D) -> (S, D)."""
    taps = len(weight)
    before = (taps - 1) // 2
    silence = np.zeros((before, x.shape[1])), np.zeros((taps - 1 - before, x.shape[1]))
    padded = np.concatenate([silence[0], x, silence[1]])
    out = np.zeros((len(x), weight.shape[2]))
    for i in range(len(x)):
        for d in range(weight.shape[2]):
            out[i, d] = max(0.0, bias[d] + np.sum(padded[i : i + taps] * weight[:, :, d]))
    return out


def extracted(segment: Array, model: Model) -> Array:
    """Equation 1, as section 4.2 describes it."""
    sizes = model.config
    own = {name: p.detach().numpy() for name, p in model.convolutions.named_parameters()}
    x = kept_length(segment[:, None], own["weight1_kc"][:, None], own["bias1_c"])
    x = np.array([x[i : i + sizes.pool].max(axis=0) for i in range(0, len(x), sizes.pool)])
    x = kept_length(x, own["weight2_kcd"], own["bias2_c"])
    maps = [x[:, d : d + sizes.group].max(axis=1) for d in range(0, sizes.filters, sizes.group)]
    return np.stack(maps, axis=1).flatten()


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def recurrent(x: Array, gru: torch.nn.GRU, layer: int) -> Array:
    """Cho et al. 2014, the reset gate behind the recurrent product."""
    names = (f"{name}_l{layer}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    w, u, b, c = (getattr(gru, name).detach().numpy() for name in names)
    h, out = np.zeros(gru.hidden_size), []
    for v in x:
        (r, z, n), (s, y, m) = np.split(w @ v + b, 3), np.split(u @ h + c, 3)
        new = np.tanh(n + sigmoid(r + s) * m)
        h = (1 - sigmoid(z + y)) * new + sigmoid(z + y) * h
        out.append(h)
    return np.array(out)


def encoded(wave: Array, model: Model) -> tuple[Array, Array]:
    """A vector (tasks, D) and the weights (tasks, L) of one utterance's samples."""
    hop = model.convolutions.pool * model.convolutions.positions
    size = model.config.hops * hop
    wave = np.concatenate([wave, np.zeros(max(0, size - len(wave)))])
    starts = range(0, len(wave) - size + 1, hop)
    x = np.array([extracted(wave[start : start + size], model) for start in starts])
    for layer in range(model.config.layers):
        x = recurrent(x, model.gru, layer)  # equation 2
    if not model.config.attention:
        return np.array([x[-1]] * len(TASKS)), np.zeros((0, len(x)))
    sums, weights = [], []
    for w in model.attend.weight.detach().numpy():
        a = np.array([np.exp(w @ h) for h in x])
        a = a / a.sum()  # equation 4
        weights.append(a)
        sums.append(sum(weight * h for weight, h in zip(a, x, strict=True)))  # equation 3
    return np.array(sums), np.array(weights)


CASES: list[dict[str, Any]] = [
    {},
    {"taps": 7},
    {"taps": 3},
    {"taps": 4, "pool": 1},
    {"taps": 5, "pool": 3},
    {"taps": 4, "pool": 4},
    {"hops": 2, "layers": 1},
    {"hops": 5, "group": 6},
    {"group": 1, "attention": False},
]


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_it_is_what_the_paper_says(settings: dict[str, Any]) -> None:
    model = made(**settings)
    lengths = [9, 4, 1, 3, 6]
    x_btf, mask_bt = drawn(lengths)
    x_btf[4, 2:] = 0  # digital silence
    with torch.no_grad():
        answer = model((x_btf, mask_bt))
    for b, length in enumerate(lengths):
        r, a = encoded(x_btf[b, :length].flatten().numpy(), model)
        for task, vector, weight in zip(TASKS, r, a if len(a) else r, strict=True):
            np.testing.assert_allclose(answer.vectors[task][b], vector, atol=1e-12)
            if model.config.attention:
                found = answer.attention[task].weight[b, 0].numpy()
                assert np.count_nonzero(found) == len(weight)
                np.testing.assert_allclose(found[found > 0], weight, atol=1e-12)


def test_it_is_what_the_paper_says_in_the_papers_own_sizes() -> None:
    torch.manual_seed(0)
    model = Model(Config(), 160, TASKS).eval()
    x_btf = torch.randn(1, 5, 160)
    with torch.no_grad():
        answer = model((x_btf, torch.ones(1, 5, dtype=torch.bool)))
    r, a = encoded(x_btf.flatten().double().numpy(), model)
    for task, vector, weight in zip(TASKS, r, a, strict=True):
        np.testing.assert_allclose(answer.vectors[task][0], vector, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(answer.attention[task].weight[0, 0, 2:4], weight, rtol=1e-4)


def test_it_has_the_sizes_of_section_4_2() -> None:
    model = Model(Config(), 160, TASKS)
    count = {name: p.numel() for name, p in model.named_parameters()}
    assert count["convolutions.weight1_kc"] == 40 * 40
    assert count["convolutions.weight2_kcd"] == 40 * 40 * 40
    assert count["gru.weight_ih_l0"] == 3 * 128 * 1280
    assert count["gru.weight_hh_l1"] == 3 * 128 * 128
    assert count["attend.weight"] == 3 * 128
    assert model.width == 128
    assert model.dropout.probability == pytest.approx(0.1)
    assert "attend.weight" not in dict(
        Model(Config(attention=False), 160, TASKS).named_parameters()
    )


# The obvious way


def difference(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).detach().norm() / wanted.detach().norm())


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize(
    ("hop", "settings", "dtype", "most"),
    [
        (HOP, {}, torch.float64, 1e-10),
        (HOP, {"taps": 5, "pool": 3, "hops": 2}, torch.float64, 1e-10),
        (160, {"filters": 40, "taps": 40, "group": 10, "hidden": 128}, torch.float32, 1e-4),
    ],
    ids=["small", "odd", "paper"],
)
def test_outputs_and_gradients_are_those_of_every_segment_by_itself(
    hop: int, settings: dict[str, Any], dtype: torch.dtype, most: float, attention: bool
) -> None:
    model = made(hop, **settings, attention=attention).to(dtype)
    obvious = PerSegment(model, hop).to(dtype).eval()
    x_btf, mask_bt = drawn([12, 12], hop)
    x_btf = x_btf.to(dtype).requires_grad_()
    wave_bs = x_btf.detach().flatten(1).requires_grad_()
    found = torch.stack(list(model((x_btf, mask_bt)).vectors.values()), dim=1)
    wanted = obvious(wave_bs).expand_as(found)
    assert difference(found, wanted) < most
    weight_bhd = torch.randn_like(found)
    for answer in (found, wanted):
        torch.autograd.backward((answer * weight_bhd).sum())
    gradients = obvious.gradients()
    assert set(gradients) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert difference(parameter.grad, gradients[name]) < most, name
    assert x_btf.grad is not None
    assert wave_bs.grad is not None
    assert difference(x_btf.grad.flatten(1), wave_bs.grad) < most


def test_inexact_differs_at_the_ends_of_segments_alone() -> None:
    exact, inexact = made(), made(exact=False)
    wave_nf = drawn([9])[0][0]
    with torch.no_grad():
        one, other = exact.convolutions(wave_nf), inexact.convolutions(wave_nf)
    same_f = torch.isclose(one, other, atol=1e-12).all(dim=0).view(-1, 2).all(dim=1)
    # Of 8 taps, 3 look back and 4 ahead; after pooling by 2, 2 and 2 positions differ at first.
    assert same_f.tolist() == [False] * 5 + [True] * (48 - 11) + [False] * 6


# Batches, masks, times


def test_neighbours_in_a_batch_do_not_touch_each_other() -> None:
    model = made()
    lengths = [5, 2, 9, 4]
    x_btf, mask_bt = drawn(lengths)
    together = model((x_btf, mask_bt))
    for b, length in enumerate(lengths):
        alone = model((x_btf[b : b + 1, :length], mask_bt[b : b + 1, :length]))
        for task in TASKS:
            torch.testing.assert_close(together.vectors[task][b], alone.vectors[task][0])


def test_padding_gets_no_gradient() -> None:
    model = made()
    x_btf, mask_bt = drawn([5, 2, 9])
    x_btf.requires_grad_()
    torch.autograd.backward(torch.stack(list(model((x_btf, mask_bt)).vectors.values())).sum())
    assert x_btf.grad is not None
    assert (x_btf.grad[~mask_bt] == 0).all()
    assert (x_btf.grad[mask_bt] != 0).any(dim=1).all()


@pytest.mark.parametrize(
    ("length", "wanted"),
    [
        (7, [False, False, True, True, True, True, False]),
        (4, [False, False, True, False]),
        (3, [False, False, True]),
        (2, [False, True]),
        (1, [True]),
    ],
)
def test_a_segments_weight_stands_where_its_middle_is(length: int, wanted: list[bool]) -> None:
    attention = made()(drawn([length])).attention
    assert list(attention) == TASKS
    for weight_bht, stride in attention.values():
        assert (weight_bht[0, 0] > 0).tolist() == wanted
        assert float(weight_bht.detach().sum()) == pytest.approx(1)
        times = steps(length, stride, 0.01, length * 0.01)
        assert times == pytest.approx([0.01 * t for t in range(length)])  # 20 ms into the first


def test_each_task_looks_by_itself() -> None:
    attention = made()(drawn([9])).attention
    arousal, valence, dominance = (attention[task].weight for task in TASKS)
    assert not torch.allclose(arousal, valence)
    assert not torch.allclose(valence, dominance)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pool": 5}, "model.pool = 5 must divide a hop of 24 samples"),
        ({"group": 4}, "model.group = 4 must divide model.filters = 6"),
        ({"taps": 9}, "model.taps = 9 reach too far for a hop of 24 samples, 12 after pool"),
        ({"taps": 2}, r"model\.taps = 2"),
        ({"hops": 1}, r"model\.hops = 1"),
        ({"dropout": 1.0}, r"model\.dropout = 1"),
    ],
)
def test_sizes_that_cannot_be_are_told_of(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(**settings)


# The parts


@pytest.mark.parametrize(
    ("inputs", "outputs", "taps", "offset"),
    [(47, 8, 40, 0), (29, 29, 40, 0), (30, 30, 40, 39), (9, 20, 5, 2), (5, 1, 5, 0), (1, 1, 3, 1)],
)
def test_correlation_is_a_sum_over_taps(inputs: int, outputs: int, taps: int, offset: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x_rjc = torch.randn(300, inputs, 3, generator=generator, dtype=torch.float64)
    weight_kcd = torch.randn(taps, 3, 2, generator=generator, dtype=torch.float64)
    wanted = torch.zeros(300, outputs, 2, dtype=torch.float64)
    for i in range(outputs):
        for j in range(inputs):
            if 0 <= j - i + offset < taps:
                wanted[:, i] += x_rjc[:, j] @ weight_kcd[j - i + offset]
    torch.testing.assert_close(correlate(x_rjc, weight_kcd, outputs, offset), wanted)
    x_rjc, weight_kcd = x_rjc[:2].requires_grad_(), weight_kcd.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, w: correlate(x, w, outputs, offset), (x_rjc, weight_kcd)
    )


@pytest.mark.parametrize("pool", [1, 2, 3])
def test_maxima_are_torchs_and_so_is_their_gradient(pool: int) -> None:
    generator = torch.Generator().manual_seed(0)
    window_rw = torch.randn(600, 4 * pool + 6, generator=generator, dtype=torch.float64)
    window_rw[1] = 0  # all outputs alike: one of them gets the gradient
    weight_kc, bias_c = torch.randn(7, 5, dtype=torch.float64), torch.rand(5, dtype=torch.float64)
    leaves = [x.requires_grad_() for x in (window_rw, weight_kc, bias_c)]
    found_rjc = maxima(window_rw, weight_kc, bias_c, pool)
    y_rcs = torch.conv1d(window_rw[:, None], weight_kc.T[:, None], bias_c).relu()
    wanted_rjc = torch.max_pool1d(y_rcs, pool).mT
    torch.testing.assert_close(found_rjc, wanted_rjc)
    weight_rjc = torch.randn_like(found_rjc)
    pairs = zip(
        torch.autograd.grad((found_rjc * weight_rjc).sum(), leaves),
        torch.autograd.grad((wanted_rjc * weight_rjc).sum(), leaves),
        strict=True,
    )
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs)


def test_weights_are_drawn_as_torch_draws_them() -> None:
    torch.manual_seed(0)
    layer = SegmentConvolutions(160, 4, filters=40, taps=40, pool=2, group=10)
    for weight, bias, inputs in (
        (layer.weight1_kc, layer.bias1_c, 40),
        (layer.weight2_kcd, layer.bias2_c, 1600),
    ):
        for drawn_ in (weight, bias):
            assert 0.8 / inputs**0.5 < float(drawn_.detach().abs().max()) <= 1 / inputs**0.5
