"""Tasks whose classes no tested speaker can have, such as who talks.

They are scored on a share of each class's training utterances, whose label is hidden from the
training. For other tasks these utterances train like any others; the test side stays as it is.
"""

from collections.abc import Sequence
from dataclasses import replace

from serein.dataset import Frames, Side
from serein.errors import ConfigError
from serein.experiment.labelling import held_out_shares
from serein.experiment.plan import Plan
from serein.protocols.sides import shuffled
from serein.records import Fold, Utterance
from serein.system import System
from serein.truth import label_of

Ids = tuple[str, ...]


def side_of(task: str) -> str:
    """What the held-out utterances of a task are called among the watched sides."""
    return f"{task}, held out"


def hidden(plan: Plan, fold: Fold) -> dict[str, Ids]:
    """For each such task, the training utterances whose label is hidden, in order of ids.

    Raises:
        ConfigError: no class has two utterances to train on.
    """
    wanted = held_out_shares(plan.recipe)
    train = plan.corpus.of(fold.train) if wanted else []
    return {task: _held_out(train, task, share, plan) for task, share in wanted.items()}


def _held_out(train: Sequence[Utterance], task: str, share: float, plan: Plan) -> Ids:
    classes: dict[str, list[str]] = {}
    for one in train:
        label = label_of(one, task, plan.recipe)
        if label is not None:
            classes.setdefault(str(label), []).append(one.id)
    held = [id_ for ids in classes.values() for id_ in _first(ids, share, plan.seed)]
    if not held:
        raise ConfigError(
            f"task {task} is scored on held-out utterances of training speakers, and none of "
            f"{len(classes)} has two; drop the task with --set tasks.{task}=remove"
        )
    return tuple(sorted(held))


def _first(ids: Sequence[str], share: float, seed: int) -> list[str]:
    """At least one where two are there, never all; those of a smaller share first."""
    count = min(len(ids) - 1, max(1, round(share * len(ids))))
    return shuffled(ids, seed, str)[:count]


def sides(plan: Plan, fold: Fold, frames: Frames, system: System) -> tuple[Side, dict[str, Side]]:
    """The training side of a fold and all that is watched, every label where it may be seen."""
    train = plan.side(fold.train, frames, system, training=True)
    named = {"validation": fold.validation, "test": fold.test}
    watched = {name: plan.side(ids, frames, system) for name, ids in named.items() if ids}
    for task, ids in hidden(plan, fold).items():
        train = _without(train, task, ids, plan, system)
        watched = {
            name: _without(one, task, one.ids, plan, system) for name, one in watched.items()
        }
        own = plan.side(ids, frames, system)
        for other in system.tasks:
            own = own if other == task else _without(own, other, ids, plan, system)
        watched[side_of(task)] = own
    return train, watched


def _without(side: Side, task: str, ids: Ids, plan: Plan, system: System) -> Side:
    """A side where a task's labels of these utterances are not known."""
    gone = set(ids)
    labels = [
        None if one.id in gone else label_of(one, task, plan.recipe)
        for one in plan.corpus.of(side.ids)
    ]
    return replace(side, targets={**side.targets, task: system.tasks[task].targets(labels)})


def told(plan: Plan, held: Sequence[str]) -> list[str]:
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
