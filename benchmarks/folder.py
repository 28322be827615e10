"""Recognition of a folder of recordings by the whole command, from its start to the written table.

The folder is EMO-DB and RAVDESS, if ``../shared`` has them.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from benchmarks.timing import MODEL, Row

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
CORPORA = ("emodb", "ravdess")
JOBS = 2
COUNT_SCRIPT = """
import json, sys
import pyarrow.parquet as pq
end = pq.read_table(sys.argv[1], columns=["end"])["end"].cast("int64").to_pylist()
print(json.dumps([len(end), sum(end) / 1e9]))
"""


def main() -> list[Row]:
    if not all((SHARED / name).is_dir() for name in CORPORA):
        what = "a folder: EMO-DB and RAVDESS"
        return [Row(what=what, ours=float("nan"), unit="s", peer_name="skipped: no ../shared")]
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "voices"
        folder.mkdir()
        for name in CORPORA:
            (folder / name).symlink_to(SHARED / name)
        wall, cpu = _time_command(folder, Path(root) / "out.parquet")
        files, seconds = _count_audio(Path(root) / "out.parquet")
    what = f"a folder of {files:,} files, {seconds / 60:.0f} minutes, {JOBS} processes"
    return [
        Row(what=what, ours=seconds / wall, unit="x real time", target="300 or more"),
        Row(what=f"{what}: CPU time", ours=cpu / seconds * 1e3, unit="ms per second of audio"),
    ]


def _time_command(folder: Path, output: Path) -> tuple[float, float]:
    """Return the wall time and the CPU time of the command in seconds."""
    command = [sys.executable, "-m", "serein", "recognize", str(folder), "-o", str(output)]
    command += ["--model", MODEL]
    cpu_start, start = _children_cpu_time(), perf_counter()
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--jobs", str(JOBS)], check=True, capture_output=True, env=one_thread)
    return perf_counter() - start, _children_cpu_time() - cpu_start


def _children_cpu_time() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _count_audio(output: Path) -> tuple[int, float]:
    """Return the number and duration of the files, counted by a process to keep this one small."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT_SCRIPT, str(output)],
        check=True,
        capture_output=True,
        text=True,
    )
    files, seconds = json.loads(done.stdout)
    return files, seconds
