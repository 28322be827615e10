"""Votes of several raters for the classes of a task, as a distribution.

A corpus has the votes for the label ``emotion`` in one of these forms; a recipe names another label
with ``tasks.emotion.votes``:

- the label ``emotion_votes``, a text such as "anger=5, neutral=3": classes with their number of
  votes, which is 1 if it is left out ("anger, anger, neutral", or "N:S" for a tie). Commas,
  semicolons, colons and vertical bars separate;
- the labels ``emotion_votes:anger``, ``emotion_votes:neutral``, ... with numbers of votes;
- one label for each rater, if the name has an asterisk: ``votes = "emotion:*"`` gives every label
  ``emotion:E1``, ``emotion:E2``, ... one vote, which is divided among several answers of a rater.

Classes of votes are mapped like labels, by the task's ``map`` and ``scheme``. Votes for classes
that the task does not have are left out, and the others are divided by their sum.

K = classes of a task.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from serein import labels
from serein.errors import ConfigError
from serein.labels.targets import get_label_name, get_scheme, is_regression
from serein.records import Recipe, Utterance

VOTES_SUFFIX = "_votes"
"""Ends the name of the label with votes; the start is the name of the label that they are for."""
SEPARATOR_PATTERN = re.compile(r"[,;:|]")

Distribution = tuple[float, ...]
"""(K,) shares of the votes in the order of the classes; they sum to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VoteSummary:
    """The votes of many utterances for the classes of a task.

    Attributes:
        distributions: of each utterance; None without a vote for a class of the task.
        votes: number of votes for classes of the task, over all utterances.
        left_out: votes for other classes, by the class as the corpus has it.
        unmatched: number of utterances that have votes, and none for a class of the task.
    """

    distributions: list[Distribution | None]
    votes: float
    left_out: dict[str, float]
    unmatched: int


def vote_target_name(task: str) -> str:
    """Return the name of a task's vote distributions among the targets of a subset."""
    return f"{task}: votes"


def get_votes_label(task: str, recipe: Recipe) -> str:
    """Return the name of the corpus's label with the votes for a task."""
    return str(recipe.tasks[task].get("votes") or f"{get_label_name(task, recipe)}{VOTES_SUFFIX}")


def trains_on_votes(task: str, recipe: Recipe) -> bool:
    """Return whether votes are the targets of a task's loss, where utterances have them."""
    return recipe.tasks[task].get("targets") == "votes"


def read_votes(utterance: Utterance, name: str) -> dict[str, float]:
    """Return the number of votes for each class, as the corpus has them; empty without votes.

    Args:
        utterance: with the votes among its labels.
        name: of the label with the votes, as ``get_votes_label`` returns it.

    Raises:
        ConfigError: a number of votes is negative or no number.

    >>> from pathlib import Path
    >>> utterance = Utterance(id="1", path=Path("1.wav"), labels={"mood_votes": "A=3, N"})
    >>> read_votes(utterance, "mood_votes")
    {'A': 3.0, 'N': 1.0}
    """
    votes: dict[str, float] = {}

    def add(item: str, count: object) -> None:
        item = item.strip()
        if item:
            votes[item] = votes.get(item, 0.0) + _parse_count(utterance.id, name, item, count)

    if "*" in name:
        for label, answers in utterance.labels.items():
            if fnmatchcase(label, name):
                words = [word for word in SEPARATOR_PATTERN.split(str(answers)) if word.strip()]
                for word in words:
                    add(word, 1 / len(words))
    elif name in utterance.labels:
        for item in SEPARATOR_PATTERN.split(str(utterance.labels[name])):
            word, equals, count = item.rpartition("=")
            add(word if equals else item, count if equals else 1.0)
    else:
        prefix = f"{name}:"
        for label, count in utterance.labels.items():
            if label.startswith(prefix):
                add(label.removeprefix(prefix), count)
    return {word: count for word, count in votes.items() if count}


