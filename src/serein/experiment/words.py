"""Which words a fold's system knows, and which it reads.

The vocabulary is built from the transcripts of the training side alone.

n = utterances of a side, L = words of the longest transcript.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from serein import bundle, config
from serein.bundle import Bundle
from serein.errors import ConfigError
from serein.labels.vocabulary import Vocabulary
from serein.records import Recipe, Utterance
from serein.system import System
from serein.tasks.transcript import Config

Texts = Mapping[str, str | None]
"""For each utterance id, what is said."""


def build_text_config(recipe: Recipe) -> Config | None:
    """What a recipe does with words; None where it does nothing."""
    return config.build_config(Config, recipe.text, "text") if recipe.text else None


def build_word_list(utterances: Sequence[Utterance], recipe: Recipe) -> tuple[str, ...]:
    """The words that a system trained on these utterances knows; none where it has no text.

    Raises:
        ConfigError: nobody wrote down what is said.
    """
    how = build_text_config(recipe)
    if how is None:
        return ()
    texts = [one.text for one in utterances if one.text is not None]
    if not any(texts):
        raise ConfigError(
            f"recipe {recipe.name} reads words, and none of {len(utterances)} training utterances "
            "has a transcript; name a corpus with text, add a column 'text' to its table, or "
            "choose a system that only listens, such as feng2020-audio"
        )
    first = load_initial_bundle(recipe)
    begin = Vocabulary(first.system.words) if first and first.system.words else Vocabulary()
    return begin.with_texts(texts, how).words


def load_initial_bundle(recipe: Recipe) -> Bundle | None:
    """The saved model that a training starts from."""
    path = str(recipe.training.get("init", ""))
    return bundle.load(Path(path)) if path else None


def encode_transcripts(
    system: System, utterances: Sequence[Utterance], transcripts: Texts
) -> Tensor | None:
    """(n, L) numbers of the words that a model may read; None where it reads none.

    Args:
        system: its vocabulary.
        utterances: of a side.
        transcripts: transcripts to read instead of the corpus's own.
    """
    if system.transcript_task is None:
        return None
    return system.transcript_task.encode_texts(
        [transcripts.get(one.id, one.text) for one in utterances]
    )
