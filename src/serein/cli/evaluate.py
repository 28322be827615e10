"""`serein evaluate`, `compare`, `report` and `protocols`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
    TrainingEngineOption,
    TrustOption,
    add_init_setting,
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

TRAINING_OPTIONS = ("init", "seed", "seeds", "audit", "jobs", "engine", "address", "fresh")
"""Options of `evaluate` that apply only where a recipe is trained."""


def evaluate(
    context: typer.Context,
    corpus: CorporaOption,
    recipe: Annotated[str | None, typer.Argument(help="Name of a recipe, or a TOML file.")] = None,
    model: Annotated[
        str | None,
        typer.Option("-m", "--model", help="Score this saved model; nothing is trained."),
    ] = None,
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
) -> None:
    """Train and test a recipe on every fold, or score a saved model; write a report."""
    if (recipe is None) == (model is None):
        raise ConfigError("give a recipe to train and test, or --model to score a saved one")
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
    from serein.evaluation.repeats import evaluate_seeds

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
        open_progress=show_progress,
    )
    if not run.is_new:
        print_stderr(f"this evaluation was finished on {run.results.created}; --fresh trains again")
    _show_results(run.results, run.folder)


def _refuse_training_options(context: typer.Context) -> None:
    """Reject options that a saved model would ignore."""
    given = [name for name in TRAINING_OPTIONS if is_given(context, name)]
    if given:
        options = ", ".join(f"--{name}" for name in given)
        raise ConfigError(f"{options}: a saved model is scored without training; leave this out")


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
