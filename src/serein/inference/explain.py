"""Explain a prediction: where a model attends, and how attention correlates with energy.

Zhang et al. 2019 observe in their Figure 2, by eye and for two utterances, that attention for
arousal follows amplitude and attention for valence does not. Here it is a correlation, with a
bootstrap interval.

H = heads, T = steps.
"""

import io
import math
import os
import wave
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serein import audio, config, recipes, registry
from serein.audio import Source, envelope
from serein.bundle import Bundle
from serein.errors import AudioError, ConfigError
from serein.inference.model_loading import list_models
from serein.inference.recognition import AttentionMap, Recognition
from serein.inference.recognizer import Recognizer
from serein.metrics.bootstrap import block_bootstrap_correlation, bootstrap_counts
from serein.metrics.regression import pearson_score, spearman_score
from serein.results.inference import (
    EXPLANATIONS_FORMAT,
    AttentionTrack,
    Correlation,
    Explanation,
    Explanations,
)

MAX_SECONDS = 300.0
"""Longest recording that is explained, in seconds; a plot of a longer one is unreadable."""
PLAYBACK_RATE = 16_000
"""Sampling rate of the audio in an HTML page, in Hz."""
MIN_ENERGY_WINDOW = 0.04
"""Shortest window of a value of energy, in seconds: two periods of the lowest voice, and the
segment of Zhang et al. In a shorter one, energy follows the periods and not the loudness."""
MIN_BLOCK_SECONDS = 0.2
"""Shortest block of the block bootstrap, in seconds: about a syllable."""
MIN_BLOCKS = 8
"""Number of blocks below which a correlation has no interval."""
MIN_FILES = 8
"""Number of files below which a mean correlation has no interval."""
MIN_RELIABLE_COUNT = 20
"""Number of blocks or files below which an interval is probably too narrow, and is marked."""

Interval = tuple[float, float] | None


def explain(
    model: Recognizer | Bundle | str | os.PathLike[str],
    source: Source,
    *,
    start: float = 0.0,
    end: float | None = None,
    words: str | None = None,
) -> Explanation:
    """Recognize a recording and explain where the model attends.

    A given ``Recognizer`` keeps its check for speech; for a bundle or the name or path of a model,
    the check is turned off, so that every recording gets an answer.

    >>> import numpy as np
    >>> rising = np.linspace(0, 0.1, 32000) * np.sin(np.arange(32000))
    >>> explanation = explain("li2019-emodb", (rising, 16000))
    >>> len(explanation.attention["heads"].heads)
    8

    Args:
        model: a recognizer, a bundle, name of a shipped model, or path of a bundle.
        source: path, bytes, binary file, or (samples, rate in Hz).
        start: start of the part to explain, in seconds.
        end: end of the part, in seconds; None is the end of the recording.
        words: what is said in the part, for a model that reads words.

    Raises:
        AudioError: the recording cannot be read, is too short, or longer than five minutes.
        ConfigError: the model has no attention over time, or needs words and has none.
        BundleError: the model's file is missing, corrupt, tampered with, or too new.
    """
    recognizer = (
        model if isinstance(model, Recognizer) else Recognizer(model, answer_nonspeech=True)
    )
    recognizer.check_words(words)
    if not isinstance(source, str | os.PathLike | tuple | bytes):
        source = source.read()  # it is read twice below, which not every file allows
    rate = recognizer.rate
    limit = start + MAX_SECONDS + 1
    wave_s = audio.load(source, rate, start=start, end=limit if end is None else min(end, limit))
    if len(wave_s) > MAX_SECONDS * rate:
        raise AudioError(
            f"more than {MAX_SECONDS:.0f} s of audio; attention is explained for at most "
            f"{MAX_SECONDS:.0f} s. Choose a part with start and end (--start and --end)."
        )
    recognition = recognizer(source, start=start, end=end, words=words)
    if not recognition.attention:
        raise ConfigError(_no_attention_message(recognizer))
    probabilities = {task: answer.probabilities for task, answer in recognition.tasks.items()}
    return Explanation(
        source=recognition.source,
        model=recognition.model,
        start=recognition.start,
        end=recognition.end,
        windows=recognition.windows,
        labels={task: max(p, key=lambda name: p[name]) for task, p in probabilities.items()},
        probabilities=probabilities,
        envelope=envelope.compute_envelope(wave_s),
        attention={
            name: _build_track(name, attention_map, recognition, wave_s, rate)
            for name, attention_map in recognition.attention.items()
        },
        words=recognition.words,
    )


