"""Acoustic fingerprints: altered copies and overlapping stretches are found, others are not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from builders.protocols import make_protocol, make_utterance

from serein.corpora import hash_contents
from serein.protocols import find_copies, find_leaks, fingerprints
from serein.protocols.fingerprints import (
    Codes,
    compute_codes,
    fingerprint_audio,
    match_card,
    match_codes,
    merge_cards,
    pack_card,
    unpack_card,
)
from serein.records import Utterance
from serein.synthetic import SyntheticConfig, generate
from serein.utils.files import cache_folder

RATE = fingerprints.RATE


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Synthetic speech of 2 speakers, 3 emotions, 2 sentences and 2 takes, at 16 kHz."""
    folder = tmp_path_factory.mktemp("speech")
    made = SyntheticConfig(
        speakers=2, sentences=2, words=4, takes=2, emotions=("anger", "neutral", "sadness")
    )
    return {u.id: soundfile.read(u.path, dtype="float32")[0] for u in generate(folder, made)}


def codes_of(wave: np.ndarray, rate: int = 16_000) -> Codes:
    return compute_codes(soxr.resample(wave, rate, RATE) if rate != RATE else wave)


def add_noise(wave: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32)
    return wave + noise * np.float32(np.sqrt((wave**2).mean()) * 10 ** (-30 / 20))


ALTERED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gain": lambda wave: wave * np.float32(0.5),
    "polarity": lambda wave: -wave,
    "noise": add_noise,
    "delayed": lambda wave: np.append(np.zeros(320, np.float32), wave),
    "cut": lambda wave: wave[320:],
    "padded": lambda wave: np.pad(wave, 16_000),
    "quantised": lambda wave: (np.round(wave * 2**15) / 2**15).astype(np.float32),
    "filtered": lambda wave: np.convolve(wave, [1, -0.9], "same").astype(np.float32),
    "other rate": lambda wave: soxr.resample(soxr.resample(wave, 16_000, 8_000), 8_000, 16_000),
}


