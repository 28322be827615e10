"""`serein plan`."""

from pathlib import Path
from typing import Annotated

import typer

from serein.cli.common import (
    CorporaOption,
    DeviceOption,
    FoldJobsOption,
    InitOption,
    PartialOption,
    SeedOption,
    SetOption,
    add_init_setting,
    console,
    resolve_corpus,
    resolve_jobs,
)


def plan(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or a TOML file.")],
    corpus: CorporaOption,
    set_: SetOption = None,
    init: InitOption = None,
    seed: SeedOption = 0,
    seeds: Annotated[
        int, typer.Option(help="Number of random seeds, beginning with --seed.", min=1)
    ] = 1,
    jobs: FoldJobsOption = None,
    device: DeviceOption = "cpu",
    timing: Annotated[
        bool,
        typer.Option(
            "--timing/--no-timing", help="Train for some seconds to estimate the run's hours."
        ),
    ] = True,
    compare_recordings: Annotated[
        bool,
        typer.Option(
            "--compare-recordings",
            help="Read all recordings to find copies, even if that takes long.",
        ),
    ] = False,
    json: Annotated[
        Path | None, typer.Option("--json", help="File for the whole plan, as JSON.")
    ] = None,
    partial: PartialOption = None,
) -> None:
    """Show what `evaluate` would use, leave out and take; train nothing (status 1: it leaks)."""
    from serein.evaluation.dry_run import find_leak_errors, plan_run
    from serein.report.plan import render_plan
    from serein.results import io

    planned = plan_run(
        recipe,
        resolve_corpus(corpus, partial),
        settings=add_init_setting(set_, init),
        seed=seed,
        seeds=seeds,
        jobs=resolve_jobs(jobs, "local") or 1,
        device=device,
        measure_time=timing,
        compare_recordings=compare_recordings,
    )
    console().print(render_plan(planned))
    if json is not None:
        io.save_record(planned, json)
        print(json)
    if find_leak_errors(planned):
        raise typer.Exit(1)
