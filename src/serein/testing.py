"""Contract tests for parts of your own: models, front ends, tasks and readers of corpora.

They are the tests that serein's own parts pass. Call them in a test of yours; a part that breaks a
requirement raises an AssertionError that names it:

    def test_my_model() -> None:
        serein.testing.check_model("my_lab.small_cnn")

B = batch, T = frames, F = bins, S = samples, D = channels, K = classes, or 1 for values.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from serein import audio, bundle, config, recipes, registry, system
from serein.errors import AudioError, ConfigError, CorpusError, SereinError
from serein.layers.attention import ModelOutput
from serein.records import CorpusInfo, Recipe, Utterance
from serein.system import Output, System
from serein.utils.device import restore_torch_state

CLASSES: Mapping[str, tuple[str, ...]] = {
    "emotion": ("anger", "joy", "neutral", "sadness"),
    "gender": ("female", "male"),
    "speaker": ("DC", "JE", "JK"),
    **dict.fromkeys(("arousal", "dominance", "valence"), ("high", "low", "middle")),
}
"""Classes of the tasks of the systems that are tested."""
LENGTHS = (50, 31, 1, 2, 30)
"""Frames of the utterances of a batch."""
TOLERANCE = 1e-5
PADDING_SCALE = 100.0
"""Factor of the values on padding, so that a model that reads them is noticed."""
SECONDS = (0.5, 0.31, 0.13)
"""Durations of the waveforms for front ends."""
DURATION_TOLERANCE = 0.05
"""Seconds by which an utterance may end after its file, by rounding."""
GENDERS = ("female", "male", None)


@restore_torch_state()
def check_model(
    model: str | Recipe | System, *, settings: Sequence[str] = (), front_end: str = "logmel"
) -> None:
    """Check a model, or a system with one, against `serein.interfaces.Model`.

    Every task has a vector of the stated width; padding and the other utterances of a batch do not
    change an output; every parameter gets a gradient; only training is random; saving keeps every
    digit; attention sums to 1 and is 0 on padding. Weights are random, and no data are needed.

    Args:
        model: dotted name of your module (or of a model of serein), a recipe, or a system.
        settings: changes of the recipe, such as ``"model.hidden=16"`` for a small network.
        front_end: for a module: whose frames it gets.

    Raises:
        AssertionError: a requirement is not met.
        SereinError: the model cannot be built.
    """
    built = model if isinstance(model, System) else _build_system(model, settings, front_end)
    for check in MODEL_CHECKS:
        check(built)


def _build_system(model: str | Recipe, settings: Sequence[str], front_end: str) -> System:
    if isinstance(model, str):
        base = recipes.load("li2019", ["tasks.gender=remove", f"features.name={front_end}"])
        recipe = recipes.with_settings(base, [f"model.name={model}", *settings])
    else:
        recipe = recipes.with_settings(model, settings) if settings else model
    torch.manual_seed(0)
    return System(recipe, {task: CLASSES.get(task, CLASSES["emotion"]) for task in recipe.tasks})


def random_inputs(built: System, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return random frames (B, T, F) of these lengths, also on padding, and their mask (B, T)."""
    x_btf = torch.randn(len(lengths), max(lengths), built.front_end.width)
    mask_bt = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    x_btf[~mask_bt] *= PADDING_SCALE
    return x_btf, mask_bt


def compute_output(built: System, x_btf: Tensor, mask_bt: Tensor) -> Output:
    """Return the output of a system for frames (B, T, F) and their mask (B, T)."""
    with torch.no_grad():
        output: Output = built({"frames": (x_btf, mask_bt)})
    return output


def check_vectors(built: System) -> None:
    """Check that the model gives each task a finite vector of its width."""
    built.eval()
    with torch.no_grad():
        encoded: Any = built.encode({"frames": random_inputs(built, LENGTHS)})
    assert isinstance(encoded, ModelOutput), (
        f"the model returns {type(encoded).__name__}; expected serein.layers.attention.ModelOutput"
    )
    for task in built.tasks:
        found = ", ".join(encoded.vectors) or "none"
        assert task in encoded.vectors, f"the model has no vector for {task}; found {found}"
        x_bd, expected = encoded.vectors[task], (len(LENGTHS), built.model.width)
        shape = tuple(x_bd.shape)
        assert shape == expected, f"the vectors of {task} are {shape}; expected (B, D) {expected}"
        assert x_bd.isfinite().all(), f"the vectors of {task} are not finite"


