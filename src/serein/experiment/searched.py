"""What a search leaves: its name, its trials, and what must be known to believe them."""

import hashlib
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from serein import corpora, store, system
from serein.experiment import space as spaces
from serein.experiment.facts import command, described, now
from serein.experiment.plan import Plan
from serein.metrics.measures import measure_of
from serein.records import Corpus, Protocol, Recipe
from serein.searches import Search, Trial, ranked


def named(todo: Plan, ranges: spaces.Space) -> str:
    """What a search is called, on every machine; its trials all belong to the same question."""
    facts = [
        asdict(todo.recipe) | {"about": {}},
        list(todo.recipe.tasks),
        todo.protocol.hash,
        corpora.fingerprint(todo.corpus, todo.contents),
        system.source_of(todo.recipe),
        {one.name: one.words for one in ranges},
    ]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
    # The folder of an evaluation is quoted so, too.
    first = todo.folder.name.rpartition("-")[0]
    return f"{first}-search-{digest}"


def again(
    recipe: str | Recipe,
    corpus: str | Sequence[str] | Corpus,
    settings: Sequence[str],
    seed: int,
    device: str,
    runs: Path,
    partial: bool | None = None,
) -> list[str]:
    """The command that evaluates the recipe, less what a trial changes in it."""
    name = recipe if isinstance(recipe, str) else recipe.name
    read = [corpus.name] if isinstance(corpus, Corpus) else corpus
    read = [read] if isinstance(read, str) else read
    words = ["serein", "evaluate", name]
    words += [word for one in read for word in ("--corpus", one)]
    words += [word for one in settings for word in ("--set", one)]
    words += ["--partial"] if partial else []
    words += ["--seed", str(seed)] if seed else []
    words += ["--device", device] if device != "cpu" else []
    return words + (["--runs", str(runs)] if runs != Path("runs") else [])


def record(
    todo: Plan,
    name: str,
    ranges: spaces.Space,
    trials: list[Trial],
    wanted: int,
    evaluation: list[str],
) -> Search:
    """Lay together what a report shows.

    Args:
        todo: the plan of the recipe before a trial changed it.
        name: of the search.
        ranges: its space.
        trials: every one so far.
        wanted: how many there are to be.
        evaluation: the command that evaluates the recipe.
    """
    best = next(iter(ranked(trials)), None)
    chosen = [w for s in spaces.worded(best.settings) for w in ("--set", s)] if best else []
    protocol = todo.protocol
    return Search(
        format=store.FORMAT,
        name=name,
        command=command(),
        created=now(),
        recipe=asdict(todo.recipe),
        corpus=described(todo.corpus, todo.contents),
        protocol={
            "name": protocol.name,
            "hash": protocol.hash,
            "validation": protocol.validation,
            "folds": len(protocol.folds),
        },
        task=next(iter(todo.recipe.tasks)),
        space={one.name: one.words for one in ranges},
        seed=todo.seed,
        trials=trials,
        best=best.number if best else None,
        evaluation=shlex.join([*evaluation, *chosen]) if best else "",
        warnings=list(_warnings(protocol, trials, wanted)),
        score=measure_of(todo.classes[next(iter(todo.recipe.tasks))]).main.name,
    )


def _warnings(protocol: Protocol, trials: list[Trial], wanted: int) -> Iterator[str]:
    """What a reader must know before believing the scores."""
    if protocol.caution:
        yield protocol.caution
    tested = {id_ for fold in protocol.folds for id_ in fold.test}
    if any(tested.intersection(fold.validation) for fold in protocol.folds):
        yield (
            "the validation speakers of one fold are tested in another: settings chosen over all "
            "folds have seen everybody, and make the test score of the best trial optimistic, "
            "too. Speakers that are in no search (a fixed split) would not"
        )
    states = [one.state for one in trials]
    if failed := states.count("failed"):
        yield f"{failed} of {len(trials)} trials could not be evaluated"
    if unfinished := len(states) - states.count("finished") - failed:
        yield (
            f"trials that are running elsewhere or were interrupted: {unfinished}; the same "
            "command goes on with the search"
        )
    if len(states) < wanted and not unfinished:
        yield f"{len(states)} of {wanted} trials: the space holds no more, or the search goes on"
