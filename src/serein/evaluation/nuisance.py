"""A baseline that hardly uses the voice: a random forest on ten numbers of each recording.

The numbers describe how a recording was made and cut: its duration, the silence before and after
the speech, level, peak, noise floor, offset, share of exact zeros, sampling rate and bandwidth. A
system that is no better may have learned them, and a corpus on which the forest is good tells its
classes apart by them. Duration and level also depend on how something is said.

n = recordings, S = samples, F = frames, K = classes.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serein import audio
from serein.audio import Samples
from serein.errors import StorageError
from serein.metrics.scoring import Scores, get_scorer
from serein.protocols import SplitConfig, split
from serein.records import Corpus, Protocol, Utterance
from serein.results.evaluation import NUISANCE, Prediction
from serein.utils.files import cache_folder, write_bytes, write_text

NUMBERS = (
    *("duration", "silence before", "silence after", "level", "peak", "floor", "offset", "zeros"),
    *("sampling rate", "bandwidth"),
)
"""The numbers in the order of a row: seconds, decibels relative to full scale, and hertz; offset
and zeros are shares."""
TREES = 100
FRAME_SECONDS = 0.02
SPEECH_RANGE = 40.0
"""Frames within so many decibels of the loudest one are not silence before or after the speech."""
LOWEST_LEVEL = -120.0
"""In decibels; digital silence has this level."""
FLOOR_PERCENTILE = 5
SPECTRUM_SAMPLES = 1024
BANDWIDTH_RANGE = 1e-6
"""Frequencies within 60 dB of the strongest one belong to the bandwidth."""
NUM_THREADS = 4
CACHE_VERSION = 1
"""Raised whenever the numbers or the forest change."""
MIN_GROUPS = 2
"""Classes and speakers without which a corpus has no score."""
MAX_FOLDS = 10
"""Folds of speakers in which a whole corpus is scored."""

Rows = NDArray[np.float64]
"""The numbers of recordings, (n, 10)."""


def compute_numbers(wave_s: Samples, rate: float) -> NDArray[np.float64]:
    """Compute the ten numbers of a recording.

    Args:
        wave_s: samples (S,) at the recording's own rate; they must not be empty.
        rate: sampling rate in Hz.
    """
    size = max(1, round(FRAME_SECONDS * rate))
    starts_f = np.arange(0, len(wave_s), size)
    square_s = wave_s.astype(np.float64) ** 2
    length_f = np.minimum(starts_f + size, len(wave_s)) - starts_f
    level_f = _to_decibels(np.add.reduceat(square_s, starts_f) / length_f)
    loud = (level_f >= max(level_f.max() - SPEECH_RANGE, LOWEST_LEVEL + 1)).nonzero()[0]
    before, after = len(wave_s), 0
    if len(loud):
        before = int(starts_f[loud[0]])
        after = len(wave_s) - int(starts_f[loud[-1]] + length_f[loud[-1]])
    return np.array(
        [
            len(wave_s) / rate,
            before / rate,
            after / rate,
            _to_decibels(square_s.mean()),
            _to_decibels(square_s.max()),
            np.percentile(level_f, FLOOR_PERCENTILE),
            wave_s.mean(dtype=np.float64),
            (wave_s == 0).mean(),
            rate,
            _find_bandwidth(wave_s, rate),
        ]
    )


def _to_decibels(power: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return 10 * np.log10(np.maximum(power, 10 ** (LOWEST_LEVEL / 10)))


def _find_bandwidth(wave_s: Samples, rate: float) -> float:
    """Return the highest frequency within 60 dB of the strongest one, in Hz; 0 for silence."""
    padded_s = np.pad(wave_s, (0, -len(wave_s) % SPECTRUM_SAMPLES))
    frames_fw = padded_s.reshape(-1, SPECTRUM_SAMPLES) * np.hanning(SPECTRUM_SAMPLES)
    power_k = (np.abs(np.fft.rfft(frames_fw)) ** 2).mean(axis=0)
    if not power_k.any():
        return 0.0
    highest = (power_k >= power_k.max() * BANDWIDTH_RANGE).nonzero()[0][-1]
    return float(highest * rate / SPECTRUM_SAMPLES)


def measure_recordings(utterances: Sequence[Utterance], content_hashes: Mapping[str, str]) -> Rows:
    """Return the ten numbers of each utterance, from the cache where its content is known.

    Args:
        utterances: to be read.
        content_hashes: hash of the audio of each id, from ``corpora.hash_contents``.

    Raises:
        AudioError: a recording cannot be read.
    """
    path = cache_folder() / f"nuisance-{CACHE_VERSION}.npz"
    known = dict[str, NDArray[np.float64]]()
    with suppress(OSError, ValueError, KeyError, EOFError, zlib.error), np.load(path) as arrays:
        known = dict(zip(arrays["keys"].tolist(), arrays["rows"], strict=True))
    unknown = {content_hashes[u.id]: u for u in utterances if content_hashes[u.id] not in known}
    if unknown:
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            known |= dict(zip(unknown, pool.map(_measure, unknown.values()), strict=True))
        content = BytesIO()
        np.savez(content, keys=np.array(list(known)), rows=np.array(list(known.values())))
        with suppress(StorageError):  # without the cache, all are measured again next time
            write_bytes(path, content.getbuffer())
    return np.array([known[content_hashes[u.id]] for u in utterances]).reshape(-1, len(NUMBERS))


def _measure(utterance: Utterance) -> NDArray[np.float64]:
    blocks = list(
        audio.iter_blocks(
            utterance.path, block_seconds=60.0, start=utterance.start, end=utterance.end
        )
    )
    return compute_numbers(np.concatenate([wave_s for wave_s, _ in blocks]), blocks[0][1])


def predict_nuisance(
    rows: Rows, labels: Mapping[str, str], ids: Sequence[str], protocol: Protocol
) -> dict[tuple[str, str], str]:
    """Predict the tested utterances of each fold by a forest that its training subset fitted.

    Args:
        rows: (n, 10) numbers.
        labels: class of each id; others are neither trained nor tested.
        ids: of the rows.
        protocol: the folds.

    Returns:
        The predicted class by fold and id; folds whose training subset has no label are left out.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    from sklearn import __version__
    from sklearn.ensemble import RandomForestClassifier

    index_of = {id_: index for index, id_ in enumerate(ids)}
    folds = {
        fold.name: [[id_ for id_ in own if id_ in labels] for own in (fold.train, fold.test)]
        for fold in protocol.folds
    }
    key = json.dumps([CACHE_VERSION, TREES, __version__, list(ids), sorted(labels.items()), folds])
    digest = hashlib.sha256(key.encode() + rows.tobytes()).hexdigest()[:32]
    path = cache_folder() / f"nuisance-{digest}.json"
    predicted = _read_predictions(path)
    if predicted is None:
        predicted = {}
        for name, (train, test) in folds.items():
            if not train or not test:
                continue
            forest = RandomForestClassifier(TREES, class_weight="balanced", random_state=0)
            forest.fit(rows[[index_of[id_] for id_ in train]], [labels[id_] for id_ in train])
            answers = forest.predict(rows[[index_of[id_] for id_ in test]])
            predicted[name] = [str(answer) for answer in answers]
        with suppress(StorageError):
            write_text(path, json.dumps(predicted))
    return {
        (name, id_): answer
        for name, answers in predicted.items()
        for id_, answer in zip(folds[name][1], answers, strict=True)
    }


