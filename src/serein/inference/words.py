"""The words that a model reads: given with a recording, or by the speech recogniser of its bundle.

B = windows at a time, S = samples, L = words of the longest transcript.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from serein.bundle import Bundle
from serein.labels.vocabulary import tokenize
from serein.layers.attention import AttentionWeights
from serein.layers.outputs import ASR_ATTENTION
from serein.system import TRANSCRIPT, System, predict_batch
from serein.tasks.transcript import Task as TranscriptTask
from serein.utils.device import (
    Precision,
    PrecisionSetting,
    requested_precision,
    resolve_precision,
    to_bf16,
)

GIVE_WORDS = (
    'Give them with --words "..." (words="..." in Python, the field words in HTTP), or score a '
    "corpus whose table has a column 'text' with `serein evaluate --model`"
)


def describe_missing_words(bundle: Bundle, name: str) -> str:
    """Describe that a model needs words and has no speech recogniser.

    Args:
        bundle: the model.
        name: its name.
    """
    recipe = bundle.system.recipe
    if recipe.text.get("transcripts_from"):
        return (
            f"{name} ({recipe.name}) reads words and was saved without its recogniser "
            f"{recipe.text['transcripts_from']}; train it again, which saves both in one file"
        )
    return f"{name} ({recipe.name}) reads words and has no recogniser that makes them"


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
    attention: AttentionWeights | None = None


@dataclass(frozen=True)
class ASR:
    """The speech recogniser of a bundle, ready to compute.

    Attributes:
        system: the network, in the precision that it computes in.
        precision: precision that it computes in.
    """

    system: System
    precision: Precision

    @property
    def hop(self) -> float:
        """Seconds from frame to frame."""
        return self.system.front_end.hop

    def __call__(self, wave_bs: Tensor, length_b: Tensor) -> list[WindowWords]:
        """Recognise the words of windows (B, S) with lengths in samples (B,)."""
        task, device = self.system.transcript_task, self.system.device
        assert isinstance(task, TranscriptTask)
        with torch.inference_mode():
            inputs = self.system.extract_features(wave_bs.to(device), length_b.to(device))
        predictions, output = predict_batch(self.system, inputs, self.precision)
        weight_blt, stride = output.attention[ASR_ATTENTION]
        recognized = []
        for ids, weight_lt in zip(predictions[TRANSCRIPT].tolist(), weight_blt.cpu(), strict=True):
            words = task.vocabulary.decode(ids).split()
            attention = AttentionWeights(weight_lt[: len(words) + 1], stride)
            recognized.append(WindowWords(words, True, attention))
        return recognized


def build_asr(bundle: Bundle, precision: PrecisionSetting | None) -> ASR | None:
    """Prepare the speech recogniser of a bundle; None if it has none.

    Args:
        bundle: a saved model.
        precision: to compute in; None is the precision of the recogniser's own recipe.
    """
    if bundle.asr is None:
        return None
    system = bundle.asr.system
    setting = requested_precision(system.recipe) if precision is None else precision
    resolved = resolve_precision(setting, system.device)
    return ASR(to_bf16(system) if resolved == "bf16" else system, resolved)


def read_words(
    asr: ASR | None, wave_bs: Tensor, length_b: Tensor, texts: Sequence[str | None]
) -> list[WindowWords]:
    """Return the words of windows: those that were given, and for the others those of the ASR.

    Args:
        asr: the speech recogniser; None if all words are given.
        wave_bs: samples of each window, padded.
        length_b: its number of samples.
        texts: the words that were given for each window; None has to be recognised.
    """
    recognized: Sequence[WindowWords | None] = [None] * len(texts)
    if asr is not None and None in texts:
        recognized = asr(wave_bs, length_b)
    return [
        own or WindowWords([]) if text is None else WindowWords(tokenize(text))
        for text, own in zip(texts, recognized, strict=True)
    ]


def encode_words(system: System, words: Sequence[WindowWords]) -> tuple[Tensor, Tensor]:
    """Encode the words of windows as the input of a model: ids (B, L), and mask (B, L)."""
    assert system.transcript_task is not None
    id_bl = system.transcript_task.encode_texts([" ".join(one.words) for one in words])
    id_bl = id_bl.to(system.device)
    return id_bl.long().clamp(min=0), id_bl >= 0
