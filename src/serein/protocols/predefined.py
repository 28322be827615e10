"""Predefined splits: of a paper, of a corpus, by values of a label, or saved in a file.

A saved split is a JSON file with a hash of its folds, or a CSV file for other toolkits:

    fold,subset,id,path,speaker,emotion
    03,train,08a01Fd,wav/08a01Fd.wav,08,happiness
    03,test,03a01Fa,wav/03a01Fa.wav,03,happiness

Only ``fold``, ``subset`` (train, validation or test) and ``id`` are read from a CSV file.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serein.errors import ConfigError, ProtocolError
from serein.protocols.settings import SplitConfig, format_value, parse_values
from serein.protocols.splitters import (
    count_noun,
    get_scoped_value,
    get_subsets,
    get_value,
    group_by,
    has_value,
    hold_out_validation,
    is_match,
)
from serein.records import SUBSETS, Fold, Protocol, Utterance
from serein.utils.files import write_text

ValueLists = dict[str, tuple[str, ...]]
"""Values of each subset."""

SESSIONS = {
    "zhang-text": (("1", "2", "3"), ("4",), ("5",)),
    "zhang-sizes": (("3", "4", "5"), ("2",), ("1",)),
}
"""Training, validation and test sessions.

Zhang et al. 2019, section 4.1, names sessions 1-3, 4 and 5, and prints the sizes 6,319, 1,811 and
1,819. Of IEMOCAP's sessions (1,819, 1,811, 2,136, 2,103, 2,170) session 2 has the second size and
session 1 the third; sessions 3-5 hold 6,409, 90 more than printed.
"""
PART_PATTERNS = {
    "train": ("train*", "*-train"),
    "validation": ("dev*", "*-dev"),
    "test": ("test*", "*-test"),
}
"""Names of parts, such as LibriSpeech's train-clean-100 and AN4's an4-train."""
SUFFIXES = (".json", ".csv")
FORMAT = 2
"""Version of the layout of a saved protocol; 1 has a hash that depends on names and order."""
COLUMNS = ["fold", "subset", "id"]
RESERVED_COLUMNS = {*COLUMNS, "side", "path", "speaker"}
"""Labels of these names are not saved; ``side`` was the name of ``subset`` in release 0.1."""
EXPECTED_FORMAT = "expected what `protocols.save` writes. Save it again, or restore the file"


def split_sessions(utterances: Sequence[Utterance], settings: SplitConfig) -> Protocol:
    """Split IEMOCAP's five sessions as a paper does."""
    if settings.validation not in (1, "none"):
        raise ConfigError(
            f"protocol.validation = {settings.validation!r}; {settings.name} has a predefined "
            'validation subset: leave protocol.validation out, or set it to "none"'
        )
    lists = SESSIONS[settings.name]
    groups = group_by(utterances, "session")
    numbers = {name: _parse_session_number(name) for name in groups}
    if sorted(numbers.values()) != sorted(sum(lists, ())):
        raise ProtocolError(
            f"{settings.name} needs IEMOCAP's five sessions; found {len(groups)}: "
            f"{', '.join(groups) or 'none'}. Give the whole corpus, or take leave-one-session-out."
        )
    train, validation, test = (
        [u for name, number in numbers.items() if number in sessions for u in groups[name]]
        for sessions in lists
    )
    description = f"session {', '.join(lists[1])}, as in the paper"
    if settings.validation == "none":
        description, validation, train = "none", [], train + validation
    fold = Fold(
        name=f"session {', '.join(lists[2])}",
        train=_list_ids(train),
        validation=_list_ids(validation),
        test=_list_ids(test),
    )
    return Protocol(name=settings.name, validation=description, folds=(fold,))


def _parse_session_number(session: str) -> str:
    """Return the number at the end of a session's name: 5 for "Session5" and for "05"."""
    match = re.search(r"(\d+)\D*$", session)
    return match[1].lstrip("0") if match else session


def split_parts(utterances: Sequence[Utterance], settings: SplitConfig) -> Protocol:
    """Split by the corpus's own parts, from the label ``part``: train-*, dev-* and test-*.

    In a corpus without a development part, speakers of the training subset validate.
    """
    lists = _list_part_patterns(settings)
    parts = {value for utterance in utterances if (value := get_value(utterance, "part"))}
    development = tuple(
        part for part in sorted(parts) if is_match(part, PART_PATTERNS["validation"])
    )
    if settings.validation == "none" and not parse_values(settings.train):
        lists["train"] += development
    return _split_by_values(utterances, settings, "part", lists, development)


