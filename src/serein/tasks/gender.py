"""Task: the speaker's gender as the corpus gives it, an aid to other tasks."""

from serein.tasks.heads import ClassificationConfig, ClassificationTask

Config = ClassificationConfig


class Task(ClassificationTask):
    """Female or male; cross-entropy (Li et al. 2019, section 4.3)."""
