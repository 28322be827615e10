"""Pretrained encoders: files, weights, and states compared with ``transformers``."""

import json
import math
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.tiny_encoders import DEFAULT_ENCODER, ENCODERS, rename_weights, write_encoder

from serein.errors import EncoderError
from serein.features.logmel import mel_filters
from serein.layers import ssl_encoder
from serein.layers.ssl_encoder import (
    SSLEncoder,
    WeightedLayerSum,
    load_frozen_encoder,
    load_weights,
    sparsemax,
)
from serein.layers.whisper_encoder import WhisperEncoder, read_whisper_config

transformers = pytest.importorskip(
    "transformers", reason="needs transformers: pip install 'serein[ssl]'"
)
HUB = "lab/tiny"
CLASSES = {
    "wav2vec2": "Wav2Vec2Model",
    "hubert": "HubertModel",
    "wavlm": "WavLMModel",
    "data2vec-audio": "Data2VecAudioModel",
    "whisper": "WhisperModel",
}


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and no network."""

    def no_network(*_: Any) -> None:
        raise AssertionError("somebody asked the network")

    folder = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.delenv(ssl_encoder.ENCODER_FOLDER_VARIABLE, raising=False)
    return folder


def build_encoder(folder: Path) -> SSLEncoder:
    encoder = SSLEncoder(ssl_encoder.read_encoder_config(folder))
    load_weights(encoder, folder)
    return encoder.eval()


def noise(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random waveforms, also on padding."""
    torch.manual_seed(1)
    return 0.1 * torch.randn(len(lengths), max(lengths) + 50), torch.tensor(lengths)


# Files


def test_find_encoder_in_a_folder_and_hash_its_content(tmp_path: Path) -> None:
    one, same = write_encoder(tmp_path / "one"), write_encoder(tmp_path / "same")
    other = write_encoder(tmp_path / "other", seed=1)
    assert ssl_encoder.find_encoder(str(one)) == one
    assert (
        ssl_encoder.hash_encoder(one)
        == ssl_encoder.hash_encoder(same)
        != ssl_encoder.hash_encoder(other)
    )
    assert len(ssl_encoder.hash_encoder(one)) == 64
    (same / "README.md").write_text("words that change no number")
    assert ssl_encoder.hash_encoder(one) == ssl_encoder.hash_encoder(same)
    (same / "preprocessor_config.json").write_text('{"do_normalize": false}')
    assert ssl_encoder.hash_encoder(one) != ssl_encoder.hash_encoder(same)


def test_find_encoder_in_the_folder_of_encoders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_encoder(tmp_path / "shelf" / "tiny")
    monkeypatch.setenv(ssl_encoder.ENCODER_FOLDER_VARIABLE, str(tmp_path / "shelf"))
    for name in ("tiny", HUB, "/another/machine/tiny"):
        assert ssl_encoder.find_encoder(name) == folder
    with pytest.raises(EncoderError, match="is not on this machine"):
        ssl_encoder.find_encoder("lab/large")


def add_to_hub_cache(hub: Path, revision: str = "main") -> Path:
    """Write files in the layout of the hub's cache."""
    place = hub / "models--lab--tiny"
    (place / "refs" / revision).parent.mkdir(parents=True)
    (place / "refs" / revision).write_text("a" * 40)
    return write_encoder(place / "snapshots" / ("a" * 40))


@pytest.mark.parametrize("revision", ["main", "refs/pr/3"])
def test_find_encoder_in_hub_cache_without_network(hub: Path, revision: str) -> None:
    folder = add_to_hub_cache(hub, revision)
    assert ssl_encoder.find_encoder(HUB, revision) == folder
    with pytest.raises(EncoderError, match="is not on this machine"):
        ssl_encoder.find_encoder(HUB, "another")
    (folder / "config.json").unlink()
    with pytest.raises(EncoderError, match="is not on this machine"):
        ssl_encoder.find_encoder(HUB, revision)


def test_missing_encoder_error_says_what_to_do() -> None:
    with pytest.raises(EncoderError) as caught:
        ssl_encoder.find_encoder(HUB, "refs/pr/2")
    words = str(caught.value)
    assert f"hf download {HUB} --revision refs/pr/2" in words
    assert "download = true" in words
    assert ssl_encoder.ENCODER_FOLDER_VARIABLE in words


