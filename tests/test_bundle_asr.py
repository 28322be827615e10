"""Saved models with the speech recogniser (ASR) that makes their words."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.word_systems import small_asr, small_joint_model, small_text_model
from safetensors.torch import load as unpacked
from safetensors.torch import save as packed

from serein import bundle
from serein.bundle import Bundle, compute_bundle_digest, count_megabytes, load, save
from serein.errors import BundleError, ConfigError

Document = dict[str, Any]
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("asr") / "reader.safetensors"
    save(small_text_model(asr=small_asr()), path)
    return path.read_bytes()


@pytest.fixture
def path(content: bytes, tmp_path: Path) -> Path:
    file = tmp_path / "reader.safetensors"
    file.write_bytes(content)
    return file


def read_metadata(content: bytes) -> dict[str, str]:
    size = struct.unpack("<Q", content[:8])[0]
    metadata: dict[str, str] = json.loads(content[8 : 8 + size])["__metadata__"]
    return metadata


def forge(
    path: Path,
    asr_document: Callable[[Document], object] = lambda document: None,
    tensors: Callable[[Tensors], object] = lambda tensors: None,
) -> None:
    """Change the recogniser in a file and correct all hashes, as an attacker could."""
    content = path.read_bytes()
    metadata, values = read_metadata(content), unpacked(content)
    main, asr = json.loads(metadata["serein"]), json.loads(metadata["asr"])
    asr_document(asr)
    tensors(values)
    text = json.dumps(asr)
    of_asr = {name.removeprefix("asr/"): x for name, x in values.items() if name.startswith("asr/")}
    of_main = {name: x for name, x in values.items() if not name.startswith("asr/")}
    main["asr"] = {"sha256": bundle._compute_digest(text, of_asr)}
    main_text = json.dumps(main)
    digest = bundle._compute_digest(main_text, of_main)
    path.write_bytes(packed(values, {"serein": main_text, "sha256": digest, "asr": text}))


def test_the_recogniser_is_loaded_as_it_was_saved(path: Path) -> None:
    asr, found = small_asr(), load(path)
    assert found.asr is not None
    assert found.asr.card == asr.card
    assert found.asr.system.words == asr.system.words
    assert found.asr.system.recipe == asr.system.recipe
    assert not found.asr.system.training
    wanted = asr.system.state_dict()
    assert all(torch.equal(x, wanted[n]) for n, x in found.asr.system.state_dict().items())
    assert found.system.words == small_text_model().system.words


def test_the_embedded_recogniser_has_the_hash_of_its_own_file(path: Path, tmp_path: Path) -> None:
    alone = tmp_path / "ear.safetensors"
    save(small_asr(), alone)
    from_file = small_text_model(asr=load(alone))
    save(from_file, path)
    embedded = json.loads(read_metadata(path.read_bytes())["serein"])["asr"]["sha256"]
    assert embedded == read_metadata(alone.read_bytes())["sha256"]
    found = load(path)
    assert found.asr is not None
    assert compute_bundle_digest(found.asr) == embedded
    assert compute_bundle_digest(found) == read_metadata(path.read_bytes())["sha256"]


def test_saving_a_loaded_model_writes_the_same_file(path: Path, content: bytes) -> None:
    save(load(path), path)
    assert read_metadata(path.read_bytes()) == read_metadata(content)
    before, after = unpacked(content), unpacked(path.read_bytes())
    assert set(before) == set(after)
    assert all(torch.equal(x, after[name]) for name, x in before.items())


def test_weights_of_the_recogniser_have_a_prefix(content: bytes) -> None:
    names = {f"asr/{name}" for name in small_asr().system.state_dict()}
    assert set(unpacked(content)) == names | set(small_text_model().system.state_dict())


def test_only_a_model_with_a_recogniser_needs_the_newest_format(path: Path, tmp_path: Path) -> None:
    def read_format(file: Path) -> int:
        return int(json.loads(read_metadata(file.read_bytes())["serein"])["format"])

    assert read_format(path) == 5
    for model in (small_text_model(), small_asr(), small_joint_model()):
        save(model, tmp_path / "other.safetensors")
        assert read_format(tmp_path / "other.safetensors") == 4
        assert load(tmp_path / "other.safetensors").asr is None


def test_older_document_of_a_recogniser_can_be_embedded(path: Path) -> None:
    """A recogniser that an earlier version saved keeps its document, with old names."""

    def to_format_3(document: Document) -> None:
        document["format"] = 3
        document["recipe"]["model"]["longest"] = document["recipe"]["model"].pop("max_steps")
        document["card"]["heard"] = document["card"].pop("file_hashes")

    forge(path, to_format_3)
    found = load(path)
    assert found.asr is not None
    assert found.asr.system.recipe.model["max_steps"] == 5
    digest = compute_bundle_digest(found)
    save(found, path)
    assert compute_bundle_digest(load(path)) == digest


# Damage


def test_a_changed_byte_of_the_recogniser_is_an_error(path: Path, content: bytes) -> None:
    size = struct.unpack("<Q", content[:8])[0]
    spans = json.loads(content[8 : 8 + size])
    for name in ("asr/model.recogniser.decoder.output.bias", "asr/normaliser.mean_f"):
        changed = bytearray(content)
        changed[8 + size + spans[name]["data_offsets"][0]] ^= 1
        path.write_bytes(bytes(changed))
        with pytest.raises(BundleError, match="was changed after it was saved"):
            load(path)
    path.write_bytes(content.replace(b"made up", b"stolen!"))
    with pytest.raises(BundleError, match="was changed after it was saved"):
        load(path)


def test_another_recogniser_in_its_place_is_an_error(path: Path, content: bytes) -> None:
    other = small_asr(seed=5)
    values = {n: x for n, x in unpacked(content).items() if not n.startswith("asr/")}
    values |= {f"asr/{n}": x for n, x in other.system.state_dict().items()}
    metadata = read_metadata(content) | {"asr": bundle.bundle_to_json(other)}
    path.write_bytes(packed(values, metadata))
    with pytest.raises(BundleError, match="was changed after it was saved"):
        load(path)


def test_a_recogniser_that_was_removed_or_added_is_an_error(path: Path, content: bytes) -> None:
    metadata, values = read_metadata(content), unpacked(content)
    without = {name: text for name, text in metadata.items() if name != "asr"}
    path.write_bytes(packed(values, without))
    with pytest.raises(BundleError, match="was changed after it was saved"):
        load(path)
    own = {name: x for name, x in values.items() if not name.startswith("asr/")}
    path.write_bytes(packed(own, without))
    with pytest.raises(BundleError, match="was changed after it was saved"):
        load(path)
    save(small_text_model(), path)
    plain = read_metadata(path.read_bytes()) | {"asr": metadata["asr"]}
    path.write_bytes(packed(values, plain))
    with pytest.raises(BundleError, match="was changed after it was saved"):
        load(path)


@pytest.mark.parametrize("text", ["", "{", "3", "[]", "null", '"asr"', "{}"])
def test_a_recogniser_of_another_structure_is_an_error(
    path: Path, content: bytes, text: str
) -> None:
    metadata = read_metadata(content) | {"asr": text}
    path.write_bytes(packed(unpacked(content), metadata))
    with pytest.raises(BundleError):
        load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(format=6),
        lambda document: document.pop("recipe"),
        lambda document: document["recipe"]["model"].update(name="my_lab.evil"),
        lambda document: document["recipe"]["model"].update(encoder_hidden=7),
        lambda document: document["recipe"]["features"].update(rate=8_000),
        lambda document: document["recipe"]["text"].update(weight=0),
        lambda document: document.update(words=["a", "b"]),
        lambda document: document["card"].update(colour="red"),
    ],
)
def test_a_recogniser_that_does_not_fit_is_an_error(
    path: Path, change: Callable[[Document], object]
) -> None:
    forge(path, change)
    with pytest.raises(BundleError):
        load(path)


def test_a_recogniser_imports_no_module(path: Path) -> None:
    forge(path, lambda document: document["recipe"]["features"].update(name="os.path"))
    with pytest.raises(BundleError, match=r"would import \['os.path'\]"):
        load(path)


def test_additional_weights_of_a_recogniser_are_an_error(path: Path) -> None:
    forge(path, tensors=lambda tensors: tensors.update({"asr/model.more": torch.zeros(2)}))
    with pytest.raises(BundleError, match=r"weight model\.more has shape \(2,\)"):
        load(path)


# Models that are no recognisers


@pytest.mark.parametrize("kind", ["text", "audio"])
def test_a_model_that_does_not_transcribe_is_no_recogniser(kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"other \(feng2020-{kind}\) does not recognise words"):
        small_text_model(asr=small_text_model(kind, name="other"))


def test_a_recogniser_of_another_rate_is_an_error() -> None:
    slow = small_asr("features.rate=8000", "features.window=200", "features.hop=80")
    with pytest.raises(ConfigError, match=r"ear \(feng2020-asr\) reads audio of 8000 Hz"):
        small_text_model(asr=slow)


def test_a_joint_model_can_be_the_recogniser(tmp_path: Path) -> None:
    save(small_text_model(asr=small_joint_model()), tmp_path / "a.safetensors")
    found = load(tmp_path / "a.safetensors").asr
    assert isinstance(found, Bundle)
    assert found.system.classes == small_joint_model().system.classes


def test_megabytes_are_those_of_the_weights(content: bytes, tmp_path: Path) -> None:
    save(small_text_model(), tmp_path / "a.safetensors")
    difference = len(content) - (tmp_path / "a.safetensors").stat().st_size
    weights = 1e6 * count_megabytes(small_asr().system)
    assert weights < difference < weights + 8_000
