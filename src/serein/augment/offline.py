"""Augmented copies of utterances; their random numbers depend on the utterance's id alone.

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
    """One augmented copy of every utterance.

    Attributes:
        config: settings of augmentation.
        index: number of the copy.
        rate: sampling rate in Hz.
        rooms: a user's impulse responses.
        noises: a user's recordings of noise.
    """

    config: AugmentConfig
    index: int
    rate: int
    rooms: waveform.AudioFolder | None = None
    noises: waveform.AudioFolder | None = None

    @property
    def cache_key(self) -> str:
        """Hash of everything that the samples depend on, except the recordings and their ids."""
        digests = [folder.digest if folder else "" for folder in (self.rooms, self.noises)]
        source = registry.hash_sources([Path(__file__).parent])
        facts = [self.config.waveform_settings, self.index, self.rate, digests, source]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def __call__(self, wave_s: Samples, id_: str) -> Samples:
        """Augment a recording (S,): first the voice, then the room, the noise, the channel."""
        wave_s = self._add_reverb(self._change_voice(wave_s, id_), id_)
        return self._apply_channel(self._add_noise(wave_s, id_), id_)

    def _change_voice(self, wave_s: Samples, id_: str) -> Samples:
        config, rng = self.config, self._make_rng("part", id_)
        if rng.random() < config.crop:
            size = round(self.rate * rng.uniform(*config.crop_seconds))
            wave_s = waveform.crop(wave_s, size, rng)
        if config.speed:
            factor = float(self._make_rng("speed", id_).choice(config.speed))
            wave_s = waveform.change_speed(wave_s, self.rate, factor)
        if any(config.pitch):
            semitones = self._make_rng("pitch", id_).uniform(*config.pitch)
            wave_s = waveform.shift_pitch(wave_s, self.rate, semitones)
        rng = self._make_rng("whisper", id_)
        if rng.random() < config.whisper:
            wave_s = waveform.whisper(wave_s, self.rate, rng)
        return wave_s

    def _add_reverb(self, wave_s: Samples, id_: str) -> Samples:
        rng, config = self._make_rng("room", id_), self.config
        if rng.random() >= config.room:
            return wave_s
        if self.rooms:
            response_r = waveform.load_impulse_response(self.rooms, self.rate, rng)
        else:
            seconds = rng.uniform(*config.room_seconds)
            response_r = waveform.simulate_impulse_response(self.rate, seconds, rng)
        return waveform.add_reverb(wave_s, response_r)

    def _add_noise(self, wave_s: Samples, id_: str) -> Samples:
        rng, config = self._make_rng("noise", id_), self.config
        if rng.random() >= config.noise:
            return wave_s
        snr, size = rng.uniform(*config.noise_snr), len(wave_s)
        if self.noises:
            noise_s = waveform.load_excerpt(self.noises, self.rate, size, rng)
        else:
            noise_s = waveform.generate_noise(size, self.rate, rng)
        return waveform.add_noise(wave_s, noise_s, snr)

    def _apply_channel(self, wave_s: Samples, id_: str) -> Samples:
        config = self.config
        if any(config.gain):
            wave_s = waveform.apply_gain(wave_s, self._make_rng("gain", id_).uniform(*config.gain))
        rng = self._make_rng("bandwidth", id_)
        if rng.random() < config.bandwidth:
            low, high = np.log(config.bandwidth_hertz)
            wave_s = waveform.band_limit(wave_s, self.rate, float(np.exp(rng.uniform(low, high))))
        if self._make_rng("telephone", id_).random() < config.telephone:
            wave_s = waveform.telephone(wave_s, self.rate)
        return wave_s

    def _make_rng(self, effect: str, id_: str) -> np.random.Generator:
        """Make a generator for one effect, so that its setting does not change other effects."""
        text = json.dumps([self.config.seed, self.index, effect, id_])
        return np.random.default_rng(int(hashlib.sha256(text.encode()).hexdigest(), 16))


def build_offline_augmentations(
    config: AugmentConfig, rate: int
) -> tuple[OfflineAugmentation, ...]:
    """Return an augmentation for each copy; none if the settings do not change waveforms.

    Raises:
        ConfigError: a folder of noises or impulse responses does not exist, or is empty.
        AudioError: a file in it cannot be read.
    """
    if not config.waveform_settings:
        return ()
    rooms = waveform.open_audio_folder(config.room_folder, "room_folder")
    noises = waveform.open_audio_folder(config.noise_folder, "noise_folder")
    return tuple(OfflineAugmentation(config, n, rate, rooms, noises) for n in range(config.copies))
