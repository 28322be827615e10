"""Tables of predictions, by rows as people have them."""

from pathlib import Path
from typing import Any

import pytest

import serein
from serein.errors import ConfigError
from serein.evaluation.answers import Answers
from serein.evaluation.plan import split_corpus
from serein.evaluation.prediction_table import TableModel, read_predictions
from serein.records import Corpus, Fold, Protocol, Utterance
from serein.report import audit, html, tables
from serein.results import io
from serein.results.evaluation import MODEL, Results

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
        (["my_models:loud", "--audit"], "loud is used as it is"),
        (["--predictions", path, "--audit"], "add a row for each utterance and epoch"),
    ):
        status, _, errors = run("evaluate", *words, "--corpus", spec)  # type: ignore[operator]
        assert (status, message in errors) == (2, True), errors


# Predictions of several epochs


def write_epochs(corpus: Corpus, path: Path, wrong_of: dict[int, int], *, subsets: bool) -> Path:
    """Write a table with rows for each fold and epoch, of which some answers are wrong.

    Args:
        corpus: with four speakers, whose folds are called after them.
        path: of the table.
        wrong_of: for each epoch, every how many test utterances the answer is wrong.
        subsets: whether there are rows of the validation subsets, which are right at the last
            epoch but one, and wrong otherwise.
    """
    protocol = split_corpus(corpus, [])[1]
    epochs = sorted(wrong_of)
    lines = ["id,fold,epoch,anger,neutral,sadness"]
    for fold in protocol.folds:
        for epoch in epochs:
            rows = [
                (u, index % wrong_of[epoch] == 0)
                for index, u in enumerate(corpus.select(fold.test))
            ]
            if subsets:
                rows += [(u, epoch != epochs[-2]) for u in corpus.select(fold.validation)]
            for utterance, is_wrong in rows:
                true = EMOTIONS.index(str(utterance.labels["emotion"]))
                answer = EMOTIONS[(true + is_wrong) % 3]
                shares = [f"{0.8 if name == answer else 0.1}" for name in EMOTIONS]
                lines.append(",".join([utterance.id, fold.name, str(epoch), *shares]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_epochs_are_selected_in_every_way(corpus: Corpus, tmp_path: Path) -> None:
    path = write_epochs(corpus, tmp_path / "mine.csv", {5: 6, 10: 3, 15: 2}, subsets=True)
    results = serein.evaluate(path, corpus, audit=True).results
    assert list(results.selections) == ["validation", "last", "test"]
    assert [fold.epochs for fold in results.folds] == [{"validation": 2, "last": 3, "test": 1}] * 4
    wa = {name: scores["emotion"].wa for name, scores in results.scores.items()}
    assert wa == pytest.approx({"validation": 4 / 6, "last": 3 / 6, "test": 5 / 6})
    assert results.headline == "validation"
    assert "optimistic" in results.selections["test"]
    assert results.selections["last"].startswith("the last epoch (the predictions in mine.csv")
    assert any("epochs 5, 10, 15 of the table are counted" in text for text in results.warnings)
    assert not results.protocol["caution"]
    gap = audit.describe_selection_gap(results)
    assert gap is not None
    assert "Selecting epochs on the test subset reports" in gap
    table = audit.build_optimistic_table(results)
    assert table is not None
    assert "--audit" not in table.note
    folds = tables.build_fold_table(results, "emotion")
    assert folds is not None
    assert [cell for row in folds.rows[:1] for cell in row.cells].count("2") == 1
    text = html.render_html(results)
    assert "Selection audit" in text
    assert "Training loss" not in text
    assert io.load_results(save(results, tmp_path)).headline == "validation"


def save(results: Results, folder: Path) -> Path:
    io.save_record(results, folder / "saved")
    return folder / "saved"


def test_epochs_without_validation_rows_quote_the_last_one(corpus: Corpus, tmp_path: Path) -> None:
    path = write_epochs(corpus, tmp_path / "mine.csv", {0: 3, 1: 2}, subsets=False)
    results = serein.evaluate(path, corpus).results
    assert list(results.selections) == ["last", "test"]
    assert results.scores["last"]["emotion"].wa == pytest.approx(3 / 6)
    assert results.calibration["emotion"].calibrated is None
    lines = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("\n".join(",".join([row[0], *row[2:]]) for row in lines))
    without = serein.evaluate(path, corpus).results
    assert without.scores["last"]["emotion"] == results.scores["last"]["emotion"]
    assert "not known" in without.protocol["caution"], "no fold is named"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*rows[:-1]], r"no row for 1 of 12 utterances of fold \w+ at epoch 3"),
        (lambda rows: [rows[0], rows[1], *rows[1:]], r"rows 2 and 3 are both"),
        (lambda rows: [rows[0], rows[1].replace(",1,", ",first,"), *rows[2:]], "row 2: epoch is"),
        (lambda rows: [rows[0], rows[1].replace("s01,1", ",1"), *rows[2:]], "row 2: fold is empty"),
        (lambda rows: [row.replace(",s01,", ",one,", 1) for row in rows], None),
        (
            lambda rows: [row for row in rows if ",s01," not in row],
            r"no fold of the column fold \(s02, s03, s04\) is the fold s01",
        ),
    ],
)
def test_faults_of_epochs_name_fold_and_epoch(
    corpus: Corpus, tmp_path: Path, change: Any, message: str | None
) -> None:
    path = write_epochs(corpus, tmp_path / "mine.csv", {1: 6, 2: 3, 3: 2}, subsets=True)
    path.write_text("\n".join(change(path.read_text().splitlines())))
    if message is None:
        assert len(serein.evaluate(path, corpus).results.folds) == 4
        return
    with pytest.raises(ConfigError, match=message):
        serein.evaluate(path, corpus)


def test_a_fold_without_any_row_is_named() -> None:
    folds = [
        Fold(name=name, train=(), validation=(), test=(id_,))
        for name, id_ in (("a", "1"), ("b", "2"))
    ]
    model = TableModel(
        name="mine",
        meaning="",
        labels=(),
        key=(),
        environment={},
        place="mine.csv",
        found=Answers(),
        epochs={"": {1: Answers(of={"1": {"anger": 1.0}})}},
    )
    protocol = Protocol(name="own", validation="none", folds=tuple(folds))
    with pytest.raises(ConfigError, match="no row for 1 of 1 utterances of fold b at epoch 1"):
        model.select_epochs(protocol)


def test_training_rows_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    path = write_epochs(corpus, tmp_path / "mine.csv", {1: 6, 2: 3}, subsets=True)
    fold = split_corpus(corpus, [])[1].folds[0]
    extra = f"{fold.train[0]},{fold.name},1,1,0,0\n"
    path.write_text(path.read_text() + extra)
    with pytest.raises(ConfigError, match="neither its test nor its validation subset"):
        serein.evaluate(path, corpus)


def test_an_audit_needs_epochs_or_a_training(corpus: Corpus, tmp_path: Path) -> None:
    path = write_table(corpus, tmp_path / "mine.csv", {})
    with pytest.raises(ConfigError, match=r"with its number in a column 'epoch'"):
        serein.evaluate(path, corpus, audit=True)
    with pytest.raises(ConfigError, match=r"always is used as it is: no fold trains it"):
        serein.evaluate(lambda wave, rate: "anger", corpus, name="always", audit=True)
