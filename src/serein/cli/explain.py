"""The command that shows where a model looked."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serein.cli.common import MODEL_HELP, DeviceOption, TrustOption, console, print_stderr
from serein.errors import SereinError

if TYPE_CHECKING:
    from serein.audio import Source

EXPLAIN_FORMATS = ("html", "json")


def explain(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Recordings, or - for stdin.")
    ],
    model: Annotated[str | None, typer.Option("-m", "--model", help=f"{MODEL_HELP}.")] = None,
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
    from serein.errors import ConfigError, UnknownName
    from serein.evaluation.provenance import command_line
    from serein.inference import explain as explaining
    from serein.inference.recognizer import DEFAULT_MODEL, Recognizer
    from serein.results import io
    from serein.utils.files import write_text

    if format not in EXPLAIN_FORMATS:
        raise UnknownName("format", format, EXPLAIN_FORMATS)
    recognizer = Recognizer(
        model or DEFAULT_MODEL, device=device, trust=trust or (), answer_nonspeech=True
    )
    explained, sounds, faults = [], {}, {}
    for file in files:
        try:
            source: Source = sys.stdin.buffer.read() if file == "-" else file
            one = explaining.explain(recognizer, source, start=start, end=end)
            explained.append(one)
            if sound and format == "html":
                sounds[one.source] = explaining.encode_playback(source, start=start, end=end)
        except ConfigError:
            raise
        except SereinError as error:
            faults[file] = str(error)
            print_stderr(str(error))
    found = explaining.collect_explanations(explained, faults, command_line())
    if format == "json" and output is None:
        print(io.to_json(found), end="")
    elif format == "json" and output is not None:
        write_text(output, io.to_json(found))
        print(output)
    elif explained:
        from serein.report import explanation

        page = output or Path(f"{_source_name(explained[0].source)}.explain.html")
        write_text(page, explanation.render_html(found, sounds))
        console().print(explanation.render_terminal(found))
        print(page)
    if faults:
        raise typer.Exit(1)


def _source_name(source: str) -> str:
    return "stdin" if source == "bytes" else Path(source).name
