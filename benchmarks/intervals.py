"""Coverage of the intervals in simulations: `python -m benchmarks.intervals`.

Prints the tables of docs/metrics.md. An interval of 95 % should contain the true score in 95 % of
the simulations; `tests/metrics/test_coverage.py` (slow) checks it.

The speakers have the numbers of utterances of EMO-DB's speakers. The probability of a correct
prediction is drawn for each speaker and class: on the logit scale, a speaker and each class of a
speaker deviate normally from the mean of the class. The true score is that of all such speakers.

B = simulations, G = speakers, K = classes, R = draws of a bootstrap, S = seeds, T = steps.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import process_time

import numpy as np
from numpy.typing import NDArray

from serein.metrics.bootstrap import Statistic, block_bootstrap_correlation
from serein.metrics.correlation import correlation_interval
from serein.metrics.jackknife import (
    FISHER_Z,
    LOG,
    LOGIT,
    PLAIN,
    Scale,
    compute_bounds,
)
from serein.metrics.regression import (
    concordance_from_moments,
    moments,
    root_mean_squared_error_from_moments,
)
from serein.metrics.word_error_rate import word_error_rate_from_counts

Array = NDArray[np.float64]
Bounds = tuple[Array, Array]

COUNTS_GK = np.array(
    [
        [14, 5, 1, 4, 7, 11, 7],
        [12, 10, 0, 6, 11, 10, 9],
        [13, 4, 8, 1, 4, 9, 4],
        [10, 8, 1, 8, 4, 4, 3],
        [11, 8, 2, 10, 8, 9, 7],
        [12, 5, 2, 6, 2, 4, 4],
        [12, 10, 8, 7, 10, 9, 5],
        [16, 8, 8, 12, 8, 7, 10],
        [13, 9, 5, 8, 6, 11, 4],
        [14, 14, 11, 7, 11, 5, 9],
    ]
)
"""Utterances of each speaker (03, 08 to 16) and class of EMO-DB: anger, boredom, disgust, fear,
happiness, neutral, sadness."""
RECALLS = (0.80, 0.36, 0.41, 0.61, 0.49, 0.70, 0.79)
"""Of li2019-emodb on EMO-DB (seed 0), as means of the logits."""
HIGH_RECALLS = (0.97, 0.97, 0.99, 0.99, 0.99, 0.99, 0.99)
SPEAKER_DEVIATION, CLASS_DEVIATION = 0.5, 1.25
"""Standard deviations of a speaker, and of a class of a speaker, in logits. Of the values in steps
of 0.25 they have the highest likelihood for the predictions of li2019-emodb."""
SPEAKERS = (2, 4, 8, 10, 12, 24)
SIMULATIONS, DRAWS, CHUNK = 1000, 1000, 50


@dataclass(frozen=True)
class Coverage:
    """How often an interval contains the true score, and its mean width.

    Attributes:
        share: of the simulations; an undefined interval does not contain it.
        width: mean over the simulations where it is defined.
    """

    share: float
    width: float


def measure_coverage(bounds: Bounds, truth: Array | float) -> Coverage:
    """Measure the coverage of the intervals of all simulations."""
    low, high = bounds
    return Coverage(float(np.mean((low <= truth) & (truth <= high))), float(np.nanmean(high - low)))


def simulate_class_scores(
    speakers: int,
    *,
    recalls: Sequence[float] = RECALLS,
    difference: float | None = None,
    simulations: int = SIMULATIONS,
    seed: int = 0,
) -> dict[str, Coverage]:
    """Simulate UA, or the difference in UA of two systems on the same utterances.

    Args:
        speakers: number of speakers; above ten, speakers of EMO-DB are drawn with replacement.
        recalls: mean recall of each class.
        difference: of the second system's logits from the first one's; None scores one system.
        simulations: number of simulations.
        seed: of the random numbers.

    Returns:
        The coverage of the jackknife and of both bootstraps.
    """
    rng = np.random.default_rng([seed, speakers])
    shift = [0.0] if difference is None else [0.0, difference]
    mean_ak = np.log(recalls) - np.log1p(-np.array(recalls)) + np.array(shift)[:, None]
    truth_a = _mean_recalls(mean_ak).mean(axis=1)
    truth = float(truth_a[0] if difference is None else truth_a[1] - truth_a[0])
    count_bgk = _draw_counts(simulations, speakers, rng)
    # Half of a deviation is common to both systems.
    scale = np.sqrt([0.5, 0.5]) if len(shift) > 1 else np.array([1.0, 0.0])
    shape = (simulations, len(shift), speakers)
    eta_bagk = mean_ak[:, None] + np.zeros((*shape, len(recalls)))
    for deviation, last in ((SPEAKER_DEVIATION, 1), (CLASS_DEVIATION, len(recalls))):
        common = rng.standard_normal((simulations, 1, speakers, last))
        own = rng.standard_normal((*shape, last))
        eta_bagk += deviation * (scale[0] * common + scale[1] * own)
    p_bagk = 1 / (1 + np.exp(-eta_bagk))
    # Outcomes of an utterance: every combination of correct and wrong of the systems.
    outcomes = np.stack(list(np.ndindex(*(2,) * len(shift))))
    p_bgko = np.stack(
        [
            np.prod(
                [p if bit else 1 - p for bit, p in zip(bits, p_bagk.swapaxes(0, 1), strict=True)],
                axis=0,
            )
            for bits in outcomes
        ],
        axis=-1,
    )
    cell_bgko = rng.multinomial(count_bgk, p_bgko).astype(float)

    def score(cell_ko: Array) -> Array:
        """Return the score of sums (..., K, O)."""
        recall_a = [_mean_recall(cell_ko, outcomes[:, index]) for index in range(len(shift))]
        return recall_a[0] if difference is None else recall_a[1] - recall_a[0]

    total = cell_bgko.sum(axis=1)
    left_out = score(total[:, None] - cell_bgko)
    scale_of_score = LOGIT if difference is None else PLAIN
    jackknife = compute_bounds(score(total), left_out, scale=scale_of_score)
    return {
        "jackknife": measure_coverage(jackknife, truth),
        "bootstrap over speakers": measure_coverage(
            _bootstrap_speakers(cell_bgko, score, rng), truth
        ),
        "bootstrap over utterances": measure_coverage(
            _bootstrap_utterances(total, score, rng), truth
        ),
    }


def _draw_counts(simulations: int, speakers: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw speakers of EMO-DB; without replacement if there are enough."""
    if speakers > len(COUNTS_GK):
        return np.asarray(COUNTS_GK[rng.integers(0, len(COUNTS_GK), (simulations, speakers))])
    order = np.argsort(rng.random((simulations, len(COUNTS_GK))), axis=1)
    return np.asarray(COUNTS_GK[order[:, :speakers]])


