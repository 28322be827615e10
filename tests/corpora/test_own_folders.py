"""Folders with a subfolder for each class, and what `serein corpora check` says of a corpus."""

from collections import Counter
from pathlib import Path

import pytest
from builders.csv_tables import write_csv, write_recordings

from serein import corpora, testing
from serein.corpora import label_folders
from serein.corpora._summary import find_slips, summarize
from serein.errors import CorpusError, UnknownName


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    root = tmp_path / "clips"
    names = ("anger/001.wav", "anger/ann/002.wav", "neutral/bob/003.WAV", "neutral/._hidden.wav")
    write_recordings(root, *(name for name in names if "WAV" not in name))
    (root / "neutral" / "bob").mkdir()
    write_recordings(root, "neutral/bob/003.wav")
    (root / "neutral" / "bob" / "003.wav").rename(root / "neutral" / "bob" / "003.WAV")
    (root / "notes").mkdir()
    (root / "readme.txt").write_text("by label")
    return root


def test_folders_are_classes_and_the_folders_in_them_speakers(clips: Path) -> None:
    corpus = corpora.load(f"mine={clips}")
    assert [(u.id, u.speaker, u.labels["emotion"]) for u in corpus.utterances] == [
        ("anger/001.wav", None, "anger"),
        ("anger/ann/002.wav", "ann", "anger"),
        ("neutral/bob/003.WAV", "bob", "neutral"),
    ]
    testing.check_corpus(label_folders, clips)


def test_other_folders_are_unknown_names(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"is a folder without a subfolder for each class"):
        corpora.load(f"mine={clips / 'anger'}")
    with pytest.raises(CorpusError, match="has 0 subfolders with recordings"):
        corpora.load(f"label_folders={clips / 'notes'}")
    assert not label_folders.has_layout(tmp_path / "none")


TABLE = """file,speaker,gender,emotion,arousal,mood
a.wav,ann,f,anger,1.5,low
b.wav,ann,m,anger,4.5,low
c.wav,bob,m,Anger,,
d.wav,,m,neutral,2.0,high
"""


def test_a_corpus_is_summarized(tmp_path: Path) -> None:
    write_recordings(tmp_path, "a.wav", "b.wav", "c.wav", "d.wav")
    corpus = corpora.load(f"mine={write_csv(tmp_path, TABLE)}")
    text = "\n".join(summarize(corpus.utterances))
    for line in (
        "label arousal: numbers from 1.5 to 4.5, mean 2.67; none for 1 of 4",
        "label emotion: anger 2, Anger 1, neutral 1",
        "warning: label emotion: Anger (1) and anger (2) differ in case or spaces",
        "label mood: low 2, high 1; none for 1 of 4",
        "speaker: unknown of 1 of 4 utterances",
        "speakers: 2, with 1 to 2 utterances each",
        "gender: male 3, female 1",
        "warning: speakers with two genders: ann",
        "warning: 4 shorter than 0.3 s: a.wav, b.wav, c.wav, d.wav",
        "sampling rate of the files: 16,000 Hz 4",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("counts", "slips"),
    [
        ({"anger": 50, "angry": 3}, ["angry (3) and anger (50) are names of one emotion"]),
        ({"sadness": 90, "sadnes": 1}, ["sadnes (1) may be sadness (90)"]),
        (
            {"sadness": 90, "sad ness": 9},
            ["sad ness (9) and sadness (90) differ in case or spaces"],
        ),
        ({"fear": 50, "joy": 2, "disgust": 1}, []),
    ],
)
def test_slips(counts: dict[str, int], slips: list[str]) -> None:
    assert find_slips(Counter(counts)) == slips
