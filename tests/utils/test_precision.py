"""bf16 close to fp32 where the machine has it, fp32 and a warning where it has not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.small_systems import QUICK, random_subset, small_system
from torch import Tensor

from serein import bundle, config, recipes
from serein.bundle import Bundle, Card
from serein.errors import ConfigError
from serein.evaluation.evaluate import Run, evaluate
from serein.evaluation.score_saved import score_model
from serein.evaluation.train import train
from serein.inference.recognizer import Recognizer
from serein.records import Corpus
from serein.system import System
from serein.training.config import TrainingConfig
from serein.training.loop import fit
from serein.training.predict import predict_subset
from serein.utils import device as precision
from serein.utils.device import (
    Precision,
    PrecisionSetting,
    autocast_context,
    flush_denormals,
    precision_warnings,
    resolve_precision,
    to_bf16,
)

SIDE = random_subset([9, 30, 12, 5, 21, 17, 3, 40, 8, 26])
SETTINGS = TrainingConfig(epochs=3, batch=5, rate=1e-3)
RATE = 16_000
WAVE = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
RECIPES = {
    "li2019": ["model.filters=32", "model.hidden=16"],
    "zhang2019": ["features.hop=16", "model.filters=8", "model.taps=5", "model.group=2"],
    "fu2020-single-task": ["model.filters=[32,32,64]", "model.bottleneck=32", "model.hidden=16"],
}
with_bf16 = pytest.mark.skipif(
    not precision.has_bf16("cpu"), reason="this processor has neither AVX512-BF16 nor AMX"
)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda device: False)


@pytest.mark.parametrize(
    ("asked", "there", "wanted", "warnings"),
    [
        ("fp32", True, "fp32", 0),
        ("fp32", False, "fp32", 0),
        ("auto", True, "bf16", 0),
        ("auto", False, "fp32", 0),
        ("bf16", True, "bf16", 0),
        ("bf16", False, "fp32", 1),
    ],
)
def test_what_is_computed_in(
    monkeypatch: pytest.MonkeyPatch,
    asked: PrecisionSetting,
    there: bool,
    wanted: Precision,
    warnings: int,
) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda device: there)
    assert resolve_precision(asked, "cpu") == wanted
    assert len(precision_warnings(asked, "cpu")) == warnings
    assert all("fp32" in words and "bf16" in words for words in precision_warnings(asked, "cpu"))


@pytest.mark.parametrize("cpu", [(False, False), (True, False), (False, True)])
def test_the_processor_is_asked(monkeypatch: pytest.MonkeyPatch, cpu: tuple[bool, bool]) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: cpu[0])
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: cpu[1])
    assert precision.has_bf16("cpu") == any(cpu)


def test_a_graphics_card_that_emulates_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def supported(*, including_emulation: bool = True) -> bool:
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert not precision.has_bf16("cuda")


def test_another_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="'fp16'; expected auto, fp32 or bf16"):
        resolve_precision("fp16", "cpu")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"training\.precision = 'fp16'"):
        config.build_config(TrainingConfig, {"precision": "fp16"}, "training")


# Close to fp32


def made(name: str) -> tuple[System, tuple[Tensor, Tensor], dict[str, Tensor]]:
    recipe = recipes.load(name, [*RECIPES[name], "model.dropout=0"])
    torch.manual_seed(0)
    system = System(recipe, dict.fromkeys(recipe.tasks, ("a", "b", "c")))
    mask_bt = torch.arange(40) < torch.tensor([40, 31, 3])[:, None]
    x_btf = torch.randn(3, 40, system.front_end.width)
    return system, (x_btf, mask_bt), {task: torch.arange(3) for task in recipe.tasks}


def gradients(name: str, numbers: Precision) -> tuple[Tensor, dict[str, Tensor]]:
    system, frames, targets = made(name)
    with autocast_context(numbers, "cpu"):
        output = system({"frames": frames})
    logits = {task: x_bk.float() for task, x_bk in output.logits.items()}
    loss = system.loss(output._replace(logits=logits), targets)
    torch.autograd.backward(loss)
    found = {name: p.grad for name, p in system.named_parameters() if p.grad is not None}
    return loss.detach(), found


@with_bf16
@pytest.mark.parametrize("name", RECIPES)
def test_gradients_are_close(name: str) -> None:
    loss, found = gradients(name, "fp32")
    other_loss, others = gradients(name, "bf16")
    torch.testing.assert_close(other_loss, loss, rtol=0.01, atol=0)
    assert list(found) == list(others)
    for parameter, gradient in found.items():
        assert others[parameter].dtype == torch.float32
        difference = (others[parameter] - gradient).norm()
        assert difference <= 0.1 * gradient.norm() + 1e-4, parameter


@with_bf16
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("prepared", [False, True], ids=["autocast", "rounded"])
def test_answers_and_attention_are_close(name: str, prepared: bool) -> None:
    system, frames, _ = made(name)
    system.eval()
    with torch.inference_mode():
        wanted = system({"frames": frames})
        other = to_bf16(system) if prepared else system
        with autocast_context("bf16", "cpu"):
            found = other({"frames": frames})
    answers = system.decode(found)
    for task, probabilities_bk in system.decode(wanted).items():
        torch.testing.assert_close(answers[task], probabilities_bk, atol=0.01, rtol=0)
        assert answers[task].dtype == torch.float32
    assert list(found.attention) == list(wanted.attention)
    for task, attention in wanted.attention.items():
        weight = found.attention[task].weight
        torch.testing.assert_close(weight, attention.weight, atol=0.01, rtol=0)
        torch.testing.assert_close(weight.sum(dim=-1), torch.ones(weight.shape[:-1]))


@with_bf16
def test_training_in_bf16_takes_nearly_the_same_course() -> None:
    courses = {}
    for numbers in ("fp32", "bf16"):
        system = small_system("model.dropout=0")
        settings = replace(SETTINGS, precision=numbers)
        courses[numbers] = fit(system, SIDE, {"test": SIDE}, settings)
        assert {p.dtype for p in system.parameters()} == {torch.float32}
        last = predict_subset(system, SIDE, 5, numbers)["emotion"]
        torch.testing.assert_close(last, courses[numbers].predictions[-1]["test"]["emotion"])
    one, other = courses["fp32"], courses["bf16"]
    losses = [epoch.loss for epoch in one.epochs]
    assert [epoch.loss for epoch in other.epochs] == pytest.approx(losses, rel=0.01)
    assert [epoch.loss for epoch in other.epochs] != losses


@with_bf16
def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    fit(small_system(), SIDE, {}, replace(SETTINGS, epochs=1, precision="bf16"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("without")
def test_without_bf16_a_training_is_that_in_fp32() -> None:
    plain = fit(small_system(), SIDE, {"test": SIDE}, SETTINGS)
    for asked in ("auto", "bf16"):
        found = fit(small_system(), SIDE, {"test": SIDE}, replace(SETTINGS, precision=asked))
        assert [epoch.loss for epoch in found.epochs] == [epoch.loss for epoch in plain.epochs]
        assert torch.equal(
            found.predictions[-1]["test"]["emotion"], plain.predictions[-1]["test"]["emotion"]
        )


def denormal() -> float:
    return float(torch.tensor(1e-39) * 1)


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot flush")
def test_denormal_numbers_are_flushed_within_and_not_behind() -> None:
    assert denormal() > 0
    with flush_denormals():
        assert denormal() == 0
        with flush_denormals():
            assert denormal() == 0
        assert denormal() == 0
    assert denormal() > 0
    with pytest.raises(ConfigError), flush_denormals():
        raise ConfigError("stop")
    assert denormal() > 0


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot flush")
@pytest.mark.parametrize("flush", [True, False])
def test_a_training_flushes_when_asked_and_in_its_steps_alone(flush: bool) -> None:
    seen = []
    system = small_system()
    system.register_forward_hook(lambda *_: seen.append((system.training, denormal() == 0)))
    fit(system, SIDE, {"test": SIDE}, replace(SETTINGS, epochs=1, flush_denormals=flush))
    assert seen == [(True, flush)] * 2 + [(False, False)] * 2
    assert denormal() > 0


# What is recorded


def evaluated(corpus: Corpus, runs: Path, asked: str) -> Run:
    settings = [*QUICK, "training.epochs=1", f"training.precision={asked}"]
    return evaluate("li2019", corpus, settings=settings, runs=runs)


@with_bf16
def test_results_say_what_was_computed_in(corpus: Corpus, tmp_path: Path) -> None:
    for asked, wanted in {"fp32": "fp32", "auto": "bf16", "bf16": "bf16"}.items():
        results = evaluated(corpus, tmp_path, asked).results
        assert results.environment["precision"] == wanted
        assert results.warnings == []


@pytest.mark.usefixtures("without")
def test_results_say_that_there_was_no_bf16(corpus: Corpus, tmp_path: Path) -> None:
    for asked, warned in {"fp32": False, "auto": False, "bf16": True}.items():
        results = evaluated(corpus, tmp_path, asked).results
        assert results.environment["precision"] == "fp32"
        assert any("bf16" in words for words in results.warnings) == warned


def test_a_run_in_other_numbers_is_another_run(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = set()
    for there in (False, precision.has_bf16("cpu")):
        monkeypatch.setattr(precision, "has_bf16", lambda device, there=there: there)
        folders.add(evaluated(corpus, tmp_path, "auto").folder)
    assert len(folders) == len({False, there})


@pytest.mark.usefixtures("without")
def test_a_card_says_what_it_was_trained_in(corpus: Corpus, tmp_path: Path) -> None:
    settings = [*QUICK, "training.epochs=1", "training.precision=bf16"]
    made = train("li2019", corpus, tmp_path / "a.safetensors", settings=settings)
    assert made.card.training["precision"] == "fp32"
    assert "bf16 was requested" in made.card.training["warning"]
    results = score_model(made, corpus)
    assert results.environment["precision"] == "fp32"
    assert any("bf16 was requested" in words for words in results.warnings)


# Recognition


def saved(asked: str) -> Bundle:
    system = small_system("features.pad=false", f"training.precision={asked}")
    return Bundle(system.eval(), Card(name="small"))


@with_bf16
def test_a_recogniser_follows_the_recipe_or_who_asks() -> None:
    assert Recognizer(saved("fp32")).precision == "fp32"
    assert Recognizer(saved("auto")).precision == "bf16"
    assert Recognizer(saved("auto"), precision="fp32").precision == "fp32"
    assert Recognizer(saved("fp32"), precision="bf16").precision == "bf16"
    with pytest.raises(ConfigError, match="expected auto, fp32 or bf16"):
        Recognizer(saved("fp32"), precision="double")  # type: ignore[arg-type]


@with_bf16
def test_a_recogniser_in_bf16_is_close_and_leaves_the_bundle_alone() -> None:
    given = saved("fp32")
    before = {name: x.clone() for name, x in given.system.state_dict().items()}
    plain, quick = (Recognizer(given, precision=p, answer_nonspeech=True) for p in (None, "bf16"))
    wanted, found = plain((WAVE, RATE)), quick((WAVE, RATE))
    for task, one in wanted.tasks.items():
        assert found.tasks[task].probabilities == pytest.approx(one.probabilities, abs=0.01)
    assert found != wanted
    assert all(torch.equal(before[name], x) for name, x in given.system.state_dict().items())


@pytest.mark.usefixtures("without")
def test_a_recogniser_without_bf16_says_so() -> None:
    fallen, plain = (
        Recognizer(saved(numbers), answer_nonspeech=True) for numbers in ("bf16", "fp32")
    )
    assert fallen.precision == "fp32"
    assert len(fallen.warnings) == 1
    assert fallen((WAVE, RATE)).tasks == plain((WAVE, RATE)).tasks
    assert Recognizer(saved("auto")).warnings == plain.warnings == []


@pytest.mark.usefixtures("without")
def test_the_command_says_that_there_is_no_bf16(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, root: Path
) -> None:
    bundle.save(saved("fp32"), tmp_path / "a.safetensors")
    file = sorted((root / "wav").iterdir())[0]
    words = ["recognize", file, "--model", tmp_path / "a.safetensors"]
    status, _, err = run(*words, "--precision", "bf16")
    assert status == 0
    assert err.startswith("serein: precision bf16 was requested")
    assert run(*words, "--precision", "auto")[2] == ""
    status, _, err = run(*words, "--precision", "fp8")
    assert status != 0
    assert "expected auto, fp32 or bf16" in err


@with_bf16
def test_frames_are_standardised_before_they_are_rounded() -> None:
    """A mean of thousands of deviations would take all digits that bf16 has."""
    system = small_system("features.pad=false")
    seen: list[torch.dtype] = []
    system.normaliser.register_forward_hook(
        lambda _, given, standard: seen.extend([given[0].dtype, standard.dtype])
    )
    fit(system, SIDE, {}, replace(SETTINGS, epochs=1, precision="bf16"))
    assert set(seen) == {torch.float32}
