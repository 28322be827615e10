"""The front end of Whisper's encoder: rows, level, saved models, and faults."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.small_systems import CLASSES
from builders.whisper_encoders import SIZES, write_whisper
from safetensors import safe_open
from torch import Tensor

from serein import recipes
from serein.bundle import Bundle, Card, count_megabytes, load, save
from serein.config import build_config
from serein.errors import BundleError, ConfigError, EncoderError
from serein.features.whisper import LOUDEST_BAND, Config, FrontEnd
from serein.records import Recipe
from serein.synthetic import Voice, synthesize
from serein.system import System, collect_packages, predict_batch


def build_front_end(folder: Path, **settings: Any) -> FrontEnd:
    table = {"encoder": str(folder), "layers": [2], **settings}
    return FrontEnd(build_config(Config, table, "features"))


def speech(seed: int = 0) -> Tensor:
    said = Voice.for_speaker("a", "female")
    wave = synthesize(["fosira", "xuri"], said, "anger", np.random.default_rng(seed))
    return torch.from_numpy(wave)[None]


def compute_row(front_end: FrontEnd, wave_1s: Tensor) -> Tensor:
    x_btf, mask_bt = front_end(wave_1s, torch.tensor([wave_1s.shape[1]]))
    assert x_btf.shape == (1, 1, front_end.width)
    assert mask_bt.tolist() == [[True]]
    return x_btf[0, 0]


def build_system(folder: Path) -> System:
    torch.manual_seed(0)
    return System(build_recipe(folder), CLASSES)


def build_recipe(folder: Path) -> Recipe:
    recipe = recipes.load("egemaps-svm", ["tasks.gender.weight=1.0", "tasks.emotion.scheme=own"])
    return replace(recipe, features={"name": "whisper", "encoder": str(folder), "layers": [1]})


def test_a_row_is_mean_and_deviation_of_each_layer(tmp_path: Path) -> None:
    front_end, wave_1s = build_front_end(write_whisper(tmp_path / "e"), layers=[1, 3]), speech()
    row_f = compute_row(front_end, wave_1s)
    outputs = front_end.get_encoder(torch.device("cpu"))(front_end.compute_log_mel(wave_1s))
    expected = []
    for layer in (1, 3):
        x_td = outputs[layer - 1][0].double().numpy()
        expected += [x_td.mean(axis=0), x_td.std(axis=0)]
    np.testing.assert_allclose(row_f.numpy(), np.concatenate(expected), atol=2e-4)


def test_bands_are_the_log_of_slaney_mel_power_with_the_loudest_at_a_fixed_level(
    tmp_path: Path,
) -> None:
    librosa = pytest.importorskip("librosa")
    wave_1s = speech()
    front_end = build_front_end(write_whisper(tmp_path / "e"))
    found_mt = front_end.compute_log_mel(wave_1s)[0].numpy()
    bands = SIZES["num_mel_bins"]
    power_mt = librosa.feature.melspectrogram(
        y=wave_1s[0].numpy(), sr=16_000, n_fft=400, hop_length=160, n_mels=bands, pad_mode="reflect"
    )[:, :-1]
    log_mt = np.log10(power_mt / power_mt.max()).clip(min=-8) + LOUDEST_BAND
    np.testing.assert_allclose(found_mt, (log_mt + 4) / 4, atol=1e-4)


def test_gain_has_no_effect(tmp_path: Path) -> None:
    front_end, wave_1s = build_front_end(write_whisper(tmp_path / "e")), speech()
    quiet, loud = (compute_row(front_end, gain * wave_1s) for gain in (0.01, 1.0))
    torch.testing.assert_close(quiet, loud, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("offset", [-0.5, 0.2])
def test_an_offset_has_no_effect(tmp_path: Path, offset: float) -> None:
    front_end, wave_1s = build_front_end(write_whisper(tmp_path / "e")), 0.1 * speech()
    ours, theirs = (compute_row(front_end, wave_1s + by) for by in (0.0, offset))
    torch.testing.assert_close(ours, theirs, atol=5e-3, rtol=5e-3)


def test_rows_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    front_end = build_front_end(write_whisper(tmp_path / "e"))
    waves_bs = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    together, _ = front_end(waves_bs, torch.tensor([8000, 3001]))
    alone = compute_row(front_end, waves_bs[1:, :3001])
    torch.testing.assert_close(together[1, 0], alone)


@pytest.mark.parametrize("samples", [1, 160, 399, 641, 16_000])
def test_short_and_silent_recordings_have_finite_rows(tmp_path: Path, samples: int) -> None:
    front_end = build_front_end(write_whisper(tmp_path / "e"))
    for wave_1s in (torch.zeros(1, samples), torch.ones(1, samples), torch.randn(1, samples)):
        assert torch.isfinite(compute_row(front_end, wave_1s)).all()


def test_recordings_are_cut_at_the_longest_length(tmp_path: Path) -> None:
    front_end = build_front_end(write_whisper(tmp_path / "e"), seconds=0.5)
    wave_1s = torch.randn(1, 20_000)
    torch.testing.assert_close(
        compute_row(front_end, wave_1s), compute_row(front_end, wave_1s[:, :8000])
    )


def test_the_onnx_form_computes_the_same(tmp_path: Path) -> None:
    front_end = build_front_end(write_whisper(tmp_path / "e")).eval()
    form = front_end.to_onnx_module()
    for samples in (400, 960, 12_345):
        wave_1s = 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(samples))
        with torch.inference_mode():
            expected, _ = front_end(wave_1s, torch.tensor([samples]))
            found, mask = form(wave_1s, torch.tensor([samples]))
        assert mask.tolist() == [[True]]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_saved_model_needs_no_encoder_beside_it(tmp_path: Path) -> None:
    system = build_system(write_whisper(tmp_path / "e"))
    file = tmp_path / "model.safetensors"
    save(Bundle(system, Card(name="model")), file)
    (tmp_path / "e" / "model.safetensors").unlink()
    loaded = load(file)
    wave_1s = speech()
    frames = system.extract_features(wave_1s, torch.tensor([wave_1s.shape[1]]))
    found = loaded.system.extract_features(wave_1s, torch.tensor([wave_1s.shape[1]]))
    torch.testing.assert_close(found["frames"][0], frames["frames"][0])
    ours, theirs = predict_batch(loaded.system, found)[0], predict_batch(system, frames)[0]
    torch.testing.assert_close(ours, theirs)
    with safe_open(file, "pt") as tensors:
        document = json.loads(tensors.metadata()["serein"])
        names = [name for name in tensors.keys() if name.startswith("encoder/")]  # noqa: SIM118
        assert {tensors.get_tensor(name).dtype for name in names} == {torch.float16}
    assert str(tmp_path) not in json.dumps(document)
    assert count_megabytes(loaded.system) * 1e6 < file.stat().st_size
    assert loaded.system.front_end.config == system.front_end.config


def test_a_saved_model_is_an_encoder_for_others(tmp_path: Path) -> None:
    folder = write_whisper(tmp_path / "e")
    file = tmp_path / "model.safetensors"
    save(Bundle(build_system(folder), Card(name="model")), file)
    front_end, other = build_front_end(folder, layers=[1]), build_front_end(file, layers=[1])
    assert front_end.config == other.config
    torch.testing.assert_close(compute_row(front_end, speech()), compute_row(other, speech()))
    hashes = [collect_packages(build_recipe(path))["encoder"] for path in (folder, file)]
    assert hashes[0] == hashes[1] == front_end.config.sha256
    with pytest.raises(EncoderError, match="layer 2 of an encoder of 1 layers"):
        build_front_end(file, layers=[2])


def test_altered_weights_of_a_saved_model_are_refused(tmp_path: Path) -> None:
    system = build_system(write_whisper(tmp_path / "e"))
    system.front_end._weights["conv1.bias"][0] += 1  # type: ignore[attr-defined]
    file = tmp_path / "model.safetensors"
    save(Bundle(system, Card(name="model")), file)
    with pytest.raises(BundleError, match="the SHA-256 of its weights"):
        load(file)


def test_faults_are_named(tmp_path: Path) -> None:
    folder = write_whisper(tmp_path / "e")
    digest = build_front_end(folder).config.sha256
    with pytest.raises(EncoderError, match="is another one"):
        build_front_end(write_whisper(tmp_path / "f", seed=1), sha256=digest)
    with pytest.raises(EncoderError, match="no encoder in"):
        build_front_end(tmp_path / "missing")
    with pytest.raises(EncoderError, match="no encoder is named"):
        FrontEnd(Config())
    with pytest.raises(ConfigError, match=r"features\.layers is empty"):
        build_front_end(folder, layers=[])
    with pytest.raises(EncoderError, match="layer 4 of an encoder of 3 layers"):
        build_front_end(folder, layers=[4])
    with pytest.raises(EncoderError, match="type 'wavlm'"):
        build_front_end(write_whisper(tmp_path / "g", model_type="wavlm"))
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(EncoderError, match="cannot be read"):
        build_front_end(folder)
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(EncoderError, match="not a saved model"):
        build_front_end(tmp_path / "x.safetensors")
