import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from builders.small_systems import small_recipe

from serein import audio, bundle, corpora, recipes, system
from serein.augment import waveform
from serein.augment.config import AugmentConfig, build_augment_config
from serein.augment.offline import OfflineAugmentation, build_offline_augmentations
from serein.bundle import Bundle, Card
from serein.errors import AudioError, ConfigError, UnknownName
from serein.features.logmel import Config, FrontEnd
from serein.records import Corpus, Recipe
from serein.training.dataset import compute_frames, extract_frames
from serein.utils.files import cache_folder

RATE = 16_000
FRONT_END = FrontEnd(Config(bands=8, window=400, deltas=0))
ALL: dict[str, Any] = {
    "copies": 3,
    "crop": 0.5,
    "whisper": 0.5,
    "speed": [0.9, 1.0, 1.1],
    "pitch": [-2, 2],
    "room": 0.5,
    "noise": 0.5,
    "gain": [-6, 6],
    "bandwidth": 0.5,
    "telephone": 0.5,
}
WAVE = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)


def build_copies(**table: Any) -> tuple[OfflineAugmentation, ...]:
    return build_offline_augmentations(build_augment_config(table), RATE)


def recording(folder: Path, *names: str, seconds: float = 1.0, loud: float = 0.1) -> Path:
    for number, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        wave_s = np.random.default_rng(number).normal(0, loud, round(seconds * RATE))
        soundfile.write(file, wave_s, RATE)
    return folder


# Settings


def test_default_settings_change_nothing() -> None:
    assert build_copies() == build_copies(copies=9, seed=3, noise_snr=[0, 5], speed=[1.0]) == ()
    assert build_copies(time_masks=2, band_masks=2) == ()


