"""A folder of recordings to a table, as `serein recognize` does it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serein.cli.common import console, count_cores, print_stderr
from serein.errors import ConfigError

if TYPE_CHECKING:
    from serein.inference.folder import Summary
    from serein.inference.recognizer import Recognizer

OutputOption = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="Where answers go: .json, .csv, .rttm, .vtt; a folder's: .parquet, .csv, .jsonl.",
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(help="Processes for a folder; default: one a core.", min=1),
]
EngineOption = Annotated[str, typer.Option(help="Who works on a folder: processes, or ray.")]
RetryOption = Annotated[
    bool, typer.Option("--retry", help="Try again what could not be read in a folder before.")
]


def recognize_folder(
    recognizer: "Recognizer",
    files: list[str],
    output: Path | None,
    jobs: int | None,
    engine: str,
    retry: bool,
    settings: dict[str, Any],
) -> None:
    """Recognise one folder, show how far it is, and say what came of it.

    Raises:
        ConfigError: several folders, or no output.
        typer.Exit: some files could not be read.
    """
    from serein.report.tally import FolderProgressBar

    if len(files) != 1:
        raise ConfigError(f"{len(files)} files and folders were given; give one folder at a time")
    if output is None:
        raise ConfigError(
            f"{files[0]} is a folder; say where its table goes: -o out.parquet (or .csv, .jsonl)"
        )
    with FolderProgressBar(console(stderr=True)) as tally:
        done = recognizer.folder(
            files[0],
            output,
            jobs=jobs or (count_cores() if engine == "processes" else None),
            engine=engine,
            retry=retry,
            progress=tally.update,
            **settings,
        )
    print(
        f"{output}: {done.recognized:,} recognised, {done.failed:,} failed, {_describe_run(done)}"
    )
    for reason in done.reasons.values():
        print_stderr(reason)
    if done.errors:
        print_stderr(f"{done.failed:,} files could not be read; {done.errors} says which and why")
        raise typer.Exit(1)


def _describe_run(summary: "Summary") -> str:
    """What this run had to do with it."""
    if not summary.seconds and summary.done_before:
        return "finished before"
    times = summary.seconds / max(summary.elapsed, 1e-9)
    earlier = f", {summary.done_before:,} of them before" if summary.done_before else ""
    return f"{summary.ignored:,} ignored{earlier}; {times:,.0f} times as fast as they were spoken"
