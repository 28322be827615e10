"""`serein evaluate`, `compare`, `report` and `protocols`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from serein.cli import reproduce, search, sweep
from serein.cli.common import (
    ClassesOption,
    CorporaOption,
    DeviceOption,
    FoldJobsOption,
    InitOption,
    PartialOption,
    RayAddressOption,
    RunsOption,
    SeedOption,
    SetOption,
    TrackOption,
    TrainingEngineOption,
    TrustOption,
    add_init_setting,
    check_settings,
    console,
    is_given,
    print_paths,
    print_stderr,
    resolve_corpus,
    resolve_jobs,
    show_progress,
)
from serein.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Container

    from serein.evaluation.evaluate import Run
    from serein.records import Corpus
    from serein.results.evaluation import Results

IntervalsOption = Annotated[
    Literal["jackknife", "bootstrap"] | None,
    typer.Option(
        "--intervals",
        help="Method of the intervals: over speakers that are left out one by one (the default), "
        "or the percentile bootstrap, which is too narrow for few speakers.",
    ),
]

TRAINING_OPTIONS = (
    *("init", "seed", "seeds", "audit", "jobs", "engine", "address", "fresh", "track"),
)
"""Options of `evaluate` that apply only where a recipe is trained."""


EXTERNAL_OPTIONS = ("features", "labels", "name")
"""Options of `evaluate` for models that serein did not build."""


def evaluate(
    context: typer.Context,
    corpus: CorporaOption,
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="Name of a recipe, or a TOML file; or module:name of a function or an estimator "
            "of your own."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("-m", "--model", help="Score this saved model; nothing is trained."),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Score the predictions in this table (csv, tsv, jsonl, parquet)."),
    ] = None,
    transformers: Annotated[
        str | None,
        typer.Option(help="Score an audio classifier of transformers: a folder, or ORG/NAME."),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(help="Front end of your estimator: egemaps, logmel, ...; or module:name."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Labels of such a model that the corpus spells differently: ang=anger,..."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of such a model in reports.")] = None,
    set_: SetOption = None,
    init: InitOption = None,
    seed: SeedOption = 0,
    seeds: Annotated[
        int, typer.Option(help="Number of random seeds, beginning with --seed.", min=1)
    ] = 1,
    audit: Annotated[
        bool,
        typer.Option("--audit", help="Also score optimistic evaluations, to show what they add."),
    ] = False,
    jobs: FoldJobsOption = None,
    engine: TrainingEngineOption = "local",
    address: RayAddressOption = None,
    device: DeviceOption = "cpu",
    runs: RunsOption = Path("runs"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ignore an earlier run, and train again.")
    ] = False,
    trust: TrustOption = None,
    partial: PartialOption = None,
    classes: ClassesOption = None,
    track: TrackOption = None,
) -> None:
    """Train and test a recipe or a model on every fold, or score one as it is; write a report."""
    given = [recipe, model, predictions, transformers]
    if sum(one is not None for one in given) != 1:
        raise ConfigError(
            "give a recipe to train and test, --model to score a saved one, --predictions to score "
            "a table, or --transformers to score an audio classifier; one of these"
        )
    is_own = recipe is not None and ":" in recipe and not recipe.endswith(".toml")
    if predictions or transformers or is_own:
        _refuse_training_options(context, kept=("seed", "seeds", "audit") if is_own else ("audit",))
        run = _evaluate_external(
            predictions or transformers or str(recipe),
            resolve_corpus(corpus, partial),
            kind="table" if predictions else "transformers" if transformers else "own",
            settings=set_ or [],
            features=features,
            labels=parse_labels(labels),
            name=name,
            seed=seed,
            seeds=seeds,
            audit=audit,
            device=device,
            runs=runs,
        )
        _show_results(run.results, run.folder)
        return
    if given_external := [f"--{one}" for one in EXTERNAL_OPTIONS if is_given(context, one)]:
        raise ConfigError(
            f"{', '.join(given_external)}: for models that serein did not build; leave this out"
        )
    if model is not None:
        _refuse_training_options(context)
        run = _score_saved_model(
            model, resolve_corpus(corpus, partial), set_ or [], device, runs, trust or [], classes
        )
        _show_results(run.results, run.folder)
        return
    if classes is not None:
        raise ConfigError(
            "--classes restricts the answers of a saved model; give --model, or drop classes of a "
            "recipe with --set tasks.TASK.map"
        )
    check_settings(str(recipe), set_)
    from serein.evaluation.repeats import evaluate_seeds
    from serein.integrations.tracking import open_tracking

    with open_tracking(track, print_stderr) as tracking:
        run = evaluate_seeds(
            str(recipe),
            resolve_corpus(corpus, partial),
            settings=add_init_setting(set_, init),
            seed=seed,
            seeds=seeds,
            audit=audit,
            jobs=resolve_jobs(jobs, engine),
            engine=engine,
            address=address,
            device=device,
            runs=runs,
            fresh=fresh,
            open_progress=tracking.follow_plans(show_progress),
        )
        if not run.is_new:
            print_stderr(
                f"this evaluation was finished on {run.results.created}; --fresh trains again"
            )
        _show_results(run.results, run.folder)


def _refuse_training_options(context: typer.Context, kept: "Container[str]" = ()) -> None:
    """Reject options that a model would ignore that is not trained from a recipe."""
    names = [name for name in TRAINING_OPTIONS if name not in kept]
    if options := ", ".join(f"--{name}" for name in names if is_given(context, name)):
        if kept:
            raise ConfigError(f"{options}: only recipes take this; leave it out")
        raise ConfigError(f"{options}: a saved model is scored without training; leave this out")


def parse_labels(text: str | None) -> dict[str, str]:
    """Parse ``--labels``.

    >>> parse_labels("ang=anger, hap=happiness")
    {'ang': 'anger', 'hap': 'happiness'}

    Raises:
        ConfigError: a part has no ``=``, or nothing on one of its sides.
    """
    pairs = [part.partition("=") for part in (text or "").split(",") if part.strip()]
    labels = {label.strip(): name.strip() for label, _, name in pairs}
    if not all(label and name for label, name in labels.items()):
        raise ConfigError(f"--labels is {text!r}; expected LABEL=CLASS,LABEL=CLASS")
    return labels


def _load_object(text: str) -> Any:
    """Return an object of a user's module, ``module:name``."""
    from serein.errors import UnknownName
    from serein.registry import import_custom

    module_name, _, name = text.partition(":")
    try:
        module = import_custom(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{text}: {error}. Before the colon stands a module of your own, such as my_models for "
            "my_models.py in the current folder"
        ) from error
    if not hasattr(module, name):
        known = [key for key in vars(module) if not key.startswith("_")]
        raise UnknownName(f"name in {module_name}", name, known)
    return getattr(module, name)


