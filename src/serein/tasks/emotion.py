"""Task: which emotion, one of the corpus's own classes."""

from serein.tasks.heads import ClassificationConfig, ClassificationTask

Config = ClassificationConfig


class Task(ClassificationTask):
    """Which emotion; cross-entropy (Li et al. 2019, section 4.3)."""
