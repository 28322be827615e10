"""Find what a saved model was trained on in a corpus that it is to be scored on.

A model's card holds hashes of its training recordings and the names of its speakers. Scores on
these recordings or speakers say nothing about new ones.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from serein import corpora, protocols
from serein.bundle import Card
from serein.errors import BundleError
from serein.records import Corpus, Finding, Utterance

UNITS = {"duplicate": "utterances", "speaker": "speakers"}
"""What each kind of overlap counts."""
UNKNOWN_COPIES = " by bytes and samples; the model has no fingerprints that show altered copies"
MIN_COVERED_SHARE = 0.9
"""Share of a model's training recordings that must have a fingerprint; silence has none."""


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
    altered = _find_altered_copies(card, corpus, content_hashes)
    ids = [utterance.id for utterance in corpus.utterances]
    return {
        "duplicate": [
            id_
            for id_ in ids
            if content_hashes.get(id_) in trained or excerpts.get(id_) in trained or id_ in altered
        ],
        "speaker": names,
    }


def _find_altered_copies(card: Card, corpus: Corpus, content_hashes: Mapping[str, str]) -> set[str]:
    """Return the utterances whose fingerprints are those of the training data."""
    if not card.fingerprints:
        return set()
    codes = protocols.fingerprint_audio(corpus.utterances, content_hashes)
    try:
        return set(protocols.match_card(card.fingerprints, codes))
    except ValueError as error:
        raise BundleError(
            f"the fingerprints of the model {card.name} cannot be read: {error}; train it again"
        ) from error


def get_overlap_verdict(card: Card, kind: str, found: Sequence[str], verdict: str) -> str:
    """Return the verdict on an overlap with a model's training data.

    Args:
        card: of the model.
        kind: "duplicate" or "speaker".
        found: utterances or speakers that were found in the training data.
        verdict: if there are any.

    Returns:
        "clean" if there are none; "unknown" for copies if fewer than 90% of the training recordings
        have a fingerprint, as altered copies of the others cannot be found.
    """
    if found:
        return verdict
    if kind != "duplicate":
        return "clean"
    covered = protocols.count_card(card.fingerprints)
    is_covered = covered and covered >= MIN_COVERED_SHARE * len(card.file_hashes)
    return "clean" if is_covered else "unknown"


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
        A finding for recordings and one for speakers: "warning", "clean" or "unknown".
    """
    if content_hashes is None:
        readable = [u for u in corpus.utterances if _is_readable(u)]
        content_hashes = corpora.hash_contents(readable)
    overlap = find_training_overlap(card, corpus, content_hashes)
    subjects = {
        "duplicate": f"{len(overlap['duplicate'])} of {len(corpus.utterances)} utterances",
        "speaker": f"{len(overlap['speaker'])} speakers",
    }
    findings = []
    for kind, subject in subjects.items():
        found = overlap[kind]
        verdict = get_overlap_verdict(card, kind, found, "warning")
        if found:
            description = (
                f"{subject} were in {owner} training data: these scores say nothing about new "
                "speakers"
            )
        else:
            unknown = UNKNOWN_COPIES * (verdict == "unknown")
            description = f"no {kind} of {owner} training data{unknown}"
        findings.append(
            Finding(
                kind=kind,
                verdict=verdict,
                count=len(found),
                description=description,
                examples=tuple(found[:3]),
            )
        )
    return findings


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
