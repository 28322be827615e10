"""The plan of an evaluation: all that a fold needs, in a picklable value; and its run folder."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from serein import config, corpora, protocols, recipes, system
from serein.augment.config import build_augment_config
from serein.augment.offline import OfflineAugmentation, build_offline_augmentations
from serein.errors import ConfigError, StorageError, UnknownName
from serein.evaluation import transcripts
from serein.evaluation.labels import (
    corpus_classes,
    find_trained_classes,
    held_out_shares,
    order_classes,
)
from serein.evaluation.provenance import hash_dependencies, package_versions
from serein.evaluation.utterance_filter import (
    build_split_config,
    describe_left_out,
    select_utterances,
    split_filtered_corpus,
)
from serein.features import normalization
from serein.interfaces import FrontEnd
from serein.labels import targets
from serein.records import Corpus, Finding, Fold, LeftOut, Protocol, Recipe, Utterance
from serein.results import io
from serein.results.evaluation import MODEL, LabelMapping
from serein.training.config import TrainingConfig
from serein.training.dataset import (
    Frames,
    Subset,
    UtteranceCallback,
    extract_frames,
    ignore_utterance,
    standardize_by_group,
)
from serein.training.sampling import augment_subset
from serein.utils.device import Precision, resolve_device, resolve_precision


@dataclass(frozen=True, kw_only=True, slots=True)
class ExternalModel:
    """A model that serein did not build, such as a function or a table of predictions.

    Attributes:
        meaning: what it is and how its answers came about, for the selection's description.
        is_trained: whether each fold trains it; otherwise it is used as it is.
        has_probabilities: whether its answers are probabilities, and not labels only.
        environment: what else its answers depend on, such as versions of packages.
        notes: limits of its scores, a sentence each.
        selections: of its answers, the quoted one first: as they are, or those of several epochs.
    """

    meaning: str
    is_trained: bool
    has_probabilities: bool = True
    environment: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    selections: tuple[str, ...] = (MODEL,)

    @property
    def has_epochs(self) -> bool:
        """Whether there are answers of several epochs to choose from."""
        return MODEL not in self.selections


@dataclass(frozen=True)
class Plan:
    """Everything that a fold needs.

    Attributes:
        recipe: every setting.
        corpus: the selected utterances.
        content_hashes: a hash of the audio of each utterance id.
        classes: the classes of each task, those that no fold trains last; a regression has none.
        mapping: for each task, how the corpus's labels map to its classes.
        protocol: the folds.
        training: settings of the training loop.
        seed: of weights, order and dropout.
        device: "cpu" or "cuda".
        folder: the run folder, with checkpoints and results.
        leakage: findings of the leakage check.
        augmentations: augmented copies of every utterance that are trained on, too.
        left_out: utterances of the corpus that were not selected, by reason.
        referenced_hashes: of the saved models and results that the recipe names.
        external: the model, if serein did not build it; None is the system of the recipe.
    """

    recipe: Recipe
    corpus: Corpus
    content_hashes: dict[str, str]
    classes: dict[str, tuple[str, ...]]
    mapping: dict[str, LabelMapping]
    protocol: Protocol
    training: TrainingConfig
    seed: int
    device: str
    folder: Path
    leakage: tuple[Finding, ...] = ()
    augmentations: tuple[OfflineAugmentation, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    referenced_hashes: tuple[str, ...] = ()
    external: ExternalModel | None = None

    @property
    def is_fitted_once(self) -> bool:
        """Whether the model has no epochs to choose from."""
        if self.external is not None:
            return not self.external.has_epochs
        return system.is_estimator(self.recipe)

    def build_front_end(self) -> FrontEnd:
        """Build the recipe's front end."""
        return system.build_front_end(self.recipe)

    def build_system(self, fold: Fold) -> "system.System":
        """Build the untrained system of a fold, with the vocabulary of its training subset."""
        words = transcripts.build_word_list(self.corpus.select(fold.train), self.recipe)
        return system.System(self.recipe, self.find_trained_classes(fold), words)

    def find_trained_classes(self, fold: Fold) -> dict[str, tuple[str, ...]]:
        """Return the classes of each task that the system of a fold predicts."""
        if self.external is not None:  # its answers have a column for every class
            return self.classes
        return find_trained_classes(self.corpus, self.recipe, fold, self.classes)

    def load_frames(
        self,
        augmentation: OfflineAugmentation | None = None,
        on_utterance: UtteranceCallback = ignore_utterance,
    ) -> Frames:
        """Return the frames of the corpus or of an augmented copy, cached if possible."""
        frames = extract_frames(
            self.corpus.utterances,
            self.build_front_end(),
            self.content_hashes,
            augmentation=augmentation,
            on_utterance=on_utterance,
        )
        if self.statistics != "speaker":
            return frames
        speakers = {u.id: u.speaker or u.id for u in self.corpus.utterances}
        return standardize_by_group(frames, speakers)

    @property
    def precision(self) -> Precision:
        """The floating-point precision of the networks."""
        return resolve_precision(self.training.precision, self.device)

    @property
    def statistics(self) -> str:
        """The statistics that standardise frames: "training" or "speaker"."""
        return config.build_config(
            normalization.Config, self.recipe.normalise, "normalise"
        ).statistics

    def load_asr_transcripts(self) -> transcripts.Texts:
        """Return the transcripts by the recipe's ASR model, from the cache if they are there.

        Raises:
            BundleError: the file of the model is gone, or was changed since the run began.
        """
        transcripts.check_transcript_source(self.recipe, self.referenced_hashes)
        return transcripts.load_asr_transcripts(self.recipe, self.corpus, self.content_hashes)

    def build_subset(
        self,
        ids: tuple[str, ...],
        frames: Frames,
        fold_system: "system.System",
        *,
        training: bool = False,
    ) -> Subset:
        """Build one subset of a fold, with targets by the classes of a system.

        Args:
            ids: of its utterances.
            frames: of the corpus.
            fold_system: the system.
            training: whether it is the training subset, which has the transcripts of the corpus
                even if the other subsets have those of an ASR model.
        """
        utterances, task = self.corpus.select(ids), fold_system.transcript_task
        missed = {
            name: [label for label in self.classes[name] if label not in classes]
            for name, classes in fold_system.classes.items()
        }
        uses_reference = task is None or (training and not task.config.train_on_transcripts)
        texts = {} if uses_reference else self.load_asr_transcripts()
        return Subset(
            ids,
            frames,
            fold_system.targets(utterances, missed={} if training else missed),
            transcripts.encode_transcripts(fold_system, utterances, texts),
        )

    def augment_subset(self, subset: Subset) -> Subset:
        """Add the augmentations to a training subset."""
        copies = [self.load_frames(augmentation) for augmentation in self.augmentations]
        spec_augment = system.build_recipe_spec_augment(self.recipe, self.build_front_end())
        utterances = self.corpus.select(subset.ids)
        return augment_subset(subset, utterances, self.training, copies, spec_augment)

    def checkpoint_path(self, fold: Fold) -> Path:
        """Return the path of a fold's checkpoint."""
        return self.folder / "folds" / f"{quote(fold.name, safe='')}.pt"


