"""Shared functions of the corpus readers: files, names, counts, and answers of several raters.

A table may have a row for each rater:

    file,speaker,rater,emotion,arousal
    clips/001.wav,ann,r1,anger,4.0
    clips/001.wav,ann,r2,neutral,3.0

Utterance ``clips/001.wav`` has each rater's answers (``emotion:r1``, ``emotion:r2``), the votes for
classes (``emotion_votes``: "anger=1, neutral=1"), the class with most votes (``emotion``; none
after a tie), and the mean of numbers (``arousal``: 3.5).
"""

import csv
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from serein.errors import CorpusError
from serein.labels.votes import SEPARATOR_PATTERN, VOTES_SUFFIX
from serein.records import ATTRIBUTES, Label, Utterance

AUDIO_SUFFIXES = (".flac", ".wav")
RATER_COLUMNS = ("rater", "annotator", "worker", "evaluator", "listener")
"""Names of the column with the rater's name."""
RATED_LABELS = ("emotion", "arousal", "valence", "dominance")
"""Labels that are raters' answers, also where all raters agree on every recording."""


def find_subfolder(root: Path, name: str, title: str, home: str) -> Path:
    """Return the folder ``name`` in ``root``.

    Args:
        root: the folder that the user gave.
        name: of the folder to find.
        title: name of the corpus, for error messages.
        home: where to get the corpus.

    Raises:
        CorpusError: the folder does not exist; the message suggests a likely one.
    """
    if (root / name).is_dir():
        return root / name
    advice = f"Give the folder that holds {name}/, or get the corpus from {home}"
    near = sorted(folder.parent for folder in root.glob(f"*/{name}") if folder.is_dir())
    if list_recordings(root) or (root.name == name and root.is_dir()):
        advice = f"This is {name}/ itself: give the folder above, {root.absolute().parent}"
    elif len(near) == 1:
        advice = f"Did you mean {near[0]}?"
    raise CorpusError(f"{root} has no folder {name}/; expected {title} there. {advice}")


def list_recordings(folder: Path, suffixes: tuple[str, ...] = (".wav",)) -> list[Path]:
    """Return the recordings of a folder, sorted, without hidden files.

    Subfolders are not searched, since they may hold a second copy. A folder that does not exist has
    no recordings.

    Args:
        folder: to search.
        suffixes: of recordings, in lower case; those of files may be in upper case.
    """
    names = os.listdir(folder) if folder.is_dir() else []
    names = sorted(name for name in names if name.lower().endswith(suffixes) and name[0] != ".")
    return [folder / name for name in names]


