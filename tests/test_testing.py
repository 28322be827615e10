"""The public contract tests: our parts pass them, and parts with a fault fail with its name."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.small_systems import small_recipe
from torch import Tensor, nn

import serein
from serein import registry, testing
from serein.corpora import emodb, synthetic
from serein.errors import AudioError, UnknownName
from serein.layers.attention import ModelOutput
from serein.records import CorpusInfo, Utterance
from serein.system import System
from serein.tasks.heads import ClassificationConfig, ClassificationTask, RegressionTask

SMALL = ["features.bands=8", "features.deltas=false", "model.filters=4", "model.hidden=4"]


@pytest.fixture
def system() -> System:
    torch.manual_seed(0)
    recipe = small_recipe()
    return System(recipe, {task: testing.CLASSES[task] for task in recipe.tasks})


def test_a_model_of_ours_passes_by_name_and_as_a_recipe() -> None:
    sizes = ["model.attention_hidden=8", "model.heads=2"]
    testing.check_model("li2019", settings=[*SMALL, *sizes])
    testing.check_model(small_recipe())
    assert serein.testing is testing


class MeanOfAll(nn.Module):
    """Reads padding, as the mean over all frames does."""

    def __init__(self, width: int, tasks: Sequence[str]) -> None:
        super().__init__()
        self.width, self.tasks = 4, tasks
        self.dense = nn.Linear(width, 4)

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        vector_bd = self.dense(self.pool(*frames))
        return ModelOutput(dict.fromkeys(self.tasks, vector_bd), {})

    def pool(self, x_btf: Tensor, mask_bt: Tensor) -> Tensor:
        return x_btf.mean(dim=1)


class Masked(MeanOfAll):
    def pool(self, x_btf: Tensor, mask_bt: Tensor) -> Tensor:
        weight_bt1 = (mask_bt / mask_bt.sum(dim=1, keepdim=True))[..., None]
        return x_btf.masked_fill(~mask_bt[..., None], 0).mul(weight_bt1).sum(dim=1)


class Unused(Masked):
    def __init__(self, width: int, tasks: Sequence[str]) -> None:
        super().__init__(width, tasks)
        self.other = nn.Linear(3, 3)


class Noisy(Masked):
    def pool(self, x_btf: Tensor, mask_bt: Tensor) -> Tensor:
        pooled_bf = super().pool(x_btf, mask_bt)
        return pooled_bf + torch.rand_like(pooled_bf)


class BatchMean(Masked):
    def pool(self, x_btf: Tensor, mask_bt: Tensor) -> Tensor:
        pooled_bf = super().pool(x_btf, mask_bt)
        return pooled_bf - pooled_bf[:1]


def with_model(system: System, model_class: type[MeanOfAll]) -> System:
    model = model_class(system.front_end.width, list(system.tasks))
    system.model = model
    system.heads = nn.ModuleDict({name: _Head(task) for name, task in system.heads.items()})
    return system


class _Head(nn.Module):
    """A task with a head of another width."""

    def __init__(self, task: Any) -> None:
        super().__init__()
        self.classes, self.config, self.task = task.classes, task.config, [task]
        self.dense = nn.Linear(4, len(task.classes))

    def forward(self, x_bd: Tensor) -> Tensor:
        logits_bk: Tensor = self.dense(x_bd)
        return logits_bk

    def loss(self, logits_bk: Tensor, target_b: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits_bk, target_b)


@pytest.mark.parametrize(
    ("model_class", "check", "message"),
    [
        (MeanOfAll, testing.check_padding, "padding changes the logits of emotion"),
        (BatchMean, testing.check_batch_order, "depend on the order of the batch"),
        (Unused, testing.check_gradients, "without a gradient: model.other.weight"),
        (Noisy, testing.check_randomness, "random outside of training"),
    ],
)
def test_faults_of_models_are_named(
    system: System, model_class: type[MeanOfAll], check: Any, message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        check(with_model(system, model_class))
    check(with_model(system, Masked))


@pytest.mark.parametrize(
    ("name", "settings"),
    [("logmel", {"bands": 8}), ("logmel", {"pad": True, "seconds": 1.0}), ("rawframes", {})],
)
def test_front_ends_of_ours_pass(name: str, settings: dict[str, Any]) -> None:
    testing.check_front_end(name, settings=settings)


@dataclass
class Config:
    size: int = 10


class Frames:
    """A front end without a fault: mean squares of 10 ms."""

    rate, width, hop, max_seconds = 1000, 1, 0.01, None
    config = Config()

    def __call__(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        frames_b = length_b // 10
        x_btf = wave_bs[:, : int(frames_b.max()) * 10].reshape(len(wave_bs), -1, 10)
        mask_bt = torch.arange(x_btf.shape[1]) < frames_b[:, None]
        return x_btf.square().mean(dim=2, keepdim=True), mask_bt


class Stateful(Frames):
    calls = 0

    def __call__(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        x_btf, mask_bt = super().__call__(wave_bs, length_b)
        self.calls += 1
        return x_btf + self.calls, mask_bt


class Scaled(Frames):
    def __call__(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        return super().__call__(wave_bs / wave_bs.abs().max(), length_b)


class InPlace(Frames):
    def __call__(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        return super().__call__(wave_bs.mul_(2), length_b)


class Fragile(Frames):
    def __call__(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        if not wave_bs.any():
            raise ZeroDivisionError("level")
        if wave_bs.shape[1] < 20:
            raise AudioError("too short")
        return super().__call__(wave_bs, length_b)


class WrongHop(Frames):
    hop = 0.001


@pytest.mark.parametrize(
    ("front_end", "message"),
    [
        (Stateful(), "a second call gives other frames"),
        (InPlace(), "changes the waveforms"),
        (Fragile(), r"silence raises ZeroDivisionError \(level\)"),
        (WrongHop(), r"0.5 s have 50 frames, and a hop of 0.001 s gives 500"),
        (object(), "no attribute config"),
    ],
)
def test_faults_of_front_ends_are_named(front_end: object, message: str) -> None:
    testing.check_front_end(Frames())
    with pytest.raises(AssertionError, match=message):
        testing.check_front_end(front_end)


def test_a_front_end_that_scales_by_the_batch() -> None:
    with pytest.raises(AssertionError, match=r"depend on its batch|not finite"):
        testing.check_front_end(Scaled())


def test_readers_of_ours_pass(root: Path, berlin: Path) -> None:
    testing.check_corpus("synthetic", root)
    testing.check_corpus(emodb, berlin, listens=False)


class Reader:
    """A reader as a module: its faults are set by attributes."""

    ABOUT = CorpusInfo(title="mine", language="de", licence="mine", home="")

    def __init__(self, **changes: Any) -> None:
        self.__name__ = "reader"
        self.changes = changes

    def read(self, root: Path) -> list[Utterance]:
        read = synthetic.read(root)
        return [replace(read[0], **self.changes), *read[1:]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": Path("none.wav")}, "none.wav does not exist"),
        ({"end": 100.0}, "ends after its file"),
        ({"start": 3.0, "end": 2.0}, "before its start"),
        ({"gender": "f"}, "has the gender 'f'"),
        ({"labels": {"emotion": ""}}, "label emotion is ''"),
        ({"labels": {"emotion": None}}, "label emotion is None"),
        ({"id": "z"}, "not sorted by id"),
        ({"speaker": ""}, "speaker is empty; expected None"),
    ],
)
def test_faults_of_readers_are_named(root: Path, changes: dict[str, Any], message: str) -> None:
    reader: Any = Reader(**changes)
    with pytest.raises(AssertionError, match=message):
        testing.check_corpus(reader, root)


def test_a_reader_that_crashes_on_an_empty_folder(root: Path) -> None:
    class Crashes(Reader):
        def read(self, root: Path) -> list[Utterance]:
            next(root.iterdir())
            return synthetic.read(root)

    reader: Any = Crashes()
    with pytest.raises(AssertionError, match="empty folder raises StopIteration"):
        testing.check_corpus(reader, root)


@pytest.mark.parametrize(
    ("task", "settings", "classes"),
    [
        ("classification", {}, testing.CLASSES["emotion"]),
        ("classification", {"class_weights": "balanced", "smoothing": 0.1}, ("a", "b", "c", "d")),
        ("classification", {"targets": "votes"}, testing.CLASSES["emotion"]),
        ("speaker", {}, tuple("abcdefg")),
        ("dimensions", {"scheme": "levels"}, ("high", "low", "middle", "none")),
        ("dimensions", {"scheme": "values"}, ()),
        ("dimensions", {"scheme": "values", "loss": "mse"}, ()),
    ],
)
def test_tasks_of_ours_pass(task: str, settings: dict[str, Any], classes: tuple[str, ...]) -> None:
    testing.check_task(task, settings=settings, classes=classes)


def test_every_task_is_checked() -> None:
    """The transcript is no task of vectors: its head is part of the model."""
    checked = {"classification", "speaker", "dimensions"}
    assert {*registry.list_names("tasks")} == {*checked, "transcript"}


class OwnTask(ClassificationTask):
    def __init__(self) -> None:
        super().__init__(ClassificationConfig(), 8, testing.CLASSES["emotion"])


class CountsMissing(OwnTask):
    def loss(self, logits_bk: Tensor, target_b: Tensor, votes_bk: Tensor | None = None) -> Tensor:
        return super().loss(logits_bk, target_b) * (target_b >= 0).float().mean()


class NoLabelsNan(OwnTask):
    def loss(self, logits_bk: Tensor, target_b: Tensor, votes_bk: Tensor | None = None) -> Tensor:
        return nn.functional.cross_entropy(logits_bk, target_b, ignore_index=-1)


class Squared(OwnTask):
    def decode(self, logits_bk: Tensor) -> Tensor:
        return logits_bk.softmax(dim=-1).square()


class Normalised(OwnTask):
    def forward(self, x_bd: Tensor) -> Tensor:
        return super().forward(x_bd - x_bd.mean(dim=0))


class UnsavedMean(OwnTask):
    shift = 0.0

    def fit_statistics(self, target_b: Tensor) -> None:
        self.shift = float(target_b.float().mean())

    def forward(self, x_bd: Tensor) -> Tensor:
        return super().forward(x_bd) + self.shift


class AnyClass(OwnTask):
    def targets(self, labels: Sequence[str | float | None]) -> Tensor:
        index = {name: k for k, name in enumerate(self.classes)}
        return torch.tensor([index.get(str(label), -1) for label in labels])


class Turned(OwnTask):
    def loss(self, logits_bk: Tensor, target_b: Tensor, votes_bk: Tensor | None = None) -> Tensor:
        return super().loss(-logits_bk, target_b)


class Unread(OwnTask):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(2, 2)


class Values(RegressionTask):
    def __init__(self) -> None:
        super().__init__(ClassificationConfig(), 8)

    def targets(self, labels: Sequence[str | float | None]) -> Tensor:
        return torch.tensor([float(label or 0) for label in labels])


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (CountsMissing, "utterances without a label change the loss"),
        (NoLabelsNan, "the loss without labels is nan; expected 0"),
        (Squared, "probabilities do not sum to 1"),
        (Normalised, "the logits depend on the other utterances"),
        (UnsavedMean, "saving changes the logits"),
        (AnyClass, "an unknown class gives a target; expected ConfigError"),
        (Turned, "right answers have a loss of .*, and wrong ones"),
        (Unread, "parameters without a gradient: other.weight, other.bias"),
        (nn.Identity, "the task has no method targets"),
    ],
)
def test_faults_of_tasks_are_named(task: Any, message: str) -> None:
    testing.check_task(OwnTask)
    with pytest.raises(AssertionError, match=message):
        testing.check_task(task)


def test_faults_of_tasks_of_values_are_named() -> None:
    with pytest.raises(AssertionError, match="the target of a missing value is not nan"):
        testing.check_task(Values, classes=())
    with pytest.raises(AssertionError, match=r"classes is \(\); expected \('anger'"):
        testing.check_task(Values)
    with pytest.raises(UnknownName, match="unknown task 'speekr'"):
        testing.check_task("speekr")
