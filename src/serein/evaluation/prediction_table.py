"""Predictions of any model in a table: one row for each utterance, with a label or probabilities.

    file,label                      file,anger,neutral,sadness
    wav/03a01Fa.wav,happiness       wav/03a01Fa.wav,0.7,0.2,0.1

- The utterance: its id, or its file in a column such as ``file`` or ``path``; folders may be left
  out where a name is unique, and so may the suffix.
- The answer: a column ``prediction`` or ``label``, or a column of the task's name; or a column for
  each class with its probability, under the name of the class or with ``emotion_`` or ``p_``
  before it, as ``serein recognize`` writes them. Probabilities are preferred.
- A row without an answer says that the model gave none: the utterance counts as an error.
- ``fold``: the fold whose model gave the answer, if the model was trained in the folds of the
  protocol.
- ``epoch``: the epoch after which the model gave it, if there are predictions of several epochs;
  each utterance then has a row for every epoch. With rows for the validation subsets, too, which
  need ``fold``, the epoch is selected on validation.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path, PurePath
from typing import Any

from serein.corpora import TABLE_SUFFIXES, table
from serein.errors import ConfigError, CorpusError
from serein.evaluation.answers import (
    MAX_EXAMPLES,
    Answers,
    StepCallback,
    check_probabilities,
    find_spelling,
)
from serein.records import Corpus, Fold, Protocol, Utterance

ID_COLUMNS = ("id", "utterance", "utterance_id", "file_id", "segment_id", *table.PATH_COLUMNS)
LABEL_COLUMNS = ("prediction", "predicted", "predicted_label", "label", "answer")
FOLD_COLUMN = "fold"
EPOCH_COLUMN = "epoch"
OTHER_COLUMNS = {
    *("speaker", "gender", "start", "end", "duration", "seconds", "confidence", "score", "text"),
    *("language", "corpus", "truth", "target", "session", "dialogue", "split", "index", "model"),
    *("model_hash", "unnamed: 0", "reason", "channel", "subset", "transcript"),
    *(FOLD_COLUMN, EPOCH_COLUMN, *ID_COLUMNS, *LABEL_COLUMNS),
}
"""Columns that are no class, whatever they hold."""
PREFIXES = ("{task}_", "{task}:", "{task}.", "p_", "prob_", "probability_")
NO_CLASS = ("confidence", "abstained", "votes", "predicted")
"""Columns of `serein recognize` after the name of the task that are no probabilities."""
NO_ANSWER = "no answer in the table"
EPOCH_PATTERN = re.compile(r"\d+(\.0*)?")
"""Whole numbers; programs write them as 3.0 where a column had an empty cell."""


@dataclass(frozen=True)
class TableModel:
    """Predictions of a table, for a corpus.

    Attributes:
        name: in reports.
        meaning: what it is, for the report.
        labels: of the columns with probabilities; empty for a table of labels.
        key: hash of the table.
        environment: the hash, for the results.
        place: what to call the table in errors.
        found: the answer for each utterance id, and those without one.
        folds: the fold of each utterance id; empty without such a column, and with epochs.
        epochs: for each fold of the table (empty name: no such column) and each epoch, the answers;
            empty without a column ``epoch``. ``found`` then has those of all epochs together.
    """

    name: str
    meaning: str
    labels: tuple[str, ...]
    key: Sequence[str]
    environment: Mapping[str, object]
    place: str
    found: Answers
    folds: Mapping[str, str] = field(default_factory=dict)
    epochs: Mapping[str, Mapping[int, Answers]] = field(default_factory=dict)

    @property
    def has_folds(self) -> bool:
        """Whether the table has the fold of each prediction."""
        return bool(self.folds) or any(self.epochs)

    def select_epochs(self, protocol: Protocol) -> tuple[dict[str, dict[int, Answers]], bool]:
        """Return the answers of each fold and epoch, and whether the validation subsets have some.

        Args:
            protocol: whose folds were trained.

        Raises:
            ConfigError: the folds of the table are others, or an epoch lacks utterances.
        """
        named = {fold.name: self._find_fold(fold) for fold in protocol.folds}
        has_validation = False
        if "" not in self.epochs:
            validated = {
                fold.name: any(
                    id_ in found.of or id_ in found.missed
                    for found in named[fold.name].values()
                    for id_ in fold.validation
                )
                for fold in protocol.folds
            }
            has_validation = any(validated.values())
        for fold in protocol.folds:
            wanted = (*fold.test, *(fold.validation if has_validation else ()))
            # A fold of which the table has no row at all lacks all its utterances.
            epochs = named[fold.name] or {min(self.epochs[""]): Answers()}
            for epoch, found in epochs.items():
                missing = [id_ for id_ in wanted if id_ not in found.of and id_ not in found.missed]
                if missing:
                    raise ConfigError(
                        f"{self.place} has no row for {len(missing)} of {len(wanted)} utterances "
                        f"of fold {fold.name} at epoch {epoch}, such as "
                        f"{', '.join(missing[:MAX_EXAMPLES])}. Add them, for every epoch of the "
                        "fold; a row without an answer counts as an error"
                    )
        return named, has_validation

    def _find_fold(self, fold: Fold) -> dict[int, Answers]:
        """Return the answers of a fold by epoch: of the name, else of the same utterances."""
        if "" in self.epochs:  # all models together: each utterance is tested by one of them
            tested = {*fold.test}
            return {
                epoch: found
                for epoch, found in sorted(self.epochs[""].items())
                if tested & (found.of.keys() | found.missed.keys())
            }
        allowed = {*fold.test, *fold.validation}
        ids_of = {
            name: {id_ for found in epochs.values() for id_ in (*found.of, *found.missed)}
            for name, epochs in self.epochs.items()
        }
        names = [name for name in ids_of if name == fold.name] or [
            name for name, ids in ids_of.items() if ids in ({*fold.test}, allowed)
        ]
        if len(names) != 1:
            raise ConfigError(
                f"{self.place}: no fold of the column {FOLD_COLUMN} ({', '.join(ids_of)}) is the "
                f"fold {fold.name}. Call the folds as `serein protocols --corpus CORPUS -o "
                "folds.csv` does"
            )
        (name,) = names
        others = sorted(ids_of[name] - allowed)
        if others:
            raise ConfigError(
                f"{self.place}: fold {name} has rows for {len(others)} utterances that are in "
                f"neither its test nor its validation subset, such as "
                f"{', '.join(others[:MAX_EXAMPLES])}. Remove them, or train by the folds that "
                "`serein protocols --corpus CORPUS -o folds.csv` writes"
            )
        return dict(sorted(self.epochs[name].items()))

    def answer(self, utterances: Sequence[Utterance], on_step: StepCallback) -> Answers:
        """Return the answers of the table for utterances.

        Raises:
            ConfigError: some have no row.
        """
        ids = [utterance.id for utterance in utterances]
        missing = [id_ for id_ in ids if id_ not in self.found.of and id_ not in self.found.missed]
        if missing:
            raise ConfigError(
                f"{self.place} has no row for {len(missing)} of {len(ids)} tested utterances, such "
                f"as {', '.join(missing[:MAX_EXAMPLES])}. Add them; a row without an answer counts "
                "as an error. Or test fewer, with --set protocol.only.NAME=VALUE"
            )
        on_step(f"answers of {self.name}", len(ids), len(ids))
        wanted = {*ids}
        return Answers(
            {id_: shares for id_, shares in self.found.of.items() if id_ in wanted},
            {id_: reason for id_, reason in self.found.missed.items() if id_ in wanted},
            self.found.has_probabilities,
        )

    def check_folds(self, protocol: Protocol) -> None:
        """Check that the folds of the table test the utterances that those of a protocol test.

        Raises:
            ConfigError: they do not.
        """
        if not self.folds:
            return
        for fold in protocol.folds:
            given = Counter(self.folds.get(id_, "") for id_ in fold.test)
            trained = {self.folds.get(id_) for id_ in _tested_by_others(protocol, fold.name)}
            if len(given) > 1 or trained & set(given):
                raise ConfigError(
                    f"{self.place}: the column {FOLD_COLUMN} is not the split of {protocol.name}: "
                    f"the test subset of fold {fold.name} has {', '.join(sorted(given))}. Train by "
                    "the folds that `serein protocols --corpus CORPUS -o folds.csv` writes, or "
                    "remove the column"
                )


def _tested_by_others(protocol: Protocol, name: str) -> list[str]:
    """Return the ids that other folds test."""
    own = {id_ for fold in protocol.folds if fold.name == name for id_ in fold.test}
    tested = {id_ for fold in protocol.folds if fold.name != name for id_ in fold.test}
    return sorted(tested - own)


def is_prediction_table(source: object) -> bool:
    """Return whether a value is the path of a table, or a data frame."""
    is_file = isinstance(source, Path) and source.suffix.lower() in TABLE_SUFFIXES
    return is_file or table.is_frame(source)


def read_predictions(
    source: Path | Any,
    corpus: Corpus,
    *,
    task: str = "emotion",
    classes: Sequence[str] = (),
    renames: Mapping[str, str] | None = None,
    name: str | None = None,
) -> TableModel:
    """Read a table of predictions for the utterances of a corpus.

    Args:
        source: a table (.csv, .tsv, .jsonl, .parquet), or a data frame.
        corpus: whose utterances the rows name.
        task: name of the predicted label.
        classes: of the corpus.
        renames: class of each label that is spelled in another way.
        name: in reports; the default is the name of the file.

    Raises:
        ConfigError: the table cannot be read, has no such columns, or a row names no utterance of
            the corpus, one twice, or has no valid answer.
    """
    try:
        columns, rows = (
            table.read_rows(source) if isinstance(source, Path) else table.read_frame_rows(source)
        )
    except CorpusError as error:
        raise ConfigError(str(error)) from error
    place = str(source) if isinstance(source, Path) else "the table of predictions"
    name = name or (source.stem if isinstance(source, Path) else "predictions")
    if not rows:
        raise ConfigError(f"{place} has no rows; expected one for each utterance")
    id_column = _find_id_column(place, columns)
    probability_columns = _find_probabilities(columns, rows, task, {*classes, *(renames or {})})
    label_column = _find_column(columns, (*LABEL_COLUMNS, f"{task}_predicted", task))
    if not probability_columns and label_column is None:
        raise ConfigError(
            f"{place} has the columns {', '.join(columns)}; expected the answers in a column "
            f"'prediction', 'label' or {task!r}, or a column of probabilities for each class "
            f"({', '.join(classes)})"
        )
    names = _UtteranceNames(corpus.utterances)
    fold_column = _find_column(columns, (FOLD_COLUMN,))
    epoch_column = _find_column(columns, (EPOCH_COLUMN,))
    folds: dict[str, str] = {}
    epochs: dict[str, dict[int, Answers]] = {}
    if epoch_column is None:
        ids = _match_rows(place, id_column, rows, corpus, names)
        found = _read_answers(place, ids, probability_columns, label_column)
        if fold_column:
            folds = {id_: row.cells.get(fold_column, "") for id_, row in ids.items()}
    else:
        found = Answers(has_probabilities=bool(probability_columns))
        for (fold, epoch), own in _group_rows(place, rows, fold_column, epoch_column).items():
            ids = _match_rows(place, id_column, own, corpus, names)
            answers = _read_answers(place, ids, probability_columns, label_column)
            epochs.setdefault(fold, {})[epoch] = answers
            found.of |= answers.of
            found.missed |= answers.missed
    if not found.of:
        raise ConfigError(f"{place} has {len(rows)} rows, and none has an answer")
    digest = sha256(repr([(row.number, sorted(row.cells.items())) for row in rows]).encode())
    file = source.name if isinstance(source, Path) else "a data frame"
    meaning = f"the predictions in {file}, as they are"
    if folds or any(epochs):
        meaning += (
            "; the table names the fold of each; whether each fold's model was trained on its "
            "training subset alone is not checked"
        )
    return TableModel(
        name=name,
        meaning=meaning,
        labels=tuple(probability_columns.values()),
        key=[digest.hexdigest()],
        environment={"predictions": digest.hexdigest()[:16]},
        place=place,
        found=found,
        folds=folds,
        epochs=epochs,
    )


def _read_answers(
    place: str,
    ids: Mapping[str, table.Row],
    probability_columns: Mapping[str, str],
    label_column: str | None,
) -> Answers:
    """Return the answer in the row of each utterance id."""
    found = Answers(has_probabilities=bool(probability_columns))
    for id_, row in ids.items():
        where = f"{place}, row {row.number} ({id_})"
        if probability_columns:
            shares = {label: row.cells.get(column) for column, label in probability_columns.items()}
            given = {label: _parse_number(where, cell) for label, cell in shares.items() if cell}
            if given:
                found.of[id_] = check_probabilities(where, given)
                continue
        elif label_column is not None and row.cells.get(label_column):
            found.of[id_] = {row.cells[label_column]: 1.0}
            continue
        found.missed[id_] = row.cells.get("reason", NO_ANSWER)
    return found


def _group_rows(
    place: str, rows: Sequence[table.Row], fold_column: str | None, epoch_column: str
) -> dict[tuple[str, int], list[table.Row]]:
    """Return the rows of each fold and epoch; without a column of folds, the fold is empty.

    Raises:
        ConfigError: an epoch is no whole number, or a row lacks its fold.
    """
    groups: dict[tuple[str, int], list[table.Row]] = {}
    for row in rows:
        cell = row.cells.get(epoch_column, "")
        if not EPOCH_PATTERN.fullmatch(cell):
            raise ConfigError(
                f"{place}, row {row.number}: {epoch_column} is {cell!r}; expected a whole number"
            )
        fold = row.cells.get(fold_column, "") if fold_column else ""
        if fold_column and not fold:
            raise ConfigError(f"{place}, row {row.number}: {fold_column} is empty; expected a fold")
        groups.setdefault((fold, int(float(cell))), []).append(row)
    return groups


def _find_column(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the column with the first of several names, in any case; None without one."""
    lower = {column.lower(): column for column in columns}
    return next((lower[name] for name in names if name in lower), None)


