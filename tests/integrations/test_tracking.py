"""Tracking of evaluations and trainings, with a client that records and with MLflow's own store."""

import json
import sqlite3
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders.example_results import example_results

from serein import cli
from serein.errors import ConfigError, UnknownName
from serein.integrations import tracking
from serein.integrations.tracking import Tracker, Tracking, clean_name, open_tracking
from serein.records import Corpus
from serein.results.evaluation import Epoch
from serein.results.io import save_record
from serein.synthetic import SyntheticConfig, generate

EPOCH = Epoch(
    epoch=2,
    loss=1.5,
    seconds=0.25,
    scores={"validation": {"emotion": {"wa": 0.5, "ua": None}}},
)


class RecordingClient:
    """Records what it is told; ``fails_at`` is the name of the method that raises an error."""

    runs: list["RecordingClient"]
    fails_at = ""

    def __init__(self) -> None:
        self.name, self.settings = "", dict[str, str]()
        self.values: list[tuple[int, dict[str, float]]] = []
        self.files: list[str] = []
        self.calls: list[str] = []
        self.threads = {threading.get_ident()}
        self.runs.append(self)

    def _call(self, method: str) -> None:
        self.calls.append(method)
        self.threads.add(threading.get_ident())
        if method == self.fails_at:
            raise ConnectionError("nobody answers\nat port 1")

    def start(self, name: str, settings: Mapping[str, str]) -> None:
        self._call("start")
        self.name, self.settings = name, dict(settings)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._call("log")
        self.values.append((step, dict(values)))

    def save(self, files: Sequence[Path]) -> None:
        self._call("save")
        self.files += [file.name for file in files]

    def finish(self) -> None:
        self._call("finish")


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> type[RecordingClient]:
    """The clients that are built in place of MLflow's."""
    kind = type("OwnClient", (RecordingClient,), {"runs": []})
    monkeypatch.setitem(tracking.CLIENTS, "mlflow", kind)
    monkeypatch.setattr(tracking, "find_spec", lambda name: None if name == "wandb" else name)
    return kind


def track(tool: str | None, warnings: list[str]) -> Tracking:
    return Tracking(tool, warnings.append)


def test_tracking_is_off_by_default(clients: type[RecordingClient]) -> None:
    def display(plan: Any) -> Any:
        return nullcontext(lambda *_: None)

    with open_tracking(None, pytest.fail) as own:
        assert own.follow_plans(display) is display
        assert own.follow_training(display, Path("m"), pytest.fail, {}) is display
    assert clients.runs == []


def test_unknown_and_missing_tools(clients: type[RecordingClient]) -> None:
    with pytest.raises(UnknownName, match="unknown tracker 'mlfow'; did you mean 'mlflow'"):
        track("mlfow", [])
    with pytest.raises(ConfigError, match=r"--track wandb: it is not installed: pip install 'ser"):
        track("wandb", [])


def test_everything_is_sent_from_one_thread(clients: type[RecordingClient], tmp_path: Path) -> None:
    warnings: list[str] = []
    tracker = Tracker("mlflow", warnings.append)
    tracker.start("run", {"model": {"name": "li2019", "heads": None}, "tasks": {}}, {"seed": 3})
    tracker.log_epoch("emodb/ä 03", EPOCH)
    (tmp_path / "a.json").touch()
    scores = {"last": {"emotion": {"ua": 0.25}}}
    tracker.finish(scores, [tmp_path / "a.json", tmp_path / "none.html"])
    (client,) = clients.runs
    assert client.calls == ["start", "log", "log", "save", "finish"]
    assert client.settings == {"model.name": "li2019", "seed": "3"}
    values = {"loss": 1.5, "seconds": 0.25, "validation/emotion/wa": 0.5}
    assert client.values == [
        (2, {f"fold emodb/_ 03/{name}": value for name, value in values.items()}),
        (0, {"final/last/emotion/ua": 0.25}),
    ]
    assert client.files == ["a.json"]
    assert warnings == []
    assert len(client.threads) == 1
    assert threading.get_ident() not in client.threads


@pytest.mark.parametrize("method", ["start", "log", "save", "finish"])
def test_a_server_that_is_away_costs_one_warning(
    clients: type[RecordingClient], method: str
) -> None:
    clients.fails_at = method
    warnings: list[str] = []
    tracker = Tracker("mlflow", warnings.append)
    tracker.start("run", {}, {})
    for _ in range(3):
        tracker.log_epoch("03", EPOCH)
    tracker.finish({}, [])
    assert warnings == [
        "tracking by mlflow ended (ConnectionError: nobody answers at port 1); the training goes "
        "on without it"
    ]
    assert clients.runs[0].calls[-1] == method


