"""Map the raw labels of a corpus to the classes and values of the tasks, and count the changes."""

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from statistics import fmean

from serein import recipes, registry
from serein.errors import ConfigError
from serein.labels import PROXY_PREFIX, harmonize_emotion
from serein.labels.targets import (
    find_classes,
    get_raw_label,
    get_raw_labels,
    get_scheme,
    get_task_labels,
    get_task_module,
    is_regression,
)
from serein.labels.votes import list_vote_classes
from serein.records import Corpus, Fold, Protocol, Recipe, Utterance
from serein.results.evaluation import LabelMapping

MIN_CLASSES = 2
"""Number of classes that a classification needs."""


def apply_label_scheme(corpus: Corpus, recipe: Recipe) -> tuple[Corpus, dict[str, LabelMapping]]:
    """Leave out the utterances without a class of the first task, and count all labels.

    These are the utterances whose label the task's scheme drops, and those without a label unless
    ``protocol.unlabelled`` is "keep". Utterances without a label of another task stay.

    Returns:
        The remaining corpus, and for each task the mapping of its raw labels.

    Raises:
        ConfigError: nothing is left, a mapped label does not occur, or several corpora have
            different names for one class.
        UnknownName: there is no such scheme.
    """
    if not recipe.tasks:
        return corpus, {}
    mappings = {task: _count_labels(corpus.utterances, task, recipe) for task in recipe.tasks}
    for task, mapping in mappings.items():
        _check_map(corpus, task, recipe, mapping)
        _check_synonyms(corpus, task, mapping)
    task = next(iter(recipe.tasks))
    kept = _drop_unmapped(corpus.utterances, task, recipe)
    if not kept:
        raise ConfigError(
            f"scheme {mappings[task].scheme} of task {task} leaves none of "
            f"{len(corpus.utterances)} utterances: the labels of the corpus are "
            f"{sorted(mappings[task].dropped)}. Choose another scheme, or map labels with "
            f"--set tasks.{task}.map.LABEL=CLASS"
        )
    kept, foreign = drop_foreign_classes(kept, task, recipe)
    if foreign:
        classes = {*map(str, get_task_labels(kept, task, recipe))}
        mappings[task] = _remove_foreign(mappings[task], foreign, classes)
    summaries = {
        task: _summarize_values(mapping, task, recipe) for task, mapping in mappings.items()
    }
    return replace(corpus, utterances=kept), summaries


def drop_foreign_classes(
    utterances: Sequence[Utterance], task: str, recipe: Recipe
) -> tuple[tuple[Utterance, ...], dict[str, dict[str, int]]]:
    """Leave out utterances of auxiliary corpora whose class the main corpus does not have.

    Nothing is left out without a main corpus (``protocol.main``) or for a regression.

    Returns:
        The remaining utterances; and for each auxiliary corpus, the counts of the raw labels that
        were left out.

    Raises:
        ConfigError: an auxiliary corpus has no class of the main corpus.
    """
    main = recipe.protocol.get("main")
    if not main or is_regression(task, recipe):
        return tuple(utterances), {}
    labelled = list(zip(utterances, get_task_labels(utterances, task, recipe), strict=True))
    main_classes = {label for utterance, label in labelled if utterance.corpus == main} - {None}
    if not main_classes:
        return tuple(utterances), {}
    foreign: dict[str, Counter[str]] = defaultdict(Counter)
    for utterance, label in labelled:
        if label not in main_classes | {None}:
            foreign[str(utterance.corpus)][str(get_raw_label(utterance, task, recipe))] += 1
    for corpus in foreign:
        classes = {label for utterance, label in labelled if utterance.corpus == corpus} - {None}
        if not main_classes & classes:
            raise ConfigError(
                f"{corpus} has no {task} class of {main}, the main corpus: "
                f"{_join_sorted(classes)} and {_join_sorted(main_classes)}. Give them common names "
                f"with --set tasks.{task}.scheme=harmonised or "
                f"--set tasks.{task}.map.LABEL=CLASS, or leave {corpus} out"
            )
    kept = tuple(utterance for utterance, label in labelled if label in main_classes | {None})
    return kept, {
        corpus: dict(sorted(counts.items())) for corpus, counts in sorted(foreign.items())
    }


def _join_sorted(labels: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, labels)))


