"""What a model that starts from another one inherits: its licence, its data, and its limits."""

from collections.abc import Mapping, Sequence

from serein.bundle import Bundle, ConfidenceCalibration


def inherit_texts(texts: Mapping[str, str], initial: Bundle | None) -> dict[str, str]:
    """Add licence and data of the initial model to those of a card; its limits stay its own.

    Args:
        texts: ``licence`` and ``data`` of the trained model.
        initial: the model whose weights the training started from; None inherits nothing.
    """
    if initial is None:
        return dict(texts)
    card = initial.card
    name = card.name or "the initial model"
    inherited = {"licence": card.licence or "not stated", "data": card.data or "not stated"}
    return {
        key: "; ".join(filter(None, [text, f"inherited from {name}: {inherited[key]}"]))
        for key, text in texts.items()
    }


def describe_cost(
    initial: Bundle | None,
    classes: Mapping[str, Sequence[str]],
    class_counts: Mapping[str, Mapping[str, int]],
    speakers: int,
    confidence: Mapping[str, ConfidenceCalibration],
) -> list[str]:
    """Describe what an adapted model lost of the model that it started from.

    Args:
        initial: the model whose weights the training started from; None if there is none.
        classes: of each task of the adapted model.
        class_counts: training utterances of each class or value, by task.
        speakers: number of known speakers of the training.
        confidence: calibration of the adapted model.

    Returns:
        Sentences; empty without an initial model.
    """
    if initial is None:
        return []
    name = initial.card.name or "the initial model"
    before = initial.system.classes
    sentences = []
    dropped = [task for task in before if task not in classes]
    if dropped:
        sentences.append(f"it no longer answers {', '.join(dropped)}, which {name} does")
    for task, names in before.items():
        lost = [one for one in names if one not in classes.get(task, ())]
        if task in classes and lost:
            sentences.append(f"it no longer has {', '.join(lost)} of {task}, which {name} has")
    kept = [task for task in list(classes)[1:] if task in before]
    if kept:
        counts = [f"{task} {sum(class_counts.get(task, {}).values())}" for task in kept]
        sentences.append(
            f"answers of its other tasks may be worse than those of {name}: they were trained "
            f"again on the labels of {speakers} known speakers ({', '.join(counts)} utterances)"
        )
    uncalibrated = [task for task in initial.confidence if task not in confidence]
    if uncalibrated:
        sentences.append(
            f"the calibration of {', '.join(uncalibrated)} by {name} is not kept, as it holds for "
            "its weights only, and confidences may be far too high: evaluate with --init and "
            "train with --run, or give --calibration-run"
        )
    return [f"adapted from {name}: {sentence}" for sentence in sentences]
