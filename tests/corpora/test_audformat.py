import re
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import soundfile
from builders.corpus_layouts import write_audformat

from serein import corpora
from serein.corpora import audformat
from serein.errors import CorpusError
from serein.records import Utterance


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_audformat(tmp_path / "db", words=1)
    return tmp_path / "db"


def database(folder: Path, header: str, **tables: str) -> Path:
    """Write a database with this header, these tables, and the files a, b and c."""
    folder.mkdir(exist_ok=True)
    (folder / "db.yaml").write_text(header, encoding="utf-8")
    for name, text in tables.items():
        (folder / f"db.{name}.csv").write_text(text, encoding="utf-8")
    for name in "abc":
        (folder / f"{name}.wav").touch()
    return folder


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_read_small_database(root: Path) -> None:
    utterances = audformat.read(root)
    assert len(utterances) == 4 * 2 * 2
    assert [one.id for one in utterances] == sorted({one.id for one in utterances})
    assert Counter(one.labels["split"] for one in utterances) == {"train": 8, "test": 8}
    assert {one.speaker: one.gender for one in utterances} == {
        "01": "male",
        "02": "female",
        "03": "male",
        "04": "female",
    }
    first, second = utterances[:2]
    length = soundfile.info(root / "audio" / "01-anger.wav").duration
    assert first.path == root / "audio" / "01-anger.wav"
    assert first.start == 0
    assert first.end == second.start
    assert 0 < second.start < length
    assert second.end is None
    assert first.labels == {"emotion": "anger", "arousal": 0.7, "age": 21.0, "split": "train"}
    assert second.labels == {"emotion": "anger", "age": 21.0, "split": "train"}
    assert first.language == "de"
    assert first.text
    assert first.text != second.text
    assert corpora.load(f"audformat={root}").utterances == tuple(utterances)


def to_parquet(root: Path, name: str) -> None:
    """Convert a table to Parquet as audformat writes it, with types, and times as durations."""
    file = root / f"db.{name}.csv"
    frame = pd.read_csv(file, dtype={"speaker": "string"})
    for column in {"start", "end"} & set(frame):
        frame[column] = pd.to_timedelta(frame[column])
    frame.to_parquet(root / f"db.{name}.parquet", index=False)
    file.unlink()


def test_parquet_equals_csv(root: Path) -> None:
    before = audformat.read(root)
    for name in ("files", "emotion.train", "emotion.test", "speaker"):
        to_parquet(root, name)
    assert not list(root.glob("*.csv"))
    assert audformat.read(root) == before


def test_parquet_durations_keep_nanoseconds(root: Path) -> None:
    frame = pd.read_csv(root / "db.emotion.test.csv").head(1)
    frame["start"], frame["end"] = pd.to_timedelta([123_456_789]), pd.to_timedelta([1_000_000_001])
    frame.to_parquet(root / "db.emotion.test.parquet", index=False)
    one = next(one for one in audformat.read(root) if one.labels.get("split") == "test")
    assert (one.start, one.end) == (0.123456789, 1.000000001)
    assert one.id == "audio/02-anger.wav:0.123456789-1.000000001"


FILES = "tables:\n  files:\n    type: filewise\n    columns:\n"


def test_columns_become_attributes(tmp_path: Path) -> None:
    header = (
        "languages: [eng, deu]\nschemes:\n  speaker: {dtype: int}\n  sure: {dtype: bool}\n"
        "  rank: {dtype: int}\n  grade: {dtype: int, labels: [1, 2]}\n  long: {dtype: time}\n"
        f"{FILES}      who: {{scheme_id: speaker}}\n      sex: {{}}\n      language: {{}}\n"
        "      session:\n      text: {}\n      transcription: {}\n      sure: {scheme_id: sure}\n"
        "      rank: {scheme_id: rank}\n      grade: {scheme_id: grade}\n"
        "      duration: {scheme_id: long}\n      note: {}\n"
    )
    table = (
        "file,who,sex,language,session,text,transcription,sure,rank,grade,duration,note,unknown\n"
        "a.wav,3,F,eng,s1,roughly,exactly,True,3,2,0 days 00:01:02.250000,x,y\n"
        "b.wav,4,other,xho,,roughly,,,,,,,\n"
    )
    first, second = audformat.read(database(tmp_path, header, files=table))
    assert first == Utterance(
        id="a.wav",
        path=tmp_path / "a.wav",
        speaker="3",
        gender="female",
        language="en",
        session="s1",
        text="exactly",
        labels={"sure": "true", "rank": 3.0, "grade": "2", "duration": 62.25, "note": "x"},
    )
    assert (second.gender, second.language, second.text) == (None, "xho", "roughly")
    assert second.labels == {}


