"""Explain a prediction: which parts of a recording count, and how that correlates with energy.

The weights over time are a model's attention or, for models without attention, those of occlusion
(`serein.inference.occlusion`). Zhang et al. 2019 observe in their Figure 2, by eye and for two
utterances, that attention for arousal follows amplitude and attention for valence does not. Here it
is a correlation, with an interval that takes the autocorrelation of both into account.

H = heads, T = steps.
"""

import io
import math
import os
import wave
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from serein import audio, config, recipes, registry
from serein.audio import Source, envelope
from serein.errors import AudioError, ConfigError, UnknownName
from serein.inference.backend import has_torch
from serein.inference.model_loading import list_models
from serein.inference.occlusion import Drops, measure_drops
from serein.inference.recognition import AttentionMap, Recognition, get_source_name
from serein.inference.recognizer import Recognizer
from serein.metrics.correlation import (
    MIN_EFFECTIVE_STEPS,
    correlation_interval,
    effective_steps,
)
from serein.metrics.jackknife import FISHER_Z, jackknife_interval
from serein.metrics.regression import pearson_score, spearman_score
from serein.model_file import read_document
from serein.results.inference import (
    EXPLANATIONS_FORMAT,
    AttentionTrack,
    Correlation,
    Explanation,
    Explanations,
    OcclusionTrack,
)

if TYPE_CHECKING:
    from serein.bundle import Bundle

METHODS = ("attention", "occlusion")
"""Methods of explanation."""
MAX_SECONDS = 300.0
"""Longest recording that is explained, in seconds; a plot of a longer one is unreadable."""
PLAYBACK_RATE = 16_000
"""Sampling rate of the audio in an HTML page, in Hz."""
MIN_ENERGY_WINDOW = 0.04
"""Shortest window of a value of energy, in seconds: two periods of the lowest voice, and the
segment of Zhang et al. In a shorter one, energy follows the periods and not the loudness."""
MIN_FILES = 2
"""Number of files below which a mean correlation has no interval."""

Interval = tuple[float, float] | None


