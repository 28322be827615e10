"""Pretrained speech encoders of ``transformers``: a waveform in, the states of all layers out.

wav2vec 2.0 (Baevski et al. 2020), HuBERT (Hsu et al. 2021), WavLM (Chen et al. 2022) and data2vec's
audio model (Baevski et al. 2022) hear the waveform, Whisper's encoder (Radford et al. 2023) 30 s of
mel spectrogram at a time. State 0 is what enters the first layer, the last one what the encoder
gives, its final normalisation included.

A waveform is answered as if it were alone. Where convolutions normalise over time (wav2vec2-base
and others with ``feat_extract_norm`` "group") or look beyond the end more than once (data2vec),
padding would be heard: such encoders take one waveform after the other, and so does WavLM, whose
masks torch warns of. The others are masked.

No layer is dropped and nothing masked by chance in training, whatever the configuration says.

B = batch, S = samples, T = frames, N = states, D = channels of a state, M = mel bands.

The weights of pretrained encoders, read from safetensors and from nothing else.

States of many layers into one vector: a learnt mean over layers, and one over time.

Yang et al.: "SUPERB: Speech Processing Universal PERformance Benchmark", Interspeech 2021: an
encoder is judged by a weighted sum of the states of all its layers, the weights learnt with the
task.

B = batch, T = frames, N = states, D = channels, E = channels after the projection, H = tasks.

Pretrained speech encoders on disk: where one lies, what it is, and what it is known by.

An encoder is a folder in the manner of ``transformers``: config.json, preprocessor_config.json, and
weights in safetensors, which run no code. A name of the Hugging Face hub is such a folder in the
hub's cache. It is known by the SHA-256 of these files, wherever they lie.
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


class WeightedLayerSum(nn.Module):
    """The mean of the states, weighed by the softmax of a learnt number for each."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.score_n = nn.Parameter(torch.zeros(states))

    def forward(self, x_btnd: Tensor) -> Tensor:
        """(B, T, N, D) -> (B, T, D)."""
        return torch.einsum("btnd,n->btd", x_btnd, self.score_n.softmax(dim=0).to(x_btnd.dtype))


class StatePooling(nn.Module):
    """The mean over layers, a dense layer with ReLU, and a mean over time for each task."""

    def __init__(
        self,
        states: int,
        channels: int,
        tasks: Sequence[str],
        *,
        hidden: int,
        attention: bool,
        dropout: float,
    ) -> None:
        """Draw weights; all layers weigh the same at first.

        Args:
            states: N.
            channels: D.
            tasks: names of those who get a vector each.
            hidden: E.
            attention: whether each task weighs moments by scores of its own (Zhang et al. 2019,
                equations 3 and 4); else they weigh the same for all.
            dropout: of the dense layer's output.
        """
        super().__init__()
        self.tasks = tuple(tasks)
        self.width = hidden
        self.layers = WeightedLayerSum(states)
        self.dense = nn.Linear(channels, hidden)
        self.dropout = Dropout(dropout)
        self.attend = nn.Linear(hidden, len(self.tasks), bias=False) if attention else None

    def forward(self, x_btnd: Tensor, mask_bt: Tensor) -> ModelOutput:
        """(B, T, N, D) and mask (B, T) -> a vector (B, E) and weights (B, 1, T) for each task."""
        h_bte = self.dropout(self.dense(self.layers(x_btnd)).relu())
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


CONFIG_FILES = ("config.json", "preprocessor_config.json")
WEIGHT_PATTERNS = ("model.safetensors", "model-*.safetensors")
PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt")
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
ENCODER_FOLDER_VARIABLE = "SEREIN_ENCODERS"
"""Environment variable: a folder of encoders, looked into by the last part of a name."""
SAMPLE_RATE = 16_000
"""Hz that every one of these encoders hears."""


def find_encoder(name: str, revision: str = "main", *, download: bool = False) -> Path:
    """The folder of an encoder.

    Args:
        name: its folder, or its name on the hub.
        revision: branch, tag or commit on the hub.
        download: whether the hub may be asked; else nothing leaves this machine.

    Raises:
        EncoderError: it is not here, or the hub does not give it.
    """
    if not name:
        raise EncoderError(
            "no encoder is named; give a folder or a name of the hub that holds safetensors, such "
            "as --set features.encoder=FOLDER (model.encoder of a model that is fine-tuned)"
        )
    shelf = os.environ.get(ENCODER_FOLDER_VARIABLE)
    places = [Path(name).expanduser(), *([Path(shelf) / Path(name).name] if shelf else [])]
    for place in places:
        if (place / "config.json").is_file():
            return place
    if not HUB_NAME.fullmatch(name) or places[0].exists():
        raise EncoderError(
            f"no encoder in {name}: it has no config.json. Expected a folder that "
            f"save_pretrained wrote; put it there, or into a folder that {ENCODER_FOLDER_VARIABLE} names"
        )
    return _find_hub_encoder(name, revision, download)


