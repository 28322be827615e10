"""The layout of the package and the names in it, as CONTRIBUTING.md describes them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median

PACKAGE = Path(__file__).parents[1] / "src" / "serein"
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES_OF_LIBRARIES = {"connection_made"}  # asyncio.Protocol calls this method
MAX_FILES = 280
MAX_ROOT_MODULES = 12
MIN_MEDIAN_LINES = 150

RETIRED_WORDS = (
    "afar alone apart asked begun bell beside carry counted course desk diary ear engaged "
    "everything fewer flattery foretell foretold found gradually hall hear heard hearing "
    "hearsay inbox joined kept laid lanes lay lengthy looked looks made meant mistakes "
    "opened parted piece placed said settled shown spoken stretches talk tape told together "
    "visit voices ways worded"
)
"""Words of the former names of files, classes and functions; each has a standard term now."""


def split_words(name: str) -> list[str]:
    """Lower-case words of a name in snake case or camel case."""
    return re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)


def defined_names() -> Iterator[tuple[str, str]]:
    for file in FILES:
        where = file.relative_to(PACKAGE).as_posix()
        yield where, file.stem
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield where, node.name


def test_no_retired_word_names_a_file_a_class_or_a_function() -> None:
    words = set(RETIRED_WORDS.split())
    retired = [
        f"{where}: {name}"
        for where, name in defined_names()
        for word in split_words(name)
        if word.lower() in words and name not in NAMES_OF_LIBRARIES
    ]
    assert retired == []


def test_the_package_is_small_enough_to_be_found_through() -> None:
    assert len(FILES) <= MAX_FILES
    assert len(list(PACKAGE.glob("*.py"))) <= MAX_ROOT_MODULES
    lines = [len(file.read_text(encoding="utf-8").splitlines()) for file in FILES]
    assert median(lines) >= MIN_MEDIAN_LINES


def test_every_test_folder_mirrors_a_package() -> None:
    tests = Path(__file__).parent
    folders = {folder.name for folder in tests.iterdir() if list(folder.glob("test_*.py"))}
    packages = {folder.name for folder in PACKAGE.iterdir() if folder.is_dir()}
    assert folders - packages == {"benchmarks"}
