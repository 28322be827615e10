"""States of Whisper's encoder: mean and deviation over an utterance.

The encoder (Radford et al. 2023: Robust Speech Recognition via Large-Scale Weak Supervision) stays
frozen, and only its first layers are computed, on the true length of the recording. One row an
utterance: of each of ``layers`` the mean and the deviation over time.

Whisper's input depends on the level of a recording. Here each waveform is first scaled so that the
loudest mel band has ``LOUDEST_BAND``: gain and distance have no effect. An offset is subtracted.

The encoder is a folder as ``transformers`` writes it, a name in the hub's cache, or a saved model
with such an encoder inside, such as a shipped one. A saved model holds the weights of the layers
that it uses, in fp16, and needs nothing else.

B = batch, S = samples, T = frames of 20 ms, M = mel bands, D = channels, F = values of a row.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from serein import config as settings_config
from serein.errors import BundleError, ConfigError, EncoderError
from serein.features import logmel
from serein.layers import ssl_encoder
from serein.layers.whisper_encoder import (
    ENCODER_PREFIX,
    WhisperConfig,
    WhisperEncoder,
    hash_encoder_weights,
    read_whisper_config,
    select_encoder_weights,
)
from serein.model_file import is_changed, read_shared_weights, was_changed

SOURCES = ("features/logmel.py", "layers/whisper_encoder.py")
"""Other files of this package that the numbers depend on."""
NOTE = "encoder of Whisper (OpenAI, MIT licence); its training data are unknown"
"""Note for users of its features."""
WINDOW, HOP = 400, 160
"""Samples of the spectrogram's window, and from frame to frame."""
POWER_FLOOR = 1e-10
"""Lowest power of a mel band."""
RANGE = 8.0
"""Decades of power below the loudest band that are kept."""
LOUDEST_BAND = 1.5
"""Decades of power of the loudest mel band after scaling; about that of speech in Whisper's use."""
MIN_OFFSET = 0.05
"""Least offset that is subtracted, as a share of the peak; a sound card's is larger."""
MIN_SAMPLES = 4 * HOP
"""Shorter waveforms are padded with zeros to this length."""
VARIANCE_EPSILON = 1e-8
"""Added to a variance before its square root."""


@dataclass(frozen=True)
class Config:
    """Choice of the encoder, and of what is computed of its states.

    Attributes:
        encoder: its folder, its name on the hub, or a saved model with it inside.
        revision: branch, tag or commit on the hub.
        download: whether it may be downloaded from the hub.
        sha256: expected SHA-256 of the used weights, set in saved models.
        architecture: sizes of the encoder, set in saved models, which hold the weights.
        layers: layers whose output is averaged, counted from 1.
        seconds: longest utterance; the rest is cut.
    """

    encoder: str = ""
    revision: str = "main"
    download: bool = False
    sha256: str = ""
    architecture: dict[str, int] | None = None
    layers: tuple[Annotated[int, Ge(1), Le(64)], ...] = (2, 3, 4)
    seconds: Annotated[float, Gt(0), Le(30)] = 30.0


