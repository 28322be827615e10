"""Evaluate a recipe on a corpus: train and test every fold, and assemble the results."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from html import escape
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from serein import corpora
from serein.audio import utterance_durations
from serein.errors import ConfigError
from serein.evaluation import folds, held_out, nuisance, scores
from serein.evaluation.calibration import fit_temperatures, measure_calibration
from serein.evaluation.confident_errors import find_confident_errors
from serein.evaluation.engines import Engine, open_engine
from serein.evaluation.labels import (
    describe_missed,
    describe_proxies,
    held_out_shares,
    keeps_unlabelled,
)
from serein.evaluation.plan import (
    Plan,
    build_plan,
    clear_run,
    describe_dropped_settings,
    is_finished,
    lock_folder,
    resolve_recipe,
)
from serein.evaluation.provenance import (
    command_line,
    describe_corpus,
    describe_environment,
    describe_machine,
    peak_megabytes,
    utc_now,
)
from serein.evaluation.votes import add_votes, describe_corpus_votes, score_votes
from serein.labels import targets
from serein.records import Corpus, Recipe
from serein.results import io
from serein.results.evaluation import LabelMapping, Prediction, Results
from serein.system import collect_notes
from serein.training.checkpoint import TrainingRun
from serein.training.dataset import UtteranceCallback, ignore_utterance
from serein.utils import distributed
from serein.utils.device import precision_warnings

OpenProgress = Callable[[Plan], AbstractContextManager[folds.EpochCallback]]
"""Opens a progress display for a plan; the display is called after every epoch of a fold."""


class Run(NamedTuple):
    """The outcome of an evaluation.

    Attributes:
        results: everything that a report shows.
        folder: the run folder with ``results.json`` and the checkpoints of the folds.
        is_new: whether anything was trained; False if finished results were read from disk.
    """

    results: Results
    folder: Path
    is_new: bool

    def __repr__(self) -> str:
        """Return the scores in a few lines, and the folder."""
        return f"{self.results!r}\n{self.folder}"

    def _repr_html_(self) -> str:
        """Return the scores as a small table, for a notebook."""
        return f"{self.results._repr_html_()}<p><code>{escape(str(self.folder))}</code></p>"


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

    An interrupted evaluation is resumed: finished folds are kept, and a running fold continues
    after its last finished epoch. The results of a finished evaluation are read from disk.

    Args:
        recipe: name, path of a TOML file, or a recipe.
        corpus: ``NAME``, ``NAME=PATH``, several of them to read as one corpus, or a corpus.
        settings: changes of the recipe, such as ``"training.epochs=3"``.
        seed: of the weights, the order of utterances, and dropout.
        jobs: folds at a time, each in a process of its own; the numbers do not depend on it.
            With more than one, a script needs ``if __name__ == "__main__":`` around the call.
            None is 1, or in a cluster all that fit.
        device: "cpu", "cuda", or "auto".
        runs: the folder in which the run folder is created.
        fresh: delete the results and checkpoints of an earlier run with the same settings.
        open_progress: opens a progress display for the plan.
        engine: "local", or "ray" to train the folds on a Ray cluster. Its machines need serein,
            and the corpus at the same path; only this process writes in the run folder.
        address: of the cluster's head; None is ``RAY_ADDRESS``, or else this machine.

    Returns:
        The results and the run folder.

    Raises:
        SereinError: the recipe, corpus or split is not valid, audio cannot be read, or a file
            cannot be written.
    """
    recipe = resolve_recipe(recipe, settings)
    plan = build_plan(recipe, corpora.as_corpus(corpus), seed=seed, device=device, runs=runs)
    with open_engine(engine, jobs, address) as opened_engine:
        return run_plan(plan, opened_engine, fresh=fresh, open_progress=open_progress)


def run_plans(
    plans: Sequence[Plan],
    engine: Engine,
    *,
    fresh: bool = False,
    open_progress: OpenProgress = no_progress,
) -> Iterator[Run]:
    """Run plans in their order; later ones are submitted early if the engine has free workers.

    Raises:
        SereinError: audio cannot be read, or a file cannot be written.
    """
    for index, plan in enumerate(plans):
        for later in plans[index:]:
            if engine.has_room():
                engine.submit(later, fresh)
        yield run_plan(plan, engine, fresh=fresh, open_progress=open_progress)


