"""The same evaluation several times: with other seeds, or as it should not be done."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from serein import corpora, recipes
from serein.errors import ConfigError
from serein.evaluation.engines import Engine, open_engine
from serein.evaluation.evaluate import Run, run_plans
from serein.evaluation.plan import Plan, build_plan
from serein.metrics.scoring import Scores, get_scorer
from serein.records import Corpus, Recipe
from serein.results import io
from serein.results.evaluation import OptimisticVariant, Results, SeedResult

MIN_FOLDS = 5
KEPT_SETTINGS = (
    *("only", "max_duration", "train_size", "seed", "stratify"),
    *("main", "auxiliary_share", "auxiliary_ratio"),
)
"""Settings of a split that its flattery keeps."""
OPTIMISTIC_VARIANTS = {
    "random-split": "a random split into as many folds (five at least), the same speakers on both "
    "sides",
    "test-speaker-normalisation": "frames standardised by each speaker's own statistics, the "
    "tested speakers' among them",
}


def evaluate_seeds(
    recipe: str | Recipe,
    corpus: str | Sequence[str] | Corpus,
    *,
    settings: Sequence[str] = (),
    seed: int = 0,
    seeds: int = 1,
    audit: bool = False,
    jobs: int | None = None,
    device: str = "cpu",
    runs: Path = Path("runs"),
    engine: str | Engine = "local",
    address: str | None = None,
    **options: Any,
) -> Run:
    """Evaluate with several seeds, and measure what fooling oneself would have been worth.

    Args:
        recipe: name, path of a TOML file, or a recipe.
        corpus: as for ``evaluate``.
        settings: what to change in the recipe.
        seed: the first one.
        seeds: how many; each leaves a run folder of its own.
        audit: evaluate also with a random split, and with frames standardised by each
            speaker's own statistics; both with the first seed.
        jobs: as for ``evaluate``.
        device: as for ``evaluate``.
        runs: the folder that the run folders are made in.
        engine: as for ``evaluate``; a cluster works on several seeds at a time.
        address: as for ``evaluate``.
        **options: as for ``carry_out``.

    Returns:
        The results of the first seed with what came of the others; its folder is a new one
        beside those of the seeds.

    Raises:
        SereinError: as ``evaluate``.
    """
    if seeds < 1:
        raise ConfigError(f"seeds is {seeds}; expected 1 or more")
    chosen = recipes.load(recipe, settings) if isinstance(recipe, str) else recipe
    read = corpora.read(corpus)

    def planned(changed: Recipe, number: int = 0) -> Plan:
        return build_plan(changed, read, seed=seed + number, device=device, runs=runs)

    # All plans are made before the first training: a split that cannot be costs nothing then.
    honest = [planned(chosen, number) for number in range(seeds)]
    unfair = optimistic_variants(chosen, len(honest[0].protocol.folds)) if audit else {}
    plans = {name: planned(changed) for name, changed in unfair.items()}
    with open_engine(engine, jobs, address) as hands:
        every = list(run_plans([*honest, *plans.values()], hands, **options))
    done, others = every[:seeds], every[seeds:]
    flattered = [
        _summarize_variant(name, one.results) for name, one in zip(plans, others, strict=True)
    ]
    if seeds == 1 and not audit:
        return done[0]
    joined = combine_seeds([one.results for one in done], flattered)
    folder = runs / joined.name
    io.save_results(joined, folder)
    return Run(joined, folder, is_new=any(one.is_new for one in done))


def combine_seeds(
    results: Sequence[Results], variants: Sequence[OptimisticVariant] = ()
) -> Results:
    """The first of several results, with what the others scored."""
    first, last = results[0], results[-1]
    parts = [*(one.name for one in results), *(one.run for one in variants)]
    mark = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
    seeds = [one.environment["seed"] for one in (first, last)]
    span = f"seed{seeds[0]}" if len(results) == 1 else f"seeds{seeds[0]}-{seeds[1]}"
    recipe, corpus = first.recipe["name"], first.corpus["name"]
    return replace(
        first,
        name=quote(f"{recipe}-{corpus}-{span}-{mark}", safe=""),
        seconds=sum(one.seconds for one in results),
        repeats=[_summarize_seed(one) for one in results] if len(results) > 1 else [],
        optimistic_variants=list(variants),
    )


def _summarize_seed(results: Results) -> SeedResult:
    scores = {name: _scores_without_intervals(results, name) for name in results.selections}
    return SeedResult(seed=results.environment["seed"], run=results.name, scores=scores)


def _summarize_variant(name: str, results: Results) -> OptimisticVariant:
    scores = _scores_without_intervals(results, results.headline)
    return OptimisticVariant(
        name=name, description=OPTIMISTIC_VARIANTS[name], run=results.name, scores=scores
    )


def _scores_without_intervals(results: Results, selection: str) -> dict[str, Scores]:
    """The scores of each task without their intervals."""
    return {
        task: {one.name: own.score(one.name) for one in get_scorer(results.classes[task]).metrics}
        for task, own in results.scores_by_task(selection).items()
    }


def optimistic_variants(recipe: Recipe, folds: int) -> dict[str, Recipe]:
    """The recipe in the ways that flatter it, but for those that it takes anyway.

    Args:
        recipe: of the honest evaluation.
        folds: of its split; a split of fewer than five is set beside five random folds.
    """
    kept = {key: value for key, value in recipe.protocol.items() if key in KEPT_SETTINGS}
    alone = recipe.protocol.get("validation") == "none"
    split: dict[str, Any] = {
        "name": "random",
        "folds": max(folds, MIN_FOLDS),
        "validation": "none" if alone else 1,
        "allow": ["duplicate"],
        **kept,
    }
    every = {
        "random-split": replace(recipe, protocol=split),
        "test-speaker-normalisation": replace(
            recipe, normalise={**recipe.normalise, "statistics": "speaker"}
        ),
    }
    return {name: changed for name, changed in every.items() if changed != recipe}