class FrontEnd(nn.Module):
    """Waveforms to one row an utterance.

    The encoder is no submodule: it is not trained, and checkpoints do not hold it.

    Attributes:
        pinned: settings that a saved model must have.
    """

    filters_mc: Tensor
    window_s: Tensor

    def __init__(self, config: Config) -> None:
        """Find the encoder; in a saved model, allocate it for ``load_encoder_weights``.

        Raises:
            EncoderError: it is not on this machine, is another one, or is not Whisper's.
            ConfigError: no layer is named.
        """
        super().__init__()
        self._weights: dict[str, Tensor] | None
        if not config.layers:
            raise ConfigError("features.layers is empty; name a layer, such as 4")
        if config.architecture is not None:
            sizes = settings_config.build_config(
                WhisperConfig, config.architecture, "features.architecture"
            )
            self._weights, sha256 = None, config.sha256
            if max(config.layers) > sizes.encoder_layers:
                raise EncoderError(
                    f"layer {max(config.layers)} of an encoder of {sizes.encoder_layers} layers"
                )
        else:
            sizes, self._weights, sha256 = find_encoder_weights(config, max(config.layers))
        self.config = replace(config, architecture=None)
        self.sizes = sizes
        self.rate = ssl_encoder.SAMPLE_RATE
        self.max_seconds = config.seconds
        self.hop = 0.02
        self._encoders: dict[str, WhisperEncoder] = {}
        filters = logmel.mel_filters(self.rate, WINDOW, sizes.num_mel_bins).T.copy()
        self.register_buffer("filters_mc", torch.from_numpy(filters).float(), persistent=False)
        window_s = torch.from_numpy(logmel.hann_window(WINDOW)).float()
        self.register_buffer("window_s", window_s, persistent=False)
        self.width = 2 * sizes.d_model * len(config.layers)
        if self._weights is not None:
            self._pin(sha256)
        else:
            self.pinned = {"sha256": config.sha256, "architecture": asdict(sizes), "encoder": ""}

    def _pin(self, sha256: str) -> None:
        if self.config.sha256 and sha256 != self.config.sha256:
            raise EncoderError(
                f"the encoder {self.config.encoder} is another one: the SHA-256 of its weights is "
                f"{sha256[:16]}..., expected {self.config.sha256[:16]}.... Get the one that the "
                "model was trained with, or train the model anew"
            )
        self.config = replace(self.config, encoder="", revision="main", sha256=sha256)
        architecture = asdict(self.sizes)
        self.pinned = {"sha256": sha256, "architecture": architecture, "encoder": ""}

    def get_encoder_weights(self) -> dict[str, Tensor]:
        """Return the weights of the encoder in fp16, which a saved model holds."""
        if self._weights is None:
            with torch.device("meta"):
                return WhisperEncoder(self.sizes).half().state_dict()
        return dict(self._weights)

    def load_encoder_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of the encoder from a saved model.

        Raises:
            EncoderError: they are not the expected ones.
        """
        self._weights = select_encoder_weights(weights, self.sizes)
        self._encoders.clear()
        self._pin(hash_encoder_weights(self._weights))

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (B, S) and their lengths in samples -> rows (B, 1, F) and mask (B, 1)."""
        length_b = length_b.clamp(max=round(self.max_seconds * self.rate))
        pairs = zip(wave_bs, length_b.tolist(), strict=True)
        rows = [self.compute_statistics(wave_s[None, :length]) for wave_s, length in pairs]
        x_bf = torch.cat(rows)
        return x_bf[:, None], torch.ones(len(x_bf), 1, dtype=torch.bool, device=x_bf.device)

    def compute_statistics(self, wave_1s: Tensor) -> Tensor:
        """Waveform (1, S) -> mean and deviation of each layer's output over time, (1, F)."""
        bands_1mt = self.compute_log_mel(subtract_offset(wave_1s))
        outputs = self.get_encoder(wave_1s.device)(bands_1mt)
        return pool_statistics([outputs[layer - 1] for layer in self.config.layers])

    def get_encoder(self, device: torch.device) -> WhisperEncoder:
        """Return the encoder in fp32 on a device.

        Raises:
            EncoderError: the front end of a saved model got no weights.
        """
        if self._weights is None:
            raise EncoderError(
                "the encoder of this front end has no weights; load the saved model with "
                "serein.bundle.load, or name the encoder in features.encoder"
            )
        if device.type not in self._encoders:
            with torch.inference_mode(False), torch.device("meta"):
                encoder = WhisperEncoder(self.sizes)
            weights = {name: x.to(device, torch.float32) for name, x in self._weights.items()}
            encoder.load_state_dict(weights, assign=True)
            encoder.position_td = encoder.position_td.to(device)
            self._encoders[device.type] = encoder.eval().requires_grad_(False)
        return self._encoders[device.type]

    def compute_log_mel(self, wave_1s: Tensor) -> Tensor:
        """Waveform (1, S) -> log-mel bands of frames of 10 ms, (1, M, 2 T)."""
        spectrum_1ct = torch.stft(
            pad_to_frames(wave_1s), WINDOW, HOP, window=self.window_s, return_complex=True
        )
        return self.scale_power(spectrum_1ct[..., :-1].abs().square())

    def scale_power(self, power_1ct: Tensor) -> Tensor:
        """Power spectrum (1, C, 2 T) -> log-mel bands, the loudest of them ``LOUDEST_BAND``."""
        mel_1mt = self.filters_mc @ power_1ct
        loudest_111 = mel_1mt.amax(dim=(1, 2), keepdim=True).clamp(min=POWER_FLOOR)
        log_1mt = (mel_1mt / loudest_111).clamp(min=10.0**-RANGE).log10() + LOUDEST_BAND
        return (log_1mt + 4) / 4

    def to_onnx_module(self) -> "ONNXFrontEnd":
        """Return the front end for export."""
        return ONNXFrontEnd(self)


