"""From what a corpus says to what is trained on, with a count of all that was changed."""

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Sequence
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
    is_regression,
)
from serein.records import Corpus, Recipe, Utterance
from serein.results.evaluation import LabelMapping


def apply_label_scheme(corpus: Corpus, recipe: Recipe) -> tuple[Corpus, dict[str, LabelMapping]]:
    """Leave out what the leading task's scheme drops; tell what became of every word.

    An utterance without any word for a task stays: a missing label costs nothing.

    Raises:
        ConfigError: nothing is left, a word is mapped that nobody says, or several corpora say
            the same in different words.
        UnknownName: there is no such scheme.
    """
    if not recipe.tasks:
        return corpus, {}
    heard = {task: _count_words(corpus.utterances, task, recipe) for task in recipe.tasks}
    for task, found in heard.items():
        _check_map(corpus, task, recipe, found)
        _check_synonyms(corpus, task, found)
    task = next(iter(recipe.tasks))
    kept = _drop_unmapped(corpus.utterances, task, recipe)
    if not kept:
        raise ConfigError(
            f"scheme {heard[task].scheme} of task {task} leaves none of {len(corpus.utterances)} "
            f"utterances: the corpus says {sorted(heard[task].dropped)}. Choose another scheme, "
            f"or map words with --set tasks.{task}.map.WORD=CLASS"
        )
    kept, foreign = drop_foreign_classes(kept, task, recipe)
    if foreign:
        classes = {*map(str, get_task_labels(kept, task, recipe))}
        heard[task] = _remove_foreign(heard[task], foreign, classes)
    mapping = {task: _summarize_values(found, task, recipe) for task, found in heard.items()}
    return replace(corpus, utterances=kept), mapping


def drop_foreign_classes(
    utterances: Sequence[Utterance], task: str, recipe: Recipe
) -> tuple[tuple[Utterance, ...], dict[str, dict[str, int]]]:
    """Leave out of other corpora what the main one, where there is one, has no class for.

    Returns:
        What stays; and for each other corpus, how often each word occurred that was left out.

    Raises:
        ConfigError: a corpus has no class of the main one.
    """
    main = recipe.protocol.get("main")
    if not main or is_regression(task, recipe):
        return tuple(utterances), {}
    labels = get_task_labels(utterances, task, recipe)
    label = {one.id: found for one, found in zip(utterances, labels, strict=True)}
    own = {label[one.id] for one in utterances if one.corpus == main} - {None}
    if not own:
        return tuple(utterances), {}
    foreign: dict[str, Counter[str]] = defaultdict(Counter)
    for one in utterances:
        if label[one.id] not in own | {None}:
            foreign[str(one.corpus)][str(get_raw_label(one, task, recipe))] += 1
    for corpus in foreign:
        theirs = {label[one.id] for one in utterances if one.corpus == corpus} - {None}
        if not own & theirs:
            raise ConfigError(
                f"{corpus} has no {task} that {main}, the main corpus, has: {_join_sorted(theirs)} and "
                f"{_join_sorted(own)}. Give them common names with --set tasks.{task}.scheme=harmonised "
                f"or --set tasks.{task}.map.WORD=CLASS, or leave {corpus} out"
            )
    kept = tuple(one for one in utterances if label[one.id] in own | {None})
    return kept, {corpus: dict(sorted(words.items())) for corpus, words in sorted(foreign.items())}


def _join_sorted(labels: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, labels)))


def _remove_foreign(
    found: LabelMapping, foreign: dict[str, dict[str, int]], classes: Container[str]
) -> LabelMapping:
    mapped = {label: words for label, words in found.mapped.items() if label in classes}
    return replace(found, mapped=mapped, foreign=foreign)


