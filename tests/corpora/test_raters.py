import sys
from pathlib import Path

import pytest
from builders.csv_tables import write_recordings

from serein import cli
from serein.corpora import table
from serein.corpora._reading import combine_answers
from serein.errors import CorpusError
from serein.labels.votes import read_votes

TABLE = """\
file;speaker;Annotator;emotion;arousal;sentence;note
a.wav;03;r1; anger ;4.0;s1;
a.wav;03;r2;neutral;3.0;s1;loud
a.wav;;r3;anger;;s1;
b.wav;08;r1;neutral;1.5;s2;
b.wav;08;r2;sadness;;s2;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).touch()
    (tmp_path / "t.csv").write_text(TABLE)
    return tmp_path / "t.csv"


def test_rows_of_several_raters_are_one_utterance(path: Path) -> None:
    first, second = table.read(path)
    assert (first.id, first.speaker) == ("a.wav", "03")
    assert first.labels == {
        "arousal": 3.5,
        "arousal:r1": 4.0,
        "arousal:r2": 3.0,
        "emotion": "anger",
        "emotion_votes": "anger=2, neutral=1",
        "emotion:r1": "anger",
        "emotion:r2": "neutral",
        "emotion:r3": "anger",
        "note": "loud",
        "sentence": "s1",
    }
    assert "emotion" not in second.labels  # one vote each
    assert read_votes(second, "emotion_votes") == {"neutral": 1.0, "sadness": 1.0}
    assert second.labels["arousal"] == 1.5


def test_one_row_each_keeps_the_column(path: Path) -> None:
    path.write_text("".join(TABLE.splitlines(keepends=True)[::3]))
    assert [one.labels["annotator"] for one in table.read(path)] == ["r3"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("a.wav;03;r2", "a.wav;03;r1", "row 3: annotator r1 rated a.wav before; keep one answer"),
        ("a.wav;03;r2", "a.wav;03;", "row 3: annotator is empty, and a.wav has several rows"),
        ("a.wav;03;r2", "a.wav;04;r2", r"rows 2, 3, 4: a.wav has the speaker 03 and 04; correct"),
    ],
)
def test_contradicting_rows(path: Path, old: str, new: str, message: str) -> None:
    path.write_text(TABLE.replace(old, new))
    with pytest.raises(CorpusError, match=message):
        table.read(path)


def test_answers_of_several_classes_are_divided() -> None:
    assert combine_answers("mood", {"r1": "a; b", "r2": "b"}) == {
        "mood": "b",
        "mood_votes": "a=0.5, b=1.5",
        "mood:r1": "a; b",
        "mood:r2": "b",
    }


def test_corpora_check_prints_the_agreement(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recordings(path.parent, "a.wav", "b.wav")
    monkeypatch.setattr("serein.evaluation.nuisance.score_corpus", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["serein", "corpora", "check", f"mine={path}"])
    with pytest.raises(SystemExit):
        cli.main()
    output = capsys.readouterr().out
    assert "on arousal: Krippendorff's alpha 0.000 (numbers; 2 answers for 1 utterance)" in output
    assert "on emotion: Krippendorff's alpha 0.000 (classes; 5 answers for 2 utterances)" in output
