"""MELD, scenes of a television series: 13,708 utterances in three parts, 7 emotions, English.

    root/
        train_sent_emo.csv                 anywhere below root; also dev_ and test_sent_emo.csv

            Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,...
            1,also I was the point person,Chandler,neutral,neutral,0,0,8,21,...

        train_splits/dia0_utt0.mp4         or audio that was taken from it: train/dia0_utt0.wav
        dev_splits_complete/dia0_utt0.mp4
        output_repeated_splits_test/dia0_utt0.mp4

A recording belongs to the part that a folder's name has: train, dev or test. WAV and FLAC are
preferred to video. The label ``part`` is train, dev or test, so that the protocol ``parts`` is the
official split; the six main speakers are in all parts. Two published recordings cannot be used, and
are left out: dia125_utt3 of train cannot be decoded, and dia110_utt7 of dev is missing. Files that
begin with a dot, or with ``final_videos``, are leftovers and second copies.

Poria et al., "MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in Conversations", ACL
2019.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from serein.corpora._reading import (
    check_counts,
    describe_missing,
    read_columns,
    restore_advice,
)
from serein.errors import CorpusError
from serein.records import CorpusInfo, Utterance

ABOUT = CorpusInfo(
    title="Multimodal EmotionLines Dataset (MELD)",
    language="English",
    licence="GPL-3.0 for the annotation; the scenes are the series'",
    home="https://affective-meld.github.io",
)
COUNTS = {"train": 9988, "dev": 1108, "test": 2610}
UNUSABLE = {"train/dia125_utt3", "dev/dia110_utt7"}
EMOTIONS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")
COLUMNS = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")
NAME_PATTERN = re.compile(r"(dia\d+_utt\d+)\.(wav|flac|m4a|ogg|mp3|mp4)", re.IGNORECASE)
SUFFIX_ORDER = ("wav", "flac", "m4a", "ogg", "mp3", "mp4")
"""Preferred formats first."""


def read(root: Path, *, partial: bool = False) -> list[Utterance]:
    """Read every utterance that the tables list, in order of ids.

    Args:
        root: the folder that holds tables and recordings.
        partial: accept an incomplete copy.

    Raises:
        CorpusError: a table is missing or has other columns or emotions, a recording is missing, or
            the count differs from MELD's.
    """
    recordings = _find_recordings(root)
    rows = list(_read_rows(root, partial))
    known = [(id_, row) for id_, row in rows if id_ in recordings and id_ not in UNUSABLE]
    missing = [id_ for id_, _ in rows if id_ not in recordings and id_ not in UNUSABLE]
    advice = restore_advice(ABOUT.home)
    if missing and not partial:
        files = [root / id_ for id_ in sorted(missing)]
        fault = describe_missing(files, len(rows), "utterances that the tables list")
        raise CorpusError(f"{fault}, in any format. {advice}")
    utterances = [_build_utterance(id_, recordings[id_], row) for id_, row in known]
    if not partial:
        parts = [str(utterance.labels["part"]) for utterance in utterances]
        check_counts(root, "MELD", parts, COUNTS, advice)
    return sorted(utterances, key=lambda utterance: utterance.id)


def notes(root: Path, utterances: Sequence[Utterance]) -> list[str]:
    """Return notes of recordings that no table lists, and of those that cannot be used."""
    read_ids = {utterance.id for utterance in utterances}
    extra = sorted(_find_recordings(root).keys() - read_ids - UNUSABLE)
    notes = ["left out: " + ", ".join(sorted(UNUSABLE)) + " (published without usable sound)"]
    if extra:
        notes.append(f"recordings that no table lists: {len(extra)}, such as {extra[0]}")
    return notes


def _find_recordings(root: Path) -> dict[str, Path]:
    """Return the preferred recording of each id, ``PART/diaD_uttU``."""
    found: dict[str, Path] = {}
    for folder, folders, names in os.walk(root):
        folders.sort()
        part = _find_part(Path(folder).relative_to(root).parts)
        for name in sorted(names):
            match = NAME_PATTERN.fullmatch(name)
            if part and match:
                id_ = f"{part}/{match[1].lower()}"
                if id_ not in found or _rank(name) < _rank(found[id_].name):
                    found[id_] = Path(folder, name)
    return found


def _rank(name: str) -> int:
    return SUFFIX_ORDER.index(name.rpartition(".")[2].lower())


def _find_part(folders: Sequence[str]) -> str:
    """Return the part that the innermost folder names; empty if none does."""
    for folder in reversed(folders):
        for part in COUNTS:
            if part in re.split(r"[^a-z]+", folder.lower()):
                return part
    return ""


def _read_rows(root: Path, partial: bool) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the id and the cells of each row of the three tables."""
    seen: set[str] = set()
    for part in COUNTS:
        name = f"{part}_sent_emo.csv"
        tables = sorted(root.rglob(name))
        if not tables and not partial:
            raise CorpusError(
                f"{root} has no {name}; expected MELD's tables there. Get them from {ABOUT.home}, "
                "or read what is there with --partial"
            )
        for table in tables[:1]:
            for number, row in _read_table(table):
                id_ = f"{part}/dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"
                if id_ in seen:
                    raise CorpusError(f"{table}, row {number}: {id_} is there twice; keep one")
                seen.add(id_)
                if row["Emotion"].lower() not in EMOTIONS:
                    raise CorpusError(
                        f"{table}, row {number}: unknown emotion {row['Emotion']!r}; MELD has "
                        f"{', '.join(EMOTIONS)}"
                    )
                yield id_, row


def _read_table(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number and the cells of each row of a table."""
    advice = f"expected MELD's columns {', '.join(COLUMNS)}"
    for number, cells in read_columns(table, COLUMNS, advice):
        if not any(cells.values()):
            continue
        if not (cells["Dialogue_ID"].isdigit() and cells["Utterance_ID"].isdigit()):
            raise CorpusError(
                f"{table}, row {number}: Dialogue_ID {cells['Dialogue_ID']!r} and Utterance_ID "
                f"{cells['Utterance_ID']!r}; expected two numbers. Restore the table"
            )
        yield number, cells


def _build_utterance(id_: str, path: Path, row: dict[str, str]) -> Utterance:
    part = id_.partition("/")[0]
    labels = {
        "emotion": row["Emotion"].lower(),
        "sentiment": row["Sentiment"].lower(),
        "part": part,
        "season": row.get("Season", ""),
        "episode": row.get("Episode", ""),
    }
    return Utterance(
        id=id_,
        path=path,
        speaker=row["Speaker"] or None,
        dialogue=f"{part}/{row['Dialogue_ID']}",
        language="en",
        text=repair_text(row["Utterance"]),
        labels={name: value for name, value in labels.items() if value},
    )


def repair_text(text: str) -> str:
    r"""Replace the control characters that MELD has in place of quotation marks and dashes.

    >>> repair_text("I don\x92t know")
    'I don’t know'
    """
    return "".join(
        bytes([ord(char)]).decode("cp1252", "ignore") if "\x80" <= char <= "\x9f" else char
        for char in text
    )
