"""Metrics of classification, such as emotions; higher is better.

``truth`` and ``prediction`` have equal lengths and hold labels (or class indices, with
``classes=range(K)``). A confusion matrix has a row for each true class and a column for each
predicted class. An undefined score is nan.

``*_from_confusion`` takes (..., K, K): one matrix or a stack of matrices.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def confusion_matrix(
    truth: Iterable[Hashable], prediction: Iterable[Hashable], classes: Sequence[Hashable]
) -> NDArray[np.int64]:
    """Count how often each class is predicted as each class.

    Args:
        truth: n gold labels.
        prediction: n predicted labels.
        classes: all K labels in the order of rows and columns, including labels that do not occur.

    Returns:
        (K, K) counts; entry (i, j) counts utterances of class i that are predicted as class j.

    Raises:
        ValueError: the lengths differ, or a label is not in ``classes``.

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
    """Return the index of each label in ``classes``.

    Raises:
        ValueError: a label is not in ``classes``, or ``classes`` names one twice.

    >>> class_indices(["joy", "anger", "joy"], ["anger", "joy"])
    array([1, 0, 1])
    """
    index_of = {label: index for index, label in enumerate(classes)}
    if len(index_of) != len(classes):
        raise ValueError(f"classes name one label twice: {list(classes)}")
    labels = list(labels)
    unknown = sorted({repr(label) for label in labels if label not in index_of})
    if unknown:
        raise ValueError(f"unknown labels {', '.join(unknown)}; known are {list(classes)}")
    return np.array([index_of[label] for label in labels], dtype=np.int64)


def recalls_from_confusion(confusion: ArrayLike) -> NDArray[np.float64]:
    r"""Recall of each class: the share of its utterances that is predicted as this class.

    .. math:: R_i = C_{ii} / \sum_j C_{ij}

    Args:
        confusion: (..., K, K) counts, a row for each true class.

    Returns:
        (..., K) recalls; nan for a class that does not occur in the truth.

    Raises:
        ValueError: the matrices are not square, or have a negative or undefined count.

    >>> recalls_from_confusion([[3, 1], [0, 0]])
    array([0.75,  nan])
    """
    counts = _check_confusion(confusion)
    return _divide(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1))


def weighted_accuracy_from_confusion(confusion: ArrayLike) -> NDArray[np.float64]:
    r"""Weighted accuracy (WA): the share of correct utterances.

    .. math:: \mathrm{WA} = \sum_i C_{ii} / \sum_{ij} C_{ij}

    Args:
        confusion: (..., K, K) counts, a row for each true class.

    Returns:
        (...) scores, without axes for one matrix; nan where all counts are 0.

    Raises:
        ValueError: the matrices are not square, or have a negative or undefined count.

    >>> float(weighted_accuracy_from_confusion([[3, 1], [1, 1]]))
    0.6666666666666666
    """
    counts = _check_confusion(confusion)
    return _divide(np.trace(counts, axis1=-2, axis2=-1), counts.sum(axis=(-2, -1)))


def unweighted_accuracy_from_confusion(confusion: ArrayLike) -> NDArray[np.float64]:
    r"""Unweighted accuracy (UA), or unweighted average recall: the mean recall of the classes.

    .. math:: \mathrm{UA} = \frac{1}{|T|} \sum_{i \in T} R_i, \quad T = \{i : \sum_j C_{ij} > 0\}

    Schuller, Steidl & Batliner: The INTERSPEECH 2009 Emotion Challenge. A class that does not
    occur in the truth has no recall and is left out of the mean.

    Args:
        confusion: (..., K, K) counts, a row for each true class.

    Returns:
        (...) scores, without axes for one matrix; nan where all counts are 0.

    Raises:
        ValueError: the matrices are not square, or have a negative or undefined count.

    >>> float(unweighted_accuracy_from_confusion([[3, 1], [1, 1]]))
    0.625
    """
    return _mean_of_defined(recalls_from_confusion(confusion))


def precisions_from_confusion(confusion: ArrayLike) -> NDArray[np.float64]:
    r"""Precision of each class: the share of its predictions that is correct.

    .. math:: P_j = C_{jj} / \sum_i C_{ij}

    Args:
        confusion: (..., K, K) counts, a row for each true class.

    Returns:
        (..., K) precisions; nan for a class that is never predicted.

    Raises:
        ValueError: the matrices are not square, or have a negative or undefined count.

    >>> precisions_from_confusion([[3, 0], [1, 0]])
    array([0.75,  nan])
    """
    counts = _check_confusion(confusion)
    return _divide(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-2))


