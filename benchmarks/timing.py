"""Ours against a peer's, in turns, so that a busy machine slows both alike."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        what: was measured.
        ours: our median.
        unit: of both medians.
        peer_name: who else; what is missing or why there is none.
        peer: its median.
        ratio: median over pairs; above 1 we are better.
        asked: what was asked of it.
    """

    what: str
    ours: float
    unit: str
    peer_name: str = ""
    peer: float | None = None
    ratio: float | None = None
    asked: str = ""


def paired(
    ours: Callable[[], object], peer: Callable[[], object], repeats: int = 7
) -> tuple[float, float, float]:
    """Time two functions in turns, after one untimed call of each.

    Returns:
        Median seconds of ours, median seconds of the peer's, and the median over repeats of
        peer over ours: above 1 we are faster.
    """
    ours()
    peer()
    pairs = []
    for repeat in range(repeats):
        if repeat % 2:
            theirs, mine = _seconds(peer), _seconds(ours)
        else:
            mine, theirs = _seconds(ours), _seconds(peer)
        pairs.append((mine, theirs))
    mines, all_theirs = zip(*pairs, strict=True)
    return median(mines), median(all_theirs), median(theirs / mine for mine, theirs in pairs)


def peak() -> float:
    """MiB that this process has held at most."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0]) / 1024


def _seconds(function: Callable[[], object]) -> float:
    begin = perf_counter()
    function()
    return perf_counter() - begin
