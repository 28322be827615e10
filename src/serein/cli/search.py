"""The command that searches settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serein.cli.common import (
    CorporaOption,
    DeviceOption,
    FoldJobsOption,
    PartialOption,
    RayAddressOption,
    RunsOption,
    SetOption,
    TrainingEngineOption,
    console,
    resolve_jobs,
    show_progress,
)

if TYPE_CHECKING:
    from serein.results.studies import Search, Trial


def search(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a TOML file.")],
    corpus: CorporaOption,
    over: Annotated[
        list[str] | None,
        typer.Option(
            help="What to draw from: tasks.gender.weight=0..1, training.rate=1e-4..1e-2:log, "
            "training.batch=16,32,64; default: the weights of all tasks but the first."
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="How many in all.", min=1)] = 20,
    set_: SetOption = None,
    seed: Annotated[int, typer.Option(help="Of the draws and of every training.", min=0)] = 0,
    jobs: FoldJobsOption = None,
    engine: TrainingEngineOption = "local",
    address: RayAddressOption = None,
    device: DeviceOption = "cpu",
    runs: RunsOption = Path("runs"),
    storage: Annotated[
        str | None,
        typer.Option(
            help="Where trials are shared: a URL that Optuna understands, or a file; default: a "
            "file in the search's folder."
        ),
    ] = None,
    partial: PartialOption = None,
) -> None:
    """Draw settings at random and rank them on validation speakers; resumable and shareable."""
    from serein.evaluation.search import search as found

    done = found(
        recipe,
        corpus,
        over or (),
        trials=trials,
        seed=seed,
        settings=set_ or (),
        jobs=resolve_jobs(jobs, engine),
        engine=engine,
        address=address,
        device=device,
        runs=runs,
        storage=storage,
        partial=partial,
        open_progress=show_progress,
        on_trial=_print_trial,
    )
    show_search(done, runs / done.name)
    if any(one.state == "failed" for one in done.trials):
        raise typer.Exit(1)


def _print_trial(trial: "Trial", search: "Search") -> None:
    from serein.report import search as trials

    console(stderr=True).print(
        trials.describe_trial(trial, search), highlight=False, soft_wrap=True
    )


def show_search(search: "Search", folder: Path) -> None:
    """Print a search, and write its report."""
    from serein.report import search as trials

    paths = trials.write_search(search, folder)
    console().print(trials.render_search(search))
    if search.evaluation:
        print(f"\nThe best trial's settings, on test speakers:\n{search.evaluation}")
    print("\n" + "\n".join(map(str, [folder / "search.json", *paths])))
