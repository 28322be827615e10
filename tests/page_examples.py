"""The example recordings of the page, from generated speech: `python tests/page_examples.py`.

They are committed, since other versions of numpy or of the encoder may give other bytes.
"""

from pathlib import Path

import av
import numpy as np

from serein.synthetic import LEXICON, RATE, Voice, synthesize
from serein.synthetic.speech import make_rng

FOLDER = Path(__file__).parents[1] / "src" / "serein" / "service" / "page"
BITS_PER_SECOND = 32_000
Turn = tuple[str, str, int]
"""Speaker, emotion, and number of words."""
SCENES: dict[str, list[Turn]] = {
    "one-voice": [("ann", "neutral", 9), ("ann", "happiness", 8), ("ann", "anger", 10)],
    "two-voices": [
        ("ann", "neutral", 7),
        ("bob", "neutral", 6),
        ("ann", "happiness", 8),
        ("bob", "sadness", 6),
        ("ann", "anger", 9),
        ("bob", "anger", 7),
    ],
}
GENDERS = {"ann": "female", "bob": "male"}


def make_scene(name: str) -> np.ndarray:
    """Synthesize the turns of a scene, with pauses."""
    rng = make_rng("page", name)
    pieces = [np.zeros(RATE // 4, np.float32)]
    for speaker, emotion, count in SCENES[name]:
        voice = Voice.for_speaker(speaker, GENDERS[speaker])
        words = [str(word) for word in rng.choice(LEXICON, count)]
        pieces.append(synthesize(words, voice, emotion, rng))
        pieces.append(np.zeros(round(RATE * rng.uniform(0.5, 1.4)), np.float32))
    return np.concatenate(pieces)


def write_mp3(path: Path, wave_s: np.ndarray) -> None:
    """Write mono samples as MP3."""
    with av.open(path, "w") as file:
        stream = file.add_stream("mp3", rate=RATE, layout="mono")
        stream.bit_rate = BITS_PER_SECOND
        samples = (0.9 * 32767 * wave_s).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16p", layout="mono")
        frame.rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)


if __name__ == "__main__":
    for scene in SCENES:
        write_mp3(FOLDER / f"{scene}.mp3", make_scene(scene))
