"""Whom a saved model has heard in training."""

from collections.abc import Mapping

from serein import protocols
from serein.bundle import Card
from serein.records import Corpus


def find_training_overlap(
    card: Card, corpus: Corpus, contents: Mapping[str, str]
) -> dict[str, list[str]]:
    """Which utterances ("duplicate") and whom ("speaker") of a corpus a model was trained on.

    Args:
        card: of the model.
        corpus: what to look through.
        contents: for each utterance id, a hash of its audio.
    """
    samples = protocols.hash_audio_excerpts(corpus.utterances)
    marks = {*card.heard, *card.samples}
    ids = [one.id for one in corpus.utterances]
    return {
        "duplicate": [id_ for id_ in ids if contents[id_] in marks or samples.get(id_) in marks],
        "speaker": sorted(speaker_names(corpus) & set(card.speakers)),
    }


def speaker_names(corpus: Corpus) -> set[str]:
    """Who speaks in a corpus, as ``CORPUS/NAME``."""
    return {
        one.speaker if one.corpus else f"{corpus.name}/{one.speaker}"
        for one in corpus.utterances
        if one.speaker
    }
