"""Initial weights: those of Keras by its formulas, and those of earlier recipes bit by bit."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from serein import config, recipes
from serein.errors import ConfigError
from serein.layers.attention import MultiHeadAttention, StructuredAttention
from serein.layers.initialization import Initialization, init_weights
from serein.layers.packed import PackedConv1d, PackedValidConv1d
from serein.layers.recurrent import BLSTM
from serein.models import fu2020, li2019
from serein.system import SingleTaskEnsemble, System
from serein.training.config import TrainingConfig
from serein.training.loop import _build_optimizer

CLASSES = {
    "emotion": ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness"),
    "gender": ("female", "male"),
    "speaker": ("03", "08", "09", "10", "11", "12", "13", "14"),
}
PAPERS = {
    "li2019": ("li2019", "li2019-no-attention", "li2019-single-task"),
    "fu2020": ("fu2020", "fu2020-multitask", "fu2020-cross-language", "fu2020-single-task"),
}
EARLIER = {
    "torch": (
        *("li2019-emodb", "li2019-emodb-no-attention", "li2019-emodb-single-task"),
        *("li2019-emodb-paper", "quickstart"),
    ),
    "glorot": (
        *("fu2020-emodb", "fu2020-emodb-multitask", "fu2020-emodb-cross-language"),
        "fu2020-emodb-single-task",
    ),
}
"""Recipes whose committed results were trained with other weights than those of Keras."""


def build_system(name: str, *settings: str) -> System:
    torch.manual_seed(0)
    recipe = recipes.load(name, settings)
    return System(recipe, {task: CLASSES[task] for task in recipe.tasks})


def check_glorot(weight: Tensor, fan_in: int, fan_out: int) -> None:
    """Check for uniform weights within the bound of Glorot & Bengio, up to their sampling error."""
    bound = math.sqrt(6 / (fan_in + fan_out))
    share_n = weight.detach().flatten().double() / bound
    assert 1 - 30 / len(share_n) < float(share_n.abs().max()) <= 1 + 1e-6
    assert float(share_n.mean()) == pytest.approx(0, abs=4 / math.sqrt(3 * len(share_n)))
    assert float(share_n.square().mean()) == pytest.approx(1 / 3, abs=2 / math.sqrt(len(share_n)))


def check_dense(layer: nn.Linear) -> None:
    check_glorot(layer.weight, layer.in_features, layer.out_features)
    assert layer.bias is None or not layer.bias.any()


def check_keras_lstm(lstm: nn.LSTM) -> None:
    """Kernel (D, 4 x hidden), recurrent kernel (hidden, 4 x hidden) and one bias of Keras."""
    hidden, weights = lstm.hidden_size, lstm.state_dict()
    check_glorot(weights["weight_ih_l0"], lstm.input_size, 4 * hidden)
    kernel_dg = weights["weight_hh_l0"].T
    torch.testing.assert_close(kernel_dg @ kernel_dg.T, torch.eye(hidden), atol=1e-5, rtol=0)
    bias_g = weights["bias_ih_l0"] + weights["bias_hh_l0"]
    assert bias_g.tolist() == [0.0] * hidden + [1.0] * hidden + [0.0] * 2 * hidden


def check_keras_heads(system: System) -> None:
    for task in system.tasks.values():
        head = getattr(task, "head", None)
        assert isinstance(head, nn.Linear)
        check_dense(head)


# Keras


@pytest.mark.parametrize("name", PAPERS["li2019"])
def test_li2019_starts_from_the_weights_of_keras(name: str) -> None:
    system = build_system(name)
    model = system.model
    assert isinstance(model, li2019.Model)
    check_glorot(model.conv1.weight_fkd, 3 * 384, 3 * 64)
    check_glorot(model.conv2.weight_fkd, 3 * 64, 3 * 64)
    assert not model.conv1.bias_d.any()
    assert not model.conv2.bias_d.any()
    for blstm in (model.blstm1, model.blstm2):
        check_keras_lstm(blstm.forwards)
        check_keras_lstm(blstm.backwards)
    if model.config.attention:
        assert isinstance(model.attend, StructuredAttention)
        check_dense(model.attend.hidden)
        check_dense(model.attend.heads)
    check_keras_heads(system)


@pytest.mark.parametrize("name", PAPERS["fu2020"])
def test_fu2020_starts_from_the_weights_of_keras(name: str) -> None:
    system = build_system(name, "model.filters=[64,128,256]")
    model = system.model
    assert isinstance(model, fu2020.Model)
    channels = [128, 64, 128, 256]
    for number, (layer, taps) in enumerate(zip(model.convolutions, (3, 1, 3), strict=True)):
        assert isinstance(layer, PackedValidConv1d)
        fans = taps * channels[number], taps * channels[number + 1]
        check_glorot(layer.product.weight, *fans)
        assert not layer.product.bias.any()
    check_dense(model.bottleneck)
    for blstm in model.blstms:
        assert isinstance(blstm, BLSTM)
        check_keras_lstm(blstm.forwards)
        check_keras_lstm(blstm.backwards)
    for weight_dd in model.attend.project.weight.chunk(3):
        check_glorot(weight_dd, 256, 256)
    check_dense(model.attend.join)
    check_dense(model.local)
    check_keras_heads(system)


def test_separate_networks_and_their_heads_start_from_the_weights_of_keras() -> None:
    system = build_system("li2019", "model.separate=true")
    networks = system.model
    assert isinstance(networks, SingleTaskEnsemble)
    for model in networks.models:
        assert isinstance(model, li2019.Model)
        check_keras_lstm(model.blstm2.forwards)
    check_keras_heads(system)


def test_weights_of_a_task_do_not_depend_on_the_next_tasks() -> None:
    one, both = build_system("li2019-single-task"), build_system("li2019")
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, both.state_dict()[name])


@pytest.mark.parametrize("name", [name for names in PAPERS.values() for name in names])
def test_recipes_of_the_papers_have_the_epsilon_of_keras(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.model["init"] == "keras"
    training = config.build_config(TrainingConfig, recipe.training, "training")
    small = build_system("li2019", "model.hidden=4", "model.attention_hidden=8")
    assert {group["eps"] for group in _build_optimizer(small, training).param_groups} == {1e-7}


# Earlier recipes


@pytest.mark.parametrize(("init", "name"), [(i, n) for i, names in EARLIER.items() for n in names])
def test_earlier_recipes_keep_weights_and_epsilon(init: str, name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.model.get("init", init) == init  # the default of the model, as before
    assert "epsilon" not in recipe.training
    training = config.build_config(TrainingConfig, recipe.training, "training")
    small = build_system("li2019", "model.hidden=4", "model.attention_hidden=8")
    epsilon = {"adam": 1e-8, "rmsprop": 1e-7}[training.optimiser]
    assert {group["eps"] for group in _build_optimizer(small, training).param_groups} == {epsilon}


def test_saved_models_without_the_setting_keep_their_weights() -> None:
    assert li2019.Config().init == "torch"
    assert fu2020.Config().init == "glorot"
    assert TrainingConfig().epsilon == 0


@pytest.mark.parametrize("name", EARLIER["torch"])
def test_li2019_of_earlier_recipes_is_bit_equal_to_torch(name: str) -> None:
    """Every layer draws in the order in which the model names it, and nothing draws again."""
    system = build_system(name)
    drawn = torch.get_rng_state()
    torch.manual_seed(0)
    layers: dict[str, nn.Module] = {
        "conv1": PackedConv1d(384, 64, 3),
        "conv2": PackedConv1d(64, 64, 3),
        "blstm1": BLSTM(64, 60),
        "blstm2": BLSTM(120, 60),
    }
    if "no-attention" not in name:
        layers["attend"] = StructuredAttention(120, 512, 8)
    heads = {task: nn.Linear(system.model.width, len(CLASSES[task])) for task in system.tasks}
    assert torch.equal(drawn, torch.get_rng_state())
    check_equal(system, layers, heads)


@pytest.mark.parametrize("name", EARLIER["glorot"])
def test_fu2020_of_earlier_recipes_is_bit_equal_to_release_0_1(name: str) -> None:
    """Release 0.1 drew all layers again but the heads, a convolution as a matrix product."""
    system = build_system(name)
    drawn = torch.get_rng_state()
    torch.manual_seed(0)
    layers = {
        "convolutions": nn.ModuleList(
            PackedValidConv1d(*sizes) for sizes in ((128, 512, 3), (512, 1024, 1), (1024, 2048, 3))
        ),
        "bottleneck": nn.Linear(2048, 512),
        "blstms": nn.ModuleList([BLSTM(512, 128), BLSTM(256, 128)]),
        "attend": MultiHeadAttention(256, 16, 16),
        "local": nn.Linear(256, 1, bias=False),
    }
    for part in nn.ModuleDict(layers).modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LSTM):
            weights = part.state_dict()
            nn.init.xavier_uniform_(weights["weight_ih_l0"])
            nn.init.orthogonal_(weights["weight_hh_l0"])
            nn.init.zeros_(weights["bias_hh_l0"])
            nn.init.zeros_(weights["bias_ih_l0"])
            weights["bias_ih_l0"][part.hidden_size : 2 * part.hidden_size] = 1
    heads = {task: nn.Linear(256, len(CLASSES[task])) for task in system.tasks}
    assert torch.equal(drawn, torch.get_rng_state())
    check_equal(system, layers, heads)


def check_equal(system: System, layers: dict[str, nn.Module], heads: dict[str, nn.Linear]) -> None:
    expected = {
        f"{name}.{key}": value
        for name, layer in layers.items()
        for key, value in layer.state_dict().items()
    }
    assert isinstance(system.model, nn.Module)
    found = system.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)
    for task, head in heads.items():
        found_head = getattr(system.tasks[task], "head", None)
        assert isinstance(found_head, nn.Linear)
        assert torch.equal(found_head.weight, head.weight)
        assert torch.equal(found_head.bias, head.bias)


# The function


@pytest.mark.parametrize(
    "build",
    [
        lambda: PackedConv1d(5, 6, 3),
        lambda: PackedValidConv1d(5, 6, 3),
        lambda: MultiHeadAttention(6, 2, 4),
        lambda: BLSTM(5, 6),
        lambda: nn.Linear(5, 6),
    ],
)
def test_each_scheme_gives_other_weights(build: Callable[[], nn.Module]) -> None:
    weights: dict[str, dict[str, Tensor]] = {}
    schemes: list[Initialization] = ["torch", "glorot", "keras"]
    for scheme in schemes:
        torch.manual_seed(0)
        layer = build()
        init_weights(layer, scheme)
        weights[scheme] = layer.state_dict()
    torch.manual_seed(0)
    untouched = build().state_dict()
    assert all(torch.equal(untouched[key], weights["torch"][key]) for key in untouched)
    assert any(not torch.equal(untouched[key], weights["glorot"][key]) for key in untouched)
    assert any(not torch.equal(untouched[key], weights["keras"][key]) for key in untouched)


def test_wide_convolutions_are_smaller_in_keras_than_as_a_matrix_product() -> None:
    deviations = []
    schemes: tuple[Initialization, Initialization] = ("keras", "glorot")
    for scheme in schemes:
        layer = PackedValidConv1d(128, 512, 3)
        init_weights(layer, scheme)
        deviations.append(float(layer.product.weight.detach().std()))
    expected = math.sqrt((3 * 128 + 512) / (3 * 128 + 3 * 512))
    assert deviations[0] / deviations[1] == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("name", "setting", "expected"),
    [
        ("li2019", "model.init=tensorflow", "'torch', 'glorot' or 'keras'"),
        ("fu2020", "model.init=1", "'torch', 'glorot' or 'keras'"),
        ("zhang2019", "model.init=keras", "unknown setting of models.zhang2019 'init'"),
    ],
)
def test_unknown_initial_weights_are_an_error(name: str, setting: str, expected: str) -> None:
    recipe = recipes.load(name, [setting])
    with pytest.raises(ConfigError, match=expected):
        System(recipe, dict.fromkeys(recipe.tasks, ("a", "b")))


@pytest.mark.parametrize(
    ("value", "expected"), [(-1, "greater than or equal to 0"), ("small", "valid number")]
)
def test_impossible_epsilon_is_an_error(value: float | str, expected: str) -> None:
    with pytest.raises(ConfigError, match=rf"training\.epsilon = .*{expected}"):
        config.build_config(TrainingConfig, {"epsilon": value}, "training")
