"""The labels of a corpus as classes or values of a recipe's tasks."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from serein import labels, registry
from serein.errors import ConfigError, UnknownName
from serein.labels.dimensions import DIMENSIONS
from serein.records import ATTRIBUTES, Label, Recipe, Utterance

OLD_CLASSIFICATION_NAMES = ("emotion", "gender")
"""Values of ``name`` in recipes of saved models that are now the task "classification"."""


def get_raw_label(utterance: Utterance, task: str, recipe: Recipe) -> str | None:
    """Return the label of an utterance as the corpus has it."""
    return get_raw_labels([utterance], task, recipe)[0]


def get_raw_labels(utterances: Sequence[Utterance], task: str, recipe: Recipe) -> list[str | None]:
    """Return the label of each utterance as the corpus has it; None if it has none."""
    name = get_label_name(task, recipe)
    values = [utterance.label(name) for utterance in utterances]
    return [None if value is None else str(value) for value in values]


def get_label_name(task: str, recipe: Recipe) -> str:
    """Return the name of the corpus's label that a task predicts."""
    return str(recipe.tasks[task].get("label") or task.rpartition(".")[2])


def get_task_label(utterance: Utterance, task: str, recipe: Recipe) -> Label | None:
    """Return the class or value of one utterance, as ``get_task_labels`` does."""
    return get_task_labels([utterance], task, recipe)[0]


def get_task_labels(
    utterances: Sequence[Utterance], task: str, recipe: Recipe
) -> list[Label | None]:
    """Return the class of each utterance by the task's scheme, or its value; None without label.

    Raises:
        UnknownName: there is no such scheme.
        ConfigError: the scheme needs ratings, and the label is not one.
    """
    raw_labels = get_raw_labels(utterances, task, recipe)
    mapped: dict[str | None, Label | None] = {None: None}
    for raw, utterance in zip(raw_labels, utterances, strict=True):
        if raw not in mapped:
            mapped[raw] = _map_label(str(raw), utterance.id, task, recipe)
    return [mapped[raw] for raw in raw_labels]


def _map_label(raw: str, id_: str, task: str, recipe: Recipe) -> Label | None:
    scheme = get_scheme(task, recipe)
    try:
        label = labels.map_to_class(raw, scheme, recipe.tasks[task].get("map")) or None
    except UnknownName:
        raise
    except ConfigError as error:
        raise ConfigError(f"utterance {id_}, task {task}: {error}") from None
    return float(label) if label and scheme == labels.VALUES_SCHEME else label


def is_regression(task: str, recipe: Recipe) -> bool:
    """Return whether a task predicts a value, and not a class."""
    return get_scheme(task, recipe) == labels.VALUES_SCHEME


def is_scorable(classes: Sequence[str], label: str | float | None) -> bool:
    """Return whether a task can be scored by a label; ``classes`` are empty for values."""
    return label in classes if classes else label is not None


def get_scheme(task: str, recipe: Recipe) -> str:
    """Return the label scheme of a task: the recipe's, or the default of the task's module."""
    table = recipe.tasks[task]
    return str(table.get("scheme") or _get_default_scheme(get_task_module(task, table)))


@cache
def _get_default_scheme(module: str) -> str:
    task_config = getattr(registry.load_module("tasks", module), "Config", None)
    return str(getattr(task_config, "scheme", "own"))


def get_task_module(task: str, table: Mapping[str, Any]) -> str:
    """Return the name of a task's module: the setting ``name``, or the task's name if it is one.

    Without either, the task is a classification of the label that the task is named after.

    Args:
        task: name of the task in the recipe.
        table: its settings.

    Raises:
        ConfigError: an emotion dimension without ``name``: its ratings are no classes.
    """
    if "name" in table:
        name = str(table["name"])
        return "classification" if name in OLD_CLASSIFICATION_NAMES else name
    if "." in task or task in registry.list_names("tasks"):
        return task
    if task in DIMENSIONS:
        raise ConfigError(
            f'task {task} needs name = "dimensions", which predicts levels or values; or '
            'name = "classification" if the labels of the corpus are classes'
        )
    return "classification"


def find_classes(utterances: Sequence[Utterance], recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """Return the classes of each task that occur in a corpus, sorted; empty for values.

    Raises:
        UnknownName: the corpus has no label of a task's name.
        ConfigError: the corpus has fewer than two classes or values of a task.
    """
    classes = {}
    for task in recipe.tasks:
        present = tuple(sorted(map(str, {*get_task_labels(utterances, task, recipe)} - {None})))
        is_value = is_regression(task, recipe)
        if len(present) < 2:
            _check_label_name(utterances, task, recipe)
            kind = "values" if is_value else "classes"
            found = f"{list(present)}" if present else "none"
            raise ConfigError(
                f"task {task} needs two {kind} or more; these {len(utterances)} utterances have "
                f"{found}. Their labels are {_list_labels(utterances)}: choose one with "
                f"--set tasks.{task}.label=..., or drop the task with --set tasks.{task}=remove"
            )
        classes[task] = () if is_value else present
    return classes


def _check_label_name(utterances: Sequence[Utterance], task: str, recipe: Recipe) -> None:
    """Raise UnknownName if a task is named after a label that the corpus does not have."""
    table, present = recipe.tasks[task], _list_labels(utterances)
    is_default = get_task_module(task, table) == "classification" and "name" not in table
    if is_default and "label" not in table and task not in (*present, *ATTRIBUTES):
        hint = (
            f"Tasks with a module of their own are {', '.join(registry.list_names('tasks'))}. "
            f"Choose a label with --set tasks.{task}.label=..., or drop the task with "
            f"--set tasks.{task}=remove."
        )
        raise UnknownName("task or label", task, present, hint)


def _list_labels(utterances: Sequence[Utterance]) -> list[str]:
    return sorted({name for utterance in utterances for name in utterance.labels})
