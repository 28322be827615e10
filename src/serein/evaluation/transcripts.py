"""Transcripts that systems read: vocabulary, word ids, and transcripts by an ASR model.

The vocabulary of a fold is built from the transcripts of its training subset alone. In place of the
corpus's own transcripts, a system can read those of a saved ASR model, which must not have been
trained on utterances or speakers of the validation or test subsets; those of a Whisper, of which
nobody knows what it was trained on; or those of an evaluation with the same folds, where each
utterance was transcribed by the system that it tested.

n = utterances of a subset, L = words of the longest transcript.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from serein import audio, bundle, config, corpora, protocols, registry
from serein.bundle import Bundle, check_asr
from serein.errors import BundleError, ConfigError
from serein.evaluation.training_overlap import (
    MAX_EXAMPLES,
    UNITS,
    find_training_overlap,
)
from serein.features import whisper_asr
from serein.labels.vocabulary import Vocabulary, normalize_text
from serein.layers import ssl_encoder
from serein.records import Corpus, Finding, Protocol, Recipe, Utterance
from serein.results import io
from serein.results.evaluation import Results
from serein.system import TRANSCRIPT, System, build_front_end, copy_front_end
from serein.tasks.transcript import Config
from serein.training.dataset import Subset, open_frames
from serein.training.predict import predict_subset
from serein.utils.device import requested_precision, resolve_precision
from serein.utils.files import cache_folder, write_bytes

Texts = Mapping[str, str | None]
"""The transcript of each utterance id."""
BATCH_SIZE = 16
_UNKNOWN_TRAINING_DATA = Finding(
    kind="duplicate",
    verdict="unknown",
    count=0,
    description="Whisper, which gives transcripts, was trained on recordings that nobody knows; "
    "these may be among them",
)
SPEAKER_DEPENDENT_PROTOCOLS = ("random", "speaker-dependent")
"""Protocols whose folds share their speakers by definition."""


def build_text_config(recipe: Recipe) -> Config | None:
    """Build the settings of a recipe's transcripts, or return None if it has none."""
    return config.build_config(Config, recipe.text, "text") if recipe.text else None


def build_word_list(utterances: Sequence[Utterance], recipe: Recipe) -> tuple[str, ...]:
    """Build the vocabulary of a system that is trained on these utterances; empty without text.

    Raises:
        ConfigError: no utterance has a transcript.
    """
    text_config = build_text_config(recipe)
    if text_config is None:
        return ()
    texts = [utterance.text for utterance in utterances if utterance.text is not None]
    if not any(texts):
        raise ConfigError(
            f"recipe {recipe.name} reads words, and none of {len(utterances)} training utterances "
            "has a transcript; name a corpus with text, add a column 'text' to its table, or "
            "choose a system without text, such as feng2020-audio"
        )
    initial = load_initial_bundle(recipe)
    words = initial.system.words if initial else ()
    vocabulary = Vocabulary(words) if words else Vocabulary()
    return vocabulary.with_texts(texts, text_config).words


def load_initial_bundle(recipe: Recipe) -> Bundle | None:
    """Load the saved model whose weights a training starts from, if there is one."""
    path = str(recipe.training.get("init", ""))
    return _load_referenced_model("training.init", Path(path)) if path else None


def load_asr(recipe: Recipe) -> Bundle | None:
    """Load the saved ASR model whose transcripts a recipe reads; None if it names none.

    Raises:
        BundleError: its file is missing, or was changed.
        ConfigError: it does not recognise words or has another sampling rate; or the recipe names
            an evaluation, in which each fold has an ASR model of its own.
    """
    text_config = build_text_config(recipe)
    if text_config is None or not text_config.transcripts_from:
        return None
    path = Path(text_config.transcripts_from)
    if whisper_asr.is_recognizer(str(path)):
        raise ConfigError(
            f"text.transcripts_from = {path} is a Whisper, which a saved model does not carry: "
            "`serein evaluate` reads its words; to save a model, remove the setting, and give "
            "words in use, such as those of `serein transcribe -m`"
        )
    if is_evaluation(path):
        raise ConfigError(
            f"text.transcripts_from = {path} is an evaluation, in which each fold has a recogniser "
            "of its own, and a saved model carries one: name a saved recogniser, such as one by "
            "`serein train feng2020-asr`, with --set text.transcripts_from=FILE.safetensors"
        )
    asr = _load_referenced_model("text.transcripts_from", path)
    check_asr(asr, build_front_end(recipe).rate)
    return asr


