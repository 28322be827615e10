"""Estimate how long a run takes, by steps that are trained and evaluated for a few seconds.

The frames of some recordings stand for those of all others of similar duration, so that batches
have their real sizes. The measured system is discarded.

n = measured recordings.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from serein import audio, registry, system
from serein.audio import utterance_durations
from serein.errors import AudioError
from serein.evaluation import transcripts
from serein.evaluation.plan import Plan
from serein.interfaces import FrontEnd
from serein.labels.vocabulary import tokenize
from serein.records import Fold, Utterance
from serein.results.plan import TimeEstimate
from serein.training.dataset import Frames, Subset, compute_frames, is_cached
from serein.training.loop import fit
from serein.training.predict import predict_subset
from serein.training.sampling import augment_subset
from serein.utils.device import restore_torch_state

MAX_RECORDINGS = 48
"""Recordings whose frames are computed."""
MAX_STEPS = 20
WARM_UP_SHARE = 8
"""The first steps have this fraction of a batch."""
MAX_STEP_SECONDS = 30.0
"""A step that would take longer is estimated by a part of a batch."""
LONG_TRANSCRIPT = 0.95
"""Quantile of the words of transcripts, up to which words are decoded."""
FEATURES_SECONDS = 2.0
"""Time after which no further recording is read."""
TRAINING_SECONDS = 3.0
EVALUATION_SECONDS = 2.0
EVALUATION_POSITIONS = (0.5, 1 / 6, 5 / 6)
"""Measured batches of a subset that is sorted by length."""


@dataclass(frozen=True)
class StepTimes:
    """Measured times, in seconds.

    Attributes:
        step: of one training step.
        steps: number of measured training steps.
        evaluation: of one evaluated batch; 0 if no subset is evaluated.
        features: to compute the features of one second of audio.
        processor_share: share of a processor that the measurement got; other programs had the
            rest. 1 if unknown.
    """

    step: float
    steps: int
    evaluation: float
    features: float
    processor_share: float = 1.0


def estimate_time(plan: Plan, *, seeds: int = 1, jobs: int = 1) -> TimeEstimate:
    """Estimate how long all folds of a plan take.

    Args:
        plan: a plan or its draft; its network is trained in epochs.
        seeds: number of trainings of every fold.
        jobs: folds at a time, on processors of which each trains one.

    Raises:
        AudioError: no recording can be read.
    """
    utterances = plan.corpus.utterances
    ids = [utterance.id for utterance in utterances]
    duration_of = dict(zip(ids, utterance_durations(utterances), strict=True))
    times = measure_steps(plan, plan.protocol.folds[0], duration_of)
    batch, rounds = plan.training.batch, seeds * plan.training.epochs
    steps, batches = (
        rounds * sum(map(math.ceil, (size / batch for size in sizes)))
        for sizes in (
            [len(fold.train) for fold in plan.protocol.folds],
            [len(ids) for fold in plan.protocol.folds for ids in (fold.validation, fold.test)],
        )
    )
    features = 0.0 if _has_features(plan) else times.features * sum(duration_of.values())
    training = steps * times.step + batches * times.evaluation
    parallel = min(jobs, len(plan.protocol.folds)) if plan.device == "cpu" else 1
    return TimeEstimate(
        step_seconds=times.step,
        measured_steps=times.steps,
        evaluation_seconds=times.evaluation,
        features_seconds=features,
        training_steps=steps,
        evaluation_batches=batches,
        total_seconds=features + training,
        jobs=parallel,
        elapsed_seconds=features + training / parallel,
        processor_share=round(min(1.0, times.processor_share), 3),
    )


def _has_features(plan: Plan) -> bool:
    """Return whether the features are in the cache; False if the recordings were not hashed."""
    utterances, contents = plan.corpus.utterances, plan.content_hashes
    return bool(contents) and is_cached(utterances, plan.build_front_end(), contents)


@restore_torch_state()
def measure_steps(plan: Plan, fold: Fold, duration_of: Mapping[str, float]) -> StepTimes:
    """Measure training steps and evaluated batches of a fold.

    Args:
        plan: a plan or its draft.
        fold: whose utterances are trained and evaluated.
        duration_of: duration of each utterance, in seconds.

    Raises:
        AudioError: no recording can be read.
    """
    torch.set_num_threads(plan.training.threads)
    torch.manual_seed(plan.seed)
    plan = _limit_decoded_words(plan)
    measured = plan.build_system(fold)
    frames, features = _sample_frames(plan, measured.front_end, duration_of)
    train = _build_subset(plan, fold.train, frames, measured)
    batch = plan.training.batch
    order = train.shuffled_order(batch, plan.training.bucket, plan.seed)
    clocks = time.perf_counter(), time.process_time()
    few = max(1, batch // WARM_UP_SHARE)
    _time_steps(plan, measured, train, order[:few])  # the first step compiles and allocates
    step, steps = _time_steps(plan, measured, train, order[:few]) * batch / few, 0
    if step < MAX_STEP_SECONDS:
        steps = max(1, min(MAX_STEPS, int(TRAINING_SECONDS / step), len(order) // batch))
        step = _time_steps(plan, measured, train, order[: steps * batch])
    evaluation = _time_evaluation(plan, fold, frames, measured)
    elapsed, used = (
        now - start
        for now, start in zip((time.perf_counter(), time.process_time()), clocks, strict=True)
    )
    busy = plan.device == "cpu" and plan.training.threads == 1
    return StepTimes(step, steps, evaluation, features, used / elapsed if busy else 1.0)


def _limit_decoded_words(plan: Plan) -> Plan:
    """Let an untrained recogniser decode as many words as a trained one would.

    It would rarely predict the end of a sentence: the limit is the length of long transcripts.
    """
    model_config = registry.load_module("models", str(plan.recipe.model["name"])).Config
    texts = [u.text for u in plan.corpus.utterances if u.text]
    if "max_steps" not in {field.name for field in fields(model_config)} or not texts:
        return plan
    lengths = sorted(len(tokenize(text)) for text in texts)
    limit = lengths[int(LONG_TRANSCRIPT * (len(lengths) - 1))] + 1
    limit = min(limit, plan.recipe.model.get("max_steps", limit))
    return replace(
        plan, recipe=replace(plan.recipe, model={**plan.recipe.model, "max_steps": limit})
    )


def _time_steps(
    plan: Plan, measured: "system.System", train: Subset, indices: Sequence[int]
) -> float:
    """Train on some utterances, and return the mean seconds of a step."""
    ids = tuple(train.ids[index] for index in indices)
    subset = augment_subset(
        _build_subset(plan, ids, train.frames, measured),
        plan.corpus.select(ids),
        plan.training,
        (),
        system.build_recipe_spec_augment(plan.recipe, measured.front_end),
    )
    settings = replace(plan.training, epochs=1, checkpoint=0.0)
    run = fit(measured, subset, {}, settings, seed=plan.seed, device=plan.device)
    return run.epochs[0].seconds / -(-len(ids) // plan.training.batch)


def _time_evaluation(plan: Plan, fold: Fold, frames: Frames, measured: "system.System") -> float:
    """Return the seconds of one evaluated batch; 0 if no subset is evaluated."""
    size, ids = plan.training.batch, (*fold.validation, *fold.test)
    if not ids:
        return 0.0
    ordered, seconds = sorted(ids, key=frames.length), list[float]()
    few = max(1, size // WARM_UP_SHARE)
    scaled = _time_batch(plan, ordered, 0.5, few, frames, measured) * size / few
    if scaled > MAX_STEP_SECONDS:
        return scaled
    for position in EVALUATION_POSITIONS:
        seconds.append(_time_batch(plan, ordered, position, size, frames, measured))
        if sum(seconds) > EVALUATION_SECONDS:
            break
    return sum(seconds) / len(seconds)


def _time_batch(
    plan: Plan,
    ordered: Sequence[str],
    position: float,
    size: int,
    frames: Frames,
    measured: "system.System",
) -> float:
    """Predict one batch of ids that are sorted by length, at a position from 0 to 1."""
    start = max(0, min(len(ordered) - size, round(position * len(ordered) - size / 2)))
    subset = _build_subset(plan, tuple(ordered[start : start + size]), frames, measured)
    started = time.perf_counter()
    predict_subset(measured, subset, size, plan.precision)
    return time.perf_counter() - started


def _build_subset(
    plan: Plan, ids: tuple[str, ...], frames: Frames, measured: "system.System"
) -> Subset:
    """Build a subset with the transcripts of the corpus."""
    utterances = plan.corpus.select(ids)
    words = transcripts.encode_transcripts(measured, utterances, {})
    return Subset(ids, frames, measured.targets(utterances), words)


def _sample_frames(
    plan: Plan, front_end: FrontEnd, duration_of: Mapping[str, float]
) -> tuple[Frames, float]:
    """Compute the frames of recordings of all durations, and let them stand for all others.

    The first recording is not counted: its time includes imports.

    Returns:
        Frames for every id of the corpus, and the seconds that a second of audio takes.
    """
    ordered = sorted(plan.corpus.utterances, key=lambda utterance: duration_of[utterance.id])
    found: dict[str, np.ndarray] = {}
    started, counted, faults = time.perf_counter(), 0.0, list[str]()
    for index in _spread_indices(len(ordered)):
        utterance = ordered[index]
        try:
            found[utterance.id] = compute_frames(_load(utterance, front_end), front_end)
        except AudioError as error:
            faults.append(str(error))
            continue
        if len(found) == 1:
            started = time.perf_counter()
        else:
            counted += duration_of[utterance.id]
        if time.perf_counter() - started > FEATURES_SECONDS:
            break
    if not found:
        raise AudioError(f"none of {len(faults)} recordings can be read: {faults[0]}")
    elapsed = time.perf_counter() - started
    return _repeat_frames(found, duration_of), elapsed / counted if counted else 0.0


def _load(utterance: Utterance, front_end: FrontEnd) -> np.ndarray:
    return audio.load(utterance.path, front_end.rate, start=utterance.start, end=utterance.end)


def _spread_indices(count: int) -> list[int]:
    """Return indices from all over a list, the middle first, each once.

    >>> _spread_indices(5)
    [2, 1, 3, 0, 4]
    """
    # The binary digits of n, reversed, are spread over 0 to 1 (van der Corput's sequence).
    shares = [int(f"{n:06b}"[::-1], 2) / 64 for n in range(1, MAX_RECORDINGS)]
    return list(dict.fromkeys(min(count - 1, int(share * count)) for share in (*shares, 1.0)))


def _repeat_frames(found: Mapping[str, np.ndarray], duration_of: Mapping[str, float]) -> Frames:
    """Return frames in which each utterance has those of the measured one of nearest duration."""
    ids = sorted(found, key=duration_of.__getitem__)
    ends_n = np.cumsum([len(found[id_]) for id_ in ids])
    starts_n = np.concatenate([[0], ends_n[:-1]])
    measured_n = np.array([duration_of[id_] for id_ in ids])
    borders = (measured_n[1:] + measured_n[:-1]) / 2
    nearest = np.searchsorted(borders, list(duration_of.values()))
    index = {
        id_: (int(starts_n[k]), int(ends_n[k]))
        for id_, k in zip(duration_of, nearest.tolist(), strict=True)
    }
    return Frames(np.concatenate([found[id_] for id_ in ids]), index)
