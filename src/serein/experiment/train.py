"""From a recipe and a whole corpus to a saved model."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from serein import bundle, config, corpora, find, protocols, recipes, store, system, truth, workers
from serein.bundle import Bundle, Card, Confidence
from serein.dataset import Side, extract
from serein.devices import device_of
from serein.errors import ConfigError
from serein.experiment import hearsay, words
from serein.experiment.facts import command, environment, flat, now, versions
from serein.experiment.known import spoken
from serein.experiment.labelling import classes_in, labelled
from serein.experiment.plan import copies_of, training_of
from serein.metrics.measures import measure_of
from serein.precision import fallen_back, settled
from serein.records import Corpus, Recipe, Utterance
from serein.results import Epoch, Results
from serein.training.estimator import fit_estimator
from serein.training.loop import fit
from serein.training.settings import Settings
from serein.training.start import start
from serein.training.varied import varied

Started = Callable[[int], AbstractContextManager[Callable[[Epoch], None]]]
"""Is told how many epochs there will be, and gives what is told of every one."""


def quiet(epochs: int) -> AbstractContextManager[Callable[[Epoch], None]]:
    """Show nothing."""
    return nullcontext(lambda epoch: None)


def train(
    recipe: str | Recipe,
    corpus: str | Sequence[str] | Corpus,
    output: Path,
    *,
    settings: Sequence[str] = (),
    seed: int = 0,
    device: str = "cpu",
    run: Path | None = None,
    card: Path | None = None,
    started: Started = quiet,
) -> Bundle:
    """Train on every utterance of a corpus, and save the model.

    A training that was interrupted goes on from the last state that it wrote. Under torchrun or
    srun all processes train one model, which the first of them saves.

    Args:
        recipe: name, path of a TOML file, or a recipe.
        corpus: ``NAME``, ``NAME=PATH``, several of them to be read as one, or a corpus.
        output: the bundle to write.
        settings: what to change in the recipe.
        seed: of the weights, the order of utterances, and dropout.
        device: "cpu", "cuda", or "auto".
        run: an evaluation of this recipe; the model trains for the median of the epochs that
            its validation speakers chose, takes its temperature and threshold from them, and its
            card quotes the run's scores.
        card: a TOML file with the card's words (name, licence, data, limits, use).
        started: is told how many epochs there will be, and gives what is told of every one.

    Raises:
        SereinError: whatever is wrong with recipe, corpus, audio or disk.
    """
    if output.is_dir():
        raise ConfigError(f"{output} is a folder; expected the file to write, x.safetensors")
    chosen = recipes.load(recipe, settings) if isinstance(recipe, str) else recipe
    judged = store.load(run) if run else None
    if judged is not None:
        chosen = prepared(chosen, judged)
    told = config.read(card) if card else {}
    _check(chosen)
    device, how = device_of(device), training_of(chosen)
    heard = _heard(corpus, chosen, judged)
    made, state = _learnt(chosen, how, heard, output, seed, device, started)
    begun = words.begun(chosen)
    before = begun.card if begun else Card()
    facts = {
        "name": output.stem,
        "data": _source(heard.corpus),
        "licence": "; ".join(system.notes_of(chosen)),
        "scores": scores_in_words(judged) if judged else "not evaluated",
        "training": _facts(chosen, how, seed, device),
        "counts": {task: _counted(heard.corpus, task, chosen) for task in chosen.tasks},
        "heard": tuple(sorted({*heard.contents.values(), *before.heard})),
        "samples": tuple(sorted({*_samples(heard.corpus), *before.samples})),
        "speakers": tuple(sorted({*spoken(heard.corpus), *before.speakers})),
    }
    sure = confidence(judged) if judged else {}
    saved = Bundle(made.to("cpu").eval(), config.build(Card, {**facts, **told}, "card"), sure)
    if not workers.rank():
        bundle.save(saved, output)
        state.unlink(missing_ok=True)
    return saved


def _samples(corpus: Corpus) -> Iterable[str]:
    return protocols.probes(corpus.utterances).values()


def _check(recipe: Recipe) -> None:
    """See to it that a recipe is one that a model for others can be trained by."""
    if workers.world() > 1 and system.is_fitted(recipe):
        raise ConfigError(
            f"{recipe.model['name']} is fitted at once, and not in {workers.world()} processes; "
            "start one, without torchrun or srun"
        )
    system.check(recipe)
    if recipe.normalise.get("statistics") == "speaker":
        raise ConfigError(
            "normalise.statistics = 'speaker' needs many recordings of each speaker before one "
            "can be recognised; it serves to judge only: set normalise.statistics=training"
        )


@dataclass(frozen=True, slots=True)
class _Heard:
    """What a model is trained on: utterances, a hash for each of them, and the corpus's own."""

    corpus: Corpus
    contents: dict[str, str]
    mark: str


