"""eGeMAPS by openSMILE: 88 functionals of an utterance, or its low-level descriptors over time.

Eyben et al.: "The Geneva Minimalistic Acoustic Parameter Set (GeMAPS) for Voice Research and
Affective Computing", IEEE Transactions on Affective Computing 7(2), 2016. Zhang et al. 2019,
section 4.3: 23 descriptors for recurrent networks, 88 functionals of them for an SVM.

openSMILE reads 16-bit samples, and a sample of 1.0 would become one of -1.0: samples are clipped
first. Its windows are 60 ms long: shorter utterances are padded with silence. The first window of
descriptors begins at the start of the utterance, and another one every 10 ms.

B = batch, S = samples, T = frames (one, of functionals), F = functionals or descriptors.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Gt, Interval
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from serein.errors import AudioError, ConfigError

PACKAGES = ("opensmile",)
"""Packages that the numbers depend on, besides this file."""
LICENCE = (
    "by audEERING's licence it is for research, teaching and private use: no product, free or "
    "paid, may use it, its features, or models trained on them "
    "(https://github.com/audeering/opensmile-python/blob/main/LICENSE)"
)
NOTE = f"features by openSMILE; {LICENCE}"
"""Note for users of its features."""
WIDTHS = {("functionals", "v01b"): 88, ("functionals", "v02"): 88, ("lld", "v01b"): 23}
WIDTHS |= {("lld", "v02"): 25}
MIN_SECONDS = 0.06
"""Seconds of openSMILE's longest window; of a shorter utterance all values are NaN."""
MAX_SAMPLE = 1 - 2**-15
"""The highest value of a 16-bit sample."""


@dataclass(frozen=True)
class Config:
    """Settings of the front end.

    Attributes:
        level: "functionals" gives one row an utterance, "lld" descriptors over time.
        version: of the set; "v01b" has 23 descriptors, "v02" has 25, both 88 functionals.
        rate: sampling rate in Hz.
        seconds: longest utterance; the rest is cut. None keeps all.
    """

    level: Literal["functionals", "lld"] = "functionals"
    version: Literal["v01b", "v02"] = "v01b"
    rate: Annotated[int, Interval(ge=8000, le=192_000)] = 16_000
    seconds: Annotated[float, Gt(0)] | None = None


class FrontEnd(nn.Module):
    """Waveforms to features of openSMILE; it has no trainable weights."""

    def __init__(self, config: Config) -> None:
        """Check that openSMILE is installed.

        Raises:
            ConfigError: it is not installed.
        """
        super().__init__()
        _import_opensmile()
        self.config = config
        self.rate = config.rate
        self.hop = 0.01
        self.max_seconds = config.seconds
        self.width = WIDTHS[config.level, config.version]

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (B, S) and their lengths in samples -> frames (B, T, F) and mask (B, T).

        Raises:
            AudioError: openSMILE returned NaN for a waveform.
        """
        if self.max_seconds is not None:
            length_b = length_b.clamp(max=round(self.max_seconds * self.rate))
        waves = zip(wave_bs.cpu().numpy(), length_b.tolist(), strict=True)
        features = [torch.from_numpy(self._extract(wave_s[:length])) for wave_s, length in waves]
        frames_b = torch.tensor([len(x_tf) for x_tf in features])
        mask_bt = torch.arange(int(frames_b.max())) < frames_b[:, None]
        x_btf = pad_sequence(features, batch_first=True)
        return x_btf.to(wave_bs.device), mask_bt.to(wave_bs.device)

    def _extract(self, wave_s: np.ndarray) -> np.ndarray:
        """(S,) -> (T, F)."""
        missing = max(0, round(MIN_SECONDS * self.rate) - len(wave_s))
        wave_s = np.pad(np.clip(wave_s, -1, MAX_SAMPLE), (0, missing))
        x_tf = _build_smile(self.config.level, self.config.version)(wave_s, self.rate)[0].T
        faulty = int((~np.isfinite(x_tf)).any(axis=1).sum())
        if faulty:
            seconds = len(wave_s) / self.rate
            raise AudioError(
                f"openSMILE gave NaN for {faulty} of {len(x_tf)} rows of {seconds:.2f} s, loudest "
                f"sample {np.abs(wave_s).max():.3f}; check it, and leave it out of the corpus"
            )
        return np.ascontiguousarray(x_tf, dtype=np.float32)


def _import_opensmile() -> Any:
    try:
        import opensmile
    except ImportError:
        raise _opensmile_error("is not installed") from None
    except OSError as error:
        raise _opensmile_error(f"does not load here ({error})") from error
    return opensmile


def _opensmile_error(fault: str) -> ConfigError:
    return ConfigError(
        f"the front end egemaps needs openSMILE, which {fault}: pip install 'serein[egemaps]'; "
        f"{LICENCE}"
    )


@cache
def _build_smile(level: str, version: str) -> Callable[[np.ndarray, int], np.ndarray]:
    """Return openSMILE as a function: waveform (S,) and rate in Hz -> (1, F, T)."""
    package = _import_opensmile()
    levels = package.FeatureLevel
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends v02
        smile: Callable[[np.ndarray, int], np.ndarray] = package.Smile(
            package.FeatureSet[f"eGeMAPS{version}"],
            levels.Functionals if level == "functionals" else levels.LowLevelDescriptors,
        )
    return smile
