"""Copies of utterances, each drawn by the utterance's name: never by when or where it is made.

S = samples.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serein import registry
from serein.audio import Samples
from serein.augment import waveform
from serein.augment.config import AugmentConfig


@dataclass(frozen=True)
class OfflineAugmentation:
    """One form of every utterance.

    Attributes:
        settings: what may happen to it.
        number: which copy.
        rate: sampling rate in Hz.
        rooms: impulse responses of a user's own.
        noises: of a user's own.
    """

    config: AugmentConfig
    index: int
    rate: int
    rooms: waveform.AudioFolder | None = None
    noises: waveform.AudioFolder | None = None

    @property
    def cache_key(self) -> str:
        """What its samples depend on beside the recordings and their names."""
        marks = [folder.digest if folder else "" for folder in (self.rooms, self.noises)]
        source = registry.hash_sources([Path(__file__).parent])
        facts = [self.config.waveform_settings, self.index, self.rate, marks, source]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def __call__(self, wave_s: Samples, id_: str) -> Samples:
        """A recording (S,) -> the copy: first the voice, then the room, the noise, the channel."""
        wave_s = self._add_reverb(self._change_voice(wave_s, id_), id_)
        return self._apply_channel(self._add_noise(wave_s, id_), id_)

    def _change_voice(self, wave_s: Samples, id_: str) -> Samples:
        how, rng = self.config, self._make_rng("part", id_)
        if rng.random() < how.crop:
            wave_s = waveform.crop(wave_s, round(self.rate * rng.uniform(*how.crop_seconds)), rng)
        if how.speed:
            factor = float(self._make_rng("speed", id_).choice(how.speed))
            wave_s = waveform.change_speed(wave_s, self.rate, factor)
        if any(how.pitch):
            semitones = self._make_rng("pitch", id_).uniform(*how.pitch)
            wave_s = waveform.shift_pitch(wave_s, self.rate, semitones)
        rng = self._make_rng("whisper", id_)
        return waveform.whisper(wave_s, self.rate, rng) if rng.random() < how.whisper else wave_s

    def _add_reverb(self, wave_s: Samples, id_: str) -> Samples:
        rng, how = self._make_rng("room", id_), self.config
        if rng.random() >= how.room:
            return wave_s
        if self.rooms:
            return waveform.add_reverb(
                wave_s, waveform.load_impulse_response(self.rooms, self.rate, rng)
            )
        response_r = waveform.simulate_impulse_response(
            self.rate, rng.uniform(*how.room_seconds), rng
        )
        return waveform.add_reverb(wave_s, response_r)

    def _add_noise(self, wave_s: Samples, id_: str) -> Samples:
        rng, how = self._make_rng("noise", id_), self.config
        if rng.random() >= how.noise:
            return wave_s
        snr, size = rng.uniform(*how.noise_snr), len(wave_s)
        if self.noises:
            noise_s = waveform.load_excerpt(self.noises, self.rate, size, rng)
        else:
            noise_s = waveform.generate_noise(size, self.rate, rng)
        return waveform.add_noise(wave_s, noise_s, snr)

    def _apply_channel(self, wave_s: Samples, id_: str) -> Samples:
        how = self.config
        if any(how.gain):
            wave_s = waveform.apply_gain(wave_s, self._make_rng("gain", id_).uniform(*how.gain))
        rng = self._make_rng("bandwidth", id_)
        if rng.random() < how.bandwidth:
            low, high = np.log(how.bandwidth_hertz)
            wave_s = waveform.band_limit(wave_s, self.rate, float(np.exp(rng.uniform(low, high))))
        if self._make_rng("telephone", id_).random() < how.telephone:
            wave_s = waveform.telephone(wave_s, self.rate)
        return wave_s

    def _make_rng(self, effect: str, id_: str) -> np.random.Generator:
        """Chance of its own for each change, so that one setting leaves the others' draws alone."""
        text = json.dumps([self.config.seed, self.index, effect, id_])
        return np.random.default_rng(int(hashlib.sha256(text.encode()).hexdigest(), 16))


def build_offline_augmentations(
    config: AugmentConfig, rate: int
) -> tuple[OfflineAugmentation, ...]:
    """Every copy that the settings ask for; none where they change nothing.

    Raises:
        ConfigError: a folder of noises or rooms is none, or empty.
        AudioError: a file in it cannot be read.
    """
    if not config.waveform_settings:
        return ()
    rooms = waveform.open_audio_folder(config.room_folder, "room_folder")
    noises = waveform.open_audio_folder(config.noise_folder, "noise_folder")
    return tuple(OfflineAugmentation(config, n, rate, rooms, noises) for n in range(config.copies))
