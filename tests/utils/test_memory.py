"""Settings of a whole process: made for commands and workers, and not by calls from Python."""

import ctypes
import gc
import logging
import os
import random
import resource
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.small_systems import QUICK
from builders.training import train_small

import serein
from serein import cli
from serein.records import Corpus
from serein.utils import distributed

Run = Callable[..., tuple[int, str, str]]
PROGRAM = """
import resource
import sys
from serein.utils.distributed import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
bytearray(2**25)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    bytearray(b"a") * 2**25
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Prints the page faults of writing 32 MiB ten times."""


@pytest.fixture(autouse=True)
def no_user_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove the user's settings and forget earlier calls."""
    for name in distributed.MALLOC_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    kept = distributed.keep_freed_memory
    kept.cache_clear()
    yield
    kept.cache_clear()


def count_page_faults(mode: str) -> int:
    command = [sys.executable, "-c", PROGRAM, mode]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not distributed._is_glibc(), reason="libc is not glibc")
def test_kept_memory_causes_fewer_page_faults() -> None:
    assert count_page_faults("kept") < count_page_faults("returned") / 4


@pytest.mark.parametrize("name", distributed.MALLOC_VARIABLES)
def test_settings_of_the_user_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "131072")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("libc was called"))
    assert not distributed.keep_freed_memory()


@pytest.mark.parametrize("error", [AttributeError, OSError, ValueError])
def test_without_glibc_nothing_is_set(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def unknown(name: str) -> str:
        raise error(name)

    monkeypatch.setattr(os, "confstr", unknown)
    assert not distributed.keep_freed_memory()
    monkeypatch.setattr(os, "confstr", lambda name: None)
    distributed.keep_freed_memory.cache_clear()
    assert not distributed.keep_freed_memory()


def test_only_commands_that_train_and_their_workers_keep_freed_memory(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(distributed, "keep_freed_memory", lambda: calls.append("kept"))
    train_small()
    run("recognize", "--help")
    assert calls == []
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(distributed, "_exit_with_parent", lambda: None)
    distributed.init_worker()
    assert calls == []
    distributed.init_worker(trains=True)
    assert calls == ["kept"]
    for command in cli.TRAINING_COMMANDS:
        assert run(command, "--help")[0] == 0
    assert len(calls) == 1 + len(cli.TRAINING_COMMANDS)


def test_commands_limit_the_onednn_cache_unless_the_user_sets_it(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setenv(distributed.ONEDNN_CACHE_VARIABLE, "700")
    run("recognize", "--help")
    assert os.environ[distributed.ONEDNN_CACHE_VARIABLE] == "700"
    monkeypatch.delenv(distributed.ONEDNN_CACHE_VARIABLE)
    run("recognize", "--help")
    assert os.environ[distributed.ONEDNN_CACHE_VARIABLE] == distributed.ONEDNN_CACHE_CAPACITY


def read_state() -> dict[str, Any]:
    """Return what holds for the whole process."""
    state = {
        "environment": dict(os.environ),
        "random numbers of NumPy": np.random.get_state()[1].tobytes(),  # type: ignore[index]
        "random numbers of Python": random.getstate(),
        "switch interval": sys.getswitchinterval(),
        "recursion limit": sys.getrecursionlimit(),
        "garbage collection": (gc.isenabled(), gc.get_threshold()),
        "limits": [resource.getrlimit(kind) for kind in range(10)],
        "errors of NumPy": np.geterr(),
        "signals": [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)],
        "folder": os.getcwd(),
        "output": (sys.stdout, sys.stderr, sys.excepthook, warnings.showwarning),
        "logging": (logging.root.level, list(logging.root.handlers)),
    }
    return state | {
        "threads": torch.get_num_threads(),
        "random numbers of torch": torch.get_rng_state().numpy().tobytes(),
        "denormal numbers": bool(torch.tensor(1e-39) * 1),
        "gradients": torch.is_grad_enabled(),
        "default type": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matrix products": torch.get_float32_matmul_precision(),
    }


def recognize(folder: Path, corpus: Corpus) -> None:
    wave = (0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32), 16_000)
    for backend in ("onnx", "torch"):
        recognizer = serein.Recognizer("li2019-emodb", backend=backend)
        recognizer(wave)
        recognizer.timeline(wave)


def train(folder: Path, corpus: Corpus) -> None:
    settings = [*QUICK, "training.flush_denormals=true"]
    serein.train("li2019", corpus, folder / "model.safetensors", settings=settings)


def evaluate(folder: Path, corpus: Corpus) -> None:
    serein.evaluate("li2019", corpus, settings=QUICK, runs=folder)


def check_a_model(folder: Path, corpus: Corpus) -> None:
    serein.testing.check_model("rnn", settings=["model.hidden=4"])


@pytest.mark.parametrize("call", [recognize, train, evaluate, check_a_model])
def test_calls_from_python_leave_the_process_as_it_was(
    call: Callable[[Path, Corpus], None],
    tmp_path: Path,
    corpus: Corpus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for package in ("lightning_fabric", "sklearn.ensemble"):  # which set variables when imported
        import_module(package)
    monkeypatch.delenv(distributed.ONEDNN_CACHE_VARIABLE, raising=False)
    monkeypatch.setattr(distributed, "keep_freed_memory", lambda: pytest.fail("malloc was changed"))
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        before = read_state()
        call(tmp_path, corpus)
        after = read_state()
    finally:
        torch.set_num_threads(threads)
    changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    assert list(changed) == [], changed


def test_the_import_leaves_the_process_as_it_was() -> None:
    code = (
        "import gc, os, resource, signal, sys, warnings\n"
        "read = lambda: (dict(os.environ), sys.getswitchinterval(), gc.isenabled(),\n"
        "    [resource.getrlimit(kind) for kind in range(10)], signal.getsignal(signal.SIGINT),\n"
        "    warnings.showwarning, sys.path[:], os.getcwd())\n"
        "before = read()\n"
        "import serein, serein.cli\n"
        "from serein import Recognizer\n"
        "assert read() == before\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
