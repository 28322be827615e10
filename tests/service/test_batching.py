"""Batching threads, and waiting for them in an event loop."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import sleep
from typing import NamedTuple

import pytest
from builders.service_client import small_recognizer

from serein.inference.recognizer import Recognizer
from serein.service.batching import BatchingThread, LoopWaker, wait_for


class SumJob(NamedTuple):
    """A job: two numbers to add."""

    numbers: tuple[float, float]
    recognizer: Recognizer | None
    future: Future[float]


class SumThread(BatchingThread[SumJob]):
    """A thread that adds the numbers of its jobs."""

    def __init__(self) -> None:
        self.together: list[int] = []
        super().__init__("adder")

    def submit(self, *numbers: float, by: Recognizer | None = None) -> Future[float]:
        future: Future[float] = Future()
        self._queue.put(SumJob((numbers[0], numbers[1]), by, future))
        return future

    def _collect(self) -> list[SumJob]:
        found: list[SumJob] = []
        while (one := self._queue.get()) is not None:
            found.append(one)
        self._closing = True
        return found

    def _process(self, batch: Sequence[SumJob]) -> list[object]:
        self.together.append(len(batch))
        odd = ValueError("no number")
        return [odd if one.numbers[0] != one.numbers[0] else sum(one.numbers) for one in batch]


def test_batching_thread_groups_jobs_by_model() -> None:
    made, first, second = SumThread(), small_recognizer("first"), small_recognizer("second")
    nan = float("nan")
    futures = [
        made.submit(1, 2, by=first),
        made.submit(nan, 2, by=second),
        made.submit(3, 4, by=first),
        made.submit(5, 6),
    ]
    dropped = made.submit(7, 8)
    assert dropped.cancel()
    assert made.is_alive()
    made.close()
    assert not made.is_alive()
    assert made.together == [2, 1, 1]
    assert [futures[n].result(0) for n in (0, 2, 3)] == [3, 7, 11]
    with pytest.raises(ValueError, match="no number"):
        futures[1].result(0)


def test_loop_waker_wakes_once_for_many_futures() -> None:
    async def run() -> tuple[int, list[int]]:
        loop = asyncio.get_running_loop()
        futures = [Future[int]() for _ in range(16)]
        waiting = [asyncio.create_task(wait_for(future)) for future in futures]
        await asyncio.sleep(0)
        calls, original = 0, LoopWaker._wake_waiters

        def counted(bell: LoopWaker) -> None:
            nonlocal calls
            calls += 1
            original(bell)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LoopWaker, "_wake_waiters", counted)
            for number, future in enumerate(futures):  # the loop cannot run meanwhile
                future.set_result(number)
            found = await asyncio.gather(*waiting)
        assert loop.is_running()
        return calls, found

    assert asyncio.run(run()) == (1, list(range(16)))


def test_wait_for_returns_results_and_raises_errors() -> None:
    def fails() -> int:
        sleep(0.02)
        raise ZeroDivisionError

    async def run(pool: ThreadPoolExecutor) -> list[int | BaseException]:
        there: Future[int] = Future()
        there.set_result(1)
        late, wrong = pool.submit(lambda: 2), pool.submit(fails)
        waiting = [wait_for(one) for one in (there, late, wrong)]
        return await asyncio.gather(*waiting, return_exceptions=True)

    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):  # each run has its own event loop
            one, two, error = asyncio.run(run(pool))
            assert (one, two) == (1, 2)
            assert isinstance(error, ZeroDivisionError)


def test_wait_for_with_many_threads() -> None:
    async def run(pool: ThreadPoolExecutor) -> list[int]:
        return await asyncio.gather(*(wait_for(pool.submit(abs, -n)) for n in range(2000)))

    with ThreadPoolExecutor(8) as pool:
        assert asyncio.run(asyncio.wait_for(run(pool), 60)) == list(range(2000))


def test_wait_for_cancels_a_future_that_has_not_begun() -> None:
    async def run(future: Future[int]) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await wait_for(future)
        assert future.cancelled()

    asyncio.run(run(Future()))


def test_loop_waker_ignores_a_closed_loop() -> None:
    loop = asyncio.new_event_loop()
    bell, waiter = LoopWaker(loop), loop.create_future()
    loop.close()
    thread = threading.Thread(target=bell.wake_soon, args=(waiter,))
    thread.start()
    thread.join()
    assert not waiter.done()
