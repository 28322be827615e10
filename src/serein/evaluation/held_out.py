"""Tasks whose classes no tested speaker can have, such as who talks.

They are scored on a share of each class's training utterances, whose label is hidden from the
training. For other tasks these utterances train like any others; the test side stays as it is.
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
    """What the held-out utterances of a task are called among the watched sides."""
    return f"{task}, held out"


def select_held_out(plan: Plan, fold: Fold) -> dict[str, Ids]:
    """For each such task, the training utterances whose label is hidden, in order of ids.

    Raises:
        ConfigError: no class has two utterances to train on.
    """
    wanted = held_out_shares(plan.recipe)
    train = plan.corpus.select(fold.train) if wanted else []
    return {task: _select_of_task(train, task, share, plan) for task, share in wanted.items()}


def _select_of_task(train: Sequence[Utterance], task: str, share: float, plan: Plan) -> Ids:
    classes: dict[str, list[str]] = {}
    for one in train:
        label = get_task_label(one, task, plan.recipe)
        if label is not None:
            classes.setdefault(str(label), []).append(one.id)
    held = [id_ for ids in classes.values() for id_ in _sample_share(ids, share, plan.seed)]
    if not held:
        raise ConfigError(
            f"task {task} is scored on held-out utterances of training speakers, and none of "
            f"{len(classes)} has two; drop the task with --set tasks.{task}=remove"
        )
    return tuple(sorted(held))


def _sample_share(ids: Sequence[str], share: float, seed: int) -> list[str]:
    """At least one where two are there, never all; those of a smaller share first."""
    count = min(len(ids) - 1, max(1, round(share * len(ids))))
    return hash_shuffle(ids, seed, str)[:count]


def build_subsets(
    plan: Plan, fold: Fold, frames: Frames, system: System
) -> tuple[Subset, dict[str, Subset]]:
    """The training side of a fold and all that is watched, every label where it may be seen."""
    train = plan.build_subset(fold.train, frames, system, training=True)
    named = {"validation": fold.validation, "test": fold.test}
    watched = {name: plan.build_subset(ids, frames, system) for name, ids in named.items() if ids}
    for task, ids in select_held_out(plan, fold).items():
        train = _hide_labels(train, task, ids, plan, system)
        watched = {
            name: _hide_labels(one, task, one.ids, plan, system) for name, one in watched.items()
        }
        own = plan.build_subset(ids, frames, system)
        for other in system.tasks:
            own = own if other == task else _hide_labels(own, other, ids, plan, system)
        watched[held_out_subset_name(task)] = own
    return train, watched


def _hide_labels(subset: Subset, task: str, ids: Ids, plan: Plan, system: System) -> Subset:
    """A side where a task's labels of these utterances are not known."""
    gone = set(ids)
    labels = [
        None if one.id in gone else get_task_label(one, task, plan.recipe)
        for one in plan.corpus.select(subset.ids)
    ]
    return replace(subset, targets={**subset.targets, task: system.tasks[task].targets(labels)})


def describe_held_out(plan: Plan, held: Sequence[str]) -> list[str]:
    """What a reader must know of such scores, in words.

    Args:
        plan: the plan.
        held: for each held-out prediction, its task.
    """
    return [
        f"{task} is scored on {held.count(task)} held-out utterances of training speakers "
        f"({share:.0%} of each, summed over folds), whose {task} was hidden in training and which "
        f"trained the other tasks: a tested speaker has no class. Its head has "
        f"{len(plan.classes[task])} classes, those that a fold does not train among them"
        for task, share in held_out_shares(plan.recipe).items()
    ]