def _mean_recalls(mean_ak: Array, extra: float = 0.0) -> Array:
    """Return the mean recall over all speakers, by quadrature over their normal deviations."""
    node_q, weight_q = np.polynomial.hermite_e.hermegauss(80)
    deviation = np.sqrt(SPEAKER_DEVIATION**2 + CLASS_DEVIATION**2 + extra)
    p_akq = 1 / (1 + np.exp(-(mean_ak[..., None] + deviation * node_q)))
    return np.asarray(p_akq @ weight_q / weight_q.sum())


def _mean_recall(cell_ko: Array, correct_o: NDArray[np.int64]) -> Array:
    """Return UA over the classes that have utterances."""
    count_k = cell_ko.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nanmean(cell_ko @ correct_o / count_k, axis=-1))


def _bootstrap_speakers(
    cell_bgko: Array, score: Callable[[Array], Array], rng: np.random.Generator
) -> Bounds:
    simulations, speakers, *cells = cell_bgko.shape
    times_rg = rng.multinomial(speakers, np.full(speakers, 1 / speakers), size=DRAWS).astype(float)
    scores = []
    for start in range(0, simulations, CHUNK):
        part = cell_bgko[start : start + CHUNK].reshape(-1, speakers, int(np.prod(cells)))
        scores.append(score((times_rg @ part).reshape(-1, DRAWS, *cells)))
    return _take_quantiles(np.concatenate(scores))