def resolve_recipe(recipe: str | Recipe, settings: Sequence[str] = ()) -> Recipe:
    """Load a recipe by its name or path, and apply settings; a recipe is taken as it is.

    Raises:
        UnknownName: there is no recipe, table or setting of that name.
        ConfigError: the file is not a recipe, or a setting has a fault.
    """
    if isinstance(recipe, str):
        recipe = recipes.load(recipe, settings)
    elif settings:
        recipe = recipes.with_settings(recipe, settings)
    # Before a corpus is read: what needs no model, front end or label.
    build_split_config(recipe)
    config.build_config(TrainingConfig, recipe.training, "training")
    return recipe


def build_plan(recipe: Recipe, corpus: Corpus, *, seed: int, device: str, runs: Path) -> Plan:
    """Check every setting, split the corpus, and name the run after everything it depends on.

    Raises:
        ConfigError: a setting is unknown or out of range, or the corpus lacks a task's labels.
        ProtocolError: the corpus cannot be split that way, or the split leaks.
    """
    draft = draft_plan(recipe, corpus, seed=seed, device=device)
    content_hashes = corpora.hash_contents(draft.corpus.utterances)
    leakage = check_leakage(draft, content_hashes, compare_audio=True)
    protocols.raise_on_leaks(leakage)
    referenced_hashes = transcripts.hash_referenced_files(recipe)
    dependencies = [
        asdict(replace(recipe, about={})),
        list(recipe.tasks),
        draft.protocol.listing_hash,  # the order of ids is that of a first epoch
        corpora.fingerprint(draft.corpus, content_hashes),
        system.hash_recipe_sources(recipe),
        [augmentation.cache_key for augmentation in draft.augmentations],
        seed,
        draft.device,
        draft.precision,
        package_versions() | system.collect_packages(recipe),
        referenced_hashes,
    ]
    digest = hash_dependencies(dependencies)[:8]
    name = quote(f"{recipe.name}-{corpus.name}-seed{seed}-{digest}", safe="")
    return replace(
        draft,
        content_hashes=content_hashes,
        protocol=protocols.add_cautions(draft.protocol, leakage),
        folder=runs / name,
        leakage=leakage,
        referenced_hashes=tuple(referenced_hashes),
    )


