"""The files of a model's repository on the hub: weights, ONNX, ``config.json``, model card.

The metadata of the card follow the hub's model card specification
(https://github.com/huggingface/hub-docs/blob/main/modelcard.md).
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from serein import bundle as bundles
from serein import registry
from serein.bundle import Bundle
from serein.errors import ConfigError
from serein.inference.formats import as_card
from serein.inference.hub import (
    BUNDLE_FILE,
    CARD_FILE,
    CONFIG_FILE,
    ONNX_FILE,
    hash_file,
    import_hub,
)
from serein.inference.onnx_runtime import ONNXSystem
from serein.metrics.scoring import get_scorer
from serein.model_file import copy_model_file
from serein.results.evaluation import Results
from serein.utils.files import replace_atomically, write_text

LICENCES = {
    "mit": r"MIT\b",
    "apache-2.0": r"Apache[- ](License,? )?(Version )?2",
    "cc0-1.0": r"CC0\b",
    "cc-by-nc-sa-4.0": r"CC[- ]BY-NC-SA[- ]4",
    "cc-by-nc-4.0": r"CC[- ]BY-NC[- ]4",
    "cc-by-sa-4.0": r"CC[- ]BY-SA[- ]4",
    "cc-by-4.0": r"CC[- ]BY[- ]4",
}
"""The hub's identifiers of licences, and how the text of a card begins that names one."""
LANGUAGES = {"English": "en", "German": "de"}
"""ISO 639-1 codes of the languages of corpora that have a reader."""
METRICS = {"ua": "recall", "wa": "accuracy", "pearson": "pearsonr"}
"""The hub's identifiers of scores; other scores keep their own names."""


@dataclass(frozen=True)
class HubMetadata:
    """Metadata of the card that the model itself does not have.

    Attributes:
        licence: the hub's identifier, such as "mit"; empty to take it from the card's text.
        languages: ISO 639-1 codes; empty to take those of the corpora.
        datasets: the hub's names of the training data; empty to take the corpora's names.
        results: evaluations of the model's recipe, whose scores become metrics.
    """

    licence: str = ""
    languages: Sequence[str] = ()
    datasets: Sequence[str] = ()
    results: Sequence[Results] = ()


def write_hub_files(
    model: Bundle, source: Path, folder: Path, repository: str, metadata: HubMetadata
) -> tuple[list[str], list[str]]:
    """Write the files of a repository.

    Args:
        model: the model.
        source: its file, which is copied, with all weights in it.
        folder: where to write; existing files of the same names are replaced.
        repository: ``ORG/NAME``.
        metadata: further metadata of the card.

    Returns:
        The names of the written files, and notes: what is missing and why.

    Raises:
        ConfigError: an evaluation is not one of the model's recipe, or has leaks, or the extra
            ``hub`` is not installed.
        StorageError: a file could not be written.
    """
    for results in metadata.results:
        _check_results(results, model)
    is_exported = isinstance(model.system, ONNXSystem)
    weights = [ONNX_FILE if is_exported else BUNDLE_FILE]
    card, notes = build_card(model, repository, metadata)
    if is_exported:
        with replace_atomically(folder / weights[0]) as temporary:
            shutil.copyfile(source, temporary)
    else:
        copy_model_file(source, folder / weights[0])
        from serein.inference.onnx_export import to_onnx
        from serein.inference.standalone_graph import build_exported_file

        try:
            to_onnx(model, folder / ONNX_FILE, exported=build_exported_file(source))
            weights.append(ONNX_FILE)
        except ConfigError as error:
            (folder / ONNX_FILE).unlink(missing_ok=True)
            notes.append(f"without {ONNX_FILE}: {error}")
    write_text(folder / CONFIG_FILE, _build_config(model, folder, weights))
    write_text(folder / CARD_FILE, card)
    return [*weights, CONFIG_FILE, CARD_FILE], notes


def _build_config(model: Bundle, folder: Path, weights: Sequence[str]) -> str:
    """Return ``config.json``: what the model is, and the SHA-256 of its files."""
    system = model.system
    files = {
        file: {"bytes": (folder / file).stat().st_size, "sha256": hash_file(folder / file)}
        for file in weights
    }
    document = {
        "library_name": "serein",
        "model_type": system.recipe.model["name"],
        "recipe": system.recipe.name,
        "sampling_rate": system.front_end.rate,
        "classes": system.classes,
        "bundle_sha256": bundles.compute_bundle_digest(model),
        "files": files,
    }
    return json.dumps(document, indent=2) + "\n"


