"""Find what a saved model was trained on in a corpus that it is to be scored on.

A model's card holds hashes of its training recordings and the names of its speakers. Scores on
these recordings or speakers say nothing about new ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from serein import corpora, protocols
from serein.bundle import Card
from serein.errors import BundleError
from serein.records import Corpus, Finding, Utterance

UNITS = {"duplicate": "utterances", "speaker": "speakers"}
"""What each kind of overlap counts."""
UNKNOWN_COPIES = "the model has no fingerprints that show altered copies"
MAX_EXAMPLES = 3
"""Utterances, speakers or pairs that a finding names."""
MIN_COVERED_SHARE = 0.9
"""Share of a model's training recordings that must have a fingerprint; silence has none."""


class Overlap(NamedTuple):
    """What a corpus and a model's training data have in common.

    Attributes:
        kind: "duplicate" for recordings, "speaker" for speakers.
        names: utterances or speakers that were found.
        doubt: why nothing found does not mean that there is nothing; empty if it does.
    """

    kind: str
    names: list[str]
    doubt: str

    def get_verdict(self, found: str) -> str:
        """Return the verdict: ``found`` if there is anything, else "clean" or "unknown"."""
        if self.names:
            return found
        return "unknown" if self.doubt else "clean"


def find_training_overlap(
    card: Card,
    corpus: Corpus,
    content_hashes: Mapping[str, str] | None,
    whole: Corpus | None = None,
) -> list[Overlap]:
    """Find the utterances and speakers of a corpus in a model's training data.

    A recording in the training data makes its speaker known, whatever the corpus is called.

    Args:
        card: of the model.
        corpus: the utterances to check.
        content_hashes: a hash of the audio of each utterance id; an utterance without one is
            compared by its samples only. None compares no recordings, only speakers.
        whole: the corpus with its other utterances, which may make speakers known, too.

    Returns:
        An overlap of recordings, unless there are no hashes, and one of speakers.
    """
    overlaps = []
    copies = list[Utterance]()
    if content_hashes is not None:
        copies = _find_copies(card, whole or corpus, content_hashes)
        ids = {utterance.id for utterance in corpus.utterances}
        names = [utterance.id for utterance in copies if utterance.id in ids]
        overlaps.append(Overlap("duplicate", names, _doubt_copies(card)))
    return [*overlaps, _compare_speakers(card, corpus, copies)]


def _find_copies(card: Card, corpus: Corpus, content_hashes: Mapping[str, str]) -> list[Utterance]:
    """Return the utterances whose audio is in the training data; digital silence is no copy."""
    excerpts = protocols.hash_audio_excerpts(corpus.utterances)
    trained = {*card.file_hashes, *card.audio_hashes}
    altered = _find_altered_copies(card, corpus, content_hashes)
    return [
        utterance
        for utterance in corpus.utterances
        if (excerpt := excerpts.get(utterance.id)) != protocols.SILENCE
        and (
            content_hashes.get(utterance.id) in trained
            or excerpt in trained
            or utterance.id in altered
        )
    ]


def _doubt_copies(card: Card) -> str:
    covered = protocols.count_card(card.fingerprints)
    is_covered = covered and covered >= MIN_COVERED_SHARE * len(card.file_hashes)
    return "" if is_covered else UNKNOWN_COPIES


def _compare_speakers(card: Card, corpus: Corpus, copies: Sequence[Utterance]) -> Overlap:
    """Compare speakers by the recordings that are copies, by names, and by ids that look alike."""
    tested, trained = speaker_names(corpus), set(card.speakers)
    by_copy = speaker_names(replace(corpus, utterances=tuple(copies))) & tested
    names = sorted((tested & trained) | by_copy)
    doubts = []
    if any(utterance.speaker is None for utterance in copies):
        doubts.append("copies of training recordings have no known speaker")
    missing = sum(utterance.speaker is None for utterance in corpus.utterances)
    if missing:
        count = len(corpus.utterances)
        doubts.append(f"{missing} of {count} utterances have no known speaker")
    if not trained:
        doubts.append("the card names no speakers")
    alike = protocols.match_lookalikes(tested, trained)
    if alike:
        listing = [f"{name} and {', '.join(found)}" for name, found in sorted(alike.items())]
        more = f" and {len(listing) - MAX_EXAMPLES} more" if len(listing) > MAX_EXAMPLES else ""
        doubts.append(f"ids look alike: {'; '.join(listing[:MAX_EXAMPLES])}{more}")
    return Overlap("speaker", names, "; ".join(doubts))


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


def check_training_overlap(
    card: Card,
    corpus: Corpus,
    content_hashes: Mapping[str, str] | None = None,
    owner: str = "this model's",
    whole: Corpus | None = None,
) -> list[Finding]:
    """Check the utterances that a saved model is to be scored on against its training data.

    Args:
        card: of the model.
        corpus: the utterances to be scored.
        content_hashes: a hash of the audio of each utterance id; None computes them, and leaves out
            files that cannot be read, which are reported where they are used.
        owner: whose training data it is, for the descriptions.
        whole: as for ``find_training_overlap``; its utterances have hashes, too.

    Returns:
        A finding for recordings and one for speakers: "warning", "clean" or "unknown".
    """
    if content_hashes is None:
        readable = [u for u in corpus.utterances if _is_readable(u)]
        content_hashes = corpora.hash_contents(readable)
    count = len(corpus.utterances)
    findings = []
    for overlap in find_training_overlap(card, corpus, content_hashes, whole):
        kind, found, doubt = overlap
        subject = f"{len(found)} of {count} utterances"
        if kind == "speaker":
            subject = protocols.count_noun(len(found), "speaker")
        description = f"no {kind} of {owner} training data was found{doubt and f': {doubt}'}"
        if found:
            verb = "was" if kind == "speaker" and len(found) == 1 else "were"
            description = (
                f"{subject} {verb} in {owner} training data: these scores say nothing about new "
                "speakers"
            )
        findings.append(
            Finding(
                kind=kind,
                verdict=overlap.get_verdict("warning"),
                count=len(found),
                description=description,
                examples=tuple(found[:MAX_EXAMPLES]),
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