def corpus_classes(corpus: Corpus, recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """The classes that a corpus holds for each task, sorted; none for a task of numbers.

    Raises:
        ConfigError: a task has fewer than two there; if another recipe makes do without its labels,
            with its name.
    """
    try:
        return find_classes(corpus.utterances, recipe)
    except ConfigError as error:
        system, _, variant = recipe.name.partition("-")
        twin = "-".join(filter(None, (system, "proxy", variant)))
        if twin not in recipes.list_recipes():
            raise
        raise ConfigError(
            f"{error}. Without ratings, {twin} takes levels of the emotions' names"
        ) from None


def held_out_shares(recipe: Recipe) -> dict[str, float]:
    """For each task that is scored so, the share of its utterances that is held out.

    Raises:
        ConfigError: it is the first task, whose validation score chooses epochs.
    """
    found = {}
    for task, table in recipe.tasks.items():
        share = table.get("held_out", _default_held_out_share(str(table.get("name", task))))
        if share is not None:
            found[task] = float(share)
    first = next(iter(recipe.tasks))
    if first in found:
        raise ConfigError(
            f"task {first} cannot come first: validation speakers have no class of it, and nothing "
            "would choose the epoch. Put another task, such as emotion, before it"
        )
    return found


@cache
def _default_held_out_share(name: str) -> float | None:
    return getattr(registry.load_module("tasks", name).Config(), "held_out", None)


def map_labels(utterances: Sequence[Utterance], task: str, recipe: Recipe) -> LabelMapping:
    """What became of one task's words.

    Raises:
        ConfigError: an utterance's word is none that the scheme takes.
    """
    return _summarize_values(_count_words(utterances, task, recipe), task, recipe)


def _summarize_values(mapping: LabelMapping, task: str, recipe: Recipe) -> LabelMapping:
    """Of classes every word; of numbers, which are too many, their range and mean."""
    if not is_regression(task, recipe) or not mapping.mapped:
        return mapping
    numbers = [
        float(label) for label, words in mapping.mapped.items() for _ in range(sum(words.values()))
    ]
    words = f"{min(numbers):g} to {max(numbers):g}, mean {fmean(numbers):.2f}"
    return replace(mapping, mapped={"values": {words: len(numbers)}})


def _count_words(utterances: Sequence[Utterance], task: str, recipe: Recipe) -> LabelMapping:
    """What became of every word."""
    classes: dict[str, Counter[str]] = defaultdict(Counter)
    lost: Counter[str] = Counter()
    missing = 0
    words, labels = (
        get_raw_labels(utterances, task, recipe),
        get_task_labels(utterances, task, recipe),
    )
    for word, found in zip(words, labels, strict=True):
        if word is None:
            missing += 1
        elif found is None:
            lost[word] += 1
        else:
            classes[str(found)][word] += 1
    return LabelMapping(
        scheme=get_scheme(task, recipe),
        mapped={name: dict(sorted(words.items())) for name, words in sorted(classes.items())},
        dropped=dict(sorted(lost.items())),
        missing=missing,
    )


def describe_proxies(mapping: dict[str, LabelMapping]) -> str:
    """What stands in for ratings, in words; empty where nothing does."""
    tasks = [task for task, found in mapping.items() if found.scheme.startswith(PROXY_PREFIX)]
    if not tasks:
        return ""
    return (
        f"proxy labels: {', '.join(tasks)} are norms of the emotion's name (Russell & Mehrabian "
        "1977), no ratings of the recordings"
    )


def _drop_unmapped(
    utterances: Sequence[Utterance], task: str, recipe: Recipe
) -> tuple[Utterance, ...]:
    """All but those that have a word for a task, and the scheme has no class for it."""
    words, labels = (
        get_raw_labels(utterances, task, recipe),
        get_task_labels(utterances, task, recipe),
    )
    told = zip(utterances, words, labels, strict=True)
    return tuple(one for one, word, label in told if word is None or label is not None)


def _check_map(corpus: Corpus, task: str, recipe: Recipe, found: LabelMapping) -> None:
    said = {*found.dropped, *(word for words in found.mapped.values() for word in words)}
    strange = sorted({*recipe.tasks[task].get("map", {})} - said)
    if strange:
        raise ConfigError(
            f"tasks.{task}.map names {', '.join(strange)}, which {corpus.name} never says; its "
            f"words for {task} are {', '.join(sorted(said))}"
        )


def _check_synonyms(corpus: Corpus, task: str, found: LabelMapping) -> None:
    """Several corpora that are read as one must not have two words for one class."""
    if found.scheme != "own" or not any(one.corpus for one in corpus.utterances):
        return
    names: dict[str, list[str]] = defaultdict(list)
    for label in found.mapped:
        names[harmonize_emotion(label)].append(label)
    twins = next((words for words in names.values() if len(words) > 1), None)
    if twins:
        raise ConfigError(
            f"{' and '.join(twins)} are two classes of {task} in {corpus.name}; give them one name "
            f"with --set tasks.{task}.scheme=harmonised"
        )