def run_plan(
    plan: Plan, engine: Engine, *, fresh: bool = False, open_progress: OpenProgress = no_progress
) -> Run:
    """Run a plan, or read its results if it is finished; see `evaluate`.

    Raises:
        SereinError: audio or disk has a fault, or torchrun started several processes.
    """
    processes = distributed.get_world_size()
    if processes > 1:
        raise ConfigError(
            f"an evaluation starts its own processes, and was started in {processes}; "
            "start it once, without torchrun or srun, and with --jobs"
        )
    with _hold_folder(plan, engine):
        if fresh and not engine.is_submitted(plan):
            clear_run(plan)
        if is_finished(plan):
            return Run(io.load_results(plan.folder), plan.folder, is_new=False)
        checkpoints = map(plan.checkpoint_path, plan.protocol.folds)
        is_resumed = engine.is_submitted(plan) or any(map(Path.exists, checkpoints))
        start = perf_counter()
        with open_progress(plan) as on_epoch:
            # Frames and transcripts are computed once here; every fold reads them from the cache.
            for number, augmentation in enumerate((None, *plan.augmentations)):
                plan.load_frames(augmentation, _report_frames(plan, number, on_epoch))
            plan.load_asr_transcripts()
            training_runs = engine.run(plan, on_epoch)
        elapsed = None if is_resumed else round(perf_counter() - start, 1)
        usage = {"elapsed_seconds": elapsed, "peak_megabytes": peak_megabytes()}
        results = assemble_results(plan, training_runs, engine.provenance | usage)
        io.save_record(results, plan.folder)
    return Run(results, plan.folder, is_new=True)


def _report_frames(plan: Plan, number: int, display: object) -> UtteranceCallback:
    """Return a callback that shows the computation of frames, if the display can show it.

    Args:
        plan: the plan.
        number: 0 for the frames of the corpus, else that of an augmented copy.
        display: what `OpenProgress` opened; it may have ``show_step(what, done, total)``.
    """
    show_step = getattr(display, "show_step", None)
    if show_step is None:
        return ignore_utterance
    copy = f", copy {number} of {len(plan.augmentations)}" if number else ""
    return partial(show_step, f"features {plan.recipe.features['name']}{copy}")


@contextmanager
def _hold_folder(plan: Plan, engine: Engine) -> Iterator[None]:
    """Lock the run folder, unless the engine already holds its lock."""
    with nullcontext() if engine.is_submitted(plan) else lock_folder(plan.folder):
        try:
            yield
        finally:
            engine.release(plan)


def assemble_results(
    plan: Plan, training_runs: dict[str, TrainingRun], provenance: dict[str, Any]
) -> Results:
    """Assemble everything that a report shows.

    Args:
        plan: the plan.
        training_runs: the training run of each fold.
        provenance: entries for the environment: engine, time and memory.
    """
    trained_folds = [(fold, training_runs[fold.name]) for fold in plan.protocol.folds]
    temperatures = {fold.name: fit_temperatures(plan, fold, run) for fold, run in trained_folds}
    fold_results = [
        replace(scores.build_fold_result(plan, fold, run), temperatures=temperatures[fold.name])
        for fold, run in trained_folds
    ]
    predictions = [
        prediction
        for fold, run in trained_folds
        for prediction in add_votes(
            scores.build_predictions(plan, fold, run),
            plan.corpus.select(fold.test),
            plan.recipe,
            plan.classes,
        )
    ]
    held_out_predictions = [
        prediction
        for fold, run in trained_folds
        for prediction in scores.build_held_out_predictions(plan, fold, run)
    ]
    scored = [*predictions, *held_out_predictions]
    constants = {
        fold.name: scores.majority_or_mean(plan.corpus.select(fold.train), plan.recipe)
        for fold in plan.protocol.folds
    }
    selections = list(fold_results[0].epochs)
    has_probabilities = plan.external is None or plan.external.has_probabilities
    return Results(
        format=io.FORMAT,
        name=plan.folder.name,
        command=command_line(),
        created=utc_now(),
        recipe=asdict(plan.recipe),
        corpus=describe_corpus(plan.corpus, plan.content_hashes),
        protocol=asdict(plan.protocol)
        | {"hash": plan.protocol.hash, "caution": build_caution(plan)},
        environment=_describe_plan_environment(plan) | provenance,
        seconds=sum(epoch.seconds for result in fold_results for epoch in result.history),
        classes={task: list(names) for task, names in plan.classes.items()},
        headline=selections[0],
        selections={name: scores.describe_selection(plan, name) for name in selections},
        **scores.pool_scores(scored, selections, plan.classes),
        fold_means=scores.average_folds(fold_results),
        baselines={
            **scores.score_baselines(scored, constants, plan.classes),
            **_score_nuisance(plan, predictions),
        },
        folds=fold_results,
        predictions=predictions,
        held_out=held_out_predictions,
        groups=scores.score_groups(scored, selections[0], plan.classes),
        warnings=[
            *plan.corpus.notes,
            *(plan.external.notes if plan.external else collect_notes(plan.recipe)),
            *describe_dropped_settings(plan.recipe),
            *describe_dropped(plan.mapping, keeps_unlabelled(plan.recipe)),
            *describe_unlabelled(predictions, held_out_shares(plan.recipe)),
            *describe_corpus_votes(plan.corpus.utterances, plan.recipe, plan.classes),
            *held_out.describe_held_out(
                plan, [task for p in held_out_predictions for task in p.labelled_tasks]
            ),
            *([] if plan.external else describe_truncated(plan)),
            *precision_warnings(plan.training.precision, plan.device),
        ],
        mapping=plan.mapping,
        calibration=measure_calibration(plan, training_runs, scored, temperatures)
        if has_probabilities
        else {},
        words=scores.score_transcripts(plan, predictions, selections),
        vote_scores=score_votes(predictions, selections, plan.classes),
        confident_errors=find_confident_errors(plan, training_runs, predictions, selections[0])
        if has_probabilities
        else [],
        leakage=list(plan.leakage),
    )