def draft_plan(recipe: Recipe, corpus: Corpus, *, seed: int, device: str) -> Plan:
    """Check every setting, select the utterances and split them, without reading any audio.

    Returns:
        A plan without hashes of recordings, run folder and leakage check.

    Raises:
        ConfigError: a setting is unknown or out of range, or the corpus lacks a task's labels.
        ProtocolError: the corpus cannot be split that way.
    """
    device = resolve_device(device)
    if not recipe.tasks:
        raise ConfigError(
            f"recipe {recipe.name} only transcribes, and folds are scored by a classification or "
            "regression task: train it with `serein train`, and score it with "
            "`serein transcribe --corpus`"
        )
    system.check_recipe(recipe)
    training = build_training_config(recipe)
    split_config = build_split_config(recipe)
    filtered = select_utterances(corpus, recipe)
    classes = corpus_classes(filtered.corpus, recipe)
    first = _target_kinds(filtered.corpus.utterances, next(iter(recipe.tasks)), recipe)
    protocol = split_filtered_corpus(filtered, split_config, first)
    augmentations = build_augmentations(recipe, system.build_front_end(recipe))
    return Plan(
        recipe=recipe,
        corpus=filtered.corpus,
        content_hashes={},
        classes=order_classes(filtered.corpus, recipe, protocol, classes),
        mapping=filtered.mapping,
        protocol=protocol,
        training=training,
        seed=seed,
        device=device,
        folder=Path(),
        augmentations=augmentations,
        left_out=filtered.left_out,
    )


def describe_dropped_settings(recipe: Recipe) -> list[str]:
    """Describe the settings that the recipe lost as a ``--set`` gave a table another name.

    Settings that were set again, or were the default of a protocol, are not described.
    """
    dropped, settings_of = recipe.about.get("dropped"), dict[str, list[str]]()
    tables = asdict(recipe)
    for path, value in dropped.items() if isinstance(dropped, Mapping) else ():
        parents = list(accumulate(path.split(".")[:-1], "{}.{}".format))
        named = [table for table in parents if config.find_setting(tables, f"{table}.name")]
        table = named[-1] if named else parents[0]
        is_default = value == getattr(protocols.SplitConfig(), path.removeprefix("protocol."), None)
        if not is_default and config.find_setting(tables, path) is None:
            settings_of.setdefault(table, []).append(config.format_setting(path, value))
    sentences = [
        f"{table}.name was changed by --set, which drops the recipe's other settings of {table}: "
        f"{', '.join(settings)}"
        for table, settings in settings_of.items()
    ]
    had_none = isinstance(dropped, Mapping) and dropped.get("protocol.validation") == "none"
    if had_none and "validation" not in recipe.protocol:
        sentences.append(
            "the recipe has no validation subset, and the split by --set protocol.name has one: "
            "it chooses the epoch, unless training.select_by is none, and calibrates the "
            "confidence. protocol.validation=none trains on it, as the recipe does"
        )
    return sentences


def describe_plan(plan: Plan) -> list[str]:
    """Describe a plan in a line; in others what it leaves out of the corpus and of the recipe."""
    used = len(plan.corpus.utterances)
    total = used + sum(reason.count for reason in plan.left_out)
    amount = f"{used:,}" if used == total else f"{used:,} of {total:,}"
    tasks = [
        f"{task} in {len(names)} classes" if names else f"{task} as a value"
        for task, names in plan.classes.items()
    ]
    parts = [f"{plan.recipe.name} on {plan.corpus.name}: {amount} utterances", *tasks]
    parts.append(plan.protocol.name)
    folds = protocols.count_noun(len(plan.protocol.folds), "fold")
    parts.append(f"{folds} x {protocols.count_noun(plan.training.epochs, 'epoch')}")
    left_out = describe_left_out(plan.left_out, "left out: ")
    lines = [left_out] if left_out else []
    return [", ".join(parts), *lines, *describe_dropped_settings(plan.recipe)]


def build_augmentations(recipe: Recipe, front_end: FrontEnd) -> tuple[OfflineAugmentation, ...]:
    """Build the augmented copies that a recipe trains on besides the recordings.

    Raises:
        ConfigError: a folder of noises or rooms does not exist or is empty.
        AudioError: a file in it cannot be read.
    """
    return build_offline_augmentations(build_augment_config(recipe.augment), front_end.rate)


