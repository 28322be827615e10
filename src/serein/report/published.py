"""A run next to the published results of its system: scores, confusion matrices, doubts."""

from collections.abc import Iterator, Mapping, Sequence

from serein import published
from serein.metrics.classification import macro_f1_from_confusion
from serein.metrics.scoring import nan_to_none
from serein.published import TRANSCRIPT, PublishedResult
from serein.report import figures, summary
from serein.report.table import Column, Row, Table, make_row, text_columns
from serein.results.evaluation import EXTERNAL, Results

TEST, DEVELOPMENT = "test", "development"
"""Subsets of published results; a row of the second one has this kind, too."""
METRIC_TITLES = {"wa": "WA", "ua": "UA", "f1": "macro F1", "wer": "WER"}
NOT_REPORTED = "not reported"
NO_UTTERANCES = "no utterance of this class"
DOUBTS_HEADING = "Contradictions and gaps in the paper"
MATRIX_NOTE = "Percent of each row; a row is a true class, a column a predicted class."

Scores = Mapping[str, float | None]


def get_followed_recipe(results: Results) -> str:
    """Return the recipe of the published system that this recipe is, or follows.

    A model or front end of the user's own follows no paper, even if its recipe extends one.
    """
    about = results.recipe.get("about", {})
    parts = [str(results.recipe.get(table, {}).get("name", "")) for table in ("model", "features")]
    if EXTERNAL in parts or any("." in part for part in parts):
        return ""
    return str(about.get("follows") or results.recipe.get("name", ""))


def list_published(results: Results) -> list[PublishedResult]:
    """Return the published results of this system."""
    return published.find_results(get_followed_recipe(results))


def list_doubts(results: Results) -> tuple[str, ...]:
    """Return contradictions and gaps in the paper's figures, text and code."""
    name = get_followed_recipe(results)
    return tuple(
        doubt
        for paper in published.load_papers()
        if any(row.recipe == name for row in paper.rows)
        for doubt in paper.doubts
    )


def build_published_tables(results: Results) -> list[Table]:
    """Build a table of this run and the published results for each task that both have."""
    own = own_scores(results, TEST)
    rows = list_published(results)
    printed = dict.fromkeys(task for row in rows for task in row.scores)
    tasks = [task for task in [*own, *printed] if task in own and task in printed]
    return [_published_table(results, task, rows) for task in dict.fromkeys(tasks)]


def own_scores(results: Results, subset: str) -> dict[str, dict[str, float | None]]:
    """Return the quoted scores of each classification task and of the transcripts.

    Args:
        results: of the run.
        subset: "test"; or "development" for the means over the validation subsets of the folds.
    """
    tasks = summary.list_classification_tasks(results)
    if subset == DEVELOPMENT:
        scores = results.validation_scores(results.headline)
        return {task: scores[task] for task in (*tasks, TRANSCRIPT) if task in scores}
    tested = {task: _test_scores(results, task) for task in tasks}
    words = results.words.get(results.headline)
    return {**tested, TRANSCRIPT: {"wer": words.wer}} if words else tested


def _test_scores(results: Results, task: str) -> dict[str, float | None]:
    scores = results.scores[results.headline][task]
    f1 = nan_to_none(macro_f1_from_confusion(scores.confusion))
    return {"wa": scores.wa, "ua": scores.ua, "f1": f1}


def _published_table(results: Results, task: str, rows: Sequence[PublishedResult]) -> Table:
    rows = [row for row in rows if task in row.scores]
    found = {name for row in rows for name in row.scores[task]}
    expected = {"wer"} if task == TRANSCRIPT else {"wa", "ua"}
    names = [name for name in METRIC_TITLES if name in found | expected]
    subsets = [name for name in (TEST, DEVELOPMENT) if any(row.subset == name for row in rows)]
    lines = [
        line
        for subset in subsets or [TEST]
        for line in (
            _own_row(results, task, subset, names),
            *(_published_row(row, task, names) for row in rows if row.subset == subset),
        )
    ]
    return Table(
        title=f"{_task_title(task)}: this run and published results, %",
        note="Scores of different corpora, protocols, subsets or selections of epochs cannot be "
        f"compared.{_describe_development(subsets)}",
        columns=(
            *text_columns("system", "subset", "corpus", "protocol", "selection"),
            *(Column(name=METRIC_TITLES[name], undefined_reason=NOT_REPORTED) for name in names),
        ),
        rows=tuple(lines),
    )


