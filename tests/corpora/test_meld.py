from pathlib import Path

import pytest

from serein import corpora, protocols
from serein.corpora import meld
from serein.errors import CorpusError
from serein.protocols.settings import SplitConfig

HEADER = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,"
    "StartTime,EndTime\n"
)
FOLDERS = {
    "train": "MELD.Raw/train/train_splits",
    "dev": "MELD.Raw/dev_splits_complete",
    "test": "MELD.Raw/output_repeated_splits_test",
}


def write_meld(root: Path) -> Path:
    """Write eight utterances, as dirty as MELD's archives."""
    rows = {
        "train": [
            '1,"I don\x92t, know",Ross,Neutral ,neutral,0,0,8,21,"00:16:16,059","00:16:21,731"',
            "2,What?,Joey,surprise,negative,0,1,8,21,,",
            "3,Broken,Ross,neutral,neutral,125,3,8,21,,",
            ",,,,,,,,,,",
            "4,Yes,Joey,joy,positive,1,0,8,21,,",
        ],
        "dev": ["1,Hi,Joey,joy,positive,0,0,4,7,,", "2,Gone,Joey,neutral,neutral,110,7,4,7,,"],
        "test": ["1,No!,Ross,anger,negative,0,0,3,19,,", "2,So,All,sadness,negative,0,1,3,19,,"],
    }
    for part, lines in rows.items():
        table = root / (f"MELD.Raw/{part}" if part == "train" else "MELD.Raw")
        table.mkdir(parents=True, exist_ok=True)
        text = HEADER + "\n".join(lines) + "\n"
        (table / f"{part}_sent_emo.csv").write_text(text, encoding="utf-8-sig")
        folder = root / FOLDERS[part]
        folder.mkdir(parents=True, exist_ok=True)
        for line in lines:
            cells = line.rsplit(",", 6)
            dialogue, number = line.replace('"00:16:16,059","00:16:21,731"', ",").split(",")[-6:-4]
            if cells[0].strip(",") and (part, dialogue) != ("dev", "110"):
                (folder / f"dia{dialogue}_utt{number}.mp4").touch()
    test = root / FOLDERS["test"]
    (test / "._dia0_utt0.mp4").touch()
    (test / "final_videos_testdia0_utt1.mp4").touch()
    (test / "dia9_utt9.mp4").touch()
    (root / "wav" / "train").mkdir(parents=True)
    (root / "wav" / "train" / "dia0_utt0.wav").touch()
    return root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(meld, "COUNTS", {"train": 3, "dev": 1, "test": 2})
    return write_meld(tmp_path / "a test of train")  # words of the path above do not count


def test_meld_with_leftovers_and_second_copies(root: Path) -> None:
    utterances = meld.read(root)
    assert [one.id for one in utterances] == [
        "dev/dia0_utt0",
        "test/dia0_utt0",
        "test/dia0_utt1",
        "train/dia0_utt0",
        "train/dia0_utt1",
        "train/dia1_utt0",
    ]
    first = utterances[3]
    assert first.path == root / "wav/train/dia0_utt0.wav"  # not the video
    assert utterances[4].path == root / FOLDERS["train"] / "dia0_utt1.mp4"
    assert first.text == "I don’t, know"
    assert (first.speaker, first.dialogue, first.language) == ("Ross", "train/0", "en")
    assert first.labels == {
        "emotion": "neutral",
        "sentiment": "neutral",
        "part": "train",
        "season": "8",
        "episode": "21",
    }
    assert corpora.load(f"meld={root}").notes == (
        "left out: dev/dia110_utt7, train/dia125_utt3 (published without usable sound)",
        "recordings that no table lists: 1, such as test/dia9_utt9",
    )


def test_meld_official_parts(root: Path) -> None:
    utterances = meld.read(root)
    (fold,) = protocols.split(utterances, SplitConfig(name="parts")).folds
    assert fold.train == ("train/dia0_utt0", "train/dia0_utt1", "train/dia1_utt0")
    assert fold.validation == ("dev/dia0_utt0",)
    assert fold.test == ("test/dia0_utt0", "test/dia0_utt1")


def test_incomplete_meld(root: Path) -> None:
    (root / FOLDERS["train"] / "dia1_utt0.mp4").unlink()
    with pytest.raises(CorpusError, match=r"train/dia1_utt0 is missing, one of the 8 utterances"):
        meld.read(root)
    assert len(meld.read(root, partial=True)) == 5
    (root / "MELD.Raw/dev_sent_emo.csv").unlink()
    with pytest.raises(CorpusError, match=r"has no dev_sent_emo\.csv; expected MELD's tables"):
        meld.read(root)
    assert len(meld.read(root, partial=True)) == 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Emotion,", "Mood,", "has no column Emotion; expected MELD's columns"),
        (",anger,", ",rage,", r"row 2: unknown emotion 'rage'; MELD has anger, "),
        ("negative,0,1", "negative,0,0", r"row 3: test/dia0_utt0 is there twice; keep one"),
        ("negative,0,1", "negative,x,1", r"Dialogue_ID 'x' and Utterance_ID '1'; expected two"),
    ],
)
def test_wrong_tables_of_meld(root: Path, old: str, new: str, message: str) -> None:
    table = root / "MELD.Raw/test_sent_emo.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(CorpusError, match=message):
        meld.read(root, partial=True)


def test_meld_with_another_count(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meld, "COUNTS", {"train": 4, "dev": 1, "test": 2})
    with pytest.raises(CorpusError, match=r"has 6 recordings; MELD has 7 \(train 3 of 4\)"):
        meld.read(root)
