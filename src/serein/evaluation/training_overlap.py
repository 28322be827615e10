"""Find what a saved model was trained on in a corpus that it is to be scored on.

A model's card holds hashes of its training recordings and the names of its speakers. Scores on
these recordings or speakers say nothing about new ones.
"""

from collections.abc import Mapping
from pathlib import Path

from serein import corpora, protocols
from serein.bundle import Card
from serein.records import Corpus, Finding, Utterance

UNITS = {"duplicate": "utterances", "speaker": "speakers"}
"""What each kind of overlap counts."""


def find_training_overlap(
    card: Card, corpus: Corpus, content_hashes: Mapping[str, str] | None
) -> dict[str, list[str]]:
    """Find the utterances ("duplicate") and speakers ("speaker") in a model's training data.

    Args:
        card: of the model.
        corpus: the corpus to check.
        content_hashes: a hash of the audio of each utterance id; an utterance without one is
            compared by its samples only. None compares no recordings, only speakers.
    """
    names = sorted(speaker_names(corpus) & set(card.speakers))
    if content_hashes is None:
        return {"duplicate": [], "speaker": names}
    excerpts = protocols.hash_audio_excerpts(corpus.utterances)
    trained = {*card.file_hashes, *card.audio_hashes}
    ids = [utterance.id for utterance in corpus.utterances]
    return {
        "duplicate": [
            id_ for id_ in ids if content_hashes.get(id_) in trained or excerpts.get(id_) in trained
        ],
        "speaker": names,
    }


def check_training_overlap(
    card: Card,
    corpus: Corpus,
    content_hashes: Mapping[str, str] | None = None,
    owner: str = "this model's",
) -> list[Finding]:
    """Check the utterances that a saved model is to be scored on against its training data.

    Args:
        card: of the model.
        corpus: the utterances to be scored.
        content_hashes: a hash of the audio of each utterance id; None computes them, and leaves out
            files that cannot be read, which are reported where they are used.
        owner: whose training data it is, for the descriptions.

    Returns:
        A finding for recordings and one for speakers: "warning" or "clean".
    """
    if content_hashes is None:
        readable = [u for u in corpus.utterances if _is_readable(u)]
        content_hashes = corpora.hash_contents(readable)
    overlap = find_training_overlap(card, corpus, content_hashes)
    subjects = {
        "duplicate": f"{len(overlap['duplicate'])} of {len(corpus.utterances)} utterances",
        "speaker": f"{len(overlap['speaker'])} speakers",
    }
    return [
        Finding(
            kind=kind,
            verdict="warning" if overlap[kind] else "clean",
            count=len(overlap[kind]),
            description=f"{subject} were in {owner} training data: these scores say nothing "
            "about new speakers"
            if overlap[kind]
            else f"no {kind} of {owner} training data",
            examples=tuple(overlap[kind][:3]),
        )
        for kind, subject in subjects.items()
    ]


def _is_readable(utterance: Utterance) -> bool:
    try:
        with Path(utterance.path).open("rb"):
            return True
    except OSError:
        return False


def speaker_names(corpus: Corpus) -> set[str]:
    """Return the speakers of a corpus, as ``CORPUS/NAME``."""
    return {
        utterance.speaker if utterance.corpus else f"{corpus.name}/{utterance.speaker}"
        for utterance in corpus.utterances
        if utterance.speaker
    }
