"""The scripts of the page without a server have the constants of the Python that they repeat."""

import re
from pathlib import Path

import pytest

import serein
from serein.inference import vad

SCRIPT = Path(serein.__file__).parent / "service" / "page" / "browser" / "vad.js"
CONSTANT = re.compile(r"\b([A-Z][A-Z_0-9]+) = ([\d.]+)[,;]")
FOUND = dict(CONSTANT.findall(SCRIPT.read_text(encoding="utf-8")))
SHARED = sorted(name for name in FOUND if hasattr(vad, name))


def test_most_constants_are_named_as_in_python() -> None:
    assert {"THRESHOLD", "OUTER_SILENCE_SECONDS", "PRESENCE_THRESHOLD"} <= {*SHARED}
    assert len(SHARED) >= 12


@pytest.mark.parametrize("name", SHARED)
def test_a_constant_of_speech_detection_is_that_of_python(name: str) -> None:
    assert float(FOUND[name]) == getattr(vad, name)
