"""Parts of the service: keys, decoders, the request batcher, and `serein serve`."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from builders.encoded_audio import encode, make_sweep
from builders.service_client import SPEECH, open_engine, small_recognizer

from serein import service
from serein.errors import ConfigError, StorageError
from serein.inference.recognition import Recognition
from serein.service import auth, decoder_process
from serein.service.batching import RequestBatcher
from serein.service.config import ServiceConfig
from serein.service.schemas import Problem
from serein.service.uploads import MIN_BYTES_PER_SECOND, read_upload

Run = Callable[..., tuple[int, str, str]]
RATE = 16_000


def test_keys_are_stored_as_hashes(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    made = {name: auth.add_key(path, name) for name in ("ann", "bob@site")}
    text = path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    path.write_text(f"# who may call\n\n{text}")
    known = auth.read_keys(path)
    assert known.names == ["ann", "bob@site"]
    for name, key in made.items():
        assert len(key) >= 43
        assert key not in text
        assert known.find_holder(key) == name
    for wrong in (
        "",
        "x",
        made["ann"][:-1],
        made["ann"] + "x",
        "\udcff",
        auth.hash_key(made["ann"]),
    ):
        assert known.find_holder(wrong) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no key"),
        ("# nobody\n", "holds no key"),
        ("ann secret\n", "line 1: no name and SHA-256"),
        (f"ann {'0' * 64}\nann {'1' * 64}\n", "line 2: the name of an earlier line"),
        (f"ann {'0' * 63}g\n", "line 1"),
    ],
)
def test_invalid_key_files(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(ConfigError, match=words):
        auth.read_keys(tmp_path / "keys")
    with pytest.raises(ConfigError, match="cannot be read"):
        auth.read_keys(tmp_path / "nothing")


def test_keys_that_cannot_be_added(tmp_path: Path) -> None:
    auth.add_key(tmp_path / "keys", "ann")
    for name, words in (("ann", "is already in use"), ("a b", "not allowed"), ("", "not allowed")):
        with pytest.raises(ConfigError, match=words):
            auth.add_key(tmp_path / "keys", name)
    with pytest.raises(StorageError, match="cannot be written"):
        auth.add_key(tmp_path / "no" / "keys", "ann")


def test_decode_upload_kinds_of_replies() -> None:
    kind, content = decoder_process.decode_upload(SPEECH, RATE, 5.0)
    assert kind == decoder_process.SAMPLES
    assert np.frombuffer(content, np.float32) == pytest.approx(make_sweep(1.0), abs=1e-3)
    assert decoder_process.decode_upload(SPEECH, RATE, 0.5) == (decoder_process.TOO_LONG, b"")
    assert decoder_process.decode_upload(SPEECH, RATE, 1.0)[0] == decoder_process.SAMPLES
    kind, reason = decoder_process.decode_upload(encode("wav", make_sweep(0.01)), RATE, 5.0)
    assert kind == decoder_process.UNREADABLE
    assert reason.startswith(b"the upload has 10 ms of audio")


def test_decode_upload_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("serein.audio.decoding.SndfileReader.read_blocks", full)
    assert decoder_process.decode_upload(SPEECH, RATE, 5.0) == (decoder_process.OUT_OF_MEMORY, b"")


def test_decoder_process_has_limits_and_light_imports() -> None:
    code = (
        "import sys, resource as r\n"
        "from serein.service.decoder_process import _limit_resources\n"
        "_limit_resources(100)\n"
        "print([n for n in ('torch', 'fastapi', 'pydantic') if n in sys.modules])\n"
        "print(r.getrlimit(r.RLIMIT_FSIZE), r.getrlimit(r.RLIMIT_CORE))\n"
        "try: bytearray(200 * 2**20)\nexcept MemoryError: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "(0, 0) (0, 0)", "refused"]


def test_decoder_process_has_a_cpu_limit() -> None:
    code = "import resource as r; r.setrlimit(r.RLIMIT_CPU, (1, 9))\nwhile True: pass"
    assert subprocess.run([sys.executable, "-c", code]).returncode < 0
    with open_engine(decode_seconds=1000.0) as made:
        (decoder,) = made.decoders.processes
        decoder.decode(SPEECH)
        limits = Path(f"/proc/{decoder.pid}/limits").read_text()
        line = next(one for one in limits.splitlines() if "cpu time" in one)
        assert 1000 < int(line.split()[3]) < 1100


def test_decoder_that_cannot_start_is_a_503() -> None:
    with open_engine() as made:
        (decoder,) = made.decoders.processes
        command, decoder._command = decoder._command, [sys.executable, "-c", "pass"]
        decoder.close()
        for _ in range(2):
            with pytest.raises(Problem, match="could be started") as caught:
                decoder.decode(SPEECH)
            assert caught.value.status == 503
        decoder._command = command
        decoder.close()
        assert len(decoder.decode(SPEECH)) == RATE


def test_close_ends_the_decoders() -> None:
    with open_engine(decoders=2) as made:
        pids = [decoder.pid for decoder in made.decoders.processes]
        assert made.is_ready()
    assert not made.is_ready()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def open_batcher(
    took: Callable[[int], None], *, most: int = 4, wait: float = 5.0, coming: int = 99
) -> RequestBatcher:
    return RequestBatcher(small_recognizer(), most, wait, lambda: coming, took)


def test_batch_is_limited_by_windows() -> None:
    took: list[int] = []
    made = open_batcher(took.append)
    futures = [made.submit(str(n), make_sweep(1.0)) for n in range(4)]
    assert [future.result(60).source for future in futures] == ["0", "1", "2", "3"]
    long = made.submit("long", make_sweep(29.0))  # has four windows
    assert len(long.result(60).windows) == 4
    made.close()
    assert took == [4, 1]
    assert not made.is_alive()


def test_close_answers_queued_recordings_at_once() -> None:
    took: list[int] = []
    made = open_batcher(took.append, wait=1000.0)
    futures = [made.submit(str(n), make_sweep(0.5)) for n in range(3)]
    made.close()
    assert all(isinstance(future.result(0), Recognition) for future in futures)
    assert sum(took) == 3


def test_cancelled_recordings_are_dropped() -> None:
    took: list[int] = []
    made = open_batcher(took.append, wait=0.5)
    kept, dropped = made.submit("kept", make_sweep(0.5)), made.submit("dropped", make_sweep(0.5))
    assert dropped.cancel()
    assert kept.result(60).source == "kept"
    made.close()
    assert took == [1]


@pytest.mark.parametrize("limit", [{"most": 1}, {"coming": 1}])
def test_batch_does_not_wait_if_no_more_are_expected(limit: dict[str, int]) -> None:
    took: list[int] = []
    made = open_batcher(took.append, wait=1000.0, **limit)
    for name in ("one", "two"):
        assert made.submit(name, make_sweep(0.5)).result(60).source == name
    made.close()
    assert took == [1, 1]


def test_serve_names_a_missing_package(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "serein.service.app", raising=False)
    monkeypatch.delattr(service, "app", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    status, _, err = run("serve")
    assert status == 2
    assert "serein serve needs uvicorn" in err
    assert "pip install 'serein[serve]'" in err


def test_serve_usage_errors(run: Run, tmp_path: Path) -> None:
    for words, said in (
        (("--new-key", "ann"), "--new-key needs --key-file"),
        (("--key-file", tmp_path / "none"), "cannot be read"),
        (("--model", "nothing"), "unknown model"),
        (("--confidence", "high"), "expected 0 to 1"),
        (
            ("--max-requests", "0"),
            "serve.max_requests = 0: Input should be greater than or equal to 1",
        ),
        (("--max-seconds", "-1"), "serve.max_seconds = -1.0"),
        (("--max-megabytes", "inf"), "serve.max_megabytes = inf"),
        (("--stream-idle", "nan"), "serve.stream_idle = nan"),
    ):
        status, _, err = run("serve", *words)
        assert status == 2
        assert said in err


def test_serve_warns_about_access_without_keys(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        "serein.service.app.serve",
        lambda recognizer, *rest, **where: called.append((*rest, where)),
    )
    options = ("--wait", "0.007", "--origin", "https://a.example")
    status, _, err = run("serve", "--host", "0.0.0.0", *options)
    assert status == 0
    assert "everyone who can reach 0.0.0.0" in err
    made = ServiceConfig(wait=0.007, origins=("https://a.example",))
    where = {"others": [], "host": "0.0.0.0", "port": 8000, "root_path": ""}
    assert called == [(made, None, where)]


def test_serve_answers_among_some_classes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Any] = []
    monkeypatch.setattr("serein.service.app.serve", lambda one, *rest, **where: served.append(one))
    status, _, _ = run("serve", "--model", "li2019-emodb", "--classes", "anger,sadness")
    assert status == 0
    assert served[0].classes["emotion"] == ("anger", "sadness")
    status, _, err = run("serve", "--model", "li2019-emodb", "--classes", "anger,glee")
    assert status != 0
    assert "glee" in err


class SlowRequest:
    """A request whose body arrives in chunks with pauses."""

    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, chunks: list[bytes], pause: float) -> None:
        self.chunks, self.pause = chunks, pause

    async def stream(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            await asyncio.sleep(self.pause)
            yield chunk


def test_slow_uploads_are_read_and_stalled_ones_are_not() -> None:
    config = ServiceConfig(body_seconds=0.5)
    slow: Any = SlowRequest([b"x" * MIN_BYTES_PER_SECOND] * 10, 0.1)  # 1 s in all
    assert len(asyncio.run(read_upload(slow, config)).body) == 10 * MIN_BYTES_PER_SECOND
    stalled: Any = SlowRequest([b"x" * 10 * MIN_BYTES_PER_SECOND, b"x"], 60.0)
    drip: Any = SlowRequest([b"x"] * 1000, 0.01)  # no pause, but next to nothing
    for request in (stalled, drip):
        with pytest.raises(Problem, match="stalled") as caught:
            asyncio.run(read_upload(request, config))
        assert caught.value.status == 408
