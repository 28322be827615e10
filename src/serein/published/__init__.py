"""Published results of the papers: the rows of their tables, confusion matrices, claims, doubts.

One TOML file per paper. Figures are in per cent, with the digits that the paper prints. ``doubts``
lists inconsistencies of a paper's figures with each other, its text or its code; the tests
recompute them. Each row of the paper's own systems names the recipe and the settings with which
`serein reproduce` runs it; each claim names the two rows that it compares.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

from annotated_types import Ge, Gt

from serein import config
from serein.errors import ConfigError, UnknownName

FOLDER = Path(__file__).parent

Metric = Literal["wa", "ua", "f1", "wer"]
Subset = Literal["test", "development"]
Percent = Annotated[float, Ge(0)]
TRANSCRIPT = "transcript"
"""The task of systems that recognise words."""
OWN_VARIANT = "paper"
"""Name of the variant that has the paper's own protocol and selection."""
RECALL = "recall"
"""The metric of a claim about one class: ``emotion.recall.anger``."""


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
        settings: changes of the recipe for this row.
        corpora: names of the corpora that the row needs, the tested one first; empty is the first
            corpus of the paper.
        transcribes: whether the system only recognises words, and is scored by transcription.
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
    settings: list[str] = field(default_factory=list)
    corpora: list[str] = field(default_factory=list)
    transcribes: bool = False
    subset: Subset = "test"
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
class Claim:
    """A statement of a paper that compares two rows of its tables.

    Attributes:
        text: the statement, in our words.
        section: where the paper states it.
        first: the system that the statement is about.
        second: the system that it is compared with.
        table: the table of the first row.
        second_table: the table of the second row; empty is the same table.
        measures: what is compared, such as "emotion.ua", "transcript.wer" or
            "emotion.recall.anger".
        margin: the statement is that both differ by less than these points; None is that the first
            is better.
    """

    text: str
    section: str
    first: str
    second: str
    table: str
    second_table: str = ""
    measures: list[str]
    margin: Annotated[float, Gt(0)] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """Another way to run a paper's rows, such as with validation speakers.

    Attributes:
        name: on the command line.
        description: what differs from the paper's own, as a clause.
        settings: changes of every recipe, after those of the row.
        tables: the tables whose rows it changes; empty is all of them.
    """

    name: str
    description: str
    settings: list[str]
    tables: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class Paper:
    """A paper and its published results.

    Attributes:
        name: of its TOML file, and of the recipe of its full system.
        title: of the paper.
        authors: last names.
        year: of publication.
        venue: conference or journal.
        corpora: names of its corpora, the main one first.
        doubts: inconsistencies of its figures with each other, its text or its code.
        rows: of all its tables of results.
        matrices: its confusion matrices.
        claims: its statements that compare two rows.
        variants: other ways to run its rows.
    """

    name: str
    title: str
    authors: list[str]
    year: int
    venue: str
    corpora: list[str]
    doubts: list[str]
    rows: list[PublishedResult]
    matrices: list[ConfusionMatrix]
    claims: list[Claim]
    variants: list[Variant]

    @property
    def citation(self) -> str:
        """Authors and year."""
        return f"{', '.join(self.authors)} {self.year}"

    def list_tables(self) -> list[str]:
        """Return the names of the tables of results, those of confusion matrices last."""
        tables = [*(row.table for row in self.rows), *(matrix.table for matrix in self.matrices)]
        return list(dict.fromkeys(tables))

    def find_row(self, table: str, system: str) -> PublishedResult:
        """Return the row of a system in a table, that of the test subset if there are two.

        Raises:
            UnknownName: the table has no such system.
        """
        rows = [row for row in self.rows if row.table == table]
        found = [row for row in rows if row.system == system]
        if not found:
            raise UnknownName(f"system of {table}", system, [row.system for row in rows])
        return next((row for row in found if row.subset == "test"), found[0])


def load_paper(name: str) -> Paper:
    """Load one paper.

    Raises:
        UnknownName: there is no paper of that name.
        ConfigError: its file has a fault.
    """
    file = FOLDER / f"{name}.toml"
    names = sorted(path.stem for path in FOLDER.glob("*.toml"))
    if name not in names:
        raise UnknownName("paper", name, names)
    return from_table(name, config.read_toml(file))


def load_papers() -> list[Paper]:
    """Load every paper of this package, sorted by name.

    >>> [paper.name for paper in load_papers()]
    ['feng2020', 'fu2020', 'li2019', 'zhang2019']
    """
    return [load_paper(file.stem) for file in sorted(FOLDER.glob("*.toml"))]


def find_results(recipe: str) -> list[PublishedResult]:
    """Return the published results of a recipe's system; empty for a recipe of our own.

    A result that is printed in two tables is returned once.

    >>> [row.scores for row in find_results("li2019")]
    [{'emotion': {'wa': 81.6, 'ua': 82.8}}, {'gender': {'wa': 75.0}}]
    """
    rows = [row for paper in load_papers() for row in paper.rows if row.recipe == recipe]
    return [
        row
        for index, row in enumerate(rows)
        if not any(_is_same_result(row, earlier) for earlier in rows[:index])
    ]


def _is_same_result(row: PublishedResult, other: PublishedResult) -> bool:
    return (row.scores, row.corpus, row.subset) == (other.scores, other.corpus, other.subset)


def format_result(row: PublishedResult) -> str:
    """Format a result in one line.

    >>> format_result(find_results("li2019")[0])
    'WA 81.6, UA 82.8 (IEMOCAP, leave-one-session-out)'
    """
    is_main = list(row.scores) in (["emotion"], ["transcript"])
    parts = [
        f"{'' if is_main else f'{task} '}{metric.upper()} {value}"
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
    claims = [
        config.build_config(Claim, part, f"claim of {name}") for part in fields.pop("claims", [])
    ]
    variants = [
        config.build_config(Variant, part, f"variant of {name}")
        for part in fields.pop("variants", [])
    ]
    records = {"rows": rows, "matrices": matrices, "claims": claims, "variants": variants}
    fields = {"doubts": [], "corpora": [], **fields, "name": name, **records}
    paper: Paper = config.build_config(Paper, fields, f"paper {name}")
    for claim in claims:
        _check_claim(paper, claim)
    return paper


def _check_claim(paper: Paper, claim: Claim) -> None:
    """Check that a claim compares two rows of the paper by what can be measured."""
    paper.find_row(claim.table, claim.first)
    paper.find_row(claim.second_table or claim.table, claim.second)
    for measure in claim.measures:
        parse_measure(measure)


class Measure(NamedTuple):
    """What a claim compares.

    Attributes:
        task: a task, or "transcript".
        metric: "wa", "ua", "f1", "wer" or "recall".
        label: the class of a recall; else empty.
    """

    task: str
    metric: str
    label: str = ""


def parse_measure(text: str) -> Measure:
    """Parse what a claim compares.

    >>> parse_measure("emotion.ua"), parse_measure("emotion.recall.anger").label
    (Measure(task='emotion', metric='ua', label=''), 'anger')

    Raises:
        ConfigError: there is no such metric.
    """
    task, _, name = text.partition(".")
    metric, _, label = name.partition(".")
    metrics = get_args(Metric)
    if metric not in ((RECALL,) if label else metrics):
        raise ConfigError(
            f"a claim compares {text!r}; expected TASK.METRIC with one of {', '.join(metrics)}, or "
            f"TASK.{RECALL}.CLASS"
        )
    return Measure(task, metric, label)


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
