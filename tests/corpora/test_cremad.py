import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from builders.corpus_layouts import write_cremad

from serein import corpora
from serein.corpora import cremad
from serein.errors import CorpusError
from serein.records import Utterance

COUNTS = {
    "anger": 1271,
    "disgust": 1271,
    "fear": 1271,
    "happiness": 1271,
    "neutral": 1087,
    "sadness": 1271,
}
HEADER = "ActorID,Age,Sex,Race,Ethnicity"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    write_cremad(root, speakers=91, takes=14, words=0)
    return root


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Empty files."""
    root = tmp_path / "CREMA-D"
    (root / "AudioWAV").mkdir(parents=True)
    for name in ("1001_DFA_ANG_XX", "1001_IEO_FEA_LO", "1002_IEO_FEA_HI", "1002_IEO_HAP_MD"):
        (root / "AudioWAV" / f"{name}.wav").touch()
    (root / "VideoDemographics.csv").write_text(f"{HEADER}\n1001,51,Male,,\n1002,21,Female,,\n")
    return root


def test_complete_layout_has_the_published_counts(whole: Path) -> None:
    utterances = cremad.read(whole)
    assert len(utterances) == 7442
    assert Counter(one.labels["emotion"] for one in utterances) == COUNTS == cremad.COUNTS
    assert [one.id for one in utterances] == sorted({one.id for one in utterances})
    assert {one.speaker for one in utterances} == {str(n) for n in range(1001, 1092)}
    assert len({one.text for one in utterances}) == 12
    assert len({(one.text, one.labels["sentence"]) for one in utterances}) == 12
    genders = {one.speaker: one.gender for one in utterances}
    assert Counter(genders.values()) == {"male": 46, "female": 45}


def test_file_name_gives_all_labels(few: Path) -> None:
    utterances = cremad.read(few, partial=True)
    assert utterances[0] == Utterance(
        id="1001_DFA_ANG_XX",
        path=few / "AudioWAV/1001_DFA_ANG_XX.wav",
        speaker="1001",
        gender="male",
        language="en",
        text="Don't forget a jacket",
        labels={"emotion": "anger", "level": "unspecified", "sentence": "DFA"},
    )
    levels = [one.labels["level"] for one in utterances]
    assert levels == ["unspecified", "low", "high", "medium"]
    assert [one.gender for one in utterances] == ["male", "male", "female", "female"]


def test_published_name_with_one_x_is_accepted(whole: Path) -> None:
    by_id = {one.id: one for one in cremad.read(whole)}
    assert by_id["1040_ITH_SAD_X"].labels["level"] == "unspecified"
    assert "1040_ITH_SAD_XX" not in by_id


def test_without_the_table_genders_are_unknown(few: Path) -> None:
    (few / "VideoDemographics.csv").unlink()
    assert {one.gender for one in cremad.read(few, partial=True)} == {None}


def test_table_gives_genders_of_listed_speakers(few: Path) -> None:
    table = f"\ufeff{HEADER}\r\n1002,21,FEMALE,,Non r\u00e9pondu\r\n"
    (few / "VideoDemographics.csv").write_bytes(table.encode())
    genders = {one.speaker: one.gender for one in cremad.read(few, partial=True)}
    assert genders == {"1001": None, "1002": "female"}


@pytest.mark.parametrize(
    ("table", "line"),
    [
        (f"{HEADER}\n1001,51,Male,,\n1002,21,Robot,,\n", 3),
        (f"{HEADER}\n1001,51\n", 2),
        (f"{HEADER}\n999,51,Male,,\n", 2),
        ("Actor,Sex\n1001,Male\n", 2),
        ("ActorID;Age;Sex\n1001;51;Male\n", 2),
    ],
)
def test_error_names_the_bad_row(few: Path, table: str, line: int) -> None:
    (few / "VideoDemographics.csv").write_text(table)
    message = rf"VideoDemographics\.csv, line {line}: expected an ActorID.*restore the file or rem"
    with pytest.raises(CorpusError, match=message):
        cremad.read(few, partial=True)


def test_hidden_files_second_copies_and_upper_case(few: Path) -> None:
    folder = few / "AudioWAV"
    (folder / "1001_DFA_ANG_XX.wav").rename(folder / "1001_DFA_ANG_XX.WAV")
    (folder / "._1001_DFA_ANG_XX.wav").touch()
    (folder / "copy").mkdir()
    (folder / "copy/1001_DFA_ANG_XX.wav").touch()
    utterances = cremad.read(few, partial=True)
    assert len(utterances) == 4
    assert utterances[0].path.name == "1001_DFA_ANG_XX.WAV"
    assert corpora.load(f"cremad={few}", partial=True).notes == (
        "a partial copy: 4 of 7,442 utterances",
        "recordings not read: 1, such as AudioWAV/copy/1001_DFA_ANG_XX.wav",
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("1092_DFA_ANG_XX", "unknown speaker '1092'; CREMA-D has 1001 to 1091"),
        ("1001_ABC_ANG_XX", "unknown sentence 'ABC'; CREMA-D has DFA, IEO, IOM"),
        ("1001_DFA_JOY_XX", "unknown emotion 'JOY'; CREMA-D has ANG, DIS, FEA, HAP, NEU, SAD"),
        ("1001_DFA_ANG_YY", "unknown level 'YY'; CREMA-D has HI, LO, MD, X, XX"),
        ("notes", r"is not a CREMA-D name such as 1001_DFA_ANG_XX\.wav; move it elsewhere"),
    ],
)
def test_error_names_the_bad_file(few: Path, name: str, message: str) -> None:
    (few / "AudioWAV" / f"{name}.wav").touch()
    with pytest.raises(CorpusError, match=rf"{name}\.wav.*{message}"):
        cremad.read(few, partial=True)


def test_missing_recordings_are_reported(few: Path) -> None:
    message = r"4 recordings; CREMA-D has 7442 \(anger 1 of 1271, disgust 0 of 1271, fear 2 of 1271"
    with pytest.raises(CorpusError, match=f"{message}.*partial=True"):
        cremad.read(few)


def test_right_folder_is_suggested(few: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=f"give the folder above, {re.escape(str(few))}"):
        cremad.read(few / "AudioWAV")
    with pytest.raises(CorpusError, match=rf"Did you mean {re.escape(str(few))}\?"):
        cremad.read(tmp_path)
    for nowhere in (tmp_path / "none", tmp_path / "none/AudioWAV"):
        with pytest.raises(CorpusError, match="has no folder AudioWAV/; expected CREMA-D there"):
            cremad.read(nowhere)


def test_small_layout_contains_speech(tmp_path: Path) -> None:
    write_cremad(tmp_path, speakers=2, takes=4, words=1)
    utterances = cremad.read(tmp_path, partial=True)
    cells = Counter((one.speaker, one.labels["emotion"]) for one in utterances)
    assert set(cells.values()) == {4}
    assert len(cells) == 12
    assert {one.labels["level"] for one in utterances} == {"low", "medium", "high", "unspecified"}
    sounds = [soundfile.read(one.path)[0] for one in utterances]
    assert all(np.abs(samples).max() > 0.05 for samples in sounds)
    assert len({samples.tobytes() for samples in sounds}) == 48


def test_load_by_name(whole: Path) -> None:
    assert corpora.load(f"cremad={whole}").utterances == tuple(cremad.read(whole))
