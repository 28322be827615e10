"""Scores for classes such as emotions; higher is better.

Conventions: ``truth`` and ``prediction`` are equally long and hold labels (or class indices, with
``classes=range(K)``). A confusion matrix has a row for each true class and a column for each
predicted one. A score that is undefined is nan.

``*_from_confusion`` takes (..., K, K): one matrix, or a stack of them in one go.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def confusion_matrix(
    truth: Iterable[Hashable], prediction: Iterable[Hashable], classes: Sequence[Hashable]
) -> NDArray[np.int64]:
    """Count how often each class is taken for each.

    Args:
        truth: n gold labels.
        prediction: n predicted labels.
        classes: all K labels, in the order of rows and columns; those that never occur stay in.

    Returns:
        (K, K) counts; entry (i, j) counts utterances of class i that are taken for class j.

    Raises:
        ValueError: the two differ in length, or hold a label that is not in ``classes``.

    >>> truth, prediction = ["joy", "joy", "anger"], ["joy", "anger", "anger"]
    >>> confusion_matrix(truth, prediction, classes=["anger", "joy", "fear"])
    array([[1, 0, 0],
           [1, 1, 0],
           [0, 0, 0]])
    """
    rows, columns = class_indices(truth, classes), class_indices(prediction, classes)
    _check_lengths(rows.size, columns.size)
    k = len(classes)
    return np.bincount(rows * k + columns, minlength=k * k).reshape(k, k)


def class_indices(labels: Iterable[Hashable], classes: Sequence[Hashable]) -> NDArray[np.int64]:
    """Where each label stands in ``classes``.

    Raises:
        ValueError: a label is not in ``classes``, or ``classes`` names one twice.

    >>> class_indices(["joy", "anger", "joy"], ["anger", "joy"])
    array([1, 0, 1])
    """
    place = {label: index for index, label in enumerate(classes)}
    if len(place) != len(classes):
        raise ValueError(f"classes name one label twice: {list(classes)}")
    labels = list(labels)
    unknown = sorted({repr(label) for label in labels if label not in place})
    if unknown:
        raise ValueError(f"unknown labels {', '.join(unknown)}; known are {list(classes)}")
    return np.array([place[label] for label in labels], dtype=np.int64)


def recalls_from_confusion(confusion: ArrayLike) -> NDArray[np.float64]:
    r"""Recall of each class: the share of its utterances that is found.

    .. math:: R_i = C_{ii} / \sum_j C_{ij}

    Args:
        confusion: (..., K, K) counts, a row for each true class.

    Returns:
        (..., K) recalls; nan for a class that does not occur in the truth.

    Raises:
        ValueError: the matrices are not square, or hold a negative or undefined count.

    >>> recalls_from_confusion([[3, 1], [0, 0]])
    array([0.75,  nan])
    """
    counts = _counts(confusion)
    return _ratio(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1))


def weighted_accuracy_from_confusion(confusion: ArrayLike) -> NDArray[np.float64]:
    r"""Weighted accuracy (WA): the share of all utterances that is right.

    .. math:: \mathrm{WA} = \sum_i C_{ii} / \sum_{ij} C_{ij}

    Args:
        confusion: (..., K, K) counts, a row for each true class.

    Returns:
        (...) scores, without axes for one matrix; nan where nothing was counted.

    Raises:
        ValueError: the matrices are not square, or hold a negative or undefined count.

    >>> float(weighted_accuracy_from_confusion([[3, 1], [1, 1]]))
    0.6666666666666666
    """
    counts = _counts(confusion)
    return _ratio(np.trace(counts, axis1=-2, axis2=-1), counts.sum(axis=(-2, -1)))


def unweighted_accuracy_from_confusion(confusion: ArrayLike) -> NDArray[np.float64]:
    r"""Unweighted accuracy (UA), or unweighted average recall: each class counts the same.

    .. math:: \mathrm{UA} = \frac{1}{|T|} \sum_{i \in T} R_i, \quad T = \{i : \sum_j C_{ij} > 0\}

    Schuller, Steidl & Batliner: The INTERSPEECH 2009 Emotion Challenge. A class that does not
    occur in the truth has no recall and is left out of the mean.

    Args:
        confusion: (..., K, K) counts, a row for each true class.

    Returns:
        (...) scores, without axes for one matrix; nan where nothing was counted.

    Raises:
        ValueError: the matrices are not square, or hold a negative or undefined count.

    >>> float(unweighted_accuracy_from_confusion([[3, 1], [1, 1]]))
    0.625
    """
    recalls = recalls_from_confusion(confusion)
    return _ratio(np.nansum(recalls, axis=-1), np.isfinite(recalls).sum(axis=-1))


def weighted_accuracy_score(truth: Iterable[Hashable], prediction: Iterable[Hashable]) -> float:
    """Weighted accuracy (WA) of labels: the share that is right; nan if there are none.

    See `weighted_accuracy_from_confusion`.

    >>> weighted_accuracy_score(["joy", "joy", "joy", "anger"], ["joy", "joy", "anger", "joy"])
    0.5
    """
    return float(weighted_accuracy_from_confusion(_confusion_of_occurring(truth, prediction)))


def unweighted_accuracy_score(truth: Iterable[Hashable], prediction: Iterable[Hashable]) -> float:
    """Unweighted accuracy (UA) of labels: mean recall of the classes in ``truth``; nan if none.

    See `unweighted_accuracy_from_confusion`.

    >>> unweighted_accuracy_score(["joy", "joy", "joy", "joy", "fear"], ["joy"] * 5)
    0.5
    """
    return float(unweighted_accuracy_from_confusion(_confusion_of_occurring(truth, prediction)))


def recall_scores(
    truth: Iterable[Hashable], prediction: Iterable[Hashable], classes: Sequence[Hashable]
) -> NDArray[np.float64]:
    """Recall of each of ``classes``: (K,), nan for a class that does not occur in ``truth``.

    See `recalls_from_confusion`.

    >>> truth, prediction = ["joy", "joy", "anger"], ["joy", "anger", "anger"]
    >>> recall_scores(truth, prediction, classes=["anger", "joy", "fear"])
    array([1. , 0.5, nan])
    """
    return recalls_from_confusion(confusion_matrix(truth, prediction, classes))


def majority_class(truth: Iterable[Any]) -> Any:
    """The most frequent label; of equally frequent ones the first in sorting order.

    Raises:
        ValueError: there are no labels.

    >>> majority_class(["joy", "joy", "anger", "anger", "fear"])
    'anger'
    """
    counts = Counter(truth)
    if not counts:
        raise ValueError("need at least one label to name the most frequent one")
    most = max(counts.values())
    return min(label for label, count in counts.items() if count == most)


def majority_scores(train_truth: Iterable[Any], truth: Iterable[Any]) -> tuple[float, float]:
    """WA and UA of always answering the most frequent class of the training side.

    Its UA is one over the number of classes in ``truth`` (or 0, if the answer is none of them).

    >>> majority_scores(["joy", "joy", "anger"], ["joy", "joy", "joy", "anger"])
    (0.75, 0.5)
    """
    truth = list(truth)
    answers = [majority_class(train_truth)] * len(truth)
    return weighted_accuracy_score(truth, answers), unweighted_accuracy_score(truth, answers)


def chance_scores(classes: Sequence[Hashable]) -> tuple[float, float]:
    """Expected WA and UA of drawing each answer uniformly from the K classes: 1/K both.

    Whatever the true class, one answer in K is right; so is each recall, and so their mean.

    >>> chance_scores(["anger", "joy", "fear", "sadness"])
    (0.25, 0.25)
    """
    share = 1 / len(classes) if classes else float("nan")
    return share, share


def _confusion_of_occurring(
    truth: Iterable[Hashable], prediction: Iterable[Hashable]
) -> NDArray[np.int64]:
    truth, prediction = list(truth), list(prediction)
    return confusion_matrix(truth, prediction, list(dict.fromkeys([*truth, *prediction])))


def _check_lengths(truth: int, prediction: int) -> None:
    if truth != prediction:
        raise ValueError(f"truth and prediction differ in length: {truth} != {prediction}")


def _counts(confusion: ArrayLike) -> NDArray[np.float64]:
    counts = np.asarray(confusion, dtype=float)
    if counts.ndim < 2 or counts.shape[-1] != counts.shape[-2]:
        raise ValueError(f"need square confusion matrices (..., K, K); got {counts.shape}")
    if not np.all(counts >= 0):
        raise ValueError("a confusion matrix holds counts; got a negative or undefined one")
    return counts


def _ratio(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    part, whole = np.asarray(part, dtype=float), np.asarray(whole, dtype=float)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
