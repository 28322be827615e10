"""Tables as spreadsheets and other programs write them."""

from pathlib import Path
from typing import Any

import pytest
from builders.csv_tables import write_recordings

import serein
from serein import corpora
from serein.corpora import table
from serein.errors import CorpusError, UnknownName


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_recordings(tmp_path, "a.wav", "b.wav", "c.wav")
    return tmp_path


def read(folder: Path, text: str) -> list[tuple[float, float | None]]:
    (folder / "table.csv").write_text(text, encoding="utf-8")
    return [(one.start, one.end) for one in table.read(folder / "table.csv")]


@pytest.mark.parametrize("first", ["sep=;\n", "\ufeffsep=;\r\n", "SEP=;\n"])
def test_line_of_excel_with_the_separator(folder: Path, first: str) -> None:
    rows = "file;emotion;text\na.wav;anger;so, it goes\nb.wav;joy;yes\n"
    assert read(folder, first + rows) == [(0.0, None)] * 2
    with pytest.raises(CorpusError, match=r"row 5: .*c2\.wav does not exist"):
        read(folder, f"{first}{rows}c2.wav;joy;no\n")


@pytest.mark.parametrize("time", ["1.5", "00:01.5", "0:00:01.5", "0 days 00:00:01.500000"])
def test_times_of_other_programs(folder: Path, time: str) -> None:
    text = f"file,start,end,emotion\na.wav,0.5,{time},anger\nb.wav,{time},NaT,joy\n"
    assert read(folder, text) == [(0.5, 1.5), (1.5, None)]


@pytest.mark.parametrize("time", ["soon", "-1", "1:2:3:4", "1 hour"])
def test_text_that_is_no_time(folder: Path, time: str) -> None:
    with pytest.raises(CorpusError, match=r"row 2: start is .*00:02\.5 or 0 days"):
        read(folder, f"file,start,emotion\na.wav,{time},anger\n")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("sub\\a.wav", "Write / in place of"),
        ("C:\\data\\a.wav", "Windows"),
        ("file:///data/a.wav", "without file://"),
        ("https://example.org/a.wav", "download the files"),
    ],
)
def test_paths_that_are_none_of_this_system(folder: Path, path: str, words: str) -> None:
    with pytest.raises(CorpusError, match=words):
        read(folder, f"file,emotion\n{path},anger\n")


# Columns of other names

OWN = "Datei,Sprecherin,Satz,text,Alter\na.wav,ann,Guten Tag,x1,30\nb.wav,bob,So so,x2,40\n"
MAPPED = "path=Datei,speaker=sprecherin,text=Satz"


def describe(corpus: serein.Corpus) -> list[tuple[Any, ...]]:
    return [(u.path.name, u.speaker, u.text, u.labels) for u in corpus.utterances]


def test_columns_of_a_table_are_mapped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "own.csv").write_text(OWN, encoding="utf-8")
    corpus = corpora.load(f"mine={folder / 'own.csv'},{MAPPED}")
    expected = [
        ("a.wav", "ann", "Guten Tag", {"alter": "30"}),
        ("b.wav", "bob", "So so", {"alter": "40"}),
    ]
    assert describe(corpus) == expected, "the table's own column text is no label"
    assert corpus.notes == ("columns left out, as others were mapped to them: text",)
    columns = dict(pair.split("=") for pair in MAPPED.split(","))
    assert describe(serein.load_corpus(folder / "own.csv", columns=columns)) == expected
    corpora.register("mine", folder / f"own.csv,{MAPPED}")
    assert corpora.saved_paths() == {"mine": folder / "own.csv"}
    assert describe(corpora.load("mine")) == expected
    corpora.register("other", folder / f"own.csv,{MAPPED}")
    assert describe(corpora.load("mine")) == expected, "it is saved again with another one"
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(folder)
    frame = pandas.read_csv(folder / "own.csv")
    assert describe(serein.load_corpus(frame, columns=columns))[1][:3] == expected[1][:3]


def test_one_column_may_be_read_as_two(folder: Path) -> None:
    text = "file,spk,emotion\na.wav,ann,joy\nb.wav,bob,joy\n"
    (folder / "own.csv").write_text(text, encoding="utf-8")
    corpus = corpora.load(f"mine={folder / 'own.csv'},id=file,session=spk,speaker=spk")
    assert [(u.id, u.session, u.speaker) for u in corpus.utterances] == [
        ("a.wav", "ann", "ann"),
        ("b.wav", "bob", "bob"),
    ]
    assert corpus.notes == ()


@pytest.mark.parametrize(
    ("mapped", "message"),
    [
        ("speaker=spk", r"has no column spk, from which speaker .*its columns are datei, sprecher"),
        ("speaker=sprecher", r"did you mean sprecherin\? its columns are"),
        ("speakr=Sprecherin", r"speakr cannot be mapped .* among path, id, speaker"),
        ("emotion=Alter", r"A label keeps its name, and --set tasks.TASK.label=COLUMN"),
        ("speaker=", r"is not NAME=COLUMN,NAME=COLUMN"),
        ("speaker=spk,text", r"is not NAME=COLUMN,NAME=COLUMN"),
    ],
)
def test_faults_of_mapped_columns(folder: Path, mapped: str, message: str) -> None:
    (folder / "own.csv").write_text(OWN, encoding="utf-8")
    with pytest.raises(CorpusError, match=message):
        corpora.load(f"mine={folder / 'own.csv'},{mapped}")


def test_only_tables_have_columns(folder: Path) -> None:
    with pytest.raises(CorpusError, match=r"synthetic is read by .*only columns of tables"):
        serein.load_corpus(f"synthetic={folder}", columns={"speaker": "spk"})


def test_a_table_whose_name_looks_like_columns(folder: Path) -> None:
    name = "own.csv,a=b.csv"
    (folder / name).write_text("file,emotion\na.wav,joy\n", encoding="utf-8")
    assert len(corpora.load(f"mine={folder / name}").utterances) == 1


@pytest.mark.parametrize(
    ("name", "is_guessed"), [("mine", False), ("data", False), ("emo-db", True)]
)
def test_free_names_are_not_guessed(name: str, is_guessed: bool) -> None:
    with pytest.raises(UnknownName) as caught:
        corpora.load(name)
    assert ("did you mean" in str(caught.value)) is is_guessed
