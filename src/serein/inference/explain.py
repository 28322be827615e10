"""Where a model looked in a recording, and whether that is where the recording is loud.

Zhang et al. 2019 say of their Figure 2, by eye and for two utterances, that attention for arousal
goes with amplitude and attention for valence does not. Here it is a number, with an interval.

H = heads, T = steps.

How attention goes with energy, and how sure that is, in one recording and over several.

T = steps.
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
from serein.inference.recognition import AttentionMap, Recognition
from serein.inference.recognizer import Recognizer, list_models
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
"""Seconds that are explained at once; a drawing of more shows nothing."""
PLAYBACK_RATE = 16_000
"""Hz of what a page plays."""
MIN_ENERGY_WINDOW = 0.04
"""Seconds, at least, that one value of energy is made of: two periods of the lowest voice, and the
segment of Zhang et al. Over less, it follows the periods and not the loudness."""


def explain(
    model: Recognizer | Bundle | str | os.PathLike[str],
    source: Source,
    *,
    start: float = 0.0,
    end: float | None = None,
) -> Explanation:
    """Say where a model looked in a recording.

    >>> import numpy as np
    >>> rising = np.linspace(0, 0.1, 32000) * np.sin(np.arange(32000))
    >>> found = explain("li2019-emodb", (rising, 16000))
    >>> len(found.attention["heads"].heads)
    8

    Args:
        model: a recogniser, a bundle, a shipped model's name, or the path of a bundle.
        source: path, bytes, binary file, or (samples, rate in Hz).
        start: where to begin, in seconds.
        end: where to end, in seconds; None is the end of the recording.

    Raises:
        AudioError: it cannot be read, is too short, or longer than five minutes.
        ConfigError: the model has no attention.
        BundleError: the model's file is missing, corrupt, tampered with, or too new.
    """
    recognizer = (
        model if isinstance(model, Recognizer) else Recognizer(model, answer_nonspeech=True)
    )
    if not isinstance(source, str | os.PathLike | tuple | bytes):
        source = source.read()  # twice heard below, and not every file can be read twice
    rate = recognizer.system.front_end.rate
    beyond = start + MAX_SECONDS + 1
    wave_s = audio.load(source, rate, start=start, end=beyond if end is None else min(end, beyond))
    if len(wave_s) > MAX_SECONDS * rate:
        raise AudioError(
            f"more than {MAX_SECONDS:.0f} s of audio; attention is explained for {MAX_SECONDS:.0f} s at "
            "most. Choose a part with start and end (--start and --end)."
        )
    found = recognizer(source, start=start, end=end)
    if not found.attention:
        raise ConfigError(_no_attention_message(recognizer))
    return Explanation(
        source=found.source,
        model=found.model,
        start=found.start,
        end=found.end,
        windows=found.windows,
        labels={
            task: max(p, key=lambda name: p[name])
            for task, p in _collect_probabilities(found).items()
        },
        probabilities=_collect_probabilities(found),
        envelope=envelope.compute_envelope(wave_s),
        attention={
            name: _build_track(name, one, found, wave_s, rate)
            for name, one in found.attention.items()
        },
        words=found.words,
    )


def _collect_probabilities(recognition: Recognition) -> dict[str, dict[str, float]]:
    return {task: answer.probabilities for task, answer in recognition.tasks.items()}


def _no_attention_message(recognizer: Recognizer) -> str:
    models = [name for name in list_models() if name != recognizer.name]
    return (
        f"the model {recognizer.name} (recipe {recognizer.system.recipe.name}) has no attention to "
        f"explain. Shipped models that have one: {', '.join(models) or 'none'}; recipes that train "
        f"one: {', '.join(list_attention_recipes())}."
    )


def list_attention_recipes() -> list[str]:
    """The recipes of this package whose model has attention, sorted."""
    return [name for name in recipes.list_recipes() if _has_attention(recipes.load(name).model)]


def _has_attention(table: Mapping[str, Any]) -> bool:
    """By the model's own setting of that name."""
    settings = {key: value for key, value in table.items() if key not in ("name", "separate")}
    kind = registry.load_module("models", str(table["name"])).Config
    return bool(getattr(config.build_config(kind, settings, "model"), "attention", False))


def _build_track(
    name: str, attention_map: AttentionMap, recognition: Recognition, wave_s: np.ndarray, rate: int
) -> AttentionTrack:
    times_t, weight_ht = np.array(attention_map.times), np.array(attention_map.weights)
    step = (
        float(np.median(np.diff(times_t)))
        if len(times_t) > 1
        else recognition.end - recognition.start
    )
    width = max(step, MIN_ENERGY_WINDOW)
    energy_t = envelope.compute_energy(wave_s, rate, (times_t - recognition.start).tolist(), width)
    alone = len(weight_ht) == 1 or attention_map.words
    every = [weight_ht.mean(axis=0), *(() if alone else weight_ht)]
    # No segment of zhang2019 has its middle in an utterance's first frames: nobody chose that.
    lay_t = weight_ht.any(axis=0)
    mean, *by_head = (
        correlate_with_energy(weight_t[lay_t], energy_t[lay_t], step) for weight_t in every
    )
    return AttentionTrack(
        tasks=_find_tasks(name, list(recognition.tasks)),
        times=attention_map.times,
        step=step,
        energy=energy_t.tolist(),
        width=width,
        weight=every[0].tolist(),
        heads=attention_map.weights,
        queries=attention_map.queries,
        correlation=mean,
        by_head=by_head,
        words=[one.word for one in recognition.words] if attention_map.words else [],
    )


