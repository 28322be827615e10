"""A loaded model: waveforms in, probabilities, values and attention per window or recording out.

B = windows at a time, S = samples, H = heads, T = steps or frames, K = classes of a task (1 for a
regression task), or of all tasks, concatenated.
"""

import copy
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate, zip_longest
from statistics import fmean
from typing import Literal, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from serein import audio
from serein.audio import Samples
from serein.bundle import Bundle
from serein.errors import ConfigError
from serein.inference.dimensions import estimate_dimensions, find_dimension_sources
from serein.inference.model_loading import (
    DEFAULT_MODEL,
    find_model_file,
    get_model_name,
    open_model,
)
from serein.inference.onnx_runtime import ONNXSystem
from serein.inference.recognition import Answer, AttentionMap, Dimension, Recognition
from serein.inference.vad import contains_speech
from serein.inference.windowing import Probabilities, SampleBuffer
from serein.inference.words import (
    ASR,
    GIVE_WORDS,
    WindowWords,
    build_asr,
    describe_missing_words,
    encode_words,
    read_words,
)
from serein.labels.class_sets import (
    ClassSet,
    find_columns,
    find_prior_factors,
    renormalize,
    resolve_class_set,
)
from serein.labels.vocabulary import END
from serein.layers.attention import AttentionWeights
from serein.layers.outputs import ASR_ATTENTION, WORD_ATTENTION
from serein.results.inference import RecognizedWord
from serein.system import TRANSCRIPT, Inputs, System, attention_step_times, predict_batch
from serein.tasks.transcript import Task as TranscriptTask
from serein.utils.device import (
    Precision,
    PrecisionSetting,
    limit_onednn_cache,
    precision_warnings,
    requested_precision,
    resolve_precision,
    to_bf16,
)

BATCH_SIZE = 16
"""Windows per forward pass in ``predict_batches``."""
STREAM_BATCH_SIZE = 32
"""Windows per forward pass in ``predict_windows``."""
CLASS_SET_THRESHOLDS = (
    "the thresholds were fitted to answers among all classes of the model; probabilities within a "
    "class set are higher, so that fewer labels are withheld"
)


class WindowPrediction(NamedTuple):
    """The prediction for one window.

    Attributes:
        outputs: for each task, K probabilities, or the one value.
        attention: attention maps by name, with weights of (H, T), or (H, T, T) of queries by keys.
        words: the words that the model read; None if it reads none.
    """

    outputs: dict[str, list[float]]
    attention: dict[str, AttentionWeights]
    words: WindowWords | None = None


class Window(NamedTuple):
    """A window of the samples in a buffer, from ``start`` to before ``end``."""

    buffer: SampleBuffer
    start: int
    end: int


