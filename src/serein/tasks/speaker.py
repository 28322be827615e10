"""Task: who talks, an aid to other tasks (Fu et al. 2020, section 3.3).

A tested speaker has no class of a fold that never heard him. The task is therefore scored on
utterances of training speakers, whose speaker is hidden from the training. Its head has a class
for each speaker of the corpora; those whom a fold does not train are never right there.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt, Lt

from serein.tasks.heads import ClassificationConfig, ClassificationTask


@dataclass(frozen=True)
class Config(ClassificationConfig):
    """What may vary.

    Attributes:
        held_out: share of each training speaker's utterances whose speaker is hidden, and which
            this task is scored on.
    """

    held_out: Annotated[float, Gt(0), Lt(1)] = 0.1


class Task(ClassificationTask):
    """Which speaker; cross-entropy (Fu et al. 2020, section 4.3)."""
