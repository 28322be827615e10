"""Random folds. The same speakers train and are tested: such scores flatter every system."""

from collections.abc import Sequence
from dataclasses import replace

from serein.errors import ProtocolError
from serein.protocols.settings import SplitConfig
from serein.protocols.sides import (
    Groups,
    build_rotating_folds,
    get_scoped_value,
    hash_shuffle,
    number_folds,
)
from serein.records import Protocol, Utterance

SPEAKER_DEPENDENT_CAUTION = (
    "speaker-dependent: the same speakers are on both sides; such scores say nothing about new "
    "speakers"
)


def random_folds(utterances: Sequence[Utterance], settings: SplitConfig) -> Protocol:
    """Random folds with the corpus's share of every class; the folds that follow validate.

    So are the folds of Feng et al. 2020, section 5.4 and Table 5: "chosen randomly from the whole
    of the database in accordance with the mean proportion of each emotion category".
    """
    if len(utterances) < settings.folds:
        raise ProtocolError(
            f"{settings.folds} folds need as many utterances; found {len(utterances)}. "
            "Set protocol.folds lower."
        )
    mixed = hash_shuffle(utterances, settings.seed, lambda one: one.id)
    dealt = sorted(mixed, key=lambda one: get_scoped_value(one, settings.stratify) or "")
    names = number_folds(settings.folds)
    groups: Groups = {name: [] for name in names}
    for place, one in enumerate(dealt):
        groups[names[place % len(names)]].append(one)
    ordered = {name: sorted(group, key=lambda one: one.id) for name, group in groups.items()}
    return replace(
        build_rotating_folds(ordered, names, settings, "fold"), caution=SPEAKER_DEPENDENT_CAUTION
    )