class Predictor:
    """A model that predicts batches of recordings and turns predictions into answers.

    Attributes:
        bundle: the saved model.
        name: name of the model in its answers.
        system: the network, in the precision that it computes in.
        precision: precision that it computes in.
        asr: the speech recogniser that makes the words that the network reads; None without one.
        warnings: a warning if the requested precision is not available.
        threads: processor threads that one call uses; None is torch's own number.
        thresholds: for each task, the probability below which a label is withheld.
        answer_nonspeech: whether recordings without speech are answered, too.
        class_set: the classes of each restricted task among which it answers.
        dimension_sources: how its answers give arousal and valence.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Bundle = DEFAULT_MODEL,
        *,
        device: str = "cpu",
        threads: int | None = 1,
        trust: Sequence[str] = (),
        confidence: float | Literal["auto"] = 0.0,
        precision: PrecisionSetting | None = None,
        answer_nonspeech: bool = False,
        classes: ClassSet | None = None,
        always: bool | None = None,
    ) -> None:
        """Load a model.

        Args:
            model: name of a shipped model, path of a bundle, of an exported model or of a folder
                with one, ``hf://ORG/NAME`` for one of the hub, or a bundle.
            device: where to compute: "cpu" or "cuda".
            threads: processor threads that one call uses; None is torch's own number. For audio of
                some seconds one is the fastest, and far faster on a busy machine.
            trust: dotted names of custom modules that the bundle may import.
            confidence: labels of a lower probability are withheld; "auto" takes the threshold of
                each task from the bundle.
            precision: "fp32"; "bf16" or "auto", which fall back to fp32 on a device without bf16;
                None is the precision of the model's recipe. Timelines and streams compute in fp32,
                so that they agree to 1e-5. ``self.precision`` is the result, and
                ``warnings`` has a warning if "bf16" falls back. An exported model computes in fp32.
            answer_nonspeech: whether to answer recordings without speech, too.
            classes: the only classes to answer, of the first classification task; or a dictionary
                of classes by task. Their probabilities sum to 1. None is every class of the model.
            always: deprecated name of ``answer_nonspeech``.

        Raises:
            UnknownName: no shipped model has that name, or the model has no such class.
            BundleError: the file is missing, corrupt, tampered with, or too new.
            ConfigError: the confidence is out of range, the bundle has no threshold, there is no
                such precision, or fewer than two classes are left.
        """
        if always is not None:
            message = "always= is now answer_nonspeech=; the old name works in this release"
            warnings.warn(message, FutureWarning, stacklevel=2)
        limit_onednn_cache()
        if isinstance(model, Bundle):
            self.bundle, self.name = model, model.card.name or "model"
        else:
            path = find_model_file(model)
            self.bundle = open_model(path, device=device, trust=trust)
            self.name = get_model_name(model)
        self.system = self.bundle.system
        self.precision, self.warnings = _choose_precision(self.system, precision)
        if self.precision == "bf16":
            self.system = to_bf16(self.system)
        self.asr = build_asr(self.bundle, precision)
        self.threads = threads
        self.answer_nonspeech = answer_nonspeech or bool(always)
        self.thresholds = _choose_thresholds(self.bundle, self.name, confidence)
        self.class_set = resolve_class_set(classes, self.system.classes)
        self.dimension_sources = find_dimension_sources(self.system.recipe, self.system.classes)
        if self.class_set and confidence == "auto":
            self.warnings = [*self.warnings, CLASS_SET_THRESHOLDS]

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Classes that it answers in each task, in the order of the probabilities.

        They are those of the class set, or else all of the model; empty for a regression task.
        """
        return {**self.system.classes, **self.class_set}

    def with_classes(self, classes: ClassSet | None) -> Self:
        """Return this model with another class set; both share the weights.

        Args:
            classes: as for the constructor; None is every class of the model.

        Raises:
            UnknownName: the model has no such class.
            ConfigError: fewer than two classes are left.
        """
        restricted = copy.copy(self)
        restricted.class_set = resolve_class_set(classes, self.system.classes)
        return restricted

    @property
    def rate(self) -> int:
        """Sampling rate of the model, in Hz."""
        return self.system.front_end.rate

    @property
    def window(self) -> float | None:
        """Longest window in seconds, into which longer recordings are split; None is unlimited."""
        return self.system.front_end.max_seconds

    @property
    def word_source(self) -> Literal["none", "recognised", "given"]:
        """Where the model's words come from: it uses none, recognises them, or needs them given."""
        system = self.system
        if self.asr is not None or (system.has_transcript_loss and not system.needs_words):
            return "recognised"
        return "given" if system.needs_words else "none"

    def check_words(self, words: str | None) -> None:
        """Check that the model has the words that it needs, and is given none that it cannot read.

        Args:
            words: of a recording; None if none were given.

        Raises:
            ConfigError: they are missing, or the model reads no words.
        """
        if words is not None and not self.system.needs_words:
            raise ConfigError(
                f"words were given, and {self.name} ({self.system.recipe.name}) does not read "
                "words; leave them out"
            )
        if words is None and self.word_source == "given":
            raise ConfigError(f"{describe_missing_words(self.bundle, self.name)}. {GIVE_WORDS}")

    def check_segment_words(self) -> None:
        """Check that the model can answer by segments and for folders, which have no words.

        Raises:
            ConfigError: it needs words.
        """
        if self.word_source == "given":
            raise ConfigError(
                f"{describe_missing_words(self.bundle, self.name)}; segments, streams and folders "
                f"have no words: recognise one recording at a time. {GIVE_WORDS}"
            )

    def predict_many(
        self,
        recordings: Sequence[tuple[str, Samples]],
        *,
        start: float = 0.0,
        attention: bool = True,
        words: Sequence[str | None] | None = None,
    ) -> list[Recognition]:
        """Recognize several loaded recordings in shared forward passes.

        Args:
            recordings: name of each recording, and its samples of shape (n,) at ``rate``.
            start: time of the first sample in its recording, in seconds.
            attention: whether to return attention maps; answers without them take less time.
            words: the words of each recording, for a model that reads words; None are recognised
                by the model's own recogniser. Every window of a long recording is given all words.

        Returns:
            The answer for each recording, as if it were recognized alone, up to rounding.

        Raises:
            ConfigError: the model needs words and has none, or is given words and reads none.
        """
        bounds, windows, texts = self.split_recordings(recordings, words)
        with torch_threads(self.threads):
            has_speech = self.detect_speech(windows)
            predictions = self.predict_batches(windows, attention=attention, texts=texts)
        pairs = zip(predictions, has_speech, strict=True)
        return [
            self.aggregate_windows(
                name, start, recording_bounds, [next(pairs) for _ in recording_bounds]
            )
            for (name, _), recording_bounds in zip(recordings, bounds, strict=True)
        ]

    def split_recordings(
        self, recordings: Sequence[tuple[str, Samples]], words: Sequence[str | None] | None = None
    ) -> tuple[list[list[tuple[int, int]]], list[Samples], list[str | None]]:
        """Split loaded recordings into windows.

        Args:
            recordings: name and samples of each.
            words: of each, as for ``predict_many``.

        Returns:
            For each recording the first sample of each window and the one after its last; and of
            all recordings together the windows, and the words of each window.

        Raises:
            ConfigError: the model needs words and has none, or is given words and reads none.
        """
        words = [None] * len(recordings) if words is None else words
        for text in words:
            self.check_words(text)
        bounds = [
            audio.split_evenly(
                len(wave_s),
                len(wave_s) if self.window is None else round(self.window * self.rate),
            )
            for _, wave_s in recordings
        ]
        windows = [
            wave_s[first:last]
            for (_, wave_s), recording_bounds in zip(recordings, bounds, strict=True)
            for first, last in recording_bounds
        ]
        texts = [
            text
            for text, recording_bounds in zip(words, bounds, strict=True)
            for _ in recording_bounds
        ]
        return bounds, windows, texts

    def predict_batches(
        self,
        windows: Sequence[Samples],
        *,
        attention: bool,
        texts: Sequence[str | None] | None = None,
    ) -> list[WindowPrediction]:
        """Predict separate windows as the function ``predict_batches``, within the class set."""
        predictions = predict_batches(
            self.system, windows, self.precision, attention=attention, asr=self.asr, texts=texts
        )
        return [self._restrict(prediction) for prediction in predictions]

    def predict_windows(self, windows: Sequence["Window"]) -> Probabilities:
        """Predict windows of streams as the function ``predict_windows``, within the class set."""
        # bf16 rounds by the batch, and a stream's batches depend on the size of its blocks.
        p_bk = predict_windows(self.bundle.system, windows, "fp32", self.asr)
        if not self.class_set:
            return p_bk
        classes = self.system.classes
        ends = list(accumulate(len(names) or 1 for names in classes.values()))
        parts = zip(classes, np.split(p_bk, ends[:-1], axis=1), strict=True)
        return np.concatenate([self._restrict_task(task, part_bk) for task, part_bk in parts], 1)

    def _restrict(self, prediction: WindowPrediction) -> WindowPrediction:
        """Restrict the probabilities of a window to the class set."""
        if not self.class_set:
            return prediction
        restricted = {
            task: self._restrict_task(task, [prediction.outputs[task]])[0].tolist()
            for task in self.class_set
        }
        return prediction._replace(outputs={**prediction.outputs, **restricted})

    def _restrict_task(self, task: str, p_bk: ArrayLike) -> Probabilities:
        """Restrict (B, K) probabilities of a task; those of other tasks stay as they are."""
        if task not in self.class_set:
            return np.asarray(p_bk, float)
        classes = self.system.classes[task]
        temperature = self.system.temperatures.get(task, 1.0)
        prior_k = find_prior_factors(self.system.recipe.model, classes, temperature)
        return renormalize(p_bk, find_columns(self.class_set[task], classes), prior_k)

    def detect_speech(self, windows: Sequence[Samples]) -> list[bool]:
        """Return for each window whether its prediction counts: whether it contains speech."""
        if self.answer_nonspeech:
            return [True] * len(windows)
        return contains_speech(windows, self.rate)

    def aggregate_windows(
        self,
        name: str,
        start: float,
        bounds: Sequence[tuple[int, int]],
        predictions: Sequence[tuple[WindowPrediction, bool]],
    ) -> Recognition:
        """Average the predictions for the windows of a recording to one answer.

        Windows without speech are left out. If no window contains speech, all are averaged and the
        labels are withheld.

        Args:
            name: name of the recording.
            start: time of the first sample in the recording, in seconds.
            bounds: first sample of each window, and the one after its last.
            predictions: prediction for each window, and whether it contains speech.
        """
        speech = any(has_speech for _, has_speech in predictions)
        kept = [
            (prediction, (start + first / self.rate, start + last / self.rate))
            for (first, last), (prediction, has_speech) in zip(bounds, predictions, strict=True)
            if has_speech or not speech
        ]
        used, windows = [prediction for prediction, _ in kept], [window for _, window in kept]
        outputs = {
            task: [fmean(p) for p in zip(*(one.outputs[task] for one in used), strict=True)]
            for task in self.classes
        }
        hop = self.system.front_end.hop
        asr_hop = hop if self.asr is None else self.asr.hop
        tasks = self.to_answers(outputs, withheld=not speech)
        values = self.to_values(outputs)
        return Recognition(
            source=name,
            model=self.name,
            start=start,
            end=start + bounds[-1][1] / self.rate,
            windows=windows,
            tasks=tasks,
            attention=merge_attention([one.attention for one in used], windows, hop, asr_hop),
            values=values if speech else {},
            dimensions=self.to_dimensions(tasks, values) if speech else {},
            words=collect_words(used, windows, self.system.transcript_task, asr_hop)
            if speech
            else [],
            speech=speech,
        )

    def to_answers(
        self, outputs: Mapping[str, Sequence[float]], *, withheld: bool = False
    ) -> dict[str, Answer]:
        """Return the answers of the classification tasks.

        Args:
            outputs: probabilities or value of each task.
            withheld: whether to withhold all labels.
        """
        answers = {}
        for task, classes in self.classes.items():
            if not classes or task not in outputs:
                continue
            probabilities = outputs[task]
            best = int(np.argmax(probabilities))
            is_confident = probabilities[best] >= self.thresholds[task]
            answers[task] = Answer(
                label=classes[best] if is_confident and not withheld else None,
                confidence=probabilities[best],
                probabilities=dict(zip(classes, probabilities, strict=True)),
            )
        return answers

    def to_values(self, outputs: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """Return the values of the regression tasks; ``outputs`` as for ``to_answers``."""
        return {task: output[0] for task, output in outputs.items() if not self.classes[task]}

    def to_dimensions(
        self, tasks: Mapping[str, Answer], values: Mapping[str, float]
    ) -> dict[str, Dimension]:
        """Return arousal and valence of an answer, from -1 to 1, each with its basis."""
        return estimate_dimensions(self.dimension_sources, tasks, values)


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


def _choose_thresholds(
    bundle: Bundle, name: str, confidence: float | Literal["auto"]
) -> dict[str, float]:
    """Return for each task the lowest probability of a label that is not withheld."""
    if confidence == "auto":
        fitted = {task: one.threshold for task, one in bundle.confidence.items()}
        thresholds = {task: fitted.get(task, 0.0) for task in bundle.system.classes}
        if not any(thresholds.values()):
            raise ConfigError(
                f"{name} has no threshold; give one, such as 0.5, or train with "
                "`--calibration-run` of an evaluation that had validation speakers"
            )
        return thresholds
    if not 0 <= confidence <= 1:
        raise ConfigError(f"confidence is {confidence}; expected 0 to 1, or auto")
    return dict.fromkeys(bundle.system.classes, confidence)


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
    trimmed = AttentionWeights(weight[:steps], stride)
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
    outputs: dict[str, Tensor], attention: dict[str, AttentionWeights]
) -> list[WindowPrediction]:
    """Split the outputs and attention maps of a batch into predictions of its rows.

    All rows are converted in one call: every call into torch releases the interpreter, and waiting
    threads may take it.
    """
    outputs_b = {task: p_bk.tolist() for task, p_bk in outputs.items()}
    maps_b = {name: weight_bht.cpu().unbind() for name, (weight_bht, _) in attention.items()}
    strides = {name: stride for name, (_, stride) in attention.items()}
    return [
        WindowPrediction(
            {task: p_k[row] for task, p_k in outputs_b.items()},
            {name: AttentionWeights(weight[row], strides[name]) for name, weight in maps_b.items()},
        )
        for row in range(len(next(iter(outputs_b.values()))))
    ]


