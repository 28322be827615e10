"""Training in several processes: as one with the same batches, and when one of them is lost."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.small_systems import SIZES
from distributed_training import train
from training.test_loop import largest_difference

from serein import bundle
from serein.errors import ConfigError, StorageError
from serein.evaluation.evaluate import evaluate
from serein.evaluation.train import train as save_model
from serein.training.checkpoint import load_checkpoint
from serein.training.distributed import handle_lost_processes
from serein.utils import distributed

HERE = Path(__file__).parent
ELASTIC = {"TORCHELASTIC_RUN_ID": "a", "MASTER_ADDR": "127.0.0.1"}
SLURM = {
    "SLURM_JOB_ID": "17",
    "SLURM_JOB_NAME": "serein",
    "SLURM_NNODES": "1",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "127.0.0.1",
}


def port() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def torchrun(world: int) -> list[dict[str, str]]:
    """What torchrun tells each process."""
    here = {**ELASTIC, "MASTER_PORT": port(), "WORLD_SIZE": f"{world}"}
    here["LOCAL_WORLD_SIZE"] = f"{world}"
    return [{**here, "RANK": f"{rank}", "LOCAL_RANK": f"{rank}"} for rank in range(world)]


def srun(world: int) -> list[dict[str, str]]:
    """What srun tells each process."""
    names = ("SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS_PER_NODE")
    here = {**SLURM, "MASTER_PORT": port(), **dict.fromkeys(names, f"{world}")}
    own = ("SLURM_PROCID", "SLURM_LOCALID")
    return [{**here, **dict.fromkeys(own, f"{rank}")} for rank in range(world)]


def started(told: list[dict[str, str]], *words: str | Path) -> list[subprocess.Popen[str]]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    command = [sys.executable, *map(str, words)]
    return [
        subprocess.Popen(command, env={**kept, **one}, stderr=subprocess.PIPE, text=True)
        for one in told
    ]


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    try:
        complaints = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(one.returncode, text) for one, text in zip(processes, complaints, strict=True)]


def read(folder: Path, rank: int) -> dict[str, Any]:
    return torch.load(folder / f"rank{rank}.pt", weights_only=True)


@pytest.mark.parametrize("told", [torchrun(2), srun(2), torchrun(3)], ids=["two", "srun", "three"])
def test_several_processes_train_as_one_does(tmp_path: Path, told: list[dict[str, str]]) -> None:
    (tmp_path / "one").mkdir()
    torch.set_num_threads(1)
    system, course = train(tmp_path / "one")
    for status, complaint in ended(started(told, HERE / "several.py", tmp_path)):
        assert status == 0, complaint
    wanted = system.state_dict()
    first, *others = (read(tmp_path, rank) for rank in range(len(told)))
    assert largest_difference(wanted, first["weights"]) < 1e-6
    assert first["losses"] == pytest.approx([epoch.loss for epoch in course.epochs], abs=1e-6)
    assert (first["told"], [one["told"] for one in others]) == ([1, 2, 3], [[]] * len(others))
    for other in others:
        assert largest_difference(first["weights"], other["weights"]) == 0
        assert (other["losses"], other["scores"]) == (first["losses"], first["scores"])
    assert [file.name for file in tmp_path.glob("state*")] == ["state.pt"]
    assert len(load_checkpoint(tmp_path / "state.pt")[0].epochs) == 3


def test_a_lost_process_ends_the_others_and_nothing_else_is_lost(tmp_path: Path) -> None:
    done = ended(started(torchrun(2), HERE / "several.py", tmp_path, "killed"))
    (status, complaint), (killed, _) = done
    assert (status, killed) == (1, -signal.SIGKILL)
    last = complaint.strip().splitlines()[-1]
    assert "process 0 of 2 of this training lost another one" in last
    assert "same command" in last
    course, kept = load_checkpoint(tmp_path / "state.pt")
    assert (len(course.epochs), kept["place"]["batches"]) == (1, 2)
    (tmp_path / "calm").mkdir()
    for folder in (tmp_path, tmp_path / "calm"):
        for status, complaint in ended(started(torchrun(2), HERE / "several.py", folder)):
            assert status == 0, complaint
    one, calm = read(tmp_path, 0), read(tmp_path / "calm", 0)
    assert largest_difference(one["weights"], calm["weights"]) == 0
    assert one["losses"] == calm["losses"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_torchrun_trains_the_model_that_one_process_trains(root: Path, tmp_path: Path) -> None:
    settings = [*SIZES, "model.dropout=0", "training.batch=5", "training.bucket=2"]
    words = ["-m", "serein", "train", "li2019", "--corpus", f"synthetic={root}"]
    words += [word for setting in settings for word in ("--set", setting)]
    several = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port()}"]
    made = []
    for name, launcher in (("one", []), ("two", several)):
        output = tmp_path / f"{name}.safetensors"
        command = [sys.executable, *launcher, *words, "-o", str(output)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(f"{output}: ") == done.stdout.count("epochs") == 1
        made.append(bundle.load(output).system.state_dict())
    assert largest_difference(*made) < 1e-6
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, (1, 0, 1)),
        ({"RANK": "3", "WORLD_SIZE": "8"}, (1, 0, 1)),
        ({**SLURM, "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "8"}, (1, 0, 1)),
        ({**torchrun(2)[1], **srun(1)[0]}, (2, 1, 2)),
        (srun(4)[2], (4, 2, 4)),
        ({**srun(4)[3], "SLURM_NNODES": "2"}, (4, 3, 2)),
    ],
    ids=["alone", "not torchrun", "within a job", "torchrun in a job", "srun", "two machines"],
)
def test_who_works_here_is_what_the_starter_says(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, str], expected: tuple[int, int, int]
) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert (
        distributed.get_world_size(),
        distributed.get_rank(),
        distributed.get_local_world_size(),
    ) == expected


def test_what_needs_one_process_says_so(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in torchrun(2)[0].items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"started in 2; start it once, .* --jobs"):
        evaluate("quickstart", f"synthetic={root}", runs=tmp_path)
    with pytest.raises(ConfigError, match="svm is fitted at once, and not in 2 processes"):
        save_model("egemaps-svm", f"synthetic={root}", tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("world", "message", "kind"),
    [
        ("2", "[pair.cc:534] Connection closed by peer [127.0.0.1]:80", StorageError),
        ("2", "mat1 and mat2 shapes cannot be multiplied", RuntimeError),
        ("1", "Connection closed by peer", RuntimeError),
    ],
)
def test_other_errors_stay_what_they_are(
    monkeypatch: pytest.MonkeyPatch, world: str, message: str, kind: type[Exception]
) -> None:
    for name, value in {**torchrun(2)[0], "WORLD_SIZE": world}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(kind) as caught, handle_lost_processes():
        raise RuntimeError(message)
    assert type(caught.value) is kind
    assert message in str(caught.value)