def _find_id_column(place: str, columns: Sequence[str]) -> str:
    column = _find_column(columns, ID_COLUMNS)
    if column is None:
        raise ConfigError(
            f"{place} has the columns {', '.join(columns)}, and none names the utterances; call "
            "the one with their ids 'id', or the one with their files 'file'"
        )
    return column


def _find_probabilities(
    columns: Sequence[str], rows: Sequence[table.Row], task: str, known: set[str]
) -> dict[str, str]:
    """Return the label of each column of probabilities; empty for a table of labels."""
    numeric = [column for column in columns if _is_numeric(column, rows)]
    for prefix in (prefix.format(task=task) for prefix in PREFIXES):
        labels = {name: name[len(prefix) :] for name in numeric if name.startswith(prefix)}
        labels = {name: label for name, label in labels.items() if label not in NO_CLASS}
        if len(labels) > 1:
            return labels
    labels = {name: name for name in numeric if name.lower() not in OTHER_COLUMNS}
    if _find_column(columns, (*LABEL_COLUMNS, f"{task}_predicted", task)) is None:
        return labels
    classes = [name for name in labels if name in known or find_spelling(name, sorted(known))]
    return labels if len(classes) > 1 else {}


def _is_numeric(column: str, rows: Sequence[table.Row]) -> bool:
    cells = [row.cells[column] for row in rows if column in row.cells]
    return bool(cells) and any(table.NUMBER_PATTERN.fullmatch(cell) for cell in cells[:10])


