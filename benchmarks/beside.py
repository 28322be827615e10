"""Steps in processes of their own, taken in turns or side by side: JSON, a line each way.

A peer may need packages that do not go with ours. Keras is looked for in the interpreter that
SEREIN_KERAS names, else in this one. Nothing but Python's own library is imported here.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

HOUSE = Path(__file__).parent.parent
VARIABLE = "SEREIN_KERAS"
KEPT = {f"MALLOC_{kind}_THRESHOLD_": str(2**30) for kind in ("MMAP", "TRIM")}
"""Has glibc keep what a step frees, for ours and for peers."""


class Beside:
    """A process that takes a step when it is asked to."""

    def __init__(self, python: str, *words: str) -> None:
        """Start ``python -m words`` and wait until it has taken its first step.

        Raises:
            RuntimeError: it ended before; its own words are on the terminal.
        """
        self.command = [python, "-m", *words]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            self.command, cwd=HOUSE, text=True, stdin=pipe, stdout=pipe, env={**os.environ, **KEPT}
        )
        try:
            self.name = str(self.answer()["name"])
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def ask(self) -> None:
        """Have it take a step."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"steps": 1}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, object]:
        """Wait until it has.

        Raises:
            RuntimeError: it ended instead.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.close()
            raise RuntimeError(f"{' '.join(self.command)} ended with {self.process.returncode}")
        found: dict[str, object] = json.loads(line)
        return found

    def close(self) -> None:
        """Let it end."""
        self.process.communicate()


@contextmanager
def beside(count: int, python: str, *words: str) -> Iterator[list[Beside]]:
    """So many such processes, started one after the other; they end with the block."""
    with ExitStack() as stack:
        yield [_started(stack, python, *words) for _ in range(count)]


def _started(stack: ExitStack, python: str, *words: str) -> Beside:
    one = Beside(python, *words)
    stack.callback(one.close)
    return one


def together(processes: list[Beside]) -> Callable[[], None]:
    """A step of each, all at the same time."""

    def step() -> None:
        for one in processes:
            one.ask()
        for one in processes:
            one.answer()

    return step


def serve(name: str, step: Callable[[], object]) -> None:
    """Be such a process: take a step, tell one's name, and take one for every line that comes."""
    step()
    print(json.dumps({"name": name}), flush=True)
    for line in sys.stdin:
        for _ in range(json.loads(line)["steps"]):
            step()
        print(json.dumps({"name": name}), flush=True)


def keras() -> str | None:
    """The interpreter that has Keras and TensorFlow; None where there is none."""
    here = sys.executable if find_spec("tensorflow") and find_spec("keras") else None
    return os.environ.get(VARIABLE) or here
