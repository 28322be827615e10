"""The command that sweeps one setting."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    begun,
    console,
    folds_at_once,
    meant,
    shown,
)

if TYPE_CHECKING:
    from serein.results import Results
    from serein.sweeps import Sweep


def sweep(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a TOML file.")],
    corpus: CorporaOption,
    setting: Annotated[str, typer.Option(help="What to sweep: protocol.share=0,0.25,0.5,0.75,1.")],
    seeds: Annotated[int, typer.Option(help="How many, from the first one on.", min=1)] = 1,
    set_: SetOption = None,
    init: InitOption = None,
    seed: SeedOption = 0,
    jobs: FoldsOption = None,
    engine: HandsOption = "local",
    address: AddressOption = None,
    device: DeviceOption = "cpu",
    runs: RunsOption = Path("runs"),
    partial: PartialOption = None,
) -> None:
    """Evaluate each value of a setting with several seeds, and look for a trend; resumable."""
    from serein.experiment.sweep import sweep as swept

    done = swept(
        recipe,
        meant(corpus, partial),
        setting,
        seeds=seeds,
        seed=seed,
        settings=begun(set_, init),
        jobs=folds_at_once(jobs, engine),
        engine=engine,
        address=address,
        device=device,
        runs=runs,
        started=shown,
        told=_tell,
    )
    show(done, runs / done.name)


def _tell(setting: str, results: "Results") -> None:
    from serein.report import sweeps

    console(stderr=True).print(sweeps.line(setting, results), highlight=False, soft_wrap=True)


def show(found: "Sweep", folder: Path) -> None:
    """Print a sweep, and write its report."""
    from serein.report import sweeps

    paths = sweeps.write(found, folder)
    console().print(sweeps.render(found))
    print("\n" + "\n".join(map(str, [folder / "sweep.json", *paths])))