def macro_f1_from_confusion(confusion: ArrayLike) -> NDArray[np.float64]:
    r"""Macro-averaged F1: the mean of the classes' F1 scores.

    .. math:: F_i = \frac{2 C_{ii}}{\sum_j C_{ij} + \sum_j C_{ji}}, \quad
        \mathrm{F1} = \frac{1}{|S|} \sum_{i \in S} F_i

    S holds the classes that are true or predicted, so a class that is predicted but never true
    counts 0. The mean of F1 scores is not the F1 of the mean precision and the mean
    recall, which also goes by this name and is never lower (Opitz & Burst 2019: Macro F1 and
    Macro F1, arXiv 1911.03347).

    Args:
        confusion: (..., K, K) counts, a row for each true class.

    Returns:
        (...) scores, without axes for one matrix; nan where all counts are 0.

    Raises:
        ValueError: the matrices are not square, or have a negative or undefined count.

    >>> round(float(macro_f1_from_confusion([[3, 1], [1, 1]])), 4)
    0.625
    """
    counts = _check_confusion(confusion)
    both = counts.sum(axis=-1) + counts.sum(axis=-2)
    return _mean_of_defined(_divide(2 * np.diagonal(counts, axis1=-2, axis2=-1), both))


def weighted_accuracy_score(truth: Iterable[Hashable], prediction: Iterable[Hashable]) -> float:
    """Weighted accuracy (WA) of labels: the share of correct ones; nan if there are none.

    See `weighted_accuracy_from_confusion`.

    >>> weighted_accuracy_score(["joy", "joy", "joy", "anger"], ["joy", "joy", "anger", "joy"])
    0.5
    """
    return float(weighted_accuracy_from_confusion(_confusion_of_labels(truth, prediction)))


def unweighted_accuracy_score(truth: Iterable[Hashable], prediction: Iterable[Hashable]) -> float:
    """Unweighted accuracy (UA) of labels: mean recall of the classes in ``truth``; nan if none.

    See `unweighted_accuracy_from_confusion`.

    >>> unweighted_accuracy_score(["joy", "joy", "joy", "joy", "fear"], ["joy"] * 5)
    0.5
    """
    return float(unweighted_accuracy_from_confusion(_confusion_of_labels(truth, prediction)))


def macro_f1_score(truth: Iterable[Hashable], prediction: Iterable[Hashable]) -> float:
    """Macro-averaged F1 of labels: the mean over the classes that are true or predicted.

    See `macro_f1_from_confusion`.

    >>> round(macro_f1_score(["joy", "joy", "anger"], ["joy", "fear", "anger"]), 4)
    0.5556
    """
    return float(macro_f1_from_confusion(_confusion_of_labels(truth, prediction)))


def majority_class(truth: Iterable[Any]) -> Any:
    """Return the most frequent label; of equally frequent labels, the first in sorted order.

    Raises:
        ValueError: there are no labels.

    >>> majority_class(["joy", "joy", "anger", "anger", "fear"])
    'anger'
    """
    counts = Counter(truth)
    if not counts:
        raise ValueError("need at least one label to find the most frequent one")
    highest = max(counts.values())
    return min(label for label, count in counts.items() if count == highest)


def chance_scores(classes: Sequence[Hashable]) -> tuple[float, float]:
    """Return the expected WA and UA of predictions drawn uniformly from the K classes, both 1/K.

    For each true class, one prediction in K is correct; so is each recall, and so their mean.

    >>> chance_scores(["anger", "joy", "fear", "sadness"])
    (0.25, 0.25)
    """
    share = 1 / len(classes) if classes else float("nan")
    return share, share


def _confusion_of_labels(
    truth: Iterable[Hashable], prediction: Iterable[Hashable]
) -> NDArray[np.int64]:
    truth, prediction = list(truth), list(prediction)
    return confusion_matrix(truth, prediction, list(dict.fromkeys([*truth, *prediction])))


def _check_lengths(truth: int, prediction: int) -> None:
    if truth != prediction:
        raise ValueError(f"truth and prediction differ in length: {truth} != {prediction}")


def _check_confusion(confusion: ArrayLike) -> NDArray[np.float64]:
    counts = np.asarray(confusion, dtype=float)
    if counts.ndim < 2 or counts.shape[-1] != counts.shape[-2]:
        raise ValueError(f"need square confusion matrices (..., K, K); got {counts.shape}")
    if not np.all(counts >= 0):
        raise ValueError("a confusion matrix holds counts; got a negative or undefined one")
    return counts


def _mean_of_defined(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return _divide(np.nansum(scores, axis=-1), np.isfinite(scores).sum(axis=-1))


def _divide(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    part, whole = np.asarray(part, dtype=float), np.asarray(whole, dtype=float)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
