"""Calibration: temperatures in bundles, thresholds, and withheld labels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.small_systems import small_system
from safetensors.torch import load as unpacked

from serein.bundle import Bundle, Card, ConfidenceCalibration, load, save
from serein.errors import BundleError, ConfigError
from serein.inference import formats
from serein.inference.recognizer import Recognizer

Make = Callable[..., Bundle]


@pytest.fixture
def bundle(tmp_path: Path) -> Make:
    def make(**confidence: ConfidenceCalibration) -> Bundle:
        system = small_system("features.pad=false").eval()
        save(Bundle(system, Card(name="small"), confidence), tmp_path / "a.safetensors")
        return load(tmp_path / "a.safetensors")

    return make


def noise() -> tuple[np.ndarray, int]:
    return np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32), 16_000


def test_bundle_keeps_its_calibration(bundle: Make) -> None:
    found = bundle(
        emotion=ConfidenceCalibration(
            temperature=2.5, threshold=0.4, description="by four speakers"
        )
    )
    assert found.confidence == {"emotion": ConfidenceCalibration(2.5, 0.4, "by four speakers")}
    assert found.system.temperatures == {"emotion": 2.5}
    assert "temperature 2.50, threshold 0.40 (by four speakers)" in formats.as_card(found)


def test_temperature_divides_the_logits(bundle: Make) -> None:
    plain, warm = bundle(), bundle(emotion=ConfidenceCalibration(temperature=2.0))
    before, after = (Recognizer(one, answer_nonspeech=True)(noise()) for one in (plain, warm))
    p = torch.tensor(list(before.tasks["emotion"].probabilities.values()))
    wanted = (p.log() / 2).softmax(dim=0)
    got = torch.tensor(list(after.tasks["emotion"].probabilities.values()))
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    assert after.tasks["gender"] == before.tasks["gender"]


def test_label_below_the_threshold_is_withheld(bundle: Make) -> None:
    saved = bundle(emotion=ConfidenceCalibration(threshold=0.99))
    sure = Recognizer(saved, answer_nonspeech=True)
    unsure = Recognizer(saved, confidence="auto", answer_nonspeech=True)
    assert sure(noise()).label is not None
    answer = unsure(noise())
    assert answer.label is None
    assert answer.tasks["gender"].label is not None
    assert answer.tasks["emotion"].probabilities == sure(noise()).tasks["emotion"].probabilities
    top = max(answer.tasks["emotion"].probabilities.values())
    assert answer.tasks["emotion"].confidence == top
    assert formats.as_csv([answer]).splitlines()[1].split(",")[3] == ""
    assert '"label": null' in formats.as_json([answer], {})


def test_confidence_is_the_threshold_of_every_task(bundle: Make) -> None:
    saved = bundle()
    answer = Recognizer(saved, confidence=1.0, answer_nonspeech=True)(noise())
    assert [found.label for found in answer.tasks.values()] == [None, None]
    table = formats.as_table([answer])
    assert list(table.columns[2].cells) == ["unsure"]
    everything = Recognizer(saved, confidence=0.0, answer_nonspeech=True)(noise())
    assert None not in [found.label for found in everything.tasks.values()]


@pytest.mark.parametrize("confidence", [-0.1, 1.1])
def test_confidence_out_of_range_is_refused(bundle: Make, confidence: float) -> None:
    with pytest.raises(ConfigError, match=r"expected 0 to 1, or auto"):
        Recognizer(bundle(), confidence=confidence)


def test_auto_confidence_needs_a_threshold_in_the_bundle(bundle: Make) -> None:
    with pytest.raises(ConfigError, match="has no threshold; give one"):
        Recognizer(bundle(), confidence="auto")


def test_temperature_of_zero_is_refused(bundle: Make, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="temperature"):
        bundle(emotion=ConfidenceCalibration(temperature=0.0))
    assert unpacked((tmp_path / "a.safetensors").read_bytes())