def _find_hub_encoder(name: str, revision: str, download: bool) -> Path:
    """The folder of a hub's encoder in the hub's own cache; fetched into it where one may."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise missing_transformers_error() from error
    wanted = [*CONFIG_FILES, *WEIGHT_PATTERNS]
    try:
        found = snapshot_download(
            name, revision=revision, allow_patterns=wanted, local_files_only=not download
        )
    except Exception as error:  # the hub's errors and its client's have no base in common
        if download:
            raise EncoderError(f"the hub does not give {name} ({revision}): {error}") from error
        found = ""
    if found and (Path(found) / "config.json").is_file():
        return Path(found)
    raise EncoderError(
        f"the encoder {name} ({revision}) is not here: neither a folder nor in the hub's cache. "
        f"Get it with `hf download {name} --revision {revision}`, let a recipe do so with "
        f"download = true beside encoder, or copy its folder into one that {ENCODER_FOLDER_VARIABLE} names"
    )


def missing_transformers_error() -> EncoderError:
    """That ``transformers`` is not installed, in words."""
    return EncoderError(
        "pretrained encoders need transformers, which is not installed: pip install 'serein[ssl]'"
    )


def find_weight_files(folder: Path) -> list[Path]:
    """The files of an encoder's weights, sorted.

    Raises:
        EncoderError: there are none that run no code.
    """
    found = sorted({file for pattern in WEIGHT_PATTERNS for file in folder.glob(pattern)})
    if found:
        return found
    pickles = sorted(file.name for pattern in PICKLE_PATTERNS for file in folder.glob(pattern))
    raise EncoderError(
        f"{folder} holds no model.safetensors"
        + (f", but {pickles[0]}, a pickle, which could run code when read" if pickles else "")
        + "; take a revision in safetensors (many hubs' conversions are refs/pr/N), or convert it "
        "with save_pretrained where you trust it"
    )


def hash_encoder(folder: Path) -> str:
    """The SHA-256 of an encoder's settings and weights.

    Raises:
        EncoderError: there are no weights, or they cannot be read.
    """
    files = [
        file for name in CONFIG_FILES if (file := folder / name).is_file()
    ] + find_weight_files(folder)
    return _hash_encoder_files(tuple((file, *_size_and_mtime(file)) for file in files))


def _size_and_mtime(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


@cache
def _hash_encoder_files(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Read once a process: weights are gigabytes."""
    mark = hashlib.sha256()
    for path, size, _ in files:
        mark.update(f"{path.name} {size}\n".encode())
        try:
            with path.open("rb") as file:
                mark.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise EncoderError(f"cannot read the encoder's {path}: {error.strerror}") from error
    return mark.hexdigest()


def verify_encoder(name: str, folder: Path, sha256: str) -> str:
    """The SHA-256 of an encoder, which must be the one that is wanted, if any is.

    Raises:
        EncoderError: it is another one.
    """
    found = hash_encoder(folder)
    if sha256 and found != sha256:
        raise EncoderError(
            f"the encoder {name} in {folder} is another one: its SHA-256 is {found[:16]}..., and "
            f"{sha256[:16]}... is wanted. Get the one that the model was trained with, or train "
            "the model anew"
        )
    return found


def get_encoder_hash(settings: Mapping[str, Any]) -> str:
    """The SHA-256 by which the settings of a front end or a model know their encoder.

    Raises:
        EncoderError: it is not here.
    """
    if settings.get("sha256") or settings.get("architecture"):
        return str(settings.get("sha256", ""))
    name, revision = settings.get("encoder", ""), settings.get("revision", "main")
    return hash_encoder(find_encoder(name, revision, download=settings.get("download", False)))