def merge_attention(
    window_maps: Sequence[dict[str, AttentionWeights]],
    windows: Sequence[tuple[float, float]],
    hop: float,
    asr_hop: float,
) -> dict[str, AttentionMap]:
    """Merge the attention maps of the windows to maps of the whole recording.

    Args:
        window_maps: the maps of each window, by name.
        windows: start and end of each window, in seconds.
        hop: seconds from frame to frame.
        asr_hop: the same of the speech recogniser.
    """
    merged = {}
    for name in window_maps[0]:
        if name == WORD_ATTENTION:
            continue
        times, weights = [], []
        for (start, end), maps in zip(windows, window_maps, strict=True):
            weight_ht, stride = maps[name]
            name_hop = asr_hop if name == ASR_ATTENTION else hop
            steps = attention_step_times(weight_ht.shape[-1], stride, name_hop, end - start)
            times += [start + step for step in steps]
            weights.append(_mean_over_queries(weight_ht, len(steps)))
        is_words = name == ASR_ATTENTION
        merged[name] = AttentionMap(
            times=times,
            weights=_merge_maps(weights, words=is_words).tolist(),
            queries=window_maps[0][name].weight.ndim > 2,
            words=is_words,
        )
    return merged


def _mean_over_queries(weight: Tensor, count: int) -> Tensor:
    """Reduce (H, T), or (H, T, T) of queries by keys, to the first steps (H, count)."""
    if weight.ndim > 2:
        weight = weight[:, :count].mean(dim=1)
    return weight[:, :count]


