"""Records of a reproduction: the tables of a paper as printed, and our runs of their rows.

Printed figures are in percent, ours are fractions.
"""

from dataclasses import dataclass, field
from typing import Any

Interval = tuple[float, float] | None
FINISHED, UNFINISHED, MISSING, FAILED = "finished", "unfinished", "missing", "failed"
"""States of a row: has figures; not all of it was run; lacks something; ended with an error."""
HELD, NOT_HELD, UNDECIDED = "held", "not held", "cannot be told"
"""Verdicts on a claim."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnScore:
    """One figure of ours.

    Attributes:
        value: the mean over seeds; None is undefined.
        deviation: the standard deviation over seeds; None with one seed.
        interval: the 95 % interval; None with several seeds, and where none was computed.
    """

    value: float | None
    deviation: float | None = None
    interval: Interval = None


OwnScores = dict[str, dict[str, dict[str, OwnScore]]]
"""Figures by subset ("test", "development"), task and metric."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnMatrix:
    """A confusion matrix of ours.

    Attributes:
        classes: names of the rows and columns.
        counts: K rows of K counts, summed over seeds; rows are true classes.
    """

    classes: list[str]
    counts: list[list[int]]


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnResult:
    """What we have for a row.

    Attributes:
        variant: "paper", or the name of another way to run the row.
        state: "finished", "unfinished", "missing" or "failed".
        reason: why there are no figures, in one line; empty if there are.
        recipe: the recipe.
        settings: its changes.
        corpus: names of the corpora, as one.
        runs: names of the run folders, one for each seed.
        seeds: of the runs.
        utterances: number of tested utterances.
        protocol: name of the split.
        folds: number of folds.
        caution: what a reader must know first; usually empty.
        headline: the selection to quote.
        selections: meaning of each selection.
        scores: for each selection, its figures.
        confusions: for each classification task, the confusion matrix of the headline.
        changed: settings that differ from those of the paper's recipe: name, the value there, the
            value here.
        environment: versions, device and machine of the first run.
        warnings: of the runs.
    """

    variant: str
    state: str
    reason: str = ""
    recipe: str
    settings: list[str] = field(default_factory=list)
    corpus: str = ""
    runs: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    utterances: int = 0
    protocol: str = ""
    folds: int = 0
    caution: str = ""
    headline: str = ""
    selections: dict[str, str] = field(default_factory=dict)
    scores: dict[str, OwnScores] = field(default_factory=dict)
    confusions: dict[str, OwnMatrix] = field(default_factory=dict)
    changed: list[tuple[str, str, str]] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReproducedRow:
    """A row of a table as printed, with what we have for it.

    Attributes:
        table: name of the table.
        system: name of the system in the paper.
        recipe: the recipe of the system; empty for work that the paper cites.
        corpus: the corpus, in the paper's words.
        protocol: the split, in the paper's words.
        selections: for each subset, how the epoch was selected, if that is known.
        utterances: for each subset, the number of scored utterances, if the paper gives it.
        printed: for each subset, task and metric, the printed figure in percent.
        significant: for each subset, the tasks that the paper marks as significantly better.
        own: our results; one for each variant.
    """

    table: str
    system: str
    recipe: str
    corpus: str
    protocol: str
    selections: dict[str, str]
    utterances: dict[str, int]
    printed: dict[str, dict[str, dict[str, float]]]
    significant: dict[str, list[str]]
    own: list[OwnResult]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReproducedMatrix:
    """A confusion matrix as printed, and ours of the same system.

    Attributes:
        table: name of the table.
        system: name of the system in the paper.
        classes: names of the rows and columns.
        entries: K rows of K printed counts or percentages.
        note: how the printed matrix was interpreted.
        own: for each variant, our matrix.
    """

    table: str
    system: str
    classes: list[str]
    entries: list[list[float]]
    note: str
    own: dict[str, OwnMatrix]


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedClaim:
    """A statement of a paper, and our test of it.

    Attributes:
        text: the statement, in our words.
        section: where the paper states it.
        measure: what is compared, such as "emotion.ua".
        first: the system that the statement is about.
        second: the system that it is compared with.
        variant: the variant of our runs.
        printed: printed figures of the first and the second, in percent; None is not printed.
        own: our figures of both; None is not known, or a figure of cited work.
        difference: own figure of the first minus that of the second, or minus the printed figure of
            cited work.
        interval: 95 % interval of ``difference``.
        method: how the interval was computed.
        p: of the paired permutation test; None if it was not done.
        adjusted: ``p`` after Holm's correction over all claims of a variant.
        unit: what the test swaps.
        verdict: "held", "not held" or "cannot be told".
        reason: for the verdict.
    """

    text: str
    section: str
    measure: str
    first: str
    second: str
    variant: str
    printed: tuple[float | None, float | None]
    own: tuple[float | None, float | None] = (None, None)
    difference: float | None = None
    interval: Interval = None
    method: str = ""
    p: float | None = None
    adjusted: float | None = None
    unit: str = ""
    verdict: str = UNDECIDED
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reproduction:
    """The tables of a paper beside our runs; the content of ``reproduction.json``.

    Attributes:
        format: version of this layout.
        name: of its folder.
        command: the command that was typed.
        created: time of its end, ISO 8601, UTC.
        paper: name of the paper.
        citation: authors and year.
        title: title of the paper.
        venue: where it was published.
        corpora: for each corpus of the paper, the title of the one that was used.
        tables: names of the reproduced tables.
        variants: for each variant, what differs from the paper's own.
        rows: of the tables, in the paper's order.
        matrices: the confusion matrices.
        claims: the statements.
        doubts: inconsistencies of the printed figures with each other, the text or the code.
        choices: for each recipe, the paragraphs of its head about the paper and our choices.
        warnings: limits of the reproduction, a sentence each.
    """

    format: int
    name: str
    command: str
    created: str
    paper: str
    citation: str
    title: str
    venue: str
    corpora: dict[str, str]
    tables: list[str]
    variants: dict[str, str]
    rows: list[ReproducedRow]
    matrices: list[ReproducedMatrix]
    claims: list[JudgedClaim]
    doubts: list[str]
    choices: dict[str, list[str]]
    warnings: list[str]

    @property
    def stand_ins(self) -> dict[str, str]:
        """Titles of corpora that stand in for others of the paper."""
        return {theirs: ours for theirs, ours in self.corpora.items() if ours != theirs}
