"""Weights that two saved models have in common, stored in the file of one of them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from builders.small_systems import small_system
from safetensors.numpy import load as unpacked
from safetensors.numpy import save as packed

from serein import bundle, model_file
from serein.bundle import Bundle, Card
from serein.errors import BundleError
from serein.features import whisper
from serein.inference import shipped_graphs
from serein.inference.hub_card import HubMetadata, write_hub_files
from serein.inference.model_loading import list_models
from serein.inference.recognizer import Recognizer
from serein.model_file import copy_model_file, read_metadata, read_model_file, share_weights
from serein.training.finetune import load_initial_weights

NOISE = (0.1 * np.random.default_rng(0).standard_normal(8_000).astype(np.float32), 16_000)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two models with the same network and other heads; the first has the weights of both."""
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    system, other = small_system(seed=0), small_system(seed=1)
    other.model.load_state_dict(system.model.state_dict())  # type: ignore[attr-defined]
    bundle.save(Bundle(system, Card("first")), first)
    bundle.save(Bundle(other, Card("second")), second)
    return first, second


def share(pair: tuple[Path, Path]) -> dict[str, bytes]:
    """Share the weights of a pair; return those of the second model before."""
    first, second = pair
    before = read_model_file(second)
    size = second.stat().st_size
    assert share_weights(second, first, "model.") > 3
    after = read_model_file(second)
    assert (after.document, after.sha256) == (before.document, before.sha256)
    assert second.stat().st_size < size
    return {name: x.tobytes() for name, x in before.tensors.items()}


def weights(path: Path) -> dict[str, bytes]:
    state = bundle.load(path).system.state_dict()
    return {name: x.numpy().tobytes() for name, x in state.items()}


def test_all_readers_get_all_weights(pair: tuple[Path, Path], tmp_path: Path) -> None:
    _, second = pair
    before = share(pair)
    assert weights(second) == before
    assert bundle.read_document(second)["card"]["name"] == "second"
    found = {name: x.tobytes() for name, x in read_model_file(second).tensors.items()}
    assert found == before
    started = small_system(seed=2)
    copied = load_initial_weights(started, str(second))
    assert {name: started.state_dict()[name].numpy().tobytes() for name in copied} == {
        name: before[name] for name in copied
    }
    bundle.save(bundle.load(second), tmp_path / "elsewhere" / "saved.safetensors")
    assert weights(tmp_path / "elsewhere" / "saved.safetensors") == before
    assert share_weights(second, pair[0], "model.") > 3, "again"
    assert weights(second) == before


def test_copies_are_whole(pair: tuple[Path, Path], tmp_path: Path) -> None:
    before = share(pair)
    for path in pair:
        copy_model_file(path, tmp_path / "copies" / path.name)
    pair[0].unlink()
    copies = tmp_path / "copies"
    assert weights(copies / "second.safetensors") == before
    assert "shared" not in read_metadata((copies / "second.safetensors").read_bytes())
    assert read_model_file(copies / "first.safetensors").document["card"]["name"] == "first"


