"""Wall time of whole commands, and of one recognition in a warm process."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.timing import Row, time_alternately
from serein.inference.model_loading import DEFAULT_MODEL
from serein.inference.recognizer import Recognizer
from serein.synthetic import RATE, Voice, synthesize

REPEATS = 5
WARM_TARGETS = {"serein-light": "10 ms", DEFAULT_MODEL: "50 ms"}
"""The models, and the time that one recognition in a warm process may take."""
BOUNDS = {
    DEFAULT_MODEL: "the layers of the encoder run at four fifths of the speed of the fp32 matrix "
    "product; an export in int8 takes two thirds of the time (docs/export.md)"
}


def main() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speech.wav"
        _write_speech(file)
        empty = [sys.executable, "-c", "pass"]
        torch_only = [sys.executable, "-c", "import torch"]
        serein = [sys.executable, "-m", "serein"]
        return [
            _row("serein --help", [*serein, "--help"], empty, "an empty python", "under 0.3 s"),
            _row("import serein", [*empty[:2], "import serein"], empty, "an empty python", "0.1 s"),
            *(
                _row(
                    f"serein recognize, one 4 s file, cold, {model}",
                    [*serein, "recognize", str(file), "--model", model],
                    torch_only,
                    "import torch alone",
                    "0.7 s",
                )
                for model in WARM_TARGETS
            ),
            *(_warm(file, model) for model in WARM_TARGETS),
        ]


def _row(what: str, ours: Sequence[str], peer: Sequence[str], name: str, target: str) -> Row:
    mine, theirs, ratio = time_alternately(lambda: _run(ours), lambda: _run(peer), repeats=REPEATS)
    return Row(
        what=what, ours=mine, unit="s", peer_name=name, peer=theirs, ratio=ratio, target=target
    )


def _warm(file: Path, model: str) -> Row:
    recognizer = Recognizer(model)
    mine, _, _ = time_alternately(lambda: recognizer(file), lambda: None, repeats=31)
    return Row(
        what=f"recognize one 4 s file, warm, {model}",
        ours=mine * 1e3,
        unit="ms",
        target=WARM_TARGETS[model],
        bound=BOUNDS.get(model, ""),
    )


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _write_speech(file: Path) -> None:
    """Write four seconds of synthetic speech at the rate of the shipped model."""
    voice, rng = Voice.for_speaker("ann", "female", seed=0), np.random.default_rng(0)
    speech = synthesize(["mala"] * 16, voice, "neutral", rng)
    soundfile.write(file, np.resize(speech, 4 * RATE), RATE)
