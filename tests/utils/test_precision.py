"""Precision: bf16 is close to fp32 if the device has it; otherwise fp32 with a warning."""

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
from serein.utils import device
from serein.utils.device import (
    Precision,
    PrecisionSetting,
    autocast_context,
    flush_denormals,
    has_bf16,
    precision_warnings,
    resolve_precision,
    to_bf16,
)

SUBSET = random_subset([9, 30, 12, 5, 21, 17, 3, 40, 8, 26])
CONFIG = TrainingConfig(epochs=3, batch=5, rate=1e-3)
RATE = 16_000
WAVE = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
RECIPES = {
    "li2019": ["model.filters=32", "model.hidden=16", "model.init=torch"],
    "zhang2019": ["features.hop=16", "model.filters=8", "model.taps=5", "model.group=2"],
    "fu2020-single-task": [
        *("model.filters=[32,32,64]", "model.bottleneck=32", "model.hidden=16"),
        "model.init=glorot",
    ],
}
"""Small systems; the tolerances below are for initial weights of these sizes."""
with_bf16 = pytest.mark.skipif(
    not has_bf16("cpu"), reason="this processor has neither AVX512-BF16 nor AMX"
)


@pytest.fixture
def no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_bf16", lambda device: False)


@pytest.mark.parametrize(
    ("setting", "available", "wanted", "warnings"),
    [
        ("fp32", True, "fp32", 0),
        ("fp32", False, "fp32", 0),
        ("auto", True, "bf16", 0),
        ("auto", False, "fp32", 0),
        ("bf16", True, "bf16", 0),
        ("bf16", False, "fp32", 1),
    ],
)
def test_resolve_precision(
    monkeypatch: pytest.MonkeyPatch,
    setting: PrecisionSetting,
    available: bool,
    wanted: Precision,
    warnings: int,
) -> None:
    monkeypatch.setattr(device, "has_bf16", lambda device: available)
    assert resolve_precision(setting, "cpu") == wanted
    assert len(precision_warnings(setting, "cpu")) == warnings
    assert all("fp32" in words and "bf16" in words for words in precision_warnings(setting, "cpu"))


@pytest.mark.parametrize("cpu", [(False, False), (True, False), (False, True)])
def test_has_bf16_of_the_cpu(monkeypatch: pytest.MonkeyPatch, cpu: tuple[bool, bool]) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: cpu[0])
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: cpu[1])
    assert has_bf16("cpu") == any(cpu)


def test_has_bf16_of_a_gpu_ignores_emulation(monkeypatch: pytest.MonkeyPatch) -> None:
    def supported(*, including_emulation: bool = True) -> bool:
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert not has_bf16("cuda")


def test_an_unknown_precision_is_an_error() -> None:
    with pytest.raises(ConfigError, match="'fp16'; expected auto, fp32 or bf16"):
        resolve_precision("fp16", "cpu")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"training\.precision = 'fp16'"):
        config.build_config(TrainingConfig, {"precision": "fp16"}, "training")


# Close to fp32


def build_system(name: str) -> tuple[System, tuple[Tensor, Tensor], dict[str, Tensor]]:
    recipe = recipes.load(name, [*RECIPES[name], "model.dropout=0"])
    torch.manual_seed(0)
    system = System(recipe, dict.fromkeys(recipe.tasks, ("a", "b", "c")))
    mask_bt = torch.arange(40) < torch.tensor([40, 31, 3])[:, None]
    x_btf = torch.randn(3, 40, system.front_end.width)
    return system, (x_btf, mask_bt), {task: torch.arange(3) for task in recipe.tasks}


def compute_gradients(name: str, precision: Precision) -> tuple[Tensor, dict[str, Tensor]]:
    system, frames, targets = build_system(name)
    with autocast_context(precision, "cpu"):
        output = system({"frames": frames})
    logits = {task: x_bk.float() for task, x_bk in output.logits.items()}
    loss = system.loss(output._replace(logits=logits), targets)
    torch.autograd.backward(loss)
    found = {name: p.grad for name, p in system.named_parameters() if p.grad is not None}
    return loss.detach(), found


