"""A system built from a recipe: front end, normalisation, model and task heads.

B = batch, S = samples, T = frames, F = bins, D = channels, K = classes of a task, or 1 for a value,
L = words, t = steps of an attention map.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from serein import config, registry
from serein.augment.config import build_augment_config
from serein.augment.specaugment import SpecAugment, build_spec_augment
from serein.errors import ConfigError
from serein.features import normalization
from serein.interfaces import FrontEnd, Model, Task
from serein.labels.targets import get_task_labels, get_task_module, is_regression
from serein.labels.vocabulary import SPECIAL_TOKENS, Vocabulary
from serein.labels.votes import collect_votes, trains_on_votes, vote_target_name
from serein.layers.attention import AttentionWeights, ModelOutput
from serein.layers.initialization import init_weights
from serein.layers.outputs import TranscriptOutput
from serein.records import Recipe, Utterance
from serein.tasks import transcript
from serein.tasks.heads import ClassificationTask
from serein.utils.attention_maps import TRANSCRIPT as TRANSCRIPT
from serein.utils.attention_maps import attention_step_times as attention_step_times
from serein.utils.device import Precision, autocast_context, init_empty_weights

NUMERIC_SOURCES = (
    *("audio", "augment", "features", "labels", "layers", "models", "tasks", "training"),
    *("labels/words.toml", "labels/norms.toml", "interfaces.py", "system.py", "utils/device.py"),
)
"""Sources on which results depend numerically."""

Inputs = Mapping[str, tuple[Tensor, Tensor]]
"""Inputs of a model, by the names of its parameters: values and mask."""


class Output(NamedTuple):
    """Output of a system for a batch.

    Attributes:
        logits: for each task, (B, K).
        attention: attention maps of the model, by name.
        transcript: output of the model's ASR decoder; None without one.
    """

    logits: dict[str, Tensor]
    attention: dict[str, AttentionWeights]
    transcript: TranscriptOutput | None = None


class System(nn.Module):
    """All steps from waveforms to logits: front end, normalisation, model and task heads.

    Attributes:
        recipe: with the settings that a saved model must have.
        temperatures: for each task, the divisor of its logits; 1 if it has none.
        transcript_task: loss and decoding of transcripts; None without ``[text]`` in the recipe.
    """

    front_end: FrontEnd
    model: Model

    def __init__(
        self,
        recipe: Recipe,
        classes: Mapping[str, Sequence[str]],
        words: Sequence[str] = (),
        *,
        allow_custom: bool = True,
    ) -> None:
        """Build the system of a recipe, with random weights.

        Args:
            recipe: of the system.
            classes: for each task, its classes in the order of its logits; empty for values.
            words: vocabulary by word id, special tokens first; empty for a recipe without text.
            allow_custom: whether dotted names may import a user's own modules.

        Raises:
            UnknownName: a front end, model, task or setting does not exist.
            ConfigError: a setting is out of range, or a task has one class, or none and needs
                some.
        """
        super().__init__()
        self.temperatures: dict[str, float] = {}
        self.front_end = build_front_end(recipe, allow_custom=allow_custom)
        settings = config.build_config(normalization.Config, recipe.normalise, "normalise")
        self.normaliser = normalization.Normalizer(settings, self.front_end.width)
        self.transcript_task = _build_transcript_task(recipe, words)
        given = _front_end_settings(self.front_end, recipe.model, allow_custom)
        recipe = replace(recipe, model={**given, **recipe.model})
        self.model = _build_model(recipe, self.front_end.width, len(words), allow_custom)
        self.recipe = _pin_recipe(recipe, self.front_end, self.model)
        self.heads = nn.ModuleDict()
        for name, table in recipe.tasks.items():
            if len(classes[name]) == 1:
                raise ConfigError(f"task {name} needs two classes; found {list(classes[name])}")
            build_task = _find_builder(
                "tasks", "Task", get_task_module(name, table), table, f"tasks.{name}", allow_custom
            )
            self.heads[name] = build_task(self.model.width, classes[name])
            if getattr(self.model, "init", "") == "keras":  # before the next task draws its weights
                init_weights(self.heads[name], "keras")

    @property
    def device(self) -> str:
        """Device of the weights: "cpu" or "cuda"."""
        return self.normaliser.mean_f.device.type

    @property
    def tasks(self) -> dict[str, Task]:
        """Tasks by name; the first one is the main task."""
        return cast(dict[str, Task], dict(self.heads.items()))

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Classes of each task, in the order of its logits; empty for values."""
        return {name: task.classes for name, task in self.tasks.items()}

    @property
    def has_transcript_loss(self) -> bool:
        """Whether the system is trained to transcribe, and does not only read transcripts."""
        return self.transcript_task is not None and self.transcript_task.config.weight > 0

    @property
    def needs_words(self) -> bool:
        """Whether the model reads words that it does not recognise itself."""
        return self.transcript_task is not None and getattr(self.model, "needs_words", False)

    @property
    def words(self) -> tuple[str, ...]:
        """Vocabulary by word id; empty for a recipe without text."""
        return self.transcript_task.vocabulary.words if self.transcript_task else ()

    @property
    def shares(self) -> bool:
        """Whether overlapping windows may share the frames that the front end computes."""
        return bool(getattr(self.front_end, "shares", False))

    def extract_features(self, wave_bs: Tensor, length_b: Tensor) -> Inputs:
        """Compute the inputs of the model from waveforms (B, S) and lengths in samples (B,)."""
        return {"frames": self.front_end(wave_bs, length_b)}

    def encode(self, inputs: Inputs) -> ModelOutput:
        """Normalise frames and apply the model: a vector (B, D) for each task, and attention."""
        frames_btf, mask_bt = inputs["frames"]
        normalised = {**inputs, "frames": (self.normaliser(frames_btf, mask_bt), mask_bt)}
        return self.model(**normalised)

    def forward(self, inputs: Inputs) -> Output:
        """Compute the logits of each task, and attention."""
        encoded = self.encode(inputs)
        logits = {name: task(encoded.vectors[name]) for name, task in self.tasks.items()}
        return Output(logits, encoded.attention, encoded.transcript)

    def targets(
        self,
        utterances: Sequence[Utterance],
        missed: Mapping[str, Sequence[str]] | None = None,
    ) -> dict[str, Tensor]:
        """Return the targets of each task, (B,) class numbers or values.

        A task that trains on votes has their (B, K) distributions, too, and a system with a
        transcript loss (B, L) word ids.

        Args:
            utterances: their labels are used.
            missed: for each task, classes that it does not predict; they are numbered from K on, so
                that every prediction is wrong.
        """
        targets = {
            name: self._task_targets(name, utterances, (missed or {}).get(name, ()))
            for name in self.tasks
        }
        for name, task in self.tasks.items():
            if trains_on_votes(name, self.recipe):
                summary = collect_votes(utterances, name, self.recipe, task.classes)
                votes_bk = cast(ClassificationTask, task).vote_targets(summary.distributions)
                targets[vote_target_name(name)] = votes_bk
        if self.transcript_task and self.has_transcript_loss:
            texts = [utterance.text for utterance in utterances]
            targets[TRANSCRIPT] = self.transcript_task.targets(texts)
        return targets

    def _task_targets(
        self, name: str, utterances: Sequence[Utterance], missed: Sequence[str]
    ) -> Tensor:
        task, labels = self.tasks[name], get_task_labels(utterances, name, self.recipe)
        if not missed:
            return task.targets(labels)
        numbers: dict[Any, int] = {
            label: len(task.classes) + index for index, label in enumerate(missed)
        }
        target_b = task.targets([None if label in numbers else label for label in labels])
        for index, label in enumerate(labels):
            if label in numbers:
                target_b[index] = numbers[str(label)]
        return target_b

    def loss(self, output: Output, targets: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of all losses (Li et al. 2019, equation 10)."""
        losses = [
            task.config.weight * self._task_loss(name, task, output.logits[name], targets)
            for name, task in self.tasks.items()
        ]
        if self.transcript_task and self.has_transcript_loss and output.transcript:
            loss = self.transcript_task.loss(output.transcript, targets[TRANSCRIPT])
            losses.append(self.transcript_task.config.weight * loss)
        return torch.stack(losses).sum()

    def _task_loss(
        self, name: str, task: Task, logits_bk: Tensor, targets: Mapping[str, Tensor]
    ) -> Tensor:
        votes_bk = targets.get(vote_target_name(name))
        if votes_bk is None:
            return task.loss(logits_bk, targets[name])
        return cast(ClassificationTask, task).loss(logits_bk, targets[name], votes_bk)

    def decode(self, output: Output) -> dict[str, Tensor]:
        """Return (B, K) probabilities, scaled by temperature, or (B, 1) values of each task; fp32.

        A system that transcribes has (B, L) word ids, too.
        """
        predictions = {
            name: task.decode(output.logits[name].float() / self.temperatures.get(name, 1.0))
            for name, task in self.tasks.items()
        }
        if self.transcript_task and output.transcript:
            predictions[TRANSCRIPT] = self.transcript_task.decode(output.transcript)
        return predictions


class SingleTaskEnsemble(nn.Module):
    """A separate network for each task, trained on the same batches; they share no parameters.

    Adam, L2 penalty and clipping of single values act on each parameter alone, so that training
    the networks together equals training each of them alone.
    """

    def __init__(
        self, build_model: Callable[[Sequence[str]], nn.Module], tasks: Sequence[str]
    ) -> None:
        """Build the networks.

        Args:
            build_model: builds a network for the named tasks, with a ``width``.
            tasks: names, which may have dots.
        """
        super().__init__()
        self.tasks = tuple(tasks)
        self.models = nn.ModuleList(build_model((task,)) for task in self.tasks)
        self.width: int = self.models[0].width  # type: ignore[assignment]

    @property
    def pinned(self) -> Mapping[str, Any]:
        """Settings that a saved model must have; equal for all networks of a recipe."""
        return getattr(self.models[0], "pinned", {})

    @property
    def init(self) -> str:
        """Initial weights; equal for all networks of a recipe, and empty if they have no choice."""
        return str(getattr(self.models[0], "init", ""))

    @property
    def needs_words(self) -> bool:
        """Whether the networks read words; equal for all networks of a recipe."""
        return getattr(self.models[0], "needs_words", False)

    def forward(self, **inputs: tuple[Tensor, Tensor]) -> ModelOutput:
        """Return the vector (B, D) and attention of each task from its network."""
        vectors: dict[str, Tensor] = {}
        attention: dict[str, AttentionWeights] = {}
        for task, model in zip(self.tasks, self.models, strict=True):
            encoded = model(**inputs)
            vectors[task] = encoded.vectors[task]
            for name, weights in encoded.attention.items():
                attention[name if name == task else f"{task}: {name}"] = weights
        return ModelOutput(vectors, attention)


def predict_batch(
    system: System, inputs: Inputs, precision: Precision = "fp32"
) -> tuple[dict[str, Tensor], Output]:
    """Return a system's predictions of one batch, (B, K) for each task, and its output."""
    system.eval()
    with torch.inference_mode():
        with autocast_context(precision, system.device):
            output = system(inputs)
        return system.decode(output), output


def build_front_end(recipe: Recipe, *, allow_custom: bool = True) -> FrontEnd:
    """Build the front end of a recipe."""
    name = str(recipe.features["name"])
    front_end: FrontEnd = _find_builder(
        "features", "FrontEnd", name, recipe.features, f"features.{name}", allow_custom
    )()
    return front_end


def copy_front_end(system: System) -> FrontEnd:
    """Copy the front end of a system to the CPU, with the weights of its pretrained encoder."""
    front_end = copy.deepcopy(system.front_end)
    return front_end.to("cpu") if isinstance(front_end, nn.Module) else front_end


def build_recipe_spec_augment(recipe: Recipe, front_end: FrontEnd) -> SpecAugment | None:
    """Build the SpecAugment masks of a recipe; None if it has none.

    Raises:
        UnknownName: a setting of augmentation does not exist.
        ConfigError: a setting is out of range, or does not apply to the front end.
    """
    bands = getattr(front_end.config, "bands", None)
    augment = build_augment_config(recipe.augment)
    return build_spec_augment(augment, front_end.hop, front_end.width, bands)


def check_recipe(recipe: Recipe) -> None:
    """Check all names and settings of front end, model, tasks and augmentation.

    Labels are not checked: they depend on the corpus.

    Raises:
        UnknownName: a name does not exist.
        ConfigError: a setting is out of range, or does not apply to the front end or model.
    """
    classes = {
        task: () if is_regression(task, recipe) else ("first", "second") for task in recipe.tasks
    }
    with init_empty_weights():
        system = System(recipe, classes, SPECIAL_TOKENS if recipe.text else ())
    if recipe.augment and is_estimator(recipe) and not model_uses(recipe, "USES_COPIES"):
        raise ConfigError(
            f"{recipe.model['name']} is fitted at once, and augmentation is drawn in every epoch; "
            "remove [augment] from the recipe"
        )
    voted = [task for task in recipe.tasks if trains_on_votes(task, recipe)]
    if voted and is_estimator(recipe) and not model_uses(recipe, "USES_VOTES"):
        raise ConfigError(
            f"tasks.{voted[0]}.targets = 'votes' needs a loss, and {recipe.model['name']} is "
            "fitted to classes; remove targets, or choose a model that is trained in epochs"
        )
    if recipe.text and recipe.augment.get("crop"):
        raise ConfigError(
            "augment.crop would combine all words of an utterance with a part of its audio; "
            "remove it from a recipe that reads words"
        )
    if system.normaliser.config.statistics == "utterance" and recipe.features.get("pad"):
        raise ConfigError(
            "normalise.statistics = 'utterance' would count the padding of features.pad = true "
            "as speech; set features.pad=false"
        )
    build_recipe_spec_augment(recipe, system.front_end)


def is_estimator(recipe: Recipe) -> bool:
    """Return whether a recipe's model is fitted at once, and not trained in epochs."""
    return hasattr(registry.load_module("models", str(recipe.model["name"])).Model, "fit")


def model_uses(recipe: Recipe, name: str) -> bool:
    """Return whether the file of a recipe's model says that it uses something."""
    return bool(getattr(registry.load_module("models", str(recipe.model["name"])), name, False))


def hash_recipe_sources(recipe: Recipe) -> str:
    """Return a hash of all source on which a recipe's numbers depend, a user's modules included."""
    names = [("features", str(recipe.features["name"])), ("models", str(recipe.model["name"]))]
    names += [("tasks", get_task_module(task, table)) for task, table in recipe.tasks.items()]
    files = [registry.load_module(package, name).__file__ for package, name in names]
    sources = [registry.PACKAGE_ROOT / path for path in NUMERIC_SOURCES]
    return registry.hash_sources([*sources, *(Path(file) for file in files if file)])


def collect_packages(recipe: Recipe) -> dict[str, str]:
    """Return what a recipe's front end and model depend on besides serein and torch.

    Returns:
        Versions of packages, and the SHA-256 of files, by name.
    """
    versions: dict[str, str] = {}
    for module, table in _front_end_and_model(recipe):
        versions |= {name: version(name) for name in getattr(module, "PACKAGES", ())}
        if hasattr(module, "contents"):
            versions |= module.contents(table)
    return dict(sorted(versions.items()))


def collect_notes(recipe: Recipe) -> list[str]:
    """Return notes that results and models must carry, such as another project's licence."""
    modules = [module for module, _ in _front_end_and_model(recipe)]
    return [str(module.NOTE) for module in modules if hasattr(module, "NOTE")]


def _front_end_and_model(recipe: Recipe) -> list[tuple[ModuleType, dict[str, Any]]]:
    """Return the modules of a recipe's front end and model, with their settings."""
    tables = {"features": recipe.features, "models": recipe.model}
    return [
        (registry.load_module(package, str(table["name"])), table)
        for package, table in tables.items()
    ]


def _build_transcript_task(recipe: Recipe, words: Sequence[str]) -> transcript.Task | None:
    for name, table in recipe.tasks.items():
        if table.get("name", name) == TRANSCRIPT:
            raise ConfigError(
                f"task {name}: transcripts are not a task; write their settings in [text], such "
                "as weight = 0.2"
            )
    if not recipe.text:
        return None
    settings = config.build_config(transcript.Config, recipe.text, "text")
    return transcript.Task(settings, Vocabulary(tuple(words)))


def _build_model(recipe: Recipe, width: int, words: int, allow_custom: bool) -> Model:
    """Build one network for all tasks, or one for each if ``separate`` is set."""
    name, tasks = str(recipe.model["name"]), tuple(recipe.tasks)
    model_class = getattr(
        registry.load_module("models", name, allow_custom=allow_custom), "Model", None
    )
    reads_words = hasattr(model_class, "READS")
    if recipe.text and not reads_words:
        raise ConfigError(f"model {name} reads no words; remove [text] from the recipe")
    settings = {key: value for key, value in recipe.model.items() if key != "separate"}
    is_separate = recipe.model.get("separate", False)
    if not isinstance(is_separate, bool):
        raise ConfigError(f"model.separate = {is_separate!r}; expected true or false")
    if is_separate and hasattr(model_class, "fit"):
        raise ConfigError(
            f"model.separate = true: {name} fits each task separately in any case; remove separate"
        )
    build = _find_builder("models", "Model", name, settings, f"models.{name}", allow_custom)
    vocabulary_size = (words,) if reads_words else ()
    if is_separate:
        return SingleTaskEnsemble(lambda names: build(width, tuple(names), *vocabulary_size), tasks)
    if reads_words and recipe.text.get("weight"):
        tasks = (*tasks, TRANSCRIPT)
    return build(width, tasks, *vocabulary_size)


def _front_end_settings(
    front_end: FrontEnd, table: Mapping[str, Any], allow_custom: bool
) -> dict[str, Any]:
    """Return settings of the model that depend on the front end, such as its number of states."""
    given: Mapping[str, Any] = getattr(front_end, "given", {})
    module = registry.load_module("models", str(table["name"]), allow_custom=allow_custom)
    model_config = getattr(module, "Config", None)
    return {name: value for name, value in given.items() if hasattr(model_config, name)}


def _pin_recipe(recipe: Recipe, front_end: FrontEnd, model: Model) -> Recipe:
    """Add the settings that a saved model must have, such as the hash of its encoder."""
    features = {**recipe.features, **getattr(front_end, "pinned", {})}
    table = {**recipe.model, **getattr(model, "pinned", {})}
    return replace(recipe, features=features, model=table)


def _find_builder(
    package: str, kind: str, name: str, table: Mapping[str, Any], where: str, allow_custom: bool
) -> Callable[..., Any]:
    """Find a front end, model or task by its name, and check its settings.

    Args:
        package: "features", "models" or "tasks".
        kind: name of the class in the module.
        name: of the module.
        table: settings; ``name`` among them is ignored.
        where: what to call the table in errors.
        allow_custom: whether a dotted name may import a user's own module.

    Returns:
        The class with its first argument, the settings, filled in.
    """
    module = registry.load_module(package, name, allow_custom=allow_custom)
    missing = [part for part in ("Config", kind) if not hasattr(module, part)]
    if missing:
        raise ConfigError(f"{name} ({module.__file__}) lacks {' and '.join(missing)}")
    settings = {key: value for key, value in table.items() if key != "name"}
    return partial(getattr(module, kind), config.build_config(module.Config, settings, where))
