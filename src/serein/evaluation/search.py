"""Random search over the settings of a recipe (Bergstra & Bengio 2012), task weights first.

Zhang et al. 2019, section 3.3, find the weights of their tasks so. Trials are scored on validation
speakers; their test sides are evaluated, as every evaluation's, and never looked at here.

What a search leaves: its name, its trials, and what must be known to believe them.
"""

import hashlib
import json
import shlex
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from serein import config, corpora, recipes, system
from serein.errors import ConfigError, ProtocolError, SereinError
from serein.evaluation import search_space as spaces
from serein.evaluation.engines import Engine, open_engine
from serein.evaluation.evaluate import OpenProgress, Run, evaluate, no_progress
from serein.evaluation.plan import Plan, build_plan
from serein.evaluation.provenance import command_line, describe_corpus, utc_now
from serein.metrics.scoring import get_main_score, get_scorer
from serein.records import Corpus, Protocol, Recipe
from serein.results import io
from serein.results.evaluation import FoldResult, Results
from serein.results.studies import Search, Trial, rank_trials
from serein.training.config import TrainingConfig

if TYPE_CHECKING:
    from serein.evaluation.trials import TrialStore


SubmitTrial = Callable[[Engine, spaces.Point], None]
RunTrial = Callable[[Engine, spaces.Point], Run]
TrialCallback = Callable[[Trial, Search], None]
"""Is told of every trial that has ended, and of the search so far."""


def ignore_trial(trial: Trial, search: Search) -> None:
    """Tell nobody."""


def search(
    recipe: str | Recipe,
    corpus: str | Sequence[str] | Corpus,
    space: Sequence[str] = (),
    *,
    trials: int = 20,
    seed: int = 0,
    settings: Sequence[str] = (),
    jobs: int | None = None,
    device: str = "cpu",
    runs: Path = Path("runs"),
    storage: str | None = None,
    partial: bool | None = None,
    open_progress: OpenProgress = no_progress,
    on_trial: TrialCallback = ignore_trial,
    engine: str | Engine = "local",
    address: str | None = None,
) -> Search:
    """Evaluate a recipe with settings drawn at random, and rank them on validation speakers.

    A search that was interrupted goes on where it was, as do several that are started at once,
    here or on other machines that share the storage: each trial is run once. More trials
    continue a search.

    Args:
        recipe: name, path of a TOML file, or a recipe.
        corpus: as for ``evaluate``.
        space: what to draw from, ``"training.rate=1e-4..1e-2:log"``; without any, the weight of
            every task but the first, 0 to 1.
        trials: how many in all.
        seed: of the draws, and of every training.
        settings: what to change in the recipe for all trials.
        jobs: folds at a time, as for ``evaluate``.
        device: "cpu", "cuda", or "auto".
        runs: the folder that the search's own and those of its trials are made in.
        storage: where trials are kept: a URL that Optuna understands, or a file on a disk that
            all processes see; None is a file in the search's folder.
        partial: take what is there of a corpus, however much is missing.
        open_progress: is told the plan of each evaluation, as for ``evaluate``.
        on_trial: is told of every trial that has ended.
        engine: as for ``evaluate``; a cluster works on several trials at a time.
        address: as for ``evaluate``.

    Returns:
        The search, which stands in ``search.json`` of its folder, ``runs / search.name``.

    Raises:
        ConfigError: a space that the recipe does not take, a recipe without validation speakers,
            no trial that could be evaluated, or Optuna is not installed.
        SereinError: as ``evaluate``.
    """
    if trials < 1:
        raise ConfigError(f"trials is {trials}; expected 1 or more")
    chosen = recipes.load(recipe) if isinstance(recipe, str) else recipe
    chosen = recipes.with_settings(chosen, settings)
    read = corpora.as_corpus(corpus, partial=partial)
    ranges = spaces.parse_space(chosen, space)
    todo = build_plan(chosen, read, seed=seed, device=device, runs=runs)
    _check_validation(todo)
    points = spaces.draw_points(ranges, seed, trials)
    name = search_name(todo, ranges)
    evaluation = evaluation_command(recipe, corpus, settings, seed, device, runs, partial)
    ledger = _open_trial_store(runs / name, name, ranges, points, storage)

    def state() -> Search:
        return build_search(todo, name, ranges, ledger.list_trials(), trials, evaluation)

    how: dict[str, Any] = {"seed": seed, "device": device, "runs": runs}

    def ahead(hands: Engine, point: spaces.Point) -> None:
        with suppress(SereinError):  # it is told of when the trial's turn has come
            hands.submit(build_plan(spaces.apply_point(chosen, point), read, **how), fresh=False)

    def once(hands: Engine, point: spaces.Point) -> Run:
        changed = spaces.apply_point(chosen, point)
        return evaluate(changed, read, **how, open_progress=open_progress, engine=hands)

    with ledger.mark_alive(), open_engine(engine, jobs, address) as hands:
        for number in _run_trials(ledger, hands, ahead, once, todo):
            now_known = _save_state(state, ledger, runs / name)
            on_trial(now_known.trials[number], now_known)
    return _check_any_finished(_save_state(state, ledger, runs / name))


