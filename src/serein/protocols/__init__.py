"""Evaluation protocols: splits of a corpus into folds, and the check that no split leaks.

A protocol holds folds of utterance ids. Splits are speaker-independent, unless their name says
otherwise. ``split`` builds a protocol, ``find_leaks`` checks it, ``save`` and ``load`` store it.
"""

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

from serein.errors import ConfigError, ProtocolError, UnknownName
from serein.protocols import predefined, splitters
from serein.protocols.duplicates import SILENCE, hash_audio, hash_audio_excerpts
from serein.protocols.fingerprints import (
    CopyPair,
    count_card,
    find_copies,
    fingerprint_audio,
    match_card,
    merge_cards,
    pack_card,
)
from serein.protocols.leakage import add_cautions, find_leaks, raise_on_leaks
from serein.protocols.predefined import SUFFIXES, find_parts, load, save
from serein.protocols.settings import SplitConfig, parse_values
from serein.protocols.speaker_ids import match_lookalikes
from serein.protocols.splitters import count_noun, get_subsets, get_value, remove_ids
from serein.protocols.subsets import (
    add_auxiliary,
    drop_long,
    filter_values,
    join_cautions,
    limit_folds,
    limit_train,
    make_disjoint,
    select_training_utterances,
    split_main,
    subsample,
)
from serein.protocols.validation import complete_validation
from serein.records import Fold, Protocol, Utterance

__all__ = [
    "PROTOCOLS",
    "SILENCE",
    "CopyPair",
    "ProtocolKind",
    "SplitConfig",
    "add_cautions",
    "check_protocol",
    "count_card",
    "count_noun",
    "describe_protocols",
    "drop_long",
    "filter_values",
    "find_copies",
    "find_leaks",
    "find_parts",
    "fingerprint_audio",
    "get_predefined_label",
    "get_value",
    "hash_audio",
    "hash_audio_excerpts",
    "is_predefined",
    "join_cautions",
    "load",
    "match_card",
    "match_lookalikes",
    "merge_cards",
    "pack_card",
    "parse_values",
    "raise_on_leaks",
    "save",
    "select_training_utterances",
    "split",
    "subsample",
]


@dataclass(frozen=True)
class ProtocolKind:
    """A way to split.

    Attributes:
        description: one line.
        split: function that builds the protocol.
        settings: settings beyond those of all protocols.
    """

    description: str
    split: Callable[[Sequence[Utterance], SplitConfig], Protocol]
    settings: tuple[str, ...] = ()


COMMON_SETTINGS = (
    *(
        "name",
        "validation",
        "complete_validation",
        "only",
        "max_duration",
        "disjoint",
        "disjoint_groups",
    ),
    *("unlabelled", "train_size", "max_folds", "allow"),
)
AUXILIARY_SETTINGS = ("main", "auxiliary_share", "auxiliary_ratio")
FOLD_SETTINGS = ("folds", "seed", "stratify")
WITHOUT_AUXILIARY = ("leave-one-corpus-out",)
"""Protocols that take no auxiliary corpora."""
PROTOCOLS = {
    "leave-one-speaker-out": ProtocolKind("one fold a speaker", splitters.leave_one_speaker_out),
    "leave-one-session-out": ProtocolKind("one fold a session", splitters.leave_one_session_out),
    "leave-one-corpus-out": ProtocolKind("one fold a corpus", splitters.leave_one_corpus_out),
    "speaker-k-fold": ProtocolKind(
        "groups of speakers, balanced in gender and classes",
        splitters.speaker_k_fold,
        FOLD_SETTINGS,
    ),
    "zhang-text": ProtocolKind(
        "IEMOCAP sessions 1-3 / 4 / 5, as in the text of Zhang 2019", predefined.split_sessions
    ),
    "zhang-sizes": ProtocolKind(
        "IEMOCAP sessions 3-5 / 2 / 1, by the sizes of Zhang 2019", predefined.split_sessions
    ),
    "parts": ProtocolKind(
        "the corpus's own train, dev and test parts", predefined.split_parts, ("train", "test")
    ),
    "by-label": ProtocolKind(
        "subsets by the values of an attribute or label",
        predefined.split_by_label,
        ("by", "train", "test"),
    ),
    "random": ProtocolKind(
        "random folds; speaker-dependent", splitters.random_folds, FOLD_SETTINGS
    ),
    "speaker-dependent": ProtocolKind(
        "random folds, as in Table 5 of Feng 2020", splitters.random_folds, FOLD_SETTINGS
    ),
}


