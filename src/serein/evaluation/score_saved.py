"""Score a saved model on labelled audio."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain, islice
from statistics import fmean
from time import perf_counter
from typing import NamedTuple
from urllib.parse import quote

import torch

from serein import config, corpora
from serein.audio import split_evenly, utterance_duration
from serein.bundle import Bundle
from serein.errors import ConfigError
from serein.evaluation import scores, transcripts
from serein.evaluation.calibration import measure_raw_confidence
from serein.evaluation.evaluate import describe_unlabelled
from serein.evaluation.forced_choice import (
    add_forced_answers,
    find_shared_classes,
    withhold_single_class_scores,
)
from serein.evaluation.labels import describe_proxies, held_out_shares, map_labels
from serein.evaluation.provenance import (
    command_line,
    describe_corpus,
    describe_environment,
    utc_now,
)
from serein.evaluation.training_overlap import check_training_overlap
from serein.evaluation.utterance_filter import describe_left_out, select_for_transcription
from serein.evaluation.votes import add_votes, score_votes
from serein.interfaces import FrontEnd
from serein.labels import harmonize_emotion
from serein.labels.class_sets import ClassSet, find_prior_factors, resolve_class_set
from serein.labels.targets import get_raw_label, get_task_labels, is_regression, is_scorable
from serein.metrics.scoring import Scores
from serein.metrics.word_error_rate import compute_word_scores, count_unknown_words
from serein.records import Corpus, Recipe, Utterance
from serein.results import io
from serein.results.evaluation import FORCED, MODEL, LabelMapping, Prediction, Results
from serein.results.inference import WordScores
from serein.system import TRANSCRIPT, System, collect_notes, copy_front_end
from serein.training.dataset import Subset, open_frames
from serein.training.predict import predict_subset
from serein.utils.device import (
    Precision,
    precision_warnings,
    requested_precision,
    resolve_precision,
)

NOT_SCORED = "predicted, not scored: its classes are of the model's training data"
BATCH_SIZE = 40


def score_model(
    bundle: Bundle,
    corpus: str | Sequence[str] | Corpus,
    *,
    name: str = "model",
    settings: Sequence[str] = (),
    classes: ClassSet | None = None,
) -> Results:
    """Score a saved model on labelled audio.

    Utterances whose class the model does not have, or that lack a value which it predicts, are left
    out and counted. Utterances that it was trained on are scored, with a warning. A model that
    reads words is scored on those of its own recogniser, as it is used; without one, on those of
    the corpus, and utterances without words are left out.

    The selection "model" has the answers among all classes of the model, and "forced" those among a
    class set: the requested one, which is then the headline, or the classes that the corpus has if
    it lacks some. One class in all labels gives no score.

    Args:
        bundle: the model.
        corpus: ``NAME``, ``NAME=PATH``, several of them to read as one corpus, or a corpus.
        name: the model's name in the results.
        settings: names of labels or classes in the corpus, if they differ:
            ``"tasks.emotion.label=mood"``, ``"tasks.emotion.map.joy=happiness"``; and filters,
            ``"protocol.only.style=improvised"``, ``"protocol.max_duration=20"``.
        classes: the only classes to score, of the first classification task, or a dictionary of
            classes by task; utterances of other classes of the first task are left out.

    Raises:
        UnknownName: the model has no such class.
        ConfigError: no utterance has a label of the model, or the words that it needs; or a
            setting is not one of those.
        SereinError: the corpus or its audio has another fault.
    """
    system, started = bundle.system, perf_counter()
    filters = [setting for setting in settings if setting.strip().startswith("protocol.")]
    label_settings = [setting for setting in settings if setting not in filters]
    filtered = select_for_transcription(corpora.as_corpus(corpus), system.recipe, filters)
    corpus = filtered.corpus
    recipe = _apply_label_settings(system.recipe, label_settings)
    class_set = resolve_class_set(classes, system.classes)
    scored_classes = {**system.classes, **class_set}
    scorable, warnings = _select_scorable(corpus, recipe, scored_classes)
    if system.needs_words and bundle.asr is None:
        scorable, wordless = _select_with_words(corpus, scorable, recipe, name)
        warnings += wordless
    if filtered.left_out:
        warnings = [describe_left_out(filtered.left_out, "left out: "), *warnings]
    front_end = copy_front_end(system)
    windows = [_cut_windows(utterance, front_end) for utterance in scorable]
    content_hashes = corpora.hash_contents([*corpus.utterances, *chain.from_iterable(windows)])
    predicted = _predict(bundle, front_end, windows, content_hashes)
    outputs = {MODEL: predicted.outputs}
    predictions = [
        scores.build_prediction(
            utterance, MODEL, scores.true_labels(utterance, recipe, scored_classes), n, outputs
        )
        for n, utterance in enumerate(scorable)
    ]
    predictions = add_votes(predictions, scorable, recipe, system.classes, class_set)
    if predicted.texts:
        predictions = [
            replace(prediction, transcripts={MODEL: text})
            for prediction, text in zip(predictions, predicted.texts, strict=True)
        ]
    scored = replace(corpus, utterances=tuple(scorable))
    overlap = check_training_overlap(bundle.card, scored, content_hashes, whole=corpus)
    if bundle.asr is not None:
        overlap += check_training_overlap(
            bundle.asr.card, scored, content_hashes, "its recogniser's", corpus
        )
    warnings += [finding.description for finding in overlap if finding.verdict == "warning"]
    constants = {
        task: _majority_or_mean(counts, scored_classes[task])
        for task, counts in bundle.card.class_counts.items()
    }
    shared = class_set or find_shared_classes(predictions, system.classes)
    if shared:
        priors = {
            task: find_prior_factors(
                system.recipe.model, system.classes[task], system.temperatures.get(task, 1.0)
            )
            for task in shared
        }
        predictions = add_forced_answers(predictions, shared, system.classes, priors)
    baselines = scores.score_baselines(predictions, {MODEL: constants}, scored_classes)
    held_out_tasks = held_out_shares(recipe)
    warnings += describe_unlabelled(predictions, held_out_tasks)
    warnings += [f"{task}: {NOT_SCORED}" for task in held_out_tasks]
    results = _build_results(
        *(bundle, recipe, corpus, content_hashes, predictions, baselines, name, warnings),
        scored_classes,
    )
    results = _score_selections(results, shared, FORCED if class_set else MODEL)
    return replace(results, leakage=overlap, seconds=round(perf_counter() - started, 1))


def _majority_or_mean(counts: Mapping[str, int], classes: Sequence[str]) -> str | float:
    """Return the most frequent class of the training data, or the mean of its values."""
    if classes:
        return max(counts, key=lambda name: counts[name])
    return fmean(map(float, counts), counts.values())


class _Predicted(NamedTuple):
    """Predictions for utterances.

    Attributes:
        outputs: probabilities or value of each task and utterance, averaged over its windows.
        texts: the recognised words of each utterance; empty if none were recognised.
    """

    outputs: dict[str, list[list[float]]]
    texts: list[str]


def _predict(
    bundle: Bundle,
    front_end: FrontEnd,
    windows_of: Sequence[Sequence[Utterance]],
    content_hashes: Mapping[str, str],
) -> _Predicted:
    """Predict the windows of utterances, and recognise their words if the model uses them."""
    system, windows = bundle.system, list(chain.from_iterable(windows_of))
    texts: list[str] = []
    if bundle.asr is not None:
        texts = transcripts.transcribe_utterances(bundle.asr.system, windows, content_hashes)
    words = None
    if system.needs_words:
        own = dict(zip((window.id for window in windows), texts, strict=False))
        words = transcripts.encode_transcripts(system, windows, own)
    ids = tuple(window.id for window in windows)
    with open_frames(windows, front_end, content_hashes) as frames:
        subset = Subset(ids, frames, {}, words)
        outputs = predict_subset(system, subset, BATCH_SIZE, _resolve_model_precision(system))
    if TRANSCRIPT in outputs and system.transcript_task is not None:
        vocabulary = system.transcript_task.vocabulary
        texts = [vocabulary.decode(row) for row in outputs.pop(TRANSCRIPT).tolist()]
    counts, remaining = [len(windows) for windows in windows_of], iter(texts)
    averages = {
        task: scores.to_rows(
            torch.stack([rows.mean(dim=0) for rows in torch.split(output, counts)])
        )
        for task, output in outputs.items()
    }
    joined = [" ".join(filter(None, islice(remaining, count))) for count in counts]
    return _Predicted(averages, joined if texts else [])


def _resolve_model_precision(system: System) -> Precision:
    """Return the precision that a saved model's recipe requests, if the machine supports it."""
    return resolve_precision(requested_precision(system.recipe), system.device)


