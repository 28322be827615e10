"""One setting over several values, each with the same seeds; and whether a trend shows.

Every point is an ordinary evaluation: what is finished is read, what was interrupted goes on.

P = values, S = seeds, G = speakers (or utterances), K = classes.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serein import config, corpora, recipes
from serein.errors import ConfigError
from serein.evaluation import search_space as spaces
from serein.evaluation.compare import ComparedRun, common_labels, compare_with_first
from serein.evaluation.engines import Engine, open_engine
from serein.evaluation.evaluate import run_plans
from serein.evaluation.plan import Plan, build_plan
from serein.evaluation.provenance import command_line, utc_now
from serein.metrics.bootstrap import choose_resampling_groups, confusion_by_group
from serein.metrics.classification import (
    unweighted_accuracy_from_confusion,
    weighted_accuracy_from_confusion,
)
from serein.metrics.scoring import nan_to_none
from serein.metrics.statistical_tests import (
    bootstrap_over_seeds,
    count_arrangements,
    slope,
    slope_test,
)
from serein.records import Corpus, Recipe
from serein.results import io
from serein.results.evaluation import Results
from serein.results.studies import Interval, Sweep, SweepPoint, SweepSeed, Trend

FEW_SEEDS = 5
"""With fewer seeds, resampling them says too little."""
EXAMPLE = "write protocol.auxiliary_share=0,0.25,0.5,0.75,1"
ScoreArray = NDArray[np.float64]
EvaluationCallback = Callable[[str, Results], None]
"""Is told of every evaluation: the setting as it would be typed, and what came of it."""


def ignore_evaluation(setting: str, results: Results) -> None:
    """Tell nobody."""


def sweep(
    recipe: str | Recipe,
    corpus: str | Sequence[str] | Corpus,
    setting: str,
    *,
    seeds: int = 1,
    seed: int = 0,
    settings: Sequence[str] = (),
    jobs: int | None = None,
    device: str = "cpu",
    runs: Path = Path("runs"),
    on_evaluation: EvaluationCallback = ignore_evaluation,
    engine: str | Engine = "local",
    address: str | None = None,
    **options: Any,
) -> Sweep:
    """Evaluate a recipe with each value of a setting and each seed, and look for a trend.

    A sweep that was interrupted goes on where it was, and more values or seeds train only what
    is new.

    Args:
        recipe: name, path of a TOML file, or a recipe.
        corpus: as for ``evaluate``.
        setting: its name and two values or more, ``"protocol.auxiliary_share=0,0.5,1"``.
        seeds: how many, from the first one on.
        seed: the first one.
        settings: what to change in the recipe for all values.
        jobs: as for ``evaluate``.
        device: as for ``evaluate``.
        runs: the folder that the sweep's own and those of its evaluations are made in.
        on_evaluation: is told of every evaluation that has ended.
        engine: as for ``evaluate``; a cluster works on several evaluations at a time.
        address: as for ``evaluate``.
        **options: as for ``carry_out``.

    Returns:
        The sweep, which stands in ``sweep.json`` of its folder, ``runs / sweep.name``.

    Raises:
        ConfigError: what is no setting with values, or one that changes what is tested or its
            classes.
        SereinError: as ``evaluate``; then nothing has been trained, unless audio or disk fail.
    """
    if seeds < 1:
        raise ConfigError(f"seeds is {seeds}; expected 1 or more")
    chosen = recipes.load(recipe) if isinstance(recipe, str) else recipe
    base, chosen = chosen, recipes.with_settings(chosen, settings)
    name, values = _parse_setting(setting)
    read = corpora.as_corpus(corpus)
    # All plans are made before the first training: a value that cannot be costs nothing then.
    plans = [
        [
            build_plan(
                recipes.with_settings(base, [*settings, config.format_setting(name, value)]),
                read,
                seed=seed + more,
                device=device,
                runs=runs,
            )
            for more in range(seeds)
        ]
        for value in values
    ]
    _check_comparable(name, values, [todo[0] for todo in plans])
    entrants = []
    with open_engine(engine, jobs, address) as hands:
        every = run_plans([todo for todos in plans for todo in todos], hands, **options)
        for value in values:
            words, done = config.format_setting(name, value), []
            for run in islice(every, seeds):
                done.append(run.results)
                on_evaluation(words, run.results)
            entrants.append(ComparedRun(words, tuple(done)))
    found = build_sweep(chosen, name, values, entrants)
    io.save_sweep(found, runs / found.name)
    return found


def _parse_setting(setting: str) -> tuple[str, tuple[Any, ...]]:
    config.apply_setting({}, setting)  # for the errors of a setting that is none
    name, _, text = map(str.strip, setting.partition("="))
    values = spaces.parse_values(text)
    if len(values) < 2:
        raise ConfigError(f"{name}={text} is not two values or more; {EXAMPLE}")
    return name, values


def _check_comparable(name: str, values: Sequence[Any], plans: Sequence[Plan]) -> None:
    """Points compare only where they test the same utterances, by the same classes."""
    first, task = plans[0], next(iter(plans[0].classes))
    if not first.classes[task]:
        raise ConfigError(
            f"{task}, the first task, is foretold as a number, and a sweep compares WA and UA: "
            f"sweep its levels (tasks.{task}.scheme=levels), or put a task of classes first"
        )
    for value, todo in zip(values, plans, strict=True):
        if _tested_ids(todo) != _tested_ids(first) or todo.classes.get(task) != first.classes[task]:
            raise ConfigError(
                f"{config.format_setting(name, value)} tests other utterances, or other classes of {task}, "
                f"than {config.format_setting(name, values[0])}; sweep a setting of model, training or "
                "training side, and compare runs of other splits with `serein compare`"
            )


def _tested_ids(plan: Plan) -> list[str]:
    return sorted(id_ for fold in plan.protocol.folds for id_ in fold.test)


def build_sweep(
    recipe: Recipe, name: str, values: Sequence[Any], compared_runs: Sequence[ComparedRun]
) -> Sweep:
    """Lay together what a report shows.

    Args:
        recipe: before the sweep changed it.
        name: of the setting.
        values: of it.
        compared_runs: for each value, what came of every seed.
    """
    first = compared_runs[0].first
    task = next(iter(first.classes))
    truth = common_labels(compared_runs, task)
    records = {one.id: one for one in first.predictions}
    groups, words = choose_resampling_groups([records[id_].speaker for id_ in truth])
    counts = np.stack([_count_confusions(one, task, truth, groups) for one in compared_runs])
    draws = {
        score: bootstrap_over_seeds(counts, of)
        for score, of in (
            ("wa", weighted_accuracy_from_confusion),
            ("ua", unweighted_accuracy_from_confusion),
        )
    }
    return Sweep(
        format=io.FORMAT,
        name=_sweep_name(name, compared_runs),
        command=command_line(),
        created=utc_now(),
        recipe=asdict(recipe),
        corpus=first.corpus,
        protocol=str(first.protocol["name"]),
        task=task,
        selection=first.headline,
        setting=name,
        utterances=len(truth),
        points=[
            _build_point(
                value, one, counts[place], {s: found[:, place] for s, found in draws.items()}
            )
            for place, (value, one) in enumerate(zip(values, compared_runs, strict=True))
        ],
        interval=_describe_interval(words, len(compared_runs[0].runs)),
        paired_tests=compare_with_first(compared_runs[0], compared_runs[1:], task),
        trend=_fit_trend(values, counts, draws["ua"]),
        warnings=list(_collect_warnings(compared_runs)),
    )


def _sweep_name(name: str, compared_runs: Sequence[ComparedRun]) -> str:
    """What a sweep is called: the same evaluations are the same sweep."""
    parts = [name, *(run.name for one in compared_runs for run in one.runs)]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
    # The folder of an evaluation ends in a mark of its own.
    return f"{compared_runs[0].first.name.rpartition('-')[0]}-sweep-{digest}"


def _count_confusions(
    one: ComparedRun, task: str, truth: Mapping[str, str | float], groups: Sequence[str]
) -> NDArray[np.int64]:
    """(S, G, K, K) counts of each seed's answers."""
    classes = one.first.classes[task]
    return np.stack(
        [
            confusion_by_group(truth.values(), [own[id_] for id_ in truth], groups, classes)
            for own in one.predicted_labels(task)
        ]
    )


