"""Live streams through the WebSocket: `serein serve` on one core, its clients on the others.

Each client sends 16-bit PCM in blocks of 20 ms, as a microphone does; the streams start evenly
within a second. A block is due at the time of its last sample, even if it is sent late. The block
that completes a segment is known from the same stream without a socket.

    python -m benchmarks.live_streams PORT FILE STREAMS SECONDS    # the process of the clients
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import numpy.typing as npt
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedOK

from benchmarks.long_audio import BLOCK_SECONDS, RATE, write_hour
from benchmarks.service import run_service
from benchmarks.timing import MODEL, Row
from serein import audio
from serein.inference.recognizer import Recognizer

STREAMS = 50
SECONDS = float(os.environ.get("SEREIN_LIVE_SECONDS", "30"))
BLOCK_SIZE = round(BLOCK_SECONDS * RATE)
LEAD_SECONDS = 1.0
"""Time between the connection of the last client and the first block."""

Pcm = npt.NDArray[np.int16]
CompletingBlocks = dict[tuple[float, float], int]
"""The index of the block that completes each segment, by its start and end."""


def main() -> list[Row]:
    rows = []
    with TemporaryDirectory() as folder:
        for pauses in (True, False):
            file = write_hour(Path(folder), pauses)
            with pin_to_one_core() as other_cores, run_service(Path(folder)) as port:
                os.sched_setaffinity(0, other_cores)
                delays = _run_clients(port, file)
            p99 = float(np.quantile(delays, 0.99))
            kind = "with pauses" if pauses else "no pauses"
            what = (
                f"{STREAMS} live streams through the socket, one core, {kind}, 20 ms blocks: "
                f"p99 of {len(delays)} segments, delay after the sample that completes them"
            )
            rows.append(Row(what=what, ours=p99, unit="ms", target="at most 50"))
    return rows


@contextmanager
def pin_to_one_core() -> Iterator[set[int]]:
    """Pin processes started here to one core; yield the other cores, or all if there are none."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield before - {min(before)} or before
    finally:
        os.sched_setaffinity(0, before)


def _run_clients(port: int, file: Path) -> list[float]:
    """Return the delay of each segment in milliseconds, measured by a separate process."""
    words = [str(port), str(file), str(STREAMS), str(SECONDS)]
    command = [sys.executable, "-m", "benchmarks.live_streams", *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return list(json.loads(done.stdout))


async def run_load(port: int, waves: list[Pcm], completing: list[CompletingBlocks]) -> list[float]:
    """Run the clients, and return the delay of each segment in milliseconds."""
    url = f"ws://127.0.0.1:{port}/v1/stream"
    ready: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    remaining = count(len(waves) - 1, -1)

    async def client(number: int) -> list[float]:
        async with connect(url, compression=None, proxy=None, max_queue=None) as socket:
            await socket.send(json.dumps({"type": "start", "rate": RATE}))
            assert json.loads(await socket.recv())["type"] == "ready"
            if next(remaining) == 0:
                ready.set_result(perf_counter() + LEAD_SECONDS)
            start = await ready + number / len(waves)
            sender = asyncio.create_task(_send_blocks(socket, waves[number], start))
            delays = await _receive_segments(socket, completing[number], start)
            await sender
            return delays

    results = await asyncio.gather(*map(client, range(len(waves))))
    return [delay for delays in results for delay in delays]


async def _send_blocks(socket: ClientConnection, wave: Pcm, start: float) -> None:
    for block, first in enumerate(range(0, len(wave), BLOCK_SIZE)):
        await asyncio.sleep(start + (block + 1) * BLOCK_SECONDS - perf_counter())
        await socket.send(wave[first : first + BLOCK_SIZE].tobytes())
    await socket.send(json.dumps({"type": "end"}))


async def _receive_segments(
    socket: ClientConnection, completing: CompletingBlocks, start: float
) -> list[float]:
    """Return the delay of each segment after the first sample of the block that completes it."""
    delays = []
    try:
        while True:
            message = json.loads(await socket.recv())
            now = perf_counter()
            for item in message.get("items", []):
                block = completing.get((item["start"], item["end"]))
                if block is not None:  # else the end of the stream completes it
                    delays.append(1000 * (now - start - block * BLOCK_SECONDS))
    except ConnectionClosedOK:
        return delays


def _find_completing_blocks(recognizer: Recognizer, wave: Pcm) -> CompletingBlocks:
    stream = recognizer.stream(RATE)
    return {
        (segment.to_dict()["start"], segment.to_dict()["end"]): block
        for block, first in enumerate(range(0, len(wave), BLOCK_SIZE))
        for segment in stream.feed(wave[first : first + BLOCK_SIZE])
    }


def _load_wave(file: str, number: int, seconds: float) -> Pcm:
    wave = audio.load(file, RATE, start=7.3 * number, end=7.3 * number + seconds)
    return (np.clip(wave, -1, 1) * 32767).astype("<i2")


if __name__ == "__main__":
    waves = [
        _load_wave(sys.argv[2], number, float(sys.argv[4])) for number in range(int(sys.argv[3]))
    ]
    recognizer = Recognizer(MODEL)
    completing = [_find_completing_blocks(recognizer, wave) for wave in waves]
    print(json.dumps(asyncio.run(run_load(int(sys.argv[1]), waves, completing))))