def test_described_labels_add_values(tmp_path: Path) -> None:
    header = (
        "languages: [deu]\nschemes:\n"
        "  speaker:\n    dtype: int\n    labels:\n"
        "      3: {gender: male, age: 31, accent: north, language: fra, gone: null}\n"
        "  transcription:\n    dtype: str\n    labels: {a01: 'Der Lappen: ja', a02: Das}\n"
        "  emotion:\n    dtype: str\n    labels: {W: anger}\n"
        f"{FILES}      speaker: {{scheme_id: speaker}}\n      line: {{scheme_id: transcription}}\n"
        "      emotion: {scheme_id: emotion}\n      accent: {}\n"
    )
    table = "file,speaker,line,emotion,accent\na.wav,3,a01,W,\nb.wav,3,a02,W,south\nc.wav,4,,,\n"
    a, b, c = audformat.read(database(tmp_path, header, files=table))
    assert (a.speaker, a.gender, a.language, a.text) == ("3", "male", "fr", "Der Lappen: ja")
    assert a.labels == {"age": 31.0, "accent": "north", "emotion": "W"}
    assert (b.text, b.labels["accent"]) == ("Das", "south"), "a row goes before its labels"
    assert (c.speaker, c.gender, c.language, c.text, c.labels) == ("4", None, "de", None, {})


def test_files_with_segments_are_not_utterances(tmp_path: Path) -> None:
    header = (
        "tables:\n  files:\n    type: filewise\n    columns: {speaker: {}, emotion: {}}\n"
        "  parts:\n    type: segmented\n    columns: {emotion: {}}\n"
    )
    parts = (
        "file,start,end,emotion\na.wav,0 days 00:00:00,0 days 00:00:01.5,joy\n"
        "a.wav,0 days 00:00:01.500000,NaT,fear\nb.wav,0 days,NaT,awe\nc.wav,1 days 01:00:00,,\n"
    )
    files = "file,speaker,emotion\na.wav,s1,grief\nb.wav,s2,\n"
    utterances = audformat.read(database(tmp_path, header, files=files, parts=parts))
    assert [(one.id, one.speaker, one.labels.get("emotion")) for one in utterances] == [
        ("a.wav:0-1.5", "s1", "joy"),
        ("a.wav:1.5-", "s1", "fear"),
        ("b.wav", "s2", "awe"),
        ("c.wav:90000-", None, None),
    ], "what is said of a stretch goes before what is said of its file"


TWO = (
    "splits: {dev: {type: dev}, folds: {type: test}}\n"
    "tables:\n  one:\n    type: filewise\n    split_id: dev\n    columns: {emotion: {}, age: {}}\n"
    "  two:\n    type: filewise\n    split_id: SPLIT\n    columns: {emotion: {}, age: {}}\n"
)


def test_tables_are_joined(tmp_path: Path) -> None:
    one, two = "file,emotion,age\na.wav,joy,3\n", "file,emotion,age\na.wav,joy,3\nb.wav,awe,4\n"
    header = TWO.replace("    split_id: SPLIT\n", "")
    a, b = audformat.read(database(tmp_path, header, one=one, two=two))
    assert a.labels == {"split": "dev", "emotion": "joy", "age": "3"}
    assert b.labels == {"emotion": "awe", "age": "4"}


def test_conflicting_columns_get_the_name_of_their_table(tmp_path: Path) -> None:
    one, two = "file,emotion,age\na.wav,joy,3\n", "file,emotion,age\na.wav,awe,3\nb.wav,awe,\n"
    header = TWO.replace("    split_id: SPLIT\n", "")
    a, b = audformat.read(database(tmp_path, header, one=one, two=two))
    assert a.labels == {"split": "dev", "one.emotion": "joy", "two.emotion": "awe", "age": "3"}
    assert b.labels == {"two.emotion": "awe"}
    for name in ("one", "two"):
        edit(tmp_path / f"db.{name}.csv", "emotion", "speaker")
    edit(tmp_path / "db.yaml", "emotion", "speaker")
    with pytest.raises(CorpusError, match=r"a\.wav: speaker is 'joy' and 'awe'; correct one"):
        audformat.read(tmp_path)


def test_an_utterance_has_one_split(tmp_path: Path) -> None:
    table = "file,emotion,age\na.wav,joy,3\n"
    folder = database(tmp_path, TWO.replace("SPLIT", "folds"), one=table, two=table)
    with pytest.raises(CorpusError, match=r"a\.wav: split is 'dev' and 'test'"):
        audformat.read(folder)
    edit(folder / "db.two.csv", "a.wav", "b.wav")
    assert [one.labels["split"] for one in audformat.read(folder)] == ["dev", "test"]
    edit(folder / "db.yaml", "split_id: folds", "split_id: elsewhere")
    assert [one.labels["split"] for one in audformat.read(folder)] == ["dev", "elsewhere"]


