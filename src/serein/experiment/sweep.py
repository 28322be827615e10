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

from serein import config, corpora, recipes, store
from serein.errors import ConfigError
from serein.experiment import space as spaces
from serein.experiment.compare import Entrant, against, shared
from serein.experiment.engines import Engine, engaged
from serein.experiment.evaluate import carry_all_out
from serein.experiment.facts import command, now
from serein.experiment.plan import Plan, plan
from serein.metrics.classification import (
    unweighted_accuracy_from_confusion,
    weighted_accuracy_from_confusion,
)
from serein.metrics.measures import defined
from serein.metrics.significance import grouped_confusions, speaker_or_utterance_groups
from serein.metrics.trend import arrangements, bootstrap_repeated, slope, slope_test
from serein.records import Corpus, Recipe
from serein.results import Results
from serein.sweeps import Interval, Point, Seeded, Sweep, Trend

FEW = 5
"""With fewer seeds, resampling them says too little."""
EXAMPLE = "write protocol.share=0,0.25,0.5,0.75,1"
Scores = NDArray[np.float64]
Told = Callable[[str, Results], None]
"""Is told of every evaluation: the setting as it would be typed, and what came of it."""


def silent(setting: str, results: Results) -> None:
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
    told: Told = silent,
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
        setting: its name and two values or more, ``"protocol.share=0,0.5,1"``.
        seeds: how many, from the first one on.
        seed: the first one.
        settings: what to change in the recipe for all values.
        jobs: as for ``evaluate``.
        device: as for ``evaluate``.
        runs: the folder that the sweep's own and those of its evaluations are made in.
        told: is told of every evaluation that has ended.
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
    base, chosen = chosen, recipes.changed(chosen, settings)
    name, values = _read(setting)
    read = corpora.read(corpus)
    # All plans are made before the first training: a value that cannot be costs nothing then.
    plans = [
        [
            plan(
                recipes.changed(base, [*settings, config.worded(name, value)]),
                read,
                seed=seed + more,
                device=device,
                runs=runs,
            )
            for more in range(seeds)
        ]
        for value in values
    ]
    _check(name, values, [todo[0] for todo in plans])
    entrants = []
    with engaged(engine, jobs, address) as hands:
        every = carry_all_out([todo for todos in plans for todo in todos], hands, **options)
        for value in values:
            words, done = config.worded(name, value), []
            for run in islice(every, seeds):
                done.append(run.results)
                told(words, run.results)
            entrants.append(Entrant(words, tuple(done)))
    found = assemble(chosen, name, values, entrants)
    store.save_sweep(found, runs / found.name)
    return found


def _read(setting: str) -> tuple[str, tuple[Any, ...]]:
    config.override({}, setting)  # for the errors of a setting that is none
    name, _, text = map(str.strip, setting.partition("="))
    values = spaces.values(text)
    if len(values) < 2:
        raise ConfigError(f"{name}={text} is not two values or more; {EXAMPLE}")
    return name, values


def _check(name: str, values: Sequence[Any], plans: Sequence[Plan]) -> None:
    """Points compare only where they test the same utterances, by the same classes."""
    first, task = plans[0], next(iter(plans[0].classes))
    if not first.classes[task]:
        raise ConfigError(
            f"{task}, the first task, is foretold as a number, and a sweep compares WA and UA: "
            f"sweep its levels (tasks.{task}.scheme=levels), or put a task of classes first"
        )
    for value, todo in zip(values, plans, strict=True):
        if _tested(todo) != _tested(first) or todo.classes.get(task) != first.classes[task]:
            raise ConfigError(
                f"{config.worded(name, value)} tests other utterances, or other classes of {task}, "
                f"than {config.worded(name, values[0])}; sweep a setting of model, training or "
                "training side, and compare runs of other splits with `serein compare`"
            )


def _tested(todo: Plan) -> list[str]:
    return sorted(id_ for fold in todo.protocol.folds for id_ in fold.test)


