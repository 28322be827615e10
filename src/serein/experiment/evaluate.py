"""From a recipe and a corpus to results."""

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from serein import corpora, recipes, store, workers
from serein.audio import seconds_of
from serein.errors import ConfigError
from serein.experiment import folds, heldout, scores, spelling
from serein.experiment.confidence import calibrations, temperatures
from serein.experiment.engines import Engine, engaged
from serein.experiment.facts import command, described, environment, now, peak_megabytes
from serein.experiment.folder import forget, is_finished, locked
from serein.experiment.labelling import held_out_shares, proxies
from serein.experiment.mistakes import mistakes
from serein.experiment.plan import Plan, plan
from serein.precision import fallen_back
from serein.records import Corpus, Recipe
from serein.results import Mapping, Prediction, Results
from serein.system import notes_of
from serein.training.course import Course

Started = Callable[[Plan], AbstractContextManager[folds.Progress]]
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
    anew: bool


def quiet(plan: Plan) -> AbstractContextManager[folds.Progress]:
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
    started: Started = quiet,
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
        started: is told the plan, and gives what is told of every epoch.
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
    todo = plan(chosen, read, seed=seed, device=device, runs=runs)
    with engaged(engine, jobs, address) as hands:
        return carry_out(todo, hands, fresh=fresh, started=started)


def carry_all_out(
    todos: Sequence[Plan], engine: Engine, *, fresh: bool = False, started: Started = quiet
) -> Iterator[Run]:
    """Do what was planned, one plan after the other; what there is room for is begun ahead.

    Raises:
        SereinError: whatever is wrong with audio or disk.
    """
    for place, todo in enumerate(todos):
        for other in todos[place:]:
            if engine.has_room():
                engine.begin(other, fresh)
        yield carry_out(todo, engine, fresh=fresh, started=started)


def carry_out(todo: Plan, engine: Engine, *, fresh: bool = False, started: Started = quiet) -> Run:
    """Do what was planned, as ``evaluate`` does.

    Raises:
        SereinError: whatever is wrong with audio or disk; or torchrun started several of it.
    """
    if workers.world() > 1:
        raise ConfigError(
            f"an evaluation trains its folds in processes of its own, and was started in "
            f"{workers.world()}; start it once, without torchrun or srun, and with --jobs"
        )
    with _held(todo, engine):
        if fresh and not engine.has(todo):
            forget(todo)
        if is_finished(todo):
            return Run(store.load(todo.folder), todo.folder, anew=False)
        states = map(todo.state, todo.protocol.folds)
        begun, resumed = perf_counter(), engine.has(todo) or any(map(Path.exists, states))
        for form in (None, *todo.copies):
            todo.frames(form)
        todo.recognised()
        with started(todo) as progress:
            courses = engine.run(todo, progress)
        elapsed = None if resumed else round(perf_counter() - begun, 1)
        facts = {"elapsed_seconds": elapsed, "peak_megabytes": peak_megabytes()}
        results = assemble(todo, courses, engine.facts | facts)
        store.save(results, todo.folder)
    return Run(results, todo.folder, anew=True)


@contextmanager
def _held(todo: Plan, engine: Engine) -> Iterator[None]:
    """The run's folder, this process's own; an engine that has begun holds it already."""
    with nullcontext() if engine.has(todo) else locked(todo.folder):
        try:
            yield
        finally:
            engine.leave(todo)


def assemble(todo: Plan, courses: dict[str, Course], facts: dict[str, Any]) -> Results:
    """Lay everything that a report shows together.

    Args:
        todo: the plan.
        courses: what came of each fold.
        facts: how this run went, beside the plan.
    """
    folds_of = [(fold, courses[fold.name]) for fold in todo.protocol.folds]
    fitted = {fold.name: temperatures(todo, fold, course) for fold, course in folds_of}
    outcomes = [
        replace(scores.fold_result(todo, fold, course), temperatures=fitted[fold.name])
        for fold, course in folds_of
    ]
    records = [one for fold, course in folds_of for one in scores.predictions(todo, fold, course)]
    held = [one for fold, course in folds_of for one in scores.held_out(todo, fold, course)]
    judged = [*records, *held]
    usual = {
        fold.name: scores.usual_of(todo.corpus.of(fold.train), todo.recipe)
        for fold in todo.protocol.folds
    }
    selections = list(outcomes[0].epochs)
    return Results(
        format=store.FORMAT,
        name=todo.folder.name,
        command=command(),
        created=now(),
        recipe=asdict(todo.recipe),
        corpus=described(todo.corpus, todo.contents),
        protocol=asdict(todo.protocol) | {"hash": todo.protocol.hash, "caution": caution(todo)},
        environment=environment(
            todo.recipe, todo.seed, todo.training.threads, todo.device, todo.numbers
        )
        | facts,
        seconds=sum(epoch.seconds for outcome in outcomes for epoch in outcome.history),
        classes={task: list(names) for task, names in todo.classes.items()},
        headline=selections[0],
        selections={name: scores.meaning(todo, name) for name in selections},
        **scores.pooled(judged, selections, todo.classes),
        fold_means=scores.fold_means(outcomes),
        baselines=scores.baselines(judged, usual, todo.classes),
        folds=outcomes,
        predictions=records,
        held_out=held,
        groups=scores.grouped(judged, selections[0], todo.classes),
        warnings=[
            *todo.corpus.notes,
            *notes_of(todo.recipe),
            *left_out(todo.mapping),
            *unlabelled(records, held_out_shares(todo.recipe)),
            *heldout.told(todo, [task for one in held for task in one.scored]),
            *cut(todo),
            *fallen_back(todo.training.precision, todo.device),
        ],
        mapping=todo.mapping,
        calibration=calibrations(todo, courses, judged, fitted),
        words=spelling.scores(todo, records, selections),
        mistakes=mistakes(todo, courses, records, selections[0]),
        leakage=list(todo.leakage),
    )


def caution(todo: Plan) -> str:
    """What a reader must know of split and labels before anything else."""
    return "; ".join(filter(None, (todo.protocol.caution, proxies(todo.mapping))))


def left_out(mapping: dict[str, Mapping]) -> list[str]:
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


def cut(todo: Plan) -> list[str]:
    """How many utterances are longer than the front end takes, in words."""
    longest = todo.front_end().longest
    if longest is None:
        return []
    utterances = todo.corpus.utterances
    count = sum(seconds_of(utterance) > longest for utterance in utterances)
    words = (
        f"{count} of {len(utterances)} utterances are longer than {longest} s and were cut there"
    )
    return [words] if count else []


def unlabelled(records: Sequence[Prediction], own: Container[str] = ()) -> list[str]:
    """Which tasks lack labels, in words; what has none is foretold but not scored.

    Args:
        records: what was tested.
        own: tasks that are scored on held-out utterances.
    """
    tasks = records[0].truth if records else {}
    missing = {task: sum(one.truth[task] is None for one in records) for task in tasks}
    return [
        f"{count} of {len(records)} utterances have no {task} label: foretold, not scored"
        for task, count in missing.items()
        if count and task not in own
    ]
