"""Time the first tutorial from a fresh clone: `python tests/first_tutorial.py [FOLDER]`.

Clones this repository, installs it with `make install`, and runs every command and Python block of
docs/learn/recognize-a-folder.md in the new environment. The exit status is 1 if something fails, or
if all took longer than five minutes.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

ROOT = Path(__file__).parents[1]
PAGE = Path("docs/learn/recognize-a-folder.md")
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MAX_SECONDS = 300


def list_steps(text: str, bin_folder: Path) -> list[tuple[str, list[str], int]]:
    """Return name, command and expected exit status of each step of the tutorial."""
    steps = []
    for kind, block in BLOCK.findall(text):
        if kind == "python":
            steps.append(("python block", [str(bin_folder / "python"), "-c", block], 0))
            continue
        for line, remark in re.findall(r"^\$ serein (.*?)(?: +# *(.*))?$", block, re.MULTILINE):
            status = int(remark.removeprefix("status ")) if remark.startswith("status ") else 0
            command = [str(bin_folder / "serein"), *shlex.split(line)]
            steps.append((f"serein {line}", command, status))
    return steps


def run_step(name: str, command: list[str], folder: Path, status: int = 0) -> float:
    """Run a command, print how long it took, and return the seconds.

    Raises:
        SystemExit: it ended with another status.
    """
    begun = monotonic()
    environment = os.environ | {"SEREIN_CACHE": str(folder / "cache")}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    seconds = monotonic() - begun
    print(f"{seconds:6.1f} s  {name}", flush=True)
    if done.returncode != status:
        sys.exit(f"{name}: status {done.returncode}\n{done.stdout}\n{done.stderr}")
    return seconds


def main(folder: Path) -> bool:
    """Run everything in a folder; return whether it took at most five minutes."""
    clone = folder / "serein"
    seconds = run_step("git clone", ["git", "clone", "-q", str(ROOT), str(clone)], folder)
    seconds += run_step("make install", ["make", "install"], clone)
    work = folder / "tutorial"
    work.mkdir()
    text = (clone / PAGE).read_text("utf-8")
    for name, command, status in list_steps(text, clone / ".venv" / "bin"):
        seconds += run_step(name, command, work, status)
    print(f"{seconds:6.1f} s  in all; expected at most {MAX_SECONDS}")
    return seconds <= MAX_SECONDS


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(not main(Path(sys.argv[1]).resolve()))
    with TemporaryDirectory() as place:
        sys.exit(not main(Path(place)))
