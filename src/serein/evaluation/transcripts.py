"""Transcripts that a system reads instead of the corpus's own.

Either a saved model writes them, which must not have heard who validates or is tested, or they are
those of an evaluation by the same folds, each by the system that was tested on it.

Whom a saved model has heard in training.

Which words a fold's system knows, and which it reads.

The vocabulary is built from the transcripts of the training side alone.

n = utterances of a side, L = words of the longest transcript.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from serein import bundle, config, corpora, protocols, registry
from serein.bundle import Bundle, Card
from serein.errors import ConfigError
from serein.labels.vocabulary import Vocabulary
from serein.records import Corpus, Finding, Protocol, Recipe, Utterance
from serein.results import io
from serein.results.evaluation import Results
from serein.system import TRANSCRIPT, System, build_front_end
from serein.tasks.transcript import Config
from serein.training.dataset import Subset, extract_frames
from serein.training.predict import predict_subset
from serein.utils.device import requested_precision, resolve_precision
from serein.utils.files import cache_folder, write_bytes


def find_training_overlap(
    card: Card, corpus: Corpus, contents: Mapping[str, str]
) -> dict[str, list[str]]:
    """Which utterances ("duplicate") and whom ("speaker") of a corpus a model was trained on.

    Args:
        card: of the model.
        corpus: what to look through.
        contents: for each utterance id, a hash of its audio.
    """
    samples = protocols.hash_audio_excerpts(corpus.utterances)
    marks = {*card.file_hashes, *card.audio_hashes}
    ids = [one.id for one in corpus.utterances]
    return {
        "duplicate": [id_ for id_ in ids if contents[id_] in marks or samples.get(id_) in marks],
        "speaker": sorted(speaker_names(corpus) & set(card.speakers)),
    }


def speaker_names(corpus: Corpus) -> set[str]:
    """Who speaks in a corpus, as ``CORPUS/NAME``."""
    return {
        one.speaker if one.corpus else f"{corpus.name}/{one.speaker}"
        for one in corpus.utterances
        if one.speaker
    }


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


BATCH_SIZE = 16
SPEAKER_DEPENDENT_PROTOCOLS = ("random", "speaker-dependent")
"""Protocols whose folds share their speakers by definition."""
LEAK_UNITS = {"duplicate": "utterances", "speaker": "speakers"}


def load_asr_transcripts(recipe: Recipe, corpus: Corpus, contents: Mapping[str, str]) -> Texts:
    """What is heard in a corpus by what a recipe names; nothing where it names none.

    A saved model hears everything once: its transcripts are kept in the feature cache.

    Args:
        recipe: its ``text.transcripts_from`` is a saved model, or results or their run folder.
        corpus: what is heard.
        contents: for each utterance id, a hash of its audio.

    Raises:
        ConfigError: the saved model finds no words.
    """
    how = build_text_config(recipe)
    if how is None or not how.transcripts_from:
        return {}
    path = Path(how.transcripts_from)
    mark = registry.hash_sources([_content_file(path)])
    if is_evaluation(path):
        return _evaluation_transcripts(path, mark)
    keys = [mark, *(contents[one.id] for one in corpus.utterances)]
    file = cache_folder() / f"{hashlib.sha256(json.dumps(keys).encode()).hexdigest()[:32]}.json"
    if not file.is_file():
        texts = transcribe_utterances(bundle.load(path).system, corpus.utterances, contents)
        write_bytes(file, json.dumps(texts).encode())
    found: Texts = dict(
        zip((one.id for one in corpus.utterances), _read_cached_texts(file), strict=True)
    )
    return found


def is_evaluation(path: Path) -> bool:
    """Whether a path is a run folder or a file of results.

    >>> is_evaluation(Path("asr.safetensors")), is_evaluation(Path("run/results.json"))
    (False, True)
    """
    return path.is_dir() or path.suffix in (".json", io.GZIP_SUFFIX)


@lru_cache(maxsize=1)
def _evaluation_transcripts(path: Path, digest: str) -> Texts:
    """What each utterance's own fold heard in it, by the epochs that are quoted.

    Args:
        path: of the results.
        digest: of their content, as every side of every fold asks, and a run may be made anew.
    """
    results = io.load_results(path)
    return {
        one.id: one.transcripts.get(results.headline)
        for one in results.predictions
        if one.transcripts
    }


def _read_cached_texts(file: Path) -> list[str]:
    return [str(text) for text in json.loads(file.read_bytes())]


def transcribe_utterances(
    system: System, utterances: Sequence[Utterance], contents: Mapping[str, str]
) -> list[str]:
    """What a recogniser hears in utterances, in their order.

    Raises:
        ConfigError: the system finds no words.
    """
    if system.transcript_task is None or not system.has_transcript_loss:
        raise ConfigError(
            f"{system.recipe.name} finds no words; name a model that was trained to transcribe, "
            "such as one of feng2020-asr"
        )
    frames = extract_frames(utterances, build_front_end(system.recipe), contents)
    side = Subset(tuple(one.id for one in utterances), frames, {})
    numbers = resolve_precision(requested_precision(system.recipe), system.device)
    id_nl = predict_subset(system, side, BATCH_SIZE, numbers)[TRANSCRIPT]
    return [system.transcript_task.vocabulary.decode(row) for row in id_nl.tolist()]


def hash_referenced_files(recipe: Recipe) -> list[str]:
    """The content of every saved model and all results that a recipe names."""
    return [registry.hash_sources([_content_file(path)]) for path in _referenced_paths(recipe)]


def _content_file(path: Path) -> Path:
    return io.resolve_results_file(path) if is_evaluation(path) else path


def _referenced_paths(recipe: Recipe) -> list[Path]:
    how = build_text_config(recipe)
    named = [str(recipe.training.get("init", "")), how.transcripts_from if how else ""]
    return [Path(path) for path in named if path]


def check_pretrained_leakage(
    recipe: Recipe, protocol: Protocol, corpus: Corpus, contents: Mapping[str, str]
) -> tuple[Finding, ...]:
    """Whether the models that a recipe names have heard who validates or is tested.

    Raises:
        UnknownName: ``protocol.allow`` names what is not known.
        ConfigError: results are of other folds or another corpus, or hold no transcripts of a side.
    """
    allowed = protocols.parse_values(
        config.build_config(protocols.SplitConfig, recipe.protocol, "protocol").allow
    )
    ids = {id_ for fold in protocol.folds for id_ in (*fold.validation, *fold.test)}
    judged = replace(corpus, utterances=tuple(one for one in corpus.utterances if one.id in ids))
    found = list[Finding]()
    for path in _referenced_paths(recipe):
        if is_evaluation(path):
            mark = corpora.fingerprint(corpus, contents)
            found += _inherited_findings(path, recipe, protocol, mark, allowed)
            continue
        found += [
            Finding(
                kind=kind,
                verdict=("allowed" if kind in allowed else "error") if names else "clean",
                count=len(names),
                description=f"{path.name}, which this training starts from or reads by, was trained on "
                f"{len(names) or 'no'} {LEAK_UNITS[kind]} that validate or are tested",
                examples=tuple(names[:3]),
            )
            for kind, names in find_training_overlap(
                bundle.load(path).card, judged, contents
            ).items()
        ]
    return tuple(found)


def _inherited_findings(
    path: Path, recipe: Recipe, protocol: Protocol, fingerprint: str, allowed: Sequence[str]
) -> list[Finding]:
    """What an evaluation let pass passes here only if it is allowed again."""
    results = io.load_results(path)
    _check_same_folds(path, results, recipe, protocol, fingerprint)
    leaks = [
        replace(
            one,
            verdict="allowed"
            if one.kind in allowed or protocol.name in SPEAKER_DEPENDENT_PROTOCOLS
            else "error",
            description=f"in {results.recipe['name']}, whose transcripts are read: {one.description}",
        )
        for one in results.leakage
        if one.verdict in ("allowed", "error")
    ]
    watched = sum(len(fold.validation) for fold in protocol.folds)
    told = Finding(
        kind="validation",
        verdict="warning",
        count=watched,
        description=f"transcripts of {watched} validation utterances, summed over folds, were written by "
        "folds that trained on who is tested here; they choose the epoch and nothing else",
        examples=(),
    )
    return [*leaks, *[told] * bool(watched)]


def _check_same_folds(
    path: Path, results: Results, recipe: Recipe, protocol: Protocol, fingerprint: str
) -> None:
    """See to it that each transcript is of a system that did not train on its speaker."""
    theirs = str(results.protocol["hash"]), str(results.corpus["hash"])
    if theirs != (protocol.hash, fingerprint):
        raise ConfigError(
            f"{path} tested the folds {theirs[0]} of the corpus {theirs[1]}; this recipe has "
            f"{protocol.hash} of {fingerprint}: a system of other folds may have heard who is tested "
            "here. Evaluate both on the same corpora with the same [protocol]"
        )
    how = build_text_config(recipe)
    if how is not None and how.train_on_transcripts:
        raise ConfigError(
            f"text.train_on_transcripts = true asks for transcripts of training utterances, and those in {path} "
            "were written by folds that trained on who is tested here; take a saved model"
        )
    heard = {one.id for one in results.predictions if one.transcripts}
    if not heard:
        raise ConfigError(
            f"{path} holds no transcripts: {results.recipe['name']} finds no words. Name an "
            "evaluation of one that does, such as feng2020"
        )
    unheard = {id_ for fold in protocol.folds for id_ in (*fold.validation, *fold.test)} - heard
    if unheard:
        raise ConfigError(
            f"{path} tested none of {len(unheard)} utterances that validate here, so that nobody "
            "wrote their transcripts: take folds that test everybody, such as "
            "protocol.name=speaker-k-fold, or a saved model"
        )