def _remove_foreign(
    mapping: LabelMapping, foreign: dict[str, dict[str, int]], classes: Container[str]
) -> LabelMapping:
    mapped = {label: counts for label, counts in mapping.mapped.items() if label in classes}
    return replace(mapping, mapped=mapped, foreign=foreign)


def corpus_classes(corpus: Corpus, recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """Find the classes of each task in a corpus, sorted; a regression has none.

    Raises:
        ConfigError: a task has fewer than two classes; the message names the recipe that does
            without these labels, if there is one.
    """
    try:
        return find_classes(corpus.utterances, recipe)
    except ConfigError as error:
        system, _, variant = recipe.name.partition("-")
        proxy_recipe = "-".join(filter(None, (system, "proxy", variant)))
        if proxy_recipe not in recipes.list_recipes():
            raise
        raise ConfigError(
            f"{error}. Without ratings, {proxy_recipe} takes levels of the emotions' names"
        ) from None


def order_classes(
    corpus: Corpus, recipe: Recipe, protocol: Protocol, classes: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """Put the classes that no fold trains behind the others; no system can answer with them.

    Tasks that are scored on held-out utterances, such as the speaker, stay as they are.

    Args:
        corpus: of the protocol.
        recipe: its tasks are used.
        protocol: the folds.
        classes: of each task in the corpus, sorted; a regression has none.
    """
    train = corpus.select(list({id_ for fold in protocol.folds for id_ in fold.train}))
    held_out_tasks, ordered = held_out_shares(recipe), dict(classes)
    for task in classes.keys() - held_out_tasks.keys():
        trained = {*get_task_labels(train, task, recipe)}
        others = [name for name in classes[task] if name not in trained]
        ordered[task] = (*(name for name in classes[task] if name in trained), *others)
    return ordered


def find_trained_classes(
    corpus: Corpus, recipe: Recipe, fold: Fold, classes: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """Return the classes of each task that a fold's training subset has, in the order of classes.

    The labels of the other subsets do not change the system. A task that is scored on held-out
    utterances, such as the speaker, keeps all classes, and so does one of which the fold trains
    fewer than two.

    Args:
        corpus: of the protocol.
        recipe: its tasks are used.
        fold: of the protocol.
        classes: of each task, over all folds.
    """
    train, held_out_tasks = corpus.select(fold.train), held_out_shares(recipe)
    found = dict(classes)
    for task in classes.keys() - held_out_tasks.keys():
        labels = {*get_task_labels(train, task, recipe)}
        trained = tuple(name for name in classes[task] if name in labels)
        if len(trained) >= MIN_CLASSES:
            found[task] = trained
    return found


def describe_missed(
    corpus: Corpus,
    recipe: Recipe,
    protocol: Protocol,
    classes: Mapping[str, tuple[str, ...]],
) -> str:
    """Describe tested utterances of classes that their fold does not train; empty if none is.

    Args:
        corpus: of the protocol.
        recipe: its tasks are used.
        protocol: the folds.
        classes: of each task, over all folds.
    """
    missed: dict[str, Counter[str]] = defaultdict(Counter)
    for fold in protocol.folds:
        trained = find_trained_classes(corpus, recipe, fold, classes)
        tested = corpus.select(fold.test)
        for task in classes:
            labels = map(str, get_task_labels(tested, task, recipe))
            untrained = {*classes[task]} - {*trained[task]}
            missed[task].update(label for label in labels if label in untrained)
    clauses = [
        f"{task} {label} ({count})"
        for task, counts in missed.items()
        for label, count in sorted(counts.items())
    ]
    if not clauses:
        return ""
    return f"scored as missed, as the training subset of the fold lacks it: {', '.join(clauses)}"


def held_out_shares(recipe: Recipe) -> dict[str, float]:
    """Return the share of held-out training utterances for each task that is scored on them.

    Raises:
        ConfigError: the first task is one of them; its validation score selects the epoch.
    """
    shares = {}
    for task, table in recipe.tasks.items():
        share = table.get("held_out", _default_held_out_share(get_task_module(task, table)))
        if share is not None:
            shares[task] = float(share)
    first = next(iter(recipe.tasks), None)  # a recogniser has no tasks
    if first in shares:
        raise ConfigError(
            f"task {first} cannot come first: validation speakers have no class of it, and nothing "
            "would select the epoch. Put another task, such as emotion, before it"
        )
    return shares


@cache
def _default_held_out_share(name: str) -> float | None:
    return getattr(registry.load_module("tasks", name).Config(), "held_out", None)


def map_labels(utterances: Sequence[Utterance], task: str, recipe: Recipe) -> LabelMapping:
    """Count how the raw labels of a task map to its classes or values.

    Raises:
        ConfigError: the scheme cannot map a raw label.
    """
    return _summarize_values(_count_labels(utterances, task, recipe), task, recipe)


def _summarize_values(mapping: LabelMapping, task: str, recipe: Recipe) -> LabelMapping:
    """Replace the counts of a regression's values by their range and mean."""
    if not is_regression(task, recipe) or not mapping.mapped:
        return mapping
    values = [
        float(label)
        for label, counts in mapping.mapped.items()
        for _ in range(sum(counts.values()))
    ]
    summary = f"{min(values):g} to {max(values):g}, mean {fmean(values):.2f}"
    return replace(mapping, mapped={"values": {summary: len(values)}})


def _count_labels(utterances: Sequence[Utterance], task: str, recipe: Recipe) -> LabelMapping:
    """Count every raw label of a task by the label that it maps to."""
    mapped: dict[str, Counter[str]] = defaultdict(Counter)
    dropped: Counter[str] = Counter()
    missing = 0
    raw_labels = get_raw_labels(utterances, task, recipe)
    labels = get_task_labels(utterances, task, recipe)
    for raw_label, label in zip(raw_labels, labels, strict=True):
        if raw_label is None:
            missing += 1
        elif label is None:
            dropped[raw_label] += 1
        else:
            mapped[str(label)][raw_label] += 1
    return LabelMapping(
        scheme=get_scheme(task, recipe),
        mapped={label: dict(sorted(counts.items())) for label, counts in sorted(mapped.items())},
        dropped=dict(sorted(dropped.items())),
        missing=missing,
    )


def describe_proxies(mapping: dict[str, LabelMapping]) -> str:
    """Describe the tasks whose labels are proxies for ratings; empty if there are none."""
    tasks = [task for task, labels in mapping.items() if labels.scheme.startswith(PROXY_PREFIX)]
    if not tasks:
        return ""
    return (
        f"proxy labels: {', '.join(tasks)} are norms of the emotion's name (Russell & Mehrabian "
        "1977), not ratings of the recordings"
    )


def keeps_unlabelled(recipe: Recipe) -> bool:
    """Return whether utterances without a label of the first task take part."""
    return recipe.protocol.get("unlabelled") == "keep"


def _drop_unmapped(
    utterances: Sequence[Utterance], task: str, recipe: Recipe
) -> tuple[Utterance, ...]:
    """Drop the utterances without a class or value of a task.

    A label that the whole corpus lacks drops nothing, so that the error about it can name it.
    """
    raw_labels = get_raw_labels(utterances, task, recipe)
    labels = get_task_labels(utterances, task, recipe)
    keeps = keeps_unlabelled(recipe) or not any(label is not None for label in raw_labels)
    return tuple(
        utterance
        for utterance, raw_label, label in zip(utterances, raw_labels, labels, strict=True)
        if label is not None or (raw_label is None and keeps)
    )


def _check_map(corpus: Corpus, task: str, recipe: Recipe, mapping: LabelMapping) -> None:
    raw_labels = {*mapping.dropped, *(raw for counts in mapping.mapped.values() for raw in counts)}
    unused = sorted({*recipe.tasks[task].get("map", {})} - raw_labels)
    if unused:
        unused = sorted({*unused} - list_vote_classes(corpus.utterances, task, recipe))
    if unused:
        raise ConfigError(
            f"tasks.{task}.map names {', '.join(unused)}, which {corpus.name} does not have; its "
            f"labels for {task} are {', '.join(sorted(raw_labels))}"
        )


def _check_synonyms(corpus: Corpus, task: str, mapping: LabelMapping) -> None:
    """Raise an error if corpora that are read as one have two names for one class."""
    if mapping.scheme != "own" or not any(utterance.corpus for utterance in corpus.utterances):
        return
    labels_of: dict[str, list[str]] = defaultdict(list)
    for label in mapping.mapped:
        labels_of[harmonize_emotion(label)].append(label)
    synonyms = next((labels for labels in labels_of.values() if len(labels) > 1), None)
    if synonyms:
        raise ConfigError(
            f"{' and '.join(synonyms)} are two classes of {task} in {corpus.name}; give them one "
            f"name with --set tasks.{task}.scheme=harmonised"
        )
