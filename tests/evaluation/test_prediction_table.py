"""Tables of predictions, by rows as people have them."""

from pathlib import Path

import pytest

import serein
from serein.errors import ConfigError
from serein.evaluation.prediction_table import TableModel, read_predictions
from serein.records import Corpus, Utterance
from serein.results.evaluation import MODEL

EMOTIONS = ("anger", "neutral", "sadness")


@pytest.fixture(autouse=True)
def _without_forest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("serein.evaluation.nuisance.score_nuisance", lambda *_: {})
    monkeypatch.chdir(tmp_path)


def small() -> Corpus:
    """Two utterances of one file name in two folders, and a segment of a third file."""
    paths = {"a1": "/data/a/001.wav", "b1": "/data/b/001.wav", "c": "/data/c/call.flac"}
    utterances = [
        Utterance(id=id_, path=Path(path), speaker=id_[0], labels={"emotion": name})
        for (id_, path), name in zip(paths.items(), EMOTIONS, strict=True)
    ]
    return Corpus(name="calls", utterances=tuple(utterances))


def read(folder: Path, text: str, name: str = "p.csv") -> TableModel:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_predictions(path, small(), classes=EMOTIONS)


@pytest.mark.parametrize(
    "text",
    [
        "id,label\na1,anger\nb1,neutral\nc,sadness\n",
        "File;Emotion\na/001.wav;anger\nb\\001.wav;neutral\ncall.flac;sadness\n",
        "path,truth,prediction,confidence\n/data/a/001.wav,joy,anger,0.5\n"
        "/data/b/001,joy,neutral,0.5\ncall,joy,sadness,1\n",
        "utterance_id\tanger\tneutral\tsadness\na1\t0.8\t0.1\t0.1\nb1\t.1\t.8\t.1\nc\t0\t0\t1\n",
        "file,emotion,emotion_confidence,emotion_abstained,emotion_anger,emotion_neutral,"
        "emotion_sadness\na/001.wav,anger,0.7,false,0.7,0.2,0.1\nb/001.wav,neutral,0.5,true,"
        "0.25,0.5,0.25\ncall.flac,sadness,1,false,0,0,1\n",
        "id,p_anger,p_neutral,p_sadness,speaker\na1,1,0,0,9\nb1,0,1,0,8\nc,0,0,1,7\n",
    ],
)
def test_tables_as_people_write_them(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, text).found.of
    best = {id_: max(shares, key=shares.__getitem__) for id_, shares in found.items()}
    assert best == {"a1": "anger", "b1": "neutral", "c": "sadness"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label\na1,anger\nx9,neutral\n", r"row 3: calls has no utterance x9, .*1 of 2 rows"),
        ("id,label\na1,anger\na1,neutral\n", "rows 2 and 3 are both a1; keep one row"),
        ("id,label\na1,anger\na/001.wav,fear\n", "rows 2 and 3 are both a1"),
        ("file,label\n001.wav,anger\n", r"001.wav is the name of 2 utterances, a1, b1; give their"),
        ("id,anger,neutral\na1,0.5,0.1\n", r"row 2 \(a1\): .*anger, neutral sum to 0.6; expected"),
        ("id,anger,neutral\na1,60,40\n", "sum to 100; expected 1: divide them by 100"),
        ("id,anger,neutral\na1,1.5,-0.5\n", "neutral -0.5 is no probability"),
        ("id,anger,neutral\na1,0.5,0.5\nb1,half,0.5\n", r"row 3 \(b1\): 'half' is no probability"),
        ("id,comment\na1,fine\n", "expected the answers in a column 'prediction', 'label'"),
        ("who,label\na1,anger\n", "none names the utterances"),
        ("id,label\n,anger\n", "row 2: id is empty"),
        ("id,label\n", "has no rows"),
        ("id,label\na1,\n", "none has an answer"),
        ("id,label,label\na1,x,y\n", "several columns label"),
    ],
)
def test_faulty_tables_name_the_row(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, text)


