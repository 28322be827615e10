"""What a recogniser answers. Times are in seconds from the start of the recording."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What was recognised for one task.

    Attributes:
        label: the likeliest class; None where its probability is below the threshold.
        confidence: the probability of the likeliest class.
        probabilities: of each class.
    """

    label: str | None
    confidence: float
    probabilities: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionMap:
    """Where the model looked.

    Attributes:
        times: (T,) the middle of each step.
        weights: (heads, T); each head's sum to 1 over all windows of the recording, but for
            what it spends on zeros that a recipe pads with. Of a map that says for each step
            where it looks, the mean over the steps.
    """

    times: list[float]
    weights: list[list[float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recognition:
    """One recording's answer.

    Attributes:
        source: what was recognised: a path, or "bytes", "file", "array".
        model: the name of the model.
        start: where the recognised part begins.
        end: where it ends.
        windows: the parts that the model heard one by one; their probabilities were averaged.
        tasks: the answer for each task, the main one first.
        attention: maps by name; none for a model without attention.
    """

    source: str
    model: str
    start: float
    end: float
    windows: list[tuple[float, float]]
    tasks: dict[str, Answer]
    attention: dict[str, AttentionMap]

    @property
    def label(self) -> str | None:
        """The main task's likeliest class; None where the recogniser abstained."""
        return next(iter(self.tasks.values())).label

    def plain(self) -> dict[str, Any]:
        """Dictionaries, lists, words and numbers, as JSON has them; six digits are kept."""
        return _rounded(asdict(self))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