def _bootstrap_utterances(
    total_bko: Array, score: Callable[[Array], Array], rng: np.random.Generator
) -> Bounds:
    scores = []
    for start in range(0, len(total_bko), CHUNK):
        part = total_bko[start : start + CHUNK]
        size_b = part.sum(axis=(1, 2))
        share_bc = (part / size_b[:, None, None]).reshape(len(part), 1, -1)
        drawn = rng.multinomial(size_b.astype(int)[:, None], share_bc, size=(len(part), DRAWS))
        scores.append(score(drawn.reshape(len(part), DRAWS, *part.shape[1:]).astype(float)))
    return _take_quantiles(np.concatenate(scores))


def _take_quantiles(score_br: Array) -> Bounds:
    low, high = np.quantile(score_br, [0.025, 0.975], axis=1)
    return low, high


def simulate_seeds(
    speakers: int, seeds: int, *, simulations: int = SIMULATIONS, seed: int = 0
) -> dict[str, Coverage]:
    """Simulate the UA of several training seeds, which deviate by 0.3 logits.

    Each class of a speaker deviates by another 0.5 logits in each seed.
    """
    rng = np.random.default_rng([seed, speakers, seeds])
    mean_k = np.log(RECALLS) - np.log1p(-np.array(RECALLS))
    truth = float(_mean_recalls(mean_k, 0.3**2 + 0.5**2).mean())
    count_bgk = _draw_counts(simulations, speakers, rng)
    shape = (simulations, seeds, speakers, len(RECALLS))
    eta_bsgk = mean_k + 0.5 * rng.standard_normal(shape)
    eta_bsgk += SPEAKER_DEVIATION * rng.standard_normal((simulations, 1, speakers, 1))
    eta_bsgk += CLASS_DEVIATION * rng.standard_normal((simulations, 1, speakers, len(RECALLS)))
    eta_bsgk += 0.3 * rng.standard_normal((simulations, seeds, 1, 1))
    p_bsgk = 1 / (1 + np.exp(-eta_bsgk))
    correct = rng.binomial(np.broadcast_to(count_bgk[:, None], shape), p_bsgk)
    wrong = count_bgk[:, None] - correct
    cell = np.stack([wrong, correct], axis=-1).astype(float)
    total, hit = cell.sum(axis=(1, 2)), np.array([0, 1])
    without_speaker = _mean_recall(total[:, None] - cell.sum(axis=1), hit)
    without_seed = _mean_recall(total[:, None] - cell.sum(axis=2), hit)
    score = _mean_recall(total, hit)
    both = compute_bounds(score, without_speaker, without_seed)
    return {
        "speakers and seeds": measure_coverage(both, truth),
        "speakers": measure_coverage(compute_bounds(score, without_speaker), truth),
    }


