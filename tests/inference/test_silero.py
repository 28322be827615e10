"""Chunked silero-vad: the probabilities of the package, for blocks of any size."""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from builders.speech_streams import RATE, Wave, make_speech
from hypothesis import given, settings
from hypothesis import strategies as st

from serein.errors import BundleError
from serein.inference.onnx_session import open_session
from serein.inference.shipped_graphs import build_silero_encoder
from serein.inference.vad import (
    BLOCK_SAMPLES,
    CHUNK_BLOCKS,
    CONTEXT_SAMPLES,
    ChunkedVAD,
    SileroModel,
)
from serein.records import Corpus


@pytest.fixture(scope="module")
def wave(corpus: Corpus) -> Wave:
    return make_speech(corpus, 40.0)


def feed_blocks(chunked_vad: ChunkedVAD, wave: Wave, sizes: Sequence[int]) -> Wave:
    found: list[Wave] = []
    at = 0
    while at < len(wave):
        size = sizes[len(found) % len(sizes)]
        found.append(chunked_vad(wave[at : at + size], last=at + size >= len(wave)))
        at += size
    return np.concatenate(found)


def run_package(wave: Wave) -> Wave:
    """Return the probabilities that the silero-vad package computes, block by block."""
    places = find_spec("silero_vad").submodule_search_locations  # type: ignore[union-attr]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        path = Path((places or [""])[0]) / "data/silero_vad.jit"
        model = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        blocks = torch.from_numpy(wave[: len(wave) // BLOCK_SAMPLES * BLOCK_SAMPLES]).view(
            -1, BLOCK_SAMPLES
        )
        return np.array([model(block, RATE).item() for block in blocks], np.float32)


def test_first_chunk_equals_the_silero_package(wave: Wave) -> None:
    part = wave[: 300 * BLOCK_SAMPLES]
    expected = run_package(part)
    assert expected.max() > 0.9 > 0.1 > expected.min()
    np.testing.assert_allclose(ChunkedVAD()(part), expected, atol=1e-4)


def test_encoder_is_the_spectrum_and_the_convolutions() -> None:
    """The products of matrices against torch's convolutions, with random weights."""
    rng = np.random.default_rng(0)
    shapes = [(128, 129, 3), (64, 128, 3), (64, 64, 3), (128, 64, 3)]
    weights = {"stft.forward_basis_buffer": rng.normal(0, 0.1, (258, 1, 256)).astype(np.float32)}
    for number, shape in enumerate(shapes):
        weights[f"encoder.{number}.weight"] = rng.normal(0, 0.05, shape).astype(np.float32)
        weights[f"encoder.{number}.bias"] = rng.normal(0, 0.1, shape[0]).astype(np.float32)
    tensors = {name: torch.from_numpy(weight) for name, weight in weights.items()}
    block_ns = rng.normal(size=(70, BLOCK_SAMPLES + CONTEXT_SAMPLES)).astype(np.float32)
    x_ncs = F.pad(torch.from_numpy(block_ns)[:, None], (0, CONTEXT_SAMPLES), mode="reflect")
    parts = F.conv1d(x_ncs, tensors["stft.forward_basis_buffer"], stride=128).chunk(2, dim=1)
    x_ndt = (parts[0].square() + parts[1].square()).sqrt()
    for number, stride in enumerate((1, 2, 2, 1)):
        weight, bias = (tensors[f"encoder.{number}.{name}"] for name in ("weight", "bias"))
        x_ndt = F.conv1d(x_ndt, weight, bias, stride, padding=1).relu()
    session = open_session(build_silero_encoder(weights), "encoder")
    (found,) = session.run(["encoded"], {"wave": block_ns})
    np.testing.assert_allclose(found, x_ndt[..., 0].numpy(), atol=1e-4)
    (alone,) = session.run(["encoded"], {"wave": block_ns[7:8]})
    np.testing.assert_array_equal(alone, found[7:8])


def test_warm_up_makes_later_chunks_close_to_the_package(wave: Wave) -> None:
    """After the warm-up, a chunk hardly depends on the samples before it."""
    expected = run_package(wave)
    found = ChunkedVAD()(wave)
    assert len(found) == len(expected) > CHUNK_BLOCKS
    late = np.abs(found[CHUNK_BLOCKS:] - expected[CHUNK_BLOCKS:])
    assert late.mean() < 0.02
    assert np.mean((found > 0.5) != (expected > 0.5)) < 0.01


@settings(max_examples=15)
@given(sizes=st.lists(st.integers(1, 200_000), min_size=1, max_size=4))
def test_result_does_not_depend_on_block_sizes(wave: Wave, sizes: list[int]) -> None:
    sizes = [max([8_000, *sizes]), *sizes]
    whole = ChunkedVAD()(wave, last=True)
    assert len(whole) == -(-len(wave) // BLOCK_SAMPLES)
    np.testing.assert_allclose(feed_blocks(ChunkedVAD(), wave, sizes), whole, atol=1e-5)


def test_later_chunk_depends_only_on_the_one_before(wave: Wave) -> None:
    long = np.concatenate([wave, wave])
    whole = ChunkedVAD()(long)
    later = ChunkedVAD(1)(long[CHUNK_BLOCKS * BLOCK_SAMPLES :])
    np.testing.assert_allclose(later[CHUNK_BLOCKS:], whole[2 * CHUNK_BLOCKS :], atol=1e-5)
    assert (
        np.abs(later[:20] - whole[CHUNK_BLOCKS : CHUNK_BLOCKS + 20]).max() > 1e-5
    )  # this one has no warm-up


def test_silence_and_empty_input() -> None:
    assert ChunkedVAD()(np.zeros(RATE, np.float32)).max() < 0.1
    assert len(ChunkedVAD()(np.zeros(BLOCK_SAMPLES - 1, np.float32))) == 0
    assert len(ChunkedVAD()(np.zeros(0, np.float32), last=True)) == 0
    assert len(ChunkedVAD()(np.zeros(1, np.float32), last=True)) == 1


def test_missing_graphs(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"cannot read the model .*encoder\.onnx: No such file"):
        SileroModel(tmp_path)
