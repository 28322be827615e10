"""Answers of models that serein did not build: labels or probabilities, checked and mapped.

K = classes, S = samples.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from numbers import Real
from typing import Any
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from serein import audio
from serein.errors import ConfigError
from serein.labels import harmonize_emotion
from serein.records import Utterance

StepCallback = Callable[[str, int, int], None]
"""Called with a description of the work, the finished number of utterances, and the total."""
SUM_TOLERANCE = 0.02
"""Largest difference of the sum of probabilities from 1, for tables with rounded numbers."""
MAX_EXAMPLES = 5
FIRST_CALLS = 5
"""A model that fails on so many recordings, and answered for none, is given up."""
MIN_PREFIX = 3
SIMILARITY = 0.7
"""Similarity of two labels, 0 to 1, from which on one may be a spelling of the other."""


def ignore_step(what: str, done: int, total: int) -> None:
    """Do nothing."""


@dataclass
class Answers:
    """What a model answered, before its labels are mapped to classes.

    Attributes:
        of: by utterance id, the probability of each label; of a single label, 1.
        missed: for utterances without an answer, the reason.
        has_probabilities: whether an answer had more than a label.
    """

    of: dict[str, dict[str, float]] = field(default_factory=dict)
    missed: dict[str, str] = field(default_factory=dict)
    has_probabilities: bool = False

    def add(self, id_: str, answer: Any, labels: Sequence[str] = ()) -> None:
        """Add the answer for an utterance.

        Args:
            id_: of the utterance.
            answer: a label; a mapping from labels to probabilities; a list of ``{"label": ...,
                "score": ...}``; or probabilities in the order of ``labels``.
            labels: that the model can answer with.

        Raises:
            ConfigError: the answer is none of these, or its probabilities have a fault.
        """
        if isinstance(answer, str):
            self.of[id_] = {answer: 1.0}
            return
        shares = _read_probabilities(id_, answer, labels)
        self.of[id_] = check_probabilities(f"the answer for {id_}", shares)
        self.has_probabilities = True

    def miss(self, id_: str, error: Exception, name: str) -> None:
        """Record that a model gave no answer.

        Raises:
            ConfigError: it failed on the first recordings, and answered for none.
        """
        message = " ".join(str(error).split())
        self.missed[id_] = f"{type(error).__name__}: {message}" if message else type(error).__name__
        if not self.of and len(self.missed) >= FIRST_CALLS:
            self.check_any(name)

    def check_any(self, name: str) -> None:
        """Raise an error if there are only failures.

        Raises:
            ConfigError: no utterance has an answer.
        """
        if self.missed and not self.of:
            id_, reason = next(iter(self.missed.items()))
            raise ConfigError(
                f"{name} failed on each of the first {len(self.missed)} recordings, such as "
                f"{id_}: {reason}. It is called as {name}(waveform, rate), with a NumPy array of "
                "float32 samples in mono, full scale 1, and the rate in Hz"
            )

    @property
    def labels(self) -> list[str]:
        """All labels of the answers, sorted."""
        return sorted({label for shares in self.of.values() for label in shares})


class FixedModel(Interface):
    """A model that answers for recordings without training here.

    Attributes:
        name: in reports.
        meaning: what it is, for the report.
        labels: that it can answer with; empty if unknown.
        key: what its answers depend on, for the name of the run.
        environment: versions and hashes for the results.
    """

    name: str
    meaning: str
    labels: tuple[str, ...]
    key: Sequence[Any]
    environment: Mapping[str, object]

    def answer(self, utterances: Sequence[Utterance], on_step: StepCallback) -> Answers:
        """Answer for utterances."""


@dataclass
class FunctionModel:
    """A function from a waveform (S,) and its rate to a label, or to probabilities.

    Probabilities are a mapping from labels, a list of ``{"label": ..., "score": ...}``, or numbers
    in the order of ``labels``.

    Attributes:
        function: the function.
        rate: sampling rate of the waveform that it gets, in Hz.
        name: in reports.
        labels: that it can answer with; empty if unknown.
        meaning: what it is, for the report.
        key: what its answers depend on.
        environment: versions and hashes for the results.
    """

    function: Callable[[NDArray[np.float32], int], Any]
    rate: int = 16_000
    name: str = "function"
    labels: tuple[str, ...] = ()
    meaning: str = ""
    key: Sequence[Any] = ()
    environment: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Describe the function."""
        self.meaning = self.meaning or f"the function {self.name}, as it is"

    def answer(self, utterances: Sequence[Utterance], on_step: StepCallback) -> Answers:
        """Answer for utterances, one call for each; what raises an error is missed.

        Raises:
            AudioError: a recording cannot be read.
            ConfigError: the function fails on everything, or an answer is no label and no
                probabilities.
        """
        collected = Answers()
        for number, utterance in enumerate(utterances, 1):
            wave_s = audio.load(utterance.path, self.rate, start=utterance.start, end=utterance.end)
            try:
                answer = self.function(wave_s, self.rate)
            except Exception as error:  # a user's function may raise anything
                collected.miss(utterance.id, error, self.name)
            else:
                collected.add(utterance.id, answer, self.labels)
            on_step(f"answers of {self.name}", number, len(utterances))
        collected.check_any(self.name)
        return collected