def _load_referenced_model(setting: str, path: Path) -> Bundle:
    """Load a saved model that a recipe names.

    Args:
        setting: that names it; a model whose transcripts are read must recognise words.
        path: of the model.

    Raises:
        BundleError: the file is missing, or was changed.
        ConfigError: it does not recognise words.
    """
    try:
        model = bundle.load(path)
    except BundleError as error:
        raise BundleError(
            f"{setting}: {error}. Name a saved model with --set {setting}=FILE"
        ) from error
    if setting == "text.transcripts_from":
        check_asr(model, model.system.front_end.rate)
    return model


def encode_transcripts(
    system: System, utterances: Sequence[Utterance], transcripts: Texts
) -> Tensor | None:
    """Encode transcripts as (n, L) word ids; return None for a system without transcripts.

    Args:
        system: has the vocabulary.
        utterances: of a subset.
        transcripts: transcripts that replace those of the corpus, by utterance id.
    """
    if system.transcript_task is None:
        return None
    return system.transcript_task.encode_texts(
        [transcripts.get(utterance.id, utterance.text) for utterance in utterances]
    )


def load_asr_transcripts(
    recipe: Recipe, corpus: Corpus, content_hashes: Mapping[str, str]
) -> Texts:
    """Return the transcripts by the recipe's ASR model or evaluation; empty if it has neither.

    A saved model transcribes a corpus once: the transcripts are kept in the feature cache. Those of
    Whisper are kept recording by recording, so that it continues where it was interrupted.

    Args:
        recipe: ``text.transcripts_from`` is a saved model, the folder of a Whisper, a results file
            or a run folder.
        corpus: the corpus to transcribe.
        content_hashes: a hash of the audio of each utterance id.

    Raises:
        ConfigError: the saved model does not recognize words, or Whisper does not know the
            language.
    """
    text_config = build_text_config(recipe)
    if text_config is None or not text_config.transcripts_from:
        return {}
    path = Path(text_config.transcripts_from)
    if whisper_asr.is_recognizer(str(path)):
        return _whisper_transcripts(text_config, corpus.utterances, content_hashes)
    digest = _hash_file("text.transcripts_from", path)
    if is_evaluation(path):
        return _evaluation_transcripts(path, digest)
    ids = [utterance.id for utterance in corpus.utterances]
    keys = [digest, *(content_hashes[id_] for id_ in ids)]
    file = cache_folder() / f"{hashlib.sha256(json.dumps(keys).encode()).hexdigest()[:32]}.json"
    if not file.is_file():
        texts = transcribe_utterances(bundle.load(path).system, corpus.utterances, content_hashes)
        write_bytes(file, json.dumps(texts).encode())
    return dict(zip(ids, map(str, json.loads(file.read_bytes())), strict=True))


def is_evaluation(path: Path) -> bool:
    """Return whether a path is a run folder or a results file.

    >>> is_evaluation(Path("asr.safetensors")), is_evaluation(Path("run/results.json"))
    (False, True)
    """
    is_results = path.is_dir() or path.suffix in (".json", io.GZIP_SUFFIX)
    return is_results and not whisper_asr.is_recognizer(str(path))


def _whisper_transcripts(
    text_config: Config, utterances: Sequence[Utterance], content_hashes: Mapping[str, str]
) -> Texts:
    """Return the transcript of each utterance by a Whisper, from the cache if it is there."""
    source = text_config.transcripts_from
    folder = whisper_asr.find_recognizer(source)
    sha256 = whisper_asr.verify_recognizer(source, folder, "")
    whisper_asr.check_language(folder, text_config.language)
    texts = {}
    for utterance in utterances:
        keys = [sha256, text_config.language, content_hashes[utterance.id]]
        name = hashlib.sha256(json.dumps(keys).encode()).hexdigest()[:32]
        file = cache_folder() / "transcripts" / f"{name}.json"
        if not file.is_file():
            rate = ssl_encoder.SAMPLE_RATE
            wave_s = audio.load(utterance.path, rate, start=utterance.start, end=utterance.end)
            recognizer = whisper_asr.load_recognizer(folder, sha256)
            parts = recognizer.recognize_parts(torch.from_numpy(wave_s), text_config.language)
            text = normalize_text(" ".join(part.text for part in parts))
            write_bytes(file, json.dumps(text).encode())
        texts[utterance.id] = str(json.loads(file.read_bytes()))
    return texts


