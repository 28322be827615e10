"""Loss and gain of exported precisions: `python -m benchmarks.exports MODEL CORPUS=FOLDER...`.

`--speakers N` takes the first N speakers of each corpus.

Prints rows of the table in docs/export.md: size of the exported file, CPU milliseconds of an answer
to 4 s by onnxruntime, and for each corpus the UA among the classes that it shares with the model,
with the share of answers that are those of fp32. Run it with OMP_NUM_THREADS=1.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time
from typing import get_args

import numpy as np

from serein import audio, corpora
from serein.inference.model_loading import find_model_file, open_model
from serein.inference.onnx_export import ExportPrecision, to_onnx
from serein.inference.recognizer import Recognizer
from serein.inference.standalone_graph import build_exported_file
from serein.labels import harmonize_emotion
from serein.metrics.classification import unweighted_accuracy_score
from serein.records import Utterance

REPEATS, SECONDS = 20, 4


def main(model: str, names: Sequence[str], speakers: int | None) -> None:
    """Export the model in each precision, and print its row."""
    path = find_model_file(model)
    bundle, exported = open_model(path), build_exported_file(path)
    read = {name.partition("=")[0]: _select_speakers(name, speakers) for name in names}
    expected: dict[str, list[str]] = {}
    with TemporaryDirectory() as folder:
        for precision in get_args(ExportPrecision):
            file = Path(folder) / f"{precision}.onnx"
            difference = to_onnx(bundle, file, precision, exported=exported)
            cells = [f"{file.stat().st_size / 1e6:.1f}", f"{difference:.1g}"]
            recognizer = Recognizer(file, answer_nonspeech=True)
            first = next(iter(read.values()))[0].path
            cells.append(f"{_time_answer(recognizer, first):.0f}")
            for corpus, utterances in read.items():
                truth, labels = _recognize(recognizer, utterances)
                agreement = np.mean(np.array(labels) == expected.setdefault(corpus, labels))
                ua = unweighted_accuracy_score(truth, labels)
                cells.append(f"{100 * ua:.1f} ({100 * agreement:.1f})")
            print(f"| {model} | {precision} | {' | '.join(cells)} |", flush=True)


def _select_speakers(name: str, count: int | None) -> list[Utterance]:
    utterances = corpora.load(name).utterances
    kept = sorted({str(one.speaker) for one in utterances})[:count]
    return [one for one in utterances if str(one.speaker) in kept]


def _time_answer(recognizer: Recognizer, path: Path) -> float:
    """Return the CPU milliseconds of an answer to 4 s, without the detection of speech."""
    wave = np.resize(audio.load(path, recognizer.rate), SECONDS * recognizer.rate)
    times = []
    for _ in range(REPEATS):
        start = process_time()
        recognizer((wave, recognizer.rate))
        times.append(1000 * (process_time() - start))
    return median(times)


def _recognize(
    recognizer: Recognizer, utterances: Sequence[Utterance]
) -> tuple[list[str], list[str]]:
    """Return classes and answers of the utterances whose class the model has."""
    task, classes = next((task, own) for task, own in recognizer.classes.items() if own)
    pairs = [(one, harmonize_emotion(str(one.labels[task]))) for one in utterances]
    present = {label for _, label in pairs}
    shared = [name for name in classes if harmonize_emotion(name) in present]
    restricted = recognizer.with_classes(shared if len(shared) < len(classes) else None)
    truth, labels = [], []
    for utterance, label in pairs:
        if label not in map(harmonize_emotion, shared):
            continue
        answer = restricted((audio.load(utterance.path, restricted.rate), restricted.rate))
        truth.append(label)
        labels.append(harmonize_emotion(str(answer.tasks[task].label)))
    return truth, labels


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("corpora", nargs="+", metavar="CORPUS=FOLDER")
    parser.add_argument("--speakers", type=int)
    arguments = parser.parse_args()
    main(arguments.model, arguments.corpora, arguments.speakers)
