"""How well a model that finds words found them, and what it heard where it was most wrong."""

from serein.labels.vocabulary import normalize_text
from serein.metrics.word_error_rate import count_word_errors
from serein.report.summary import format_percent
from serein.report.table import (
    Column,
    Row,
    Table,
    make_interval_column,
    make_row,
    number_columns,
    text_columns,
)
from serein.report.tables import format_interval_cell
from serein.results.evaluation import Prediction, Results
from serein.transcripts import WordScores

MAX_TRANSCRIPTS = 12
"""How many transcripts a report shows."""


def build_word_table(results: Results) -> Table | None:
    """The word error rate of every selection; None where nobody looked for words."""
    if not results.words:
        return None
    first = next(iter(results.words.values()))
    return Table(
        title="words: error rate, %",
        note=f"Pooled over utterances, in lower case and without punctuation; {first.interval}. "
        f"{describe_closed_set(first)}",
        columns=(
            *text_columns("selection"),
            Column(name="WER"),
            make_interval_column(),
            *number_columns("substitutions", "deletions", "insertions", "words"),
        ),
        rows=tuple(_word_row(name, one, results) for name, one in results.words.items()),
    )


def _word_row(name: str, one: WordScores, results: Results) -> Row:
    counts = one.substitutions, one.deletions, one.insertions, one.words
    kind = "headline" if name == results.headline else ""
    return make_row(
        name,
        format_percent(one.wer),
        format_interval_cell(one.wer_interval),
        *map(str, counts),
        kind=kind,
    )


def describe_closed_set(scores: WordScores) -> str:
    """Whether the sentences were known from training, in a sentence.

    Args:
        scores: of tested utterances.
    """
    if not scores.closed:
        return "No tested sentence was spoken in training."
    return (
        f"Closed set: {scores.sentences} sentences are all that is said here, and in "
        f"{scores.closed} cases a fold's training side holds a sentence that it tests; this rate "
        "says little of other sentences (protocol.disjoint=text with protocol.groups=2 splits "
        "them)."
    )


def build_transcript_table(results: Results) -> Table | None:
    """What was heard of the utterances with most errors, at the headline's epochs."""
    heard = [one for one in results.predictions if one.text is not None and one.heard]
    ranked = sorted(heard, key=lambda one: (-_count_errors(one, results.headline), one.id))[
        :MAX_TRANSCRIPTS
    ]
    if not ranked:
        return None
    return Table(
        title=f"words: the transcripts with most errors, {results.headline}",
        columns=(*text_columns("utterance", "said", "heard"), *number_columns("errors")),
        rows=tuple(
            make_row(
                one.id,
                one.text or "",
                one.heard[results.headline] or "(nothing)",
                str(_count_errors(one, results.headline)),
            )
            for one in ranked
        ),
    )


def _count_errors(one: Prediction, selection: str) -> int:
    counts = count_word_errors([normalize_text(one.text or "")], [one.heard[selection]])
    return int(counts[0, :3].sum())