def _parse_number(where: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        raise ConfigError(f"{where}: {cell!r} is no probability; expected 0 to 1") from None


def _match_rows(
    place: str,
    column: str,
    rows: Sequence[table.Row],
    corpus: Corpus,
    names: "_UtteranceNames",
) -> dict[str, table.Row]:
    """Return the row of each utterance id."""
    found: dict[str, table.Row] = {}
    unknown: list[tuple[table.Row, str]] = []
    for row in rows:
        text = row.cells.get(column)
        if text is None:
            raise ConfigError(
                f"{place}, row {row.number}: {column} is empty; expected an utterance"
            )
        ids = names.find(text)
        if len(ids) > 1:
            raise ConfigError(
                f"{place}, row {row.number}: {text} is the name of {len(ids)} utterances, "
                f"{', '.join(sorted(ids)[:MAX_EXAMPLES])}; give their ids in a column 'id'"
            )
        if not ids:
            unknown.append((row, text))
            continue
        (id_,) = ids
        if id_ in found:
            raise ConfigError(
                f"{place}: rows {found[id_].number} and {row.number} are both {id_}; keep one row "
                "for each utterance"
            )
        found[id_] = row
    if unknown:
        row, text = unknown[0]
        similar = names.suggest(text)
        guess = f"did you mean {similar}? " if similar else ""
        raise ConfigError(
            f"{place}, row {row.number}: {corpus.name} has no utterance {text}, and none for "
            f"{len(unknown)} of {len(rows)} rows; {guess}its ids are such as "
            f"{corpus.utterances[0].id}, of the file {corpus.utterances[0].path}"
        )
    return found


class _UtteranceNames:
    """Finds utterances by the names that tables have for them: ids, paths, names of files."""

    def __init__(self, utterances: Sequence[Utterance]) -> None:
        self.ids = {utterance.id for utterance in utterances}
        self.path_of = {utterance.id: utterance.path for utterance in utterances}
        self.by_file: dict[str, list[str]] = {}
        for utterance in utterances:
            for name in {utterance.path.name, utterance.path.stem}:
                self.by_file.setdefault(name, []).append(utterance.id)

    def find(self, text: str) -> list[str]:
        """Return the ids that a name may stand for: as an id, else as the end of a path."""
        if text in self.ids:
            return [text]
        path = PurePath(text.replace("\\", "/"))
        candidates = self.by_file.get(path.name, [])
        parts = tuple(part for part in path.parts if part not in ("/", "..", "."))
        fitting = [id_ for id_ in candidates if _ends_with(self.path_of[id_], parts)]
        # A table may have been written where the recordings lie in other folders.
        return fitting or candidates

    def suggest(self, text: str) -> str:
        """Return the id that is most similar to a name; empty if none is."""
        lower = {id_.lower(): id_ for id_ in self.ids}
        similar = get_close_matches(text.lower(), lower, n=1)
        return lower[similar[0]] if similar else ""


def _ends_with(path: Path, parts: tuple[str, ...]) -> bool:
    """Return whether a path, with or without its suffix, ends with these parts."""
    return parts in (path.parts[-len(parts) :], path.with_suffix("").parts[-len(parts) :])
