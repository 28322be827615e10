"""Select the utterances of a corpus that a recipe uses, and count those that it leaves out.

`select_utterances` applies the first task's classes, ``protocol.only`` and
``protocol.max_duration``. Evaluations, searches and sweeps split what it selects;
`select_for_training` takes from it the utterances of one training without folds. Transcription and
the scoring of a saved model have no recipe, and select by `filter_corpus`.
"""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

from serein import config, protocols
from serein.errors import ConfigError, ProtocolError, UnknownName
from serein.evaluation.labels import apply_label_scheme, map_labels
from serein.labels.targets import get_raw_labels, get_scheme
from serein.protocols import SplitConfig
from serein.records import Corpus, LeftOut, Protocol, Recipe, Utterance
from serein.results.evaluation import LabelMapping

FILTERS = ("only", "max_duration", "unlabelled")
"""Settings of ``[protocol]`` that filter utterances."""
MAX_LABELS = 6
"""Labels without a class that are listed by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FilteredCorpus:
    """The selected utterances of a corpus, and what was left out.

    Attributes:
        corpus: with the selected utterances.
        total: number of utterances before filtering.
        left_out: reasons and counts, in the order in which they were applied.
        mapping: for each task, how labels map to classes.
        excluded_ids: ids without a class of the first task.
        caution: clauses on the filters, for the caution of a protocol.
        subset: what one training without folds uses, in words; empty is everything selected.
    """

    corpus: Corpus
    total: int
    left_out: tuple[LeftOut, ...] = ()
    mapping: dict[str, LabelMapping]
    excluded_ids: frozenset[str] = frozenset()
    caution: str = ""
    subset: str = ""


def select_utterances(corpus: Corpus, recipe: Recipe) -> FilteredCorpus:
    """Select the utterances that a recipe uses.

    Args:
        corpus: as it was read.
        recipe: its tasks and ``[protocol]`` are used.

    Raises:
        ConfigError: a setting is unknown or out of range, or no utterance has a class.
        ProtocolError: a filter leaves no utterance.
        AudioError: the header of a file does not give its duration.
    """
    split_config = build_split_config(recipe)
    labelled, mapping = apply_label_scheme(corpus, recipe)
    left_out = _describe_classless(corpus, labelled, recipe, mapping)
    filtered, reasons, caution = filter_corpus(labelled, split_config)
    if reasons:
        mapping = _recount_mapping(filtered, recipe, mapping)
    return FilteredCorpus(
        corpus=filtered,
        total=len(corpus.utterances),
        left_out=(*left_out, *reasons),
        mapping=mapping,
        excluded_ids=frozenset(_list_ids(corpus) - _list_ids(labelled)),
        caution=caution,
    )


def build_split_config(recipe: Recipe) -> SplitConfig:
    """Build the settings of a recipe's split.

    Raises:
        UnknownName: there is no such setting.
        ConfigError: a setting is out of range.
    """
    return config.build_config(SplitConfig, recipe.protocol, "protocol")


def filter_corpus(
    corpus: Corpus, split_config: SplitConfig
) -> tuple[Corpus, tuple[LeftOut, ...], str]:
    """Apply the filters of a split's settings to a corpus.

    Args:
        corpus: to select from.
        split_config: ``only`` and ``max_duration`` are used.

    Returns:
        The corpus with the utterances that are kept, what was left out, and clauses on both
        filters for the caution of a protocol.

    Raises:
        ProtocolError: a filter leaves no utterance.
        AudioError: the header of a file does not give its duration.
    """
    kept, left_out = list(corpus.utterances), []
    for name, values in split_config.only.items():
        before = len(kept)
        kept, _ = protocols.filter_values(kept, {name: values})
        wanted = " or ".join(protocols.parse_values(values))
        left_out.append(
            LeftOut(
                reason="only",
                count=before - len(kept),
                description=f"of another {name} than {wanted}",
            )
        )
    clauses = [protocols.filter_values(corpus.utterances, split_config.only)[1]]
    shorter, clause = protocols.drop_long(kept, split_config.max_duration)
    left_out.append(
        LeftOut(
            reason="duration",
            count=len(kept) - len(shorter),
            description=f"longer than {split_config.max_duration or 0:g} s",
        )
    )
    return (
        replace(corpus, utterances=tuple(shorter)),
        tuple(reason for reason in left_out if reason.count),
        protocols.join_cautions(*clauses, clause),
    )


def check_filters(table: Mapping[str, object]) -> None:
    """Check that a table has only the settings of ``[protocol]`` that filter utterances.

    Raises:
        ConfigError: it has another one.
    """
    unknown = [name for name in table if name not in FILTERS]
    if unknown:
        raise ConfigError(
            f"protocol.{unknown[0]} has no effect here, where nothing is split; select utterances "
            "with protocol.only.NAME=VALUES and protocol.max_duration=SECONDS"
        )


def select_for_transcription(
    corpus: Corpus, recipe: Recipe, settings: Sequence[str] = ()
) -> FilteredCorpus:
    """Select the utterances that a saved model transcribes; by default all.

    Args:
        corpus: as it was read.
        recipe: of the model; its own tasks and protocol are not used.
        settings: ``"protocol.only.NAME=VALUES"``, ``"protocol.max_duration=SECONDS"``, and
            ``"tasks.NAME.scheme=SCHEME"`` to leave out utterances without a class.

    Raises:
        ConfigError: a setting is none of these, or no utterance has a class.
        ProtocolError: a filter leaves no utterance.
        AudioError: the header of a file does not give its duration.
    """
    table = config.apply_settings({"protocol": {}, "tasks": {}}, settings)
    for name in table:
        if name not in ("protocol", "tasks"):
            raise UnknownName("table of a filter", name, ("protocol", "tasks"))
    check_filters(table["protocol"])
    return select_utterances(
        corpus, replace(recipe, tasks=table["tasks"], protocol=table["protocol"])
    )


def split_filtered_corpus(
    filtered: FilteredCorpus,
    split_config: SplitConfig,
    classes: Mapping[str, str | None] | None = None,
) -> Protocol:
    """Split the selected utterances; the protocol's caution describes the filters.

    Args:
        filtered: the selected utterances.
        split_config: settings of the split.
        classes: class of each id, all of which validation subsets should have.

    Raises:
        UnknownName: the protocol is unknown.
        ConfigError: the protocol does not have a setting.
        ProtocolError: these utterances cannot be split by this protocol.
    """
    unfiltered = replace(split_config, only={}, max_duration=None)
    utterances = filtered.corpus.utterances
    protocol = protocols.split(utterances, unfiltered, filtered.excluded_ids, classes)
    caution = protocols.join_cautions(protocol.caution, filtered.caution)
    return replace(protocol, caution=caution)


def select_for_training(filtered: FilteredCorpus, recipe: Recipe) -> FilteredCorpus:
    """Select the utterances of one training without folds.

    A predefined split (``parts``, ``by-label``, the sessions of a paper, a saved protocol of one
    fold) trains on its training subset only, so that its other subsets can be scored later. A
    saved protocol of several folds trains on the utterances of all of them, every other protocol
    on everything selected. ``train_size`` and the amounts of auxiliary corpora apply.

    Args:
        filtered: the utterances that the recipe uses.
        recipe: its ``[protocol]`` is used.

    Raises:
        ConfigError: a setting does not fit the protocol or the corpus.
        ProtocolError: the corpus lacks the training subset.
    """
    split_config = build_split_config(recipe)
    if protocols.is_predefined(split_config):
        return _select_predefined(filtered, split_config)
    return _select_amount(filtered, split_config)


def _select_predefined(filtered: FilteredCorpus, split_config: SplitConfig) -> FilteredCorpus:
    """Select the training subset of a predefined split, summed over its folds."""
    utterances, label = filtered.corpus.utterances, protocols.get_predefined_label(split_config)
    if split_config.name == "parts":
        parts = protocols.find_parts(utterances, split_config)
        if not parts["test"]:
            return _select_parts(filtered, split_config, parts)
        if not parts["validation"]:
            split_config = _without_held_out_speakers(split_config)
    if split_config.name == "by-label":
        split_config = _without_held_out_speakers(split_config)
    protocol = split_filtered_corpus(filtered, split_config)
    train, validation, test = (
        {id_ for fold in protocol.folds for id_ in getattr(fold, subset)}
        for subset in ("train", "validation", "test")
    )
    others = _list_ids(filtered.corpus) - train
    left_out = [
        LeftOut(
            reason="subset",
            count=len(ids),
            description=f"{description} of {protocol.name}{_in_brackets(utterances, ids, label)}",
        )
        for ids, description in (
            (others & test, "in the test subset"),
            (others & validation - test, "in the validation subset"),
            (others - validation - test, "in no subset"),
        )
    ]
    values = _list_values(utterances, train, label)
    subset = f"the training subset of {protocol.name}{values and ': '}{values}"
    return _take(filtered, train, left_out, subset)


def _without_held_out_speakers(split_config: SplitConfig) -> SplitConfig:
    """Do not hold out training speakers for validation: nothing selects an epoch here."""
    is_number = isinstance(split_config.validation, int)
    return replace(split_config, validation="none") if is_number else split_config


def _select_parts(
    filtered: FilteredCorpus, split_config: SplitConfig, parts: Mapping[str, tuple[str, ...]]
) -> FilteredCorpus:
    """Select the training parts of a corpus without a test part; without any part, everything."""
    utterances = filtered.corpus.utterances
    if not any(parts.values()):
        selected = _select_amount(filtered, split_config)
        return replace(selected, subset="no utterance names a part")
    if not parts["train"]:
        found = [part for names in parts.values() for part in names]
        raise ProtocolError(
            f"{filtered.corpus.name} has no training part: found {', '.join(found)}. Name the "
            "parts to train on with --set protocol.train=NAME, or train on everything with --set "
            "protocol.name=leave-one-speaker-out"
        )
    kept, _ = protocols.filter_values(utterances, {"part": parts["train"]})
    ids = {utterance.id for utterance in kept}
    others = _list_ids(filtered.corpus) - ids
    text = f"in no training part{_in_brackets(utterances, others, 'part')}"
    left_out = [LeftOut(reason="subset", count=len(others), description=text)]
    subset = f"the training subset of parts: {_list_values(utterances, ids, 'part')}"
    return _select_amount(_take(filtered, ids, left_out, subset), split_config)


def _select_amount(filtered: FilteredCorpus, split_config: SplitConfig) -> FilteredCorpus:
    """Apply ``train_size`` and the amounts of auxiliary corpora."""
    utterances = filtered.corpus.utterances
    if split_config.main:
        kept = protocols.select_training_utterances(utterances, split_config)
    else:
        kept = protocols.subsample(utterances, split_config, filtered.corpus.name)
    text = "more than protocol.train_size or the share of an auxiliary corpus takes"
    left_out = [
        LeftOut(reason="amount", count=len(utterances) - len(kept), description=text),
    ]
    return _take(filtered, {utterance.id for utterance in kept}, left_out, filtered.subset)


def _take(
    filtered: FilteredCorpus, ids: Container[str], left_out: Sequence[LeftOut], subset: str
) -> FilteredCorpus:
    """Return the corpus with these ids only."""
    kept = tuple(u for u in filtered.corpus.utterances if u.id in ids)
    return replace(
        filtered,
        corpus=replace(filtered.corpus, utterances=kept),
        left_out=(*filtered.left_out, *(reason for reason in left_out if reason.count)),
        subset=subset,
    )


def _list_values(utterances: Sequence[Utterance], ids: Container[str], label: str) -> str:
    """Return the values of a label among some ids, as a clause; empty without a label."""
    if not label:
        return ""
    values = {protocols.get_value(u, label) for u in utterances if u.id in ids}
    names = sorted(value for value in values if value is not None)
    return f"{label} {', '.join(_list_first(names))}" if names else ""


def _in_brackets(utterances: Sequence[Utterance], ids: Container[str], label: str) -> str:
    values = _list_values(utterances, ids, label)
    return f" ({values})" if values else ""


def _list_first(names: Sequence[str]) -> list[str]:
    more = len(names) - MAX_LABELS
    return [*names[:MAX_LABELS], *([f"{more} more"] if more > 0 else [])]


def _list_ids(corpus: Corpus) -> set[str]:
    return {utterance.id for utterance in corpus.utterances}


def _describe_classless(
    corpus: Corpus, labelled: Corpus, recipe: Recipe, mapping: Mapping[str, LabelMapping]
) -> list[LeftOut]:
    """Describe the utterances without a class of the first task, by their labels."""
    if len(labelled.utterances) == len(corpus.utterances):
        return []
    task, kept = next(iter(recipe.tasks)), _list_ids(labelled)
    dropped = [utterance for utterance in corpus.utterances if utterance.id not in kept]
    foreign = mapping[task].foreign
    left_out = [
        LeftOut(
            reason="class",
            count=sum(counts.values()),
            description=f"of {name}, with a class of {task} that the main corpus lacks: "
            f"{_format_counts(counts)}",
        )
        for name, counts in foreign.items()
    ]
    labels = Counter(
        "no label" if raw is None else raw for raw in get_raw_labels(dropped, task, recipe)
    )
    for counts in foreign.values():
        labels -= Counter(counts)
    scheme = get_scheme(task, recipe)
    description = f"without a class of {task} (scheme {scheme}): {_format_counts(labels)}"
    first = LeftOut(reason="class", count=labels.total(), description=description)
    return [first, *left_out] if first.count else left_out


def _format_counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(_list_first([f"{label} {count:,}" for label, count in ordered]))


def _recount_mapping(
    corpus: Corpus, recipe: Recipe, mapping: Mapping[str, LabelMapping]
) -> dict[str, LabelMapping]:
    """Count the labels of the selected utterances; the first task keeps its dropped labels."""
    recounted = {task: map_labels(corpus.utterances, task, recipe) for task in mapping}
    for task in list(mapping)[:1]:
        whole = mapping[task]
        recounted[task] = replace(
            recounted[task],
            dropped=whole.dropped,
            foreign=whole.foreign,
            missing=recounted[task].missing or whole.missing,
        )
    return recounted


def describe_filtered_corpus(filtered: FilteredCorpus) -> str:
    """Describe in one line how many utterances are used, and what was left out.

    >>> from pathlib import Path
    >>> corpus = Corpus(name="mine", utterances=(Utterance(id="a", path=Path("a.wav")),))
    >>> long = LeftOut(reason="duration", count=2, description="longer than 20 s")
    >>> filtered = FilteredCorpus(corpus=corpus, total=3, mapping={}, left_out=(long,))
    >>> describe_filtered_corpus(filtered)
    '1 of 3 utterances of mine; left out: 2 longer than 20 s'
    """
    count, total = len(filtered.corpus.utterances), filtered.total
    amount = f"all {total:,}" if count == total else f"{count:,} of {total:,}"
    text = f"{amount} utterances of {filtered.corpus.name}"
    subset = f" ({filtered.subset})" if filtered.subset else ""
    return f"{text}{subset}{describe_left_out(filtered.left_out, '; left out: ')}"


def describe_left_out(left_out: Sequence[LeftOut], prefix: str = "") -> str:
    """Describe what was left out, with its counts; empty if nothing was."""
    clauses = [f"{reason.count:,} {reason.description}" for reason in left_out]
    return prefix + "; ".join(clauses) if clauses else ""
