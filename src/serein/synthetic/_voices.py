"""What can be said, and how: sounds, words, emotions, voices."""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Sound(NamedTuple):
    """One steady piece of speech: formants in Hz, strengths, hiss in Hz, length in ms."""

    f1: float = 500
    f2: float = 1500
    f3: float = 2500
    voice: float = 0
    breath: float = 0
    hiss: float = 0
    centre: float = 4000
    width: float = 1000
    length: float = 80


CLOSURE = Sound(length=55)
HUM = Sound(200, 1000, 2300, voice=0.12, length=50)
SOUNDS: dict[str, tuple[Sound, ...]] = {
    "a": (Sound(750, 1250, 2500, voice=0.8, length=110),),
    "e": (Sound(480, 1950, 2600, voice=1, length=100),),
    "i": (Sound(290, 2250, 3000, voice=1, length=95),),
    "o": (Sound(450, 850, 2500, voice=1, length=105),),
    "u": (Sound(310, 800, 2300, voice=1, length=95),),
    "m": (Sound(250, 1100, 2200, voice=0.4, length=70),),
    "n": (Sound(250, 1600, 2600, voice=0.4, length=65),),
    "l": (Sound(350, 1150, 2700, voice=0.55, length=60),),
    "r": (Sound(400, 1250, 1700, voice=0.5, length=55),),
    "w": (Sound(300, 650, 2250, voice=0.5, length=60),),
    "j": (Sound(270, 2250, 2950, voice=0.5, length=55),),
    "s": (Sound(400, 1700, 2600, hiss=0.9, centre=6000, width=1100, length=95),),
    "x": (Sound(400, 1800, 2500, hiss=0.9, centre=3200, width=800, length=95),),
    "f": (Sound(400, 1100, 2300, hiss=0.25, centre=4500, width=2500, length=85),),
    "h": (Sound(500, 1500, 2500, breath=0.5, length=60),),
    "z": (Sound(280, 1700, 2600, 0.3, 0, 0.5, 6000, 1100, 75),),
    "v": (Sound(280, 1100, 2300, 0.35, 0, 0.12, 4500, 2500, 65),),
    "p": (CLOSURE, Sound(400, 900, 2300, hiss=0.5, centre=900, width=600, length=20)),
    "t": (CLOSURE, Sound(400, 1700, 2600, hiss=0.9, centre=4500, width=1300, length=25)),
    "k": (CLOSURE, Sound(400, 1900, 2400, hiss=0.7, centre=2000, width=500, length=30)),
    "b": (HUM, Sound(400, 900, 2300, 0.3, 0, 0.2, 900, 600, 15)),
    "d": (HUM, Sound(400, 1700, 2600, 0.3, 0, 0.4, 4200, 1300, 15)),
    "g": (HUM, Sound(400, 1900, 2400, 0.3, 0, 0.3, 2000, 500, 20)),
}
VOWELS = "aeiou"
LEXICON = (
    *("akido", "anemi", "bado", "dilu", "enta", "fosira", "gamo", "hule"),
    *("imako", "josa", "kapeti", "lumo", "milena", "nafu", "ogari", "pelo"),
    *("risuta", "sabi", "tokame", "uldo", "vani", "wesola", "xuri", "zemo"),
)


class SpeakingStyle(NamedTuple):
    """How an emotion departs from plain speech.

    Attributes:
        pitch: of the voice, in semitones.
        span: of the melody, as the logarithm of a factor.
        rate: of speaking, as the logarithm of a factor.
        level: loudness, in decibels.
        tilt: of the spectrum, in decibels per octave; below zero is duller.
        breath: noise in the voice, as a share.
        tremor: depth of a trembling pitch, in semitones.
    """

    pitch: float
    span: float
    rate: float
    level: float
    tilt: float
    breath: float
    tremor: float


EMOTION_STYLES = {
    "anger": SpeakingStyle(4.5, 0.4, 0.12, 6, 3, 0, 0),
    "boredom": SpeakingStyle(-2, -0.7, -0.25, -3, -1.2, 0.04, 0),
    "disgust": SpeakingStyle(-1, 0.2, -0.3, 0.5, 0.6, 0.02, 0.1),
    "fear": SpeakingStyle(6, -0.2, 0.25, 0, 0.3, 0.1, 0.5),
    "happiness": SpeakingStyle(4, 0.7, 0.05, 3.5, 1.2, 0.01, 0),
    "neutral": SpeakingStyle(0, 0, 0, 0, 0, 0.02, 0),
    "sadness": SpeakingStyle(-1, -0.5, -0.3, -5, -3, 0.14, 0.2),
}
STYLE_DEVIATION = SpeakingStyle(1.6, 0.25, 0.12, 2, 1, 0.02, 0.1)
"""Standard deviations of the same emotion from one utterance to the next."""


@dataclass(frozen=True, kw_only=True)
class Voice:
    """Who speaks.

    Attributes:
        pitch: usual one, in Hz.
        tract: factor on all formants; a shorter vocal tract raises them.
        loudness: in decibels above the others.
        rate: of speaking, as a factor.
        strength: how strongly emotions show, as a factor.
    """

    pitch: float
    tract: float
    loudness: float
    rate: float
    strength: float

    @classmethod
    def for_speaker(cls, name: str, gender: str, *, seed: int = 0) -> "Voice":
        """The voice that ``name`` has under this seed; ``gender`` is "female" or "male"."""
        rng = make_rng(seed, "voice", name)
        pitch, tract = (205, 1.15) if gender == "female" else (115, 1.0)
        return cls(
            pitch=float(pitch * 2 ** (rng.normal(0, 1.6) / 12)),
            tract=float(tract * np.exp(rng.normal(0, 0.03))),
            loudness=float(rng.normal(0, 1.5)),
            rate=float(np.exp(rng.normal(0, 0.08))),
            strength=float(rng.uniform(0.8, 1.2)),
        )


def make_rng(*parts: object) -> np.random.Generator:
    """A generator that depends on these parts, and on nothing else."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
