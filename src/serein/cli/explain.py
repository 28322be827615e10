"""The command that shows where a model looked."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serein.cli.shared import MODELS, DeviceOption, TrustOption, complain, console
from serein.errors import SereinError

if TYPE_CHECKING:
    from serein.audio import Source

FORMATS = ("html", "json")


def explain(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Recordings, or - for stdin.")
    ],
    model: Annotated[str | None, typer.Option("-m", "--model", help=f"{MODELS}.")] = None,
    format: Annotated[str, typer.Option("--format", help="html or json.")] = "html",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Default: FILE.explain.html here; JSON is printed."),
    ] = None,
    start: Annotated[float, typer.Option(help="Where to begin, in seconds.", min=0)] = 0.0,
    end: Annotated[float | None, typer.Option(help="Where to end, in seconds.")] = None,
    sound: Annotated[
        bool, typer.Option("--sound/--no-sound", help="Whether the page plays the recordings.")
    ] = True,
    device: DeviceOption = "cpu",
    trust: TrustOption = None,
) -> None:
    """Show where a model looks in recordings, and whether that is where they are loud."""
    from serein import store
    from serein.errors import ConfigError, UnknownName
    from serein.experiment.facts import command
    from serein.files import write_text
    from serein.inference import explain as explaining
    from serein.inference.recognizer import DEFAULT, Recognizer

    if format not in FORMATS:
        raise UnknownName("format", format, FORMATS)
    recognizer = Recognizer(model or DEFAULT, device=device, trust=trust or (), always=True)
    explained, sounds, faults = [], {}, {}
    for file in files:
        try:
            source: Source = sys.stdin.buffer.read() if file == "-" else file
            one = explaining.explain(recognizer, source, start=start, end=end)
            explained.append(one)
            if sound and format == "html":
                sounds[one.source] = explaining.playable(source, start=start, end=end)
        except ConfigError:
            raise
        except SereinError as error:
            faults[file] = str(error)
            complain(str(error))
    found = explaining.together(explained, faults, command())
    if format == "json" and output is None:
        print(store.text_of(found), end="")
    elif format == "json" and output is not None:
        write_text(output, store.text_of(found))
        print(output)
    elif explained:
        from serein.report import explanation

        page = output or Path(f"{_called(explained[0].source)}.explain.html")
        write_text(page, explanation.html(found, sounds))
        console().print(explanation.render(found))
        print(page)
    if faults:
        raise typer.Exit(1)


def _called(source: str) -> str:
    return "stdin" if source == "bytes" else Path(source).name