def check_padding(built: System) -> None:
    """Check that padding, and its values, do not change logits and attention."""
    built.eval()
    x_btf, mask_bt = random_inputs(built, LENGTHS)
    together = compute_output(built, x_btf, mask_bt)
    for b, length in enumerate(LENGTHS):
        alone = compute_output(built, x_btf[b : b + 1, :length], mask_bt[b : b + 1, :length])
        for task, logits_bk in alone.logits.items():
            what = f"padding changes the logits of {task} of an utterance of {length} frames"
            _assert_close(together.logits[task][b], logits_bk[0], what)
        for name, attention in alone.attention.items():
            sizes = [slice(size) for size in attention.weight.shape[1:]]
            weight = together.attention[name].weight[b][tuple(sizes)]
            _assert_close(weight, attention.weight[0], f"padding changes the attention {name}")


def check_batch_order(built: System) -> None:
    """Check that an utterance's logits do not depend on the others of its batch."""
    built.eval()
    x_btf, mask_bt = random_inputs(built, [20, 9, 14])
    order = torch.tensor([2, 0, 1])
    one = compute_output(built, x_btf, mask_bt)
    other = compute_output(built, x_btf[order], mask_bt[order])
    for task in one.logits:
        what = f"the logits of {task} depend on the order of the batch"
        _assert_close(one.logits[task][order], other.logits[task], what)


def check_gradients(built: System) -> None:
    """Check that every parameter that is trained gets a gradient."""
    built.train()
    inputs = {"frames": random_inputs(built, [50, 30, 20])}
    targets = {name: torch.arange(3) % len(task.classes) for name, task in built.tasks.items()}
    torch.autograd.backward(built.loss(built(inputs), targets))
    silent = [
        name
        for name, parameter in built.named_parameters()
        if parameter.requires_grad
        and (parameter.grad is None or not parameter.grad.abs().sum() > 0)
    ]
    built.zero_grad()
    assert not silent, f"parameters without a gradient: {', '.join(silent)}"


def check_randomness(built: System) -> None:
    """Check that a system gives the same output twice when it is not trained."""
    inputs = random_inputs(built.eval(), [30, 20])
    one, other = compute_output(built, *inputs), compute_output(built, *inputs)
    for task, logits_bk in one.logits.items():
        is_equal = torch.equal(logits_bk, other.logits[task])
        assert is_equal, f"the logits of {task} are random outside of training"


def check_saving(built: System) -> None:
    """Check that a saved and loaded system gives the same logits, to the last digit."""
    width = built.front_end.width
    built.normaliser.fit([np.random.default_rng(0).normal(3, 2, (50, width))])
    inputs = random_inputs(built.eval(), [30, 20])
    before = compute_output(built, *inputs)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        bundle.save(bundle.Bundle(built, bundle.Card(name="checked")), path)
        own = [name for name in _custom_modules(built.recipe) if name]
        loaded = bundle.load(path, trust=own).system
    assert loaded.classes == built.classes, "saving changes the classes"
    assert loaded.recipe == built.recipe, "saving changes the recipe"
    after = compute_output(loaded.eval(), *inputs)
    for task, logits_bk in before.logits.items():
        assert torch.equal(logits_bk, after.logits[task]), f"saving changes the logits of {task}"


def _custom_modules(recipe: Recipe) -> list[str]:
    names = [str(recipe.features["name"]), str(recipe.model["name"])]
    names += [str(table.get("name", "")) for table in recipe.tasks.values()]
    return sorted({name for name in names if "." in name})


