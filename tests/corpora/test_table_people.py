"""Tables as spreadsheets and other programs write them."""

from pathlib import Path

import pytest
from builders.csv_tables import write_recordings

from serein.corpora import table
from serein.errors import CorpusError


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
