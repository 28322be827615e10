"""Parts of one's own, as docs/own-parts.md shows them: each fault has the message of the page."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.docs_files import write_shown_files
from safetensors.torch import load as unpacked
from safetensors.torch import save as packed

from serein import bundle, model_file, recipes, testing
from serein.errors import BundleError, ConfigError, SereinError, SereinWarning
from serein.inference.onnx_export import build_onnx_system
from serein.system import System, check_recipe, hash_recipe_sources
from serein.training.dataset import _cache_key

PAGE = Path(__file__).parents[1] / "docs" / "own-parts.md"
PARTS = ["my_lab.front_end", "my_lab.model", "my_lab.task"]
CLASSES = {"emotion": ("anger", "joy")}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder ``my_lab`` of the page, from which modules can be imported."""
    write_shown_files(PAGE, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    forget_modules()
    yield tmp_path / "my_lab"
    forget_modules()


def forget_modules() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
        del sys.modules[name]


def change_file(lab: Path, name: str, old: str, new: str) -> None:
    file = lab / f"{name}.py"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def check_page_has(message: str) -> None:
    """Check that the page quotes a message, up to numbers at its end and the folder in it."""
    quoted = [row.split(" | ")[-1].strip(" |") for row in PAGE.read_text("utf-8").splitlines()]
    patterns = [re.escape(one).replace(re.escape("..."), ".*") for one in quoted if len(one) > 20]
    assert any(re.search(pattern, message) for pattern in patterns), message


def build_system(*settings: str) -> System:
    tables = ("features", "model", "tasks.emotion")
    names = [f"{table}.name={name}" for table, name in zip(tables, PARTS, strict=True)]
    recipe = recipes.load("li2019-emodb-single-task", [*names, *settings])
    return System(recipe, CLASSES)


@pytest.mark.parametrize(
    "setting",
    [
        "features.name=my_lab.frontend",
        "features.name=my_lab.broken",
        "features.name=my_lab.model",
        "features.bands=8",
        "features.window=1",
    ],
)
def test_errors_of_recipes_are_on_the_page(lab: Path, setting: str) -> None:
    (lab / "broken.py").write_text("1 / 0")
    settings = [setting] if "name" in setting else ["features.name=my_lab.front_end", setting]
    recipe = recipes.load("li2019-emodb-single-task", settings)
    with pytest.raises(SereinError) as caught:
        check_recipe(recipe)
    check_page_has(str(caught.value))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (".masked_fill(step_s >= length_b[:, None], 0)", " - wave_bs.mean(dim=1, keepdim=True)"),
        ("config.rate, 2", "config.rate, 3"),
        (" + 1e-8", ""),
        ("config.hop / config.rate", "config.hop"),
    ],
    ids=["padding", "width", "silence", "hop"],
)
def test_faults_of_a_front_end_are_found(lab: Path, old: str, new: str) -> None:
    change_file(lab, "front_end", old, new)
    with pytest.raises(AssertionError) as caught:
        testing.check_front_end("my_lab.front_end")
    check_page_has(str(caught.value))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (" / mask_bt.sum(dim=1, keepdim=True)", " / mask_bt.shape[1]"),
        ("nn.Tanh())\n", "nn.Tanh())\n        self.other = nn.Linear(3, 3)\n"),
        ("dict.fromkeys(self.tasks, mean_bd)", '{"emotions": mean_bd}'),
    ],
    ids=["padding", "unused", "task"],
)
def test_faults_of_a_model_are_found(lab: Path, old: str, new: str) -> None:
    change_file(lab, "model", old, new)
    with pytest.raises(AssertionError) as caught:
        testing.check_model("my_lab.model")
    check_page_has(str(caught.value))


UNSAVED = """    shift = 0.0

    def fit_statistics(self, target_b):
        self.shift = 1.0

    def forward(self, x_bd):
        return super().forward(x_bd) + self.shift

    def loss(self"""


@pytest.mark.parametrize(
    ("old", "new"),
    [(" * is_labelled_b\n", "\n"), ("    def loss(self", UNSAVED)],
    ids=["missing labels", "unsaved"],
)
def test_faults_of_a_task_are_found(lab: Path, old: str, new: str) -> None:
    testing.check_task("my_lab.task")
    change_file(lab, "task", old, new)
    forget_modules()
    with pytest.raises(AssertionError) as caught:
        testing.check_task("my_lab.task")
    check_page_has(str(caught.value))


def test_a_saved_model_needs_trust_and_unchanged_layers(lab: Path, tmp_path: Path) -> None:
    path = tmp_path / "lab.safetensors"
    bundle.save(bundle.Bundle(build_system(), bundle.Card()), path)
    with pytest.raises(BundleError) as caught:
        bundle.load(path, trust=PARTS[:2])
    check_page_has(str(caught.value))
    change_file(lab, "front_end", "window: Annotated[int, Ge(2)] = 400", "window: int = 200")
    change_file(lab, "model", "hidden: Annotated[int, Ge(1)] = 16", "hidden: int = 32")
    forget_modules()
    with pytest.warns(SereinWarning, match="my_lab.front_end, my_lab.model changed"):
        loaded = bundle.load(path, trust=PARTS).system
    assert loaded.front_end.config.window == 400, "the file keeps the settings"
    change_file(lab, "model", "self.units", "self.layer")
    forget_modules()
    with pytest.raises(BundleError) as caught:
        bundle.load(path, trust=PARTS)
    check_page_has(str(caught.value))


