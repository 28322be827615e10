"""Times as people give them: numbers, durations of pandas, NumPy and datetime, and texts."""

import math
import re
from datetime import timedelta
from typing import Any

from serein.errors import AudioError

DURATION_PATTERN = re.compile(
    r"(?:(?P<days>\d+) days?,? *)?(?:(?:(?P<hours>\d+):)?(?P<minutes>\d+):)?"
    r"(?P<seconds>\d+(?:\.\d*)?)"
)
"""``1.5``, ``00:01.5``, ``01:02:03.25``, or ``0 days 00:00:01.5`` as in audformat."""
EXPECTED = "seconds such as 1.5, a duration such as pandas.Timedelta, or a text such as '00:01.5'"


def parse_duration(text: str) -> float | None:
    """Return the seconds of a text; None if it is not a time.

    >>> [parse_duration(text) for text in ("1.5", "00:01.5", "1:00:00", "0 days 00:00:01.5")]
    [1.5, 1.5, 3600.0, 1.5]
    """
    match = DURATION_PATTERN.fullmatch(text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return round(((days * 24 + hours) * 60 + minutes) * 60 + seconds, 9)


def to_seconds(time: Any, what: str) -> float | None:
    """Return a time in seconds; None for a missing one: None, NaT, or an empty text.

    Args:
        time: a number, a duration, or a text.
        what: it is, for the message.

    Raises:
        AudioError: it is none of these.
    """
    if time is None or isinstance(time, float | int):
        return time
    if isinstance(time, str):
        seconds = parse_duration(time) if time.strip() else None
        if seconds is not None or not time.strip():
            return seconds
    elif time != time:  # NaT, of pandas and of NumPy
        return None
    elif isinstance(time, timedelta):  # pandas' Timedelta, too
        return time.total_seconds()
    elif str(getattr(time, "dtype", "")).startswith("timedelta64"):
        return float(time / type(time)(1, "ns")) / 1e9
    elif hasattr(time, "item") and getattr(time, "ndim", 0) == 0:
        number = time.item()
        if isinstance(number, float | int):
            return number if math.isfinite(number) else math.nan
    raise AudioError(f"{what} is {time!r} ({type(time).__name__}); expected {EXPECTED}")
