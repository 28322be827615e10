"""MSP-Podcast, speech of podcasts in official parts; every version with these files, English.

    root/
        Audios/MSP-PODCAST_0001_0008.wav
        Labels/labels_consensus.csv       or root/, or Labels/Labels/

            FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set
            MSP-PODCAST_0001_0008.wav,N,2.8,4.2,3.4,127,Male,Test1

        Labels/labels_detailed.csv        optional; without it there are no votes

            FileName,Worker,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom
            MSP-PODCAST_0001_0008.wav,WORKER00000001,Neutral,"Neutral,Concerned",3,4,4

        Transcripts/MSP-PODCAST_0001_0008.txt     optional

The label ``part`` is train, dev, test1, test2 or test3, so that the protocol ``parts`` is the
official split (``protocol.test=test1`` takes one test set). Ratings from 1 to 7 become ratings from
1 to 5, the range of serein's tasks: 1 + (x - 1) * 4 / 6. Utterances without agreement (``X``) have
no ``emotion``, and those of an unknown speaker no speaker; the session is the podcast. A version
may lack the labels of test3.

Lotfian and Busso, "Building Naturalistic Emotionally Balanced Speech Corpus by Retrieving Emotional
Speech from Existing Podcast Recordings", IEEE Transactions on Affective Computing, 2019.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from serein.corpora._reading import describe_missing, read_columns
from serein.errors import CorpusError
from serein.records import CorpusInfo, Label, Utterance

ABOUT = CorpusInfo(
    title="MSP-Podcast",
    language="English",
    licence="by agreement with the University of Texas at Dallas",
    home="https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html",
)
EMOTIONS = {
    "A": "anger",
    "C": "contempt",
    "D": "disgust",
    "F": "fear",
    "H": "happiness",
    "N": "neutral",
    "O": "other",
    "S": "sadness",
    "U": "surprise",
}
NO_AGREEMENT = "X"
RATER_EMOTIONS = {"angry": "anger", "happy": "happiness", "sad": "sadness"}
"""Emotion names of the raters that differ from ``EMOTIONS``."""
PARTS = {"development": "dev", "validation": "dev"}
"""Official names of parts that differ from the names of ``part``."""
DIMENSIONS = {"EmoAct": "arousal", "EmoVal": "valence", "EmoDom": "dominance"}
COLUMNS = ("FileName", "EmoClass", "Split_Set")
LABEL_FOLDERS = ("", "Labels", "Labels/Labels")
CONSENSUS, DETAILED = "labels_consensus.csv", "labels_detailed.csv"
NAME_PATTERN = re.compile(r"MSP-PODCAST_(\w+?)_\d+(?:_\d+)?")
SUFFIXES = (".flac", ".wav")
UNKNOWN = ("", "unknown", "nan")


def read(root: Path, *, partial: bool = False) -> list[Utterance]:
    """Read every utterance that ``labels_consensus.csv`` lists, in order of ids.

    Args:
        root: the folder that holds ``Audios/`` and ``Labels/``.
        partial: accept a copy of which recordings are missing.

    Raises:
        CorpusError: the table is missing or is not as described above, or a recording is missing.
    """
    table = _find_table(root, CONSENSUS)
    if table is None:
        raise CorpusError(
            f"{root} has no {CONSENSUS}; expected MSP-Podcast there, with the table in Labels/. "
            f"Give its folder, or get the corpus from {ABOUT.home}"
        )
    recordings, votes = _find_recordings(root), _read_votes(root)
    rows = list(_read_table(table, COLUMNS))
    missing = [name for _, row in rows if (name := _stem(row)) not in recordings]
    if missing and not partial:
        files = [root / "Audios" / f"{name}.wav" for name in sorted(missing)]
        fault = describe_missing(files, len(rows), f"recordings that {table} lists")
        raise CorpusError(f"{fault}. Restore them, or read what is there with --partial")
    utterances: dict[str, Utterance] = {}
    for number, row in rows:
        name = _stem(row)
        if name in utterances:
            raise CorpusError(f"{table}, row {number}: {name} is there twice; keep one")
        if name in recordings:
            where = f"{table}, row {number}"
            utterances[name] = _build_utterance(where, recordings[name], row, votes.get(name, ""))
    transcripts = root / "Transcripts"
    found = [_add_text(one, transcripts) for one in utterances.values()]
    return sorted(found, key=lambda utterance: utterance.id)


def notes(root: Path, utterances: Sequence[Utterance]) -> list[str]:
    """Return notes of missing recordings, of speakers and of agreement."""
    table, recordings = _find_table(root, CONSENSUS), _find_recordings(root)
    listed = {_stem(row) for _, row in _read_table(table, COLUMNS)} if table else set()
    counts = {
        "labelled recordings that are missing": len(listed - recordings.keys()),
        "recordings that the labels do not list": len(recordings.keys() - listed),
        "utterances of unknown speakers": sum(one.speaker is None for one in utterances),
        "utterances without agreement on an emotion": sum(
            "emotion" not in one.labels for one in utterances
        ),
    }
    return [f"{what}: {count:,}" for what, count in counts.items() if count]


def _find_table(root: Path, name: str) -> Path | None:
    files = [root / folder / name for folder in LABEL_FOLDERS]
    return next((file for file in files if file.is_file()), None)


def _find_recordings(root: Path) -> dict[str, Path]:
    """Return the recordings in folders whose names begin with Audio, by name without suffix."""
    return {
        name.rpartition(".")[0]: Path(folder, name)
        for top in sorted(root.glob("Audio*"))
        for folder, _, names in os.walk(top)
        for name in names
        if name.lower().endswith(SUFFIXES) and name[0] != "."
    }


def _stem(row: dict[str, str]) -> str:
    return Path(row["FileName"]).stem


def _read_table(table: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number and the cells of each row with a file."""
    for number, cells in read_columns(table, columns, "found {found}. Restore the table"):
        if cells["FileName"]:
            yield number, cells


