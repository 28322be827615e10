"""Labels that look wrong, by confident learning on the predictions of held-out folds.

Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", Journal
of Artificial Intelligence Research 70, 2021, section 3.1: the threshold of a class is the mean
probability that utterances with this label have of it. An utterance counts as confidently of a
class if its probability reaches the threshold (the most probable of several such classes). A label
looks wrong where that class is another one. The order is by normalised margin (section 3.2): the
probability of the label less that of the other class, lowest first. N = utterances, K = classes.
"""

import io
from collections import Counter

import numpy as np

from serein import audio
from serein.errors import AudioError, ConfigError, UnknownName
from serein.records import Utterance
from serein.results.evaluation import MODEL, Results
from serein.results.studies import Suspect, SuspectList

CLIP_SECONDS = 20.0
"""Longest part of a recording that is encoded to listen to, in seconds."""
CLIP_RATE = 16_000
"""Its sampling rate, in Hz."""


def find_suspects(results: Results, task: str | None = None) -> SuspectList:
    """Find the labels of a run that look wrong, most suspicious first.

    Args:
        results: of an evaluation; every prediction is by a model that was not trained on it.
        task: a classification task; None is the first one.

    Raises:
        ConfigError: the run has no classification task, or scored a model as it is, which may have
            been trained on these labels.
        UnknownName: the run has no such classification task.
    """
    tasks = [name for name, classes in results.classes.items() if classes]
    if not tasks:
        raise ConfigError(f"{results.name} has no classification task; labels need classes")
    task = tasks[0] if task is None else task
    if task not in tasks:
        raise UnknownName("classification task", task, tasks)
    if MODEL in results.selections and not results.recipe.get("model", {}).get("trained"):
        raise ConfigError(
            f"{results.name} scored a model as it is, which may have been trained on these labels; "
            "give an evaluation that trains in folds: serein evaluate RECIPE --corpus ..."
        )
    classes = results.classes[task]
    used = [item for item in results.scored_predictions if item.truth.get(task) in classes]
    used = [item for item in used if task in item.selections.get(results.headline, {})]
    if not used:
        raise ConfigError(f"{results.name} has no labelled predictions of {task}")
    p_nk = np.array([item.selections[results.headline][task] for item in used])
    label_n = np.array([classes.index(str(item.truth[task])) for item in used])
    threshold_k, confident_n = find_confident_classes(p_nk, label_n)
    pairs = Counter(
        (classes[label], classes[confident])
        for label, confident in zip(label_n, confident_n, strict=True)
        if confident >= 0
    )
    suspects = [
        Suspect(
            id=item.id,
            fold=item.fold,
            speaker=item.speaker,
            label=classes[label],
            suggestion=classes[confident],
            label_probability=float(p_k[label]),
            suggestion_probability=float(p_k[confident]),
            votes=dict(zip(classes, item.votes.get(task, ()), strict=False)),
        )
        for item, p_k, label, confident in zip(used, p_nk, label_n, confident_n, strict=True)
        if confident not in (-1, label)
    ]
    return SuspectList(
        run=results.name,
        corpus=str(results.corpus["name"]),
        task=task,
        selection=results.selections[results.headline],
        utterances=len(used),
        thresholds={
            name: float(threshold)
            for name, threshold in zip(classes, threshold_k, strict=True)
            if np.isfinite(threshold)
        },
        confident=dict(pairs),
        suspects=tuple(sorted(suspects, key=lambda one: (one.margin, one.id))),
    )


def find_confident_classes(p_nk: np.ndarray, label_n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the threshold of each class, and the class that each utterance is confidently of.

    Args:
        p_nk: (N, K) probabilities.
        label_n: (N,) index of the label of each utterance.

    Returns:
        (K,) thresholds, infinite for a class without labels; and (N,) indices, -1 for utterances
        below every threshold.
    """
    count = p_nk.shape[1]
    threshold_k = np.full(count, np.inf)
    for index in range(count):
        if (label_n == index).any():
            threshold_k[index] = p_nk[label_n == index, index].mean()
    masked_nk = np.where(p_nk >= threshold_k, p_nk, -1.0)
    confident_n = np.where(masked_nk.max(axis=1) >= 0, masked_nk.argmax(axis=1), -1)
    return threshold_k, confident_n


def encode_clip(utterance: Utterance) -> bytes | str:
    """Return the audio of an utterance as FLAC, or why there is none."""
    import soundfile

    end = utterance.end
    if end is None or end - utterance.start > CLIP_SECONDS:
        end = utterance.start + CLIP_SECONDS
    try:
        wave_s = audio.load(utterance.path, CLIP_RATE, start=utterance.start, end=end)
    except AudioError as error:
        return str(error)
    content = io.BytesIO()
    soundfile.write(content, wave_s, CLIP_RATE, format="FLAC", subtype="PCM_16")
    return content.getvalue()
