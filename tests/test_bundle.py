"""Saved models: round trip, damage, versions, foreign code, and full disks."""

import errno
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.small_systems import CLASSES, small_recipe, small_system
from safetensors.torch import load as unpacked
from safetensors.torch import save as packed

from serein import bundle
from serein.bundle import Bundle, Card, load, save
from serein.errors import BundleError, StorageError
from serein.system import System, predict_batch

CARD = Card(
    name="small",
    data="made up",
    licence="CC0",
    scores="none",
    limits="all",
    use="tests",
    training={"seed": 3, "versions": {"torch": "2"}},
    file_hashes=("ab", "cd"),
)
Document = dict[str, Any]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    system = small_system()
    system.normaliser.fit([np.random.default_rng(0).normal(2, 3, (100, 48))])
    path = tmp_path_factory.mktemp("bundle") / "small.safetensors"
    save(Bundle(system, CARD), path)
    return path.read_bytes()


@pytest.fixture
def path(content: bytes, tmp_path: Path) -> Path:
    file = tmp_path / "small.safetensors"
    file.write_bytes(content)
    return file


def header(content: bytes) -> tuple[int, Document]:
    size = struct.unpack("<Q", content[:8])[0]
    return size, json.loads(content[8 : 8 + size])


def forge(
    path: Path,
    document: Callable[[Document], object] = lambda document: None,
    tensors: Callable[[dict[str, torch.Tensor]], object] = lambda tensors: None,
) -> None:
    """Change a bundle and correct its hash, as an attacker could."""
    content = path.read_bytes()
    changed, values = json.loads(header(content)[1]["__metadata__"]["serein"]), unpacked(content)
    document(changed)
    tensors(values)
    text = json.dumps(changed)
    digest = bundle._compute_digest(text, values)
    path.write_bytes(packed(values, {"serein": text, "sha256": digest}))


def test_load_returns_what_save_wrote(content: bytes, path: Path) -> None:
    system = small_system()
    system.normaliser.fit([np.random.default_rng(0).normal(2, 3, (100, 48))])
    found = load(path)
    assert found.card == CARD
    assert found.system.recipe == system.recipe
    assert found.system.classes == system.classes
    wanted = system.state_dict()
    assert list(found.system.state_dict()) == list(wanted)
    assert all(torch.equal(x, wanted[name]) for name, x in found.system.state_dict().items())
    assert not found.system.training
    assert not torch.equal(found.system.normaliser.mean_f, torch.zeros(48))
    wave_s = np.random.default_rng(1).normal(size=16_000).astype(np.float32)
    batch = torch.from_numpy(wave_s)[None], torch.tensor([len(wave_s)])
    one = predict_batch(system, system.extract_features(*batch))[0]
    other = predict_batch(found.system, found.system.extract_features(*batch))[0]
    assert all(torch.equal(one[task], other[task]) for task in one)


def test_saving_a_loaded_bundle_writes_the_same_file(content: bytes, path: Path) -> None:
    save(load(path), path)
    again = path.read_bytes()
    assert header(again)[1] == header(content)[1]  # includes the hash of document and weights
    assert again[8 + header(again)[0] :] == content[8 + header(content)[0] :]


def test_the_order_of_tasks_is_kept(path: Path) -> None:
    recipe = small_recipe()
    tasks = {"gender": recipe.tasks["gender"], "emotion": recipe.tasks["emotion"]}
    system = System(replace(recipe, tasks=tasks), CLASSES)
    save(Bundle(system, CARD), path)
    found = load(path).system
    assert list(found.tasks) == list(found.classes) == list(found.recipe.tasks) == list(tasks)


def test_save_leaves_no_other_files(path: Path) -> None:
    save(load(path), path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_bundle_is_little_larger_than_its_weights(content: bytes) -> None:
    weights = sum(4 * x.numel() for x in small_system().state_dict().values())
    assert weights < len(content) < weights + 16_000


def test_a_bundle_is_readable_as_safetensors_and_json(content: bytes) -> None:
    assert set(unpacked(content)) == set(small_system().state_dict())
    document = json.loads(header(content)[1]["__metadata__"]["serein"])
    assert document["format"] == 4
    assert document["classes"]["gender"] == ["female", "male"]
    assert document["card"]["licence"] == "CC0"


# Files that are not bundles


def test_a_missing_bundle_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"cannot read the model .*none: No such file"):
        load(tmp_path / "none")
    with pytest.raises(BundleError, match="cannot read the model"):
        load(tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        b"",
        b"\0",
        b"RIFF",
        b"a text file\n" * 50,
        b"{}" * 50,
        bytes(1000),
        b"\xff" * 1000,
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 20_000) + b"[" * 10_000 + b"]" * 10_000,
        struct.pack("<Q", 2**63) + b"{}",
    ],
    ids=lambda content: repr(content[:9]),
)
def test_another_file_is_an_error(path: Path, other: bytes) -> None:
    path.write_bytes(other)
    with pytest.raises(BundleError, match="is not a serein model, or is cut short"):
        load(path)


