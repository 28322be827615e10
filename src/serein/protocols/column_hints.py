"""Columns of a user's table that look like a sentence or a session under another name."""

import re
from collections.abc import Sequence

from serein.records import Utterance

COLUMN_PATTERNS = {
    "sentence": re.compile(
        r"(sentence|prompt|phrase|statement|script|transcript|transcription|utterance|line|words?)"
        r"([_ -]?(id|no|nr|num|number|code|text|name))?"
    ),
    "session": re.compile(
        r"(session|conversation|dialog|call|meeting|episode|interview|scene|recording)"
        r"([_ -]?(id|no|nr|num|number|code|name))?"
    ),
}
"""Names of columns that look like each of these."""
MIN_VALUES = 2
"""A column with fewer different values divides nothing."""


def find_columns_like(kind: str, utterances: Sequence[Utterance]) -> list[str]:
    """Return the labels that look like a sentence or a session, and are not named so.

    Args:
        kind: "sentence" or "session".
        utterances: of a corpus without it.
    """
    values: dict[str, set[object]] = {}
    for utterance in utterances:
        for name, value in utterance.labels.items():
            if name != kind and COLUMN_PATTERNS[kind].fullmatch(name):
                values.setdefault(name, set()).add(value)
    return sorted(name for name, own in values.items() if len(own) >= MIN_VALUES)


def describe_columns(columns: Sequence[str], kind: str) -> str:
    """Return what to do about such columns.

    >>> describe_columns(["prompt_id"], "sentence")
    'column prompt_id looks like a sentence: rename it to sentence to have it checked'
    """
    noun = f"column{'s' * (len(columns) > 1)} {', '.join(columns)}"
    verb = "look" if len(columns) > 1 else "looks"
    names = "session, or dialogue," if kind == "session" else kind
    return f"{noun} {verb} like a {kind}: rename it to {names} to have it checked"