def test_hub_is_used_only_with_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    folder = write_encoder(tmp_path / "given")

    def snapshot_download(name: str, **settings: Any) -> str:
        asked.append({"name": name, **settings})
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    for download in (False, True):
        assert ssl_encoder.find_encoder(HUB, download=download) == folder
    assert [one["local_files_only"] for one in asked] == [True, False]
    assert all(file.endswith((".json", ".safetensors")) for file in asked[0]["allow_patterns"])


def test_failed_download_is_an_encoder_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(name: str, **_: Any) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(
        EncoderError, match=r"lab/tiny \(main\) cannot be downloaded from the hub: no route"
    ):
        ssl_encoder.find_encoder(HUB, download=True)


def test_find_encoder_rejects_other_paths(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="no encoder is named"):
        ssl_encoder.find_encoder("")
    for name in (str(tmp_path), str(tmp_path / "none" / "at" / "all")):
        with pytest.raises(EncoderError, match=r"it has no config\.json"):
            ssl_encoder.find_encoder(name)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "a")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EncoderError, match=r"but pytorch_model\.bin, a pickle.*refs/pr/N"):
        ssl_encoder.hash_encoder(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(EncoderError, match=r"no model\.safetensors; take"):
        ssl_encoder.find_weight_files(folder)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("config.json", "{", "is not the configuration of an encoder"),
        ("config.json", "[]", "expected a JSON object"),
        ("preprocessor_config.json", '{"sampling_rate": 8000}', "is for 8000 Hz; expected 16000"),
    ],
)
def test_damaged_config_is_an_error(tmp_path: Path, file: str, text: str, words: str) -> None:
    folder = write_encoder(tmp_path / "a")
    (folder / file).write_text(text)
    with pytest.raises(EncoderError, match=words):
        ssl_encoder.read_encoder_config(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "bert"}, "of type 'bert'; expected one of wav2vec2, hubert"),
        ({"model_type": None}, "of type None"),
        ({"num_hidden_layers": "many"}, "not that of a wav2vec2"),
        ({"conv_stride": 3}, "not that of a wav2vec2"),
        ({"num_attention_heads": 3}, "cannot build this wav2vec2"),
    ],
)
def test_impossible_architecture_is_an_error(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(EncoderError, match=words):
        SSLEncoder({**ENCODERS[DEFAULT_ENCODER], **changes})


def test_config_cannot_name_code_or_regularization() -> None:
    """``transformers`` would download attention code of that name from the hub, and run it."""
    foreign = {"_attn_implementation": "lab/attention", "attn_implementation": "lab/attention"}
    others = {"auto_map": {"AutoModel": "code.Model"}, "return_dict": False, "layerdrop": 0.9}
    for settings in ENCODERS.values():
        found = SSLEncoder({**settings, **foreign, **others}).network.config
        assert found._attn_implementation in ("sdpa", "eager")
        assert not hasattr(found, "auto_map")
        assert found.return_dict is True
        assert getattr(found, "encoder_layerdrop", 0.0) == 0.0
        assert found.model_type == "whisper" or found.layerdrop == 0.0


# Weights


@pytest.mark.parametrize("kind", ENCODERS)
def test_load_weights_of_models_with_heads(tmp_path: Path, kind: str) -> None:
    prefix = {"whisper": "model.encoder.", "data2vec-audio": "data2vec_audio."}
    above = prefix.get(kind, f"{kind.split('-')[0]}.")
    plain = build_encoder(write_encoder(tmp_path / "plain", kind)).state_dict()
    within = build_encoder(write_encoder(tmp_path / "within", kind, prefix=above)).state_dict()
    assert plain.keys() == within.keys()
    assert all(torch.equal(weight, within[name]) for name, weight in plain.items())


def test_load_weights_with_old_names(tmp_path: Path) -> None:
    old = write_encoder(tmp_path / "old")
    place = "encoder.pos_conv_embed.conv."
    new = f"{place}parametrizations.weight.original"
    rename_weights(old, {f"{new}0": f"{place}weight_g", f"{new}1": f"{place}weight_v"})
    found, wanted = (
        build_encoder(old).state_dict(),
        build_encoder(write_encoder(tmp_path / "new")).state_dict(),
    )
    assert all(torch.equal(weight, found[name]) for name, weight in wanted.items())


def test_missing_weight_is_an_error(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "a")
    rename_weights(folder, {"encoder.layers.1.attention.k_proj.weight": ""})
    with pytest.raises(EncoderError, match=r"1 of \d+ weights .*layers\.1\.attention\.k_proj"):
        build_encoder(folder)


def test_unfitting_or_unreadable_weights_are_errors(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "a")
    settings = {**ENCODERS[DEFAULT_ENCODER], "intermediate_size": 48}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(EncoderError, match=r"do not fit its config\.json"):
        build_encoder(folder)
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(EncoderError, match="cannot be read"):
        build_encoder(folder)


def test_frozen_encoder_is_cached_by_content(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "a")
    first = ssl_encoder.hash_encoder(folder)
    one = load_frozen_encoder(folder, first)
    assert load_frozen_encoder(folder, first) is one
    assert not any(parameter.requires_grad for parameter in one.parameters())
    write_encoder(folder, seed=1)
    assert ssl_encoder.hash_encoder(folder) != first
    assert load_frozen_encoder(folder, ssl_encoder.hash_encoder(folder)) is not one


# States


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("kind", [kind for kind in ENCODERS if kind != "whisper"])
def test_states_match_transformers(tmp_path: Path, kind: str, standardise: bool) -> None:
    folder = write_encoder(tmp_path / "a", kind)
    heard = json.dumps({"do_normalize": standardise, "sampling_rate": 16_000})
    (folder / "preprocessor_config.json").write_text(heard)
    name = CLASSES[ENCODERS[kind]["model_type"]]
    theirs = getattr(transformers, name).from_pretrained(folder, dtype=torch.float32).eval()
    reader = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    wave_bs, length_b = noise(8000)
    wave_s = wave_bs[0, :8000]
    asked = reader(wave_s.numpy(), sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        ours, mask_bt = build_encoder(folder)(wave_bs, length_b)
        wanted = theirs(asked, output_hidden_states=True)
    assert ours.shape == (1, 24, 3, 16)
    assert bool(mask_bt.all())
    states = [*wanted.hidden_states[:2], wanted.last_hidden_state]
    torch.testing.assert_close(ours, torch.stack(states, dim=2), atol=2e-5, rtol=0)


def test_whisper_states_match_transformers(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "a", "whisper")
    theirs = build_encoder(folder).network
    reader = transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1)
    wave_bs, length_b = noise(8000)
    asked = reader(wave_bs[0, :8000].numpy(), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        ours, _ = build_encoder(folder)(wave_bs, length_b)
        wanted = theirs(asked.input_features, output_hidden_states=True)
    assert ours.shape == (1, 25, 3, 16)
    found = torch.stack(wanted.hidden_states, dim=2)[:, :25]
    torch.testing.assert_close(ours, found, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ENCODERS)
def test_batch_equals_single_waveforms(tmp_path: Path, kind: str) -> None:
    encoder = build_encoder(write_encoder(tmp_path / "a", kind))
    wave_bs, length_b = noise(9000, 4100, 400, 30)
    with torch.no_grad():
        x_btnd, mask_bt = encoder(wave_bs, length_b)
    assert x_btnd.shape == (4, mask_bt.shape[1], 3, 16)
    for row, length in enumerate(length_b.tolist()):
        with torch.no_grad():
            alone, heard = encoder(wave_bs[row : row + 1, :length], torch.tensor([length]))
        frames = int(heard.sum())
        assert frames == int(mask_bt[row].sum()) == alone.shape[1]
        torch.testing.assert_close(x_btnd[row, :frames], alone[0], atol=1e-5, rtol=0)
        assert (x_btnd[row, frames:] == 0).all()


def test_masks_do_not_suffice_for_encoders_that_normalize_over_time(tmp_path: Path) -> None:
    """These process one waveform after the other, as masks would change their states."""
    encoder = build_encoder(write_encoder(tmp_path / "a", "wav2vec2-group"))
    wave_bs, length_b = noise(9000, 4100)
    with torch.no_grad():
        apart, mask_bt = encoder(wave_bs, length_b)
        encoder.supports_mask = True
        masked, _ = encoder(wave_bs, length_b)
    assert not torch.allclose(apart[1][mask_bt[1]], masked[1][mask_bt[1]], atol=1e-3)


def test_whisper_input_is_cut_at_its_maximum(tmp_path: Path) -> None:
    encoder = build_encoder(write_encoder(tmp_path / "a", "whisper"))
    wave_bs, length_b = noise(20_000)
    assert encoder.shape.max_samples == 16_000
    with torch.no_grad():
        x_btnd, _ = encoder(wave_bs, length_b)
        cut, _ = encoder(wave_bs[:, :16_000], torch.tensor([16_000]))
    assert np.array_equal(x_btnd, cut)
    assert x_btnd.shape[1] == 50


# Whisper at the recording's own length


def build_unpadded(folder: Path, layers: int | None = None) -> SSLEncoder:
    encoder = SSLEncoder(ssl_encoder.read_encoder_config(folder), layers=layers, pad=False)
    load_weights(encoder, folder)
    return encoder.eval()


def compute_log_mel(wave_s: np.ndarray, bands: int) -> np.ndarray:
    """Whisper's log-mel bands (M, frames), written out: reflected ends, no frame after the end."""
    padded_s = np.pad(wave_s.astype(float), 200, mode="reflect")
    window_s = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    starts = range(0, 160 * (len(wave_s) // 160), 160)
    power_tc = [np.abs(np.fft.rfft(padded_s[s : s + 400] * window_s)) ** 2 for s in starts]
    log_tm = np.log10(np.maximum(np.array(power_tc) @ mel_filters(16_000, 400, bands), 1e-10))
    return ((np.maximum(log_tm, log_tm.max() - 8) + 4) / 4).T


def gelu(x: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda value: value * (1 + math.erf(value / math.sqrt(2))) / 2)(x)


def convolve(x_ct: np.ndarray, weights: dict[str, np.ndarray], name: str, stride: int) -> Any:
    padded_ct = np.pad(x_ct, ((0, 0), (1, 1)))
    places = range(0, x_ct.shape[1], stride)
    y_td = [
        np.einsum("dck,ck->d", weights[f"{name}.weight"], padded_ct[:, t : t + 3]) for t in places
    ]
    return gelu(np.array(y_td).T + weights[f"{name}.bias"][:, None])


def normalize(x_td: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred_td = x_td - x_td.mean(axis=1, keepdims=True)
    scaled_td = centred_td / np.sqrt((centred_td**2).mean(axis=1, keepdims=True) + 1e-5)
    return scaled_td * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def project(x_td: np.ndarray, weights: dict[str, np.ndarray], name: str) -> Any:
    return x_td @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)


def attend(x_td: np.ndarray, weights: dict[str, np.ndarray], name: str, heads: int) -> Any:
    query, key, value = (
        np.split(project(x_td, weights, f"{name}.{kind}_proj"), heads, axis=1) for kind in "qkv"
    )
    mixed = []
    for q_td, k_td, v_td in zip(query, key, value, strict=True):
        score_tt = np.exp(q_td @ k_td.T / np.sqrt(q_td.shape[1]))
        mixed.append(score_tt / score_tt.sum(axis=1, keepdims=True) @ v_td)
    return project(np.hstack(mixed), weights, f"{name}.out_proj")


def compute_whisper(wave_s: np.ndarray, encoder: SSLEncoder, layers: int) -> list[np.ndarray]:
    """All states (T, D) of Whisper's encoder, written out (Radford et al. 2023, section 2.2)."""
    weights = {name: x.double().numpy() for name, x in encoder.network.state_dict().items()}
    x_ct = convolve(compute_log_mel(wave_s, 8), weights, "conv1", 1)
    x_td = convolve(x_ct, weights, "conv2", 2).T
    states = [x_td + weights["embed_positions.weight"][: len(x_td)]]
    for number in range(layers):
        name, x_td = f"layers.{number}", states[-1]
        normal_td = normalize(x_td, weights, f"{name}.self_attn_layer_norm")
        x_td = x_td + attend(normal_td, weights, f"{name}.self_attn", 2)
        normal_td = normalize(x_td, weights, f"{name}.final_layer_norm")
        hidden_td = gelu(project(normal_td, weights, f"{name}.fc1"))
        states.append(x_td + project(hidden_td, weights, f"{name}.fc2"))
    states[-1] = normalize(states[-1], weights, "layer_norm")
    return states


@pytest.mark.parametrize("samples", [4000, 4170])
def test_unpadded_whisper_equals_the_written_out_computation(tmp_path: Path, samples: int) -> None:
    """On noise with an offset, a click, and digital silence, as recordings have them."""
    folder = write_encoder(tmp_path / "a", "whisper")
    wave_bs, length_b = noise(samples)
    wave_bs[:, 1000:1800] = 0
    wave_bs[:, 500] = 1.0
    wave_bs += 0.01
    encoder = build_unpadded(folder)
    with torch.no_grad():
        x_btnd, mask_bt = encoder(wave_bs, length_b)
    wanted = compute_whisper(wave_bs[0, :samples].numpy(), build_encoder(folder), 2)
    assert x_btnd.shape == (1, 13, 3, 16)
    assert bool(mask_bt.all())
    for number, state_td in enumerate(wanted):
        np.testing.assert_allclose(x_btnd[0, :, number].numpy(), state_td, atol=1e-4)


def test_unpadded_whisper_has_the_states_of_the_encoder_without_transformers(
    tmp_path: Path,
) -> None:
    folder = write_encoder(tmp_path / "a", "whisper")
    sizes = read_whisper_config(ssl_encoder.read_encoder_config(folder), 1)
    other = WhisperEncoder(sizes).eval()
    encoder = build_unpadded(folder, layers=1)
    own = encoder.network.state_dict()
    other.load_state_dict({name: own[name] for name in other.state_dict()})
    other.position_td[:50] = own["embed_positions.weight"]
    wave_bs, length_b = noise(8000)
    with torch.no_grad():
        x_btnd, _ = encoder(wave_bs, length_b)
        (wanted_btd,) = other(encoder._log_mel(wave_bs[:, :8000]))
    torch.testing.assert_close(x_btnd[:, :, 1], wanted_btd, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(1, 1), (320, 1), (479, 1), (480, 2), (799, 2), (16_000, 50), (20_000, 50)],
)
def test_unpadded_whisper_has_a_frame_for_every_20_ms(
    tmp_path: Path, samples: int, frames: int
) -> None:
    encoder = build_unpadded(write_encoder(tmp_path / "a", "whisper"))
    with torch.no_grad():
        x_btnd, mask_bt = encoder(*noise(samples))
    assert x_btnd.shape == (1, frames, 3, 16)
    assert bool(mask_bt.all())
    assert bool(torch.isfinite(x_btnd).all())


@pytest.mark.parametrize("pad", [True, False])
@pytest.mark.parametrize("kind", ENCODERS)
def test_first_layers_have_the_states_of_the_whole_encoder(
    tmp_path: Path, kind: str, pad: bool
) -> None:
    folder = write_encoder(tmp_path / "a", kind)
    whole, first = (load_frozen_encoder(folder, "", layers=layers, pad=pad) for layers in (None, 1))
    assert sum(x.numel() for x in first.parameters()) < sum(x.numel() for x in whole.parameters())
    wave_bs, length_b = noise(9000, 4100)
    with torch.no_grad():
        wanted, wanted_mask_bt = whole(wave_bs, length_b)
        found, mask_bt = first(wave_bs, length_b)
    assert torch.equal(mask_bt, wanted_mask_bt)
    torch.testing.assert_close(found, wanted[:, :, :2], atol=1e-6, rtol=0)


# Weights of layers


@pytest.mark.parametrize("seed", range(5))
def test_sparsemax_is_the_closest_point_of_the_simplex(seed: int) -> None:
    """The distance to the scores is compared with that of points of a grid on the simplex."""
    generator = torch.Generator().manual_seed(seed)
    score_n = 2 * torch.randn(3, generator=generator, dtype=torch.float64)
    weight_n = sparsemax(score_n)
    assert float(weight_n.sum()) == pytest.approx(1)
    assert bool((weight_n >= 0).all())
    steps = torch.linspace(0, 1, 51, dtype=torch.float64)
    grid = torch.cartesian_prod(steps, steps)
    grid = torch.cat([grid, 1 - grid.sum(dim=1, keepdim=True)], dim=1)
    grid = grid[grid[:, 2] >= 0]
    closest = float((grid - score_n).square().sum(dim=1).min())
    assert float((weight_n - score_n).square().sum()) <= closest + 1e-9


def test_sparse_weights_of_layers() -> None:
    layers = WeightedLayerSum(4, sparse=True)
    x_btnd = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(layers(x_btnd), x_btnd.mean(dim=2))  # equal weights at first
    with torch.no_grad():
        layers.score_n.copy_(torch.tensor([0.0, 3.0, 2.5, -1.0]))
    assert layers.compute_weights().tolist() == [0, 0.75, 0.25, 0]
    torch.testing.assert_close(layers(x_btnd), 0.75 * x_btnd[:, :, 1] + 0.25 * x_btnd[:, :, 2])
    assert sparsemax(torch.tensor([7.0])).tolist() == [1]
