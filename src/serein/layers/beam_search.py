"""Beam search over anything that tells how likely each next word is.

A beam that has ended stays among the best and goes on at no cost, so that the search is over for an
utterance once nothing unfinished can overtake what is finished. What all beams of an utterance
share is not copied: a tensor of the state whose second axis is 1 belongs to all of them.

B = utterances, W = beams, L = words, V = words of the vocabulary.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

State = tuple[Tensor, ...]
"""Each (B, W, ...), or (B, 1, ...) where the beams of an utterance share it."""
StepFunction = Callable[[Tensor, State], tuple[Tensor, State]]
"""The words before (B, W) and the state -> log-probabilities (B, W, V) and the next state."""
LOG_ZERO = -torch.inf


class BeamSearchResult(NamedTuple):
    """The best of each utterance.

    Attributes:
        id_bl: (B, L), without start and end; -1 behind each end.
        score_b: (B,), the sum of its log-probabilities, and of the bonus for its words.
        ended_b: (B,), False where the search had to stop before any beam had ended.
    """

    id_bl: Tensor
    score_b: Tensor
    ended_b: Tensor


class _Beams(NamedTuple):
    """Hypotheses of the utterances that are still searched, the best one first.

    Attributes:
        row_b: which utterance of the batch it is.
        id_bwl: words so far.
        score_bw: of them.
        ended_bw: whether they end.
        state: of what tells the next word.
    """

    row_b: Tensor
    id_bwl: Tensor
    score_bw: Tensor
    ended_bw: Tensor
    state: State

    def select(self, keep_b: Tensor) -> "_Beams":
        """Some of the utterances."""
        row_b, id_bwl, score_bw, ended_bw = (x[keep_b] for x in self[:4])
        return _Beams(row_b, id_bwl, score_bw, ended_bw, tuple(x[keep_b] for x in self.state))

    def discard_unfinished(self, done_b: Tensor) -> "_Beams":
        """Those of utterances that are done, which have not ended, given up."""
        lost_bw = done_b[:, None] & ~self.ended_bw
        return self._replace(score_bw=self.score_bw.masked_fill(lost_bw, LOG_ZERO))


@torch.no_grad()
def beam_search(
    step: StepFunction,
    state: State,
    *,
    start: int,
    end: int,
    width: int,
    max_length: int,
    bonus: float = 0.0,
) -> BeamSearchResult:
    """Find the most likely words of each utterance.

    Of two that are equally likely the one of the better beam is taken, or that of the lower number.

    Args:
        step: tells the next word.
        state: before the first word, with a second axis of 1 throughout.
        start: the word before the first one.
        end: the word that ends.
        width: beams of an utterance.
        max_length: words of an utterance at most, its end included.
        bonus: what each word adds to the score, its end excepted: above 0 for longer answers.

    Returns:
        What ended with the best score; where nothing did, the best of what did not.
    """
    batch, device = state[0].shape[0], state[0].device
    beams = _Beams(
        row_b=torch.arange(batch, device=device),
        id_bwl=torch.empty(batch, 1, 0, dtype=torch.long, device=device),
        score_bw=torch.zeros(batch, 1, device=device),
        ended_bw=torch.zeros(batch, 1, dtype=torch.bool, device=device),
        state=state,
    )
    found = BeamSearchResult(
        id_bl=torch.full((batch, max_length), end, device=device),
        score_b=torch.zeros(batch, device=device),
        ended_b=torch.zeros(batch, dtype=torch.bool, device=device),
    )
    for left in reversed(range(max_length)):
        beams = _extend_beams(beams, step, start, end, width, bonus)
        done_b = _find_finished(beams, left * max(bonus, 0.0))
        beams = beams.discard_unfinished(done_b)
        # Half of them at a time, since each cut copies what is left.
        if not left:
            _store_best(found, beams)
        elif 2 * int(done_b.sum()) >= len(done_b):
            _store_best(found, beams.select(done_b))
            beams = beams.select(~done_b)
        if not len(beams.row_b):
            break
    return found._replace(id_bl=_trim_after_end(found.id_bl, end))


def _extend_beams(
    beams: _Beams, step: StepFunction, start: int, end: int, width: int, bonus: float
) -> _Beams:
    """One word more."""
    first = beams.id_bwl.shape[2] == 0
    previous_bw = torch.full_like(beams.ended_bw, start, dtype=torch.long)
    gain_bwv, state = step(previous_bw if first else beams.id_bwl[..., -1], beams.state)
    if bonus:
        gain_bwv = gain_bwv + bonus
        gain_bwv[..., end] -= bonus
    # What is no number is never said, so that every row has its highest ones.
    lost_bwv = beams.ended_bw[..., None] | gain_bwv.isnan()
    score_bwv = beams.score_bw[..., None] + gain_bwv.masked_fill(lost_bwv, LOG_ZERO)
    score_bwv[..., end] = torch.where(beams.ended_bw, beams.score_bw, score_bwv[..., end])
    score_bw, place_bw = _stable_topk(score_bwv.flatten(1), width)
    words = score_bwv.shape[2]
    parent_bw, id_bw = place_bw // words, place_bw % words
    kept_bwl = beams.id_bwl.take_along_dim(parent_bw[..., None], dim=1)
    return _Beams(
        row_b=beams.row_b,
        id_bwl=torch.cat([kept_bwl, id_bw[..., None]], dim=2),
        score_bw=score_bw,
        ended_bw=id_bw == end,
        state=tuple(x if x.shape[1] == 1 else _gather_beams(x, parent_bw) for x in state),
    )


def _stable_topk(score_bn: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest of each row and their places, highest first; of equal ones the first."""
    count = min(count, score_bn.shape[1])
    least_b1 = score_bn.topk(count).values[:, -1:]
    above_bn, level_bn = score_bn > least_b1, score_bn == least_b1
    wanted_b1 = count - above_bn.sum(dim=1, keepdim=True)
    kept_bn = above_bn | (level_bn & (level_bn.cumsum(dim=1) <= wanted_b1))
    place_bw = kept_bn.nonzero()[:, 1].view(-1, count)
    score_bw, order_bw = score_bn.gather(1, place_bw).sort(dim=1, descending=True, stable=True)
    return score_bw, place_bw.gather(1, order_bw)


