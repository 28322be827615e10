"""Zhang et al. 2019 against the paper's equations, and against plain convolutions of segments.

Sections 3.1, 3.2 and 4.2, equations 1 to 4.
"""

from typing import Any

import numpy as np
import pytest
import torch
from builders.zhang2019_per_segment import PerSegment
from torch import Tensor

from serein import config, recipes
from serein.bundle import Bundle, Card
from serein.errors import ConfigError
from serein.inference.recognizer import Recognizer
from serein.models.zhang2019 import Config, Model
from serein.system import System, attention_step_times, predict_batch
from serein.training.dataset import compute_frames

Array = np.ndarray[Any, np.dtype[np.float64]]
HOP = 24
SMALL = {"filters": 6, "taps": 8, "group": 3, "hidden": 5}
TASKS = ["arousal", "valence", "dominance"]


def build_model(hop: int = HOP, **settings: Any) -> Model:
    torch.manual_seed(0)
    sizes = config.build_config(Config, {**SMALL, **settings}, "model")
    return Model(sizes, hop, TASKS).double().eval()


def random_frames(lengths: list[int], hop: int = HOP, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Random frames of these lengths, also on padding, and their mask."""
    generator = torch.Generator().manual_seed(seed)
    size = len(lengths), max(lengths), hop
    x_btf = torch.randn(size, generator=generator, dtype=torch.float64)
    mask_bt = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    x_btf[~mask_bt] *= 100
    return x_btf, mask_bt


# The paper's equations


def convolve_same(x: Array, weight: Array, bias: Array) -> Array:
    """Convolution that keeps the length, and ReLU: (S, C) with taps (K, C, D) -> (S, D)."""
    taps = len(weight)
    before = (taps - 1) // 2
    silence = np.zeros((before, x.shape[1])), np.zeros((taps - 1 - before, x.shape[1]))
    padded = np.concatenate([silence[0], x, silence[1]])
    out = np.zeros((len(x), weight.shape[2]))
    for i in range(len(x)):
        for d in range(weight.shape[2]):
            out[i, d] = max(0.0, bias[d] + np.sum(padded[i : i + taps] * weight[:, :, d]))
    return out


def extract_in_numpy(segment: Array, model: Model) -> Array:
    """Equation 1, as section 4.2 describes it."""
    sizes = model.config
    own = {name: p.detach().numpy() for name, p in model.convolutions.named_parameters()}
    x = convolve_same(segment[:, None], own["weight1_kc"][:, None], own["bias1_c"])
    x = np.array([x[i : i + sizes.pool].max(axis=0) for i in range(0, len(x), sizes.pool)])
    x = convolve_same(x, own["weight2_kcd"], own["bias2_c"])
    maps = [x[:, d : d + sizes.group].max(axis=1) for d in range(0, sizes.filters, sizes.group)]
    return np.stack(maps, axis=1).flatten()


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def recurrent(x: Array, gru: torch.nn.GRU, layer: int) -> Array:
    """Cho et al. 2014, with the reset gate after the recurrent product."""
    names = (f"{name}_l{layer}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    w, u, b, c = (getattr(gru, name).detach().numpy() for name in names)
    h, out = np.zeros(gru.hidden_size), []
    for v in x:
        (r, z, n), (s, y, m) = np.split(w @ v + b, 3), np.split(u @ h + c, 3)
        new = np.tanh(n + sigmoid(r + s) * m)
        h = (1 - sigmoid(z + y)) * new + sigmoid(z + y) * h
        out.append(h)
    return np.array(out)


def encode_in_numpy(wave: Array, model: Model) -> tuple[Array, Array]:
    """A vector (tasks, D) and the weights (tasks, L) of one utterance's samples."""
    hop = model.convolutions.pool * model.convolutions.positions
    size = model.config.hops * hop
    wave = np.concatenate([wave, np.zeros(max(0, size - len(wave)))])
    starts = range(0, len(wave) - size + 1, hop)
    x = np.array([extract_in_numpy(wave[start : start + size], model) for start in starts])
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
def test_zhang2019_matches_the_equations(settings: dict[str, Any]) -> None:
    model = build_model(**settings)
    lengths = [9, 4, 1, 3, 6]
    x_btf, mask_bt = random_frames(lengths)
    x_btf[4, 2:] = 0  # digital silence
    with torch.no_grad():
        answer = model((x_btf, mask_bt))
    for b, length in enumerate(lengths):
        r, a = encode_in_numpy(x_btf[b, :length].flatten().numpy(), model)
        for task, vector, weight in zip(TASKS, r, a if len(a) else r, strict=True):
            np.testing.assert_allclose(answer.vectors[task][b], vector, atol=1e-12)
            if model.config.attention:
                found = answer.attention[task].weight[b, 0].numpy()
                assert np.count_nonzero(found) == len(weight)
                np.testing.assert_allclose(found[found > 0], weight, atol=1e-12)


def test_zhang2019_matches_the_equations_in_paper_sizes() -> None:
    torch.manual_seed(0)
    model = Model(Config(), 160, TASKS).eval()
    x_btf = torch.randn(1, 5, 160)
    with torch.no_grad():
        answer = model((x_btf, torch.ones(1, 5, dtype=torch.bool)))
    r, a = encode_in_numpy(x_btf.flatten().double().numpy(), model)
    for task, vector, weight in zip(TASKS, r, a, strict=True):
        np.testing.assert_allclose(answer.vectors[task][0], vector, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(answer.attention[task].weight[0, 0, 2:4], weight, rtol=1e-4)


def test_zhang2019_sizes_are_those_of_section_4_2() -> None:
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


# Segment by segment


def max_difference(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).detach().norm() / wanted.detach().norm())


def compare_with_segments(model: Model, hop: int, seed: int) -> tuple[float, float]:
    """Return the largest differences of outputs, and of gradients, to single segments."""
    dtype = model.convolutions.bias1_c.dtype
    obvious = PerSegment(model, hop).to(dtype).eval()
    x_btf, mask_bt = random_frames([8, 8], hop, seed)
    x_btf = x_btf.to(dtype).requires_grad_()
    wave_bs = x_btf.detach().flatten(1).requires_grad_()
    found = torch.stack(list(model((x_btf, mask_bt)).vectors.values()), dim=1)
    wanted = obvious(wave_bs).expand_as(found)
    weight_bhd = torch.randn_like(found)
    model.zero_grad()
    for r_bhd in (found, wanted):
        torch.autograd.backward((r_bhd * weight_bhd).sum())
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    theirs = obvious.gradients()
    assert set(ours) == set(theirs)
    pairs = [(ours[name], theirs[name]) for name in ours] + [(x_btf.grad, wave_bs.grad)]
    apart = [max_difference(a, b.view_as(a)) for a, b in pairs if a is not None and b is not None]
    assert len(apart) == len(ours) + 1
    return max_difference(found, wanted), max(apart)


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
def test_segment_convolutions_match_single_segments(
    hop: int, settings: dict[str, Any], dtype: torch.dtype, most: float, attention: bool
) -> None:
    model = build_model(hop, **settings, attention=attention).to(dtype)
    outputs, gradients = zip(
        *(compare_with_segments(model, hop, seed) for seed in range(3)), strict=True
    )
    assert max(outputs) < most
    # Two of thousands of outputs may differ by one bit of fp32, so that the gradient of their
    # maximum goes to another one by chance: compare the median of three draws.
    assert sorted(gradients)[1] < most


def test_without_zero_padding_only_segment_ends_differ() -> None:
    exact, inexact = build_model(), build_model(zero_pad_segments=False)
    wave_nf = random_frames([9])[0][0]
    with torch.no_grad():
        one, other = exact.convolutions(wave_nf), inexact.convolutions(wave_nf)
    same_f = torch.isclose(one, other, atol=1e-12).all(dim=0).view(-1, 2).all(dim=1)
    # Of 8 taps, 3 look back and 4 ahead; after pooling by 2, 2 and 2 positions differ at first.
    assert same_f.tolist() == [False] * 5 + [True] * (48 - 11) + [False] * 6


# Batches, masks, times


def test_zhang2019_utterances_are_independent() -> None:
    model = build_model()
    lengths = [5, 2, 9, 4]
    x_btf, mask_bt = random_frames(lengths)
    together = model((x_btf, mask_bt))
    for b, length in enumerate(lengths):
        alone = model((x_btf[b : b + 1, :length], mask_bt[b : b + 1, :length]))
        for task in TASKS:
            torch.testing.assert_close(together.vectors[task][b], alone.vectors[task][0])


def test_zhang2019_padding_gets_no_gradient() -> None:
    model = build_model()
    x_btf, mask_bt = random_frames([5, 2, 9])
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
def test_attention_weight_is_at_the_centre_of_its_segment(length: int, wanted: list[bool]) -> None:
    attention = build_model()(random_frames([length])).attention
    assert list(attention) == TASKS
    for weight_bht, stride in attention.values():
        assert (weight_bht[0, 0] > 0).tolist() == wanted
        assert float(weight_bht.detach().sum()) == pytest.approx(1)
        times = attention_step_times(length, stride, 0.01, length * 0.01)
        assert times == pytest.approx([0.01 * t for t in range(length)])  # 20 ms into the first


def test_each_task_has_its_own_attention() -> None:
    attention = build_model()(random_frames([9])).attention
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
def test_zhang2019_impossible_sizes_are_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(**settings)


# From a recipe to recognition

RECIPE = """
tasks.emotion.weight = 1.0
tasks.gender.weight = 0.5
features = {name = "rawframes"}
normalise = {scope = "all"}
model = {name = "zhang2019", filters = 6, taps = 8, group = 3, hidden = 5}
training = {rate = 1e-4}
protocol = {name = "leave-one-speaker-out"}
"""
CLASSES = {"emotion": ("anger", "sadness"), "gender": ("female", "male")}
WAVES = {
    "speech": np.random.default_rng(0).normal(0, 0.1, 16_000),
    "no multiple of a hop": np.random.default_rng(1).normal(0, 0.1, 4_001),
    "one segment": np.random.default_rng(2).normal(0, 0.1, 640),
    "less than a segment": np.random.default_rng(3).normal(0, 0.1, 480),
    "silence": np.zeros(8_000),
    "clipped": np.sign(np.random.default_rng(4).normal(size=8_000)),
}


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    file = tmp_path_factory.mktemp("recipes") / "small.toml"
    file.write_text(RECIPE)
    torch.manual_seed(0)
    system = System(recipes.load(str(file)), CLASSES)
    system.normaliser.fit([compute_frames(WAVES["speech"].astype(np.float32), system.front_end)])
    return Recognizer(Bundle(system, Card(name="small")), answer_nonspeech=True)


@pytest.mark.parametrize("kind", WAVES)
def test_zhang2019_accepts_any_length(recognizer: Recognizer, kind: str) -> None:
    wave = WAVES[kind].astype(np.float32)
    heard = recognizer((wave, 16_000))
    frames = -(-len(wave) // 160)
    assert list(heard.attention) == list(CLASSES)
    for task, classes in CLASSES.items():
        assert set(heard.tasks[task].probabilities) == set(classes)
        assert sum(heard.tasks[task].probabilities.values()) == pytest.approx(1)
        assert heard.attention[task].times == pytest.approx([0.01 * t for t in range(frames)])
        (weights,) = heard.attention[task].weights
        assert sum(weights) == pytest.approx(1)
        assert np.count_nonzero(weights) == max(1, frames - 3)


def test_zhang2019_batch_equals_single_waveforms(recognizer: Recognizer) -> None:
    system, waves = recognizer.system, [wave.astype(np.float32) for wave in WAVES.values()]
    wave_bs = torch.zeros(len(waves), max(len(wave) for wave in waves))
    for row_s, wave in zip(wave_bs, waves, strict=True):
        row_s[: len(wave)] = torch.from_numpy(wave)
    inputs = system.extract_features(wave_bs, torch.tensor([len(wave) for wave in waves]))
    together, _ = predict_batch(system, inputs)
    for b, wave in enumerate(waves):
        alone = recognizer((wave, 16_000))
        for task in CLASSES:
            found = list(alone.tasks[task].probabilities.values())
            assert together[task][b].tolist() == pytest.approx(found, abs=1e-5)
