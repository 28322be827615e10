"""Compute a model with torch.

B = windows at a time, S = samples, H = heads, T = steps or frames, K = classes of a task (1 for a
regression task), or of all tasks, concatenated, L = words of the longest transcript.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from serein import bundle as bundles
from serein.audio import Samples
from serein.bundle import Bundle, count_megabytes
from serein.inference.backend import BackendName, ModelDescription, Window, WindowPrediction
from serein.inference.dimensions import find_dimension_sources
from serein.inference.onnx_runtime import ONNXSystem
from serein.inference.windowing import Probabilities
from serein.inference.words import WindowAttention, WindowWords
from serein.labels.vocabulary import tokenize
from serein.layers.attention import AttentionWeights
from serein.layers.outputs import ASR_ATTENTION
from serein.system import TRANSCRIPT, Inputs, System, is_estimator, predict_batch
from serein.tasks.transcript import Task as TranscriptTask
from serein.utils.device import (
    Precision,
    PrecisionSetting,
    precision_warnings,
    requested_precision,
    resolve_precision,
    to_bf16,
)

BATCH_SIZE = 16
"""Windows per forward pass in ``predict_batches``."""
STREAM_BATCH_SIZE = 32
"""Windows per forward pass in ``predict_windows``."""


@dataclass(frozen=True)
class ASR:
    """The speech recogniser of a bundle, ready to compute.

    Attributes:
        system: the network, in the precision that it computes in.
        precision: precision that it computes in.
    """

    system: System
    precision: Precision

    @property
    def hop(self) -> float:
        """Seconds from frame to frame."""
        return self.system.front_end.hop

    def __call__(self, wave_bs: Tensor, length_b: Tensor) -> list[WindowWords]:
        """Recognise the words of windows (B, S) with lengths in samples (B,)."""
        task, device = self.system.transcript_task, self.system.device
        assert isinstance(task, TranscriptTask)
        with torch.inference_mode():
            inputs = self.system.extract_features(wave_bs.to(device), length_b.to(device))
        predictions, output = predict_batch(self.system, inputs, self.precision)
        weight_blt, stride = output.attention[ASR_ATTENTION]
        recognized = []
        for ids, weight_lt in zip(predictions[TRANSCRIPT].tolist(), weight_blt.cpu(), strict=True):
            words = task.vocabulary.decode(ids).split()
            attention = WindowAttention(weight_lt[: len(words) + 1].float().numpy(), stride)
            recognized.append(WindowWords(words, True, attention))
        return recognized


class TorchBackend:
    """A bundle that torch computes.

    Attributes:
        name: "torch".
        bundle: the model.
        system: the network, in the precision that it computes in.
        asr: the speech recogniser that makes the words that the network reads; None without one.
        description: of the model.
        precision: precision that it computes in.
        warnings: a warning if the requested precision is not available.
    """

    name: BackendName = "torch"

    def __init__(self, bundle: Bundle, precision: PrecisionSetting | None = None) -> None:
        """Prepare a bundle.

        Args:
            bundle: the model.
            precision: to compute in; None is that of the recipe.
        """
        self.bundle, self.system = bundle, bundle.system
        self.precision: Precision
        self.precision, self.warnings = _choose_precision(self.system, precision)
        if self.precision == "bf16":
            self.system = to_bf16(self.system)
        self.asr = build_asr(bundle, precision)
        self.description = describe_bundle(bundle)

    def predict_batches(
        self,
        windows: Sequence[Samples],
        *,
        attention: bool,
        texts: Sequence[str | None] | None = None,
    ) -> list[WindowPrediction]:
        """Predict separate windows of recordings; see ``Backend``."""
        return predict_batches(
            self.system, windows, self.precision, attention=attention, asr=self.asr, texts=texts
        )

    def predict_windows(self, windows: Sequence[Window]) -> Probabilities:
        """Predict overlapping windows of streams; see ``Backend``."""
        # bf16 rounds by the batch, and a stream's batches depend on the size of its blocks.
        return predict_windows(self.bundle.system, windows, "fp32", self.asr)

    def limit_threads(self, count: int | None) -> AbstractContextManager[None]:
        """Limit torch to a number of threads within the context; None changes nothing."""
        return torch_threads(count)

    def compute_digest(self) -> str:
        """Return the SHA-256 of the model's file."""
        return bundles.compute_bundle_digest(self.bundle)

    def load_bundle(self) -> Bundle:
        """Return the bundle."""
        return self.bundle


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Limit torch to a number of threads within the context; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load(path: Path, *, device: str, trust: Sequence[str]) -> Bundle:
    """Read a bundle; see ``serein.bundle.load``."""
    return bundles.load(path, device=device, trust=trust)


