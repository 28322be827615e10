"""Made-up speech in the layout of RAVDESS."""

import shutil
from itertools import product
from pathlib import Path

import numpy as np

from serein.synthetic._files import write_wav
from serein.synthetic._voices import LEXICON, Voice, make_rng
from serein.synthetic.speech import synthesize

RAVDESS_STYLES = {
    "01": "neutral",
    "02": "boredom",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "happiness",
}
RAVDESS_STEREO = (
    *("01-08-01-02-02-01", "01-02-01-01-02-05", "01-03-01-02-01-20"),
    *("01-06-01-01-02-20", "01-05-02-01-01-24"),
)
"""As many as RAVDESS has, not the same ones."""
RAVDESS_DUPLICATES = "03-01-03-01-02-01-07", "03-01-03-01-02-02-07"


def write_ravdess(
    root: Path,
    *,
    actors: int = 24,
    words: int = 1,
    suffix: str = ".wav",
    nested: bool = False,
    seed: int = 0,
) -> None:
    """Write made-up speech in the layout of RAVDESS: ``Actor_01/03-01-06-01-02-01-01.wav``.

    Every actor speaks as often, in the same emotions, as in RAVDESS. Five recordings are stereo,
    and two of actor 07 are the same bytes, as there. What is said is made up, the same for each
    statement; calm sounds bored, and surprised happy.

    Args:
        root: the folder to fill.
        actors: how many; RAVDESS has 24.
        words: of each statement.
        suffix: ".wav", or ".flac".
        nested: write a second copy below, in ``audio_speech_actors_01-24/``.
        seed: other seeds give other voices and statements.
    """
    for number in range(1, actors + 1):
        voice = Voice.for_speaker(f"{number:02}", "male" if number % 2 else "female", seed=seed)
        for name in _ravdess_names(number):
            statement = make_rng(seed, "sentence", name[12:14]).choice(LEXICON, words).tolist()
            heard = RAVDESS_DUPLICATES[0] if name in RAVDESS_DUPLICATES else name
            samples = synthesize(statement, voice, RAVDESS_STYLES[name[6:8]], make_rng(seed, heard))
            if name[3:] in RAVDESS_STEREO:
                samples = np.stack([samples, samples], axis=1)
            write_wav(root / f"Actor_{number:02}" / f"{name}{suffix}", samples)
    if nested:
        for folder in sorted(root.glob("Actor_*")):
            shutil.copytree(folder, root / "audio_speech_actors_01-24" / folder.name)


def _ravdess_names(actor: int) -> list[str]:
    """The sixty names of one actor; nobody is strongly neutral."""
    return [
        f"03-01-{emotion}-{intensity}-{statement}-{repetition}-{actor:02}"
        for emotion, intensity, statement, repetition in product(
            RAVDESS_STYLES, ("01", "02"), ("01", "02"), ("01", "02")
        )
        if (emotion, intensity) != ("01", "02")
    ]
