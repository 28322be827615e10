"""CREMA-D, acted speech: 7,442 utterances, 91 actors, 6 emotions, English.

    root/
        AudioWAV/1001_DFA_ANG_XX.wav    1001 speaker | DFA sentence | ANG emotion | XX level
        VideoDemographics.csv           optional; without it genders are unknown:

            ActorID,Age,Sex,Race,Ethnicity
            1001,51,Male,Caucasian,Not Hispanic

        processedResults/               optional; without it there are no votes
            tabulatedVotes.csv          one row for each clip and way of presentation:

            "","A","D","F","H","N","S","fileName",...    row 100000 + clip: heard without seeing
            "100001",0,0,0,0,9,1,"1001_IEO_NEU_XX",...

            summaryTable.csv            the most frequent votes, read without tabulatedVotes.csv:

            "","FileName","VoiceVote",...
            "1","1001_IEO_NEU_XX","N",...                ties as N:S

``emotion`` and ``level`` are what the actor was asked to show, not what listeners perceived.
``emotion_votes`` is what listeners heard, such as "neutral=9, sadness=1": votes for the voice
alone. Of ``summaryTable.csv``, each of the most frequent emotions has one vote. The level is low,
medium or high for one of the twelve sentences, and unspecified (``XX``) for the others; the
published ``1040_ITH_SAD_X.wav`` has one X only. The label ``sentence`` is the code of the sentence.

Cao et al., "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset", IEEE Transactions on
Affective Computing, 2014.
"""

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from serein.corpora._reading import (
    check_counts,
    decode_field,
    describe_skipped,
    find_subfolder,
    find_unread,
    list_recordings,
    restore_advice,
)
from serein.errors import CorpusError
from serein.records import CorpusInfo, Utterance