def _parse_count(id_: str, name: str, word: str, count: object) -> float:
    try:
        value = float(str(count))
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ConfigError(
            f"utterance {id_}: {name} gives {word!r} {str(count).strip()!r} votes; expected a "
            "number that is not negative. Correct the table, or name another label with "
            "--set tasks.TASK.votes=LABEL"
        )
    return value


def collect_votes(
    utterances: Sequence[Utterance], task: str, recipe: Recipe, classes: Sequence[str]
) -> VoteSummary:
    """Collect the vote distributions of utterances over the classes of a task.

    Args:
        utterances: in the order of the result.
        task: name of the task.
        recipe: with its settings.
        classes: of the task; empty for values, which have no votes.

    Raises:
        ConfigError: the recipe trains on votes, and a number of votes is negative or no number.
    """
    distributions: list[Distribution | None] = []
    left_out: dict[str, float] = {}
    total, unmatched = 0.0, 0
    name, mapped = get_votes_label(task, recipe), dict[str, str]()
    for utterance in utterances if classes else ():
        votes = _read_usable_votes(utterance, name, strict=trains_on_votes(task, recipe))
        counts = dict.fromkeys(classes, 0.0)
        for word, count in votes.items():
            if word not in mapped:
                mapped[word] = _map_vote(word, task, recipe)
            if mapped[word] in counts:
                counts[mapped[word]] += count
            else:
                left_out[word] = left_out.get(word, 0.0) + count
        known = sum(counts.values())
        total += known
        unmatched += bool(votes) and not known
        shares = tuple(count / known for count in counts.values()) if known else None
        distributions.append(shares)
    if not classes:
        distributions = [None for _ in utterances]
    return VoteSummary(
        distributions=distributions,
        votes=total,
        left_out=dict(sorted(left_out.items())),
        unmatched=unmatched,
    )


def list_vote_classes(utterances: Sequence[Utterance], task: str, recipe: Recipe) -> set[str]:
    """Return the classes that raters voted for, as the corpus has them."""
    if is_regression(task, recipe):
        return set()
    name = get_votes_label(task, recipe)
    return {
        word
        for utterance in utterances
        for word in _read_usable_votes(utterance, name, strict=False)
    }


def describe_votes(
    summary: VoteSummary, task: str, recipe: Recipe, classes: Sequence[str]
) -> list[str]:
    """Describe which utterances have votes and which votes were left out, a sentence each.

    Nothing is described without votes, unless the recipe trains on them.

    Args:
        summary: the votes.
        task: name of the task.
        recipe: with its settings.
        classes: of the task.
    """
    count = sum(shares is not None for shares in summary.distributions)
    is_target = trains_on_votes(task, recipe)
    if not count and not is_target:
        return []
    total, sentences = len(summary.distributions), []
    if is_target:
        rest = "" if count == total else "; the others are trained on their label"
        sentences.append(f"{task} is trained on raters' votes: {count} of {total} utterances{rest}")
    if summary.unmatched:
        sentences.append(
            f"{summary.unmatched} utterances have votes, and none for a class of {task} "
            f"({', '.join(classes)})"
        )
    if summary.left_out:
        listing = ", ".join(f"{word} ({number:g})" for word, number in summary.left_out.items())
        share = sum(summary.left_out.values()) / (summary.votes + sum(summary.left_out.values()))
        sentences.append(f"{share:.1%} of the votes are for no class of {task}: {listing}")
    return sentences


def _read_usable_votes(utterance: Utterance, name: str, *, strict: bool) -> Mapping[str, float]:
    """Return the votes of an utterance; unreadable ones are errors only where they are needed."""
    try:
        return read_votes(utterance, name)
    except ConfigError:
        if strict:
            raise
        return {}


def _map_vote(word: str, task: str, recipe: Recipe) -> str:
    """Map the class of a vote like a label; what the scheme cannot map is no class."""
    try:
        return labels.map_to_class(word, get_scheme(task, recipe), recipe.tasks[task].get("map"))
    except ConfigError:
        return labels.DROPPED
