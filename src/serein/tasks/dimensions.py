"""Task: arousal, valence or dominance as three levels (Zhang et al. 2019, sections 3.3 and 4.1).

One file for the three, which a recipe names apart:

    [tasks.arousal]
    name = "dimensions"
    scheme = "levels"

Where a corpus has no ratings, ``label = "emotion"`` with ``scheme = "proxy-arousal"`` takes those
of the emotion's name.
"""

from serein.layers.classes import ClassConfig, ClassTask

Config = ClassConfig


class Task(ClassTask):
    """Which level; cross-entropy (Zhang et al. 2019, equation 5)."""