def _describe_interval(interval: str, seeds: int) -> str:
    if seeds == 1:
        return f"{interval}; of one training seed, another would give other scores"
    return f"{interval}, and over {seeds} seeds{' (few: likely too narrow)' * (seeds < FEW_SEEDS)}"


def _build_point(
    value: Any, one: ComparedRun, counts_sgkk: NDArray[np.int64], draws: dict[str, ScoreArray]
) -> SweepPoint:
    total, sums = counts_sgkk.sum(axis=(0, 1)), counts_sgkk.sum(axis=1)
    was, uas = weighted_accuracy_from_confusion(sums), unweighted_accuracy_from_confusion(sums)
    return SweepPoint(
        value=value,
        split=str(one.first.protocol["caution"]),
        training_utterances=fmean(len(fold["train"]) for fold in one.first.protocol["folds"]),
        wa=nan_to_none(weighted_accuracy_from_confusion(total)),
        ua=nan_to_none(unweighted_accuracy_from_confusion(total)),
        wa_interval=_central_interval(draws["wa"]),
        ua_interval=_central_interval(draws["ua"]),
        seeds=[
            SweepSeed(
                seed=run.environment["seed"],
                run=run.name,
                wa=nan_to_none(np.asarray(was)[place]),
                ua=nan_to_none(np.asarray(uas)[place]),
            )
            for place, run in enumerate(one.runs)
        ],
    )


def _central_interval(draws_n: ScoreArray) -> Interval:
    """The middle 95 %; none where some draw is undefined."""
    low, high = np.quantile(draws_n, [0.025, 0.975])
    return None if np.isnan(low) else (float(low), float(high))


def _fit_trend(
    values: Sequence[Any], counts_psgkk: NDArray[np.int64], draws_np: ScoreArray
) -> Trend | None:
    if any(type(value) not in (int, float) for value in values):
        return None
    ua_ps = np.asarray(unweighted_accuracy_from_confusion(counts_psgkk.sum(axis=2)))
    if np.isnan(ua_ps).any():
        return None
    return Trend(
        slope=float(slope(values, ua_ps.mean(axis=1))),
        interval=_central_interval(slope(values, draws_np)),
        p=nan_to_none(slope_test(values, ua_ps.T)),
        arrangements=count_arrangements(ua_ps.shape[1], len(values)),
    )


def _collect_warnings(compared_runs: Sequence[ComparedRun]) -> Iterator[str]:
    """What a reader must know before believing the scores."""
    runs = [run for one in compared_runs for run in one.runs]
    yield from dict.fromkeys(words for run in runs for words in run.warnings)
    yield from dict.fromkeys(
        leak.description for run in runs for leak in run.leakage if leak.verdict == "allowed"
    )
    if any("validation" not in run.selections for run in runs):
        yield "no validation side chose the epochs"
