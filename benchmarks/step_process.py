"""Processes that take a step on request, to time them alternately or in parallel.

A peer may need packages that conflict with ours. Requests and replies are lines of JSON. Keras runs
in the interpreter named by SEREIN_KERAS, else in this one. This module imports only the standard
library.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent
KERAS_VARIABLE = "SEREIN_KERAS"
MALLOC_SETTINGS = {f"MALLOC_{kind}_THRESHOLD_": str(2**30) for kind in ("MMAP", "TRIM")}
"""Make glibc keep freed memory, for ours and for peers."""


class StepProcess:
    """A process that takes a step on request."""

    def __init__(self, python: str, *words: str) -> None:
        """Start ``python -m words``, and wait for its first step.

        Raises:
            RuntimeError: the process ended; it prints its error on the terminal.
        """
        self.command = [python, "-m", *words]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            self.command,
            cwd=ROOT,
            text=True,
            stdin=pipe,
            stdout=pipe,
            env={**os.environ, **MALLOC_SETTINGS},
        )
        try:
            self.name = str(self.wait()["name"])
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def request(self) -> None:
        """Request a step."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"steps": 1}) + "\n")
        self.process.stdin.flush()

    def wait(self) -> dict[str, object]:
        """Wait until the step is done.

        Raises:
            RuntimeError: the process ended.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError(f"{' '.join(self.command)} ended with {self.process.returncode}")
        reply: dict[str, object] = json.loads(line)
        return reply

    def close(self) -> None:
        """Close the input of the process, and wait until it ends."""
        self.process.communicate()


@contextmanager
def start_processes(count: int, python: str, *words: str) -> Iterator[list[StepProcess]]:
    """Start processes one after the other, and end them with the block."""
    with ExitStack() as stack:
        processes = []
        for _ in range(count):
            processes.append(StepProcess(python, *words))
            stack.callback(processes[-1].close)
        yield processes


def step_together(processes: list[StepProcess]) -> Callable[[], None]:
    """Return a function in which all processes take a step at the same time."""

    def step() -> None:
        for process in processes:
            process.request()
        for process in processes:
            process.wait()

    return step


def serve_steps(name: str, step: Callable[[], object]) -> None:
    """Run a step process: take a step, send the name, and take the steps of every request."""
    step()
    print(json.dumps({"name": name}), flush=True)
    for line in sys.stdin:
        for _ in range(json.loads(line)["steps"]):
            step()
        print(json.dumps({"name": name}), flush=True)


def find_keras_python() -> str | None:
    """Return the interpreter that has Keras and TensorFlow; None without one."""
    here = sys.executable if find_spec("tensorflow") and find_spec("keras") else None
    return os.environ.get(KERAS_VARIABLE) or here
