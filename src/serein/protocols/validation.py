"""Validation subsets with every class: speakers are added where one lacks a class."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from serein.protocols.settings import SplitConfig
from serein.protocols.splitters import count_noun, get_value, group_by
from serein.records import Fold, Protocol, Utterance

Classes = Mapping[str, str | None]
"""Class of each utterance id; None without one."""
UNITS = {
    **dict.fromkeys(
        ("leave-one-speaker-out", "speaker-k-fold", "leave-one-corpus-out", "by-label", "parts"),
        "speaker",
    ),
    "leave-one-session-out": "session",
}
"""What validates, by protocol; the others have validation subsets of their own."""


def complete_validation(
    protocol: Protocol,
    utterances: Sequence[Utterance],
    settings: SplitConfig,
    classes: Classes | None = None,
) -> Protocol:
    """Move training speakers to validation subsets that lack a class, until they have all.

    The epoch would be chosen on the other classes alone. A speaker is moved only if the training
    subset keeps every class; what cannot be completed stays as it is. So does a validation subset
    without any label: `serein.protocols.leakage` refuses it.

    Args:
        protocol: a split of these utterances, with validation subsets of whole speakers.
        utterances: of the protocol.
        settings: of the split.
        classes: of the first task; None takes the label ``settings.stratify``.
    """
    unit = UNITS.get(settings.name)
    if not settings.complete_validation or not isinstance(settings.validation, int) or not unit:
        return protocol
    if not any(fold.validation for fold in protocol.folds):
        return protocol
    if classes is None:
        classes = {u.id: get_value(u, settings.stratify) for u in utterances}
    if any(get_value(utterance, unit) is None for utterance in utterances):
        return protocol
    members = {
        name: tuple(utterance.id for utterance in group)
        for name, group in group_by(utterances, unit).items()
    }
    folds = tuple(_complete_fold(fold, members, classes) for fold in protocol.folds)
    changed = [f.name for f, old in zip(folds, protocol.folds, strict=True) if f != old]
    if not changed:
        return protocol
    what = count_noun(len(changed), "fold")
    added = f"{what} with more, so that every class is validated: {', '.join(changed[:3])}"
    more = f" and {len(changed) - 3} more" * (len(changed) > 3)
    return replace(protocol, folds=folds, validation=f"{protocol.validation}; {added}{more}")


def _complete_fold(fold: Fold, members: Mapping[str, Sequence[str]], classes: Classes) -> Fold:
    """Move speakers in circular order from the last validation speaker on."""
    train, validation = set(fold.train), set(fold.validation)
    trained, validated = (_count_classes(ids, classes) for ids in (train, validation))
    if not validated:
        return fold
    names = list(members)
    validating = [n for n, name in enumerate(names) if validation.intersection(members[name])]
    if not validating:
        return fold
    start = validating[-1] + 1
    for name in names[start:] + names[:start]:
        missing = trained.keys() - validated.keys()
        if not missing:
            break
        moved = train.intersection(members[name])
        counts = _count_classes(moved, classes)
        keeps_all = all(trained[kind] > count for kind, count in counts.items())
        if missing & counts.keys() and len(moved) < len(train) and keeps_all:
            train, validation = train - moved, validation | moved
            trained, validated = trained - counts, validated + counts
    if len(train) == len(fold.train):
        return fold
    added = tuple(sorted(validation.difference(fold.validation)))
    return replace(
        fold,
        train=tuple(id_ for id_ in fold.train if id_ in train),
        validation=(*fold.validation, *added),
    )


def _count_classes(ids: Iterable[str], classes: Classes) -> Counter[str]:
    return Counter(kind for id_ in ids if (kind := classes.get(id_)) is not None)
