"""Folds, seeds and trials on a cluster: the same numbers, whatever is lost on the way."""

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
from builders.fake_ray import Alone
from builders.progress import Told, numbers, telling
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


def planned(corpus: Corpus, runs: Path, *settings: str, seed: int = 0) -> Plan:
    recipe = small_recipe("features.pad=false", *settings)
    return build_plan(recipe, corpus, seed=seed, device="cpu", runs=runs)


def is_idle(hands: RayEngine) -> bool:
    return not any((hands.jobs_by_folder, hands.locks, hands.running, hands.pending))


@pytest.fixture(scope="module")
def local(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluated(corpus, tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("jobs", [None, 1])
def test_a_cluster_gives_the_same_numbers(
    corpus: Corpus, local: Run, tmp_path: Path, jobs: int | None
) -> None:
    told: Told = []
    hands = RayEngine(Alone(), jobs)
    other = evaluated(corpus, tmp_path, engine=hands, open_progress=telling(told))
    assert numbers(other.folder) == numbers(local.folder)
    assert sorted(told) == [(fold, epoch) for fold in FOLDS for epoch in (1, 2)]
    assert hands.ray.most == (jobs or 4)
    environment = other.results.environment
    assert (environment["engine"], environment["jobs"]) == ("ray", jobs or 2)
    assert "engine" not in local.results.environment
    assert is_idle(hands)


def test_a_fold_that_is_lost_goes_on_from_the_state_that_it_sent(
    corpus: Corpus, local: Run, tmp_path: Path
) -> None:
    told: Told = []
    ray = Alone(losses={"s02": [1], "s03": [0, 0]})
    other = evaluated(corpus, tmp_path, engine=RayEngine(ray, None), open_progress=telling(told))
    assert numbers(other.folder) == numbers(local.folder)
    assert [state is None for state in ray.tries["s02"]] == [True, False]
    assert ray.tries["s03"] == [None, None, None]
    assert [epoch for fold, epoch in told if fold == "s02"] == [1, 1, 2]
    assert (other.folder / "folds" / "s02.pt").read_bytes() != ray.tries["s02"][1]


def test_a_fold_that_fails_again_and_again_is_named_and_the_run_goes_on_later(
    corpus: Corpus, local: Run, tmp_path: Path
) -> None:
    ray = Alone(losses={"s01": [1, 1, 0]})
    with pytest.raises(StorageError, match=r"fold s01 of .* failed 3 times in a row") as caught:
        evaluated(corpus, tmp_path, engine=RayEngine(ray, None))
    assert "Lost: a process died; finished epochs are kept" in str(caught.value)
    assert ray.running == []
    (folder,) = tmp_path.iterdir()
    kept = {path.name for path in (folder / "folds").iterdir()}
    assert kept == {f"{fold}.pt" for fold in FOLDS}  # the others were done before it
    told: Told = []
    evaluated(corpus, tmp_path, open_progress=telling(told))
    assert told == [("s01", 1), ("s01", 2), *((fold, 2) for fold in FOLDS[1:])]
    assert numbers(folder) == numbers(local.folder)


def test_failures_count_from_the_last_step_forward(corpus: Corpus, tmp_path: Path) -> None:
    ray = Alone(losses={"s01": [1, 2, 0, 2, 0]})
    other = evaluated(corpus, tmp_path, "training.epochs=4", engine=RayEngine(ray, None))
    alone = evaluated(corpus, tmp_path / "local", "training.epochs=4")
    assert len(ray.tries["s01"]) == 6
    assert numbers(other.folder) == numbers(alone.folder)


def test_seeds_are_begun_before_their_turn(corpus: Corpus, tmp_path: Path) -> None:
    def act(fold: str, epoch: Epoch) -> None:
        for seed in (0, 1):
            with pytest.raises(StorageError, match="in use by another evaluation"):
                evaluated(corpus, tmp_path, "training.epochs=1", seed=seed)
        raise KeyboardInterrupt

    options: dict[str, Any] = {"settings": FEW, "seeds": 3}
    hands = RayEngine(Alone(cores=3), None)
    with pytest.raises(KeyboardInterrupt):
        evaluate_seeds(
            "li2019", corpus, runs=tmp_path, engine=hands, open_progress=telling([], act), **options
        )
    hands.close()
    assert is_idle(hands)
    done = evaluate_seeds("li2019", corpus, runs=tmp_path, engine=hands, **options)
    alone = evaluate_seeds("li2019", corpus, runs=tmp_path / "local", **options)
    for one in done.results.repeats:
        assert numbers(tmp_path / one.run) == numbers(tmp_path / "local" / one.run)
    assert numbers(done.folder) == numbers(alone.folder)


def test_a_fresh_run_forgets_once(corpus: Corpus, tmp_path: Path) -> None:
    options: dict[str, Any] = {"settings": FEW, "seeds": 2, "runs": tmp_path}
    evaluate_seeds("li2019", corpus, **options)
    ray = Alone(cores=8)
    told: Told = []
    again: dict[str, Any] = {"engine": RayEngine(ray, None), "open_progress": telling(told)}
    assert not evaluate_seeds("li2019", corpus, **options, **again).is_new
    assert ray.tries == {}
    assert evaluate_seeds("li2019", corpus, **options, **again, fresh=True).is_new
    assert ray.tries == {fold: [None, None] for fold in FOLDS}
    assert sorted(told) == sorted([(fold, 1) for fold in FOLDS] * 2)


def test_a_search_gives_the_same_trials(corpus: Corpus, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    options: dict[str, Any] = {"settings": FEW, "trials": 4}
    over = ["tasks.gender.weight=0..1"]
    ray = Alone(cores=4, losses={"s02": [0]})
    order: list[int] = []

    def told(trial: Any, found: Any) -> None:
        order.append(trial.number)

    hands = RayEngine(ray, None)
    done = search(
        "li2019", corpus, over, runs=tmp_path / "a", engine=hands, on_trial=told, **options
    )
    alone = search("li2019", corpus, over, runs=tmp_path / "b", **options)
    assert order == [0, 1, 2, 3]
    assert [one.score for one in done.trials] == [one.score for one in alone.trials]
    assert done.best == alone.best
    for one in done.trials:
        assert numbers(tmp_path / "a" / one.run) == numbers(tmp_path / "b" / one.run)


def test_a_search_that_is_interrupted_puts_back_all_that_it_claimed(
    corpus: Corpus, tmp_path: Path
) -> None:
    pytest.importorskip("optuna")

    def act(fold: str, epoch: Epoch) -> None:
        raise KeyboardInterrupt

    options: dict[str, Any] = {"settings": FEW, "trials": 3, "runs": tmp_path}
    over = ["tasks.gender.weight=0..1"]
    hands = RayEngine(Alone(cores=8), None)
    with pytest.raises(KeyboardInterrupt):
        search("li2019", corpus, over, engine=hands, open_progress=telling([], act), **options)
    hands.close()
    done = search("li2019", corpus, over, engine=hands, **options)
    assert [one.state for one in done.trials] == ["finished"] * 3


def test_a_trial_that_cannot_be_begun_is_told_of_in_its_turn(
    corpus: Corpus, tmp_path: Path
) -> None:
    pytest.importorskip("optuna")
    over = ["training.threads=1,4"]
    hands = RayEngine(Alone(cores=2), None)
    done = search("li2019", corpus, over, trials=2, settings=FEW, runs=tmp_path, engine=hands)
    found = {one.settings["training.threads"]: one for one in done.trials}
    assert found[1].state == "finished"
    assert "no machine of the cluster has what one fold needs: 4 cores" in str(found[4].fault)


def test_a_sweep_gives_the_same_points(corpus: Corpus, tmp_path: Path) -> None:
    options: dict[str, Any] = {"settings": FEW, "seeds": 2}
    setting = "training.batch=8,16"
    words: list[str] = []

    def told(setting: str, results: Any) -> None:
        words.append(setting)

    hands = RayEngine(Alone(cores=3), None)
    done = sweep(
        "li2019", corpus, setting, runs=tmp_path / "a", engine=hands, on_evaluation=told, **options
    )
    alone = sweep("li2019", corpus, setting, runs=tmp_path / "b", **options)
    assert io.to_builtin(done.points) == io.to_builtin(alone.points)
    assert words == ["training.batch=8"] * 2 + ["training.batch=16"] * 2


def ended(news: Iterator[ray_backend.FoldUpdate]) -> Any:
    return list(news)[-1].outcome


def moved(todo: Plan, folder: Path, content: bytes | None) -> bytes:
    """A plan whose first recording is another file, or none, at the same path."""
    first, *rest = todo.corpus.utterances
    path = folder / "elsewhere.wav"
    if content is not None:
        path.write_bytes(content)
    corpus = replace(todo.corpus, utterances=(replace(first, path=path), *rest))
    return ray_backend.pack_plan(replace(todo, corpus=corpus))


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file"), (b"noise", "1 of 24 recordings differ from those")],
)
def test_a_machine_without_the_corpus_is_named(
    corpus: Corpus, tmp_path: Path, content: bytes | None, message: str
) -> None:
    todo = planned(corpus, tmp_path)
    fault = ended(
        ray_backend.train_fold(moved(todo, tmp_path, content), todo.protocol.folds[0], None)
    )
    assert isinstance(fault, CorpusError)
    assert message in str(fault)
    assert os.uname().nodename in str(fault)
    assert "at the same path, or SEREIN_CACHE on a disk that they share" in str(fault)


def test_frames_in_the_cache_do_without_the_corpus(corpus: Corpus, tmp_path: Path) -> None:
    todo = planned(corpus, tmp_path, "training.epochs=1")
    assert not is_cached(todo.corpus.utterances, todo.build_front_end(), todo.contents)
    todo.load_frames()
    assert is_cached(todo.corpus.utterances, todo.build_front_end(), todo.contents)
    course = ended(
        ray_backend.train_fold(moved(todo, tmp_path, None), todo.protocol.folds[0], None)
    )
    assert len(course.epochs) == 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("package_versions", lambda: {"torch": "1.0"}, "has serein None, and the run began with"),
        ("Plan.precision", "bf16", "has precision bf16, and the run began with fp32"),
    ],
)
def test_what_gives_other_numbers_is_refused(
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: Any,
    message: str,
) -> None:
    todo = planned(corpus, tmp_path)
    sent = ray_backend.pack_plan(todo)
    monkeypatch.setattr(f"serein.evaluation.ray_backend.{name}", value)
    fault = ended(ray_backend.train_fold(sent, todo.protocol.folds[0], None))
    assert isinstance(fault, ConfigError)
    assert message in str(fault)


