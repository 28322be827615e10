"""Evaluate a recipe with several values of one setting, each with the same seeds; test for a trend.

Every point is an ordinary evaluation: a finished one is read, an interrupted one is resumed.

P = values, S = seeds, G = speakers (or utterances), K = classes.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serein import config, corpora
from serein.errors import ConfigError
from serein.evaluation import search_space as spaces
from serein.evaluation.compare import ComparedRun, common_labels, compare_with_first
from serein.evaluation.engines import Engine, open_engine
from serein.evaluation.evaluate import OpenProgress, no_progress, run_plans
from serein.evaluation.plan import Plan, build_plan, resolve_recipe
from serein.evaluation.provenance import command_line, utc_now
from serein.metrics.bootstrap import Statistic, confusion_by_group
from serein.metrics.classification import (
    unweighted_accuracy_from_confusion,
    weighted_accuracy_from_confusion,
)
from serein.metrics.intervals import choose_groups
from serein.metrics.jackknife import LOGIT, PLAIN, Scale, jackknife_over_seeds
from serein.metrics.scoring import nan_to_none
from serein.metrics.statistical_tests import count_arrangements, slope, slope_test
from serein.records import Corpus, Recipe
from serein.results import io
from serein.results.evaluation import Results
from serein.results.studies import Interval, Sweep, SweepPoint, SweepSeed, Trend

FEW_SEEDS = 3
"""With fewer seeds, intervals over seeds are likely too narrow."""
EXAMPLE = "write protocol.auxiliary_share=0,0.25,0.5,0.75,1"
EvaluationCallback = Callable[[str, Results], None]
"""Called after every evaluation with the setting, such as "training.rate=0.1", and the results."""


def ignore_evaluation(setting: str, results: Results) -> None:
    """Do nothing."""


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
    fresh: bool = False,
    open_progress: OpenProgress = no_progress,
) -> Sweep:
    """Evaluate a recipe with each value of a setting and each seed, and test for a trend.

    An interrupted sweep is resumed, and more values or seeds train only the new ones.

    Args:
        recipe: name, path of a TOML file, or a recipe.
        corpus: as for ``evaluate``.
        setting: its name and two or more values, ``"protocol.auxiliary_share=0,0.5,1"``.
        seeds: number of seeds.
        seed: the first seed.
        settings: changes of the recipe for all values.
        jobs: as for ``evaluate``.
        device: as for ``evaluate``.
        runs: the folder in which the folders of the sweep and of its evaluations are created.
        on_evaluation: called after every evaluation.
        engine: as for ``evaluate``; a cluster runs several evaluations at a time.
        address: as for ``evaluate``.
        fresh: as for ``evaluate``.
        open_progress: as for ``evaluate``; called for every evaluation.

    Returns:
        The sweep, which is saved as ``sweep.json`` in its folder, ``runs / sweep.name``.

    Raises:
        ConfigError: ``setting`` has fewer than two values, or changes the tested utterances or
            their classes.
        SereinError: as ``evaluate``, before anything is trained unless audio cannot be read or a
            file cannot be written.
    """
    if seeds < 1:
        raise ConfigError(f"seeds is {seeds}; expected 1 or more")
    base = resolve_recipe(recipe, settings)
    name, values = _parse_setting(base, setting)
    corpus = corpora.as_corpus(corpus)
    # All plans are built before the first training, so that an impossible value costs nothing.
    plans = []
    for value in values:
        varied = resolve_recipe(recipe, [*settings, config.format_setting(name, value)])
        plans.append(
            [
                build_plan(varied, corpus, seed=seed + offset, device=device, runs=runs)
                for offset in range(seeds)
            ]
        )
    _check_comparable(name, values, [seed_plans[0] for seed_plans in plans])
    compared_runs = []
    with open_engine(engine, jobs, address) as opened_engine:
        finished_runs = run_plans(
            list(chain.from_iterable(plans)),
            opened_engine,
            fresh=fresh,
            open_progress=open_progress,
        )
        for value in values:
            text, seed_runs = config.format_setting(name, value), []
            for run in islice(finished_runs, seeds):
                seed_runs.append(run.results)
                on_evaluation(text, run.results)
            compared_runs.append(ComparedRun(text, tuple(seed_runs)))
    record = build_sweep(base, name, values, compared_runs)
    io.save_record(record, runs / record.name)
    return record


def _parse_setting(recipe: Recipe, setting: str) -> tuple[str, tuple[Any, ...]]:
    name, text = spaces.split_setting(recipe, setting)
    values = spaces.parse_values(text)
    if len(values) < 2:
        raise ConfigError(f"{name}={text} is not a list of two or more values; {EXAMPLE}")
    return name, values


def _check_comparable(name: str, values: Sequence[Any], plans: Sequence[Plan]) -> None:
    """Raise an error unless all values test the same utterances with the same classes."""
    first, task = plans[0], next(iter(plans[0].classes))
    if not first.classes[task]:
        raise ConfigError(
            f"{task}, the first task, is a regression, and a sweep compares WA and UA: "
            f"sweep its levels (tasks.{task}.scheme=levels), or put a classification first"
        )
    for value, plan in zip(values, plans, strict=True):
        if _tested_ids(plan) != _tested_ids(first) or plan.classes.get(task) != first.classes[task]:
            raise ConfigError(
                f"{config.format_setting(name, value)} tests other utterances, or other classes of "
                f"{task}, than {config.format_setting(name, values[0])}; sweep a setting of model, "
                "training or training subset, and compare runs of other splits with "
                "`serein compare`"
            )


def _tested_ids(plan: Plan) -> list[str]:
    return sorted(id_ for fold in plan.protocol.folds for id_ in fold.test)


def build_sweep(
    recipe: Recipe, name: str, values: Sequence[Any], compared_runs: Sequence[ComparedRun]
) -> Sweep:
    """Build the record of a sweep.

    Args:
        recipe: without the swept setting.
        name: of the setting.
        values: of the setting.
        compared_runs: the results of every seed, for each value.
    """
    first = compared_runs[0].first
    task = next(iter(first.classes))
    truth = common_labels(compared_runs, task)
    speaker_of = {prediction.id: prediction.speaker for prediction in first.predictions}
    groups, description = choose_groups([speaker_of[id_] for id_ in truth])
    counts = np.stack([_count_confusions(run, task, truth, groups) for run in compared_runs])
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
            _build_point(value, run, counts_sgkk)
            for value, run, counts_sgkk in zip(values, compared_runs, counts, strict=True)
        ],
        interval=_describe_interval(description, len(compared_runs[0].runs)),
        paired_tests=compare_with_first(compared_runs[0], compared_runs[1:], task),
        trend=_fit_trend(values, counts),
        warnings=list(_collect_warnings(compared_runs)),
    )


def _sweep_name(name: str, compared_runs: Sequence[ComparedRun]) -> str:
    """Return the name of a sweep, which is the same for the same evaluations."""
    names = [name, *(run.name for compared in compared_runs for run in compared.runs)]
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]
    # The name of a run folder ends in a digest of its own.
    return f"{compared_runs[0].first.name.rpartition('-')[0]}-sweep-{digest}"


def _count_confusions(
    compared: ComparedRun, task: str, truth: Mapping[str, str | float], groups: Sequence[str]
) -> NDArray[np.int64]:
    """Count the confusions of each seed and group: (S, G, K, K)."""
    classes = compared.first.classes[task]
    return np.stack(
        [
            confusion_by_group(truth.values(), [by_id[id_] for id_ in truth], groups, classes)
            for by_id in compared.predicted_labels(task)
        ]
    )


def _describe_interval(interval: str, seeds: int) -> str:
    if seeds == 1:
        return f"{interval}; one training seed; scores differ between seeds"
    return f"{interval}, and over {seeds} seeds{' (few: likely too narrow)' * (seeds < FEW_SEEDS)}"


def _build_point(value: Any, compared: ComparedRun, counts_sgkk: NDArray[np.int64]) -> SweepPoint:
    total_kk, by_seed_skk = counts_sgkk.sum(axis=(0, 1)), counts_sgkk.sum(axis=1)
    wa_s = np.asarray(weighted_accuracy_from_confusion(by_seed_skk))
    ua_s = np.asarray(unweighted_accuracy_from_confusion(by_seed_skk))
    protocol = compared.first.protocol
    return SweepPoint(
        value=value,
        split=str(protocol["caution"]),
        training_utterances=fmean(len(fold["train"]) for fold in protocol["folds"]),
        wa=nan_to_none(weighted_accuracy_from_confusion(total_kk)),
        ua=nan_to_none(unweighted_accuracy_from_confusion(total_kk)),
        wa_interval=_score_interval(counts_sgkk, weighted_accuracy_from_confusion),
        ua_interval=_score_interval(counts_sgkk, unweighted_accuracy_from_confusion),
        seeds=[
            SweepSeed(
                seed=run.environment["seed"],
                run=run.name,
                wa=nan_to_none(wa_s[index]),
                ua=nan_to_none(ua_s[index]),
            )
            for index, run in enumerate(compared.runs)
        ],
    )


def _score_interval(counts_sgkk: NDArray[np.int64], statistic: Statistic) -> Interval:
    """Compute the interval of a score over groups and seeds; None where it is undefined."""
    return _compute_interval(
        counts_sgkk[None], lambda sums: np.asarray(statistic(sums[:, 0])), LOGIT
    )


def _compute_interval(
    counts_psgkk: NDArray[np.int64], statistic: Statistic, scale: Scale
) -> Interval:
    low, high = jackknife_over_seeds(counts_psgkk, statistic, scale=scale)
    return None if np.isnan(low) else (low, high)


def _fit_trend(values: Sequence[Any], counts_psgkk: NDArray[np.int64]) -> Trend | None:
    """Fit a line to UA over the values; None if a value is not a number or a UA is undefined."""
    if any(type(value) not in (int, float) for value in values):
        return None
    ua_ps = np.asarray(unweighted_accuracy_from_confusion(counts_psgkk.sum(axis=2)))
    if np.isnan(ua_ps).any():
        return None
    return Trend(
        slope=float(slope(values, ua_ps.mean(axis=1))),
        interval=_compute_interval(
            counts_psgkk,
            lambda sums: slope(values, np.asarray(unweighted_accuracy_from_confusion(sums))),
            PLAIN,
        ),
        p=nan_to_none(slope_test(values, ua_ps.T)),
        arrangements=count_arrangements(ua_ps.shape[1], len(values)),
    )


def _collect_warnings(compared_runs: Sequence[ComparedRun]) -> Iterator[str]:
    """Yield the limits of the scores, a sentence each."""
    runs = [run for compared in compared_runs for run in compared.runs]
    yield from dict.fromkeys(warning for run in runs for warning in run.warnings)
    yield from dict.fromkeys(
        leak.description for run in runs for leak in run.leakage if leak.verdict == "allowed"
    )
    if any("validation" not in run.selections for run in runs):
        yield "no validation subset selected the epochs"
