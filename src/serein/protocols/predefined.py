"""Lists that stand fast: a paper's, a corpus's own, or the user's.

Protocols in files: JSON with a hash in it, or CSV for other toolkits.

    fold,side,id,path,speaker,emotion
    03,train,08a01Fd,wav/08a01Fd.wav,08,happiness
    03,test,03a01Fa,wav/03a01Fa.wav,03,happiness

Of a CSV only ``fold``, ``side`` (train, validation or test) and ``id`` are read.
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
from serein.records import Fold, Protocol, Utterance
from serein.utils.files import write_text

SESSIONS = {
    "zhang-text": (("1", "2", "3"), ("4",), ("5",)),
    "zhang-sizes": (("3", "4", "5"), ("2",), ("1",)),
}
"""Sessions that train, validate and are tested.

Zhang et al. 2019, section 4.1, names sessions 1-3, 4 and 5, and prints the sizes 6,319, 1,811 and
1,819. Of IEMOCAP's sessions (1,819, 1,811, 2,136, 2,103, 2,170) session 2 has the second size and
session 1 the third; sessions 3-5 hold 6,409, 90 more than printed.
"""

PART_PATTERNS = {
    "train": ("train*", "*-train"),
    "validation": ("dev*", "*-dev"),
    "test": ("test*", "*-test"),
}
"""How parts are called: LibriSpeech's train-clean-100, AN4's an4-train."""


def split_sessions(utterances: Sequence[Utterance], settings: SplitConfig) -> Protocol:
    """IEMOCAP's five sessions on the sides that a paper gives them."""
    if settings.validation not in (1, "none"):
        raise ConfigError(
            f"protocol.validation = {settings.validation!r}; {settings.name} has a validation "
            'side of its own: leave protocol.validation out, or set it to "none"'
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
        [one for name, number in numbers.items() if number in side for one in groups[name]]
        for side in lists
    )
    words, held = f"session {', '.join(lists[1])}, as in the paper", _list_ids(validation)
    if settings.validation == "none":
        words, held, train = "none", (), train + validation
    fold = Fold(
        name=f"session {', '.join(lists[2])}",
        train=_list_ids(train),
        validation=held,
        test=_list_ids(test),
    )
    return Protocol(name=settings.name, validation=words, folds=(fold,))


def split_parts(utterances: Sequence[Utterance], settings: SplitConfig) -> Protocol:
    """A corpus's own parts, by the label ``part``: train-*, dev-* and test-*.

    Without a part for validation, speakers of the training side validate.
    """
    lists = {
        side: parse_values(getattr(settings, side)) or PART_PATTERNS[side]
        for side in ("train", "test")
    }
    named = {value for one in utterances if (value := get_value(one, "part"))}
    own = tuple(value for value in sorted(named) if is_match(value, PART_PATTERNS["validation"]))
    if settings.validation == "none" and not parse_values(settings.train):
        lists["train"] += own
    return _split_by_values(utterances, settings, "part", lists, own)


def split_by_label(utterances: Sequence[Utterance], settings: SplitConfig) -> Protocol:
    """Sides by the values of any attribute or label: train on one corpus, test on another."""
    if not settings.by or not parse_values(settings.test):
        raise ConfigError(
            f"{settings.name} needs protocol.by (an attribute or label, such as corpus) and "
            f"protocol.test (its values that are tested); found {settings.by!r} and "
            f"{settings.test!r}"
        )
    lists = {side: parse_values(getattr(settings, side)) for side in ("train", "test")}
    return _split_by_values(utterances, settings, settings.by, lists, ())


ValueLists = dict[str, tuple[str, ...]]


def _split_by_values(
    utterances: Sequence[Utterance],
    settings: SplitConfig,
    name: str,
    lists: ValueLists,
    validation_values: tuple[str, ...],
) -> Protocol:
    """One fold by lists of values; ``validation_values`` validates where the settings name no values."""
    count = settings.validation if isinstance(settings.validation, int) else 0
    held = () if settings.validation == "none" else parse_values(settings.validation)
    lists = {**lists, "validation": validation_values if count else held}
    sides, left = _assign_subsets(utterances, name, lists)
    train, validation, words = _list_ids(sides["train"]), _list_ids(sides["validation"]), "none"
    if validation:
        words = f"{name} {', '.join(lists['validation'])}"
    elif count:
        words = f"{count_noun(count, 'speaker')} of the training side, of each corpus in it"
        train, validation = hold_out_validation(sides["train"], count)
    tested = sorted({str(get_value(one, name)) for one in sides["test"]})
    title = ", ".join(tested) if len(tested) < 6 else f"{len(tested)} of {name}"
    fold = Fold(name=title, train=train, validation=validation, test=_list_ids(sides["test"]))
    return Protocol(
        name=settings.name,
        validation=words,
        folds=(fold,),
        caution=_describe_unassigned(left, utterances, name),
    )


def _assign_subsets(
    utterances: Sequence[Utterance], name: str, lists: ValueLists
) -> tuple[dict[str, list[Utterance]], list[str]]:
    """Utterances by side, and the values of those on none; no training list takes the rest."""
    sides: dict[str, list[Utterance]] = {side: [] for side in lists}
    left = []
    for one in sorted(utterances, key=lambda u: u.id):
        value = get_value(one, name)
        on = [side for side, wanted in lists.items() if has_value(one, name, wanted)]
        if len(on) > 1:
            raise ConfigError(f"{name} {value} is on two sides, {on[0]} and {on[1]}; name it once")
        if not on and not lists["train"]:
            on = ["train"]
        if on:
            sides[on[0]].append(one)
        else:
            left.append(str(value))
    _check_values(utterances, name, lists)
    return sides, left


def _check_values(utterances: Sequence[Utterance], name: str, lists: ValueLists) -> None:
    """Every value that is named must be there, and of every pattern one."""
    found = sorted({value for one in utterances if (value := get_value(one, name))})
    known = {*found, *(get_scoped_value(one, name) for one in utterances)}
    for side, wanted in lists.items():
        missing = [one for one in wanted if "*" not in one and one not in known]
        if missing or (wanted and not any(is_match(value, wanted) for value in known)):
            raise ProtocolError(
                f"no utterance has {name} {', '.join(missing or wanted)}, which protocol.{side} "
                f"names; found {', '.join(found) or f'no {name} at all'}"
            )


def _describe_unassigned(unassigned: list[str], utterances: Sequence[Utterance], name: str) -> str:
    if not unassigned:
        return ""
    values = ", ".join(value for value, _ in Counter(unassigned).most_common(5))
    return f"{len(unassigned)} of {len(utterances)} utterances are on no side: their {name} is {values}"


def _list_ids(utterances: Sequence[Utterance]) -> tuple[str, ...]:
    return tuple(one.id for one in utterances)


def _parse_session_number(session: str) -> str:
    """The number in which a session's name ends: 5 of "Session5" and of "05"."""
    found = re.search(r"(\d+)\D*$", session)
    return found[1].lstrip("0") if found else session


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
