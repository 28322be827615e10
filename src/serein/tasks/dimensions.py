"""Task: arousal, valence or dominance as three levels (Zhang et al. 2019, sections 3.3 and 4.1).

One file for the three, which a recipe names apart:

    [tasks.arousal]
    name = "dimensions"

Where a corpus has no ratings, ``label = "emotion"`` with ``scheme = "proxy-arousal"`` takes those
of the emotion's name.
"""

from dataclasses import dataclass

from serein.layers.classes import ClassConfig, ClassTask


@dataclass(frozen=True)
class Config(ClassConfig):
    """Of a class, but by levels unless another scheme is named."""

    scheme: str = "levels"


class Task(ClassTask):
    """Which level; cross-entropy (Zhang et al. 2019, equation 5)."""