def build_training_config(recipe: Recipe) -> TrainingConfig:
    """Build the settings of the training loop; an estimator has one epoch.

    Raises:
        ConfigError: a setting is unknown or out of range, or does not apply to an estimator.
    """
    training = config.build_config(TrainingConfig, recipe.training, "training")
    if not system.is_estimator(recipe):
        return training
    by_corpus = training.balance == "corpus" and system.model_uses(recipe, "USES_GROUPS")
    if training.balance != "none" and not by_corpus:
        raise ConfigError(
            f"training.balance = {training.balance!r} samples epochs, and {recipe.model['name']} "
            "is fitted at once; weight classes with tasks.<name>.class_weights = 'balanced' instead"
        )
    if training.init and not system.model_uses(recipe, "USES_INIT"):
        raise ConfigError(
            f"{recipe.model['name']} is fitted at once and would lose the weights of "
            f"{training.init}; start from a model that is trained in epochs, such as "
            "serein-light, with its recipe"
        )
    return replace(training, epochs=1, patience=0)


def split_corpus(
    corpus: str | Sequence[str] | Corpus, settings: Sequence[str] = ()
) -> tuple[Corpus, Protocol, tuple[Finding, ...]]:
    """Split a corpus and check it for leaks, as an evaluation does before it trains.

    Args:
        corpus: ``NAME``, ``NAME=PATH``, several of them to read as one corpus, or a corpus.
        settings: of the protocol, such as ``"protocol.name=speaker-k-fold"``.

    Returns:
        The corpus, its folds, and the findings; leaks are reported and raise no error.

    Raises:
        ConfigError: a setting is unknown or out of range.
        CorpusError: the corpus cannot be read.
        ProtocolError: the corpus cannot be split that way.
    """
    table = config.apply_settings({"protocol": {}}, settings)
    for name in table:
        if name != "protocol":
            raise UnknownName("table of a split", name, ("protocol",))
    split_config = config.build_config(protocols.SplitConfig, table["protocol"], "protocol")
    corpus = corpora.as_corpus(corpus)
    protocol = protocols.split(corpus.utterances, split_config)
    content_hashes = corpora.hash_contents(corpus.utterances)
    findings = protocols.find_leaks(
        protocol,
        corpus.utterances,
        content_hashes,
        audio_hashes=protocols.hash_audio(corpus.utterances),
        copies=protocols.find_copies(corpus.utterances, content_hashes),
        allow=split_config.allow,
    )
    return corpus, protocol, findings


def check_leakage(
    plan: Plan, content_hashes: Mapping[str, str] | None, *, compare_audio: bool
) -> tuple[Finding, ...]:
    """Check a plan's split for leaks, and the saved models that its recipe names.

    Classes of tasks that are scored on held-out utterances are not compared between subsets.

    Args:
        plan: a plan or its draft.
        content_hashes: a hash of the audio of each utterance id; None compares no recordings.
        compare_audio: whether to read the recordings, and to compare samples and fingerprints.

    Raises:
        UnknownName: ``protocol.allow`` has an unknown name.
        ConfigError: results that the recipe names are of other folds or of another corpus.
    """
    recipe, corpus = plan.recipe, plan.corpus
    held_out_tasks = held_out_shares(recipe)
    return transcripts.check_pretrained_leakage(
        recipe, plan.protocol, corpus, content_hashes
    ) + protocols.find_leaks(
        plan.protocol,
        corpus.utterances,
        content_hashes or {},
        audio_hashes=protocols.hash_audio(corpus.utterances) if compare_audio else None,
        copies=protocols.find_copies(corpus.utterances, content_hashes or {})
        if compare_audio
        else (),
        normalization=str(recipe.normalise.get("statistics", "training")),
        targets={
            task: _target_kinds(corpus.utterances, task, recipe)
            for task in plan.classes
            if task not in held_out_tasks
        },
        allow=build_split_config(recipe).allow,
    )


def _target_kinds(
    utterances: Sequence[Utterance], task: str, recipe: Recipe
) -> dict[str, str | None]:
    """Return the class of each utterance id; all values of a regression count as one class."""
    labels = targets.get_task_labels(utterances, task, recipe)
    return {
        utterance.id: "a value" if isinstance(label, float) else label
        for utterance, label in zip(utterances, labels, strict=True)
    }


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock a run folder for this process within a ``with`` block.

    Raises:
        StorageError: another process holds the lock, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise StorageError(f"{folder} is in use by another evaluation; wait for it") from None
    except OSError as error:
        raise StorageError(f"cannot write in {folder}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def is_finished(plan: Plan) -> bool:
    """Return whether the run folder has results."""
    return io.resolve_results_file(plan.folder).is_file()


def clear_run(plan: Plan) -> None:
    """Delete the results and the checkpoint of every fold."""
    io.resolve_results_file(plan.folder).unlink(missing_ok=True)
    for fold in plan.protocol.folds:
        plan.checkpoint_path(fold).unlink(missing_ok=True)
