"""The check that no split leaks, made before anything is trained.

Classes that a fold's sides have or lack: what cannot be learnt, chosen by or tested.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from serein.errors import ProtocolError, UnknownName
from serein.protocols import duplicates
from serein.protocols.settings import Values, parse_values
from serein.protocols.splitters import count_noun, get_scoped_value, get_subsets
from serein.protocols.subsets import get_sentence, join_cautions
from serein.records import Finding, Protocol, Utterance

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
        description="; ".join(clauses) or "every training side has every class that its fold tests",
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


ALLOWABLE = ("duplicate", "partner", "speaker")
"""Errors that a user may allow by name."""

SPEAKER_DEPENDENT = ("random", "speaker-dependent")
"""Protocols that are speaker-dependent by definition."""

SPEAKER_DEPENDENT_LEAKS = ("speaker", "partner")
"""What they leak by definition."""

NORMALIZATION_VERDICTS = {
    "training": ("clean", "frames are standardised by the training side of each fold alone"),
    "none": ("clean", "frames are not standardised"),
    "utterance": ("clean", "every utterance is standardised by itself alone"),
    "speaker": (
        "warning",
        "frames are standardised by speaker: this uses the test speakers' own recordings, all of "
        "them at once, which nobody has of a new speaker",
    ),
}


def find_leaks(
    protocol: Protocol,
    utterances: Sequence[Utterance],
    file_hashes: Mapping[str, str],
    *,
    audio_hashes: Mapping[str, str] | None = None,
    statistics: str = "training",
    targets: Targets | None = None,
    allow: Values = (),
) -> tuple[Finding, ...]:
    """Look for every leak that is known of; what cannot be looked for yields no finding.

    Args:
        protocol: what to check.
        utterances: what it splits.
        file_hashes: for each id, a hash of its bytes, from ``corpora.contents``.
        audio_hashes: for each id, a hash of its samples, from ``heard``; None compares bytes alone.
        statistics: whose frames standardise: "training", "none", "utterance" or "speaker".
        targets: classes; None takes the label "emotion".
        allow: kinds that shall not stop the run.

    Raises:
        UnknownName: ``allow`` or ``statistics`` names what is not known.
        ProtocolError: ``utterances`` lacks some that the protocol names.
    """
    allowed = _get_allowed_kinds(protocol, parse_values(allow))
    named = {id_ for fold in protocol.folds for side in get_subsets(fold).values() for id_ in side}
    members = [one for one in utterances if one.id in named]
    if len(members) < len(named):
        raise ProtocolError(
            f"{protocol.name} names {count_noun(len(named), 'utterance')}, of which {len(members)} were "
            "given to be checked; expected all"
        )
    targets = targets or {"emotion": {one.id: get_scoped_value(one, "emotion") for one in members}}
    found = (
        _check_speakers(protocol, members),
        _check_partners(protocol, members),
        duplicates.find_duplicates(protocol, members, {**file_hashes, **(audio_hashes or {})}),
        _check_sentences(protocol, members),
        _check_normalization(statistics),
        _check_validation(protocol, targets),
        check_classes(protocol, targets),
    )
    return tuple(
        replace(one, verdict="allowed") if one.verdict == "error" and one.kind in allowed else one
        for one in found
        if one is not None
    )


def raise_on_leaks(findings: Iterable[Finding]) -> None:
    """Stop where something was found that was not allowed.

    Raises:
        ProtocolError: with every error, and how to allow it.
    """
    errors = [one for one in findings if one.verdict == "error"]
    if not errors:
        return
    kinds = [one.kind for one in errors if one.kind in ALLOWABLE]
    told = [
        f"{one.kind}: {one.description}, such as {'; '.join(one.examples[:2])}" for one in errors
    ]
    hint = f" To train nevertheless, set protocol.allow={','.join(kinds)}; the report will say so."
    fault = "the split leaks" if kinds else "the split will not do"
    raise ProtocolError(f"{fault}. {'. '.join(told)}.{hint if kinds else ''}")


def add_cautions(protocol: Protocol, findings: Iterable[Finding]) -> Protocol:
    """The protocol, its caution naming what was found and allowed; its hash stays."""
    known = SPEAKER_DEPENDENT_LEAKS if protocol.name in SPEAKER_DEPENDENT else ()
    told = [one for one in findings if one.verdict == "allowed" and one.kind not in known]
    clauses = [f"{one.kind} leak allowed: {one.description}" for one in told]
    return replace(protocol, caution=join_cautions(protocol.caution, *clauses))


def _get_allowed_kinds(protocol: Protocol, names: Sequence[str]) -> set[str]:
    for name in names:
        if name not in ALLOWABLE:
            raise UnknownName("leak of protocol.allow", name, ALLOWABLE)
    return {*names, *(SPEAKER_DEPENDENT_LEAKS if protocol.name in SPEAKER_DEPENDENT else ())}


def _find_shared_values(protocol: Protocol, values: Mapping[str, str]) -> list[tuple[str, str]]:
    """Values that a fold has on two sides: each with the fold and the sides, in words."""
    found = []
    for fold in protocol.folds:
        held = {
            side: {values[id_] for id_ in ids if id_ in values}
            for side, ids in get_subsets(fold).items()
        }
        train, validation, test = held.values()
        for value in sorted((train & validation) | (train & test) | (validation & test)):
            sides = ", ".join(side for side in held if value in held[side])
            found.append((value, f"{value} ({sides} in fold {fold.name})"))
    return found


def _check_speakers(protocol: Protocol, members: Sequence[Utterance]) -> Finding:
    speaker = {one.id: name for one in members if (name := get_scoped_value(one, "speaker"))}
    found = _find_shared_values(protocol, speaker)
    nameless = len(members) - len(speaker)
    clauses = []
    if nameless:
        clauses = [f"no speaker is known of {nameless} of {count_noun(len(members), 'utterance')}"]
    if found:
        people = count_noun(len({name for name, _ in found}), "speaker")
        clauses = [
            f"on two sides of a fold: {people}, {count_noun(len(found), 'time')} over all folds",
            *clauses,
        ]
    elif speaker or not nameless:
        clauses.append(f"no {'known ' * bool(nameless)}speaker is on two sides of a fold")
    return Finding(
        kind="speaker",
        verdict="error" if found else "warning" if nameless else "clean",
        count=len(found) or nameless,
        description="; ".join(clauses),
        examples=_first_examples(text for _, text in found),
    )


def _check_partners(protocol: Protocol, members: Sequence[Utterance]) -> Finding | None:
    """Who talks to whom: they share a dialogue, or a session of two."""
    talking = [one for one in members if one.dialogue is not None]
    if not talking:
        return None
    people: dict[str | None, set[str | None]] = {}
    for one in talking:
        people.setdefault(get_scoped_value(one, "session"), set()).add(
            get_scoped_value(one, "speaker")
        )
    pairs = {name for name, who in people.items() if name and None not in who and len(who) == 2}
    parted = [one for one in talking if get_scoped_value(one, "session") in pairs]
    units = {
        unit: {one.id: str(get_scoped_value(one, unit)) for one in those}
        for unit, those in (("session", parted), ("dialogue", talking))
    }
    found = {unit: _find_shared_values(protocol, values) for unit, values in units.items()}
    parts = [
        count_noun(len({v for v, _ in across}), unit) for unit, across in found.items() if across
    ]
    count = sum(map(len, found.values()))
    words = "nobody's partner in a dialogue or session is on another side"
    if count:
        words = f"partners are on two sides of a fold; parted are {' and '.join(parts)}"
    return Finding(
        kind="partner",
        verdict="error" if count else "clean",
        count=count,
        description=words,
        examples=_first_examples(f"{unit} {text}" for unit in found for _, text in found[unit]),
    )


def _check_sentences(protocol: Protocol, members: Sequence[Utterance]) -> Finding | None:
    said = {one.id: words for one in members if (words := get_sentence(one))}
    if not said:
        return None
    count, tested, again = 0, 0, dict[str, None]()
    for fold in protocol.folds:
        trained = {said[id_] for id_ in (*fold.train, *fold.validation) if id_ in said}
        heard = [said[id_] for id_ in fold.test if id_ in said and said[id_] in trained]
        count, tested = count + len(heard), tested + len(fold.test)
        again.update(dict.fromkeys(heard))
    return Finding(
        kind="sentence",
        verdict="warning" if count else "clean",
        count=count,
        description=f"{count} of {tested} tested utterances say what another side of their fold says "
        f"too, {count_noun(len(again), 'sentence')} in all"
        if count
        else "no tested sentence is said on another side of its fold",
        examples=_first_examples(again),
    )


def _check_normalization(statistics: str) -> Finding:
    if statistics not in NORMALIZATION_VERDICTS:
        raise UnknownName("scope of normalisation", statistics, NORMALIZATION_VERDICTS)
    verdict, words = NORMALIZATION_VERDICTS[statistics]
    return Finding(
        kind="normalisation", verdict=verdict, count=int(verdict != "clean"), description=words
    )


def _check_validation(protocol: Protocol, targets: Targets) -> Finding:
    ids = {
        id_: id_ for fold in protocol.folds for side in get_subsets(fold).values() for id_ in side
    }
    found = _find_shared_values(protocol, ids)
    blind = find_unvalidated_folds(protocol, targets)
    without = [fold.name for fold in protocol.folds if not fold.validation]
    clauses = []
    if found:
        clauses.append(f"on two sides of a fold: {count_noun(len(found), 'utterance')}")
    if blind:
        clauses.append(
            f"nothing chooses the epoch of {count_noun(len(blind), 'fold')}, whose validation side has "
            f'no {next(iter(targets))} at all: set protocol.validation higher, or to "none"'
        )
    words = "no utterance is on two sides of a fold; validation is apart from training and test"
    if without:
        words = f"no utterance is on two sides; {count_noun(len(without), 'fold')} without validation side"
    return Finding(
        kind="validation",
        verdict="error" if clauses else "clean",
        count=len(found) + len(blind),
        description="; ".join(clauses) or words,
        examples=_first_examples(
            [*(text for _, text in found), *(f"fold {name}" for name in blind)]
        ),
    )


def _first_examples(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(list(texts)[:5])
