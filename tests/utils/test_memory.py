"""Tuning of malloc and oneDNN: applied, and left alone if the user has set it."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from builders.training import train_small

from serein.inference.recognizer import Recognizer
from serein.training import loop
from serein.utils import device

PROGRAM = """
import resource
import sys
from serein.utils.device import keep_freed_memory

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
    for name in device.MALLOC_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    kept = device.keep_freed_memory
    kept.cache_clear()
    yield
    kept.cache_clear()


def count_page_faults(mode: str) -> int:
    command = [sys.executable, "-c", PROGRAM, mode]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not device._is_glibc(), reason="libc is not glibc")
def test_kept_memory_causes_fewer_page_faults() -> None:
    assert count_page_faults("kept") < count_page_faults("returned") / 4


@pytest.mark.parametrize("name", device.MALLOC_VARIABLES)
def test_settings_of_the_user_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "131072")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("libc was called"))
    assert not device.keep_freed_memory()


@pytest.mark.parametrize("error", [AttributeError, OSError, ValueError])
def test_without_glibc_nothing_is_set(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def unknown(name: str) -> str:
        raise error(name)

    monkeypatch.setattr(os, "confstr", unknown)
    assert not device.keep_freed_memory()
    monkeypatch.setattr(os, "confstr", lambda name: None)
    device.keep_freed_memory.cache_clear()
    assert not device.keep_freed_memory()


def test_fit_keeps_freed_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(loop, "keep_freed_memory", lambda: calls.append(True))
    train_small()
    assert calls == [True]


def test_recognizer_limits_the_onednn_cache_unless_the_user_sets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(device.ONEDNN_CACHE_VARIABLE, raising=False)
    Recognizer(backend="torch")
    assert os.environ[device.ONEDNN_CACHE_VARIABLE] == device.ONEDNN_CACHE_CAPACITY
    monkeypatch.setenv(device.ONEDNN_CACHE_VARIABLE, "700")
    Recognizer()
    assert os.environ[device.ONEDNN_CACHE_VARIABLE] == "700"
