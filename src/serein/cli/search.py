"""`serein search`."""

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
    check_settings,
    console,
    print_paths,
    resolve_jobs,
    show_progress,
)

if TYPE_CHECKING:
    from serein.results.studies import Search, Trial


def search(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or a TOML file.")],
    corpus: CorporaOption,
    over: Annotated[
        list[str] | None,
        typer.Option(
            help="Settings to search: tasks.gender.weight=0..1, training.rate=1e-4..1e-2:log, "
            "training.batch=16,32,64; default: the weights of all tasks except the first."
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="Total number of trials.", min=1)] = 20,
    set_: SetOption = None,
    seed: Annotated[
        int, typer.Option(help="Random seed of the sampled settings and of all trainings.", min=0)
    ] = 0,
    jobs: FoldJobsOption = None,
    engine: TrainingEngineOption = "local",
    address: RayAddressOption = None,
    device: DeviceOption = "cpu",
    runs: RunsOption = Path("runs"),
    storage: Annotated[
        str | None,
        typer.Option(
            help="Storage shared by several processes: a URL for Optuna, or a file; default: a "
            "file in the folder of the search."
        ),
    ] = None,
    partial: PartialOption = None,
) -> None:
    """Sample settings at random and rank them by validation speakers; resumable and shareable."""
    check_settings(recipe, set_)
    from serein.evaluation.search import search as run_search

    result = run_search(
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
    show_search(result, runs / result.name)
    if any(trial.state == "failed" for trial in result.trials):
        raise typer.Exit(1)


def _print_trial(trial: "Trial", search: "Search") -> None:
    from serein.report.search import describe_trial

    console(stderr=True).print(describe_trial(trial, search), highlight=False, soft_wrap=True)


def show_search(search: "Search", folder: Path) -> None:
    """Print a search, and write its report."""
    from serein.report.search import render_search, write_search

    paths = write_search(search, folder)
    console().print(render_search(search))
    if search.evaluation:
        print(f"\nThe settings of the best trial, scored on test speakers:\n{search.evaluation}")
    print_paths([folder / "search.json", *paths])