def simulate_values(
    speakers: int, *, simulations: int = SIMULATIONS, seed: int = 0
) -> dict[str, Coverage]:
    """Simulate CCC and RMSE of 50 values of each speaker, and the word error rate of 300 words.

    Speakers differ in the mean of their labels, and in offset, slope and noise of the predictions.
    """
    rng = np.random.default_rng([seed, speakers])
    _, _, many = _draw_values(2000, 200, rng)
    true_sums = many.sum(axis=(0, 1))
    _, _, sum_bgc = _draw_values(simulations, speakers, rng)
    found = {
        "CCC, Fisher's z": (concordance_from_moments, FISHER_Z),
        "CCC, plain": (concordance_from_moments, PLAIN),
        "RMSE, log": (root_mean_squared_error_from_moments, LOG),
        "RMSE, plain": (root_mean_squared_error_from_moments, PLAIN),
    }
    coverages = {
        name: _measure_jackknife(sum_bgc, statistic, scale, float(statistic(true_sums)))
        for name, (statistic, scale) in found.items()
    }
    rate_bg = 0.3 * np.exp(0.5 * rng.standard_normal((simulations, speakers)) - 0.5**2 / 2)
    error_bg = rng.poisson(300 * rate_bg).astype(float)
    word_bgc = np.stack(
        [error_bg, 0 * error_bg, 0 * error_bg, np.full_like(error_bg, 300)], axis=-1
    )
    for name, scale in (("WER, log", LOG), ("WER, plain", PLAIN)):
        coverages[name] = _measure_jackknife(word_bgc, word_error_rate_from_counts, scale, 0.3)
    return coverages


