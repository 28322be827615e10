import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serein.audio import Samples
from serein.augment import waveform

RATE = 16_000


def tone(hertz: float = 200.0, seconds: float = 2.0, rate: int = RATE) -> Samples:
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def white_noise(seconds: float = 2.0, seed: int = 0) -> Samples:
    generator = np.random.default_rng(seed)
    return generator.normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def peak_frequency(wave_s: Samples, rate: int = RATE) -> float:
    power_c = np.abs(np.fft.rfft(wave_s * np.hanning(len(wave_s))))
    return float(np.fft.rfftfreq(len(wave_s), 1 / rate)[power_c.argmax()])


def level(wave_s: Samples, low: float, high: float, rate: int = RATE) -> float:
    """Return the level between two frequencies in decibels, relative to the total."""
    power_c = np.abs(np.fft.rfft(wave_s * np.hanning(len(wave_s)))) ** 2
    hertz_c = np.fft.rfftfreq(len(wave_s), 1 / rate)
    inside_c = (hertz_c >= low) & (hertz_c < high)
    return float(10 * np.log10(power_c[inside_c].sum() / power_c.sum() + 1e-30))


def decibels(one: Samples, other: Samples) -> float:
    energies = [np.square(x, dtype=np.float64).sum() for x in (one, other)]
    return float(10 * np.log10(energies[0] / energies[1]))


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.1, 2.0])
def test_change_speed_shortens_and_raises_pitch(factor: float) -> None:
    found = waveform.change_speed(tone(), RATE, factor)
    assert len(found) == pytest.approx(2 * RATE / factor, abs=1)
    assert peak_frequency(found) == pytest.approx(200 * factor, rel=0.01)
    assert found.dtype == np.float32


