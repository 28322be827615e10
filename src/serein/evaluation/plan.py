"""What an evaluation will do, as a value that processes can be handed.

The folder of an evaluation: whose it is, and what an earlier run left there.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from serein import config, corpora, protocols, system
from serein.augment.config import build_augment_config as augment_settings
from serein.augment.offline import OfflineAugmentation, build_offline_augmentations
from serein.errors import ConfigError, StorageError, UnknownName
from serein.evaluation import transcripts
from serein.evaluation.labels import apply_label_scheme, corpus_classes, held_out_shares
from serein.evaluation.provenance import package_versions
from serein.features import normalization
from serein.interfaces import FrontEnd
from serein.labels import targets
from serein.records import Corpus, Finding, Fold, Protocol, Recipe, Utterance
from serein.results import io
from serein.results.evaluation import LabelMapping
from serein.training.config import TrainingConfig
from serein.training.dataset import Frames, Subset, extract_frames, standardize_by_group
from serein.training.sampling import augment_subset
from serein.utils.device import Precision, resolve_device, resolve_precision


@dataclass(frozen=True)
class Plan:
    """Everything that a fold needs.

    Attributes:
        recipe: every setting.
        corpus: what is read.
        contents: for each utterance id, a hash of its audio.
        classes: of each task; none of a task of numbers.
        mapping: of each task, what became of the corpus's words.
        protocol: the folds.
        training: settings of the loop.
        seed: of weights, order and dropout.
        device: where to compute.
        folder: where the run keeps its state and results.
        leakage: what the leakage check found.
        copies: other forms of every utterance that training hears too.
    """

    recipe: Recipe
    corpus: Corpus
    contents: dict[str, str]
    classes: dict[str, tuple[str, ...]]
    mapping: dict[str, LabelMapping]
    protocol: Protocol
    training: TrainingConfig
    seed: int
    device: str
    folder: Path
    leakage: tuple[Finding, ...] = ()
    augmentations: tuple[OfflineAugmentation, ...] = ()

    def build_front_end(self) -> FrontEnd:
        """What makes frames of waveforms."""
        return system.build_front_end(self.recipe)

    def build_system(self, fold: Fold) -> "system.System":
        """The system of a fold before it is trained, its words those of the training side."""
        known = transcripts.build_word_list(self.corpus.select(fold.train), self.recipe)
        return system.System(self.recipe, self.classes, known)

    def load_frames(self, augmentation: OfflineAugmentation | None = None) -> Frames:
        """The frames of the whole corpus, or of a copy of it, from the cache or else made now."""
        frames = extract_frames(
            self.corpus.utterances, self.build_front_end(), self.contents, augmentation=augmentation
        )
        if self.statistics != "speaker":
            return frames
        speakers = {one.id: one.speaker or one.id for one in self.corpus.utterances}
        return standardize_by_group(frames, speakers)

    @property
    def precision(self) -> Precision:
        """What networks compute in here."""
        return resolve_precision(self.training.precision, self.device)

    @property
    def statistics(self) -> str:
        """What frames are standardised by."""
        return config.build_config(
            normalization.Config, self.recipe.normalise, "normalise"
        ).statistics

    def load_asr_transcripts(self) -> transcripts.Texts:
        """What the recipe's recogniser hears in the corpus, from the cache or else made now."""
        return transcripts.load_asr_transcripts(self.recipe, self.corpus, self.contents)

    def build_subset(
        self,
        ids: tuple[str, ...],
        frames: Frames,
        fold_system: "system.System",
        *,
        training: bool = False,
    ) -> Subset:
        """One side of a fold, its targets by the classes of a system.

        Args:
            ids: of its utterances.
            frames: of the corpus.
            fold_system: the system.
            training: whether it trains, and reads what people wrote even where the other sides
                read what a recogniser did.
        """
        members, text = self.corpus.select(ids), fold_system.transcript_task
        as_written = text is None or (training and not text.config.train_on_transcripts)
        heard = {} if as_written else self.load_asr_transcripts()
        return Subset(
            ids,
            frames,
            fold_system.targets(members),
            transcripts.encode_transcripts(fold_system, members, heard),
        )

    def augment_subset(self, subset: Subset) -> Subset:
        """A training side as its epochs hear it."""
        copies = [self.load_frames(copy) for copy in self.augmentations]
        hidden = system.build_recipe_masks(self.recipe, self.build_front_end())
        return augment_subset(subset, self.corpus.select(subset.ids), self.training, copies, hidden)

    def state_path(self, fold: Fold) -> Path:
        """Where a fold's training keeps its state."""
        return self.folder / "folds" / f"{quote(fold.name, safe='')}.pt"