def build_card(model: Bundle, repository: str, metadata: HubMetadata) -> tuple[str, list[str]]:
    """Return ``README.md``, and notes on what it does not have.

    Raises:
        ConfigError: the extra ``hub`` is not installed.
    """
    hub = import_hub()
    card, corpora = model.card, _list_corpora(model)
    licence = metadata.licence or find_licence(card.licence)
    languages = list(metadata.languages) or sorted(
        {LANGUAGES[name] for corpus in corpora for name in _read_languages(corpus)}
    )
    datasets = list(metadata.datasets) or corpora
    metrics = [one for results in metadata.results for one in _list_scores(results)]
    evaluations = [
        hub.EvalResult(
            task_type="audio-classification",
            task_name=f"speech emotion recognition: {score.task}",
            dataset_type=score.corpus,
            dataset_name=f"{score.corpus}, {score.protocol}",
            dataset_split="test",
            metric_type=METRICS.get(score.name, score.name),
            metric_name=f"{score.title}, {score.protocol}, {score.selection}",
            metric_value=round(score.value, 4),
            metric_args={"average": "macro"} if score.name == "ua" else None,
        )
        for score in metrics
    ]
    is_other = {} if licence != "other" else {
        "license_name": "see-card", "license_link": f"{CARD_FILE}#licence"
    }  # fmt: skip
    data = hub.ModelCardData(
        license=licence,
        **is_other,
        language=languages or None,
        datasets=datasets or None,
        library_name="serein",
        pipeline_tag="audio-classification",
        tags=["speech-emotion-recognition", "audio-classification", "serein"],
        metrics=list(dict.fromkeys(one.metric_type for one in evaluations)) or None,
        model_name=repository.partition("/")[2] if evaluations else None,
        eval_results=evaluations or None,
    )
    missing = {
        "licence (other); --licence": licence == "other",
        "language; --language": not languages,
        "training data; --dataset": not datasets,
        "metrics; --run RUN": not metrics,
    }
    notes = [
        f"the card's metadata have no {what.partition(';')[0]}: give it with"
        f"{what.partition(';')[2]}"
        for what, is_missing in missing.items()
        if is_missing
    ]
    title, _, sections = as_card(model).partition("\n\n")
    parts = [
        f"---\n{data.to_yaml()}\n---\n",
        title if model.card.name else f"# {repository}",
        _describe_use(repository),
        *([_format_scores(metrics)] if metrics else []),
        sections,
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n", notes


def find_licence(text: str) -> str:
    """Return the hub's identifier of the licence that a card's text begins with, or "other".

    >>> find_licence("MIT; the recordings are CC0"), find_licence("non-commercial use only")
    ('mit', 'other')
    """
    for identifier, pattern in LICENCES.items():
        if re.match(pattern, text.strip(), re.IGNORECASE):
            return identifier
    return "other"


def _list_corpora(model: Bundle) -> list[str]:
    """Return the names of the training corpora, which the names of speakers begin with."""
    return sorted({name.partition("/")[0] for name in model.card.speakers})


def _read_languages(corpus: str) -> Iterator[str]:
    """Yield the language of a corpus that has a reader, if there is a code for it."""
    if corpus in registry.list_names("corpora"):
        language = registry.load_module("corpora", corpus).ABOUT.language
        if language in LANGUAGES:
            yield language


@dataclass(frozen=True)
class _Score:
    """A score with its protocol.

    Attributes:
        corpus: that was tested.
        protocol: name and number of folds.
        selection: how the epochs were selected.
        task: the task.
        name: of the metric, such as "ua".
        title: of the metric, such as "UA".
        value: the score.
        text: the score with its 95 % interval.
    """

    corpus: str
    protocol: str
    selection: str
    task: str
    name: str
    title: str
    value: float
    text: str


def _list_scores(results: Results) -> Iterator[_Score]:
    """Yield the defined scores of an evaluation's headline."""
    protocol = f"{results.protocol['name']}, {len(results.folds)} folds"
    selection = results.selections[results.headline]
    for task, scores in results.scores_by_task(results.headline).items():
        for metric in get_scorer(results.classes[task]).metrics:
            value = scores.score(metric.name)
            if value is None:
                continue
            text, bounds = format(value, metric.format_spec), scores.bounds(metric.name)
            if bounds is not None:
                low, high = (format(bound, metric.format_spec) for bound in bounds)
                text = f"{text} [{low}, {high}]"
            corpus = str(results.corpus["name"])
            yield _Score(corpus, protocol, selection, task, metric.name, metric.title, value, text)


def _check_results(results: Results, model: Bundle) -> None:
    """Raise an error for an evaluation whose scores are not the model's, or that has leaks."""
    recipe = model.system.recipe
    if results.recipe["name"] != recipe.name or {*results.classes} != {*model.system.classes}:
        raise ConfigError(
            f"{results.name} evaluated the recipe {results.recipe['name']} with the tasks "
            f"{', '.join(results.classes)}, and the model is of {recipe.name} with "
            f"{', '.join(model.system.classes)}; give an evaluation of the model's recipe"
        )
    leaks = [one for one in results.leakage if one.verdict in ("allowed", "error")]
    if leaks:
        raise ConfigError(
            f"{results.name} has leaks, which make its scores optimistic: {leaks[0].description}. "
            "Evaluate with folds that share no speaker and no recording"
        )


def _format_scores(scores: Iterable[_Score]) -> str:
    """Return the scores as a table."""
    lines = [
        "## Evaluations",
        "",
        "Of the same recipe, on speakers that were not in training; in brackets 95 % intervals.",
        "",
        "| corpus | protocol | epoch | task | score |",
        "|---|---|---|---|---|",
    ]
    for one in scores:
        lines.append(
            f"| {one.corpus} | {one.protocol} | {one.selection} | {one.task} | {one.title} "
            f"{one.text} |"
        )
    return "\n".join(lines)


def _describe_use(repository: str) -> str:
    """Return how to apply the model."""
    return f"""\
A model of serein for speech emotion recognition.

```python
import serein

recognizer = serein.Recognizer.from_pretrained("{repository}")  # pip install "serein[hub]"
print(recognizer("speech.wav"))
```"""