def explain(
    model: "Recognizer | Bundle | str | os.PathLike[str]",
    source: Source,
    *,
    start: float = 0.0,
    end: float | None = None,
    words: str | None = None,
    method: Literal["attention", "occlusion"] | None = None,
) -> Explanation:
    """Recognize a recording and explain which parts of it count.

    A given ``Recognizer`` keeps its check for speech; for a bundle or the name or path of a model,
    the check is turned off, so that every recording gets an answer.

    >>> import numpy as np
    >>> rising = np.linspace(0, 0.1, 32000) * np.sin(np.arange(32000))
    >>> explanation = explain("li2019-emodb", (rising, 16000))
    >>> len(explanation.attention["heads"].heads)
    8
    >>> explanation = explain("li2019-emodb", (rising, 16000), method="occlusion")
    >>> len(explanation.occlusion["emotion"].drop), explanation.answers
    (9, 10)

    Args:
        model: a recognizer, a bundle, name of a shipped model, or path of a bundle.
        source: path, bytes, binary file, or (samples, rate in Hz).
        start: start of the part to explain, in seconds.
        end: end of the part, in seconds; None is the end of the recording.
        words: what is said in the part, for a model that reads words.
        method: "attention" of the model, or "occlusion": the change of the answer when one span
            after the other is silenced. None is attention for a model that has it, else occlusion.

    Raises:
        AudioError: the recording cannot be read, is too short, or longer than five minutes.
        UnknownName: there is no such method.
        ConfigError: the model has no attention over time and ``method`` is "attention"; it needs
            words and has none; or it reads the given words only.
        BundleError: the model's file is missing, corrupt, tampered with, or too new.
    """
    if method is not None and method not in METHODS:
        raise UnknownName("method", method, METHODS)
    recognizer = (
        model if isinstance(model, Recognizer) else Recognizer(model, answer_nonspeech=True)
    )
    recognizer.check_words(words)
    rate = recognizer.rate
    limit = start + MAX_SECONDS + 1
    wave_s = audio.load(source, rate, start=start, end=limit if end is None else min(end, limit))
    if len(wave_s) > MAX_SECONDS * rate:
        raise AudioError(
            f"more than {MAX_SECONDS:.0f} s of audio; at most {MAX_SECONDS:.0f} s are explained. "
            f"Choose a part with start and end (--start and --end)."
        )
    # Attention and drops are those of windows, also of a long recording.
    recordings = [(get_source_name(source), wave_s)]
    (recognition,) = recognizer.predict_many(recordings, start=start, words=[words])
    if not recognition.attention and method == "attention":
        raise ConfigError(_no_attention_message(recognizer))
    probabilities = {task: answer.probabilities for task, answer in recognition.tasks.items()}
    labels = {task: max(p, key=lambda name: p[name]) for task, p in probabilities.items()}
    attention: dict[str, AttentionTrack] = {}
    occlusion: dict[str, OcclusionTrack] = {}
    answers = 0
    if recognition.attention and method != "occlusion":
        attention = {
            name: _build_track(name, attention_map, recognition, wave_s, rate)
            for name, attention_map in recognition.attention.items()
        }
    else:
        windows = [
            (round((first - start) * rate), round((last - start) * rate))
            for first, last in recognition.windows
        ]
        drops = measure_drops(recognizer, wave_s, windows, labels, words)
        occlusion, answers = _build_occlusion(drops, labels, start, wave_s, rate), drops.answers
    return Explanation(
        source=recognition.source,
        model=recognition.model,
        start=recognition.start,
        end=recognition.end,
        windows=recognition.windows,
        labels=labels,
        probabilities=probabilities,
        envelope=envelope.compute_envelope(wave_s),
        attention=attention,
        words=recognition.words,
        method="occlusion" if occlusion else "attention",
        values=recognition.values,
        occlusion=occlusion,
        answers=answers,
    )


def _no_attention_message(recognizer: Recognizer) -> str:
    if recognizer.word_source == "given":
        return (
            f"the model {recognizer.name} (recipe {recognizer.description.recipe.name}) attends to "
            "words only, which have no times here; `serein recognize --words ... --format json` "
            "lists the weight of each word"
        )
    name, recipe = recognizer.name, recognizer.description.recipe.name
    message = (
        f"the model {name} (recipe {recipe}) has no attention to explain; choose the method "
        "occlusion, which every model has"
    )
    if not has_torch():  # the files of models and front ends import it
        return message
    models = [other for other in list_attention_models() if other != name]
    return (
        f"{message}. Shipped models with attention: {', '.join(models) or 'none'}; recipes that "
        f"train one: {', '.join(list_attention_recipes())}."
    )


def list_attention_models() -> list[str]:
    """Return the sorted names of the shipped models that have attention over time."""
    return sorted(
        name
        for name, file in list_models().items()
        if _has_attention(read_document(file)["recipe"]["model"])
    )


def list_attention_recipes() -> list[str]:
    """Return the sorted names of the recipes whose model has attention."""
    return [name for name in recipes.list_recipes() if _has_attention(recipes.load(name).model)]


def _has_attention(table: Mapping[str, Any]) -> bool:
    """Return the setting ``attention`` of a model; False if it has no such setting."""
    settings = {key: value for key, value in table.items() if key not in ("name", "separate")}
    cls = registry.load_module("models", str(table["name"])).Config
    return bool(getattr(config.build_config(cls, settings, "model"), "attention", False))


