"""Beam search over any function that gives log-probabilities of the next word.

A finished beam stays among the best ones at no cost, so that the search of an utterance ends once
no unfinished beam can overtake the best finished one. What all beams of an utterance share is not
copied: a tensor of the state whose second axis is 1 belongs to all of them.

B = utterances, W = beams, L = words, V = words of the vocabulary.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

State = tuple[Tensor, ...]
"""Each (B, W, ...), or (B, 1, ...) where the beams of an utterance share it."""
StepFunction = Callable[[Tensor, State], tuple[Tensor, State]]
"""Previous words (B, W) and the state -> log-probabilities (B, W, V) and the next state."""
LOG_ZERO = -torch.inf


class BeamSearchResult(NamedTuple):
    """The best hypothesis of each utterance.

    Attributes:
        id_bl: (B, L), without start and end; -1 after each end.
        score_b: (B,), the sum of its log-probabilities, and of the bonus for its words.
        ended_b: (B,), False where the search stopped before any beam had ended.
    """

    id_bl: Tensor
    score_b: Tensor
    ended_b: Tensor


class _Beams(NamedTuple):
    """Hypotheses of the utterances whose search goes on, the best one first.

    Attributes:
        row_b: index of the utterance in the batch.
        id_bwl: words so far.
        score_bw: scores so far.
        ended_bw: whether the hypothesis has ended.
        state: of the step function.
    """

    row_b: Tensor
    id_bwl: Tensor
    score_bw: Tensor
    ended_bw: Tensor
    state: State

    def select(self, keep_b: Tensor) -> "_Beams":
        """Return the beams of some utterances."""
        row_b, id_bwl, score_bw, ended_bw = (x[keep_b] for x in self[:4])
        return _Beams(row_b, id_bwl, score_bw, ended_bw, tuple(x[keep_b] for x in self.state))

    def discard_unfinished(self, done_b: Tensor) -> "_Beams":
        """Give the unfinished beams of finished utterances a probability of 0."""
        discarded_bw = done_b[:, None] & ~self.ended_bw
        return self._replace(score_bw=self.score_bw.masked_fill(discarded_bw, LOG_ZERO))


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
    """Find the likeliest words of each utterance.

    Of equally likely hypotheses, the one of the better beam wins, then the one of the lower id.

    Args:
        step: gives log-probabilities of the next word.
        state: before the first word, with a second axis of 1 throughout.
        start: id of the word before the first one.
        end: id of the word that ends a hypothesis.
        width: beams of an utterance.
        max_length: most words of an utterance, including its end.
        bonus: added to the score for each word except the end; above 0 it favours longer results.

    Returns:
        The finished hypothesis with the best score; where none finished, the best unfinished one.
    """
    batch, device = state[0].shape[0], state[0].device
    beams = _Beams(
        row_b=torch.arange(batch, device=device),
        id_bwl=torch.empty(batch, 1, 0, dtype=torch.long, device=device),
        score_bw=torch.zeros(batch, 1, device=device),
        ended_bw=torch.zeros(batch, 1, dtype=torch.bool, device=device),
        state=state,
    )
    result = BeamSearchResult(
        id_bl=torch.full((batch, max_length), end, device=device),
        score_b=torch.zeros(batch, device=device),
        ended_b=torch.zeros(batch, dtype=torch.bool, device=device),
    )
    for remaining in reversed(range(max_length)):
        beams = _extend_beams(beams, step, start, end, width, bonus)
        done_b = _find_finished(beams, remaining * max(bonus, 0.0))
        beams = beams.discard_unfinished(done_b)
        # Remove finished utterances by halves, since each removal copies the others.
        if not remaining:
            _store_best(result, beams)
        elif 2 * int(done_b.sum()) >= len(done_b):
            _store_best(result, beams.select(done_b))
            beams = beams.select(~done_b)
        if not len(beams.row_b):
            break
    return result._replace(id_bl=_trim_after_end(result.id_bl, end))


def _extend_beams(
    beams: _Beams, step: StepFunction, start: int, end: int, width: int, bonus: float
) -> _Beams:
    """Extend the hypotheses by one word."""
    first = beams.id_bwl.shape[2] == 0
    previous_bw = torch.full_like(beams.ended_bw, start, dtype=torch.long)
    gain_bwv, state = step(previous_bw if first else beams.id_bwl[..., -1], beams.state)
    if bonus:
        gain_bwv = gain_bwv + bonus
        gain_bwv[..., end] -= bonus
    # NaN counts as probability 0, so that every row has its highest ones.
    excluded_bwv = beams.ended_bw[..., None] | gain_bwv.isnan()
    score_bwv = beams.score_bw[..., None] + gain_bwv.masked_fill(excluded_bwv, LOG_ZERO)
    score_bwv[..., end] = torch.where(beams.ended_bw, beams.score_bw, score_bwv[..., end])
    score_bw, index_bw = _stable_topk(score_bwv.flatten(1), width)
    words = score_bwv.shape[2]
    parent_bw, id_bw = index_bw // words, index_bw % words
    history_bwl = beams.id_bwl.take_along_dim(parent_bw[..., None], dim=1)
    return _Beams(
        row_b=beams.row_b,
        id_bwl=torch.cat([history_bwl, id_bw[..., None]], dim=2),
        score_bw=score_bw,
        ended_bw=id_bw == end,
        state=tuple(x if x.shape[1] == 1 else _gather_beams(x, parent_bw) for x in state),
    )


def _stable_topk(score_bn: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the highest values of each row and their indices; of equal ones the first."""
    count = min(count, score_bn.shape[1])
    lowest_b1 = score_bn.topk(count).values[:, -1:]
    above_bn, equal_bn = score_bn > lowest_b1, score_bn == lowest_b1
    missing_b1 = count - above_bn.sum(dim=1, keepdim=True)
    selected_bn = above_bn | (equal_bn & (equal_bn.cumsum(dim=1) <= missing_b1))
    index_bw = selected_bn.nonzero()[:, 1].view(-1, count)
    score_bw, order_bw = score_bn.gather(1, index_bw).sort(dim=1, descending=True, stable=True)
    return score_bw, index_bw.gather(1, order_bw)


