"""Write the table of unacted speech that the shipped models are trained with, all of it neutral.

    python -m benchmarks.unacted FOLDER

FOLDER holds the repositories, checked out as below:

| folder | repository | licence | taken |
|---|---|---|---|
| `resemblyzer` | resemble-ai/Resemblyzer 15d828ed | LibriSpeech: CC BY 4.0 | `train-clean-100`: 251 speakers, English |
| `speech-to-intent` | Picovoice/speech-to-intent-benchmark 47b1ca63 | Apache-2.0 | commands, English |
| `precise` | MycroftAI/Precise-Community-Data 4854e39b | public domain | other speech at home, English, Spanish |
| `kerstin` | rhasspy/dataset-voice-kerstin f7312713 | CC0 | read speech, German |
| `nathalie` | rhasspy/dataset-voice-nathalie 3b3e91f3 | CC0 | read speech, Dutch |

FOLDER/calm.csv gets at most six seconds of each recording, and of the larger sources every n-th. Its
column ``corpus`` is the repository: each of them is a corpus of its own for ``training.balance``.
FOLDER/librispeech-other.csv gets the 100 recordings of `test-other`, which are only scored.
"""  # noqa: E501

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import soundfile

MAX_SECONDS, MIN_SECONDS = 6.0, 0.8
COLUMNS = ("path", "start", "end", "speaker", "emotion", "corpus")


@dataclass(frozen=True)
class Source:
    """Recordings of one source.

    Attributes:
        folder: below the folder of repositories.
        pattern: of the files.
        step: every n-th file is taken, in their sorted order.
        speaker: name for all; empty takes the first part of the file's name, after "ls".
    """

    folder: str
    pattern: str
    step: int
    speaker: str


TRAINING = (
    Source("resemblyzer/audio_data/librispeech_train-clean-100", "**/*.flac", 1, ""),
    Source("speech-to-intent/data/speech/clean", "*.wav", 2, "commands"),
    Source("kerstin/verified", "*.flac", 11, "kerstin"),
    Source("nathalie/verified", "*.flac", 9, "nathalie"),
    Source("precise/not-wake-words/es", "*.wav", 1, "home-es"),
    Source("precise/not-wake-words/en", "*.wav", 1, "home-en"),
)
SCORING = (Source("resemblyzer/audio_data/librispeech_test-other", "**/*.flac", 1, ""),)
TABLES = {"calm.csv": TRAINING, "librispeech-other.csv": SCORING}


def list_rows(root: Path, source: Source) -> Iterator[tuple[str, int, float, str, str, str]]:
    """Yield a row for each recording of a source that is long enough."""
    files = sorted((root / source.folder).glob(source.pattern))
    for file in files[:: source.step]:
        seconds = soundfile.info(file).duration
        if seconds >= MIN_SECONDS:
            speaker = source.speaker or f"ls{file.name.split('-')[0]}"
            end = round(min(seconds, MAX_SECONDS), 3)
            corpus = source.folder.split("/")[0]
            yield file.relative_to(root).as_posix(), 0, end, speaker, "neutral", corpus


def write_tables(root: Path) -> list[Path]:
    """Write both tables; a source that is missing is an error.

    Raises:
        FileNotFoundError: a source has no recordings.
    """
    paths = []
    for name, sources in TABLES.items():
        rows = []
        for source in sources:
            found = list(list_rows(root, source))
            if not found:
                raise FileNotFoundError(f"no recordings in {root / source.folder}")
            rows += found
        paths.append(root / name)
        with paths[-1].open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    return paths


if __name__ == "__main__":
    for path in write_tables(Path(sys.argv[1])):
        print(path)
