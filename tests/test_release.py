"""The check of a release finds what is missing, unwanted or of another version."""

import io
import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

import check_release
import pytest
import yaml

from serein import cli

ROOT = Path(__file__).parents[1]
VERSION = check_release.read_versions()["pyproject.toml"]
METADATA = f"""\
Metadata-Version: 2.4
Name: serein
Version: {VERSION}
Summary: Speech emotion recognition
License-Expression: MIT
License-File: LICENSE
License-File: THIRD-PARTY.md
Requires-Python: >=3.11
Description-Content-Type: text/markdown

# serein
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small wheel and sdist that pass."""
    write_wheel(tmp_path, {})
    with tarfile.open(tmp_path / f"serein-{VERSION}.tar.gz", "w:gz") as sdist:
        wanted = [f"src/{name}" for name in check_release.NEEDED]
        for name in [*check_release.SDIST_FILES, *wanted]:
            sdist.addfile(tarfile.TarInfo(f"serein-{VERSION}/{name}"), io.BytesIO())
    return tmp_path


def write_wheel(folder: Path, changes: dict[str, str | None]) -> None:
    info = f"serein-{VERSION}.dist-info"
    content: dict[str, str | None] = dict.fromkeys(check_release.NEEDED, "")
    content |= {f"{info}/licenses/{name}": "" for name in check_release.LICENCES}
    content |= {f"{info}/METADATA": METADATA, **changes}
    with zipfile.ZipFile(folder / f"serein-{VERSION}-py3-none-any.whl", "w") as wheel:
        for name, text in content.items():
            if text is not None:
                wheel.writestr(name, text)


def test_a_complete_release_has_no_faults(folder: Path) -> None:
    assert check_release.check_folder(folder) == []


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("serein/py.typed", None, "the wheel lacks serein/py.typed"),
        ("serein/a.pyc", "", "the wheel has serein/a.pyc; exclude it"),
        ("tests/conftest.py", "", "the wheel has tests/conftest.py outside the package"),
        ("serein/tests/a.wav", "", "the wheel has serein/tests/a.wav; exclude it"),
        ("serein/.DS_Store", "", "the wheel has serein/.DS_Store; exclude it"),
    ],
)
def test_faults_of_the_content_are_named(
    folder: Path, name: str, content: str | None, fault: str
) -> None:
    write_wheel(folder, {name: content})
    assert any(one.startswith(fault) for one in check_release.check_folder(folder))


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (f"Version: {VERSION}", "Version: 9.9.9", "different versions"),
        ("License-Expression: MIT\n", "", "metadata have no License-Expression"),
        ("License-File: THIRD-PARTY.md\n", "", "metadata have no licence file THIRD-PARTY.md"),
        ("text/markdown", "text/plain", "metadata have no README in Markdown"),
    ],
)
def test_faults_of_the_metadata_are_named(folder: Path, old: str, new: str, fault: str) -> None:
    assert old in METADATA
    write_wheel(folder, {f"serein-{VERSION}.dist-info/METADATA": METADATA.replace(old, new)})
    assert any(one.startswith(fault) for one in check_release.check_folder(folder))


def test_a_large_or_incomplete_release_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_release, "MAX_MEGABYTES", 0.0001)
    assert any("expected at most" in one for one in check_release.check_folder(folder))
    next(folder.glob("*.whl")).unlink()
    assert "0 wheels and 1 sdists" in check_release.check_folder(folder)[0]


def test_every_file_names_the_same_version() -> None:
    assert check_release.check_versions() == []


def test_the_command_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.app(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"serein {VERSION}\n"


def test_licence_files_of_the_package_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(check_release.LICENCES) <= set(project["license-files"])
    assert all((ROOT / name).is_file() for name in project["license-files"])


def test_third_party_names_every_shipped_model_and_required_package() -> None:
    text = (ROOT / "THIRD-PARTY.md").read_text("utf-8").lower()
    models = {path.stem for path in (ROOT / "src/serein/pretrained").glob("*.safetensors")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    packages = {re.split(r"[<>=\[; ]", line)[0] for line in project["dependencies"]}
    missing = sorted(name for name in models | packages if name.lower() not in text)
    assert missing == [], f"THIRD-PARTY.md does not name {missing} with a licence"


def test_workflow_and_issue_forms_are_valid() -> None:
    forms = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 4
    for form in forms:
        content = yaml.safe_load(form.read_text("utf-8"))
        if form.stem == "config":
            continue
        assert {"name", "description", "body"} <= set(content), form.name
        assert all(one["attributes"]["label"] for one in content["body"])
    workflow = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text("utf-8"))
    matrix = workflow["jobs"]["check"]["strategy"]["matrix"]
    assert len(matrix["python"]) == len(matrix["system"]) == 3
    commands = [step.get("run") for step in workflow["jobs"]["check"]["steps"]]
    assert ".ci/run" in commands
    assert (ROOT / ".ci/run").is_file()
