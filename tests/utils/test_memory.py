import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from training.test_loop import trained

from serein.inference.recognizer import Recognizer
from serein.utils import device

FREED = """
import resource
import sys
from serein import memory

if sys.argv[1] == "kept":
    assert memory.kept()
bytearray(2**25)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    bytearray(b"a") * 2**25
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Page faults of writing 32 MiB ten times."""


@pytest.fixture(autouse=True)
def unchosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing was chosen before, here and in what follows."""
    for name in device.MALLOC_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    kept = device.keep_freed_memory
    kept.cache_clear()
    yield
    kept.cache_clear()


def faults(how: str) -> int:
    command = [sys.executable, "-c", FREED, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not device._is_glibc(), reason="libc is not glibc")
def test_what_is_freed_is_kept_and_not_faulted_in_again() -> None:
    assert faults("kept") < faults("given back") / 4


@pytest.mark.parametrize("name", device.MALLOC_VARIABLES)
def test_who_has_chosen_keeps_the_choice(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "131072")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("libc was asked"))
    assert not device.keep_freed_memory()


@pytest.mark.parametrize("error", [AttributeError, OSError, ValueError])
def test_where_libc_is_another_nothing_is_done(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def unknown(name: str) -> str:
        raise error(name)

    monkeypatch.setattr(os, "confstr", unknown)
    assert not device.keep_freed_memory()
    monkeypatch.setattr(os, "confstr", lambda name: None)
    device.keep_freed_memory.cache_clear()
    assert not device.keep_freed_memory()


def test_a_training_keeps_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(device, "keep_freed_memory", lambda: asked.append(True))
    trained()
    assert asked == [True]


def test_a_recogniser_keeps_few_kernels_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(device.ONEDNN_CACHE_VARIABLE, raising=False)
    Recognizer()
    assert os.environ[device.ONEDNN_CACHE_VARIABLE] == device.ONEDNN_CACHE_CAPACITY
    monkeypatch.setenv(device.ONEDNN_CACHE_VARIABLE, "700")
    Recognizer()
    assert os.environ[device.ONEDNN_CACHE_VARIABLE] == "700"