@pytest.mark.parametrize("one", sorted(set(ALL) - {"copies"}))
def test_each_effect_makes_copies(one: str) -> None:
    found = build_copies(**{one: ALL[one]})
    assert len(found) == 4
    heard = [copy(WAVE, name) for copy in found for name in ("a", "b")]
    assert any(len(x) != len(WAVE) or not np.array_equal(x, WAVE) for x in heard)
    assert all(x.dtype == np.float32 and np.isfinite(x).all() for x in heard)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"noise_snr": [20, 5]}, r"noise_snr = \[20, 5\]; expected two numbers of dB within"),
        ({"noise_snr": [5, 500]}, r"\[-30, 60\], the smaller one first"),
        ({"pitch": [-20, 2]}, "numbers of semitones"),
        ({"crop_seconds": [0, 2]}, "numbers of s within"),
        ({"gain": [float("nan"), 2]}, "numbers of dB"),
        ({"room_seconds": [0, 1]}, "numbers of s within"),
        ({"bandwidth_hertz": [7000, 3000]}, "numbers of Hz"),
        ({"noise": 1.5}, "augment.noise = 1.5"),
        ({"copies": 0}, "augment.copies = 0"),
        ({"speed": [0.1]}, r"augment.speed.0 = 0.1"),
        ({"pitch": [1]}, "augment.pitch"),
        ({"time_share": 0}, "augment.time_share = 0"),
    ],
)
def test_setting_out_of_range_is_an_error(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_augment_config(table)


def test_unknown_setting_is_an_error() -> None:
    with pytest.raises(UnknownName, match="did you mean 'noise'"):
        build_augment_config({"noize": 0.5})
    with pytest.raises(UnknownName, match="unknown setting of augment"):
        system.check_recipe(recipes.load("li2019", ["augment.spec=true"]))


@pytest.mark.parametrize(
    ("recipe", "changes", "words"),
    [
        ("li2019", ["augment.band_masks=1", "augment.band_width=128"], "mask all of 128 bands"),
        ("zhang2019", ["augment.band_masks=1"], "this front end has none"),
        ("zhang2019-egemaps-svm", ["augment.noise=0.5"], "svm is fitted at once"),
        ("feng2020-emodb", ["augment.crop=0.5"], "would combine all words of an utterance"),
    ],
)
def test_inapplicable_augmentation_is_an_error(recipe: str, changes: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        system.check_recipe(recipes.load(recipe, changes))


def test_width_of_unused_masks_is_ignored() -> None:
    recipe = recipes.load("li2019", ["augment.band_width=128"])
    system.check_recipe(recipe)
    assert system.build_recipe_spec_augment(recipe, system.build_front_end(recipe)) is None


def test_paper_recipes_have_no_augmentation() -> None:
    augmented = {name for name in recipes.list_recipes() if recipes.load(name).augment}
    assert augmented == {"serein-base", "serein-light"}  # those that are not of a paper


# Copies


def test_copies_are_reproducible() -> None:
    first, again = build_copies(**ALL), build_copies(**ALL)
    assert [copy.cache_key for copy in first] == [copy.cache_key for copy in again]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one(WAVE, "a"), other(WAVE, "a"))


def test_copies_utterances_and_seeds_differ() -> None:
    noise = {"noise": 1.0}
    heard = [copy(WAVE, id_) for copy in build_copies(**noise) for id_ in ("a", "b")]
    heard += [copy(WAVE, "a") for copy in build_copies(**noise, seed=1)]
    assert len({x.tobytes() for x in heard}) == 4 * 2 + 4
    keys = [copy.cache_key for seed in (0, 1) for copy in build_copies(**noise, seed=seed)]
    assert len(set(keys)) == 8


def test_more_copies_keep_the_first_ones() -> None:
    few, many = build_copies(**ALL), build_copies(**{**ALL, "copies": 5})
    assert [copy.cache_key for copy in few] == [copy.cache_key for copy in many[:3]]


def test_effects_have_independent_random_numbers() -> None:
    slow = build_copies(speed=[0.8, 0.9, 1.1, 1.2])
    both = build_copies(speed=[0.8, 0.9, 1.1, 1.2], noise=0.5, gain=[-3, 3])
    for one, other in zip(slow, both, strict=True):
        assert len(one(WAVE, "a")) == len(other(WAVE, "a"))


def test_probabilities_and_ranges_hold() -> None:
    found = build_copies(copies=100, noise=0.3, noise_snr=[3, 9])
    ratios = []
    for copy in found:
        added = copy(WAVE, "a").astype(np.float64) - WAVE
        if added.any():
            ratios.append(10 * np.log10(np.square(WAVE).sum() / np.square(added).sum()))
    assert 18 <= len(ratios) <= 42
    assert 2.99 < min(ratios) < 4
    assert 8 < max(ratios) < 9.01


def test_copy_without_effect_is_the_recording() -> None:
    heard = [copy(WAVE, "a") for copy in build_copies(copies=30, telephone=0.1)]
    assert 20 <= sum(np.array_equal(x, WAVE) for x in heard) < 30


# Folders


def test_noise_folder_includes_subfolders(tmp_path: Path) -> None:
    root = recording(tmp_path / "noises", "b.wav", "deep/a.FLAC", "c.wav", seconds=0.3)
    (root / "README").write_text("not audio")
    (root / ".hidden.wav").write_text("not audio")
    folder = waveform.open_audio_folder(str(root), "noise_folder")
    assert folder is not None
    names = [file.relative_to(root).as_posix() for file, _ in folder.files]
    assert names == ["b.wav", "c.wav", "deep/a.FLAC"]
    assert [seconds for _, seconds in folder.files] == pytest.approx([0.3] * 3)
    for copy in build_copies(noise=1.0, noise_folder=str(root), noise_snr=[10, 10]):
        added = copy(WAVE, "a").astype(np.float64) - WAVE
        assert 10 * np.log10(np.square(WAVE).sum() / np.square(added).sum()) == pytest.approx(
            10, abs=0.01
        )


@pytest.mark.parametrize("seconds", [0.3, 1.0, 5.0])
def test_load_excerpt_is_of_one_recording_and_the_given_size(
    tmp_path: Path, seconds: float
) -> None:
    folder = waveform.open_audio_folder(
        str(recording(tmp_path, "a.wav", seconds=seconds)), "noise_folder"
    )
    assert folder is not None
    whole = audio.load(tmp_path / "a.wav")
    starts = set()
    for seed in range(5):
        found = waveform.load_excerpt(folder, RATE, RATE, np.random.default_rng(seed))
        assert len(found) == RATE
        seen = [whole[:-2] == found[0], whole[1:-1] == found[1], whole[2:] == found[2]]
        begin = int(np.flatnonzero(np.logical_and.reduce(seen))[0])
        part = min(RATE, len(whole) - begin)
        np.testing.assert_array_equal(found[:part], whole[begin : begin + part])
        starts.add(begin)
    assert len(starts) == (5 if seconds > 2 else 1)


def test_room_folder_provides_impulse_responses(tmp_path: Path) -> None:
    response = np.zeros(800, np.float32)
    response[[40, 240]] = 0.5, 0.25
    soundfile.write(tmp_path / "echo.wav", response, RATE, subtype="FLOAT")
    for copy in build_copies(room=1.0, room_folder=str(tmp_path)):
        wanted = WAVE + 0.5 * np.concatenate([np.zeros(200, np.float32), WAVE[:-200]])
        wanted *= np.sqrt(np.square(WAVE).sum() / np.square(wanted).sum())
        np.testing.assert_allclose(copy(WAVE, "a"), wanted, atol=1e-5)


def test_digest_depends_on_content_not_path(tmp_path: Path) -> None:
    one = recording(tmp_path / "one", "a.wav", "b.wav")
    two = tmp_path / "two"
    shutil.copytree(one, two)
    keys = [build_copies(noise=1.0, noise_folder=str(root))[0].cache_key for root in (one, two)]
    assert keys[0] == keys[1]
    recording(two, "c.wav")
    assert build_copies(noise=1.0, noise_folder=str(two))[0].cache_key != keys[0]


@pytest.mark.parametrize("setting", ["noise_folder", "room_folder"])
def test_unusable_folder_is_an_error(tmp_path: Path, setting: str) -> None:
    table = {"noise": 1.0, "room": 1.0}
    with pytest.raises(ConfigError, match=rf"augment.{setting}: .*none is no folder"):
        build_copies(**table, **{setting: str(tmp_path / "none")})
    (tmp_path / "notes.txt").write_text("no audio here")
    with pytest.raises(ConfigError, match="holds no WAV or FLAC file, nor do the folders in it"):
        build_copies(**table, **{setting: str(tmp_path)})
    (tmp_path / "broken.wav").write_bytes(b"no audio either")
    with pytest.raises(AudioError, match=r"broken\.wav is not audio that can be read"):
        build_copies(**table, **{setting: str(tmp_path)})


def test_silent_impulse_response_is_an_error(tmp_path: Path) -> None:
    recording(tmp_path, "silent.wav", loud=0.0)
    with pytest.raises(AudioError, match=r"silent\.wav holds silence; expected an impulse"):
        build_copies(room=1.0, room_folder=str(tmp_path))[0](WAVE, "a")


# Cache


def test_copies_are_cached_separately(corpus: Corpus) -> None:
    chosen = corpus.utterances[::8]
    content_hashes = corpora.hash_contents(chosen)
    plain = extract_frames(chosen, FRONT_END, content_hashes)
    found = [
        extract_frames(chosen, FRONT_END, content_hashes, augmentation=copy)
        for copy in build_copies(**ALL)
    ]
    entries = [entry for entry in cache_folder().glob("*") if entry.is_dir()]
    assert len(entries) == 4
    for copy, frames in zip(build_copies(**ALL), found, strict=True):
        for one in chosen:
            wanted = compute_frames(copy(audio.load(one.path), one.id), FRONT_END)
            assert np.array_equal(frames[one.id], wanted)
    assert not any(np.array_equal(frames.x_nf, plain.x_nf) for frames in found)


def test_copy_depends_on_the_utterance_id(corpus: Corpus) -> None:
    one = corpus.utterances[0]
    other = replace(one, id="other")
    copy = build_copies(noise=1.0)[0]
    found = [
        extract_frames([u], FRONT_END, corpora.hash_contents([u]), augmentation=copy)[u.id]
        for u in (one, other)
    ]
    assert not np.array_equal(found[0], found[1])


def test_truncated_noise_error_names_the_file(corpus: Corpus, tmp_path: Path) -> None:
    recording(tmp_path, "noise.wav")
    copy = build_copies(noise=1.0, noise_folder=str(tmp_path))[0]
    (tmp_path / "noise.wav").write_bytes((tmp_path / "noise.wav").read_bytes()[:2000])
    chosen = corpus.utterances[:2]
    with pytest.raises(AudioError, match=r"2 of 2 recordings cannot be read: .*noise\.wav"):
        extract_frames(chosen, FRONT_END, corpora.hash_contents(chosen), augmentation=copy)


# Bundles


def build_bundle(recipe: Recipe) -> system.System:
    return system.System(recipe, dict.fromkeys(recipe.tasks, ("a", "b")))


def test_bundle_keeps_augmentation_settings(tmp_path: Path) -> None:
    recipe = small_recipe("augment.noise=0.5", "augment.speed=[0.9, 1.1]")
    bundle.save(Bundle(build_bundle(recipe), Card()), tmp_path / "a.safetensors")
    loaded = bundle.load(tmp_path / "a.safetensors").system.recipe
    assert loaded.augment == {"noise": 0.5, "speed": [0.9, 1.1]}


def test_bundle_without_augmentation_has_no_table() -> None:
    document = json.loads(bundle.bundle_to_json(Bundle(build_bundle(small_recipe()), Card())))
    assert list(document["recipe"]) == [
        *("name", "about", "features", "normalise", "model", "tasks", "training", "protocol"),
    ]


def test_defaults_are_off() -> None:
    assert AugmentConfig().waveform_settings == {}
    assert build_augment_config({}) == AugmentConfig()
