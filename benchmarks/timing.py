"""Time our function and a peer's alternately, so that other load affects both equally."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

MODEL = "serein-light"
"""Model of the rows that name none: the one for streams, folders and services of small machines."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table.

    Attributes:
        what: description of the measurement.
        ours: our median.
        unit: of both medians.
        peer_name: name of the peer, or why it was skipped.
        peer: the peer's median.
        ratio: median over pairs; above 1 ours is better.
        target: that the result should reach.
        bound: what limits the result, for a row that may miss its target.
    """

    what: str
    ours: float
    unit: str
    peer_name: str = ""
    peer: float | None = None
    ratio: float | None = None
    target: str = ""
    bound: str = ""


def time_alternately(
    ours: Callable[[], object], peer: Callable[[], object], repeats: int = 7
) -> tuple[float, float, float]:
    """Time two functions alternately, after one untimed call of each.

    Returns:
        Median seconds of ours, median seconds of the peer's, and the median over repeats of the
        ratio of peer to ours: above 1 ours is faster.
    """
    ours()
    peer()
    pairs = []
    for repeat in range(repeats):
        if repeat % 2:
            peer_seconds, our_seconds = _time(peer), _time(ours)
        else:
            our_seconds, peer_seconds = _time(ours), _time(peer)
        pairs.append((our_seconds, peer_seconds))
    all_ours, all_peers = zip(*pairs, strict=True)
    return median(all_ours), median(all_peers), median(theirs / mine for mine, theirs in pairs)


def peak_memory() -> float:
    """Return the peak resident memory of this process in MiB (on Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0]) / 1024


def _time(function: Callable[[], object]) -> float:
    begin = perf_counter()
    function()
    return perf_counter() - begin
