"""Requirements on every model; a new file in models/ is tested automatically.

Below, li2019 against the paper's equations, written out in loops.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from builders.small_systems import random_frames
from builders.tiny_encoders import DEFAULT_ENCODER, ENCODERS, as_toml
from torch import Tensor

from serein import config, recipes, registry, testing
from serein.layers.packed import PackedConv1d
from serein.models import li2019
from serein.records import Recipe
from serein.system import Inputs, System, is_estimator
from serein.testing import CLASSES, compute_output, random_inputs
from serein.training.config import TrainingConfig
from serein.training.dataset import Subset
from serein.training.estimator import fit_estimator

Array = np.ndarray[Any, np.dtype[np.float64]]
MORE = {
    "base": ["model.functionals=false"],
    "rnn": ["model.attention=true", "model.separate=false", "model.stack=3"],
}
"""Settings that are in no recipe."""
MORE_OF = {"base": "serein-light", "rnn": "zhang2019-lld-rnn"}
"""The recipes that have them."""
WITHOUT_ENCODER = ["features.name=logmel", "features.bands=16", "model.select_state=false"]
"""Settings of ssl-svm for a machine without encoder."""
SMALLER = {
    "base": ["model.members=2", "model.filters=4", "model.channels=32", "model.hidden=32"],
    "feng2020": [
        "model.text=none",
        "model.pad=false",
        "model.hidden=16",
        "model.attention_hidden=32",
        "model.heads=4",
        "model.dense=32",
    ],
    "probe": ["features.name=logmel", "features.bands=16", "model.states=3", "model.hidden=32"],
    "ssl": [f"model.architecture={as_toml(ENCODERS[DEFAULT_ENCODER])}", "model.hidden=32"],
    "fu2020": [
        "features.bands=32",
        "model.filters=[16,16,32]",
        "model.bottleneck=64",
        "model.hidden=32",
        "model.heads=4",
        "model.head_size=8",
    ],
    "zhang2019": [
        "features.name=rawframes",
        "features.hop=16",
        "model.filters=8",
        "model.taps=5",
        "model.group=2",
        "model.hidden=16",
    ],
}
"""Settings of models that are too slow to be tested in full."""


@dataclass(frozen=True)
class Case:
    name: str
    recipe: Recipe


def names() -> list[str]:
    """All models; ``ssl`` only if transformers is installed."""
    return [
        name for name in registry.list_names("models") if name != "ssl" or find_spec("transformers")
    ]


def cases() -> list[Case]:
    """Every model with the settings of each of its recipes: the full one, and its ablations.

    What reads or finds words has tests of its own, in test_feng2020, and what reads the states of
    a whole Whisper, in features/test_whisper_asr.
    """
    found = []
    for name in names():
        smaller = SMALLER.get(name, [])
        every = [r for r in recipes.list_recipes() if not recipes.load(r).text]
        every = [r for r in every if recipes.load(r).features["name"] != "whisper_asr"]
        own = [(r, smaller) for r in every if recipes.load(r).model["name"] == name]
        own = [(r, WITHOUT_ENCODER if r == "ssl-svm" else settings) for r, settings in own]
        own += [(r, MORE[name]) for r, _ in own if MORE_OF.get(name) == r]
        seen: list[tuple[dict[str, Any], list[str]]] = []
        for base, settings in own or [("li2019", [f"model.name={name}", *smaller])]:
            recipe = recipes.load(base, settings)
            kind = recipe.model, list(recipe.tasks)
            if kind not in seen:
                seen.append(kind)
                more = "-more" if settings and settings == MORE.get(name) else ""
                found.append(Case(f"{base if own else name}{more}", recipe))
    return found


@pytest.fixture(params=cases(), ids=lambda case: case.name)
def system(request: pytest.FixtureRequest) -> System:
    torch.manual_seed(0)
    return System(request.param.recipe, {t: CLASSES[t] for t in request.param.recipe.tasks})


def has_attention(system: System) -> bool:
    model = system.recipe.model
    has_layer = model.get("attention", True) and model.get("convolutions", True)
    return has_layer and not is_estimator(system.recipe)


def targets(system: System, count: int) -> dict[str, Tensor]:
    return {name: torch.arange(count) % len(task.classes) for name, task in system.tasks.items()}


def test_cases_cover_every_model_and_ablation() -> None:
    assert {case.recipe.model["name"] for case in cases()} == set(names())
    named = {case.name for case in cases()}
    for ablation in ("no-attention", "single-task"):
        assert {f"li2019-{ablation}", f"li2019-emodb-{ablation}"} & named


def test_models_ignore_padding(system: System) -> None:
    testing.check_padding(system)


def test_models_ignore_other_utterances(system: System) -> None:
    testing.check_batch_order(system)


def test_every_parameter_gets_a_gradient(system: System) -> None:
    testing.check_gradients(system)


def is_trained_in_steps(system: System, inputs: Inputs, wanted: dict[str, Tensor]) -> None:
    optimiser = torch.optim.Adam(system.parameters(), lr=3e-3)
    system.train()
    for _ in range(100):
        optimiser.zero_grad()
        torch.autograd.backward(system.loss(system(inputs), wanted))
        optimiser.step()


def test_models_overfit_eight_utterances(system: System) -> None:
    inputs, wanted = {"frames": random_inputs(system, [40, 30, 20, 10] * 2)}, targets(system, 8)
    if is_estimator(system.recipe):
        frames = random_frames([40, 30, 20, 10] * 2, system.front_end.width)
        side = Subset(tuple(frames.index), frames, wanted)
        fit_estimator(system, side, {"validation": side}, TrainingConfig())
        inputs = {"frames": frames.pad_batch(side.ids)}
    else:
        is_trained_in_steps(system, inputs, wanted)
    system.eval()
    answers = system.decode(compute_output(system, *inputs["frames"]))
    for task, probabilities_bk in answers.items():
        assert probabilities_bk.argmax(dim=1).tolist() == wanted[task].tolist()
        torch.testing.assert_close(probabilities_bk.sum(dim=1), torch.ones(8))


def test_only_training_mode_is_random(system: System) -> None:
    inputs = random_inputs(system, [30, 20])
    system.train()
    one, other = compute_output(system, *inputs), compute_output(system, *inputs)
    sure = is_estimator(system.recipe) or system.recipe.model.get("dropout") == 0
    assert all(torch.equal(x_bk, other.logits[t]) == sure for t, x_bk in one.logits.items())
    system.eval()
    one, other = compute_output(system, *inputs), compute_output(system, *inputs)
    assert all(torch.equal(x_bk, other.logits[task]) for task, x_bk in one.logits.items())


def test_state_dict_round_trip(system: System) -> None:
    testing.check_saving(system)


def test_attention_sums_to_one_and_is_zero_on_padding(system: System) -> None:
    output = compute_output(system.eval(), *random_inputs(system, [50, 1]))
    assert bool(output.attention) == has_attention(system)
    testing.check_attention(system)


def test_attention_finds_the_informative_frames(system: System) -> None:
    """Step t of a map belongs to the frames from t x stride on.

    Over several recordings, for a recurrent layer remembers other frames of each.
    """
    if not has_attention(system):
        assert compute_output(system.eval(), *random_inputs(system, [9])).attention == {}
        return
    system.eval()
    x_btf, mask_bt = random_inputs(system, [60] * 16)
    x_btf.requires_grad_()
    for weight, stride in system({"frames": (x_btf, mask_bt)}).attention.values():
        score = weight.flatten(0, -2).sum(dim=0)
        step = int(score.numel() // 2)
        (gradient_btf,) = torch.autograd.grad(score[step], x_btf, retain_graph=True)
        nearest = int(gradient_btf.abs().sum(dim=(0, 2)).argmax())
        seen = max(2 * stride, system.recipe.model.get("hops", 0))  # frames of one step
        assert abs(nearest - (step * stride + stride // 2)) <= seen


# Li et al. 2019, equations 1 to 9, value by value.


def window(x: Array, i: int, size: int) -> Array:
    """Equation 3, with the first and the last frame repeated."""
    near = range(i - (size - 1) // 2, i + (size - 1) // 2 + 1)
    return np.array([x[min(max(place, 0), len(x) - 1)] for place in near])


def convolve_in_numpy(x: Array, convolution: PackedConv1d) -> Array:
    """Equations 1 and 2, and ReLU."""
    weight_fkd = convolution.weight_fkd.detach().numpy()
    bias_d = convolution.bias_d.detach().numpy()
    taps, filters = weight_fkd.shape[1:]
    out = np.zeros((len(x), filters))
    for i in range(len(x)):
        for j in range(filters):
            product = np.sum(weight_fkd[:, :, j].T * window(x, i, taps))
            out[i, j] = max(0.0, bias_d[j] + product)
    return out


def pool_in_numpy(x: Array, size: int) -> Array:
    """Equation 4; a partial last window counts."""
    return np.array([x[start : start + size].max(axis=0) for start in range(0, len(x), size)])


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def lstm(x: Array, cell: torch.nn.LSTM) -> Array:
    """Hochreiter and Schmidhuber 1997 with a forget gate, by its equations."""
    wanted = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    w, u, b, c = (getattr(cell, name).detach().numpy() for name in wanted)
    hidden, state = np.zeros(cell.hidden_size), np.zeros(cell.hidden_size)
    out = []
    for frame in x:
        enter, forget, new, leave = np.split(w @ frame + u @ hidden + b + c, 4)
        state = sigmoid(forget) * state + sigmoid(enter) * np.tanh(new)
        hidden = sigmoid(leave) * np.tanh(state)
        out.append(hidden)
    return np.array(out)


def encode_in_numpy(x: Array, model: li2019.Model) -> tuple[Array, Array]:
    """The vector z and the weights a of one utterance."""
    for convolution in (model.conv1, model.conv2):
        x = convolve_in_numpy(x, convolution)
    x = pool_in_numpy(x, model.config.pool)
    for blstm in (model.blstm1, model.blstm2):
        x = np.hstack([lstm(x, blstm.forwards), lstm(x[::-1], blstm.backwards)[::-1]])
    if not model.config.attention:
        half = model.config.hidden
        return np.concatenate([x[-1, :half], x[0, half:]]), np.zeros((0, len(x)))
    first = model.attend.hidden.weight.detach().numpy()
    weights, sums = [], []
    for second in model.attend.heads.weight.detach().numpy():
        score = np.exp(second @ np.tanh(first @ x.T))
        a = score / score.sum()  # equations 5 and 7
        weights.append(a)
        sums.append(a @ x)  # equations 6 and 8
    return np.concatenate(sums), np.array(weights)  # equation 9


SMALL = {"filters": 5, "hidden": 4, "attention_hidden": 6, "heads": 3}


@pytest.mark.parametrize(
    "settings", [{}, {"taps": 5}, {"taps": 1, "pool": 2}, {"pool": 1}, {"attention": False}]
)
def test_li2019_matches_the_equations(settings: dict[str, Any]) -> None:
    torch.manual_seed(1)
    sizes = config.build_config(li2019.Config, {**SMALL, **settings}, "model")
    model = li2019.Model(sizes, 7, ["emotion"]).double().eval()
    lengths = [1, 2, 3, 4, 17, 31, 31, 24]
    x_btf = torch.randn(len(lengths), 40, 7, dtype=torch.float64)
    x_btf[5, 12:] = 0  # a paper's padding, not masked
    x_btf[6, 2:] = x_btf[6, 2].clone()
    x_btf[7] = 0
    mask_bt = torch.arange(40) < torch.tensor(lengths)[:, None]
    with torch.no_grad():
        answer = model((x_btf, mask_bt))
    assert answer.vectors["emotion"].shape == (len(lengths), model.width)
    for b, length in enumerate(lengths):
        z, a = encode_in_numpy(x_btf[b, :length].numpy(), model)
        np.testing.assert_allclose(answer.vectors["emotion"][b].numpy(), z, atol=1e-12)
        if sizes.attention:
            found = answer.attention["heads"].weight[b].numpy()
            np.testing.assert_allclose(found[:, : a.shape[1]], a, atol=1e-12)


def test_li2019_sizes_are_those_of_table_1() -> None:
    model = li2019.Model(li2019.Config(), 384, ["emotion"])
    count = {name: p.numel() for name, p in model.named_parameters()}
    assert count["conv1.weight_fkd"] == 384 * 3 * 64
    assert count["conv2.weight_fkd"] == 64 * 3 * 64
    assert count["attend.hidden.weight"] == 512 * 120
    assert count["attend.heads.weight"] == 8 * 512
    assert count["blstm1.forwards.weight_hh_l0"] == 4 * 60 * 60
    assert model.width == 2 * 8 * 60
    assert model.dropout.probability == 0.5


def test_li2019_dropout_is_after_each_blstm() -> None:
    widths = []

    class Nothing(torch.nn.Module):
        def forward(self, x_btd: Tensor) -> Tensor:
            widths.append(x_btd.shape[-1])
            return torch.zeros_like(x_btd)

    model = li2019.Model(config.build_config(li2019.Config, SMALL, "model"), 7, ["emotion"])
    model.register_module("dropout", Nothing())
    vectors = model((torch.randn(2, 9, 7), torch.ones(2, 9, dtype=torch.bool))).vectors
    assert widths == [8, 8]
    assert (vectors["emotion"] == 0).all()


def test_li2019_gives_all_tasks_the_same_vector() -> None:
    model = li2019.Model(li2019.Config(), 8, ["emotion", "gender"])
    vectors = model((torch.randn(2, 9, 8), torch.ones(2, 9, dtype=torch.bool))).vectors
    assert list(vectors) == ["emotion", "gender"]
    assert vectors["emotion"] is vectors["gender"]
