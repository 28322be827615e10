"""Decoding of uploads in separate processes, killed at a time limit and restarted when dead."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from serein.audio import Samples
from serein.service import decoder_process
from serein.service.config import ServiceConfig
from serein.service.fair_queue import FairQueue
from serein.service.schemas import Problem

CRASH_SIGNALS = {
    -number
    for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
}
"""Exit statuses for which the file is to blame; the system ends a process with others."""
START_TIMEOUT = 120.0
"""Seconds that a process may take to start on a busy machine."""


class DecoderProcess:
    """A decoding process; only one thread may use it at a time.

    Attributes:
        is_broken: whether it could not be started the last time.
    """

    def __init__(self, rate: int, config: ServiceConfig, on_death: Callable[[], None]) -> None:
        """Start the process.

        Args:
            rate: sampling rate of the samples in Hz.
            config: limits.
            on_death: called for each process that died or was killed while it decoded.
        """
        self.config, self.on_death = config, on_death
        limits = [config.max_seconds, config.decode_megabytes, config.decode_seconds]
        limits += [config.decode_megasamples]
        module = [sys.executable, "-P", "-m", decoder_process.__name__]
        self._command = [*module, *map(str, (rate, *limits))]
        self._process, self._started = self._spawn(), False
        self.is_broken = False

    @property
    def pid(self) -> int:
        """Process id; a restart changes it."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Return whether the process runs."""
        return self._process.poll() is None

    def decode(self, body: bytes) -> Samples:
        """Decode the bytes of an audio file to samples of shape (n,).

        A process that the system has ended is started again, and decodes the file again.

        Raises:
            Problem: they are not audio, exceed a limit, or the process cannot be started.
        """
        try:
            return self._decode_once(body)
        except EndedBySystem:
            pass
        try:
            return self._decode_once(body)
        except EndedBySystem:
            detail = "the system has ended the decoding process twice; try again later"
            raise Problem(503, detail, Retry_After="5") from None

    def ensure_started(self) -> None:
        """Start the process again if it has died, and wait until it is ready.

        Raises:
            Problem: it cannot be started.
        """
        if not self.is_alive():  # the system may have killed it while it was idle
            self._restart()
        if self._started:
            return
        try:
            self._exchange(None, START_TIMEOUT)
        except (OSError, EOFError):
            self.is_broken = True
            self._restart()
            reason = "no decoding process could be started; try again later"
            raise Problem(503, reason, Retry_After="5") from None
        self._started, self.is_broken = True, False

    def _decode_once(self, body: bytes) -> Samples:
        """Decode as ``decode`` does.

        Raises:
            EndedBySystem: something else than this file or this service has ended the process.
        """
        self.ensure_started()
        used = self._processor_seconds()
        try:
            kind, content = self._exchange(body, self.config.decode_seconds)
        except TimeoutError as error:
            used = float(error.args[0]) - used
            self.on_death()
            self._restart()
            raise self._timeout_problem(used) from None
        except (OSError, EOFError):
            self._process.wait()
            status = self._process.returncode
            self.on_death()
            self._restart()
            if status == -signal.SIGXCPU:
                raise self._timeout_problem(self.config.decode_seconds) from None
            if status < 0 and status not in CRASH_SIGNALS:
                raise EndedBySystem from None
            raise Problem(
                422, "the upload made the decoder fail; check it, or convert it to WAV or FLAC"
            ) from None
        return self._parse_reply(kind, content)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                assert pipe is not None
                pipe.close()

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
            TimeoutError: there was no reply in so many seconds, and the process was killed; the
                argument is the processor time that it had used, in seconds.
            OSError or EOFError: the process has died.
        """
        process, used_at_timeout = self._process, list[float]()
        assert process.stdin is not None
        assert process.stdout is not None

        def kill() -> None:
            used_at_timeout.append(self._processor_seconds())
            process.kill()

        timer = threading.Timer(seconds, kill)
        timer.start()
        try:
            if body is not None:
                decoder_process.send_message(process.stdin, decoder_process.UPLOAD, body)
            return decoder_process.receive_message(process.stdout)
        except (OSError, EOFError):
            if used_at_timeout:
                raise TimeoutError(used_at_timeout[0]) from None
            raise
        finally:
            timer.cancel()

    def _processor_seconds(self) -> float:
        """Return the processor time of the process; infinity where the system does not say."""
        try:
            text = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8", errors="replace")
            user, system = text.rpartition(")")[2].split()[11:13]
            return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError):
            return float("inf")

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
        if kind == decoder_process.TOO_MANY_SAMPLES:
            raise Problem(
                413,
                f"the upload has {content.decode()}, and more samples than the limit of "
                f"{self.config.decode_megasamples:g} million; send it in parts, with fewer "
                "channels, or at a lower sampling rate",
            )
        raise Problem(
            413,
            f"decoding the upload takes more than the limit of {self.config.decode_megabytes} MB "
            "of memory; send it in parts, or at a lower sampling rate",
        )

    def _timeout_problem(self, used_seconds: float) -> Problem:
        limit = self.config.decode_seconds
        if used_seconds < limit / 2:  # nan, where the system does not say, is the file's fault
            detail = f"the decoder had too little processor time in {limit:g} s; try again later"
            return Problem(503, detail, Retry_After="5")
        return Problem(
            422,
            f"decoding the upload takes longer than the limit of {limit:g} s; convert it to WAV or "
            "FLAC, or send it in parts",
        )


class EndedBySystem(Exception):
    """A decoding process was ended by something else than its file, such as lack of memory."""


class DecodeJob(NamedTuple):
    """An upload to decode; without one, the process is only started."""

    body: bytes | None
    future: Future[Samples | None]


class DecoderPool:
    """Several decoding processes, and a queue of uploads in which owners take turns."""

    def __init__(self, rate: int, config: ServiceConfig, on_death: Callable[[], None]) -> None:
        """Start the processes; the arguments are those of ``DecoderProcess``."""
        self.processes = [DecoderProcess(rate, config, on_death) for _ in range(config.decoders)]
        self._queue: FairQueue[DecodeJob] = FairQueue()
        self._start: Future[Samples | None] | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(decoder,), name="decode", daemon=True)
            for decoder in self.processes
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, body: bytes, owner: str = "") -> "Future[Samples]":
        """Queue an upload; it is dropped if its future is cancelled before its turn.

        Args:
            body: bytes of an audio file.
            owner: whose upload it is; owners take turns, and small uploads are first.
        """
        future: Future[Any] = Future()
        self._queue.put(DecodeJob(body, future), owner, len(body))
        return future

    def is_ready(self) -> bool:
        """Return whether a process can decode; if none could be started, try again."""
        if not all(decoder.is_broken for decoder in self.processes):
            return True
        if self._start is None or self._start.done():
            self._start = Future()
            self._queue.put(DecodeJob(None, self._start), "", 0)
        return False

    def close(self) -> None:
        """Decode the queued uploads, then end the processes."""
        self._queue.put(None)
        for thread in self._threads:
            thread.join()
        for decoder in self.processes:
            decoder.close()

    def _run(self, decoder: DecoderProcess) -> None:
        while (job := self._queue.get()) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            try:
                if job.body is None:
                    decoder.ensure_started()
                    job.future.set_result(None)
                else:
                    job.future.set_result(decoder.decode(job.body))
            except Exception as error:
                job.future.set_exception(error)