def _gather_beams(x: Tensor, parent_bw: Tensor) -> Tensor:
    """(B, W, ...) -> those beams of it."""
    row_b1 = torch.arange(len(x), device=x.device)[:, None]
    return x[row_b1, parent_bw]


def _find_finished(beams: _Beams, max_gain: float) -> Tensor:
    """(B,), where something has ended that nothing can overtake that may still gain so much."""
    open_b = beams.score_bw.masked_fill(beams.ended_bw, LOG_ZERO).amax(dim=1)
    closed_b = beams.score_bw.masked_fill(~beams.ended_bw, LOG_ZERO).amax(dim=1)
    return (closed_b > LOG_ZERO) & (closed_b >= open_b + max_gain)


def _store_best(found: BeamSearchResult, beams: _Beams) -> None:
    """Keep the first beam that has ended; where none has, the first."""
    ended_bw = beams.ended_bw & (beams.score_bw > LOG_ZERO)
    best_b = ended_bw.to(torch.uint8).argmax(dim=1)
    here_b = torch.arange(len(best_b), device=best_b.device)
    found.id_bl[beams.row_b, : beams.id_bwl.shape[2]] = beams.id_bwl[here_b, best_b]
    found.score_b[beams.row_b] = beams.score_bw[here_b, best_b].to(found.score_b.dtype)
    found.ended_b[beams.row_b] = ended_bw[here_b, best_b]


def _trim_after_end(id_bl: Tensor, end: int) -> Tensor:
    """What stands before each end; -1 behind it."""
    said_bl = (id_bl == end).cumsum(dim=1) == 0
    return id_bl.masked_fill(~said_bl, -1)[:, : int(said_bl.sum(dim=1).max())]