def test_a_file_of_other_weights_is_an_error(path: Path) -> None:
    path.write_bytes(packed({"a": torch.zeros(3)}, {"format": "pt"}))
    with pytest.raises(BundleError, match="is not a serein model"):
        load(path)
    torch.save({"a": torch.zeros(3)}, path)
    with pytest.raises(BundleError, match="is not a serein model"):
        load(path)


def test_a_truncated_bundle_is_an_error(path: Path, content: bytes) -> None:
    size, _ = header(content)
    ends = [1, 7, 8, 9, 8 + size // 2, 8 + size - 1, 8 + size, len(content) // 2, len(content) - 1]
    for end in ends:
        path.write_bytes(content[:end])
        with pytest.raises(BundleError, match="cut short"):
            load(path)
    path.write_bytes(content + b"more")
    with pytest.raises(BundleError):
        load(path)


def test_a_changed_byte_is_an_error(path: Path, content: bytes) -> None:
    size, _ = header(content)
    generator = np.random.default_rng(0)
    weights = generator.integers(8 + size, len(content), 40).tolist()
    metadata = generator.integers(8, 8 + size, 120).tolist()
    for place in [*range(8), *metadata, *weights, 8 + size, len(content) - 1]:
        changed = bytearray(content)
        changed[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(bytes(changed))
        try:
            found = load(path)
        except BundleError:
            continue
        # Only changes of padding or white space are possible.
        assert place < 8 + size
        assert found.card == CARD
        same = found.system.state_dict()
        assert all(torch.equal(same[n], x) for n, x in unpacked(content).items())


def test_a_changed_weight_or_card_is_a_hash_error(path: Path, content: bytes) -> None:
    changed = bytearray(content)
    changed[-3] ^= 1
    path.write_bytes(bytes(changed))
    with pytest.raises(BundleError, match="was changed after it was saved: its SHA-256 differs"):
        load(path)
    path.write_bytes(content.replace(b"CC0", b"MIT"))
    with pytest.raises(BundleError, match="was changed after it was saved: its SHA-256 differs"):
        load(path)


# Bundles that do not fit


def test_a_newer_format_is_an_error(path: Path) -> None:
    forge(path, lambda document: document.update(format=6))
    with pytest.raises(BundleError, match=r"has format 6; .* reads up to 5: upgrade serein"):
        load(path)


@pytest.mark.parametrize("found", [None, "1", [1], 1.5])
def test_a_format_that_is_not_a_number_is_an_error(path: Path, found: object) -> None:
    forge(path, lambda document: document.update(format=found))
    with pytest.raises(BundleError, match="has format"):
        load(path)


def wider(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.conv1.bias_d"] = torch.zeros(9)


def missing(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["heads.emotion.head.bias"]


def additional(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.more"] = torch.zeros(2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (wider, r"weight model\.conv1\.bias_d has shape \(9,\); its recipe needs \(8,\)"),
        (missing, r"weight heads\.emotion\.head\.bias has shape None"),
        (additional, r"weight model\.more has shape \(2,\); its recipe needs None"),
    ],
)
def test_weights_of_other_shapes_are_errors_with_their_names(
    path: Path, change: Callable[[dict[str, torch.Tensor]], None], message: str
) -> None:
    forge(path, tensors=change)
    with pytest.raises(BundleError, match=message):
        load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("recipe"),
        lambda d: d.pop("classes"),
        lambda d: d.pop("card"),
        lambda d: d["recipe"].pop("model"),
        lambda d: d["recipe"]["model"].pop("name"),
        lambda d: d["recipe"]["model"].update(name=3),
        lambda d: d["recipe"]["model"].update(name="none"),
        lambda d: d["recipe"]["model"].update(sense=3),
        lambda d: d["recipe"]["model"].update(filters="many"),
        lambda d: d["recipe"]["model"].update(filters=10**12),
        lambda d: d["recipe"]["features"].update(bands=-1),
        lambda d: d["recipe"]["tasks"].update(mood={}),
        lambda d: d["recipe"].update(tasks=[]),
        lambda d: d.update(classes={"emotion": ["a"], "gender": ["b"]}),
        lambda d: d.update(classes=[]),
        lambda d: d.update(classes={"emotion": 3, "gender": 4}),
        lambda d: d.update(recipe=None),
        lambda d: d["card"].update(colour="red"),
        lambda d: d["card"].update(file_hashes=3),
    ],
)
def test_a_document_of_another_structure_is_an_error(
    path: Path, change: Callable[[Document], object]
) -> None:
    forge(path, change)
    with pytest.raises(BundleError):
        load(path)


# Code that must not run

NUMBER = count()
EVIL = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
"""


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a module whose import creates a file; return the path of that file."""
    package = tmp_path / f"evil_{next(NUMBER)}"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "code.py").write_text(EVIL)
    monkeypatch.syspath_prepend(str(tmp_path))
    return package / "ran"


