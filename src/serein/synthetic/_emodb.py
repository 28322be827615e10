"""Made-up speech in the layout of EMO-DB."""

from collections.abc import Sequence
from pathlib import Path

from serein.synthetic._studio import SentenceRecorder, shares
from serein.synthetic._voices import EMOTION_STYLES, make_rng
from serein.utils.files import write_bytes

EMODB_LETTERS = dict(zip("WLEAFNT", EMOTION_STYLES, strict=True))
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
        words: of each sentence; 0 for silence.
        seed: other seeds give other voices and sentences.
    """
    names = _emodb_names(utterances)
    studio = SentenceRecorder(words=words, seed=seed)
    for name in names:
        speaker, text, letter = name[:2], name[2:5], name[5]
        studio.record(
            root / "wav" / f"{name}.wav",
            name=name,
            speaker=speaker,
            gender="male" if speaker in EMODB_MEN else "female",
            emotion=EMODB_LETTERS[letter],
            sentence=studio.make_sentence(text),
        )
    dropped = [f"{name[:6]}x" for name in names[::2]]
    write_bytes(root / "erkennung.txt", _erkennung_table(names, dropped, seed).encode("latin-1"))


def _emodb_names(utterances: int) -> list[str]:
    """Names in EMO-DB's manner, which go round the speakers, then the texts."""
    names, first = [], 0
    for letter, share in zip(EMODB_COUNTS, shares(EMODB_COUNTS.values(), utterances), strict=True):
        for number in range(share):
            turn, speaker = number // 10, (first + number) % 10
            version, text = "abcdefgh"[turn // 10], EMODB_TEXTS[(turn + speaker) % 10]
            names.append(f"{EMODB_SPEAKERS[speaker]}{text}{letter}{version}")
        first += share
    return sorted(names)


def _erkennung_table(kept: Sequence[str], dropped: Sequence[str], seed: int) -> str:
    """Listeners' judgements, padded with no-break spaces as in the original."""
    rng = make_rng(seed, "erkennung")
    lines, pad = ["Nr.\tSatz\terkannt\tnatuerlich"], "\xa0" * 5
    for number, name in enumerate(sorted([*kept, *dropped]), 1):
        lowest = 4 if name.endswith("x") else 16
        recognised, natural = rng.integers(lowest, 21) * 5, rng.integers(9, 21) * 5
        lines.append(f"{number}\xa0\xa0\t{name}.wav\t{recognised},00{pad}\t{natural},00{pad}")
    return "\r\n".join([*lines, ""])
