"""Altered copies of a model's training recordings are found by the fingerprints on its card."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serein import bundle, corpora, protocols
from serein.bundle import Card
from serein.errors import BundleError
from serein.evaluation.training_overlap import check_training_overlap
from serein.records import Corpus
from serein.synthetic import SyntheticConfig, generate


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("speech")
    generate(folder, SyntheticConfig(speakers=2, sentences=1, words=4, emotions=("anger", "fear")))
    return corpora.load(f"mine={folder / 'labels.csv'}")


@pytest.fixture
def quieter(corpus: Corpus, tmp_path: Path) -> Corpus:
    """The corpus at half level, of unknown speakers."""
    members = []
    for utterance in corpus.utterances:
        wave, rate = soundfile.read(utterance.path, dtype="float32")
        soundfile.write(tmp_path / f"{utterance.id}.wav", wave / np.float32(2), rate)
        members.append(replace(utterance, path=tmp_path / f"{utterance.id}.wav", speaker=None))
    return replace(corpus, utterances=tuple(members))


def make_card(corpus: Corpus) -> Card:
    hashes = corpora.hash_contents(corpus.utterances)
    codes = protocols.fingerprint_audio(corpus.utterances, hashes)
    return Card(
        file_hashes=tuple(hashes.values()), fingerprints=protocols.pack_card(codes.values())
    )


def test_quieter_copies_are_in_the_training_data(corpus: Corpus, quieter: Corpus) -> None:
    duplicate, speaker = check_training_overlap(make_card(corpus), quieter)
    assert (duplicate.verdict, duplicate.count) == ("warning", 4)
    assert speaker.verdict == "clean"


def test_other_recordings_are_not(corpus: Corpus, quieter: Corpus) -> None:
    half = replace(corpus, utterances=corpus.utterances[:2])
    rest = replace(quieter, utterances=quieter.utterances[2:])
    assert check_training_overlap(make_card(half), rest)[0].verdict == "clean"


def test_verdict_without_fingerprints_is_unknown(corpus: Corpus, quieter: Corpus) -> None:
    card = replace(make_card(corpus), fingerprints="")
    duplicate = check_training_overlap(card, quieter)[0]
    assert (duplicate.verdict, duplicate.count) == ("unknown", 0)
    assert "has no fingerprints" in duplicate.description
    assert check_training_overlap(card, corpus)[0].verdict == "warning"


def test_verdict_on_a_card_with_too_few_fingerprints_is_unknown(
    corpus: Corpus, quieter: Corpus
) -> None:
    half = make_card(replace(corpus, utterances=corpus.utterances[:2]))
    card = replace(make_card(corpus), fingerprints=half.fingerprints)
    rest = replace(quieter, utterances=quieter.utterances[2:])
    assert check_training_overlap(card, rest)[0].verdict == "unknown"


def test_damaged_fingerprints_are_an_error(corpus: Corpus) -> None:
    card = replace(make_card(corpus), fingerprints="AQAAAA==")
    with pytest.raises(BundleError, match="train it again"):
        check_training_overlap(card, corpus)


def test_fingerprints_stand_beside_the_card_in_a_document() -> None:
    card = Card(name="x", fingerprints="AAAA")
    document = {"card": {"name": "x"}, "fingerprints": "AAAA"}
    assert bundle.parse_card(document)[0] == card
    assert bundle.parse_card({"card": {"name": "x"}})[0] == replace(card, fingerprints="")
