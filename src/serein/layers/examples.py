"""What an estimator is fitted on.

n = utterances, D = channels.
"""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor


class Examples(NamedTuple):
    """Utterances as an estimator sees them, and what they stand for.

    Attributes:
        vectors: for each task, (n, D): what the estimator itself made of them.
        targets: for each task, (n,).
    """

    vectors: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
