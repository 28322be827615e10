"""How well a model that finds words found them, and what it heard where it was most wrong."""

from serein.metrics.transcription import word_errors
from serein.report.summary import percent
from serein.report.table import Column, Row, Table, interval_column, numbers, row, words
from serein.report.tables import bracket
from serein.results import Prediction, Results
from serein.transcripts import WordScores
from serein.vocabulary import normalised

MOST = 12
"""How many transcripts a report shows."""


def table(results: Results) -> Table | None:
    """The word error rate of every selection; None where nobody looked for words."""
    if not results.words:
        return None
    first = next(iter(results.words.values()))
    return Table(
        title="words: error rate, %",
        note=f"Pooled over utterances, in lower case and without punctuation; {first.interval}. "
        f"{closed(first)}",
        columns=(
            *words("selection"),
            Column(name="WER"),
            interval_column(),
            *numbers("substitutions", "deletions", "insertions", "words"),
        ),
        rows=tuple(_row(name, one, results) for name, one in results.words.items()),
    )


def _row(name: str, one: WordScores, results: Results) -> Row:
    counts = one.substitutions, one.deletions, one.insertions, one.words
    kind = "headline" if name == results.headline else ""
    return row(name, percent(one.wer), bracket(one.wer_interval), *map(str, counts), kind=kind)


def closed(scores: WordScores) -> str:
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


def worst(results: Results) -> Table | None:
    """What was heard of the utterances with most errors, at the headline's epochs."""
    heard = [one for one in results.predictions if one.text is not None and one.heard]
    ranked = sorted(heard, key=lambda one: (-_errors(one, results.headline), one.id))[:MOST]
    if not ranked:
        return None
    return Table(
        title=f"words: the transcripts with most errors, {results.headline}",
        columns=(*words("utterance", "said", "heard"), *numbers("errors")),
        rows=tuple(
            row(
                one.id,
                one.text or "",
                one.heard[results.headline] or "(nothing)",
                str(_errors(one, results.headline)),
            )
            for one in ranked
        ),
    )


def _errors(one: Prediction, selection: str) -> int:
    counts = word_errors([normalised(one.text or "")], [one.heard[selection]])
    return int(counts[0, :3].sum())
