"""CPU time and memory of one backend: `python -m benchmarks.backends MODEL BACKEND FOLDER`.

Prints one row of the table in docs/export.md: CPU seconds of the process until the model is loaded
and until the first answer, CPU milliseconds of an answer to 4 s alone and of many together, times
real time of a timeline, and the largest memory. Run it with OMP_NUM_THREADS=1.
"""

import resource
import sys
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

COUNT, SECONDS = 40, 4


def main(model: str, backend: Any, folder: Path) -> None:
    """Measure, and print the row."""
    begin = process_time()
    import numpy as np

    from serein import audio
    from serein.inference.recognizer import Recognizer
    from serein.utils.distributed import tune_process

    tune_process()  # as commands do
    recognizer = Recognizer(model, backend=backend)
    loaded, rate = process_time(), recognizer.rate
    files = sorted(folder.rglob("*.wav"))[:COUNT]
    waves = [np.resize(audio.load(file, rate), SECONDS * rate) for file in files]
    before_first = process_time()
    recognizer((waves[0], rate))
    first = process_time() - before_first + loaded - begin
    alone = []
    for wave in waves:
        start = process_time()
        recognizer((wave, rate))
        alone.append(process_time() - start)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = process_time()
    recognizer.predict_many([(str(n), wave) for n, wave in enumerate(waves)], attention=False)
    together = (process_time() - start) / len(waves)
    speech = np.concatenate(waves)
    start = process_time()
    recognizer.timeline((speech, rate))
    speed = len(speech) / rate / (process_time() - start)
    print(
        f"| {model} | {recognizer.backend.name}, {recognizer.precision} | {loaded - begin:.2f} | "
        f"{first:.2f} | {1000 * median(alone):.0f} | {1000 * together:.0f} | {speed:.0f} | "
        f"{memory:.0f} |"
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
