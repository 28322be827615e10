"""Protocols in files: JSON with a hash in it, or CSV for other toolkits.

    fold,side,id,path,speaker,emotion
    03,train,08a01Fd,wav/08a01Fd.wav,08,happiness
    03,test,03a01Fa,wav/03a01Fa.wav,03,happiness

Of a CSV only ``fold``, ``side`` (train, validation or test) and ``id`` are read.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serein.errors import ProtocolError
from serein.protocols.settings import format_value
from serein.protocols.sides import get_subsets
from serein.records import Fold, Protocol, Utterance
from serein.utils.files import write_text

SUFFIXES = (".json", ".csv")
SUBSETS = ("train", "validation", "test")
COLUMNS = ["fold", "side", "id"]
EXPECTED_FORMAT = "expected what `protocols.save` writes. Save it again, or restore the file"


def save(protocol: Protocol, path: Path, utterances: Sequence[Utterance] = ()) -> None:
    """Write a protocol, whole or not at all.

    Args:
        protocol: what to write.
        path: a name that ends in .json or .csv.
        utterances: where they are given, a CSV tells their paths, speakers and labels too.

    Raises:
        ProtocolError: the name ends otherwise.
        StorageError: the file could not be written.
    """
    _check_suffix(path)
    if path.suffix.lower() == ".csv":
        write_text(path, _format_csv(protocol, utterances))
    else:
        content = {"format": 1, "hash": protocol.hash, **asdict(protocol)}
        write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def load(path: Path) -> Protocol:
    """Read a protocol; that of a CSV is named after the file.

    Raises:
        ProtocolError: there is no such file, it is no protocol, or it was changed.
    """
    _check_suffix(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        return _parse_csv(path, text) if path.suffix.lower() == ".csv" else _parse_json(path, text)
    except OSError as error:
        raise ProtocolError(f"{path} cannot be read: {error.strerror}; check the name") from error
    except (ValueError, TypeError, LookupError, RecursionError, csv.Error) as error:
        fault = f"{type(error).__name__}: {error}"
        raise ProtocolError(f"{path} holds no protocol ({fault}); {EXPECTED_FORMAT}") from error


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise ProtocolError(f"{path} should end in {' or '.join(SUFFIXES)}; name it so")


def _parse_json(path: Path, text: str) -> Protocol:
    held = json.loads(text)
    if held["format"] != 1:
        raise ProtocolError(
            f"{path} has format {held['format']}; this version reads 1. Install a newer serein"
        )
    protocol = Protocol(
        name=str(held["name"]),
        validation=str(held["validation"]),
        caution=str(held["caution"]),
        folds=tuple(
            Fold(name=str(fold["name"]), **{side: tuple(map(str, fold[side])) for side in SUBSETS})
            for fold in held["folds"]
        ),
    )
    if protocol.hash != held["hash"]:
        raise ProtocolError(
            f"{path} was changed after it was saved: it says {held['hash']}, and its folds give "
            f"{protocol.hash}. Restore the file; folds of your own belong in a CSV"
        )
    return protocol


def _format_csv(protocol: Protocol, utterances: Sequence[Utterance]) -> str:
    by_id = {utterance.id: utterance for utterance in utterances}
    labels = sorted({name for utterance in utterances for name in utterance.labels})
    more = (
        ["path", "speaker", *(name for name in labels if name not in RESERVED_COLUMNS)]
        if by_id
        else []
    )
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([*COLUMNS, *more])
    for fold in protocol.folds:
        for side, ids in get_subsets(fold).items():
            for id_ in ids:
                rows.writerow([fold.name, side, id_, *_format_cells(by_id.get(id_), more)])
    return text.getvalue()


RESERVED_COLUMNS = {*COLUMNS, "path", "speaker"}


def _format_cells(utterance: Utterance | None, names: list[str]) -> list[str]:
    if utterance is None:
        return [""] * len(names)
    told: dict[str, Any] = {"path": str(utterance.path), "speaker": utterance.speaker}
    told = {**utterance.labels, **told}
    return ["" if (value := told.get(name)) is None else format_value(value) for name in names]


def _parse_csv(path: Path, text: str) -> Protocol:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    missing = [name for name in COLUMNS if name not in (rows.fieldnames or [])]
    if missing:
        raise ProtocolError(
            f"{path} has no column {', '.join(missing)}; found "
            f"{', '.join(rows.fieldnames or []) or 'nothing'}. Expected {', '.join(COLUMNS)}"
        )
    folds: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        sides = folds.setdefault(row["fold"], {side: [] for side in SUBSETS})
        if row["side"] not in sides or not row["id"]:
            raise ProtocolError(
                f"{path}, line {rows.line_num}: side {row['side']!r}, id {row['id']!r}; expected "
                f"one of {', '.join(SUBSETS)}, and an id"
            )
        sides[row["side"]].append(row["id"])
    return Protocol(
        name=path.name,
        validation=f"as in {path.name}" if any(f["validation"] for f in folds.values()) else "none",
        folds=tuple(
            Fold(name=name, **{side: tuple(ids) for side, ids in sides.items()})
            for name, sides in folds.items()
        ),
    )
