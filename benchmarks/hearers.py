"""What a user could run to recognise emotion in files, each in a process of its own.

`python -m benchmarks.hearers WHO FOLDER`: each line that comes says how often to recognise all
files of the folder; the answer is the seconds of processor time that it took, and, once nothing
more comes, the MiB that the process has held at most. Nothing is imported that others need.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from benchmarks.timing import peak

CLASSES = 7
FEATURES = 88
"""Functionals of eGeMAPS."""

Hearer = Callable[[Sequence[Path]], object]


def ours() -> Hearer:
    """The shipped model, a file at a time."""
    from serein.inference.recognizer import Recognizer

    recognizer = Recognizer()
    return lambda files: [recognizer(file) for file in files]


def folder() -> Hearer:
    """The shipped model as it hears folders, several files at a time."""
    from serein.inference.recognizer import Recognizer
    from serein.inference.workers import RecognitionContext, recognize_files

    recognizer = Recognizer()

    def hear(files: Sequence[Path]) -> object:
        return recognize_files(
            RecognitionContext(recognizer, files[0].parent), [file.name for file in files]
        )

    return hear


def wav2vec2() -> Hearer:
    """A network of wav2vec 2.0's base size; what its weights are is no matter of speed."""
    return _wav2vec2(rounded=False)


def wav2vec2_bf16() -> Hearer:
    """The same in bfloat16, by autocast."""
    return _wav2vec2(rounded=True)


def egemaps() -> Hearer:
    """OpenSMILE's functionals and a linear support vector machine."""
    import opensmile
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    noise, classes = np.random.default_rng(0).normal(size=(200, FEATURES)), np.arange(200) % CLASSES
    machine = make_pipeline(StandardScaler(), SVC(kernel="linear")).fit(noise, classes)
    return lambda files: [
        machine.predict(smile.process_file(str(file)).to_numpy()) for file in files
    ]


def _wav2vec2(*, rounded: bool) -> Hearer:
    import soundfile
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = Wav2Vec2Config(num_labels=CLASSES)
    network: Any = Wav2Vec2ForSequenceClassification(config).eval()

    def hear(file: Path) -> torch.Tensor:
        wave_s = torch.from_numpy(soundfile.read(file, dtype="float32")[0])
        standard_1s = ((wave_s - wave_s.mean()) / (wave_s.std() + 1e-7))[None]
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=rounded):
            return network(standard_1s).logits.argmax(dim=-1)

    return lambda files: [hear(file) for file in files]


HEARERS = {one.__name__: one for one in (ours, folder, wav2vec2, wav2vec2_bf16, egemaps)}


def main() -> None:
    hearer, files = HEARERS[sys.argv[1]](), sorted(Path(sys.argv[2]).iterdir())
    hearer(files)
    print("ready", flush=True)
    for line in sys.stdin:
        begin = process_time()
        for _ in range(int(line)):
            hearer(files)
        print(process_time() - begin, flush=True)
    print(peak(), flush=True)


if __name__ == "__main__":
    main()