def _read_predictions(path: Path) -> dict[str, list[str]] | None:
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return None


def score_nuisance(
    corpus: Corpus,
    content_hashes: Mapping[str, str],
    protocol: Protocol,
    predictions: Sequence[Prediction],
    classes: Mapping[str, Sequence[str]],
    labels: Mapping[str, str | float | None],
) -> dict[str, dict[str, Scores]]:
    """Score the baseline on the tested utterances of an evaluation.

    Args:
        corpus: of the evaluation.
        content_hashes: hash of the audio of each id.
        protocol: the folds, whose training subsets fit a forest each.
        predictions: of the evaluated system; their labels are scored.
        classes: of each task; the first task that has any is scored.
        labels: class of each id in that task.

    Returns:
        The entry of the baseline for ``Results.baselines``: None for every score without
        scikit-learn; empty without classes.
    """
    task = find_task(classes)
    tested = [p for p in predictions if task is not None and p.truth.get(task) is not None]
    if task is None or not tested:
        return {}
    scorer = get_scorer(classes[task])
    known = {id_: str(label) for id_, label in labels.items() if label is not None}
    rows = measure_recordings(corpus.utterances, content_hashes)
    try:
        answers = predict_nuisance(rows, known, [u.id for u in corpus.utterances], protocol)
    except ImportError:
        return {NUISANCE: {task: dict.fromkeys(metric.name for metric in scorer.metrics)}}
    predicted = [answers.get((p.fold, p.id)) for p in tested]
    if None in predicted:
        return {}
    truth = [p.truth[task] for p in tested]
    total = scorer.tally(truth, predicted, [0] * len(truth), classes[task]).sum(axis=0)
    return {NUISANCE: {task: scorer.compute_scores(total)}}


def find_task(classes: Mapping[str, Sequence[str]]) -> str | None:
    """Return the first task that has classes."""
    return next((task for task, names in classes.items() if names), None)


def score_corpus(
    utterances: Sequence[Utterance], content_hashes: Mapping[str, str], label: str = "emotion"
) -> float | None:
    """Return the baseline's UA for a label, with other speakers for training and testing.

    Args:
        utterances: of a corpus.
        content_hashes: hash of the audio of each id.
        label: name of the label.

    Returns:
        None if the corpus has fewer than two classes or two speakers.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    labelled = [u for u in utterances if u.speaker and isinstance(u.label(label), str)]
    labels = {u.id: str(u.label(label)) for u in labelled}
    speakers, names = {u.speaker for u in labelled}, sorted({*labels.values()})
    if len(speakers) < MIN_GROUPS or len(names) < MIN_GROUPS:
        return None
    config = SplitConfig(
        name="speaker-k-fold", folds=min(MAX_FOLDS, len(speakers)), validation="none"
    )
    protocol = split(labelled, config)
    rows = measure_recordings(labelled, content_hashes)
    answers = predict_nuisance(rows, labels, [u.id for u in labelled], protocol)
    truth = [labels[id_] for _, id_ in answers]
    scorer = get_scorer(names)
    total = scorer.tally(truth, list(answers.values()), [0] * len(truth), names).sum(axis=0)
    return scorer.compute_scores(total)["ua"]
