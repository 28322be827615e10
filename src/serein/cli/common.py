"""What several commands use: options, output to the terminal, progress bars."""

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from serein.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import Console

    from serein.records import Corpus

T = TypeVar("T")

_CORPORA = typer.Option(
    "--corpus",
    help="NAME, NAME=FOLDER or NAME=TABLE (csv, tsv, jsonl, parquet), with columns of other names "
    "as NAME=TABLE,speaker=COLUMN,text=COLUMN; may be given several times.",
)
CorporaOption = Annotated[list[str], _CORPORA]
OptionalCorporaOption = Annotated[list[str] | None, _CORPORA]
PartialOption = Annotated[
    bool | None, typer.Option("--partial", help="Accept a corpus of which files are missing.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting: --set training.epochs=20.")
]
InitOption = Annotated[
    str | None,
    typer.Option("--init", help="Start from the weights of a bundle or a shipped model."),
]
SeedOption = Annotated[int, typer.Option(help="Random seed.", min=0)]
RunsOption = Annotated[Path, typer.Option(help="Folder in which run folders are created.")]
FoldJobsOption = Annotated[
    int | None,
    typer.Option("--jobs", help="Folds to train at a time; default: one per core.", min=1),
]
TrainingEngineOption = Annotated[
    str, typer.Option("--engine", help="Where folds are trained: local or ray.")
]
RayAddressOption = Annotated[
    str | None, typer.Option(help="Head of the Ray cluster, HOST:PORT; default: RAY_ADDRESS.")
]
TrackOption = Annotated[
    str | None,
    typer.Option(
        "--track", help="Send losses, scores, settings and files to mlflow, trackio or wandb."
    ),
]
MODEL_HELP = (
    "A bundle, or a shipped model: serein-base, serein-light, li2019-emodb, or "
    "serein-base-noncommercial (for non-commercial use only); or hf://ORG/NAME of the hub"
)
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
BackendOption = Annotated[
    str,
    typer.Option(
        help="What computes the model: torch, onnx (starts faster, without torch), or auto: onnx "
        "where the model has an ONNX form and the other options allow it."
    ),
]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        "--classes",
        help="Answer among these classes of the model's first task only, such as "
        "anger,happiness,neutral,sadness.",
    ),
]
TrustOption = Annotated[
    list[str] | None, typer.Option(help="A Python module of yours that the model may import.")
]
ConfidenceOption = Annotated[
    str, typer.Option(help="Withhold labels of lower confidence: 0 to 1, or auto.")
]


def resolve_corpus(corpus: list[str], partial: bool | None) -> "list[str] | Corpus":
    """Return the names of the corpora, or with ``--partial`` the corpus that they give."""
    from serein import corpora

    return corpora.as_corpus(corpus, partial=True) if partial else corpus


def add_init_setting(settings: list[str] | None, init: str | None) -> list[str]:
    """Add ``--init`` to the settings, as ``training.init``.

    Raises:
        ConfigError: ``training.init`` is set, too.
    """
    settings = settings or []
    if init is None:
        return settings
    if any(setting.partition("=")[0].strip() == "training.init" for setting in settings):
        raise ConfigError("--init and --set training.init mean the same; give only one of them")
    from serein import config
    from serein.inference.model_loading import find_model_file

    return [*settings, config.format_setting("training.init", str(find_model_file(init)))]


def is_given(context: typer.Context, name: str) -> bool:
    """Return whether a parameter of the command was typed, and is not its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def resolve_jobs(jobs: int | None, engine: str) -> int | None:
    """Return ``--jobs``; by default one per core of this machine, or None for a cluster."""
    return jobs or (count_cores() if engine == "local" else None)


def count_cores() -> int:
    """Count the cores that this process may use."""
    import os

    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def parse_confidence(text: str) -> float | Literal["auto"]:
    """Parse ``--confidence``: a number, or auto."""
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--confidence is {text!r}; expected 0 to 1, or auto") from None


def use_renamed_option(old: str, new: str, old_value: T | None, new_value: T) -> T:
    """Return the value of an option that has an old name, too; warn if the old name was used."""
    if old_value is None:
        return new_value
    print_stderr(f"{old} is now {new}; the old name works in this release")
    return old_value


@contextmanager
def show_progress(plan: Any) -> "Iterator[Callable[..., None]]":
    """Print what an evaluation will do, and show a progress bar while it runs."""
    from serein.evaluation.plan import describe_plan
    from serein.report.progress import TrainingProgress

    screen = console(stderr=True)
    folds, epochs = len(plan.protocol.folds), plan.training.epochs
    head, *rest = describe_plan(plan)
    for line in (f"{head}, in {plan.folder}", *rest):
        screen.print(line, highlight=False, soft_wrap=True, markup=False)
    with TrainingProgress(folds, epochs, screen) as progress:
        yield progress


def check_settings(recipe: str, settings: list[str] | None) -> None:
    """Check the settings of split and training, before anything large is imported or read.

    Raises:
        UnknownName: there is no recipe, table or setting of that name.
        ConfigError: a setting is out of range.
    """
    from serein import config, recipes
    from serein.protocols import SplitConfig

    tables = recipes.load(recipe, settings or [])
    config.build_config(SplitConfig, tables.protocol, "protocol")
    from serein.training.config import TrainingConfig

    config.build_config(TrainingConfig, tables.training, "training")


def console(*, stderr: bool = False) -> "Console":
    """Return a console for standard output or standard error."""
    from rich.console import Console

    return Console(stderr=stderr)


def print_paths(paths: "Iterable[Path]") -> None:
    """Print the files that a command wrote, a line each, after an empty line."""
    print("\n" + "\n".join(map(str, paths)))


def print_stderr(message: str) -> None:
    """Print one line to standard error."""
    print(f"serein: {' '.join(message.split())}", file=sys.stderr)
