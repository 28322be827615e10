"""Speech-like audio in any amount: an embedded corpus for trials, tests and demonstrations.

Made-up words are spoken by source and filter. A pulsed voice and a noise pass through the
formants of each sound, so that pitch, loudness, tempo and timbre are where real speech has them.
Emotion moves them as reviews of acted speech report (Scherer, "Vocal communication of emotion",
2003; Juslin and Laukka, 2003), speakers differ, and chance blurs both, so that classes overlap.

A letter is a sound, hence every transcript is true. One seed gives the same bytes on one machine,
and no utterance depends on which others are made. Scores on it say nothing about human speech.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from serein.errors import ConfigError, StorageError, UnknownName
from serein.files import write_bytes, write_text
from serein.records import Utterance

Array = npt.NDArray[np.float64]

RATE = 16_000  # Hz
HOP = 160  # samples, 10 ms
WINDOW = np.hanning(2 * HOP + 1)[:-1]  # sums to 1 at this hop
GLIDE = 5  # frames that one sound takes to pass into the next
TRANSFORM = 3 * HOP  # beyond the window, room for the ringing of the formants
HERTZ = np.fft.rfftfreq(TRANSFORM, 1 / RATE)
HIGHER = (3500, 4500)  # Hz, formants that no sound moves
BANDWIDTHS = np.array([80, 100, 150, 220, 300])  # Hz, of all five


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


class Manner(NamedTuple):
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


MANNERS = {
    "anger": Manner(4.5, 0.4, 0.12, 6, 3, 0, 0),
    "boredom": Manner(-2, -0.7, -0.25, -3, -1.2, 0.04, 0),
    "disgust": Manner(-1, 0.2, -0.3, 0.5, 0.6, 0.02, 0.1),
    "fear": Manner(6, -0.2, 0.25, 0, 0.3, 0.1, 0.5),
    "happiness": Manner(4, 0.7, 0.05, 3.5, 1.2, 0.01, 0),
    "neutral": Manner(0, 0, 0, 0, 0, 0.02, 0),
    "sadness": Manner(-1, -0.5, -0.3, -5, -3, 0.14, 0.2),
}
CHANCE = Manner(1.6, 0.25, 0.12, 2, 1, 0.02, 0.1)
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
    def of(cls, name: str, gender: str, *, seed: int = 0) -> "Voice":
        """The voice that ``name`` has under this seed; ``gender`` is "female" or "male"."""
        rng = _rng(seed, "voice", name)
        pitch, tract = (205, 1.15) if gender == "female" else (115, 1.0)
        return cls(
            pitch=float(pitch * 2 ** (rng.normal(0, 1.6) / 12)),
            tract=float(tract * np.exp(rng.normal(0, 0.03))),
            loudness=float(rng.normal(0, 1.5)),
            rate=float(np.exp(rng.normal(0, 0.08))),
            strength=float(rng.uniform(0.8, 1.2)),
        )


def speak(
    words: Sequence[str], voice: Voice, emotion: str, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Say words; any spelled with the letters of ``SOUNDS`` will do.

    Returns:
        Mono samples at 16 kHz, with a peak between 0.05 and 0.95.

    Raises:
        ConfigError: the emotion or a letter has no sound here.
    """
    if emotion not in MANNERS:
        raise UnknownName("emotion", emotion, MANNERS)
    if not words or not set("".join(words)) <= set(SOUNDS) or "" in words:
        raise ConfigError(f"cannot say {words!r}: expected words of the letters {''.join(SOUNDS)}")
    mean = np.multiply(MANNERS[emotion], voice.strength)
    manner = Manner(*(mean + np.multiply(CHANCE, rng.normal(size=len(CHANCE)))).tolist())
    sounds, accents = _plan(words, voice.rate * np.exp(manner.rate), rng)
    tracks = _tracks(sounds)
    pitch = voice.pitch * 2 ** (_melody(len(tracks), accents, manner, rng) / 12)
    spoken = _filter(tracks, _pulses(pitch), voice.tract, manner, rng)
    spoken *= 10 ** ((voice.loudness + manner.level - 27) / 20) / np.sqrt(np.mean(spoken**2))
    peak = np.abs(spoken).max()
    room = rng.normal(0, 1e-4, len(spoken))
    return (spoken * np.clip(peak, 0.06, 0.94) / peak + room).astype(np.float32)