def _heard(corpus: str | Sequence[str] | Corpus, recipe: Recipe, judged: Results | None) -> _Heard:
    """Read a corpus, and keep of it what the recipe trains on."""
    read, _ = labelled(corpora.read(corpus), recipe)
    contents = corpora.contents(read.utterances)
    mark = corpora.fingerprint(read, contents)
    if judged is not None and judged.corpus["hash"] != mark:
        raise ConfigError(
            f"{judged.name} judged another corpus, or other labels of it; evaluate again"
        )
    read = replace(read, utterances=trained(read, recipe))
    return _Heard(read, {one.id: contents[one.id] for one in read.utterances}, mark)


def _learnt(
    recipe: Recipe,
    how: Settings,
    heard: _Heard,
    output: Path,
    seed: int,
    device: str,
    started: Started,
) -> tuple["system.System", Path]:
    """The trained system, and where the state of its training lies."""
    utterances = heard.corpus.utterances
    torch.manual_seed(seed)
    classes = classes_in(heard.corpus, recipe)
    made = system.System(recipe, classes, words.known(utterances, recipe))
    start(made, how.init)
    forms = copies_of(recipe, made.front_end)
    frames, *copies = (
        extract(utterances, made.front_end, heard.contents, copy=form) for form in (None, *forms)
    )
    ids = tuple(utterance.id for utterance in utterances)
    side = Side(ids, frames, made.targets(utterances), words.read(made, utterances, {}))
    side = varied(side, utterances, how, copies, system.masks_of(recipe, made.front_end))
    needed, numbers = versions() | system.packages_of(recipe), settled(how.precision, device)
    facts = [asdict(recipe), list(recipe.tasks), heard.mark, seed, device, numbers, needed]
    state = _state(output, [*facts, hearsay.marks(recipe), [form.key for form in forms]])
    learn = fit_estimator if system.is_fitted(recipe) else fit
    with (quiet if workers.rank() else started)(how.epochs) as progress:
        learn(made, side, {}, how, seed=seed, device=device, state=state, progress=progress)
    return made, state


def trained(corpus: Corpus, recipe: Recipe) -> tuple[Utterance, ...]:
    """What is not too long, no more than is wanted; beside a main corpus, its share of others."""
    how = config.build(protocols.Settings, recipe.protocol, "protocol")
    kept, _ = protocols.short(corpus.utterances, how.longest)
    if how.main:
        return tuple(protocols.together(kept, how))
    return tuple(protocols.first(kept, how, corpus.name))