PREDEFINED_LABELS = {"zhang-text": "session", "zhang-sizes": "session", "parts": "part"}
"""The label that defines the subsets of a predefined protocol; ``by-label`` names one."""


def is_predefined(settings: SplitConfig) -> bool:
    """Return whether a protocol names its training subset, rather than dividing a corpus.

    >>> is_predefined(SplitConfig(name="parts")), is_predefined(SplitConfig(name="random"))
    (True, False)
    """
    is_saved = settings.name.lower().endswith(SUFFIXES)
    return is_saved or settings.name in (*PREDEFINED_LABELS, "by-label")


def get_predefined_label(settings: SplitConfig) -> str:
    """Return the label that defines the subsets; empty for a saved protocol."""
    return PREDEFINED_LABELS.get(settings.name, settings.by)


def describe_protocols() -> dict[str, str]:
    """Return a line of description for every protocol."""
    return {name: kind.description for name, kind in PROTOCOLS.items()}


def split(
    utterances: Sequence[Utterance],
    settings: SplitConfig,
    excluded_ids: Container[str] = (),
    classes: Mapping[str, str | None] | None = None,
) -> Protocol:
    """Split a corpus.

    Args:
        utterances: of one or more corpora.
        settings: of the split.
        excluded_ids: ids of this corpus that were left out before, such as utterances without a
            class; a saved protocol may contain them.
        classes: class of each id, all of which validation subsets should have; None takes the
            label ``settings.stratify``.

    Raises:
        UnknownName: the protocol is unknown.
        ConfigError: the protocol does not have a setting.
        ProtocolError: these utterances cannot be split by this protocol.
    """
    kept, filtered = filter_values(utterances, settings.only)
    kept, dropped = drop_long(kept, settings.max_duration)
    if settings.name.lower().endswith(SUFFIXES):
        kind = ProtocolKind("a saved protocol", partial(_load_saved, excluded_ids=excluded_ids))
    elif settings.name in PROTOCOLS:
        kind = PROTOCOLS[settings.name]
    else:
        hint = f"The file of a saved one ends in {' or '.join(SUFFIXES)}."
        raise UnknownName("protocol", settings.name, PROTOCOLS, hint)
    _check_settings(settings, kind)
    main, others = split_main(kept, settings)
    make_subsets_disjoint = partial(
        make_disjoint, utterances=kept, names=parse_values(settings.disjoint)
    )
    protocol = complete_validation(kind.split(main, settings), main, settings, classes)
    if settings.train_size is None:
        protocol = add_auxiliary(protocol, others, settings)
        protocol = make_subsets_disjoint(protocol, groups=settings.disjoint_groups)
    else:
        protocol = make_subsets_disjoint(protocol, groups=settings.disjoint_groups)
        protocol = limit_train(protocol, main, settings)
        protocol = add_auxiliary(protocol, others, settings)
        protocol = make_subsets_disjoint(protocol) if others else protocol
    protocol = limit_folds(protocol, settings)
    protocol = replace(protocol, caution=join_cautions(protocol.caution, filtered, dropped))
    check_protocol(protocol)
    return protocol


def _check_settings(settings: SplitConfig, kind: ProtocolKind) -> None:
    """Check that no setting is set that has no effect."""
    if settings.disjoint_groups > 1 and not settings.disjoint:
        raise ConfigError(
            f"protocol.disjoint_groups = {settings.disjoint_groups} needs protocol.disjoint, which "
            "is empty; set it to an attribute or label, such as sentence"
        )
    changed = _list_changed(settings)
    _check_auxiliary(settings, changed)
    takes_no_auxiliary = settings.name in WITHOUT_AUXILIARY or settings.name.lower().endswith(
        SUFFIXES
    )
    uses_seed = settings.main or settings.train_size is not None
    known = {
        *COMMON_SETTINGS,
        *kind.settings,
        *(() if takes_no_auxiliary else AUXILIARY_SETTINGS),
        *(FOLD_SETTINGS[1:] if uses_seed else ()),
    }
    for name in changed:
        if name not in known:
            raise ConfigError(
                f"protocol.{name} = {getattr(settings, name)!r}; {settings.name} has no such "
                f"setting. It has {', '.join(sorted(known))}"
            )


