"""Processes of benchmarks that take steps on request."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import step_process
from benchmarks.step_process import KERAS_VARIABLE, step_together
from benchmarks.timing import time_alternately

STEP = """
import sys
from pathlib import Path
from benchmarks.step_process import serve_steps

def step():
    with Path(sys.argv[1]).open("a") as file:
        file.write("x")

serve_steps("a peer", step)
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the Python path of the processes."""
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    return tmp_path


def test_processes_take_a_step_on_request(modules: Path) -> None:
    (modules / "stepping.py").write_text(STEP)
    log = modules / "log"
    with step_process.start_processes(2, sys.executable, "stepping", str(log)) as processes:
        assert [one.name for one in processes] == ["a peer"] * 2
        assert log.read_text() == "xx"
        step_together(processes)()
        assert log.read_text() == "xxxx"
        time_alternately(step_together(processes[:1]), step_together(processes), repeats=3)
        assert len(log.read_text()) == 4 + 4 * 3
    assert [one.process.returncode for one in processes] == [0, 0]


@pytest.mark.parametrize(
    ("content", "status"),
    [("raise SystemExit(3)", 3), (STEP.replace("def step():", "def f():"), 1)],
)
def test_process_that_ends_is_an_error(
    modules: Path, capfd: pytest.CaptureFixture[str], content: str, status: int
) -> None:
    (modules / "ending.py").write_text(content)
    with pytest.raises(RuntimeError, match=rf"ending.* ended with {status}"):
        step_process.StepProcess(sys.executable, "ending", "nowhere")
    assert ("NameError" in capfd.readouterr().err) is (status == 1)


def test_process_that_ends_between_steps_is_an_error(modules: Path) -> None:
    (modules / "stepping.py").write_text(STEP)
    with step_process.start_processes(1, sys.executable, "stepping", str(modules / "log")) as (
        one,
    ):
        (modules / "log").unlink()
        (modules / "log").mkdir()
        with pytest.raises(RuntimeError, match=r"stepping.* ended with 1"):
            step_together([one])()


@pytest.mark.parametrize("here", [True, False])
def test_keras_python_is_the_named_one_or_this_one(
    monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    known = find_spec("json") if here else None
    monkeypatch.setattr(step_process, "find_spec", lambda name: known)
    monkeypatch.delenv(KERAS_VARIABLE, raising=False)
    assert step_process.find_keras_python() == (sys.executable if here else None)
    monkeypatch.setenv(KERAS_VARIABLE, "/elsewhere/python")
    assert step_process.find_keras_python() == "/elsewhere/python"
