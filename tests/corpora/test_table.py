import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from builders.csv_tables import write_csv, write_recordings

from serein import corpora
from serein.corpora import table
from serein.errors import CorpusError
from serein.records import ATTRIBUTES, Utterance

FRAME = pd.DataFrame(
    {
        "Path": ["c.wav", "a.wav", "sub/b.wav"],
        "Speaker": ["03", "03", None],
        "gender": ["F", "man", ""],
        "text": ["äh, ja", "so", None],
        "emotion": [" anger", "joy ", None],
        "grade": ["1", "2", "3"],
        "arousal": [3.0, 4.0, None],
        "effort": [0.25, 1.0, 2.0],
    }
)
WRITERS: dict[str, Callable[[Path], object]] = {
    "t.csv": lambda path: FRAME.to_csv(path, index=False),
    "bom.CSV": lambda path: FRAME.to_csv(path, index=False, encoding="utf-8-sig"),
    "semicolons.csv": lambda path: FRAME.to_csv(path, index=False, sep=";"),
    "indexed.csv": lambda path: FRAME.to_csv(path),
    "t.tsv": lambda path: FRAME.to_csv(path, index=False, sep="\t"),
    "tabs.txt": lambda path: FRAME.to_csv(path, index=False, sep="\t", lineterminator="\r\n"),
    "t.jsonl": lambda path: FRAME.to_json(path, orient="records", lines=True, force_ascii=False),
    "lines": lambda path: FRAME.to_json(path, orient="records", lines=True),
    "t.parquet": lambda path: FRAME.to_parquet(path),
    "columns": lambda path: FRAME.to_parquet(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_table_reads_the_same_in_every_format(folder: Path, name: str) -> None:
    WRITERS[name](folder / name)
    assert table.read(folder / name) == [
        Utterance(
            id="a.wav",
            path=folder / "a.wav",
            speaker="03",
            gender="male",
            text="so",
            labels={"arousal": 4.0, "effort": 1.0, "emotion": "joy", "grade": "2"},
        ),
        Utterance(
            id="c.wav",
            path=folder / "c.wav",
            speaker="03",
            gender="female",
            text="äh, ja",
            labels={"arousal": 3.0, "effort": 0.25, "emotion": "anger", "grade": "1"},
        ),
        Utterance(id="sub/b.wav", path=folder / "sub/b.wav", labels={"effort": 2.0, "grade": "3"}),
    ]


@pytest.mark.parametrize("column", ["FILE", "filename", "filepath", "audio", "Wav", "clip"])
def test_path_column_is_found_by_name(folder: Path, column: str) -> None:
    path = write_csv(folder, f"emotion,{column}\nanger,a.wav\n")
    assert table.read(path)[0].path == folder / "a.wav"


def test_path_column_is_found_by_existing_files(folder: Path) -> None:
    path = write_csv(folder, f"emotion,recording,text\nanger,a.wav,{'long ' * 200}\n")
    assert table.read(path)[0].path == folder / "a.wav"
    path = write_csv(folder, "emotion,recording,other\nanger,a.wav,c.wav\n")
    with pytest.raises(CorpusError, match="emotion, recording, other; several name files: rec"):
        table.read(path)
    path = write_csv(folder, "emotion,recording\nanger,gone.wav\n")
    with pytest.raises(CorpusError, match="columns emotion, recording; none names a file"):
        table.read(path)


def test_ids_of_segments_contain_their_times(folder: Path) -> None:
    path = write_csv(
        folder, "file,start,end,emotion\na.wav,0,1.5,joy\na.wav,1.5,,fear\nc.wav,,,joy\n"
    )
    utterances = table.read(path)
    assert [one.id for one in utterances] == ["a.wav:0-1.5", "a.wav:1.5-", "c.wav"]
    assert [(one.start, one.end) for one in utterances] == [(0, 1.5), (1.5, None), (0, None)]


def test_class_codes_are_text_and_dimensions_are_numbers(folder: Path) -> None:
    path = write_csv(folder, "file,id,class,valence,mixed\na.wav,x,1,3,1.5\nc.wav,y,2,4,2\n")
    first = table.read(path)[0]
    assert first.id == "x"
    assert first.labels == {"class": "1", "valence": 3.0, "mixed": 1.5}
    path = write_csv(folder, "file,valence,loose\na.wav,high,1.5\nc.wav,low,n/a\n")
    assert table.read(path)[0].labels == {"valence": "high", "loose": "1.5"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,emotion\na.wav,joy\n\nx.wav,joy\ny.wav,joy\n", r"row 4: .*x\.wav .*\(2 of 3 rows"),
        ("file,emotion\na.wav,joy\n,joy\n", "row 3: file is empty"),
        ("file,emotion\na.wav,joy\na.wav,fear\n", r"rows 2 and 3 are both 'a\.wav'"),
        ("id,file\nx,a.wav\nx,c.wav\n", "rows 2 and 3 are both 'x'"),
        ("file,start\na.wav,soon\n", "row 2: start is 'soon'; expected seconds"),
        ("file,start\na.wav,-1\n", "row 2: start is '-1'"),
        ("file,end\na.wav,nan\n", "row 2: end is 'nan'"),
        ("file,start,end\na.wav,2,2.0\n", "row 2: end 2.0 is not after start 2.0"),
        ("file,gender\na.wav,robot\n", "row 2: gender is 'robot'; expected one of f, female"),
        ("file,Emotion,emotion\na.wav,joy,joy\n", "several columns emotion"),
        ("file,emotion\na.wav,joy,more\n", "row 2 has 3 cells and the header 2"),
        ('file,emotion\na.wav,"joy\n', "cannot be read"),
        ("file,emotion\n", "has no rows"),
        ("", "has no rows"),
    ],
)
def test_error_names_the_row_and_the_fault(folder: Path, text: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        table.read(write_csv(folder, text))


def test_folders_of_many_recordings_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that differ from those in the listing of their folder are tested one by one."""
    asked: list[Path] = []

    def isfile(file: Path) -> bool:
        asked.append(file)
        return file.is_file()

    monkeypatch.setattr(table, "isfile", isfile)
    names = [f"many/{i:02}.wav" for i in range(2 * table.LISTING_THRESHOLD)]
    write_recordings(tmp_path, *names, "one.wav")
    written = [*names, "one.wav", "many//07.wav", "./many/08.wav", str(tmp_path / "many/09.wav")]
    read = table.read(write_csv(tmp_path, "\n".join(["file", *written])))
    assert [u.id for u in read] == sorted(written)
    assert len({u.path.resolve() for u in read}) == len(names) + 1
    assert {file.name for file in asked} <= {"one.wav", "07.wav", "08.wav", "09.wav"}


def test_folder_is_not_a_recording(tmp_path: Path) -> None:
    names = [f"many/{i:02}.wav" for i in range(2 * table.LISTING_THRESHOLD)]
    write_recordings(tmp_path, *names)
    (tmp_path / names[3]).unlink()
    (tmp_path / names[3]).mkdir()
    with pytest.raises(CorpusError, match=r"row 5: .*03\.wav does not exist \(1 of 40 rows"):
        table.read(write_csv(tmp_path, "\n".join(["file", *names])))


def test_every_attribute_can_be_a_column(folder: Path) -> None:
    said = {name: "x" for name in ATTRIBUTES if name not in ("gender", "corpus")}
    one = table.read(write_csv(folder, f"file,{','.join(said)}\na.wav{',x' * len(said)}\n"))[0]
    assert {name: getattr(one, name) for name in said} == said
    assert not one.labels


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", b'{"file": "a.wav"}\n{"file": \n', "line 2 is not JSON"),
        ("t.jsonl", b"[1, 2]\n", "line 1 is not an object"),
        ("t.jsonl", b'{"file": "a.wav"}\n\n{"file": "x.wav"}\n', r"row 3: .*x\.wav"),
        ("t.parquet", b"PAR1 and then nothing", "cannot be read"),
        ("t.csv", "file,text\na.wav,ä\n".encode("utf-16"), "cannot be read.*UTF-8"),
        ("t.csv", "file,text\na.wav,ä\n".encode("latin-1"), "cannot be read.*UTF-8"),
    ],
)
def test_broken_table_is_an_error(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        table.read(folder / name)


def test_json_line_may_contain_any_character(folder: Path) -> None:
    line = json.dumps({"file": "a.wav", "text": "one\u2028two", "sure": True}, ensure_ascii=False)
    (folder / "t.jsonl").write_text(line, encoding="utf-8")
    first = table.read(folder / "t.jsonl")[0]
    assert first.text == "one\u2028two"
    assert first.labels == {"sure": "true"}


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"none\.csv cannot be read: .*No such file"):
        table.read(tmp_path / "none.csv")


# By name


# Names of columns, missing files


def test_usual_names_of_columns_are_known(folder: Path) -> None:
    path = write_csv(
        folder,
        "file_id,audio_path,Speaker_ID,sex,normalized_text,locale,emotion\n"
        "u1,a.wav,007,F,good morning,en,joy\nu2,c.wav,008,m,good night,en,fear\n",
    )
    first, second = table.read(path)
    assert (first.id, first.speaker, first.gender) == ("u1", "007", "female")
    assert (first.text, first.language, first.labels) == ("good morning", "en", {"emotion": "joy"})
    assert second.path == folder / "c.wav"


def test_a_known_name_goes_before_an_alias(folder: Path) -> None:
    path = write_csv(folder, "file,speaker,speaker_id,emotion\na.wav,ann,7,joy\nc.wav,bob,8,fear\n")
    first, _ = table.read(path)
    assert first.speaker == "ann"
    assert first.labels == {"emotion": "joy", "speaker_id": "7"}


@pytest.mark.parametrize(
    ("cells", "text", "labels"),
    [(("it is late", "who"), "it is late", {}), (("a01", "b02"), None, {"sentence": "a01"})],
)
def test_sentence_is_the_text_if_it_has_words(
    folder: Path, cells: tuple[str, str], text: str | None, labels: dict[str, str]
) -> None:
    path = write_csv(folder, f"file,sentence\na.wav,{cells[0]}\nc.wav,{cells[1]}\n")
    first, _ = table.read(path)
    assert (first.text, first.labels) == (text, labels)


def test_partial_leaves_out_missing_files_and_lists_them(folder: Path) -> None:
    path = write_csv(folder, "file,emotion\na.wav,joy\nnone.wav,fear\nc.wav,fear\n")
    with pytest.raises(CorpusError, match=r"row 3: .*none\.wav does not exist.*--partial"):
        corpora.load(f"mine={path}")
    corpus = corpora.load(f"mine={path}", partial=True)
    assert [one.id for one in corpus.utterances] == ["a.wav", "c.wav"]
    assert corpus.notes == ("1 of 3 rows left out, whose files do not exist: none.wav",)
    (folder / "none.wav").write_bytes((folder / "a.wav").read_bytes())
    assert corpora.load(f"mine={path}").notes == ()
    empty = write_csv(folder, "file,emotion\nx.wav,joy\ny.wav,fear\n", "empty.csv")
    with pytest.raises(CorpusError, match="none of 2 recordings exists"):
        corpora.load(f"mine={empty}", partial=True)


def test_a_data_frame_is_a_corpus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(folder)
    rows = {"file": ["c.wav", "a.wav"], "speaker": [3, None], "Arousal": [2.5, float("nan")]}
    corpus = corpora.from_frame(pandas.DataFrame(rows), "calls")
    assert corpus.name == "calls"
    assert [one.id for one in corpus.utterances] == ["a.wav", "c.wav"]
    assert [one.labels for one in corpus.utterances] == [{}, {"arousal": 2.5}]
    by_file = pandas.DataFrame(rows).set_index("file")
    assert corpora.from_frame(by_file).utterances == corpus.utterances
    assert corpora.from_frame(by_file).name == "table"
    with pytest.raises(CorpusError, match="the data frame has no rows"):
        corpora.from_frame(pandas.DataFrame({"file": []}))
