"""Tests of folds, seeds and trials on a Ray cluster, with lost tasks."""

import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders.fake_ray import FakeRay
from builders.progress import EpochLog, load_reproducible_part, log_epochs
from builders.small_systems import QUICK, small_recipe

from serein.errors import ConfigError, CorpusError, SereinError, StorageError, UnknownName
from serein.evaluation import ray_backend
from serein.evaluation.engines import open_engine
from serein.evaluation.evaluate import Run, evaluate
from serein.evaluation.plan import Plan, build_plan
from serein.evaluation.ray_backend import RayEngine
from serein.evaluation.repeats import evaluate_seeds
from serein.evaluation.search import search
from serein.evaluation.sweep import sweep
from serein.records import Corpus
from serein.results import io
from serein.results.evaluation import Epoch
from serein.training.dataset import is_cached
from serein.utils import distributed
from serein.utils.files import write_bytes

FOLDS = [f"s{n:02}" for n in range(1, 5)]
FEW = (*QUICK, "training.epochs=1")


def evaluated(corpus: Corpus, runs: Path, *settings: str, **options: Any) -> Run:
    return evaluate("li2019", corpus, settings=[*QUICK, *settings], runs=runs, **options)


def build(corpus: Corpus, runs: Path, *settings: str, seed: int = 0) -> Plan:
    recipe = small_recipe("features.pad=false", *settings)
    return build_plan(recipe, corpus, seed=seed, device="cpu", runs=runs)


def is_idle(engine: RayEngine) -> bool:
    return not any((engine.jobs_by_folder, engine.locks, engine.running, engine.pending))


