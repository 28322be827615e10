"""`serein train`, `recipes` and `quickstart`."""

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
    TrackOption,
    add_init_setting,
    check_settings,
    console,
    count_cores,
    print_stderr,
    resolve_corpus,
    show_progress,
    use_renamed_option,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from serein.evaluation.utterance_filter import FilteredCorpus


def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or a TOML file.")],
    corpus: CorporaOption,
    output: Annotated[Path, typer.Option("-o", "--output", help="File of the model.")],
    set_: SetOption = None,
    init: InitOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    run: Annotated[
        Path | None,
        typer.Option(help="Evaluation whose median epoch and scores are used."),
    ] = None,
    calibration_run: Annotated[
        Path | None,
        typer.Option(help="Evaluation on further corpora from which the confidence is calibrated."),
    ] = None,
    card: Annotated[Path | None, typer.Option(help="TOML file with the texts of the card.")] = None,
    partial: PartialOption = None,
    track: TrackOption = None,
    confidence: Annotated[Path | None, typer.Option("--confidence", hidden=True)] = None,
) -> None:
    """Train on everything that the recipe selects, and save the model."""
    check_settings(recipe, set_)
    from serein.bundle import count_megabytes
    from serein.evaluation.plan import describe_dropped_settings, resolve_recipe
    from serein.evaluation.train import train as train_model
    from serein.integrations.tracking import open_tracking
    from serein.system import collect_notes
    from serein.utils import distributed

    calibration_run = use_renamed_option(
        "--confidence", "--calibration-run", confidence, calibration_run
    )
    settings = add_init_setting(set_, init)
    with open_tracking(None if distributed.get_rank() else track, print_stderr) as tracking:
        facts = {"corpus": ", ".join(corpus), "seed": seed}
        bundle = train_model(
            recipe,
            resolve_corpus(corpus, partial),
            output,
            settings=settings,
            seed=seed,
            device=device,
            run=run,
            calibration_run=calibration_run,
            card=card,
            open_progress=tracking.follow_training(
                show_epochs, output, lambda: resolve_recipe(recipe, settings), facts
            ),
            on_filtered_corpus=_print_filtered_corpus,
        )
    if distributed.get_rank():
        return
    size, epochs = output.stat().st_size / 1e6, bundle.system.recipe.training["epochs"]
    asr = bundle.asr
    share = f", of which the recogniser {count_megabytes(asr.system):.2f} MB" if asr else ""
    print(f"{output}: {size:.2f} MB{share}, {epochs} epochs")
    recipe_used = bundle.system.recipe
    limits = []
    if init:
        limits = [f"licence: {bundle.card.licence}", *filter(None, [bundle.card.limits])]
    for note in [*describe_dropped_settings(recipe_used), *collect_notes(recipe_used), *limits]:
        print_stderr(note)


def _print_filtered_corpus(filtered: "FilteredCorpus") -> None:
    """Print which utterances train, and what is left out."""
    from serein.evaluation.utterance_filter import describe_filtered_corpus
    from serein.utils import distributed

    if not distributed.get_rank():
        line = f"trains on {describe_filtered_corpus(filtered)}"
        console(stderr=True).print(line, highlight=False, soft_wrap=True, markup=False)


@contextmanager
def show_epochs(epochs: int) -> "Iterator[Callable[..., None]]":
    """Show a progress bar while a model is trained."""
    from serein.report.progress import TrainingProgress

    with TrainingProgress(1, epochs, console(stderr=True)) as progress:
        yield progress.bind("all")


def recipes() -> None:
    """List the recipes, with the published scores of their papers."""
    from rich.table import Table

    from serein import published, recipes

    table = Table("recipe", "paper", "system", "published", box=None, header_style="bold")
    for name in recipes.list_recipes():
        about = recipes.load(name).about
        results = [one for one in published.find_results(name) if one.subset == "test"]
        scores = "; ".join(map(published.format_result, results))
        table.add_row(name, str(about.get("paper", "")), str(about.get("system", "")), scores)
    console().print(table)


def quickstart(
    folder: Annotated[Path, typer.Option(help="Folder for everything that is created.")] = Path(
        "runs/quickstart"
    ),
) -> None:
    """Evaluate, train and recognize on generated speech: a minute, without network or data."""
    from serein.cli.quickstart import run_quickstart

    run_quickstart(folder, console(), count_cores(), show_progress)
