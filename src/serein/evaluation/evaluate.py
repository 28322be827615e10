"""From a recipe and a corpus to results."""

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from serein import corpora, recipes
from serein.audio import utterance_duration
from serein.errors import ConfigError
from serein.evaluation import folds, held_out, scores
from serein.evaluation.calibration import fit_temperatures, measure_calibration
from serein.evaluation.engines import Engine, open_engine
from serein.evaluation.errors import find_confident_errors
from serein.evaluation.labels import describe_proxies, held_out_shares
from serein.evaluation.plan import Plan, build_plan, clear_run, is_finished, lock_folder
from serein.evaluation.provenance import (
    command_line,
    describe_corpus,
    describe_environment,
    peak_megabytes,
    utc_now,
)
from serein.records import Corpus, Recipe
from serein.results import io
from serein.results.evaluation import LabelMapping, Prediction, Results
from serein.system import collect_notes
from serein.training.checkpoint import TrainingRun
from serein.utils import distributed
from serein.utils.device import precision_warnings

OpenProgress = Callable[[Plan], AbstractContextManager[folds.EpochCallback]]
"""Is told what will be done, and gives what is told of every epoch."""


class Run(NamedTuple):
    """What an evaluation leaves.

    Attributes:
        results: everything that a report shows.
        folder: where ``results.json`` and the state of the folds lie.
        anew: whether anything was trained; False where finished results were read from disk.
    """

    results: Results
    folder: Path
    is_new: bool


def no_progress(plan: Plan) -> AbstractContextManager[folds.EpochCallback]:
    """Show nothing."""
    return nullcontext(lambda fold, epoch: None)


def evaluate(
    recipe: str | Recipe,
    corpus: str | Sequence[str] | Corpus,
    *,
    settings: Sequence[str] = (),
    seed: int = 0,
    jobs: int | None = None,
    device: str = "cpu",
    runs: Path = Path("runs"),
    fresh: bool = False,
    open_progress: OpenProgress = no_progress,
    engine: str | Engine = "local",
    address: str | None = None,
) -> Run:
    """Train and test a system on every fold of its protocol.

    An evaluation that was interrupted goes on where it was: finished folds are kept, and a
    running fold goes on after its last finished epoch. One that is finished is read from disk.

    Args:
        recipe: name, path of a TOML file, or a recipe.
        corpus: ``NAME``, ``NAME=PATH``, several of them to be read as one, or a corpus.
        settings: what to change in the recipe, ``"training.epochs=3"``.
        seed: of the weights, the order of utterances, and dropout.
        jobs: folds at a time, each in a process of its own; the numbers do not depend on it.
            With more than one, a script needs ``if __name__ == "__main__":`` around the call.
            None is 1, or in a cluster as many as there is room for.
        device: "cpu", "cuda", or "auto".
        runs: the folder that the run's own folder is made in.
        fresh: forget what an earlier run of the same settings left.
        open_progress: is told the plan, and gives what is told of every epoch.
        engine: "local", or "ray": the folds are trained by a Ray cluster. Its machines need
            serein, and the corpus at the same path; the run's folder is written here alone.
        address: of the cluster's head; None is ``RAY_ADDRESS``, or else this machine.

    Returns:
        The results, and the run's folder.

    Raises:
        SereinError: whatever is wrong with recipe, corpus, split, audio or disk.
    """
    chosen = recipes.load(recipe, settings) if isinstance(recipe, str) else recipe
    read = corpora.read(corpus)
    todo = build_plan(chosen, read, seed=seed, device=device, runs=runs)
    with open_engine(engine, jobs, address) as hands:
        return run_plan(todo, hands, fresh=fresh, open_progress=open_progress)


def run_plans(
    plans: Sequence[Plan],
    engine: Engine,
    *,
    fresh: bool = False,
    open_progress: OpenProgress = no_progress,
) -> Iterator[Run]:
    """Do what was planned, one plan after the other; what there is room for is begun ahead.

    Raises:
        SereinError: whatever is wrong with audio or disk.
    """
    for place, todo in enumerate(plans):
        for other in plans[place:]:
            if engine.has_room():
                engine.submit(other, fresh)
        yield run_plan(todo, engine, fresh=fresh, open_progress=open_progress)


def run_plan(
    plan: Plan, engine: Engine, *, fresh: bool = False, open_progress: OpenProgress = no_progress
) -> Run:
    """Do what was planned, as ``evaluate`` does.

    Raises:
        SereinError: whatever is wrong with audio or disk; or torchrun started several of it.
    """
    if distributed.get_world_size() > 1:
        raise ConfigError(
            f"an evaluation trains its folds in processes of its own, and was started in "
            f"{distributed.get_world_size()}; start it once, without torchrun or srun, and with --jobs"
        )
    with _hold_folder(plan, engine):
        if fresh and not engine.is_submitted(plan):
            clear_run(plan)
        if is_finished(plan):
            return Run(io.load_results(plan.folder), plan.folder, is_new=False)
        states = map(plan.state_path, plan.protocol.folds)
        begun, resumed = perf_counter(), engine.is_submitted(plan) or any(map(Path.exists, states))
        for form in (None, *plan.augmentations):
            plan.load_frames(form)
        plan.load_asr_transcripts()
        with open_progress(plan) as progress:
            courses = engine.run(plan, progress)
        elapsed = None if resumed else round(perf_counter() - begun, 1)
        facts = {"elapsed_seconds": elapsed, "peak_megabytes": peak_megabytes()}
        results = assemble_results(plan, courses, engine.provenance | facts)
        io.save_results(results, plan.folder)
    return Run(results, plan.folder, is_new=True)