@with_bf16
@pytest.mark.parametrize("name", RECIPES)
def test_gradients_in_bf16_are_close(name: str) -> None:
    loss, found = compute_gradients(name, "fp32")
    other_loss, others = compute_gradients(name, "bf16")
    torch.testing.assert_close(other_loss, loss, rtol=0.01, atol=0)
    assert list(found) == list(others)
    for parameter, gradient in found.items():
        assert others[parameter].dtype == torch.float32
        difference = (others[parameter] - gradient).norm()
        assert difference <= 0.1 * gradient.norm() + 1e-4, parameter


@with_bf16
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("is_cast", [False, True], ids=["autocast", "to_bf16"])
def test_predictions_and_attention_in_bf16_are_close(name: str, is_cast: bool) -> None:
    system, frames, _ = build_system(name)
    system.eval()
    with torch.inference_mode():
        wanted = system({"frames": frames})
        other = to_bf16(system) if is_cast else system
        with autocast_context("bf16", "cpu"):
            found = other({"frames": frames})
    predictions = system.decode(found)
    for task, probabilities_bk in system.decode(wanted).items():
        torch.testing.assert_close(predictions[task], probabilities_bk, atol=0.01, rtol=0)
        assert predictions[task].dtype == torch.float32
    assert list(found.attention) == list(wanted.attention)
    for task, attention in wanted.attention.items():
        weight = found.attention[task].weight
        torch.testing.assert_close(weight, attention.weight, atol=0.01, rtol=0)
        torch.testing.assert_close(weight.sum(dim=-1), torch.ones(weight.shape[:-1]))


@with_bf16
def test_training_in_bf16_is_close() -> None:
    runs = {}
    for precision in ("fp32", "bf16"):
        system = small_system("model.dropout=0")
        settings = replace(CONFIG, precision=precision)
        runs[precision] = fit(system, SUBSET, {"test": SUBSET}, settings)
        assert {p.dtype for p in system.parameters()} == {torch.float32}
        last = predict_subset(system, SUBSET, 5, precision)["emotion"]
        torch.testing.assert_close(last, runs[precision].predictions[-1]["test"]["emotion"])
    one, other = runs["fp32"], runs["bf16"]
    losses = [epoch.loss for epoch in one.epochs]
    assert [epoch.loss for epoch in other.epochs] == pytest.approx(losses, rel=0.01)
    assert [epoch.loss for epoch in other.epochs] != losses


