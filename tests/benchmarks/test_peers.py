"""Benchmarks' peers in processes of their own."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import beside
from benchmarks.beside import VARIABLE, together
from benchmarks.timing import paired

STEP = """
import sys
from pathlib import Path
from benchmarks.beside import serve

def step():
    with Path(sys.argv[1]).open("a") as file:
        file.write("x")

serve("a peer", step)
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules such a process finds."""
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    return tmp_path


def test_processes_take_a_step_each_when_they_are_asked_to(modules: Path) -> None:
    (modules / "stepping.py").write_text(STEP)
    taken = modules / "taken"
    with beside.beside(2, sys.executable, "stepping", str(taken)) as processes:
        assert [one.name for one in processes] == ["a peer"] * 2
        assert taken.read_text() == "xx"
        together(processes)()
        assert taken.read_text() == "xxxx"
        paired(together(processes[:1]), together(processes), repeats=3)
        assert len(taken.read_text()) == 4 + 4 * 3
    assert [one.process.returncode for one in processes] == [0, 0]


@pytest.mark.parametrize(
    ("content", "status"),
    [("raise SystemExit(3)", 3), (STEP.replace("def step():", "def f():"), 1)],
)
def test_a_process_that_ends_is_told_of(
    modules: Path, capfd: pytest.CaptureFixture[str], content: str, status: int
) -> None:
    (modules / "ending.py").write_text(content)
    with pytest.raises(RuntimeError, match=rf"ending.* ended with {status}"):
        beside.Beside(sys.executable, "ending", "nowhere")
    assert ("NameError" in capfd.readouterr().err) is (status == 1)


def test_a_process_that_ends_between_steps_is_told_of(modules: Path) -> None:
    (modules / "stepping.py").write_text(STEP)
    with beside.beside(1, sys.executable, "stepping", str(modules / "taken")) as (one,):
        (modules / "taken").unlink()
        (modules / "taken").mkdir()
        with pytest.raises(RuntimeError, match=r"stepping.* ended with 1"):
            together([one])()


@pytest.mark.parametrize("here", [True, False])
def test_kerass_interpreter_is_the_one_that_is_named_or_this_one(
    monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    known = find_spec("json") if here else None
    monkeypatch.setattr(beside, "find_spec", lambda name: known)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert beside.keras() == (sys.executable if here else None)
    monkeypatch.setenv(VARIABLE, "/elsewhere/python")
    assert beside.keras() == "/elsewhere/python"
