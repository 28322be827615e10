"""Tests of searches: scores of trials, interruption, and several processes."""

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
from builders.corpus_layouts import write_emodb
from builders.small_systems import SIZES
from filelock import FileLock

from serein import config, recipes
from serein.errors import ConfigError, CorpusError, StorageError
from serein.evaluation import search_space as spaces
from serein.evaluation.evaluate import Run, evaluate
from serein.evaluation.plan import build_plan
from serein.evaluation.scores import selection_tasks
from serein.evaluation.search import (
    _mean_score,
    evaluation_command,
    search,
    search_name,
    validation_scores,
)
from serein.evaluation.search_space import Range
from serein.evaluation.trials import CLAIM_TIMEOUT, TrialStore
from serein.records import Corpus, Recipe
from serein.results import io
from serein.results.evaluation import Epoch, FoldResult, Results
from serein.results.studies import Search
from serein.synthetic import SyntheticConfig, generate
from serein.training.checkpoint import TrainingRun
from serein.training.config import TrainingConfig

QUICK = (*SIZES, "features.pad=false", "training.epochs=1")
OVER = ("tasks.gender.weight=0..1", "training.batch=4,8,16")
EVALUATE = "serein.evaluation.search.evaluate"
Evaluate = Callable[..., Run]


def run_search(corpus: Corpus, runs: Path, *settings: str, **options: Any) -> Search:
    options = {"space": OVER, "trials": 3, **options}
    return search("li2019", corpus, settings=[*QUICK, *settings], runs=runs, **options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def finished_search(corpus: Corpus, runs: Path) -> Search:
    return run_search(corpus, runs)


class Scorer:
    """Replaces `evaluate`: the weight of gender is the score."""

    def __init__(self, real: Results) -> None:
        self.real = real
        self.asked: list[float] = []

    def __call__(self, recipe: Recipe, corpus: Corpus, **options: Any) -> Run:
        weight = recipe.tasks["gender"]["weight"]
        self.asked.append(weight)
        return Run(with_validation(self.real, weight), Path(), is_new=True)


@pytest.fixture
def scorer(finished_search: Search, runs: Path, monkeypatch: pytest.MonkeyPatch) -> Scorer:
    scorer = Scorer(io.load_results(runs / finished_search.trials[0].run))
    monkeypatch.setattr(EVALUATE, scorer)
    return scorer


def weights(search: Search) -> list[float]:
    return [one.settings["tasks.gender.weight"] for one in search.trials]


def with_validation(results: Results, ua: float) -> Results:
    return with_validation_scores(results, {"emotion": {"ua": ua}})


def with_validation_scores(
    results: Results, scores: Mapping[str, Mapping[str, float | None]]
) -> Results:
    def changed(epoch: Epoch) -> Epoch:
        validation = {task: dict(of_task) for task, of_task in scores.items()}
        return replace(epoch, scores={**epoch.scores, "validation": validation})

    folds = [replace(fold, history=list(map(changed, fold.history))) for fold in results.folds]
    return replace(results, folds=folds)


def interrupt_at(inner: Evaluate, at: int, error: BaseException) -> Evaluate:
    calls = iter(range(100))

    def evaluated(*arguments: Any, **options: Any) -> Run:
        if next(calls) == at:
            raise error
        return inner(*arguments, **options)

    return evaluated


def test_trial_score_is_the_score_that_selected_the_epoch(
    finished_search: Search, runs: Path
) -> None:
    results = io.load_results(runs / finished_search.trials[0].run)
    uas = [0.2, 0.6, 0.4, None]
    history = [
        Epoch(epoch=n + 1, loss=1, seconds=1, scores={"validation": {"emotion": {"ua": ua}}})
        for n, ua in enumerate(uas)
    ]
    fold = FoldResult(name="a", epochs={"validation": 3}, scores={}, history=history)
    unknown = replace(fold, name="b", epochs={"validation": 4})
    for window, expected in ((1, 0.4), (2, 0.5), (9, 0.4)):
        recipe = {**results.recipe, "training": {"selection_window": window}}
        trial = replace(results, recipe=recipe, folds=[fold, unknown])
        assert validation_scores(trial, ["emotion"]) == {"a": pytest.approx(expected), "b": None}


def test_trial_score_of_several_tasks_is_the_mean_that_selected_the_epoch(
    finished_search: Search, runs: Path
) -> None:
    results = io.load_results(runs / finished_search.trials[0].run)
    scores: list[dict[str, Any]] = [
        {"arousal": {"ua": 0.2}, "valence": {"ccc": 0.4}},
        {"arousal": {"ua": 0.8}, "valence": {"ccc": None}},
        {"arousal": {"ua": None}, "valence": {"ccc": None}},
    ]
    history = [
        Epoch(epoch=n + 1, loss=1, seconds=1, scores={"validation": tasks})
        for n, tasks in enumerate(scores)
    ]
    both = ("arousal", "valence")
    for window, selected in ((1, 2), (2, 2)):
        training_run = TrainingRun(epochs=history[:2])
        assert training_run.best_epoch("validation", both, window=window) == selected
    recipe = {**results.recipe, "training": {"selection_window": 2}}
    folds = [
        FoldResult(name=str(last), epochs={"validation": last}, scores={}, history=history)
        for last in (1, 2, 3)
    ]
    trial = replace(results, recipe=recipe, folds=folds)
    assert validation_scores(trial, both) == {
        "1": pytest.approx(0.3),
        "2": pytest.approx((0.3 + 0.8) / 2),
        "3": None,
    }
    assert validation_scores(trial, ["arousal"])["2"] == pytest.approx(0.5)


@pytest.mark.parametrize(("select_by", "best"), [("first", max), ("none", max), ("mean", min)])
def test_search_ranks_by_the_score_that_selects_the_epoch(
    finished_search: Search,
    corpus: Corpus,
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    select_by: str,
    best: Callable[[list[float]], float],
) -> None:
    """The emotion score rises with the weight, the gender score falls three times as fast."""
    real = io.load_results(runs / finished_search.trials[0].run)

    def evaluated(recipe: Recipe, corpus: Corpus, **options: Any) -> Run:
        weight = recipe.tasks["gender"]["weight"]
        scores = {"emotion": {"ua": 0.6 + weight / 10}, "gender": {"ua": 0.6 - 3 * weight / 10}}
        return Run(with_validation_scores(real, scores), Path(), is_new=True)

    monkeypatch.setattr(EVALUATE, evaluated)
    found = run_search(corpus, tmp_path, f"training.select_by={select_by}")
    tasks = ["emotion", "gender"] if select_by == "mean" else ["emotion"]
    assert found.ranked_by == dict.fromkeys(tasks, "ua")
    assert found.best == weights(found).index(best(weights(found)))
    for trial, weight in zip(found.trials, weights(found), strict=True):
        expected = 0.6 - weight / 10 if select_by == "mean" else 0.6 + weight / 10
        assert trial.score == pytest.approx(expected)
    assert io.load_record(Search, tmp_path / found.name).ranked_by == found.ranked_by


def test_searches_by_one_task_and_by_the_mean_are_kept_apart(
    finished_search: Search, scorer: Scorer, corpus: Corpus, tmp_path: Path
) -> None:
    first = run_search(corpus, tmp_path, trials=1)
    recipe = recipes.load("li2019", [*QUICK, "training.select_by=mean"])
    plan = build_plan(recipe, corpus, seed=0, device="cpu", runs=tmp_path)
    assert first.name == finished_search.name
    assert search_name(plan, spaces.parse_space(recipe, OVER)) != first.name
    for task in ("emotion", "gender"):
        changed = dict(plan.classes) | {task: ("a", "b")}
        other = replace(plan, classes=changed)
        with pytest.raises(ConfigError, match=r"emotion, gender .* scores do not compare"):
            _mean_score({"a": 0.5}, scorer.real, other)


def test_zhang2019_ranks_by_all_three_dimensions() -> None:
    for name in ("zhang2019", "zhang2019-mtl", "zhang2019-proxy", "zhang2019-egemaps-svm"):
        plan: Any = SimpleNamespace(recipe=recipes.load(name))
        plan.training = config.build_config(TrainingConfig, plan.recipe.training, "training")
        assert selection_tasks(plan) == ("arousal", "valence", "dominance")


def test_every_trial_is_an_evaluation(finished_search: Search, corpus: Corpus, runs: Path) -> None:
    assert [one.number for one in finished_search.trials] == [0, 1, 2]
    assert {one.state for one in finished_search.trials} == {"finished"}
    for one in finished_search.trials:
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
    best = max(one.score or 0 for one in finished_search.trials)
    assert finished_search.best == next(
        one.number for one in finished_search.trials if one.score == best
    )
    assert io.to_builtin(io.load_record(Search, runs / finished_search.name)) == io.to_builtin(
        finished_search
    )


def test_finished_search_is_read_from_disk(
    finished_search: Search, corpus: Corpus, runs: Path
) -> None:
    again = run_search(corpus, runs)
    assert io.to_builtin(again.trials) == io.to_builtin(finished_search.trials)
    assert again.name == finished_search.name


def test_test_scores_do_not_rank_trials(
    finished_search: Search, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_other_test_scores(*arguments: Any, **options: Any) -> Run:
        run = evaluate(*arguments, **options)
        scores: Any = {name: {} for name in run.results.scores}
        folds = [
            replace(fold, scores={}, history=[_without_test_scores(one) for one in fold.history])
            for fold in run.results.folds
        ]
        return run._replace(results=replace(run.results, scores=scores, folds=folds))

    monkeypatch.setattr(EVALUATE, with_other_test_scores)
    again = run_search(corpus, tmp_path)
    assert again.best == finished_search.best
    assert [(one.score, one.folds) for one in again.trials] == [
        (one.score, one.folds) for one in finished_search.trials
    ]


def _without_test_scores(epoch: Epoch) -> Epoch:
    return replace(epoch, scores={"validation": epoch.scores["validation"]})


def test_interrupted_search_is_resumed(
    scorer: Scorer, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = run_search(corpus, tmp_path / "calm", trials=5)
    del scorer.asked[:]
    for error in (KeyboardInterrupt(), StorageError("the disk is full")):
        monkeypatch.setattr(EVALUATE, interrupt_at(scorer, 1, error))
        with pytest.raises(type(error)):
            run_search(corpus, tmp_path / "hurt", trials=5)
    monkeypatch.setattr(EVALUATE, scorer)
    hurt = run_search(corpus, tmp_path / "hurt", trials=5)
    assert io.to_builtin(hurt.trials) == io.to_builtin(calm.trials)
    assert scorer.asked == weights(calm)


def test_more_trials_continue_a_search(scorer: Scorer, corpus: Corpus, tmp_path: Path) -> None:
    few = run_search(corpus, tmp_path, trials=2)
    many = run_search(corpus, tmp_path, trials=4)
    assert io.to_builtin(many.trials[:2]) == io.to_builtin(few.trials)
    assert len(scorer.asked) == len(many.trials) == 4
    assert io.to_builtin(run_search(corpus, tmp_path, trials=2).trials) == io.to_builtin(few.trials)


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

    def search_during_evaluation(*arguments: Any, **options: Any) -> Run:
        if len(scorer.asked) == 1:
            monkeypatch.setattr(EVALUATE, scorer)
            others.append(run_search(corpus, second, **shared))
        return scorer(*arguments, **options)

    monkeypatch.setattr(EVALUATE, search_during_evaluation)
    found = run_search(corpus, first, **shared)
    assert [one.state for one in others[0].trials] == ["finished", "running", *["finished"] * 3]
    assert any("running elsewhere" in words for words in others[0].warnings)
    assert [one.state for one in found.trials] == ["finished"] * 5
    assert sorted(scorer.asked) == sorted(weights(found))


def open_store(folder: Path) -> TrialStore:
    space = (Range("a.b", 0, 1),)
    return TrialStore(folder, "study", space, spaces.draw_points(space, 0, 3), None)


def claim_number(store: TrialStore) -> int | None:
    trial = store.claim_trial()
    return None if trial is None else trial.number


def test_trial_of_a_dead_process_is_released(tmp_path: Path) -> None:
    dead, here = open_store(tmp_path), open_store(tmp_path)
    with FileLock(dead._lock_path(dead.worker)):
        assert [claim_number(dead), claim_number(here)] == [0, 1]
        assert [claim_number(here), claim_number(here)] == [2, None]
    assert [claim_number(here), claim_number(here)] == [0, None]
    assert [one.number for one in here.list_trials()] == [0, 1, 2]


def test_trial_of_an_unseen_machine_is_not_released(tmp_path: Path) -> None:
    far, here = open_store(tmp_path), open_store(tmp_path)
    assert claim_number(far) == 0
    assert not far._lock_path(far.worker).exists()
    assert [claim_number(here), claim_number(here), claim_number(here)] == [1, 2, None]


def test_trial_without_worker_is_released_after_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = open_store(tmp_path)
    here.study.ask()
    assert claim_number(here) == 1
    monkeypatch.setattr("serein.evaluation.trials.CLAIM_TIMEOUT", 0 * CLAIM_TIMEOUT)
    assert claim_number(here) == 0


def test_failed_trial_has_its_fault(
    scorer: Scorer, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = interrupt_at(scorer, 1, ConfigError("no such thing"))
    monkeypatch.setattr(EVALUATE, failing)
    found = run_search(corpus, tmp_path)
    assert [one.state for one in found.trials] == ["finished", "failed", "finished"]
    assert found.trials[1].fault == "no such thing"
    assert "1 of 3 trials could not be evaluated" in found.warnings
    assert found.best != 1


def test_scores_of_other_folds_are_an_error(
    scorer: Scorer, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def with_other_folds(*arguments: Any, **options: Any) -> Run:
        run = scorer(*arguments, **options)
        return run._replace(results=replace(run.results, protocol={"hash": "other"}))

    monkeypatch.setattr(EVALUATE, with_other_folds)
    with pytest.raises(ConfigError, match=r"none of 3 trials .* scores do not compare"):
        run_search(corpus, tmp_path)


def test_impossible_searches_are_errors(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"no validation speakers .* protocol\.validation=1"):
        run_search(corpus, tmp_path, "protocol.validation=none")
    with pytest.raises(ConfigError, match="trials is 0"):
        run_search(corpus, tmp_path, trials=0)
    with pytest.raises(ConfigError, match="cannot open the storage nothing://x"):
        run_search(corpus, tmp_path, storage="nothing://x")
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "serein.evaluation.trials")
    with pytest.raises(ConfigError, match=r"pip install 'serein\[search\]'"):
        run_search(corpus, tmp_path)


@pytest.mark.slow
def test_killed_search_is_resumed(tmp_path: Path) -> None:
    made = SyntheticConfig(speakers=4, emotions=("anger", "sadness"), sentences=2, words=2)
    generate(tmp_path / "speech", made)
    command = [sys.executable, "-m", "serein", "search", "li2019", "--jobs", "1", "--trials", "3"]
    command += ["--corpus", f"synthetic={tmp_path / 'speech'}"]
    command += [word for one in QUICK for word in ("--set", one)]
    command += ["--set", "training.epochs=4", "--runs"]
    subprocess.run([*command, tmp_path / "calm"], check=True, capture_output=True)
    for line in (3, 19, 7):  # a trial prints a head, 4 x 4 epochs, and a last line
        kill_after(line, [*command, tmp_path / "hurt"])
    subprocess.run([*command, tmp_path / "hurt"], check=True, capture_output=True)
    calm, hurt = (
        io.load_record(Search, next((tmp_path / n).glob("*search*"))) for n in ("calm", "hurt")
    )
    assert calm.name == hurt.name
    for ours, theirs in zip(calm.trials, hurt.trials, strict=True):
        assert replace(ours, seconds=None) == replace(theirs, seconds=None)


def kill_after(line: int, command: list[str | Path]) -> None:
    """Run a command and kill it after a number of lines."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        stop_at_plan = [process.stderr.readline() for _ in range(line)]
        process.send_signal(signal.SIGKILL)
    assert all(stop_at_plan)
    assert process.returncode == -signal.SIGKILL


def test_partial_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_emodb(tmp_path / "emodb", utterances=20, words=0)
    given, corpora = f"emodb={tmp_path / 'emodb'}", list[Corpus]()

    def stop_at_plan(recipe: Recipe, corpus: Corpus, **options: Any) -> Any:
        corpora.append(corpus)
        raise ConfigError("seen enough")

    monkeypatch.setattr("serein.evaluation.search.build_plan", stop_at_plan)
    with pytest.raises(CorpusError, match="535"):
        search("li2019", given, OVER, runs=tmp_path)
    with pytest.raises(ConfigError, match="seen enough"):
        search("li2019", given, OVER, runs=tmp_path, partial=True)
    assert [len(one.utterances) for one in corpora] == [20]
    words = evaluation_command("li2019", given, (), 0, "cpu", Path("runs"), True)
    assert words == ["serein", "evaluate", "li2019", "--corpus", given, "--partial"]
