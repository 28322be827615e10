"""Features of openSMILE, and pitfalls of its Python package."""

import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import opensmile
import pytest
import soundfile
import torch

from serein import config, corpora, recipes, system
from serein.errors import AudioError, ConfigError
from serein.evaluation.evaluate import evaluate
from serein.features import egemaps
from serein.features.egemaps import Config, FrontEnd
from serein.records import Corpus, Utterance
from serein.training import dataset
from serein.training.dataset import compute_frames, extract_frames
from serein.utils.files import cache_folder

Wave = npt.NDArray[np.float32]
RATE = 16_000
LEVELS = ["functionals", "lld"]


def front_end(**settings: Any) -> FrontEnd:
    return FrontEnd(config.build_config(Config, settings, "features"))


def voice(seconds: float = 0.5, seed: int = 0, loudness: float = 0.3) -> Wave:
    """A buzz at 150 Hz with some noise, which openSMILE finds voiced."""
    time = np.arange(round(seconds * RATE)) / RATE
    buzz = np.sum([np.sin(2 * np.pi * 150 * k * time) / k for k in range(1, 20)], axis=0)
    noise = np.random.default_rng(seed).normal(0, 0.01, len(time))
    return (loudness * buzz / np.abs(buzz).max() + noise).astype(np.float32)


