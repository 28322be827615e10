"""What may vary in augmentation; all of it is off where a recipe says nothing."""

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
"""The lowest and the highest number that each range may hold, and their unit."""


@dataclass(frozen=True)
class AugmentConfig:
    """What training hears in place of a recording. Shares are of the copies, ranges from and to.

    Attributes:
        copies: forms of each utterance, made once and cached; an epoch hears one of them or the
            recording itself, each as likely. Only where something changes them.
        seed: of what the copies draw; trainings of other seeds share them.
        part: share of which a stretch alone is heard; loud places are drawn more often.
        part_seconds: how long it is.
        speed: factors, one of which a copy draws; 1.1 is a tenth faster, and higher.
        pitch: semitones that it is moved by, formants with it; its length stays.
        whisper: share that is whispered: noise in the place of the voice.
        room: share that sounds in a room.
        room_folder: of impulse responses, WAV or FLAC, and all folders below; None makes some up.
        room_seconds: reverberation time (T60) of rooms that are made up.
        noise: share with noise.
        noise_folder: of noises, likewise; None takes white, pink or brown noise.
        noise_snr: decibels of the whole utterance over its noise.
        gain: decibels that it is louder by; only where frames keep the level.
        bandwidth: share that loses its high frequencies, as codecs take them.
        bandwidth_hertz: where these begin.
        telephone: share that goes through one: 300 to 3,400 Hz, 8 kHz, 8-bit mu-law.
        time_masks: stretches of each utterance of a batch that are hidden behind its mean.
        time_width: longest of them, in seconds.
        time_share: longest of them, as a share of the utterance.
        band_masks: runs of mel bands that are hidden likewise, derivatives with them.
        band_width: the most bands of a run.
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
        """Refuse ranges that end before they begin.

        Raises:
            ConfigError: one does, or holds numbers that make no sense.
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
        """The settings that copies depend on, but for their number; none where nothing changes."""
        moved = (*self.pitch, *self.gain, *(factor - 1 for factor in self.speed))
        shares = self.crop, self.whisper, self.room, self.noise, self.bandwidth, self.telephone
        if not any((*moved, *shares)):
            return {}
        # The folders stand for what is in them, wherever they lie.
        others = ("copies", "room_folder", "noise_folder", *MASK_SETTINGS)
        return {name: value for name, value in asdict(self).items() if name not in others}


MASK_SETTINGS = ("time_masks", "time_width", "time_share", "band_masks", "band_width")
"""Settings that no copy depends on."""


def build_augment_config(table: Mapping[str, Any]) -> AugmentConfig:
    """The settings of a recipe's table.

    Raises:
        UnknownName: there is no such setting.
        ConfigError: one is out of range.
    """
    return config.build_config(AugmentConfig, table, "augment")
