"""Task: arousal, valence or dominance, as one of three levels or as the number that people rated.

Levels are those of Zhang et al. 2019, sections 3.3 and 4.1; values are what later corpora and
papers take. One file for the three, which a recipe names apart:

    [tasks.arousal]
    name = "dimensions"
    scheme = "values"    # without it, levels

Where a corpus has no ratings, ``label = "emotion"`` with ``scheme = "proxy-arousal"`` takes those
of the emotion's name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from serein.errors import ConfigError
from serein.tasks.heads import ClassificationConfig, ClassificationTask, RegressionTask


@dataclass(frozen=True)
class Config(ClassificationConfig):
    """Of a class, but by levels unless another scheme is named.

    Attributes:
        loss: of values, 1 less their concordance, or the mean squared error.
    """

    scheme: str = "levels"
    loss: Literal["ccc", "mse"] = "ccc"


def build_task(
    config: Config, width: int, classes: Sequence[str]
) -> ClassificationTask | RegressionTask:
    """Which level, by cross-entropy (Zhang et al. 2019, equation 5); without classes, which value.

    Raises:
        ConfigError: a setting that values have no use for.
    """
    if classes:
        return ClassificationTask(config, width, classes)
    for name, off in (("class_weights", "none"), ("smoothing", 0)):
        if getattr(config, name) != off:
            raise ConfigError(
                f"{name} = {getattr(config, name)!r} serves classes, and scheme 'values' has none; "
                "leave it out"
            )
    return RegressionTask(config, width, config.loss)


Task = build_task
