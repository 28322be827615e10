"""How well a model that finds words found them.

n = utterances, L = words of the longest transcript.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from serein.experiment.plan import Plan
from serein.experiment.words import known
from serein.metrics.words import word_scores
from serein.records import Fold, Utterance
from serein.results import Prediction
from serein.transcripts import WordScores
from serein.vocabulary import Vocabulary, normalised, spoken


def heard(
    plan: Plan,
    fold: Fold,
    tested: Sequence[Utterance],
    records: Sequence[Prediction],
    found: Mapping[str, Tensor],
) -> list[Prediction]:
    """The records of a fold with what was said and what was found.

    Args:
        plan: the plan.
        fold: whose training side the vocabulary comes from.
        tested: its test side.
        records: one for each of these.
        found: for each selection, (n, L) numbers of words.
    """
    words = Vocabulary(known(plan.corpus.of(fold.train), plan.recipe))
    rows = {name: id_nl.tolist() for name, id_nl in found.items()}
    return [
        replace(
            record,
            text=utterance.text,
            heard={name: words.text(row[place]) for name, row in rows.items()},
        )
        for place, (record, utterance) in enumerate(zip(records, tested, strict=True))
    ]


def scores(
    plan: Plan, records: Sequence[Prediction], selections: Sequence[str]
) -> dict[str, WordScores]:
    """For each selection, how well words were found; nothing of a model that finds none."""
    written = [one for one in records if one.text is not None and one.heard]
    if not written:
        return {}
    closed = len({_sentence(one) for one in written} & _trained(plan))
    words = {
        fold.name: set(known(plan.corpus.of(fold.train), plan.recipe))
        for fold in plan.protocol.folds
    }
    unknown = sum(word not in words[one.fold] for one in written for word in spoken(str(one.text)))
    texts, speakers = [str(one.text) for one in written], [one.speaker for one in written]
    return {
        name: word_scores(
            texts,
            [one.heard[name] for one in written],
            speakers,
            closed=closed,
            unknown=unknown,
        )
        for name in selections
    }


def _sentence(one: Prediction) -> tuple[str, str]:
    return one.fold, normalised(str(one.text))


def _trained(plan: Plan) -> set[tuple[str, str]]:
    """Every fold with the sentences of its training side."""
    return {
        (fold.name, normalised(one.text))
        for fold in plan.protocol.folds
        for one in plan.corpus.of(fold.train)
        if one.text is not None
    }
