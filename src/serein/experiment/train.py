"""From a recipe and a whole corpus to a saved model."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from serein import bundle, config, corpora, find, protocols, recipes, store, system, truth, workers
from serein.bundle import Bundle, Card
from serein.dataset import Side, extract
from serein.devices import device_of
from serein.errors import ConfigError
from serein.experiment import hearsay, words
from serein.experiment.evidence import believed, confidence, prepared, scores_in_words
from serein.experiment.facts import command, environment, flat, now, versions
from serein.experiment.known import spoken
from serein.experiment.labelling import classes_in, labelled
from serein.experiment.plan import copies_of, training_of
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
    sure: Path | None = None,
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
            card quotes the run's scores. Without such speakers it trains as long as the recipe
            says.
        sure: another evaluation of this recipe, such as on other corpora, whose validation
            speakers give temperature and threshold in place of the run's.
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
    trust = confidence(judged) if judged else {}
    if sure:
        trust = believed(chosen, classes_in(heard.corpus, chosen), store.load(sure))
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
    saved = Bundle(made.to("cpu").eval(), config.build(Card, {**facts, **told}, "card"), trust)
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
