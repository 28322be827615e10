"""A loaded model: waveforms in, probabilities, values and attention per window or recording out.

B = windows at a time, S = samples, H = heads, T = steps or frames, K = classes of a task (1 for a
regression task), or of all tasks, concatenated.
"""

import copy
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import accumulate
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from serein import audio
from serein.audio import Samples
from serein.errors import ConfigError
from serein.inference.backend import (
    Backend,
    BackendPrecision,
    BackendSetting,
    ModelDescription,
    Window,
    WindowPrediction,
)
from serein.inference.dimensions import estimate_dimensions
from serein.inference.model_loading import (
    DEFAULT_MODEL,
    find_model_file,
    get_model_name,
    open_backend,
)
from serein.inference.recognition import Answer, AttentionMap, Dimension, Recognition
from serein.inference.vad import contains_speech, find_speech
from serein.inference.windowing import Probabilities
from serein.inference.words import (
    GIVE_WORDS,
    WindowAttention,
    collect_words,
    describe_missing_words,
)
from serein.labels.class_sets import (
    ClassSet,
    find_columns,
    find_prior_factors,
    renormalize,
    resolve_class_set,
)
from serein.records import PrecisionSetting
from serein.utils.attention_maps import ASR_ATTENTION, WORD_ATTENTION, attention_step_times

if TYPE_CHECKING:
    from serein.bundle import Bundle
    from serein.system import System

BATCH_SIZE = 16
"""Windows of a long recording that are read and predicted at a time."""
POOLING_FRONT_ENDS = ("whisper",)
"""Front ends that average over the whole recording, its silence included."""
CLASS_SET_THRESHOLDS = (
    "the thresholds were fitted to answers among all classes of the model; probabilities within a "
    "class set are higher, so that fewer labels are withheld"
)