def _list_part_patterns(settings: SplitConfig) -> ValueLists:
    return {
        subset: parse_values(getattr(settings, subset)) or PART_PATTERNS[subset]
        for subset in ("train", "test")
    }


def find_parts(utterances: Sequence[Utterance], settings: SplitConfig) -> ValueLists:
    """Return the parts of a corpus that each subset of the protocol ``parts`` takes.

    Returns:
        Names of parts for "train", "validation" and "test", and under "" those of no subset; all
        are empty for a corpus without parts.
    """
    parts = sorted({value for u in utterances if (value := get_value(u, "part"))})
    patterns = {**_list_part_patterns(settings), "validation": PART_PATTERNS["validation"]}
    found = {
        subset: tuple(part for part in parts if is_match(part, patterns[subset]))
        for subset in SUBSETS
    }
    if settings.validation == "none" and not parse_values(settings.train):
        found = {**found, "train": found["train"] + found["validation"], "validation": ()}
    taken = {part for names in found.values() for part in names}
    return {**found, "": tuple(part for part in parts if part not in taken)}


def split_by_label(utterances: Sequence[Utterance], settings: SplitConfig) -> Protocol:
    """Split by the values of an attribute or label: train on one corpus, test on another."""
    if not settings.by or not parse_values(settings.test):
        raise ConfigError(
            f"{settings.name} needs protocol.by (an attribute or label, such as corpus) and "
            f"protocol.test (its test values); found {settings.by!r} and {settings.test!r}"
        )
    lists = {subset: parse_values(getattr(settings, subset)) for subset in ("train", "test")}
    return _split_by_values(utterances, settings, settings.by, lists, ())


def _split_by_values(
    utterances: Sequence[Utterance],
    settings: SplitConfig,
    name: str,
    lists: ValueLists,
    default_validation: tuple[str, ...],
) -> Protocol:
    """Build one fold from the values of each subset.

    ``default_validation`` are the validation values where the settings give none.
    """
    count = settings.validation if isinstance(settings.validation, int) else 0
    given = () if settings.validation == "none" else parse_values(settings.validation)
    lists = {**lists, "validation": default_validation if count else given}
    subsets, unassigned = _assign_subsets(utterances, name, lists)
    train, validation, test = (_list_ids(subsets[subset]) for subset in SUBSETS)
    description = "none"
    if validation:
        description = f"{name} {', '.join(lists['validation'])}"
    elif count:
        description = f"{count_noun(count, 'speaker')} of each corpus in the training subset"
        train, validation = hold_out_validation(subsets["train"], count)
    tested = sorted({str(get_value(utterance, name)) for utterance in subsets["test"]})
    title = ", ".join(tested) if len(tested) < 6 else f"{len(tested)} of {name}"
    return Protocol(
        name=settings.name,
        validation=description,
        folds=(Fold(name=title, train=train, validation=validation, test=test),),
        caution=_describe_unassigned(unassigned, utterances, name),
    )


def _assign_subsets(
    utterances: Sequence[Utterance], name: str, lists: ValueLists
) -> tuple[dict[str, list[Utterance]], list[str]]:
    """Return the utterances of each subset, and the values of utterances in no subset.

    Without training values, the training subset takes the rest.
    """
    subsets: dict[str, list[Utterance]] = {subset: [] for subset in lists}
    unassigned = []
    for utterance in sorted(utterances, key=lambda utterance: utterance.id):
        value = get_value(utterance, name)
        matches = [subset for subset, values in lists.items() if has_value(utterance, name, values)]
        if len(matches) > 1:
            raise ConfigError(
                f"{name} {value} is in two subsets, {matches[0]} and {matches[1]}; name it once"
            )
        if matches:
            subsets[matches[0]].append(utterance)
        elif not lists["train"]:
            subsets["train"].append(utterance)
        else:
            unassigned.append(str(value))
    _check_values(utterances, name, lists)
    return subsets, unassigned


def _check_values(utterances: Sequence[Utterance], name: str, lists: ValueLists) -> None:
    """Check that the corpus has every value, and for patterns a value that matches."""
    present = sorted({value for utterance in utterances if (value := get_value(utterance, name))})
    known = {*present, *(get_scoped_value(utterance, name) for utterance in utterances)}
    for subset, wanted in lists.items():
        missing = [value for value in wanted if "*" not in value and value not in known]
        if missing or (wanted and not any(is_match(value, wanted) for value in known)):
            raise ProtocolError(
                f"protocol.{subset}: no utterance has {name} {', '.join(missing or wanted)}; found "
                f"{', '.join(present) or f'no {name} at all'}"
            )


