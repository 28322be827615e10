"""Reproduce the tables of a paper: run their rows, or find them finished, and collect the figures.

The run folders of the evaluations are the state: an interrupted reproduction is resumed by the same
call. A row that lacks a corpus or a speech recogniser, or that fails, has the reason in its place,
and the others go on.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from serein import published, recipes
from serein.evaluation.claims import ClaimRuns, judge_claims
from serein.evaluation.compare import ComparedRun
from serein.evaluation.engines import Engine, open_engine
from serein.evaluation.evaluate import OpenProgress, no_progress
from serein.evaluation.paper_rows import (
    Job,
    PaperCorpora,
    build_corpora,
    build_job,
    select_rows,
    select_tables,
    select_variants,
)
from serein.evaluation.paper_runs import Outcome, PaperRuns, RunOptions
from serein.evaluation.provenance import command_line, utc_now
from serein.evaluation.train import OpenProgress as OpenTraining
from serein.evaluation.train import no_progress as no_training_progress
from serein.metrics.classification import macro_f1_from_confusion
from serein.metrics.scoring import get_scorer, nan_to_none
from serein.published import TRANSCRIPT, Paper, PublishedResult, Variant
from serein.results import io
from serein.results.evaluation import ClassScores, Results
from serein.results.inference import WordScores
from serein.results.reproduction import (
    FINISHED,
    MISSING,
    Interval,
    JudgedClaim,
    OwnMatrix,
    OwnResult,
    OwnScore,
    OwnScores,
    ReproducedMatrix,
    ReproducedRow,
    Reproduction,
)

TEST, DEVELOPMENT = "test", "development"
TRANSCRIPTION = "transcription"
"""The selection of a row that only transcribes."""
IGNORED_SETTINGS = ("name", "about.")
"""Settings of a recipe that do not affect its figures."""
MAX_NAMES = 4
"""Names of runs that a warning lists."""
RowJobs = dict[tuple[int, str], Job | str]
"""For each row, by its position, and variant: its experiment, or what it lacks."""


def reproduce(
    paper: str,
    corpus: Sequence[str],
    *,
    tables: Sequence[str] = (),
    variants: Sequence[str] = (),
    recipe_suffix: str = "",
    settings: Sequence[str] = (),
    seed: int = 0,
    seeds: int = 1,
    jobs: int | None = None,
    engine: str | Engine = "local",
    address: str | None = None,
    device: str = "cpu",
    runs: Path = Path("runs"),
    asr: Path | None = None,
    only_finished: bool = False,
    partial_corpora: bool | None = None,
    open_progress: OpenProgress = no_progress,
    open_training: OpenTraining = no_training_progress,
) -> Reproduction:
    """Run all rows of a paper's tables, or find them finished, and put them beside the paper's.

    Args:
        paper: its name, such as "li2019".
        corpus: specifications of the corpora, ``NAME=PATH``. A corpus of another name than the
            paper's stands in for it.
        tables: the tables, such as "2" or "section 5.4"; by default all.
        variants: how to run the rows: "paper", and other ways that the paper's file names.
        recipe_suffix: of the recipes for other corpora; with "emodb", li2019-emodb runs in place
            of li2019. The corpora then stand in for the paper's in their order.
        settings: changes of every run, such as ``"training.epochs=3"``.
        seed: the first seed.
        seeds: number of seeds.
        jobs: folds at a time, as for ``evaluate``.
        engine: as for ``evaluate``.
        address: as for ``evaluate``.
        device: as for ``evaluate``.
        runs: the folder of the run folders.
        asr: a saved speech recogniser for the rows that need one; None takes the file of the
            recipe's name in this folder, or trains one on LibriSpeech, if it is given.
        only_finished: train nothing, and take what there is.
        partial_corpora: accept incomplete copies; None is the saved choice of each corpus.
        open_progress: as for ``evaluate``; called for every evaluation.
        open_training: opens a progress display for the training of a speech recogniser.

    Returns:
        The reproduction, whose reports `serein.report.reproduction` writes.

    Raises:
        UnknownName: there is no such paper.
        ConfigError: there is no such table, variant or engine, or too many corpora are given.
    """
    source = published.load_paper(paper)
    selected = select_tables(source, tables)
    rows = select_rows(source, selected)
    chosen = select_variants(source, variants)
    given = build_corpora(source, corpus, in_order=bool(recipe_suffix), partial=partial_corpora)
    row_jobs = _build_row_jobs(source, rows, chosen, given, recipe_suffix, settings)
    options = RunOptions(
        settings=tuple(settings),
        seed=seed,
        seeds=seeds,
        device=device,
        runs=runs,
        asr=asr,
        only_finished=only_finished,
        open_progress=open_progress,
        open_training=open_training,
    )
    with open_engine("local" if only_finished else engine, jobs, address) as opened:
        paper_runs = PaperRuns(given, options, opened)
        paper_runs.run(job for job in row_jobs.values() if isinstance(job, Job))
    reproduced = list(_build_rows(rows, row_jobs, chosen, paper_runs.outcomes))
    return Reproduction(
        format=io.FORMAT,
        name="-".join(filter(None, ("reproduction", paper, recipe_suffix))),
        command=command_line(),
        created=utc_now(),
        paper=paper,
        citation=source.citation,
        title=source.title,
        venue=source.venue,
        corpora=given.describe(),
        tables=selected,
        variants={variant.name: variant.description for variant in chosen},
        rows=[row for row in reproduced if row.table in selected],
        matrices=_build_matrices(source, selected, reproduced),
        claims=_judge(source, selected, chosen, rows, row_jobs, paper_runs.outcomes, given),
        doubts=list(source.doubts),
        choices=_read_choices(reproduced),
        warnings=list(_collect_warnings(reproduced, given, paper_runs)),
    )


def _build_row_jobs(
    paper: Paper,
    rows: Sequence[PublishedResult],
    variants: Sequence[Variant],
    given: PaperCorpora,
    suffix: str,
    settings: Sequence[str],
) -> RowJobs:
    """Build the experiment of each row and variant; a row that only transcribes has no variants."""
    return {
        (index, variant.name): build_job(paper, row, variant, given, suffix, settings)
        for index, row in enumerate(rows)
        for variant in variants
        if row.recipe and _applies(variant, row) and (variant is variants[0] or not row.transcribes)
    }


def _applies(variant: Variant, row: PublishedResult) -> bool:
    return not variant.tables or row.table in variant.tables


def _build_rows(
    rows: Sequence[PublishedResult],
    row_jobs: RowJobs,
    variants: Sequence[Variant],
    outcomes: Mapping[Job, Outcome],
) -> Iterator[ReproducedRow]:
    """Build the rows; those of one system and corpus for two subsets become one."""
    indexed = sorted(enumerate(rows), key=lambda item: _row_order(rows, item[1]))
    for _, group in groupby(indexed, key=lambda item: _row_key(item[1])):
        members = list(group)
        index, first = members[0]
        own = [
            _build_own_result(variant, first, job, outcomes)
            for variant in variants
            if (job := row_jobs.get((index, variant.name))) is not None
        ]
        yield ReproducedRow(
            table=first.table,
            system=first.system,
            recipe=first.recipe or "",
            corpus=first.corpus,
            protocol=first.protocol,
            selections={row.subset: row.selection for _, row in members if row.selection},
            utterances={row.subset: row.utterances for _, row in members if row.utterances},
            printed={
                row.subset: {task: dict(scores) for task, scores in row.scores.items()}  # type: ignore[arg-type]
                for _, row in members
            },
            significant={row.subset: row.significant for _, row in members if row.significant},
            own=own,
        )


def _row_key(row: PublishedResult) -> tuple[str, str, str, str]:
    return row.table, row.system, row.corpus, row.recipe or ""


def _row_order(rows: Sequence[PublishedResult], row: PublishedResult) -> tuple[int, int]:
    """Return the place of a row: by table, then by the first row of its system."""
    tables = [other.table for other in rows]
    keys = [_row_key(other) for other in rows]
    return tables.index(row.table), keys.index(_row_key(row))


def _build_own_result(
    variant: Variant, row: PublishedResult, job: Job | str, outcomes: Mapping[Job, Outcome]
) -> OwnResult:
    """Build what we have for a row."""
    if isinstance(job, str):
        return OwnResult(variant=variant.name, state=MISSING, reason=job, recipe=row.recipe or "")
    outcome = outcomes[job]
    shared: dict[str, Any] = {
        "variant": variant.name,
        "state": outcome.state,
        "reason": outcome.reason,
        "recipe": job.recipe,
        "settings": list(job.settings),
        "corpus": "+".join(job.corpora),
    }
    if outcome.words is not None:
        return OwnResult(**shared, **_describe_transcription(outcome.words))
    if not outcome.results:
        return OwnResult(**shared)
    return OwnResult(**shared, **_describe_evaluation(outcome.results, str(row.recipe)))


def _describe_transcription(words: WordScores) -> dict[str, Any]:
    score = OwnScore(value=words.wer, interval=words.wer_interval)
    return {
        "utterances": words.utterances,
        "headline": TRANSCRIPTION,
        "scores": {TRANSCRIPTION: {TEST: {TRANSCRIPT: {"wer": score}}}},
    }


def _describe_evaluation(results: Sequence[Results], paper_recipe: str) -> dict[str, Any]:
    """Return the fields of an own result that its runs give.

    Args:
        results: of each seed.
        paper_recipe: the paper's recipe, which the settings are compared with.
    """
    first = results[0]
    return {
        "runs": [one.name for one in results],
        "seeds": [int(one.environment.get("seed", 0)) for one in results],
        "utterances": len(first.predictions),
        "protocol": str(first.protocol.get("name", "")),
        "folds": len(first.folds),
        "caution": str(first.protocol.get("caution") or ""),
        "headline": first.headline,
        "selections": dict(first.selections),
        "scores": {name: _collect_scores(results, name) for name in first.selections},
        "confusions": _sum_confusions(results),
        "changed": _list_changes(paper_recipe, first.recipe),
        "environment": dict(first.environment),
        "warnings": list(first.warnings),
    }


def _collect_scores(results: Sequence[Results], selection: str) -> OwnScores:
    """Collect the figures of a selection over seeds, by subset, task and metric."""
    by_seed = [_list_scores(one, selection) for one in results]
    collected: OwnScores = {}
    for (subset, task, metric), first in by_seed[0].items():
        values = [scores.get((subset, task, metric), (None, None))[0] for scores in by_seed]
        defined = [value for value in values if value is not None]
        is_complete = len(defined) == len(values)
        score = OwnScore(
            value=fmean(defined) if is_complete and defined else None,
            deviation=stdev(defined) if is_complete and len(defined) > 1 else None,
            interval=first[1] if len(values) == 1 else None,
        )
        collected.setdefault(subset, {}).setdefault(task, {})[metric] = score
    return collected


def _list_scores(
    results: Results, selection: str
) -> dict[tuple[str, str, str], tuple[float | None, Interval]]:
    """Return score and interval of every subset, task and metric of one run."""
    found: dict[tuple[str, str, str], tuple[float | None, Interval]] = {}
    for task, scores in results.scores_by_task(selection).items():
        for metric in get_scorer(results.classes[task]).metrics:
            name = metric.name
            found[TEST, task, name] = scores.score(name), scores.bounds(name)
        if isinstance(scores, ClassScores):
            f1 = nan_to_none(macro_f1_from_confusion(scores.confusion))
            found[TEST, task, "f1"] = f1, None
    if words := results.words.get(selection):
        found[TEST, TRANSCRIPT, "wer"] = words.wer, words.wer_interval
    for task, values in results.validation_scores(selection).items():
        for name, value in values.items():
            found[DEVELOPMENT, task, name] = value, None
    return found


def _sum_confusions(results: Sequence[Results]) -> dict[str, OwnMatrix]:
    """Sum the confusion matrices of the headline over seeds, by task."""
    first = results[0]
    return {
        task: OwnMatrix(
            classes=list(first.classes[task]),
            counts=np.sum(
                [one.scores[one.headline][task].confusion for one in results], axis=0
            ).tolist(),
        )
        for task in first.scores[first.headline]
    }


def _list_changes(paper_recipe: str, recipe: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """List the settings of a run that differ from the paper's recipe: name, value there, here."""
    theirs = _flatten(io.to_builtin(recipes.load(paper_recipe)))
    ours = _flatten(io.to_builtin(dict(recipe)))
    names = [name for name in [*theirs, *ours] if not name.startswith(IGNORED_SETTINGS)]
    return [
        (name, theirs.get(name, "not set"), ours.get(name, "not set"))
        for name in dict.fromkeys(names)
        if theirs.get(name) != ours.get(name)
    ]