def _evaluate_external(
    source: str | Path,
    corpus: "list[str] | Corpus",
    *,
    kind: Literal["table", "transformers", "own"],
    features: str | None,
    device: str,
    **options: Any,
) -> "Run":
    """Evaluate a model that serein did not build."""
    from serein.api import evaluate as evaluate_any
    from serein.corpora import TABLE_SUFFIXES
    from serein.report.progress import StepProgress

    model: Any = source
    if kind == "table" and not str(source).lower().endswith(TABLE_SUFFIXES):
        raise ConfigError(f"--predictions {source}: expected a table, {', '.join(TABLE_SUFFIXES)}")
    if kind == "transformers":
        from serein.evaluation.audio_classifier import load_audio_classifier

        model = load_audio_classifier(str(source), device=device)
    if kind == "own":
        model = _load_object(str(source))
    own_features = _load_object(features) if features and ":" in features else features
    with StepProgress(console(stderr=True)) as progress:
        return evaluate_any(
            model, corpus, features=own_features, on_step=progress.update, **options
        )


def _score_saved_model(
    model: str,
    corpus: "list[str] | Corpus",
    settings: list[str],
    device: str,
    runs: Path,
    trust: list[str],
    classes: str | None,
) -> "Run":
    """Score a saved model on a corpus, and save the results in a run folder."""
    import hashlib

    from serein.bundle import load
    from serein.evaluation.evaluate import Run
    from serein.evaluation.score_saved import score_model
    from serein.inference.model_loading import find_model_file
    from serein.results import io

    path = find_model_file(model)
    bundle = load(path, device=device, trust=trust)
    results = score_model(bundle, corpus, name=path.stem, settings=settings, classes=classes)
    asked = [settings] if classes is None else [settings, classes]
    content = path.read_bytes() + repr([results.corpus["hash"], *asked]).encode()
    folder = runs / f"{results.name}-{hashlib.sha256(content).hexdigest()[:8]}"
    io.save_record(results, folder)
    return Run(results, folder, is_new=True)


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="Run folders, or results.json files.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the report of the comparison.")
    ] = None,
    intervals: IntervalsOption = None,
) -> None:
    """Test whether one run is better than another, paired on the same utterances."""
    from serein.evaluation.compare import compare as compare_runs
    from serein.metrics.intervals import JACKKNIFE
    from serein.report.comparison import render_terminal, write_comparison

    result = compare_runs(runs, method=intervals or JACKKNIFE)
    console().print(render_terminal(result))
    if output is not None:
        print_paths(write_comparison(result, output))


