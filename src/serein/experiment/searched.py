"""What a search leaves: its name, its trials, and what must be known to believe them."""

import hashlib
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from serein import corpora, system
from serein.evaluation import search_space as spaces
from serein.evaluation.plan import Plan
from serein.evaluation.provenance import command_line, describe_corpus, utc_now
from serein.metrics.scoring import get_scorer
from serein.records import Corpus, Protocol, Recipe
from serein.results import io
from serein.searches import Search, Trial, rank_trials


def search_name(plan: Plan, space: spaces.Space) -> str:
    """What a search is called, on every machine; its trials all belong to the same question."""
    facts = [
        asdict(plan.recipe) | {"about": {}},
        list(plan.recipe.tasks),
        plan.protocol.hash,
        corpora.fingerprint(plan.corpus, plan.contents),
        system.hash_recipe_sources(plan.recipe),
        {one.name: one.text for one in space},
    ]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
    # The folder of an evaluation is quoted so, too.
    first = plan.folder.name.rpartition("-")[0]
    return f"{first}-search-{digest}"


def evaluation_command(
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


def build_search(
    plan: Plan,
    name: str,
    space: spaces.Space,
    trials: list[Trial],
    n_trials: int,
    evaluation: list[str],
) -> Search:
    """Lay together what a report shows.

    Args:
        plan: the plan of the recipe before a trial changed it.
        name: of the search.
        space: its space.
        trials: every one so far.
        n_trials: how many there are to be.
        evaluation: the command that evaluates the recipe.
    """
    best = next(iter(rank_trials(trials)), None)
    chosen = (
        [w for s in spaces.format_settings(best.settings) for w in ("--set", s)] if best else []
    )
    protocol = plan.protocol
    return Search(
        format=io.FORMAT,
        name=name,
        command=command_line(),
        created=utc_now(),
        recipe=asdict(plan.recipe),
        corpus=describe_corpus(plan.corpus, plan.contents),
        protocol={
            "name": protocol.name,
            "hash": protocol.hash,
            "validation": protocol.validation,
            "folds": len(protocol.folds),
        },
        task=next(iter(plan.recipe.tasks)),
        space={one.name: one.text for one in space},
        seed=plan.seed,
        trials=trials,
        best=best.number if best else None,
        evaluation=shlex.join([*evaluation, *chosen]) if best else "",
        warnings=list(_collect_warnings(protocol, trials, n_trials)),
        score=get_scorer(plan.classes[next(iter(plan.recipe.tasks))]).main.name,
    )


def _collect_warnings(protocol: Protocol, trials: list[Trial], n_trials: int) -> Iterator[str]:
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
    if len(states) < n_trials and not unfinished:
        yield f"{len(states)} of {n_trials} trials: the space holds no more, or the search goes on"
