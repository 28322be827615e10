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
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from serein import encoders
from serein.errors import EncoderError

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
        raise encoders.missing_transformers_error() from error
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
        share: of the learning rate, for its weights.
    """

    filters_mc: Tensor
    window_s: Tensor
    share: float = 1.0

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

        sizes = 1 + WHISPER_WINDOW // 2, bands, 0.0, 8000.0, encoders.SAMPLE_RATE
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
