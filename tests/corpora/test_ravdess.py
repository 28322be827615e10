import re
import shutil
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
import soundfile
from builders.corpus_layouts import write_ravdess

from serein import corpora
from serein.corpora import ravdess
from serein.errors import CorpusError
from serein.records import Utterance

REAL = Path(__file__).parents[3] / "shared" / "data" / "ravdess"
EMOTIONS = {
    "neutral": 96,
    **dict.fromkeys(("calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"), 192),
}


def names(actor: int) -> list[str]:
    codes = product([f"{e:02}" for e in range(1, 9)], ("01", "02"), ("01", "02"), ("01", "02"))
    said = ["-".join(one) for one in codes if one[:2] != ("01", "02")]
    return [f"03-01-{one}-{actor:02}" for one in said]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Empty files with the names of RAVDESS."""
    folder = tmp_path / "RAVDESS"
    for actor in range(1, 25):
        (folder / f"Actor_{actor:02}").mkdir(parents=True)
        for name in names(actor):
            (folder / f"Actor_{actor:02}" / f"{name}.wav").touch()
    return folder


def check(utterances: list[Utterance]) -> None:
    assert len(utterances) == 1440
    assert [one.id for one in utterances] == sorted({one.id for one in utterances})
    assert Counter(one.labels["emotion"] for one in utterances) == EMOTIONS
    assert set(Counter(one.speaker for one in utterances).values()) == {60}
    assert {one.speaker for one in utterances} == {f"{actor:02}" for actor in range(1, 25)}
    for one in utterances:
        assert one.gender == ("male" if int(one.speaker or 0) % 2 else "female")
        assert one.language == "en"


def test_read_small_ravdess(root: Path) -> None:
    utterances = ravdess.read(root)
    check(utterances)
    by_id = {one.id: one for one in utterances}
    one = by_id["03-01-06-02-01-02-12"]
    assert one == Utterance(
        id="03-01-06-02-01-02-12",
        path=root / "Actor_12" / "03-01-06-02-01-02-12.wav",
        speaker="12",
        gender="female",
        language="en",
        text="Kids are talking by the door.",
        labels={"emotion": "fearful", "intensity": "strong", "sentence": "1", "repetition": "2"},
    )
    assert by_id["03-01-01-01-02-01-05"].text == "Dogs are sitting by the door."
    assert by_id["03-01-01-01-02-01-05"].labels["intensity"] == "normal"


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no copy of RAVDESS at {REAL}")
def test_read_published_ravdess() -> None:
    utterances = ravdess.read(REAL)
    check(utterances)
    assert {one.path.suffix for one in utterances} == {".flac"}
    assert corpora.load(f"ravdess={REAL}").utterances == tuple(utterances)


def test_small_layout_has_the_traps_of_the_original(tmp_path: Path) -> None:
    write_ravdess(tmp_path, actors=7, suffix=".flac", nested=True)
    utterances = ravdess.read(tmp_path, partial=True)
    assert len(utterances) == 7 * 60
    assert not any("audio_speech" in str(one.path) for one in utterances)
    assert len(list(tmp_path.rglob("*.flac"))) == 2 * 7 * 60
    by_id = {one.id: one for one in utterances}
    twins = [by_id[f"03-01-03-01-02-{take}-07"].path.read_bytes() for take in ("01", "02")]
    assert twins[0] == twins[1]
    assert len({one.path.read_bytes() for one in utterances}) == 7 * 60 - 1
    stereo = [one.id for one in utterances if soundfile.info(one.path).channels == 2]
    assert stereo == ["03-01-02-01-01-02-05", "03-01-08-01-02-02-01"]


def test_a_second_copy_below_does_not_count(root: Path) -> None:
    below = root / "audio_speech_actors_01-24"
    for folder in sorted(root.glob("Actor_*")):
        shutil.copytree(folder, below / folder.name)
    utterances = ravdess.read(root)
    check(utterances)
    assert not any(below in one.path.parents for one in utterances)
    (note,) = corpora.load(f"ravdess={root}").notes
    assert note == (
        "more recordings of speech not read: 1440, such as "
        "audio_speech_actors_01-24/Actor_01/03-01-01-01-01-01-01.wav"
    )


def test_folder_above_is_accepted(root: Path, tmp_path: Path) -> None:
    check(ravdess.read(tmp_path))
    (tmp_path / "Audio_Song_Actors_01-24" / "Actor_01").mkdir(parents=True)
    check(ravdess.read(tmp_path))
    (tmp_path / "again" / "Actor_01").mkdir(parents=True)
    with pytest.raises(CorpusError, match="more than once, in RAVDESS, again; give one"):
        ravdess.read(tmp_path)


def test_names_in_any_case(root: Path) -> None:
    (root / "Actor_03").rename(root / "ACTOR_03")
    file = root / "Actor_01" / "03-01-01-01-01-01-01.wav"
    file.rename(file.with_suffix(".WAV"))
    (root / "Actor_01" / "._03-01-01-01-01-01-01.wav").touch()
    (root / "Actor_01" / "notes.txt").touch()
    check(ravdess.read(root))


def test_songs_and_videos_are_skipped(root: Path) -> None:
    for name in ("03-02-01-01-01-01-01.wav", "01-01-01-01-01-01-01.wav"):
        (root / "Actor_01" / name).touch()
    check(ravdess.read(root))
    assert corpora.load(f"ravdess={root}").notes == (
        "songs or videos (not 03-01-...) not read: 2, such as Actor_01/01-01-01-01-01-01-01.wav",
    )
    (root / "Actor_01" / names(1)[0]).with_suffix(".wav").unlink()
    with pytest.raises(CorpusError, match=r"1439 .* 2 songs or videos .* were skipped"):
        ravdess.read(root)


def test_what_is_missing_is_counted(root: Path) -> None:
    for name in names(5)[:6]:
        (root / "Actor_05" / f"{name}.wav").unlink()
    message = r"1434 recordings of speech; RAVDESS has 1440 \(neutral 92 of 96, calm 190 of 192, "
    with pytest.raises(CorpusError, match=message + r"actor 05 54 of 60\)\. Restore"):
        ravdess.read(root)
    assert len(ravdess.read(root, partial=True)) == 1434
    shutil.rmtree(root / "Actor_24")
    with pytest.raises(CorpusError, match="actor 24 0 of 60"):
        ravdess.read(root)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("03-01-09-01-01-01-01.wav", "unknown emotion '09'; RAVDESS has 01, 02"),
        ("03-01-01-03-01-01-01.wav", "unknown intensity '03'; RAVDESS has 01, 02"),
        ("03-01-01-01-03-01-01.wav", "unknown statement '03'"),
        ("03-01-01-01-01-03-01.wav", "unknown repetition '03'"),
        ("03-01-01-01-01-01-25.wav", "unknown actor '25'"),
        ("03-01-01-01-01-01.flac", "is not a RAVDESS name such as 03-01-06"),
        ("copy of 03-01-01-01-01-01-01.wav", "is not a RAVDESS name"),
    ],
)
def test_error_names_the_bad_file(root: Path, name: str, message: str) -> None:
    (root / "Actor_01" / name).touch()
    with pytest.raises(CorpusError, match=f"{re.escape(name)}.*{message}"):
        ravdess.read(root, partial=True)


def test_two_formats_of_one_recording_are_an_error(root: Path) -> None:
    (root / "Actor_01" / "03-01-01-01-01-01-01.flac").touch()
    with pytest.raises(CorpusError, match="1441 recordings"):
        ravdess.read(root)
    with pytest.raises(CorpusError, match="two utterances '03-01-01-01-01-01-01'"):
        corpora.load(f"ravdess={root}", partial=True)


def test_right_folder_is_suggested(root: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=f"give the folder above, {re.escape(str(root))}"):
        ravdess.read(root / "Actor_01")
    (tmp_path / "void").mkdir()
    for nowhere in (tmp_path / "void", tmp_path / "none"):
        with pytest.raises(CorpusError, match=r"no folders Actor_01/ to Actor_24/\. Give the"):
            ravdess.read(nowhere)
