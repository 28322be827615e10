"""From a recipe and a whole corpus to a saved model.

What evaluations say of a model that is then trained on everything: epochs, doubts, scores.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from serein import bundle, config, corpora, protocols, recipes, registry, system
from serein.bundle import Bundle, Card, ConfidenceCalibration
from serein.errors import ConfigError
from serein.evaluation import transcripts
from serein.evaluation.labels import apply_label_scheme, corpus_classes
from serein.evaluation.plan import build_augmentations, build_training_config
from serein.evaluation.provenance import (
    command_line,
    describe_environment,
    flatten,
    package_versions,
    utc_now,
)
from serein.evaluation.transcripts import speaker_names
from serein.labels import targets
from serein.metrics.scoring import get_scorer
from serein.records import Corpus, Recipe, Utterance
from serein.results import io
from serein.results.evaluation import Epoch, Results
from serein.training.config import TrainingConfig
from serein.training.dataset import Subset, extract_frames
from serein.training.estimator import fit_estimator
from serein.training.finetune import load_initial_weights
from serein.training.loop import fit
from serein.training.sampling import augment_subset
from serein.utils import distributed
from serein.utils.device import precision_warnings, resolve_device, resolve_precision

OpenProgress = Callable[[int], AbstractContextManager[Callable[[Epoch], None]]]
"""Is told how many epochs there will be, and gives what is told of every one."""


def no_progress(epochs: int) -> AbstractContextManager[Callable[[Epoch], None]]:
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
    confidence_run: Path | None = None,
    card: Path | None = None,
    open_progress: OpenProgress = no_progress,
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
        confidence_run: another evaluation of this recipe, such as on other corpora, whose validation
            speakers give temperature and threshold in place of the run's.
        card: a TOML file with the card's words (name, licence, data, limits, use).
        open_progress: is told how many epochs there will be, and gives what is told of every one.

    Raises:
        SereinError: whatever is wrong with recipe, corpus, audio or disk.
    """
    if output.is_dir():
        raise ConfigError(f"{output} is a folder; expected the file to write, x.safetensors")
    chosen = recipes.load(recipe, settings) if isinstance(recipe, str) else recipe
    judged = io.load_results(run) if run else None
    if judged is not None:
        chosen = apply_evaluation(chosen, judged)
    told = config.read_toml(card) if card else {}
    _check_trainable(chosen)
    device, how = resolve_device(device), build_training_config(chosen)
    heard = _load_training_data(corpus, chosen, judged)
    trust = extract_confidence(judged) if judged else {}
    if confidence_run:
        trust = transfer_confidence(
            chosen, corpus_classes(heard.corpus, chosen), io.load_results(confidence_run)
        )
    made, state = _train_system(chosen, how, heard, output, seed, device, open_progress)
    begun = transcripts.load_initial_bundle(chosen)
    before = begun.card if begun else Card()
    facts = {
        "name": output.stem,
        "data": _describe_data(heard.corpus),
        "licence": "; ".join(system.collect_notes(chosen)),
        "scores": describe_scores(judged) if judged else "not evaluated",
        "training": _describe_training(chosen, how, seed, device),
        "class_counts": {task: _count_labels(heard.corpus, task, chosen) for task in chosen.tasks},
        "file_hashes": tuple(sorted({*heard.audio_hashes.values(), *before.file_hashes})),
        "audio_hashes": tuple(sorted({*_sample_hashes(heard.corpus), *before.audio_hashes})),
        "speakers": tuple(sorted({*speaker_names(heard.corpus), *before.speakers})),
    }
    saved = Bundle(
        made.to("cpu").eval(), config.build_config(Card, {**facts, **told}, "card"), trust
    )
    if not distributed.get_rank():
        bundle.save(saved, output)
        state.unlink(missing_ok=True)
    return saved


def _sample_hashes(corpus: Corpus) -> Iterable[str]:
    return protocols.hash_audio_excerpts(corpus.utterances).values()


def _check_trainable(recipe: Recipe) -> None:
    """See to it that a recipe is one that a model for others can be trained by."""
    if distributed.get_world_size() > 1 and system.is_estimator(recipe):
        raise ConfigError(
            f"{recipe.model['name']} is fitted at once, and not in {distributed.get_world_size()} processes; "
            "start one, without torchrun or srun"
        )
    system.check_recipe(recipe)
    if recipe.normalise.get("statistics") == "speaker":
        raise ConfigError(
            "normalise.statistics = 'speaker' needs many recordings of each speaker before one "
            "can be recognised; it serves to judge only: set normalise.statistics=training"
        )