def _no_attention_message(recognizer: Recognizer) -> str:
    if recognizer.word_source == "given":
        return (
            f"the model {recognizer.name} (recipe {recognizer.system.recipe.name}) attends to "
            "words only, which have no times here; `serein recognize --words ... --format json` "
            "lists the weight of each word"
        )
    models = [name for name in list_models() if name != recognizer.name]
    return (
        f"the model {recognizer.name} (recipe {recognizer.system.recipe.name}) has no attention to "
        f"explain. Shipped models that have one: {', '.join(models) or 'none'}; recipes that train "
        f"one: {', '.join(list_attention_recipes())}."
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
        correlate_with_energy(weight_t[used_t], energy_t[used_t], step) for weight_t in rows
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


def _find_tasks(name: str, tasks: list[str]) -> list[str]:
    """Return the task that an attention map is named after; otherwise all tasks."""
    own = [task for task in tasks if name == task or name.startswith(f"{task}: ")]
    return own or tasks


def correlate_with_energy(
    weight_t: np.ndarray, energy_t: np.ndarray, step: float, *, resamples: int = 2_000
) -> Correlation:
    """Correlate attention weights with energy over time.

    Args:
        weight_t: (T,) attention weights.
        energy_t: (T,) energy of the same steps, in decibels.
        step: seconds from one step to the next.
        resamples: number of bootstrap samples for each interval.
    """
    count = len(weight_t)
    reason = _find_undefined_reason(weight_t, energy_t)
    if reason:
        return _undefined_correlation(count, reason)
    block = max(math.ceil(MIN_BLOCK_SECONDS / step - 1e-9), round(count ** (1 / 3)))
    pearson, spearman, method = _bootstrap_intervals(weight_t, energy_t, block, step, resamples)
    return Correlation(
        count=count,
        pearson=pearson_score(weight_t, energy_t),
        pearson_interval=pearson,
        spearman=spearman_score(weight_t, energy_t),
        spearman_interval=spearman,
        description=method,
    )


def _bootstrap_intervals(
    weight_t: np.ndarray, energy_t: np.ndarray, block: int, step: float, resamples: int
) -> tuple[Interval, Interval, str]:
    """Return the intervals of both correlations, and a description of the method."""
    blocks = len(weight_t) // block
    if blocks < MIN_BLOCKS:
        description = _describe_blocks(blocks, block, step)
        return None, None, f"no interval: {description}; {MIN_BLOCKS} are needed"
    pearson, spearman = (
        block_bootstrap_correlation(
            weight_t, energy_t, block=block, ranked=ranked, resamples=resamples
        )
        for ranked in (False, True)
    )
    if math.isnan(pearson[0]) or math.isnan(spearman[0]):
        return None, None, "no interval: weight or energy is constant over too many blocks"
    method = f"95 % moving-block bootstrap{_note_if_few(blocks)} over "
    return pearson, spearman, method + _describe_blocks(blocks, block, step)


def _describe_blocks(count: int, length: int, step: float) -> str:
    return f"{count} blocks of {length} steps ({length * step:.2f} s)"


def _note_if_few(count: int) -> str:
    return " (few: likely too narrow)" if count < MIN_RELIABLE_COUNT else ""


def _find_undefined_reason(weight_t: np.ndarray, energy_t: np.ndarray) -> str:
    """Return why the correlation is undefined; empty if it is defined."""
    if len(weight_t) < 2:
        return f"undefined: {len(weight_t)} step{'s' * (len(weight_t) != 1)}"
    if np.ptp(energy_t) < 1e-4:
        silence = " (silence)" if energy_t[0] <= envelope.FLOOR_DB else ""
        return f"undefined: the energy is the same at every step{silence}"
    # float32 weights that differ only in their last digits are equal
    if np.ptp(weight_t) <= 1e-6 * weight_t.max():
        return "undefined: the attention is the same at every step"
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
    """Collect explanations of several recordings, with the mean correlation of each map.

    Args:
        explained: explanations by one model.
        failed: reason for each recording that could not be read.
        command: command line that was typed.
    """
    names = dict.fromkeys(name for one in explained for name in one.attention)
    return Explanations(
        format=EXPLANATIONS_FORMAT,
        command=command,
        explained=list(explained),
        failed=dict(failed),
        correlations={
            name: average_correlations([one.attention[name].correlation for one in explained])
            for name in names
        },
    )


def average_correlations(correlations: Sequence[Correlation]) -> Correlation:
    """Average defined correlations over files; intervals are by bootstrap over the files."""
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
        pearson, spearman = _bootstrap_mean(score_n2[:, 0]), _bootstrap_mean(score_n2[:, 1])
        description = (
            f"95 % bootstrap{_note_if_few(count)} over {files}, assumed to be independent{note}"
        )
    return Correlation(
        count=count,
        pearson=float(score_n2[:, 0].mean()),
        pearson_interval=pearson,
        spearman=float(score_n2[:, 1].mean()),
        spearman_interval=spearman,
        description=description,
    )


def _bootstrap_mean(scores: np.ndarray) -> tuple[float, float]:
    counts = np.stack([scores, np.ones_like(scores)], axis=1)
    return bootstrap_counts(counts, lambda sums: sums[:, 0] / sums[:, 1])


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