def read_encoder_config(folder: Path) -> dict[str, Any]:
    """An encoder's config.json, and whether it wants waveforms standardised ("do_normalize").

    Raises:
        EncoderError: a file is no JSON, or it hears another rate than 16 kHz.
    """
    config = _read_json(folder / CONFIG_FILES[0])
    heard = _read_json(folder / CONFIG_FILES[1]) if (folder / CONFIG_FILES[1]).is_file() else {}
    rate = heard.get("sampling_rate", SAMPLE_RATE)
    if rate != SAMPLE_RATE:
        raise EncoderError(f"the encoder in {folder} hears {rate} Hz; expected {SAMPLE_RATE}")
    return {**config, "do_normalize": bool(heard.get("do_normalize", True))}


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{file} is no description of an encoder: {error}") from error
    if not isinstance(found, dict):
        raise EncoderError(f"{file} is no description of an encoder: expected a JSON object")
    return found


ARCHITECTURES = {
    "wav2vec2": ("wav2vec2", "Wav2Vec2Config", "Wav2Vec2Model"),
    "hubert": ("hubert", "HubertConfig", "HubertModel"),
    "wavlm": ("wavlm", "WavLMConfig", "WavLMModel"),
    "data2vec-audio": ("data2vec", "Data2VecAudioConfig", "Data2VecAudioModel"),
    "whisper": ("whisper", "WhisperConfig", "WhisperEncoder"),
}
"""For each ``model_type``: its folder in ``transformers``, its settings and its network."""
FIXED_SETTINGS = {
    "layerdrop": 0.0,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
    "add_adapter": False,
}
FIXED_WHISPER_SETTINGS = {"encoder_layerdrop": 0.0}
"""Settings that hold whatever the configuration says."""
WHISPER_WINDOW, WHISPER_HOP, WHISPER_POWER_FLOOR = 400, 160, 1e-10
"""Whisper's spectrogram: samples of its window and from frame to frame, lowest power."""


@dataclass(frozen=True)
class EncoderShape:
    """What is known of an encoder before its weights are read.

    Attributes:
        states: N, one more than its layers.
        width: D.
        step: samples from frame to frame.
        most: samples that it hears at a time; None is any number.
    """

    states: int
    width: int
    hop: int
    max_samples: int | None


def build_encoder_config(config_dict: Mapping[str, Any]) -> Any:
    """The configuration object of ``transformers``.

    Args:
        config_dict: as ``encoders.described`` reads it.

    Raises:
        EncoderError: ``transformers`` is not installed, the kind is none of these, or a setting is
            not of its kind.
    """
    kind = config_dict.get("model_type")
    if kind not in ARCHITECTURES:
        raise EncoderError(
            f"an encoder of type {kind!r}; expected one of {', '.join(ARCHITECTURES)}"
        )
    try:
        made = _import_class(kind, 1)(
            **_select_known_settings(kind, config_dict), **_get_fixed_settings(kind)
        )
        get_encoder_shape(made)
    except EncoderError:
        raise
    except Exception as error:  # transformers checks settings with errors of its own
        raise EncoderError(f"the encoder's config.json is not that of a {kind}: {error}") from error
    return made


