"""The command that sweeps one setting."""

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
    console,
    resolve_corpus,
    resolve_jobs,
    show_progress,
)

if TYPE_CHECKING:
    from serein.results.evaluation import Results
    from serein.results.studies import Sweep


def sweep(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a TOML file.")],
    corpus: CorporaOption,
    setting: Annotated[
        str, typer.Option(help="What to sweep: protocol.auxiliary_share=0,0.25,0.5,0.75,1.")
    ],
    seeds: Annotated[int, typer.Option(help="How many, from the first one on.", min=1)] = 1,
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
    """Evaluate each value of a setting with several seeds, and look for a trend; resumable."""
    from serein.evaluation.sweep import sweep as swept

    done = swept(
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
        started=show_progress,
        on_evaluation=_print_value,
    )
    show_sweep(done, runs / done.name)


def _print_value(setting: str, results: "Results") -> None:
    from serein.report import sweep as sweeps

    console(stderr=True).print(
        sweeps.describe_run(setting, results), highlight=False, soft_wrap=True
    )


def show_sweep(result: "Sweep", folder: Path) -> None:
    """Print a sweep, and write its report."""
    from serein.report import sweep as sweeps

    paths = sweeps.write_sweep(result, folder)
    console().print(sweeps.render_sweep(result))
    print("\n" + "\n".join(map(str, [folder / "sweep.json", *paths])))
