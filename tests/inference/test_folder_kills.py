"""Runs over folders in processes: killed, started twice, interrupted, and as commands."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from builders.audio_folders import small_recognizer, write_bad_files, write_recordings

from serein import bundle

Run = Callable[..., tuple[int, str, str]]

SLOW_RUN = """
import sys, time
from pathlib import Path
from serein.inference import folder
from serein.inference.recognizer import Recognizer
folder.SAVE_INTERVAL, folder.FILES_PER_CHUNK = 0, 1
if __name__ == "__main__":
    voices, output, model, jobs, pause, nonspeech = sys.argv[1:]
    wait = lambda progress: time.sleep(float(pause))
    recognizer = Recognizer(model, answer_nonspeech=nonspeech == "True")
    done = recognizer.folder(voices, output, jobs=int(jobs), progress=wait)
    print(done.recognized, done.done_before)
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    bundle.save(small_recognizer().bundle, tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


def start_run(
    folder: Path,
    model: Path,
    output: Path,
    *,
    jobs: int = 1,
    pause: float = 0.05,
    answer_nonspeech: bool = False,
) -> subprocess.Popen[str]:
    script = folder.parent / "slowly.py"
    script.write_text(SLOW_RUN)
    command = [sys.executable, str(script), str(folder), str(output), str(model)]
    return subprocess.Popen(
        [*command, str(jobs), str(pause), str(answer_nonspeech)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_parts(output: Path, count: int, process: subprocess.Popen[str]) -> None:
    run = output.with_name(output.name + ".run")
    end = time.monotonic() + 120
    while len(list(run.glob("part-*"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def read_files(output: Path) -> list[str]:
    return list(pd.read_parquet(output).index.get_level_values("file"))


def test_killed_run_is_resumed(model: Path, tmp_path: Path) -> None:
    names, output = write_recordings(tmp_path / "voices", 24), tmp_path / "out.parquet"
    process = start_run(tmp_path / "voices", model, output)
    wait_for_parts(output, 5, process)
    kill(process)
    assert not output.exists()
    out, err = start_run(tmp_path / "voices", model, output, pause=0).communicate()
    recognized, before = map(int, out.split())
    assert recognized == 24, err
    assert 5 <= before < 24
    assert read_files(output) == names


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("jobs", [1, 2])
def test_run_killed_many_times_loses_and_duplicates_nothing(
    model: Path, tmp_path: Path, jobs: int
) -> None:
    names, output = write_recordings(tmp_path / "voices", 60), tmp_path / "out.parquet"
    bad = write_bad_files(tmp_path / "voices")
    start = partial(start_run, tmp_path / "voices", model, output, jobs=jobs, answer_nonspeech=True)
    for moment in range(7):
        process = start()
        if moment:
            wait_for_parts(output, 8 * moment, process)
        else:
            time.sleep(2)
        kill(process)
    out, err = start(pause=0).communicate()
    recognized, before = map(int, out.split())
    assert (recognized, before >= 48) == (60, True), err
    assert read_files(output) == names
    calm = small_recognizer().folder(tmp_path / "voices", tmp_path / "calm.parquet")
    assert (calm.recognized, calm.failed) == (60, len(bad))
    pd.testing.assert_frame_equal(
        pd.read_parquet(output),
        calm.to_frame().assign(
            **{name: pd.read_parquet(output)[name] for name in ("model", "model_hash")}
        ),
        atol=1e-5,
    )


def test_second_process_on_one_output_is_refused(model: Path, tmp_path: Path, run: Run) -> None:
    write_recordings(tmp_path / "voices", 24)
    output = tmp_path / "out.parquet"
    process = start_run(tmp_path / "voices", model, output, pause=0.5)
    wait_for_parts(output, 1, process)
    status, out, err = run("recognize", tmp_path / "voices", "-o", output, "--model", model)
    kill(process)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "another process is writing" in err
    status, out, _ = run("recognize", "voices", "-o", output, "--model", model, "--jobs", "1")
    assert status == 0
    assert "24 recognized, 0 failed" in out


def test_recognize_command_on_a_folder(model: Path, tmp_path: Path, run: Run) -> None:
    write_recordings(tmp_path / "voices")
    words = ["recognize", "voices", "--model", model, "--jobs", "1", "-o", "out.parquet"]
    status, out, err = run(*words)
    assert (status, err) == (0, "")
    assert "9 recognized, 0 failed, 0 ignored" in out
    status, out, _ = run(*words)
    assert (status, "all of them in earlier runs" in out) == (0, True)
    write_bad_files(tmp_path / "voices")
    status, out, err = run(*words)
    assert status == 1
    assert "9 recognized, 6 failed" in out
    assert err.count("\n") == 7
    assert "voices/empty.wav is empty (0 bytes)" in err
    assert "out.parquet.errors.csv lists them with reasons" in err
    status, out, err = run(*words, "--confidence", "0.5")
    assert (status, err.count("\n")) == (2, 1)
    assert "Choose another output" in err


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (["recognize", "voices"], 2, "-o out.parquet"),
        (["recognize", "voices", "voices", "-o", "x.csv"], 2, "one folder at a time"),
        (["recognize", "voices", "-o", "x.xml"], 2, "Known: .csv, .jsonl, .parquet"),
        (["recognize", "gone", "-o", "x.csv"], 1, "there is no file or folder gone"),
        (["recognize", "voices", "-o", "x.csv", "--format", "json"], 2, "not for a folder"),
        (["recognize", "voices", "-o", "x.csv", "--start", "1"], 2, "not for a folder"),
        (["recognize", "voices", "-o", "x.csv", "--engine", "spark"], 2, "Known: "),
        (["recognize", "voices", "-o", "voices/00.wav/x.csv"], 1, "choose an output"),
    ],
)
def test_errors_are_one_line(
    run: Run, tmp_path: Path, words: list[str], status: int, expected: str
) -> None:
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices/00.wav").touch()
    found, _, err = run(*words)
    assert (found, err.count("\n")) == (status, 1), err
    assert expected in err


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not shutil.which("pgrep"), reason="needs pgrep")
def test_ctrl_c_ends_all_processes_and_keeps_finished_answers(model: Path, tmp_path: Path) -> None:
    names, output = write_recordings(tmp_path / "voices", 60), tmp_path / "out.parquet"
    process = start_run(tmp_path / "voices", model, output, jobs=2)
    wait_for_parts(output, 5, process)
    workers = subprocess.run(
        ["pgrep", "-P", str(process.pid), "-f", "spawn_main"], capture_output=True, text=True
    ).stdout.split()
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=120)[1]
    assert len(workers) == 2
    assert not [pid for pid in workers if Path("/proc", pid).exists()]
    out, err = start_run(tmp_path / "voices", model, output, pause=0).communicate()
    recognized, before = map(int, out.split())
    assert (recognized, before >= 5) == (60, True), err
    assert read_files(output) == names