def _select_known_settings(kind: str, config_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the kind itself; others could name code, such as attention from the hub."""
    known = {*signature(_import_class(kind, 1)).parameters} - {
        *_get_fixed_settings(kind),
        "return_dict",
        "dtype",
    }
    return {name: value for name, value in config_dict.items() if name in known}


def _get_fixed_settings(kind: str) -> dict[str, Any]:
    return FIXED_WHISPER_SETTINGS if kind == "whisper" else FIXED_SETTINGS


def _import_class(kind: str, index: int) -> Any:
    folder, file = ARCHITECTURES[kind][0], ("configuration", "modeling")[index - 1]
    try:
        found = import_module(f"transformers.models.{folder}.{file}_{_module_suffix(kind)}")
    except ImportError as error:
        raise missing_transformers_error() from error
    return getattr(found, ARCHITECTURES[kind][index])


def _module_suffix(kind: str) -> str:
    return kind.replace("-", "_")


def get_encoder_shape(config: Any) -> EncoderShape:
    """Sizes of an encoder by its configuration object."""
    if config.model_type == "whisper":
        most = 2 * WHISPER_HOP * config.max_source_positions
        return EncoderShape(config.encoder_layers + 1, config.d_model, 2 * WHISPER_HOP, most)
    step = prod(config.conv_stride)
    return EncoderShape(config.num_hidden_layers + 1, config.hidden_size, step, None)


class SSLEncoder(nn.Module):
    """An encoder whose weights are drawn by chance, until they are loaded.

    Attributes:
        lr_factor: of the learning rate, for its weights.
    """

    filters_mc: Tensor
    window_s: Tensor
    lr_factor: float = 1.0

    def __init__(self, config_dict: Mapping[str, Any]) -> None:
        """Build the network.

        Args:
            config_dict: as ``encoders.described`` reads it.

        Raises:
            EncoderError: this is no encoder that ``transformers`` could build.
        """
        super().__init__()
        settings = build_encoder_config(config_dict)
        self.model_type: str = settings.model_type
        self.shape = get_encoder_shape(settings)
        self.standardize = bool(config_dict.get("do_normalize", True))
        self.supports_mask = _supports_mask(settings)
        try:
            self.network = _import_class(self.model_type, 2)(settings)
        except (ValueError, TypeError, ZeroDivisionError, AttributeError, KeyError) as error:
            raise EncoderError(f"transformers builds no such {self.model_type}: {error}") from error
        self._convolutions: tuple[tuple[int, int], ...] = ()
        if self.model_type == "whisper":
            self._register_mel_filters(settings.num_mel_bins)
        else:
            self._convolutions = tuple(zip(settings.conv_kernel, settings.conv_stride, strict=True))

    def _register_mel_filters(self, bands: int) -> None:
        from transformers.audio_utils import mel_filter_bank

        sizes = 1 + WHISPER_WINDOW // 2, bands, 0.0, 8000.0, SAMPLE_RATE
        filters_cm = mel_filter_bank(*sizes, norm="slaney", mel_scale="slaney")
        with torch.device("cpu"):
            filters_mc, window_s = (
                torch.from_numpy(filters_cm.T).float(),
                torch.hann_window(WHISPER_WINDOW),
            )
        self.register_buffer("filters_mc", filters_mc, persistent=False)
        self.register_buffer("window_s", window_s, persistent=False)

    def freeze_convolutions(self) -> None:
        """Let the convolutions, which hear the waveform or the spectrogram, stay as they are."""
        if self.model_type == "whisper":
            self.network.conv1.requires_grad_(False)
            self.network.conv2.requires_grad_(False)
        else:
            self.network.feature_extractor._freeze_parameters()

    def count_frames(self, length_b: Tensor) -> Tensor:
        """Samples of waveforms (B,) -> frames (B,), one at least."""
        if self.model_type == "whisper":
            return ((length_b + self.shape.hop - 1) // self.shape.hop).clamp(min=1)
        for taps, step in self._convolutions:
            length_b = (length_b - taps) // step + 1
        return length_b

    @property
    def min_samples(self) -> int:
        """Samples of one frame; what is shorter is filled up with zeros."""
        seen = 1
        for taps, step in reversed(self._convolutions):
            seen = (seen - 1) * step + taps
        return seen

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (B, S) and their lengths in samples -> states (B, T, N, D) and mask (B, T)."""
        if self.shape.max_samples is not None:
            length_b = length_b.clamp(max=self.shape.max_samples)
        if self.supports_mask:
            x_btnd = self._compute_states(wave_bs[:, : int(length_b.max())], length_b)
        else:
            rows = zip(wave_bs, length_b, strict=True)
            alone = [
                self._compute_states(wave_s[None, :length], length[None]) for wave_s, length in rows
            ]
            x_btnd = pad_sequence([x_1tnd[0] for x_1tnd in alone], batch_first=True)
        frames_b = self.count_frames(length_b.clamp(min=self.min_samples))
        mask_bt = torch.arange(x_btnd.shape[1], device=wave_bs.device) < frames_b[:, None]
        return x_btnd.masked_fill(~mask_bt[..., None, None], 0), mask_bt

    def _compute_states(self, wave_bs: Tensor, length_b: Tensor) -> Tensor:
        """(B, S) -> (B, T, N, D)."""
        heard_bs = torch.arange(wave_bs.shape[1], device=wave_bs.device) < length_b[:, None]
        wave_bs = wave_bs.masked_fill(~heard_bs, 0)
        if self.model_type == "whisper":
            found = self.network(self._log_mel(wave_bs), output_hidden_states=True)
            frames = int(self.count_frames(length_b.max()))
        else:
            if self.standardize:
                wave_bs = _standardize(wave_bs, heard_bs)
            wave_bs = F.pad(wave_bs, (0, max(0, self.min_samples - wave_bs.shape[1])))
            step_s = torch.arange(wave_bs.shape[1], device=wave_bs.device)
            heard_bs = step_s < length_b.clamp(min=self.min_samples)[:, None]
            mask_bs = None if bool(heard_bs.all()) else heard_bs.long()
            found = self.network(wave_bs, attention_mask=mask_bs, output_hidden_states=True)
            frames = found.last_hidden_state.shape[1]
        states = [*found.hidden_states[: self.shape.states - 1], found.last_hidden_state]
        return torch.stack([x_btd[:, :frames] for x_btd in states], dim=2)

    def _log_mel(self, wave_bs: Tensor) -> Tensor:
        """(B, S) -> (B, M, frames of 10 ms), the whole of what Whisper hears at a time."""
        wave_bs = F.pad(wave_bs, (0, (self.shape.max_samples or 0) - wave_bs.shape[1]))
        parts_bct = torch.stft(
            wave_bs, WHISPER_WINDOW, WHISPER_HOP, window=self.window_s, return_complex=True
        )
        power_bct = parts_bct[..., :-1].abs().square()
        log_bmt = (self.filters_mc @ power_bct).clamp(min=WHISPER_POWER_FLOOR).log10()
        loudest_b11 = log_bmt.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(log_bmt, loudest_b11 - 8) + 4) / 4


