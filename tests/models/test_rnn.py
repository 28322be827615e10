"""The recurrent baseline against its equations."""

from typing import Any

import numpy as np
import pytest
import torch

from serein import config
from serein.errors import ConfigError
from serein.models.rnn import Config, Model

Array = np.ndarray[Any, np.dtype[np.float64]]
TASKS = ("arousal", "valence")


def build_model(**settings: Any) -> Model:
    torch.manual_seed(0)
    return (
        Model(config.build_config(Config, {"hidden": 5, **settings}, "model"), 3, TASKS)
        .double()
        .eval()
    )


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def recurrent(x: Array, model: Model, layer: int) -> Array:
    """Cho et al. 2014, with the reset gate after the recurrent product, as in torch and cuDNN."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    w, u, b, c = (getattr(model.gru, f"{name}_l{layer}").detach().numpy() for name in names)
    h = np.zeros(model.width)
    out = []
    for frame in x:
        reset, keep, new = np.split(w @ frame + b, 3)
        again, stay, old = np.split(u @ h + c, 3)
        z = sigmoid(keep + stay)
        h = (1 - z) * np.tanh(new + sigmoid(reset + again) * old) + z * h
        out.append(h)
    return np.array(out)


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_rnn_matches_the_equations(attention: bool, layers: int) -> None:
    model = build_model(attention=attention, layers=layers)
    x_btf = torch.randn(2, 7, 3, dtype=torch.float64)
    mask_bt = torch.arange(7) < torch.tensor([[7], [4]])
    with torch.no_grad():
        found = model((x_btf, mask_bt))
    for b, length in enumerate((7, 4)):
        h = x_btf[b, :length].numpy()
        for layer in range(layers):
            h = recurrent(h, model, layer)
        for t, task in enumerate(TASKS):
            wanted = h[-1]
            if model.attend is not None:
                score = np.exp(h @ model.attend.weight[t].detach().numpy())
                weight = score / score.sum()  # equation 4
                wanted = weight @ h  # equation 3
                seen = found.attention[task].weight[b, 0].numpy()
                np.testing.assert_allclose(seen, np.pad(weight, (0, 7 - length)), atol=1e-12)
            np.testing.assert_allclose(found.vectors[task][b].numpy(), wanted, atol=1e-12)
    assert set(found.attention) == (set(TASKS) if attention else set())


@pytest.mark.parametrize("length", [1, 4, 5, 7])
def test_rnn_stacks_frames(length: int) -> None:
    stacked = build_model(stack=4, attention=True)
    plain = Model(config.build_config(Config, {"hidden": 5, "attention": True}, "model"), 12, TASKS)
    plain.double().eval().load_state_dict(stacked.state_dict())
    x_btf, rubbish = torch.randn(1, 9, 3, dtype=torch.float64), torch.arange(9) >= length
    x_btf[:, rubbish] = 100.0
    steps = -(-length // 4)
    laid = torch.zeros(1, steps, 12, dtype=torch.float64)
    laid.view(-1)[: 3 * length] = x_btf[0, :length].flatten()
    with torch.no_grad():
        found = stacked((x_btf, ~rubbish[None]))
        wanted = plain((laid, torch.ones(1, steps, dtype=torch.bool)))
    for task in TASKS:
        torch.testing.assert_close(found.vectors[task], wanted.vectors[task])
        weight, stride = found.attention[task]
        assert (weight.shape[-1], stride) == (3, 4)
        assert (weight[..., steps:] == 0).all()


def test_rnn_ignores_padding() -> None:
    model = build_model()
    x_btf = torch.randn(1, 6, 3, dtype=torch.float64)
    x_btf[:, 4:] = torch.nan
    with torch.no_grad():
        found = model((x_btf, torch.arange(6)[None] < 4)).vectors["arousal"]
        wanted = model((x_btf[:, :4], torch.ones(1, 4, dtype=torch.bool))).vectors["arousal"]
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("setting", [{"hidden": 0}, {"layers": 0}, {"stack": 0}, {"dropout": 1.0}])
def test_rnn_settings_are_checked(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"model.{next(iter(setting))} = "):
        build_model(**setting)
