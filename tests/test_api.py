"""The Python interface: what it accepts, and its errors for everything else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders.csv_tables import write_csv, write_recordings
from builders.example_results import example_results

import serein
from serein import api
from serein.errors import ConfigError, CorpusError, SereinError, UnknownName
from serein.evaluation.evaluate import Run
from serein.evaluation.plan import resolve_recipe
from serein.records import Corpus
from serein.results.studies import (
    Comparison,
    PairedTest,
    Search,
    Suspect,
    SuspectList,
    Sweep,
    SweepPoint,
    SweepSeed,
    Trend,
    Trial,
)

WRONG: Any = 3
"""An argument of another type."""


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
        (lambda: serein.evaluate("li2019", "x", settings=WRONG), "settings are 3; expected a list"),
        (lambda: serein.evaluate("li2019", "x", settings=[WRONG]), "expected a list such as"),
        (
            lambda: serein.evaluate("li2019", "x", protocol=WRONG),
            "protocol is 3; expected",
        ),
        (lambda: serein.evaluate("li2019", "x", seeds=0), "seeds is 0"),
        (lambda: serein.evaluate("li2019", "x", labels={"a": "b"}), "labels are for models that"),
        (lambda: serein.evaluate("no-recipe", "x"), "unknown recipe 'no-recipe'"),
        (lambda: serein.train(WRONG, "x", "m.safetensors"), "a recipe of the type int"),
        (lambda: serein.train("li2019", Corpus(name="a", utterances=()), WRONG), "output is 3"),
        (lambda: serein.score_model(WRONG, "x"), "bundle is 3; expected a path"),
        (lambda: serein.score_model("none.safetensors", "x"), "none.safetensors"),
        (lambda: serein.load_results(WRONG), "path is 3; expected a path"),
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
    recipe = resolve_recipe("li2019", api.to_settings({"training.epochs": 3}))
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


def test_studies_show_themselves_in_a_few_lines() -> None:
    test = PairedTest(
        task="emotion",
        selection="model",
        first="a",
        second="b",
        utterances=9,
        scores={"ua": (0.6, 0.5)},
        main="ua",
        difference=0.1,
        difference_interval=(-0.05, 0.25),
        interval="",
        mcnemar=None,
        permutation=0.25,
        permutation_unit="",
        z=None,
        adjusted={},
        effect=None,
    )
    compared = Comparison(
        format=4, command="", created="", runs=[], paired_tests=[test], warnings=[]
    )
    assert repr(compared) == (
        "emotion: UA of a minus that of b: 10.0% [-5.0%, 25.0%], p 0.25, no winner"
    )
    page = compared._repr_html_()
    assert "60.0% and 50.0%" in page
    assert "<td style='text-align:left'>none</td>" in page
    better = replace(
        test, first="<a>", difference_interval=(0.05, 0.15), adjusted={"permutation": 0.01}
    )
    won = replace(compared, paired_tests=[better, replace(better, difference=-0.1)])
    assert repr(won).splitlines()[0].endswith("p 0.01, <a> is better")
    assert won._repr_html_().count("&lt;a&gt;") == 3, "the second pair's winner is the other run"
    assert replace(better, difference_interval=(-0.05, 0.15)).winner is None
    assert replace(better, adjusted={}).winner is None
    frame = won.to_frame()
    assert frame[["ua_first", "ua_second", "p"]].iloc[0].tolist() == [0.6, 0.5, 0.01]
    assert frame.winner.tolist() == ["<a>", "b"]
    trials = [Trial(number=0, settings={"training.rate": 0.1}, state="finished", score=0.5)]
    shared: dict[str, Any] = {
        **{
            "format": 4,
            "command": "",
            "created": "",
            "recipe": {},
            "corpus": {},
            "task": "emotion",
        },
        "warnings": [],
    }
    search = Search(
        **{**shared, "name": "s", "protocol": {}, "space": {}, "seed": 0, "trials": trials},
        best=0,
        evaluation="",
    )
    assert repr(search) == "s: 1 trial; best: training.rate=0.1, UA 50.0%"
    assert repr(replace(search, trials=[])) == "s: 0 trials"
    many = [replace(trials[0], number=n, score=n / 100) for n in range(12)]
    many.append(Trial(number=12, settings={"training.rate": 1.0}, state="failed", fault="nan"))
    page = replace(search, trials=many, space={"training.rate": "0..1"})._repr_html_()
    assert page.count("<tr>") == 11
    assert page.index("11.0%") < page.index("10.0%"), "the best first"
    assert "and 3 more: to_frame() has all" in page
    frame = replace(search, trials=many).to_frame()
    assert frame["training.rate"].tolist() == [0.1] * 12 + [1.0]
    assert frame.fault.tolist()[-1] == "nan"
    point = SweepPoint(
        value=3,
        split="",
        training_utterances=4.0,
        wa=None,
        ua=0.5,
        wa_interval=None,
        ua_interval=None,
        seeds=[],
    )
    sweep = Sweep(
        **{**shared, "name": "w", "protocol": "", "selection": "", "setting": "training.epochs"},
        utterances=1,
        points=[point, replace(point, value=5, ua=None)],
        interval="",
        paired_tests=[],
        trend=None,
    )
    assert repr(sweep).splitlines() == [
        "w:",
        "training.epochs=3: UA 50.0%, 0 seeds",
        "training.epochs=5: UA n/a, 0 seeds",
    ]
    seeds = [SweepSeed(seed=s, run=f"r{s}", wa=0.4, ua=0.5) for s in (0, 1)]
    trend = Trend(slope=-0.015, interval=None, p=0.25, arrangements=4)
    full = replace(sweep, points=[replace(point, seeds=seeds, ua_interval=(0.4, 0.6))], trend=trend)
    assert "<th style='text-align:left'>training.epochs</th>" in full._repr_html_()
    assert "[40.0%, 60.0%]" in full._repr_html_()
    assert "Trend of UA per unit: -1.5%, p 0.25" in full._repr_html_()
    assert full.to_frame()[["training.epochs", "seed", "ua"]].values.tolist() == [
        [3.0, 0.0, 0.5],
        [3.0, 1.0, 0.5],
    ]


def test_a_plan_and_suspects_show_themselves(corpus: Corpus) -> None:
    planned = serein.plan(
        "li2019-emodb-single-task", corpus, settings={"training.epochs": 1}, measure_time=False
    )
    text = repr(planned)
    assert "leave-one-speaker-out, 4 folds x 1 epoch\n24 of 24 utterances are used\n" in text
    assert "warning: sentence: the sentences of 24 of 24 test utterances" in text
    assert len(text.splitlines()) < 12
    page = planned._repr_html_()
    assert page.count("<tr>") == 5
    frame = planned.to_frame()
    assert len(frame) == 12
    assert frame[frame.subset == "test"].utterances.tolist() == [6] * 4
    assert frame[frame.subset == "test"].emotion_anger.tolist() == [2] * 4
    one = Suspect(
        id="<1>",
        fold="a",
        speaker=None,
        label="joy",
        suggestion="anger",
        label_probability=0.1,
        suggestion_probability=0.7,
        votes={},
    )
    found = SuspectList(
        run="r",
        corpus="c",
        task="emotion",
        selection="last",
        utterances=20,
        thresholds={},
        confident={},
        suspects=(one,),
    )
    assert repr(found).startswith("1 of 20 labels of emotion look wrong")
    assert "&lt;1&gt;" in found._repr_html_()
    assert found.to_frame().margin.tolist() == pytest.approx([-0.6])


def test_results_as_a_data_frame() -> None:
    pytest.importorskip("pandas")
    results = example_results()
    frame = results.to_frame()
    assert len(frame) == len(results.predictions)
    task, classes = next((task, names) for task, names in results.classes.items() if names)
    first = results.predictions[0]
    assert frame.id[0] == first.id
    assert "transcript" not in frame
    spoken = replace(first, text="a b", transcripts={results.headline: "a c"})
    with_words = replace(results, predictions=[spoken]).to_frame()
    assert with_words[["text", "transcript"]].iloc[0].tolist() == ["a b", "a c"]
    assert frame[task][0] == first.truth[task]
    assert frame[f"{task}_predicted"][0] == first.predicted_label(results.headline, task, classes)
    shares = [frame[f"{task}_{name}"][0] for name in classes]
    assert shares == first.selections[results.headline][task]
    with pytest.raises(UnknownName, match="unknown selection 'none'"):
        results.to_frame("none")