def _check_validation(plan: Plan) -> None:
    if not all(fold.validation for fold in plan.protocol.folds):
        raise ConfigError(
            f"{plan.recipe.name} has no validation speakers to score trials on "
            "(protocol.validation); a search by test speakers would have seen the answers. "
            "Set one: --set protocol.validation=1"
        )


def _open_trial_store(
    folder: Path,
    name: str,
    space: spaces.Space,
    points: list[spaces.Point],
    storage: str | None,
) -> "TrialStore":
    try:
        from serein.evaluation.trials import TrialStore
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"a search needs Optuna ({error}); install it: pip install 'serein[search]'"
        ) from error
    return TrialStore(folder, name, space, points, storage)


def _run_trials(
    store: "TrialStore", engine: Engine, submit_trial: SubmitTrial, run_trial: RunTrial, plan: Plan
) -> Iterator[int]:
    """Run trials until none is left; give the number of each that has ended."""
    claimed: deque[Any] = deque()
    try:
        while _claim_trials(store, engine, submit_trial, claimed):
            trial = claimed[0]
            try:
                results = run_trial(engine, store.points[trial.number]).results
                folds = validation_scores(results)
                store.finish_trial(
                    trial, _mean_score(folds, results, plan), _trial_attributes(folds, results)
                )
            except (ConfigError, ProtocolError) as error:
                store.fail_trial(trial, str(error))
            yield claimed.popleft().number
    except BaseException:
        for trial in claimed:
            store.release_trial(trial)
        raise


def _claim_trials(
    store: "TrialStore", engine: Engine, submit_trial: SubmitTrial, claimed: deque[Any]
) -> bool:
    """Claim one trial, and as many more as there is room for; False where none is left."""
    while not claimed or engine.has_room():
        trial = store.claim_trial()
        if trial is None:
            break
        claimed.append(trial)
        if engine.has_room():
            submit_trial(engine, store.points[trial.number])
    return bool(claimed)


def validation_scores(results: Results) -> dict[str, float | None]:
    """For each fold, the leading task's score on validation speakers at the epoch that it chose.

    It is the score that chose the epoch: averaged over as many epochs as the recipe says.
    """
    task = next(iter(results.recipe["tasks"]))
    smooth = config.build_config(
        TrainingConfig, results.recipe["training"], "training"
    ).selection_window
    return {fold.name: _validation_score(fold, task, smooth) for fold in results.folds}


def _validation_score(fold: FoldResult, task: str, smooth: int) -> float | None:
    last = fold.epochs["validation"]
    epochs = fold.history[max(0, last - smooth) : last]
    found = [get_main_score(one.scores["validation"][task]) for one in epochs]
    known = [score for score in found if score is not None]
    return fmean(known) if len(known) == len(epochs) else None


def _mean_score(folds: dict[str, float | None], results: Results, plan: Plan) -> float:
    """The mean over folds.

    Raises:
        ConfigError: there is none, or it is of other speakers or classes than the other trials'.
    """
    task = next(iter(plan.classes))
    same = results.protocol["hash"] == plan.protocol.hash
    if not same or tuple(results.classes[task]) != plan.classes[task]:
        raise ConfigError(
            f"with these settings other utterances or classes of {task} are scored than in the "
            "other trials, and scores do not compare"
        )
    known = [score for score in folds.values() if score is not None]
    if not known:
        raise ConfigError(f"no validation speaker has a label of {task}")
    return fmean(known)


def _trial_attributes(folds: dict[str, float | None], results: Results) -> dict[str, Any]:
    return {"folds": folds, "run": results.name, "seconds": results.seconds}


def _save_state(
    build_state: Callable[[], Search], trial_store: "TrialStore", folder: Path
) -> Search:
    """Write the search as it is now; the later of two processes writes last."""
    with trial_store.lock:
        found = build_state()
        io.save_search(found, folder)
    return found


def _check_any_finished(search: Search) -> Search:
    faults = [one.fault for one in search.trials if one.state == "failed"]
    if faults and len(faults) == len(search.trials):
        raise ConfigError(
            f"none of {len(faults)} trials could be evaluated; the first: {faults[0]}"
        )
    return search


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