def _build_track(
    name: str, attention_map: AttentionMap, recognition: Recognition, wave_s: np.ndarray, rate: int
) -> AttentionTrack:
    times_t, weight_ht = np.array(attention_map.times), np.array(attention_map.weights)
    step = recognition.end - recognition.start
    if len(times_t) > 1:
        step = float(np.median(np.diff(times_t)))
    width = max(step, MIN_ENERGY_WINDOW)
    energy_t = envelope.compute_energy(wave_s, rate, (times_t - recognition.start).tolist(), width)
    mean_t = weight_ht.mean(axis=0)
    has_one_row = len(weight_ht) == 1 or attention_map.words
    rows = [mean_t, *(() if has_one_row else weight_ht)]
    # Steps without any weight are left out: no segment of zhang2019 is centred on an utterance's
    # first frames, so that the model could not attend to them.
    used_t = weight_ht.any(axis=0)
    correlation, *by_head = (
        correlate_with_energy(weight_t[used_t], energy_t[used_t]) for weight_t in rows
    )
    return AttentionTrack(
        tasks=_find_tasks(name, list(recognition.tasks)),
        times=attention_map.times,
        step=step,
        energy=energy_t.tolist(),
        width=width,
        weight=mean_t.tolist(),
        heads=attention_map.weights,
        queries=attention_map.queries,
        correlation=correlation,
        by_head=by_head,
        words=[word.word for word in recognition.words] if attention_map.words else [],
    )


def _build_occlusion(
    drops: Drops, labels: Mapping[str, str], start: float, wave_s: np.ndarray, rate: int
) -> dict[str, OcclusionTrack]:
    first_n, length = drops.spans
    centre_n = (first_n + length / 2) / rate
    width = length / rate
    step = float(centre_n[1] - centre_n[0]) if len(centre_n) > 1 else width
    energy_n = envelope.compute_energy(wave_s, rate, centre_n.tolist(), width)
    return {
        task: OcclusionTrack(
            task=task,
            label=labels.get(task),
            times=(start + centre_n).tolist(),
            step=step,
            length=width,
            energy=energy_n.tolist(),
            drop=drop_n.tolist(),
            correlation=correlate_with_energy(drop_n, energy_n),
        )
        for task, drop_n in drops.drops.items()
    }


def _find_tasks(name: str, tasks: list[str]) -> list[str]:
    """Return the task that an attention map is named after; otherwise all tasks."""
    own = [task for task in tasks if name == task or name.startswith(f"{task}: ")]
    return own or tasks


def correlate_with_energy(weight_t: np.ndarray, energy_t: np.ndarray) -> Correlation:
    """Correlate weights with energy over time.

    Args:
        weight_t: (T,) attention weights, or those of occlusion.
        energy_t: (T,) energy of the same steps, in decibels.
    """
    count = len(weight_t)
    reason = _find_undefined_reason(weight_t, energy_t)
    if reason:
        return _undefined_correlation(count, reason)
    pearson, spearman, method = _correlation_intervals(weight_t, energy_t)
    return Correlation(
        count=count,
        pearson=pearson_score(weight_t, energy_t),
        pearson_interval=pearson,
        spearman=spearman_score(weight_t, energy_t),
        spearman_interval=spearman,
        description=method,
    )


def _correlation_intervals(
    weight_t: np.ndarray, energy_t: np.ndarray
) -> tuple[Interval, Interval, str]:
    """Return the intervals of both correlations, and a description of the method."""
    steps = [effective_steps(weight_t, energy_t, ranked=ranked) for ranked in (False, True)]
    of_all = f"of {len(weight_t)} steps as effective, by their autocorrelation"
    if min(steps) < MIN_EFFECTIVE_STEPS:
        needed = f"{MIN_EFFECTIVE_STEPS:.0f} are needed"
        return None, None, f"no interval: {min(steps):.1f} {of_all}; {needed}"
    pearson, spearman = (
        correlation_interval(weight_t, energy_t, ranked=ranked) for ranked in (False, True)
    )
    counts = " and ".join(dict.fromkeys(f"{count:.0f}" for count in steps))
    return pearson, spearman, f"95 % by Fisher's z with {counts} {of_all}"


