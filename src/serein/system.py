"""One system: front end, normalisation, model and heads, put together from a recipe.

B = batch, S = samples, K = classes of a task, or 1 for a number.

A network of its own for each task, trained side by side.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from serein import config, registry
from serein.augment.config import build_augment_config as augment_settings
from serein.augment.specaugment import SpecAugment, build_spec_augment
from serein.errors import ConfigError
from serein.features import normalization
from serein.interfaces import FrontEnd, Model, Task
from serein.labels.targets import get_task_labels, is_regression
from serein.labels.vocabulary import SPECIAL_TOKENS, Vocabulary
from serein.layers.attention import AttentionWeights, ModelOutput
from serein.layers.outputs import TranscriptOutput
from serein.records import Recipe, Utterance
from serein.tasks import transcript
from serein.utils.device import Precision, autocast_context, init_empty_weights

TRANSCRIPT = "transcript"
"""What the words of a model that finds them go by, beside the names of tasks."""
Inputs = Mapping[str, tuple[Tensor, Tensor]]
"""What a model receives, by the names of its parameters: values and mask."""


class Output(NamedTuple):
    """What a system answers.

    Attributes:
        logits: for each task, (B, K).
        attention: the model's maps by name.
        transcript: the words that the model found, where it finds some.
    """

    logits: dict[str, Tensor]
    attention: dict[str, AttentionWeights]
    transcript: TranscriptOutput | None = None


class System(nn.Module):
    """Everything between a waveform and the logits of each task."""

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
        """Build a recipe's system.

        Args:
            recipe: its settings.
            classes: of each task, in the order of its logits; none of a task of numbers.
            words: of a recipe that has text, by their numbers, the special ones first.
            allow_custom: whether dotted names may import a user's own modules.

        Raises:
            UnknownName: a front end, model, task or setting that does not exist.
            ConfigError: a setting out of range, or a task of one class, or none that needs some.
        """
        super().__init__()
        self.temperatures: dict[str, float] = {}
        self.front_end = build_front_end(recipe, allow_custom=allow_custom)
        settings = config.build_config(normalization.Config, recipe.normalise, "normalise")
        self.normaliser = normalization.Normalizer(settings, self.front_end.width)
        self.transcript_task = _build_transcript_task(recipe, words)
        given = _front_end_settings(self.front_end, recipe.model, allow_custom)
        recipe = replace(recipe, model={**given, **recipe.model})
        self.model = _build_model(recipe, allow_custom, self.front_end.width, len(words))
        self.recipe = _pin_recipe(recipe, self.front_end, self.model)
        self.heads = nn.ModuleDict()
        for name, table in recipe.tasks.items():
            if len(classes[name]) == 1:
                raise ConfigError(f"task {name} needs two classes; found {list(classes[name])}")
            task = {"name": name, **table}
            self.heads[name] = _build_part(
                "tasks", "Task", task, allow_custom, self.model.width, classes[name]
            )

    @property
    def device(self) -> str:
        """Where its weights are: "cpu" or "cuda"."""
        return self.normaliser.mean_f.device.type

    @property
    def tasks(self) -> dict[str, Task]:
        """By name, the first one in the lead."""
        return cast(dict[str, Task], dict(self.heads.items()))

    @property
    def has_transcript_loss(self) -> bool:
        """Whether it learns to find words, and not only reads them."""
        return self.transcript_task is not None and self.transcript_task.config.weight > 0

    @property
    def words(self) -> tuple[str, ...]:
        """By their numbers; none where the recipe has no text."""
        return self.transcript_task.vocabulary.words if self.transcript_task else ()

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Of each task, in the order of its logits."""
        return {name: task.classes for name, task in self.tasks.items()}

    def encode(self, inputs: Inputs) -> ModelOutput:
        """What the front end gave -> a vector for each task, and attention."""
        frames_btf, mask_bt = inputs["frames"]
        standard = {**inputs, "frames": (self.normaliser(frames_btf, mask_bt), mask_bt)}
        return self.model(**standard)

    @property
    def shares(self) -> bool:
        """Whether the front end's frames may be made once for windows that overlap."""
        return bool(getattr(self.front_end, "shares", False))

    def forward(self, inputs: Inputs) -> Output:
        """What the front end gave -> logits of each task, and attention."""
        encoded = self.encode(inputs)
        logits = {name: task(encoded.vectors[name]) for name, task in self.tasks.items()}
        return Output(logits, encoded.attention, encoded.transcript)

    def extract_features(self, wave_bs: Tensor, length_b: Tensor) -> Inputs:
        """Waveforms (B, S) and lengths in samples -> what the model receives."""
        return {"frames": self.front_end(wave_bs, length_b)}

    def loss(self, output: Output, targets: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the tasks' losses (Li et al. 2019, equation 10), words among them."""
        losses = [
            task.config.weight * task.loss(output.logits[name], targets[name])
            for name, task in self.tasks.items()
        ]
        if self.transcript_task and self.has_transcript_loss and output.transcript:
            cost = self.transcript_task.loss(output.transcript, targets[TRANSCRIPT])
            losses.append(self.transcript_task.config.weight * cost)
        return torch.stack(losses).sum()

    def targets(self, utterances: Sequence[Utterance]) -> dict[str, Tensor]:
        """(B,) class numbers, or values, for each task; (B, L) words, where the loss wants them."""
        found = {
            name: task.targets(get_task_labels(utterances, name, self.recipe))
            for name, task in self.tasks.items()
        }
        if self.transcript_task and self.has_transcript_loss:
            found[TRANSCRIPT] = self.transcript_task.targets(
                [utterance.text for utterance in utterances]
            )
        return found

    def decode(self, output: Output) -> dict[str, Tensor]:
        """For each task (B, K) probabilities, by its temperature, or (B, 1) values; in fp32.

        Of a model that finds words, their numbers (B, L) too.
        """
        found = {
            name: task.decode(output.logits[name].float() / self.temperatures.get(name, 1.0))
            for name, task in self.tasks.items()
        }
        if self.transcript_task and output.transcript:
            found[TRANSCRIPT] = self.transcript_task.decode(output.transcript)
        return found


def build_front_end(recipe: Recipe, *, allow_custom: bool = True) -> FrontEnd:
    """A recipe's front end alone."""
    made: FrontEnd = _build_part("features", "FrontEnd", recipe.features, allow_custom)
    return made


NUMERIC_SOURCES = (
    *("audio", "augment", "features", "labels", "layers", "models", "tasks", "training"),
    *("labels/words.toml", "labels/norms.toml", "interfaces.py", "system.py", "utils/device.py"),
)
"""Where a changed line may change a number."""


def hash_recipe_sources(recipe: Recipe) -> str:
    """A mark of all source that a recipe's numbers depend on, a user's own modules included."""
    names = {"features": recipe.features["name"], "models": recipe.model["name"]}
    used = [(package, str(name)) for package, name in names.items()]
    used += [("tasks", str(table.get("name", task))) for task, table in recipe.tasks.items()]
    files = [registry.load_module(package, name).__file__ for package, name in used]
    own = [Path(file) for file in files if file]
    return registry.hash_sources(
        [*(registry.PACKAGE_ROOT / place for place in NUMERIC_SOURCES), *own]
    )


def is_estimator(recipe: Recipe) -> bool:
    """Whether a recipe's model is an estimator: fitted at once, not trained in epochs."""
    return hasattr(registry.load_module("models", str(recipe.model["name"])).Model, "fit")


def collect_packages(recipe: Recipe) -> dict[str, str]:
    """What a recipe's front end and model need beside serein and torch.

    Returns:
        Versions of packages, and the SHA-256 of what else they read.
    """
    tables = {"features": recipe.features, "models": recipe.model}
    found: dict[str, str] = {}
    for package, table in tables.items():
        module = registry.load_module(package, str(table["name"]))
        found |= {name: version(name) for name in getattr(module, "PACKAGES", ())}
        if hasattr(module, "contents"):
            found |= module.contents(table)
    return dict(sorted(found.items()))


def collect_notes(recipe: Recipe) -> list[str]:
    """What must be said wherever a recipe's parts are used, such as another's licence."""
    tables = {"features": recipe.features, "models": recipe.model}
    modules = [
        registry.load_module(package, str(table["name"])) for package, table in tables.items()
    ]
    return [str(module.NOTE) for module in modules if hasattr(module, "NOTE")]


def check_recipe(recipe: Recipe) -> None:
    """Check every name and setting of a recipe's front end, model, tasks and augmentation.

    Raises:
        UnknownName: one that does not exist.
        ConfigError: one out of range, or one that the front end or the model has no use for.
    """
    some = {
        task: () if is_regression(task, recipe) else ("first", "second") for task in recipe.tasks
    }
    with init_empty_weights():
        made = System(recipe, some, SPECIAL_TOKENS if recipe.text else ())
    if recipe.augment and is_estimator(recipe):
        raise ConfigError(
            f"{recipe.model['name']} is fitted at once, and augmentation is drawn anew in every "
            "epoch; leave [augment] out of the recipe"
        )
    if recipe.text and recipe.augment.get("crop"):
        raise ConfigError(
            "augment.crop would lay all of an utterance's words beside a part of its sound; leave "
            "it out of a recipe that reads words"
        )
    if made.normaliser.config.statistics == "utterance" and recipe.features.get("pad"):
        raise ConfigError(
            "normalise.statistics = 'utterance' would count the padding of features.pad = true "
            "as speech; set features.pad=false"
        )
    build_recipe_masks(recipe, made.front_end)


def build_recipe_masks(recipe: Recipe, front_end: FrontEnd) -> SpecAugment | None:
    """What training hides of a front end's frames; None is nothing.

    Raises:
        UnknownName: there is no such setting of augmentation.
        ConfigError: one is out of range, or the front end has no use for it.
    """
    bands = getattr(front_end.config, "bands", None)
    return build_spec_augment(
        augment_settings(recipe.augment), front_end.hop, front_end.width, bands
    )


def _build_transcript_task(recipe: Recipe, words: Sequence[str]) -> transcript.Task | None:
    """What is done with words."""
    for name, table in recipe.tasks.items():
        if table.get("name", name) == TRANSCRIPT:
            raise ConfigError(
                f"task {name}: words are no task among others; write their settings in [text], "
                "such as weight = 0.2"
            )
    if not recipe.text:
        return None
    settings = config.build_config(transcript.Config, recipe.text, "text")
    return transcript.Task(settings, Vocabulary(tuple(words)))


def _build_model(recipe: Recipe, allow_custom: bool, width: int, words: int) -> Model:
    """One network for all tasks; or, where the recipe says ``apart``, one for each."""
    table, tasks = recipe.model, tuple(recipe.tasks)
    module = registry.load_module("models", str(table["name"]), allow_custom=allow_custom)
    reads = hasattr(getattr(module, "Model", None), "READS")
    if recipe.text and not reads:
        raise ConfigError(f"model {table['name']} reads no words; remove [text] from the recipe")
    spoken = (TRANSCRIPT,) * bool(recipe.text.get("weight"))
    more = ((*tasks, *spoken), words) if reads else (tasks,)
    rest = {key: value for key, value in table.items() if key != "separate"}
    apart = table.get("separate", False)
    if not isinstance(apart, bool):
        raise ConfigError(f"model.separate = {apart!r}; expected true or false")
    if apart and hasattr(
        registry.load_module("models", str(table["name"]), allow_custom=allow_custom).Model, "fit"
    ):
        raise ConfigError(
            f"model.separate = true: {table['name']} fits each task by itself as it is; remove apart"
        )

    def make(names: Sequence[str]) -> Any:
        return _build_part("models", "Model", rest, allow_custom, width, tuple(names), *more[1:])

    return SingleTaskEnsemble(make, tasks) if apart else make(more[0])


def _front_end_settings(
    front_end: FrontEnd, table: Mapping[str, Any], allow_custom: bool
) -> dict[str, Any]:
    """Settings of the model that only the front end knows, such as how many states it lays."""
    told: Mapping[str, Any] = getattr(front_end, "given", {})
    known = getattr(
        registry.load_module("models", str(table["name"]), allow_custom=allow_custom),
        "Config",
        None,
    )
    return {name: value for name, value in told.items() if hasattr(known, name)}


def _pin_recipe(recipe: Recipe, front_end: FrontEnd, model: Model) -> Recipe:
    """The recipe with what its parts say of themselves: which encoder they were made with."""
    features = {**recipe.features, **getattr(front_end, "pinned", {})}
    table = {**recipe.model, **getattr(model, "pinned", {})}
    return replace(recipe, features=features, model=table)


def _build_part(
    package: str, kind: str, table: Mapping[str, Any], allow_custom: bool, *rest: Any
) -> Any:
    """Find a file by its name and make what it offers."""
    found = registry.load_module(package, str(table["name"]), allow_custom=allow_custom)
    lacking = [part for part in ("Config", kind) if not hasattr(found, part)]
    if lacking:
        raise ConfigError(f"{table['name']} ({found.__file__}) lacks {' and '.join(lacking)}")
    settings = {key: value for key, value in table.items() if key != "name"}
    built = config.build_config(found.Config, settings, f"{package}.{table['name']}")
    return getattr(found, kind)(built, *rest)


class SingleTaskEnsemble(nn.Module):
    """Several single-task systems as one: they see the same batches and share no parameter.

    Adam, L2 and the clipping of single values act on each parameter alone, so that training them
    together is training each of them by itself.
    """

    def __init__(
        self, build_model: Callable[[Sequence[str]], nn.Module], tasks: Sequence[str]
    ) -> None:
        """Build them.

        Args:
            build_model: a network for some tasks, with a ``width``.
            tasks: names, dots and all.
        """
        super().__init__()
        self.tasks = tuple(tasks)
        self.models = nn.ModuleList(build_model((task,)) for task in self.tasks)
        self.width: int = self.models[0].width  # type: ignore[assignment]

    @property
    def pinned(self) -> Mapping[str, Any]:
        """What the networks say of themselves, all of one recipe."""
        return getattr(self.models[0], "pinned", {})

    def forward(self, **inputs: tuple[Tensor, Tensor]) -> ModelOutput:
        """Each task's vector and attention from its own network."""
        vectors: dict[str, Tensor] = {}
        attention: dict[str, AttentionWeights] = {}
        for task, model in zip(self.tasks, self.models, strict=True):
            encoded = model(**inputs)
            vectors[task] = encoded.vectors[task]
            for name, found in encoded.attention.items():
                attention[name if name == task else f"{task}: {name}"] = found
        return ModelOutput(vectors, attention)


def predict_batch(
    system: System, inputs: Inputs, precision: Precision = "fp32"
) -> tuple[dict[str, Tensor], Output]:
    """What a system says of one batch: (B, K) for each task, and its output."""
    system.eval()
    with torch.inference_mode():
        with autocast_context(precision, system.device):
            output = system(inputs)
        return system.decode(output), output


def attention_step_times(count: int, stride: int, hop: float, seconds: float) -> list[float]:
    """Where the middles of an attention map's steps lie, in seconds; those that begin in time.

    Args:
        count: of the steps.
        stride: frames of a step.
        hop: seconds from frame to frame.
        seconds: how long the recording is; steps that begin behind its end are padding.
    """
    begin_t = torch.arange(count, dtype=torch.float64) * stride * hop
    middle_t = begin_t + (stride - 1) / 2 * hop
    return middle_t[begin_t <= seconds + 1e-6].clamp(max=seconds).tolist()