def describe_bundle(bundle: Bundle) -> ModelDescription:
    """Describe a bundle."""
    system = bundle.system
    recognizes = system.has_transcript_loss and not system.needs_words
    needs: Literal["none", "given"] = "given" if system.needs_words else "none"
    asr = bundle.asr
    return ModelDescription(
        recipe=system.recipe,
        classes=system.classes,
        card=bundle.card,
        confidence=bundle.confidence,
        rate=system.front_end.rate,
        hop=system.front_end.hop,
        max_seconds=system.front_end.max_seconds,
        dimension_sources=find_dimension_sources(system.recipe, system.classes),
        weights=_count_weights(system),
        learns_shares=not is_estimator(system.recipe),
        vocabulary=system.words,
        word_source="recognised" if asr is not None or recognizes else needs,
        needs_words=system.needs_words,
        asr_hop=system.front_end.hop if asr is None else asr.system.front_end.hop,
        asr="" if asr is None else _describe_asr(asr),
    )


def _count_weights(system: System) -> int:
    return sum(weight.numel() for weight in system.parameters())


def _describe_asr(asr: Bundle) -> str:
    """Describe a speech recogniser for the card of the model that reads its words."""
    size = (
        f"{_count_weights(asr.system):,} weights, {count_megabytes(asr.system):.2f} MB of this file"
    )
    facts = {"data": asr.card.data, "licence": asr.card.licence, "scores": asr.card.scores}
    known = "".join(f"; {name}: {text}" for name, text in facts.items() if text)
    name = asr.card.name or "without a name"
    return f"by the speech recogniser {name} ({asr.system.recipe.name}), {size}{known}"


def _choose_precision(
    system: System, setting: PrecisionSetting | None
) -> tuple[Precision, list[str]]:
    """Return the precision to compute in, and warnings about it."""
    requested = requested_precision(system.recipe) if setting is None else setting
    precision = resolve_precision(requested, system.device)
    if isinstance(system, ONNXSystem):
        refused = "precision bf16 was requested; an exported model computes in fp32"
        return "fp32", [refused] if setting == "bf16" else []
    return precision, precision_warnings(requested, system.device)


def build_asr(bundle: Bundle, precision: PrecisionSetting | None) -> ASR | None:
    """Prepare the speech recogniser of a bundle; None if it has none.

    Args:
        bundle: a saved model.
        precision: to compute in; None is the precision of the recogniser's own recipe.
    """
    if bundle.asr is None:
        return None
    system = bundle.asr.system
    setting = requested_precision(system.recipe) if precision is None else precision
    resolved = resolve_precision(setting, system.device)
    return ASR(to_bf16(system) if resolved == "bf16" else system, resolved)


def read_words(
    asr: ASR | None, wave_bs: Tensor, length_b: Tensor, texts: Sequence[str | None]
) -> list[WindowWords]:
    """Return the words of windows: those that were given, and for the others those of the ASR.

    Args:
        asr: the speech recogniser; None if all words are given.
        wave_bs: samples of each window, padded.
        length_b: its number of samples.
        texts: the words that were given for each window; None has to be recognised.
    """
    recognized: Sequence[WindowWords | None] = [None] * len(texts)
    if asr is not None and None in texts:
        recognized = asr(wave_bs, length_b)
    return [
        own or WindowWords([]) if text is None else WindowWords(tokenize(text))
        for text, own in zip(texts, recognized, strict=True)
    ]