@lru_cache(maxsize=1)
def _evaluation_transcripts(path: Path, digest: str) -> Texts:
    """Return each test utterance's transcript by its fold's model at the headline's epoch.

    Args:
        path: of the results.
        digest: of their content: results that have changed are read again.
    """
    results = io.load_results(path)
    return {
        prediction.id: prediction.transcripts.get(results.headline)
        for prediction in results.predictions
        if prediction.transcripts
    }


def transcribe_utterances(
    system: System, utterances: Sequence[Utterance], content_hashes: Mapping[str, str]
) -> list[str]:
    """Transcribe utterances with an ASR model, in their order.

    Raises:
        ConfigError: the system does not recognize words.
    """
    if system.transcript_task is None or not system.has_transcript_loss:
        raise ConfigError(
            f"{system.recipe.name} does not recognize words; name a model that was trained to "
            "transcribe, such as one of feng2020-asr"
        )
    precision = resolve_precision(requested_precision(system.recipe), system.device)
    with open_frames(utterances, copy_front_end(system), content_hashes) as frames:
        subset = Subset(tuple(utterance.id for utterance in utterances), frames, {})
        id_nl = predict_subset(system, subset, BATCH_SIZE, precision)[TRANSCRIPT]
    return [system.transcript_task.vocabulary.decode(row) for row in id_nl.tolist()]


def hash_referenced_files(recipe: Recipe) -> list[str]:
    """Hash the content of every saved model and results file that a recipe names."""
    return [_hash_file(setting, path) for setting, path in _referenced_paths(recipe).items()]


def check_transcript_source(recipe: Recipe, expected: Sequence[str]) -> None:
    """Check that a run reads the transcripts of the same file from its start to its end.

    Args:
        recipe: of the run.
        expected: the result of ``hash_referenced_files`` at its start; empty checks nothing.

    Raises:
        BundleError: the file is missing, or was changed.
    """
    digests = dict(zip(_referenced_paths(recipe), expected, strict=False))
    for setting, path in _referenced_paths(recipe).items():
        if setting != "text.transcripts_from" or setting not in digests:
            continue
        if _hash_file(setting, path) != digests[setting]:
            raise BundleError(
                f"{setting}: {path} was changed after this run began, so that its folds would read "
                "different transcripts; restore the file, or start a new run with the same command"
            )


def _hash_file(setting: str, path: Path) -> str:
    if whisper_asr.is_recognizer(str(path)):
        return whisper_asr.verify_recognizer(str(path), whisper_asr.find_recognizer(str(path)), "")
    try:
        return registry.hash_sources([_content_file(path)])
    except OSError as error:
        raise BundleError(
            f"{setting}: cannot read {path}: {error.strerror}; restore the file, or name another "
            f"with --set {setting}=FILE"
        ) from error


def _content_file(path: Path) -> Path:
    return io.resolve_results_file(path) if is_evaluation(path) else path


def _referenced_paths(recipe: Recipe) -> dict[str, Path]:
    """Return the saved models and evaluations that a recipe names, by setting."""
    text_config = build_text_config(recipe)
    paths = {
        "training.init": str(recipe.training.get("init", "")),
        "text.transcripts_from": text_config.transcripts_from if text_config else "",
    }
    return {setting: Path(path) for setting, path in paths.items() if path}


