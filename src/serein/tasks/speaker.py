"""Task: the speaker, as an auxiliary task (Fu et al. 2020, section 3.3).

Test speakers are not in the training subset, and so cannot be recognized. The task is therefore
scored on held-out utterances of training speakers, whose speaker label is not used in training. Its
head has a class for each speaker of the corpora, also for those outside a fold's training subset.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, Lt

from serein.tasks.heads import ClassificationConfig, ClassificationTask


@dataclass(frozen=True)
class Config(ClassificationConfig):
    """Settings.

    Attributes:
        held_out: fraction of each training speaker's utterances that are held out for scoring.
    """

    held_out: Annotated[float, Gt(0), Lt(1)] = 0.1


class Task(ClassificationTask):
    """Classification of the speaker by cross-entropy (Fu et al. 2020, section 4.3)."""