@dataclass(frozen=True, slots=True)
class _TrainingData:
    """What a model is trained on: utterances, a hash for each of them, and the corpus's own."""

    corpus: Corpus
    audio_hashes: dict[str, str]
    fingerprint: str


def _load_training_data(
    corpus: str | Sequence[str] | Corpus, recipe: Recipe, evaluation: Results | None
) -> _TrainingData:
    """Read a corpus, and keep of it what the recipe trains on."""
    read, _ = apply_label_scheme(corpora.read(corpus), recipe)
    contents = corpora.contents(read.utterances)
    mark = corpora.fingerprint(read, contents)
    if evaluation is not None and evaluation.corpus["hash"] != mark:
        raise ConfigError(
            f"{evaluation.name} judged another corpus, or other labels of it; evaluate again"
        )
    read = replace(read, utterances=select_training_utterances(read, recipe))
    return _TrainingData(read, {one.id: contents[one.id] for one in read.utterances}, mark)


def _train_system(
    recipe: Recipe,
    training: TrainingConfig,
    data: _TrainingData,
    output: Path,
    seed: int,
    device: str,
    open_progress: OpenProgress,
) -> tuple["system.System", Path]:
    """The trained system, and where the state of its training lies."""
    utterances = data.corpus.utterances
    torch.manual_seed(seed)
    classes = corpus_classes(data.corpus, recipe)
    made = system.System(recipe, classes, transcripts.build_word_list(utterances, recipe))
    load_initial_weights(made, training.init)
    forms = build_augmentations(recipe, made.front_end)
    frames, *copies = (
        extract_frames(utterances, made.front_end, data.audio_hashes, augmentation=form)
        for form in (None, *forms)
    )
    ids = tuple(utterance.id for utterance in utterances)
    side = Subset(
        ids, frames, made.targets(utterances), transcripts.encode_transcripts(made, utterances, {})
    )
    side = augment_subset(
        side, utterances, training, copies, system.build_recipe_masks(recipe, made.front_end)
    )
    needed, numbers = (
        package_versions() | system.collect_packages(recipe),
        resolve_precision(training.precision, device),
    )
    facts = [asdict(recipe), list(recipe.tasks), data.fingerprint, seed, device, numbers, needed]
    state = _state_path(
        output,
        [*facts, transcripts.hash_referenced_files(recipe), [form.cache_key for form in forms]],
    )
    learn = fit_estimator if system.is_estimator(recipe) else fit
    with (no_progress if distributed.get_rank() else open_progress)(training.epochs) as progress:
        learn(
            made,
            side,
            {},
            training,
            seed=seed,
            device=device,
            checkpoint=state,
            on_epoch_end=progress,
        )
    return made, state


def select_training_utterances(corpus: Corpus, recipe: Recipe) -> tuple[Utterance, ...]:
    """What is not too long, no more than is wanted; beside a main corpus, its share of others."""
    how = config.build_config(protocols.SplitConfig, recipe.protocol, "protocol")
    kept, _ = protocols.drop_long(corpus.utterances, how.max_duration)
    if how.main:
        return tuple(protocols.select_training_utterances(kept, how))
    return tuple(protocols.subsample(kept, how, corpus.name))