def _build_utterance(where: str, path: Path, row: dict[str, str], votes: str) -> Utterance:
    name, part = _stem(row), row["Split_Set"].lower().replace(" ", "")
    code = row["EmoClass"].upper()
    if code not in EMOTIONS and code not in (NO_AGREEMENT, ""):
        raise CorpusError(
            f"{where}: unknown EmoClass {row['EmoClass']!r}; MSP-Podcast has "
            f"{', '.join((*EMOTIONS, NO_AGREEMENT))}"
        )
    labels: dict[str, Label] = {"part": PARTS.get(part, part)} if part else {}
    if code in EMOTIONS:
        labels["emotion"] = EMOTIONS[code]
    if votes:
        labels["emotion_votes"] = votes
    for column, dimension in DIMENSIONS.items():
        text = row.get(column, "")
        if text.lower() not in UNKNOWN:
            labels[dimension] = _convert_rating(f"{where}: {column}", text)
    speaker, gender = row.get("SpkrID", ""), row.get("Gender", "").lower()
    match = NAME_PATTERN.fullmatch(name)
    return Utterance(
        id=name,
        path=path,
        speaker=None if speaker.lower() in UNKNOWN else speaker.removesuffix(".0"),
        gender=gender if gender in ("female", "male") else None,
        session=match[1] if match else None,
        language="en",
        labels=labels,
    )


def _convert_rating(where: str, text: str) -> float:
    """Convert a rating from 1 to 7 to one from 1 to 5."""
    try:
        rating = float(text)
    except ValueError:
        rating = 0.0
    if not 1 <= rating <= 7:
        raise CorpusError(f"{where} is {text!r}; expected a rating from 1 to 7")
    return 1 + (rating - 1) * 4 / 6


def _add_text(utterance: Utterance, folder: Path) -> Utterance:
    """Return an utterance with its transcript, if there is one."""
    try:
        text = (folder / f"{utterance.id}.txt").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return utterance
    return replace(utterance, text=text.strip() or None)


def _read_votes(root: Path) -> dict[str, str]:
    """Return the votes for each recording, as text; empty without a table of raters' answers."""
    table = _find_table(root, DETAILED)
    if table is None:
        return {}
    counts: dict[str, Counter[str]] = {}
    for _, row in _read_table(table, ("FileName", "EmoClass_Major")):
        word = re.split(r"[-(:;,]", row["EmoClass_Major"].lower())[0].strip()
        if word:
            emotion = RATER_EMOTIONS.get(word, word)
            counts.setdefault(_stem(row), Counter())[emotion] += 1
    return {
        name: ", ".join(f"{emotion}={own[emotion]}" for emotion in sorted(own))
        for name, own in counts.items()
    }
