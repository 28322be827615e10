"""Commands that make a model."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serein.cli.common import (
    CorporaOption,
    DeviceOption,
    InitOption,
    PartialOption,
    SeedOption,
    SetOption,
    add_init_setting,
    console,
    count_cores,
    print_stderr,
    resolve_corpus,
    show_progress,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a TOML file.")],
    corpus: CorporaOption,
    output: Annotated[Path, typer.Option("-o", "--output", help="The model to write.")],
    set_: SetOption = None,
    init: InitOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    run: Annotated[
        Path | None, typer.Option(help="An evaluation whose median epoch and scores to take.")
    ] = None,
    confidence: Annotated[
        Path | None, typer.Option(help="An evaluation, on other corpora, that says how sure it is.")
    ] = None,
    card: Annotated[Path | None, typer.Option(help="A TOML file with the card's words.")] = None,
    partial: PartialOption = None,
) -> None:
    """Train on a whole corpus and save the model."""
    from serein.evaluation.train import train as fit
    from serein.system import collect_notes
    from serein.utils import distributed

    made = fit(
        recipe,
        resolve_corpus(corpus, partial),
        output,
        settings=add_init_setting(set_, init),
        seed=seed,
        device=device,
        run=run,
        confidence_run=confidence,
        card=card,
        open_progress=_show_epochs,
    )
    if distributed.get_rank():
        return
    size, epochs = output.stat().st_size / 1e6, made.system.recipe.training["epochs"]
    print(f"{output}: {size:.2f} MB, {epochs} epochs")
    for note in collect_notes(made.system.recipe):
        print_stderr(note)


@contextmanager
def _show_epochs(epochs: int) -> "Iterator[Callable[..., None]]":
    """Show how far a training is."""
    from serein.report.progress import TrainingProgress

    with TrainingProgress(1, epochs, console(stderr=True)) as course:
        yield lambda epoch: course.update("all", epoch)


def recipes() -> None:
    """List the systems of the papers, with their published scores."""
    from rich.table import Table

    from serein import published
    from serein import recipes as shelf

    table = Table("recipe", "paper", "system", "published", box=None, header_style="bold")
    for name in shelf.list_recipes():
        about = shelf.load(name).about
        rows = [row for row in published.find_results(name) if row.subset == "test"]
        printed = "; ".join(map(published.format_result, rows))
        table.add_row(name, str(about.get("paper", "")), str(about.get("system", "")), printed)
    console().print(table)


def quickstart(
    folder: Annotated[Path, typer.Option(help="Where everything is put.")] = Path(
        "runs/quickstart"
    ),
) -> None:
    """Evaluate, train and recognise on generated speech: no network, no data of yours, a minute."""
    from serein.cli.quickstart import run

    run(folder, console(), count_cores(), show_progress)