@pytest.fixture(scope="module")
def local(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluated(corpus, tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("jobs", [None, 1])
def test_cluster_gives_the_same_numbers(
    corpus: Corpus, local: Run, tmp_path: Path, jobs: int | None
) -> None:
    told: EpochLog = []
    engine = RayEngine(FakeRay(), jobs)
    other = evaluated(corpus, tmp_path, engine=engine, open_progress=log_epochs(told))
    assert load_reproducible_part(other.folder) == load_reproducible_part(local.folder)
    assert sorted(told) == [(fold, epoch) for fold in FOLDS for epoch in (1, 2)]
    assert engine.ray.max_running == (jobs or 4)
    environment = other.results.environment
    assert (environment["engine"], environment["jobs"]) == ("ray", jobs or 2)
    assert "engine" not in local.results.environment
    assert is_idle(engine)


def test_lost_fold_resumes_from_its_last_checkpoint(
    corpus: Corpus, local: Run, tmp_path: Path
) -> None:
    told: EpochLog = []
    ray = FakeRay(losses={"s02": [1], "s03": [0, 0]})
    other = evaluated(corpus, tmp_path, engine=RayEngine(ray, None), open_progress=log_epochs(told))
    assert load_reproducible_part(other.folder) == load_reproducible_part(local.folder)
    assert [state is None for state in ray.tries["s02"]] == [True, False]
    assert ray.tries["s03"] == [None, None, None]
    assert [epoch for fold, epoch in told if fold == "s02"] == [1, 1, 2]
    assert (other.folder / "folds" / "s02.pt").read_bytes() != ray.tries["s02"][1]


def test_fold_is_given_up_after_three_failures(corpus: Corpus, local: Run, tmp_path: Path) -> None:
    ray = FakeRay(losses={"s01": [1, 1, 0]})
    with pytest.raises(StorageError, match=r"fold s01 of .* failed 3 times in a row") as caught:
        evaluated(corpus, tmp_path, engine=RayEngine(ray, None))
    assert "Lost: a process died; finished epochs are kept" in str(caught.value)
    assert ray.running == []
    (folder,) = tmp_path.iterdir()
    kept = {path.name for path in (folder / "folds").iterdir()}
    assert kept == {f"{fold}.pt" for fold in FOLDS}  # the others were finished before it
    told: EpochLog = []
    evaluated(corpus, tmp_path, open_progress=log_epochs(told))
    assert told == [("s01", 1), ("s01", 2), *((fold, 2) for fold in FOLDS[1:])]
    assert load_reproducible_part(folder) == load_reproducible_part(local.folder)


def test_progress_resets_the_count_of_failures(corpus: Corpus, tmp_path: Path) -> None:
    ray = FakeRay(losses={"s01": [1, 2, 0, 2, 0]})
    other = evaluated(corpus, tmp_path, "training.epochs=4", engine=RayEngine(ray, None))
    alone = evaluated(corpus, tmp_path / "local", "training.epochs=4")
    assert len(ray.tries["s01"]) == 6
    assert load_reproducible_part(other.folder) == load_reproducible_part(alone.folder)


def test_seeds_are_submitted_ahead(corpus: Corpus, tmp_path: Path) -> None:
    def act(fold: str, epoch: Epoch) -> None:
        for seed in (0, 1):
            with pytest.raises(StorageError, match="in use by another evaluation"):
                evaluated(corpus, tmp_path, "training.epochs=1", seed=seed)
        raise KeyboardInterrupt

    options: dict[str, Any] = {"settings": FEW, "seeds": 3}
    engine = RayEngine(FakeRay(cores=3), None)
    with pytest.raises(KeyboardInterrupt):
        evaluate_seeds(
            "li2019",
            corpus,
            runs=tmp_path,
            engine=engine,
            open_progress=log_epochs([], act),
            **options,
        )
    engine.close()
    assert is_idle(engine)
    done = evaluate_seeds("li2019", corpus, runs=tmp_path, engine=engine, **options)
    alone = evaluate_seeds("li2019", corpus, runs=tmp_path / "local", **options)
    for one in done.results.repeats:
        assert load_reproducible_part(tmp_path / one.run) == load_reproducible_part(
            tmp_path / "local" / one.run
        )
    assert load_reproducible_part(done.folder) == load_reproducible_part(alone.folder)


def test_fresh_run_is_cleared_once(corpus: Corpus, tmp_path: Path) -> None:
    options: dict[str, Any] = {"settings": FEW, "seeds": 2, "runs": tmp_path}
    evaluate_seeds("li2019", corpus, **options)
    ray = FakeRay(cores=8)
    told: EpochLog = []
    again: dict[str, Any] = {"engine": RayEngine(ray, None), "open_progress": log_epochs(told)}
    assert not evaluate_seeds("li2019", corpus, **options, **again).is_new
    assert ray.tries == {}
    assert evaluate_seeds("li2019", corpus, **options, **again, fresh=True).is_new
    assert ray.tries == {fold: [None, None] for fold in FOLDS}
    assert sorted(told) == sorted([(fold, 1) for fold in FOLDS] * 2)


def test_search_on_a_cluster_gives_the_same_trials(corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    options: dict[str, Any] = {"settings": FEW, "trials": 4}
    over = ["tasks.gender.weight=0..1"]
    ray = FakeRay(cores=4, losses={"s02": [0]})
    order: list[int] = []

    def told(trial: Any, found: Any) -> None:
        order.append(trial.number)

    engine = RayEngine(ray, None)
    done = search(
        "li2019", corpus, over, runs=tmp_path / "a", engine=engine, on_trial=told, **options
    )
    alone = search("li2019", corpus, over, runs=tmp_path / "b", **options)
    assert order == [0, 1, 2, 3]
    assert [one.score for one in done.trials] == [one.score for one in alone.trials]
    assert done.best == alone.best
    for one in done.trials:
        assert load_reproducible_part(tmp_path / "a" / one.run) == load_reproducible_part(
            tmp_path / "b" / one.run
        )


def test_a_search_that_is_interrupted_puts_back_all_that_it_claimed(
    corpus: Corpus, tmp_path: Path
) -> None:
    pytest.importorskip("optuna")

    def act(fold: str, epoch: Epoch) -> None:
        raise KeyboardInterrupt

    options: dict[str, Any] = {"settings": FEW, "trials": 3, "runs": tmp_path}
    over = ["tasks.gender.weight=0..1"]
    engine = RayEngine(FakeRay(cores=8), None)
    with pytest.raises(KeyboardInterrupt):
        search("li2019", corpus, over, engine=engine, open_progress=log_epochs([], act), **options)
    engine.close()
    done = search("li2019", corpus, over, engine=engine, **options)
    assert [one.state for one in done.trials] == ["finished"] * 3


def test_trial_that_cannot_be_submitted_fails_in_its_turn(corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    over = ["training.threads=1,4"]
    engine = RayEngine(FakeRay(cores=2), None)
    done = search("li2019", corpus, over, trials=2, settings=FEW, runs=tmp_path, engine=engine)
    found = {one.settings["training.threads"]: one for one in done.trials}
    assert found[1].state == "finished"
    assert "no machine of the cluster has what one fold needs: 4 cores" in str(found[4].fault)


def test_sweep_on_a_cluster_gives_the_same_points(corpus: Corpus, tmp_path: Path) -> None:
    options: dict[str, Any] = {"settings": FEW, "seeds": 2}
    setting = "training.batch=8,16"
    words: list[str] = []

    def told(setting: str, results: Any) -> None:
        words.append(setting)

    engine = RayEngine(FakeRay(cores=3), None)
    done = sweep(
        "li2019", corpus, setting, runs=tmp_path / "a", engine=engine, on_evaluation=told, **options
    )
    alone = sweep("li2019", corpus, setting, runs=tmp_path / "b", **options)
    assert io.to_builtin(done.points) == io.to_builtin(alone.points)
    assert words == ["training.batch=8"] * 2 + ["training.batch=16"] * 2


def read_outcome(news: Iterator[ray_backend.FoldUpdate]) -> Any:
    return list(news)[-1].outcome


def move_corpus(plan: Plan, folder: Path, content: bytes | None) -> bytes:
    """Pack a plan whose first recording is another file, or no file, at the same path."""
    first, *rest = plan.corpus.utterances
    path = folder / "elsewhere.wav"
    if content is not None:
        path.write_bytes(content)
    corpus = replace(plan.corpus, utterances=(replace(first, path=path), *rest))
    return ray_backend.pack_plan(replace(plan, corpus=corpus))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file"), (b"noise", "1 of 24 recordings differ from those")],
)
def test_machine_without_the_corpus_is_an_error(
    corpus: Corpus, tmp_path: Path, content: bytes | None, message: str
) -> None:
    plan = build(corpus, tmp_path)
    fault = read_outcome(
        ray_backend.train_fold(move_corpus(plan, tmp_path, content), plan.protocol.folds[0], None)
    )
    assert isinstance(fault, CorpusError)
    assert message in str(fault)
    assert os.uname().nodename in str(fault)
    assert "at the same path, or SEREIN_CACHE on a disk that they share" in str(fault)


def test_cached_frames_need_no_corpus(corpus: Corpus, tmp_path: Path) -> None:
    plan = build(corpus, tmp_path, "training.epochs=1")
    assert not is_cached(plan.corpus.utterances, plan.build_front_end(), plan.content_hashes)
    plan.load_frames()
    assert is_cached(plan.corpus.utterances, plan.build_front_end(), plan.content_hashes)
    course = read_outcome(
        ray_backend.train_fold(move_corpus(plan, tmp_path, None), plan.protocol.folds[0], None)
    )
    assert len(course.epochs) == 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("package_versions", lambda: {"torch": "1.0"}, "has serein None, and the run began with"),
        ("Plan.precision", "bf16", "has precision bf16, and the run began with fp32"),
    ],
)
def test_other_versions_are_an_error(
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: Any,
    message: str,
) -> None:
    plan = build(corpus, tmp_path)
    sent = ray_backend.pack_plan(plan)
    monkeypatch.setattr(f"serein.evaluation.ray_backend.{name}", value)
    fault = read_outcome(ray_backend.train_fold(sent, plan.protocol.folds[0], None))
    assert isinstance(fault, ConfigError)
    assert message in str(fault)


def test_plan_is_packed_with_absolute_paths(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = build(corpus, tmp_path)
    root = plan.corpus.utterances[0].path.parent
    monkeypatch.chdir(root)
    near = [replace(u, path=Path(os.path.relpath(u.path))) for u in plan.corpus.utterances]
    content = ray_backend.pack_plan(
        replace(plan, corpus=replace(plan.corpus, utterances=tuple(near)))
    )
    sent, _ = pickle.loads(content)
    assert [os.path.normpath(u.path) for u in sent.corpus.utterances] == [
        os.path.normpath(u.path.absolute()) for u in plan.corpus.utterances
    ]


def test_checkpoint_is_sent_within_an_epoch(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = build(corpus, tmp_path)
    fold = plan.protocol.folds[0]
    told: list[ray_backend.FoldUpdate] = []

    def run_fold(here: Plan, fold: Any, progress: Callable[[str, Epoch], None]) -> Any:
        place = here.checkpoint_path(fold)
        assert place.read_bytes() == b"earlier"
        write_bytes(place, b"in the middle of an epoch")
        while not told:
            os.sched_yield()
        raise RuntimeError("a bug")

    monkeypatch.setattr(ray_backend, "run_fold", run_fold)
    monkeypatch.setattr(ray_backend, "CHECKPOINT_POLL_SECONDS", 0.05)
    plan.load_frames()
    news = ray_backend.train_fold(ray_backend.pack_plan(plan), fold, b"earlier")
    told.append(next(news))
    assert told == [ray_backend.FoldUpdate(checkpoint=b"in the middle of an epoch")]
    with pytest.raises(RuntimeError, match="a bug"):
        next(news)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"engine": "spark"}, UnknownName, "unknown engine 'spark'"),
        ({"address": "head:6379"}, ConfigError, "set the engine to ray"),
    ],
)
def test_unknown_engines_are_errors(
    corpus: Corpus, tmp_path: Path, options: dict[str, str], error: type[SereinError], message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluated(corpus, tmp_path, **options)
    assert list(tmp_path.rglob("*.pt")) == []


def test_missing_ray_is_an_error(
    run: Callable[..., tuple[int, str, str]], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ["--corpus", f"synthetic={root}", "--engine", "ray"]
    words += [word for one in QUICK for word in ("--set", one)]
    for command in (["evaluate"], ["search"], ["sweep", "--setting", "training.batch=8,16"]):
        status, _, err = run(command[0], "li2019", *command[1:], *words)
        assert status == 2
        assert 'pip install "serein[ray]"' in err


def test_saved_model_is_scored_locally(run: Callable[..., tuple[int, str, str]]) -> None:
    words = ["--corpus", "emodb", "--engine", "ray", "--address", "head:6379"]
    status, _, err = run("evaluate", "--model", "li2019-emodb", *words)
    assert status == 2
    assert "--engine, --address: a saved model is scored without training" in err


def test_task_slots_are_of_living_machines() -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}},
        {"Alive": True, "Resources": {"CPU": 3.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    ray = SimpleNamespace(nodes=lambda: nodes)
    assert [distributed.count_task_slots(ray, cores) for cores in (1, 2, 4, 5)] == [7, 3, 1, 0]
    assert distributed.count_task_slots(ray, 1, 1) == 1


def test_interrupt_is_handled_while_ray_waits() -> None:
    class Heard(BaseException):
        pass

    def handler(*told: Any) -> None:
        raise Heard

    def wait(tasks: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except Heard:
            pytest.fail("Ray would have swallowed this")
        return [], tasks

    before = signal.signal(signal.SIGINT, handler)
    try:
        with pytest.raises(Heard):
            distributed.wait_for_tasks(SimpleNamespace(wait=wait), ["task"])
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("by", ["address", "RAY_ADDRESS"])
def test_unreachable_cluster_is_an_error(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        head = f"127.0.0.1:{free.getsockname()[1]}"
    options = {"address": head} if by == "address" else {}
    if by != "address":
        monkeypatch.setenv(by, head)
    with pytest.raises(ConfigError, match=rf"no Ray cluster at {head} .*ray start --head"):
        evaluated(corpus, tmp_path, engine="ray", **options)


def test_open_engine_returns_an_open_engine() -> None:
    engine = RayEngine(FakeRay(), None)
    with open_engine(engine, 3, None) as same:
        assert same is engine
    assert engine.jobs == 2