def report(
    run: Annotated[
        Path,
        typer.Argument(
            help="Folder of a run, search, sweep or reproduction, or a results.json file."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for the report, if another.")
    ] = None,
    intervals: IntervalsOption = None,
) -> None:
    """Print a finished run, search, sweep or reproduction, and write its report again."""
    from serein.results import io
    from serein.results.intervals import recompute_intervals
    from serein.results.reproduction import Reproduction
    from serein.results.studies import Search, Sweep

    names = (io.SEARCH_FILE, io.SWEEP_FILE, io.REPRODUCTION_FILE)
    if intervals and any((run / name).is_file() for name in names):
        raise ConfigError(
            f"{run} holds no predictions, so that its intervals stay as they are: leave out "
            "--intervals, or give it with the folder of an evaluation"
        )
    if (run / io.SEARCH_FILE).is_file():
        search.show_search(io.load_record(Search, run), output or run)
        return
    if (run / io.SWEEP_FILE).is_file():
        sweep.show_sweep(io.load_record(Sweep, run), output or run)
        return
    if (run / io.REPRODUCTION_FILE).is_file():
        reproduce.show_reproduction(io.load_record(Reproduction, run), output or run)
        return
    file = io.resolve_results_file(run)
    if file.name == io.RESULTS_FILE:
        folder = file.parent
    else:
        folder = file.with_name(file.name.split(".json")[0])
    results = io.load_results(run)
    if intervals:
        results = recompute_intervals(results, intervals)
    _show_results(results, output or folder, file)


def protocols(
    corpus: Annotated[
        list[str] | None,
        typer.Option("--corpus", help="Corpus to split; may be given several times."),
    ] = None,
    set_: SetOption = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File for the folds: .json or .csv.")
    ] = None,
    partial: PartialOption = None,
) -> None:
    """List the protocols; or split a corpus, check it for leakage (status 1), write the folds."""
    from rich.table import Table

    from serein.protocols import describe_protocols

    if corpus is None:
        if set_ or output:
            raise ConfigError("--set and --output need a corpus to split; give it with --corpus")
        table = Table("protocol", "description", box=None, header_style="bold")
        for name, description in describe_protocols().items():
            table.add_row(name, description)
        console().print(table)
        return
    _print_split(resolve_corpus(corpus, partial), set_ or [], output)


def _print_split(corpus: "list[str] | Corpus", settings: list[str], output: Path | None) -> None:
    from rich.table import Table

    from serein.evaluation.plan import split_corpus
    from serein.protocols import save

    read, protocol, findings = split_corpus(corpus, settings)
    table = Table("fold", "train", "validation", "test", box=None, header_style="bold")
    for fold in protocol.folds:
        subsets = (fold.train, fold.validation, fold.test)
        table.add_row(fold.name, *(str(len(subset)) for subset in subsets))
    console().print(f"{protocol.name} of {read.name}, hash {protocol.hash}", highlight=False)
    if protocol.caution:
        console().print(protocol.caution, style="bold")
    console().print(table)
    for note in read.notes:
        console().print(f"note: {note}", highlight=False)
    for finding in findings:
        console().print(f"{finding.verdict}: {finding.description}", highlight=False)
    if output is not None:
        save(protocol, output, read.utterances)
        print(output)
    if any(finding.verdict == "error" for finding in findings):
        raise typer.Exit(1)


def _show_results(results: "Results", folder: Path, file: Path | None = None) -> None:
    from serein.report import terminal, write_report

    paths = write_report(results, folder)
    console().print(terminal.render_terminal(results))
    print_paths([file or folder / "results.json", *paths])