class ONNXFrontEnd(nn.Module):
    """The same front end for one waveform, with its Fourier transform as matrix products."""

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__()
        self.front_end, self.encoder = front_end, front_end.get_encoder(torch.device("cpu"))
        self.transform = logmel.FourierTransform(WINDOW, WINDOW, torch.float32)

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """(1, S) -> one row (1, 1, F) and a mask of one."""
        front_end = self.front_end
        wave_1s = wave_bs[:, : round(front_end.max_seconds * front_end.rate)]
        outputs = self.encoder(self._compute_log_mel(subtract_offset(wave_1s)))
        row_1f = pool_statistics([outputs[layer - 1] for layer in front_end.config.layers])
        return row_1f[:, None], torch.ones(1, 1, dtype=torch.bool)

    def _compute_log_mel(self, wave_1s: Tensor) -> Tensor:
        padded_1s = F.pad(wave_1s, (0, MIN_SAMPLES))
        size = torch.sym_max(wave_1s.shape[1], MIN_SAMPLES)  # type: ignore[no-untyped-call]
        wave_s = padded_1s[0, :size]
        half = WINDOW // 2
        before_s, after_s = wave_s[1 : half + 1].flip(0), wave_s[size - half - 1 : size - 1].flip(0)
        wave_s = torch.cat([before_s, wave_s, after_s])
        frames = size // HOP
        frames_ts = logmel.cut_frames(wave_s, frames, WINDOW, HOP)
        real_tc, imaginary_tc = self.transform(frames_ts * self.front_end.window_s)
        power_tc = real_tc.square() + imaginary_tc.square()
        return self.front_end.scale_power(power_tc.T[None])


def subtract_offset(wave_1s: Tensor) -> Tensor:
    """Subtract the mean of a waveform (1, S), if it is larger than that of speech."""
    offset_11 = wave_1s.mean(dim=1, keepdim=True)
    peak_11 = (wave_1s - offset_11).abs().amax(dim=1, keepdim=True)
    return wave_1s - torch.where(offset_11.abs() > MIN_OFFSET * peak_11, offset_11, 0.0)


def pad_to_frames(wave_1s: Tensor) -> Tensor:
    """Pad a waveform (1, S) with zeros to the shortest input of the encoder."""
    return F.pad(wave_1s, (0, max(0, MIN_SAMPLES - wave_1s.shape[1])))


def pool_statistics(outputs: list[Tensor]) -> Tensor:
    """Return the mean and deviation over time of each output (1, T, D), side by side: (1, F)."""
    parts = []
    for x_1td in outputs:
        mean_1d = x_1td.mean(dim=1)
        variance_1d = (x_1td - mean_1d[:, None]).square().mean(dim=1)
        parts += [mean_1d, (variance_1d + VARIANCE_EPSILON).sqrt()]
    return torch.cat(parts, dim=1)


class EncoderWeights(NamedTuple):
    """The first layers of an encoder.

    Attributes:
        sizes: of the layers.
        weights: by name, in fp16.
        sha256: of the weights; computed once a process, like them.
    """

    sizes: WhisperConfig
    weights: dict[str, Tensor]
    sha256: str


