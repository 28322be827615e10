"""Linear support vector machines on the mean of an utterance's frames; fitted, not trained.

Zhang et al. 2019, section 4.3, "OS+SVMs" of Table 1: "the static classifier of Support Vector
Machines to model the utterance-level features"; as frames these are one row an utterance.

Our choices where the paper gives none: one-vs-rest classifiers, squared hinge loss (scikit-learn's
LinearSVC, Fan et al. 2008), vectors with mean 0 and deviation 1 over the training subset, and as
the cost C of a violated margin the power of 2 with the best UA on the validation subset, for each
task separately. The weights are those of the tasks' own heads: the logits are distances.

On the states of several layers of a pretrained encoder (front end ``ssl``), the machine reads all
of them side by side, or the one with the best UA on the validation subset; the weights of the
others are 0 then.

B = batch, n = utterances, T = frames, D = bins, N = states, K = classes of a task.
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
    """Cost C of a violated margin, and choice of a layer.

    Attributes:
        states: N, layers that are concatenated in a frame; the front end ``ssl`` sets it.
        select_state: whether each task reads one state, selected together with C on the validation
            subset; otherwise it reads all of them.
        c: cost by task; for other tasks, it is selected on the validation subset.
        min_exponent: exponent of the lowest power of 2 that is tried on validation.
        max_exponent: exponent of the highest one.
        default_c: cost of tasks that ``c`` does not name, without a validation subset.
    """

    states: Annotated[int, Ge(1)] = 1
    select_state: bool = False
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
            ConfigError: a C for a task that does not exist, an empty range of exponents, or a width
                that is no multiple of the states.
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
        channels, rest = divmod(width, config.states)
        if rest:
            raise ConfigError(
                f"frames of {width} bins are not {config.states} states side by side; "
                "do not set model.states, the front end ssl sets it"
            )
        if config.select_state:
            starts = range(0, width, channels)
            self._choices = [slice(start, start + channels) for start in starts]
        else:
            self._choices = [slice(0, width)]
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

    def to_onnx_module(self) -> "Model":
        """Return the model itself: ONNX has all its operations."""
        return self

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

        def fit(choice: slice, c: float) -> tuple[Array, Array]:
            x_nc = np.ascontiguousarray(x_nd[:, choice])
            return fit_one_vs_rest(x_nc, target_n, weight_n, len(task.classes), c)

        choice, c = self._select_settings(name, fit, validation)
        weight_kc, bias_k = fit(choice, c)
        with torch.no_grad():
            task.head.weight.zero_()
            task.head.weight[:, choice] = torch.from_numpy(weight_kc).to(task.head.weight.dtype)
            task.head.bias.copy_(torch.from_numpy(bias_k))
        return c

    def _select_settings(
        self,
        name: str,
        fit: Callable[[slice, float], tuple[Array, Array]],
        validation: Examples | None,
    ) -> tuple[slice, float]:
        """Select states and C of a task.

        Returns:
            Those with the best UA on the validation data; of equal ones the lowest state, and the
            lowest C.

        Raises:
            ConfigError: a state is to be selected, and there is no validation data.
        """
        x_nd, target_n = self._select_labelled(name, validation) if validation else (None, ())
        given = self.config.c.get(name)
        if x_nd is None or not len(target_n):
            if len(self._choices) > 1:
                raise ConfigError(
                    f"model.select_state = true, and task {name} has no validation data to select "
                    "one of the states by; set protocol.validation, or name a layer in "
                    "features.layers"
                )
            return self._choices[0], given or self.config.default_c
        exponents = range(self.config.min_exponent, self.config.max_exponent + 1)
        costs = [given] if given else [2.0**n for n in exponents]
        if len(costs) * len(self._choices) == 1:
            return self._choices[0], costs[0]
        pairs = [(choice, c) for choice in self._choices for c in costs]
        scores = []
        for choice, c in pairs:
            weight_kc, bias_k = fit(choice, c)
            class_n = (x_nd[:, choice] @ weight_kc.T + bias_k).argmax(axis=1)
            scores.append(unweighted_accuracy_score(target_n, class_n))
        return pairs[int(np.argmax(scores))]

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
