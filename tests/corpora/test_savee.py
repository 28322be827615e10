import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from builders.corpus_layouts import write_savee

from serein import corpora
from serein.corpora import savee
from serein.errors import CorpusError
from serein.records import Utterance

COUNTS = {
    "anger": 60,
    "disgust": 60,
    "fear": 60,
    "happiness": 60,
    "neutral": 120,
    "sadness": 60,
    "surprise": 60,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    write_savee(root, utterances=480, words=0)
    return root


@pytest.fixture
def folders(whole: Path, tmp_path: Path) -> Path:
    root = tmp_path / "SAVEE"
    shutil.copytree(whole, root)
    return root


@pytest.fixture
def flat(whole: Path, tmp_path: Path) -> Path:
    root = tmp_path / "ALL"
    root.mkdir()
    for file in (whole / "AudioData").glob("*/*.wav"):
        shutil.copy(file, root / f"{file.parent.name}_{file.name}")
    return root


def check(utterances: list[Utterance]) -> None:
    assert len(utterances) == 480
    assert Counter(one.labels["emotion"] for one in utterances) == COUNTS
    assert Counter(one.speaker for one in utterances) == dict.fromkeys(
        ("DC", "JE", "JK", "KL"), 120
    )
    assert [one.id for one in utterances] == sorted({one.id for one in utterances})
    assert {(one.gender, one.language, one.text) for one in utterances} == {("male", "en", None)}
    assert len({one.labels["sentence"] for one in utterances}) == 120
    assert all(one.path.is_file() for one in utterances)


def test_flac_copies_are_read_and_count_once(folders: Path) -> None:
    for file in (folders / "AudioData").glob("*/*.wav"):
        wave, rate = soundfile.read(file, dtype="int16")
        soundfile.write(file.with_suffix(".flac"), wave, rate)
        if file.name != "sa01.wav":
            file.unlink()
    with pytest.raises(CorpusError, match="sadness"):
        savee.read(folders)
    for file in (folders / "AudioData").glob("*/*.wav"):
        file.unlink()
    check(savee.read(folders))


def test_both_layouts_have_the_same_labels(folders: Path, flat: Path) -> None:
    check(savee.read(folders))
    check(savee.read(folders / "AudioData"))
    check(savee.read(flat))

    def said(root: Path) -> list[tuple[str, str | None, dict[str, str | float]]]:
        return [(one.id, one.speaker, one.labels) for one in savee.read(root)]

    assert said(folders) == said(folders / "AudioData") == said(flat)


@pytest.mark.parametrize(
    ("name", "emotion", "sentence"),
    [
        ("DC/a01", "anger", "a01"),
        ("JE/d03", "disgust", "d03"),
        ("JK/f15", "fear", "f15"),
        ("KL/h10", "happiness", "h10"),
        ("DC/n30", "neutral", "n30"),
        ("JE/sa07", "sadness", "sa07"),
        ("JK/su15", "surprise", "su15"),
    ],
)
def test_letters_stand_for_emotions(folders: Path, name: str, emotion: str, sentence: str) -> None:
    by_id = {one.id: one for one in savee.read(folders)}
    assert by_id[name.replace("/", "_")] == Utterance(
        id=name.replace("/", "_"),
        path=folders / "AudioData" / f"{name}.wav",
        speaker=name[:2],
        gender="male",
        language="en",
        labels={"emotion": emotion, "sentence": sentence},
    )


def test_upper_and_lower_case_are_one(folders: Path, flat: Path) -> None:
    before = [(one.id, one.speaker, one.labels) for one in savee.read(folders)]
    for folder in list((folders / "AudioData").iterdir()):
        if folder.is_dir():
            for file in list(folder.iterdir()):
                file.rename(folder / file.name.upper())
            folder.rename(folder.with_name(folder.name.lower()))
    (folders / "AudioData").rename(folders / "audiodata")
    for file in list(flat.iterdir()):
        file.rename(flat / file.name.swapcase())
    for root in (folders, folders / "audiodata", flat):
        assert [(one.id, one.speaker, one.labels) for one in savee.read(root)] == before


def test_other_files_and_second_copies_are_skipped(folders: Path) -> None:
    data = folders / "AudioData"
    assert (data / "Info.txt").exists()
    (data / "DC/._a01.wav").touch()
    (data / "DC/notes.txt").touch()
    (data / "DC_a01.wav").touch()
    shutil.copytree(data / "DC", data / "DC/DC")
    shutil.copytree(data / "DC", data / "Annotation")
    shutil.copytree(data, data / "AudioData")
    check(savee.read(folders))
    (note,) = corpora.load(f"savee={folders}").notes
    count = len([one for one in folders.rglob("*.wav") if one.name[0] != "."]) - 480
    assert note == f"recordings not read: {count}, such as AudioData/Annotation/DC/a01.wav"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("DC/x01.wav", r"is not a SAVEE name such as DC/a01\.wav or DC_a01\.wav"),
        ("KL/s01.wav", "is not a SAVEE name.*the letters a, d, f, h, n, sa, su; move it"),
        ("DC/a1.wav", "is not a SAVEE name"),
        ("DC/a16.wav", "anger has the sentences 01 to 15 in SAVEE, not 16; move it"),
        ("JE/n31.wav", "neutral has the sentences 01 to 30 in SAVEE, not 31"),
        ("JK/su00.wav", "surprise has the sentences 01 to 15 in SAVEE, not 00"),
    ],
)
def test_error_names_the_bad_file(folders: Path, name: str, message: str) -> None:
    (folders / "AudioData" / name).touch()
    with pytest.raises(CorpusError, match=rf"{re.escape(name)}:? {message}"):
        savee.read(folders, partial=True)