def prepared(recipe: Recipe, judged: Results) -> Recipe:
    """The recipe with the epochs that an evaluation's validation speakers chose.

    Raises:
        ConfigError: the run is of another system, or had no validation speakers.
    """
    leaks = [one for one in judged.leakage if one.verdict in ("allowed", "error")]
    if leaks:
        raise ConfigError(
            f"{judged.name} has leaks, its epochs and its confidence would flatter the model: "
            f"{leaks[0].words}. Evaluate with folds that no speaker and no recording crosses"
        )
    chosen = replace(recipe, training={**recipe.training, "epochs": median_epoch(judged)})
    asked, found = asdict(chosen), dict(judged.recipe)
    found["training"] = {**found["training"], "epochs": chosen.training["epochs"]}
    if cost := median_cost(judged):
        chosen = replace(recipe, model={**recipe.model, "c": cost}, training=chosen.training)
    tables = ("features", "normalise", "model", "tasks", "training", "augment", "text")
    other = [table for table in tables if asked[table] != found.get(table, {})]
    if other:
        raise ConfigError(
            f"{judged.name} judged {found['name']} with other settings of {', '.join(other)} than "
            f"{recipe.name}; evaluate this recipe first"
        )
    return chosen


def median_epoch(results: Results) -> int:
    """The median of the epochs that validation chose over the folds, rounded up.

    Raises:
        ConfigError: the run had no validation speakers.
    """
    if any("validation" not in fold.epochs for fold in results.folds) or not results.folds:
        raise ConfigError(
            f"{results.name} chose no epochs by validation; evaluate with validation speakers"
        )
    return int(median(fold.epochs["validation"] for fold in results.folds) + 0.5)


def median_cost(results: Results) -> dict[str, float]:
    """The median of the C that each task of an estimator had over the folds; else empty."""
    tasks = sorted({task for fold in results.folds for task in fold.chosen})
    return {task: median(fold.chosen[task] for fold in results.folds) for task in tasks}


def confidence(results: Results) -> dict[str, Confidence]:
    """Each task's temperature, and the threshold that four answers in five of new speakers reach.

    Both come from speakers that were neither trained on nor tested, whose votes also chose the
    epochs.
    """
    words = (
        f"by the validation speakers of {len(results.folds)} folds of {results.corpus['name']}; "
        "four of five of their utterances reach the threshold"
    )
    return {
        task: Confidence(found.temperature, found.threshold or 0.0, words)
        for task, found in results.calibration.items()
        if found.temperature is not None
    }


def scores_in_words(results: Results) -> str:
    """A run's headline, with its protocol and the other selections."""
    task = next(iter(results.classes))
    parts = []
    for selection, meaning in results.selections.items():
        found = results.scored(selection)[task]
        pairs = [(one, found.score(one.name)) for one in measure_of(results.classes[task]).scores]
        told = [one.worded(score) for one, score in pairs if score is not None]
        if len(told) == len(pairs):
            parts.append(f"{' '.join(told)} ({meaning})")
    split = [results.protocol["name"], results.protocol.get("caution")]
    protocol = ", ".join(str(part) for part in split if part)
    return f"{results.corpus['name']}, {protocol}, {task}: " + "; ".join(parts)


def _state(output: Path, facts: list[Any]) -> Path:
    """Where the training keeps its state; other settings have another place."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
    return output.with_name(f".{output.stem}.{digest}.pt")


def _counted(corpus: Corpus, task: str, recipe: Recipe) -> dict[str, int]:
    """How often each class, or value, of a task occurs."""
    labels = truth.labels_of(corpus.utterances, task, recipe)
    return dict(sorted(Counter(str(label) for label in labels if label is not None).items()))


def _source(corpus: Corpus) -> str:
    count = f"{len(corpus.utterances)} utterances"
    if corpus.name not in find.names("corpora"):
        return f"{corpus.name}, {count}"
    about = find.module("corpora", corpus.name).ABOUT
    return f"{about.title}, {count}, {about.licence}"


def _facts(recipe: Recipe, how: Settings, seed: int, device: str) -> dict[str, Any]:
    warnings = fallen_back(how.precision, device)
    return {
        "command": command(),
        "created": now(),
        "epochs": how.epochs,
        **flat(environment(recipe, seed, how.threads, device, settled(how.precision, device))),
        **({"warning": warnings[0]} if warnings else {}),
    }
