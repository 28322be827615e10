"""The same answers by torch and by onnxruntime, and what happens where one of them is missing."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
import soundfile
from builders.audio_folders import small_recognizer
from builders.speech_streams import Wave, make_speech

from serein.errors import BackendError, BundleError, ConfigError, UnknownName
from serein.inference import model_loading, onnx_session
from serein.inference.backend import WindowPrediction
from serein.inference.explain import explain
from serein.inference.formats import as_card
from serein.inference.model_loading import list_models, open_backend
from serein.inference.recognizer import Recognizer
from serein.records import Corpus

Run = Callable[..., tuple[int, str, str]]
RATE = 16_000
MODELS = ("li2019-emodb", "serein-light", "serein-base")
TOLERANCE = 1e-4
WITHOUT_TORCH = """
import sys
for name in ("torch", "lightning_fabric", "silero_vad", "pyarrow", "plotly", "jinja2", "yaml"):
    sys.modules[name] = None
"""


@pytest.fixture(scope="module")
def speech(corpus: Corpus) -> Wave:
    return make_speech(corpus, 40.0, seed=3)


def make_recordings(speech: Wave, count: int) -> list[Wave]:
    """Speech of many levels and odd lengths, with offset, noise, clipping and digital silence."""
    generator = np.random.default_rng(7)
    recordings = []
    for number in range(count):
        length = int(generator.integers(500, 9 * RATE)) | 1
        start = int(generator.integers(0, len(speech) - length))
        wave = speech[start : start + length] * 10 ** generator.uniform(-2, 1)
        wave = wave + generator.choice([0, 0, 0.2]) + generator.normal(0, 1e-3, length)
        if number % 5 == 0:
            wave[length // 3 : length // 2] = 0
        recordings.append(np.clip(wave, -1, 1).astype(np.float32))
    return recordings


def compare(ours: WindowPrediction, theirs: WindowPrediction) -> None:
    assert ours.outputs.keys() == theirs.outputs.keys()
    for task, values in ours.outputs.items():
        assert theirs.outputs[task] == pytest.approx(values, abs=TOLERANCE)
    assert ours.attention.keys() == theirs.attention.keys()
    for name, (weight, stride) in ours.attention.items():
        other = theirs.attention[name]
        assert other.stride == stride
        steps = other.weight.shape[-1]
        np.testing.assert_allclose(other.weight, weight[..., :steps], atol=TOLERANCE)
        assert not weight[..., steps:].any()


def both(name: str) -> tuple[Recognizer, Recognizer]:
    torch, onnx = (
        Recognizer(name, backend=backend, precision="fp32") for backend in ("torch", "onnx")
    )
    assert (torch.backend.name, onnx.backend.name) == ("torch", "onnx")
    return torch, onnx


@pytest.mark.parametrize("name", MODELS)
def test_both_backends_agree(name: str, speech: Wave) -> None:
    torch, onnx = both(name)
    assert torch.description == onnx.description
    assert as_card(torch.description) == as_card(onnx.description) == as_card(torch.bundle)
    recordings = make_recordings(speech, 4)
    pairs = zip(
        torch.predict_batches(recordings, attention=True),
        onnx.predict_batches(recordings, attention=True),
        strict=True,
    )
    for ours, theirs in pairs:
        compare(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(list_models()))
def test_both_backends_agree_on_a_hundred_recordings(name: str, speech: Wave) -> None:
    torch, onnx = both(name)
    recordings = make_recordings(speech, 100)
    ours = torch.predict_batches(recordings, attention=True)
    for one, other in zip(ours, onnx.predict_batches(recordings, attention=True), strict=True):
        compare(one, other)


def test_whole_answers_streams_and_explanations_agree(speech: Wave) -> None:
    torch, onnx = both("li2019-emodb")
    speech = speech[: 11 * RATE]
    ours, theirs = torch((speech, RATE)), onnx((speech, RATE))
    assert (ours.windows, ours.label, ours.speech) == (theirs.windows, theirs.label, theirs.speech)
    assert ours.attention["heads"].times == theirs.attention["heads"].times
    lines = [one.timeline((speech, RATE), window=2.0).segments or [] for one in (torch, onnx)]
    assert len(lines[0]) == len(lines[1]) > 0
    for one, other in zip(*lines, strict=True):
        assert (one.start, one.end, one.label) == (other.start, other.end, other.label)
    drops = [explain(one, (speech[:RATE], RATE), method="occlusion") for one in (torch, onnx)]
    found = [one.occlusion["emotion"].drop for one in drops]
    assert found[0] == pytest.approx(found[1], abs=2 * TOLERANCE)


def test_a_pickled_backend_gives_the_same_answer(speech: Wave) -> None:
    recognizer = Recognizer("li2019-emodb", backend="onnx")
    again: Recognizer = pickle.loads(pickle.dumps(recognizer))
    wave = make_recordings(speech, 1)
    assert again.predict_batches(wave, attention=False) == recognizer.predict_batches(
        wave, attention=False
    )
    assert len(pickle.dumps(recognizer)) < 300_000  # the file has 1.4 MB


# The choice


def test_auto_takes_onnx_where_it_can() -> None:
    path = list_models()["li2019-emodb"]
    assert open_backend(path).name == "onnx"
    assert open_backend(path, precision="bf16").name == "torch"
    assert open_backend(path, trust=["my_lab"]).name == "torch"
    assert open_backend(path, "torch").name == "torch"
    with pytest.raises(ConfigError, match="backend onnx: precision bf16 needs torch"):
        open_backend(path, "onnx", precision="bf16")
    with pytest.raises(UnknownName, match="unknown backend 'onx'; did you mean 'onnx'"):
        open_backend(path, "onx")
    recognizer = small_recognizer()
    with pytest.raises(ConfigError, match="a bundle in memory is computed by torch"):
        Recognizer(recognizer.bundle, backend="onnx")


def test_many_windows_take_torch_if_frames_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = model_loading.choose_for_many_windows
    assert [choose("auto", name) for name in MODELS] == ["torch", "torch", "auto"]
    assert choose("onnx", "serein-light") == "onnx"
    monkeypatch.setattr("serein.inference.backend.find_spec", lambda name: None)
    assert choose("auto", "serein-light") == "auto"


def test_a_model_without_a_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.safetensors"
    shutil.copy(list_models()["li2019-emodb"], path)
    assert open_backend(path).name == "torch"
    with pytest.raises(ConfigError, match="mine has no ONNX form beside it"):
        open_backend(path, "onnx")
    monkeypatch.setattr("serein.inference.backend.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"ONNX form .* and torch is not installed: pip install 'serein\[train\]"
    ):
        open_backend(path)
    with pytest.raises(BundleError, match=r"gone\.safetensors: No such file"):
        open_backend(tmp_path / "gone.safetensors")
    with pytest.raises(ConfigError, match=r"device cuda needs torch; .* torch is not installed"):
        open_backend(list_models()["li2019-emodb"], device="cuda")


def copy_model(folder: Path, name: str = "li2019-emodb") -> Path:
    for suffix in (".safetensors", ".onnx", ".graph.json"):
        shutil.copy(list_models()[name].with_suffix(suffix), folder / f"mine{suffix}")
    return folder / "mine.safetensors"


def test_a_graph_of_another_model(tmp_path: Path) -> None:
    path = copy_model(tmp_path)
    sidecar = path.with_suffix(".graph.json")
    document = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({**document, "sha256": "0" * 64}))
    with pytest.raises(BundleError, match=r"mine\.onnx does not fit the model beside it"):
        open_backend(path, "onnx")
    fallback = open_backend(path)
    assert fallback.name == "torch"
    assert "does not fit the model beside it" in fallback.warnings[0]
    sidecar.write_text(json.dumps({**document, "initializers": {"w": {"tensor": "no"}}}))
    with pytest.raises(BundleError, match="was not written by this version"):
        open_backend(path, "onnx")
    sidecar.write_text("{")
    with pytest.raises(BundleError, match="was not written by this version"):
        open_backend(path, "onnx")


def test_a_graph_that_is_cut_short_or_lacks_an_output(tmp_path: Path) -> None:
    path = copy_model(tmp_path)
    graph = path.with_suffix(".onnx")
    content = graph.read_bytes()
    graph.write_bytes(content[: len(content) // 2])
    with pytest.raises(BundleError, match="is not an ONNX file that onnxruntime can run"):
        open_backend(path, "onnx")
    model = onnx.load_from_string(content)
    model.graph.output[0].name = "mood"
    for node in model.graph.node:
        node.output[:] = ["mood" if name == "emotion" else name for name in node.output]
    graph.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match="does not fit its card: it has no output emotion"):
        open_backend(path, "onnx")


# What is missing, old or broken


def test_onnxruntime_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    old = ModuleType("onnxruntime")
    old.__version__ = "1.8.1"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime", old)
    with pytest.raises(BackendError, match=r"onnxruntime is version 1\.8\.1, expected 1\.20 or"):
        onnx_session.import_onnxruntime()


def test_without_onnxruntime_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    path = list_models()["li2019-emodb"]
    with pytest.raises(BackendError, match="onnxruntime is not installed: pip install"):
        open_backend(path, "onnx")
    fallback = open_backend(path)
    assert (fallback.name, len(fallback.warnings)) == ("torch", 1)
    assert "li2019-emodb is computed by torch" in fallback.warnings[0]


@pytest.mark.parametrize("broken", ["onnxruntime", "torch"])
def test_a_broken_package_is_one_line(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = ImportError("libgomp.so.1: cannot open shared object file\nNo such file")
    path = list_models()["li2019-emodb"]
    name = {"onnxruntime": "onnx", "torch": "torch"}[broken]
    if broken == "onnxruntime":

        class Finder:
            def find_spec(self, name: str, *_: object) -> None:
                if name == "onnxruntime":
                    raise error

        monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
        monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    else:
        monkeypatch.setitem(sys.modules, "serein.inference.torch_backend", None)
    with pytest.raises(
        BackendError, match=f"{broken} is installed and cannot be imported"
    ) as raised:
        open_backend(path, name)
    assert "\n" not in str(raised.value)


def run_without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"{WITHOUT_TORCH}\nsys.argv = ['serein', *{list(arguments)!r}]\n"
    code += "from serein.cli import main\nmain()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_commands_without_torch(tmp_path: Path, speech: Wave) -> None:
    file = tmp_path / "speech.wav"
    soundfile.write(file, speech[: 3 * RATE], RATE)
    done = run_without_torch(
        "recognize", str(file), "-m", "li2019-emodb", "--format", "json", "--verbose"
    )
    assert done.stderr == "serein: li2019-emodb is computed by onnx, fp32\n"
    document = json.loads(done.stdout)
    (answer,) = document["recognized"]
    assert document["computed"] == {
        "model": "li2019-emodb",
        "backend": "onnx",
        "precision": "fp32",
    }
    assert set(answer["tasks"]) == {"emotion", "gender"}
    failed = run_without_torch("evaluate", "li2019", "--corpus", "emodb")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr == (
        "serein: torch is not installed, and this needs it: pip install 'serein[train]'\n"
    )


def test_an_import_for_a_service_loads_no_torch() -> None:
    code = "import sys, serein.service.app, serein.inference.explain, serein.inference.recognizer\n"
    code += "print([n for n in ('torch', 'pyarrow', 'plotly', 'jinja2') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_verbose_and_backend_options(run: Run, tmp_path: Path, speech: Wave) -> None:
    file = tmp_path / "speech.wav"
    soundfile.write(file, speech[:RATE], RATE)
    for backend in ("torch", "onnx"):
        status, _, errors = run(
            "recognize", file, "-m", "li2019-emodb", "--backend", backend, "--verbose"
        )
        assert (status, errors) == (0, f"serein: li2019-emodb is computed by {backend}, fp32\n")


def test_shipped_graphs_fit_their_models() -> None:
    for path in list_models().values():
        assert model_loading.open_backend(path, "onnx").warnings == []