def _describe_unassigned(unassigned: list[str], utterances: Sequence[Utterance], name: str) -> str:
    if not unassigned:
        return ""
    values = ", ".join(value for value, _ in Counter(unassigned).most_common(5))
    return (
        f"{len(unassigned)} of {len(utterances)} utterances are in no subset: their {name} is "
        f"{values}"
    )


def _list_ids(utterances: Sequence[Utterance]) -> tuple[str, ...]:
    return tuple(utterance.id for utterance in utterances)


def save(protocol: Protocol, path: Path, utterances: Sequence[Utterance] = ()) -> None:
    """Write a protocol to a file, atomically.

    Args:
        protocol: to be saved.
        path: a file name that ends in .json or .csv.
        utterances: their paths, speakers and labels are added to a CSV file.

    Raises:
        ProtocolError: the file name has another suffix.
        StorageError: the file could not be written.
    """
    _check_suffix(path)
    if path.suffix.lower() == ".csv":
        write_text(path, _format_csv(protocol, utterances))
    else:
        content = {"format": FORMAT, "hash": protocol.hash, **asdict(protocol)}
        write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def load(path: Path) -> Protocol:
    """Read a protocol from a file; a protocol in a CSV file has the name of the file.

    Raises:
        ProtocolError: the file is missing, holds no protocol, or was changed.
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
        raise ProtocolError(f"{path} must end in {' or '.join(SUFFIXES)}; rename it")


def _parse_json(path: Path, text: str) -> Protocol:
    table = json.loads(text)
    version = table["format"]
    if version not in range(1, FORMAT + 1):
        hint = ". Install a newer serein" if isinstance(version, int) and version > 1 else ""
        raise ProtocolError(
            f"{path} has format {version!r}; this version reads 1 to {FORMAT}{hint}"
        )
    protocol = Protocol.from_table({**table, "caution": table["caution"]})
    found = protocol.listing_hash if version == 1 else protocol.hash
    if found != table["hash"]:
        raise ProtocolError(
            f"{path} was changed after it was saved: its hash is {table['hash']}, and its folds "
            f"give {found}. Restore the file; folds of your own belong in a CSV"
        )
    return protocol


def _format_csv(protocol: Protocol, utterances: Sequence[Utterance]) -> str:
    by_id = {utterance.id: utterance for utterance in utterances}
    labels = sorted({name for utterance in utterances for name in utterance.labels})
    details = ["path", "speaker", *(name for name in labels if name not in RESERVED_COLUMNS)]
    names = details if by_id else []
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *names])
    for fold in protocol.folds:
        for subset, ids in get_subsets(fold).items():
            for id_ in ids:
                writer.writerow([fold.name, subset, id_, *_format_cells(by_id.get(id_), names)])
    return text.getvalue()


def _format_cells(utterance: Utterance | None, names: list[str]) -> list[str]:
    if utterance is None:
        return [""] * len(names)
    values: dict[str, Any] = {
        **utterance.labels,
        "path": str(utterance.path),
        "speaker": utterance.speaker,
    }
    return ["" if (value := values.get(name)) is None else format_value(value) for name in names]


def _parse_csv(path: Path, text: str) -> Protocol:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    header = list(rows.fieldnames or [])
    column = "subset" if "subset" in header or "side" not in header else "side"
    missing = [name for name in ("fold", column, "id") if name not in header]
    if missing:
        raise ProtocolError(
            f"{path} has no column {', '.join(missing)}; found {', '.join(header) or 'nothing'}. "
            f"Expected {', '.join(COLUMNS)}"
        )
    folds: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        subsets = folds.setdefault(row["fold"], {subset: [] for subset in SUBSETS})
        if row[column] not in subsets or not row["id"]:
            raise ProtocolError(
                f"{path}, line {rows.line_num}: {column} {row[column]!r}, id {row['id']!r}; "
                f"expected one of {', '.join(SUBSETS)}, and an id"
            )
        subsets[row[column]].append(row["id"])
    return Protocol(
        name=path.name,
        validation=f"as in {path.name}" if any(f["validation"] for f in folds.values()) else "none",
        folds=tuple(
            Fold(name=name, **{subset: tuple(ids) for subset, ids in subsets.items()})
            for name, subsets in folds.items()
        ),
    )
