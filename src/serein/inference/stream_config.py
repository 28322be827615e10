"""Settings of streams and long recordings, shared by the library, the CLI and the service."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

WindowSeconds = Annotated[float, Gt(0), Le(60)]
HopSeconds = Annotated[float, Ge(0.25), Le(60)]
SmoothHops = Annotated[int, Ge(1), Le(99)]


@dataclass(frozen=True)
class StreamConfig:
    """Windowing, smoothing and merging of a stream or a long recording.

    The bounds are the same for Python, the command line, HTTP and WebSockets.

    Attributes:
        window: length of a window in seconds, rounded to whole frames.
        hop: seconds from one window to the next, rounded to whole frames.
        smooth: number of hops over which predictions are averaged; odd. 1 averages only over
            overlapping windows.
        speech: whether windows are cut from detected speech only; otherwise from all audio.
        merge: whether neighbouring hops with the same label become one segment. A model without
            classes always gives one segment per hop.
    """

    window: WindowSeconds = field(default=4.0, metadata={"help": "length of a window in seconds"})
    hop: HopSeconds = field(default=1.0, metadata={"help": "seconds from one window to the next"})
    smooth: SmoothHops = field(
        default=1, metadata={"help": "number of hops to average over, an odd number"}
    )
    speech: bool = field(default=True, metadata={"help": "cut windows from detected speech only"})
    merge: bool = field(
        default=True, metadata={"help": "merge neighbouring hops with the same label"}
    )

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "StreamConfig | None":
        """Build a configuration from optional values; None if every value is None.

        Args:
            options: value by field name; None is the default of the field.
        """
        given = {name: value for name, value in options.items() if value is not None}
        return cls(**given) if given else None

    @classmethod
    def help(cls, name: str) -> str:
        """Return the description of a field with its default, for CLI and API documentation.

        >>> StreamConfig.help("hop")
        'seconds from one window to the next; default: 1'
        """
        (setting,) = (one for one in fields(cls) if one.name == name)
        default = str(setting.default).lower().removesuffix(".0")
        return f"{setting.metadata['help']}; default: {default}"


STREAM_FIELDS = tuple(one.name for one in fields(StreamConfig))
"""Names of the fields of a ``StreamConfig``."""
