"""Decoding of uploads in separate processes, killed at a time limit and restarted when dead."""

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
"""Seconds that a process may take to start on a busy machine."""


class DecoderProcess:
    """A decoding process; only one thread may use it at a time."""

    def __init__(self, rate: int, config: ServiceConfig, on_death: Callable[[], None]) -> None:
        """Start the process.

        Args:
            rate: sampling rate of the samples in Hz.
            config: limits.
            on_death: called for each process that died or was killed while it decoded.
        """
        self.config, self.on_death = config, on_death
        limits = config.max_seconds, config.decode_megabytes, config.decode_seconds
        module = [sys.executable, "-P", "-m", decoder_process.__name__]
        self._command = [*module, *map(str, (rate, *limits))]
        self._process, self._started = self._spawn(), False

    @property
    def pid(self) -> int:
        """Process id; a restart changes it."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Return whether the process runs."""
        return self._process.poll() is None

    def decode(self, body: bytes) -> Samples:
        """Decode the bytes of an audio file to samples of shape (n,).

        Raises:
            Problem: they are not audio, exceed a limit, or the process cannot be started.
        """
        self._ensure_started()
        try:
            kind, content = self._exchange(body, self.config.decode_seconds)
        except (OSError, EOFError) as error:
            self.on_death()
            self._restart()
            raise self._failure_problem(isinstance(error, TimeoutError)) from None
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
        """Start the process again if it has died, and wait until it is ready."""
        if not self.is_alive():  # the system may have killed it while it was idle
            self._restart()
        if self._started:
            return
        try:
            self._exchange(None, START_TIMEOUT)
        except (OSError, EOFError):
            self._restart()
            reason = "no decoding process could be started; try again later"
            raise Problem(503, reason, Retry_After="5") from None
        self._started = True

    def _restart(self) -> None:
        self.close()
        self._process, self._started = self._spawn(), False

    def _spawn(self) -> subprocess.Popen[bytes]:
        # Messages of decoders may quote a client's file, and do not belong in the log. The process
        # group keeps Ctrl-C from the process, since the service finishes the accepted requests.
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    def _exchange(self, body: bytes | None, seconds: float) -> tuple[bytes, bytes]:
        """Send an upload, if one is given, and return the kind and content of the reply.

        Raises:
            TimeoutError: there was no reply in so many seconds, and the process was killed.
            OSError or EOFError: the process has died.
        """
        process, timed_out = self._process, threading.Event()
        assert process.stdin is not None
        assert process.stdout is not None

        def kill() -> None:
            timed_out.set()
            process.kill()

        timer = threading.Timer(seconds, kill)
        timer.start()
        try:
            if body is not None:
                decoder_process.send_message(process.stdin, decoder_process.UPLOAD, body)
            return decoder_process.receive_message(process.stdout)
        except (OSError, EOFError):
            if timed_out.is_set():
                raise TimeoutError from None
            raise
        finally:
            timer.cancel()

    def _parse_reply(self, kind: bytes, content: bytes) -> Samples:
        if kind == decoder_process.SAMPLES:
            return np.frombuffer(content, np.float32).copy()  # torch needs writable memory
        if kind == decoder_process.UNREADABLE:
            raise Problem(422, content.decode())
        if kind == decoder_process.TOO_LONG:
            raise Problem(
                413,
                f"the upload is longer than the limit of {self.config.max_seconds:g} s. "
                "Send it in parts.",
            )
        raise Problem(
            413,
            f"decoding the upload takes more than the limit of {self.config.decode_megabytes} MB "
            "of memory; send it in parts, or at a lower sampling rate",
        )

    def _failure_problem(self, timed_out: bool) -> Problem:
        if timed_out:
            return Problem(
                422,
                "decoding the upload takes longer than the limit of "
                f"{self.config.decode_seconds:g} s; convert it to WAV or FLAC, or send it in parts",
            )
        return Problem(
            422, "the upload made the decoder fail; check it, or convert it to WAV or FLAC"
        )


class DecoderPool:
    """Several decoding processes, and a queue of uploads for them."""

    def __init__(self, rate: int, config: ServiceConfig, on_death: Callable[[], None]) -> None:
        """Start the processes; the arguments are those of ``DecoderProcess``."""
        self.processes = [DecoderProcess(rate, config, on_death) for _ in range(config.decoders)]
        self._idle: SimpleQueue[DecoderProcess] = SimpleQueue()
        for decoder in self.processes:
            self._idle.put(decoder)
        self._threads = ThreadPoolExecutor(len(self.processes), "decode")

    def submit(self, body: bytes) -> Future[Samples]:
        """Queue an upload; it is dropped if its future is cancelled before its turn."""
        return self._threads.submit(self._decode, body)

    def close(self) -> None:
        """Decode the queued uploads, then end the processes."""
        self._threads.shutdown()
        for decoder in self.processes:
            decoder.close()

    def _decode(self, body: bytes) -> Samples:
        decoder = self._idle.get()
        try:
            return decoder.decode(body)
        finally:
            self._idle.put(decoder)
