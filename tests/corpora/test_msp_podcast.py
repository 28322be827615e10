from pathlib import Path

import pytest

from serein import corpora, protocols
from serein.corpora import msp_podcast
from serein.errors import CorpusError
from serein.metrics.agreement import measure_agreement
from serein.protocols.settings import SplitConfig

CONSENSUS = """\
FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set
MSP-PODCAST_0001_0008.wav,N,2.8,4.0,7,127,Male,Train
MSP-PODCAST_0001_0019.wav,X,1.0,4.2,3.4,127.0,Male,Train
MSP-PODCAST_0002_0033.wav,A,5.5,2.0,3.4,Unknown,Unknown,Development
MSP-PODCAST_0003_0001.wav,H,5.5,nan,,9,Female,Test1
MSP-PODCAST_0003_0002_0001.wav,O,5.5,2.0,3.4,9,Female,Test2

MSP-PODCAST_0004_0001.wav,,,,,10,Female,Test3
"""
DETAILED = """\
FileName,Worker,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom
MSP-PODCAST_0001_0008.wav,WORKER00000001,Neutral,"Neutral,Concerned",3,4,4
MSP-PODCAST_0001_0008.wav,WORKER00000002,Neutral,,3,4,4
MSP-PODCAST_0001_0008.wav,WORKER00000003,Other-Interested,,3,4,4
MSP-PODCAST_0002_0033.wav,WORKER00000001,Angry,"Angry,Annoyed",3,4,4
MSP-PODCAST_0002_0033.wav,WORKER00000002,,,3,4,4
MSP-PODCAST_0002_0033.wav,WORKER00000004,Angry,,3,4,4
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("Audios", "Labels", "Transcripts"):
        (tmp_path / folder).mkdir()
    (tmp_path / "Labels/labels_consensus.csv").write_text(CONSENSUS, encoding="utf-8-sig")
    (tmp_path / "Labels/labels_detailed.csv").write_text(DETAILED)
    for line in CONSENSUS.splitlines()[1:]:
        if line:
            (tmp_path / "Audios" / line.partition(",")[0]).touch()
    (tmp_path / "Audios" / "._MSP-PODCAST_0001_0008.wav").touch()
    (tmp_path / "Audios" / "MSP-PODCAST_0099_0001.wav").touch()
    (tmp_path / "Transcripts/MSP-PODCAST_0001_0008.txt").write_bytes(b"Well, it\x92s fine.\n")
    return tmp_path


def test_msp_podcast(root: Path) -> None:
    utterances = {one.id: one for one in msp_podcast.read(root)}
    assert len(utterances) == 6
    first = utterances["MSP-PODCAST_0001_0008"]
    assert (first.speaker, first.gender, first.session) == ("127", "male", "0001")
    assert first.text == "Well, it\ufffds fine."
    assert first.labels == {
        "part": "train",
        "emotion": "neutral",
        "emotion_votes": "neutral=2, other=1",
        "arousal": pytest.approx(1 + 1.8 * 2 / 3),
        "valence": pytest.approx(3.0),
        "dominance": pytest.approx(5.0),
    }
    second = utterances["MSP-PODCAST_0001_0019"]
    assert second.speaker == "127"
    assert "emotion" not in second.labels
    assert second.labels["arousal"] == 1.0
    third = utterances["MSP-PODCAST_0002_0033"]
    assert (third.speaker, third.gender, third.labels["part"]) == (None, None, "dev")
    assert third.labels["emotion_votes"] == "anger=2"
    assert "valence" not in utterances["MSP-PODCAST_0003_0001"].labels
    assert utterances["MSP-PODCAST_0003_0002_0001"].session == "0003"
    assert utterances["MSP-PODCAST_0004_0001"].labels == {"part": "test3"}
    assert corpora.load(f"msp_podcast={root}").notes == (
        "recordings that the labels do not list: 1",
        "utterances of unknown speakers: 1",
        "utterances without agreement on an emotion: 2",
    )
    (agreement,) = measure_agreement(list(utterances.values()))
    assert (agreement.label, agreement.utterances, agreement.answers) == ("emotion", 2, 5)


def test_official_parts_of_msp_podcast(root: Path) -> None:
    utterances = msp_podcast.read(root)
    (fold,) = protocols.split(utterances, SplitConfig(name="parts", test="test1")).folds
    assert (len(fold.train), len(fold.validation), len(fold.test)) == (2, 1, 1)


def test_missing_files_of_msp_podcast(root: Path) -> None:
    (root / "Audios/MSP-PODCAST_0003_0001.wav").unlink()
    with pytest.raises(CorpusError, match=r"0003_0001\.wav is missing, one of the 6 recordings"):
        msp_podcast.read(root)
    assert len(msp_podcast.read(root, partial=True)) == 5
    notes = corpora.load(f"msp_podcast={root}", partial=True).notes
    assert notes[0] == "labelled recordings that are missing: 1"
    (root / "Labels/labels_consensus.csv").rename(root / "labels.csv")
    with pytest.raises(CorpusError, match=r"has no labels_consensus\.csv; expected MSP-Podcast"):
        msp_podcast.read(root)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("EmoClass,", "Class,", "has no column EmoClass; found FileName, Class"),
        ("wav,A,", "wav,Z,", r"row 4: unknown EmoClass 'Z'; MSP-Podcast has A, C"),
        ("N,2.8", "N,0.5", r"row 2: EmoAct is '0\.5'; expected a rating from 1 to 7"),
        ("N,2.8", "N,high", r"row 2: EmoAct is 'high'; expected a rating"),
        ("_0001_0019", "_0001_0008", "row 3: MSP-PODCAST_0001_0008 is there twice"),
    ],
)
def test_wrong_labels_of_msp_podcast(root: Path, old: str, new: str, message: str) -> None:
    (root / "Labels/labels_consensus.csv").write_text(CONSENSUS.replace(old, new))
    with pytest.raises(CorpusError, match=message):
        msp_podcast.read(root)