ABOUT = CorpusInfo(
    title="Crowd-sourced Emotional Multimodal Actors Dataset (CREMA-D)",
    language="English",
    licence="ODbL",
    home="https://github.com/CheyneyComputerScience/CREMA-D",
)
COUNTS = {
    "anger": 1271,
    "disgust": 1271,
    "fear": 1271,
    "happiness": 1271,
    "neutral": 1087,
    "sadness": 1271,
}
EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified", "X": "unspecified"}
VOTED_EMOTIONS = {name[0]: emotion for name, emotion in EMOTIONS.items()}
"""Emotions by the letters of the votes."""
VOICE_ROWS = range(100_000, 200_000)
"""Rows of tabulatedVotes.csv for voices alone; faces alone and both follow."""
TEXTS = {
    "DFA": "Don't forget a jacket",
    "IEO": "It's eleven o'clock",
    "IOM": "I'm on my way to the meeting",
    "ITH": "I think I have a doctor's appointment",
    "ITS": "I think I've seen this before",
    "IWL": "I would like a new alarm clock",
    "IWW": "I wonder what this is about",
    "MTI": "Maybe tomorrow it will be cold",
    "TAI": "The airplane is almost full",
    "TIE": "That is exactly what happened",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
SPEAKERS = {str(number) for number in range(1001, 1092)}


def read(root: Path, *, partial: bool = False) -> list[Utterance]:
    """Read every utterance under ``root``, in order of file name.

    Args:
        root: the folder that holds ``AudioWAV/``.
        partial: accept an incomplete copy.

    Raises:
        CorpusError: the folder, a file name, a line or the count differs from CREMA-D's.
    """
    folder = find_subfolder(root, "AudioWAV", "CREMA-D", ABOUT.home)
    genders = _read_genders(root / "VideoDemographics.csv")
    votes = _read_votes(root / "processedResults")
    utterances = [_parse_utterance(file, genders, votes) for file in list_recordings(folder)]
    if not partial:
        emotions = [str(utterance.labels["emotion"]) for utterance in utterances]
        check_counts(folder, "CREMA-D", emotions, COUNTS, restore_advice(ABOUT.home))
    return utterances


def notes(root: Path, utterances: Sequence[Utterance]) -> list[str]:
    """Return notes of recordings elsewhere under ``root``, such as a second copy, and of votes."""
    notes = describe_skipped(root, find_unread(root, utterances), "recordings")
    without = sum("emotion_votes" not in utterance.labels for utterance in utterances)
    if 0 < without < len(utterances):
        notes.append(f"utterances without votes of listeners: {without}")
    return notes


def _parse_utterance(file: Path, genders: dict[str, str], votes: dict[str, str]) -> Utterance:
    """Parse speaker, sentence, emotion and level from a file name."""
    parts = file.stem.split("_")
    if len(parts) != 4:
        raise CorpusError(
            f"{file} is not a CREMA-D name such as 1001_DFA_ANG_XX.wav; move it elsewhere"
        )
    speaker, text, emotion, level = parts
    if speaker not in SPEAKERS:
        raise CorpusError(f"{file}: unknown speaker {speaker!r}; CREMA-D has 1001 to 1091")
    return Utterance(
        id=file.stem,
        path=file,
        speaker=speaker,
        gender=genders.get(speaker),
        language="en",
        text=decode_field(file, "sentence", text, TEXTS, "CREMA-D"),
        labels={
            "emotion": decode_field(file, "emotion", emotion, EMOTIONS, "CREMA-D"),
            "level": decode_field(file, "level", level, LEVELS, "CREMA-D"),
            "sentence": text,
            **({"emotion_votes": votes[file.stem]} if votes.get(file.stem) else {}),
        },
    )


def _read_votes(folder: Path) -> dict[str, str]:
    """Return the listeners' votes for each clip, as text; empty without a table of votes."""
    for name, parse in (
        ("tabulatedVotes.csv", _parse_tabulated),
        ("summaryTable.csv", _parse_majority),
    ):
        if (folder / name).exists():
            return _read_vote_table(folder / name, parse)
    return {}


VoteRow = dict[str | None, str | None]
"""A row of a table of votes: cells by column; short rows have None."""


def _read_vote_table(
    file: Path, parse: Callable[[VoteRow], tuple[str, dict[str, float]] | None]
) -> dict[str, str]:
    """Return the votes for each clip, by a function that returns the clip and votes of a row."""
    votes: dict[str, str] = {}
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        rows = csv.DictReader(lines)
        for row in rows:
            try:
                parsed = parse(row)
            except (AttributeError, KeyError, ValueError) as error:
                raise CorpusError(
                    f"{file}, line {rows.line_num}: no votes can be read ({error}); expected a "
                    "clip such as 1001_IEO_NEU_XX with votes for A, D, F, H, N and S. Restore the "
                    "file, or remove it to read the corpus without votes"
                ) from error
            if parsed is not None:
                clip, counts = parsed
                pairs = [f"{name}={counts[name]:g}" for name in sorted(counts) if counts[name]]
                votes[clip] = ", ".join(pairs)
    return votes


def _parse_tabulated(row: VoteRow) -> tuple[str, dict[str, float]] | None:
    """Return the clip and its votes; None if it was seen, too."""
    if int(str(row[""])) not in VOICE_ROWS:
        return None
    counts = {emotion: float(str(row[code])) for code, emotion in VOTED_EMOTIONS.items()}
    if not all(0 <= count < math.inf for count in counts.values()):
        raise ValueError("a number of votes is negative or no number")
    return Path(str(row["fileName"])).stem, counts


def _parse_majority(row: VoteRow) -> tuple[str, dict[str, float]]:
    """Return the clip and one vote for each of its most frequent emotions."""
    codes = [code.strip() for code in str(row["VoiceVote"] or "").split(":")]
    votes = {VOTED_EMOTIONS[code]: 1.0 for code in codes if code}
    return Path(str(row["FileName"])).stem, votes


def _read_genders(file: Path) -> dict[str, str]:
    """Return the gender of each speaker in the table; empty without the table."""
    if not file.exists():
        return {}
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        rows = csv.DictReader(lines)
        genders = {}
        for row in rows:
            speaker, sex = row.get("ActorID"), (row.get("Sex") or "").strip().lower()
            if speaker not in SPEAKERS or sex not in ("female", "male"):
                raise CorpusError(
                    f"{file}, line {rows.line_num}: expected an ActorID from 1001 to 1091 and a "
                    f"Sex, Female or Male, not {speaker!r} and {sex!r}; restore the file or "
                    "remove it"
                )
            genders[speaker] = sex
    return genders
