"""The leakage check of a split, done before training: speakers, copies, sentences, classes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from serein.errors import ProtocolError, UnknownName
from serein.protocols import duplicates, speaker_ids
from serein.protocols.column_hints import describe_columns, find_columns_like
from serein.protocols.fingerprints import CopyPair
from serein.protocols.settings import Values, parse_values
from serein.protocols.splitters import count_noun, get_scoped_value, get_subsets, get_value
from serein.protocols.subsets import get_sentence_keys, get_words, join_cautions
from serein.records import Finding, Protocol, Utterance

Target = Mapping[str, str | None]
"""Class of each id."""
Targets = Mapping[str, Target]
"""Classes of each task; the first task selects the epoch."""

ALLOWABLE = ("duplicate", "partner", "speaker")
"""Leaks that ``protocol.allow`` may name."""
SPEAKER_DEPENDENT = ("random", "speaker-dependent")
"""Protocols that are speaker-dependent by definition."""
SPEAKER_DEPENDENT_LEAKS = ("speaker", "partner")
"""Leaks that these protocols have by definition."""
NORMALIZATION_VERDICTS = {
    "training": ("clean", "frames are standardised by the training subset of each fold alone"),
    "none": ("clean", "frames are not standardised"),
    "utterance": ("clean", "every utterance is standardised by itself alone"),
    "speaker": (
        "warning",
        "frames are standardised by speaker: this uses all recordings of the test speakers at "
        "once, which are not available for a new speaker",
    ),
}
MAX_EXAMPLES = 5


def find_leaks(
    protocol: Protocol,
    utterances: Sequence[Utterance],
    file_hashes: Mapping[str, str],
    *,
    audio_hashes: Mapping[str, str] | None = None,
    copies: Iterable[CopyPair] = (),
    normalization: str = "training",
    targets: Targets | None = None,
    allow: Values = (),
) -> tuple[Finding, ...]:
    """Check a split for every known kind of leak.

    A check gives "clean" only if the corpus has the data for it, and else "unknown". Without
    sessions and dialogues, or without classes, there is no finding.

    Args:
        protocol: to be checked.
        utterances: of the protocol.
        file_hashes: hash of each id's bytes, from ``corpora.hash_contents``.
        audio_hashes: hash of each id's samples, from ``protocols.hash_audio``; None compares bytes
            only.
        copies: pairs that contain the same audio, from ``protocols.find_copies``.
        normalization: source of the statistics that standardise frames: "training", "none",
            "utterance" or "speaker".
        targets: classes of each task; None takes the label "emotion".
        allow: kinds of leak that do not stop the run.

    Raises:
        UnknownName: ``allow`` or ``normalization`` has an unknown value.
        ProtocolError: ``utterances`` lacks utterances of the protocol.
    """
    allowed = _get_allowed_kinds(protocol, parse_values(allow))
    ids = {id_ for fold in protocol.folds for ids in get_subsets(fold).values() for id_ in ids}
    members = [utterance for utterance in utterances if utterance.id in ids]
    if len(members) < len(ids):
        raise ProtocolError(
            f"{protocol.name} has {count_noun(len(ids), 'utterance')}, and {len(members)} of them "
            "were given; expected all"
        )
    targets = targets or {"emotion": {u.id: get_scoped_value(u, "emotion") for u in members}}
    findings = (
        _check_speakers(protocol, members),
        _check_partners(protocol, members),
        duplicates.find_duplicates(
            protocol, members, {**file_hashes, **(audio_hashes or {})}, copies
        ),
        _check_sentences(protocol, members),
        _check_normalization(normalization),
        _check_validation(protocol, targets),
        _check_classes(protocol, targets),
    )
    return tuple(
        replace(finding, verdict="allowed")
        if finding.verdict == "error" and finding.kind in allowed
        else finding
        for finding in findings
        if finding is not None
    )


def raise_on_leaks(findings: Iterable[Finding]) -> None:
    """Raise an error if a leak was found that is not allowed.

    Raises:
        ProtocolError: lists every such leak, and the setting that allows it.
    """
    errors = [finding for finding in findings if finding.verdict == "error"]
    if not errors:
        return
    kinds = [finding.kind for finding in errors if finding.kind in ALLOWABLE]
    faults = [
        f"{finding.kind}: {finding.description}, such as {'; '.join(finding.examples[:2])}"
        for finding in errors
    ]
    hint = (
        f" To train nevertheless, set protocol.allow={','.join(kinds)}; the report will state it."
    )
    summary = "the split leaks" if kinds else "the split cannot be used"
    raise ProtocolError(f"{summary}. {'. '.join(faults)}.{hint if kinds else ''}")


def add_cautions(protocol: Protocol, findings: Iterable[Finding]) -> Protocol:
    """Add the leaks that were found and allowed to the caution; the hash stays the same."""
    expected = SPEAKER_DEPENDENT_LEAKS if protocol.name in SPEAKER_DEPENDENT else ()
    clauses = [
        f"{finding.kind} leak allowed: {finding.description}"
        for finding in findings
        if finding.verdict == "allowed" and finding.kind not in expected
    ]
    return replace(protocol, caution=join_cautions(protocol.caution, *clauses))


def _get_allowed_kinds(protocol: Protocol, names: Sequence[str]) -> set[str]:
    for name in names:
        if name not in ALLOWABLE:
            raise UnknownName("leak of protocol.allow", name, ALLOWABLE)
    return {*names, *(SPEAKER_DEPENDENT_LEAKS if protocol.name in SPEAKER_DEPENDENT else ())}


def _find_shared_values(protocol: Protocol, value_of: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return values that are in two subsets of a fold, each with a description."""
    shared = []
    for fold in protocol.folds:
        values = {
            subset: {value_of[id_] for id_ in ids if id_ in value_of}
            for subset, ids in get_subsets(fold).items()
        }
        train, validation, test = values.values()
        for value in sorted((train & validation) | (train & test) | (validation & test)):
            subsets = ", ".join(subset for subset in values if value in values[subset])
            shared.append((value, f"{value} ({subsets} in fold {fold.name})"))
    return shared


