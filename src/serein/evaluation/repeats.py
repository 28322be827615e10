"""Evaluate a recipe with several seeds, and measure optimistic variants of its evaluation."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple
from urllib.parse import quote

from serein import config, corpora
from serein.errors import ConfigError
from serein.evaluation.engines import Engine, open_engine
from serein.evaluation.evaluate import OpenProgress, Run, no_progress, run_plans
from serein.evaluation.external import evaluate_external, is_estimator
from serein.evaluation.plan import Plan, build_plan, resolve_recipe
from serein.metrics.scoring import Scores, get_scorer
from serein.records import SUBSETS, Corpus, Recipe
from serein.results import io
from serein.results.evaluation import OptimisticVariant, Results, SeedResult

MIN_FOLDS = 5
TOLERANCE = 0.01
"""Difference in training utterances, as a share, that the random split may have."""
KEPT_SETTINGS = (
    *("only", "max_duration", "train_size", "max_folds", "seed", "stratify"),
    *("main", "auxiliary_share", "auxiliary_ratio"),
)
"""Settings of a split that its random variant keeps."""
OPTIMISTIC_VARIANTS = {
    "random-split": "a random split, with the same speakers in training and test, that trains on "
    "as many utterances",
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
    fresh: bool = False,
    open_progress: OpenProgress = no_progress,
) -> Run:
    """Evaluate with several seeds, and measure how much optimistic variants would raise the scores.

    Args:
        recipe: name, path of a TOML file, or a recipe.
        corpus: as for ``evaluate``.
        settings: changes of the recipe.
        seed: the first seed.
        seeds: number of seeds; each has a run folder of its own.
        audit: evaluate with a random split, and with frames standardised by each speaker's own
            statistics, too; both with the first seed.
        jobs: as for ``evaluate``.
        device: as for ``evaluate``.
        runs: the folder in which the run folders are created.
        engine: as for ``evaluate``; a cluster trains several seeds at a time.
        address: as for ``evaluate``.
        fresh: as for ``evaluate``.
        open_progress: as for ``evaluate``; called for every seed and variant.

    Returns:
        The results of the first seed with the scores of the others, in a folder next to those of
        the seeds.

    Raises:
        SereinError: as ``evaluate``.
    """
    if seeds < 1:
        raise ConfigError(f"seeds is {seeds}; expected 1 or more")
    recipe = resolve_recipe(recipe, settings)
    corpus = corpora.as_corpus(corpus)
    # All plans are built before the first training, so that an impossible split costs nothing.
    plans = [
        build_plan(recipe, corpus, seed=seed + offset, device=device, runs=runs)
        for offset in range(seeds)
    ]
    variants = optimistic_variants(recipe, measure_training(plans[0])) if audit else {}
    plans += [
        build_plan(variant, corpus, seed=seed, device=device, runs=runs)
        for variant in variants.values()
    ]
    with open_engine(engine, jobs, address) as opened_engine:
        finished_runs = list(
            run_plans(plans, opened_engine, fresh=fresh, open_progress=open_progress)
        )
    if seeds == 1 and not audit:
        return finished_runs[0]
    seed_runs, variant_runs = finished_runs[:seeds], finished_runs[seeds:]
    summaries = [
        _summarize_variant(name, run.results)
        for name, run in zip(variants, variant_runs, strict=True)
    ]
    combined = combine_seeds([run.results for run in seed_runs], summaries)
    folder = runs / combined.name
    io.save_record(combined, folder)
    return Run(combined, folder, is_new=any(run.is_new for run in seed_runs))


def evaluate_external_seeds(
    model: Any,
    corpus: Corpus,
    *,
    settings: Sequence[str] = (),
    seed: int = 0,
    seeds: int = 1,
    audit: bool = False,
    runs: Path = Path("runs"),
    **options: Any,
) -> Run:
    """Evaluate a model that serein did not build with several seeds, and optimistic variants of it.

    Only an estimator is trained, and so has seeds and variants. A table with the predictions of
    several epochs has its audit without them: the epochs are selected in every way.

    Args:
        model: as for `external.evaluate_external`.
        corpus: the corpus.
        settings: of the split and of labels.
        seed: the first seed.
        seeds: number of seeds; each has a run folder of its own.
        audit: evaluate an estimator with a random split, and with features standardised by each
            speaker's own statistics, too; both with the first seed.
        runs: the folder in which the run folders are created.
        options: further arguments of `external.evaluate_external`.

    Raises:
        ConfigError: nothing of this model can be audited; and as `external.evaluate_external`.
    """
    is_trained = is_estimator(model)

    def run(number: int, own: Sequence[str], *, by_speaker: bool = False) -> Run:
        return evaluate_external(
            model,
            corpus,
            settings=own,
            seed=number,
            runs=runs,
            by_speaker=by_speaker,
            needs_audit=audit,
            **options,
        )

    finished = [run(seed + offset, settings) for offset in range(seeds if is_trained else 1)]
    first = finished[0].results
    summaries = []
    if audit and is_trained:
        recipe = Recipe(**first.recipe)
        amount = _measure_folds(first, corpus)
        for name, variant in optimistic_variants(recipe, amount).items():
            by_speaker = variant.normalise != recipe.normalise
            own = _replace_protocol(settings, variant.protocol)
            summary = _summarize_variant(name, run(seed, own, by_speaker=by_speaker).results)
            description = summary.description.replace("frames", "features", 1)
            summaries.append(replace(summary, description=description))
    if len(finished) == 1 and not summaries:
        return finished[0]
    combined = combine_seeds([one.results for one in finished], summaries)
    io.save_record(combined, runs / combined.name)
    return Run(combined, runs / combined.name, is_new=True)


def _replace_protocol(settings: Sequence[str], protocol: Mapping[str, Any]) -> list[str]:
    """Return settings with another split."""
    others = [one for one in settings if not one.strip().startswith("protocol.")]
    return [*others, *config.format_settings("protocol", protocol)]


def combine_seeds(
    results: Sequence[Results], variants: Sequence[OptimisticVariant] = ()
) -> Results:
    """Return the first results, with the scores of the other seeds and of the variants."""
    first, last = results[0], results[-1]
    names = [*(run.name for run in results), *(variant.run for variant in variants)]
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]
    seeds = [run.environment["seed"] for run in (first, last)]
    span = f"seed{seeds[0]}" if len(results) == 1 else f"seeds{seeds[0]}-{seeds[1]}"
    recipe, corpus = first.recipe["name"], first.corpus["name"]
    return replace(
        first,
        name=quote(f"{recipe}-{corpus}-{span}-{digest}", safe=""),
        seconds=sum(run.seconds for run in results),
        repeats=[_summarize_seed(run) for run in results] if len(results) > 1 else [],
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
    return {
        task: {
            metric.name: scores.score(metric.name)
            for metric in get_scorer(results.classes[task]).metrics
        }
        for task, scores in results.scores_by_task(selection).items()
    }


class TrainingAmount(NamedTuple):
    """How much a split trains on.

    Attributes:
        folds: number of folds.
        trained: mean number of training utterances of a fold.
        total: number of utterances that are split.
    """

    folds: int
    trained: float
    total: int


def measure_training(plan: Plan) -> TrainingAmount:
    """Measure how much the folds of a plan train on, without auxiliary corpora."""
    main = plan.recipe.protocol.get("main")
    own = {u.id for u in plan.corpus.utterances if not main or u.corpus == main}
    trained = fmean(len(own.intersection(fold.train)) for fold in plan.protocol.folds)
    return TrainingAmount(len(plan.protocol.folds), trained, len(own))


def _measure_folds(results: Results, corpus: Corpus) -> TrainingAmount:
    """Measure how much the folds of finished results train on, without auxiliary corpora."""
    main = results.recipe["protocol"].get("main")
    corpus_of = {utterance.id: utterance.corpus for utterance in corpus.utterances}
    folds = results.protocol["folds"]
    used = {id_ for fold in folds for key in SUBSETS for id_ in fold[key]}
    own = {id_ for id_ in used if not main or corpus_of[id_] == main}
    trained = fmean(len(own.intersection(fold["train"])) for fold in folds)
    return TrainingAmount(len(folds), trained, len(own))


def optimistic_variants(recipe: Recipe, amount: TrainingAmount) -> dict[str, Recipe]:
    """Return the variants of a recipe whose evaluation is optimistic.

    A variant that equals the recipe is left out.

    Args:
        recipe: of the evaluation.
        amount: how much its split trains on. The random split has as many folds, five at least,
            and as many more as it needs to train on as much; if it then trains on more, its
            training subsets are reduced.
    """
    kept = {key: value for key, value in recipe.protocol.items() if key in KEPT_SETTINGS}
    has_validation = recipe.protocol.get("validation") != "none"
    # Of F random folds, one is tested and one may validate; the others train.
    untrained = 1 + has_validation
    rest = max(1.0, amount.total - amount.trained)
    needed = min(ceil(untrained * amount.total / rest - TOLERANCE), amount.total)
    folds = max(amount.folds, MIN_FOLDS, needed)
    sizes = {}
    if amount.total * (1 - untrained / folds) > (1 + TOLERANCE) * amount.trained:
        smallest = amount.total - untrained * ceil(amount.total / folds)
        sizes["train_size"] = min(round(amount.trained), smallest)
    split: dict[str, Any] = {
        "name": "random",
        "folds": folds,
        "validation": 1 if has_validation else "none",
        "allow": ["duplicate"],
        **sizes,
        **kept,
    }
    variants = {
        "random-split": replace(recipe, protocol=split),
        "test-speaker-normalisation": replace(
            recipe, normalise={**recipe.normalise, "statistics": "speaker"}
        ),
    }
    return {name: variant for name, variant in variants.items() if variant != recipe}
