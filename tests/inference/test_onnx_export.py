"""Exported models give the same results as the models themselves."""

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.audio_folders import small_recognizer, write_recordings
from builders.small_systems import SIZES, VALUE_TASKS, small_system
from builders.speech_streams import assert_same_segments

from serein import bundle, recipes
from serein.bundle import Bundle, Card, ConfidenceCalibration
from serein.errors import BundleError, ConfigError
from serein.inference import onnx_export
from serein.inference.model_loading import open_model
from serein.inference.onnx_export import build_onnx_system, to_onnx
from serein.inference.onnx_runtime import load_onnx
from serein.inference.recognizer import Recognizer
from serein.labels.vocabulary import SPECIAL_TOKENS
from serein.system import System
from serein.tasks.heads import RegressionTask

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

Run = Callable[..., tuple[int, str, str]]
RATE = 16_000
LI_VALUES = (*SIZES, *VALUE_TASKS, "features.pad=false")
LENGTHS = (400, 401, 799, 800, 1201, 4000, 15_999, 16_000, 41_234, 119_999, 120_000, 200_000)
LEVELS = ("high", "low", "middle")
ZHANG = ("model.filters=4", "model.group=2", "model.hidden=5")
FENG = ("model.hidden=5", "model.attention_hidden=6", "model.heads=2", "model.dense=7")
FU = (
    "features.bands=16",
    "model.filters=[8, 8, 8]",
    "model.bottleneck=8",
    "model.hidden=4",
    "model.heads=2",
    "model.head_size=4",
)
CONFIDENCE = {
    "emotion": ConfidenceCalibration(temperature=1.7, threshold=0.5, description="fitted")
}


def zhang(*settings: str) -> System:
    torch.manual_seed(1)
    recipe = recipes.load("zhang2019-mtl", [*ZHANG, *settings])
    return System(recipe, dict.fromkeys(recipe.tasks, LEVELS))


def fu(*settings: str) -> System:
    """With large weights, so that results depend on the audio."""
    torch.manual_seed(1)
    recipe = recipes.load("fu2020-multitask", [*FU, *settings])
    system = System(recipe, {"emotion": LEVELS, "speaker": ("a", "b")})
    with torch.no_grad():
        for weight in system.parameters():
            weight.mul_(3.0)
    return system


def with_values(name: str, *settings: str) -> System:
    """A system with tasks of values, which are far from 0, and of classes."""
    torch.manual_seed(1)
    recipe = recipes.load(name, [*settings, "tasks.sex={name='gender'}"])
    system = System(recipe, {task: ("f", "m") * (task == "sex") for task in recipe.tasks})
    for task in system.tasks.values():
        if isinstance(task, RegressionTask):
            task.mean.fill_(-3.0)
            task.deviation.fill_(0.5)
    return system


def li(*settings: str) -> System:
    return small_system("features.pad=false", *settings)


def export_and_load(system: System, folder: Path) -> tuple[Recognizer, Recognizer]:
    """Return recognizers of a model and of its exported file."""
    confidence = CONFIDENCE if system.classes.get("emotion") else {}
    made = Bundle(system.eval(), Card(name="mine", data="nothing"), confidence)
    to_onnx(made, folder / "mine.onnx")
    before = Recognizer(made, precision="fp32", answer_nonspeech=True)
    return before, Recognizer(folder / "mine.onnx", answer_nonspeech=True)


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(0, 0.1, count).astype(np.float32)