def _check_speakers(protocol: Protocol, members: Sequence[Utterance]) -> Finding:
    speaker_of = {
        utterance.id: speaker
        for utterance in members
        if (speaker := get_scoped_value(utterance, "speaker"))
    }
    shared = _find_shared_values(protocol, speaker_of)
    missing = len(members) - len(speaker_of)
    clauses = []
    if missing:
        clauses = [f"{missing} of {count_noun(len(members), 'utterance')} have no known speaker"]
    if shared:
        speakers = count_noun(len({speaker for speaker, _ in shared}), "speaker")
        times = count_noun(len(shared), "time")
        clauses = [f"in two subsets of a fold: {speakers}, {times} over all folds", *clauses]
    elif speaker_of or not missing:
        clauses.append(f"no {'known ' * bool(missing)}speaker is in two subsets of a fold")
    alike = [] if shared else _find_shared_lookalikes(protocol, members)
    two_genders = speaker_ids.find_several_genders(members)
    if alike:
        clauses.append(
            f"{count_noun(len(alike), 'pair')} of speakers in two subsets have ids that look "
            "alike, and may be one person"
        )
    if two_genders:
        clauses.append(
            f"{count_noun(len(two_genders), 'speaker')} with two genders: one id may stand for "
            "two people"
        )
    hints = [*alike, *(f"{name} (female and male)" for name in two_genders)]
    verdict = "error" if shared else "warning" if missing else "unknown" if hints else "clean"
    return Finding(
        kind="speaker",
        verdict=verdict,
        count=len(shared) or missing or len(hints),
        description="; ".join(clauses),
        examples=_first_examples([*(description for _, description in shared), *hints]),
    )


