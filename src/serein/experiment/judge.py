"""From a saved model and labelled audio to results."""

from collections.abc import Sequence
from dataclasses import asdict

import torch

from serein import corpora, store
from serein.bundle import Bundle
from serein.dataset import Side, extract
from serein.errors import ConfigError
from serein.experiment import scores
from serein.experiment.evaluate import unlabelled
from serein.experiment.facts import command, described, environment, now
from serein.predict import foretell
from serein.records import Corpus, Prediction, Results, Utterance
from serein.system import label_of

BATCH = 40


def judge(bundle: Bundle, corpus: str | Corpus, *, name: str = "model") -> Results:
    """Score a saved model on labelled audio.

    Utterances of classes that the model does not know are left out and counted; so are those
    that it was trained on, which stay in and are warned of.

    Raises:
        ConfigError: the corpus has no label that the model knows.
        SereinError: whatever else is wrong with the corpus or its audio.
    """
    read = corpora.load(corpus) if isinstance(corpus, str) else corpus
    system = bundle.system
    kept, warnings = _judgeable(read, bundle)
    contents = corpora.contents(kept)
    frames = extract(kept, system.front_end, contents)
    side = Side(tuple(utterance.id for utterance in kept), frames, {})
    answers = {"model": {task: p.tolist() for task, p in foretell(system, side, BATCH).items()}}
    records = [
        scores.record(one, "model", scores.truths(one, system.recipe, system.classes), n, answers)
        for n, one in enumerate(kept)
    ]
    heard = set(bundle.card.heard)
    known = sum(contents[utterance.id] in heard for utterance in kept)
    if known:
        warnings.append(
            f"{known} of {len(kept)} utterances were in this model's training data: "
            "these scores say nothing about new speakers"
        )
    return _results(bundle, read, kept, records, name, warnings + unlabelled(records))


def _judgeable(corpus: Corpus, bundle: Bundle) -> tuple[list[Utterance], list[str]]:
    """Utterances with a class that the model knows, and what was left out, in words."""
    system = bundle.system
    task, classes = next(iter(system.classes.items()))
    labels = [label_of(utterance, task, system.recipe) for utterance in corpus.utterances]
    pairs = list(zip(corpus.utterances, labels, strict=True))
    kept = [utterance for utterance, label in pairs if label in classes]
    others = sorted({str(label) for label in labels if label not in classes})
    if not kept:
        raise ConfigError(
            f"no utterance of {corpus.name} has a {task} that the model knows: the corpus says "
            f"{others}, the model {list(classes)}. If the label has another name there, set "
            f"--set tasks.{task}.label=NAME"
        )
    if not others:
        return kept, []
    count = len(pairs) - len(kept)
    return kept, [f"{count} of {len(pairs)} utterances left out: {task} is one of {others}"]


def _results(
    bundle: Bundle,
    corpus: Corpus,
    kept: Sequence[Utterance],
    records: list[Prediction],
    name: str,
    warnings: list[str],
) -> Results:
    system = bundle.system
    majority = {"model": scores.majority_of(kept, system.recipe)}
    return Results(
        format=store.FORMAT,
        name=f"{name}-{corpus.name}",
        command=command(),
        created=now(),
        recipe=asdict(system.recipe),
        corpus=described(corpus),
        protocol={"name": "saved model", "hash": "", "validation": "none", "folds": []},
        environment=environment(0, torch.get_num_threads(), "cpu"),
        seconds=0.0,
        classes={task: list(names) for task, names in system.classes.items()},
        headline="model",
        selections={"model": f"the saved model {name}, as it is"},
        scores={
            "model": {
                task: scores.pooled(records, "model", task, names)
                for task, names in system.classes.items()
            }
        },
        fold_means={},
        baselines=scores.baselines(records, majority, system.classes),
        folds=[],
        predictions=records,
        warnings=warnings,
    )
