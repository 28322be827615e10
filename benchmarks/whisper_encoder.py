"""Whisper's encoder of base size: its layers against the matrix product, and features of a corpus.

The layers are those of serein-base's front end, on 4 s of noise, in three types: fp32, in which
they run; bf16, where the machine has it; and int8 weights with activations that are quantized in
each call, by torch. The share is operations per second divided by those of a matrix product of the
same type, timed alternately; a multiply-add counts as two operations. The encoder of the front end
`ssl` has random weights and reads noise of EMO-DB's durations. The peer is the plain way: the same
network by `transformers` on each recording, padded to 30 s. One thread.
"""

import json
import tempfile
import warnings
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import Row, time_alternately
from serein.features import ssl
from serein.layers.whisper_encoder import WhisperConfig, WhisperEncoder
from serein.training.dataset import compute_frames
from serein.utils.device import has_bf16

LAYERS, SECONDS, RATE = 4, 4, 16_000
MATRIX_SIZE = 2048
"""Rows and columns of the matrices of the product."""
UTTERANCES, MEAN_SECONDS, CORPUS_SECONDS = 10, 2.78, 1487
"""Noise that is encoded; mean duration and total of EMO-DB."""
BASE = {
    "model_type": "whisper",
    "d_model": 512,
    "encoder_layers": 6,
    "encoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "num_mel_bins": 80,
    "decoder_layers": 1,
}


def main() -> list[Row]:
    torch.set_num_threads(1)
    kinds = ["fp32", *(["bf16"] if has_bf16("cpu") else []), "int8"]
    rows = [_measure_share(batch, kind) for batch in (1, 16) for kind in kinds]
    return [*rows, *_compare_features()]


def _measure_share(batch: int, kind: str) -> Row:
    torch.manual_seed(0)
    encoder = WhisperEncoder(WhisperConfig(encoder_layers=LAYERS)).eval()
    bands_bmt = torch.randn(batch, 80, 100 * SECONDS)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        encoder(bands_bmt)
    run, multiply = _build(encoder, bands_bmt, kind)
    mine, product, _ = time_alternately(run, multiply, repeats=7)
    speed, max_speed = counter.get_total_flops() / mine, 2 * MATRIX_SIZE**3 / product
    return Row(
        what=f"{LAYERS} layers of Whisper base, {SECONDS} s, batch {batch}, {kind}, "
        f"{1e3 * mine / batch:.1f} ms each: share of the {kind} matrix product's speed",
        ours=100 * speed / max_speed,
        unit="%",
        peer_name=f"{speed / 1e9:,.0f} of {max_speed / 1e9:,.0f} GFLOP/s",
        target="50 or more",
    )


def _build(
    encoder: WhisperEncoder, bands_bmt: Tensor, kind: str
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return the encoder on these bands, and a matrix product, in one type."""
    network: nn.Module = encoder
    x_nn = torch.randn(MATRIX_SIZE, MATRIX_SIZE)
    product: Callable[[Tensor, Tensor], Tensor] = torch.mm
    if kind == "bf16":
        network, bands_bmt = deepcopy(encoder).bfloat16(), bands_bmt.bfloat16()
        x_nn = x_nn.bfloat16()
    if kind == "int8":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a later version moves this to torchao
            quantize: Callable[..., nn.Module] = torch.ao.quantization.quantize_dynamic
            network = quantize(encoder, {nn.Linear}, torch.qint8)
        x_nn, product = (20 * x_nn).to(torch.int8), torch._int_mm

    def run() -> object:
        with torch.inference_mode():
            return network(bands_bmt)

    return run, lambda: product(x_nn, x_nn)


def _compare_features() -> list[Row]:
    from transformers import WhisperConfig as BaseConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as BaseEncoder

    torch.manual_seed(0)
    plain = BaseEncoder(BaseConfig(**BASE)).eval()
    generator = np.random.default_rng(0)
    seconds_n = np.clip(generator.normal(MEAN_SECONDS, 1.03, UTTERANCES), 1, 7.5)
    waves = [generator.normal(0, 0.1, int(s * RATE)).astype(np.float32) for s in seconds_n]
    with tempfile.TemporaryDirectory() as folder:
        plain.save_pretrained(folder)
        (Path(folder) / "config.json").write_text(json.dumps(BASE), encoding="utf-8")
        (Path(folder) / "preprocessor_config.json").write_text("{}", encoding="utf-8")
        front_end = ssl.FrontEnd(ssl.Config(encoder=folder))
        padded_bmt = torch.randn(1, 80, 3000)

        def encode_padded() -> object:
            with torch.inference_mode():
                return plain(padded_bmt, output_hidden_states=True)

        pairs = [
            time_alternately(partial(compute_frames, wave_s, front_end), encode_padded, repeats=1)
            for wave_s in waves
        ]
    mine, peer = sum(mine for mine, *_ in pairs), sum(peer for _, peer, _ in pairs)
    what = f"features of Whisper base by the front end ssl, {UTTERANCES} utterances"
    return [
        Row(
            what=what,
            ours=seconds_n.sum() / mine,
            unit="x real time",
            peer_name="transformers, each padded to 30 s, without its spectrogram",
            peer=seconds_n.sum() / peer,
            ratio=median(ratio for *_, ratio in pairs),
        ),
        Row(
            what=f"{what}: time for EMO-DB's {CORPUS_SECONDS:,} s at this speed",
            ours=mine * CORPUS_SECONDS / seconds_n.sum(),
            unit="s",
            target="60 or less, on two cores",
        ),
    ]
