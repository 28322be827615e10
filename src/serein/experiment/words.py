"""Which words a fold's system knows, and which it reads.

The vocabulary is built from the transcripts of the training side alone. A recogniser that writes
the transcripts of a side, or that a training starts from, must not have heard its test side.

n = utterances of a side, L = words of the longest transcript.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from serein import bundle, config, find, protocols
from serein.bundle import Bundle
from serein.dataset import Side, extract
from serein.errors import ConfigError
from serein.experiment.known import trained_on
from serein.files import cache_folder, write_bytes
from serein.precision import asked, settled
from serein.predict import foretell
from serein.records import Corpus, Finding, Protocol, Recipe, Utterance
from serein.system import SPOKEN, System, front_end_of
from serein.tasks.transcript import Config
from serein.vocabulary import Vocabulary

BATCH = 16
NAMES = {"duplicate": "utterances", "speaker": "speakers"}
Texts = Mapping[str, str | None]
"""For each utterance id, what is said."""


def settings_of(recipe: Recipe) -> Config | None:
    """What a recipe does with words; None where it does nothing."""
    return config.build(Config, recipe.text, "text") if recipe.text else None


def known(utterances: Sequence[Utterance], recipe: Recipe) -> tuple[str, ...]:
    """The words that a system trained on these utterances knows; none where it has no text.

    Raises:
        ConfigError: nobody wrote down what is said.
    """
    how = settings_of(recipe)
    if how is None:
        return ()
    texts = [one.text for one in utterances if one.text is not None]
    if not any(texts):
        raise ConfigError(
            f"recipe {recipe.name} reads words, and none of {len(utterances)} training utterances "
            "has a transcript; name a corpus with text, add a column 'text' to its table, or "
            "choose a system that only listens, such as feng2020-audio"
        )
    first = begun(recipe)
    begin = Vocabulary(first.system.words) if first and first.system.words else Vocabulary()
    return begin.extended(texts, how).words


def begun(recipe: Recipe) -> Bundle | None:
    """The saved model that a training starts from."""
    path = str(recipe.training.get("init", ""))
    return bundle.load(Path(path)) if path else None


def marks(recipe: Recipe) -> list[str]:
    """The content of every saved model that a recipe names."""
    return [find.digest([path]) for path in _models(recipe)]


def _models(recipe: Recipe) -> list[Path]:
    how = settings_of(recipe)
    named = [str(recipe.training.get("init", "")), how.recogniser if how else ""]
    return [Path(path) for path in named if path]


def read(system: System, utterances: Sequence[Utterance], heard: Texts) -> Tensor | None:
    """(n, L) numbers of the words that a model may read; None where it reads none.

    Args:
        system: its vocabulary.
        utterances: of a side.
        heard: transcripts to read instead of the corpus's own.
    """
    if system.text is None:
        return None
    return system.text.words([heard.get(one.id, one.text) for one in utterances])


def recognised(recipe: Recipe, corpus: Corpus, contents: Mapping[str, str]) -> Texts:
    """What the recogniser that a recipe names hears in a corpus; nothing where it names none.

    It hears everything once: its transcripts are kept in the feature cache.

    Raises:
        ConfigError: the saved model finds no words.
    """
    how = settings_of(recipe)
    if how is None or not how.recogniser:
        return {}
    path = Path(how.recogniser)
    keys = [find.digest([path]), *(contents[one.id] for one in corpus.utterances)]
    file = cache_folder() / f"{hashlib.sha256(json.dumps(keys).encode()).hexdigest()[:32]}.json"
    if not file.is_file():
        texts = transcribed(bundle.load(path).system, corpus.utterances, contents)
        write_bytes(file, json.dumps(texts).encode())
    found: Texts = dict(zip((one.id for one in corpus.utterances), _kept(file), strict=True))
    return found


def _kept(file: Path) -> list[str]:
    return [str(text) for text in json.loads(file.read_bytes())]


def transcribed(
    system: System, utterances: Sequence[Utterance], contents: Mapping[str, str]
) -> list[str]:
    """What a recogniser hears in utterances, in their order.

    Raises:
        ConfigError: the system finds no words.
    """
    if system.text is None or not system.transcribes:
        raise ConfigError(
            f"{system.recipe.name} finds no words; name a model that was trained to transcribe, "
            "such as one of feng2020-asr"
        )
    frames = extract(utterances, front_end_of(system.recipe), contents)
    side = Side(tuple(one.id for one in utterances), frames, {})
    numbers = settled(asked(system.recipe), system.device)
    id_nl = foretell(system, side, BATCH, numbers)[SPOKEN]
    return [system.text.vocabulary.text(row) for row in id_nl.tolist()]


def pretrained(
    recipe: Recipe, protocol: Protocol, corpus: Corpus, contents: Mapping[str, str]
) -> tuple[Finding, ...]:
    """Whether the saved models that a recipe names have heard who validates or is tested.

    Raises:
        UnknownName: ``protocol.allow`` names what is not known.
    """
    allowed = protocols.listed(config.build(protocols.Settings, recipe.protocol, "protocol").allow)
    ids = {id_ for fold in protocol.folds for id_ in (*fold.validation, *fold.test)}
    judged = replace(corpus, utterances=tuple(one for one in corpus.utterances if one.id in ids))
    return tuple(
        Finding(
            kind=kind,
            verdict=("allowed" if kind in allowed else "error") if names else "clean",
            count=len(names),
            words=f"{path.name}, which this training starts from or reads by, was trained on "
            f"{len(names) or 'no'} {NAMES[kind]} that validate or are tested",
            examples=tuple(names[:3]),
        )
        for path in _models(recipe)
        for kind, names in trained_on(bundle.load(path).card, judged, contents).items()
    )
