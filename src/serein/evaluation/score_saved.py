"""From a saved model and labelled audio to results."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from statistics import fmean
from urllib.parse import quote

import torch

from serein import config, corpora
from serein.audio import split_evenly, utterance_duration
from serein.bundle import Bundle
from serein.errors import ConfigError
from serein.evaluation import scores, transcripts
from serein.evaluation.calibration import measure_raw_confidence
from serein.evaluation.evaluate import describe_unlabelled
from serein.evaluation.labels import describe_proxies, held_out_shares, map_labels
from serein.evaluation.provenance import (
    command_line,
    describe_corpus,
    describe_environment,
    utc_now,
)
from serein.evaluation.transcripts import find_training_overlap
from serein.interfaces import FrontEnd
from serein.labels.targets import get_raw_label, get_task_labels, is_regression, is_scorable
from serein.metrics.scoring import Scores
from serein.records import Corpus, Finding, Recipe, Utterance
from serein.results import io
from serein.results.evaluation import LabelMapping as Words
from serein.results.evaluation import Prediction, Results
from serein.system import TRANSCRIPT, System, build_front_end, collect_notes
from serein.training.dataset import Subset, extract_frames
from serein.training.predict import predict_subset
from serein.utils.device import (
    Precision,
    precision_warnings,
    requested_precision,
    resolve_precision,
)

NOT_SCORED = "foretold, not scored, as its classes are of the utterances that the model heard"
BATCH_SIZE = 40


def score_model(
    bundle: Bundle,
    corpus: str | Sequence[str] | Corpus,
    *,
    name: str = "model",
    settings: Sequence[str] = (),
) -> Results:
    """Score a saved model on labelled audio.

    Utterances of classes that the model does not know are left out and counted, and so are those
    without a value where it answers with one; those that it was trained on stay in and are
    warned of.

    Args:
        bundle: the model.
        corpus: ``NAME``, ``NAME=PATH``, several of them to be read as one, or a corpus.
        name: what to call the model.
        settings: where the corpus has other names for labels or classes:
            ``"tasks.emotion.label=mood"``, ``"tasks.emotion.map.joy=happiness"``.

    Raises:
        ConfigError: the corpus has no label that the model knows, or a setting is none of those.
        SereinError: whatever else is wrong with the corpus or its audio.
    """
    read = corpora.read(corpus)
    system = bundle.system
    recipe = _apply_label_settings(system.recipe, settings)
    kept, warnings = _select_scorable(read, recipe, system.classes)
    pieces = _split_utterances(system, kept)
    flat = [piece for parts in pieces for piece in parts]
    contents = corpora.contents([*read.utterances, *flat])
    answers = {"model": _predict(system, pieces, contents)}
    records = [
        scores.build_prediction(
            one, "model", scores.true_labels(one, recipe, system.classes), n, answers
        )
        for n, one in enumerate(kept)
    ]
    known = _training_overlap(bundle, replace(read, utterances=tuple(kept)), contents)
    warnings += [one.description for one in known if one.verdict != "clean"]
    usual = {
        task: _majority_or_mean(counts, system.classes[task])
        for task, counts in bundle.card.class_counts.items()
    }
    rows = scores.score_baselines(records, {"model": usual}, system.classes)
    own = held_out_shares(recipe)
    told = warnings + describe_unlabelled(records, own) + [f"{task}: {NOT_SCORED}" for task in own]
    made = _build_results(bundle, recipe, read, contents, records, rows, name, told)
    return replace(made, leakage=known)


def _majority_or_mean(counts: Mapping[str, int], classes: Sequence[str]) -> str | float:
    """The class that the model heard most, or the mean of the values."""
    if classes:
        return max(counts, key=lambda name: counts[name])
    return fmean(map(float, counts), counts.values())


def _training_overlap(bundle: Bundle, corpus: Corpus, contents: Mapping[str, str]) -> list[Finding]:
    """Which of these utterances and speakers the model was trained on."""
    of = find_training_overlap(bundle.card, corpus, contents)
    same, speakers = of["duplicate"], of["speaker"]
    new = "these scores say nothing about new speakers"
    total = len(corpus.utterances)
    were = "were in this model's training data"
    found = {
        "duplicate": (same, f"{len(same)} of {total} utterances {were}"),
        "speaker": (speakers, f"{len(speakers)} speakers {were}"),
    }
    return [
        Finding(
            kind=kind,
            verdict="warning" if known else "clean",
            count=len(known),
            description=f"{words}: {new}" if known else f"no {kind} of this model's training data",
            examples=tuple(known[:3]),
        )
        for kind, (known, words) in found.items()
    ]


def _front_end(system: System) -> FrontEnd:
    return build_front_end(system.recipe)  # on the CPU, wherever the model is


def _split_utterances(system: System, utterances: Sequence[Utterance]) -> list[list[Utterance]]:
    """What the model hears of each utterance at a time; long ones are cut into windows."""
    front_end = _front_end(system)
    return [_cut_windows(utterance, front_end) for utterance in utterances]


def _predict(
    system: System, windows_of: Sequence[Sequence[Utterance]], contents: Mapping[str, str]
) -> dict[str, list[list[float]]]:
    """Probabilities, or values, for each task, averaged over an utterance's pieces."""
    flat = [piece for parts in windows_of for piece in parts]
    frames = extract_frames(flat, _front_end(system), contents)
    side = Subset(
        tuple(piece.id for piece in flat),
        frames,
        {},
        transcripts.encode_transcripts(system, flat, {}),
    )
    counts = [len(parts) for parts in windows_of]
    return {
        task: [part.mean(dim=0).tolist() for part in torch.split(p, counts)]
        for task, p in predict_subset(
            system, side, BATCH_SIZE, _resolve_model_precision(system)
        ).items()
        if task != TRANSCRIPT
    }


