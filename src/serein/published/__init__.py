"""What the papers printed: every row of their result tables, their matrices, and our doubts.

One TOML file a paper. Figures are per cent, as printed, so that whoever compares knows to how many
digits they hold. What a paper's figures say against each other stands in its ``doubts``, and the
tests compute it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from serein import config
from serein.errors import ConfigError

FOLDER = Path(__file__).parent

Metric = Literal["wa", "ua", "f1", "wer"]
Percent = Annotated[float, Ge(0)]


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedResult:
    """One system's scores, as one line of a paper gives them.

    Attributes:
        table: where it stands, such as "Table 2".
        system: in the paper's words; a quoted system with its source.
        corpus: what was tested on.
        protocol: how it was split, in the paper's words where it has any.
        scores: for each task, its metrics in per cent: "wa", "ua", "f1" (higher is better) and
            "wer" (lower is better).
        recipe: of this package that builds the system; None for work that the paper quotes.
        side: which part of the split was scored.
        utterances: how many were scored; None where the paper does not say.
        selection: how the epoch was chosen, as far as anybody knows.
        significant: tasks that the paper marks as significantly better than its baseline.
    """

    table: str
    system: str
    corpus: str
    protocol: str
    scores: dict[str, dict[Metric, Percent]]
    recipe: str | None = None
    subset: Literal["test", "development"] = "test"
    utterances: Annotated[int, Gt(0)] | None = None
    selection: str = ""
    significant: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfusionMatrix:
    """A confusion matrix; a row is a true class, a column an answer.

    Attributes:
        table: where it stands.
        recipe: of this package that builds the system.
        classes: of rows and columns.
        unit: what the entries are; "percent" is of each row.
        entries: K rows of K.
        totals: utterances of each true class, where the entries are percentages.
        note: how it was read.
    """

    table: str
    recipe: str
    classes: list[str]
    unit: Literal["counts", "percent"]
    entries: list[list[Percent]]
    totals: list[Annotated[int, Gt(0)]] = field(default_factory=list)
    note: str = ""

    def counts(self) -> list[list[int]]:
        """The entries as whole utterances; percentages by way of ``totals``."""
        scales = [total / 100 for total in self.totals] or [1.0] * len(self.entries)
        rows = zip(self.entries, scales, strict=True)
        return [[round(entry * scale) for entry in row] for row, scale in rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class Paper:
    """A paper and its figures.

    Attributes:
        name: of its file here, and of the recipe of its full system.
        title: of the paper.
        authors: by last name.
        year: of publication.
        venue: where it appeared.
        doubts: what its figures say against each other, its text or its code.
        rows: of all its tables of results.
        matrices: its confusion matrices.
    """

    name: str
    title: str
    authors: list[str]
    year: int
    venue: str
    doubts: list[str]
    rows: list[PublishedResult]
    matrices: list[ConfusionMatrix]


def load_papers() -> list[Paper]:
    """Every paper of this package, sorted by name.

    >>> [paper.name for paper in load_papers()]
    ['feng2020', 'fu2020', 'li2019', 'zhang2019']
    """
    return [from_table(file.stem, config.read_toml(file)) for file in sorted(FOLDER.glob("*.toml"))]


def find_results(recipe: str) -> list[PublishedResult]:
    """What was published of a recipe's system; empty for a recipe of our own.

    >>> [row.scores["emotion"] for row in find_results("li2019")]
    [{'wa': 81.6, 'ua': 82.8}]
    """
    return [row for paper in load_papers() for row in paper.rows if row.recipe == recipe]


def format_result(row: PublishedResult) -> str:
    """A row in one line.

    >>> format_result(find_results("li2019")[0])
    'WA 81.6, UA 82.8 (IEMOCAP, leave-one-session-out)'
    """
    shared = len(row.scores) == 1
    parts = [
        f"{'' if shared else f'{task} '}{metric.upper()} {value}"
        for task, metrics in row.scores.items()
        for metric, value in metrics.items()
    ]
    where = (text.partition(":")[0] for text in (row.corpus, row.protocol))
    return f"{', '.join(parts)} ({', '.join(where)})"


def from_table(name: str, table: Mapping[str, Any]) -> Paper:
    """Make a paper of its TOML file, where rows share what stands above them.

    Raises:
        UnknownName: a setting that papers, rows or matrices do not have.
        ConfigError: a value is missing, of the wrong type, or does not fit the others.
    """
    parts = dict(table)
    found = [row for part in parts.pop("tables", []) for row in _parse_rows(name, part)]
    matrices = [_parse_matrix(name, part) for part in parts.pop("matrices", [])]
    whole = {"doubts": [], **parts, "name": name, "rows": found, "matrices": matrices}
    return config.build_config(Paper, whole, f"paper {name}")


def _parse_rows(name: str, table: Mapping[str, Any]) -> list[PublishedResult]:
    shared = {key: value for key, value in table.items() if key != "rows"}
    where = f"{shared.get('table', 'a table')} of {name}"
    return [
        config.build_config(PublishedResult, config.merge_tables(shared, row), where)
        for row in table.get("rows", [])
    ]


def _parse_matrix(name: str, table: Mapping[str, Any]) -> ConfusionMatrix:
    matrix = config.build_config(ConfusionMatrix, table, f"matrix of {name}")
    sides = {len(matrix.classes), len(matrix.entries), *map(len, matrix.entries)}
    if len(sides) > 1:
        raise ConfigError(f"{matrix.table} of {name} has sides {sorted(sides)}; expected a square")
    wanted = len(matrix.classes) if matrix.unit == "percent" else 0
    if len(matrix.totals) != wanted:
        found = f"{len(matrix.totals)} totals for {len(matrix.classes)} classes"
        raise ConfigError(
            f"{matrix.table} of {name} has {found}; expected {wanted} ({matrix.unit})"
        )
    return matrix
