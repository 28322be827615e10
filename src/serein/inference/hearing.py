"""Many windows through a system: what they share is computed once.

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

from serein.inference.predictor import pad_waveforms
from serein.inference.tape import SampleBuffer
from serein.inference.windowing import Probabilities
from serein.precision import Precision
from serein.system import Inputs, System
from serein.training.predict import predict_batch

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
