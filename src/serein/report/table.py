"""A table before it is known where it is shown: in a terminal, on a page, in a paper."""

from dataclasses import dataclass

UNDEFINED = "n/a"
"""What stands in a cell whose number does not exist."""
NO_SCORE = "undefined: nothing was scored"
NO_INTERVAL = "no interval: the score is undefined, or none was made"


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """What stands below a head.

    Attributes:
        name: the head.
        group: what it shares with its neighbours, written above them.
        words: whether it holds words, set flush left, rather than numbers.
        bar: whether a page draws its percentages as bars, too.
        undefined: why a cell may be `UNDEFINED`.
    """

    name: str
    group: str = ""
    is_text: bool = False
    has_bar: bool = False
    undefined_reason: str = NO_SCORE

    @property
    def heading(self) -> str:
        """The head in one line."""
        return f"{self.group} {self.name}".strip()


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line.

    Attributes:
        cells: one for each column; the first one names the row.
        kind: "headline", "optimistic", "baseline", or a verdict: how it is set off, never alone.
    """

    cells: tuple[str, ...]
    kind: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Columns and rows.

    Attributes:
        title: what the table shows.
        note: what must be known to read it; empty or a sentence.
        columns: from left to right.
        rows: from the top.
    """

    title: str
    note: str = ""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def groups(self) -> list[tuple[str, list[Column]]]:
        """Neighbouring columns with their common head; a column of no group stands alone."""
        found: list[tuple[str, list[Column]]] = []
        for column in self.columns:
            if column.group and found and found[-1][0] == column.group:
                found[-1][1].append(column)
            else:
                found.append((column.group, [column]))
        return found


def text_columns(*names: str) -> tuple[Column, ...]:
    """Columns of words.

    >>> [column.is_text for column in text_columns("what", "value")]
    [True, True]
    """
    return tuple(Column(name=name, is_text=True) for name in names)


def number_columns(*names: str, undefined_reason: str = NO_SCORE) -> tuple[Column, ...]:
    """Columns of numbers."""
    return tuple(Column(name=name, undefined_reason=undefined_reason) for name in names)


def make_interval_column() -> Column:
    """The column beside a score."""
    return Column(name="interval", undefined_reason=NO_INTERVAL)


def make_row(*cells: str, kind: str = "") -> Row:
    """A line of cells."""
    return Row(cells=cells, kind=kind)
