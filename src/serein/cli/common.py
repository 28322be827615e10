"""What the commands share: options, the console, and how a run is shown."""

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serein.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from serein.records import Corpus

_CORPORA = typer.Option(
    "--corpus",
    help="NAME, NAME=FOLDER or NAME=TABLE (csv, tsv, jsonl, parquet); several act as one.",
)
CorporaOption = Annotated[list[str], _CORPORA]
OptionalCorporaOption = Annotated[list[str] | None, _CORPORA]
PartialOption = Annotated[
    bool | None,
    typer.Option("--partial", help="Take what is there of a corpus, however much is missing."),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting: --set training.epochs=20.")
]
InitOption = Annotated[
    str | None, typer.Option("--init", help="Start from a shipped model's name, or a bundle.")
]
SeedOption = Annotated[int, typer.Option(help="Of weights, order and dropout.", min=0)]
RunsOption = Annotated[Path, typer.Option(help="Where run folders are made.")]
FoldJobsOption = Annotated[
    int | None,
    typer.Option("--jobs", help="Folds at a time; default: one a core, here or there.", min=1),
]
TrainingEngineOption = Annotated[str, typer.Option("--engine", help="Who trains: local, or ray.")]
RayAddressOption = Annotated[
    str | None, typer.Option(help="The Ray cluster's head, HOST:PORT; default: RAY_ADDRESS.")
]
MODEL_HELP = (
    "A bundle, or a shipped model: serein-base, li2019-emodb, or serein-base-noncommercial, which "
    "is for non-commercial use alone"
)
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, or auto.")]
TrustOption = Annotated[
    list[str] | None, typer.Option(help="A module of your own that the model may import.")
]


def resolve_corpus(corpus: list[str], partial: bool | None) -> "list[str] | Corpus":
    """What to read; where a part of it will do, it is read already."""
    from serein import corpora

    return corpora.read(corpus, partial=True) if partial else corpus


def add_init_setting(settings: list[str] | None, init: str | None) -> list[str]:
    """What was set, and where training starts, as a setting too."""
    if init is None:
        return settings or []
    if any(one.partition("=")[0].strip() == "training.init" for one in settings or []):
        raise ConfigError("--init and --set training.init say the same thing; give one")
    from serein import config
    from serein.inference.recognizer import find_model_file

    return [*(settings or []), config.format_setting("training.init", str(find_model_file(init)))]


@contextmanager
def show_progress(plan: Any) -> "Iterator[Callable[..., None]]":
    """Say what will be done, and show how far it is."""
    from serein.report.progress import TrainingProgress

    screen = console(stderr=True)
    folds, epochs = len(plan.protocol.folds), plan.training.epochs
    screen.print(
        f"{plan.recipe.name} on {plan.corpus.name}: {len(plan.corpus.utterances)} utterances, "
        f"{plan.protocol.name}, {folds} folds x {epochs} epochs, in {plan.folder}",
        highlight=False,
        soft_wrap=True,
    )
    with TrainingProgress(folds, epochs, screen) as course:
        yield course.update


def console(*, stderr: bool = False) -> "Console":
    """Where words go."""
    from rich.console import Console

    return Console(stderr=stderr)


def print_stderr(message: str) -> None:
    """One line to the standard error."""
    print(f"serein: {' '.join(message.split())}", file=sys.stderr)


def resolve_jobs(jobs: int | None, engine: str) -> int | None:
    """What was typed, or one a core of this machine; a cluster knows its own."""
    return jobs or (count_cores() if engine == "local" else None)


def count_cores() -> int:
    """How many this process may use."""
    import os

    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1