@pytest.mark.parametrize("setting", ["targets=votes", "smoothing=0.1"])
def test_the_task_refuses_what_its_loss_does_not_have(lab: Path, setting: str) -> None:
    with pytest.raises(ConfigError, match="no votes and no smoothing"):
        build_system(f"tasks.emotion.{setting}")


def test_parts_without_a_form_in_onnx_cannot_be_exported(lab: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        build_onnx_system(build_system())
    check_page_has(str(caught.value))


def save_model(lab: Path) -> Path:
    torch.manual_seed(0)
    path = lab.parent / "lab.safetensors"
    bundle.save(bundle.Bundle(build_system().eval(), bundle.Card()), path)
    return path


def rewrite_document(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the document of a saved model, and its hash with it."""
    content = path.read_bytes()
    document = json.loads(model_file.read_metadata(content)["serein"])
    assert set(document["modules"]) == set(PARTS)
    change(document)
    text, tensors = json.dumps(document), unpacked(content)
    sha256 = model_file.compute_digest(text, {name: x.numpy() for name, x in tensors.items()})
    path.write_bytes(packed(tensors, {"serein": text, "sha256": sha256}))


def test_a_changed_module_gives_one_warning_that_is_on_the_page(lab: Path) -> None:
    path = save_model(lab)
    change_file(lab, "task", "(1 - log_p_b.exp())", "(2 - log_p_b.exp())")
    change_file(lab, "model", "nn.Tanh()", "nn.ReLU()")
    forget_modules()
    with pytest.warns(SereinWarning) as caught:
        loaded = bundle.load(path, trust=PARTS)
    assert len(caught) == 1
    text = str(caught[0].message)
    assert text.startswith(f"{path}: my_lab.model, my_lab.task changed after the model was trained")
    check_page_has(text)
    bundle.save(loaded, again := path.with_name("again.safetensors"))
    with pytest.warns(SereinWarning, match="my_lab.model, my_lab.task changed"):
        bundle.load(again, trust=PARTS)


def test_comments_in_a_module_and_files_of_earlier_versions_give_no_warning(
    lab: Path, tmp_path: Path
) -> None:
    path = save_model(lab)
    change_file(
        lab, "model", "        x_btf, mask_bt = frames", "\n        x_btf, mask_bt = frames"
    )
    change_file(lab, "model", '"""A layer of units', '"""One layer of units')
    forget_modules()
    bundle.load(path, trust=PARTS)
    rewrite_document(path, lambda document: document.pop("modules"))
    change_file(lab, "model", "nn.Tanh()", "nn.ReLU()")
    forget_modules()
    bundle.load(path, trust=PARTS)


def test_only_modules_of_the_recipe_are_imported_to_be_compared(lab: Path) -> None:
    path = save_model(lab)
    (lab / "other.py").write_text("raise SystemExit('imported')")
    rewrite_document(path, lambda document: document["modules"].update({"my_lab.other": "0" * 16}))
    bundle.load(path, trust=PARTS)
    assert "my_lab.other" not in sys.modules


@pytest.mark.parametrize("part", ["front_end", "model", "task"])
def test_runs_and_cached_frames_depend_on_code_and_not_on_comments(lab: Path, part: str) -> None:
    built = build_system()
    file, keys = lab / f"{part}.py", []
    text = file.read_text("utf-8")
    for addition in ("", '\n# a comment\n\n\n"""A text."""\n', "\nNEW = 1\n", "\nNEW = 2\n"):
        file.write_text(text + addition, encoding="utf-8")
        keys.append((hash_recipe_sources(built.recipe), _cache_key([], built.front_end, {}, None)))
    assert keys[0] == keys[1]
    assert len({run for run, _ in keys}) == 3
    assert len({frames for _, frames in keys}) == (3 if part == "front_end" else 1)


def test_cached_frames_depend_on_the_files_that_a_front_end_reads(lab: Path) -> None:
    weights = lab / "weights.bin"
    (lab / "front_end.py").write_text(
        (lab / "front_end.py").read_text("utf-8")
        + "\n\ndef contents(settings):\n"
        + "    assert settings['name'] == 'my_lab.front_end' and settings['window'] == 400\n"
        + "    from pathlib import Path\n"
        + f"    return {{'weights': Path({str(weights)!r}).read_text()}}\n",
        encoding="utf-8",
    )
    keys = []
    for text in ("first", "second", "first"):
        weights.write_text(text)
        keys.append(_cache_key([], build_system().front_end, {}, None))
    assert keys[0] == keys[2] != keys[1]


def test_cached_frames_depend_on_the_sources_that_a_front_end_names(lab: Path) -> None:
    sources = "SOURCES = (str(__import__('pathlib').Path(__file__).with_name('filters.py')),)"
    change_file(lab, "front_end", "\n\n@dataclass", f"\n{sources}\n\n@dataclass")
    keys = set()
    for text in ("x = 1", "x = 2"):
        (lab / "filters.py").write_text(text)
        keys.add(_cache_key([], build_system().front_end, {}, None))
    assert len(keys) == 2
