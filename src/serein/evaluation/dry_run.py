"""Plan a run without training: what it uses and leaves out, what leaks, how long it takes."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from serein import corpora, protocols, system
from serein.errors import ConfigError
from serein.evaluation import transcripts
from serein.evaluation.evaluate import build_caution, describe_truncated
from serein.evaluation.plan import (
    Plan,
    build_augmentations,
    build_training_config,
    check_leakage,
    describe_dropped_settings,
    describe_plan,
    draft_plan,
    resolve_recipe,
)
from serein.evaluation.provenance import command_line, describe_machine, utc_now
from serein.evaluation.step_timing import estimate_time
from serein.evaluation.utterance_filter import select_for_training, select_utterances
from serein.labels.targets import get_task_labels, is_regression
from serein.records import Corpus, Finding, Fold, Protocol, Recipe, Utterance
from serein.results import io
from serein.results.plan import FoldCounts, PlannedRun, SubsetCounts
from serein.system import collect_notes
from serein.utils.device import precision_warnings, resolve_device
from serein.utils.file_hashes import has_cached_hashes

MAX_HASHED_BYTES = 200_000_000
"""Recordings that were never hashed are compared up to this size without being asked to."""
MAX_READ_RECORDINGS = 2000
"""Samples of recordings are compared up to this number without being asked to."""
TRANSCRIPTS = "transcripts_from"
VALUES = "values"
"""The class under which values of a regression are counted."""


def plan_run(
    recipe: str | Recipe,
    corpus: str | Sequence[str] | Corpus,
    *,
    settings: Sequence[str] = (),
    seed: int = 0,
    seeds: int = 1,
    jobs: int = 1,
    device: str = "cpu",
    measure_time: bool = True,
    compare_recordings: bool = False,
) -> PlannedRun:
    """Plan an evaluation, or the training of a recipe that only transcribes; nothing is trained.

    Leaks are listed and raise no error. A saved model that the recipe names may be missing.

    Args:
        recipe: name, path of a TOML file, or a recipe.
        corpus: ``NAME``, ``NAME=PATH``, several of them to read as one corpus, or a corpus.
        settings: changes of the recipe, such as ``"training.epochs=3"``.
        seed: the first random seed.
        seeds: number of seeds.
        jobs: folds at a time.
        device: "cpu", "cuda", or "auto".
        measure_time: whether to train some steps in order to estimate the time.
        compare_recordings: read all recordings to find copies, however many there are.

    Raises:
        ConfigError: a setting is unknown or out of range, or the corpus lacks a task's labels.
        CorpusError: the corpus cannot be read.
        ProtocolError: the corpus cannot be split that way.
        AudioError: recordings cannot be read.
    """
    if seeds < 1:
        raise ConfigError(f"seeds is {seeds}; expected 1 or more")
    whole = resolve_recipe(recipe, settings)
    corpus = corpora.as_corpus(corpus)
    present, missing_models = _without_missing_models(whole)
    build_draft = draft_plan if present.tasks else _draft_training
    draft = build_draft(present, corpus, seed=seed, device=device)
    plan, not_checked = _check_recordings(draft, compare_recordings)
    caution = protocols.add_cautions(plan.protocol, plan.leakage)
    plan = replace(plan, protocol=caution)
    time, time_notes = None, ["not measured: --no-timing"]
    if measure_time:
        time_notes = _list_time_notes(plan)
        if not system.is_estimator(plan.recipe):
            time = estimate_time(plan, seeds=seeds, jobs=jobs)
    return PlannedRun(
        format=io.FORMAT,
        command=command_line(),
        created=utc_now(),
        head=describe_plan(plan),
        recipe=asdict(whole),
        corpus={
            "name": corpus.name,
            "utterances": len(plan.corpus.utterances),
            "total": len(corpus.utterances),
        },
        left_out=list(plan.left_out),
        classes={task: list(names) for task, names in plan.classes.items()},
        protocol={
            "name": plan.protocol.name,
            "hash": plan.protocol.hash,
            "validation": plan.protocol.validation,
            "caution": build_caution(plan),
        },
        folds=[_count_fold(plan, fold) for fold in plan.protocol.folds],
        leakage=list(plan.leakage),
        not_checked=[*missing_models, *not_checked],
        dropped_settings=describe_dropped_settings(whole),
        epochs=plan.training.epochs,
        seeds=list(range(seed, seed + seeds)),
        device=plan.device,
        precision=plan.precision,
        machine=describe_machine(),
        warnings=[
            *plan.corpus.notes,
            *collect_notes(plan.recipe),
            *describe_truncated(plan),
            *precision_warnings(plan.training.precision, plan.device),
        ],
        time=time,
        time_notes=time_notes,
    )


def _draft_training(recipe: Recipe, corpus: Corpus, *, seed: int, device: str) -> Plan:
    """Plan the training of a recipe without a task that folds could score: one training subset."""
    system.check_recipe(recipe)
    filtered = select_for_training(select_utterances(corpus, recipe), recipe)
    ids = tuple(utterance.id for utterance in filtered.corpus.utterances)
    name = filtered.subset or "all utterances"
    return Plan(
        recipe=recipe,
        corpus=filtered.corpus,
        content_hashes={},
        classes={},
        mapping={},
        protocol=Protocol(
            name=f"one training on {name}",
            validation="none",
            folds=(Fold(name="all", train=ids, validation=(), test=()),),
            caution=filtered.caution,
        ),
        training=build_training_config(recipe),
        seed=seed,
        device=resolve_device(device),
        folder=Path(),
        augmentations=build_augmentations(recipe, system.build_front_end(recipe)),
        left_out=filtered.left_out,
    )


def _without_missing_models(recipe: Recipe) -> tuple[Recipe, list[str]]:
    """Remove the saved models and runs that a recipe names and that do not exist yet."""
    notes = []
    training, text = dict(recipe.training), dict(recipe.text)
    for table, name, settings in (("training", "init", training), ("text", TRANSCRIPTS, text)):
        path = str(settings.get(name, ""))
        if path and not Path(path).exists():
            del settings[name]
            notes.append(
                f"{table}.{name} = {path} does not exist: it is needed to train, and whether it "
                "was trained on these speakers or recordings is not known"
            )
    return replace(recipe, training=training, text=text), notes


def _check_recordings(draft: Plan, compare_recordings: bool) -> tuple[Plan, list[str]]:
    """Check the split for leaks, and compare recordings if that is quick or asked for.

    Returns:
        The plan with findings, and with hashes if there are any; what was not compared.
    """
    if not draft.recipe.tasks:
        return draft, []
    utterances = draft.corpus.utterances
    files = list(dict.fromkeys(os.fspath(utterance.path) for utterance in utterances))
    if not (compare_recordings or has_cached_hashes(files)):
        size = _total_bytes(files)
        if size > MAX_HASHED_BYTES:
            leakage = check_leakage(draft, None, compare_audio=False)
            kept = [one for one in leakage if one.kind != "duplicate" or one.verdict != "clean"]
            note = (
                f"copies of recordings: {len(files):,} files of {size / 1e9:.1f} GB were not "
                "hashed before; --compare-recordings reads them, and so does serein evaluate"
            )
            return replace(draft, leakage=tuple(kept)), [note]
    content_hashes = corpora.hash_contents(utterances)
    reads_all = compare_recordings or len(utterances) <= MAX_READ_RECORDINGS
    plan = replace(
        draft,
        content_hashes=content_hashes,
        leakage=check_leakage(draft, content_hashes, compare_audio=reads_all),
    )
    note = (
        f"samples of {len(utterances):,} recordings: only the bytes of their files were compared; "
        "--compare-recordings reads them, and so does serein evaluate"
    )
    return plan, [] if reads_all else [note]


def _total_bytes(files: Sequence[str]) -> int:
    """Return the size of all files; a missing one, which a training reports, counts nothing."""
    total = 0
    for file in files:
        try:
            total += os.stat(file).st_size
        except OSError:
            continue
    return total


def _list_time_notes(plan: Plan) -> list[str]:
    """Describe what the estimated time does not include."""
    if system.is_estimator(plan.recipe):
        return [f"not measured: {plan.recipe.model['name']} is fitted at once, without epochs"]
    notes = []
    if plan.training.patience:
        notes.append("at most: training.patience may end a fold earlier")
    if plan.augmentations:
        notes.append(
            f"without the features of {len(plan.augmentations)} augmented copies of each recording"
        )
    text_config = transcripts.build_text_config(plan.recipe)
    if text_config and text_config.transcripts_from:
        notes.append(f"without the transcription by {text_config.transcripts_from}")
    if text_config and text_config.weight and any(fold.test for fold in plan.protocol.folds):
        notes.append(
            "words were decoded by an untrained network up to the length of a long transcript"
        )
    return notes


def _count_fold(plan: Plan, fold: Fold) -> FoldCounts:
    return FoldCounts(
        name=fold.name,
        train=_count_subset(plan, plan.corpus.select(fold.train)),
        validation=_count_subset(plan, plan.corpus.select(fold.validation)),
        test=_count_subset(plan, plan.corpus.select(fold.test)),
    )


def _count_subset(plan: Plan, utterances: Sequence[Utterance]) -> SubsetCounts:
    classes = {}
    for task, names in plan.classes.items():
        labels = get_task_labels(utterances, task, plan.recipe)
        if is_regression(task, plan.recipe):
            classes[task] = {VALUES: sum(label is not None for label in labels)}
        else:
            counts = Counter(map(str, labels))
            classes[task] = {name: counts[name] for name in names}
    speakers = {(utterance.corpus, utterance.speaker) for utterance in utterances}
    return SubsetCounts(
        utterances=len(utterances),
        speakers=sum(speaker is not None for _, speaker in speakers),
        classes=classes,
    )


def find_leak_errors(planned: PlannedRun) -> list[Finding]:
    """Return the leaks that would stop the run."""
    return [finding for finding in planned.leakage if finding.verdict == "error"]