def _find_tasks(name: str, tasks: list[str]) -> list[str]:
    """A map is its task's where it is called so, and else all tasks'."""
    own = [task for task in tasks if name == task or name.startswith(f"{task}: ")]
    return own or tasks


def collect_explanations(
    explained: Sequence[Explanation], failed: Mapping[str, str], command: str = ""
) -> Explanations:
    """Several recordings as one record, with the mean correlation of each map.

    Args:
        explained: by one model.
        failed: what could not be heard, and why.
        command: what was typed.
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


def encode_playback(source: Source, *, start: float = 0.0, end: float | None = None) -> str:
    """A part of a recording for a page to play: WAV, 16 bits at 16 kHz, in base64.

    Raises:
        AudioError: it cannot be read, or is too short.
    """
    wave_s = audio.load(source, PLAYBACK_RATE, start=start, end=end)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(PLAYBACK_RATE)
        file.writeframes((np.clip(wave_s, -1, 1) * 32_767).astype("<i2").tobytes())
    return b64encode(buffer.getvalue()).decode()


MIN_BLOCK_SECONDS = 0.2
"""Seconds, at least, that are resampled together: about a syllable."""
MIN_BLOCKS = 8
"""With fewer there is no interval."""
MIN_FILES = 8
"""With fewer there is no interval over files."""
FEW = 20
"""Of blocks or files; with fewer, an interval is likely too narrow, and its words say so."""

Interval = tuple[float, float] | None


def correlate_with_energy(
    weight_t: np.ndarray, energy_t: np.ndarray, step: float, *, resamples: int = 2_000
) -> Correlation:
    """How weights go with energy over time.

    Args:
        weight_t: (T,) attention.
        energy_t: (T,) decibels of the same steps.
        step: seconds from one to the next.
        resamples: draws of each interval.
    """
    count = len(weight_t)
    reason = _find_undefined_reason(weight_t, energy_t)
    if reason:
        return _undefined_correlation(count, reason)
    block = max(math.ceil(MIN_BLOCK_SECONDS / step - 1e-9), round(count ** (1 / 3)))
    pearson, spearman, words = _bootstrap_intervals(weight_t, energy_t, block, resamples)
    return Correlation(
        count=count,
        pearson=pearson_score(weight_t, energy_t),
        pearson_interval=pearson,
        spearman=spearman_score(weight_t, energy_t),
        spearman_interval=spearman,
        description=f"{words} of {block} steps ({block * step:.2f} s)",
    )


def _bootstrap_intervals(
    weight_t: np.ndarray, energy_t: np.ndarray, block: int, resamples: int
) -> tuple[Interval, Interval, str]:
    """Of both correlations, and how they were made."""
    blocks = len(weight_t) // block
    if blocks < MIN_BLOCKS:
        return None, None, f"no interval: {blocks} blocks, {MIN_BLOCKS} are needed,"
    found = [
        block_bootstrap_correlation(
            weight_t, energy_t, block=block, ranked=ranked, resamples=resamples
        )
        for ranked in (False, True)
    ]
    if any(math.isnan(low) for low, _ in found):
        return None, None, "no interval: weight or energy is constant over too many blocks"
    words = f"95 % moving-block bootstrap{_note_if_few(blocks)} over {blocks} blocks"
    return found[0], found[1], words


def _note_if_few(count: int) -> str:
    return " (few: likely too narrow)" * (count < FEW)


def _find_undefined_reason(weight_t: np.ndarray, energy_t: np.ndarray) -> str:
    """Why there is no correlation; empty where there is."""
    if len(weight_t) < 2:
        return f"undefined: {len(weight_t)} step{'s' * (len(weight_t) != 1)}"
    if np.ptp(energy_t) < 1e-4:
        silent = " (silence)" * bool(energy_t[0] <= envelope.FLOOR_DB)
        return f"undefined: the energy is the same at every step{silent}"
    # float32 weights that differ by their last digits are equal
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


def average_correlations(correlations: Sequence[Correlation]) -> Correlation:
    """The mean over the files where it is defined; for its interval, files are resampled."""
    pairs = [(one.pearson, one.spearman) for one in correlations if one.pearson is not None]
    if not pairs:
        return _undefined_correlation(0, "undefined: in every file")
    scores = np.array(pairs, dtype=float)
    left = f"; undefined in {len(correlations) - len(pairs)} more" * (
        len(correlations) > len(pairs)
    )
    enough, files = len(pairs) >= MIN_FILES, f"{len(pairs)} file{'s' * (len(pairs) != 1)}"
    words = (
        f"95 % bootstrap{_note_if_few(len(pairs))} over {files}, which are taken for independent{left}"
        if enough
        else f"no interval: {files}; {MIN_FILES} are needed{left}"
    )
    pearson, spearman = (_bootstrap_mean(column) if enough else None for column in scores.T)
    return Correlation(
        count=len(pairs),
        pearson=float(scores[:, 0].mean()),
        pearson_interval=pearson,
        spearman=float(scores[:, 1].mean()),
        spearman_interval=spearman,
        description=words,
    )


def _bootstrap_mean(scores: np.ndarray) -> tuple[float, float]:
    counts = np.stack([scores, np.ones_like(scores)], axis=1)
    return bootstrap_counts(counts, lambda sums: sums[:, 0] / sums[:, 1])
