"""Class sets: the answers of a model restricted to some of its classes.

The priors of the model's recipe are removed from the probabilities of a set's classes, which are
then divided by their sum: a softmax over the logits of the set alone, with equal priors.

B = rows, K = classes of a task.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from serein.errors import ConfigError, UnknownName

ClassSet = str | Sequence[str] | Mapping[str, Sequence[str]]
"""Classes of the first classification task, as a list or as text with commas; or of any task, by
its name."""


def resolve_class_set(
    class_set: ClassSet | None, model_classes: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Return the classes of a set for each task that it restricts, in the order of the model.

    >>> model_classes = {"emotion": ("anger", "boredom", "neutral"), "gender": ("female", "male")}
    >>> resolve_class_set("neutral, anger", model_classes)
    {'emotion': ('anger', 'neutral')}

    Args:
        class_set: the set; None restricts nothing.
        model_classes: classes of each task of the model; empty for a regression task.

    Raises:
        UnknownName: the model has no such class, or no such classification task.
        ConfigError: the model has no classes, or fewer than two are left.
    """
    if class_set is None:
        return {}
    tasks = [task for task, names in model_classes.items() if names]
    if not tasks:
        raise ConfigError(
            f"a class set was given, and all tasks of the model ({', '.join(model_classes)}) "
            "predict numbers; leave it out"
        )
    if not isinstance(class_set, Mapping):
        class_set = {tasks[0]: class_set}
    return {task: _resolve_task(task, names, model_classes) for task, names in class_set.items()}


def _resolve_task(
    task: str, names: str | Sequence[str], model_classes: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    tasks = [name for name, own in model_classes.items() if own]
    if task not in tasks:
        raise UnknownName("classification task", task, tasks)
    wanted = names.split(",") if isinstance(names, str) else names
    wanted = [name.strip() for name in wanted]
    known = model_classes[task]
    for name in wanted:
        if name not in known:
            raise UnknownName(f"class of {task}", name, known)
    selected = tuple(name for name in known if name in wanted)
    if len(selected) < 2:
        raise ConfigError(
            f"the class set of {task} is {', '.join(selected) or 'empty'}; expected two or more of "
            f"{', '.join(known)}"
        )
    return selected


def find_columns(selected: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Return the positions of the classes of a set among all classes.

    >>> find_columns(("anger", "neutral"), ("anger", "boredom", "neutral"))
    [0, 2]
    """
    return [classes.index(name) for name in selected]


def find_prior_factors(
    settings: Mapping[str, Any], classes: Sequence[str], temperature: float = 1.0
) -> list[float]:
    """Return what the priors of a model's recipe multiply the probability of each class with.

    >>> find_prior_factors({"name": "lda", "priors": {"fear": 0.25}}, ("anger", "fear"), 2.0)
    [1.0, 0.5]

    Args:
        settings: of the recipe's model, with ``priors`` or without.
        classes: K classes of a task.
        temperature: divisor of the task's logits, to which the priors were added before.
    """
    priors = settings.get("priors")
    if not isinstance(priors, Mapping):
        return [1.0] * len(classes)
    return [float(priors.get(name, 1.0)) ** (1 / temperature) for name in classes]


def renormalize(
    p_bk: ArrayLike, columns: Sequence[int], prior_k: Sequence[float] | None = None
) -> NDArray[np.float64]:
    """Select classes, remove their priors, and divide their probabilities by the sum.

    A class set says what is possible; how frequent each class is, is then unknown, so that the
    classes of a set are equally frequent.

    >>> renormalize([[0.2, 0.5, 0.3]], [0, 2])
    array([[0.4, 0.6]])
    >>> renormalize([[0.2, 0.5, 0.3]], [0, 2], [1.0, 0.25, 3.0]).round(2)
    array([[0.67, 0.33]])

    Args:
        p_bk: (B, K) probabilities.
        columns: positions of the selected classes.
        prior_k: what the priors multiplied the probabilities with (`find_prior_factors`).

    Returns:
        (B, len(columns)) probabilities; equal ones in a row where all selected classes have
        probability 0.
    """
    selected_bk = np.asarray(p_bk, float)[:, list(columns)]
    if prior_k is not None:
        selected_bk = selected_bk / np.asarray(prior_k, float)[list(columns)]
    total_b = selected_bk.sum(axis=1, keepdims=True)
    selected_bk = np.where(total_b > 0, selected_bk, 1.0)
    return selected_bk / selected_bk.sum(axis=1, keepdims=True)