class Predictor:
    """A model that predicts batches of recordings and turns predictions into answers.

    Attributes:
        backend: what computes the model: torch or onnxruntime.
        description: what is known of the model without its network.
        name: name of the model in its answers.
        warnings: warnings about settings that are not followed, such as the precision.
        threads: processor threads that one call uses; None is the backend's own number.
        thresholds: for each task, the probability below which a label is withheld.
        answer_nonspeech: whether recordings without speech are answered, too.
        class_set: the classes of each restricted task among which it answers.
        dimension_sources: how its answers give arousal and valence.
    """

    def __init__(
        self,
        model: "str | os.PathLike[str] | Bundle" = DEFAULT_MODEL,
        *,
        device: str = "cpu",
        threads: int | None = 1,
        trust: Sequence[str] = (),
        confidence: float | Literal["auto"] = 0.0,
        precision: PrecisionSetting | None = None,
        answer_nonspeech: bool = False,
        classes: ClassSet | None = None,
        always: bool | None = None,
        backend: BackendSetting = "auto",
    ) -> None:
        """Load a model.

        Args:
            model: name of a shipped model, path of a bundle, of an exported model or of a folder
                with one, ``hf://ORG/NAME`` for one of the hub, or a bundle.
            device: where to compute: "cpu" or "cuda".
            threads: processor threads that one call uses; None is the backend's own number. For
                audio of some seconds one is the fastest, and far faster on a busy machine.
            trust: dotted names of custom modules that the bundle may import.
            confidence: labels of a lower probability are withheld; "auto" takes the threshold of
                each task from the bundle.
            precision: "fp32"; "bf16" or "auto", which fall back to fp32 on a device without bf16;
                None is the precision of the model's recipe. Timelines and streams compute in fp32,
                so that they agree to 1e-5. ``self.precision`` is the result, and
                ``warnings`` has a warning if "bf16" falls back. onnxruntime computes in fp32.
            answer_nonspeech: whether to answer recordings without speech, too.
            classes: the only classes to answer, of the first classification task; or a dictionary
                of classes by task. Their probabilities sum to 1. None is every class of the model.
            always: deprecated name of ``answer_nonspeech``.
            backend: "torch" or "onnx"; "auto" is onnx, which starts faster and without torch,
                where the model has an ONNX form and device and precision allow it.

        Raises:
            UnknownName: no shipped model has that name, or the model has no such class.
            BundleError: the file is missing, corrupt, tampered with, or too new.
            ConfigError: the confidence is out of range, the bundle has no threshold, there is no
                such precision, fewer than two classes are left, or the settings need another
                backend, or one that is not installed.
        """
        if always is not None:
            message = "always= is now answer_nonspeech=; the old name works in this release"
            warnings.warn(message, FutureWarning, stacklevel=2)
        self.backend: Backend
        if isinstance(model, str | os.PathLike):
            self.name = get_model_name(model)
            self.backend = open_backend(
                find_model_file(model),
                backend,
                device=device,
                precision=precision,
                threads=threads,
                trust=trust,
            )
        else:
            from serein.inference.torch_backend import TorchBackend

            if backend == "onnx":
                raise ConfigError(
                    "a bundle in memory is computed by torch; for backend onnx give a file"
                )
            self.name, self.backend = model.card.name or "model", TorchBackend(model, precision)
        self.description: ModelDescription = self.backend.description
        self.warnings = self.backend.warnings
        self.threads = threads
        self.answer_nonspeech = answer_nonspeech or bool(always)
        self.thresholds = _choose_thresholds(self.description, self.name, confidence)
        self.class_set = resolve_class_set(classes, self.description.classes)
        self.dimension_sources = self.description.dimension_sources
        if self.class_set and confidence == "auto":
            self.warnings = [*self.warnings, CLASS_SET_THRESHOLDS]

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Classes that it answers in each task, in the order of the probabilities.

        They are those of the class set, or else all of the model; empty for a regression task.
        """
        return {**self.description.classes, **self.class_set}

    @property
    def bundle(self) -> "Bundle":
        """The saved model, with its network in torch; onnxruntime does not need it."""
        return self.backend.load_bundle()

    @property
    def system(self) -> "System":
        """The network in torch, in the precision that it computes in."""
        system: System = getattr(self.backend, "system", None) or self.bundle.system
        return system

    @property
    def asr(self) -> Any:
        """The speech recogniser of a model that reads words, in torch; None without one."""
        return getattr(self.backend, "asr", None)

    @property
    def precision(self) -> BackendPrecision:
        """Precision that it computes in, or that the weights of an exported model have."""
        return self.backend.precision

    def describe_computation(self) -> dict[str, str]:
        """Return the name of the model, of its backend ("torch" or "onnx"), and the precision."""
        return {"model": self.name, "backend": self.backend.name, "precision": self.precision}

    def limit_threads(self) -> AbstractContextManager[None]:
        """Limit the computation to ``threads`` processor threads within the context."""
        return self.backend.limit_threads(self.threads)

    def with_classes(self, classes: ClassSet | None) -> Self:
        """Return this model with another class set; both share the weights.

        Args:
            classes: as for the constructor; None is every class of the model.

        Raises:
            UnknownName: the model has no such class.
            ConfigError: fewer than two classes are left.
        """
        restricted = copy.copy(self)
        restricted.class_set = resolve_class_set(classes, self.description.classes)
        return restricted

    @property
    def rate(self) -> int:
        """Sampling rate of the model, in Hz."""
        return self.description.rate

    @property
    def window(self) -> float | None:
        """Longest window in seconds, into which longer recordings are split; None is unlimited."""
        return self.description.max_seconds

    @property
    def word_source(self) -> Literal["none", "recognised", "given"]:
        """Where the model's words come from: it uses none, recognises them, or needs them given."""
        return self.description.word_source

    def check_words(self, words: str | None) -> None:
        """Check that the model has the words that it needs, and is given none that it cannot read.

        Args:
            words: of a recording; None if none were given.

        Raises:
            ConfigError: they are missing, or the model reads no words.
        """
        recipe = self.description.recipe
        if words is not None and not self.description.needs_words:
            raise ConfigError(
                f"words were given, and {self.name} ({recipe.name}) does not read "
                "words; leave them out"
            )
        if words is None and self.word_source == "given":
            raise ConfigError(f"{describe_missing_words(recipe, self.name)}. {GIVE_WORDS}")

    def check_segment_words(self) -> None:
        """Check that the model can answer by segments and for folders, which have no words.

        Raises:
            ConfigError: it needs words.
        """
        if self.word_source == "given":
            missing = describe_missing_words(self.description.recipe, self.name)
            raise ConfigError(
                f"{missing}; segments, streams and folders "
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
        with self.limit_threads():
            has_speech = self.detect_speech(windows)
            predictions = self.predict_batches(windows, attention=attention, texts=texts)
        pairs = zip(predictions, has_speech, strict=True)
        return [
            self.aggregate_windows(
                name, start, own_bounds, [next(pairs) for _ in own_bounds], length=len(wave_s)
            )
            for (name, wave_s), own_bounds in zip(recordings, bounds, strict=True)
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
        parts = self.find_parts([wave_s for _, wave_s in recordings])
        bounds = [
            [
                (start + first, start + last)
                for first, last in audio.split_evenly(
                    end - start,
                    end - start if self.window is None else round(self.window * self.rate),
                )
            ]
            for start, end in parts
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

    def find_parts(self, waves: Sequence[Samples]) -> list[tuple[int, int]]:
        """Find the part of each recording that is predicted, from a sample to the one after.

        The front ends of ``POOLING_FRONT_ENDS`` average over time: seconds of silence around the
        speech would make most answers neutral. Of other models, and of recordings without speech,
        the part is the whole recording.
        """
        if self.description.recipe.features.get("name") not in POOLING_FRONT_ENDS:
            return [(0, len(wave_s)) for wave_s in waves]
        return find_speech(waves, self.rate)

    def predict_batches(
        self,
        windows: Sequence[Samples],
        *,
        attention: bool,
        texts: Sequence[str | None] | None = None,
    ) -> list[WindowPrediction]:
        """Predict separate windows within the class set; see ``Backend``."""
        predictions = self.backend.predict_batches(windows, attention=attention, texts=texts)
        return [self._restrict(prediction) for prediction in predictions]

    def predict_windows(self, windows: Sequence[Window]) -> Probabilities:
        """Predict windows of streams within the class set; see ``Backend``."""
        p_bk = self.backend.predict_windows(windows)
        if not self.class_set:
            return p_bk
        classes = self.description.classes
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
        classes = self.description.classes[task]
        calibration = self.description.confidence.get(task)
        prior_k = find_prior_factors(
            self.description.recipe.model, classes, calibration.temperature if calibration else 1.0
        )
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
        *,
        length: int | None = None,
    ) -> Recognition:
        """Average the predictions for the windows of a recording to one answer.

        Windows without speech are left out. If no window contains speech, all are averaged and the
        labels are withheld.

        Args:
            name: name of the recording.
            start: time of the first sample in the recording, in seconds.
            bounds: first sample of each window, and the one after its last.
            predictions: prediction for each window, and whether it contains speech.
            length: samples of the recording; None if it ends with its last window.
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
        hop, asr_hop = self.description.hop, self.description.asr_hop
        tasks = self.to_answers(outputs, withheld=not speech)
        values = self.to_values(outputs)
        return Recognition(
            source=name,
            model=self.name,
            start=start,
            end=start + (bounds[-1][1] if length is None else length) / self.rate,
            windows=windows,
            tasks=tasks,
            attention=merge_attention([one.attention for one in used], windows, hop, asr_hop),
            values=values if speech else {},
            dimensions=self.to_dimensions(tasks, values) if speech else {},
            words=collect_words(used, windows, self.description.vocabulary, asr_hop)
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


def _choose_thresholds(
    model: ModelDescription, name: str, confidence: float | Literal["auto"]
) -> dict[str, float]:
    """Return for each task the lowest probability of a label that is not withheld."""
    if confidence == "auto":
        fitted = {task: one.threshold for task, one in model.confidence.items()}
        thresholds = {task: fitted.get(task, 0.0) for task in model.classes}
        if not any(thresholds.values()):
            raise ConfigError(
                f"{name} has no threshold; give one, such as 0.5, or train with "
                "`--calibration-run` of an evaluation that had validation speakers"
            )
        return thresholds
    if not 0 <= confidence <= 1:
        raise ConfigError(f"confidence is {confidence}; expected 0 to 1, or auto")
    return dict.fromkeys(model.classes, confidence)


def merge_attention(
    window_maps: Sequence[dict[str, WindowAttention]],
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


def _mean_over_queries(weight: np.ndarray, count: int) -> np.ndarray:
    """Reduce (H, T), or (H, T, T) of queries by keys, to the first steps (H, count)."""
    if weight.ndim > 2:
        weight = weight[:, :count].mean(axis=1)
    return weight[:, :count]


def _merge_maps(weights: Sequence[np.ndarray], *, words: bool) -> np.ndarray:
    """Merge the maps (H, T) of all windows; the rows of words cover only their own window."""
    if len(weights) == 1:
        return weights[0]
    if not words:
        return np.concatenate(weights, axis=1) / len(weights)
    rows = np.cumsum([0, *(len(weight) for weight in weights)])
    columns = np.cumsum([0, *(weight.shape[1] for weight in weights)])
    merged = np.zeros((rows[-1], columns[-1]), weights[0].dtype)
    for weight, row, column in zip(weights, rows[:-1], columns[:-1], strict=True):
        merged[row : row + weight.shape[0], column : column + weight.shape[1]] = weight
    return merged / len(weights)
