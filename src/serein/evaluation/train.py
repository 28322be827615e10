"""Train a recipe on everything that it selects, and save the model.

An evaluation of the recipe can give the number of epochs, the calibration of the confidence, and
the scores on the model's card.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from serein import bundle, config, corpora, protocols, registry, system
from serein.bundle import Bundle, Card, ConfidenceCalibration
from serein.errors import ConfigError
from serein.evaluation import transcripts
from serein.evaluation.descent import describe_cost, inherit_texts
from serein.evaluation.labels import corpus_classes
from serein.evaluation.plan import (
    build_augmentations,
    build_training_config,
    describe_dropped_settings,
    resolve_recipe,
)
from serein.evaluation.provenance import (
    command_line,
    describe_environment,
    flatten,
    hash_dependencies,
    package_versions,
    utc_now,
)
from serein.evaluation.training_overlap import speaker_names
from serein.evaluation.utterance_filter import (
    FilteredCorpus,
    select_for_training,
    select_utterances,
)
from serein.labels import targets
from serein.metrics.scoring import get_scorer
from serein.records import Corpus, Recipe
from serein.results import io
from serein.results.evaluation import Epoch, Results
from serein.training.config import TrainingConfig
from serein.training.dataset import Subset, extract_frames, ignore_utterance
from serein.training.estimator import fit_estimator
from serein.training.finetune import load_initial_weights
from serein.training.loop import fit
from serein.training.sampling import augment_subset
from serein.utils import distributed
from serein.utils.device import (
    precision_warnings,
    resolve_device,
    resolve_precision,
    restore_torch_state,
)

OpenProgress = Callable[[int], AbstractContextManager[Callable[[Epoch], None]]]
"""Opens a progress display for a number of epochs; the display is called after every epoch."""


FilteredCorpusCallback = Callable[[FilteredCorpus], None]
"""Called before the training with the utterances that it uses."""


def ignore_filtered_corpus(filtered: FilteredCorpus) -> None:
    """Do nothing."""


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
    calibration_run: Path | None = None,
    card: Path | None = None,
    open_progress: OpenProgress = no_progress,
    on_filtered_corpus: FilteredCorpusCallback = ignore_filtered_corpus,
) -> Bundle:
    """Train on the utterances of a corpus that the recipe selects, and save the model.

    The first task's classes and the filters of ``[protocol]`` select, as in an evaluation. A
    predefined split, such as ``parts``, trains on its training subset only; other protocols train
    on everything selected.

    A model that reads words is saved with the ASR model that ``text.transcripts_from`` names.

    An interrupted training is resumed from its last checkpoint. Under torchrun or srun all
    processes train one model, which the first of them saves.

    Args:
        recipe: name, path of a TOML file, or a recipe.
        corpus: ``NAME``, ``NAME=PATH``, several of them to read as one corpus, or a corpus.
        output: the bundle to write.
        settings: changes of the recipe.
        seed: of the weights, the order of utterances, and dropout.
        device: "cpu", "cuda", or "auto".
        run: an evaluation of this recipe. Its validation speakers give the number of epochs (the
            median over folds), the temperature and the threshold; without them the number of
            epochs is the recipe's. The card quotes its scores.
        calibration_run: another evaluation of this recipe, such as on other corpora, whose
            validation speakers give temperature and threshold instead of the run's.
        card: a TOML file with texts of the card (name, licence, data, limits, use).
        open_progress: opens a progress display for the number of epochs.
        on_filtered_corpus: called before the training with the utterances that it uses.

    Raises:
        SereinError: the recipe, corpus, audio or disk has a fault.
    """
    if output.is_dir():
        raise ConfigError(f"{output} is a folder; expected the file to write, x.safetensors")
    recipe = resolve_recipe(recipe, settings)
    evaluation = io.load_results(run) if run else None
    if evaluation is not None:
        recipe = apply_evaluation(recipe, evaluation)
    texts = config.read_toml(card) if card else {}
    _check_trainable(recipe)
    asr = transcripts.load_asr(recipe)
    device, training = resolve_device(device), build_training_config(recipe)
    data = _load_training_data(corpus, recipe, evaluation)
    on_filtered_corpus(data.filtered)
    confidence = extract_confidence(evaluation) if evaluation else {}
    if calibration_run:
        classes = corpus_classes(data.corpus, recipe)
        confidence = transfer_confidence(recipe, classes, io.load_results(calibration_run))
    trained, checkpoint = _train_system(recipe, training, data, output, seed, device, open_progress)
    initial = transcripts.load_initial_bundle(recipe)
    initial_card = initial.card if initial else Card()
    codes = protocols.fingerprint_audio(data.corpus.utterances, data.audio_hashes)
    excerpts = protocols.hash_audio_excerpts(data.corpus.utterances)
    silent = {id_ for id_, hash_ in excerpts.items() if hash_ == protocols.SILENCE}
    file_hashes = {hash_ for id_, hash_ in data.audio_hashes.items() if id_ not in silent}
    excerpt_hashes = {*excerpts.values()} - {protocols.SILENCE}
    facts: dict[str, Any] = {
        "name": output.stem,
        "data": _describe_data(data.filtered),
        "licence": "; ".join(system.collect_notes(recipe)),
        "scores": describe_scores(evaluation) if evaluation else "not evaluated",
        "training": _describe_training(recipe, training, seed, device),
        "class_counts": {task: _count_labels(data.corpus, task, recipe) for task in recipe.tasks},
        "file_hashes": tuple(sorted({*file_hashes, *initial_card.file_hashes})),
        "audio_hashes": tuple(sorted({*excerpt_hashes, *initial_card.audio_hashes})),
        "speakers": tuple(sorted({*speaker_names(data.corpus), *initial_card.speakers})),
        "fingerprints": protocols.merge_cards(
            [protocols.pack_card(codes.values()), initial_card.fingerprints]
        ),
    }
    facts |= texts
    own = {"licence": str(facts["licence"]), "data": str(facts["data"])}
    speakers = len({u.speaker for u in data.corpus.utterances} - {None})
    counts = facts["class_counts"]
    cost = describe_cost(initial, trained.classes, counts, speakers, confidence)
    facts |= inherit_texts(own, initial)
    facts["limits"] = "; ".join(filter(None, [str(facts.get("limits", "")), *cost]))
    model = Bundle(
        trained.to("cpu").eval(),
        config.build_config(Card, facts, "card"),
        confidence,
        asr if trained.needs_words else None,
    )
    if not distributed.get_rank():
        bundle.save(model, output)
        checkpoint.unlink(missing_ok=True)
    return model


def _check_trainable(recipe: Recipe) -> None:
    """Raise an error if a recipe has a fault or only makes sense in an evaluation."""
    processes = distributed.get_world_size()
    if processes > 1 and system.is_estimator(recipe):
        raise ConfigError(
            f"{recipe.model['name']} is fitted in one process, and {processes} were started; "
            "start one, without torchrun or srun"
        )
    system.check_recipe(recipe)
    if recipe.normalise.get("statistics") == "speaker":
        raise ConfigError(
            "normalise.statistics = 'speaker' needs many recordings of each speaker before one "
            "can be recognized; it is for evaluations only: set normalise.statistics=training"
        )


@dataclass(frozen=True, slots=True)
class _TrainingData:
    """The training data of a model.

    Attributes:
        filtered: the utterances, and what was left out.
        audio_hashes: a hash of the audio of each utterance id.
        fingerprint: of everything that the recipe selects, before a subset is taken for training.
    """

    filtered: FilteredCorpus
    audio_hashes: dict[str, str]
    fingerprint: str

    @property
    def corpus(self) -> Corpus:
        """The utterances."""
        return self.filtered.corpus


def _load_training_data(
    corpus: str | Sequence[str] | Corpus, recipe: Recipe, evaluation: Results | None
) -> _TrainingData:
    """Read a corpus, and select the utterances that the recipe trains on."""
    whole = select_utterances(corpora.as_corpus(corpus), recipe)
    hashes = corpora.hash_contents(whole.corpus.utterances)
    fingerprint = corpora.fingerprint(whole.corpus, hashes)
    if evaluation is not None and evaluation.corpus["hash"] != fingerprint:
        raise ConfigError(
            f"{evaluation.name} evaluated another corpus, other labels of it, or another "
            "selection of its utterances; evaluate again"
        )
    filtered = select_for_training(whole, recipe)
    audio_hashes = {u.id: hashes[u.id] for u in filtered.corpus.utterances}
    return _TrainingData(filtered, audio_hashes, fingerprint)


@restore_torch_state()
def _train_system(
    recipe: Recipe,
    training: TrainingConfig,
    data: _TrainingData,
    output: Path,
    seed: int,
    device: str,
    open_progress: OpenProgress,
) -> tuple["system.System", Path]:
    """Train a system; return it and the path of its checkpoint."""
    utterances = data.corpus.utterances
    torch.manual_seed(seed)
    words = transcripts.build_word_list(utterances, recipe)
    untrained = system.System(recipe, corpus_classes(data.corpus, recipe), words)
    load_initial_weights(untrained, training.init)
    front_end = untrained.front_end
    augmentations = build_augmentations(recipe, front_end)
    display = no_progress if distributed.get_rank() else open_progress
    with display(training.epochs) as on_epoch_end:
        show_step = getattr(on_epoch_end, "show_step", None)
        on_utterance = partial(show_step, "features") if show_step else ignore_utterance
        frames, *copies = (
            extract_frames(
                utterances,
                front_end,
                data.audio_hashes,
                augmentation=augmentation,
                on_utterance=on_utterance,
            )
            for augmentation in (None, *augmentations)
        )
        subset = Subset(
            tuple(utterance.id for utterance in utterances),
            frames,
            untrained.targets(utterances),
            transcripts.encode_transcripts(
                untrained, utterances, _load_training_texts(recipe, data)
            ),
        )
        spec_augment = system.build_recipe_spec_augment(recipe, front_end)
        subset = augment_subset(subset, utterances, training, copies, spec_augment)
        dependencies = [
            asdict(recipe),
            list(recipe.tasks),
            data.fingerprint,
            [utterance.id for utterance in utterances] if data.filtered.subset else [],
            seed,
            device,
            resolve_precision(training.precision, device),
            package_versions() | system.collect_packages(recipe),
            transcripts.hash_referenced_files(recipe),
            system.hash_recipe_sources(recipe),
            [augmentation.cache_key for augmentation in augmentations],
        ]
        checkpoint = _checkpoint_path(output, dependencies)
        fit_system = fit_estimator if system.is_estimator(recipe) else fit
        fit_system(
            untrained,
            subset,
            {},
            training,
            seed=seed,
            device=device,
            checkpoint=checkpoint,
            on_epoch_end=on_epoch_end,
        )
    return untrained, checkpoint


def _load_training_texts(recipe: Recipe, data: _TrainingData) -> transcripts.Texts:
    """Return the ASR transcripts that a recipe trains on; empty for those of the corpus."""
    text_config = transcripts.build_text_config(recipe)
    if text_config is None or not text_config.train_on_transcripts:
        return {}
    return transcripts.load_asr_transcripts(recipe, data.corpus, data.audio_hashes)


def _checkpoint_path(output: Path, dependencies: list[Any]) -> Path:
    """Return the path of the checkpoint next to the output; it depends on the settings."""
    digest = hash_dependencies(dependencies)[:8]
    return output.with_name(f".{output.stem}.{digest}.pt")


def _count_labels(corpus: Corpus, task: str, recipe: Recipe) -> dict[str, int]:
    """Count the utterances of each class or value of a task."""
    labels = targets.get_task_labels(corpus.utterances, task, recipe)
    return dict(sorted(Counter(str(label) for label in labels if label is not None).items()))


def _describe_data(filtered: FilteredCorpus) -> str:
    """Describe the training data for the card; with the total if something was left out."""
    corpus = filtered.corpus
    count = f"{len(corpus.utterances)} utterances"
    if len(corpus.utterances) < filtered.total:
        subset = f" ({filtered.subset})" if filtered.subset else ""
        count = f"{len(corpus.utterances)} of {filtered.total} utterances{subset}"
    if corpus.name not in registry.list_names("corpora"):
        return f"{corpus.name}, {count}"
    about = registry.load_module("corpora", corpus.name).ABOUT
    return f"{about.title}, {count}, {about.licence}"


def _describe_training(
    recipe: Recipe, training: TrainingConfig, seed: int, device: str
) -> dict[str, Any]:
    precision = resolve_precision(training.precision, device)
    environment = describe_environment(recipe, seed, training.threads, device, precision)
    warnings = [
        *describe_dropped_settings(recipe),
        *precision_warnings(training.precision, device),
    ]
    return {
        "command": command_line(),
        "created": utc_now(),
        "epochs": training.epochs,
        **flatten(environment),
        **({"warning": "; ".join(warnings)} if warnings else {}),
    }


def apply_evaluation(recipe: Recipe, evaluation: Results) -> Recipe:
    """Return the recipe with the epochs and the C that validation selected in an evaluation.

    Raises:
        ConfigError: the evaluation has leaks, is of another system, or has no folds.
    """
    _check_leak_free(evaluation)
    epochs = median_epoch(evaluation) or recipe.training["epochs"]
    applied = replace(recipe, training={**recipe.training, "epochs": epochs})
    if c := median_c(evaluation):
        applied = replace(applied, model={**recipe.model, "c": c})
    _check_same_system(
        recipe, evaluation, ("features", "normalise", "model", "tasks", "augment", "text")
    )
    return applied


def transfer_confidence(
    recipe: Recipe, classes: Mapping[str, Sequence[str]], evaluation: Results
) -> dict[str, ConfidenceCalibration]:
    """Return the calibration of a system's confidence from an evaluation on other corpora.

    Raises:
        ConfigError: the evaluation is of another system or of other classes, or had no validation
            speakers.
    """
    _check_leak_free(evaluation)
    _check_same_system(recipe, evaluation, ("features", "normalise", "model", "augment", "text"))
    confidence = extract_confidence(evaluation)
    if not confidence:
        raise ConfigError(
            f"{evaluation.name} had no validation speakers, which calibrate the confidence; "
            "evaluate with some"
        )
    for task in confidence:
        theirs, ours = tuple(evaluation.classes[task]), tuple(classes.get(task, ()))
        if theirs != ours:
            raise ConfigError(
                f"{evaluation.name} has the {task} classes {', '.join(theirs)}, and this model "
                f"{', '.join(ours) or 'none'}; evaluate on these classes"
            )
    return confidence


def _check_leak_free(evaluation: Results) -> None:
    leaks = [finding for finding in evaluation.leakage if finding.verdict in ("allowed", "error")]
    if leaks:
        raise ConfigError(
            f"{evaluation.name} has leaks, which make its epochs and confidence optimistic: "
            f"{leaks[0].description}. Evaluate with folds that share no speaker and no recording"
        )


def _check_same_system(recipe: Recipe, evaluation: Results, tables: Sequence[str]) -> None:
    """Raise an error for an evaluation of another system; epochs and C may differ."""
    ours, theirs = asdict(recipe), dict(evaluation.recipe)
    ignored = {
        "training": ("epochs", "selection_window", "select_by"),
        "model": ("c",) if median_c(evaluation) else (),
    }
    for settings in (ours, theirs):
        for table, names in ignored.items():
            settings[table] = {k: v for k, v in settings[table].items() if k not in names}
    compared = [*tables, "training"]
    if different := [table for table in compared if ours[table] != theirs.get(table, {})]:
        raise ConfigError(
            f"{evaluation.name} evaluated {theirs['name']} with other settings of "
            f"{', '.join(different)} than {recipe.name}; evaluate this recipe first"
        )


def median_epoch(results: Results) -> int:
    """Return the median of the epochs that validation selected, rounded up; 0 without validation.

    Raises:
        ConfigError: the run has no folds, or only some of them have validation speakers.
    """
    is_selected = ["validation" in fold.epochs for fold in results.folds]
    if is_selected and not any(is_selected):
        return 0
    if not is_selected or not all(is_selected):
        raise ConfigError(
            f"{results.name} has folds without an epoch that validation selected; evaluate again"
        )
    return int(median(fold.epochs["validation"] for fold in results.folds) + 0.5)


def median_c(results: Results) -> dict[str, float]:
    """Return the median of an estimator's C over the folds, by task; empty for a network."""
    tasks = sorted({task for fold in results.folds for task in fold.selected_c})
    return {task: median(fold.selected_c[task] for fold in results.folds) for task in tasks}


