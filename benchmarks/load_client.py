"""Send requests to a service from a separate process: `python -m benchmarks.load_client PORT FILE`.

Prints one line of JSON: the latency of each request with status 200, the duration of the run, all
statuses, and the number of requests with a status other than 200 and 429.
"""

import argparse
import asyncio
import json
import random
from pathlib import Path
from time import perf_counter

PATH = "/v1/recognize"


async def run_closed_loop(
    port: int, body: bytes, clients: int, seconds: float
) -> list[tuple[float, int]]:
    """Run clients that each send the next request after the response to the last one."""
    end = perf_counter() + seconds

    async def client() -> list[tuple[float, int]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        results = []
        while perf_counter() < end:
            start = perf_counter()
            status = await _post(reader, writer, body)
            results.append((perf_counter() - start, status))
        writer.close()
        return results

    results = await asyncio.gather(*(client() for _ in range(clients)))
    return [result for client_results in results for result in client_results]


async def run_open_loop(
    port: int, body: bytes, rate: float, seconds: float
) -> list[tuple[float, int]]:
    """Send requests at random times (a Poisson process), independent of the responses."""
    rng, requests = random.Random(0), []
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    start, due = perf_counter(), 0.0

    async def send(due: float) -> tuple[float, int]:
        connection = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        status = await _post(*connection, body)
        idle.append(connection)
        return perf_counter() - due, status

    while due < seconds:
        due += rng.expovariate(rate)
        await asyncio.sleep(max(0.0, start + due - perf_counter()))
        requests.append(asyncio.create_task(send(start + due)))
    results = await asyncio.gather(*requests)
    for _, writer in idle:
        writer.close()
    return results


async def _post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> int:
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    response = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(response.split(b"content-length: ")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    return int(response.split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--clients", type=int, help="clients that wait for their responses")
    parser.add_argument("--rate", type=float, help="requests per second, sent at random times")
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    body, start = args.file.read_bytes(), perf_counter()
    load = (
        run_open_loop(args.port, body, args.rate, args.seconds)
        if args.rate
        else run_closed_loop(args.port, body, args.clients, args.seconds)
    )
    results = asyncio.run(load)
    print(
        json.dumps(
            {
                "seconds": perf_counter() - start,
                "latencies": [seconds for seconds, status in results if status == 200],
                "statuses": sorted({status for _, status in results}),
                "failed": sum(status not in (200, 429) for _, status in results),
            }
        )
    )


if __name__ == "__main__":
    main()
