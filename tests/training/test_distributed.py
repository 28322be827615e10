"""Distributed training: the same steps as in one process, and the loss of a process."""

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
from builders.training import largest_difference
from distributed_training import train

from serein import bundle
from serein.errors import ConfigError, StorageError
from serein.evaluation.evaluate import evaluate
from serein.evaluation.train import train as save_model
from serein.training.checkpoint import load_checkpoint
from serein.training.distributed import handle_lost_processes
from serein.utils import distributed

SCRIPT = Path(__file__).parent.parent / "distributed_training.py"
ELASTIC = {"TORCHELASTIC_RUN_ID": "a", "MASTER_ADDR": "127.0.0.1"}
SLURM = {
    "SLURM_JOB_ID": "17",
    "SLURM_JOB_NAME": "serein",
    "SLURM_NNODES": "1",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "127.0.0.1",
}


def find_free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def torchrun(world: int) -> list[dict[str, str]]:
    """Return the environment of each process that torchrun starts."""
    common = {**ELASTIC, "MASTER_PORT": find_free_port(), "WORLD_SIZE": f"{world}"}
    common["LOCAL_WORLD_SIZE"] = f"{world}"
    return [{**common, "RANK": f"{rank}", "LOCAL_RANK": f"{rank}"} for rank in range(world)]


def srun(world: int) -> list[dict[str, str]]:
    """Return the environment of each process that srun starts."""
    names = ("SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS_PER_NODE")
    common = {**SLURM, "MASTER_PORT": find_free_port(), **dict.fromkeys(names, f"{world}")}
    own = ("SLURM_PROCID", "SLURM_LOCALID")
    return [{**common, **dict.fromkeys(own, f"{rank}")} for rank in range(world)]


def start(environments: list[dict[str, str]], *words: str | Path) -> list[subprocess.Popen[str]]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    command = [sys.executable, *map(str, words)]
    return [
        subprocess.Popen(
            command, env={**inherited, **environment}, stderr=subprocess.PIPE, text=True
        )
        for environment in environments
    ]


def wait(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    try:
        complaints = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(one.returncode, text) for one, text in zip(processes, complaints, strict=True)]


def read_outcome(folder: Path, rank: int) -> dict[str, Any]:
    return torch.load(folder / f"rank{rank}.pt", weights_only=True)


@pytest.mark.parametrize(
    "environments", [torchrun(2), srun(2), torchrun(3)], ids=["two", "srun", "three"]
)
def test_several_processes_train_as_one_does(
    tmp_path: Path, environments: list[dict[str, str]]
) -> None:
    (tmp_path / "one").mkdir()
    torch.set_num_threads(1)
    system, run = train(tmp_path / "one")
    for status, complaint in wait(start(environments, SCRIPT, tmp_path)):
        assert status == 0, complaint
    wanted = system.state_dict()
    first, *others = (read_outcome(tmp_path, rank) for rank in range(len(environments)))
    assert largest_difference(wanted, first["weights"]) < 1e-6
    assert first["losses"] == pytest.approx([epoch.loss for epoch in run.epochs], abs=1e-6)
    assert (first["epochs"], [other["epochs"] for other in others]) == (
        [1, 2, 3],
        [[]] * len(others),
    )
    for other in others:
        assert largest_difference(first["weights"], other["weights"]) == 0
        assert (other["losses"], other["scores"]) == (first["losses"], first["scores"])
    assert [file.name for file in tmp_path.glob("state*")] == ["state.pt"]
    assert len(load_checkpoint(tmp_path / "state.pt")[0].epochs) == 3


def test_a_lost_process_ends_the_others_and_the_training_resumes(tmp_path: Path) -> None:
    done = wait(start(torchrun(2), SCRIPT, tmp_path, "killed"))
    (status, complaint), (killed, _) = done
    assert (status, killed) == (1, -signal.SIGKILL)
    last = complaint.strip().splitlines()[-1]
    assert "process 0 of 2 of this training lost another one" in last
    assert "same command" in last
    run, states = load_checkpoint(tmp_path / "state.pt")
    assert (len(run.epochs), states["position"]["batches"]) == (1, 2)
    (tmp_path / "calm").mkdir()
    for folder in (tmp_path, tmp_path / "calm"):
        for status, complaint in wait(start(torchrun(2), SCRIPT, folder)):
            assert status == 0, complaint
    one, calm = read_outcome(tmp_path, 0), read_outcome(tmp_path / "calm", 0)
    assert largest_difference(one["weights"], calm["weights"]) == 0
    assert one["losses"] == calm["losses"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_torchrun_trains_the_model_that_one_process_trains(root: Path, tmp_path: Path) -> None:
    settings = [*SIZES, "model.dropout=0", "training.batch=5", "training.bucket=2"]
    words = ["-m", "serein", "train", "li2019", "--corpus", f"synthetic={root}"]
    words += [word for setting in settings for word in ("--set", setting)]
    several = [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        f"--master-port={find_free_port()}",
    ]
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
    ("environment", "expected"),
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
def test_world_size_and_rank_come_from_the_launcher(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: tuple[int, int, int]
) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (
        distributed.get_world_size(),
        distributed.get_rank(),
        distributed.get_local_world_size(),
    ) == expected


def test_commands_that_need_one_process_refuse_several(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in torchrun(2)[0].items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"started in 2; start it once, .* --jobs"):
        evaluate("quickstart", f"synthetic={root}", runs=tmp_path)
    with pytest.raises(ConfigError, match="svm is fitted in one process, and 2 were started"):
        save_model("egemaps-svm", f"synthetic={root}", tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("world", "message", "kind"),
    [
        ("2", "[pair.cc:534] Connection closed by peer [127.0.0.1]:80", StorageError),
        ("2", "mat1 and mat2 shapes cannot be multiplied", RuntimeError),
        ("1", "Connection closed by peer", RuntimeError),
    ],
)
def test_only_lost_processes_become_storage_errors(
    monkeypatch: pytest.MonkeyPatch, world: str, message: str, kind: type[Exception]
) -> None:
    for name, value in {**torchrun(2)[0], "WORLD_SIZE": world}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(kind) as caught, handle_lost_processes():
        raise RuntimeError(message)
    assert type(caught.value) is kind
    assert message in str(caught.value)