def extract_confidence(results: Results) -> dict[str, ConfidenceCalibration]:
    """Return each task's temperature, and the threshold that four in five utterances reach.

    Both are fitted on validation speakers, who are neither trained on nor tested, but whose scores
    also selected the epochs.
    """
    description = (
        f"by the validation speakers of {len(results.folds)} folds of {results.corpus['name']}; "
        "four of five of their utterances reach the threshold"
    )
    return {
        task: ConfidenceCalibration(
            calibration.temperature, calibration.threshold or 0.0, description
        )
        for task, calibration in results.calibration.items()
        if calibration.temperature is not None
    }


def describe_scores(results: Results) -> str:
    """Describe a run's headline and other selections, with its protocol, for the card."""
    task = next(iter(results.classes))
    metrics = get_scorer(results.classes[task]).metrics
    parts = []
    for selection, meaning in results.selections.items():
        task_scores = results.scores_by_task(selection)[task]
        values = [(metric, task_scores.score(metric.name)) for metric in metrics]
        texts = [metric.format_score(value) for metric, value in values if value is not None]
        if len(texts) == len(metrics):
            parts.append(f"{' '.join(texts)} ({meaning})")
    protocol = [results.protocol["name"], results.protocol.get("caution")]
    protocol_text = ", ".join(str(part) for part in protocol if part)
    return f"{results.corpus['name']}, {protocol_text}, {task}: " + "; ".join(parts)
