"""Whole commands as a user waits for them, and a recognition in a warm process."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.timing import Row, paired
from serein.inference.recognizer import Recognizer
from serein.synthetic import RATE, Voice, synthesize

REPEATS = 5


def main() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speech.wav"
        _speech(file)
        bare = [sys.executable, "-c", "pass"]
        torch_alone = [sys.executable, "-c", "import torch"]
        serein = [sys.executable, "-m", "serein"]
        return [
            _row("serein --help", [*serein, "--help"], bare, "an empty python", "under 0.3 s"),
            _row("import serein", [*bare[:2], "import serein"], bare, "an empty python", "0.1 s"),
            _row(
                "serein recognize, one 4 s file, cold",
                [*serein, "recognize", str(file)],
                torch_alone,
                "import torch alone",
                "under 2.5 s",
            ),
            _warm(file),
        ]


def _row(what: str, ours: Sequence[str], peer: Sequence[str], name: str, asked: str) -> Row:
    mine, theirs, ratio = paired(lambda: _run(ours), lambda: _run(peer), repeats=REPEATS)
    return Row(
        what=what, ours=mine, unit="s", peer_name=name, peer=theirs, ratio=ratio, asked=asked
    )


def _warm(file: Path) -> Row:
    recognizer = Recognizer()
    mine, _, _ = paired(lambda: recognizer(file), lambda: None, repeats=31)
    return Row(what="recognise one 4 s file, warm", ours=mine * 1e3, unit="ms", asked="under 15 ms")


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _speech(file: Path) -> None:
    """Four seconds of speech-like audio at the rate that the shipped model hears."""
    voice, rng = Voice.for_speaker("ann", "female", seed=0), np.random.default_rng(0)
    spoken = synthesize(["mala"] * 16, voice, "neutral", rng)
    soundfile.write(file, np.resize(spoken, 4 * RATE), RATE)
