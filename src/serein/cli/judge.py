"""Commands that judge: evaluations, comparisons and their reports."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serein.cli import search, sweep
from serein.cli.shared import (
    AddressOption,
    CorporaOption,
    DeviceOption,
    FoldsOption,
    HandsOption,
    InitOption,
    PartialOption,
    RunsOption,
    SeedOption,
    SetOption,
    TrustOption,
    begun,
    complain,
    console,
    folds_at_once,
    meant,
    shown,
)
from serein.errors import ConfigError

if TYPE_CHECKING:
    from serein.experiment.evaluate import Run
    from serein.records import Corpus
    from serein.results import Results

OF_TRAINING = ("init", "seed", "seeds", "audit", "jobs", "engine", "address", "fresh")
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
    jobs: FoldsOption = None,
    engine: HandsOption = "local",
    address: AddressOption = None,
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
        _refuse(context)
        read = meant(corpus, partial)
        results, folder, _ = _judged(model, read, set_ or [], device, runs, trust or [])
        _show(results, folder)
        return
    from serein.experiment.repeat import repeat

    results, folder, anew = repeat(
        str(recipe),
        meant(corpus, partial),
        settings=begun(set_, init),
        seed=seed,
        seeds=seeds,
        audit=audit,
        jobs=folds_at_once(jobs, engine),
        engine=engine,
        address=address,
        device=device,
        runs=runs,
        fresh=fresh,
        started=shown,
    )
    if not anew:
        complain(f"finished {results.created} and read from disk; --fresh runs it again")
    _show(results, folder)


def _refuse(context: typer.Context) -> None:
    """Nothing that was typed may be ignored."""
    typed = [name for name in OF_TRAINING if _is_typed(context, name)]
    if typed:
        options = ", ".join(f"--{name}" for name in typed)
        raise ConfigError(f"{options}: a saved model is scored as it is; leave that out")


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _judged(
    model: str,
    corpus: "list[str] | Corpus",
    settings: list[str],
    device: str,
    runs: Path,
    trust: list[str],
) -> "Run":
    import hashlib

    from serein import store
    from serein.bundle import load
    from serein.experiment.evaluate import Run
    from serein.experiment.judge import judge
    from serein.inference.recognizer import located

    path = located(model)
    saved = load(path, device=device, trust=trust)
    results = judge(saved, corpus, name=path.stem, settings=settings)
    content = path.read_bytes() + repr([results.corpus["hash"], settings]).encode()
    folder = runs / f"{results.name}-{hashlib.sha256(content).hexdigest()[:8]}"
    store.save(results, folder)
    return Run(results, folder, anew=True)


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="Run folders or results.json files.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A folder for the comparison's pages.")
    ] = None,
) -> None:
    """Say whether one run is better than another, paired on the same utterances."""
    from serein.experiment.compare import compare as compared
    from serein.report import comparison

    found = compared(runs)
    console().print(comparison.render(found))
    if output is not None:
        print("\n" + "\n".join(map(str, comparison.write(found, output))))


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
    from serein import store

    if (run / store.SEARCH).is_file():
        search.show(store.load_search(run), output or run)
        return
    if (run / store.SWEEP).is_file():
        sweep.show(store.load_sweep(run), output or run)
        return
    file = store.results_file(run)
    beside = file.parent if file.name == store.NAME else file.with_name(file.name.split(".json")[0])
    _show(store.load(run), output or beside, file)


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
        for name, words in shelf.describe().items():
            table.add_row(name, words)
        console().print(table)
        return
    _split(meant(corpus, partial), set_ or [], output)


def _split(corpus: "list[str] | Corpus", settings: list[str], output: Path | None) -> None:
    from rich.table import Table

    from serein.experiment.plan import split
    from serein.protocols import save

    read, protocol, findings = split(corpus, settings)
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
        console().print(f"{finding.verdict}: {finding.words}", highlight=False)
    if output is not None:
        save(protocol, output, read.utterances)
        print(output)
    if any(finding.verdict == "error" for finding in findings):
        raise typer.Exit(1)


def _show(results: "Results", folder: Path, file: Path | None = None) -> None:
    from serein.report import terminal, write_all

    paths = write_all(results, folder)
    console().print(terminal.render(results))
    print("\n" + "\n".join(map(str, [file or folder / "results.json", *paths])))
