"""Commands that judge: evaluations, comparisons and their reports."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serein.cli import search, sweep
from serein.cli.common import (
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

TRAINING_OPTIONS = ("init", "seed", "seeds", "audit", "jobs", "engine", "address", "fresh")
"""Options of an evaluation that trains."""


def evaluate(
    context: typer.Context,
    corpus: CorporaOption,
    recipe: Annotated[str | None, typer.Argument(help="A recipe's name, or a TOML file.")] = None,
    model: Annotated[
        str | None, typer.Option("-m", "--model", help="Score this saved model instead.")
    ] = None,
    set_: SetOption = None,
    init: InitOption = None,
    seed: SeedOption = 0,
    seeds: Annotated[int, typer.Option(help="How many, from the first one on.", min=1)] = 1,
    audit: Annotated[
        bool, typer.Option("--audit", help="Measure what fooling oneself would be worth here.")
    ] = False,
    jobs: FoldJobsOption = None,
    engine: TrainingEngineOption = "local",
    address: RayAddressOption = None,
    device: DeviceOption = "cpu",
    runs: RunsOption = Path("runs"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an earlier run.")] = False,
    trust: TrustOption = None,
    partial: PartialOption = None,
) -> None:
    """Train and test a recipe on every fold, or score a saved model; write a report."""
    if (recipe is None) == (model is None):
        raise ConfigError("give a recipe to train and test, or --model to score a saved one")
    if model is not None:
        _refuse_training_options(context)
        read = resolve_corpus(corpus, partial)
        results, folder, _ = _score_saved_model(model, read, set_ or [], device, runs, trust or [])
        _show_results(results, folder)
        return
    from serein.evaluation.repeats import evaluate_seeds

    results, folder, anew = evaluate_seeds(
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
        started=show_progress,
    )
    if not anew:
        print_stderr(f"finished {results.created} and read from disk; --fresh runs it again")
    _show_results(results, folder)


def _refuse_training_options(context: typer.Context) -> None:
    """Nothing that was typed may be ignored."""
    typed = [name for name in TRAINING_OPTIONS if _is_typed(context, name)]
    if typed:
        options = ", ".join(f"--{name}" for name in typed)
        raise ConfigError(f"{options}: a saved model is scored as it is; leave that out")


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _score_saved_model(
    model: str,
    corpus: "list[str] | Corpus",
    settings: list[str],
    device: str,
    runs: Path,
    trust: list[str],
) -> "Run":
    import hashlib

    from serein.bundle import load
    from serein.evaluation.evaluate import Run
    from serein.evaluation.score_saved import score_model
    from serein.inference.recognizer import find_model_file
    from serein.results import io

    path = find_model_file(model)
    saved = load(path, device=device, trust=trust)
    results = score_model(saved, corpus, name=path.stem, settings=settings)
    content = path.read_bytes() + repr([results.corpus["hash"], settings]).encode()
    folder = runs / f"{results.name}-{hashlib.sha256(content).hexdigest()[:8]}"
    io.save_results(results, folder)
    return Run(results, folder, is_new=True)


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="Run folders or results.json files.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A folder for the comparison's pages.")
    ] = None,
) -> None:
    """Say whether one run is better than another, paired on the same utterances."""
    from serein.evaluation.compare import compare as compared
    from serein.report import comparison

    found = compared(runs)
    console().print(comparison.render_terminal(found))
    if output is not None:
        print("\n" + "\n".join(map(str, comparison.write_comparison(found, output))))


def report(
    run: Annotated[
        Path,
        typer.Argument(help="A run's, search's or sweep's folder, or a results.json."),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Another folder for the report.")
    ] = None,
) -> None:
    """Show a finished run, search or sweep again, and write its report anew."""
    from serein.results import io

    if (run / io.SEARCH_FILE).is_file():
        search.show_search(io.load_search(run), output or run)
        return
    if (run / io.SWEEP_FILE).is_file():
        sweep.show_sweep(io.load_sweep(run), output or run)
        return
    file = io.resolve_results_file(run)
    beside = (
        file.parent if file.name == io.RESULTS_FILE else file.with_name(file.name.split(".json")[0])
    )
    _show_results(io.load_results(run), output or beside, file)


def protocols(
    corpus: Annotated[
        list[str] | None, typer.Option("--corpus", help="Split this; several are read as one.")
    ] = None,
    set_: SetOption = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the folds: .json or .csv.")
    ] = None,
    partial: PartialOption = None,
) -> None:
    """List the ways to split; or split a corpus, look for leaks (status 1), write the folds."""
    from rich.table import Table

    from serein import protocols as shelf

    if corpus is None:
        if set_ or output:
            raise ConfigError("--set and --output split a corpus: name it with --corpus")
        table = Table("protocol", "what", box=None, header_style="bold")
        for name, words in shelf.describe_protocols().items():
            table.add_row(name, words)
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
        sides = (fold.train, fold.validation, fold.test)
        table.add_row(fold.name, *(str(len(side)) for side in sides))
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
    print("\n" + "\n".join(map(str, [file or folder / "results.json", *paths])))