def test_missing_media_are_counted(root: Path) -> None:
    for name in ("03-anger.wav", "04-neutral.wav"):
        (root / "audio" / name).unlink()
    message = r"03-anger\.wav is missing, as are 1 more of the 8 files"
    with pytest.raises(CorpusError, match=message):
        audformat.read(root)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.wav,soon,", "row 2: 'soon' is not a time such as '0 days 00:00:01.5'"),
        ("a.wav,0 days 00:00:02,0 days 00:00:01", r"row 2: end 1.0 is not after start 2.0"),
        (",0 days,", "row 2: file is empty"),
        ("a.wav,1,2\na.wav,1.0,2.0", "row 3: a.wav:1-2 is a duplicate"),
        ('"a.wav', "cannot be read"),
    ],
)
def test_error_names_the_bad_row(tmp_path: Path, row: str, message: str) -> None:
    folder = database(tmp_path, "tables: {t: {type: segmented}}", t=f"file,start,end\n{row}\n")
    with pytest.raises(CorpusError, match=rf"db\.t\.csv.*{message}"):
        audformat.read(folder)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "has no tables"),
        ("name: x\n", "has no tables"),
        ("- a\n- b\n", "has no tables"),
        ("tables: {a: [\n", "cannot be read"),
        ("tables: [a, b]\n", r"tables is \['a', 'b'\]; expected names and values"),
        ("tables: {t: {columns: 3}}\n", "columns is 3"),
        ("tables: {gone: {}}\n", r"has the table gone, but .*db\.gone\.csv is missing; restore"),
        ("tables: {pickled: {}}\n", "it is pickled: save it again as CSV or Parquet"),
        ("tables: {t: {}}\nschemes: {s: {labels: people}}\n", "labels refer to the table people"),
        (
            "tables: {t: {}}\nschemes: {s: {labels: m}}\nmisc_tables: {m: {levels: [x, y]}}\n",
            r"db\.m\.csv: its levels are \['x', 'y'\]; expected exactly one",
        ),
        ("tables: {t: !!python/object:os.system {}}\n", "cannot be read"),
    ],
)
def test_bad_header_is_an_error(tmp_path: Path, header: str, message: str) -> None:
    folder = database(tmp_path, header, t="file\na.wav\n", m="x,y\n1,2\n")
    (folder / "db.pickled.pkl").touch()
    with pytest.raises(CorpusError, match=message):
        audformat.read(folder)


def test_value_of_another_type_than_its_scheme(tmp_path: Path) -> None:
    header = f"schemes: {{v: {{dtype: float}}}}\n{FILES}      valence: {{scheme_id: v}}\n"
    folder = database(tmp_path, header, files="file,valence\na.wav,high\n")
    with pytest.raises(CorpusError, match=r"a\.wav: valence is 'high'; expected float"):
        audformat.read(folder)


def test_a_folder_without_a_header(root: Path, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    for nowhere in (tmp_path / "void", tmp_path / "none"):
        with pytest.raises(CorpusError, match=r"has no db\.yaml; expected a database in audformat"):
            audformat.read(nowhere)
    shutil.copy(root / "audio" / "01-anger.wav", root / "db.emotion.test.parquet")
    with pytest.raises(CorpusError, match=re.escape("db.emotion.test.parquet cannot be read")):
        audformat.read(root)


def test_cache_of_audb(tmp_path: Path) -> None:
    """audb keeps NAME/VERSION/FLAVOUR, media as requested, and the suffixes of the tables."""
    header = """\
name: calls
audb: {root: /cache, version: 1.10.0, flavor: {format: flac}, complete: false}
schemes: {emotion: {dtype: str}}
tables:
  files: {type: filewise, columns: {emotion: {scheme_id: emotion}}}
  unrequested: {type: filewise, columns: {emotion: {scheme_id: emotion}}}
"""
    table = "file,emotion\na.wav,joy\nb.mp3,anger\ngone.wav,fear\n"
    for version in ("1.9.0", "1.10.0"):
        folder = tmp_path / "calls" / version / "d3b62a9b"
        folder.parent.mkdir(parents=True)
        database(folder, header, files=table)
        (folder / "db.files.pkl").write_bytes(b"pickle")
        (folder / "b.flac").touch()
        (folder / "b.wav").unlink()
    with pytest.raises(CorpusError, match="has the table unrequested, but"):
        audformat.read(tmp_path / "calls")
    corpus = corpora.load(f"audformat={tmp_path / 'calls'}", partial=True)
    assert {one.id: one.path for one in corpus.utterances} == {
        "a.wav": folder / "a.wav",
        "b.mp3": folder / "b.flac",
    }
    assert corpus.notes == ("tables without a file: unrequested", "segments without media: 1")
    (folder / "db.unrequested.csv").write_text("file,emotion\na.wav,joy\n")
    with pytest.raises(CorpusError, match=r"gone\.wav is missing, one of the 3 files that the"):
        audformat.read(folder.parent)
    shutil.copytree(folder, folder.parent / "ffffffff")
    with pytest.raises(CorpusError, match=r"has several flavours: d3b62a9b, ffffffff; give the"):
        audformat.read(folder.parent)
    assert len(audformat.read(folder, partial=True)) == 2
