"""Worker processes that decode uploads: killed when they take too long, started anew when dead."""

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue

import numpy as np

from serein.audio import Samples
from serein.service import decoder_process
from serein.service.config import ServiceConfig
from serein.service.schemas import Problem

START_TIMEOUT = 120.0
"""Seconds that a worker may take to start, on a machine that has other things to do."""


class DecoderProcess:
    """One worker process; used by one thread at a time."""

    def __init__(self, rate: int, config: ServiceConfig, on_death: Callable[[], None]) -> None:
        """Start the process.

        Args:
            rate: wanted sampling rate in Hz.
            config: its limits.
            on_death: is told of each process that did not live through an upload.
        """
        self.config, self.on_death = config, on_death
        limits = config.max_seconds, config.decode_megabytes, config.decode_seconds
        module = [sys.executable, "-P", "-m", decoder_process.__name__]
        self._command = [*module, *map(str, (rate, *limits))]
        self._process, self._started = self._spawn(), False

    @property
    def pid(self) -> int:
        """Of the process that is there now."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def decode(self, body: bytes) -> Samples:
        """Bytes of a file to samples of shape (n,).

        Raises:
            Problem: they are not audio, decoding them goes beyond a limit, or there is no process.
        """
        self._ensure_started()
        try:
            kind, content = self._exchange(body, self.config.decode_seconds)
        except (OSError, EOFError) as error:
            late = isinstance(error, TimeoutError)
            self.on_death()
            self._restart()
            raise self._failure_problem(late) from None
        return self._parse_reply(kind, content)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                assert pipe is not None
                pipe.close()

    def _ensure_started(self) -> None:
        """See to it that the process is there and waits for an upload."""
        if not self.is_alive():  # the system may have ended it while it was idle
            self._restart()
        if self._started:
            return
        try:
            self._exchange(None, START_TIMEOUT)
        except (OSError, EOFError):
            self._restart()
            words = "no process that decodes could be started; ask again later"
            raise Problem(503, words, Retry_After="5") from None
        self._started = True

    def _restart(self) -> None:
        self.close()
        self._process, self._started = self._spawn(), False

    def _spawn(self) -> subprocess.Popen[bytes]:
        # Nothing that a decoder writes about somebody's file belongs into our log.
        # Ctrl-C is for the service, which finishes what it accepted.
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    def _exchange(self, body: bytes | None, seconds: float) -> tuple[bytes, bytes]:
        """Hand over an upload, if there is one, and wait for the answer so long."""
        process, late = self._process, threading.Event()
        assert process.stdin is not None
        assert process.stdout is not None

        def kill() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, kill)
        timer.start()
        try:
            if body is not None:
                decoder_process.send_message(process.stdin, decoder_process.UPLOAD, body)
            return decoder_process.receive_message(process.stdout)
        except (OSError, EOFError):
            if late.is_set():
                raise TimeoutError from None
            raise
        finally:
            timer.cancel()

    def _parse_reply(self, kind: bytes, content: bytes) -> Samples:
        if kind == decoder_process.SAMPLES:
            return np.frombuffer(content, np.float32).copy()  # torch wants to own what it reads
        if kind == decoder_process.UNREADABLE:
            raise Problem(422, content.decode())
        if kind == decoder_process.TOO_LONG:
            raise Problem(
                413,
                f"the upload lasts longer than {self.config.max_seconds:g} s, the most that is "
                "taken at once. Send it in parts.",
            )
        raise Problem(
            413,
            f"decoding the upload takes more than {self.config.decode_megabytes} MB of memory; "
            "send it in parts, or at a lower sampling rate",
        )

    def _failure_problem(self, timed_out: bool) -> Problem:
        if timed_out:
            return Problem(
                422,
                f"decoding the upload takes longer than {self.config.decode_seconds:g} s; "
                "convert it to WAV or FLAC, or send it in parts",
            )
        return Problem(
            422, "the upload made the decoder fail; check it, or convert it to WAV or FLAC"
        )


class DecoderPool:
    """Several of them, and the uploads that wait for one."""

    def __init__(self, rate: int, config: ServiceConfig, on_death: Callable[[], None]) -> None:
        """Start the processes; arguments as ``Decoder``."""
        self.processes = [DecoderProcess(rate, config, on_death) for _ in range(config.decoders)]
        self._idle: SimpleQueue[DecoderProcess] = SimpleQueue()
        for decoder in self.processes:
            self._idle.put(decoder)
        self._threads = ThreadPoolExecutor(len(self.processes), "decode")

    def submit(self, body: bytes) -> Future[Samples]:
        """Have an upload decoded; one that is cancelled while it waits is dropped."""
        return self._threads.submit(self._decode, body)

    def close(self) -> None:
        """Decode what waits, then end the processes."""
        self._threads.shutdown()
        for decoder in self.processes:
            decoder.close()

    def _decode(self, body: bytes) -> Samples:
        decoder = self._idle.get()
        try:
            return decoder.decode(body)
        finally:
            self._idle.put(decoder)
