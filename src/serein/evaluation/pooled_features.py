"""A vector of features for each utterance, for estimators that take no frames.

D = features, T = frames, F = bins, S = samples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serein import audio, system
from serein.errors import ConfigError
from serein.evaluation import answers
from serein.evaluation.answers import Answers, StepCallback
from serein.records import Recipe, Utterance
from serein.training.dataset import extract_frames

Array = NDArray[np.float64]
FeatureFunction = Callable[[NDArray[np.float32], int], Any]
"""A function from a waveform (S,) and its rate to a vector (D,)."""


@dataclass(frozen=True)
class Features:
    """A vector (D,) for each utterance.

    Attributes:
        of: by id; utterances whose features could not be computed are missing.
        missed: for these, the reason.
        description: of the features.
    """

    of: dict[str, Array]
    missed: dict[str, str]
    description: str


def compute_features(
    features: str | Mapping[str, Any] | FeatureFunction,
    utterances: Sequence[Utterance],
    content_hashes: Mapping[str, str],
    *,
    rate: int = 16_000,
    on_step: StepCallback = answers.ignore_step,
) -> Features:
    """Compute a vector for each utterance.

    Args:
        features: name of a front end, its settings with a ``name``, or a function. The frames of a
            front end become their means and standard deviations over time; one frame stays.
        utterances: whose recordings are read.
        content_hashes: a hash of the audio of each id; features by a front end are cached.
        rate: sampling rate for a function, in Hz.
        on_step: called after each utterance.

    Raises:
        AudioError: a recording cannot be read.
        ConfigError: the front end or a setting does not exist, or the function gives no vectors of
            one length.
    """
    if callable(features):
        return _call_features(features, utterances, rate, on_step)
    table = {"name": features} if isinstance(features, str) else dict(features)
    if not isinstance(table.get("name"), str):
        raise ConfigError(
            f"features {features!r} names no front end; expected a name such as 'egemaps', "
            "settings with a name, or a function of a waveform and its rate"
        )
    front_end = system.build_front_end(_wrap_features(table))
    frames = extract_frames(
        utterances,
        front_end,
        content_hashes,
        on_utterance=lambda done, total: on_step(f"features {table['name']}", done, total),
    )
    vectors = {u.id: _pool(frames[u.id]) for u in utterances}
    settings = ", ".join(f"{key}={value}" for key, value in table.items() if key != "name")
    name = f"{table['name']} ({settings})" if settings else str(table["name"])
    kind = "" if _has_one_frame(frames, utterances) else "means and deviations over time of "
    return Features(vectors, {}, f"{kind}{name}")


def standardize_by_speaker(features: Features, utterances: Sequence[Utterance]) -> Features:
    """Return features that are standardised by the mean and deviation of each speaker.

    Utterances of unknown speakers are one group. A number that does not vary becomes 0.
    """
    groups: dict[str | None, list[str]] = {}
    for utterance in utterances:
        if utterance.id in features.of:
            groups.setdefault(utterance.speaker, []).append(utterance.id)
    vectors: dict[str, Array] = {}
    for ids in groups.values():
        x_nd = np.stack([features.of[id_] for id_ in ids])
        deviation_d = x_nd.std(axis=0)
        x_nd = (x_nd - x_nd.mean(axis=0)) / np.where(deviation_d > 0, deviation_d, 1.0)
        vectors.update(zip(ids, x_nd, strict=True))
    description = f"{features.description}, standardised by speaker"
    return Features(vectors, features.missed, description)


def _wrap_features(table: dict[str, Any]) -> Recipe:
    """Return a recipe with a front end alone."""
    return Recipe(
        name="features",
        about={},
        features=table,
        normalise={},
        model={},
        tasks={},
        training={},
        protocol={},
    )


def _has_one_frame(frames: Any, utterances: Sequence[Utterance]) -> bool:
    return all(frames.length(u.id) == 1 for u in utterances)


def _pool(x_tf: NDArray[np.float32]) -> Array:
    """Return means and deviations over time; one frame as it is."""
    x_tf = x_tf.astype(np.float64)
    return x_tf[0] if len(x_tf) == 1 else np.concatenate([x_tf.mean(axis=0), x_tf.std(axis=0)])


def _call_features(
    function: FeatureFunction, utterances: Sequence[Utterance], rate: int, on_step: StepCallback
) -> Features:
    name, collected = answers.get_name(function), Answers()
    vectors: dict[str, Array] = {}
    for number, utterance in enumerate(utterances, 1):
        wave_s = audio.load(utterance.path, rate, start=utterance.start, end=utterance.end)
        try:
            vector = np.asarray(function(wave_s, rate), dtype=np.float64)
        except Exception as error:  # a user's function may raise anything
            collected.miss(utterance.id, error, name)
            continue
        if vector.ndim != 1 or not vector.size or not np.isfinite(vector).all():
            fault = f"shape {vector.shape}" if vector.ndim != 1 else "values that are not finite"
            collected.miss(utterance.id, ConfigError(f"features of {fault}"), name)
            continue
        vectors[utterance.id] = vector
        on_step(f"features {name}", number, len(utterances))
    if not vectors:
        collected.check_any(name)
    lengths = {id_: len(vector) for id_, vector in vectors.items()}
    if len({*lengths.values()}) > 1:
        shortest, longest = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.get)  # type: ignore[arg-type]
        raise ConfigError(
            f"the features of {name} have different lengths: {lengths[shortest]} of {shortest}, "
            f"{lengths[longest]} of {longest}; expected one vector of the same length for each "
            "recording, such as means over time"
        )
    return Features(vectors, collected.missed, f"the function {name}")