def _merge_maps(weights: Sequence[Tensor], *, words: bool) -> Tensor:
    """Merge the maps (H, T) of all windows; the rows of words cover only their own window."""
    if len(weights) == 1:
        return weights[0]
    if words:
        merged: Tensor = torch.block_diag(*weights)  # type: ignore[no-untyped-call]
        return merged / len(weights)
    return torch.cat(list(weights), dim=1) / len(weights)


def collect_words(
    predictions: Sequence[WindowPrediction],
    windows: Sequence[tuple[float, float]],
    task: TranscriptTask | None,
    hop: float,
) -> list[RecognizedWord]:
    """Return the words of a recording; recognised words have an end token after each window.

    Args:
        predictions: prediction for each window.
        windows: start and end of each window, in seconds.
        task: the transcript task of the model; None gives no words.
        hop: seconds from frame to frame of the speech recogniser.
    """
    return [
        word
        for (start, end), prediction in zip(windows, predictions, strict=True)
        if task is not None and (prediction.words or TRANSCRIPT in prediction.outputs)
        for word in _align_words(prediction, start, end, task, hop)
    ]


def _align_words(
    prediction: WindowPrediction, start: float, end: float, task: TranscriptTask, hop: float
) -> list[RecognizedWord]:
    """Give each word the time of its largest attention weight, and its share of the emotion's."""
    asr_map = prediction.attention.get(ASR_ATTENTION)
    word_map = prediction.attention.get(WORD_ATTENTION)
    if prediction.words is None:
        words = task.vocabulary.decode(map(int, prediction.outputs[TRANSCRIPT])).split()
    else:
        words = prediction.words.words
    count = max(1, len(words)) if prediction.words else len(words) + 1  # without words: </s>
    if prediction.words is None or prediction.words.recognized or not words:
        words = [*words, END]
    times: list[float | None] = [None] * len(words)
    if asr_map is not None:
        steps = attention_step_times(asr_map.weight.shape[-1], asr_map.stride, hop, end - start)
        peaks = asr_map.weight[: len(words), : len(steps)].argmax(dim=-1).tolist()
        times = [round(start + steps[peak], 3) for peak in peaks]
    weights = [] if word_map is None else word_map.weight.mean(dim=0)[:count].tolist()
    return [
        RecognizedWord(word=word, time=time, weight=weight)
        for word, time, weight in zip_longest(words, times, weights)
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


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Limit torch to a number of threads within the context; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
