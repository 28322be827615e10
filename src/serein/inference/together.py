"""Parts of recordings through a system, those of like length together; and their attention.

B = parts at a time, S = samples, H = heads, T = steps, K = classes of a task.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from serein.audio import Samples
from serein.inference.recognition import AttentionMap
from serein.layers.attention import Attention
from serein.layers.transcript import FOUND, READ
from serein.precision import Numbers
from serein.predict import answer, steps
from serein.system import SPOKEN, System
from serein.tasks.transcript import Task
from serein.transcripts import Word
from serein.vocabulary import END

AT_A_TIME = 16
"""Parts that the model hears at once."""


class Heard(NamedTuple):
    """What the model says of one part.

    Attributes:
        answers: for each task, K probabilities, or the one value.
        attention: maps by name, with weights of (H, T), or (H, T, T) of queries by keys.
    """

    answers: dict[str, list[float]]
    attention: dict[str, Attention]


def hear_each(
    system: System, parts: Sequence[Samples], numbers: Numbers, *, attention: bool
) -> list[Heard]:
    """What a system says of each part, in their order.

    Args:
        system: what hears them.
        parts: samples of shape (n,), at the rate of its front end.
        numbers: what it computes in.
        attention: whether to keep its maps.
    """
    order = sorted(range(len(parts)), key=lambda number: len(parts[number]))
    heard: dict[int, Heard] = {}
    for first in range(0, len(order), AT_A_TIME):
        some = order[first : first + AT_A_TIME]
        wave_bs, length_b = padded([parts[number] for number in some])
        with torch.inference_mode():
            inputs = system.hear(wave_bs.to(system.device), length_b.to(system.device))
        answers, output = answer(system, inputs, numbers)
        maps = output.attention if attention else {}
        heard |= dict(zip(some, rows_of(answers, maps), strict=True))
    return [heard[number] for number in range(len(parts))]


def padded(parts: Sequence[Samples]) -> tuple[Tensor, Tensor]:
    """Waveforms (B, S), zeros behind each one's end, and their lengths (B,)."""
    lengths = [len(part_s) for part_s in parts]
    wave_bs = np.zeros((len(parts), max(lengths)), np.float32)
    for row_s, part_s in zip(wave_bs, parts, strict=True):
        row_s[: len(part_s)] = part_s
    return torch.from_numpy(wave_bs), torch.tensor(lengths)


def rows_of(answers: dict[str, Tensor], attention: dict[str, Attention]) -> list[Heard]:
    """What stands in each row of a batch's answers and maps.

    All rows leave torch at once: each of its calls hands the interpreter to whoever waits for it.
    """
    answers_b = {task: p_bk.tolist() for task, p_bk in answers.items()}
    maps_b = {name: weight_bht.cpu().unbind() for name, (weight_bht, _) in attention.items()}
    strides = {name: stride for name, (_, stride) in attention.items()}
    return [
        Heard(
            {task: p_k[row] for task, p_k in answers_b.items()},
            {name: Attention(weight[row], strides[name]) for name, weight in maps_b.items()},
        )
        for row in range(len(next(iter(answers_b.values()))))
    ]


def over_windows(
    heard: Sequence[dict[str, Attention]], windows: Sequence[tuple[float, float]], hop: float
) -> dict[str, AttentionMap]:
    """Each map over the whole recording; a step lies in the window that it belongs to.

    Args:
        heard: the maps of each window.
        windows: where each begins and ends, in seconds.
        hop: seconds from frame to frame.
    """
    maps = {}
    for name in heard[0]:
        if name == READ:
            continue
        times, columns = [], []
        for (start, end), found in zip(windows, heard, strict=True):
            part_ht, stride = found[name]
            middles = steps(part_ht.shape[-1], stride, hop, end - start)
            times += [start + middle for middle in middles]
            columns.append(_of_keys(part_ht, len(middles)))
        weight = _laid(columns, words=name == FOUND)
        queries = heard[0][name].weight.ndim > 2
        maps[name] = AttentionMap(
            times=times, weights=weight.tolist(), queries=queries, words=name == FOUND
        )
    return maps


def _laid(columns: Sequence[Tensor], *, words: bool) -> Tensor:
    """The maps of all windows (H, T) as one; words are those of their own window alone."""
    if len(columns) == 1:
        return columns[0]
    laid = torch.block_diag if words else _side_by_side
    return laid(*columns) / len(columns)


def _side_by_side(*columns: Tensor) -> Tensor:
    return torch.cat(columns, dim=1)


def words_of(
    heard: Sequence[Heard], windows: Sequence[tuple[float, float]], text: Task | None, hop: float
) -> list[Word]:
    """The words of the whole recording, ends of windows among them; none without a vocabulary.

    Args:
        heard: what the model says of each window.
        windows: where each begins and ends, in seconds.
        text: the model's.
        hop: seconds from frame to frame.
    """
    return [
        word
        for (start, end), one in zip(windows, heard, strict=False)
        if text is not None and SPOKEN in one.answers
        for word in _spoken(one, start, end, text, hop)
    ]


def _spoken(one: Heard, start: float, end: float, text: Task, hop: float) -> list[Word]:
    words = [*text.vocabulary.text(list(map(int, one.answers[SPOKEN]))).split(), END]
    found, read = one.attention.get(FOUND), one.attention.get(READ)
    times: list[float | None] = [None] * len(words)
    if found is not None:
        middles = steps(found.weight.shape[-1], found.stride, hop, end - start)
        peaks = found.weight[: len(words), : len(middles)].argmax(dim=-1).tolist()
        times = [round(start + middles[peak], 3) for peak in peaks]
    weights = [None] * len(words) if read is None else read.weight.mean(dim=0).tolist()
    return [
        Word(word=word, time=time, weight=weight)
        for word, time, weight in zip(words, times, weights, strict=False)
    ]


def _of_keys(weight: Tensor, count: int) -> Tensor:
    """The first steps' weights, (H, T) or the mean over the queries of (H, T, T) -> (H, count)."""
    if weight.ndim > 2:
        weight = weight[:, :count].mean(dim=1)
    return weight[:, :count]
