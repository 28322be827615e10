"""Ten minutes of valid and invalid requests: no errors, no growth of memory (`make test-slow`)."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from builders.encoded_audio import encode_format
from builders.service_client import SPEECH, SmallModelServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
HOUSE = Path(__file__).parents[2]
SECONDS = float(os.environ.get("SEREIN_SOAK_SECONDS", "600"))
GROWTH = 16.0
"""MB by which memory may still grow after the first tenth of the time."""


def megabytes(pid: int) -> float:
    """Resident memory of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pages = [int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in (pid, *children)]
    return sum(pages) * os.sysconf("SC_PAGESIZE") / 2**20


def test_ten_minutes_of_load_do_not_grow_memory(tmp_path: Path) -> None:
    live, file = SmallModelServer(tmp_path), tmp_path / "speech.flac"
    file.write_bytes(SPEECH)
    command = [sys.executable, "-m", "benchmarks.load_client", str(live.port), str(file)]
    command += ["--clients", "8", "--seconds", str(SECONDS)]
    with subprocess.Popen(command, cwd=HOUSE, stdout=subprocess.PIPE) as load:
        begin, seen = time.monotonic(), list[float]()
        while load.poll() is None and time.monotonic() < begin + SECONDS - 1:
            assert live.post(b"text").status_code == 422
            assert live.post(SPEECH[:500]).status_code == 422
            assert live.post(encode_format("m4a")).status_code == 200
            seen.append(megabytes(live.process.pid))
            time.sleep(SECONDS / 200)
        out, _ = load.communicate()
    found = json.loads(out)
    assert set(found["statuses"]) <= {200, 429}
    assert len(found["latencies"]) > SECONDS
    warm = max(seen[: len(seen) // 10 + 1])
    assert max(seen[-len(seen) // 10 :]) < warm + GROWTH, seen
    assert live.end() == 0