def _cut_windows(utterance: Utterance, front_end: FrontEnd) -> list[Utterance]:
    """Return the utterance, or the windows that recognition cuts it into if it is too long."""
    if front_end.max_seconds is None or utterance_duration(utterance) <= front_end.max_seconds:
        return [utterance]
    rate = front_end.rate
    bounds = split_evenly(
        round(utterance_duration(utterance) * rate), round(front_end.max_seconds * rate)
    )
    return [
        replace(
            utterance,
            id=f"{utterance.id}\n{number}",
            start=utterance.start + start / rate,
            end=utterance.start + end / rate,
        )
        for number, (start, end) in enumerate(bounds)
    ]


def _apply_label_settings(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """Change the names of labels and classes in a recipe; other settings raise an error."""
    for setting in settings:
        path = setting.partition("=")[0].strip().split(".")
        table, task, key = [*path, "", "", ""][:3]
        known = ("label", "scheme", "map", "votes")
        if table != "tasks" or task not in recipe.tasks or key not in known:
            raise ConfigError(
                f"{setting!r} cannot change a saved model; only names of labels and classes "
                "can be set, "
                + " or ".join(f"tasks.{task}.label=NAME" for task in recipe.tasks)
                + ", and likewise .scheme=NAME, .votes=NAME and .map.LABEL=CLASS"
            )
        changed = replace(recipe, **config.apply_setting({"tasks": recipe.tasks}, setting))
        if is_regression(task, changed) != is_regression(task, recipe):
            kind = "values" if is_regression(task, recipe) else "classes"
            raise ConfigError(f"{setting!r}: the model predicts {kind} of {task}")
        recipe = changed
    return recipe


def _select_scorable(
    corpus: Corpus, recipe: Recipe, model_classes: Mapping[str, Sequence[str]]
) -> tuple[list[Utterance], list[str]]:
    """Select the utterances with a label of the model, and describe those that are left out."""
    task, classes = next(iter(model_classes.items()))
    labels = get_task_labels(corpus.utterances, task, recipe)
    scorable, rest = list[Utterance](), list[Utterance]()
    for utterance, label in zip(corpus.utterances, labels, strict=True):
        (scorable if is_scorable(classes, label) else rest).append(utterance)
    others = sorted({get_raw_label(utterance, task, recipe) or "missing" for utterance in rest})
    total = len(corpus.utterances)
    if not scorable:
        raise ConfigError(
            f"no utterance of {corpus.name} has a {task} of the model: the corpus has "
            f"{others}, the model {list(classes) or 'a number'}. If the label has another name "
            f"there, set --set tasks.{task}.label=NAME; if its classes have other names, "
            f"--set tasks.{task}.map.LABEL=CLASS or --set tasks.{task}.scheme=harmonised"
        )
    if not rest:
        return scorable, []
    left_out = f"{len(rest)} of {total} utterances left out: {task} is one of {others}"
    renamed = [name for name in others if harmonize_emotion(name) in {*classes} - {name}]
    if renamed:
        left_out += (
            f"; {', '.join(renamed)} would be classes of the model with "
            f"--set tasks.{task}.scheme=harmonised"
        )
    return scorable, [left_out]


def _select_with_words(
    corpus: Corpus, scorable: list[Utterance], recipe: Recipe, name: str
) -> tuple[list[Utterance], list[str]]:
    """Select the utterances with words, for a model that reads those of the corpus.

    Raises:
        ConfigError: no utterance has words, or the model was saved without its recogniser.
    """
    source = recipe.text.get("transcripts_from")
    if source:
        raise ConfigError(
            f"{name} ({recipe.name}) is tested on words by the recogniser {source}, without which "
            "its file was saved: train it again with this version, which embeds the recogniser"
        )
    kept = [utterance for utterance in scorable if utterance.text is not None]
    if not kept:
        raise ConfigError(
            f"{name} ({recipe.name}) reads words and has no recogniser, and none of "
            f"{len(scorable)} utterances of {corpus.name} has a transcript: add a column 'text' to "
            "its table, or score a model that carries a recogniser, such as of feng2020-text-asr"
        )
    if len(kept) == len(scorable):
        return kept, []
    wordless = len(scorable) - len(kept)
    return kept, [
        f"{wordless} of {len(scorable)} utterances left out: they have no transcript, and the "
        "model reads words"
    ]


def _describe_words(bundle: Bundle, words: Mapping[str, WordScores]) -> str:
    """Describe for the headline where the words that the model used come from."""
    system = bundle.system
    wer = words[MODEL].wer if words else None
    rate = "" if wer is None else f", WER {100 * wer:.1f} %"
    if bundle.asr is not None:
        recognizer = bundle.asr.card.name or bundle.asr.system.recipe.name
        return f"; its words are recognised, by its own recogniser {recognizer}{rate}"
    if system.needs_words:
        return "; its words are the corpus's own transcripts, not recognised ones"
    return f"; it recognises words itself{rate}" if system.has_transcript_loss else ""


def _score_words(bundle: Bundle, predictions: Sequence[Prediction]) -> dict[str, WordScores]:
    """Score recognised words, where the corpus has transcripts; empty if there are none."""
    transcribed = [p for p in predictions if p.text is not None and p.transcripts]
    if not transcribed:
        return {}
    vocabulary = set((bundle.asr or bundle).system.words)
    references = [str(prediction.text) for prediction in transcribed]
    word_scores = compute_word_scores(
        references,
        [prediction.transcripts[MODEL] for prediction in transcribed],
        [prediction.speaker for prediction in transcribed],
        unknown=count_unknown_words(references, vocabulary),
    )
    return {MODEL: word_scores}


def _restrict_to_classes(mapping: LabelMapping, classes: Sequence[str]) -> LabelMapping:
    """Move the labels of classes that the model does not have to the dropped labels."""
    if not classes:
        return mapping
    dropped = {
        raw_label: count
        for label, counts in mapping.mapped.items()
        if label not in classes
        for raw_label, count in counts.items()
    }
    mapped = {label: counts for label, counts in mapping.mapped.items() if label in classes}
    return replace(mapping, mapped=mapped, dropped={**mapping.dropped, **dropped})


def _build_results(
    bundle: Bundle,
    recipe: Recipe,
    corpus: Corpus,
    content_hashes: dict[str, str],
    predictions: list[Prediction],
    baselines: dict[str, dict[str, Scores]],
    name: str,
    warnings: list[str],
    scored_classes: Mapping[str, Sequence[str]],
) -> Results:
    """Build the results of a model, all but the scores."""
    system, words = bundle.system, _score_words(bundle, predictions)
    mapping = {
        task: _restrict_to_classes(
            map_labels(corpus.utterances, task, recipe), scored_classes[task]
        )
        for task in recipe.tasks
    }
    return Results(
        format=io.FORMAT,
        name=quote(f"{name}-{corpus.name}", safe=""),
        command=command_line(),
        created=utc_now(),
        recipe=asdict(recipe),
        corpus=describe_corpus(corpus, content_hashes),
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
        headline=MODEL,
        selections={MODEL: f"the saved model {name}, as it is{_describe_words(bundle, words)}"},
        scores={},
        fold_means={},
        baselines=baselines,
        folds=[],
        predictions=predictions,
        warnings=[
            *corpus.notes,
            *collect_notes(recipe),
            *warnings,
            *precision_warnings(requested_precision(system.recipe), system.device),
        ],
        mapping=mapping,
        words=words,
    )


def _score_selections(
    results: Results, class_set: Mapping[str, Sequence[str]], headline: str
) -> Results:
    """Add the scores of the model's own answers, and of those among a class set.

    Args:
        results: without scores; if there is a class set, predictions have both selections.
        class_set: for each restricted task, its classes; may be empty.
        headline: the selection to quote; the other one is scored in the restricted tasks.
    """
    classes, predictions = results.classes, results.predictions
    pooled = scores.pool_scores(predictions, [headline], classes)
    others = {MODEL, *([FORCED] if class_set else [])} - {headline}
    for other in others:
        restricted = {task: classes[task] for task in class_set}
        pooled["scores"] |= scores.pool_scores(predictions, [other], restricted)["scores"]
    groups = scores.score_groups(predictions, headline, classes)
    meanings = {MODEL: results.selections[MODEL]}
    if class_set:
        listing = "; ".join(f"{task} {', '.join(own)}" for task, own in class_set.items())
        meanings[FORCED] = f"forced choice: its answers among these classes only: {listing}"
    return replace(
        results,
        headline=headline,
        selections={name: meanings[name] for name in (headline, *others)},
        scores=withhold_single_class_scores(pooled["scores"]),
        value_scores=pooled["value_scores"],
        groups={kind: withhold_single_class_scores(own) for kind, own in groups.items()},
        calibration=measure_raw_confidence(classes, predictions, headline),
        words=dict.fromkeys([headline], results.words[MODEL]) if results.words else {},
        vote_scores=score_votes(predictions, [headline], classes),
        class_set={task: list(own) for task, own in class_set.items()},
    )
