"""The Python interface: what it accepts, and its errors for everything else."""

from pathlib import Path
from typing import Any

import pytest
from builders.csv_tables import write_csv, write_recordings
from builders.example_results import example_results

import serein
from serein import api
from serein.errors import ConfigError, CorpusError, SereinError, UnknownName
from serein.evaluation.evaluate import Run
from serein.records import Corpus


@pytest.fixture
def table(folder: Path) -> Path:
    return write_csv(folder, "file,speaker,emotion\na.wav,ann,joy\nc.wav,bob,fear\n")


def test_a_corpus_by_text_path_or_frame(
    table: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas")
    read = serein.load_corpus(f"labels={table}")
    assert serein.load_corpus(table) == serein.load_corpus(str(table)) == read
    assert read.name == "labels"
    assert serein.load_corpus(corpus) is corpus
    monkeypatch.chdir(table.parent)
    frame = pandas.read_csv(table)
    frame.attrs["name"] = "calls"
    assert serein.load_corpus(frame).name == "calls"
    assert [u.labels for u in serein.load_corpus(frame).utterances] == [
        u.labels for u in read.utterances
    ]
    write_recordings(table.parent / "more", "x.wav")
    other = write_csv(table.parent / "more", "file,speaker,emotion\nx.wav,cem,joy\n", "more.csv")
    assert serein.load_corpus([table, str(other)]).name == "labels+more"


@pytest.mark.parametrize("corpus", [None, 3, [3], {"emodb": "x"}])
def test_a_corpus_of_another_type_is_an_error_of_ours(corpus: Any) -> None:
    with pytest.raises(CorpusError, match="cannot be read; expected its name, NAME=PATH"):
        serein.load_corpus(corpus)


def test_settings_are_checked_before_a_corpus_is_read() -> None:
    for settings in ("training.epoch=1", ["training.epoch=1"], {"training.epoch": 1}):
        with pytest.raises(UnknownName, match=r"'epoch'; did you mean 'epochs'"):
            serein.evaluate("li2019", "mine=does-not-exist.csv", settings=settings)
    with pytest.raises(ConfigError, match=r"protocol\.folds"):
        serein.evaluate("li2019", "mine=none.csv", protocol={"name": "random", "folds": 1})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: serein.evaluate("li2019", "x", settings=3), "settings are 3; expected a list"),
        (lambda: serein.evaluate("li2019", "x", settings=[3]), "expected a list such as"),
        (lambda: serein.evaluate("li2019", "x", protocol=3), "protocol is 3; expected its name"),
        (lambda: serein.evaluate("li2019", "x", seeds=0), "seeds is 0"),
        (lambda: serein.evaluate("li2019", "x", labels={"a": "b"}), "labels are for models that"),
        (lambda: serein.evaluate("no-recipe", "x"), "unknown recipe 'no-recipe'"),
        (lambda: serein.train(3, "x", "m.safetensors"), "a recipe of the type int"),
        (lambda: serein.train("li2019", Corpus(name="a", utterances=()), 3), "output is 3"),
        (lambda: serein.score_model(3, "x"), "bundle is 3; expected a path"),
        (lambda: serein.score_model("none.safetensors", "x"), "none.safetensors"),
        (lambda: serein.load_results(3), "path is 3; expected a path"),
        (lambda: serein.load_results("none"), "cannot read none"),
        (lambda: serein.compare("none"), "takes two runs or more; got 1"),
        (
            lambda: serein.evaluate(
                "li2019", "x", init="none.safetensors", settings="training.init=a"
            ),
            "mean the same",
        ),
    ],
)
def test_faulty_arguments_are_errors_of_ours(call: Any, message: str) -> None:
    with pytest.raises(SereinError, match=message):
        call()


def test_settings_and_protocols_as_dictionaries() -> None:
    settings = {"training.rate": 0.01, "protocol.only": {"style": "read"}, "model.name": "rnn"}
    assert api.to_settings(settings) == [
        *("training.rate=0.01", "protocol.only.style=read", "model.name=rnn")
    ]
    recipe = api.resolve_recipe("li2019", api.to_settings({"training.epochs": 3}))
    assert recipe.training["epochs"] == 3


def test_results_show_themselves_in_a_few_lines() -> None:
    results = example_results()
    text = repr(results)
    assert len(text.splitlines()) <= 4
    assert len(text) < 400
    assert "utterances" in text
    assert "UA" in text
    page = results._repr_html_()
    assert page.count("<table>") == page.count("</table>") == 1
    assert "<script" not in page
    run = Run(results, Path("runs/<a>"), is_new=True)
    assert repr(run).endswith("runs/<a>")
    assert "&lt;a&gt;" in run._repr_html_()


def test_results_as_a_data_frame() -> None:
    pytest.importorskip("pandas")
    results = example_results()
    frame = results.to_frame()
    assert len(frame) == len(results.predictions)
    task, classes = next((task, names) for task, names in results.classes.items() if names)
    first = results.predictions[0]
    assert frame.id[0] == first.id
    assert frame[task][0] == first.truth[task]
    assert frame[f"{task}_predicted"][0] == first.predicted_label(results.headline, task, classes)
    shares = [frame[f"{task}_{name}"][0] for name in classes]
    assert shares == first.selections[results.headline][task]
    with pytest.raises(UnknownName, match="unknown selection 'none'"):
        results.to_frame("none")
