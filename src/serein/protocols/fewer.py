"""Fewer utterances to train on than there are: what would a smaller corpus have given?"""

from collections.abc import Sequence
from dataclasses import replace

from serein.errors import ConfigError
from serein.protocols.settings import SplitConfig
from serein.protocols.sides import systematic_sample
from serein.protocols.subsets import join_cautions
from serein.records import Protocol, Utterance


def subsample(
    utterances: Sequence[Utterance], settings: SplitConfig, source: str
) -> list[Utterance]:
    """As many as ``settings.most`` says, in their order, every class in proportion.

    A smaller number takes some of those that a larger one takes.

    Args:
        utterances: to choose from.
        settings: how many; by which label, and which draw.
        source: whose they are, in words.

    Raises:
        ConfigError: there are fewer.
    """
    if settings.most is None:
        return list(utterances)
    if settings.most > len(utterances):
        raise ConfigError(
            f"protocol.most = {settings.most} asks for more than the {len(utterances)} utterances "
            f"that {source} has; set it lower, or leave it out to train on all"
        )
    chosen = set(systematic_sample(utterances, settings)[: settings.most])
    return [one for one in utterances if one.id in chosen]


def limit_train(
    protocol: Protocol, utterances: Sequence[Utterance], settings: SplitConfig
) -> Protocol:
    """Leave out of every training side what is more than ``settings.most``.

    Raises:
        ConfigError: a fold has fewer to train on.
    """
    if settings.most is None:
        return protocol
    by_id = {one.id: one for one in utterances}
    folds = []
    for fold in protocol.folds:
        members = [by_id[id_] for id_ in fold.train]
        kept = subsample(members, settings, f"the training side of fold {fold.name}")
        folds.append(replace(fold, train=tuple(one.id for one in kept)))
    counts = sorted(len(fold.train) for fold in protocol.folds)
    there = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    words = f"each fold trains on {settings.most} of {there} utterances"
    return replace(protocol, folds=tuple(folds), caution=join_cautions(protocol.caution, words))
