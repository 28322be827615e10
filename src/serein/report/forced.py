"""Answers of a saved model that a corpus cannot have, forced choices, and mapped labels."""

from collections import Counter
from collections.abc import Iterator

from serein.labels import harmonize_emotion
from serein.metrics.scoring import UA
from serein.report import summary
from serein.report.summary import format_percent
from serein.results.evaluation import FORCED, MODEL, Results


def describe_answers(results: Results) -> list[str]:
    """Return sentences on answers outside a class set, forced choices, mapping and single classes.

    Empty for results that are not of a saved model.
    """
    if MODEL not in results.selections:
        return []
    return [
        *(_describe_single_class(results, task) for task in _list_single_class_tasks(results)),
        *(
            sentence
            for task in results.class_set
            for sentence in (_describe_outside(results, task), _describe_forced(results, task))
            if sentence
        ),
        *_describe_mapping(results),
    ]


def _list_single_class_tasks(results: Results) -> Iterator[str]:
    for task in summary.list_classification_tasks(results):
        confusion = results.scores[results.headline][task].confusion
        if sum(any(row) for row in confusion) == 1:
            yield task


def _describe_single_class(results: Results, task: str) -> str:
    scores = results.scores[results.headline][task]
    (name,) = (name for name, recall in scores.recalls.items() if recall is not None)
    recall = format_percent(scores.recalls[name])
    return (
        f"{task}: no score, since {name} is the class of all {scores.utterances} labels, and a "
        f"constant answer would be right. {recall} % were recognised."
    )


def count_outside_answers(results: Results, task: str) -> Counter[str]:
    """Count the model's own answers of each class that is not in the class set of a task."""
    classes, inside = results.classes[task], results.class_set[task]
    labelled = [item for item in results.predictions if item.truth.get(task) is not None]
    answers = Counter(str(item.predicted_label(MODEL, task, classes)) for item in labelled)
    return Counter({name: count for name, count in answers.items() if name not in inside})


def _describe_outside(results: Results, task: str) -> str:
    outside = count_outside_answers(results, task)
    labelled = sum(item.truth.get(task) is not None for item in results.predictions)
    others = [name for name in results.classes[task] if name not in results.class_set[task]]
    kind = "outside the class set" if results.headline == FORCED else "that the corpus lacks"
    if not outside:
        return f"{task}: no answer of the model is a class {kind} ({', '.join(others)})."
    name, count = outside.most_common(1)[0]
    shares = format_percent(outside.total() / labelled), format_percent(count / labelled)
    return f"{task}: {shares[0]} % of the model's answers are classes {kind}; {name} {shares[1]} %."


def _describe_forced(results: Results, task: str) -> str:
    """Describe the selection that is not quoted, and the recalls of the forced choice."""
    if results.scores[FORCED][task].ua is None:
        return ""
    is_quoted = results.headline == FORCED
    other = results.scores[MODEL if is_quoted else FORCED][task]
    score = summary.format_score_with_interval(other.ua, other.ua_interval, UA)
    listing = ", ".join(results.class_set[task])
    recalls = _format_recalls(results, FORCED, task)
    if is_quoted:
        return (
            f"{task}: the quoted score is a forced choice among {listing}; recalls {recalls}. "
            f"Among all classes of the model: UA {score}."
        )
    return f"{task}: UA {score} as a forced choice among {listing}; recalls {recalls}."


def _format_recalls(results: Results, selection: str, task: str) -> str:
    recalls = results.scores[selection][task].recalls.items()
    return ", ".join(
        f"{name} {format_percent(recall)} %" for name, recall in recalls if recall is not None
    )


def _describe_mapping(results: Results) -> Iterator[str]:
    """Describe labels of a corpus that are mapped to other classes; synonyms are left out."""
    for task, mapping in results.mapping.items():
        if not results.classes[task] or task not in results.scores[results.headline]:
            continue
        renamed = [
            f"{label} ({count}) as {name}"
            for name, labels in mapping.mapped.items()
            for label, count in labels.items()
            if label != name and harmonize_emotion(label) != name
        ]
        if renamed:
            recalls = _format_recalls(results, results.headline, task)
            yield (
                f"{task}: labels of the corpus are counted as other classes: "
                f"{', '.join(renamed)}; recalls {recalls}."
            )
