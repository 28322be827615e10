"""Linear support vector machines on the mean of an utterance's frames; fitted, not trained.

Zhang et al. 2019, section 4.3, "OS+SVMs" of Table 1: "the static classifier of Support Vector
Machines to model the utterance-level features"; as frames these are one row an utterance.

Our choices where the paper gives none: one-vs-rest classifiers, squared hinge loss (scikit-learn's
LinearSVC, Fan et al. 2008), vectors with mean 0 and deviation 1 over the training subset, and as
the cost C of a violated margin the power of 2 with the best UA on the validation subset, for each
task separately. The weights are those of the tasks' own heads: the logits are distances.

B = batch, n = utterances, T = frames, D = bins, K = classes of a task.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray
from torch import Tensor, nn

from serein.errors import ConfigError, UnknownName
from serein.layers.attention import ModelOutput
from serein.layers.outputs import Examples
from serein.metrics.classification import unweighted_accuracy_score
from serein.tasks.heads import ClassificationTask

Array = NDArray[np.float64]
Exponent = Annotated[int, Ge(-30), Le(20)]

PACKAGES = ("scikit-learn",)
"""Packages that the numbers depend on, besides this file."""
ABSENT_CLASS_LOGIT = -10.0
"""Logit of a class without training utterances."""


@dataclass(frozen=True)
class Config:
    """Cost C of a violated margin.

    Attributes:
        c: cost by task; for other tasks, it is selected on the validation subset.
        min_exponent: exponent of the lowest power of 2 that is tried on validation.
        max_exponent: exponent of the highest one.
        default_c: cost of tasks that ``c`` does not name, without a validation subset.
    """

    c: dict[str, Annotated[float, Gt(0)]] = field(default_factory=dict)
    min_exponent: Exponent = -16
    max_exponent: Exponent = 0
    default_c: Annotated[float, Gt(0)] = 2.0**-8


class Model(nn.Module):
    """The standardized mean of the frames, the same vector for every task."""

    mean_d: Tensor
    deviation_d: Tensor

    def __init__(self, config: Config, width: int, tasks: Sequence[str]) -> None:
        """Allocate the statistics.

        Args:
            config: values of C.
            width: bins of a frame.
            tasks: names of the tasks that read the vector.

        Raises:
            ConfigError: a C for a task that does not exist, or an empty range of exponents.
        """
        super().__init__()
        for name in config.c:
            if name not in tasks:
                raise UnknownName("task of model.c", name, tasks)
        if config.min_exponent > config.max_exponent:
            raise ConfigError(
                f"model.min_exponent = {config.min_exponent} is above model.max_exponent = "
                f"{config.max_exponent}; set it lower"
            )
        self.config = config
        self.tasks = tuple(tasks)
        self.width = width
        self.register_buffer("mean_d", torch.zeros(width))
        self.register_buffer("deviation_d", torch.ones(width))

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """Frames (B, T, D) with their mask (B, T) -> a vector (B, D) for each task."""
        x_btd, mask_bt = frames
        total_bd = x_btd.masked_fill(~mask_bt[..., None], 0).sum(dim=1)
        mean_bd = total_bd / mask_bt.sum(dim=1, keepdim=True)
        return ModelOutput(dict.fromkeys(self.tasks, self._standardize(mean_bd)), {})

    def _standardize(self, x_bd: Tensor) -> Tensor:
        return (x_bd - self.mean_d) / self.deviation_d

    def fit(
        self, train: Examples, validation: Examples | None, tasks: Mapping[str, nn.Module]
    ) -> dict[str, float]:
        """Compute the statistics, and fit the head of every task.

        Args:
            train: vectors of this model before it was fitted.
            validation: data on which C is selected; nothing is fitted to it.
            tasks: classification tasks by name; their class weights are weights of utterances.

        Returns:
            The C of each task.

        Raises:
            ConfigError: scikit-learn is not installed, or a task has no classes.
        """
        x_nd = train.vectors[self.tasks[0]]
        self.mean_d.copy_(x_nd.mean(dim=0))
        deviation_d = x_nd.std(dim=0, correction=0)
        self.deviation_d.copy_(torch.where(deviation_d > 1e-6, deviation_d, 1.0))
        return {name: self._fit_head(name, task, train, validation) for name, task in tasks.items()}

    def _fit_head(
        self, name: str, task: nn.Module, train: Examples, validation: Examples | None
    ) -> float:
        """Fit the head of one task; return its C."""
        if not isinstance(task, ClassificationTask):
            raise ConfigError(
                f"the model svm is a classifier; task {name} has no classes: use another model"
            )
        x_nd, target_n = self._select_labelled(name, train)
        weight_n = task.weights_k.cpu().double().numpy()[target_n]

        def fit(c: float) -> tuple[Array, Array]:
            return fit_one_vs_rest(x_nd, target_n, weight_n, len(task.classes), c)

        c = self.config.c.get(name) or self._select_c(name, fit, validation)
        weight_kd, bias_k = fit(c)
        with torch.no_grad():
            task.head.weight.copy_(torch.from_numpy(weight_kd))
            task.head.bias.copy_(torch.from_numpy(bias_k))
        return c

    def _select_c(
        self, name: str, fit: Callable[[float], tuple[Array, Array]], validation: Examples | None
    ) -> float:
        """Return the C with the best UA on the validation data, the lowest of equal ones."""
        if validation is None:
            return self.config.default_c
        x_nd, target_n = self._select_labelled(name, validation)
        if not len(target_n):
            return self.config.default_c
        costs = [2.0**n for n in range(self.config.min_exponent, self.config.max_exponent + 1)]
        predictions = [(x_nd @ w_kd.T + b_k).argmax(axis=1) for w_kd, b_k in map(fit, costs)]
        scores = [unweighted_accuracy_score(target_n, class_n) for class_n in predictions]
        return costs[int(np.argmax(scores))]

    def _select_labelled(self, name: str, examples: Examples) -> tuple[Array, NDArray[np.int64]]:
        """Return standardized vectors (n, D) and classes (n,) of labelled utterances."""
        target_n = examples.targets[name]
        x_nd = self._standardize(examples.vectors[name])[target_n >= 0]
        return x_nd.cpu().double().numpy(), target_n[target_n >= 0].cpu().numpy()


def fit_one_vs_rest(
    x_nd: Array, target_n: NDArray[np.int64], weight_n: Array, classes: int, c: float
) -> tuple[Array, Array]:
    """Fit a linear classifier for each class; a class without utterances is never predicted.

    Args:
        x_nd: (n, D) vectors.
        target_n: (n,) classes.
        weight_n: (n,) weights of the utterances.
        classes: K.
        c: cost of a violated margin.

    Returns:
        Weights (K, D) and biases (K,).

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    try:
        from sklearn.svm import LinearSVC
    except ImportError:
        raise ConfigError(
            "the model svm is fitted by scikit-learn, which is not installed; "
            "pip install 'serein[svm]'"
        ) from None
    weight_kd, bias_k = np.zeros((classes, x_nd.shape[1])), np.full(classes, ABSENT_CLASS_LOGIT)
    for k in np.unique(target_n):
        is_class_n = target_n == k
        if is_class_n.all():
            bias_k[k] = 1.0
            continue
        # The primal problem has an exact solution that needs no random numbers.
        svm = LinearSVC(C=c, dual=False, max_iter=10_000).fit(x_nd, is_class_n, weight_n)
        weight_kd[k], bias_k[k] = svm.coef_[0], svm.intercept_[0]
    return weight_kd, bias_k
