"""Parts of recordings through a system, those of like length together; and their attention.

B = parts at a time, S = samples, H = heads, T = steps, K = classes of a task.

Many windows through a system: what they share is computed once.

B = windows at a time, S = samples, T = frames, K = classes of all tasks, one after the other; a
task of numbers has one place among them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from serein.audio import Samples
from serein.inference.recognition import AttentionMap
from serein.inference.windowing import Probabilities, SampleBuffer
from serein.labels.vocabulary import END
from serein.layers.attention import AttentionWeights
from serein.layers.outputs import ASR_ATTENTION, WORD_ATTENTION
from serein.results.inference import RecognizedWord
from serein.system import TRANSCRIPT, Inputs, System, attention_step_times, predict_batch
from serein.tasks.transcript import Task
from serein.utils.device import Precision

BATCH_SIZE = 16
"""Parts that the model hears at once."""


class WindowPrediction(NamedTuple):
    """What the model says of one part.

    Attributes:
        answers: for each task, K probabilities, or the one value.
        attention: maps by name, with weights of (H, T), or (H, T, T) of queries by keys.
    """

    outputs: dict[str, list[float]]
    attention: dict[str, AttentionWeights]


def predict_batches(
    system: System, parts: Sequence[Samples], precision: Precision, *, attention: bool
) -> list[WindowPrediction]:
    """What a system says of each part, in their order.

    Args:
        system: what hears them.
        parts: samples of shape (n,), at the rate of its front end.
        precision: what it computes in.
        attention: whether to keep its maps.
    """
    order = sorted(range(len(parts)), key=lambda number: len(parts[number]))
    heard: dict[int, WindowPrediction] = {}
    for first in range(0, len(order), BATCH_SIZE):
        some = order[first : first + BATCH_SIZE]
        wave_bs, length_b = pad_waveforms([parts[number] for number in some])
        with torch.inference_mode():
            inputs = system.extract_features(wave_bs.to(system.device), length_b.to(system.device))
        answers, output = predict_batch(system, inputs, precision)
        maps = output.attention if attention else {}
        heard |= dict(zip(some, unbatch(answers, maps), strict=True))
    return [heard[number] for number in range(len(parts))]


def pad_waveforms(parts: Sequence[Samples]) -> tuple[Tensor, Tensor]:
    """Waveforms (B, S), zeros behind each one's end, and their lengths (B,)."""
    lengths = [len(part_s) for part_s in parts]
    wave_bs = np.zeros((len(parts), max(lengths)), np.float32)
    for row_s, part_s in zip(wave_bs, parts, strict=True):
        row_s[: len(part_s)] = part_s
    return torch.from_numpy(wave_bs), torch.tensor(lengths)


def unbatch(
    outputs: dict[str, Tensor], attention: dict[str, AttentionWeights]
) -> list[WindowPrediction]:
    """What stands in each row of a batch's answers and maps.

    All rows leave torch at once: each of its calls hands the interpreter to whoever waits for it.
    """
    answers_b = {task: p_bk.tolist() for task, p_bk in outputs.items()}
    maps_b = {name: weight_bht.cpu().unbind() for name, (weight_bht, _) in attention.items()}
    strides = {name: stride for name, (_, stride) in attention.items()}
    return [
        WindowPrediction(
            {task: p_k[row] for task, p_k in answers_b.items()},
            {name: AttentionWeights(weight[row], strides[name]) for name, weight in maps_b.items()},
        )
        for row in range(len(next(iter(answers_b.values()))))
    ]


def merge_attention(
    window_maps: Sequence[dict[str, AttentionWeights]],
    windows: Sequence[tuple[float, float]],
    hop: float,
) -> dict[str, AttentionMap]:
    """Each map over the whole recording; a step lies in the window that it belongs to.

    Args:
        window_maps: the maps of each window.
        windows: where each begins and ends, in seconds.
        hop: seconds from frame to frame.
    """
    maps = {}
    for name in window_maps[0]:
        if name == WORD_ATTENTION:
            continue
        times, columns = [], []
        for (start, end), found in zip(windows, window_maps, strict=True):
            part_ht, stride = found[name]
            middles = attention_step_times(part_ht.shape[-1], stride, hop, end - start)
            times += [start + middle for middle in middles]
            columns.append(_mean_over_queries(part_ht, len(middles)))
        weight = _merge_maps(columns, words=name == ASR_ATTENTION)
        queries = window_maps[0][name].weight.ndim > 2
        maps[name] = AttentionMap(
            times=times, weights=weight.tolist(), queries=queries, words=name == ASR_ATTENTION
        )
    return maps


