"""Beam search against all sentences, and against a version in plain Python."""

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from serein.layers.beam_search import BeamSearchResult, State, beam_search

START, END = 0, 1
WORDS = 5
Sentence = tuple[int, ...]


def table(batch: int, seed: int = 0, *, ending: float = 0.0) -> Tensor:
    """Log-probabilities of a word given the two before it: (B, V, V, V); never of <s>."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, *[WORDS] * 3, generator=generator, dtype=torch.float64)
    logits[..., START] = -torch.inf
    logits[..., END] += ending
    return logits.log_softmax(dim=-1)


def step(previous_bw: Tensor, state: State) -> tuple[Tensor, State]:
    shared_b1vvv, before_bw = state
    row_b1 = torch.arange(len(previous_bw))[:, None]
    return shared_b1vvv[row_b1, 0, before_bw, previous_bw], (shared_b1vvv, previous_bw)


def begin(table_bvvv: Tensor) -> State:
    return table_bvvv[:, None], torch.full((len(table_bvvv), 1), START)


def run_search(
    table_bvvv: Tensor, *, width: int, max_length: int, bonus: float = 0.0
) -> BeamSearchResult:
    sizes = {"width": width, "max_length": max_length}
    return beam_search(step, begin(table_bvvv), start=START, end=END, bonus=bonus, **sizes)


def words(found: BeamSearchResult, row: int) -> Sentence:
    return tuple(word for word in found.id_bl[row].tolist() if word >= 0)


def gains(table_vvv: Tensor, said: Sentence) -> list[float]:
    before, previous = (START, START, *said)[-2:]
    return table_vvv[before, previous].tolist()


def score_of(table_vvv: Tensor, said: Sentence, bonus: float) -> float:
    """Return the score of a sentence including its end."""
    places = range(len(said) + 1)
    score = sum(gains(table_vvv, said[:i])[(*said, END)[i]] for i in places)
    return score + bonus * len(said)


def all_sentences(max_length: int) -> list[Sentence]:
    spoken = range(END + 1, WORDS)
    return [said for count in range(max_length) for said in product(spoken, repeat=count)]


def search_literally(
    table_vvv: Tensor, *, width: int, max_length: int, bonus: float = 0.0
) -> tuple[Sentence, float, bool]:
    """A beam search that never stops early."""
    beams: list[tuple[Sentence, float, bool]] = [((), 0.0, False)]
    for _ in range(max_length):
        more = []
        for said, score, ended in beams:
            if ended:
                more.append((said, score, True))
                continue
            for word, gain in enumerate(gains(table_vvv, said)):
                over = word == END
                longer = said if over else (*said, word)
                more.append((longer, score + gain + bonus * (not over), over))
        beams = sorted(more, key=lambda beam: -beam[1])[:width]
    finished = [beam for beam in beams if beam[2] and beam[1] > -torch.inf]
    return (finished or beams)[0]


@pytest.mark.parametrize("bonus", [0.0, 0.8, -0.5])
@pytest.mark.parametrize("max_length", [1, 2, 5])
def test_wide_beam_finds_the_best_sentence(max_length: int, bonus: float) -> None:
    table_bvvv = table(12)
    found = run_search(table_bvvv, width=WORDS**max_length, max_length=max_length, bonus=bonus)
    for row, table_vvv in enumerate(table_bvvv):
        best = max(all_sentences(max_length), key=lambda said: score_of(table_vvv, said, bonus))
        assert words(found, row) == best
        assert float(found.score_b[row]) == pytest.approx(
            score_of(table_vvv, best, bonus), abs=1e-5
        )
    assert found.ended_b.all()


@pytest.mark.parametrize("bonus", [0.0, 0.8, -0.5])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 7])
def test_narrow_beam_equals_a_literal_implementation(width: int, bonus: float) -> None:
    table_bvvv = table(30, seed=width, ending=-0.5)
    found = run_search(table_bvvv, width=width, max_length=8, bonus=bonus)
    for row, table_vvv in enumerate(table_bvvv):
        said, score, ended = search_literally(table_vvv, width=width, max_length=8, bonus=bonus)
        assert words(found, row) == said
        assert float(found.score_b[row]) == pytest.approx(score, abs=1e-5)
        assert bool(found.ended_b[row]) == ended


@pytest.mark.parametrize("width", [1, 3, 4])
def test_ties_go_to_the_first_hypothesis(width: int) -> None:
    generator = torch.Generator().manual_seed(width)
    table_bvvv = -torch.randint(1, 3, (40, *[WORDS] * 3), generator=generator).double()
    table_bvvv[..., START] = -torch.inf
    found = run_search(table_bvvv, width=width, max_length=5)
    for row, table_vvv in enumerate(table_bvvv):
        said, score, ended = search_literally(table_vvv, width=width, max_length=5)
        assert (words(found, row), bool(found.ended_b[row])) == (said, ended)
        assert float(found.score_b[row]) == score


def test_search_is_independent_of_the_batch() -> None:
    table_bvvv = table(20, seed=4, ending=-1)
    together = run_search(table_bvvv, width=3, max_length=9)
    for row in range(20):
        alone = run_search(table_bvvv[row : row + 1], width=3, max_length=9)
        assert words(alone, 0) == words(together, row)
        assert alone.score_b[0] == together.score_b[row]
        assert alone.ended_b[0] == together.ended_b[row]


def test_ids_after_the_end_are_minus_one() -> None:
    found = run_search(table(30, seed=5), width=2, max_length=6)
    lengths = [len(words(found, row)) for row in range(30)]
    assert len(set(lengths)) > 2
    assert found.id_bl.shape == (30, max(lengths))
    for row, length in enumerate(lengths):
        assert (found.id_bl[row, :length] > END).all()
        assert (found.id_bl[row, length:] == -1).all()


def never(table_bvvv: Tensor) -> Tensor:
    endless_bvvv = table_bvvv.clone()
    endless_bvvv[..., END] = -torch.inf
    return endless_bvvv


def test_search_without_end_stops_and_reports_it() -> None:
    table_bvvv = torch.cat([table(2, ending=4), never(table(2))])
    found = run_search(table_bvvv, width=3, max_length=7)
    assert found.ended_b.tolist() == [True, True, False, False]
    assert [len(words(found, row)) for row in (2, 3)] == [7, 7]
    assert (found.score_b < 0).all()


def test_search_stops_with_nan_scores() -> None:
    found = run_search(torch.full((2, *[WORDS] * 3), torch.nan), width=3, max_length=4)
    assert not found.ended_b.any()
    assert found.id_bl.shape[1] <= 4


def test_finished_hypotheses_win_at_max_length() -> None:
    table_bvvv = torch.full((1, *[WORDS] * 3), -9.0)
    table_bvvv[..., 2], table_bvvv[..., END] = -0.1, -3.0
    found = run_search(table_bvvv, width=2, max_length=2)
    assert (words(found, 0), found.ended_b.tolist()) == ((), [True])
    assert float(found.score_b) == pytest.approx(-3.0)


def test_bonus_favours_longer_results() -> None:
    table_bvvv = table(20, seed=6, ending=1)
    plain = run_search(table_bvvv, width=4, max_length=8)
    longer = run_search(table_bvvv, width=4, max_length=8, bonus=1.5)
    assert (longer.id_bl >= 0).sum() > (plain.id_bl >= 0).sum() + 20


def record_steps(seen: list[tuple[int, ...]]) -> Callable[[Tensor, State], tuple[Tensor, State]]:
    def watch(previous_bw: Tensor, state: State) -> tuple[Tensor, State]:
        seen.append((*previous_bw.shape, state[0].shape[1], state[0].data_ptr()))
        return step(previous_bw, state)

    return watch


def test_shared_state_is_not_copied_and_finished_rows_are_removed() -> None:
    seen: list[tuple[int, ...]] = []
    table_bvvv = torch.cat([table(3, ending=9), never(table(1))])
    beam_search(record_steps(seen), begin(table_bvvv), start=START, end=END, width=3, max_length=6)
    assert [shape[:3] for shape in seen] == [(4, 1, 1)] + [(1, 3, 1)] * 5
    assert seen[0][3] == table_bvvv.data_ptr()
    assert len({pointer for *_, pointer in seen[1:]}) == 1
    seen.clear()
    beam_search(
        record_steps(seen), begin(table(3, ending=9)), start=START, end=END, width=3, max_length=6
    )
    assert len(seen) == 1


def test_search_has_no_gradient() -> None:
    table_bvvv = table(2).requires_grad_()
    found = run_search(table_bvvv, width=2, max_length=3)
    assert not found.score_b.requires_grad
