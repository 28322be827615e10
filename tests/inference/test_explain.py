"""Attention tracks of a model, and their correlation with the energy of the signal."""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import soundfile
import torch
from builders.small_systems import CLASSES, small_system
from builders.tiny_encoders import recipe_settings
from pydantic import TypeAdapter
from torch import Tensor, nn

from serein import recipes
from serein.audio import Samples, envelope
from serein.bundle import Bundle, Card, save
from serein.errors import AudioError, ConfigError, UnknownName
from serein.inference.explain import (
    average_correlations,
    collect_explanations,
    correlate_with_energy,
    encode_playback,
    explain,
    list_attention_recipes,
)
from serein.inference.recognition import AttentionMap, Recognition
from serein.inference.recognizer import Recognizer
from serein.layers.attention import AttentionWeights, ModelOutput
from serein.models import li2019
from serein.results import io as store
from serein.results.inference import Correlation, Explanation, Explanations
from serein.system import System

RATE = 16_000
LEVELS = ("low", "middle", "high")
SAME = "undefined: the energy is the same at every step"


def small_recognizer(*settings: str) -> Recognizer:
    system = small_system("features.pad=false", *settings).eval()
    return Recognizer(Bundle(system, Card(name="small")), answer_nonspeech=True)


def zhang_recognizer(name: str = "zhang2019-proxy", *settings: str) -> Recognizer:
    torch.manual_seed(0)
    sizes = ["model.filters=4", "model.group=2", "model.hidden=8", "model.layers=1"]
    recipe = recipes.load(name, [*sizes, *settings])
    system = System(recipe, dict.fromkeys(recipe.tasks, LEVELS)).eval()
    return Recognizer(Bundle(system, Card(name=name)), answer_nonspeech=True)


def speech(seconds: float = 3.0, seed: int = 0) -> np.ndarray:
    """Noise with a random loudness that changes twice a second."""
    draw = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    knots = np.arange(0, seconds + 0.5, 0.25)
    loudness = np.interp(time, knots, draw.uniform(-3, 0, len(knots)))
    return (10**loudness * draw.normal(0, 0.3, len(time))).astype(np.float32)


class ScriptedRecognizer(Recognizer):
    """A recognizer whose attention is a function of the energy around each step."""

    def weigh(self, energy_t: np.ndarray) -> np.ndarray:
        return energy_t + 101

    def predict_many(
        self, recordings: Sequence[tuple[str, Samples]], **options: Any
    ) -> list[Recognition]:
        (found,), ((_, wave_s),) = super().predict_many(recordings, **options), recordings
        times = found.attention["heads"].times
        weight_t = self.weigh(envelope.compute_energy(wave_s, RATE, times, 0.075))
        weights = [(weight_t / weight_t.sum()).tolist()]
        return [replace(found, attention={"heads": AttentionMap(times=times, weights=weights)})]


@pytest.fixture(scope="module")
def scripted() -> ScriptedRecognizer:
    return ScriptedRecognizer(Bundle(small_system("features.pad=false").eval(), Card(name="small")))


@pytest.mark.parametrize(
    ("shape", "pearson", "spearman"),
    [
        (lambda level: level + 101, 1.0, 1.0),
        (lambda level: -level, -1.0, -1.0),
        (lambda level: 10 ** (level / 10), None, 1.0),
    ],
)
def test_attention_that_follows_energy_has_correlation_one(
    scripted: ScriptedRecognizer,
    monkeypatch: pytest.MonkeyPatch,
    shape: object,
    pearson: float | None,
    spearman: float,
) -> None:
    monkeypatch.setattr(scripted, "weigh", shape)
    found = explain(scripted, (speech(), RATE)).attention["heads"].correlation
    assert found.spearman == pytest.approx(spearman)
    assert found.spearman_interval == pytest.approx((spearman, spearman))
    assert found.pearson is not None
    if pearson is None:
        assert 0 < found.pearson < 0.99
    else:
        assert found.pearson == pytest.approx(pearson)
    assert "steps as effective" in found.description