def _plan(words: Sequence[str], rate: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """The sounds to make, a row each, and where words are stressed, in seconds."""
    rows = [Sound(length=rng.uniform(60, 120))]
    stressed = []
    for word in words:
        first = next((letter for letter in word if letter in VOWELS), word[0])
        stressed.append(len(rows) + sum(len(SOUNDS[x]) for x in word[: word.index(first)]))
        rows += [sound for letter in word for sound in SOUNDS[letter]]
        rows.append(Sound(length=rng.uniform(60, 130)))
    sounds = np.array(rows)
    sounds[:, -1] *= np.exp(rng.normal(0, 0.08, len(sounds))) / rate / 1000
    middles = np.cumsum(sounds[:, -1]) - sounds[:, -1] / 2
    return sounds, middles[stressed]


def _tracks(sounds: Array) -> Array:
    """From a row per sound to a row per frame, gliding from one to the next."""
    ends = np.cumsum(sounds[:, -1])
    times = np.arange(int(ends[-1] * RATE / HOP)) * HOP / RATE
    steps = sounds[np.searchsorted(ends, times, side="right").clip(max=len(sounds) - 1), :-1]
    glide = np.hanning(GLIDE + 2)[1:-1]
    padded = np.pad(steps, ((GLIDE // 2, GLIDE // 2), (0, 0)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, GLIDE, axis=0) @ (glide / glide.sum())


def _melody(frames: int, accents: Array, manner: Manner, rng: np.random.Generator) -> Array:
    """The pitch of each frame, in semitones above the speaker's usual one."""
    times = np.arange(frames) * HOP / RATE
    heights = rng.uniform(1.5, 4, len(accents))
    bumps = np.exp(-(((times[:, None] - accents) / 0.12) ** 2)) @ heights
    fall = -3 * times / times[-1]
    trembling = abs(manner.tremor) * np.sin(2 * np.pi * (rng.uniform(5, 7) * times + rng.random()))
    roughness = rng.normal(0, 0.15, frames)
    return manner.pitch + np.exp(manner.span) * (bumps + fall) + trembling + roughness


def _pulses(pitch: Array) -> Array:
    """Glottal pulses for a pitch per frame, in Hz: the flow's derivative, of unit power."""
    fine = np.interp(np.arange(len(pitch) * HOP) / HOP, np.arange(len(pitch)), pitch)
    opened = np.minimum(np.cumsum(fine / RATE) % 1 / 0.6, 1)
    # Differencing the flow itself, not sampling its derivative, keeps aliasing low.
    pulses = np.diff(opened**2 * (1 - opened), prepend=0) / fine
    return pulses / pulses.std()


def _filter(
    tracks: Array, pulses: Array, tract: float, manner: Manner, rng: np.random.Generator
) -> Array:
    """Shape voice and noise by the vocal tract, frame by frame."""
    formants, (voice, breath, hiss, centre, width) = tracks[:, :3] * tract, tracks[:, 3:].T
    tilt = (HERTZ.clip(200) / 500) ** (manner.tilt / 20 / np.log10(2))
    noise = _spectra(rng.normal(size=len(pulses)))
    breath = breath + abs(manner.breath) * voice
    spectra = voice[:, None] * _spectra(pulses) + breath[:, None] * noise
    spectra *= _resonances(formants, tract)
    hissing = np.flatnonzero(hiss > 0)
    band = ((HERTZ - centre[hissing, None]) / width[hissing, None]) ** 2
    spectra[hissing] += hiss[hissing, None] * np.exp(-band / 2) * noise[hissing]
    return _overlap_add(np.fft.irfft(spectra * tilt))


def _resonances(formants: Array, tract: float) -> npt.NDArray[np.complex128]:
    """Transfer function (frames, bins) of two-pole resonators in a row, one a formant."""
    higher = np.broadcast_to(np.multiply(HIGHER, tract), (len(formants), len(HIGHER)))
    radius = np.exp(-np.pi * BANDWIDTHS / RATE)
    turn = 2 * radius * np.cos(2 * np.pi * np.hstack([formants, higher]) / RATE)
    poles = np.ones((len(formants), 1))
    for a, b in zip(turn.T, radius**2, strict=True):
        wider = np.pad(poles, ((0, 0), (0, 2)))
        wider[:, 1:-1] -= a[:, None] * poles
        wider[:, 2:] += b * poles
        poles = wider
    return poles.sum(axis=1, keepdims=True) / np.fft.rfft(poles, TRANSFORM)


def _spectra(signal: Array) -> npt.NDArray[np.complex128]:
    padded = np.append(signal, np.zeros(HOP))
    frames = np.lib.stride_tricks.sliding_window_view(padded, len(WINDOW))[::HOP]
    return np.fft.rfft(frames * WINDOW, TRANSFORM)


def _overlap_add(blocks: Array) -> Array:
    parts = TRANSFORM // HOP
    out = np.zeros((len(blocks) + parts - 1, HOP))
    for part in range(parts):
        out[part : part + len(blocks)] += blocks[:, part * HOP : (part + 1) * HOP]
    return out[: len(blocks)].ravel()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What ``generate`` makes: every speaker says every sentence in every emotion.

    Attributes:
        speakers: how many; they alternate between female and male, two make a session.
        emotions: names from ``MANNERS``.
        sentences: how many different ones.
        words: of a sentence, give or take one.
        takes: how often each speaker says the same thing.
        seed: other seeds give other voices and sentences.
    """

    speakers: int = 8
    emotions: tuple[str, ...] = tuple(MANNERS)
    sentences: int = 3
    words: int = 3
    takes: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be made.

        Raises:
            ConfigError: a count is below 1, or an emotion is unknown or missing.
        """
        for name in ("speakers", "sentences", "words", "takes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if not self.emotions:
            raise ConfigError(f"no emotions; expected some of {', '.join(MANNERS)}")
        for emotion in self.emotions:
            if emotion not in MANNERS:
                raise UnknownName("emotion", emotion, MANNERS)


TABLE = "labels.csv"
COLUMNS = ("path", "id", "speaker", "session", "gender", "language", "emotion", "text")


def generate(root: Path, settings: Settings | None = None) -> list[Utterance]:
    """Write a corpus: ``wav/*.wav`` and, once they all stand, the table ``labels.csv``.

    Returns:
        Its utterances, in order of their ids.

    Raises:
        StorageError: a file could not be written, or a table of someone else's stands there.
    """
    settings = settings or Settings()
    table = root / TABLE
    if table.exists():
        if table.read_bytes().splitlines()[:1] != [",".join(COLUMNS).encode()]:
            raise StorageError(f"{table} is not from this generator; choose an empty folder")
        table.unlink()
    utterances = sorted(_cast(root, settings), key=lambda utterance: utterance.id)
    for one in utterances:
        voice = Voice.of(one.speaker or "", one.gender or "", seed=settings.seed)
        text, emotion = one.text or "", str(one.labels["emotion"])
        rng = _rng(settings.seed, one.id, text)
        _write(one.path, speak(text.split(), voice, emotion, rng))
    write_text(table, "\n".join([*_rows(root, utterances), ""]))
    return utterances


def _cast(root: Path, settings: Settings) -> Iterator[Utterance]:
    """Who says what, and how."""
    speakers, emotions = range(settings.speakers), sorted(set(settings.emotions))
    lines, takes = range(settings.sentences), range(settings.takes)
    for number, emotion, line, take in product(speakers, emotions, lines, takes):
        name = f"s{number + 1:02}-{emotion}-{line + 1:02}-{take + 1}"
        yield Utterance(
            id=name,
            path=root / "wav" / f"{name}.wav",
            speaker=f"s{number + 1:02}",
            session=f"{number // 2 + 1:02}",
            gender=("female", "male")[number % 2],
            language="art",  # ISO 639-2: an artificial language; 639-1 has no code
            text=_sentence(settings, line),
            labels={"emotion": emotion},
        )


def _sentence(settings: Settings, number: int) -> str:
    rng = _rng(settings.seed, "sentence", number)
    words = max(1, settings.words + int(rng.integers(-1, 2)))
    return " ".join(rng.choice(LEXICON, words, replace=words > len(LEXICON)))


def _rows(root: Path, utterances: Sequence[Utterance]) -> Iterator[str]:
    yield ",".join(COLUMNS)
    for one in utterances:
        path = one.path.relative_to(root).as_posix()
        yield ",".join([path, one.id, *(str(one.label(column)) for column in COLUMNS[2:])])


def _rng(*parts: object) -> np.random.Generator:
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def _write(path: Path, samples: npt.NDArray[np.float32]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, RATE, subtype="PCM_16")
    except (OSError, soundfile.SoundFileError) as error:
        raise StorageError(f"could not write {path}: {error}; free some space there") from error


EMODB_LETTERS = dict(zip("WLEAFNT", MANNERS, strict=True))
EMODB_COUNTS = dict(zip("WLEAFNT", (127, 81, 46, 69, 71, 79, 62), strict=True))
EMODB_MEN = ("03", "10", "11", "12", "15")
EMODB_SPEAKERS = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
EMODB_TEXTS = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10")


def write_emodb(root: Path, *, utterances: int = 535, words: int = 4, seed: int = 0) -> None:
    """Write made-up speech in the layout of EMO-DB: ``wav/03a01Fa.wav``, ``erkennung.txt``.

    Speakers, genders, text codes and the shares of the emotions are EMO-DB's. What is said is
    made up, the same for each text code, and not the German sentence.

    Args:
        root: the folder to fill.
        utterances: how many; EMO-DB has 535.
        words: of each sentence.
        seed: other seeds give other voices and sentences.
    """
    names = _emodb_names(utterances)
    for name in names:
        speaker, text, letter = name[:2], name[2:5], name[5]
        voice = Voice.of(speaker, "male" if speaker in EMODB_MEN else "female", seed=seed)
        sentence = _rng(seed, "sentence", text).choice(LEXICON, words).tolist()
        samples = speak(sentence, voice, EMODB_LETTERS[letter], _rng(seed, name))
        _write(root / "wav" / f"{name}.wav", samples)
    dropped = [f"{name[:6]}x" for name in names[::2]]
    write_bytes(root / "erkennung.txt", _erkennung(names, dropped, seed).encode("latin-1"))


def _emodb_names(utterances: int) -> list[str]:
    """Names in EMO-DB's manner, which go round the speakers, then the texts."""
    official = np.cumsum([0, *EMODB_COUNTS.values()])
    steps = np.rint(official * utterances / official[-1]).astype(int).tolist()
    names = []
    for letter, (first, after) in zip(EMODB_COUNTS, pairwise(steps), strict=True):
        for number in range(after - first):
            turn, speaker = number // 10, (first + number) % 10
            version, text = "abcdefgh"[turn // 10], EMODB_TEXTS[(turn + speaker) % 10]
            names.append(f"{EMODB_SPEAKERS[speaker]}{text}{letter}{version}")
    return sorted(names)


def _erkennung(kept: Sequence[str], dropped: Sequence[str], seed: int) -> str:
    """Listeners' judgements, padded with no-break spaces as in the original."""
    rng = _rng(seed, "erkennung")
    lines, pad = ["Nr.\tSatz\terkannt\tnatuerlich"], "\xa0" * 5
    for number, name in enumerate(sorted([*kept, *dropped]), 1):
        lowest = 4 if name.endswith("x") else 16
        recognised, natural = rng.integers(lowest, 21) * 5, rng.integers(9, 21) * 5
        lines.append(f"{number}\xa0\xa0\t{name}.wav\t{recognised},00{pad}\t{natural},00{pad}")
    return "\r\n".join([*lines, ""])