def _task_title(task: str) -> str:
    return "words" if task == TRANSCRIPT else task


def _describe_development(subsets: Sequence[str]) -> str:
    if DEVELOPMENT not in subsets:
        return ""
    return (
        " Development figures are of the subset on which settings or epochs were selected, and are "
        "no test scores; ours is the mean over the folds' validation subsets."
    )


def _own_row(results: Results, task: str, subset: str, names: Sequence[str]) -> Row:
    scores = own_scores(results, subset).get(task, {})
    return make_row(
        f"this run ({summary.format_title(results)})",
        subset,
        str(results.corpus.get("name", "")),
        str(results.protocol.get("name", "")),
        results.headline,
        *(summary.format_percent(scores.get(name)) for name in names),
        kind="headline" if subset == TEST else DEVELOPMENT,
    )


def _published_row(row: PublishedResult, task: str, names: Sequence[str]) -> Row:
    scores = {str(name): score for name, score in row.scores[task].items()}
    return make_row(
        f"{row.system} ({row.table})",
        row.subset,
        row.corpus,
        row.protocol,
        row.selection,
        *(format_printed(scores.get(name)) for name in names),
        kind="" if row.subset == TEST else DEVELOPMENT,
    )


def format_printed(score: float | None) -> str:
    """Format a printed figure in percent.

    >>> format_printed(75), format_printed(None)
    ('75.0', 'n/a')
    """
    return summary.format_percent(None) if score is None else f"{score:.1f}"


def build_matrix_tables(results: Results) -> list[Table]:
    """Build the published confusion matrices of this system, each followed by that of this run."""
    name = get_followed_recipe(results)
    task = summary.get_first_task(results)
    matrices = [
        matrix
        for paper in published.load_papers()
        for matrix in paper.matrices
        if matrix.recipe == name
    ]
    if not matrices or task not in summary.list_classification_tasks(results):
        return []
    classes, own = reorder_matrix(
        results.classes[task],
        results.scores[results.headline][task].confusion,
        matrices[0].classes,
    )
    return [
        *(
            build_matrix_table(
                f"{task}: published confusion matrix ({matrix.table})",
                matrix.classes,
                matrix.entries,
                matrix.note,
            )
            for matrix in matrices
        ),
        *(
            [build_matrix_table(f"{task}: confusion matrix of this run", classes, own)]
            if len(classes) <= figures.MAX_LABELLED_CLASSES
            else []
        ),
    ]


def reorder_matrix(
    classes: Sequence[str], counts: Sequence[Sequence[int]], order: Sequence[str]
) -> tuple[list[str], list[list[int]]]:
    """Put a confusion matrix in the order of another one that has the same classes.

    >>> reorder_matrix(["anger", "joy"], [[3, 1], [0, 2]], ["joy", "anger"])
    (['joy', 'anger'], [[2, 0], [1, 3]])
    """
    if sorted(order) != sorted(classes):
        order = classes
    places = [list(classes).index(name) for name in order]
    return list(order), [[counts[row][column] for column in places] for row in places]


def build_matrix_table(
    title: str, classes: Sequence[str], entries: Sequence[Sequence[float]], note: str = ""
) -> Table:
    """Build the table of a confusion matrix in percent of each row.

    Args:
        title: of the table.
        classes: K names of the rows and columns.
        entries: K rows of K counts or percentages.
        note: how the matrix was interpreted.
    """
    return Table(
        title=title,
        note=f"{MATRIX_NOTE} {note}".strip(),
        columns=(
            *text_columns("truth"),
            *(
                Column(name=name, is_shaded=True, undefined_reason=NO_UTTERANCES)
                for name in classes
            ),
        ),
        rows=tuple(
            make_row(name, *_format_shares(row)) for name, row in zip(classes, entries, strict=True)
        ),
    )


def _format_shares(row: Sequence[float]) -> Iterator[str]:
    total = sum(row)
    for entry in row:
        yield summary.format_percent(entry / total if total else None)