def _gather_beams(x: Tensor, parent_bw: Tensor) -> Tensor:
    """Select beams of (B, W, ...)."""
    row_b1 = torch.arange(len(x), device=x.device)[:, None]
    return x[row_b1, parent_bw]


def _find_finished(beams: _Beams, max_gain: float) -> Tensor:
    """Return (B,), True where no unfinished beam can overtake the best finished one.

    Args:
        beams: all beams.
        max_gain: most that an unfinished beam can still gain.
    """
    open_b = beams.score_bw.masked_fill(beams.ended_bw, LOG_ZERO).amax(dim=1)
    closed_b = beams.score_bw.masked_fill(~beams.ended_bw, LOG_ZERO).amax(dim=1)
    return (closed_b > LOG_ZERO) & (closed_b >= open_b + max_gain)


def _store_best(result: BeamSearchResult, beams: _Beams) -> None:
    """Write the best finished beam of each utterance; where none has finished, the best beam."""
    ended_bw = beams.ended_bw & (beams.score_bw > LOG_ZERO)
    best_b = ended_bw.to(torch.uint8).argmax(dim=1)
    step_b = torch.arange(len(best_b), device=best_b.device)
    result.id_bl[beams.row_b, : beams.id_bwl.shape[2]] = beams.id_bwl[step_b, best_b]
    result.score_b[beams.row_b] = beams.score_bw[step_b, best_b].to(result.score_b.dtype)
    result.ended_b[beams.row_b] = ended_bw[step_b, best_b]


def _trim_after_end(id_bl: Tensor, end: int) -> Tensor:
    """Keep the words before each end; -1 after it."""
    before_end_bl = (id_bl == end).cumsum(dim=1) == 0
    longest = int(before_end_bl.sum(dim=1).max())
    return id_bl.masked_fill(~before_end_bl, -1)[:, :longest]