@pytest.mark.parametrize("semitones", [-6.0, -2.0, 0.0, 1.0, 6.0])
def test_shift_pitch_keeps_length_and_level(semitones: float) -> None:
    found = waveform.shift_pitch(tone(), RATE, semitones)
    assert len(found) == 2 * RATE
    assert peak_frequency(found) == pytest.approx(200 * 2 ** (semitones / 12), rel=0.01)
    inside = slice(RATE // 4, -RATE // 4)
    assert decibels(found[inside], tone()[inside]) == pytest.approx(0, abs=0.3)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("ratio", [0.6, 1.0, 1.7])
def test_time_stretch_keeps_the_pitch(rate: int, ratio: float) -> None:
    size = round(2 * rate * ratio)
    found = waveform.time_stretch(tone(rate=rate), rate, size)
    assert len(found) == size
    assert peak_frequency(found, rate) == pytest.approx(200, rel=0.01)


def test_time_stretch_to_the_same_length_is_the_identity() -> None:
    found = waveform.time_stretch(white_noise(), RATE, 2 * RATE)
    np.testing.assert_allclose(found, white_noise(), atol=1e-5)


@pytest.mark.parametrize("count", [1, 50, 400, 3000])
@pytest.mark.parametrize("silent", [True, False])
def test_shift_pitch_of_short_and_soft_audio(count: int, silent: bool) -> None:
    wave_s = np.zeros(count, np.float32) if silent else white_noise()[:count]
    for semitones in (-2.0, 2.0):
        found = waveform.shift_pitch(wave_s, RATE, semitones)
        assert len(found) == count
        assert np.isfinite(found).all()
        assert not (silent and found.any())


@given(snr=st.floats(-30, 60), loud=st.floats(1e-4, 10), seed=st.integers(0, 99))
def test_add_noise_has_the_given_snr(snr: float, loud: float, seed: int) -> None:
    wave_s, noise_s = tone(), white_noise(seed=seed) * np.float32(loud)
    added = waveform.add_noise(wave_s.astype(np.float64), noise_s, snr) - wave_s
    assert decibels(wave_s, added) == pytest.approx(snr, abs=0.01)


def test_silence_stays_silent() -> None:
    nothing = np.zeros(2 * RATE, np.float32)
    assert np.array_equal(waveform.add_noise(nothing, white_noise(), 10), nothing)
    assert np.array_equal(waveform.add_noise(white_noise(), nothing, 10), white_noise())
    assert np.array_equal(waveform.add_reverb(nothing, white_noise(0.1)), nothing)
    assert np.array_equal(waveform.telephone(nothing, RATE), nothing)


@pytest.mark.parametrize("gain", [-20.0, 0.0, 6.0])
def test_apply_gain_is_in_decibels(gain: float) -> None:
    assert decibels(waveform.apply_gain(white_noise(), gain), white_noise()) == pytest.approx(
        gain, abs=1e-4
    )


def test_add_reverb_with_one_reflection_is_an_echo() -> None:
    response_r = np.zeros(900, np.float32)
    response_r[100], response_r[600] = 0.5, 0.25
    found = waveform.add_reverb(tone(), response_r)
    echo = np.concatenate([np.zeros(500, np.float32), tone()[:-500]])
    wanted = tone() + 0.5 * echo
    scale = np.sqrt(np.square(tone()).sum() / np.square(wanted).sum())
    np.testing.assert_allclose(found, wanted * scale, atol=1e-5)


def test_simulated_room_decays_in_the_given_time() -> None:
    response_r = waveform.simulate_impulse_response(RATE, 0.5, np.random.default_rng(0))
    assert len(response_r) == RATE // 2
    assert response_r.argmax() == 0
    # Schroeder (1965): the decay curve is a line in decibels.
    left_r = np.cumsum(np.square(response_r[:0:-1], dtype=np.float64))[::-1]
    fall = 10 * np.log10(left_r[[800, 4800]])
    assert (fall[0] - fall[1]) / 4000 * RATE * 0.5 == pytest.approx(60, rel=0.1)


def test_add_reverb_keeps_length_and_energy() -> None:
    response_r = waveform.simulate_impulse_response(RATE, 0.3, np.random.default_rng(1))
    found = waveform.add_reverb(white_noise(), response_r)
    assert len(found) == len(white_noise())
    assert decibels(found, white_noise()) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_telephone_passes_its_band_only(rate: int) -> None:
    noise_s = np.random.default_rng(0).normal(0, 0.1, rate * 2).astype(np.float32)
    found = waveform.telephone(noise_s, rate)
    assert len(found) == len(noise_s)
    assert level(found, 3400, rate, rate) < -50
    assert level(found, 0, 200, rate) < -50
    assert level(found, 300, 3100, rate) > -1


def test_telephone_adds_the_noise_of_eight_bits() -> None:
    found = waveform.telephone(tone(1000), RATE)
    inside = slice(RATE // 4, -RATE // 4)
    error = found[inside] - tone(1000)[inside]
    assert 25 < decibels(tone(1000)[inside], error) < 45


@pytest.mark.parametrize("hertz", [1000.0, 4000.0, 7000.0])
def test_band_limit_removes_high_frequencies(hertz: float) -> None:
    found = waveform.band_limit(white_noise(), RATE, hertz)
    assert level(found, hertz, RATE) < -50
    inside = slice(RATE // 4, -RATE // 4)
    low = tone(0.5 * hertz)
    np.testing.assert_allclose(
        waveform.band_limit(low, RATE, hertz)[inside], low[inside], atol=1e-4
    )


def test_generated_noise_has_its_spectrum() -> None:
    slopes = set()
    for seed in range(30):
        noise_s = waveform.generate_noise(2 * RATE, RATE, np.random.default_rng(seed))
        slopes.add(round(level(noise_s, 1000, 2000) - level(noise_s, 2000, 4000)))
    assert slopes <= {-4, -3, -2, -1, 0, 1, 2, 3, 4}
    assert {-3, 0, 3} <= slopes


@pytest.mark.parametrize("size", [1, 2, 31, 400, 58_182])
def test_generate_noise_of_any_length(size: int) -> None:
    assert len(waveform.generate_noise(size, RATE, np.random.default_rng(size))) == size
    assert len(waveform.band_limit(np.ones(size, np.float32), RATE, 4000)) == size
    assert len(waveform.add_reverb(np.ones(size, np.float32), np.ones(3, np.float32))) == size
    assert len(waveform.whisper(np.ones(size, np.float32), RATE, np.random.default_rng(0))) == size


def test_generated_noise_is_audible() -> None:
    for seed in range(10):
        assert (
            level(waveform.generate_noise(2 * RATE, RATE, np.random.default_rng(seed)), 0, 25) < -3
        )


@pytest.mark.parametrize("rate", [8000, RATE, 48_000])
def test_whisper_keeps_formants_and_removes_voicing(rate: int) -> None:
    """Pulses at 100 Hz with a resonance at 1,500 Hz: the resonance stays, the period goes."""
    pulse_s = np.zeros(2 * rate)
    pulse_s[:: rate // 100] = 1.0
    time_s = np.arange(rate // 50) / rate
    ring_s = np.exp(-300 * time_s) * np.sin(2 * np.pi * 1500 * time_s)
    voice_s = (0.3 * np.convolve(pulse_s, ring_s)[: 2 * rate]).astype(np.float32)
    found = waveform.whisper(voice_s, rate, np.random.default_rng(0))
    assert decibels(found, voice_s) == pytest.approx(0, abs=1)
    assert level(found, 1200, 1800, rate) > -3
    assert periodic(voice_s, rate // 100) > 0.95
    assert periodic(found, rate // 100) < 0.3


def periodic(wave_s: Samples, period: int) -> float:
    one_s, other_s = wave_s[:-period], wave_s[period:]
    return float(one_s @ other_s / (np.linalg.norm(one_s) * np.linalg.norm(other_s)))


def test_whisper_of_silence_is_silence() -> None:
    found = waveform.whisper(np.zeros(RATE, np.float32), RATE, np.random.default_rng(0))
    assert not found.any()


@given(st.integers(1, 3 * RATE), st.integers(0, 100))
def test_crop_contains_sound(size: int, seed: int) -> None:
    wave_s = np.zeros(2 * RATE, np.float32)
    wave_s[RATE : RATE + 800] = white_noise(0.05)
    found = waveform.crop(wave_s, size, np.random.default_rng(seed))
    assert len(found) == min(size, len(wave_s))
    assert found.any()
    assert found.tobytes() in wave_s.tobytes()
