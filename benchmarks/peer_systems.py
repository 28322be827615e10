"""Systems that recognize emotion in files, for ``alternatives``; each runs in its own process.

`python -m benchmarks.peer_systems SYSTEM FOLDER` reads from each input line how often to recognize
all files of the folder, and prints the CPU seconds; at the end of the input it prints its peak
memory in MiB. Each system imports only what it needs.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from benchmarks.timing import MODEL, peak_memory

CLASSES = 7
FEATURES = 88
"""Number of eGeMAPS functionals."""

RecognizeFiles = Callable[[Sequence[Path]], object]


def ours() -> RecognizeFiles:
    """Load the shipped model; it recognizes one file at a time."""
    from serein.inference.recognizer import Recognizer

    recognizer = Recognizer(MODEL)
    return lambda files: [recognizer(file) for file in files]


def folder() -> RecognizeFiles:
    """Load the shipped model; it recognizes several files at a time, as for folders."""
    from serein.inference.recognizer import Recognizer
    from serein.inference.workers import RecognitionContext, recognize_files

    recognizer = Recognizer(MODEL)

    def recognize(files: Sequence[Path]) -> object:
        return recognize_files(
            RecognitionContext(recognizer, files[0].parent), [file.name for file in files]
        )

    return recognize


def wav2vec2() -> RecognizeFiles:
    """Build a network of wav2vec 2.0's base size; random weights do not change its speed."""
    return _wav2vec2(bf16=False)


def wav2vec2_bf16() -> RecognizeFiles:
    """Build the same network with autocast to bf16."""
    return _wav2vec2(bf16=True)


def egemaps() -> RecognizeFiles:
    """Build openSMILE's functionals with a linear support vector machine."""
    import opensmile
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    noise, classes = np.random.default_rng(0).normal(size=(200, FEATURES)), np.arange(200) % CLASSES
    classifier = make_pipeline(StandardScaler(), SVC(kernel="linear")).fit(noise, classes)
    return lambda files: [
        classifier.predict(smile.process_file(str(file)).to_numpy()) for file in files
    ]


def _wav2vec2(*, bf16: bool) -> RecognizeFiles:
    import soundfile
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = Wav2Vec2Config(num_labels=CLASSES)
    network: Any = Wav2Vec2ForSequenceClassification(config).eval()

    def recognize(file: Path) -> torch.Tensor:
        wave_s = torch.from_numpy(soundfile.read(file, dtype="float32")[0])
        standard_1s = ((wave_s - wave_s.mean()) / (wave_s.std() + 1e-7))[None]
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return network(standard_1s).logits.argmax(dim=-1)

    return lambda files: [recognize(file) for file in files]


SYSTEMS = {build.__name__: build for build in (ours, folder, wav2vec2, wav2vec2_bf16, egemaps)}


def main() -> None:
    recognize, files = SYSTEMS[sys.argv[1]](), sorted(Path(sys.argv[2]).iterdir())
    recognize(files)
    print("ready", flush=True)
    for line in sys.stdin:
        start = process_time()
        for _ in range(int(line)):
            recognize(files)
        print(process_time() - start, flush=True)
    print(peak_memory(), flush=True)


if __name__ == "__main__":
    main()