def test_similar_ids_are_suggested(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean a1"):
        read(tmp_path, "id,label\nA1,anger\n")


def write_table(corpus: Corpus, path: Path, labels: dict[str, str]) -> Path:
    rows = [f"{u.id},{labels.get(u.id, u.labels['emotion'])}" for u in corpus.utterances]
    path.write_text("\n".join(["id,label", *rows]) + "\n", encoding="utf-8")
    return path


def test_scores_are_those_of_the_table(corpus: Corpus, tmp_path: Path) -> None:
    first, second = (u.id for u in corpus.utterances[:2])
    path = write_table(corpus, tmp_path / "mine.csv", {first: "sadness", second: ""})
    results = serein.evaluate(path, corpus).results
    assert results.scores[MODEL]["emotion"].wa == pytest.approx(22 / 24)
    assert results.recipe["name"] == "mine"
    assert any(f"{second} (no answer in the table)" in text for text in results.warnings)
    assert "not known" in results.protocol["caution"]


def test_missing_rows_are_an_error(corpus: Corpus, tmp_path: Path) -> None:
    path = write_table(corpus, tmp_path / "mine.csv", {})
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-2]))
    last = lines[-1].split(",")[0]
    with pytest.raises(ConfigError, match=rf"no row for 2 of 24 tested utterances.*{last}"):
        serein.evaluate(str(path), corpus)


def test_a_data_frame_of_predictions(corpus: Corpus) -> None:
    pandas = pytest.importorskip("pandas")
    rows = [{"id": u.id, "anger": 0.5, "neutral": 0.25, "sadness": 0.25} for u in corpus.utterances]
    results = serein.evaluate(pandas.DataFrame(rows), corpus, name="constant").results
    assert results.scores[MODEL]["emotion"].ua == pytest.approx(1 / 3)
    assert results.calibration["emotion"].raw.ece == pytest.approx(0.5 - 1 / 3)


def test_folds_of_the_table_must_be_those_of_the_protocol(corpus: Corpus, tmp_path: Path) -> None:
    rows = [f"{u.id},{u.labels['emotion']},{u.speaker}" for u in corpus.utterances]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["id,label,fold", *rows]))
    results = serein.evaluate(path, corpus).results
    assert not results.protocol["caution"]
    assert "the table names the fold of each" in results.selections[MODEL]
    other = [row.replace(",s02", ",s01") for row in rows]
    path.write_text("\n".join(["id,label,fold", *other]))
    with pytest.raises(ConfigError, match="column fold is not the split of leave-one-speaker-out"):
        serein.evaluate(path, corpus)


def test_the_command_line(
    corpus: Corpus, root: Path, tmp_path: Path, run: "pytest.FixtureRequest"
) -> None:
    path = write_table(corpus, tmp_path / "mine.csv", {})
    spec = f"synthetic={root}"
    status, printed, _ = run("evaluate", "--predictions", path, "--corpus", spec)  # type: ignore[operator]
    assert status == 0
    assert "mine on synthetic" in printed
    assert "UA 100.0 %" in printed
    (tmp_path / "my_models.py").write_text("def loud(wave, rate):\n    return 'anger'\n")
    status, printed, errors = run(  # type: ignore[operator]
        "evaluate", "my_models:loud", "--corpus", spec, "--name", "always"
    )
    assert (status, "always on synthetic" in printed) == (0, True), errors
    for words, message in (
        (["--predictions", path, "--seed", "3"], "--seed"),
        (["li2019", "--predictions", path], "one of these"),
        (["li2019", "--labels", "a=b"], "--labels: for models that serein did not build"),
        (["--predictions", tmp_path / "x.txt"], "expected a table"),
        (["my_models:quiet"], "unknown name in my_models 'quiet'"),
        (["no_models:quiet"], "Before the colon stands a module of your own"),
        (["my_models:loud", "--labels", "anger"], "expected LABEL=CLASS"),
        (["my_models:loud", "--jobs", "2"], "--jobs: only recipes take this"),
    ):
        status, _, errors = run("evaluate", *words, "--corpus", spec)  # type: ignore[operator]
        assert (status, message in errors) == (2, True), errors