def find_encoder_weights(config: Config, layers: int) -> EncoderWeights:
    """Return the weights of an encoder's first layers.

    Raises:
        EncoderError: the encoder is not on this machine, or is not Whisper's.
    """
    if file := _find_saved_model(config.encoder):
        return _read_saved_encoder(file, layers, _get_versions([file]))
    download = config.download and not config.sha256
    folder = ssl_encoder.find_encoder(config.encoder, config.revision, download=download)
    files = [folder / ssl_encoder.CONFIG_FILES[0], *ssl_encoder.find_weight_files(folder)]
    return _read_encoder_folder(folder, layers, _get_versions(files))


def _find_saved_model(name: str) -> Path | None:
    """Return the file of a saved model by its path, or by the name of a shipped one."""
    if name.endswith(".safetensors"):
        return Path(name).expanduser()
    shipped = Path(__file__).parent.parent / "pretrained" / f"{name}.safetensors"
    return shipped if name and shipped.is_file() else None


def _get_versions(files: list[Path]) -> tuple[tuple[int, int], ...]:
    """Return size and time of files, with which their content changes.

    Raises:
        EncoderError: a file cannot be read.
    """
    try:
        return tuple((file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    except OSError as error:
        raise EncoderError(
            f"cannot read the encoder's {error.filename}: {error.strerror}"
        ) from error


@cache
def _read_encoder_folder(
    folder: Path, layers: int, versions: tuple[tuple[int, int], ...]
) -> EncoderWeights:
    """Read an encoder's first layers from the folder of a model; each version once a process."""
    from safetensors import SafetensorError, safe_open

    sizes = read_whisper_config(ssl_encoder.read_encoder_config(folder), layers)
    weights: dict[str, Tensor] = {}
    try:
        for file in ssl_encoder.find_weight_files(folder):
            with safe_open(file, "pt") as tensors:
                names = [name for name in tensors.keys() if "decoder." not in name]  # noqa: SIM118
                weights |= {name: tensors.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise EncoderError(f"the weights in {folder} cannot be read: {error}") from error
    return _select_and_hash(weights, sizes)


@cache
def _read_saved_encoder(
    file: Path, layers: int, versions: tuple[tuple[int, int], ...]
) -> EncoderWeights:
    """Read an encoder's first layers from a saved model that holds them."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as tensors:
            metadata = tensors.metadata()
            document = json.loads(metadata["serein"])
            found = {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
            if shared := read_shared_weights(file, metadata):
                if is_changed(shared):
                    raise was_changed(file, shared)
                found |= {name: torch.from_numpy(x) for name, x in shared.arrays.items()}
            weights = {
                name.removeprefix(ENCODER_PREFIX): x
                for name, x in found.items()
                if name.startswith(ENCODER_PREFIX)
            }
            architecture = document["recipe"]["features"].get("architecture")
    except BundleError as error:
        raise EncoderError(str(error)) from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise EncoderError(f"{file} is not a saved model that can be read: {error}") from error
    if not weights or not architecture:
        raise EncoderError(f"the saved model {file} holds no encoder of Whisper")
    sizes = read_whisper_config({"model_type": "whisper", **architecture}, layers)
    return _select_and_hash(weights, sizes)


def _select_and_hash(weights: Mapping[str, Tensor], sizes: WhisperConfig) -> EncoderWeights:
    used = select_encoder_weights(weights, sizes)
    return EncoderWeights(sizes, used, hash_encoder_weights(used))


def contents(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return hashes of the data that a recipe's numbers depend on: that of its encoder's weights.

    Raises:
        EncoderError: the encoder is not on this machine.
    """
    if settings.get("architecture"):
        return {"encoder": str(settings.get("sha256", ""))}
    config = settings_config.build_config(
        Config, {key: value for key, value in settings.items() if key != "name"}, "features"
    )
    return {"encoder": find_encoder_weights(config, max(config.layers)).sha256}
