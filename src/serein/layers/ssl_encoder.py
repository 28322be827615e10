"""Pretrained speech encoders of ``transformers`` (SSL): a waveform in, states of all layers out.

An encoder is a folder as ``save_pretrained`` writes it: config.json, preprocessor_config.json, and
weights in safetensors, which run no code. A name on the Hugging Face hub is such a folder in the
hub's cache. The SHA-256 of these files identifies an encoder, wherever they are.

wav2vec 2.0 (Baevski et al. 2020), HuBERT (Hsu et al. 2021), WavLM (Chen et al. 2022) and data2vec's
audio model (Baevski et al. 2022) read the waveform, Whisper's encoder (Radford et al. 2023) a mel
spectrogram. State 0 is the input of the first layer, the last state the output of the encoder,
including its final normalization. An encoder may be built without its last layers.

Whisper was trained on 30 s of spectrogram, silence included. It takes less, too: the first
positions are those of shorter recordings. Both are available, padded to 30 s and at the recording's
own length; the second needs a fraction of the time. Recordings of more than 30 s are cut.

The states of a waveform do not depend on the other waveforms in its batch. Where convolutions
normalize over time (wav2vec2-base and others with ``feat_extract_norm`` "group") or extend beyond
the end more than once (data2vec), padding would change the states: such encoders process one
waveform after the other. So do WavLM, for whose masks torch prints warnings, and Whisper at the
recording's own length, which has no mask. The others use a mask.

Layer dropout and random masks in training are off, whatever the configuration says.

B = batch, S = samples, T = frames, N = states, D = channels of a state, M = mel bands, E = channels
after the projection, H = tasks.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from inspect import signature
from math import prod
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from serein.errors import EncoderError
from serein.layers.attention import AttentionWeights, ModelOutput, attention_pool
from serein.layers.recurrent import Dropout

CONFIG_FILES = ("config.json", "preprocessor_config.json")
WEIGHT_PATTERNS = ("model.safetensors", "model-*.safetensors")
PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt")
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
ENCODER_FOLDER_VARIABLE = "SEREIN_ENCODERS"
"""Environment variable: a folder of encoders, each named by the last part of its hub name."""
SAMPLE_RATE = 16_000
"""Hz of the input of every one of these encoders."""


def find_encoder(name: str, revision: str = "main", *, download: bool = False) -> Path:
    """Return the folder of an encoder.

    Args:
        name: its folder, or its name on the hub.
        revision: branch, tag or commit on the hub.
        download: whether it may be downloaded from the hub; otherwise there is no network access.

    Raises:
        EncoderError: it is not on this machine, and was not downloaded.
    """
    if not name:
        raise EncoderError(
            "no encoder is named; give a folder or a name of the hub that holds safetensors, such "
            "as --set features.encoder=FOLDER (model.encoder of a model that is fine-tuned)"
        )
    shared = os.environ.get(ENCODER_FOLDER_VARIABLE)
    folders = [Path(name).expanduser(), *([Path(shared) / Path(name).name] if shared else [])]
    for folder in folders:
        if (folder / "config.json").is_file():
            return folder
    if not HUB_NAME.fullmatch(name) or folders[0].exists():
        raise EncoderError(
            f"no encoder in {name}: it has no config.json. Expected a folder that save_pretrained "
            f"wrote; put it there, or into the folder that {ENCODER_FOLDER_VARIABLE} names"
        )
    return _find_hub_encoder(name, revision, download)


def _find_hub_encoder(name: str, revision: str, download: bool) -> Path:
    """Return the folder of an encoder in the hub's cache; download it there if allowed."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise missing_transformers_error() from error
    patterns = [*CONFIG_FILES, *WEIGHT_PATTERNS]
    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=patterns, local_files_only=not download
        )
    except Exception as error:  # the errors of the hub and of its client have no common base
        if download:
            raise EncoderError(
                f"the encoder {name} ({revision}) cannot be downloaded from the hub: {error}"
            ) from error
        folder = ""
    if folder and (Path(folder) / "config.json").is_file():
        return Path(folder)
    raise EncoderError(
        f"the encoder {name} ({revision}) is not on this machine: neither a folder nor in the "
        f"hub's cache. Get it with `hf download {name} --revision {revision}`, set download = true "
        "beside encoder in the recipe, or copy its folder into the folder that "
        f"{ENCODER_FOLDER_VARIABLE} names"
    )