def check(before: Recognizer, after: Recognizer, lengths: tuple[int, ...]) -> None:
    assert after.classes == before.classes
    for count in lengths:
        ours, theirs = before((noise(count), RATE)), after((noise(count), RATE))
        assert (theirs.windows, theirs.end) == (ours.windows, ours.end)
        for task, answer in ours.tasks.items():
            assert theirs.tasks[task].probabilities == pytest.approx(answer.probabilities, abs=1e-4)
        assert theirs.values == pytest.approx(ours.values, abs=1e-4)
        assert theirs.attention.keys() == ours.attention.keys()
        for name, found in ours.attention.items():
            assert theirs.attention[name].times == found.times
            weights = np.array(theirs.attention[name].weights)
            np.testing.assert_allclose(weights, found.weights, atol=1e-4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def both(folder: Path) -> tuple[Recognizer, Recognizer]:
    return export_and_load(li(), folder)


def test_export_matches_at_every_length(both: tuple[Recognizer, Recognizer]) -> None:
    check(*both, LENGTHS)
    silence = np.zeros(8000, np.float32)
    ours, theirs = (one((silence, RATE)).tasks["emotion"] for one in both)
    assert theirs.probabilities == pytest.approx(ours.probabilities, abs=1e-4)


VARIANTS = [
    li("features.pad=true"),
    li("model.attention=false", "features.deltas=0", "model.taps=5", "model.pool=1"),
    li(
        "features.deltas=1", "features.bands=40", "model.separate=true", "normalise.statistics=none"
    ),
    li("normalise.statistics=utterance"),
    li("tasks.gender=remove", "features.seconds=1.5", "features.high=5000"),
    zhang("model.hops=3", "model.attention=false", "model.layers=1"),
    zhang("features.seconds=3.0", "model.separate=true"),
    fu("features.scale=log", "features.deltas=1", "features.seconds=1.5"),
    fu("model.taps=[3, 3, 5]", "model.layers=1", "model.separate=true", "features.pad=false"),
]


@pytest.mark.slow
@pytest.mark.parametrize("system", VARIANTS, ids=range(len(VARIANTS)))
def test_export_matches_for_every_variant(system: System, tmp_path: Path) -> None:
    check(*export_and_load(system, tmp_path), LENGTHS)


def test_export_matches_for_raw_frames(tmp_path: Path) -> None:
    lengths = (400, 639, 640, 641, 800, 801, 1201, 16_000, 41_234)
    check(*export_and_load(zhang(), tmp_path), lengths)


def test_export_matches_for_serein_base(tmp_path: Path) -> None:
    torch.manual_seed(1)
    sizes = ("filters=4", "channels=32", "hidden=32", "members=2")
    recipe = recipes.load("serein-light", [f"model.{size}" for size in sizes])
    system = System(recipe, {"emotion": LEVELS, "gender": ("f", "m")})
    with torch.no_grad():
        for weight in system.parameters():
            weight.mul_(2.0)
    check(*export_and_load(system, tmp_path), LENGTHS)


SHORTEST = (400, 800, 1200, 1600, 2000)
"""Numbers of samples of one to five frames; the convolutions of fu2020 need five."""


@pytest.mark.parametrize("pad", ["true", "false"])
def test_export_matches_for_local_and_self_attention(tmp_path: Path, pad: str) -> None:
    before, after = export_and_load(fu(f"features.pad={pad}"), tmp_path)
    assert (before.precision, after.precision, after.warnings) == ("fp32", "fp32", [])
    check(before, after, (*SHORTEST, 41_234, 101_999, 102_000, 102_001, 210_000))
    found = [after((noise(n), RATE)).tasks["emotion"].confidence for n in LENGTHS]
    assert max(found) - min(found) > 1e-3
    for wave_s in (np.zeros(8000, np.float32), 1e-5 * noise(8000)):
        ours, theirs = (one((wave_s, RATE)).tasks["emotion"] for one in (before, after))
        assert theirs.probabilities == pytest.approx(ours.probabilities, abs=1e-4)
    assert after((noise(4000), RATE)).attention["self"].queries


def test_attention_maps_of_different_lengths(tmp_path: Path) -> None:
    before, after = export_and_load(fu("features.pad=false"), tmp_path)
    waves = [(str(count), noise(count)) for count in (4000, 400, 41_234)]
    for ours, theirs in zip(before.predict_many(waves), after.predict_many(waves), strict=True):
        assert theirs.attention.keys() == ours.attention.keys() == {"local", "self"}
        for name, found in ours.attention.items():
            assert theirs.attention[name].times == found.times
            weights = np.array(theirs.attention[name].weights)
            np.testing.assert_allclose(weights, found.weights, atol=1e-4)
            assert weights.sum() == pytest.approx(len(weights))


@pytest.mark.parametrize("name", ["zhang2019-values", "li2019"])
def test_export_of_value_tasks(tmp_path: Path, name: str) -> None:
    small = ZHANG if name.startswith("zhang") else LI_VALUES
    before, after = export_and_load(with_values(name, *small), tmp_path)
    check(before, after, (400, 800, 1201, 16_000, 41_234))
    found = after((noise(16_000), RATE))
    assert "arousal" in found.values
    assert all(-5 < value < -1 for value in found.values.values())
    wave = np.concatenate([noise(16_000), noise(20_000)])
    one, other = (each.timeline((wave, RATE), speech=False, window=1.0) for each in (before, after))
    assert_same_segments(other.segments or [], one.segments or [])
    (given,) = onnxruntime.InferenceSession(tmp_path / "mine.onnx").get_inputs()
    assert given.name == "wave"


def test_exported_model_computes_in_fp32(tmp_path: Path) -> None:
    export_and_load(li(), tmp_path)
    file = tmp_path / "mine.onnx"
    for asked, words in ((None, 0), ("auto", 0), ("fp32", 0), ("bf16", 1)):
        one = Recognizer(file, precision=asked)  # type: ignore[arg-type]
        assert (one.precision, len(one.warnings)) == ("fp32", words)
    with pytest.raises(ConfigError, match="expected auto, fp32 or bf16"):
        Recognizer(file, precision="fp64")  # type: ignore[arg-type]


def test_exported_file_has_metadata(both: tuple[Recognizer, Recognizer], folder: Path) -> None:
    before, after = both
    session = onnxruntime.InferenceSession(folder / "mine.onnx")
    document = json.loads(session.get_modelmeta().custom_metadata_map["serein"])
    assert document["classes"]["emotion"] == list(before.classes["emotion"])
    assert document["recipe"]["features"]["name"] == "logmel"
    assert document["card"]["name"] == "mine"
    assert document["maps"] == {"heads": 3}
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape[0]) == ("wave", "tensor(float)", 1)
    names = [one.name for one in session.get_outputs()]
    assert names == ["emotion", "gender", "attention.heads"]
    assert (after.name, after.bundle.card) == ("mine", before.bundle.card)
    assert after.bundle.confidence == CONFIDENCE
    assert after.system.recipe == before.system.recipe
    assert Recognizer(folder / "mine.onnx", confidence="auto").thresholds["emotion"] == 0.5


