"""Settings of data augmentation, which is off by default."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval, Le

from serein import config
from serein.errors import ConfigError

Probability = Annotated[float, Interval(ge=0, le=1)]
Range = tuple[float, float]

RANGE_LIMITS: dict[str, tuple[float, float, str]] = {
    "crop_seconds": (0.1, 60, "s"),
    "pitch": (-12, 12, "semitones"),
    "room_seconds": (0.05, 5, "s"),
    "noise_snr": (-30, 60, "dB"),
    "gain": (-60, 60, "dB"),
    "bandwidth_hertz": (200, 96_000, "Hz"),
}
"""For each range: its lowest and highest value, and their unit."""


@dataclass(frozen=True)
class AugmentConfig:
    """Settings of augmentation. Probabilities are those of a copy; ranges are lowest and highest.

    Attributes:
        copies: augmented copies of each utterance, made once and cached; an epoch uses one of them
            or the recording itself, with equal probability. Without effects there are none.
        seed: of the random numbers of the copies; trainings with other seeds share them.
        crop: probability of a crop; loud parts are more likely.
        crop_seconds: length of the crop.
        speed: factors, of which a copy has one; 1.1 is a tenth faster, and higher.
        pitch: shift in semitones, including formants; the length stays.
        whisper: probability of a whisper: noise in place of the voice.
        room: probability of reverberation.
        room_folder: folder of impulse responses, WAV or FLAC, with its subfolders; None simulates
            them.
        room_seconds: reverberation time (T60) of simulated rooms.
        noise: probability of noise.
        noise_folder: folder of noises, likewise; None generates white, pink or brown noise.
        noise_snr: signal-to-noise ratio over the whole utterance, in decibels.
        gain: in decibels; without effect on front ends that normalize the level.
        bandwidth: probability of a low-pass filter, as in codecs.
        bandwidth_hertz: its cutoff.
        telephone: probability of a telephone channel: 300 to 3,400 Hz, 8 kHz, 8-bit mu-law.
        time_masks: masks over time of each utterance (SpecAugment).
        time_width: longest of them, in seconds.
        time_share: longest of them, as a share of the utterance.
        band_masks: masks over mel bands, and their derivatives.
        band_width: most bands of a mask.
    """

    copies: Annotated[int, Ge(1), Le(100)] = 4
    seed: Annotated[int, Ge(0)] = 0
    crop: Probability = 0.0
    crop_seconds: Range = (0.3, 1.5)
    speed: tuple[Annotated[float, Interval(ge=0.5, le=2)], ...] = ()
    pitch: Range = (0.0, 0.0)
    whisper: Probability = 0.0
    room: Probability = 0.0
    room_folder: str | None = None
    room_seconds: Range = (0.2, 0.8)
    noise: Probability = 0.0
    noise_folder: str | None = None
    noise_snr: Range = (5.0, 25.0)
    gain: Range = (0.0, 0.0)
    bandwidth: Probability = 0.0
    bandwidth_hertz: Range = (2500.0, 7000.0)
    telephone: Probability = 0.0
    time_masks: Annotated[int, Ge(0), Le(20)] = 0
    time_width: Annotated[float, Gt(0)] = 0.3
    time_share: Annotated[float, Gt(0), Le(1)] = 0.2
    band_masks: Annotated[int, Ge(0), Le(20)] = 0
    band_width: Annotated[int, Ge(1)] = 16

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: a range ends before it begins, or is outside its limits.
        """
        for name, (lowest, highest, unit) in RANGE_LIMITS.items():
            low, high = getattr(self, name)
            if not lowest <= low <= high <= highest:
                raise ConfigError(
                    f"augment.{name} = [{low:g}, {high:g}]; expected two numbers of {unit} within "
                    f"[{lowest:g}, {highest:g}], the smaller one first"
                )

    @property
    def waveform_settings(self) -> dict[str, Any]:
        """Settings of the effects on waveforms; empty without effects."""
        changes = (*self.pitch, *self.gain, *(factor - 1 for factor in self.speed))
        voice = self.crop, self.whisper
        channel = self.room, self.noise, self.bandwidth, self.telephone
        if not any((*changes, *voice, *channel)):
            return {}
        # The content of the folders counts, not their paths.
        others = ("copies", "room_folder", "noise_folder", *MASK_SETTINGS)
        return {name: value for name, value in asdict(self).items() if name not in others}


MASK_SETTINGS = ("time_masks", "time_width", "time_share", "band_masks", "band_width")
"""Settings of SpecAugment, which do not change waveforms."""


def build_augment_config(table: Mapping[str, Any]) -> AugmentConfig:
    """Build the settings from a recipe's table.

    Raises:
        UnknownName: a setting does not exist.
        ConfigError: a setting is out of range.
    """
    return config.build_config(AugmentConfig, table, "augment")
