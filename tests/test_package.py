"""Public names, what an import loads, and the wheel."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import serein

PROJECT = Path(__file__).parent.parent


def python(code: str, *, folder: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=folder
    )
    return done.stdout


def test_public_names_are_sorted_and_importable() -> None:
    names = serein.__all__
    assert names == sorted(names)
    assert len(names) == len(set(names))
    for name in names:
        assert getattr(serein, name).__doc__
    assert set(names) <= set(dir(serein))


def test_the_old_name_judge_warns() -> None:
    with pytest.warns(DeprecationWarning, match=r"serein\.judge is now serein\.score_model"):
        assert serein.judge is serein.score_model


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = serein.nothing


def test_import_and_help_load_no_large_packages() -> None:
    large = ("torch", "pydantic", "plotly", "lightning_fabric", "soundfile", "numpy")
    loaded = f"import sys; print([n for n in {large} if n in sys.modules])"
    assert python(f"import serein; {loaded}").strip() == "[]"
    code = "import sys, serein.cli as c; sys.argv = ['serein', '--help']\ntry: c.main()\n"
    code += f"except SystemExit: pass\n{loaded}"
    assert python(code).splitlines()[-1] == "[]"


def test_every_error_is_public_and_a_serein_error() -> None:
    errors = [getattr(serein, name) for name in serein.__all__ if name.endswith("Error")]
    assert all(issubclass(error, serein.SereinError) for error in errors)
    assert len(errors) >= 7


def test_the_wheel_works_outside_the_source_tree(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path)]
    subprocess.run([*build, str(PROJECT)], check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    assert all(name.startswith("serein") and not name.endswith(".pyc") for name in names)
    assert {f"serein/service/page/{name}" for name in ("index.html", "main.js")} <= set(names)
    venv.create(tmp_path / "venv", with_pip=False)
    site = next((tmp_path / "venv").glob("**/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    others = Path(sys.modules["pytest"].__file__ or "").parent.parent
    (site / "others.pth").write_text(f"{others}\n")
    run = [str(tmp_path / "venv/bin/python"), "-P", "-m", "serein"]
    where = [run[0], "-P", "-c", "import serein; print(serein.__file__)"]
    found = subprocess.run(where, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert str(site) in found.stdout
    listed = subprocess.run([*run, "recipes"], check=True, capture_output=True, text=True)
    assert "li2019-emodb" in listed.stdout
    card = subprocess.run([*run, "card"], check=True, capture_output=True, text=True)
    assert "serein-base" in card.stdout
    needed = {f"serein/report/templates/{name}" for name in ("report.html", "page.css")}
    assert needed <= set(names)
