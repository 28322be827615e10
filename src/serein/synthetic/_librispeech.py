"""Made-up speech in the layout of LibriSpeech."""

from collections.abc import Sequence
from pathlib import Path

from serein.synthetic._files import write_wav
from serein.synthetic._voices import LEXICON, Voice, make_rng
from serein.synthetic.speech import synthesize
from serein.utils.files import write_text

LIBRISPEECH_HEADER = ";ID  |SEX| SUBSET           |MINUTES| NAME"


def write_librispeech(
    root: Path,
    *,
    parts: Sequence[str] = ("dev-clean", "test-clean"),
    speakers: int = 2,
    chapters: int = 1,
    utterances: int = 3,
    words: int = 3,
    seed: int = 0,
) -> None:
    """Write made-up speech in the layout of LibriSpeech: ``dev-clean/10/100/10-100-0000.flac``.

    Every transcript is true. Its last line has no newline, as in some of LibriSpeech.

    Args:
        root: the folder to fill, with ``SPEAKERS.TXT``.
        parts: names of the parts; no speaker is in two.
        speakers: in each part; they alternate between female and male.
        chapters: of each speaker.
        utterances: in each chapter.
        words: of each utterance.
        seed: other seeds give other voices and words.
    """
    lines = ["; Made up; the layout is LibriSpeech's.", LIBRISPEECH_HEADER]
    for number in range(speakers * len(parts)):
        part, speaker, sex = parts[number // speakers], f"{10 + number}", "FM"[number % 2]
        lines.append(f"{speaker:<4} | {sex} | {part:<16} | 0.10 | Voice {speaker}")
        voice = Voice.for_speaker(speaker, "female" if sex == "F" else "male", seed=seed)
        for chapter in range(100 * number, 100 * number + chapters):
            said = {}
            for count in range(utterances):
                name = f"{speaker}-{chapter}-{count:04}"
                spoken = make_rng(seed, "words", name).choice(LEXICON, words).tolist()
                said[name] = [word.upper() for word in spoken]
                samples = synthesize(spoken, voice, "neutral", make_rng(seed, name))
                write_wav(root / part / speaker / str(chapter) / f"{name}.flac", samples)
            transcript = "\n".join(
                f"{name} {' '.join(text).upper()}" for name, text in said.items()
            )
            folder = root / part / speaker / str(chapter)
            write_text(folder / f"{speaker}-{chapter}.trans.txt", transcript)
    write_text(root / "SPEAKERS.TXT", "\n".join([*lines, ""]))