def _state_path(output: Path, facts: list[Any]) -> Path:
    """Where the training keeps its state; other settings have another place."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
    return output.with_name(f".{output.stem}.{digest}.pt")


def _count_labels(corpus: Corpus, task: str, recipe: Recipe) -> dict[str, int]:
    """How often each class, or value, of a task occurs."""
    labels = targets.get_task_labels(corpus.utterances, task, recipe)
    return dict(sorted(Counter(str(label) for label in labels if label is not None).items()))


def _describe_data(corpus: Corpus) -> str:
    count = f"{len(corpus.utterances)} utterances"
    if corpus.name not in registry.list_names("corpora"):
        return f"{corpus.name}, {count}"
    about = registry.load_module("corpora", corpus.name).ABOUT
    return f"{about.title}, {count}, {about.licence}"


def _describe_training(
    recipe: Recipe, training: TrainingConfig, seed: int, device: str
) -> dict[str, Any]:
    warnings = precision_warnings(training.precision, device)
    return {
        "command": command_line(),
        "created": utc_now(),
        "epochs": training.epochs,
        **flatten(
            describe_environment(
                recipe,
                seed,
                training.threads,
                device,
                resolve_precision(training.precision, device),
            )
        ),
        **({"warning": warnings[0]} if warnings else {}),
    }


def apply_evaluation(recipe: Recipe, evaluation: Results) -> Recipe:
    """The recipe with the epochs that an evaluation's validation speakers chose, if it had any.

    Raises:
        ConfigError: the run leaks, is of another system, or has no folds.
    """
    _check_leak_free(evaluation)
    epochs = median_epoch(evaluation) or recipe.training["epochs"]
    chosen = replace(recipe, training={**recipe.training, "epochs": epochs})
    if cost := median_c(evaluation):
        chosen = replace(chosen, model={**recipe.model, "c": cost})
    _check_same_system(
        recipe, evaluation, ("features", "normalise", "model", "tasks", "augment", "text")
    )
    return chosen


def transfer_confidence(
    recipe: Recipe, classes: Mapping[str, Sequence[str]], evaluation: Results
) -> dict[str, ConfidenceCalibration]:
    """How far a system may be believed, by an evaluation of it on other corpora.

    Raises:
        ConfigError: it is of another system or of other classes, or had no validation speakers.
    """
    _check_leak_free(evaluation)
    _check_same_system(recipe, evaluation, ("features", "normalise", "model", "augment", "text"))
    found = extract_confidence(evaluation)
    if not found:
        raise ConfigError(
            f"{evaluation.name} had no validation speakers, and so nothing that says how sure its "
            "system may be; evaluate with some"
        )
    for task in found:
        if tuple(evaluation.classes[task]) != tuple(classes.get(task, ())):
            raise ConfigError(
                f"{evaluation.name} tells {', '.join(evaluation.classes[task])} of {task} apart, and this "
                f"model {', '.join(classes.get(task, ())) or 'none'}; evaluate on these classes"
            )
    return found


def _check_leak_free(evaluation: Results) -> None:
    leaks = [one for one in evaluation.leakage if one.verdict in ("allowed", "error")]
    if leaks:
        raise ConfigError(
            f"{evaluation.name} has leaks, its epochs and its confidence would flatter the model: "
            f"{leaks[0].description}. Evaluate with folds that no speaker and no recording crosses"
        )


def _check_same_system(recipe: Recipe, evaluation: Results, tables: Sequence[str]) -> None:
    """Refuse an evaluation of another system; how long and by what costs may be chosen anew."""
    asked, found = asdict(recipe), dict(evaluation.recipe)
    free = {
        "training": ("epochs", "selection_window", "select_by"),
        "model": ("c",) if median_c(evaluation) else (),
    }
    for run in (asked, found):
        for table, names in free.items():
            run[table] = {k: v for k, v in run[table].items() if k not in names}
    wanted = [*tables, "training"]
    if other := [table for table in wanted if asked[table] != found.get(table, {})]:
        raise ConfigError(
            f"{evaluation.name} judged {found['name']} with other settings of {', '.join(other)} than "
            f"{recipe.name}; evaluate this recipe first"
        )


def median_epoch(results: Results) -> int:
    """The median of the epochs that validation chose over the folds, rounded up; 0 without it.

    Raises:
        ConfigError: the run has no folds, or chose in some of them alone.
    """
    chose = ["validation" in fold.epochs for fold in results.folds]
    if chose and not any(chose):
        return 0
    if not chose or not all(chose):
        raise ConfigError(
            f"{results.name} chose no epochs by validation in some folds; evaluate anew"
        )
    return int(median(fold.epochs["validation"] for fold in results.folds) + 0.5)


def median_c(results: Results) -> dict[str, float]:
    """The median of the C that each task of an estimator had over the folds; else empty."""
    tasks = sorted({task for fold in results.folds for task in fold.selected_c})
    return {task: median(fold.selected_c[task] for fold in results.folds) for task in tasks}


def extract_confidence(results: Results) -> dict[str, ConfidenceCalibration]:
    """Each task's temperature, and the threshold that four answers in five of new speakers reach.

    Both come from speakers that were neither trained on nor tested, whose votes also chose the
    epochs.
    """
    words = (
        f"by the validation speakers of {len(results.folds)} folds of {results.corpus['name']}; "
        "four of five of their utterances reach the threshold"
    )
    return {
        task: ConfidenceCalibration(found.temperature, found.threshold or 0.0, words)
        for task, found in results.calibration.items()
        if found.temperature is not None
    }


def describe_scores(results: Results) -> str:
    """A run's headline, with its protocol and the other selections."""
    task = next(iter(results.classes))
    parts = []
    for selection, meaning in results.selections.items():
        found = results.scores_by_task(selection)[task]
        pairs = [(one, found.score(one.name)) for one in get_scorer(results.classes[task]).metrics]
        told = [one.format_score(score) for one, score in pairs if score is not None]
        if len(told) == len(pairs):
            parts.append(f"{' '.join(told)} ({meaning})")
    split = [results.protocol["name"], results.protocol.get("caution")]
    protocol = ", ".join(str(part) for part in split if part)
    return f"{results.corpus['name']}, {protocol}, {task}: " + "; ".join(parts)