def encode_words(system: System, words: Sequence[WindowWords]) -> tuple[Tensor, Tensor]:
    """Encode the words of windows as the input of a model: ids (B, L), and mask (B, L)."""
    assert system.transcript_task is not None
    id_bl = system.transcript_task.encode_texts([" ".join(one.words) for one in words])
    id_bl = id_bl.to(system.device)
    return id_bl.long().clamp(min=0), id_bl >= 0


def predict_batches(
    system: System,
    windows: Sequence[Samples],
    precision: Precision,
    *,
    attention: bool,
    asr: ASR | None = None,
    texts: Sequence[str | None] | None = None,
) -> list[WindowPrediction]:
    """Predict separate windows of recordings, in padded batches of similar length.

    Args:
        system: the network.
        windows: samples of each window, of shape (n,), at the rate of the front end.
        precision: precision to compute in.
        attention: whether to return attention maps.
        asr: recognises the words that the network reads; None without one.
        texts: the words of each window, for a network that reads words; None are recognised.

    Returns:
        The prediction for each window, in their order.
    """
    order = sorted(range(len(windows)), key=lambda index: len(windows[index]))
    predictions: dict[int, WindowPrediction] = {}
    for first in range(0, len(order), BATCH_SIZE):
        batch = order[first : first + BATCH_SIZE]
        given = [None if texts is None else texts[index] for index in batch]
        inputs, words = extract_inputs(system, [windows[index] for index in batch], asr, given)
        outputs, output = predict_batch(system, inputs, precision)
        rows = map(_trim_transcript, unbatch(outputs, output.attention if attention else {}))
        for index, row, own in zip_longest(batch, rows, words):
            predictions[index] = row if own is None else _add_words(row, own, attention=attention)
    return [predictions[index] for index in range(len(windows))]


def extract_inputs(
    system: System,
    windows: Sequence[Samples],
    asr: ASR | None,
    texts: Sequence[str | None],
) -> tuple[Inputs, list[WindowWords]]:
    """Return the inputs of a network for one batch of windows, and the words that it reads, if any.

    Args:
        system: the network.
        windows: samples of each window.
        asr: recognises the words that the network reads; None without one.
        texts: the words of each window, for a network that reads words; None are recognised.
    """
    wave_bs, length_b = pad_waveforms(windows)
    with torch.inference_mode():
        inputs = system.extract_features(wave_bs.to(system.device), length_b.to(system.device))
    if not system.needs_words:
        return inputs, []
    words = read_words(asr, wave_bs, length_b, texts)
    return {**inputs, "words": encode_words(system, words)}, words


def _trim_transcript(prediction: WindowPrediction) -> WindowPrediction:
    """Cut the attention of a model that transcribes after its own end token, not the batch's."""
    if TRANSCRIPT not in prediction.outputs or ASR_ATTENTION not in prediction.attention:
        return prediction
    weight, stride = prediction.attention[ASR_ATTENTION]
    steps = 1 + sum(word_id >= 0 for word_id in prediction.outputs[TRANSCRIPT])
    trimmed = WindowAttention(weight[:steps], stride)
    return prediction._replace(attention={**prediction.attention, ASR_ATTENTION: trimmed})


def _add_words(
    prediction: WindowPrediction, words: WindowWords, *, attention: bool
) -> WindowPrediction:
    """Add the words that the model read, and where its recogniser attended for each of them."""
    if not attention or words.attention is None:
        return prediction._replace(words=words._replace(attention=None))
    maps = {**prediction.attention, ASR_ATTENTION: words.attention}
    return prediction._replace(attention=maps, words=words)


