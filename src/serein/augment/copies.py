"""Copies of utterances, each drawn by the utterance's name: never by when or where it is made.

S = samples.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serein import find
from serein.audio import Samples
from serein.augment import sounds, waves
from serein.augment.settings import Settings


@dataclass(frozen=True)
class Copy:
    """One form of every utterance.

    Attributes:
        settings: what may happen to it.
        number: which copy.
        rate: sampling rate in Hz.
        rooms: impulse responses of a user's own.
        noises: of a user's own.
    """

    settings: Settings
    number: int
    rate: int
    rooms: sounds.Folder | None = None
    noises: sounds.Folder | None = None

    @property
    def key(self) -> str:
        """What its samples depend on beside the recordings and their names."""
        marks = [folder.mark if folder else "" for folder in (self.rooms, self.noises)]
        source = find.digest([Path(__file__).parent])
        facts = [self.settings.waves, self.number, self.rate, marks, source]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def __call__(self, wave_s: Samples, id_: str) -> Samples:
        """A recording (S,) -> the copy: first the voice, then the room, the noise, the channel."""
        wave_s = self._in_room(self._spoken(wave_s, id_), id_)
        return self._through(self._beside_noise(wave_s, id_), id_)

    def _spoken(self, wave_s: Samples, id_: str) -> Samples:
        how, rng = self.settings, self._rng("part", id_)
        if rng.random() < how.part:
            wave_s = waves.part(wave_s, round(self.rate * rng.uniform(*how.part_seconds)), rng)
        if how.speed:
            factor = float(self._rng("speed", id_).choice(how.speed))
            wave_s = waves.faster(wave_s, self.rate, factor)
        if any(how.pitch):
            semitones = self._rng("pitch", id_).uniform(*how.pitch)
            wave_s = waves.higher(wave_s, self.rate, semitones)
        rng = self._rng("whisper", id_)
        return waves.whispered(wave_s, self.rate, rng) if rng.random() < how.whisper else wave_s

    def _in_room(self, wave_s: Samples, id_: str) -> Samples:
        rng, how = self._rng("room", id_), self.settings
        if rng.random() >= how.room:
            return wave_s
        if self.rooms:
            return waves.reverberant(wave_s, sounds.response(self.rooms, self.rate, rng))
        response_r = sounds.room(self.rate, rng.uniform(*how.room_seconds), rng)
        return waves.reverberant(wave_s, response_r)

    def _beside_noise(self, wave_s: Samples, id_: str) -> Samples:
        rng, how = self._rng("noise", id_), self.settings
        if rng.random() >= how.noise:
            return wave_s
        snr, size = rng.uniform(*how.noise_snr), len(wave_s)
        if self.noises:
            noise_s = sounds.stretch(self.noises, self.rate, size, rng)
        else:
            noise_s = sounds.coloured(size, self.rate, rng)
        return waves.noisy(wave_s, noise_s, snr)

    def _through(self, wave_s: Samples, id_: str) -> Samples:
        how = self.settings
        if any(how.gain):
            wave_s = waves.louder(wave_s, self._rng("gain", id_).uniform(*how.gain))
        rng = self._rng("bandwidth", id_)
        if rng.random() < how.bandwidth:
            low, high = np.log(how.bandwidth_hertz)
            wave_s = waves.limited(wave_s, self.rate, float(np.exp(rng.uniform(low, high))))
        if self._rng("telephone", id_).random() < how.telephone:
            wave_s = waves.telephoned(wave_s, self.rate)
        return wave_s

    def _rng(self, what: str, id_: str) -> np.random.Generator:
        """Chance of its own for each change, so that one setting leaves the others' draws alone."""
        text = json.dumps([self.settings.seed, self.number, what, id_])
        return np.random.default_rng(int(hashlib.sha256(text.encode()).hexdigest(), 16))


def copies(settings: Settings, rate: int) -> tuple[Copy, ...]:
    """Every copy that the settings ask for; none where they change nothing.

    Raises:
        ConfigError: a folder of noises or rooms is none, or empty.
        AudioError: a file in it cannot be read.
    """
    if not settings.waves:
        return ()
    rooms = sounds.opened(settings.room_folder, "room_folder")
    noises = sounds.opened(settings.noise_folder, "noise_folder")
    return tuple(Copy(settings, n, rate, rooms, noises) for n in range(settings.copies))
