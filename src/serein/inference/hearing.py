"""Many windows through a system: what they share is computed once.

B = windows at a time, S = samples, T = frames, K = classes of all tasks, one after the other.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from serein.inference.tape import Tape
from serein.inference.together import padded
from serein.inference.windows import Probabilities
from serein.precision import Numbers
from serein.predict import answer
from serein.system import Inputs, System

AT_A_TIME = 32
"""Windows that the model hears at once."""

Window = tuple[int, int]


def hear(
    system: System, tape: Tape, windows: list[Window], numbers: Numbers = "fp32"
) -> Probabilities:
    """Windows of a tape, in order, each begun at a multiple of the front end's hop -> (B, K)."""
    rows: list[Probabilities] = []
    for first in range(0, len(windows), AT_A_TIME):
        inputs = _inputs(system, tape, windows[first : first + AT_A_TIME])
        probabilities, _ = answer(system, inputs, numbers)
        joined_bk = torch.cat(list(probabilities.values()), dim=1)
        rows.append(joined_bk.cpu().double().numpy())
    return np.concatenate(rows)


def _inputs(system: System, tape: Tape, windows: list[Window]) -> Inputs:
    """What the model receives of some windows, padded to the longest of them."""
    device, front_end = system.device, system.front_end
    shared = len(windows) > 1 and system.shares
    overlapping = getattr(front_end, "overlapping", None) if shared else None
    with torch.inference_mode():
        if overlapping is None:
            wave_bs, length_b = padded([tape[start:end] for start, end in windows])
            return system.hear(wave_bs.to(device), length_b.to(device))
        length_b = torch.tensor([end - start for start, end in windows])
        wave_s, start_b = _laid(tape, windows, round(front_end.hop * front_end.rate))
        frames = overlapping(wave_s.to(device), start_b.to(device), length_b.to(device))
        return {"frames": frames}


def _laid(tape: Tape, windows: list[Window], step: int) -> tuple[Tensor, Tensor]:
    """The samples that some windows cover, end to end, and where each window begins in them."""
    starts: list[int] = []
    waves: list[Tensor] = []
    laid, (first, last) = 0, windows[0]
    for start, end in [*windows, (sys.maxsize, sys.maxsize)]:
        if start > last:
            wave_s = torch.from_numpy(tape[first:last])
            waves.append(F.pad(wave_s, (0, -len(wave_s) % step)))
            laid, first = laid + len(waves[-1]), start
        starts.append(laid + start - first)
        last = end
    return torch.cat(waves), torch.tensor(starts[:-1])


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Let torch use so many threads, and then as many as before; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