def test_a_client_that_hangs_is_left_behind(
    clients: type[RecordingClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(tracking, "FINISH_SECONDS", 0.05)
    monkeypatch.setattr(clients, "start", lambda *_: released.wait(10))
    warnings: list[str] = []
    tracker = Tracker("mlflow", warnings.append)
    tracker.start("run", {}, {})
    tracker.finish({}, [])
    released.set()
    assert len(warnings) == 1
    assert "it did not answer within 0 s" in warnings[0]


def test_every_plan_is_a_run(clients: type[RecordingClient], tmp_path: Path) -> None:
    """An evaluation that did not end is closed without scores."""
    save_record(example_results(40, 2), tmp_path / "finished")
    (tmp_path / "finished" / "report.html").touch()
    seen: list[tuple[str, int]] = []

    def show_step(what: str, done: int, total: int) -> None:
        raise AssertionError

    def open_progress(plan: Any) -> Any:
        def display(fold: str, epoch: Epoch) -> None:
            seen.append((fold, epoch.epoch))

        display.show_step = show_step  # type: ignore[attr-defined]
        return nullcontext(display)

    def evaluate(follow: Any) -> None:
        for name in ("finished", "interrupted"):
            plan = SimpleNamespace(
                folder=tmp_path / name,
                corpus=Corpus(name="mine", utterances=()),
                protocol=SimpleNamespace(folds=[1, 2]),
                recipe=EPOCH,  # any record
                seed=1,
            )
            with follow(plan) as on_epoch:
                on_epoch("03", EPOCH)
                assert on_epoch.show_step is show_step
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError), open_tracking("mlflow", pytest.fail) as own:
        evaluate(own.follow_plans(open_progress))
    assert seen == [("03", 2), ("03", 2)]
    finished, interrupted = clients.runs
    assert finished.settings["corpus"] == "mine"
    assert finished.settings["folds"] == "2"
    assert finished.files == ["report.html", "results.json"]
    assert 0 < finished.values[-1][1]["final/validation/emotion/ua"] < 1
    assert interrupted.values[-1] == (0, {})
    assert interrupted.files == []
    assert all(client.calls[-1] == "finish" for client in clients.runs)


@pytest.mark.slow
def test_commands(
    clients: type[RecordingClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(tmp_path / "made", SyntheticConfig(speakers=3, emotions=("anger", "fear"), words=1))
    shared = ["--corpus", f"synthetic={tmp_path / 'made'}", "--track", "mlflow"]
    for setting in ("training.epochs=2", "features.seconds=1.0", "protocol.validation=none"):
        shared += ["--set", setting]
    run = ["evaluate", "li2019-emodb", *shared, "--runs", str(tmp_path / "runs"), "--jobs", "1"]
    output = tmp_path / "m.safetensors"
    for words in (run, ["train", "li2019-emodb", *shared, "-o", str(output)]):
        monkeypatch.setattr(sys, "argv", ["serein", *words])
        with pytest.raises(SystemExit) as exit_request:
            cli.main()
        assert not exit_request.value.code
    evaluated, trained = clients.runs
    assert [step for step, _ in evaluated.values] == [1, 2] * 3 + [0]
    assert evaluated.settings["training.epochs"] == "2"
    assert {"report.html", "results.json"} <= {*evaluated.files}
    assert any(name.startswith("final/last/emotion/") for name in evaluated.values[-1][1])
    assert [step for step, _ in trained.values] == [1, 2, 0]
    assert trained.values[0][1].keys() == {"loss", "seconds"}
    assert trained.files == ["m.safetensors"]
    assert trained.name == "m"


def test_processor_for_pipecat_says_what_is_missing() -> None:
    """Here, since the tests of the processor itself need Pipecat."""
    from serein.integrations import pipecat

    if pipecat.IS_INSTALLED:
        pytest.skip("Pipecat is installed")
    with pytest.raises(ConfigError, match=r"needs Pipecat 1\.x: pip install 'serein\[pipecat\]'"):
        pipecat.EmotionProcessor("serein-light")


def test_names_for_mlflow() -> None:
    assert clean_name("a+b, c:d/e") == "a_b_ c:d/e"


def build_local_mlflow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    mlflow = pytest.importorskip("mlflow", reason="needs MLflow: pip install 'serein[mlflow]'")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", folder.as_uri())
    return lambda: mlflow.tracking.MlflowClient()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_keeps_a_run_in_its_local_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_client = build_local_mlflow(tmp_path / "store", monkeypatch)
    (tmp_path / "results.json").write_text("{}")
    for name in ("first", "second"):
        tracker = Tracker("mlflow", pytest.fail)
        settings = {f"s{index}": "x" * 900 for index in range(150)}
        tracker.start(name, {"table": settings}, {"seed": 3})
        tracker.log_epoch("emodb+03", EPOCH)
        tracker.finish({"last": {"emotion": {"ua": 0.25}}}, [tmp_path / "results.json"])
    client = build_client()
    experiment = client.get_experiment_by_name("serein")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["first", "second"]
    data = runs[0].data
    assert data.metrics["fold emodb_03/loss"] == 1.5
    assert data.metrics["final/last/emotion/ua"] == 0.25
    assert len(data.params) == 151
    assert {run.info.status for run in runs} == {"FINISHED"}
    (artifact,) = client.list_artifacts(runs[0].info.run_id)
    assert artifact.path == "results.json"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_server_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_local_mlflow(tmp_path, monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    warnings: list[str] = []
    tracker = Tracker("mlflow", warnings.append)
    tracker.start("run", {}, {})
    tracker.log_epoch("03", EPOCH)
    tracker.finish({}, [])
    (warning,) = warnings
    assert warning.startswith("tracking by mlflow ended (MlflowException: ")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trackio_keeps_runs_in_its_local_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "store"))
    trackio = pytest.importorskip("trackio", reason="needs Trackio: pip install 'serein[trackio]'")
    for name in ("emodb%2Bmine-seed0", "emodb%2Bmine-seed1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(name)
        tracker = Tracker("trackio", pytest.fail)
        tracker.start(name, {"model": {"name": "li2019"}}, {"seed": 3})
        tracker.log_epoch("03", EPOCH)
        tracker.log_epoch("08", EPOCH)
        tracker.finish({"last": {"emotion": {"ua": 0.25}}}, [tmp_path / name / "results.json"])
    runs = {run.name: run for run in trackio.Api().runs("serein")}
    assert list(runs) == ["emodb%2Bmine-seed0", "emodb%2Bmine-seed1"]
    assert all(run.config["model.name"] == "li2019" for run in runs.values())
    with closing(sqlite3.connect(tmp_path / "store" / "serein.db")) as store:
        rows = store.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id").fetchall()
        artifacts = store.execute("SELECT name FROM artifacts ORDER BY name").fetchall()
    assert [(name, step) for name, step, _ in rows] == [
        (name, step) for name in runs for step in (2, 2, 0)
    ]
    assert json.loads(rows[1][2])["fold 08/validation/emotion/wa"] == 0.5
    assert json.loads(rows[-1][2]) == {"final/last/emotion/ua": 0.25}
    assert artifacts == [("emodb_2Bmine-seed0",), ("emodb_2Bmine-seed1",)]
    stored = [file.read_bytes() for file in (tmp_path / "store").rglob("*") if file.is_file()]
    assert {b"emodb%2Bmine-seed0", b"emodb%2Bmine-seed1"} <= {*stored}, "no file replaced another"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_keeps_a_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MODE", "offline"), ("DIR", str(tmp_path)), ("SILENT", "true")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    wandb = pytest.importorskip("wandb", reason="needs wandb: pip install 'serein[wandb]'")
    (tmp_path / "results.json").write_text("{}")
    for _ in range(2):
        tracker = Tracker("wandb", pytest.fail)
        tracker.start("run", {"model": {"name": "li2019"}}, {"seed": 3})
        tracker.log_epoch("03", EPOCH)
        tracker.log_epoch("08", EPOCH)
        tracker.finish({"last": {"emotion": {"ua": 0.25}}}, [tmp_path / "results.json"])
    wandb.teardown()  # as at the end of a process: what is buffered is written
    folders = sorted((tmp_path / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    for folder in folders:
        (log,) = folder.glob("*.wandb")
        content = log.read_bytes()
        for name in ("fold 03/loss", "fold 08/loss", "final/last/emotion/ua", "model.name"):
            assert name.encode() in content
        assert (folder / "files" / "results.json").read_text() == "{}"