def read_columns(
    table: Path, columns: Sequence[str], advice: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line number and the cells of each row of a published CSV table.

    Args:
        table: the file, with a header.
        columns: that the header must have.
        advice: end of the error; ``{found}`` is replaced by the columns of the file.

    Raises:
        CorpusError: a column is missing.
    """
    with table.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        rows = csv.DictReader(lines)
        found = rows.fieldnames or ()
        if missing := [name for name in columns if name not in found]:
            end = advice.format(found=", ".join(found) or "nothing")
            raise CorpusError(f"{table} has no column {', '.join(missing)}; {end}")
        for number, row in enumerate(rows, 2):
            yield number, {name: (cell or "").strip() for name, cell in row.items() if name}


def find_unread(root: Path, utterances: Iterable[Utterance]) -> list[Path]:
    """Return the recordings anywhere below a folder that belong to no utterance, sorted."""
    read = {utterance.path for utterance in utterances}
    files = (
        Path(folder, name)
        for folder, _, names in os.walk(root)
        for name in names
        if name.lower().endswith(AUDIO_SUFFIXES) and name[0] != "."
    )
    return sorted(file for file in files if file not in read)


def describe_skipped(root: Path, files: list[Path], what: str) -> list[str]:
    """Return a note about recordings that were not read; no note without such recordings.

    Args:
        root: the folder that file names in the note are relative to.
        files: recordings that were not read.
        what: plural noun for them.
    """
    if not files:
        return []
    return [f"{what} not read: {len(files)}, such as {files[0].relative_to(root).as_posix()}"]


def describe_missing(files: list[Path], total: int, of: str) -> str:
    """Describe missing files in a clause, without a full stop.

    Args:
        files: the missing files; at least one.
        total: expected number of files.
        of: plural noun for the files.
    """
    more = f"as are {len(files) - 1} more" if len(files) > 1 else "one"
    return f"{files[0]} is missing, {more} of the {total} {of}"


def restore_advice(home: str) -> str:
    """Return advice for a corpus of which a part is missing."""
    return (
        f"Restore the rest from {home}, or read what is there with --partial (serein corpora add "
        "NAME FOLDER --partial stores this; in Python partial=True)"
    )


def decode_field(file: Path, field: str, code: str, known: Mapping[str, str], title: str) -> str:
    """Return the meaning of a code in a file name.

    Args:
        file: whose name has the code.
        field: name of the field, such as "emotion".
        code: to decode.
        known: meaning of each code.
        title: name of the corpus, for error messages.

    Raises:
        CorpusError: the corpus has no such code.
    """
    if code not in known:
        listing = ", ".join(sorted(known))
        raise CorpusError(f"{file}: unknown {field} {code!r}; {title} has {listing}")
    return known[code]


def check_counts(
    place: Path, title: str, found: Iterable[str], expected: Mapping[str, int], advice: str
) -> None:
    """Compare the number of recordings of each class with the published numbers.

    Args:
        place: path of the corpus.
        title: name of the corpus, for error messages.
        found: the class of each recording.
        expected: number of recordings of each class.
        advice: what to do if a number differs.

    Raises:
        CorpusError: a number differs.
    """
    counts, total = Counter(found), sum(expected.values())
    if counts != Counter(expected):
        differences = [
            f"{name} {counts[name]} of {count}"
            for name, count in expected.items()
            if counts[name] != count
        ]
        raise CorpusError(
            f"{place} has {counts.total()} recordings; {title} has {total} "
            f"({', '.join(differences)}). {advice}"
        )


def combine_answers(name: str, answers: Mapping[str, Label]) -> dict[str, Label]:
    """Return the labels that the answers of several raters give.

    Numbers give their mean; classes give votes, and the class with most votes unless there is a
    tie. An answer of several classes, separated as in votes, is one vote that is divided.

    >>> combine_answers("emotion", {"r1": "anger", "r2": "anger", "r3": "sadness; fear"})["emotion"]
    'anger'

    Args:
        name: of the label.
        answers: the answer of each rater.
    """
    labels = {f"{name}:{rater}": answer for rater, answer in answers.items()}
    numbers = [answer for answer in answers.values() if not isinstance(answer, str)]
    if len(numbers) == len(answers):
        return {name: fmean(numbers), **labels}
    votes: dict[str, float] = {}
    for answer in answers.values():
        words = [word.strip() for word in SEPARATOR_PATTERN.split(str(answer)) if word.strip()]
        for word in words:
            votes[word] = votes.get(word, 0.0) + 1 / len(words)
    most = [word for word, count in votes.items() if count == max(votes.values())]
    text = ", ".join(f"{word}={votes[word]:g}" for word in sorted(votes))
    majority: dict[str, Label] = {name: most[0]} if len(most) == 1 else {}
    return {**majority, f"{name}{VOTES_SUFFIX}": text, **labels}


def merge_raters(
    place: Path, column: str, rows: Sequence[tuple[int, Utterance]]
) -> list[Utterance]:
    """Combine the rows of each recording to one utterance.

    Labels that never differ between raters, such as a sentence, stay single labels.

    Args:
        place: path of the table, for error messages.
        column: the label with the rater's name.
        rows: the number of each row, and its utterance.

    Raises:
        CorpusError: a row has no rater, a rater rated a recording twice, or rows of one recording
            have different speakers or times.
    """
    by_id: dict[str, list[tuple[int, Utterance]]] = {}
    for number, utterance in rows:
        by_id.setdefault(utterance.id, []).append((number, utterance))
    rated = _find_rated_labels(by_id, column)
    return [_merge_rows(place, column, rated, own) for own in by_id.values()]


def _find_rated_labels(
    by_id: Mapping[str, Sequence[tuple[int, Utterance]]], column: str
) -> set[str]:
    """Return the labels that are raters' answers."""
    names = {name for rows in by_id.values() for _, one in rows for name in one.labels}
    differing = {
        name
        for rows in by_id.values()
        for name in names
        if len({one.labels[name] for _, one in rows if name in one.labels}) > 1
    }
    return (differing | (names & {*RATED_LABELS})) - {column}


def _merge_rows(
    place: Path, column: str, rated: set[str], rows: Sequence[tuple[int, Utterance]]
) -> Utterance:
    """Combine the rows of one recording."""
    first = rows[0][1]
    by_rater: dict[str, Utterance] = {}
    for number, utterance in rows:
        rater = str(utterance.labels.get(column, ""))
        if not rater:
            raise CorpusError(
                f"{place}, row {number}: {column} is empty, and {first.id} has several rows; "
                "expected the name of the rater"
            )
        if rater in by_rater:
            raise CorpusError(
                f"{place}, row {number}: {column} {rater} rated {first.id} before; keep one answer"
            )
        by_rater[rater] = utterance
    names = sorted({name for one in by_rater.values() for name in one.labels} - {column})
    labels: dict[str, Label] = {}
    for name in names:
        answers = {rater: one.labels[name] for rater, one in by_rater.items() if name in one.labels}
        if name in rated:
            labels |= combine_answers(name, answers)
        else:
            labels[name] = next(iter(answers.values()))
    attributes: dict[str, Any] = {}
    for name in (*ATTRIBUTES, "path", "start", "end"):
        values = {value for _, one in rows if (value := getattr(one, name)) is not None}
        if len(values) > 1:
            raise CorpusError(
                f"{place}, rows {', '.join(str(number) for number, _ in rows)}: {first.id} has the "
                f"{name} {' and '.join(sorted(map(str, values)))}; correct all but one"
            )
        attributes[name] = next(iter(values), None)
    return replace(first, labels=labels, **attributes)
