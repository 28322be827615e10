"""Random search over the settings of a recipe (Bergstra & Bengio 2012), task weights by default.

Zhang et al. 2019, section 3.3, search the weights of their tasks in this way. Trials are ranked by
the score that selects an epoch, on validation speakers: that of the first task, or with
``training.select_by = "mean"`` the mean over all tasks. Test subsets are evaluated as in every
evaluation, and their scores are not used here.
"""

import shlex
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from serein import config, corpora, system
from serein.errors import ConfigError, ProtocolError, SereinError
from serein.evaluation import search_space as spaces
from serein.evaluation.engines import Engine, open_engine
from serein.evaluation.evaluate import OpenProgress, Run, evaluate, no_progress
from serein.evaluation.plan import Plan, build_plan, resolve_recipe
from serein.evaluation.provenance import command_line, describe_corpus, hash_dependencies, utc_now
from serein.evaluation.scores import selection_tasks
from serein.metrics.scoring import compute_mean_score, get_scorer
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
"""Called after every trial with the trial and the search so far."""


def ignore_trial(trial: Trial, search: Search) -> None:
    """Do nothing."""


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

    An interrupted search is resumed. Several processes, on this machine or on others that share
    the storage, can work on one search: each trial is run once. A search is continued by the same
    call with more trials.

    Args:
        recipe: name, path of a TOML file, or a recipe.
        corpus: as for ``evaluate``.
        space: settings and their ranges, ``"training.rate=1e-4..1e-2:log"``; the default is the
            weight of every task but the first, 0 to 1.
        trials: total number of trials.
        seed: of the draws and of every training.
        settings: changes of the recipe for all trials.
        jobs: folds at a time, as for ``evaluate``.
        device: "cpu", "cuda", or "auto".
        runs: the folder in which the folders of the search and of its trials are created.
        storage: where the trials are stored: a URL for Optuna, or a file on a disk that all
            processes share; None is a file in the search's folder.
        partial: read an incomplete corpus, however much of it is missing.
        open_progress: opens a progress display for each evaluation, as for ``evaluate``.
        on_trial: called after every trial.
        engine: as for ``evaluate``; a cluster runs several trials at a time.
        address: as for ``evaluate``.

    Returns:
        The search, which is saved as ``search.json`` in its folder, ``runs / search.name``.

    Raises:
        ConfigError: the recipe does not accept the space, has no validation speakers, or no trial
            could be evaluated; or Optuna is not installed.
        SereinError: as ``evaluate``.
    """
    if trials < 1:
        raise ConfigError(f"trials is {trials}; expected 1 or more")
    base = resolve_recipe(recipe, settings)
    read = corpora.as_corpus(corpus, partial=partial)
    dimensions = spaces.parse_space(base, space)
    plan = build_plan(base, read, seed=seed, device=device, runs=runs)
    _check_validation(plan)
    points = spaces.draw_points(dimensions, seed, trials)
    name = search_name(plan, dimensions)
    command = evaluation_command(recipe, corpus, settings, seed, device, runs, partial)
    store = _open_trial_store(runs / name, name, dimensions, points, storage)
    options: dict[str, Any] = {"seed": seed, "device": device, "runs": runs}

    def submit_trial(engine: Engine, point: spaces.Point) -> None:
        with suppress(SereinError):  # run_trial raises it again
            trial_plan = build_plan(spaces.apply_point(base, point), read, **options)
            engine.submit(trial_plan, fresh=False)

    def run_trial(engine: Engine, point: spaces.Point) -> Run:
        trial_recipe = spaces.apply_point(base, point)
        return evaluate(trial_recipe, read, **options, open_progress=open_progress, engine=engine)

    def save() -> Search:
        with store.lock:  # of several processes, the later one writes last
            current = build_search(plan, name, dimensions, store.list_trials(), trials, command)
            io.save_record(current, runs / name)
        return current

    with store.mark_alive(), open_engine(engine, jobs, address) as opened_engine:
        for number in _run_trials(store, opened_engine, submit_trial, run_trial, plan):
            current = save()
            on_trial(current.trials[number], current)
    return _check_any_finished(save())


def _check_validation(plan: Plan) -> None:
    if not all(fold.validation for fold in plan.protocol.folds):
        raise ConfigError(
            f"{plan.recipe.name} has no validation speakers to score trials on "
            "(protocol.validation), and a search on test speakers would be optimistic. "
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
    """Run trials until none is left, and yield the number of each that has ended."""
    claimed: deque[Any] = deque()
    try:
        while _claim_trials(store, engine, submit_trial, claimed):
            trial = claimed[0]
            try:
                results = run_trial(engine, store.points[trial.number]).results
                folds = validation_scores(results, selection_tasks(plan))
                attributes = {"folds": folds, "run": results.name, "seconds": results.seconds}
                store.finish_trial(trial, _mean_score(folds, results, plan), attributes)
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
    """Claim one trial, and more while the engine has room; return False if none is left."""
    while not claimed or engine.has_room():
        trial = store.claim_trial()
        if trial is None:
            break
        claimed.append(trial)
        if engine.has_room():
            submit_trial(engine, store.points[trial.number])
    return bool(claimed)


def validation_scores(results: Results, tasks: Sequence[str]) -> dict[str, float | None]:
    """Return the score of each fold on its validation subset, at its selected epoch.

    It is the score that selected the epoch: the mean over the recipe's selection window.

    Args:
        results: of a trial.
        tasks: the main score of one task, or the mean of those of several tasks.
    """
    training = config.build_config(TrainingConfig, results.recipe["training"], "training")
    return {
        fold.name: _validation_score(fold, tasks, training.selection_window)
        for fold in results.folds
    }


def _validation_score(fold: FoldResult, tasks: Sequence[str], window: int) -> float | None:
    last = fold.epochs["validation"]
    epochs = fold.history[max(0, last - window) : last]
    scores = [compute_mean_score(epoch.scores["validation"], tasks) for epoch in epochs]
    defined = [score for score in scores if score is not None]
    return fmean(defined) if len(defined) == len(epochs) else None


def _mean_score(folds: dict[str, float | None], results: Results, plan: Plan) -> float:
    """Return the mean over folds.

    Raises:
        ConfigError: no fold has a score, or the trial tests other utterances or classes.
    """
    tasks = selection_tasks(plan)
    is_comparable = results.protocol["hash"] == plan.protocol.hash and all(
        tuple(results.classes[task]) == plan.classes[task] for task in tasks
    )
    if not is_comparable:
        raise ConfigError(
            f"with these settings other utterances or classes of {', '.join(tasks)} are scored "
            "than in the other trials, and scores do not compare"
        )
    defined = [score for score in folds.values() if score is not None]
    if not defined:
        raise ConfigError(f"no validation speaker has a label of {', '.join(tasks)}")
    return fmean(defined)


def _check_any_finished(search: Search) -> Search:
    faults = [trial.fault for trial in search.trials if trial.state == "failed"]
    if faults and len(faults) == len(search.trials):
        raise ConfigError(
            f"none of {len(faults)} trials could be evaluated; the first: {faults[0]}"
        )
    return search


def search_name(plan: Plan, space: spaces.Space) -> str:
    """Return the name of a search, which is the same on every machine."""
    dependencies = [
        asdict(plan.recipe) | {"about": {}},
        list(plan.recipe.tasks),
        plan.protocol.listing_hash,
        corpora.fingerprint(plan.corpus, plan.content_hashes),
        system.hash_recipe_sources(plan.recipe),
        {dimension.name: dimension.text for dimension in space},
    ]
    if len(tasks := selection_tasks(plan)) > 1:
        dependencies.append({"ranked by": list(tasks)})
    digest = hash_dependencies(dependencies)[:8]
    # The name of the run folder is quoted already, and ends in a digest of its own.
    prefix = plan.folder.name.rpartition("-")[0]
    return f"{prefix}-search-{digest}"


def evaluation_command(
    recipe: str | Recipe,
    corpus: str | Sequence[str] | Corpus,
    settings: Sequence[str],
    seed: int,
    device: str,
    runs: Path,
    partial: bool | None = None,
) -> list[str]:
    """Return the command that evaluates the recipe, without the settings of a trial."""
    name = recipe if isinstance(recipe, str) else recipe.name
    names = [corpus.name] if isinstance(corpus, Corpus) else corpus
    names = [names] if isinstance(names, str) else names
    words = ["serein", "evaluate", name]
    words += [word for one in names for word in ("--corpus", one)]
    words += [word for setting in settings for word in ("--set", setting)]
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
    """Build the record of a search.

    Args:
        plan: of the recipe, without the settings of a trial.
        name: of the search.
        space: its space.
        trials: every trial so far.
        n_trials: the number of trials that was asked for.
        evaluation: the command that evaluates the recipe.
    """
    best = next(iter(rank_trials(trials)), None)
    if best:
        for setting in spaces.format_settings(best.settings):
            evaluation = [*evaluation, "--set", setting]
    protocol, task = plan.protocol, next(iter(plan.recipe.tasks))
    return Search(
        format=io.FORMAT,
        name=name,
        command=command_line(),
        created=utc_now(),
        recipe=asdict(plan.recipe),
        corpus=describe_corpus(plan.corpus, plan.content_hashes),
        protocol={
            "name": protocol.name,
            "hash": protocol.hash,
            "validation": protocol.validation,
            "folds": len(protocol.folds),
        },
        task=task,
        space={dimension.name: dimension.text for dimension in space},
        seed=plan.seed,
        trials=trials,
        best=best.number if best else None,
        evaluation=shlex.join(evaluation) if best else "",
        warnings=list(_collect_warnings(protocol, trials, n_trials)),
        score=get_scorer(plan.classes[task]).main.name,
        ranked_by={
            name: get_scorer(plan.classes[name]).main.name for name in selection_tasks(plan)
        },
    )


def _collect_warnings(protocol: Protocol, trials: list[Trial], n_trials: int) -> Iterator[str]:
    """Yield the limits of the scores, a sentence each."""
    if protocol.caution:
        yield protocol.caution
    tested = {id_ for fold in protocol.folds for id_ in fold.test}
    if any(tested.intersection(fold.validation) for fold in protocol.folds):
        yield (
            "the validation speakers of one fold are tested in another: settings selected over "
            "all folds have used every speaker, so that the best trial's test score is optimistic, "
            "too. Test speakers that are in no validation subset (a fixed split) avoid this"
        )
    states = [trial.state for trial in trials]
    if failed := states.count("failed"):
        yield f"{failed} of {len(trials)} trials could not be evaluated"
    if unfinished := len(states) - states.count("finished") - failed:
        yield (
            f"trials that are running elsewhere or were interrupted: {unfinished}; the same "
            "command resumes the search"
        )
    if len(states) < n_trials and not unfinished:
        yield f"{len(states)} of {n_trials} trials: the space has no more, or the search goes on"