def named_model(document: Document, name: str) -> None:
    document["recipe"]["model"]["name"] = name


def named_features(document: Document, name: str) -> None:
    document["recipe"]["features"]["name"] = name


def named_task(document: Document, name: str) -> None:
    document["recipe"]["tasks"][name] = {}
    document["classes"][name] = ["a", "b"]


def named_in_task(document: Document, name: str) -> None:
    document["recipe"]["tasks"]["emotion"]["name"] = name


@pytest.mark.parametrize("trust", [[], ["os.path"], ["evil"]])
@pytest.mark.parametrize("place", [named_model, named_features, named_task, named_in_task])
def test_an_untrusted_module_is_not_imported(
    path: Path, evil: Path, place: Callable[[Document, str], None], trust: list[str]
) -> None:
    name = f"{evil.parent.name}.code"
    forge(path, lambda document: place(document, name))
    with pytest.raises(BundleError, match=rf"{name}|not part of serein"):
        load(path, trust=trust)
    assert not evil.exists()
    assert name not in sys.modules


def test_the_import_of_a_trusted_module_is_detected(path: Path, evil: Path) -> None:
    name = f"{evil.parent.name}.code"
    forge(path, lambda document: named_model(document, name))
    with pytest.raises(BundleError, match="lacks Config and Model"):
        load(path, trust=[name])
    assert evil.exists()


OWN = """
from serein.models.li2019 import Config, Model
"""


def test_a_trusted_module_is_loaded(path: Path, evil: Path) -> None:
    name = f"{evil.parent.name}.code"
    (evil.parent / "code.py").write_text(OWN)
    forge(path, lambda document: named_model(document, name))
    found = load(path, trust=[name])
    assert found.system.recipe.model["name"] == name
    assert type(found.system.model).__module__ == "serein.models.li2019"


def test_load_unpickles_nothing(path: Path) -> None:
    script = (
        "import sys, pathlib, pickle, torch\n"
        "from serein import bundle\n"
        "def no(*a, **k): raise AssertionError('unpickled')\n"
        "pickle.load = pickle.loads = pickle.Unpickler = torch.load = no\n"
        "print(bundle.load(pathlib.Path(sys.argv[1])).card.name)\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    ended = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60)
    assert ended.stdout == "small\n"


def test_building_without_weights_does_not_import_the_compiler() -> None:
    script = (
        "import sys\n"
        "from serein import recipes, system\n"
        "from serein.inference.recognizer import Recognizer\n"
        "for name in ('serein-base', 'feng2020', 'fu2020', 'zhang2019'):\n"
        "    system.check_recipe(recipes.load(name))\n"
        "Recognizer('serein-base')\n"
        "print('torch._dynamo' in sys.modules)\n"
    )
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60)
    assert ended.stdout == "False\n"


# Failed writing


def test_a_full_disk_keeps_the_old_bundle(
    path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Path.write_bytes

    def full(self: Path, data: Any) -> int:
        written(self, bytes(data)[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    loaded = load(path)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"No space left on device.*unchanged"):
        save(Bundle(loaded.system, Card(name="new")), path)
    monkeypatch.undo()
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_folder_that_is_a_file_is_an_error(path: Path) -> None:
    with pytest.raises(StorageError, match="could not write"):
        save(load(path), path / "model.safetensors")