def pad_waveforms(windows: Sequence[Samples]) -> tuple[Tensor, Tensor]:
    """Pad windows with zeros to waveforms (B, S), and return them with their lengths (B,)."""
    lengths = [len(window_s) for window_s in windows]
    wave_bs = np.zeros((len(windows), max(lengths)), np.float32)
    for wave_s, window_s in zip(wave_bs, windows, strict=True):
        wave_s[: len(window_s)] = window_s
    return torch.from_numpy(wave_bs), torch.tensor(lengths)


def unbatch(
    outputs: Mapping[str, Tensor], attention: Mapping[str, AttentionWeights]
) -> list[WindowPrediction]:
    """Split the outputs and attention maps of a batch into predictions of its rows.

    All rows are converted in one call: every call into torch releases the interpreter, and waiting
    threads may take it.
    """
    outputs_b = {task: p_bk.tolist() for task, p_bk in outputs.items()}
    maps_b = {name: weight_bht.float().cpu().numpy() for name, (weight_bht, _) in attention.items()}
    strides = {name: stride for name, (_, stride) in attention.items()}
    return [
        WindowPrediction(
            {task: p_k[row] for task, p_k in outputs_b.items()},
            {name: WindowAttention(weight[row], strides[name]) for name, weight in maps_b.items()},
        )
        for row in range(len(next(iter(outputs_b.values()))))
    ]


def predict_windows(
    system: System,
    windows: Sequence[Window],
    precision: Precision = "fp32",
    asr: ASR | None = None,
) -> Probabilities:
    """Predict overlapping windows of streams; frames that they share are computed once.

    Args:
        system: the network.
        windows: windows that start at a multiple of the front end's hop; those of one buffer
            follow each other, in the order of their positions.
        precision: precision to compute in.
        asr: recognises the words that the network reads; None without one.

    Returns:
        Probabilities and values (B, K) in the order of the windows.
    """
    rows: list[Probabilities] = []
    for first in range(0, len(windows), STREAM_BATCH_SIZE):
        batch = windows[first : first + STREAM_BATCH_SIZE]
        inputs = _extract_features(system, batch)
        if asr is not None:
            waves = pad_waveforms([buffer[start:end] for buffer, start, end in batch])
            inputs = {**inputs, "words": encode_words(system, asr(*waves))}
        outputs, _ = predict_batch(system, inputs, precision)
        p_bk = torch.cat([outputs[task] for task in system.classes], dim=1)
        rows.append(p_bk.cpu().double().numpy())
    return np.concatenate(rows)


def _extract_features(system: System, windows: Sequence[Window]) -> Inputs:
    """Extract the features of windows, padded to the longest of them."""
    device, front_end = system.device, system.front_end
    # One window alone, too: two ways of computing a frame differ by more than rounding in the end.
    overlapping = getattr(front_end, "overlapping", None) if system.shares else None
    with torch.inference_mode():
        if overlapping is None:
            wave_bs, length_b = pad_waveforms([buffer[start:end] for buffer, start, end in windows])
            return system.extract_features(wave_bs.to(device), length_b.to(device))
        length_b = torch.tensor([end - start for _, start, end in windows])
        wave_s, start_b = _concatenate_windows(windows, round(front_end.hop * front_end.rate))
        frames = overlapping(wave_s.to(device), start_b.to(device), length_b.to(device))
        return {"frames": frames}


def _concatenate_windows(windows: Sequence[Window], hop: int) -> tuple[Tensor, Tensor]:
    """Concatenate the samples that windows cover, and return the start of each window in them."""
    spans, starts, offset = [windows[0]], list[int](), 0
    for window in windows:
        buffer, start, end = spans[-1]
        if window.buffer is not buffer or window.start > end:
            offset += -((start - end) // hop) * hop
            spans.append(window)
        spans[-1] = spans[-1]._replace(end=window.end)
        starts.append(offset + window.start - spans[-1].start)
    waves = [torch.from_numpy(buffer[start:end]) for buffer, start, end in spans]
    padded_waves = [F.pad(wave_s, (0, -len(wave_s) % hop)) for wave_s in waves]
    return torch.cat(padded_waves), torch.tensor(starts)