def test_exported_model_has_its_own_digest_and_pickles(
    both: tuple[Recognizer, Recognizer], folder: Path
) -> None:
    before, after = both
    again = open_model(folder / "mine.onnx")
    assert (
        bundle.compute_bundle_digest(after.bundle)
        == bundle.compute_bundle_digest(again)
        != bundle.compute_bundle_digest(before.bundle)
    )
    copy = pickle.loads(pickle.dumps(after))
    check(before, copy, (4000,))


def test_exported_model_processes_a_folder(
    both: tuple[Recognizer, Recognizer], tmp_path: Path
) -> None:
    write_recordings(tmp_path / "voices")
    tables = [
        one.folder(tmp_path / "voices", tmp_path / f"{i}.csv").to_frame()
        for i, one in enumerate(both)
    ]
    found, wanted = (table["emotion_anger"].to_numpy() for table in tables)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def small(name: str, *settings: str) -> System:
    """A system of a recipe with large weights, so that results depend on the audio."""
    torch.manual_seed(1)
    recipe = recipes.load(name, settings)
    system = System(recipe, dict.fromkeys(recipe.tasks, LEVELS))
    with torch.no_grad():
        for weight in system.parameters():
            weight.mul_(2.0)
    return system


def probe(*settings: str) -> System:
    bands = ("features.name=logmel", "features.bands=16", "features.deltas=0")
    return small("ssl-probe", *bands, "model.states=4", "model.hidden=6", *settings)


RNN = ("model.name=rnn", "model.hidden=5", "features.bands=16")
OTHERS = {
    "svm": lambda: small("li2019", "model.name=svm", "features.bands=16"),
    "probe": lambda: probe("model.sparse=true", "model.attention=false"),
    "probe-attention": lambda: probe("model.sparse=false", "model.attention=true"),
    "rnn": lambda: small("li2019", *RNN),
    "rnn-stacks": lambda: small("li2019", *RNN, "model.stack=4", "model.attention=true"),
    "feng2020": lambda: small("feng2020-audio", *FENG),
    "feng2020-unpadded": lambda: small("feng2020-audio", *FENG, "model.pad=false"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "svm" else pytest.mark.slow) for name in OTHERS]
)
def test_export_matches_for_other_models(name: str, tmp_path: Path) -> None:
    before, after = export_and_load(OTHERS[name](), tmp_path)
    check(before, after, (400, 2000, 15_999, 41_234, 130_000))


def test_unsupported_model_error_says_why(
    tmp_path: Path, both: tuple[Recognizer, Recognizer]
) -> None:
    class Own(torch.nn.Module):
        pass

    class Fitted(Own):
        def fit(self) -> None: ...

    strange, fitted, loose = li(), li(), zhang("model.zero_pad_segments=false")
    strange.model, fitted.model = Own(), Fitted()  # type: ignore[assignment]
    text = recipes.load("feng2020-text", FENG)
    reading = System(text, dict.fromkeys(text.tasks, LEVELS), SPECIAL_TOKENS)
    path = tmp_path / "x.onnx"
    wrong = [
        (Bundle(strange, Card()), path, "li2019 cannot be exported: it is not written in"),
        (Bundle(fitted, Card()), path, "li2019 cannot be exported: it is an estimator, whose"),
        (Bundle(reading, Card()), path, "feng2020 with a text branch cannot be exported"),
        (Bundle(loose, Card()), path, "model.zero_pad_segments = true"),
        (both[0].bundle, tmp_path / "x.safetensors", r"name it .*x\.onnx"),
        (both[1].bundle, path, "an ONNX file already"),
    ]
    for made, place, words in wrong:
        with pytest.raises(ConfigError, match=words):
            to_onnx(made, place)
    assert list(tmp_path.iterdir()) == []