def compute_bits_literally(wave: np.ndarray, frame: int) -> list[int]:
    """Equation 1, one frame and band at a time; frame n begins n hops after the padding."""
    padded = np.pad(wave.astype(float), (fingerprints.WINDOW // 2, fingerprints.WINDOW))
    energy = np.zeros((2, 33))
    bounds = 300 * (2000 / 300) ** (np.arange(34) / 33)
    for row, start in enumerate((frame - 1, frame)):
        part = padded[start * fingerprints.HOP :][: fingerprints.WINDOW]
        spectrum = np.abs(np.fft.rfft(part * np.hanning(fingerprints.WINDOW))) ** 2
        hertz = np.arange(len(spectrum)) * RATE / fingerprints.WINDOW
        for band in range(33):
            inside = (bounds[band] <= hertz) & (hertz < bounds[band + 1])
            energy[row, band] = np.log(spectrum[inside].sum())
    return [
        int(energy[1, m] - energy[1, m + 1] - (energy[0, m] - energy[0, m + 1]) > 0)
        for m in range(32)
    ]


def test_codes_are_those_of_equation_1() -> None:
    wave = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    codes = compute_codes(wave)
    assert codes.dtype == np.uint32
    assert len(codes) == 1 + RATE // fingerprints.HOP
    for frame in (20, 40, 60):
        bits = [int(codes[frame]) >> m & 1 for m in range(32)]
        assert bits == compute_bits_literally(wave, frame)


@pytest.mark.parametrize("name", ALTERED)
def test_altered_copies_are_found_and_no_others(name: str, waves: dict[str, np.ndarray]) -> None:
    codes = {id_: codes_of(wave) for id_, wave in waves.items()}
    copies = {f"{id_} copy": codes_of(ALTERED[name](wave)) for id_, wave in waves.items()}
    pairs = match_codes(codes | copies)
    assert {(pair.first, pair.second) for pair in pairs} == {(id_, f"{id_} copy") for id_ in codes}
    assert all(pair.bit_error_rate < 0.25 and pair.seconds > 0.5 for pair in pairs)
    assert all(pair.is_whole for pair in pairs if name in ("gain", "polarity", "padded"))
    assert match_card(pack_card(codes.values()), copies) == list(copies)


def test_overlapping_stretches_are_found_and_adjacent_ones_are_not(
    waves: dict[str, np.ndarray],
) -> None:
    long = np.concatenate([*waves.values()])[: 16_000 * 8]
    cut = {f"{start}": codes_of(long[16_000 * start :][: 16_000 * 4]) for start in (0, 2, 4)}
    pairs = match_codes(cut)
    assert {(pair.first, pair.second) for pair in pairs} == {("0", "2"), ("2", "4")}
    assert not any(pair.is_whole for pair in pairs)
    assert all(1.0 < pair.seconds < 2.3 for pair in pairs)


@pytest.mark.parametrize(
    "wave",
    [
        np.zeros(RATE * 2, np.float32),
        np.full(RATE * 2, 0.25, np.float32),
        np.zeros(1, np.float32),
    ],
    ids=["silence", "offset", "one sample"],
)
def test_silence_has_no_fingerprint(wave: np.ndarray) -> None:
    codes = compute_codes(wave)
    middle = codes[25:-25] if len(codes) > 50 else codes
    assert not middle.any()
    assert match_codes({"a": codes, "b": codes.copy()}) == ()
    assert match_card(pack_card([codes]), {"a": codes}) == []


def test_noise_of_other_seeds_is_not_a_copy() -> None:
    noise = np.random.default_rng(1).standard_normal((30, RATE)).astype(np.float32)
    codes = {str(n): compute_codes(one) for n, one in enumerate(noise)}
    assert match_codes(codes) == ()
    assert match_card(pack_card(codes.values()), {"x": compute_codes(noise[0, ::-1])}) == []


def test_no_recordings_give_no_pairs() -> None:
    empty = np.zeros(0, np.uint32)
    assert match_codes({}) == match_codes({"a": empty}) == ()
    assert pack_card([]) == pack_card([empty]) == merge_cards(["", ""]) == ""
    assert unpack_card("") == match_card("", {"a": empty}) == match_card("", {}) == []


def test_card_is_bounded_and_can_be_merged() -> None:
    long = np.random.default_rng(0).integers(1, 2**32, (3, 50_000), dtype=np.uint32)
    text = pack_card(long)
    assert len(text) <= 3 * 344 + 8
    assert {len(one) for one in unpack_card(text)} == {fingerprints.MAX_CARD_CODES}
    first, rest = pack_card(long[:1]), pack_card(long[1:])
    assert merge_cards([first, rest, first]) == text
    with pytest.raises(ValueError, match="cut short"):
        unpack_card(text[:-8])
    with pytest.raises(ValueError, match="base64"):
        unpack_card("?")


def write_utterances(folder: Path, waves: dict[str, np.ndarray]) -> list[Utterance]:
    """Write two recordings as a-0 and b-0, FLAC and quieter copies of the first, and links."""
    one, two = list(waves.values())[:2]
    long = np.concatenate([*waves.values()])[: 16_000 * 6]
    folder.joinpath("sub").mkdir()
    for name, wave in {"a-0.wav": one, "b-0.wav": two, "b-1.flac": one, "c-0.wav": one / 2}.items():
        soundfile.write(folder / name, wave, 16_000)
    soundfile.write(folder / "long.wav", long, 16_000)
    soundfile.write(folder / "copy.flac", long, 16_000)
    (folder / "link.wav").symlink_to("long.wav")
    (folder / "text.wav").write_text("no audio")
    return [
        *(
            replace(make_utterance(name[0], int(name[2])), path=folder / name)
            for name in ("a-0.wav", "b-0.wav", "b-1.flac", "c-0.wav")
        ),
        replace(make_utterance("d", 0), path=folder / "long.wav", end=4.0),
        replace(make_utterance("d", 1), path=folder / "link.wav", start=2.0),
        replace(make_utterance("d", 2), path=folder / "copy.flac", start=2.0),
        replace(make_utterance("d", 3), path=folder / "sub" / ".." / "long.wav", start=3.9),
        replace(make_utterance("e", 0), path=folder / "text.wav"),
        replace(make_utterance("e", 1), path=folder / "gone.wav"),
    ]


@pytest.fixture
def utterances(tmp_path: Path, waves: dict[str, np.ndarray]) -> list[Utterance]:
    return write_utterances(tmp_path, waves)


@pytest.mark.parametrize(
    ("train", "test", "verdict", "example"),
    [
        ("a0", "b1", "error", "b-1 (test) and a-0 (train)"),
        ("a0", "c0", "error", "c-0 (test) is a copy or an overlapping stretch of a-0 (train)"),
        ("a0", "b0", "clean", ""),
        ("d0", "d1", "error", ""),
        ("d0", "d2", "error", "d-2 (test) is a copy or an overlapping stretch of d-0 (train)"),
        ("d0", "d3", "error", "d-0 (train) and d-3 (test)"),
    ],
)
def test_check_compares_content_not_paths(
    utterances: list[Utterance], train: str, test: str, verdict: str, example: str
) -> None:
    ids = [f"{name[0]}-{name[1]}" for name in (train, test)]
    members = [u for u in utterances if u.id in ids]
    contents = hash_contents(members)
    finding = next(
        one
        for one in find_leaks(
            make_protocol(train, "", test),
            members,
            contents,
            copies=find_copies(members, contents),
            allow="speaker",
        )
        if one.kind == "duplicate"
    )
    assert finding.verdict == verdict
    if "stretch" in example:
        assert example in finding.examples[0]
    assert finding.count == (verdict == "error")


def test_unreadable_files_are_left_out_and_codes_are_cached(
    utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = hash_contents(utterances[:-1])
    first = fingerprint_audio(utterances, contents)
    assert list(first) == [u.id for u in utterances[:-2]]
    read: list[str] = []
    original = fingerprints._read_codes

    def count(utterance: Utterance) -> Codes | None:
        read.append(utterance.id)
        return original(utterance)

    monkeypatch.setattr(fingerprints, "_read_codes", count)
    second = fingerprint_audio(utterances, contents)
    assert sorted(read) == ["e-0", "e-1"]
    assert all((first[id_] == second[id_]).all() for id_ in first)
    for file in cache_folder().glob("fingerprints-*"):
        file.write_bytes(b"damaged")
    third = fingerprint_audio(utterances, contents)
    assert list(third) == list(first)


def test_a_copy_among_twenty_thousand_recordings() -> None:
    codes = np.random.default_rng(0).integers(1, 2**26, (20_000, 60), dtype=np.uint32)
    members = {str(n): one for n, one in enumerate(codes)}
    pairs = match_codes(members | {"copy": codes[5]})
    assert [(pair.first, pair.second) for pair in pairs] == [("5", "copy")]
