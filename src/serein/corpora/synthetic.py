"""Synthetic speech from this package, in any amount, for tests and demonstrations.

    root/
        labels.csv              written last: an incomplete folder has none
        wav/s01-anger-01-1.wav  speaker 01 | emotion | sentence 01 | take 1

    path,id,speaker,session,gender,language,emotion,text
    wav/s01-anger-01-1.wav,s01-anger-01-1,s01,01,female,art,anger,hule josa akido

Scores on this corpus say nothing about human speech.
"""

import csv
from pathlib import Path

from serein.corpora._reading import describe_missing
from serein.errors import CorpusError
from serein.records import CorpusInfo, Utterance
from serein.synthetic import COLUMNS, TABLE_NAME

ABOUT = CorpusInfo(
    title="Synthetic speech with seven emotions",
    language="made up",
    licence="no rights reserved",
    home="`serein corpora make PATH`",
)
MAKE_ADVICE = "make it with `serein corpora make PATH`"


def read(root: Path) -> list[Utterance]:
    """Read every utterance that ``labels.csv`` lists, in order of their ids.

    Raises:
        CorpusError: the table is missing or has other columns, or a recording is missing.
    """
    table = root / TABLE_NAME
    if not table.is_file():
        raise CorpusError(f"{root} has no {TABLE_NAME}, or is incomplete; {MAKE_ADVICE}")
    with table.open(encoding="utf-8", newline="") as file:
        lines = csv.DictReader(file)
        if tuple(lines.fieldnames or ()) != COLUMNS:
            raise CorpusError(
                f"{table} has the columns {lines.fieldnames}; expected {list(COLUMNS)}. Read a "
                f"table of your own with `--corpus mine={table}`, or {MAKE_ADVICE}"
            )
        utterances = [_build_utterance(root, row) for row in lines]
    paths = [utterance.path for utterance in utterances]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        fault = describe_missing(missing, len(utterances), f"recordings that {table} lists")
        raise CorpusError(f"{fault}; {MAKE_ADVICE}")
    return sorted(utterances, key=lambda utterance: utterance.id)


def _build_utterance(root: Path, row: dict[str, str]) -> Utterance:
    return Utterance(
        id=row["id"],
        path=root / row["path"],
        speaker=row["speaker"],
        session=row["session"],
        gender=row["gender"],
        language=row["language"],
        text=row["text"],
        labels={"emotion": row["emotion"]},
    )