def test_a_pushed_model_is_whole(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    monkeypatch.setattr(
        "serein.inference.onnx_export.to_onnx", lambda _, path, **options: path.write_bytes(b"onnx")
    )
    before, folder = share(pair), tmp_path / "push"
    loaded = bundle.load(pair[1])
    write_hub_files(loaded, pair[1], folder, "lab/second", HubMetadata("mit", ["de"], ["ours"]))
    assert weights(folder / "model.safetensors") == before
    digest = json.loads((folder / "config.json").read_text())["bundle_sha256"]
    assert digest == bundle.compute_bundle_digest(loaded)


def test_nothing_in_common_leaves_the_file_whole(pair: tuple[Path, Path]) -> None:
    first, second = pair
    assert share_weights(second, first, "encoder/") == 0
    assert "shared" not in read_metadata(second.read_bytes())
    assert bundle.load(second).card.name == "second"


def test_a_missing_file_is_one_clear_line(pair: tuple[Path, Path], tmp_path: Path) -> None:
    share(pair)
    alone = tmp_path / "alone" / "second.safetensors"
    alone.parent.mkdir()
    shutil.copy(pair[1], alone)
    words = r"takes \d+ weights from first.safetensors, which is not beside it; copy that file"
    for read in (bundle.load, read_model_file, lambda path: copy_model_file(path, tmp_path / "x")):
        with pytest.raises(BundleError, match=words) as caught:
            read(alone)
        assert "\n" not in str(caught.value)


def test_a_copy_of_a_shipped_model_takes_the_shipped_weights(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = share(pair)
    alone = tmp_path / "alone" / "second.safetensors"
    alone.parent.mkdir()
    shutil.copy(pair[1], alone)
    monkeypatch.setattr(model_file, "SHIPPED_FOLDER", pair[0].parent)
    assert weights(alone) == before
    same_name = alone.parent / "first.safetensors"
    bundle.save(Bundle(small_system(seed=3), Card("first")), same_name)
    assert weights(alone) == before
    same_name.write_bytes(b"text")
    assert weights(alone) == before


@pytest.mark.parametrize("change", ["other weights", "no such weights", "no model", "a folder"])
def test_an_altered_file_is_one_clear_line(pair: tuple[Path, Path], change: str) -> None:
    first, second = pair
    share(pair)
    words = "takes .*weights from .*first.safetensors, which .*; copy both files again"
    if change == "other weights":
        bundle.save(Bundle(small_system(seed=3), Card("first")), first)
    elif change == "no such weights":
        first.write_bytes(packed({"model.x": np.zeros(3)}))
    elif change == "no model":
        first.write_bytes(b"text")
    else:
        first.unlink()
        first.mkdir()
        words = "is not beside it"
    for read in (bundle.load, read_model_file, lambda path: copy_model_file(path, path)):
        with pytest.raises(BundleError, match=words):
            read(second)


@pytest.mark.parametrize(
    "entry",
    ["", "[]", "{}", '{"file": "../first.safetensors", "names": [], "sha256": ""}', "null", "["],
)
def test_a_damaged_entry_is_refused(pair: tuple[Path, Path], entry: str) -> None:
    _, second = pair
    content = second.read_bytes()
    metadata = {**read_metadata(content), "shared": entry}
    second.write_bytes(packed(unpacked(content), metadata))
    for read in (bundle.load, read_model_file, lambda path: copy_model_file(path, path)):
        with pytest.raises(BundleError, match="is not a serein model"):
            read(second)


def test_a_model_that_was_trained_again_gives_up_the_encoder_of_the_other(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write_graph(path: Path) -> None:
        for suffix in (".onnx", ".graph.json"):
            path.with_suffix(suffix).touch()

    models = dict(zip(("serein-base", "serein-base-noncommercial"), pair, strict=True))
    before = [weights(path) for path in pair]
    monkeypatch.setattr(shipped_graphs, "list_models", lambda: models)
    monkeypatch.setattr(shipped_graphs, "write_graph", write_graph)
    monkeypatch.setattr(shipped_graphs, "ENCODER_PREFIX", "model.")
    shipped_graphs.main([*models])
    assert capsys.readouterr().out.count("MB") == 4
    shared = ["shared" in read_metadata(path.read_bytes()) for path in pair]
    assert shared == [False, True]
    assert [weights(path) for path in pair] == before


def test_the_shipped_models_share_their_encoder_and_answer_as_whole_files(tmp_path: Path) -> None:
    path, base = (list_models()[f"serein-base{name}"] for name in ("-noncommercial", ""))
    entry = json.loads(read_metadata(path.read_bytes())["shared"])
    assert (entry["file"], len(entry["names"])) == (base.name, 64)
    graph = json.loads(path.with_suffix(".graph.json").read_text())
    assert read_model_file(path).sha256 == graph["sha256"]
    whole = tmp_path / path.name
    copy_model_file(path, whole)
    for suffix in (".onnx", ".graph.json"):
        shutil.copy(path.with_suffix(suffix), whole.with_suffix(suffix))
    for backend in ("onnx", "torch"):
        answers = [Recognizer(one, backend=backend)(NOISE).to_dict() for one in (path, whole)]
        assert answers[0] == answers[1], "to the last bit"


def test_the_encoder_of_a_shipped_model_is_found_in_either_file(tmp_path: Path) -> None:
    found = [
        whisper.find_encoder_weights(whisper.Config(encoder=name), layers=4).sha256
        for name in ("serein-base", "serein-base-noncommercial")
    ]
    assert found[0] == found[1]
    path = list_models()["serein-base-noncommercial"]
    shutil.copy(path, tmp_path)
    other = tmp_path / "serein-base.safetensors"
    bundle.save(Bundle(small_system(), Card()), other)
    copied = whisper.Config(encoder=str(tmp_path / path.name))
    assert whisper.find_encoder_weights(copied, layers=4).sha256 == found[0]