def run_opensmile(wave: Wave, level: opensmile.FeatureLevel, version: str = "v01b") -> Any:
    """Return openSMILE's own table of a waveform, without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = opensmile.Smile(opensmile.FeatureSet[f"eGeMAPS{version}"], level)
        return made.process_signal(wave, RATE)


@pytest.mark.parametrize(
    ("settings", "level", "width"),
    [
        ({}, opensmile.FeatureLevel.Functionals, 88),
        ({"version": "v02"}, opensmile.FeatureLevel.Functionals, 88),
        ({"level": "lld"}, opensmile.FeatureLevel.LowLevelDescriptors, 23),
        ({"level": "lld", "version": "v02"}, opensmile.FeatureLevel.LowLevelDescriptors, 25),
    ],
)
def test_frames_match_opensmile(
    settings: dict[str, str], level: opensmile.FeatureLevel, width: int
) -> None:
    made, wave = front_end(**settings), voice()
    table = run_opensmile(wave, level, settings.get("version", "v01b"))
    found = compute_frames(wave, made)
    assert found.dtype == np.float32
    assert found.shape == table.shape
    assert np.array_equal(found, table.to_numpy(dtype=np.float32))
    assert made.width == width == found.shape[1]
    assert (made.rate, made.hop, made.max_seconds) == (RATE, 0.01, None)


def test_shapes_of_functionals_and_descriptors() -> None:
    for seconds in (0.2, 0.5, 1.0):
        assert len(compute_frames(voice(seconds), front_end())) == 1
        assert (
            len(compute_frames(voice(seconds), front_end(level="lld"))) == round(100 * seconds) - 4
        )


def test_pitch_and_loudness_of_a_known_voice() -> None:
    table = run_opensmile(voice(), opensmile.FeatureLevel.LowLevelDescriptors)
    names = list(table.columns)
    quiet, loud = (
        compute_frames(voice(loudness=loudness), front_end(level="lld"))[5:-5]
        for loudness in (0.1, 0.5)
    )
    pitch, loudness = names.index("F0semitoneFrom27.5Hz_sma3nz"), names.index("Loudness_sma3")
    np.testing.assert_allclose(loud[:, pitch], 12 * np.log2(150 / 27.5), atol=0.2)
    assert (loud[:, loudness] > quiet[:, loudness]).all()


@pytest.mark.parametrize("level", LEVELS)
def test_full_scale_samples_do_not_wrap(level: str) -> None:
    """In 16 bits 1.0 would be 32768, which wraps to -32768: a click in their package."""
    wave = voice()
    loud = wave.copy()
    loud[1000:1200], loud[3000:3200] = 1.0, -1.0
    held = np.clip(loud, -1, 32767 / 32768).astype(np.float32)
    shout = loud * 3
    found = compute_frames(loud, front_end(level=level))
    assert np.array_equal(found, compute_frames(held, front_end(level=level)))
    assert np.array_equal(
        compute_frames(shout, front_end(level=level)),
        compute_frames(np.clip(shout, -1, 1), front_end(level=level)),
    )
    wrapped = run_opensmile(loud, opensmile.FeatureLevel.Functionals).to_numpy()
    assert not np.allclose(wrapped, compute_frames(held, front_end()))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("samples", [1, 160, 959])
def test_short_audio_is_padded_with_silence(level: str, samples: int) -> None:
    wave = voice()[:samples]
    filled = np.pad(wave, (0, 960 - samples))
    found = compute_frames(wave, front_end(level=level))
    assert np.isfinite(found).all()
    assert np.array_equal(found, compute_frames(filled, front_end(level=level)))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_silence_and_constant_offset_are_finite(level: str, value: float) -> None:
    assert np.isfinite(
        compute_frames(np.full(8000, value, np.float32), front_end(level=level))
    ).all()


@pytest.mark.parametrize("seconds", [None, 0.3])
@pytest.mark.parametrize("level", LEVELS)
def test_egemaps_batch_equals_single_waveforms(level: str, seconds: float | None) -> None:
    made = front_end(level=level, seconds=seconds)
    waves = [voice(0.5), voice(0.2, 1), voice(0.01, 2)]
    wave_bs = torch.full((3, 9000), 0.7)  # not zero on padding
    for row_s, wave in zip(wave_bs, waves, strict=True):
        row_s[: len(wave)] = torch.from_numpy(wave)
    x_btf, mask_bt = made(wave_bs, torch.tensor([len(wave) for wave in waves]))
    assert x_btf.shape == (*mask_bt.shape, made.width)
    for x_tf, mask_t, wave in zip(x_btf, mask_bt, waves, strict=True):
        alone = compute_frames(wave if seconds is None else wave[: round(seconds * RATE)], made)
        assert int(mask_t.sum()) == len(alone)
        assert np.array_equal(x_tf[mask_t].numpy(), alone)
        assert (x_tf[~mask_t] == 0).all()


@pytest.mark.parametrize("level", LEVELS)
def test_egemaps_is_thread_safe(level: str) -> None:
    made, waves = front_end(level=level), [voice(0.3, seed) for seed in range(6)]
    alone = [compute_frames(wave, made) for wave in waves]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda wave: compute_frames(wave, made), waves))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


# Bad input


def return_nan(level: str, version: str) -> Callable[[Wave, int], Any]:
    def smile(wave_s: Wave, rate: int) -> Any:
        return np.full((1, 88, 1), np.nan if wave_s.max() > 0.2 else 1.0)

    return smile


def spoken(folder: Path, *loudness: float) -> list[Utterance]:
    found = []
    for number, factor in enumerate(loudness):
        path = folder / f"{number}.wav"
        soundfile.write(path, voice(0.2, loudness=factor), RATE)
        found.append(Utterance(id=f"u{number}", path=path, labels={"emotion": "joy"}))
    return found


def test_nan_is_an_error_that_names_the_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utterances = spoken(tmp_path, 0.9, 0.1, 0.8)
    content_hashes = {one.id: one.id for one in utterances}
    monkeypatch.setattr(egemaps, "_build_smile", return_nan)
    with pytest.raises(AudioError) as caught:
        extract_frames(utterances, front_end(), content_hashes)
    words = str(caught.value)
    assert words.startswith("2 of 3 recordings cannot be read: ")
    assert "0.wav: openSMILE gave NaN for 1 of 1 rows of 0.20 s, loudest sample 0.9" in words
    assert "2.wav" in words
    assert "1.wav" not in words
    assert not [entry for entry in cache_folder().glob("*") if entry.is_dir()]


def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)


def unloadable(monkeypatch: pytest.MonkeyPatch) -> None:
    class Finder:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "opensmile":
                raise OSError("libSMILEapi.so: wrong ELF class")

    monkeypatch.delitem(sys.modules, "opensmile")
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [(broken, "is not installed"), (unloadable, "does not load here .*wrong ELF class")],
)
def test_missing_opensmile_error_names_extra_and_licence(
    spoil: Callable[[pytest.MonkeyPatch], None],
    fault: str,
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(monkeypatch)
    with pytest.raises(ConfigError, match=fault) as caught:
        evaluate("egemaps-svm", corpus, runs=tmp_path)
    assert "pip install 'serein[egemaps]'" in str(caught.value)
    assert "no product, free or paid" in str(caught.value)
    assert not list(tmp_path.iterdir())
    system.check_recipe(recipes.load("li2019"))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("features.level=mfcc", "features.egemaps.level"),
        ("features.version=v03", "features.egemaps.version"),
        ("features.rate=100", "features.egemaps.rate"),
        ("features.bands=3", "unknown setting of features.egemaps 'bands'"),
    ],
)
def test_egemaps_settings_are_checked(setting: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        system.check_recipe(recipes.load("egemaps-svm", [setting]))


# The cache, and notes of results


def entries() -> int:
    return len([entry for entry in cache_folder().glob("*") if entry.is_dir()])


def test_cache_depends_on_the_version_of_opensmile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utterances = spoken(tmp_path, 0.3)
    content_hashes = corpora.hash_contents(utterances)
    for _ in range(2):
        extract_frames(utterances, front_end(), content_hashes)
        assert entries() == 1
    monkeypatch.setattr(dataset, "version", lambda name: "3.0.0")
    extract_frames(utterances, front_end(), content_hashes)
    assert entries() == 2


def test_recipe_reports_packages_and_licence_note() -> None:
    recipe = recipes.load("egemaps-svm")
    assert list(system.collect_packages(recipe)) == ["opensmile", "scikit-learn"]
    assert list(system.collect_packages(recipes.load("zhang2019-lld-rnn"))) == ["opensmile"]
    assert system.collect_packages(recipes.load("li2019")) == {}
    (note,) = system.collect_notes(recipe)
    assert "openSMILE" in note
    assert "no product" in note
    assert system.collect_notes(recipes.load("li2019")) == []