def _find_shared_lookalikes(protocol: Protocol, members: Sequence[Utterance]) -> list[str]:
    """Return pairs of speakers with ids that look alike and are in two subsets of a fold."""
    groups = speaker_ids.find_lookalikes(members)
    key_of = {name: key for key, names in groups.items() for name in names}
    value_of = {
        utterance.id: key_of[name]
        for utterance in members
        if (name := get_scoped_value(utterance, "speaker")) in key_of
    }
    keys = dict.fromkeys(key for key, _ in _find_shared_values(protocol, value_of))
    return [", ".join(groups[key]) for key in keys]


def _check_partners(protocol: Protocol, members: Sequence[Utterance]) -> Finding | None:
    """Check that partners of a dialogue, or of a session of two speakers, are in one subset.

    Without dialogues, a session in two subsets is "unknown": its speakers may talk to each other.
    """
    dialogues = [utterance for utterance in members if utterance.dialogue is not None]
    if not dialogues:
        return _check_sessions(protocol, members)
    speakers: dict[str | None, set[str | None]] = {}
    for utterance in dialogues:
        session = get_scoped_value(utterance, "session")
        speakers.setdefault(session, set()).add(get_scoped_value(utterance, "speaker"))
    pairs = {
        session
        for session, names in speakers.items()
        if session and None not in names and len(names) == 2
    }
    in_pairs = [u for u in dialogues if get_scoped_value(u, "session") in pairs]
    units = {
        unit: {utterance.id: str(get_scoped_value(utterance, unit)) for utterance in utterances}
        for unit, utterances in (("session", in_pairs), ("dialogue", dialogues))
    }
    shared = {unit: _find_shared_values(protocol, values) for unit, values in units.items()}
    count = sum(map(len, shared.values()))
    description = "no partners in a dialogue or session are in two subsets of a fold"
    if count:
        divided = [
            count_noun(len({value for value, _ in values}), unit)
            for unit, values in shared.items()
            if values
        ]
        description = f"partners are in two subsets of a fold, from {' and '.join(divided)}"
    return Finding(
        kind="partner",
        verdict="error" if count else "clean",
        count=count,
        description=description,
        examples=_first_examples(
            f"{unit} {description}" for unit in shared for _, description in shared[unit]
        ),
    )


def _check_sessions(protocol: Protocol, members: Sequence[Utterance]) -> Finding | None:
    session_of = {u.id: session for u in members if (session := get_scoped_value(u, "session"))}
    columns = find_columns_like("session", members)
    if not session_of and not columns:
        return None
    shared = _find_shared_values(protocol, session_of)
    clauses = []
    if shared:
        clauses.append(
            f"{count_noun(len({name for name, _ in shared}), 'session')} without dialogues are in "
            "two subsets of a fold; their speakers may talk to each other"
        )
    if columns and not session_of:
        clauses.append(describe_columns(columns, "session"))
    return Finding(
        kind="partner",
        verdict="unknown" if clauses else "clean",
        count=len(shared),
        description="; ".join(clauses) or "no session is in two subsets of a fold",
        examples=_first_examples(f"session {description}" for _, description in shared),
    )


def _check_sentences(protocol: Protocol, members: Sequence[Utterance]) -> Finding:
    """Check whether tested sentences are trained; corpora are compared by the words."""
    keys_of = {utterance.id: get_sentence_keys(utterance) for utterance in members}
    missing = sum(not keys for keys in keys_of.values())
    count, tested, repeated = 0, 0, dict[str, None]()
    for fold in protocol.folds:
        trained = {key for id_ in (*fold.train, *fold.validation) for key in keys_of[id_]}
        shared = [key for id_ in fold.test for key in keys_of[id_] if key in trained]
        with_shared = [id_ for id_ in fold.test if trained.intersection(keys_of[id_])]
        count, tested = count + len(with_shared), tested + len(fold.test)
        repeated.update(dict.fromkeys(shared))
    clauses = []
    if count:
        clauses.append(
            f"the sentences of {count} of {tested} test utterances are in another subset of their "
            f"fold too, {count_noun(len(repeated), 'sentence')} in all"
        )
    elif missing < len(members):
        clauses.append("no test sentence is in another subset of its fold")
    unseen = _describe_unseen_sentences(protocol, members, missing)
    return Finding(
        kind="sentence",
        verdict="warning" if count else "unknown" if unseen else "clean",
        count=count,
        description="; ".join([*clauses, *unseen]),
        examples=_first_examples(repeated),
    )


