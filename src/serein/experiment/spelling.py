"""How well a model that finds words found them.

n = utterances, L = words of the longest transcript.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from serein.evaluation.plan import Plan
from serein.experiment.words import build_word_list
from serein.labels.vocabulary import Vocabulary, normalize_text, tokenize
from serein.metrics.words import compute_word_scores
from serein.records import Fold, Utterance
from serein.results.evaluation import Prediction
from serein.transcripts import WordScores


def add_transcripts(
    plan: Plan,
    fold: Fold,
    tested: Sequence[Utterance],
    records: Sequence[Prediction],
    word_ids: Mapping[str, Tensor],
) -> list[Prediction]:
    """The records of a fold with what was said and what was found.

    Args:
        plan: the plan.
        fold: whose training side the vocabulary comes from.
        tested: its test side.
        records: one for each of these.
        word_ids: for each selection, (n, L) numbers of words.
    """
    words = Vocabulary(build_word_list(plan.corpus.select(fold.train), plan.recipe))
    rows = {name: id_nl.tolist() for name, id_nl in word_ids.items()}
    return [
        replace(
            record,
            text=utterance.text,
            heard={name: words.decode(row[place]) for name, row in rows.items()},
        )
        for place, (record, utterance) in enumerate(zip(records, tested, strict=True))
    ]


def score_transcripts(
    plan: Plan, records: Sequence[Prediction], selections: Sequence[str]
) -> dict[str, WordScores]:
    """For each selection, how well words were found; nothing of a model that finds none."""
    written = [one for one in records if one.text is not None and one.heard]
    if not written:
        return {}
    closed = len({_fold_sentence(one) for one in written} & _training_sentences(plan))
    words = {
        fold.name: set(build_word_list(plan.corpus.select(fold.train), plan.recipe))
        for fold in plan.protocol.folds
    }
    unknown = sum(
        word not in words[one.fold] for one in written for word in tokenize(str(one.text))
    )
    texts, speakers = [str(one.text) for one in written], [one.speaker for one in written]
    return {
        name: compute_word_scores(
            texts,
            [one.heard[name] for one in written],
            speakers,
            closed=closed,
            unknown=unknown,
        )
        for name in selections
    }


def _fold_sentence(one: Prediction) -> tuple[str, str]:
    return one.fold, normalize_text(str(one.text))


def _training_sentences(plan: Plan) -> set[tuple[str, str]]:
    """Every fold with the sentences of its training side."""
    return {
        (fold.name, normalize_text(one.text))
        for fold in plan.protocol.folds
        for one in plan.corpus.select(fold.train)
        if one.text is not None
    }
