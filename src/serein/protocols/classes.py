"""Classes that a fold's sides have or lack: what cannot be learnt, chosen by or tested."""

from collections.abc import Iterable, Mapping

from serein.protocols.sides import count_noun
from serein.records import Finding, Protocol

Target = Mapping[str, str | None]
"""The class of each id."""

Targets = Mapping[str, Target]
"""The same for each task; the first one leads."""

MAX_EXAMPLES = 5


def check_classes(protocol: Protocol, targets: Targets) -> Finding | None:
    """Look for classes that one side has and another one lacks.

    Where a fold trains none of the classes of the leading task that it tests, no score of it
    means anything: that is an error. Whatever else is lacking is warned of.

    Args:
        protocol: what to check.
        targets: classes of every task.

    Returns:
        Nothing where no utterance has a class.
    """
    if not any(kind for target in targets.values() for kind in target.values()):
        return None
    untrained, untested = _find_untrained_and_untested(protocol, targets)
    hopeless, unchosen = (
        _find_untrainable_folds(protocol, targets),
        _find_unvalidated_classes(protocol, targets),
    )
    told = [f"{fold} {sides}" for fold, sides in hopeless.items()]
    clauses = [
        f"{count_noun(len(names), thing)} {words}: {', '.join(list(names)[:MAX_EXAMPLES])}"
        for names, thing, words in (
            (hopeless, "fold", "whose training side has no class that is tested"),
            (untrained, "time", "a class is tested that its training side lacks"),
            (untested, "time", "a class is trained that no fold tests"),
        )
        if names
    ]
    if unchosen:
        clauses.append(_describe_unvalidated(unchosen))
    return Finding(
        kind="classes",
        verdict="error" if hopeless else "warning" if clauses else "clean",
        count=len(untrained) + len(untested) + sum(map(len, unchosen.values())),
        words="; ".join(clauses) or "every training side has every class that its fold tests",
        examples=tuple([*told, *untrained, *untested, *_list_unvalidated(unchosen)][:MAX_EXAMPLES]),
    )


def find_unvalidated_folds(protocol: Protocol, targets: Targets) -> list[str]:
    """Folds whose validation side has no class of the leading task, where the corpus has any."""
    target = _get_leading_target(targets)
    if not any(target.values()):
        return []
    return [
        fold.name
        for fold in protocol.folds
        if fold.validation and not _get_classes(fold.validation, target)
    ]


def _get_leading_target(targets: Targets) -> Target:
    return next(iter(targets.values()))


def _get_classes(ids: Iterable[str], target: Target) -> set[str]:
    return {kind for id_ in ids if (kind := target.get(id_)) is not None}


def _find_untrained_and_untested(
    protocol: Protocol, targets: Targets
) -> tuple[list[str], list[str]]:
    """Classes that a fold tests and never trained, and classes that no fold tests."""
    untrained, untested = [], []
    for task, target in targets.items():
        trained, tested = set[str](), set[str]()
        for fold in protocol.folds:
            train, test = _get_classes(fold.train, target), _get_classes(fold.test, target)
            trained |= train
            tested |= test
            untrained += [f"{task} {kind} in fold {fold.name}" for kind in sorted(test - train)]
        untested += [f"{task} {kind}" for kind in sorted(trained - tested)]
    return untrained, untested


def _find_untrainable_folds(protocol: Protocol, targets: Targets) -> dict[str, str]:
    """Folds that train none of the leading task's classes, or none of those that they test.

    Returns:
        For each its classes, in words.
    """
    target, found = _get_leading_target(targets), {}
    for fold in protocol.folds if any(target.values()) else ():
        train, test = _get_classes(fold.train, target), _get_classes(fold.test, target)
        if not train or (test and not train & test):
            sides = [", ".join(sorted(kinds)) or "none" for kinds in (train, test)]
            found[f"fold {fold.name}"] = f"trains {sides[0]} and tests {sides[1]}"
    return found


def _find_unvalidated_classes(protocol: Protocol, targets: Targets) -> dict[str, set[str]]:
    """For each fold, classes of the leading task that train and do not help to choose the epoch."""
    target = _get_leading_target(targets)
    found = {}
    for fold in protocol.folds:
        validated = _get_classes(fold.validation, target)
        lacking = _get_classes(fold.train, target) - validated
        if validated and lacking:
            found[fold.name] = lacking
    return found


def _describe_unvalidated(unvalidated: Mapping[str, set[str]]) -> str:
    counts = [f"{_count_classes(len(kinds))} in fold {name}" for name, kinds in unvalidated.items()]
    more = (
        f" and in {count_noun(len(counts) - MAX_EXAMPLES, 'more fold')}"
        if len(counts) > MAX_EXAMPLES
        else ""
    )
    listed = ", ".join(counts[:MAX_EXAMPLES])
    return f"validation lacks {listed}{more}: the epoch is chosen by the others"


def _count_classes(count: int) -> str:
    return "1 class" if count == 1 else f"{count} classes"


def _list_unvalidated(unvalidated: Mapping[str, set[str]]) -> list[str]:
    return [
        f"{kind} not validated in fold {name}"
        for name, kinds in unvalidated.items()
        for kind in sorted(kinds)
    ]