@with_bf16
def test_training_in_bf16_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    fit(small_system(), SUBSET, {}, replace(CONFIG, epochs=1, precision="bf16"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("no_bf16")
def test_training_without_bf16_equals_fp32() -> None:
    plain = fit(small_system(), SUBSET, {"test": SUBSET}, CONFIG)
    for setting in ("auto", "bf16"):
        found = fit(small_system(), SUBSET, {"test": SUBSET}, replace(CONFIG, precision=setting))
        assert [epoch.loss for epoch in found.epochs] == [epoch.loss for epoch in plain.epochs]
        assert torch.equal(
            found.predictions[-1]["test"]["emotion"], plain.predictions[-1]["test"]["emotion"]
        )


def compute_denormal() -> float:
    return float(torch.tensor(1e-39) * 1)


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot flush")
def test_flush_denormals_is_undone_after_the_context() -> None:
    assert compute_denormal() > 0
    with flush_denormals():
        assert compute_denormal() == 0
        with flush_denormals():
            assert compute_denormal() == 0
        assert compute_denormal() == 0
    assert compute_denormal() > 0
    with pytest.raises(ConfigError), flush_denormals():
        raise ConfigError("stop")
    assert compute_denormal() > 0


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot flush")
@pytest.mark.parametrize("flush", [True, False])
def test_fit_flushes_denormals_only_in_training_steps(flush: bool) -> None:
    seen = []
    system = small_system()
    system.register_forward_hook(lambda *_: seen.append((system.training, compute_denormal() == 0)))
    fit(system, SUBSET, {"test": SUBSET}, replace(CONFIG, epochs=1, flush_denormals=flush))
    assert seen == [(True, flush)] * 2 + [(False, False)] * 2
    assert compute_denormal() > 0


# Results and cards


def evaluate_small(corpus: Corpus, runs: Path, precision: str) -> Run:
    settings = [*QUICK, "training.epochs=1", f"training.precision={precision}"]
    return evaluate("li2019", corpus, settings=settings, runs=runs)


@with_bf16
def test_results_have_the_precision(corpus: Corpus, tmp_path: Path) -> None:
    for setting, wanted in {"fp32": "fp32", "auto": "bf16", "bf16": "bf16"}.items():
        results = evaluate_small(corpus, tmp_path, setting).results
        assert results.environment["precision"] == wanted
        assert results.warnings == []


@pytest.mark.usefixtures("no_bf16")
def test_results_warn_without_bf16(corpus: Corpus, tmp_path: Path) -> None:
    for setting, warned in {"fp32": False, "auto": False, "bf16": True}.items():
        results = evaluate_small(corpus, tmp_path, setting).results
        assert results.environment["precision"] == "fp32"
        assert any("bf16" in words for words in results.warnings) == warned


def test_runs_of_different_precision_have_different_folders(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = set()
    for available in (False, has_bf16("cpu")):
        monkeypatch.setattr(device, "has_bf16", lambda device, available=available: available)
        folders.add(evaluate_small(corpus, tmp_path, "auto").folder)
    assert len(folders) == len({False, available})


@pytest.mark.usefixtures("no_bf16")
def test_a_card_has_the_precision_and_the_warning(corpus: Corpus, tmp_path: Path) -> None:
    settings = [*QUICK, "training.epochs=1", "training.precision=bf16"]
    made = train("li2019", corpus, tmp_path / "a.safetensors", settings=settings)
    assert made.card.training["precision"] == "fp32"
    assert "bf16 was requested" in made.card.training["warning"]
    results = score_model(made, corpus)
    assert results.environment["precision"] == "fp32"
    assert any("bf16 was requested" in words for words in results.warnings)


# Recognition


def build_bundle(precision: str) -> Bundle:
    system = small_system("features.pad=false", f"training.precision={precision}")
    return Bundle(system.eval(), Card(name="small"))


@with_bf16
def test_precision_of_a_recognizer() -> None:
    assert Recognizer(build_bundle("fp32")).precision == "fp32"
    assert Recognizer(build_bundle("auto")).precision == "bf16"
    assert Recognizer(build_bundle("auto"), precision="fp32").precision == "fp32"
    assert Recognizer(build_bundle("fp32"), precision="bf16").precision == "bf16"
    with pytest.raises(ConfigError, match="expected auto, fp32 or bf16"):
        Recognizer(build_bundle("fp32"), precision="double")  # type: ignore[arg-type]


@with_bf16
def test_a_recognizer_in_bf16_is_close_and_does_not_change_the_bundle() -> None:
    given = build_bundle("fp32")
    before = {name: x.clone() for name, x in given.system.state_dict().items()}
    plain, quick = (Recognizer(given, precision=p, answer_nonspeech=True) for p in (None, "bf16"))
    wanted, found = plain((WAVE, RATE)), quick((WAVE, RATE))
    for task, one in wanted.tasks.items():
        assert found.tasks[task].probabilities == pytest.approx(one.probabilities, abs=0.01)
    assert found != wanted
    assert all(torch.equal(before[name], x) for name, x in given.system.state_dict().items())


@pytest.mark.usefixtures("no_bf16")
def test_a_recognizer_without_bf16_warns() -> None:
    fallback, plain = (
        Recognizer(build_bundle(setting), answer_nonspeech=True) for setting in ("bf16", "fp32")
    )
    assert fallback.precision == "fp32"
    assert len(fallback.warnings) == 1
    assert fallback((WAVE, RATE)).tasks == plain((WAVE, RATE)).tasks
    assert Recognizer(build_bundle("auto")).warnings == plain.warnings == []


@pytest.mark.usefixtures("no_bf16")
def test_the_command_warns_without_bf16(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, root: Path
) -> None:
    bundle.save(build_bundle("fp32"), tmp_path / "a.safetensors")
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
def test_frames_are_standardized_in_fp32() -> None:
    """Frames with a mean of thousands of deviations would lose all digits in bf16."""
    system = small_system("features.pad=false")
    seen: list[torch.dtype] = []
    system.normaliser.register_forward_hook(
        lambda _, given, standard: seen.extend([given[0].dtype, standard.dtype])
    )
    fit(system, SUBSET, {}, replace(CONFIG, epochs=1, precision="bf16"))
    assert set(seen) == {torch.float32}
