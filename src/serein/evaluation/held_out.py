"""Held-out training utterances for tasks whose classes no tested speaker has, such as the speaker.

These tasks are scored on a fraction of the training utterances of each class, whose label of this
task is hidden in training. For the other tasks these utterances train as usual.
"""

from collections.abc import Sequence
from dataclasses import replace

from serein.errors import ConfigError
from serein.evaluation.labels import held_out_shares
from serein.evaluation.plan import Plan
from serein.labels.targets import get_task_label
from serein.protocols.splitters import hash_shuffle
from serein.records import Fold, Utterance
from serein.system import System
from serein.training.dataset import Frames, Subset

Ids = tuple[str, ...]


def held_out_subset_name(task: str) -> str:
    """Return the name of a task's held-out utterances among the evaluation subsets."""
    return f"{task}, held out"


def select_held_out(plan: Plan, fold: Fold) -> dict[str, Ids]:
    """Select the held-out training utterances of each such task, sorted by id.

    Raises:
        ConfigError: no class has two training utterances.
    """
    shares = held_out_shares(plan.recipe)
    train = plan.corpus.select(fold.train) if shares else []
    return {task: _select_of_task(train, task, share, plan) for task, share in shares.items()}


def _select_of_task(train: Sequence[Utterance], task: str, share: float, plan: Plan) -> Ids:
    classes: dict[str, list[str]] = {}
    for utterance in train:
        label = get_task_label(utterance, task, plan.recipe)
        if label is not None:
            classes.setdefault(str(label), []).append(utterance.id)
    held_out = [id_ for ids in classes.values() for id_ in _sample_share(ids, share, plan.seed)]
    if not held_out:
        raise ConfigError(
            f"task {task} is scored on held-out utterances of training speakers, and none of "
            f"{len(classes)} has two; drop the task with --set tasks.{task}=remove"
        )
    return tuple(sorted(held_out))


def _sample_share(ids: Sequence[str], share: float, seed: int) -> list[str]:
    """Sample a share of the ids: at least one of two or more, never all.

    The sample of a smaller share is part of the sample of a larger one.
    """
    count = min(len(ids) - 1, max(1, round(share * len(ids))))
    return hash_shuffle(ids, seed, str)[:count]


def build_subsets(
    plan: Plan, fold: Fold, frames: Frames, system: System
) -> tuple[Subset, dict[str, Subset]]:
    """Build the training subset of a fold and its evaluation subsets, by name.

    Labels of held-out tasks are known only where they may be used.
    """
    train = plan.build_subset(fold.train, frames, system, training=True)
    ids_of = {"validation": fold.validation, "test": fold.test}
    eval_subsets = {
        name: plan.build_subset(ids, frames, system) for name, ids in ids_of.items() if ids
    }
    for task, ids in select_held_out(plan, fold).items():
        train = _hide_labels(train, task, ids, plan, system)
        eval_subsets = {
            name: _hide_labels(subset, task, subset.ids, plan, system)
            for name, subset in eval_subsets.items()
        }
        held_out = plan.build_subset(ids, frames, system)
        for other in system.tasks:
            if other != task:
                held_out = _hide_labels(held_out, other, ids, plan, system)
        eval_subsets[held_out_subset_name(task)] = held_out
    return train, eval_subsets


def _hide_labels(subset: Subset, task: str, ids: Ids, plan: Plan, system: System) -> Subset:
    """Return the subset without a task's labels of some utterances."""
    hidden = set(ids)
    labels = [
        None if utterance.id in hidden else get_task_label(utterance, task, plan.recipe)
        for utterance in plan.corpus.select(subset.ids)
    ]
    return replace(subset, targets={**subset.targets, task: system.tasks[task].targets(labels)})


def describe_held_out(plan: Plan, held_out_tasks: Sequence[str]) -> list[str]:
    """Describe the limits of scores on held-out utterances, a sentence for each task.

    Args:
        plan: the plan.
        held_out_tasks: the task of each held-out prediction.
    """
    return [
        f"{task} is scored on {held_out_tasks.count(task)} held-out utterances of training "
        f"speakers ({share:.0%} of each, summed over folds), because a tested speaker has no "
        f"class. Their {task} label was hidden in training; they trained the other tasks. The head "
        f"has {len(plan.classes[task])} classes, including those that a fold does not train"
        for task, share in held_out_shares(plan.recipe).items()
    ]
