"""Task: arousal, valence or dominance, as one of three levels or as a rated value.

Levels are those of Zhang et al. 2019, sections 3.3 and 4.1; later corpora and papers use values.
All three dimensions share this file:

    [tasks.arousal]
    name = "dimensions"
    scheme = "values"    # default: "levels"

For a corpus without ratings, ``label = "emotion"`` with ``scheme = "proxy-arousal"`` takes the norm
of the emotion's name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from serein.errors import ConfigError
from serein.tasks.heads import ClassificationConfig, ClassificationTask, RegressionTask


@dataclass(frozen=True)
class Config(ClassificationConfig):
    """Settings of a classification, with levels as the default scheme, and of values.

    Attributes:
        loss: of values: "ccc" (1 - CCC), or "mse" (mean squared error).
    """

    scheme: str = "levels"
    loss: Literal["ccc", "mse"] = "ccc"


def build_task(
    config: Config, width: int, classes: Sequence[str]
) -> ClassificationTask | RegressionTask:
    """Build a classification of levels (Zhang et al. 2019, equation 5), or a regression of values.

    Args:
        config: settings.
        width: D of the vectors.
        classes: levels; empty for values.

    Raises:
        ConfigError: a setting of classes is set for values.
    """
    if classes:
        return ClassificationTask(config, width, classes)
    for name, default in (("class_weights", "none"), ("smoothing", 0), ("targets", "labels")):
        if getattr(config, name) != default:
            raise ConfigError(
                f"{name} = {getattr(config, name)!r} applies to classes, and scheme 'values' has "
                "none; remove it"
            )
    return RegressionTask(config, width, config.loss)


Task = build_task
