"""Made-up speech in the layout of IEMOCAP."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serein.synthetic._studio import SentenceRecorder, shares
from serein.synthetic._voices import make_rng
from serein.utils.files import write_bytes, write_text

IEMOCAP_COUNTS = (1819, 1811, 2136, 2103, 2170)
IEMOCAP_EMOTIONS = {
    "neu": ("Neutral", "neutral", (3, 2, 3)),
    "fru": ("Frustration", "frustration", (2, 3, 3)),
    "xxx": ("", "neutral", (3, 3, 3)),
    "ang": ("Anger", "anger", (2, 4, 4)),
    "sad": ("Sadness", "sadness", (2, 2, 2)),
    "exc": ("Excited", "excitement", (4, 4, 3)),
    "hap": ("Happiness", "happiness", (4, 3, 3)),
    "sur": ("Surprise", "surprise", (3, 4, 3)),
    "fea": ("Fear", "fear", (2, 3, 2)),
    "oth": ("Other", "other", (3, 3, 3)),
    "dis": ("Disgust", "disgust", (2, 2, 3)),
}
"""Of each code the evaluators' word, the manner of speaking, and the usual ratings."""
IEMOCAP_PARTS = (
    *("impro01", "script01_1", "impro05a", "script01_1b", "impro02", "script02_2", "impro03"),
    *("script01_2", "impro04", "script01_3", "impro06", "script03_1", "impro07", "script03_2"),
)
APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X"
"""What macOS leaves beside a file, under its name with ``._`` before it."""


@dataclass(frozen=True, kw_only=True)
class IemocapTurn:
    """An utterance: its dialogue, its place there from 0, its code of an emotion."""

    dialogue: str
    index: int
    code: str

    @property
    def letter(self) -> str:
        """Of who speaks; both take turns, whoever wears the markers."""
        return "FM"[self.index % 2]

    @property
    def name(self) -> str:
        """With an X now and then, as some are in IEMOCAP."""
        odd = self.index % 7 == 6 and self.index < 100
        turn = f"X{self.index:02}" if odd else f"{self.index // 2:03}"
        return f"{self.dialogue}_{self.letter}{turn}"

    @property
    def times(self) -> tuple[float, float]:
        """When it begins and ends in the dialogue, in seconds."""
        return self.index * 3.0, self.index * 3.0 + 2.5

    @property
    def sentence_key(self) -> tuple[object, ...]:
        """What decides its words: a script has the same ones in every session."""
        part = self.dialogue.partition("_")[2]
        return (part if part.startswith("script") else self.dialogue), self.index


def write_iemocap(
    root: Path, *, utterances: int = 120, dialogues: int = 4, words: int = 2, seed: int = 0
) -> None:
    """Write made-up speech in the layout of IEMOCAP, ``Session1`` to ``Session5``.

    The traps are IEMOCAP's: in half of the utterances the first letter is not the speaker's,
    scripts have the same words in every session, self-ratings lack ``dom``, ``xxx`` is no
    emotion, some turns are transcribed but not judged, and there are hidden files. Emotions that
    have no manner of their own sound like their neighbours: excitement like happiness.

    Args:
        root: the folder to fill.
        utterances: how many; IEMOCAP has 10,039.
        dialogues: of each session, up to 14; half of them are improvised.
        words: of each sentence; 0 for silence.
        seed: other seeds give other voices, sentences and ratings.
    """
    studio = SentenceRecorder(words=words, seed=seed)
    parts, codes, first = IEMOCAP_PARTS[:dialogues], list(IEMOCAP_EMOTIONS), 0
    for session, share in enumerate(shares(IEMOCAP_COUNTS, utterances), 1):
        for index, size in enumerate(shares([1] * len(parts), share)):
            dialogue = f"Ses0{session}{'FM'[index % 2]}_{parts[index]}"
            turns = [
                IemocapTurn(
                    dialogue=dialogue, index=place, code=codes[(first + place) % len(codes)]
                )
                for place in range(size)
            ]
            _write_dialogue(root / f"Session{session}", dialogue, turns, studio)
            first += size


def _write_dialogue(
    session: Path, dialogue: str, turns: list[IemocapTurn], studio: SentenceRecorder
) -> None:
    evaluations = session / "dialog/EmoEvaluation"
    recordings = session / "sentences/wav" / dialogue
    for turn in turns:
        studio.record(
            recordings / f"{turn.name}.wav",
            name=turn.name,
            speaker=f"{session.name[-1]}{turn.letter}",
            gender={"F": "female", "M": "male"}[turn.letter],
            emotion=IEMOCAP_EMOTIONS[turn.code][1],
            sentence=studio.make_sentence(*turn.sentence_key),
        )
    judged = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
    judged += [line for turn in turns for line in _evaluation_lines(turn, studio.seed)]
    write_text(evaluations / f"{dialogue}.txt", "\n".join([*judged, ""]))
    spoken = [line for turn in turns for line in _transcript_lines(turn, studio)]
    write_text(session / "dialog/transcriptions" / f"{dialogue}.txt", "\n".join([*spoken, ""]))
    write_bytes(recordings / f"._{dialogue}.wav", APPLE_DOUBLE)
    write_bytes(evaluations / f"._{dialogue}.txt", APPLE_DOUBLE)
    write_text(evaluations / f"Categorical/{dialogue}_e2_cat.txt", "Made-up ratings.\n")


def _evaluation_lines(turn: IemocapTurn, seed: int) -> Iterator[str]:
    """What three people say of an utterance, and the actor of the self."""
    word, _, usual = IEMOCAP_EMOTIONS[turn.code]
    rng = make_rng(seed, "evaluators", turn.name)
    ratings = np.clip(usual + rng.integers(-1, 2, (3, 3)), 1, 5)
    means = ", ".join(f"{mean:.4f}" for mean in ratings[:2].mean(axis=0))
    start, end = turn.times
    yield f"[{start:.4f} - {end:.4f}]\t{turn.name}\t{turn.code}\t[{means}]"
    answers = (word, word, f"{word}; Other") if word else ("Neutral", "Anger", "Sadness")
    for rater, answer in zip(("E2", "E3", "E4"), answers, strict=True):
        yield f"C-{rater}:\t{answer};\t({'so (it) seems' if ';' in answer else ''})"
    yield f"C-{turn.letter}1:\t{answers[0]};\t()"
    for rater, (val, act, dom) in zip(("E3", "E4", f"{turn.letter}1"), ratings, strict=True):
        missing = rater not in ("E3", "E4") and turn.index % 5 == 4
        yield f"A-{rater}:\tval {val}; act {act}; dom  {'' if missing else dom};\t()"
    yield ""


def _transcript_lines(turn: IemocapTurn, studio: SentenceRecorder) -> Iterator[str]:
    """The words of an utterance; here and there other lines, as in IEMOCAP."""
    start, end = turn.times
    times = f"[{start:08.4f}-{end:08.4f}]"
    yield f"{turn.name} {times}: {studio.make_sentence(*turn.sentence_key)}"
    if turn.index % 6 == 3:
        yield "M: [LAUGHTER]"
        yield f"{turn.dialogue}_{turn.letter}XX{turn.index // 6 % 10} {times}: [BREATHING]"