def _flatten(table: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """Return the settings of nested tables by path, as text."""
    settings: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            settings |= _flatten(value, f"{path}{key}.")
        elif isinstance(value, list | tuple):
            settings[f"{path}{key}"] = ", ".join(map(str, value))
        else:
            settings[f"{path}{key}"] = str(value)
    return settings


def _build_matrices(
    paper: Paper, tables: Sequence[str], rows: Sequence[ReproducedRow]
) -> list[ReproducedMatrix]:
    """Put the confusion matrices of a paper beside ours of the same system."""
    matrices = []
    for matrix in paper.matrices:
        row = next((row for row in rows if row.recipe == matrix.recipe), None)
        if matrix.table not in tables or row is None:
            continue
        task = next(iter(next(iter(row.printed.values()))))
        matrices.append(
            ReproducedMatrix(
                table=matrix.table,
                system=row.system,
                classes=matrix.classes,
                entries=matrix.entries,
                note=matrix.note,
                own={
                    own.variant: own.confusions[task] for own in row.own if task in own.confusions
                },
            )
        )
    return matrices


def _judge(
    paper: Paper,
    tables: Sequence[str],
    variants: Sequence[Variant],
    rows: Sequence[PublishedResult],
    row_jobs: RowJobs,
    outcomes: Mapping[Job, Outcome],
    given: PaperCorpora,
) -> list[JudgedClaim]:
    """Judge the paper's statements about the selected tables, for each variant."""
    claims = [claim for claim in paper.claims if claim.table in tables]
    has_stand_ins = any(theirs != ours for theirs, ours in given.describe().items())
    judged = []
    for variant in variants:
        by_row = {}
        for index, row in enumerate(rows):
            job = row_jobs.get((index, variant.name))
            outcome = outcomes.get(job) if isinstance(job, Job) else None
            if outcome is not None and outcome.results:
                by_row[row.table, row.system] = ComparedRun(row.system, outcome.results)
        judged += judge_claims(paper, claims, ClaimRuns(variant.name, by_row, has_stand_ins))
    return judged


def _read_choices(rows: Iterable[ReproducedRow]) -> dict[str, list[str]]:
    """Read what the heads of the recipes say of the paper and of our choices."""
    heads: dict[str, list[str]] = {}
    known = recipes.list_recipes()
    for row in rows:
        for own in row.own:
            if own.recipe in known:
                heads |= recipes.read_heads(own.recipe)
    return heads


def _collect_warnings(
    rows: Sequence[ReproducedRow], given: PaperCorpora, paper_runs: PaperRuns
) -> Iterator[str]:
    """Yield the limits of a reproduction, a sentence each."""
    yield from given.list_notes()
    finished = [own for row in rows for own in row.own if own.state == FINISHED and own.runs]
    yield from dict.fromkeys(own.caution for own in finished if own.caution)
    yield from _describe_short_runs(finished)
    yield from _describe_mixed_runs(finished)
    outcomes = paper_runs.outcomes.values()
    foreign = dict.fromkeys(name for outcome in outcomes for name in outcome.foreign)
    if foreign:
        yield (
            f"{len(foreign)} runs were made by other versions or other source code than these: "
            f"{_list_names(list(foreign))}"
        )
    yield from dict.fromkeys(note for outcome in outcomes for note in outcome.notes)
    yield from dict.fromkeys(paper_runs.faults)
    if finished and all(len(own.seeds) == 1 for own in finished):
        yield "one training seed each: another seed may reverse a small difference"


def _list_names(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join([*names[:MAX_NAMES], *([f"{more} more"] if more > 0 else [])])


def _describe_short_runs(finished: Sequence[OwnResult]) -> Iterator[str]:
    """Describe the runs with fewer epochs than the paper's recipe."""
    epochs: dict[tuple[str, str], list[str]] = {}
    for own in finished:
        for name, theirs, ours in own.changed:
            if name == "training.epochs" and float(ours) < float(theirs):
                epochs.setdefault((theirs, ours), []).append(own.recipe)
    everything = {own.recipe for own in finished}
    for (theirs, ours), names in epochs.items():
        which = "all recipes" if set(names) == everything else ", ".join(dict.fromkeys(names))
        count = f"{ours} epoch{'s' * (ours != '1')}"
        yield f"{count} in place of {theirs}, which may be too few to learn: {which}"


def _describe_mixed_runs(finished: Sequence[OwnResult]) -> Iterator[str]:
    """Describe the packages and devices in which the runs differ."""
    by_name: dict[str, dict[str, list[str]]] = {}
    for own in finished:
        versions = own.environment.get("versions", {})
        items = {"device": own.environment.get("device", "unknown")} | dict(versions)
        for name, value in items.items():
            by_name.setdefault(name, {}).setdefault(str(value), []).append(own.recipe)
    for name, values in by_name.items():
        if len(values) > 1:
            parts = [
                f"{name} {value} ({', '.join(dict.fromkeys(used))})"
                for value, used in values.items()
            ]
            yield f"the runs differ in {'; '.join(parts)}"
