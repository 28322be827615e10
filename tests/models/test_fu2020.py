"""Fu et al. 2020 against the paper: equations 1 to 4 value by value, and its sizes."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from serein import config, recipes, system
from serein.bundle import Bundle, Card
from serein.errors import ConfigError
from serein.inference.recognizer import Recognizer
from serein.layers.packed import PackedValidConv1d
from serein.layers.recurrent import BLSTM
from serein.models import fu2020

Array = np.ndarray[Any, np.dtype[np.float64]]
RATE = 16_000
SMALL = {"filters": [5, 6, 7], "bottleneck": 6, "hidden": 4, "heads": 3, "head_size": 2}
TINY = [
    "features.bands=16",
    "model.filters=[8,8,8]",
    "model.bottleneck=8",
    "model.hidden=4",
    "model.heads=2",
    "model.head_size=4",
]
CLASSES = {"emotion": ("anger", "neutral", "sadness")}


def build_model(width: int = 7, **settings: Any) -> fu2020.Model:
    torch.manual_seed(1)
    sizes = config.build_config(fu2020.Config, {**SMALL, **settings}, "model")
    return fu2020.Model(sizes, width, ["emotion"]).double().eval()


def array(x: Tensor) -> Array:
    return x.detach().numpy()


def convolutions(model: fu2020.Model) -> list[PackedValidConv1d]:
    return [layer for layer in model.convolutions if isinstance(layer, PackedValidConv1d)]


def blstms(model: fu2020.Model) -> list[BLSTM]:
    return [layer for layer in model.blstms if isinstance(layer, BLSTM)]


# The paper's equations


def convolve_in_numpy(x: Array, product: nn.Linear, taps: int) -> Array:
    """Section 3.3: convolution over time without padding, and ReLU."""
    weight, bias = array(product.weight), array(product.bias)
    windows = [x[start : start + taps].ravel() for start in range(len(x) - taps + 1)]
    return np.array([np.maximum(weight @ window + bias, 0) for window in windows])


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def lstm(x: Array, cell: nn.LSTM) -> Array:
    """Hochreiter and Schmidhuber 1997 with a forget gate, by its equations."""
    wanted = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    w, u, b, c = (array(getattr(cell, name)) for name in wanted)
    hidden, state, out = np.zeros(cell.hidden_size), np.zeros(cell.hidden_size), []
    for step in x:
        enter, forget, new, leave = np.split(w @ step + u @ hidden + b + c, 4)
        state = sigmoid(forget) * state + sigmoid(enter) * np.tanh(new)
        hidden = sigmoid(leave) * np.tanh(state)
        out.append(hidden)
    return np.array(out)


def blstm(x: Array, both: BLSTM) -> Array:
    return np.hstack([lstm(x, both.forwards), lstm(x[::-1], both.backwards)[::-1]])


def softmax(score: Array) -> Array:
    return np.exp(score) / np.exp(score).sum()


def encode_in_numpy(x: Array, model: fu2020.Model) -> tuple[Array, Array, Array]:
    """O_loc of one utterance, the weights of every head (H, L, L), and the local ones (L,)."""
    for convolution, taps in zip(convolutions(model), model.config.taps, strict=True):
        x = convolve_in_numpy(x, convolution.product, taps)
    x = x @ array(model.bottleneck.weight).T + array(model.bottleneck.bias)
    for layer in blstms(model):
        x = blstm(x, layer)
    heads, size = model.config.heads, model.config.head_size
    joint = array(model.attend.project.weight).reshape(3, heads, size, -1)
    outputs, weights = [], []
    for query, key, value in joint.transpose(1, 0, 2, 3):  # equation 1
        scores = [[(query @ a) @ (key @ b) / np.sqrt(size) for b in x] for a in x]
        attention = np.array([softmax(np.array(score)) for score in scores])
        outputs.append(attention @ (x @ value.T))
        weights.append(attention)
    h_att = np.hstack(outputs) @ array(model.attend.join.weight).T  # equation 2
    u = array(model.local.weight)[0]
    alpha = np.array([np.exp(u @ h) for h in h_att])
    alpha = alpha / alpha.sum()  # equation 3
    return sum(a * h for a, h in zip(alpha, h_att, strict=True)), np.array(weights), alpha


@pytest.mark.parametrize(
    "settings", [{}, {"layers": 1}, {"layers": 3}, {"taps": [1, 1, 1]}, {"taps": [5, 2, 3]}]
)
def test_fu2020_matches_equations_1_to_4(settings: dict[str, Any]) -> None:
    model = build_model(**settings)
    lengths = [20, 11, 13, model.receptive_field]
    x_btf = torch.randn(4, 20, 7, dtype=torch.float64)
    x_btf[2, 6:] = -1  # the paper's padding, not masked
    mask_bt = torch.arange(20) < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        answer = model((x_btf, mask_bt))
    before = model.receptive_field // 2
    for b, length in enumerate(lengths):
        o_loc, weights, alpha = encode_in_numpy(array(x_btf[b, :length]), model)
        middles = slice(before, before + len(alpha))
        found = array(answer.attention["self"].weight[b])[:, middles, middles]
        local = array(answer.attention["local"].weight[b, 0])[middles]
        np.testing.assert_allclose(array(answer.vectors["emotion"][b]), o_loc, atol=1e-12)
        np.testing.assert_allclose(found, weights, atol=1e-12)
        np.testing.assert_allclose(local, alpha, atol=1e-12)


def test_fu2020_without_dropout_is_the_same_in_training() -> None:
    model = build_model(dropout=0)
    inputs = torch.randn(3, 20, 7, dtype=torch.float64), torch.arange(20) < torch.tensor([[20]] * 3)
    with torch.no_grad():
        judged, trained = model(inputs), model.train()(inputs)
    torch.testing.assert_close(judged.vectors["emotion"], trained.vectors["emotion"])
    assert set(judged.attention) == {"local", "self"}
    assert set(trained.attention) == {"local"}


def test_fu2020_pads_short_speech_with_minus_one() -> None:
    model = build_model()
    x_btf = torch.randn(1, 3, 7, dtype=torch.float64)
    filled_btf = torch.cat([x_btf, torch.full((1, 2, 7), -1, dtype=torch.float64)], dim=1)
    with torch.no_grad():
        short = model((x_btf, torch.ones(1, 3, dtype=torch.bool)))
        filled = model((filled_btf, torch.ones(1, 5, dtype=torch.bool)))
    torch.testing.assert_close(short.vectors, filled.vectors)
    assert short.attention["local"].weight.tolist() == [[[0, 0, 1]]]
    assert short.attention["self"].weight.shape == (1, 3, 3, 3)


# Table 1, and the recipe


def test_fu2020_sizes_are_those_of_table_1() -> None:
    recipe = recipes.load("fu2020-single-task")
    whole = system.System(recipe, CLASSES)
    model = whole.model
    assert isinstance(model, fu2020.Model)
    assert whole.front_end.width == 128
    shapes = [tuple(layer.product.weight.shape) for layer in convolutions(model)]
    assert shapes == [(512, 3 * 128), (1024, 512), (2048, 3 * 1024)]
    assert tuple(model.bottleneck.weight.shape) == (512, 2048)
    cells = [cell for layer in blstms(model) for cell in (layer.forwards, layer.backwards)]
    assert [cell.input_size for cell in cells] == [512, 512, 256, 256]
    assert {cell.hidden_size for cell in cells} == {128}
    assert tuple(model.attend.project.weight.shape) == (3 * 16 * 16, 256)
    assert tuple(model.attend.join.weight.shape) == (256, 16 * 16)
    assert tuple(model.local.weight.shape) == (1, 256)
    assert model.width == 256
    assert model.dropout.probability == 0.35


def test_fu2020_256_frames_become_252_steps() -> None:
    model = build_model()
    steps = []
    model.blstms[0].register_forward_pre_hook(lambda _, inputs: steps.append(inputs[0].shape[1]))
    model((torch.randn(1, 256, 7, dtype=torch.float64), torch.ones(1, 256, dtype=torch.bool)))
    assert steps == [252]


def test_fu2020_dropout_is_after_bottleneck_and_each_blstm() -> None:
    widths = []

    class Nothing(nn.Module):
        def forward(self, x_btd: Tensor) -> Tensor:
            widths.append(x_btd.shape[-1])
            return torch.zeros_like(x_btd)

    model = build_model()
    model.register_module("dropout", Nothing())
    model((torch.randn(2, 9, 7, dtype=torch.float64), torch.ones(2, 9, dtype=torch.bool)))
    assert widths == [6, 8, 8]


def test_fu2020_recipe_follows_section_4_1() -> None:
    recipe = recipes.load("fu2020-single-task")
    assert recipe.training["epochs"] == 300
    assert recipe.training["batch"] == 64
    assert recipe.training["optimiser"] == "rmsprop"
    assert list(recipe.tasks) == ["emotion"]
    assert recipe.normalise == {"statistics": "none"}


@pytest.mark.parametrize("setting", ["model.filters=[8,8]", "model.taps=[3,0,3]", "model.heads=0"])
def test_fu2020_impossible_sizes_are_errors(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.(filters|taps|heads)|fu2020"):
        system.check_recipe(recipes.load("fu2020-single-task", [setting]))


# Short and long


@pytest.fixture(params=["features.pad=true", "features.pad=false"], ids=["padded", "masked"])
def recognizer(request: pytest.FixtureRequest) -> Recognizer:
    torch.manual_seed(0)
    recipe = recipes.load("fu2020-single-task", [*TINY, "training.precision=fp32", request.param])
    bundle = Bundle(system.System(recipe, CLASSES).eval(), Card(name="fu"))
    return Recognizer(bundle, answer_nonspeech=True)


@pytest.mark.parametrize(("seconds", "windows"), [(0.05, 1), (0.2, 1), (6.375, 1), (60, 10)])
def test_fu2020_accepts_any_length(recognizer: Recognizer, seconds: float, windows: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)
    (answer,) = recognizer.predict_many([("noise", noise)])
    assert len(answer.windows) == windows
    assert sum(answer.tasks["emotion"].probabilities.values()) == pytest.approx(1)
    for name, heads in (("local", 1), ("self", 2)):
        found = answer.attention[name]
        assert np.array(found.weights).shape == (heads, len(found.times))
        assert 0 < np.sum(found.weights) <= heads * (1 + 1e-5)
        assert found.times[-1] <= seconds + 1e-6


def test_fu2020_batches_short_and_long_audio() -> None:
    recipe = recipes.load("fu2020-single-task", [*TINY, "features.pad=false"])
    whole = system.System(recipe, CLASSES).eval()
    length_b = torch.tensor([3200, 960_000])
    wave_bs = torch.randn(2, 960_000) * (torch.arange(960_000) < length_b[:, None])
    with torch.no_grad():
        together = whole(whole.extract_features(wave_bs, length_b)).logits["emotion"]
        alone = whole(whole.extract_features(wave_bs[:1, :3200], length_b[:1])).logits["emotion"]
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=0)