def _draw_values(
    simulations: int, speakers: int, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Draw labels, predictions and their moments (B, G, 6)."""
    per_speaker = (simulations, speakers, 1)
    shape = (simulations, speakers, 50)
    label = 0.9 * rng.standard_normal(shape) + 0.4 * rng.standard_normal(per_speaker)
    slope = 0.5 * np.exp(0.3 * rng.standard_normal(per_speaker))
    noise = 0.6 * np.exp(0.2 * rng.standard_normal(per_speaker))
    answer = slope * label + 0.3 * rng.standard_normal(per_speaker)
    answer += noise * rng.standard_normal(shape)
    rows = moments(label.ravel(), answer.ravel()).reshape(*shape, -1)
    return label, answer, rows.sum(axis=2)


def _measure_jackknife(
    sum_bgc: Array, statistic: Statistic, scale: Scale, truth: float
) -> Coverage:
    total = sum_bgc.sum(axis=1)
    score = np.asarray(statistic(total), dtype=float)
    left_out = np.asarray(statistic(total[:, None] - sum_bgc), dtype=float)
    return measure_coverage(compute_bounds(score, left_out, scale=scale), truth)


STEP = 0.025
"""Seconds from one step of a series to the next, as in li2019."""
SERIES = {
    "0.05 s": ((0.05, 1.0),),
    "0.2 s": ((0.2, 1.0),),
    "0.05 and 0.4 s": ((0.05, 0.8), (0.4, 0.6)),
}
"""Time constants and weights of the parts of a series, which has variance 1."""
SKEW = 1.2


def simulate_correlations(
    seconds: float,
    series: str,
    correlation: float,
    *,
    skewed: bool = False,
    simulations: int = 300,
    seed: int = 0,
) -> dict[str, Coverage]:
    """Simulate Spearman's and Pearson's correlation of two stationary series.

    Their parts are autoregressive, and the second series is the first one, plus another.

    Args:
        seconds: duration of the series.
        series: one of `SERIES`.
        correlation: of the normal series.
        skewed: take the exponential of the first series, like attention weights of a softmax.
        simulations: number of simulations.
        seed: of the random numbers.

    Returns:
        The coverage of the interval by effective steps, and of the block bootstrap with blocks of
        0.2 s, which was used before.
    """
    rng = np.random.default_rng([seed, round(100 * seconds)])
    steps, block = round(seconds / STEP), round(0.2 / STEP)
    first_bt, other_bt = (_draw_series(simulations, steps, series, rng) for _ in range(2))
    second_bt = correlation * first_bt + np.sqrt(1 - correlation**2) * other_bt
    # Spearman's correlation of normal series; exponentials have the same ranks.
    ranked_truth = 6 / np.pi * np.arcsin(correlation / 2)
    truth = correlation
    if skewed:
        first_bt = np.exp(SKEW * first_bt)
        truth = correlation * SKEW / np.sqrt(np.expm1(SKEW**2))
    found: dict[str, list[tuple[float, float]]] = {}
    for pair in zip(first_bt, second_bt, strict=True):
        found.setdefault("Pearson", []).append(correlation_interval(*pair))
        found.setdefault("Spearman", []).append(correlation_interval(*pair, ranked=True))
        found.setdefault("Pearson, blocks of 0.2 s", []).append(
            block_bootstrap_correlation(*pair, block=block, resamples=200)
        )
    return {
        name: measure_coverage(
            _to_bounds(rows), float(ranked_truth) if name == "Spearman" else float(truth)
        )
        for name, rows in found.items()
    }


def _to_bounds(rows: Sequence[tuple[float, float]]) -> Bounds:
    low, high = np.array(rows).T
    return low, high


def _draw_series(simulations: int, steps: int, series: str, rng: np.random.Generator) -> Array:
    total = np.zeros((simulations, steps))
    for constant, weight in SERIES[series]:
        keep = np.exp(-STEP / constant)
        value_b = rng.standard_normal(simulations)
        for step in range(steps):
            noise_b = rng.standard_normal(simulations)
            value_b = keep * value_b + np.sqrt(1 - keep**2) * noise_b
            total[:, step] += weight * value_b
    return total


KINDS: dict[str, Callable[[int], dict[str, Coverage]]] = {
    "UA, 58 %": simulate_class_scores,
    "UA, 97 %": lambda speakers: simulate_class_scores(speakers, recalls=HIGH_RECALLS),
    "difference in UA, 8 points": lambda speakers: simulate_class_scores(speakers, difference=0.5),
}


def format_tables() -> Iterator[str]:
    """Yield the lines of all tables: coverage in percent, and in brackets the mean width."""
    yield from (
        "| score | speakers | jackknife | bootstrap over speakers | bootstrap over utterances |",
        "|---|---|---|---|---|",
    )
    for kind, simulate in KINDS.items():
        for speakers in SPEAKERS:
            yield f"| {kind} | {speakers} | {_format_cells(simulate(speakers), 100)} |"
    header = ("CCC, Fisher's z", "CCC, plain", "RMSE, log", "RMSE, plain", "WER, log", "WER, plain")
    yield from ("", f"| speakers | {' | '.join(header)} |", "|---" * 7 + "|")
    for speakers in SPEAKERS:
        yield f"| {speakers} | {_format_cells(simulate_values(speakers))} |"
    yield from (
        "",
        "| speakers | seeds | speakers and seeds | speakers alone |",
        "|---|---|---|---|",
    )
    for speakers in (4, 10, 24):
        for seeds in (2, 3, 5):
            cells = _format_cells(simulate_seeds(speakers, seeds), 100)
            yield f"| {speakers} | {seeds} | {cells} |"
    yield from (
        "",
        "| autocorrelation | seconds | true | Pearson | Spearman | Pearson, blocks of 0.2 s |",
        "|---|---|---|---|---|---|",
    )
    for series in SERIES:
        for seconds in (1.6, 3, 6):
            for correlation in (0.0, 0.5):
                cells = _format_cells(simulate_correlations(seconds, series, correlation))
                yield f"| {series} | {seconds} | {correlation} | {cells} |"
    for correlation in (0.0, 0.5, 0.8):
        cells = _format_cells(simulate_correlations(3, "0.05 and 0.4 s", correlation, skewed=True))
        yield f"| 0.05 and 0.4 s, skewed weights | 3 | {correlation} | {cells} |"


def _format_cells(found: dict[str, Coverage], unit: int = 1) -> str:
    digits = 0 if unit == 100 else 2
    return " | ".join(
        f"{100 * one.share:.1f} ({unit * one.width:.{digits}f})" for one in found.values()
    )


def main() -> None:
    """Print the tables."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    start = process_time()
    for line in format_tables():
        print(line, flush=True)
    print(f"{process_time() - start:.0f} s of CPU in all")


if __name__ == "__main__":
    main()