def _find_undefined_reason(weight_t: np.ndarray, energy_t: np.ndarray) -> str:
    """Return why the correlation is undefined; empty if it is defined."""
    if len(weight_t) < 2:
        return f"undefined: {len(weight_t)} step{'s' * (len(weight_t) != 1)}"
    if np.ptp(energy_t) < 1e-4:
        silence = " (silence)" if energy_t[0] <= envelope.FLOOR_DB else ""
        return f"undefined: the energy is the same at every step{silence}"
    # float32 weights that differ only in their last digits are equal
    if np.ptp(weight_t) <= 1e-6 * np.abs(weight_t).max():
        return "undefined: the weight is the same at every step"
    return ""


def _undefined_correlation(count: int, reason: str) -> Correlation:
    return Correlation(
        count=count,
        pearson=None,
        pearson_interval=None,
        spearman=None,
        spearman_interval=None,
        description=reason,
    )


def collect_explanations(
    explained: Sequence[Explanation], failed: Mapping[str, str], command: str = ""
) -> Explanations:
    """Collect explanations of several recordings, with the mean correlation of each map or task.

    Args:
        explained: explanations by one model and method.
        failed: reason for each recording that could not be read.
        command: command line that was typed.

    Raises:
        ConfigError: some are by attention and some by occlusion.
    """
    if len({one.method for one in explained}) > 1:
        raise ConfigError(
            "explanations by attention and by occlusion in one collection; their weights cannot be "
            "averaged. Collect those of each method alone"
        )
    correlations = [
        {name: track.correlation for name, track in (one.attention | one.occlusion).items()}
        for one in explained
    ]
    names = dict.fromkeys(name for one in correlations for name in one)
    return Explanations(
        format=EXPLANATIONS_FORMAT,
        command=command,
        explained=list(explained),
        failed=dict(failed),
        correlations={
            name: average_correlations([one[name] for one in correlations if name in one])
            for name in names
        },
    )


def average_correlations(correlations: Sequence[Correlation]) -> Correlation:
    """Average defined correlations over files; intervals are jackknifed over the files."""
    pairs = [(one.pearson, one.spearman) for one in correlations if one.pearson is not None]
    if not pairs:
        return _undefined_correlation(0, "undefined: in every file")
    score_n2 = np.array(pairs, dtype=float)
    count, undefined = len(pairs), len(correlations) - len(pairs)
    files = f"{count} file{'s' * (count != 1)}"
    note = f"; undefined in {undefined} more" if undefined else ""
    pearson = spearman = None
    description = f"no interval: {files}; {MIN_FILES} are needed{note}"
    if count >= MIN_FILES:
        pearson, spearman = _mean_interval(score_n2[:, 0]), _mean_interval(score_n2[:, 1])
        description = f"95 % jackknife over {files}, assumed to be independent{note}"
    return Correlation(
        count=count,
        pearson=float(score_n2[:, 0].mean()),
        pearson_interval=pearson,
        spearman=float(score_n2[:, 1].mean()),
        spearman_interval=spearman,
        description=description,
    )


def _mean_interval(scores: np.ndarray) -> Interval:
    """Return the interval of a mean correlation; None where all are the same."""
    counts = np.stack([scores, np.ones_like(scores)], axis=1)
    low, high = jackknife_interval(counts, lambda sums: sums[:, 0] / sums[:, 1], scale=FISHER_Z)
    return None if math.isnan(low) else (low, high)


def encode_playback(source: Source, *, start: float = 0.0, end: float | None = None) -> str:
    """Encode a part of a recording for playback in a page: 16-bit WAV at 16 kHz, in base64.

    Raises:
        AudioError: the recording cannot be read, or is too short.
    """
    wave_s = audio.load(source, PLAYBACK_RATE, start=start, end=end)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(PLAYBACK_RATE)
        file.writeframes((np.clip(wave_s, -1, 1) * 32_767).astype("<i2").tobytes())
    return b64encode(buffer.getvalue()).decode()
