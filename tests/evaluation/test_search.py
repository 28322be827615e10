"""Searches: what trials are scored by, and that none is lost or counted twice."""

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from builders.corpus_layouts import write_emodb
from builders.small_systems import SIZES
from filelock import FileLock

from serein.errors import ConfigError, CorpusError, StorageError
from serein.evaluation import search_space as spaces
from serein.evaluation.evaluate import Run, evaluate
from serein.evaluation.search import evaluation_command as searched_by
from serein.evaluation.search import search, validation_scores
from serein.evaluation.search_space import Range
from serein.evaluation.trials import CLAIM_TIMEOUT, TrialStore
from serein.records import Corpus, Recipe
from serein.results import io
from serein.results.evaluation import Epoch, FoldResult, Results
from serein.results.studies import Search
from serein.synthetic import SyntheticConfig, generate

QUICK = (*SIZES, "features.pad=false", "training.epochs=1")
OVER = ("tasks.gender.weight=0..1", "training.batch=4,8,16")
EVALUATE = "serein.evaluation.search.evaluate"
Evaluate = Callable[..., Run]


def searched(corpus: Corpus, runs: Path, *settings: str, **options: Any) -> Search:
    options = {"space": OVER, "trials": 3, **options}
    return search("li2019", corpus, settings=[*QUICK, *settings], runs=runs, **options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def done(corpus: Corpus, runs: Path) -> Search:
    return searched(corpus, runs)


class Scorer:
    """Evaluates in no time: the weight of gender is the score."""

    def __init__(self, real: Results) -> None:
        self.real = real
        self.asked: list[float] = []

    def __call__(self, recipe: Recipe, corpus: Corpus, **options: Any) -> Run:
        weight = recipe.tasks["gender"]["weight"]
        self.asked.append(weight)
        return Run(with_validation(self.real, weight), Path(), is_new=True)


@pytest.fixture
def scorer(done: Search, runs: Path, monkeypatch: pytest.MonkeyPatch) -> Scorer:
    scorer = Scorer(io.load_results(runs / done.trials[0].run))
    monkeypatch.setattr(EVALUATE, scorer)
    return scorer


def weights(search: Search) -> list[float]:
    return [one.settings["tasks.gender.weight"] for one in search.trials]


def with_validation(results: Results, ua: float) -> Results:
    def changed(epoch: Epoch) -> Epoch:
        return replace(epoch, scores={**epoch.scores, "validation": {"emotion": {"ua": ua}}})

    folds = [replace(fold, history=list(map(changed, fold.history))) for fold in results.folds]
    return replace(results, folds=folds)


def interrupting(inner: Evaluate, at: int, error: BaseException) -> Evaluate:
    calls = iter(range(100))

    def evaluated(*arguments: Any, **options: Any) -> Run:
        if next(calls) == at:
            raise error
        return inner(*arguments, **options)

    return evaluated


def test_a_trial_is_scored_as_its_epoch_was_chosen(done: Search, runs: Path) -> None:
    results = io.load_results(runs / done.trials[0].run)
    uas = [0.2, 0.6, 0.4, None]
    history = [
        Epoch(epoch=n + 1, loss=1, seconds=1, scores={"validation": {"emotion": {"ua": ua}}})
        for n, ua in enumerate(uas)
    ]
    fold = FoldResult(name="a", epochs={"validation": 3}, scores={}, history=history)
    unknown = replace(fold, name="b", epochs={"validation": 4})
    for window, expected in ((1, 0.4), (2, 0.5), (9, 0.4)):
        recipe = {**results.recipe, "training": {"selection_window": window}}
        found = validation_scores(replace(results, recipe=recipe, folds=[fold, unknown]))
        assert found == {"a": pytest.approx(expected), "b": None}


def test_every_trial_is_an_evaluation(done: Search, corpus: Corpus, runs: Path) -> None:
    assert [one.number for one in done.trials] == [0, 1, 2]
    assert {one.state for one in done.trials} == {"finished"}
    for one in done.trials:
        results = io.load_results(runs / one.run)
        assert results.recipe["tasks"]["gender"]["weight"] == one.settings["tasks.gender.weight"]
        assert results.recipe["training"]["batch"] == one.settings["training.batch"]
        own = [
            fold.history[fold.epochs["validation"] - 1].scores["validation"]["emotion"]["ua"] or 0
            for fold in results.folds
        ]
        assert one.score == pytest.approx(fmean(own), abs=1e-6)
        assert list(one.folds.values()) == pytest.approx(own, abs=1e-6)
        assert one.seconds == pytest.approx(results.seconds, rel=1e-5)
    best = max(one.score or 0 for one in done.trials)
    assert done.best == next(one.number for one in done.trials if one.score == best)
    assert io.to_builtin(io.load_record(Search, runs / done.name)) == io.to_builtin(done)


def test_a_finished_search_is_read(done: Search, corpus: Corpus, runs: Path) -> None:
    again = searched(corpus, runs)
    assert io.to_builtin(again.trials) == io.to_builtin(done.trials)
    assert again.name == done.name


def test_the_test_side_decides_nothing(
    done: Search, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def garbled(*arguments: Any, **options: Any) -> Run:
        run = evaluate(*arguments, **options)
        scores: Any = {name: {} for name in run.results.scores}
        folds = [
            replace(fold, scores={}, history=[_untested(one) for one in fold.history])
            for fold in run.results.folds
        ]
        return run._replace(results=replace(run.results, scores=scores, folds=folds))

    monkeypatch.setattr(EVALUATE, garbled)
    again = searched(corpus, tmp_path)
    assert again.best == done.best
    assert [(one.score, one.folds) for one in again.trials] == [
        (one.score, one.folds) for one in done.trials
    ]


def _untested(epoch: Epoch) -> Epoch:
    return replace(epoch, scores={"validation": epoch.scores["validation"]})


def test_an_interrupted_search_goes_on(
    scorer: Scorer, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = searched(corpus, tmp_path / "calm", trials=5)
    del scorer.asked[:]
    for error in (KeyboardInterrupt(), StorageError("the disk is full")):
        monkeypatch.setattr(EVALUATE, interrupting(scorer, 1, error))
        with pytest.raises(type(error)):
            searched(corpus, tmp_path / "hurt", trials=5)
    monkeypatch.setattr(EVALUATE, scorer)
    hurt = searched(corpus, tmp_path / "hurt", trials=5)
    assert io.to_builtin(hurt.trials) == io.to_builtin(calm.trials)
    assert scorer.asked == weights(calm)


def test_more_trials_continue_a_search(scorer: Scorer, corpus: Corpus, tmp_path: Path) -> None:
    few = searched(corpus, tmp_path, trials=2)
    many = searched(corpus, tmp_path, trials=4)
    assert io.to_builtin(many.trials[:2]) == io.to_builtin(few.trials)
    assert len(scorer.asked) == len(many.trials) == 4
    assert io.to_builtin(searched(corpus, tmp_path, trials=2).trials) == io.to_builtin(few.trials)


@pytest.mark.parametrize("storage", [None, "file", "sqlite"])
def test_two_searches_share_trials(
    scorer: Scorer,
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    storage: str | None,
) -> None:
    place = {
        None: None,
        "file": str(tmp_path / "all/t.log"),
        "sqlite": f"sqlite:///{tmp_path}/t.db",
    }
    first, second = tmp_path / "here", tmp_path / ("there" if storage else "here")
    shared = {"trials": 5, "storage": place[storage]}
    others = []

    def amid(*arguments: Any, **options: Any) -> Run:
        if len(scorer.asked) == 1:
            monkeypatch.setattr(EVALUATE, scorer)
            others.append(searched(corpus, second, **shared))
        return scorer(*arguments, **options)

    monkeypatch.setattr(EVALUATE, amid)
    found = searched(corpus, first, **shared)
    assert [one.state for one in others[0].trials] == ["finished", "running", *["finished"] * 3]
    assert any("running elsewhere" in words for words in others[0].warnings)
    assert [one.state for one in found.trials] == ["finished"] * 5
    assert sorted(scorer.asked) == sorted(weights(found))


def ledger(folder: Path) -> TrialStore:
    space = (Range("a.b", 0, 1),)
    return TrialStore(folder, "study", space, spaces.draw_points(space, 0, 3), None)


def number(book: TrialStore) -> int | None:
    trial = book.claim_trial()
    return None if trial is None else trial.number


def test_the_trial_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    dead, here = ledger(tmp_path), ledger(tmp_path)
    with FileLock(dead._lock_path(dead.worker)):
        assert [number(dead), number(here)] == [0, 1]
        assert [number(here), number(here)] == [2, None]
    assert [number(here), number(here)] == [0, None]
    assert [one.number for one in here.list_trials()] == [0, 1, 2]


def test_a_trial_whose_machine_is_not_seen_is_left_alone(tmp_path: Path) -> None:
    far, here = ledger(tmp_path), ledger(tmp_path)
    assert number(far) == 0
    assert not far._lock_path(far.worker).exists()
    assert [number(here), number(here), number(here)] == [1, 2, None]


def test_a_trial_of_nobody_is_taken_over_in_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ledger(tmp_path)
    here.study.ask()
    assert number(here) == 1
    monkeypatch.setattr("serein.evaluation.trials.CLAIM_TIMEOUT", 0 * CLAIM_TIMEOUT)
    assert number(here) == 0


def test_a_trial_that_cannot_be_evaluated_is_told_of(
    scorer: Scorer, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = interrupting(scorer, 1, ConfigError("no such thing"))
    monkeypatch.setattr(EVALUATE, failing)
    found = searched(corpus, tmp_path)
    assert [one.state for one in found.trials] == ["finished", "failed", "finished"]
    assert found.trials[1].fault == "no such thing"
    assert "1 of 3 trials could not be evaluated" in found.warnings
    assert found.best != 1


def test_scores_of_other_speakers_do_not_compare(
    scorer: Scorer, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def elsewhere(*arguments: Any, **options: Any) -> Run:
        run = scorer(*arguments, **options)
        return run._replace(results=replace(run.results, protocol={"hash": "other"}))

    monkeypatch.setattr(EVALUATE, elsewhere)
    with pytest.raises(ConfigError, match=r"none of 3 trials .* scores do not compare"):
        searched(corpus, tmp_path)


def test_what_cannot_be_searched_is_refused(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"no validation speakers .* protocol\.validation=1"):
        searched(corpus, tmp_path, "protocol.validation=none")
    with pytest.raises(ConfigError, match="trials is 0"):
        searched(corpus, tmp_path, trials=0)
    with pytest.raises(ConfigError, match="cannot open the storage nothing://x"):
        searched(corpus, tmp_path, storage="nothing://x")
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "serein.evaluation.trials")
    with pytest.raises(ConfigError, match=r"pip install 'serein\[search\]'"):
        searched(corpus, tmp_path)


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on(tmp_path: Path) -> None:
    made = SyntheticConfig(speakers=4, emotions=("anger", "sadness"), sentences=2, words=2)
    generate(tmp_path / "speech", made)
    command = [sys.executable, "-m", "serein", "search", "li2019", "--jobs", "1", "--trials", "3"]
    command += ["--corpus", f"synthetic={tmp_path / 'speech'}"]
    command += [word for one in QUICK for word in ("--set", one)]
    command += ["--set", "training.epochs=4", "--runs"]
    subprocess.run([*command, tmp_path / "calm"], check=True, capture_output=True)
    for line in (3, 19, 7):  # a trial has a head, 4 x 4 epochs, and a last line
        killed(line, [*command, tmp_path / "hurt"])
    subprocess.run([*command, tmp_path / "hurt"], check=True, capture_output=True)
    calm, hurt = (
        io.load_record(Search, next((tmp_path / n).glob("*search*"))) for n in ("calm", "hurt")
    )
    assert calm.name == hurt.name
    for ours, theirs in zip(calm.trials, hurt.trials, strict=True):
        assert replace(ours, seconds=None) == replace(theirs, seconds=None)


def killed(line: int, command: list[str | Path]) -> None:
    """Run a command until it has written so many lines."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        seen = [process.stderr.readline() for _ in range(line)]
        process.send_signal(signal.SIGKILL)
    assert all(seen)
    assert process.returncode == -signal.SIGKILL


def test_a_part_of_a_corpus_is_searched_when_asked_and_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_emodb(tmp_path / "emodb", utterances=20, words=0)
    given, asked = f"emodb={tmp_path / 'emodb'}", list[Corpus]()

    def seen(recipe: Recipe, corpus: Corpus, **options: Any) -> Any:
        asked.append(corpus)
        raise ConfigError("seen enough")

    monkeypatch.setattr("serein.evaluation.search.build_plan", seen)
    with pytest.raises(CorpusError, match="535"):
        search("li2019", given, OVER, runs=tmp_path)
    with pytest.raises(ConfigError, match="seen enough"):
        search("li2019", given, OVER, runs=tmp_path, partial=True)
    assert [len(one.utterances) for one in asked] == [20]
    words = searched_by("li2019", given, (), 0, "cpu", Path("runs"), True)
    assert words == ["serein", "evaluate", "li2019", "--corpus", given, "--partial"]