def _supports_mask(config: Any) -> bool:
    """Whether a mask keeps padding out of everything that is heard."""
    if config.model_type == "whisper":
        return True  # it hears 30 s, whatever the batch is
    normed = getattr(config, "conv_pos_batch_norm", False)
    known = config.model_type in ("wav2vec2", "hubert")
    return known and config.feat_extract_norm == "layer" and not normed


def _standardize(wave_bs: Tensor, mask_bs: Tensor) -> Tensor:
    """Each waveform with mean 0 and deviation 1 over what is heard of it, zeros behind it."""
    count_b1 = mask_bs.sum(dim=1, keepdim=True).clamp(min=1)
    centred_bs = wave_bs - wave_bs.sum(dim=1, keepdim=True) / count_b1
    centred_bs = centred_bs.masked_fill(~mask_bs, 0)
    variance_b1 = centred_bs.square().sum(dim=1, keepdim=True) / count_b1
    return centred_bs * (variance_b1 + 1e-7).rsqrt()


def load_weights(encoder: SSLEncoder, folder: Path) -> None:
    """Read an encoder's weights; what else the files hold, such as heads, is left out.

    Raises:
        EncoderError: weights that the encoder needs are not there, or have other shapes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found: dict[str, Tensor] = {}
    try:
        for file in find_weight_files(folder):
            found |= load_file(file)
    except (SafetensorError, OSError) as error:
        raise EncoderError(f"the weights in {folder} cannot be read: {error}") from error
    wanted = encoder.network.state_dict()
    named = _match_names(found, encoder.network.base_model_prefix, wanted)
    lacking = sorted(set(wanted) - set(named))
    if lacking:
        raise EncoderError(
            f"{len(lacking)} of {len(wanted)} weights of the encoder are not in {folder}, the "
            f"first one {lacking[0]}; they would be left to chance. Get the whole model"
        )
    try:
        encoder.network.load_state_dict(named)
    except RuntimeError as error:
        raise EncoderError(f"the weights in {folder} do not fit its config.json: {error}") from None


def _match_names(
    found: Mapping[str, Tensor], prefix: str, wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weights that are wanted, by their names within the encoder.

    Models with heads keep theirs one floor lower; torch before 2.1 called the two parts of a
    normalised weight otherwise.
    """
    names = {}
    for name, weight in found.items():
        for start in (f"{prefix}.encoder.", "encoder.", f"{prefix}.", ""):
            inner = name.removeprefix(start) if name.startswith(start) else ""
            inner = inner.replace("weight_g", "parametrizations.weight.original0")
            inner = inner.replace("weight_v", "parametrizations.weight.original1")
            if inner in wanted:
                names[inner] = weight
                break
    return names


@lru_cache(maxsize=2)
def load_frozen_encoder(folder: Path, sha256: str) -> SSLEncoder:
    """An encoder that nobody trains, read once a process.

    Args:
        folder: of the encoder.
        sha256: of its content, so that another content is read anew.
    """
    with torch.inference_mode(False):
        made = SSLEncoder(read_encoder_config(folder))
        load_weights(made, folder)
        return made.eval().requires_grad_(False)
