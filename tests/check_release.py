"""Check wheel and sdist in a folder: `make release`, or `python tests/check_release.py dist`.

Checked are the files within, the metadata, that every place names the same version, and the size.
`twine check` renders the README before.
"""

import re
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAX_MEGABYTES = 60
"""Of wheel and sdist each; PyPI takes 100."""
NEEDED = (
    "serein/py.typed",
    "serein/pretrained/serein-base.safetensors",
    "serein/recipes/li2019.toml",
    "serein/report/templates/report.html",
    "serein/service/page/index.html",
)
"""Files of each kind that is no Python."""
LICENCES = ("LICENSE", "THIRD-PARTY.md")
SDIST_FILES = (*LICENCES, "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml", "PKG-INFO")
UNWANTED = re.compile(r"\.py[cod]$|__pycache__|(^|/)\.(?!gitignore$)|~$|\.orig$|/tests?/|\.ipynb$")


def read_versions() -> dict[str, str]:
    """Return the version of each file that names it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    found = re.search(r"^version: (\S+)$", citation, re.MULTILINE)
    return {"pyproject.toml": project["version"], "CITATION.cff": found[1] if found else "none"}


def check_versions(released: str | None = None) -> list[str]:
    """Return a fault if files name different versions, or another one than the release."""
    versions = read_versions() | ({"metadata": released} if released else {})
    if len(set(versions.values())) == 1:
        return []
    return [f"different versions: {versions}; pyproject.toml decides, change the others"]


def check_names(kind: str, names: set[str], needed: set[str]) -> list[str]:
    """Return faults of the names in an archive: missing and unwanted files."""
    faults = [f"{kind} lacks {name}" for name in sorted(needed - names)]
    unwanted = sorted(name for name in names if UNWANTED.search(name))
    return faults + [f"{kind} has {name}; exclude it in pyproject.toml" for name in unwanted]


def check_metadata(metadata: Message) -> list[str]:
    """Return faults of the metadata: what PyPI and pip need."""
    faults = [
        f"metadata have no {field}"
        for field in ("Name", "Version", "Summary", "Requires-Python", "License-Expression")
        if not metadata.get(field)
    ]
    if metadata.get("Description-Content-Type") != "text/markdown" or not metadata.get_payload():
        faults.append("metadata have no README in Markdown")
    licences = set(metadata.get_all("License-File") or [])
    return faults + [f"metadata have no licence file {name}" for name in set(LICENCES) - licences]


def check_wheel(path: Path) -> list[str]:
    """Return faults of a wheel."""
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        info = f"{'-'.join(path.name.split('-')[:2])}.dist-info"
        needed = {*NEEDED, f"{info}/METADATA", *(f"{info}/licenses/{name}" for name in LICENCES)}
        faults = check_names("the wheel", names, needed)
        foreign = sorted(name for name in names if not name.startswith(("serein/", f"{info}/")))
        faults += [f"the wheel has {name} outside the package" for name in foreign]
        if f"{info}/METADATA" in names:
            metadata = message_from_string(wheel.read(f"{info}/METADATA").decode())
            faults += check_metadata(metadata) + check_versions(metadata["Version"])
    return faults


def check_sdist(path: Path) -> list[str]:
    """Return faults of a source distribution."""
    with tarfile.open(path) as sdist:
        members = [member for member in sdist.getmembers() if member.isfile()]
    names = {member.name.partition("/")[2] for member in members}
    return check_names("the sdist", names, {*SDIST_FILES, *(f"src/{name}" for name in NEEDED)})


def check_folder(folder: Path) -> list[str]:
    """Return all faults of the distributions in a folder."""
    wheels, sdists = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    if len(wheels) != 1 or len(sdists) != 1:
        return [f"{folder} has {len(wheels)} wheels and {len(sdists)} sdists; expected one of each"]
    faults = check_wheel(wheels[0]) + check_sdist(sdists[0])
    for path in (*wheels, *sdists):
        size = path.stat().st_size / 1e6
        print(f"{path.name}: {size:.1f} MB")
        if size > MAX_MEGABYTES:
            faults.append(f"{path.name} has {size:.1f} MB; expected at most {MAX_MEGABYTES}")
    return faults


if __name__ == "__main__":
    found = check_folder(Path(sys.argv[1]))
    print("\n".join(found) or "wheel and sdist are as expected")
    sys.exit(bool(found))