@contextmanager
def _hold_folder(plan: Plan, engine: Engine) -> Iterator[None]:
    """The run's folder, this process's own; an engine that has begun holds it already."""
    with nullcontext() if engine.is_submitted(plan) else lock_folder(plan.folder):
        try:
            yield
        finally:
            engine.release(plan)


def assemble_results(
    plan: Plan, training_runs: dict[str, TrainingRun], provenance: dict[str, Any]
) -> Results:
    """Lay everything that a report shows together.

    Args:
        plan: the plan.
        training_runs: what came of each fold.
        provenance: how this run went, beside the plan.
    """
    folds_of = [(fold, training_runs[fold.name]) for fold in plan.protocol.folds]
    fitted = {fold.name: fit_temperatures(plan, fold, course) for fold, course in folds_of}
    outcomes = [
        replace(scores.build_fold_result(plan, fold, course), temperatures=fitted[fold.name])
        for fold, course in folds_of
    ]
    records = [
        one for fold, course in folds_of for one in scores.build_predictions(plan, fold, course)
    ]
    held = [
        one
        for fold, course in folds_of
        for one in scores.build_held_out_predictions(plan, fold, course)
    ]
    judged = [*records, *held]
    usual = {
        fold.name: scores.majority_or_mean(plan.corpus.select(fold.train), plan.recipe)
        for fold in plan.protocol.folds
    }
    selections = list(outcomes[0].epochs)
    return Results(
        format=io.FORMAT,
        name=plan.folder.name,
        command=command_line(),
        created=utc_now(),
        recipe=asdict(plan.recipe),
        corpus=describe_corpus(plan.corpus, plan.contents),
        protocol=asdict(plan.protocol)
        | {"hash": plan.protocol.hash, "caution": build_caution(plan)},
        environment=describe_environment(
            plan.recipe, plan.seed, plan.training.threads, plan.device, plan.precision
        )
        | provenance,
        seconds=sum(epoch.seconds for outcome in outcomes for epoch in outcome.history),
        classes={task: list(names) for task, names in plan.classes.items()},
        headline=selections[0],
        selections={name: scores.describe_selection(plan, name) for name in selections},
        **scores.pool_scores(judged, selections, plan.classes),
        fold_means=scores.average_folds(outcomes),
        baselines=scores.score_baselines(judged, usual, plan.classes),
        folds=outcomes,
        predictions=records,
        held_out=held,
        groups=scores.score_groups(judged, selections[0], plan.classes),
        warnings=[
            *plan.corpus.notes,
            *collect_notes(plan.recipe),
            *describe_dropped(plan.mapping),
            *describe_unlabelled(records, held_out_shares(plan.recipe)),
            *held_out.describe_held_out(
                plan, [task for one in held for task in one.labelled_tasks]
            ),
            *describe_truncated(plan),
            *precision_warnings(plan.training.precision, plan.device),
        ],
        mapping=plan.mapping,
        calibration=measure_calibration(plan, training_runs, judged, fitted),
        words=scores.score_transcripts(plan, records, selections),
        confident_errors=find_confident_errors(plan, training_runs, records, selections[0]),
        leakage=list(plan.leakage),
    )


def build_caution(plan: Plan) -> str:
    """What a reader must know of split and labels before anything else."""
    return "; ".join(filter(None, (plan.protocol.caution, describe_proxies(plan.mapping))))


def describe_dropped(mapping: dict[str, LabelMapping]) -> list[str]:
    """How many utterances the leading task's scheme left out, in words."""
    task, found = next(iter(mapping.items()))
    parts = ", ".join(f"{word} ({count})" for word, count in found.dropped.items())
    count = sum(found.dropped.values())
    words = f"{count} utterances left out: {parts} is no {task} of scheme {found.scheme}"
    return [words] * bool(count) + [
        f"{sum(words.values())} utterances of {corpus} left out: "
        f"{', '.join(f'{word} ({number})' for word, number in words.items())} is no {task} that "
        "the main corpus has"
        for corpus, words in found.foreign.items()
    ]


def describe_truncated(plan: Plan) -> list[str]:
    """How many utterances are longer than the front end takes, in words."""
    longest = plan.build_front_end().max_seconds
    if longest is None:
        return []
    utterances = plan.corpus.utterances
    count = sum(utterance_duration(utterance) > longest for utterance in utterances)
    words = (
        f"{count} of {len(utterances)} utterances are longer than {longest} s and were cut there"
    )
    return [words] if count else []


def describe_unlabelled(
    records: Sequence[Prediction], held_out_tasks: Container[str] = ()
) -> list[str]:
    """Which tasks lack labels, in words; what has none is foretold but not scored.

    Args:
        records: what was tested.
        held_out_tasks: tasks that are scored on held-out utterances.
    """
    tasks = records[0].truth if records else {}
    missing = {task: sum(one.truth[task] is None for one in records) for task in tasks}
    return [
        f"{count} of {len(records)} utterances have no {task} label: foretold, not scored"
        for task, count in missing.items()
        if count and task not in held_out_tasks
    ]
