"""`serein sweep`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    add_init_setting,
    check_settings,
    console,
    print_paths,
    resolve_corpus,
    resolve_jobs,
    show_progress,
)

if TYPE_CHECKING:
    from serein.results.evaluation import Results
    from serein.results.studies import Sweep


def sweep(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or a TOML file.")],
    corpus: CorporaOption,
    setting: Annotated[
        str,
        typer.Option(help="Setting and values: protocol.auxiliary_share=0,0.25,0.5,0.75,1."),
    ],
    seeds: Annotated[
        int, typer.Option(help="Number of random seeds, beginning with --seed.", min=1)
    ] = 1,
    set_: SetOption = None,
    init: InitOption = None,
    seed: SeedOption = 0,
    jobs: FoldJobsOption = None,
    engine: TrainingEngineOption = "local",
    address: RayAddressOption = None,
    device: DeviceOption = "cpu",
    runs: RunsOption = Path("runs"),
    partial: PartialOption = None,
) -> None:
    """Evaluate each value of a setting with several seeds, and test for a trend; resumable."""
    check_settings(recipe, set_)
    from serein.evaluation.sweep import sweep as run_sweep

    result = run_sweep(
        recipe,
        resolve_corpus(corpus, partial),
        setting,
        seeds=seeds,
        seed=seed,
        settings=add_init_setting(set_, init),
        jobs=resolve_jobs(jobs, engine),
        engine=engine,
        address=address,
        device=device,
        runs=runs,
        open_progress=show_progress,
        on_evaluation=_print_value,
    )
    show_sweep(result, runs / result.name)


def _print_value(setting: str, results: "Results") -> None:
    from serein.report.sweep import describe_run

    console(stderr=True).print(describe_run(setting, results), highlight=False, soft_wrap=True)


def show_sweep(result: "Sweep", folder: Path) -> None:
    """Print a sweep, and write its report."""
    from serein.report.sweep import render_sweep, write_sweep

    paths = write_sweep(result, folder)
    console().print(render_sweep(result))
    print_paths([folder / "sweep.json", *paths])
