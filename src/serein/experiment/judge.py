"""From a saved model and labelled audio to results."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from statistics import fmean
from urllib.parse import quote

import torch

from serein import config, corpora, store
from serein.audio import seconds_of, windows
from serein.bundle import Bundle
from serein.contracts import FrontEnd
from serein.dataset import Side, extract
from serein.errors import ConfigError
from serein.experiment import scores, words
from serein.experiment.confidence import unfitted
from serein.experiment.evaluate import unlabelled
from serein.experiment.facts import command, described, environment, now
from serein.experiment.known import trained_on
from serein.experiment.labelling import held_out_shares, mapped, proxies
from serein.metrics.measures import Scores
from serein.precision import Numbers, asked, fallen_back, settled
from serein.predict import foretell
from serein.records import Corpus, Finding, Recipe, Utterance
from serein.results import Mapping as Words
from serein.results import Prediction, Results
from serein.system import SPOKEN, System, front_end_of, notes_of
from serein.truth import is_value, knows, labels_of, word_of

NEVER_HEARD = "foretold, not scored, as its classes are of the utterances that the model heard"
BATCH = 40


def judge(
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
    recipe = _relabelled(system.recipe, settings)
    kept, warnings = _judgeable(read, recipe, system.classes)
    pieces = _pieces(system, kept)
    flat = [piece for parts in pieces for piece in parts]
    contents = corpora.contents([*read.utterances, *flat])
    answers = {"model": _answers(system, pieces, contents)}
    records = [
        scores.record(one, "model", scores.truths(one, recipe, system.classes), n, answers)
        for n, one in enumerate(kept)
    ]
    known = _trained_on(bundle, replace(read, utterances=tuple(kept)), contents)
    warnings += [one.words for one in known if one.verdict != "clean"]
    usual = {
        task: _usual(counts, system.classes[task]) for task, counts in bundle.card.counts.items()
    }
    rows = scores.baselines(records, {"model": usual}, system.classes)
    own = held_out_shares(recipe)
    told = warnings + unlabelled(records, own) + [f"{task}: {NEVER_HEARD}" for task in own]
    made = _results(bundle, recipe, read, contents, records, rows, name, told)
    return replace(made, leakage=known)


def _usual(counts: Mapping[str, int], classes: Sequence[str]) -> str | float:
    """The class that the model heard most, or the mean of the values."""
    if classes:
        return max(counts, key=lambda name: counts[name])
    return fmean(map(float, counts), counts.values())


def _trained_on(bundle: Bundle, corpus: Corpus, contents: Mapping[str, str]) -> list[Finding]:
    """Which of these utterances and speakers the model was trained on."""
    of = trained_on(bundle.card, corpus, contents)
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
            words=f"{words}: {new}" if known else f"no {kind} of this model's training data",
            examples=tuple(known[:3]),
        )
        for kind, (known, words) in found.items()
    ]


def _front_end(system: System) -> FrontEnd:
    return front_end_of(system.recipe)  # on the CPU, wherever the model is


def _pieces(system: System, utterances: Sequence[Utterance]) -> list[list[Utterance]]:
    """What the model hears of each utterance at a time; long ones are cut into windows."""
    front_end = _front_end(system)
    return [_windows(utterance, front_end) for utterance in utterances]


def _answers(
    system: System, pieces: Sequence[Sequence[Utterance]], contents: Mapping[str, str]
) -> dict[str, list[list[float]]]:
    """Probabilities, or values, for each task, averaged over an utterance's pieces."""
    flat = [piece for parts in pieces for piece in parts]
    frames = extract(flat, _front_end(system), contents)
    side = Side(tuple(piece.id for piece in flat), frames, {}, words.read(system, flat, {}))
    counts = [len(parts) for parts in pieces]
    return {
        task: [part.mean(dim=0).tolist() for part in torch.split(p, counts)]
        for task, p in foretell(system, side, BATCH, _numbers(system)).items()
        if task != SPOKEN
    }


def _numbers(system: System) -> Numbers:
    """What a saved model computes in here: what its recipe asks for, if the machine can."""
    return settled(asked(system.recipe), system.device)


def _windows(utterance: Utterance, front_end: FrontEnd) -> list[Utterance]:
    """The utterance, or the windows that a recogniser would hear of it."""
    if front_end.longest is None or seconds_of(utterance) <= front_end.longest:
        return [utterance]
    rate = front_end.rate
    cuts = windows(round(seconds_of(utterance) * rate), round(front_end.longest * rate))
    return [
        replace(
            utterance,
            id=f"{utterance.id}\n{number}",
            start=utterance.start + first / rate,
            end=utterance.start + last / rate,
        )
        for number, (first, last) in enumerate(cuts)
    ]


def _relabelled(recipe: Recipe, settings: Sequence[str]) -> Recipe:
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
        changed = replace(recipe, **config.override({"tasks": recipe.tasks}, setting))
        if is_value(task, changed) != is_value(task, recipe):
            kind = "values" if is_value(task, recipe) else "classes"
            raise ConfigError(f"{setting!r}: the model answers {task} with {kind}")
        recipe = changed
    return recipe


def _judgeable(
    corpus: Corpus, recipe: Recipe, known: Mapping[str, Sequence[str]]
) -> tuple[list[Utterance], list[str]]:
    """Utterances with a label that the model knows, and what was left out, in words."""
    task, classes = next(iter(known.items()))
    labels = labels_of(corpus.utterances, task, recipe)
    pairs = list(zip(corpus.utterances, labels, strict=True))
    kept = [utterance for utterance, found in pairs if knows(classes, found)]
    rest = [utterance for utterance, found in pairs if not knows(classes, found)]
    others = sorted({word_of(one, task, recipe) or "missing" for one in rest})
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


def _known(found: Words, classes: Sequence[str]) -> Words:
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


def _results(
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
        task: _known(mapped(corpus.utterances, task, recipe), system.classes[task])
        for task in recipe.tasks
    }
    return Results(
        format=store.FORMAT,
        name=quote(f"{name}-{corpus.name}", safe=""),
        command=command(),
        created=now(),
        recipe=asdict(recipe),
        corpus=described(corpus, contents),
        protocol={
            "name": "saved model",
            "hash": "",
            "validation": "none",
            "caution": proxies(mapping),
            "folds": [],
        },
        environment=environment(
            recipe, 0, torch.get_num_threads(), system.device, _numbers(system)
        ),
        seconds=0.0,
        classes={task: list(names) for task, names in system.classes.items()},
        headline="model",
        selections={"model": f"the saved model {name}, as it is"},
        **scores.pooled(records, ["model"], system.classes),
        fold_means={},
        baselines=baselines,
        folds=[],
        predictions=records,
        warnings=[
            *corpus.notes,
            *notes_of(recipe),
            *warnings,
            *fallen_back(asked(system.recipe), system.device),
        ],
        mapping=mapping,
        groups=scores.grouped(records, "model", system.classes),
        calibration=unfitted(system.classes, records, "model"),
    )
