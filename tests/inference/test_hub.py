"""Models of the Hugging Face hub, with a server on this machine in place of the hub."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from builders.example_results import example_results
from builders.fake_hub import TOKEN, FakeHub, serve_hub
from builders.small_systems import small_system

from serein import cli
from serein.bundle import Bundle, Card, save
from serein.errors import BundleError, ConfigError, HubError
from serein.inference import hub as hub_module
from serein.inference.hub import find_hub_model, parse_hub_name
from serein.inference.hub_card import HubMetadata, build_card, find_licence, write_hub_files
from serein.inference.model_loading import find_model_file
from serein.inference.recognizer import Recognizer
from serein.records import Finding
from serein.results.io import save_record

pytest.importorskip("huggingface_hub", reason="needs huggingface_hub: pip install 'serein[hub]'")
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # in its client
NOISE = (0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32), 16_000)
CARD = Card(
    "calls",
    data="ours",
    licence="Apache-2.0, for everybody",
    scores="UA 61.0 %",
    speakers=("calls/ann", "emodb/03"),
)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """An empty hub with an empty cache, a token that may write, and no other network."""
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address: tuple[str, int]) -> None:
        assert address[0] == "127.0.0.1", f"a connection to {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_locally)
    with serve_hub() as server:
        constants = "huggingface_hub.constants"
        monkeypatch.setattr(f"{constants}.ENDPOINT", server.address)
        monkeypatch.setattr(
            f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE",
            server.address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(f"{constants}.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "calls.safetensors"
    save(Bundle(small_system(), CARD), path)
    return path


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> None:
    """An export that takes no time and writes no model."""
    monkeypatch.setattr(
        "serein.inference.onnx_export.to_onnx", lambda _, path, **options: path.write_bytes(b"onnx")
    )


def push(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["serein", "push", *words])
    try:
        cli.main()
    except SystemExit as exit_request:
        return int(exit_request.code or 0)
    return 0


def get_metadata(card: str) -> dict[str, Any]:
    _, metadata, _ = card.split("---\n", 2)
    document: dict[str, Any] = yaml.safe_load(metadata)
    return document


@pytest.mark.usefixtures("exported")
def test_pushed_model_is_loaded_by_name(
    hub: FakeHub,
    model_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert push(monkeypatch, str(model_file), "lab/calls") == 0
    captured = capsys.readouterr()
    commit = hub.branches["lab/calls"]["main"]
    assert captured.out.splitlines() == [
        "hf://lab/calls: model.safetensors, model.onnx, config.json, README.md",
        f"{hub.address}/lab/calls/commit/{commit}",
    ]
    assert "the card's metadata have no metrics: give it with --run RUN" in captured.err
    files = hub.files["lab/calls"][commit]
    assert files["model.safetensors"] == model_file.read_bytes()
    metadata = get_metadata(files["README.md"].decode())
    assert metadata["license"] == "apache-2.0"
    assert metadata["language"] == ["de"]
    assert metadata["datasets"] == ["calls", "emodb"]
    assert (metadata["pipeline_tag"], metadata["library_name"]) == (
        "audio-classification",
        "serein",
    )

    recognizer = Recognizer.from_pretrained("lab/calls")
    assert recognizer.name == "lab/calls"
    same = Recognizer(model_file)
    assert recognizer(NOISE).tasks == same(NOISE).tasks
    assert Recognizer.from_pretrained("lab/calls", revision=commit, threads=2).threads == 2
    asked = len(hub.requests)
    find_hub_model(parse_hub_name(f"hf://lab/calls@{commit}"))  # a commit never changes
    assert len(hub.requests) == asked


@pytest.mark.usefixtures("exported")
def test_branches_and_their_revisions(
    hub: FakeHub, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert push(monkeypatch, str(model_file), "lab/calls") == 0
    assert push(monkeypatch, str(model_file), "lab/calls@v2", "--message", "Second") == 0
    assert set(hub.branches["lab/calls"]) == {"main", "v2"}
    path = find_model_file("hf://lab/calls@v2")
    assert path.parent.name == hub.branches["lab/calls"]["v2"]
    with pytest.raises(HubError, match="lab/calls has no revision 'v3'; its branches and tags"):
        Recognizer.from_pretrained("lab/calls", revision="v3")
    assert push(monkeypatch, str(model_file), "lab/calls@v2", "--revision", "v3") == 2


def test_cache_is_used_without_network(
    hub: FakeHub, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.commit("lab/calls", "main", {"model.safetensors": model_file.read_bytes()})
    hub.commit("lab/calls", "main", {"config.json": b"{}"})
    first = Recognizer.from_pretrained("lab/calls", revision=commit)
    latest = find_model_file("hf://lab/calls")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    asked = len(hub.requests)
    assert find_model_file("hf://lab/calls") == latest
    with pytest.raises(HubError, match=r"hf://lab/none is not in the hub's cache .*HF_HUB_OFFLINE"):
        find_model_file("hf://lab/none")
    assert len(hub.requests) == asked
    assert first.name == "lab/calls"


def test_hub_that_is_away(hub: FakeHub, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.commit("lab/calls", "main", {"model.safetensors": model_file.read_bytes()})
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("time.sleep", lambda _: None)  # between the client's attempts
    with pytest.raises(HubError, match=f"the hub {address} cannot be reached, and hf://lab/calls"):
        find_model_file("hf://lab/calls")


def test_wrong_names_and_repositories(hub: FakeHub, model_file: Path) -> None:
    with pytest.raises(HubError, match=r"has no model lab/none, or it is private"):
        find_model_file("hf://lab/none")
    hub.commit("lab/other", "main", {"pytorch_model.bin": b"pickle", "README.md": b""})
    with pytest.raises(BundleError, match=r"hf://lab/other has no model\.safetensors"):
        find_model_file("hf://lab/other")
    for text in ("hf://lab", "hf://lab/a/b", "hf://lab/a@", "hf://../x", "hf://lab/a b"):
        with pytest.raises(HubError, match="is not a model of the hub; expected hf://ORG/NAME"):
            find_model_file(text)
    with pytest.raises(HubError, match="'serein-bsae' is not a model of the hub"):
        Recognizer.from_pretrained("serein-bsae")
    with pytest.raises(ConfigError, match="only models of the hub have revisions"):
        Recognizer.from_pretrained(model_file, revision="v2")
    hub.failure = 418
    with pytest.raises(HubError, match="answered with status 418"):
        find_model_file("hf://lab/other@new")


def test_changed_files_are_refused(hub: FakeHub, model_file: Path) -> None:
    content = model_file.read_bytes()
    config = {"files": {"model.safetensors": {"sha256": "0" * 64}}}
    hub.commit(
        "lab/calls",
        "main",
        {"model.safetensors": content, "config.json": json.dumps(config).encode()},
    )
    with pytest.raises(HubError, match=r"has another SHA-256 than config\.json beside it states"):
        find_model_file("hf://lab/calls")
    for text in (b"{", b"[]", b'{"files": {"model.safetensors": 3}}', b"{}" + b" " * 2_000_000):
        hub.commit("lab/calls", "main", {"config.json": text})
        with pytest.raises(BundleError, match=r"config\.json of hf://lab/calls is not one that"):
            find_model_file("hf://lab/calls")


@pytest.mark.parametrize(
    ("token", "repository", "status"), [("hf_no", "lab/calls", 401), (TOKEN, "other-lab/x", 403)]
)
@pytest.mark.usefixtures("exported", "hub")
def test_push_without_rights(
    token: str,
    repository: str,
    status: int,
    model_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    assert push(monkeypatch, str(model_file), repository) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"does not let you push to {repository} (status {status}); log in with" in line


def test_folder_with_a_model(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: None
) -> None:
    folder = tmp_path / "my model"
    assert push(monkeypatch, str(model_file), "lab/calls", "-o", str(folder)) == 0
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.onnx",
        "model.safetensors",
    ]
    assert find_model_file(folder) == folder / "model.safetensors"
    assert Recognizer.from_pretrained(folder).name == "my model"
    monkeypatch.setattr(hub_module, "find_spec", lambda _: None)  # without torch
    assert find_model_file(folder) == folder / "model.onnx"
    (folder / "model.onnx").write_bytes(b"another")
    with pytest.raises(HubError, match="SHA-256"):
        find_model_file(folder)
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(BundleError, match=r"has no \.safetensors file; expected model\.safete"):
        find_model_file(folder)
    (folder / "mine.safetensors").write_bytes(model_file.read_bytes())
    assert find_model_file(folder) == folder / "mine.safetensors"


def test_model_that_cannot_be_exported(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConfigError("li2019 cannot be exported: it is an example")

    monkeypatch.setattr("serein.inference.onnx_export.to_onnx", refuse)
    (tmp_path / "model.onnx").write_bytes(b"of an earlier push")
    model = Bundle(small_system(), Card())
    files, notes = write_hub_files(model, model_file, tmp_path, "lab/calls", HubMetadata())
    assert files == ["model.safetensors", "config.json", "README.md"]
    assert not (tmp_path / "model.onnx").exists()
    assert "without model.onnx: li2019 cannot be exported: it is an example" in notes
    assert len(notes) == 5
    metadata = get_metadata((tmp_path / "README.md").read_text())
    assert (metadata["license"], metadata["license_name"]) == ("other", "see-card")
    assert "language" not in metadata


def test_metrics_with_their_protocol() -> None:
    model = Bundle(small_system(), CARD)
    results = example_results(100, 3)
    with pytest.raises(ConfigError, match="give an evaluation of the model's recipe"):
        write_hub_files(
            model, Path(), Path(), "lab/calls",
            HubMetadata(results=[replace(results, recipe={"name": "fu2020"})]),
        )  # fmt: skip
    name = model.system.recipe.name
    results = replace(results, recipe={**results.recipe, "name": name}, leakage=[])
    leak = Finding(
        kind="duplicate", verdict="error", count=3, description="3 recordings are tested"
    )
    with pytest.raises(ConfigError, match="has leaks, which make its scores optimistic: 3 rec"):
        write_hub_files(
            model, Path(), Path(), "lab/calls",
            HubMetadata(results=[replace(results, leakage=[leak])]),
        )  # fmt: skip
    metadata = HubMetadata("mit", ("de", "en"), ("lab/emodb",), [results])
    card, notes = build_card(model, "lab/calls", metadata)
    assert notes == []
    found = get_metadata(card)
    assert (found["license"], found["language"], found["datasets"]) == (
        "mit",
        ["de", "en"],
        ["lab/emodb"],
    )
    assert found["metrics"] == ["accuracy", "recall"]
    (entry,) = found["model-index"]
    assert entry["name"] == "calls"
    metrics = [metric for result in entry["results"] for metric in result["metrics"]]
    scores = results.scores["validation"]
    assert [metric["value"] for metric in metrics] == [
        round(value, 4)
        for task in ("emotion", "gender")
        for value in (scores[task].wa or 0.0, scores[task].ua or 0.0)
    ]
    assert "leave-one-speaker-out, 10 folds" in metrics[1]["name"]
    assert metrics[1]["args"] == {"average": "macro"}
    assert f"UA {scores['emotion'].ua:.1%} [" in card


@pytest.mark.parametrize(
    ("text", "identifier"),
    [
        ("MIT, and the MIT licence of Whisper", "mit"),
        ("mit", "mit"),
        ("Apache License, Version 2.0", "apache-2.0"),
        ("CC BY-NC-SA 4.0 (RAVDESS)", "cc-by-nc-sa-4.0"),
        ("CC BY 4.0", "cc-by-4.0"),
        ("non-commercial use only (RAVDESS is CC BY-NC-SA 4.0)", "other"),
        ("permitted", "other"),
        ("", "other"),
    ],
)
def test_licence_identifiers(text: str, identifier: str) -> None:
    assert find_licence(text) == identifier


@pytest.mark.slow
def test_shipped_model_through_the_environment(tmp_path: Path) -> None:
    """The commands as typed: HF_ENDPOINT, HF_HOME and HF_TOKEN, and a whole exported file."""
    with serve_hub() as server:
        environment = {
            "HF_ENDPOINT": server.address,
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "PATH": "/usr/bin:/bin",
        }
        code = "import sys; from serein.cli import main; sys.argv[0] = 'serein'; main()"
        commands = (
            ["push", "li2019-emodb", "lab/li2019"],
            ["card", "hf://lab/li2019"],
        )
        for words in commands:
            done = subprocess.run(
                [sys.executable, "-c", code, *words],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        assert "## Limits" in done.stdout
        (commit,) = server.files["lab/li2019"].values()
        assert len(commit["model.onnx"]) > 1_000_000
    assert (tmp_path / "home" / "hub" / "models--lab--li2019").is_dir()


def test_results_can_be_given_on_the_command_line(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported: None
) -> None:
    results = example_results(60, 2)
    name = small_system().recipe.name
    results = replace(results, recipe={**results.recipe, "name": name}, leakage=[])
    save_record(results, tmp_path / "run")
    words = [str(model_file), "lab/calls", "--run", str(tmp_path / "run"), "-o", str(tmp_path)]
    assert push(monkeypatch, *words) == 0
    assert "model-index" in get_metadata((tmp_path / "README.md").read_text())
