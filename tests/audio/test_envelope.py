"""Envelope and level of a waveform, against literal loops and known signals."""

import numpy as np
import pytest

from serein.audio.envelope import FLOOR_DB, compute_energy, compute_envelope

RATE = 16_000


def tone(amplitude: float, seconds: float = 1.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (amplitude * np.sin(2 * np.pi * 400 * time)).astype(np.float32)


def test_envelope_contains_every_peak() -> None:
    wave = np.zeros(10_000, dtype=np.float32)
    wave[[0, 5_003, 9_999]] = (0.5, -0.75, 1.0)
    found = compute_envelope(wave)
    assert len(found) == 400
    assert found[0] == (0.0, 0.5)
    assert found[-1] == (0.0, 1.0)
    assert min(low for low, _ in found) == -0.75
    assert compute_envelope(np.array([0.1, -0.2], dtype=np.float32)) == [(0.1, 0.1), (-0.2, -0.2)]


@pytest.mark.parametrize(
    ("wave_s", "expected"),
    [
        (np.ones(RATE, np.float32), 0.0),
        (tone(1.0), 20 * np.log10(1 / np.sqrt(2))),
        (tone(0.1), 20 * np.log10(0.1 / np.sqrt(2))),
        (np.zeros(RATE, np.float32), FLOOR_DB),
        (np.full(RATE, 1e-7, np.float32), FLOOR_DB),
    ],
)
def test_energy_of_known_signals(wave_s: np.ndarray, expected: float) -> None:
    found = compute_energy(wave_s, RATE, [0.1, 0.5, 0.9], 0.04)
    assert found == pytest.approx([expected] * 3, abs=0.01)


def test_energy_equals_a_literal_loop() -> None:
    wave_s = np.random.default_rng(0).normal(0, 0.1, 5_000).astype(np.float32)
    times = [0.0, 0.01, 0.1, 0.15, 0.3, 0.31, 9.0]
    found = compute_energy(wave_s, RATE, times, 0.04)
    for time, level in zip(times, found, strict=True):
        middle = min(time * RATE, 4_999)
        part = wave_s[round(max(0, middle - 320)) : round(middle + 320)]
        assert level == pytest.approx(10 * np.log10(np.mean(part.astype(float) ** 2)), abs=0.05)


def test_energy_depends_only_on_the_window_around_a_time() -> None:
    wave_s = np.concatenate([tone(0.5), np.zeros(RATE, np.float32)])
    loud, edge, quiet = compute_energy(wave_s, RATE, [0.5, 1.0, 1.5], 0.1)
    assert quiet == FLOOR_DB
    assert edge == pytest.approx(loud - 10 * np.log10(2), abs=0.05)
    assert len(compute_energy(wave_s[:1], RATE, [0.0], 0.0)) == 1