def assemble(
    recipe: Recipe, name: str, values: Sequence[Any], entrants: Sequence[Entrant]
) -> Sweep:
    """Lay together what a report shows.

    Args:
        recipe: before the sweep changed it.
        name: of the setting.
        values: of it.
        entrants: for each value, what came of every seed.
    """
    first = entrants[0].first
    task = next(iter(first.classes))
    truth = shared(entrants, task)
    records = {one.id: one for one in first.predictions}
    groups, words = speaker_or_utterance_groups([records[id_].speaker for id_ in truth])
    counts = np.stack([_counted(one, task, truth, groups) for one in entrants])
    draws = {
        score: bootstrap_repeated(counts, of)
        for score, of in (
            ("wa", weighted_accuracy_from_confusion),
            ("ua", unweighted_accuracy_from_confusion),
        )
    }
    return Sweep(
        format=store.FORMAT,
        name=_named(name, entrants),
        command=command(),
        created=now(),
        recipe=asdict(recipe),
        corpus=first.corpus,
        protocol=str(first.protocol["name"]),
        task=task,
        selection=first.headline,
        setting=name,
        utterances=len(truth),
        points=[
            _point(value, one, counts[place], {s: found[:, place] for s, found in draws.items()})
            for place, (value, one) in enumerate(zip(values, entrants, strict=True))
        ],
        interval=_told_of(words, len(entrants[0].runs)),
        contests=against(entrants[0], entrants[1:], task),
        trend=_trend(values, counts, draws["ua"]),
        warnings=list(_warnings(entrants)),
    )


def _named(name: str, entrants: Sequence[Entrant]) -> str:
    """What a sweep is called: the same evaluations are the same sweep."""
    parts = [name, *(run.name for one in entrants for run in one.runs)]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
    # The folder of an evaluation ends in a mark of its own.
    return f"{entrants[0].first.name.rpartition('-')[0]}-sweep-{digest}"


def _counted(
    one: Entrant, task: str, truth: Mapping[str, str | float], groups: Sequence[str]
) -> NDArray[np.int64]:
    """(S, G, K, K) counts of each seed's answers."""
    classes = one.first.classes[task]
    return np.stack(
        [
            grouped_confusions(truth.values(), [own[id_] for id_ in truth], groups, classes)
            for own in one.answers(task)
        ]
    )


def _told_of(words: str, seeds: int) -> str:
    if seeds == 1:
        return f"{words}; of one training seed, another would give other scores"
    return f"{words}, and over {seeds} seeds{' (few: likely too narrow)' * (seeds < FEW)}"


def _point(
    value: Any, one: Entrant, counts_sgkk: NDArray[np.int64], draws: dict[str, Scores]
) -> Point:
    total, sums = counts_sgkk.sum(axis=(0, 1)), counts_sgkk.sum(axis=1)
    was, uas = weighted_accuracy_from_confusion(sums), unweighted_accuracy_from_confusion(sums)
    return Point(
        value=value,
        split=str(one.first.protocol["caution"]),
        trained=fmean(len(fold["train"]) for fold in one.first.protocol["folds"]),
        wa=defined(weighted_accuracy_from_confusion(total)),
        ua=defined(unweighted_accuracy_from_confusion(total)),
        wa_interval=_middle(draws["wa"]),
        ua_interval=_middle(draws["ua"]),
        seeds=[
            Seeded(
                seed=run.environment["seed"],
                run=run.name,
                wa=defined(np.asarray(was)[place]),
                ua=defined(np.asarray(uas)[place]),
            )
            for place, run in enumerate(one.runs)
        ],
    )


def _middle(draws_n: Scores) -> Interval:
    """The middle 95 %; none where some draw is undefined."""
    low, high = np.quantile(draws_n, [0.025, 0.975])
    return None if np.isnan(low) else (float(low), float(high))


def _trend(
    values: Sequence[Any], counts_psgkk: NDArray[np.int64], draws_np: Scores
) -> Trend | None:
    if any(type(value) not in (int, float) for value in values):
        return None
    ua_ps = np.asarray(unweighted_accuracy_from_confusion(counts_psgkk.sum(axis=2)))
    if np.isnan(ua_ps).any():
        return None
    return Trend(
        slope=float(slope(values, ua_ps.mean(axis=1))),
        interval=_middle(slope(values, draws_np)),
        p=defined(slope_test(values, ua_ps.T)),
        arrangements=arrangements(ua_ps.shape[1], len(values)),
    )


def _warnings(entrants: Sequence[Entrant]) -> Iterator[str]:
    """What a reader must know before believing the scores."""
    runs = [run for one in entrants for run in one.runs]
    yield from dict.fromkeys(words for run in runs for words in run.warnings)
    yield from dict.fromkeys(
        leak.words for run in runs for leak in run.leakage if leak.verdict == "allowed"
    )
    if any("validation" not in run.selections for run in runs):
        yield "no validation side chose the epochs"