def _list_changed(settings: SplitConfig) -> list[str]:
    default = SplitConfig()
    names = [field.name for field in fields(SplitConfig)]
    return [name for name in names if getattr(settings, name) != getattr(default, name)]


def _check_auxiliary(settings: SplitConfig, changed: Sequence[str]) -> None:
    """Check that auxiliary corpora have a main corpus, and one amount."""
    amounts = [name for name in AUXILIARY_SETTINGS[1:] if name in changed]
    if amounts and not settings.main:
        raise ConfigError(
            f"protocol.{amounts[0]} needs protocol.main, which is empty; set it to the corpus that "
            "is split"
        )
    if len(amounts) == 2:
        raise ConfigError(
            "protocol.auxiliary_share and protocol.auxiliary_ratio are both set; set one of them"
        )


def _load_saved(
    utterances: Sequence[Utterance], settings: SplitConfig, excluded_ids: Container[str]
) -> Protocol:
    """Load a protocol from a file and match it with the corpus that it was made of."""
    if settings.validation != 1:
        raise ConfigError(
            f"protocol.validation = {settings.validation!r}; {settings.name} defines its "
            "validation subsets: leave protocol.validation out"
        )
    protocol = load(Path(settings.name).expanduser())
    present = {utterance.id for utterance in utterances}
    saved = {id_ for fold in protocol.folds for ids in get_subsets(fold).values() for id_ in ids}
    excluded = {id_ for id_ in saved - present if id_ in excluded_ids}
    unknown, unassigned = sorted(saved - present - excluded), present - saved
    if unknown:
        raise ProtocolError(
            f"{settings.name} has {len(saved)} utterances, and {len(unknown)} of them are not "
            f"among the {len(present)} of this corpus, such as {', '.join(unknown[:3])}. Give the "
            "corpus that it was made of, with the same protocol.only"
        )
    clauses = []
    if unassigned:
        clauses.append(f"{len(unassigned)} of {len(present)} utterances are in no subset")
    if excluded:
        clauses.append(f"{len(excluded)} of {len(saved)} utterances of {settings.name} left out")
    folds = tuple(remove_ids(fold, excluded) for fold in protocol.folds)
    return replace(protocol, folds=folds, caution=join_cautions(protocol.caution, *clauses))


def check_protocol(protocol: Protocol) -> None:
    """Check the folds of a protocol.

    Their names differ, no training or test subset is empty, no utterance is in two subsets of a
    fold or tested in two folds, and either all or no folds have a validation subset.

    Raises:
        ProtocolError: a fold breaks one of these rules.
    """
    if not protocol.folds:
        raise ProtocolError(f"{protocol.name} has no folds; expected one or more")
    names = Counter(fold.name for fold in protocol.folds)
    if len(names) < len(protocol.folds):
        raise ProtocolError(f"{protocol.name} has two folds {max(names, key=names.__getitem__)}")
    for fold in protocol.folds:
        _check_subsets(fold)
    _check_folds(protocol)


def _check_subsets(fold: Fold) -> None:
    if not fold.train or not fold.test:
        raise ProtocolError(f"fold {fold.name} has an empty training or test subset")
    seen: dict[str, str] = {}
    for subset, ids in get_subsets(fold).items():
        if len(set(ids)) < len(ids):
            repeated = max(ids, key=Counter(ids).__getitem__)
            raise ProtocolError(
                f"fold {fold.name} has utterance {repeated} twice in its {subset} subset"
            )
        for id_ in ids:
            other = seen.setdefault(id_, subset)
            if other != subset:
                raise ProtocolError(
                    f"fold {fold.name}: utterance {id_} is in two subsets, {other} and {subset}; "
                    "expected one"
                )


def _check_folds(protocol: Protocol) -> None:
    """Check the folds against each other."""
    first = {bool(fold.validation): fold.name for fold in reversed(protocol.folds)}
    if len(first) == 2:
        raise ProtocolError(
            f"fold {first[True]} has a validation subset and fold {first[False]} has none; "
            "expected one in every fold, or in none"
        )
    tested: dict[str, str] = {}
    for fold in protocol.folds:
        for id_ in fold.test:
            other = tested.setdefault(id_, fold.name)
            if other != fold.name:
                raise ProtocolError(
                    f"utterance {id_} is tested in two folds, {other} and {fold.name}, and would "
                    "count twice in the scores; test each once, or save each repetition as a "
                    "protocol of its own"
                )
