"""Recognitions as a pandas table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from serein.errors import ConfigError
from serein.inference.recognition import Recognition

if TYPE_CHECKING:
    import pandas


def build_frame(recognitions: Sequence[Recognition]) -> "pandas.DataFrame":
    """What ``Recognition.to_frame`` does, for several; see there."""
    try:
        import pandas
    except ImportError as error:
        raise ConfigError("a table needs pandas; install it with pip install pandas") from error

    rows: list[dict[str, Any]] = []
    places = []
    for one in recognitions:
        for segment in one.rows:
            places.append((one.source, segment.start, segment.end))
            rows.append({} if one.channel is None else {"channel": one.channel})
            for task, found in segment.tasks.items():
                rows[-1][task] = found.label
                rows[-1] |= {f"{task}_{name}": p for name, p in found.probabilities.items()}
            rows[-1] |= segment.values
    index = pandas.MultiIndex.from_arrays(
        [
            pandas.Index([file for file, _, _ in places], dtype="string"),
            pandas.to_timedelta([start for _, start, _ in places], unit="s"),
            pandas.to_timedelta([end for _, _, end in places], unit="s"),
        ],
        names=["file", "start", "end"],
    )
    return pandas.DataFrame(rows, index=index)
