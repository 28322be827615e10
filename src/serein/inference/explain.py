"""Where a model looked in a recording, and whether that is where the recording is loud.

Zhang et al. 2019 say of their Figure 2, by eye and for two utterances, that attention for arousal
goes with amplitude and attention for valence does not. Here it is a number, with an interval.

H = heads, T = steps.
"""

import io
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
from serein.inference.correlate import average_correlations, correlate_with_energy
from serein.inference.recognition import AttentionMap, Recognition
from serein.inference.recognizer import Recognizer, list_models
from serein.results.inference import EXPLANATIONS_FORMAT, AttentionTrack, Explanation, Explanations

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
    recognizer = model if isinstance(model, Recognizer) else Recognizer(model, always=True)
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
    settings = {key: value for key, value in table.items() if key not in ("name", "apart")}
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
