"""A folder of recordings end to end: a command, its processes started, files read, a table written.

The folder is EMO-DB and RAVDESS as ``../shared`` has them.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from benchmarks.timing import Row

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"
CORPORA = ("emodb", "ravdess")
JOBS = 2
COUNT = """
import json, sys
import pyarrow.parquet as pq
end = pq.read_table(sys.argv[1], columns=["end"])["end"].cast("int64").to_pylist()
print(json.dumps([len(end), sum(end) / 1e9]))
"""


def main() -> list[Row]:
    if not all((SHARED / name).is_dir() for name in CORPORA):
        what = "a folder: EMO-DB and RAVDESS"
        return [Row(what=what, ours=float("nan"), unit="s", peer_name="skipped: no ../shared")]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "voices"
        folder.mkdir()
        for name in CORPORA:
            (folder / name).symlink_to(SHARED / name)
        wall, work = _timed(folder, Path(place) / "out.parquet")
        files, seconds = _counted(Path(place) / "out.parquet")
    what = f"a folder of {files:,} files, {seconds / 60:.0f} minutes, {JOBS} processes"
    return [
        Row(what=what, ours=seconds / wall, unit="x real time", asked="300 or more"),
        Row(what=f"{what}: CPU time", ours=work / seconds * 1e3, unit="ms a second of audio"),
    ]


def _timed(folder: Path, output: Path) -> tuple[float, float]:
    """Seconds on the clock, and of all processors."""
    command = [sys.executable, "-m", "serein", "recognize", str(folder), "-o", str(output)]
    before, begin = _work(), perf_counter()
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--jobs", str(JOBS)], check=True, capture_output=True, env=one_thread)
    return perf_counter() - begin, _work() - before


def _work() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _counted(output: Path) -> tuple[int, float]:
    """Files and their seconds; counted elsewhere, so that this process stays small."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT, str(output)], check=True, capture_output=True, text=True
    )
    files, seconds = json.loads(done.stdout)
    return files, seconds