def check_pretrained_leakage(
    recipe: Recipe, protocol: Protocol, corpus: Corpus, content_hashes: Mapping[str, str] | None
) -> tuple[Finding, ...]:
    """Check whether models that a recipe names were trained on validation or test data.

    Args:
        recipe: names the models, or runs whose transcripts are read.
        protocol: of the evaluation.
        corpus: of the evaluation.
        content_hashes: a hash of the audio of each utterance id; None compares the speakers of
            saved models only.

    Raises:
        UnknownName: ``protocol.allow`` has an unknown name.
        BundleError: the file of a model is missing, or was changed.
        ConfigError: a model does not recognise words; or results are of other folds or of another
            corpus, or lack transcripts.
    """
    split_config = config.build_config(protocols.SplitConfig, recipe.protocol, "protocol")
    allowed = protocols.parse_values(split_config.allow)
    ids = {id_ for fold in protocol.folds for id_ in (*fold.validation, *fold.test)}
    evaluated = replace(corpus, utterances=tuple(u for u in corpus.utterances if u.id in ids))
    findings = list[Finding]()
    for setting, path in _referenced_paths(recipe).items():
        if whisper_asr.is_recognizer(str(path)):
            findings.append(_UNKNOWN_TRAINING_DATA)
            continue
        if is_evaluation(path):
            if content_hashes is not None:
                fingerprint = corpora.fingerprint(corpus, content_hashes)
                findings += _inherited_findings(path, recipe, protocol, fingerprint, allowed)
            continue
        card = _load_referenced_model(setting, path).card
        for overlap in find_training_overlap(card, evaluated, content_hashes, corpus):
            kind, names, doubt = overlap
            findings.append(
                Finding(
                    kind=kind,
                    verdict=overlap.get_verdict("allowed" if kind in allowed else "error"),
                    count=len(names),
                    description=f"{path.name}, which gives initial weights or transcripts, was "
                    f"trained on {len(names) or 'no known'} {UNITS[kind]} of the validation or "
                    f"test subsets{'' if names or not doubt else f': {doubt}'}",
                    examples=tuple(names[:MAX_EXAMPLES]),
                )
            )
    return tuple(findings)


def _inherited_findings(
    path: Path, recipe: Recipe, protocol: Protocol, fingerprint: str, allowed: Sequence[str]
) -> list[Finding]:
    """Return the leaks of an evaluation whose transcripts are read; they must be allowed again."""
    results = io.load_results(path)
    _check_same_folds(path, results, recipe, protocol, fingerprint)
    shares_speakers = protocol.name in SPEAKER_DEPENDENT_PROTOCOLS
    findings = [
        replace(
            leak,
            verdict="allowed" if leak.kind in allowed or shares_speakers else "error",
            description=f"in {results.recipe['name']}, whose transcripts are read: "
            f"{leak.description}",
        )
        for leak in results.leakage
        if leak.verdict in ("allowed", "error")
    ]
    validation = sum(len(fold.validation) for fold in protocol.folds)
    if validation:
        findings.append(
            Finding(
                kind="validation",
                verdict="warning",
                count=validation,
                description=f"transcripts of {validation} validation utterances, summed over "
                "folds, are by folds that trained on speakers tested here; they only select the "
                "epoch",
                examples=(),
            )
        )
    return findings


def _check_same_folds(
    path: Path, results: Results, recipe: Recipe, protocol: Protocol, fingerprint: str
) -> None:
    """Check that each transcript is by a system that was not trained on its speaker."""
    theirs = str(results.protocol["hash"]), str(results.corpus["hash"])
    if theirs != (protocol.hash, fingerprint):
        raise ConfigError(
            f"{path} tested the folds {theirs[0]} of the corpus {theirs[1]}; this recipe has "
            f"{protocol.hash} of {fingerprint}: a system of other folds may have been trained on "
            "speakers tested here. Evaluate both on the same corpora with the same [protocol]"
        )
    text_config = build_text_config(recipe)
    if text_config is not None and text_config.train_on_transcripts:
        raise ConfigError(
            "text.train_on_transcripts = true needs transcripts of training utterances, and those "
            f"in {path} are by folds that trained on speakers tested here; take a saved model"
        )
    transcribed = {prediction.id for prediction in results.predictions if prediction.transcripts}
    if not transcribed:
        raise ConfigError(
            f"{path} holds no transcripts: {results.recipe['name']} does not recognize words. Name "
            "an evaluation of a system that does, such as feng2020"
        )
    needed = {id_ for fold in protocol.folds for id_ in (*fold.validation, *fold.test)}
    if missing := needed - transcribed:
        raise ConfigError(
            f"{path} tested none of {len(missing)} validation utterances of this recipe, so that "
            "they have no transcripts: take folds that test every utterance, such as "
            "protocol.name=speaker-k-fold, or a saved model"
        )