def missing_transformers_error() -> EncoderError:
    """Return the error for a missing ``transformers``."""
    return EncoderError(
        "pretrained encoders need transformers, which is not installed: pip install 'serein[ssl]'"
    )


def find_weight_files(folder: Path) -> list[Path]:
    """Return the files of an encoder's weights, sorted.

    Raises:
        EncoderError: there are none in safetensors.
    """
    files = sorted({file for pattern in WEIGHT_PATTERNS for file in folder.glob(pattern)})
    if files:
        return files
    pickles = sorted(file.name for pattern in PICKLE_PATTERNS for file in folder.glob(pattern))
    raise EncoderError(
        f"{folder} holds no model.safetensors"
        + (f", but {pickles[0]}, a pickle, which could run code when read" if pickles else "")
        + "; take a revision in safetensors (many hubs' conversions are refs/pr/N), or convert it "
        "with save_pretrained if you trust it"
    )


def hash_encoder(folder: Path) -> str:
    """Return the SHA-256 of an encoder's settings and weights.

    Raises:
        EncoderError: there are no weights, or they cannot be read.
    """
    configs = [folder / name for name in CONFIG_FILES if (folder / name).is_file()]
    files = [*configs, *find_weight_files(folder)]
    return _hash_encoder_files(tuple((file, *_size_and_mtime(file)) for file in files))


