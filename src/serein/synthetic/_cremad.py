"""Made-up speech in the layout of CREMA-D."""

from collections.abc import Iterator
from pathlib import Path

from serein.synthetic._studio import SentenceRecorder
from serein.utils.files import write_text

CREMAD_EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
CREMAD_TEXTS = ("DFA", "IOM", "ITH", "ITS", "IWL", "IWW", "MTI", "TAI", "TIE", "TSI", "WSI")
CREMAD_INCOMPLETE_SPEAKERS = {"NEU": 5}
"""How many of the last speakers lack a take; three in any other emotion."""


def write_cremad(
    root: Path, *, speakers: int = 4, takes: int = 4, words: int = 2, seed: int = 0
) -> None:
    """Write made-up speech in the layout of CREMA-D: ``AudioWAV/1001_DFA_ANG_XX.wav``.

    Names, levels and ``VideoDemographics.csv`` are in CREMA-D's manner; women and men alternate.
    What is said is made up, the same for each code. All 91 speakers and 14 takes are 7,442
    utterances: some of the last are left out, so that each emotion has as many as in CREMA-D.

    Args:
        root: the folder to fill.
        speakers: how many; CREMA-D has 91.
        takes: how often each speaker shows each emotion; 14 in CREMA-D, and 12 for neutral.
        words: of each sentence; 0 for silence.
        seed: other seeds give other voices and sentences.
    """
    studio = SentenceRecorder(words=words, seed=seed)
    genders = {str(1001 + number): ("male", "female")[number % 2] for number in range(speakers)}
    for speaker, gender in genders.items():
        for text, emotion, level in _cremad_takes(speaker, takes):
            name = f"{speaker}_{text}_{emotion}_{level}"
            studio.record(
                root / "AudioWAV" / f"{name}.wav",
                name=name,
                speaker=speaker,
                gender=gender,
                emotion=CREMAD_EMOTIONS[emotion],
                sentence=studio.make_sentence(text),
            )
    rows = [f"{name},{20 + int(name) % 55},{sex.title()},," for name, sex in genders.items()]
    table = ["ActorID,Age,Sex,Race,Ethnicity", *rows, ""]
    write_text(root / "VideoDemographics.csv", "\n".join(table))


def _cremad_takes(speaker: str, takes: int) -> Iterator[tuple[str, str, str]]:
    """Sentence, emotion and level of what a speaker says."""
    for emotion in CREMAD_EMOTIONS:
        levels = ("XX",) if emotion == "NEU" else ("LO", "MD", "HI")
        whole = [*(("IEO", level) for level in levels), *((text, "XX") for text in CREMAD_TEXTS)]
        lacking = int(speaker) > 1091 - CREMAD_INCOMPLETE_SPEAKERS.get(emotion, 3)
        for text, level in whole[: min(takes, len(whole) - lacking)]:
            slip = (speaker, text, emotion) == ("1040", "ITH", "SAD")
            yield text, emotion, "X" if slip else level
