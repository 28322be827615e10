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
    assert speaker.verdict == "unknown"
    assert "4 of 4 utterances have no known speaker" in speaker.description
    assert "the card names no speakers" in speaker.description


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


def name_speakers(corpus: Corpus, name: str, speakers: dict[str, str] | None = None) -> Corpus:
    """Return a corpus with another name, and perhaps other names of its speakers."""
    names = speakers or {}
    renamed = [replace(u, speaker=names.get(str(u.speaker), u.speaker)) for u in corpus.utterances]
    return replace(corpus, name=name, utterances=tuple(renamed))


def test_recording_makes_its_speaker_known_whatever_the_corpus_is_called(corpus: Corpus) -> None:
    one_each = tuple(
        next(u for u in corpus.utterances if u.speaker == name) for name in ("s01", "s02")
    )
    card = replace(
        make_card(replace(corpus, utterances=one_each)), speakers=("fifty/p1", "fifty/p2")
    )
    lab = name_speakers(corpus, "lab", {"s01": "Ann", "s02": "Bob"})
    rest = replace(
        lab,
        utterances=tuple(u for u in lab.utterances if u.id not in {one.id for one in one_each}),
    )
    hashes = corpora.hash_contents(lab.utterances)
    duplicate, speaker = check_training_overlap(card, rest, hashes, whole=lab)
    assert duplicate.verdict == "clean"
    assert (speaker.verdict, speaker.examples) == ("warning", ("lab/Ann", "lab/Bob"))
    alone = check_training_overlap(card, rest, hashes)
    assert [one.verdict for one in alone] == ["clean", "clean"]


def test_ids_that_look_alike_across_corpora_are_unknown(corpus: Corpus) -> None:
    half = replace(corpus, utterances=corpus.utterances[:1])
    card = replace(make_card(half), speakers=("fifty/01", "fifty/spk2"))
    rest = name_speakers(replace(corpus, utterances=corpus.utterances[1:]), "lab")
    speaker = check_training_overlap(card, rest)[1]
    assert (speaker.verdict, speaker.count) == ("unknown", 0)
    assert "ids look alike: lab/s01 and fifty/01; lab/s02 and fifty/spk2" in speaker.description
    others = name_speakers(rest, "lab", {"s01": "Ann", "s02": "Bob"})
    assert check_training_overlap(card, others)[1].verdict == "clean"


def test_digital_silence_is_not_in_the_training_data(corpus: Corpus, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(8000, np.int16), 16_000)
    silence = replace(corpus.utterances[0], path=tmp_path / "silence.wav")
    silent = replace(corpus, utterances=(silence,))
    card = replace(make_card(corpus), file_hashes=make_card(silent).file_hashes)
    assert check_training_overlap(card, silent)[0].count == 0


def test_damaged_fingerprints_are_an_error(corpus: Corpus) -> None:
    card = replace(make_card(corpus), fingerprints="AQAAAA==")
    with pytest.raises(BundleError, match="train it again"):
        check_training_overlap(card, corpus)


def test_fingerprints_stand_beside_the_card_in_a_document() -> None:
    card = Card(name="x", fingerprints="AAAA")
    document = {"card": {"name": "x"}, "fingerprints": "AAAA"}
    assert bundle.parse_card(document)[0] == card
    assert bundle.parse_card({"card": {"name": "x"}})[0] == replace(card, fingerprints="")