def test_export_with_wrong_outputs_is_not_written(
    tmp_path: Path,
    folder: Path,
    both: tuple[Recognizer, Recognizer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = (folder / "mine.onnx").read_bytes()
    monkeypatch.setattr(onnx_export, "export_graph", lambda _: content)
    other = Bundle(small_system("features.pad=false", seed=1).eval(), Card())
    with pytest.raises(ConfigError, match="not exported"):
        to_onnx(other, tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_export_leaves_the_model_unchanged() -> None:
    system = li()
    kept = {name: x.clone() for name, x in system.state_dict().items()}
    one = build_onnx_system(system)
    assert type(system.model).__name__ == "Model"
    assert type(one.model).__name__ == "ONNXModel"
    assert all(torch.equal(x, kept[name]) for name, x in system.state_dict().items())


@pytest.mark.parametrize("extra", ["onnx", "onnxscript"])
def test_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(ConfigError, match=r"serein\[onnx\]"):
        to_onnx(small_recognizer().bundle, tmp_path / "x.onnx")


def test_invalid_files_are_bundle_errors(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (folder / "mine.onnx").read_bytes()
    onnx = pytest.importorskip("onnx")
    foreign, newer, odd = (onnx.load_from_string(content) for _ in range(3))
    del foreign.metadata_props[:]
    texts = {"newer": json.dumps({"format": 99}), "odd": json.dumps({"format": 2, "recipe": 3})}
    for model, name in ((newer, "newer"), (odd, "odd")):
        model.metadata_props[0].value = texts[name]
    wrong = {
        "text": (b"not a model", "not an ONNX file that onnxruntime can run"),
        "cut": (content[:-1000], "not an ONNX file that onnxruntime can run"),
        "empty": (b"", "not an ONNX file that onnxruntime can run"),
        "foreign": (foreign.SerializeToString(), "was not written by this version"),
        "newer": (newer.SerializeToString(), "format 99"),
        "odd": (odd.SerializeToString(), "export the model again"),
    }
    for name, (bad, words) in wrong.items():
        (tmp_path / f"{name}.onnx").write_bytes(bad)
        with pytest.raises(BundleError, match=words):
            Recognizer(tmp_path / f"{name}.onnx")
    with pytest.raises(BundleError, match="No such file"):
        Recognizer(tmp_path / "gone.onnx")
    with pytest.raises(ConfigError, match="runs on the CPU"):
        open_model(folder / "mine.onnx", device="cuda")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match="onnxruntime is not installed: pip install"):
        load_onnx(content, "mine.onnx")


def test_export_command(run: Run, tmp_path: Path) -> None:
    bundle.save(small_recognizer().bundle, tmp_path / "small.safetensors")
    write_recordings(tmp_path / "voices", 1)
    status, out, err = run("export", "small.safetensors", "--onnx", "small.onnx")
    assert (status, err) == (0, "")
    assert out.startswith("small.onnx: ")
    status, card, _ = run("card", "small.onnx")
    assert (status, card) == (0, run("card", "small.safetensors")[1])
    words = ["recognize", "voices/a/00.wav", "--format", "json", "--model"]
    ours, theirs = (
        json.loads(run(*words, f"small.{kind}")[1])["recognized"][0]["tasks"]["emotion"]
        for kind in ("safetensors", "onnx")
    )
    assert theirs["probabilities"] == pytest.approx(ours["probabilities"], abs=1e-4)
    status, _, err = run("export", "small.safetensors", "--onnx", "small.pt")
    assert (status, err.count("\n")) == (2, 1)


def test_models_exported_with_old_setting_names_load(folder: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(folder / "mine.onnx")
    document = json.loads(model.metadata_props[0].value)
    document["recipe"]["protocol"]["longest"] = 20.0
    document["confidence"]["emotion"]["words"] = document["confidence"]["emotion"].pop(
        "description"
    )
    model.metadata_props[0].value = json.dumps(document | {"format": 2})
    loaded = load_onnx(model.SerializeToString(), "old.onnx")
    assert loaded.system.recipe.protocol["max_duration"] == 20.0
    assert loaded.confidence == CONFIDENCE