def _describe_unseen_sentences(
    protocol: Protocol, members: Sequence[Utterance], missing: int
) -> list[str]:
    """Describe the sentences that could not be compared."""
    clauses = []
    if missing:
        some = f"{missing} of {count_noun(len(members), 'utterance')}"
        clauses.append(f"{some} have no sentence and no transcript")
        columns = find_columns_like("sentence", members)
        clauses += [describe_columns(columns, "sentence")] if columns else []
    pairs = _find_incomparable_corpora(protocol, members)
    if pairs:
        listing = ", ".join(" and ".join(pair) for pair in sorted(pairs)[:MAX_EXAMPLES])
        clauses.append(
            f"the sentences of {listing} cannot be compared: one of them has labels without words"
        )
    return clauses


def _find_incomparable_corpora(
    protocol: Protocol, members: Sequence[Utterance]
) -> set[tuple[str, ...]]:
    """Return pairs of corpora in two subsets of a fold, one of which has sentences without words.

    Corpora of different languages have no common sentence.
    """
    wordless, languages = set[str](), dict[str, set[str | None]]()
    for utterance in members:
        corpus = str(utterance.corpus)
        languages.setdefault(corpus, set()).add(utterance.language)
        if get_value(utterance, "sentence") and not get_words(utterance):
            wordless.add(corpus)
    if not wordless or len(languages) < 2:
        return set()
    corpus_of = {utterance.id: str(utterance.corpus) for utterance in members}
    pairs = set[tuple[str, ...]]()
    for fold in protocol.folds:
        tested = {corpus_of[id_] for id_ in fold.test}
        trained = {corpus_of[id_] for id_ in (*fold.train, *fold.validation)}
        pairs |= {
            tuple(sorted((one, other)))
            for one in tested
            for other in trained
            if one != other and {one, other} & wordless
        }
    return {pair for pair in pairs if _share_language(*(languages[name] for name in pair))}


def _share_language(one: set[str | None], other: set[str | None]) -> bool:
    return None in one | other or bool(one & other)


def _check_normalization(scope: str) -> Finding:
    if scope not in NORMALIZATION_VERDICTS:
        raise UnknownName("scope of normalisation", scope, NORMALIZATION_VERDICTS)
    verdict, description = NORMALIZATION_VERDICTS[scope]
    count = int(verdict != "clean")
    return Finding(kind="normalisation", verdict=verdict, count=count, description=description)


def _check_validation(protocol: Protocol, targets: Targets) -> Finding:
    """Check that subsets share no utterance and that validation subsets can select the epoch."""
    ids = {id_ for fold in protocol.folds for ids in get_subsets(fold).values() for id_ in ids}
    shared = _find_shared_values(protocol, {id_: id_ for id_ in ids})
    unlabelled = _find_unlabelled_validation(protocol, targets)
    without = sum(not fold.validation for fold in protocol.folds)
    clauses = []
    if shared:
        clauses.append(f"in two subsets of a fold: {count_noun(len(shared), 'utterance')}")
    if unlabelled:
        clauses.append(
            f"the validation subset of {count_noun(len(unlabelled), 'fold')} has no "
            f"{next(iter(targets))} label and cannot select the epoch: set protocol.validation "
            'higher, or to "none"'
        )
    if not clauses:
        clauses.append("no utterance is in two subsets of a fold")
        if without:
            clauses.append(f"{count_noun(without, 'fold')} without a validation subset")
    return Finding(
        kind="validation",
        verdict="error" if shared or unlabelled else "clean",
        count=len(shared) + len(unlabelled),
        description="; ".join(clauses),
        examples=_first_examples(
            [
                *(description for _, description in shared),
                *(f"fold {name}" for name in unlabelled),
            ]
        ),
    )