def _size_and_mtime(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


@cache
def _hash_encoder_files(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Hash files, each version once a process: weights are gigabytes."""
    digest = hashlib.sha256()
    for path, size, _ in files:
        digest.update(f"{path.name} {size}\n".encode())
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise EncoderError(f"cannot read the encoder's {path}: {error.strerror}") from error
    return digest.hexdigest()


def verify_encoder(name: str, folder: Path, sha256: str) -> str:
    """Return the SHA-256 of an encoder; compare it with the expected one, if there is one.

    Raises:
        EncoderError: they differ.
    """
    found = hash_encoder(folder)
    if sha256 and found != sha256:
        raise EncoderError(
            f"the encoder {name} in {folder} is another one: its SHA-256 is {found[:16]}..., "
            f"expected {sha256[:16]}.... Get the one that the model was trained with, or train "
            "the model anew"
        )
    return found


def get_encoder_hash(settings: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the encoder in the settings of a front end or a model.

    Raises:
        EncoderError: it is not on this machine.
    """
    if settings.get("sha256") or settings.get("architecture"):
        return str(settings.get("sha256", ""))
    name, revision = settings.get("encoder", ""), settings.get("revision", "main")
    return hash_encoder(find_encoder(name, revision, download=settings.get("download", False)))


def read_encoder_config(folder: Path) -> dict[str, Any]:
    """Return an encoder's config.json, with "do_normalize": whether waveforms are standardized.

    Raises:
        EncoderError: a file is no JSON, or the sampling rate is not 16 kHz.
    """
    config = _read_json(folder / CONFIG_FILES[0])
    processor_file = folder / CONFIG_FILES[1]
    processor = _read_json(processor_file) if processor_file.is_file() else {}
    rate = processor.get("sampling_rate", SAMPLE_RATE)
    if rate != SAMPLE_RATE:
        raise EncoderError(f"the encoder in {folder} is for {rate} Hz; expected {SAMPLE_RATE}")
    return {**config, "do_normalize": bool(processor.get("do_normalize", True))}


def _read_json(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{file} is not the configuration of an encoder: {error}") from error
    if not isinstance(document, dict):
        raise EncoderError(f"{file} is not the configuration of an encoder: expected a JSON object")
    return document


ARCHITECTURES = {
    "wav2vec2": ("wav2vec2", "Wav2Vec2Config", "Wav2Vec2Model"),
    "hubert": ("hubert", "HubertConfig", "HubertModel"),
    "wavlm": ("wavlm", "WavLMConfig", "WavLMModel"),
    "data2vec-audio": ("data2vec", "Data2VecAudioConfig", "Data2VecAudioModel"),
    "whisper": ("whisper", "WhisperConfig", "WhisperEncoder"),
}
"""For each ``model_type``: its folder in ``transformers``, its configuration and its network."""
FIXED_SETTINGS = {
    "layerdrop": 0.0,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "add_adapter": False,
}
FIXED_WHISPER_SETTINGS = {"encoder_layerdrop": 0.0}
"""Settings that override the configuration."""
WHISPER_WINDOW, WHISPER_HOP, WHISPER_POWER_FLOOR = 400, 160, 1e-10
"""Whisper's spectrogram: samples of its window and from frame to frame, lowest power."""
DEPTH_SETTINGS = {"whisper": "encoder_layers"}
"""Name of the number of layers in a configuration; "num_hidden_layers" for all others."""


@dataclass(frozen=True)
class EncoderShape:
    """Sizes of an encoder, known without its weights.

    Attributes:
        states: N, one more than its layers.
        width: D.
        hop: samples from frame to frame.
        max_samples: most samples of a waveform; None is any number.
    """

    states: int
    width: int
    hop: int
    max_samples: int | None


def build_encoder_config(config_dict: Mapping[str, Any]) -> Any:
    """Build the configuration object of ``transformers``.

    Args:
        config_dict: as ``read_encoder_config`` returns it.

    Raises:
        EncoderError: ``transformers`` is not installed, the architecture is not supported, or a
            setting is invalid.
    """
    model_type = config_dict.get("model_type")
    if model_type not in ARCHITECTURES:
        raise EncoderError(
            f"an encoder of type {model_type!r}; expected one of {', '.join(ARCHITECTURES)}"
        )
    settings = _select_known_settings(model_type, config_dict)
    try:
        config = _import_class(model_type, 1)(**settings, **_get_fixed_settings(model_type))
        get_encoder_shape(config)
    except EncoderError:
        raise
    except Exception as error:  # transformers raises errors of its own for invalid settings
        raise EncoderError(
            f"the encoder's config.json is not that of a {model_type}: {error}"
        ) from error
    return config


def _select_known_settings(model_type: str, config_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the architecture's own settings; others could name code, such as attention kernels."""
    parameters = {*signature(_import_class(model_type, 1)).parameters}
    known = parameters - {*_get_fixed_settings(model_type), "return_dict", "dtype"}
    return {name: value for name, value in config_dict.items() if name in known}


def _get_fixed_settings(model_type: str) -> dict[str, Any]:
    return FIXED_WHISPER_SETTINGS if model_type == "whisper" else FIXED_SETTINGS


def _import_class(model_type: str, index: int) -> Any:
    """Import the configuration (1) or the network (2) of an architecture."""
    folder, kind = ARCHITECTURES[model_type][0], ("configuration", "modeling")[index - 1]
    file = f"{kind}_{model_type.replace('-', '_')}"
    try:
        module = import_module(f"transformers.models.{folder}.{file}")
    except ImportError as error:
        raise missing_transformers_error() from error
    return getattr(module, ARCHITECTURES[model_type][index])


def get_encoder_shape(config: Any) -> EncoderShape:
    """Return the sizes in a configuration object."""
    if config.model_type == "whisper":
        hop = 2 * WHISPER_HOP
        max_samples = hop * config.max_source_positions
        return EncoderShape(config.encoder_layers + 1, config.d_model, hop, max_samples)
    hop = prod(config.conv_stride)
    return EncoderShape(config.num_hidden_layers + 1, config.hidden_size, hop, None)


class SSLEncoder(nn.Module):
    """An encoder with random weights; ``load_weights`` loads the pretrained ones.

    Attributes:
        lr_factor: factor of the learning rate for its weights.
    """

    filters_mc: Tensor
    window_s: Tensor
    lr_factor: float = 1.0

    def __init__(
        self, config_dict: Mapping[str, Any], *, layers: int | None = None, pad: bool = True
    ) -> None:
        """Build the network.

        Args:
            config_dict: as ``read_encoder_config`` returns it.
            layers: number of its first layers that are built, at least one; None builds all. The
                final normalization belongs to the last layer.
            pad: whether Whisper's input is padded to its full length of 30 s; no other encoder has
                one.

        Raises:
            EncoderError: ``transformers`` cannot build it.
        """
        super().__init__()
        config = build_encoder_config(config_dict)
        depth = get_encoder_shape(config).states - 1
        is_cut = layers is not None and layers < depth
        if is_cut:
            depth_setting = DEPTH_SETTINGS.get(config.model_type, "num_hidden_layers")
            config = build_encoder_config({**config_dict, depth_setting: layers})
        self.model_type: str = config.model_type
        self.shape = get_encoder_shape(config)
        self.pad = pad and self.model_type == "whisper"
        self.standardize = bool(config_dict.get("do_normalize", True))
        self.supports_mask = _supports_mask(config) and (self.pad or self.model_type != "whisper")
        try:
            self.network = _import_class(self.model_type, 2)(config)
        except (ValueError, TypeError, ZeroDivisionError, AttributeError, KeyError) as error:
            raise EncoderError(
                f"transformers cannot build this {self.model_type}: {error}"
            ) from error
        if is_cut:
            self._remove_final_norm(config)
        self._convolutions: tuple[tuple[int, int], ...] = ()
        if self.model_type == "whisper":
            self._register_mel_filters(config.num_mel_bins)
        else:
            self._convolutions = tuple(zip(config.conv_kernel, config.conv_stride, strict=True))

    def _remove_final_norm(self, config: Any) -> None:
        """Remove the normalization after the last layer; elsewhere it is before the first one."""
        if self.model_type == "whisper":
            self.network.layer_norm = nn.Identity()
        elif getattr(config, "do_stable_layer_norm", False):
            self.network.encoder.layer_norm = nn.Identity()

    def _register_mel_filters(self, bands: int) -> None:
        from transformers.audio_utils import mel_filter_bank

        sizes = 1 + WHISPER_WINDOW // 2, bands, 0.0, 8000.0, SAMPLE_RATE
        filters_cm = mel_filter_bank(*sizes, norm="slaney", mel_scale="slaney")
        with torch.device("cpu"):
            filters_mc = torch.from_numpy(filters_cm.T).float()
            window_s = torch.hann_window(WHISPER_WINDOW)
        self.register_buffer("filters_mc", filters_mc, persistent=False)
        self.register_buffer("window_s", window_s, persistent=False)

    def freeze_convolutions(self) -> None:
        """Freeze the convolutions over the waveform or the spectrogram."""
        if self.model_type == "whisper":
            self.network.conv1.requires_grad_(False)
            self.network.conv2.requires_grad_(False)
        else:
            self.network.feature_extractor._freeze_parameters()

    def count_frames(self, length_b: Tensor) -> Tensor:
        """Samples of waveforms (B,) -> frames (B,), at least one."""
        if self.model_type == "whisper":
            bands_b = length_b + self.shape.hop - 1 if self.pad else length_b + WHISPER_HOP
            return (bands_b // self.shape.hop).clamp(min=1)
        for taps, stride in self._convolutions:
            length_b = (length_b - taps) // stride + 1
        return length_b

    @property
    def min_samples(self) -> int:
        """Samples of one frame; shorter waveforms are padded with zeros."""
        samples = self.shape.hop if self.model_type == "whisper" and not self.pad else 1
        for taps, stride in reversed(self._convolutions):
            samples = (samples - 1) * stride + taps
        return samples

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (B, S) and their lengths in samples -> states (B, T, N, D) and mask (B, T)."""
        if self.shape.max_samples is not None:
            length_b = length_b.clamp(max=self.shape.max_samples)
        if self.supports_mask:
            x_btnd = self._compute_states(wave_bs[:, : int(length_b.max())], length_b)
        else:
            rows = zip(wave_bs, length_b, strict=True)
            states = [self._compute_states(wave_s[None, :n], n[None])[0] for wave_s, n in rows]
            x_btnd = pad_sequence(states, batch_first=True)
        frames_b = self.count_frames(length_b.clamp(min=self.min_samples))
        mask_bt = torch.arange(x_btnd.shape[1], device=wave_bs.device) < frames_b[:, None]
        return x_btnd.masked_fill(~mask_bt[..., None, None], 0), mask_bt

    def _compute_states(self, wave_bs: Tensor, length_b: Tensor) -> Tensor:
        """(B, S) -> (B, T, N, D)."""
        mask_bs = torch.arange(wave_bs.shape[1], device=wave_bs.device) < length_b[:, None]
        wave_bs = wave_bs.masked_fill(~mask_bs, 0)
        if self.model_type == "whisper" and not self.pad:
            return self._compute_unpadded_states(self._log_mel(wave_bs))
        if self.model_type == "whisper":
            output = self.network(self._log_mel(wave_bs), output_hidden_states=True)
            frames = int(self.count_frames(length_b.max()))
        else:
            if self.standardize:
                wave_bs = _standardize(wave_bs, mask_bs)
            wave_bs = F.pad(wave_bs, (0, max(0, self.min_samples - wave_bs.shape[1])))
            step_s = torch.arange(wave_bs.shape[1], device=wave_bs.device)
            mask_bs = step_s < length_b.clamp(min=self.min_samples)[:, None]
            attention_mask = None if bool(mask_bs.all()) else mask_bs.long()
            output = self.network(wave_bs, attention_mask=attention_mask, output_hidden_states=True)
            frames = output.last_hidden_state.shape[1]
        states = [*output.hidden_states[: self.shape.states - 1], output.last_hidden_state]
        return torch.stack([x_btd[:, :frames] for x_btd in states], dim=2)

    def _compute_unpadded_states(self, log_bmt: Tensor) -> Tensor:
        """Apply Whisper's layers to a spectrogram of any length up to 30 s.

        The network of ``transformers`` refuses other lengths than 30 s, its layers do not.

        Args:
            log_bmt: (B, M, frames of 10 ms).

        Returns:
            (B, T, N, D).
        """
        network = self.network
        x_bdt = F.gelu(network.conv2(F.gelu(network.conv1(log_bmt))))
        x_btd = x_bdt.transpose(1, 2) + network.embed_positions.weight[: x_bdt.shape[2]]
        states = [F.dropout(x_btd, network.dropout, self.training)]
        for layer in network.layers:
            states.append(layer(states[-1], None))
        states[-1] = network.layer_norm(states[-1])
        return torch.stack(states, dim=2)

    def _log_mel(self, wave_bs: Tensor) -> Tensor:
        """(B, S) -> (B, M, frames of 10 ms), padded to the shortest or only length of the input."""
        samples = self.shape.max_samples or 0 if self.pad else self.min_samples
        wave_bs = F.pad(wave_bs, (0, max(0, samples - wave_bs.shape[1])))
        spectrum_bct = torch.stft(
            wave_bs, WHISPER_WINDOW, WHISPER_HOP, window=self.window_s, return_complex=True
        )
        power_bct = spectrum_bct[..., :-1].abs().square()
        log_bmt = (self.filters_mc @ power_bct).clamp(min=WHISPER_POWER_FLOOR).log10()
        loudest_b11 = log_bmt.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(log_bmt, loudest_b11 - 8) + 4) / 4


def _supports_mask(config: Any) -> bool:
    """Return whether, with a mask, padding has no influence on the states."""
    if config.model_type == "whisper":
        return True  # its padded input is always 30 s long
    has_batch_norm = getattr(config, "conv_pos_batch_norm", False)
    is_masked = config.model_type in ("wav2vec2", "hubert")
    return is_masked and config.feat_extract_norm == "layer" and not has_batch_norm


def _standardize(wave_bs: Tensor, mask_bs: Tensor) -> Tensor:
    """Give each waveform mean 0 and deviation 1 over its unmasked samples; the others are 0."""
    count_b1 = mask_bs.sum(dim=1, keepdim=True).clamp(min=1)
    centred_bs = wave_bs - wave_bs.sum(dim=1, keepdim=True) / count_b1
    centred_bs = centred_bs.masked_fill(~mask_bs, 0)
    variance_b1 = centred_bs.square().sum(dim=1, keepdim=True) / count_b1
    return centred_bs * (variance_b1 + 1e-7).rsqrt()


def load_weights(encoder: SSLEncoder, folder: Path) -> None:
    """Load an encoder's weights from safetensors; other weights in the files are ignored.

    Raises:
        EncoderError: weights are missing, or have other shapes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    weights: dict[str, Tensor] = {}
    try:
        for file in find_weight_files(folder):
            weights |= load_file(file)
    except (SafetensorError, OSError) as error:
        raise EncoderError(f"the weights in {folder} cannot be read: {error}") from error
    expected = encoder.network.state_dict()
    matched = _match_names(weights, encoder.network.base_model_prefix, expected)
    missing = sorted(set(expected) - set(matched))
    if missing:
        raise EncoderError(
            f"{len(missing)} of {len(expected)} weights of the encoder are not in {folder}, the "
            f"first one {missing[0]}; they would stay random. Get the whole model"
        )
    try:
        encoder.network.load_state_dict(matched)
    except RuntimeError as error:
        raise EncoderError(f"the weights in {folder} do not fit its config.json: {error}") from None


def _match_names(
    weights: Mapping[str, Tensor], prefix: str, expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the expected weights by their names within the encoder.

    In models with heads the encoder's names have a prefix; torch before 2.1 had other names for the
    two parts of a normalized weight.
    """
    matched = {}
    for name, weight in weights.items():
        for start in (f"{prefix}.encoder.", "encoder.", f"{prefix}.", ""):
            inner = name.removeprefix(start) if name.startswith(start) else ""
            inner = inner.replace("weight_g", "parametrizations.weight.original0")
            inner = inner.replace("weight_v", "parametrizations.weight.original1")
            if inner in expected:
                matched[inner] = weight
                break
    return matched


@lru_cache(maxsize=2)
def load_frozen_encoder(
    folder: Path, sha256: str, *, layers: int | None = None, pad: bool = True
) -> SSLEncoder:
    """Return an encoder that is not trained, loaded once a process.

    Args:
        folder: of the encoder.
        sha256: of its content, so that changed content is loaded again.
        layers: number of its first layers that are loaded; None loads all.
        pad: whether Whisper's input is padded to 30 s.
    """
    with torch.inference_mode(False):
        encoder = SSLEncoder(read_encoder_config(folder), layers=layers, pad=pad)
        load_weights(encoder, folder)
        return encoder.eval().requires_grad_(False)


class WeightedLayerSum(nn.Module):
    """Mean of the states of all layers, weighted by a function of a trainable score of each.

    Attributes:
        lr_factor: factor of the learning rate for the scores.
        decay_factor: factor of their L2 penalty.
    """

    lr_factor: float = 1.0
    decay_factor: float = 1.0

    def __init__(self, states: int, *, sparse: bool = False) -> None:
        """All layers have the same weight at first.

        Args:
            states: N.
            sparse: whether weights are the sparsemax of the scores, which is 0 for most layers;
                otherwise they are the softmax. The scores of sparse weights learn ten times as
                fast, and without L2 penalty, which would make all weights equal.
        """
        super().__init__()
        self.sparse = sparse
        if sparse:
            self.lr_factor, self.decay_factor = 10.0, 0.0
        self.score_n = nn.Parameter(torch.zeros(states))

    def compute_weights(self) -> Tensor:
        """Return the weights (N,) of the layers; their sum is 1."""
        return sparsemax(self.score_n) if self.sparse else self.score_n.softmax(dim=0)

    def forward(self, x_btnd: Tensor) -> Tensor:
        """(B, T, N, D) -> (B, T, D)."""
        return torch.einsum("btnd,n->btd", x_btnd, self.compute_weights().to(x_btnd.dtype))


def sparsemax(score_n: Tensor) -> Tensor:
    """Return the point of the probability simplex that is closest to scores (N,).

    Martins and Astudillo: "From Softmax to Sparsemax", ICML 2016, equation 2 and algorithm 1.
    """
    sorted_n = score_n.sort(descending=True).values
    sum_n = sorted_n.cumsum(dim=0)
    rank_n = torch.arange(1, len(score_n) + 1, device=score_n.device)
    support = int((1 + rank_n * sorted_n > sum_n).sum())
    threshold = (sum_n[support - 1] - 1) / support
    return (score_n - threshold).clamp(min=0)


class StatePooling(nn.Module):
    """Weighted sum over layers, a dense layer with ReLU, and a mean over time for each task.

    Yang et al.: "SUPERB: Speech Processing Universal PERformance Benchmark", Interspeech 2021: an
    encoder is evaluated by a weighted sum of the states of all its layers, the weights trained with
    the task.
    """

    def __init__(
        self,
        states: int,
        channels: int,
        tasks: Sequence[str],
        *,
        hidden: int,
        attention: bool,
        dropout: float,
        sparse: bool = False,
    ) -> None:
        """Initialize the weights; all layers have the same weight at first.

        Args:
            states: N.
            channels: D.
            tasks: names of the tasks; each gets a vector.
            hidden: E; 0 leaves the dense layer out, and E is D.
            attention: whether each task weights frames by its own scores (Zhang et al. 2019,
                equations 3 and 4); otherwise all frames have the same weight.
            dropout: of the dense layer's output.
            sparse: whether most layers get the weight 0.
        """
        super().__init__()
        self.tasks = tuple(tasks)
        self.width = hidden or channels
        self.layers = WeightedLayerSum(states, sparse=sparse)
        self.dense = nn.Linear(channels, hidden) if hidden else None
        self.dropout = Dropout(dropout)
        self.attend = nn.Linear(self.width, len(self.tasks), bias=False) if attention else None

    def forward(self, x_btnd: Tensor, mask_bt: Tensor) -> ModelOutput:
        """(B, T, N, D) and mask (B, T) -> a vector (B, E) and weights (B, 1, T) for each task."""
        h_bte = self.layers(x_btnd)
        if self.dense is not None:
            h_bte = self.dense(h_bte).relu()
        h_bte = self.dropout(h_bte)
        h_bte = h_bte.masked_fill(~mask_bt[..., None], 0)
        if self.attend is None:
            mean_be = h_bte.sum(dim=1) / mask_bt.sum(dim=1, keepdim=True)
            return ModelOutput(dict.fromkeys(self.tasks, mean_be), {})
        r_bhe, weight_bht = attention_pool(h_bte, self.attend(h_bte), mask_bt)
        vectors = dict(zip(self.tasks, r_bhe.unbind(dim=1), strict=True))
        maps = zip(self.tasks, torch.split(weight_bht, 1, dim=1), strict=True)
        return ModelOutput(
            vectors, {task: AttentionWeights(weight, stride=1) for task, weight in maps}
        )