def test_speaker_of_another_corpus_is_an_error(flat: Path) -> None:
    (flat / "XY_a01.wav").touch()
    with pytest.raises(CorpusError, match=r"XY_a01\.wav is not .*of the speakers DC, JE, JK, KL"):
        savee.read(flat)


def test_missing_recordings_are_reported(folders: Path) -> None:
    for name in ("DC/a01", "KL/n30", "KL/n29"):
        (folders / "AudioData" / f"{name}.wav").unlink()
    message = r"477 recordings; SAVEE has 480 \(anger 59 of 60, neutral 118 of 120\)\. Restore"
    with pytest.raises(CorpusError, match=message):
        savee.read(folders)
    assert len(savee.read(folders, partial=True)) == 477
    shutil.rmtree(folders / "AudioData/JE")
    with pytest.raises(CorpusError, match="357 recordings; SAVEE has 480"):
        savee.read(folders)


def test_right_folder_is_suggested(flat: Path, folders: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="DC is one of SAVEE's four speakers: give the folder ab"):
        savee.read(folders / "AudioData/DC")
    (tmp_path / "one").mkdir()
    flat.rename(tmp_path / "one/ALL")
    with pytest.raises(CorpusError, match=r"neither DC/a01\.wav nor .*Did you mean .*/one/ALL\?"):
        savee.read(tmp_path / "one")
    for nowhere in (tmp_path / "one/ALL/none", tmp_path):
        with pytest.raises(CorpusError, match="Give the folder AudioData, or get the corpus from"):
            savee.read(nowhere)


@pytest.mark.parametrize("flat", [False, True])
def test_small_layout_contains_speech(tmp_path: Path, flat: bool) -> None:
    write_savee(tmp_path, flat=flat, utterances=28, words=1)
    utterances = savee.read(tmp_path, partial=True)
    cells = Counter((one.speaker, one.labels["emotion"]) for one in utterances)
    assert len(cells) == len(utterances) == 28, "every speaker has every emotion"
    sounds = [soundfile.read(one.path)[0] for one in utterances]
    assert all(np.abs(samples).max() > 0.05 for samples in sounds)
    assert len({samples.tobytes() for samples in sounds}) == 28


def test_both_layouts_have_the_same_audio(tmp_path: Path) -> None:
    write: Callable[..., None] = write_savee
    write(tmp_path / "a", utterances=5, words=1)
    write(tmp_path / "b", utterances=5, words=1, flat=True)
    pairs = [savee.read(tmp_path / side, partial=True) for side in "ab"]
    assert [one.path.read_bytes() for one in pairs[0]] == [
        one.path.read_bytes() for one in pairs[1]
    ]


def test_load_by_name(folders: Path, flat: Path) -> None:
    assert corpora.load(f"savee={folders}").utterances == tuple(savee.read(folders))
    assert len(corpora.load(f"savee={flat}").utterances) == 480
