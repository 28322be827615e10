"""What a corpus says of its utterances, as the tasks of a recipe want to hear it."""

from collections.abc import Sequence
from functools import cache

from serein import labels, registry
from serein.errors import ConfigError, UnknownName
from serein.records import Label, Recipe, Utterance


def get_raw_label(utterance: Utterance, task: str, recipe: Recipe) -> str | None:
    """What the corpus says of an utterance, by the name that the recipe gives the task's label."""
    return get_raw_labels([utterance], task, recipe)[0]


def get_raw_labels(utterances: Sequence[Utterance], task: str, recipe: Recipe) -> list[str | None]:
    """What the corpus says of each utterance."""
    name = recipe.tasks[task].get("label") or task.rpartition(".")[2]
    values = [utterance.label(name) for utterance in utterances]
    return [None if value is None else str(value) for value in values]


def get_task_label(utterance: Utterance, task: str, recipe: Recipe) -> Label | None:
    """As ``labels_of``, of one utterance."""
    return get_task_labels([utterance], task, recipe)[0]


def get_task_labels(
    utterances: Sequence[Utterance], task: str, recipe: Recipe
) -> list[Label | None]:
    """The class of each utterance by the recipe's scheme, or its value; None where there is none.

    Raises:
        UnknownName: there is no such scheme.
        ConfigError: the scheme is of ratings, and the corpus's word is none.
    """
    words = get_raw_labels(utterances, task, recipe)
    found: dict[str | None, Label | None] = {None: None}
    for word, one in zip(words, utterances, strict=True):
        if word not in found:
            found[word] = _map_label(str(word), one.id, task, recipe)
    return [found[word] for word in words]


def _map_label(word: str, id_: str, task: str, recipe: Recipe) -> Label | None:
    scheme = get_scheme(task, recipe)
    try:
        label = labels.map_to_class(word, scheme, recipe.tasks[task].get("map")) or None
    except UnknownName:
        raise
    except ConfigError as error:
        raise ConfigError(f"utterance {id_}, task {task}: {error}") from None
    return float(label) if label and scheme == labels.VALUES_SCHEME else label


def is_regression(task: str, recipe: Recipe) -> bool:
    """Whether a task's answer is a number, and no class."""
    return get_scheme(task, recipe) == labels.VALUES_SCHEME


def is_scorable(classes: Sequence[str], label: str | float | None) -> bool:
    """Whether a label is one that a task of these classes can be scored by."""
    return label in classes if classes else label is not None


def get_scheme(task: str, recipe: Recipe) -> str:
    """The set of classes of a task: as the recipe says, or else as the task does."""
    table = recipe.tasks[task]
    return str(table.get("scheme") or _get_default_scheme(str(table.get("name", task))))


@cache
def _get_default_scheme(task: str) -> str:
    return str(
        getattr(getattr(registry.load_module("tasks", task), "Config", None), "scheme", "own")
    )


def find_classes(utterances: Sequence[Utterance], recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """The classes that a corpus holds for each task, sorted; none for a task of numbers.

    Raises:
        ConfigError: a task has fewer than two classes or numbers there.
    """
    found = {}
    for task in recipe.tasks:
        found[task] = tuple(sorted(map(str, {*get_task_labels(utterances, task, recipe)} - {None})))
        kind = "values" if is_regression(task, recipe) else "classes"
        if len(found[task]) < 2:
            others = sorted({name for u in utterances for name in u.labels})
            raise ConfigError(
                f"task {task} needs two {kind} or more; these {len(utterances)} utterances hold "
                f"{list(found[task])}. Their labels are {others}: name one with "
                f"--set tasks.{task}.label=..., or drop the task with --set tasks.{task}=remove"
            )
        if kind == "values":
            found[task] = ()
    return found