def _find_unlabelled_validation(protocol: Protocol, targets: Targets) -> list[str]:
    """Return folds whose validation subset has no class of the first task, unless none has any."""
    target = next(iter(targets.values()))
    if not any(target.values()):
        return []
    return [
        fold.name
        for fold in protocol.folds
        if fold.validation and not _get_classes(fold.validation, target)
    ]


def _check_classes(protocol: Protocol, targets: Targets) -> Finding | None:
    """Find classes that one subset has and another one lacks.

    A fold that trains none of the classes of the first task that it tests is an error, as its
    scores have no meaning. Other missing classes are a warning.

    Returns:
        None where no utterance has a class.
    """
    if not any(kind for target in targets.values() for kind in target.values()):
        return None
    untrained, untested = _find_untrained_and_untested(protocol, targets)
    target = next(iter(targets.values()))
    untrainable = _find_untrainable_folds(protocol, target)
    unvalidated = _find_unvalidated_classes(protocol, target)
    clauses = [
        f"{count_noun(len(cases), unit)} {fault}: {', '.join(list(cases)[:MAX_EXAMPLES])}"
        for cases, unit, fault in (
            (untrainable, "fold", "whose training subset has none of the tested classes"),
            (untrained, "time", "a class is tested that the training subset of the fold lacks"),
            (untested, "time", "a class is trained that no fold tests"),
        )
        if cases
    ]
    if unvalidated:
        clauses.append(_describe_unvalidated(unvalidated))
    examples = [
        *(f"{fold} {classes}" for fold, classes in untrainable.items()),
        *untrained,
        *untested,
        *(
            f"{kind} not validated in fold {name}"
            for name, kinds in unvalidated.items()
            for kind in sorted(kinds)
        ),
    ]
    return Finding(
        kind="classes",
        verdict="error" if untrainable else "warning" if clauses else "clean",
        count=len(untrained) + len(untested) + sum(map(len, unvalidated.values())),
        description="; ".join(clauses)
        or "every training subset has every class that its fold tests",
        examples=_first_examples(examples),
    )


def _get_classes(ids: Iterable[str], target: Target) -> set[str]:
    return {kind for id_ in ids if (kind := target.get(id_)) is not None}


def _find_untrained_and_untested(
    protocol: Protocol, targets: Targets
) -> tuple[list[str], list[str]]:
    """Return classes that a fold tests without training, and classes that no fold tests."""
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


def _find_untrainable_folds(protocol: Protocol, target: Target) -> dict[str, str]:
    """Return folds that train no class, or none of the tested ones, with a description."""
    folds = {}
    for fold in protocol.folds if any(target.values()) else ():
        train, test = _get_classes(fold.train, target), _get_classes(fold.test, target)
        if not train or (test and not train & test):
            trained, tested = (", ".join(sorted(kinds)) or "none" for kinds in (train, test))
            folds[f"fold {fold.name}"] = f"trains {trained} and tests {tested}"
    return folds


def _find_unvalidated_classes(protocol: Protocol, target: Target) -> dict[str, set[str]]:
    """Return, for each fold, classes of the training subset that the validation subset lacks."""
    classes = {}
    for fold in protocol.folds:
        validated = _get_classes(fold.validation, target)
        missing = _get_classes(fold.train, target) - validated
        if validated and missing:
            classes[fold.name] = missing
    return classes


def _describe_unvalidated(unvalidated: Mapping[str, set[str]]) -> str:
    counts = [
        f"{len(kinds)} class{'es' * (len(kinds) != 1)} in fold {name}"
        for name, kinds in unvalidated.items()
    ]
    listed = ", ".join(counts[:MAX_EXAMPLES])
    if len(counts) > MAX_EXAMPLES:
        listed += f" and in {count_noun(len(counts) - MAX_EXAMPLES, 'more fold')}"
    return f"validation lacks {listed}: the other classes select the epoch"


def _first_examples(examples: Iterable[str]) -> tuple[str, ...]:
    return tuple(list(examples)[:MAX_EXAMPLES])