def build_plan(recipe: Recipe, corpus: Corpus, *, seed: int, device: str, runs: Path) -> Plan:
    """Check every setting, split the corpus, and name the run after all that it depends on.

    Raises:
        ConfigError: a setting is unknown or out of range, or the corpus lacks a task's labels.
        ProtocolError: the corpus cannot be split that way, or the split leaks.
    """
    device = resolve_device(device)
    if not recipe.tasks:
        raise ConfigError(
            f"recipe {recipe.name} only transcribes, and folds are judged by a task of classes or "
            "values: train it with `serein train`, and score it with `serein transcribe --corpus`"
        )
    system.check_recipe(recipe)
    training = build_training_config(recipe)
    how = config.build_config(protocols.SplitConfig, recipe.protocol, "protocol")
    everybody = {one.id for one in corpus.utterances}
    corpus, mapping = apply_label_scheme(corpus, recipe)
    classes = corpus_classes(corpus, recipe)
    forms = build_augmentations(recipe, system.build_front_end(recipe))
    left_out = everybody - {one.id for one in corpus.utterances}
    protocol = protocols.split(corpus.utterances, how, left_out)
    contents = corpora.contents(corpus.utterances)
    leakage = _check_leakage(recipe, corpus, tuple(classes), protocol, contents, how)
    facts = [
        asdict(replace(recipe, about={})),
        list(recipe.tasks),
        protocol.hash,
        corpora.fingerprint(corpus, contents),
        system.hash_recipe_sources(recipe),
        [form.cache_key for form in forms],
        seed,
        device,
        resolve_precision(training.precision, device),
        package_versions() | system.collect_packages(recipe),
        transcripts.hash_referenced_files(recipe),
    ]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
    name = quote(f"{recipe.name}-{corpus.name}-seed{seed}-{digest}", safe="")
    return Plan(
        recipe=recipe,
        corpus=corpus,
        contents=contents,
        classes=classes,
        mapping=mapping,
        protocol=protocols.add_cautions(protocol, leakage),
        training=training,
        seed=seed,
        device=device,
        folder=runs / name,
        leakage=leakage,
        augmentations=forms,
    )


def build_augmentations(recipe: Recipe, front_end: FrontEnd) -> tuple[OfflineAugmentation, ...]:
    """Every form of an utterance that a recipe's training hears beside the recording.

    Raises:
        ConfigError: a folder of noises or rooms is none, or empty.
        AudioError: a file in it cannot be read.
    """
    return build_offline_augmentations(augment_settings(recipe.augment), front_end.rate)


def build_training_config(recipe: Recipe) -> TrainingConfig:
    """The settings of the loop; an estimator is fitted once.

    Raises:
        ConfigError: a setting is unknown or out of range, or of no use to an estimator.
    """
    how = config.build_config(TrainingConfig, recipe.training, "training")
    if not system.is_estimator(recipe):
        return how
    if how.balance != "none":
        raise ConfigError(
            f"training.balance = {how.balance!r} draws epochs, and {recipe.model['name']} is "
            "fitted at once; weigh classes with tasks.<name>.class_weights = 'balanced' instead"
        )
    return replace(how, epochs=1, patience=0)


def split_corpus(
    corpus: str | Sequence[str] | Corpus, settings: Sequence[str] = ()
) -> tuple[Corpus, Protocol, tuple[Finding, ...]]:
    """Split a corpus and look for leaks, as an evaluation does before it trains.

    Args:
        corpus: ``NAME``, ``NAME=PATH``, several of them to be read as one, or a corpus.
        settings: of the protocol, such as ``"protocol.name=speaker-k-fold"``.

    Returns:
        The corpus, its folds, and what was found; leaks are told of and not refused.

    Raises:
        ConfigError: a setting is unknown or out of range.
        CorpusError: the corpus cannot be read.
        ProtocolError: it cannot be split that way.
    """
    table = config.apply_settings({"protocol": {}}, settings)
    for name in table:
        if name != "protocol":
            raise UnknownName("table of a split", name, ("protocol",))
    how = config.build_config(protocols.SplitConfig, table["protocol"], "protocol")
    read = corpora.read(corpus)
    made = protocols.split(read.utterances, how)
    contents = corpora.contents(read.utterances)
    samples = protocols.hash_audio(read.utterances)
    found = protocols.find_leaks(
        made, read.utterances, contents, audio_hashes=samples, allow=how.allow
    )
    return read, made, found


def _check_leakage(
    recipe: Recipe,
    corpus: Corpus,
    tasks: tuple[str, ...],
    protocol: Protocol,
    contents: dict[str, str],
    split_config: protocols.SplitConfig,
) -> tuple[Finding, ...]:
    """What the check found; nothing that the user has not allowed by name.

    Classes that only training speakers have, such as their names, are not looked for on other
    sides.
    """
    own = held_out_shares(recipe)
    found = transcripts.check_pretrained_leakage(
        recipe, protocol, corpus, contents
    ) + protocols.find_leaks(
        protocol,
        corpus.utterances,
        contents,
        audio_hashes=protocols.hash_audio(corpus.utterances),
        statistics=str(recipe.normalise.get("statistics", "training")),
        targets={
            task: {one.id: _target_kind(one, task, recipe) for one in corpus.utterances}
            for task in tasks
            if task not in own
        },
        allow=split_config.allow,
    )
    protocols.raise_on_leaks(found)
    return found


def _target_kind(utterance: Utterance, task: str, recipe: Recipe) -> str | None:
    """The class of an utterance; all values are of one kind, which no side may lack."""
    label = targets.get_task_label(utterance, task, recipe)
    return "a value" if isinstance(label, float) else label


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Let this process alone write there.

    Raises:
        StorageError: another one does, or the folder cannot be made.
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
    """Whether its results are there to be read."""
    return io.resolve_results_file(plan.folder).is_file()


def clear_run(plan: Plan) -> None:
    """Remove the results, and the state of every fold."""
    io.resolve_results_file(plan.folder).unlink(missing_ok=True)
    for fold in plan.protocol.folds:
        plan.state_path(fold).unlink(missing_ok=True)