def _describe_plan_environment(plan: Plan) -> dict[str, Any]:
    if plan.external is not None:
        return {"seed": plan.seed, "machine": describe_machine()} | dict(plan.external.environment)
    return describe_environment(
        plan.recipe, plan.seed, plan.training.threads, plan.device, plan.precision
    )


def _score_nuisance(plan: Plan, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Score the nuisance baseline of the first classification task, in the same folds."""
    task = nuisance.find_task(plan.classes)
    if task is None:
        return {}
    labels = targets.get_task_labels(plan.corpus.utterances, task, plan.recipe)
    label_of = {u.id: label for u, label in zip(plan.corpus.utterances, labels, strict=True)}
    return nuisance.score_nuisance(
        plan.corpus, plan.content_hashes, plan.protocol, predictions, plan.classes, label_of
    )


def build_caution(plan: Plan) -> str:
    """Describe the limits of the split and of the labels that a reader must know first."""
    missed = ""
    is_trained = plan.external is None or plan.external.is_trained
    if plan.classes and is_trained:  # a recipe that only transcribes has no classes
        missed = describe_missed(plan.corpus, plan.recipe, plan.protocol, plan.classes)
    return "; ".join(filter(None, (plan.protocol.caution, missed, describe_proxies(plan.mapping))))


def describe_dropped(mapping: dict[str, LabelMapping], keeps_unlabelled: bool) -> list[str]:
    """Describe the utterances that were left out as they have no class of the first task.

    Args:
        mapping: of each task.
        keeps_unlabelled: whether utterances without a label take part.
    """
    task, labels = next(iter(mapping.items()))
    dropped = labels.dropped
    sentences = []
    if labels.missing and not keeps_unlabelled:
        sentences.append(
            f"{labels.missing} utterances left out: they have no {task} label "
            "(protocol.unlabelled=keep includes them)"
        )
    if dropped:
        sentences.append(
            f"{sum(dropped.values())} utterances left out: {task} labels without a class in "
            f"scheme {labels.scheme}: {_list_counts(dropped)}"
        )
    for corpus, counts in labels.foreign.items():
        sentences.append(
            f"{sum(counts.values())} utterances of {corpus} left out: {task} labels without a "
            f"class in the main corpus: {_list_counts(counts)}"
        )
    return sentences


def _list_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{label} ({count})" for label, count in counts.items())


def describe_truncated(plan: Plan) -> list[str]:
    """Describe the utterances that are longer than the front end takes."""
    max_seconds = plan.build_front_end().max_seconds
    if max_seconds is None:
        return []
    utterances = plan.corpus.utterances
    count = sum(seconds > max_seconds for seconds in utterance_durations(utterances))
    if not count:
        return []
    return [
        f"{count} of {len(utterances)} utterances are longer than {max_seconds} s and were cut "
        "there"
    ]


def describe_unlabelled(
    predictions: Sequence[Prediction], held_out_tasks: Container[str] = ()
) -> list[str]:
    """Describe the utterances without a label of a task, which are predicted but not scored.

    Args:
        predictions: the predictions for the tested utterances.
        held_out_tasks: tasks that are scored on held-out utterances instead.
    """
    tasks = predictions[0].truth if predictions else {}
    missing = {task: sum(p.truth[task] is None for p in predictions) for task in tasks}
    return [
        f"{count} of {len(predictions)} utterances have no {task} label: predicted, not scored"
        for task, count in missing.items()
        if count and task not in held_out_tasks
    ]