def test_independent_attention_has_correlation_near_zero(
    scripted: ScriptedRecognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(0)
    monkeypatch.setattr(scripted, "weigh", lambda level: draw.uniform(1, 2, len(level)))
    found = [explain(scripted, (speech(6.0, seed), RATE)) for seed in range(8)]
    mean = collect_explanations(found, {}).correlations["heads"]
    assert mean.count == 8
    for value, interval in (
        (mean.pearson, mean.pearson_interval),
        (mean.spearman, mean.spearman_interval),
    ):
        assert value == pytest.approx(0, abs=0.1)
        assert interval is not None
        assert interval[0] < 0 < interval[1]


@pytest.mark.parametrize(("make", "stride"), [(small_recognizer, 3), (zhang_recognizer, 1)])
def test_explanation_equals_the_attention_of_the_model(make: object, stride: int) -> None:
    recognizer = make()  # type: ignore[operator]
    wave_s = speech(1.5)
    found = explain(recognizer, (wave_s, RATE))
    system = recognizer.system
    with torch.inference_mode():
        inputs = system.extract_features(
            torch.from_numpy(wave_s)[None], torch.tensor([len(wave_s)])
        )
        output = system(inputs)
    assert set(found.attention) == set(output.attention)
    for name, (weight_bht, own) in output.attention.items():
        track = found.attention[name]
        assert own == stride
        assert track.step == pytest.approx(stride * system.front_end.hop)
        assert track.heads == [pytest.approx(row.tolist(), abs=1e-7) for row in weight_bht[0]]
        assert track.weight == pytest.approx(weight_bht[0].mean(dim=0).tolist(), abs=1e-7)
        assert sum(track.weight) == pytest.approx(1, abs=1e-5)
        expected = envelope.compute_energy(wave_s, RATE, track.times, track.width)
        assert track.energy == pytest.approx(expected.tolist())
    assert found.probabilities == {
        task: dict(zip(names, system.decode(output)[task][0].tolist(), strict=True))
        for task, names in system.classes.items()
    }
    assert found.envelope == envelope.compute_envelope(wave_s)


def test_tracks_have_their_tasks_and_skip_steps_without_weight() -> None:
    found = explain(zhang_recognizer(), (speech(1.0), RATE)).attention
    assert {name: track.tasks for name, track in found.items()} == {
        name: [name] for name in ("arousal", "valence", "dominance")
    }
    for track in found.values():  # no segment is centred on the first two frames or the last one
        assert (len(track.times), track.correlation.count) == (100, 97)
        assert track.width == 0.04
        assert track.by_head == []
    shared = explain(small_recognizer(), (speech(1.0), RATE)).attention["heads"]
    assert shared.tasks == ["emotion", "gender"]
    assert len(shared.by_head) == len(shared.heads) == 2
    assert shared.width == pytest.approx(0.075)
    apart = explain(small_recognizer("model.separate=true"), (speech(1.0), RATE)).attention
    assert {name: track.tasks for name, track in apart.items()} == {
        "emotion: heads": ["emotion"],
        "gender: heads": ["gender"],
    }


class Queries(nn.Module):
    """Attention with queries: the first half attends to the first step, the others to the last."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        encoded = self.inner(frames)
        weight_bht, stride = encoded.attention["heads"]
        steps = weight_bht.shape[-1]
        weight_bhqt = torch.zeros(*weight_bht.shape, steps)
        weight_bhqt[:, :, : steps // 2, 0] = 1
        weight_bhqt[:, :, steps // 2 :, -1] = 1
        return ModelOutput(encoded.vectors, {"layer": AttentionWeights(weight_bhqt, stride)})


def test_maps_with_queries_are_averaged() -> None:
    recognizer = small_recognizer()
    recognizer.system.model = Queries(recognizer.system.model)  # type: ignore[assignment, arg-type]
    track = explain(recognizer, (speech(1.19), RATE)).attention["layer"]
    assert track.queries
    steps = len(track.times)
    assert track.weight[0] == pytest.approx(steps // 2 / steps)
    assert track.weight[-1] == pytest.approx(1 - steps // 2 / steps)
    assert sum(track.weight) == pytest.approx(1)
    assert not explain(small_recognizer(), (speech(1.0), RATE)).attention["heads"].queries


def test_times_of_a_part_count_from_the_start_of_the_recording(tmp_path: Path) -> None:
    wave_s = speech(3.0)
    soundfile.write(tmp_path / "speech.wav", wave_s, RATE, subtype="FLOAT")
    recognizer = small_recognizer()
    part = explain(recognizer, tmp_path / "speech.wav", start=1.0, end=2.5)
    alone = explain(recognizer, (wave_s[RATE : 5 * RATE // 2], RATE))
    assert (part.start, part.end) == (1.0, 2.5)
    there, here = part.attention["heads"], alone.attention["heads"]
    assert there.times == pytest.approx([1 + time for time in here.times])
    assert there.energy == pytest.approx(here.energy)
    assert there.correlation == here.correlation


def test_long_recordings_use_windows_and_longer_ones_are_refused() -> None:
    found = explain(small_recognizer(), (speech(20.0), RATE))
    assert len(found.windows) == 3
    assert found.attention["heads"].correlation.count == len(found.attention["heads"].times)
    hours = (np.zeros(400 * 1000, np.float32), 1000)
    with pytest.raises(AudioError, match=r"more than 300 s .* Choose a part"):
        explain(small_recognizer(), hours)
    assert explain(small_recognizer(), hours, start=399.0).end == pytest.approx(400)


@pytest.mark.parametrize(
    ("wave_s", "words"),
    [
        (
            np.zeros(2 * RATE, np.float32),
            "undefined: the energy is the same at every step (silence)",
        ),
        (np.full(2 * RATE, 0.1, np.float32), "undefined: the energy is the same at every step"),
        (speech(0.03), "undefined: 1 step"),
        (
            speech(0.35),
            "no interval: 3.9 of 5 steps as effective, by their autocorrelation; 5 are needed",
        ),
    ],
)
def test_undefined_correlation_is_none_with_a_reason(wave_s: np.ndarray, words: str) -> None:
    found = explain(small_recognizer(), (wave_s, RATE)).attention["heads"].correlation
    assert found.description == words
    assert found.pearson_interval is None
    assert (found.pearson is None) == (found.spearman is None) == words.startswith("undefined")


def test_recording_shorter_than_one_segment_has_one_step() -> None:
    found = explain(zhang_recognizer(), (speech(0.03), RATE)).attention["valence"]
    assert sum(found.weight) == pytest.approx(1)
    assert found.correlation.description == "undefined: 1 step"


def test_correlation_of_constant_attention() -> None:
    level_t = np.linspace(-60, 0, 100)
    even = np.full(100, 0.01, np.float32) + np.float32(1e-9)
    assert correlate_with_energy(even, level_t).description.endswith("is the same at every step")
    peak = np.r_[np.ones(99), 2.0]
    found = correlate_with_energy(peak, level_t)
    assert found.pearson is not None
    assert found.pearson_interval is not None
    assert found.pearson_interval[0] < 0 < found.pearson_interval[1]
    # A line over 200 steps is no more certain than five of them.
    rising = correlate_with_energy(np.arange(200.0), np.arange(200.0))
    assert rising.pearson_interval is None
    assert "no interval: 4.9 of 200 steps as effective" in rising.description


def test_average_correlations_skips_undefined_ones() -> None:
    def one(value: float | None) -> Correlation:
        return Correlation(
            count=30,
            pearson=value,
            pearson_interval=None,
            spearman=value,
            spearman_interval=None,
            description="",
        )

    few = average_correlations([one(0.2), one(None)])
    assert (few.count, few.pearson_interval) == (1, None)
    assert few.pearson == few.spearman == pytest.approx(0.2)
    assert few.description == "no interval: 1 file; 2 are needed; undefined in 1 more"
    values = np.random.default_rng(0).uniform(-0.5, 0.5, 30)
    many = average_correlations([one(float(value)) for value in values])
    half = scipy.stats.t.ppf(0.975, 29) * values.std(ddof=1) / np.sqrt(30)
    bounds = values.mean() - half, values.mean() + half
    assert many.pearson_interval == pytest.approx(bounds, abs=0.005)
    assert many.description == "95 % jackknife over 30 files, assumed to be independent"
    assert average_correlations([one(None)]).description == "undefined: in every file"


def test_error_of_a_model_without_attention_lists_models_with_attention() -> None:
    for recognizer in (
        small_recognizer("model.attention=false"),
        zhang_recognizer("zhang2019-proxy-mtl"),
    ):
        with pytest.raises(ConfigError, match="has no attention to explain") as raised:
            explain(recognizer, (speech(1.0), RATE), method="attention")
        assert "li2019-emodb, serein-light; recipes" in str(raised.value)
    assert {"li2019", "zhang2019", "zhang2019-proxy-stl-attention"} <= set(list_attention_recipes())
    assert not {
        name for name in list_attention_recipes() if "no-attention" in name or name.endswith("mtl")
    }


def test_explain_takes_any_model_and_source(tmp_path: Path) -> None:
    system = small_system("features.pad=false").eval()
    bundle = Bundle(system, Card(name="small"))
    save(bundle, tmp_path / "small.safetensors")
    wave_s = speech(1.0)
    soundfile.write(tmp_path / "a.wav", wave_s, RATE, subtype="FLOAT")
    content = (tmp_path / "a.wav").read_bytes()
    first = explain(bundle, (wave_s, RATE)).attention
    for model in (tmp_path / "small.safetensors", Recognizer(bundle)):
        for source in (tmp_path / "a.wav", content, io.BytesIO(content)):
            assert explain(model, source).attention == first
    with pytest.raises(UnknownName, match="li2019-emodb"):
        explain("nothing", content)
    with pytest.raises(AudioError, match="does not exist"):
        explain(bundle, tmp_path / "missing.wav")


def test_json_round_trip() -> None:
    found = [
        explain(small_recognizer(), (wave_s, RATE)) for wave_s in (speech(2.0), np.zeros(RATE))
    ]
    record = collect_explanations(
        found, {"gone.wav": "gone.wav does not exist"}, "serein explain a.wav"
    )
    text = store.to_json(record)
    back = TypeAdapter(Explanations).validate_json(text, strict=True)
    assert store.to_json(back) == text
    document = json.loads(text)
    assert document["format"] == 3
    assert document["failed"] == {"gone.wav": "gone.wav does not exist"}
    second = document["explained"][1]["attention"]["heads"]["correlation"]
    assert second["pearson"] is None
    assert "silence" in second["description"]
    first = back.explained[0].attention["heads"]
    assert first.times == pytest.approx(found[0].attention["heads"].times, rel=1e-5)
    assert isinstance(back.explained[0], Explanation)


def test_playback_is_the_part_at_16_bits() -> None:
    wave_s = 2 * speech(2.0)
    content = base64.b64decode(encode_playback((wave_s, RATE), start=0.5, end=1.5))
    samples, rate = soundfile.read(io.BytesIO(content))
    assert rate == RATE
    expected = np.clip(wave_s[RATE // 2 : 3 * RATE // 2], -1, 1)
    assert samples == pytest.approx(expected, abs=1e-4)


def test_every_recipe_with_attention_is_explained(tmp_path: Path) -> None:
    for name in list_attention_recipes():
        recipe = recipes.load(name, recipe_settings(name, tmp_path))
        classes = {task: CLASSES.get(task, LEVELS) for task in recipe.tasks}
        system = System(recipe, classes).eval()
        found = explain(Bundle(system, Card(name=name)), (speech(1.0), RATE))
        assert found.attention
        assert sorted(
            {task for track in found.attention.values() for task in track.tasks}
        ) == sorted(classes)
    assert li2019.Config().attention
