"""`serein reproduce`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serein.cli.common import (
    CorporaOption,
    DeviceOption,
    FoldJobsOption,
    RayAddressOption,
    RunsOption,
    SeedOption,
    SetOption,
    TrainingEngineOption,
    console,
    print_paths,
    resolve_jobs,
    show_progress,
)

if TYPE_CHECKING:
    from serein.results.reproduction import Reproduction


def reproduce(
    paper: Annotated[str, typer.Argument(help="feng2020, fu2020, li2019 or zhang2019.")],
    corpus: CorporaOption,
    table: Annotated[
        list[str] | None,
        typer.Option(help='Table to reproduce: 2, or "section 5.4"; default: all.'),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="Another way to run the rows, such as validation; default: paper."),
    ] = None,
    recipe_suffix: Annotated[
        str,
        typer.Option(help="Recipes for other corpora: emodb runs li2019-emodb for li2019."),
    ] = "",
    asr: Annotated[
        Path | None,
        typer.Option(help="Saved speech recogniser for the rows of feng2020 that need one."),
    ] = None,
    set_: SetOption = None,
    seed: SeedOption = 0,
    seeds: Annotated[
        int, typer.Option(help="Number of random seeds, beginning with --seed.", min=1)
    ] = 1,
    jobs: FoldJobsOption = None,
    engine: TrainingEngineOption = "local",
    address: RayAddressOption = None,
    device: DeviceOption = "cpu",
    runs: RunsOption = Path("runs"),
    partial: Annotated[
        bool, typer.Option("--partial", help="Train nothing; report the runs that are finished.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder for the report; default: in the runs' folder."),
    ] = None,
) -> None:
    """Run all rows of a paper's tables, and write one report of the paper's figures and ours.

    Finished runs are read from their folders, and an interrupted reproduction is resumed by the
    same command. A row that lacks a corpus or fails is listed with the reason.
    """
    from serein.cli.train import show_epochs
    from serein.evaluation.reproduce import reproduce as reproduce_paper
    from serein.results import io
    from serein.results.reproduction import FAILED

    result = reproduce_paper(
        paper,
        corpus,
        tables=table or (),
        variants=variant or (),
        recipe_suffix=recipe_suffix,
        settings=set_ or (),
        seed=seed,
        seeds=seeds,
        jobs=resolve_jobs(jobs, engine),
        engine=engine,
        address=address,
        device=device,
        runs=runs,
        asr=asr,
        only_finished=partial,
        open_progress=show_progress,
        open_training=show_epochs,
    )
    folder = output or runs / result.name
    io.save_record(result, folder)
    show_reproduction(result, folder)
    if any(own.state == FAILED for row in result.rows for own in row.own):
        raise typer.Exit(1)


def show_reproduction(result: "Reproduction", folder: Path) -> None:
    """Print a reproduction, and write its report."""
    from serein.report.reproduction import render_terminal, write_reproduction

    paths = write_reproduction(result, folder)
    console().print(render_terminal(result))
    print_paths([folder / "reproduction.json", *paths])
