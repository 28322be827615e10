"""Small models that read or recognise words, with random weights; and recordings for them."""

from typing import Any

import numpy as np
import torch

from serein import recipes
from serein.bundle import Bundle, Card
from serein.labels.vocabulary import SPECIAL_TOKENS
from serein.models.feng2020 import Model
from serein.system import System

FEATURES = ("features.bands=12", "features.pad=false")
ASR_SIZES = (
    "model.encoder_hidden=6",
    "model.encoder_layers=1",
    "model.decoder_hidden=8",
    "model.decoder_words=4",
    "model.decoder_attention=4",
    "model.max_steps=5",
    "model.beam=2",
)
EMOTION_SIZES = (
    "model.hidden=4",
    "model.attention_hidden=8",
    "model.heads=2",
    "model.dense=8",
    "model.embedding=6",
    "model.frames=200",
    "model.pad=false",
)
EMOTIONS = ("anger", "neutral", "sadness")
ASR_WORDS = ("down", "left", "right", "so", "up")
TEXT_WORDS = ("left", "right", "up", "away")
"""The vocabulary of the models that read words has other words than the recogniser's."""
RATE = 16_000


def small_asr(*settings: str, name: str = "ear", seed: int = 4) -> Bundle:
    """Return a recogniser; large weights make its words depend on the recording."""
    torch.manual_seed(seed)
    recipe = recipes.load("feng2020-asr", [*FEATURES, *ASR_SIZES, *settings])
    system = System(recipe, {}, (*SPECIAL_TOKENS, *ASR_WORDS))
    _fit_normaliser(system)
    _enlarge_weights(system)
    card = Card(name=name, data="made up", licence="CC0", speakers=("spoken/s01",))
    return Bundle(system.eval(), card)


def small_text_model(
    kind: str = "text", *settings: str, asr: Bundle | None = None, name: str = "reader"
) -> Bundle:
    """Return a model of ``feng2020-KIND``: "text", "combined" or "audio"."""
    torch.manual_seed(5)
    recipe = recipes.load(f"feng2020-{kind}", [*FEATURES, *EMOTION_SIZES, *settings])
    words = () if kind == "audio" else (*SPECIAL_TOKENS, *TEXT_WORDS)
    system = System(recipe, {"emotion": EMOTIONS}, words)
    _fit_normaliser(system)
    with torch.no_grad():
        for weight in system.parameters():
            weight.mul_(3)
    return Bundle(system.eval(), Card(name=name), asr=asr)


def small_joint_model(*settings: str) -> Bundle:
    """Return a model of ``feng2020``, which recognises the words that it reads."""
    torch.manual_seed(4)
    sizes = [*FEATURES, *ASR_SIZES, *EMOTION_SIZES, "training.init=", *settings]
    recipe = recipes.load("feng2020", sizes)
    system = System(recipe, {"emotion": EMOTIONS}, (*SPECIAL_TOKENS, *ASR_WORDS))
    _fit_normaliser(system)
    _enlarge_weights(system)
    return Bundle(system.eval(), Card(name="joint"))


def _enlarge_weights(system: System) -> None:
    """Make the words of a recogniser depend on the recording."""
    model = system.model
    assert isinstance(model, Model)
    assert model.recogniser is not None
    with torch.no_grad():
        model.recogniser.decoder.output.bias.zero_()
        for weight in model.recogniser.parameters():
            weight.mul_(4)


def _fit_normaliser(system: System) -> None:
    wave_s = torch.from_numpy(noise(3.0, seed=9)[0])[None]
    with torch.inference_mode():
        frames_btf, _ = system.front_end(wave_s, torch.tensor([wave_s.shape[1]]))
    system.normaliser.fit([frames_btf[0].numpy()])


def noise(seconds: float = 1.0, seed: int = 0) -> tuple[np.ndarray[Any, Any], int]:
    """Return a recording of noise whose loudness changes, and its rate."""
    generator = np.random.default_rng(seed)
    wave_s = generator.normal(size=round(seconds * RATE))
    wave_s *= np.repeat(generator.uniform(0.01, 0.3, 20), len(wave_s) // 20 + 1)[: len(wave_s)]
    return wave_s.astype(np.float32), RATE
