"""The functions of the Python interface: ``serein.evaluate``, ``serein.train`` and the like.

They take paths as text or `Path`, data frames as corpora, and settings as a list, a text or a
dictionary, and raise serein's own errors for arguments of another type.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from serein import bundle as bundles
from serein import config, corpora
from serein.bundle import Bundle
from serein.corpora import table
from serein.errors import ConfigError, CorpusError
from serein.evaluation import compare as comparison
from serein.evaluation import dry_run, score_saved
from serein.evaluation import search as searches
from serein.evaluation import sweep as sweeps
from serein.evaluation import train as training
from serein.evaluation.answers import FunctionModel, StepCallback, get_name, ignore_step
from serein.evaluation.engines import Engine
from serein.evaluation.evaluate import OpenProgress, Run, no_progress
from serein.evaluation.external import is_estimator
from serein.evaluation.plan import resolve_recipe
from serein.evaluation.repeats import evaluate_external_seeds, evaluate_seeds
from serein.inference.model_loading import find_model_file
from serein.labels.class_sets import ClassSet
from serein.metrics.intervals import JACKKNIFE
from serein.records import Corpus, Recipe
from serein.results import io
from serein.results.evaluation import Results
from serein.results.plan import PlannedRun
from serein.results.studies import Comparison, Search, Sweep

PathLike = str | os.PathLike[str]
CorpusLike = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Corpus | Any
"""A corpus, a specification such as ``mine=labels.csv``, a path, several of these, or a data frame
of pandas or Polars with the columns of a table."""
Settings = str | Sequence[str] | Mapping[str, Any]
"""``["training.epochs=3"]``, ``"training.epochs=3"`` or ``{"training.epochs": 3}``."""


def evaluate(
    recipe: str | os.PathLike[str] | Recipe | Any,
    corpus: CorpusLike,
    *,
    protocol: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    settings: Settings = (),
    seed: int = 0,
    seeds: int = 1,
    audit: bool = False,
    init: PathLike | None = None,
    partial: bool | None = None,
    features: str | Mapping[str, Any] | Callable[..., Any] | None = None,
    labels: Mapping[str, str] | None = None,
    classes: Sequence[str] = (),
    task: str = "emotion",
    name: str | None = None,
    rate: int = 16_000,
    jobs: int | None = None,
    device: str = "cpu",
    runs: PathLike = "runs",
    fresh: bool = False,
    open_progress: OpenProgress = no_progress,
    on_step: StepCallback = ignore_step,
    engine: str | Engine = "local",
    address: str | None = None,
) -> Run:
    """Evaluate a recipe, or any other model, on every fold of a protocol.

    An interrupted evaluation of a recipe is resumed, and the results of a finished one are read
    from disk. Other models are evaluated anew.

    Args:
        recipe: a recipe, its name, or the path of a TOML file. Or any other model: a function of a
            waveform and its rate that returns a label or probabilities; an object with ``fit`` and
            ``predict``, such as an estimator of scikit-learn, with ``features``; the path of a
            table of predictions, or a data frame; what ``load_audio_classifier`` returns.
        corpus: ``NAME``, ``NAME=PATH``, a path, several of these to read as one corpus, a corpus,
            or a data frame with the columns of a table.
        protocol: name of a protocol, file of a saved one, or its settings with ``name``; the
            default is that of the recipe, or leave-one-speaker-out for other models.
        settings: changes of the recipe; for other models of ``protocol`` and ``tasks`` only.
        seed: of the weights, the order of utterances, and dropout; the first of several.
        seeds: number of seeds; each has a run folder of its own.
        audit: score optimistic evaluations, too; for recipes, estimators, and tables with the
            predictions of several epochs.
        init: saved model or name of a shipped one to start from; for recipes.
        partial: accept a corpus of which files are missing; they are listed.
        features: for an estimator: name of a front end, its settings with ``name``, or a function
            of a waveform and its rate that returns a vector.
        labels: the corpus's class for each label of another model that is spelled differently.
        classes: names of the numbers that a function returns, in their order.
        task: name of the corpus's label that another model predicts.
        name: of another model, in reports.
        rate: sampling rate of the waveforms for functions, in Hz.
        jobs: folds of a recipe at a time, each in a process of its own. With more than one, a
            script needs ``if __name__ == "__main__":`` around the call.
        device: "cpu", "cuda", or "auto"; for recipes.
        runs: the folder in which the run folder is created.
        fresh: delete the results and checkpoints of an earlier run with the same settings.
        open_progress: opens a progress display for the plan of a recipe.
        on_step: for other models, called with a description, and how much of it is done.
        engine: "local", or "ray" to train the folds of a recipe on a Ray cluster.
        address: of the cluster's head; None is ``RAY_ADDRESS``, or else this machine.

    Returns:
        The results and the run folder.

    Raises:
        SereinError: the model, a setting, the corpus or its split is not valid, audio cannot be
            read, or a file cannot be written.
    """
    changes = [*_to_protocol_settings(protocol), *to_settings(settings)]
    if seeds < 1:
        raise ConfigError(f"seeds is {seeds}; expected 1 or more")
    model = _resolve_model(recipe, classes, name, rate)
    if isinstance(model, str | Recipe):
        _refuse(
            {"features": features, "labels": labels, "classes": classes or None, "name": name},
            "are for models that serein did not build, and this is a recipe",
        )
        checked = resolve_recipe(model, add_init(changes, init))  # before a corpus is read
        return evaluate_seeds(
            checked,
            load_corpus(corpus, partial=partial),
            seed=seed,
            seeds=seeds,
            audit=audit,
            jobs=jobs,
            device=device,
            runs=to_path(runs, "runs"),
            fresh=fresh,
            open_progress=open_progress,
            engine=engine,
            address=address,
        )
    _refuse({"init": init}, "is for recipes, and this is a model that serein did not build")
    return evaluate_external_seeds(
        model,
        load_corpus(corpus, partial=partial),
        settings=changes,
        seed=seed,
        seeds=seeds,
        audit=audit,
        runs=to_path(runs, "runs"),
        features=features,
        labels=labels,
        task=task,
        name=name,
        rate=rate,
        on_step=on_step,
    )


def _resolve_model(model: Any, classes: Sequence[str], name: str | None, rate: int) -> Any:
    """Return a recipe or its name, the path of a table, or a model that can be evaluated."""
    if isinstance(model, Recipe):
        return model
    if isinstance(model, str | os.PathLike):
        text = os.fspath(model)
        if text.lower().endswith(corpora.TABLE_SUFFIXES):
            return Path(text).expanduser()
        if text.lower().endswith(".safetensors"):
            raise ConfigError(
                f"{text} is a saved model, which is not trained again: score it with "
                "serein.score_model, or start from it with init"
            )
        return text
    if is_estimator(model) or table.is_frame(model) or hasattr(model, "answer"):
        return model
    if callable(model):
        return FunctionModel(model, rate, name or get_name(model), tuple(classes))
    raise ConfigError(
        f"a model of the type {type(model).__name__} cannot be evaluated; expected a recipe or its "
        "name, a function of a waveform and its rate, an object with fit and predict, or a table "
        "of predictions"
    )


def _refuse(options: Mapping[str, object], reason: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ConfigError(f"{', '.join(given)} {reason}; leave this out")


def plan(
    recipe: str | os.PathLike[str] | Recipe,
    corpus: CorpusLike,
    *,
    settings: Settings = (),
    seed: int = 0,
    seeds: int = 1,
    init: PathLike | None = None,
    partial: bool | None = None,
    jobs: int = 1,
    device: str = "cpu",
    measure_time: bool = True,
    compare_recordings: bool = False,
) -> PlannedRun:
    """Show what an evaluation of a recipe would use, leave out and take; nothing is trained.

    Leaks are listed and raise no error.

    Args:
        recipe: a recipe, its name, or the path of a TOML file.
        corpus: as for `evaluate`.
        settings: changes of the recipe.
        seed: the first random seed.
        seeds: number of seeds.
        init: saved model or name of a shipped one to start from.
        partial: accept a corpus of which files are missing.
        jobs: folds at a time.
        device: "cpu", "cuda", or "auto".
        measure_time: whether to train some steps in order to estimate the time.
        compare_recordings: read all recordings to find copies, however many there are.

    Raises:
        SereinError: a setting, the corpus or its split is not valid, or audio cannot be read.
    """
    return dry_run.plan_run(
        _to_recipe(recipe),
        load_corpus(corpus, partial=partial),
        settings=add_init(to_settings(settings), init),
        seed=seed,
        seeds=seeds,
        jobs=jobs,
        device=device,
        measure_time=measure_time,
        compare_recordings=compare_recordings,
    )


def train(
    recipe: str | os.PathLike[str] | Recipe,
    corpus: CorpusLike,
    output: PathLike,
    *,
    settings: Settings = (),
    seed: int = 0,
    init: PathLike | None = None,
    partial: bool | None = None,
    device: str = "cpu",
    run: PathLike | Run | None = None,
    calibration_run: PathLike | Run | None = None,
    card: PathLike | None = None,
    open_progress: training.OpenProgress = training.no_progress,
    on_filtered_corpus: training.FilteredCorpusCallback = training.ignore_filtered_corpus,
) -> Bundle:
    """Train on the utterances of a corpus that the recipe selects, and save the model.

    An interrupted training is resumed. See `serein.evaluation.train.train` for what is trained.

    Args:
        recipe: a recipe, its name, or the path of a TOML file.
        corpus: as for `evaluate`.
        output: the file of the model to write.
        settings: changes of the recipe.
        seed: of the weights, the order of utterances, and dropout.
        init: saved model or name of a shipped one to start from.
        partial: accept a corpus of which files are missing.
        device: "cpu", "cuda", or "auto".
        run: an evaluation of this recipe, which gives epochs, calibration and scores.
        calibration_run: another evaluation whose validation speakers give the calibration.
        card: a TOML file with texts of the card.
        open_progress: opens a progress display for the number of epochs.
        on_filtered_corpus: called before the training with the utterances that it uses.

    Raises:
        SereinError: the recipe, corpus, audio or disk has a fault.
    """
    return training.train(
        _to_recipe(recipe),
        load_corpus(corpus, partial=partial),
        to_path(output, "output"),
        settings=add_init(to_settings(settings), init),
        seed=seed,
        device=device,
        run=_to_run(run, "run"),
        calibration_run=_to_run(calibration_run, "calibration_run"),
        card=None if card is None else to_path(card, "card"),
        open_progress=open_progress,
        on_filtered_corpus=on_filtered_corpus,
    )


def score_model(
    bundle: Bundle | PathLike,
    corpus: CorpusLike,
    *,
    name: str | None = None,
    settings: Settings = (),
    classes: ClassSet | None = None,
    partial: bool | None = None,
    device: str = "cpu",
) -> Results:
    """Score a saved model on labelled audio; see `serein.evaluation.score_saved.score_model`.

    Args:
        bundle: the model, its file, or the name of a shipped one.
        corpus: as for `evaluate`.
        name: the model's name in the results; the default is that of its file.
        settings: names of labels or classes in the corpus, and filters of utterances.
        classes: the only classes to score, or a dictionary of classes by task.
        partial: accept a corpus of which files are missing.
        device: "cpu", "cuda", or "auto", for a model that is loaded.

    Raises:
        SereinError: the model, a setting, the corpus or its audio has a fault.
    """
    if not isinstance(bundle, Bundle):
        path = find_model_file(os.fspath(to_path(bundle, "bundle")))
        name, bundle = name or path.stem, bundles.load(path, device=device)
    return score_saved.score_model(
        bundle,
        load_corpus(corpus, partial=partial),
        name=name or "model",
        settings=to_settings(settings),
        classes=classes,
    )


def sweep(
    recipe: str | os.PathLike[str] | Recipe,
    corpus: CorpusLike,
    setting: str,
    *,
    settings: Settings = (),
    init: PathLike | None = None,
    partial: bool | None = None,
    runs: PathLike = "runs",
    **options: Any,
) -> Sweep:
    """Evaluate a recipe with each value of a setting and each seed, and test for a trend.

    Args:
        recipe: a recipe, its name, or the path of a TOML file.
        corpus: as for `evaluate`.
        setting: its name and two or more values, ``"protocol.auxiliary_share=0,0.5,1"``.
        settings: changes of the recipe for all values.
        init: saved model or name of a shipped one to start from.
        partial: accept a corpus of which files are missing.
        runs: the folder in which the run folders are created.
        options: ``seeds``, ``seed``, ``jobs``, ``device``, ``fresh``, ``engine``, ``address``,
            ``open_progress`` and ``on_evaluation`` of `serein.evaluation.sweep.sweep`.

    Raises:
        SereinError: as `evaluate`; or the setting has fewer than two values.
    """
    return sweeps.sweep(
        _to_recipe(recipe),
        load_corpus(corpus, partial=partial),
        setting,
        settings=add_init(to_settings(settings), init),
        runs=to_path(runs, "runs"),
        **options,
    )


def search(
    recipe: str | os.PathLike[str] | Recipe,
    corpus: CorpusLike,
    space: Settings = (),
    *,
    settings: Settings = (),
    init: PathLike | None = None,
    partial: bool | None = None,
    runs: PathLike = "runs",
    **options: Any,
) -> Search:
    """Evaluate a recipe with settings drawn at random, and rank them on validation speakers.

    Args:
        recipe: a recipe, its name, or the path of a TOML file.
        corpus: as for `evaluate`.
        space: settings and their ranges, ``"training.rate=1e-4..1e-2:log"``; the default is the
            weight of every task but the first.
        settings: changes of the recipe for all trials.
        init: saved model or name of a shipped one to start from.
        partial: accept a corpus of which files are missing.
        runs: the folder in which the run folders are created.
        options: ``trials``, ``seed``, ``jobs``, ``device``, ``storage``, ``engine``, ``address``,
            ``open_progress`` and ``on_trial`` of `serein.evaluation.search.search`.

    Raises:
        SereinError: as `evaluate`; or the recipe does not accept the space.
    """
    specs = [corpus] if isinstance(corpus, str) else corpus
    named: Any = corpus  # specifications are part of the command that repeats the best trial
    if not isinstance(specs, list | tuple) or not all(isinstance(spec, str) for spec in specs):
        named = load_corpus(corpus, partial=partial)
    return searches.search(
        _to_recipe(recipe),
        named,
        to_settings(space),
        settings=add_init(to_settings(settings), init),
        partial=partial,
        runs=to_path(runs, "runs"),
        **options,
    )


def compare(
    *runs: PathLike | Run | Sequence[PathLike | Run], method: str = JACKKNIFE
) -> Comparison:
    """Test whether one run is better than another, paired on the utterances that both tested.

    Args:
        runs: two or more runs: what `evaluate` returned, run folders or results files.
        method: of the intervals: "jackknife" or "bootstrap".

    Raises:
        ConfigError: there are fewer than two runs, one cannot be read, or they have no utterance or
            no task in common.
    """
    flat: list[Any] = []
    for run in runs:
        flat += run if isinstance(run, list) else [run]
    paths = [path for path in (_to_run(run, "runs") for run in flat) if path is not None]
    return comparison.compare(paths, method=method)


def load_results(path: PathLike | Run) -> Results:
    """Read results from a run folder, or from a ``.json`` or ``.json.gz`` file.

    Raises:
        ConfigError: the file is missing, holds another record, has an unknown format, or has scores
            that do not follow from its predictions.
    """
    return io.load_results(_to_run(path, "path") or Path())


def load_corpus(
    corpus: CorpusLike, *, partial: bool | None = None, columns: Mapping[str, str] | None = None
) -> Corpus:
    """Return the corpus of a specification, a path, several of these, or a data frame.

    Args:
        corpus: as for `evaluate`.
        partial: accept a corpus of which files are missing; they are listed.
        columns: of a table or data frame, the column for ``speaker``, ``text``, ``path``, ... where
            it has another name: ``{"speaker": "spk"}``. In a specification, these follow the path:
            ``"mine=labels.csv,speaker=spk"``.

    Raises:
        CorpusError: the argument is none of these, the corpus cannot be read, or it has no such
            column.
        UnknownName: no corpus has that name.
    """
    if table.is_frame(corpus):
        return corpora.from_frame(corpus, columns=columns)
    if isinstance(corpus, Corpus):
        return corpus
    several: Any = corpus if isinstance(corpus, list | tuple) else [corpus]
    if not all(isinstance(one, str | os.PathLike) for one in several):
        raise CorpusError(
            f"a corpus of the type {type(corpus).__name__} cannot be read; expected its name, "
            "NAME=PATH, the path of a table, a data frame, or several names"
        )
    specs = [_to_spec(one) for one in several]
    return corpora.load_many(specs, partial=partial, columns=columns)


def _to_spec(corpus: PathLike) -> str:
    """Return a specification; a path is that of a table, or of a folder with the name of a corpus.

    >>> _to_spec(Path("data/labels.csv")), _to_spec("emodb")
    ('labels=data/labels.csv', 'emodb')
    """
    text = os.fspath(corpus)
    is_table = text.lower().endswith(corpora.TABLE_SUFFIXES) and "=" not in text
    if isinstance(corpus, str) and not (is_table and Path(text).is_file()):
        return text
    return f"{Path(text).stem if is_table else Path(text).name}={text}"


def to_settings(settings: Settings) -> list[str]:
    """Return settings as a list of ``path.to.key=value``.

    >>> to_settings({"training.epochs": 3, "model.name": "rnn"}), to_settings("training.epochs=3")
    (['training.epochs=3', 'model.name=rnn'], ['training.epochs=3'])

    Raises:
        ConfigError: they are of another type.
    """
    if isinstance(settings, str):
        return [settings]
    if isinstance(settings, Mapping):
        pairs = settings.items()
        return [line for path, value in pairs for line in config.format_settings(str(path), value)]
    if not isinstance(settings, list | tuple) or not all(isinstance(s, str) for s in settings):
        raise ConfigError(
            f"settings are {settings!r}; expected a list such as ['training.epochs=3'], or a "
            "dictionary such as {'training.epochs': 3}"
        )
    return list(settings)


def _to_protocol_settings(protocol: PathLike | Mapping[str, Any] | None) -> list[str]:
    """Return the settings of a protocol, which is given by name, file or settings."""
    if protocol is None:
        return []
    if isinstance(protocol, Mapping):
        return config.format_settings("protocol", protocol)
    if isinstance(protocol, str | os.PathLike):
        return [config.format_setting("protocol.name", os.fspath(protocol))]
    raise ConfigError(
        f"protocol is {protocol!r}; expected its name, the file of a saved one, or settings such "
        "as {'name': 'speaker-k-fold', 'folds': 5}"
    )


def add_init(settings: list[str], init: PathLike | None) -> list[str]:
    """Add ``training.init`` to settings.

    Raises:
        ConfigError: the settings have it, too.
        UnknownName: there is no such model.
    """
    if init is None:
        return settings
    if any(setting.partition("=")[0].strip() == "training.init" for setting in settings):
        raise ConfigError("init and the setting training.init mean the same; give only one of them")
    file = find_model_file(os.fspath(to_path(init, "init")))
    return [*settings, config.format_setting("training.init", str(file))]


def to_path(value: PathLike, what: str) -> Path:
    """Return a path.

    Raises:
        ConfigError: the value is neither text nor a path.
    """
    if not isinstance(value, str | os.PathLike):
        raise ConfigError(f"{what} is {value!r}; expected a path")
    return Path(value).expanduser()


def _to_recipe(recipe: str | os.PathLike[str] | Recipe) -> str | Recipe:
    if isinstance(recipe, Recipe | str):
        return recipe
    if isinstance(recipe, os.PathLike):
        return os.fspath(recipe)
    raise ConfigError(
        f"a recipe of the type {type(recipe).__name__} cannot be read; expected its name or the "
        "path of a TOML file"
    )


def _to_run(run: PathLike | Run | None, what: str) -> Path | None:
    return run.folder if isinstance(run, Run) else run if run is None else to_path(run, what)
