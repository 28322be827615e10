"""Standardization by each kind of statistics."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from serein import config, recipes, system
from serein.errors import ConfigError
from serein.features import normalization
from serein.features.logmel import POWER_FLOOR


def fit_normalizer(
    frames: list[npt.NDArray[Any]], statistics: str = "training", scope: str = "bin"
) -> normalization.Normalizer:
    table = {"statistics": statistics, "scope": scope}
    made = config.build_config(normalization.Config, table, "normalise")
    normaliser = normalization.Normalizer(made, frames[0].shape[1])
    normaliser.fit(frames)
    return normaliser


def normalize(normaliser: normalization.Normalizer, frames: npt.NDArray[Any]) -> torch.Tensor:
    x_btf = torch.from_numpy(frames)[None]
    return normaliser(x_btf, torch.ones(x_btf.shape[:2], dtype=torch.bool))[0]


def test_training_statistics_match_numpy() -> None:
    generator = np.random.default_rng(0)
    frames = [generator.normal(-8, 3, (n, 5)).astype(np.float32) for n in (1, 40, 7)]
    together = np.concatenate(frames).astype(np.float64)
    normaliser = fit_normalizer(frames)
    np.testing.assert_allclose(normaliser.mean_f, together.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(normaliser.deviation_f, together.std(axis=0), rtol=1e-6)
    wanted = (together - together.mean(axis=0)) / together.std(axis=0)
    found = normalize(normaliser, np.concatenate(frames))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_scope_all_matches_numpy() -> None:
    generator = np.random.default_rng(0)
    frames = [generator.normal([0, 5], [1, 3], (n, 2)).astype(np.float32) for n in (1, 40, 7)]
    together = np.concatenate(frames).astype(np.float64)
    normaliser = fit_normalizer(frames, scope="all")
    np.testing.assert_allclose(normaliser.mean_f, [together.mean()] * 2, rtol=1e-6)
    np.testing.assert_allclose(normaliser.deviation_f, [together.std()] * 2, rtol=1e-6)
    found = normalize(normaliser, np.concatenate(frames))
    np.testing.assert_allclose(found, (together - together.mean()) / together.std(), atol=1e-5)


def test_constant_waveform_keeps_deviation_one() -> None:
    normaliser = fit_normalizer([np.zeros((5, 3), np.float32)], scope="all")
    assert normaliser.deviation_f.tolist() == [1, 1, 1]


def test_unknown_scope_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"normalise\.scope = 'file'"):
        fit_normalizer([np.zeros((5, 3), np.float32)], scope="file")


def test_constant_bin_keeps_deviation_one() -> None:
    """Such as empty bands of narrow-band speech, at the floor in every frame of a corpus."""
    frames = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
    frames[:, 1] = np.log(POWER_FLOOR)
    normaliser = fit_normalizer([frames] * 500)
    assert float(normaliser.deviation_f[1]) == 1
    assert float(normaliser.deviation_f[0]) == pytest.approx(frames[:, 0].std(), rel=1e-5)
    found = normalize(normaliser, frames)
    np.testing.assert_allclose(found[:, 1], 0, atol=1e-5)


def test_statistics_none_changes_nothing() -> None:
    frames = np.random.default_rng(0).normal(5, 2, (9, 3)).astype(np.float32)
    normaliser = fit_normalizer([frames], "none")
    x_btf = torch.from_numpy(frames)[None]
    assert normaliser(x_btf, torch.ones(1, 9)) is x_btf
    assert normaliser.mean_f.tolist() == [0, 0, 0]


def test_statistics_are_in_the_state_dict() -> None:
    frames = np.random.default_rng(0).normal(5, 2, (9, 3)).astype(np.float32)
    assert set(fit_normalizer([frames]).state_dict()) == {"mean_f", "deviation_f"}


@pytest.mark.parametrize("scope", ["bin", "all"])
def test_utterance_statistics_ignore_the_batch(scope: str) -> None:
    generator = np.random.default_rng(0)
    frames = [generator.normal([0, 5], [1, 3], (n, 2)).astype(np.float32) for n in (4, 40)]
    normaliser = fit_normalizer(frames, "utterance", scope)
    x_btf = torch.full((2, 50, 2), 1e3)
    mask_bt = torch.zeros(2, 50, dtype=torch.bool)
    for row, own_tf in enumerate(frames):
        x_btf[row, : len(own_tf)] = torch.from_numpy(own_tf)
        mask_bt[row, : len(own_tf)] = True
    found_btf = normaliser(x_btf, mask_bt)
    axes = 0 if scope == "bin" else None
    for found_tf, own_tf in zip(found_btf, frames, strict=True):
        wanted = (own_tf - own_tf.mean(axis=axes)) / own_tf.std(axis=axes)
        np.testing.assert_allclose(found_tf[: len(own_tf)], wanted, atol=1e-4)


def test_utterance_statistics_of_silence_give_zero() -> None:
    frames = np.full((9, 3), np.log(POWER_FLOOR), np.float32)
    assert not normalize(fit_normalizer([frames], "utterance"), frames).any()


def test_utterance_statistics_ignore_padding() -> None:
    recipe = recipes.load("li2019", ["normalise.statistics=utterance"])
    with pytest.raises(ConfigError, match=r"would count the padding of features\.pad"):
        system.check_recipe(recipe)
    system.check_recipe(recipes.load("li2019-emodb", ["normalise.statistics=utterance"]))


def test_utterance_statistics_need_more_than_one_frame() -> None:
    with pytest.raises(ConfigError, match=r"every utterance has one frame here"):
        fit_normalizer([np.ones((1, 88), np.float32)] * 3, "utterance")