def check_attention(built: System) -> None:
    """Check that attention is not negative, sums to 1, and is 0 on padding."""
    built.eval()
    lengths = [50, 29, 3, 1]
    output = compute_output(built, *random_inputs(built, lengths))
    for name, (weight, stride) in output.attention.items():
        steps = -(-max(lengths) // stride)
        assert weight.shape[0] == len(lengths), f"attention {name} has no row for each utterance"
        assert weight.shape[-1] == steps, f"attention {name} has not {steps} steps"
        assert (weight >= 0).all(), f"attention {name} is negative"
        total = weight.sum(dim=-1)
        _assert_close(total, torch.ones(total.shape), f"attention {name} does not sum to 1")
        for b, length in enumerate(lengths):
            is_padded = (weight[b, ..., -(-length // stride) :] != 0).any()
            assert not is_padded, f"attention {name} is not 0 on padding"


def _assert_close(x: Tensor, y: Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    """Raise an AssertionError if two tensors differ."""
    assert x.shape == y.shape, f"{what}: {tuple(x.shape)} and {tuple(y.shape)}"
    difference = float((x.double() - y.double()).abs().max()) if x.numel() else 0.0
    assert difference <= tolerance, f"{what}, by up to {difference:.2g}"


MODEL_CHECKS: tuple[Callable[[System], None], ...] = (
    check_vectors,
    check_padding,
    check_batch_order,
    check_gradients,
    check_randomness,
    check_saving,
    check_attention,
)
"""The checks of `check_model`."""


def check_front_end(front_end: str | Any, *, settings: Mapping[str, Any] | None = None) -> None:
    """Check a front end against `serein.interfaces.FrontEnd`.

    Its attributes are there; frames are finite, in single precision, and the same for a waveform
    alone and in a padded batch, at a second call, and after other waveforms; waveforms stay
    unchanged; silence and a short recording give frames, or an AudioError.

    Args:
        front_end: dotted name of your module (or of a front end of serein), or a built one.
        settings: of the front end, if it is given by name.

    Raises:
        AssertionError: a requirement is not met.
        SereinError: the front end cannot be built.
    """
    if isinstance(front_end, str):
        module = registry.load_module("features", front_end)
        for name in ("Config", "FrontEnd"):
            assert hasattr(module, name), f"{front_end} lacks {name}"
        table = {"name": front_end, **(settings or {})}
        config.build_config(module.Config, settings or {}, f"features.{front_end}")
        front_end = system.build_front_end(recipes.load("li2019", _as_settings(table)))
    _check_attributes(front_end)
    waves = [_make_wave(seconds, front_end.rate, seed) for seed, seconds in enumerate(SECONDS)]
    length_b = torch.tensor([len(wave_s) for wave_s in waves])
    wave_bs = torch.zeros(len(waves), int(length_b.max()))
    for row_s, wave_s in zip(wave_bs, waves, strict=True):
        row_s[: len(wave_s)] = wave_s
    before_bs = wave_bs.clone()
    x_btf, mask_bt = _compute(front_end, wave_bs, length_b)
    assert torch.equal(wave_bs, before_bs), "the front end changes the waveforms"
    again_btf, _ = _compute(front_end, wave_bs, length_b)
    assert torch.equal(x_btf, again_btf), "a second call gives other frames"
    for b, wave_s in enumerate(waves):
        alone_btf, alone_bt = _compute(front_end, wave_s[None], length_b[b : b + 1])
        count, expected = int(mask_bt[b].sum()), int(alone_bt[0].sum())
        assert count == expected, (
            f"a waveform of {SECONDS[b]} s has {expected} frames alone and {count} in a batch"
        )
        what = f"the frames of a waveform of {SECONDS[b]} s depend on its batch"
        _assert_close(x_btf[b, :count], alone_btf[0, :count], what, 1e-4)
        _check_count(front_end, count, SECONDS[b])
    _check_extremes(front_end)


def _as_settings(table: Mapping[str, Any]) -> list[str]:
    return [config.format_setting(f"features.{key}", value) for key, value in table.items()]


def _check_attributes(front_end: Any) -> None:
    for name in ("config", "rate", "width", "hop", "max_seconds"):
        assert hasattr(front_end, name), f"the front end has no attribute {name}"
    assert is_dataclass(front_end.config), "config is not a dataclass"
    undescribed = [item.name for item in fields(front_end.config) if item.name.startswith("_")]
    assert not undescribed, f"settings begin with an underscore: {', '.join(undescribed)}"
    assert isinstance(front_end.rate, int), f"rate is {front_end.rate!r}; expected whole Hz"
    assert front_end.rate > 0, f"rate is {front_end.rate}; expected above 0"
    assert isinstance(front_end.width, int), f"width is {front_end.width!r}; expected a number"
    assert front_end.width > 0, f"width is {front_end.width}; expected above 0"
    assert front_end.hop > 0, f"hop is {front_end.hop}; expected seconds above 0"


def _make_wave(seconds: float, rate: int, seed: int) -> Tensor:
    """Return a voice-like waveform (S,): harmonics of a rising pitch, with noise."""
    time_s = np.arange(round(seconds * rate)) / rate
    phase_s = 2 * np.pi * (120 + 20 * seed + 30 * time_s) * time_s
    wave_s = sum(np.sin(k * phase_s) / k for k in range(1, 6)) * 0.1
    noise_s = np.random.default_rng(seed).normal(0, 0.005, len(time_s))
    return torch.from_numpy((wave_s + noise_s).astype(np.float32))


def _compute(front_end: Any, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
    """Return frames and mask after a check of their shapes and types."""
    with torch.inference_mode():
        x_btf, mask_bt = front_end(wave_bs, length_b)
    assert x_btf.dim() == 3, f"frames have {x_btf.dim()} dimensions; expected (B, T, F)"
    assert mask_bt.shape == x_btf.shape[:2], f"the mask is {tuple(mask_bt.shape)}; expected (B, T)"
    assert mask_bt.dtype == torch.bool, f"the mask is of {mask_bt.dtype}; expected bool"
    assert x_btf.shape[0] == len(wave_bs), "there is no row of frames for each waveform"
    width = x_btf.shape[2]
    assert width == front_end.width, f"frames have {width} bins, and width is {front_end.width}"
    assert x_btf.dtype == torch.float32, f"frames are of {x_btf.dtype}; expected float32"
    assert mask_bt.any(dim=1).all(), "a waveform has no frame"
    assert x_btf[mask_bt].isfinite().all(), "frames are not finite"
    return x_btf, mask_bt


def _check_count(front_end: Any, count: int, seconds: float) -> None:
    """Check that frames follow each other at the hop, unless a waveform has one frame."""
    if count == 1 or getattr(front_end.config, "pad", False):
        return
    expected = seconds / front_end.hop
    slack = max(3.0, 0.1 / front_end.hop)
    assert abs(count - expected) <= slack, (
        f"{seconds} s have {count} frames, and a hop of {front_end.hop} s gives {expected:.0f}"
    )


def _check_extremes(front_end: Any) -> None:
    """Check silence, and the shortest recordings."""
    for name, wave_s in (
        ("silence", torch.zeros(front_end.rate // 2)),
        ("a recording of 10 ms", _make_wave(0.01, front_end.rate, 0)),
    ):
        try:
            _compute(front_end, wave_s[None], torch.tensor([len(wave_s)]))
        except AudioError:
            continue
        except (AssertionError, SereinError):
            raise
        except Exception as error:
            text = f"{name} raises {type(error).__name__} ({error}); expected frames or AudioError"
            raise AssertionError(text) from error


LABELS_OF_VALUES = (1.0, 3.5, None, 2.0, 5.0, 4.0)
"""Labels of a task of values, one of them missing."""
RIGHT_LOGIT = 4.0
"""Logit of the right class; the others are 0."""


@restore_torch_state()
def check_task(
    task: str | Any,
    *,
    settings: Mapping[str, Any] | None = None,
    classes: Sequence[str] = CLASSES["emotion"],
    width: int = 8,
) -> None:
    """Check a task against `serein.interfaces.Task`.

    Its attributes are there; a missing label is -1 or nan and changes neither the loss nor a
    gradient; an unknown class is a ConfigError; the loss is one finite number that does not depend
    on the order of a batch, is 0 without labels, and lower for right answers than for wrong ones;
    logits and decoding of an utterance do not depend on the others; probabilities sum to 1;
    every parameter gets a gradient; and the saved weights have all that the logits depend on.

    Args:
        task: dotted name of your module (or of a task of serein other than transcript), or a
            function that builds the task.
        settings: of the task, if it is given by name.
        classes: that it predicts; empty for a task of values.
        width: D of the vectors.

    Raises:
        AssertionError: a requirement is not met.
        SereinError: the task cannot be built.
    """
    build = _find_task(task, settings or {}, width, classes) if isinstance(task, str) else task
    torch.manual_seed(0)
    built = build()
    _check_task_attributes(built, classes)
    labels: Sequence[str | float | None] = LABELS_OF_VALUES
    if classes:
        labels = [classes[index % len(classes)] for index in (0, 1, 0, 2, 3, 1)]
        labels = [*labels[:2], None, *labels[3:]]
    target_b = _check_targets(built, labels, classes)
    built.fit_statistics(built.targets([None, None]))
    built.fit_statistics(target_b)
    x_bd = torch.randn(len(labels), width)
    with torch.no_grad():
        logits_bk = _check_logits(built, x_bd, classes)
        _check_loss(built, logits_bk, target_b)
        _check_answers(built, target_b, classes)
    _check_task_gradients(built, x_bd, target_b)
    if getattr(built.config, "targets", "labels") == "votes":
        _check_votes(built, logits_bk, target_b)
    if isinstance(built, torch.nn.Module):
        other = build()
        other.load_state_dict(built.state_dict())
        with torch.no_grad():
            _assert_close(other(x_bd), logits_bk, "saving changes the logits", 0.0)


def _find_task(
    name: str, settings: Mapping[str, Any], width: int, classes: Sequence[str]
) -> Callable[[], Any]:
    """Return what builds a task of a module."""
    module = registry.load_module("tasks", name)
    for attribute in ("Config", "Task"):
        assert hasattr(module, attribute), f"{name} lacks {attribute}"
    built_config = config.build_config(module.Config, settings, f"tasks.{name}")
    return lambda: module.Task(built_config, width, tuple(classes))


def _check_task_attributes(task: Any, classes: Sequence[str]) -> None:
    for name in ("targets", "fit_statistics", "loss", "decode"):
        assert callable(getattr(task, name, None)), f"the task has no method {name}"
    assert is_dataclass(getattr(task, "config", None)), "config is not a dataclass"
    weight = getattr(task.config, "weight", None)
    assert isinstance(weight, int | float), f"config.weight is {weight!r}; expected a number"
    found = getattr(task, "classes", None)
    assert found == tuple(classes), f"classes is {found!r}; expected {tuple(classes)}"


def _check_targets(
    task: Any, labels: Sequence[str | float | None], classes: Sequence[str]
) -> Tensor:
    target_b: Tensor = task.targets(list(labels))
    assert target_b.shape == (len(labels),), (
        f"targets of {len(labels)} labels are {tuple(target_b.shape)}; expected (B,)"
    )
    missing = [index for index, label in enumerate(labels) if label is None]
    if not classes:
        assert target_b.is_floating_point(), f"targets of values are {target_b.dtype}"
        assert target_b[missing].isnan().all(), "the target of a missing value is not nan"
        return target_b
    assert not target_b.is_floating_point(), f"targets of classes are {target_b.dtype}"
    expected = [-1 if label is None else list(classes).index(str(label)) for label in labels]
    assert target_b.tolist() == expected, f"targets are {target_b.tolist()}; expected {expected}"
    try:
        task.targets(["no such class"])
    except ConfigError:
        return target_b
    except Exception as error:
        text = f"an unknown class raises {type(error).__name__} ({error}); expected ConfigError"
        raise AssertionError(text) from error
    raise AssertionError("an unknown class gives a target; expected ConfigError")


def _check_logits(task: Any, x_bd: Tensor, classes: Sequence[str]) -> Tensor:
    logits_bk: Tensor = task(x_bd)
    expected = (len(x_bd), len(classes) or 1)
    shape = tuple(logits_bk.shape)
    assert shape == expected, f"logits are {shape}; expected (B, K) {expected}"
    assert logits_bk.isfinite().all(), "the logits are not finite"
    _assert_close(task(x_bd[1:2]), logits_bk[1:2], "the logits depend on the other utterances")
    decoded_bk: Tensor = task.decode(logits_bk)
    assert decoded_bk.shape == logits_bk.shape, (
        f"decode gives {tuple(decoded_bk.shape)}; expected {expected}"
    )
    alone_bk = task.decode(logits_bk[1:2])
    _assert_close(alone_bk, decoded_bk[1:2], "decode depends on the other utterances")
    if classes:
        assert (decoded_bk >= 0).all(), "decode gives negative probabilities"
        total_b = decoded_bk.sum(dim=1)
        _assert_close(total_b, torch.ones(len(x_bd)), "probabilities do not sum to 1")
    return logits_bk


def _check_loss(task: Any, logits_bk: Tensor, target_b: Tensor) -> None:
    loss: Tensor = task.loss(logits_bk, target_b)
    assert loss.shape == (), f"the loss is {tuple(loss.shape)}; expected one number"
    assert loss.isfinite(), "the loss is not finite"
    order = torch.arange(len(target_b) - 1, -1, -1)
    reverse = task.loss(logits_bk[order], target_b[order])
    _assert_close(reverse, loss, "the loss depends on the order of the batch")
    labelled_b = ~target_b.isnan() if target_b.is_floating_point() else target_b >= 0
    one = task.loss(logits_bk[labelled_b], target_b[labelled_b])
    _assert_close(one, loss, "utterances without a label change the loss")
    none = task.loss(logits_bk[~labelled_b], target_b[~labelled_b])
    assert none == 0, f"the loss without labels is {float(none)}; expected 0"


def _check_answers(task: Any, target_b: Tensor, classes: Sequence[str]) -> None:
    """Check that right answers have a lower loss than wrong ones, and are decoded as they are."""
    if classes:
        class_b = target_b.clamp(min=0)
        right_bk = torch.nn.functional.one_hot(class_b, len(classes)) * RIGHT_LOGIT
        wrong_bk = right_bk.roll(1, dims=1)
        chosen_b = task.decode(right_bk).argmax(dim=1)
        assert torch.equal(chosen_b, class_b), "the highest logit is not the most probable class"
    else:
        right_bk = target_b.nan_to_num(float(target_b.nanmean()))[:, None]
        wrong_bk = right_bk.flip(0)
    right, wrong = (float(task.loss(one_bk, target_b)) for one_bk in (right_bk, wrong_bk))
    assert right < wrong, f"right answers have a loss of {right:.3g}, and wrong ones {wrong:.3g}"


def _check_task_gradients(task: Any, x_bd: Tensor, target_b: Tensor) -> None:
    x_bd = x_bd.clone().requires_grad_()
    task.loss(task(x_bd), target_b).backward()
    gradient_bd = x_bd.grad
    assert gradient_bd is not None, "the loss has no gradient"
    assert gradient_bd.isfinite().all(), "gradients are not finite"
    labelled_b = ~target_b.isnan() if target_b.is_floating_point() else target_b >= 0
    has_gradient = bool(gradient_bd[~labelled_b].any())
    assert not has_gradient, "an utterance without a label has a gradient"
    if isinstance(task, torch.nn.Module):
        silent = [
            name
            for name, parameter in task.named_parameters()
            if parameter.grad is None or not parameter.grad.abs().sum() > 0
        ]
        task.zero_grad()
        assert not silent, f"parameters without a gradient: {', '.join(silent)}"


def _check_votes(task: Any, logits_bk: Tensor, target_b: Tensor) -> None:
    """Check the loss of a task that is trained on the distributions of raters' votes."""
    count = logits_bk.shape[1]
    rows: list[list[float] | None] = [None, None, None]
    rows += [[1 / count] * count for _ in range(len(target_b) - 3)]
    votes_bk: Tensor = task.vote_targets(rows)
    shape = tuple(votes_bk.shape)
    assert votes_bk.shape == logits_bk.shape, f"targets of votes are {shape}; expected (B, K)"
    assert votes_bk[:3].isnan().all(), "the target of an utterance without votes is not nan"
    with torch.no_grad():
        loss = task.loss(logits_bk, target_b, votes_bk)
        assert loss.isfinite(), "the loss of votes is not finite"
        kept = [0, 1, *range(3, len(target_b))]  # the third one has neither label nor votes
        one = task.loss(logits_bk[kept], target_b[kept], votes_bk[kept])
        _assert_close(one, loss, "utterances without label and votes change the loss")


def check_corpus(reader: str | ModuleType, root: Path | str, *, listens: bool = True) -> None:
    """Check a reader of a corpus on a copy of it, or on a miniature with its layout.

    It has ``ABOUT`` and ``read``; utterances are sorted, have unique ids, existing files, times
    within them, known genders, and labels that are text or numbers; reading twice gives the same;
    notes are texts; counts agree; and an empty folder is a CorpusError.

    Args:
        reader: dotted name of your module (or of a reader of serein), or the module.
        root: the folder of the corpus.
        listens: whether to read the duration of each file, too.

    Raises:
        AssertionError: a requirement is not met.
        SereinError: the corpus cannot be read.
    """
    module = registry.load_module("corpora", reader) if isinstance(reader, str) else reader
    name, root = module.__name__, Path(root)
    about = getattr(module, "ABOUT", None)
    assert isinstance(about, CorpusInfo), f"{name} has no ABOUT, a serein.records.CorpusInfo"
    assert about.title, f"{name}.ABOUT has no title"
    assert about.licence, f"{name}.ABOUT has no licence"
    assert callable(getattr(module, "read", None)), f"{name} has no function read(root)"
    takes_partial = "partial" in signature(module.read).parameters
    counts = getattr(module, "COUNTS", None)
    assert counts is None or takes_partial, f"{name} has COUNTS; read needs partial=False, too"
    options = {"partial": True} if takes_partial else {}
    utterances = list(module.read(root, **options))
    assert utterances, f"{name} reads no utterance from {root}"
    _check_utterances(name, utterances, listens=listens)
    again = list(module.read(root, **options))
    assert utterances == again, f"{name} reads other utterances at a second time"
    notes = module.notes(root, utterances) if hasattr(module, "notes") else []
    assert all(isinstance(note, str) for note in notes), f"{name}.notes returns no texts"
    total = sum(counts.values()) if counts else len(utterances)
    assert len(utterances) <= total, f"{name} reads {len(utterances)}; COUNTS add up to {total}"
    _check_empty_folder(module)


def _check_utterances(name: str, utterances: Sequence[Utterance], *, listens: bool) -> None:
    ids = [utterance.id for utterance in utterances]
    assert ids == sorted(ids), f"{name}: utterances are not sorted by id"
    assert len({*ids}) == len(ids), f"{name}: an id occurs twice"
    for utterance in utterances:
        where = f"{name}: utterance {utterance.id}"
        assert isinstance(utterance, Utterance), f"{where} is no serein.Utterance"
        assert utterance.path.is_file(), f"{where}: {utterance.path} does not exist"
        assert utterance.start >= 0, f"{where} starts at {utterance.start} s"
        end = utterance.end
        assert end is None or end > utterance.start, f"{where} ends at {end} s, before its start"
        assert utterance.gender in GENDERS, f"{where} has the gender {utterance.gender!r}"
        for label, value in utterance.labels.items():
            is_valid = isinstance(value, str | float) and value != ""
            assert is_valid, f"{where}: label {label} is {value!r}; expected text or a float"
        for attribute in ("speaker", "session", "dialogue", "text"):
            value = getattr(utterance, attribute)
            assert value != "", f"{where}: {attribute} is empty; expected None for unknown"
        if listens:
            seconds = audio.duration(utterance.path)
            last = utterance.start if end is None else end
            assert last <= seconds + DURATION_TOLERANCE, f"{where} ends after its file, {seconds} s"


def _check_empty_folder(module: ModuleType) -> None:
    with TemporaryDirectory() as folder:
        try:
            read = list(module.read(Path(folder)))
        except CorpusError:
            return
        except Exception as error:
            text = f"{module.__name__}.read of an empty folder raises {type(error).__name__}"
            raise AssertionError(f"{text} ({error}); expected CorpusError") from error
    assert not read, f"{module.__name__}.read finds utterances in an empty folder"