def _resolve_model_precision(system: System) -> Precision:
    """What a saved model computes in here: what its recipe asks for, if the machine can."""
    return resolve_precision(requested_precision(system.recipe), system.device)


def _cut_windows(utterance: Utterance, front_end: FrontEnd) -> list[Utterance]:
    """The utterance, or the windows that a recogniser would hear of it."""
    if front_end.max_seconds is None or utterance_duration(utterance) <= front_end.max_seconds:
        return [utterance]
    rate = front_end.rate
    cuts = split_evenly(
        round(utterance_duration(utterance) * rate), round(front_end.max_seconds * rate)
    )
    return [
        replace(
            utterance,
            id=f"{utterance.id}\n{number}",
            start=utterance.start + first / rate,
            end=utterance.start + last / rate,
        )
        for number, (first, last) in enumerate(cuts)
    ]


def _apply_label_settings(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with other names for labels and classes; nothing else may change."""
    for setting in settings:
        path = setting.partition("=")[0].strip().split(".")
        table, task, key = [*path, "", "", ""][:3]
        if table != "tasks" or task not in recipe.tasks or key not in ("label", "scheme", "map"):
            raise ConfigError(
                f"{setting!r} cannot change a saved model; only names of labels and classes "
                "can be set, "
                + " or ".join(f"tasks.{task}.label=NAME" for task in recipe.tasks)
                + ", and likewise .scheme=NAME and .map.WORD=CLASS"
            )
        changed = replace(recipe, **config.apply_setting({"tasks": recipe.tasks}, setting))
        if is_regression(task, changed) != is_regression(task, recipe):
            kind = "values" if is_regression(task, recipe) else "classes"
            raise ConfigError(f"{setting!r}: the model answers {task} with {kind}")
        recipe = changed
    return recipe


def _select_scorable(
    corpus: Corpus, recipe: Recipe, model_classes: Mapping[str, Sequence[str]]
) -> tuple[list[Utterance], list[str]]:
    """Utterances with a label that the model knows, and what was left out, in words."""
    task, classes = next(iter(model_classes.items()))
    labels = get_task_labels(corpus.utterances, task, recipe)
    pairs = list(zip(corpus.utterances, labels, strict=True))
    kept = [utterance for utterance, found in pairs if is_scorable(classes, found)]
    rest = [utterance for utterance, found in pairs if not is_scorable(classes, found)]
    others = sorted({get_raw_label(one, task, recipe) or "missing" for one in rest})
    if not kept:
        raise ConfigError(
            f"no utterance of {corpus.name} has a {task} that the model knows: the corpus says "
            f"{others}, the model {list(classes) or 'a number'}. If the label has another name "
            f"there, set --set tasks.{task}.label=NAME; if its words differ, "
            f"--set tasks.{task}.map.WORD=CLASS or --set tasks.{task}.scheme=harmonised"
        )
    if not rest:
        return kept, []
    return kept, [f"{len(rest)} of {len(pairs)} utterances left out: {task} is one of {others}"]


def _restrict_to_classes(found: Words, classes: Sequence[str]) -> Words:
    """What became of a task's words where only the model's classes count."""
    if not classes:
        return found
    lost = {
        word: n
        for label, own in found.mapped.items()
        if label not in classes
        for word, n in own.items()
    }
    kept = {label: own for label, own in found.mapped.items() if label in classes}
    return replace(found, mapped=kept, dropped={**found.dropped, **lost})


def _build_results(
    bundle: Bundle,
    recipe: Recipe,
    corpus: Corpus,
    contents: dict[str, str],
    records: list[Prediction],
    baselines: dict[str, dict[str, Scores]],
    name: str,
    warnings: list[str],
) -> Results:
    system = bundle.system
    mapping = {
        task: _restrict_to_classes(
            map_labels(corpus.utterances, task, recipe), system.classes[task]
        )
        for task in recipe.tasks
    }
    return Results(
        format=io.FORMAT,
        name=quote(f"{name}-{corpus.name}", safe=""),
        command=command_line(),
        created=utc_now(),
        recipe=asdict(recipe),
        corpus=describe_corpus(corpus, contents),
        protocol={
            "name": "saved model",
            "hash": "",
            "validation": "none",
            "caution": describe_proxies(mapping),
            "folds": [],
        },
        environment=describe_environment(
            recipe, 0, torch.get_num_threads(), system.device, _resolve_model_precision(system)
        ),
        seconds=0.0,
        classes={task: list(names) for task, names in system.classes.items()},
        headline="model",
        selections={"model": f"the saved model {name}, as it is"},
        **scores.pool_scores(records, ["model"], system.classes),
        fold_means={},
        baselines=baselines,
        folds=[],
        predictions=records,
        warnings=[
            *corpus.notes,
            *collect_notes(recipe),
            *warnings,
            *precision_warnings(requested_precision(system.recipe), system.device),
        ],
        mapping=mapping,
        groups=scores.score_groups(records, "model", system.classes),
        calibration=measure_raw_confidence(system.classes, records, "model"),
    )
