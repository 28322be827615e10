"""The hash of source code: what changes it, and what does not."""

import re
from pathlib import Path

import pytest

from serein import registry

SOURCE = '''"""A front end."""

import numpy as np

HOP = 160
"""Samples from frame to frame."""


class FrontEnd:
    """Frames of a waveform."""

    def __call__(self, wave: np.ndarray, scale: float = 1.0) -> np.ndarray:
        """Return the frames."""
        return np.stack([scale * wave[i : i + HOP] for i in range(0, len(wave), HOP)])
'''
HARMLESS = {
    "comment": ("HOP = 160", "# why\nHOP = 160  # samples"),
    "docstring of the module": ('"""A front end."""', '"""Another text.\n\nOf two parts.\n"""'),
    "no docstring of the module": ('"""A front end."""\n', ""),
    "docstring of a function": ('"""Return the frames."""', "'''Frames.'''"),
    "text after a constant": ('"""Samples from frame to frame."""\n', ""),
    "blank lines": ("HOP = 160", "\n\n\nHOP = 160"),
    "line breaks": ("scale * wave[i : i + HOP]", "(\n    scale\n    * wave[i : i + HOP]\n)"),
    "spelling of a number": ("160", "0xA0"),
    "Windows line ends": ("\n", "\r\n"),
}
HARMFUL = {
    "a constant": ("160", "161"),
    "the type of a constant": ("160", "160.0"),
    "the sign of zero": ("range(0,", "range(-0,"),
    "a default": ("1.0", "2.0"),
    "an operator": ("scale *", "scale +"),
    "a name": ("HOP", "STEP"),
    "a decorator": ("class FrontEnd", "@np.vectorize\nclass FrontEnd"),
    "a string that is a value": ("HOP = 160", 'HOP = "160"'),
    "an absent default": (": float = 1.0", ": float"),
}


def hash_text(folder: Path, text: str, name: str = "front_end.py") -> str:
    (folder / name).write_bytes(text.encode())
    return registry.hash_sources([folder / name])


@pytest.mark.parametrize("change", HARMLESS)
def test_what_does_not_change_a_number_does_not_change_the_hash(
    tmp_path: Path, change: str
) -> None:
    old, new = HARMLESS[change]
    assert old in SOURCE
    assert hash_text(tmp_path, SOURCE.replace(old, new)) == hash_text(tmp_path, SOURCE)


@pytest.mark.parametrize("change", HARMFUL)
def test_changed_code_changes_the_hash(tmp_path: Path, change: str) -> None:
    old, new = HARMFUL[change]
    assert old in SOURCE
    assert hash_text(tmp_path, SOURCE.replace(old, new)) != hash_text(tmp_path, SOURCE)


def test_the_hash_is_the_same_in_every_version_of_python(tmp_path: Path) -> None:
    text = (
        "async def f(a, /, *b: int, c=None, **d):\n"
        "    async with a as (x, y):\n"
        "        return [f'{x!r:>8}', {**d, 'k': ...}, -1j, b'\\0', not None]\n"
        "match 1:\n"
        "    case {'a': [_, *rest]} if rest: pass\n"
    )
    assert hash_text(tmp_path, text) == "f79658e5cb811f09"


@pytest.mark.parametrize("text", ["def f(:\n", "x = '\0'\n", "# coding: nothing\nx = 1\n", "("])
def test_a_file_that_is_not_python_counts_by_its_bytes(tmp_path: Path, text: str) -> None:
    found = hash_text(tmp_path, text)
    assert re.fullmatch("[0-9a-f]{16}", found)
    assert hash_text(tmp_path, f"{text}# a comment\n") != found


def test_values_of_toml_count_and_other_files_by_their_bytes(tmp_path: Path) -> None:
    text = '[words]\nangry = "anger"  # German: wütend\n'
    toml = hash_text(tmp_path, text, "words.toml")
    assert hash_text(tmp_path, '[words]\n\nangry = "anger"\n', "words.toml") == toml
    assert hash_text(tmp_path, text.replace('"anger"', '"joy"'), "words.toml") != toml
    assert hash_text(tmp_path, "[words", "words.toml") != toml
    assert hash_text(tmp_path, "a", "weights.bin") != hash_text(tmp_path, "a ", "weights.bin")


def test_every_python_file_of_a_folder_counts(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    found = {registry.hash_sources([tmp_path])}
    for name in ("a.py", "inner/b.py"):
        (tmp_path / name).write_text("X = 1\n")
        found.add(registry.hash_sources([tmp_path]))
    (tmp_path / "inner/b.py").write_text("X = 2\n")
    found.add(registry.hash_sources([tmp_path]))
    (tmp_path / "notes.txt").write_text("not code")
    found.add(registry.hash_sources([tmp_path]))
    assert len(found) == 4
