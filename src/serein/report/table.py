"""Tables that every format of a report renders."""

from dataclasses import dataclass

UNDEFINED = "n/a"
"""Text of a cell without a value."""
MAX_TEXT_WIDTH = 24
"""Characters in a line of a text column, where a table is split for the terminal."""
NO_SCORE = "undefined: nothing was scored"
NO_INTERVAL = (
    "no interval: the score is undefined, of one speaker, or the same without each speaker"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: its header.
        group: header above this and the neighbouring columns of the same group.
        is_text: whether it is left-aligned text rather than right-aligned numbers.
        has_bar: whether an HTML page also draws its percentages as bars.
        is_shaded: whether an HTML page also shades its cells by their percentages.
        undefined_reason: why a cell may be `UNDEFINED`.
    """

    name: str
    group: str = ""
    is_text: bool = False
    has_bar: bool = False
    is_shaded: bool = False
    undefined_reason: str = NO_SCORE

    @property
    def heading(self) -> str:
        """Group and name in one line."""
        return f"{self.group} {self.name}".strip()


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        cells: one for each column; the first one names the row.
        kind: "headline", "optimistic", "development", "baseline" or a verdict, for the style of
            the row; the text says the same.
    """

    cells: tuple[str, ...]
    kind: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table.

    Attributes:
        title: its title.
        note: sentences that explain it; may be empty.
        columns: from left to right.
        rows: from top to bottom.
    """

    title: str
    note: str = ""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def describe_undefined(self) -> str:
        """Say why cells are `UNDEFINED`, for formats that cannot show it at the cell; or empty."""
        reasons: dict[str, list[str]] = {}
        for index, column in enumerate(self.columns):
            cells = [row.cells[index] for row in self.rows if index < len(row.cells)]
            if not column.is_text and UNDEFINED in cells:
                reasons.setdefault(column.undefined_reason, []).append(column.heading)
        return " ".join(
            f"{UNDEFINED} of {', '.join(names)}: {reason}." for reason, names in reasons.items()
        )

    @property
    def groups(self) -> list[tuple[str, list[Column]]]:
        """Group names and neighbouring columns; a column without a group is on its own."""
        groups: list[tuple[str, list[Column]]] = []
        for column in self.columns:
            if column.group and groups and groups[-1][0] == column.group:
                groups[-1][1].append(column)
            else:
                groups.append((column.group, [column]))
        return groups


def text_columns(*names: str) -> tuple[Column, ...]:
    """Create columns of text.

    >>> [column.is_text for column in text_columns("what", "value")]
    [True, True]
    """
    return tuple(Column(name=name, is_text=True) for name in names)


def number_columns(*names: str, undefined_reason: str = NO_SCORE) -> tuple[Column, ...]:
    """Create columns of numbers."""
    return tuple(Column(name=name, undefined_reason=undefined_reason) for name in names)


def make_interval_column() -> Column:
    """Create the column of a score's interval."""
    return Column(name="interval", undefined_reason=NO_INTERVAL)


def make_row(*cells: str, kind: str = "") -> Row:
    """Create a row from its cells."""
    return Row(cells=cells, kind=kind)


def split_columns(table: Table, width: int = 80, gap: int = 2) -> list[Table]:
    """Divide the columns of numbers among tables that fit in a width; the text is in each.

    Columns of text may wrap between words and take at most 24 characters each, or their longest
    word.

    Args:
        table: its columns of text come first.
        width: of a line, in characters.
        gap: between columns, in characters.
    """
    texts = [index for index, column in enumerate(table.columns) if column.is_text]
    numbers = [index for index, column in enumerate(table.columns) if not column.is_text]
    room = width - sum(_measure_text(table, index) + gap for index in texts)
    parts: list[list[int]] = [[]]
    left = room
    for index in numbers:
        needed = max(map(len, _list_texts(table, index))) + gap
        if parts[-1] and needed - gap > left:
            parts.append([])
            left = room
        parts[-1].append(index)
        left -= needed
    return [
        Table(
            title=table.title if number == 0 else f"{table.title}, continued",
            note=table.note if number == len(parts) - 1 else "",
            columns=tuple(table.columns[index] for index in (*texts, *part)),
            rows=tuple(
                Row(cells=tuple(row.cells[index] for index in (*texts, *part)), kind=row.kind)
                for row in table.rows
            ),
        )
        for number, part in enumerate(parts)
    ]


def _list_texts(table: Table, index: int) -> list[str]:
    return [table.columns[index].heading, *(row.cells[index] for row in table.rows)]


def _measure_text(table: Table, index: int) -> int:
    """Return the width that a column of text takes."""
    texts = _list_texts(table, index)
    longest_word = max((len(word) for text in texts for word in text.split()), default=0)
    return max(longest_word, min(MAX_TEXT_WIDTH, max(map(len, texts))))
