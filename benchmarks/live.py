"""Live streams through the socket: `serein serve` on one core, its clients on the others.

Each client sends 16-bit PCM in blocks of 20 ms, as a microphone would; they begin within a second,
evenly. A block is due when its last sample is there, whenever the client gets to send it. Which
block makes a segment certain is known from the same stream fed without a socket.

`python -m benchmarks.live PORT FILE STREAMS SECONDS` is the process of the clients.
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

from benchmarks.apply import LIVE, RATE, written
from benchmarks.service import serving
from benchmarks.timing import Row
from serein import audio
from serein.inference.recognizer import Recognizer

STREAMS = 50
SECONDS = float(os.environ.get("SEREIN_LIVE_SECONDS", "30"))
SIZE = round(LIVE * RATE)
AHEAD = 1.0
"""Seconds between the last client's connection and the first block."""

Pcm = npt.NDArray[np.int16]
Ticks = dict[tuple[float, float], int]
"""Of each segment, by its start and end, the block that makes it certain."""


def main() -> list[Row]:
    rows = []
    with TemporaryDirectory() as folder:
        for pauses in (True, False):
            file = written(Path(folder), pauses)
            with one_core() as others, serving(Path(folder)) as port:
                os.sched_setaffinity(0, others)
                late = _clients(port, file)
            worst = float(np.quantile(late, 0.99))
            what = (
                f"{STREAMS} live streams through the socket, one core, {file.stem}, 20 ms blocks: "
                f"p99 of {len(late)} segments behind the sample that makes them certain"
            )
            rows.append(Row(what=what, ours=worst, unit="ms", asked="at most 50"))
    return rows


@contextmanager
def one_core() -> Iterator[set[int]]:
    """What is started now stays on one core; gives the others, or all if there are none."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield before - {min(before)} or before
    finally:
        os.sched_setaffinity(0, before)


def _clients(port: int, file: Path) -> list[float]:
    """Milliseconds of each segment, from a process of its own."""
    words = [str(port), str(file), str(STREAMS), str(SECONDS)]
    command = [sys.executable, "-m", "benchmarks.live", *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return list(json.loads(done.stdout))


async def load(port: int, waves: list[Pcm], certain: list[Ticks]) -> list[float]:
    """Be the clients -> milliseconds of each segment."""
    url = f"ws://127.0.0.1:{port}/v1/stream"
    ready: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    left = count(len(waves) - 1, -1)

    async def client(number: int) -> list[float]:
        async with connect(url, compression=None, proxy=None, max_queue=None) as socket:
            await socket.send(json.dumps({"type": "start", "rate": RATE}))
            assert json.loads(await socket.recv())["type"] == "ready"
            if next(left) == 0:
                ready.set_result(perf_counter() + AHEAD)
            begin = await ready + number / len(waves)
            sending = asyncio.create_task(_sent(socket, waves[number], begin))
            late = await _answered(socket, certain[number], begin)
            await sending
            return late

    each = await asyncio.gather(*map(client, range(len(waves))))
    return [ms for some in each for ms in some]


async def _sent(socket: ClientConnection, wave: Pcm, begin: float) -> None:
    for tick, at in enumerate(range(0, len(wave), SIZE)):
        await asyncio.sleep(begin + (tick + 1) * LIVE - perf_counter())
        await socket.send(wave[at : at + SIZE].tobytes())
    await socket.send(json.dumps({"type": "end"}))


async def _answered(socket: ClientConnection, certain: Ticks, begin: float) -> list[float]:
    """How late each segment is behind the first sample of the block that made it certain."""
    late = []
    try:
        while True:
            told = json.loads(await socket.recv())
            now = perf_counter()
            for item in told.get("items", []):
                tick = certain.get((item["start"], item["end"]))
                if tick is not None:  # else the end of the stream made it certain
                    late.append(1000 * (now - begin - tick * LIVE))
    except ConnectionClosedOK:
        return late


def _certain(recognizer: Recognizer, wave: Pcm) -> Ticks:
    stream = recognizer.stream(RATE)
    return {
        (one.to_dict()["start"], one.to_dict()["end"]): tick
        for tick, at in enumerate(range(0, len(wave), SIZE))
        for one in stream.feed(wave[at : at + SIZE])
    }


def _wave(file: str, number: int, seconds: float) -> Pcm:
    wave = audio.load(file, RATE, start=7.3 * number, end=7.3 * number + seconds)
    return (np.clip(wave, -1, 1) * 32767).astype("<i2")


if __name__ == "__main__":
    waves = [_wave(sys.argv[2], number, float(sys.argv[4])) for number in range(int(sys.argv[3]))]
    recognizer = Recognizer()
    certain = [_certain(recognizer, wave) for wave in waves]
    print(json.dumps(asyncio.run(load(int(sys.argv[1]), waves, certain))))