def _read_probabilities(id_: str, answer: Any, labels: Sequence[str]) -> dict[str, float]:
    """Return the number of each label of an answer."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(answer, Mapping):
        pairs = list(answer.items())
    elif isinstance(answer, list | tuple) and answer and isinstance(answer[0], Mapping):
        pairs = [(item.get("label"), item.get("score")) for item in answer]
    elif hasattr(answer, "__len__") and not isinstance(answer, str | bytes):
        numbers = getattr(answer, "tolist", lambda: list(answer))()
        if not labels:
            raise ConfigError(
                f"the answer for {id_} has {len(numbers)} numbers, and which class each stands for "
                "is unknown: give classes=[...] in their order, or answer with a dictionary"
            )
        if len(numbers) != len(labels):
            raise ConfigError(
                f"the answer for {id_} has {len(numbers)} numbers for {len(labels)} classes "
                f"({', '.join(labels)})"
            )
        pairs = list(zip(labels, numbers, strict=True))
    shares = {
        str(label): float(number)
        for label, number in pairs
        if isinstance(label, str) and isinstance(number, Real) and not isinstance(number, bool)
    }
    if not pairs or len(shares) < len(pairs):
        raise ConfigError(
            f"the answer for {id_} is {_shorten(repr(answer))}; expected a label, or a dictionary "
            "of each label's probability"
        )
    return shares


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_probabilities(where: str, shares: Mapping[str, float]) -> dict[str, float]:
    """Return probabilities scaled to a sum of exactly 1.

    Args:
        where: what to call them in errors.
        shares: probability of each label.

    Raises:
        ConfigError: one is negative or not finite, or their sum is not 1.
    """
    faulty = [f"{label} {p:g}" for label, p in shares.items() if not math.isfinite(p) or p < 0]
    if faulty:
        raise ConfigError(
            f"{where}: {', '.join(faulty[:MAX_EXAMPLES])} is no probability; expected numbers from "
            "0 to 1. Turn scores of any range into probabilities with a softmax first"
        )
    total = math.fsum(shares.values())
    if abs(total - 1) > SUM_TOLERANCE:
        advice = (
            "divide them by 100" if abs(total - 100) < 100 * SUM_TOLERANCE else "normalise them"
        )
        raise ConfigError(
            f"{where}: the probabilities of {', '.join(shares)} sum to {total:.4g}; expected 1: "
            f"{advice}"
        )
    return {label: p / total for label, p in shares.items()}


def map_labels(
    labels: Sequence[str], classes: Sequence[str], renames: Mapping[str, str], who: str, where: str
) -> dict[str, str]:
    """Return the class of each label of a model; a label without one keeps its name.

    Args:
        labels: of the model.
        classes: of the corpus.
        renames: class of each label that is spelled in another way.
        who: name of the model.
        where: name of the corpus.

    Raises:
        ConfigError: a label looks like another spelling of a class, ``renames`` has an unknown
            label, or no label is a class.
    """
    unknown = [label for label in renames if label not in labels]
    if unknown:
        raise ConfigError(
            f"labels names {', '.join(unknown)}, which {who} never answers; its labels are "
            f"{', '.join(labels)}"
        )
    mapped = {label: renames.get(label, label) for label in labels}
    open_labels = [label for label in labels if label not in renames and label not in classes]
    guesses = {label: find_spelling(label, classes) for label in open_labels}
    guesses = {label: name for label, name in guesses.items() if name}
    listing = ", ".join(classes)
    if guesses:
        pairs = ",".join(f"{label}={name}" for label, name in guesses.items())
        names = ", ".join(map(repr, guesses))
        raise ConfigError(
            f"{who} answers {names}, and the classes of {where} are {listing}. If these are other "
            f"spellings, give --labels {pairs} (in Python labels={guesses!r})"
        )
    if not {*mapped.values()} & {*classes}:
        raise ConfigError(
            f"{who} answers {', '.join(labels)}, and none of these is a class of {where}: "
            f"{listing}. Give the class of each label: --labels {labels[0]}={classes[0]},... "
            f"(in Python labels={{{labels[0]!r}: {classes[0]!r}, ...}})"
        )
    return mapped


def find_spelling(label: str, classes: Sequence[str]) -> str:
    """Return the class of which a label may be another spelling; empty if there is none.

    >>> [find_spelling(word, ("anger", "happiness")) for word in ("Angry", "hap", "boredom")]
    ['anger', 'happiness', '']
    """
    lower = {name.lower(): name for name in classes}
    word = label.strip().lower()
    if word in lower:
        return lower[word]
    common = harmonize_emotion(word)
    for name in classes:
        if common in (name, harmonize_emotion(name)):
            return name
    starts = [name for name in lower if len(word) >= MIN_PREFIX and name.startswith(word)]
    if len(starts) == 1:
        return lower[starts[0]]
    similar = get_close_matches(word, lower, n=1, cutoff=SIMILARITY)
    return lower[similar[0]] if similar else ""


def merge_labels(shares: Mapping[str, float], mapped: Mapping[str, str]) -> dict[str, float]:
    """Return the probability of each class: labels of one class are added."""
    merged: Counter[str] = Counter()
    for label, share in shares.items():
        merged[mapped[label]] += share  # type: ignore[assignment]
    return dict(merged)


def wrong_answer(classes: Sequence[str], truth: str | None) -> dict[str, float]:
    """Return the answer of a missed utterance, which is never right: all classes but its own.

    >>> wrong_answer(("anger", "fear", "joy"), "fear")
    {'anger': 0.5, 'joy': 0.5}
    """
    others = [name for name in classes if name != truth]
    return dict.fromkeys(others, 1 / len(others))


def describe_missed(missed: Mapping[str, str], what: str) -> str:
    """Describe utterances without an answer, with the reasons; empty if there is none."""
    if not missed:
        return ""
    shown = [f"{id_} ({reason})" for id_, reason in list(missed.items())[:MAX_EXAMPLES]]
    more = len(missed) - len(shown)
    return f"{len(missed)} {what}: {', '.join(shown)}{f' and {more} more' if more > 0 else ''}"


def get_name(model: object) -> str:
    """Return the name of a function, or the class of an object; of a pipeline, its last step.

    >>> get_name(len), get_name(3)
    ('len', 'int')
    """
    steps = getattr(model, "steps", None)
    if isinstance(steps, list) and steps:
        return get_name(steps[-1][1])
    name = str(getattr(model, "__name__", "") or type(model).__name__)
    return "function" if name == "<lambda>" else name
