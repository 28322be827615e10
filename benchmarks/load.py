"""Load on a service from a process of its own: `python -m benchmarks.load PORT FILE ...`.

Prints one line of JSON: seconds of each answer, seconds in all, and how many were not 200.
"""

import argparse
import asyncio
import json
import random
from pathlib import Path
from time import perf_counter

PATH = "/v1/recognize"


async def closed(port: int, body: bytes, clients: int, seconds: float) -> list[tuple[float, int]]:
    """So many clients, each of which asks again as soon as it has its answer."""
    end = perf_counter() + seconds

    async def client() -> list[tuple[float, int]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answers = []
        while perf_counter() < end:
            begin = perf_counter()
            status = await _ask(reader, writer, body)
            answers.append((perf_counter() - begin, status))
        writer.close()
        return answers

    return [
        one for each in await asyncio.gather(*(client() for _ in range(clients))) for one in each
    ]


async def opened(port: int, body: bytes, rate: float, seconds: float) -> list[tuple[float, int]]:
    """Requests that come at random moments (Poisson), whether or not the last one is answered."""
    rng, idle, asking = (
        random.Random(0),
        list[tuple[asyncio.StreamReader, asyncio.StreamWriter]](),
        [],
    )
    begin, at = perf_counter(), 0.0

    async def ask(due: float) -> tuple[float, int]:
        pair = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        status = await _ask(*pair, body)
        idle.append(pair)
        return perf_counter() - due, status

    while at < seconds:
        at += rng.expovariate(rate)
        await asyncio.sleep(max(0.0, begin + at - perf_counter()))
        asking.append(asyncio.create_task(ask(begin + at)))
    answers = await asyncio.gather(*asking)
    for _, writer in idle:
        writer.close()
    return answers


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> int:
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    top = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(top.split(b"content-length: ")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    return int(top.split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--clients", type=int, help="that wait for their answers")
    parser.add_argument("--rate", type=float, help="requests a second that wait for nothing")
    parser.add_argument("--seconds", type=float, default=5.0)
    asked = parser.parse_args()
    body, begin = asked.file.read_bytes(), perf_counter()
    work = (
        opened(asked.port, body, asked.rate, asked.seconds)
        if asked.rate
        else closed(asked.port, body, asked.clients, asked.seconds)
    )
    answers = asyncio.run(work)
    print(
        json.dumps(
            {
                "seconds": perf_counter() - begin,
                "latencies": [seconds for seconds, status in answers if status == 200],
                "statuses": sorted({status for _, status in answers}),
            }
        )
    )


if __name__ == "__main__":
    main()