def test_recordings_are_sent_by_their_whole_paths(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = planned(corpus, tmp_path)
    root = todo.corpus.utterances[0].path.parent
    monkeypatch.chdir(root)
    near = [replace(u, path=Path(os.path.relpath(u.path))) for u in todo.corpus.utterances]
    content = ray_backend.pack_plan(
        replace(todo, corpus=replace(todo.corpus, utterances=tuple(near)))
    )
    sent, _ = pickle.loads(content)
    assert [os.path.normpath(u.path) for u in sent.corpus.utterances] == [
        os.path.normpath(u.path.absolute()) for u in todo.corpus.utterances
    ]


def test_a_state_is_sent_without_the_end_of_an_epoch_too(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = planned(corpus, tmp_path)
    fold = todo.protocol.folds[0]
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
    todo.load_frames()
    news = ray_backend.train_fold(ray_backend.pack_plan(todo), fold, b"earlier")
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
def test_engines_that_are_not_there(
    corpus: Corpus, tmp_path: Path, options: dict[str, str], error: type[SereinError], message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluated(corpus, tmp_path, **options)
    assert list(tmp_path.rglob("*.pt")) == []


def test_ray_is_an_extra(
    run: Callable[..., tuple[int, str, str]], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ["--corpus", f"synthetic={root}", "--engine", "ray"]
    words += [word for one in QUICK for word in ("--set", one)]
    for command in (["evaluate"], ["search"], ["sweep", "--setting", "training.batch=8,16"]):
        status, _, err = run(command[0], "li2019", *command[1:], *words)
        assert status == 2
        assert 'pip install "serein[ray]"' in err


def test_a_saved_model_is_scored_here(run: Callable[..., tuple[int, str, str]]) -> None:
    words = ["--corpus", "emodb", "--engine", "ray", "--address", "head:6379"]
    status, _, err = run("evaluate", "--model", "li2019-emodb", *words)
    assert status == 2
    assert "--engine, --address: a saved model is scored without training" in err


def test_room_is_counted_by_machines_that_live() -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}},
        {"Alive": True, "Resources": {"CPU": 3.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    ray = SimpleNamespace(nodes=lambda: nodes)
    assert [distributed.count_task_slots(ray, cores) for cores in (1, 2, 4, 5)] == [7, 3, 1, 0]
    assert distributed.count_task_slots(ray, 1, 1) == 1


def test_ctrl_c_is_heard_where_ray_would_swallow_it() -> None:
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
def test_a_cluster_that_does_not_answer(
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


def test_an_engine_at_work_is_not_started_again() -> None:
    hands = RayEngine(Alone(), None)
    with open_engine(hands, 3, None) as same:
        assert same is hands
    assert hands.jobs == 2
