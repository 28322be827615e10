"""The words of an answer: those that a model reads or recognises, and their times.

B = windows at a time, H = heads, T = steps, L = words of the longest transcript.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from serein.labels.vocabulary import END, Vocabulary
from serein.records import Recipe
from serein.results.inference import RecognizedWord
from serein.utils.attention_maps import (
    ASR_ATTENTION,
    TRANSCRIPT,
    WORD_ATTENTION,
    attention_step_times,
)

GIVE_WORDS = (
    'Give them with --words "..." (words="..." in Python, the field words in HTTP), or score a '
    "corpus whose table has a column 'text' with `serein evaluate --model`"
)


class WindowAttention(NamedTuple):
    """An attention map of one window.

    Attributes:
        weight: (H, T), or (H, T, T) of queries by keys; 0 on padding.
        stride: frames of the front end in one step; 0 where the steps are words.
    """

    weight: np.ndarray
    stride: int


class WindowWords(NamedTuple):
    """The words of a window.

    Attributes:
        words: without the end token.
        recognized: whether they were recognised, and not given.
        attention: of the recogniser for each word and the end token over time, (L + 1, T); None
            for words that were given.
    """

    words: list[str]
    recognized: bool = False
    attention: WindowAttention | None = None


class WindowPrediction(NamedTuple):
    """The prediction for one window.

    Attributes:
        outputs: for each task, K probabilities, or the one value.
        attention: attention maps by name.
        words: the words that the model read; None if it reads none.
    """

    outputs: dict[str, list[float]]
    attention: dict[str, WindowAttention]
    words: WindowWords | None = None


def describe_missing_words(recipe: Recipe, name: str) -> str:
    """Describe that a model needs words and has no speech recogniser.

    Args:
        recipe: of the model.
        name: its name.
    """
    if recipe.text.get("transcripts_from"):
        return (
            f"{name} ({recipe.name}) reads words and was saved without its recogniser "
            f"{recipe.text['transcripts_from']}; train it again, which saves both in one file"
        )
    return f"{name} ({recipe.name}) reads words and has no recogniser that makes them"


def collect_words(
    predictions: Sequence[WindowPrediction],
    windows: Sequence[tuple[float, float]],
    vocabulary: Sequence[str],
    hop: float,
) -> list[RecognizedWord]:
    """Return the words of a recording; recognised words have an end token after each window.

    Args:
        predictions: prediction for each window.
        windows: start and end of each window, in seconds.
        vocabulary: words of the model by id; a model without gives no words.
        hop: seconds from frame to frame of the speech recogniser.
    """
    if not vocabulary:
        return []
    decoder = Vocabulary(tuple(vocabulary))
    return [
        word
        for (start, end), prediction in zip(windows, predictions, strict=True)
        if prediction.words or TRANSCRIPT in prediction.outputs
        for word in _align_words(prediction, start, end, decoder, hop)
    ]


def _align_words(
    prediction: WindowPrediction, start: float, end: float, vocabulary: Vocabulary, hop: float
) -> list[RecognizedWord]:
    """Give each word the time of its largest attention weight, and its share of the emotion's."""
    asr_map = prediction.attention.get(ASR_ATTENTION)
    word_map = prediction.attention.get(WORD_ATTENTION)
    if prediction.words is None:
        words = vocabulary.decode(map(int, prediction.outputs[TRANSCRIPT])).split()
    else:
        words = prediction.words.words
    count = max(1, len(words)) if prediction.words else len(words) + 1  # without words: </s>
    if prediction.words is None or prediction.words.recognized or not words:
        words = [*words, END]
    times: list[float | None] = [None] * len(words)
    if asr_map is not None:
        steps = attention_step_times(asr_map.weight.shape[-1], asr_map.stride, hop, end - start)
        peaks = asr_map.weight[: len(words), : len(steps)].argmax(axis=-1).tolist()
        times = [round(start + steps[peak], 3) for peak in peaks]
    weights = [] if word_map is None else word_map.weight.mean(axis=0)[:count].tolist()
    return [
        RecognizedWord(word=word, time=time, weight=weight)
        for word, time, weight in zip_longest(words, times, weights)
    ]
