"""A queue that nobody can occupy: its flows take turns, by the cost of their jobs.

Start-time fair queueing (Goyal, Vin & Cheng 1996), with jobs in the order of their finish tags: a
flow with cheap jobs overtakes one with expensive jobs, and flows with equal jobs alternate.
"""

import threading
from collections import deque
from collections.abc import Hashable
from queue import Empty
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """A queue of jobs for threads; jobs of one flow stay in their order."""

    def __init__(self) -> None:
        """Create an empty queue."""
        self._flows: dict[Hashable, deque[tuple[T, float]]] = {}
        self._finish_tags: dict[Hashable, float] = {}
        self._virtual_time, self._closed = 0.0, False
        self._changed = threading.Condition()

    def put(self, job: T | None, flow: Hashable = None, cost: float = 1.0) -> None:
        """Add a job, or None to close the queue.

        Args:
            job: what ``get`` returns.
            flow: whose job it is.
            cost: of the job, in any unit.
        """
        with self._changed:
            if job is None:
                self._closed = True
                self._changed.notify_all()
            else:
                self._flows.setdefault(flow, deque()).append((job, cost))
                self._changed.notify()

    def get(self, timeout: float | None = None) -> T | None:
        """Return the next job, or None if the queue is closed and empty.

        Args:
            timeout: seconds to wait for a job; None waits without a limit.

        Raises:
            Empty: there was no job in that time.
        """
        deadline = None if timeout is None else monotonic() + timeout
        with self._changed:
            while not self._flows:
                if self._closed:
                    return None
                remaining = None if deadline is None else deadline - monotonic()
                if remaining is not None and remaining <= 0:
                    raise Empty
                self._changed.wait(remaining)
            return self._pop()

    def get_nowait(self) -> T | None:
        """Return the next job as ``get`` does, without waiting."""
        return self.get(0.0)

    def _pop(self) -> T:
        start_tags = {
            flow: max(self._virtual_time, self._finish_tags.get(flow, 0.0)) for flow in self._flows
        }
        flow = min(start_tags, key=lambda one: start_tags[one] + self._flows[one][0][1])
        job, cost = self._flows[flow].popleft()
        self._virtual_time = max(self._virtual_time, min(start_tags.values()))
        self._finish_tags[flow] = start_tags[flow] + cost
        if not self._flows[flow]:
            del self._flows[flow]
        for one, tag in list(self._finish_tags.items()):  # a flow without debts is forgotten
            if one not in self._flows and tag <= self._virtual_time:
                del self._finish_tags[one]
        return job
