"""Published results of the papers: the rows of their tables, confusion matrices, and our doubts.

One TOML file per paper. Figures are in per cent, with the digits that the paper prints. ``doubts``
lists inconsistencies of a paper's figures with each other, its text or its code; the tests
recompute them.
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
    """The scores of one system, from one row of a table.

    Attributes:
        table: its name in the paper, such as "Table 2".
        system: its name in the paper; a cited system includes its source.
        corpus: the test corpus.
        protocol: how the corpus was split, in the paper's words if it has any.
        scores: for each task, its metrics in per cent: "wa", "ua", "f1" (higher is better) and
            "wer" (lower is better).
        recipe: the recipe of this package for the system; None for work that the paper cites.
        subset: the subset that was scored.
        utterances: number of scored utterances; None if the paper does not give it.
        selection: how the epoch was selected, if it is known.
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
    """A confusion matrix; rows are true classes, columns are predictions.

    Attributes:
        table: its name in the paper.
        recipe: the recipe of this package for the system.
        classes: names of the rows and columns.
        unit: of the entries; "percent" is relative to the sum of each row.
        entries: K rows of K numbers.
        totals: number of utterances of each true class, if the entries are percentages.
        note: how the printed matrix was interpreted.
    """

    table: str
    recipe: str
    classes: list[str]
    unit: Literal["counts", "percent"]
    entries: list[list[Percent]]
    totals: list[Annotated[int, Gt(0)]] = field(default_factory=list)
    note: str = ""

    def counts(self) -> list[list[int]]:
        """Return the entries as numbers of utterances; percentages are multiplied by ``totals``."""
        scales = [total / 100 for total in self.totals] or [1.0] * len(self.entries)
        rows = zip(self.entries, scales, strict=True)
        return [[round(entry * scale) for entry in row] for row, scale in rows]


@dataclass(frozen=True, kw_only=True, slots=True)
class Paper:
    """A paper and its published results.

    Attributes:
        name: of its TOML file, and of the recipe of its full system.
        title: of the paper.
        authors: last names.
        year: of publication.
        venue: conference or journal.
        doubts: inconsistencies of its figures with each other, its text or its code.
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
    """Load every paper of this package, sorted by name.

    >>> [paper.name for paper in load_papers()]
    ['feng2020', 'fu2020', 'li2019', 'zhang2019']
    """
    return [from_table(file.stem, config.read_toml(file)) for file in sorted(FOLDER.glob("*.toml"))]


def find_results(recipe: str) -> list[PublishedResult]:
    """Return the published results of a recipe's system; empty for a recipe of our own.

    >>> [row.scores["emotion"] for row in find_results("li2019")]
    [{'wa': 81.6, 'ua': 82.8}]
    """
    return [row for paper in load_papers() for row in paper.rows if row.recipe == recipe]


def format_result(row: PublishedResult) -> str:
    """Format a result in one line.

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
    """Build a paper from its TOML file, whose rows inherit the fields of their table.

    Raises:
        UnknownName: a field that papers, rows or matrices do not have.
        ConfigError: a value is missing, has the wrong type, or contradicts the others.
    """
    fields = dict(table)
    rows = [row for part in fields.pop("tables", []) for row in _parse_rows(name, part)]
    matrices = [_parse_matrix(name, part) for part in fields.pop("matrices", [])]
    fields = {"doubts": [], **fields, "name": name, "rows": rows, "matrices": matrices}
    return config.build_config(Paper, fields, f"paper {name}")


def _parse_rows(name: str, table: Mapping[str, Any]) -> list[PublishedResult]:
    shared = {key: value for key, value in table.items() if key != "rows"}
    where = f"{shared.get('table', 'a table')} of {name}"
    return [
        config.build_config(PublishedResult, config.merge_tables(shared, row), where)
        for row in table.get("rows", [])
    ]


def _parse_matrix(name: str, table: Mapping[str, Any]) -> ConfusionMatrix:
    matrix = config.build_config(ConfusionMatrix, table, f"matrix of {name}")
    sizes = {len(matrix.classes), len(matrix.entries), *map(len, matrix.entries)}
    if len(sizes) > 1:
        raise ConfigError(f"{matrix.table} of {name} has sizes {sorted(sizes)}; expected a square")
    expected = len(matrix.classes) if matrix.unit == "percent" else 0
    if len(matrix.totals) != expected:
        count = f"{len(matrix.totals)} totals for {len(matrix.classes)} classes"
        raise ConfigError(
            f"{matrix.table} of {name} has {count}; expected {expected} ({matrix.unit})"
        )
    return matrix