def _merge_maps(columns: Sequence[Tensor], *, words: bool) -> Tensor:
    """The maps of all windows (H, T) as one; words are those of their own window alone."""
    if len(columns) == 1:
        return columns[0]
    laid = torch.block_diag if words else _concatenate_steps
    return laid(*columns) / len(columns)


def _concatenate_steps(*columns: Tensor) -> Tensor:
    return torch.cat(columns, dim=1)


def collect_words(
    predictions: Sequence[WindowPrediction],
    windows: Sequence[tuple[float, float]],
    text: Task | None,
    hop: float,
) -> list[RecognizedWord]:
    """The words of the whole recording, ends of windows among them; none without a vocabulary.

    Args:
        predictions: what the model says of each window.
        windows: where each begins and ends, in seconds.
        text: the model's.
        hop: seconds from frame to frame.
    """
    return [
        word
        for (start, end), one in zip(windows, predictions, strict=False)
        if text is not None and TRANSCRIPT in one.outputs
        for word in _align_words(one, start, end, text, hop)
    ]


def _align_words(
    prediction: WindowPrediction, start: float, end: float, text: Task, hop: float
) -> list[RecognizedWord]:
    words = [*text.vocabulary.decode(list(map(int, prediction.outputs[TRANSCRIPT]))).split(), END]
    found, read = prediction.attention.get(ASR_ATTENTION), prediction.attention.get(WORD_ATTENTION)
    times: list[float | None] = [None] * len(words)
    if found is not None:
        middles = attention_step_times(found.weight.shape[-1], found.stride, hop, end - start)
        peaks = found.weight[: len(words), : len(middles)].argmax(dim=-1).tolist()
        times = [round(start + middles[peak], 3) for peak in peaks]
    weights = [None] * len(words) if read is None else read.weight.mean(dim=0).tolist()
    return [
        RecognizedWord(word=word, time=time, weight=weight)
        for word, time, weight in zip(words, times, weights, strict=False)
    ]


def _mean_over_queries(weight: Tensor, count: int) -> Tensor:
    """The first steps' weights, (H, T) or the mean over the queries of (H, T, T) -> (H, count)."""
    if weight.ndim > 2:
        weight = weight[:, :count].mean(dim=1)
    return weight[:, :count]


WINDOW_BATCH_SIZE = 32
"""Windows that the model hears at once."""


class Window(NamedTuple):
    """Samples of a tape, from one place to before another, that the model hears at a time."""

    buffer: SampleBuffer
    start: int
    end: int


def predict_windows(
    system: System, windows: Sequence[Window], precision: Precision = "fp32"
) -> Probabilities:
    """Windows, each begun at a multiple of the front end's hop -> (B, K) in their order.

    Those of one tape come one after the other, as they lie on it.
    """
    rows: list[Probabilities] = []
    for first in range(0, len(windows), WINDOW_BATCH_SIZE):
        inputs = _extract_features(system, windows[first : first + WINDOW_BATCH_SIZE])
        probabilities, _ = predict_batch(system, inputs, precision)
        joined_bk = torch.cat([probabilities[task] for task in system.classes], dim=1)
        rows.append(joined_bk.cpu().double().numpy())
    return np.concatenate(rows)


def _extract_features(system: System, windows: Sequence[Window]) -> Inputs:
    """What the model receives of some windows, padded to the longest of them."""
    device, front_end = system.device, system.front_end
    shared = len(windows) > 1 and system.shares
    overlapping = getattr(front_end, "overlapping", None) if shared else None
    with torch.inference_mode():
        if overlapping is None:
            wave_bs, length_b = pad_waveforms([tape[start:end] for tape, start, end in windows])
            return system.extract_features(wave_bs.to(device), length_b.to(device))
        length_b = torch.tensor([end - start for _, start, end in windows])
        wave_s, start_b = _concatenate_windows(windows, round(front_end.hop * front_end.rate))
        frames = overlapping(wave_s.to(device), start_b.to(device), length_b.to(device))
        return {"frames": frames}


def _concatenate_windows(windows: Sequence[Window], step: int) -> tuple[Tensor, Tensor]:
    """The samples that some windows cover, end to end, and where each window begins in them."""
    runs, starts, laid = [windows[0]], list[int](), 0
    for window in windows:
        tape, start, end = runs[-1]
        if window.buffer is not tape or window.start > end:
            laid += -((start - end) // step) * step
            runs.append(window)
        runs[-1] = runs[-1]._replace(end=window.end)
        starts.append(laid + window.start - runs[-1].start)
    waves = [torch.from_numpy(tape[start:end]) for tape, start, end in runs]
    padded_waves = [F.pad(wave_s, (0, -len(wave_s) % step)) for wave_s in waves]
    return torch.cat(padded_waves), torch.tensor(starts)


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let torch use so many threads, and then as many as before; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
