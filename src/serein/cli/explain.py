"""`serein explain`."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from serein.cli.common import (
    MODEL_HELP,
    BackendOption,
    DeviceOption,
    TrustOption,
    console,
    print_stderr,
)
from serein.errors import SereinError

if TYPE_CHECKING:
    from serein.audio import Source
    from serein.inference.backend import BackendSetting

EXPLAIN_FORMATS = ("html", "json")
PAGE_PACKAGES = ("jinja2", "plotly")
"""Packages of the extra ``report`` that the page is made with."""


def explain(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Recordings, or - for stdin.")
    ],
    model: Annotated[str | None, typer.Option("-m", "--model", help=f"{MODEL_HELP}.")] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="attention, or occlusion: the change of the answer when one span after the other "
            "is silenced. Default: attention if the model has it.",
        ),
    ] = None,
    format: Annotated[str, typer.Option("--format", help="html or json.")] = "html",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Default: FILE.explain.html; JSON is printed."),
    ] = None,
    start: Annotated[float, typer.Option(help="Start, in seconds.", min=0)] = 0.0,
    end: Annotated[float | None, typer.Option(help="End, in seconds.")] = None,
    sound: Annotated[
        bool, typer.Option("--sound/--no-sound", help="Whether the page contains the recordings.")
    ] = True,
    words: Annotated[
        str | None,
        typer.Option(help="What is said in the recording, for a model that reads words."),
    ] = None,
    device: DeviceOption = "cpu",
    backend: BackendOption = "auto",
    trust: TrustOption = None,
) -> None:
    """Show which parts of a recording count for a model, by its attention or by occlusion."""
    from serein.errors import ConfigError, UnknownName
    from serein.evaluation.provenance import command_line
    from serein.inference import explain as explain_api
    from serein.inference.model_loading import DEFAULT_MODEL
    from serein.inference.recognizer import Recognizer
    from serein.results import io
    from serein.utils.files import write_text

    if format not in EXPLAIN_FORMATS:
        raise UnknownName("format", format, EXPLAIN_FORMATS)
    if method is not None and method not in explain_api.METHODS:
        raise UnknownName("method", method, explain_api.METHODS)
    recognizer = Recognizer(
        model or DEFAULT_MODEL,
        device=device,
        trust=trust or (),
        answer_nonspeech=True,
        backend=cast("BackendSetting", backend),
    )
    if words is not None and len(files) != 1:
        raise ConfigError(f"--words are those of one recording, and {len(files)} were given")
    has_page = format == "html" and all(find_spec(name) for name in PAGE_PACKAGES)
    if format == "html" and not has_page:
        needed = f"the page needs {' and '.join(PAGE_PACKAGES)}: pip install 'serein[report]'"
        if output is not None:
            raise ConfigError(f"{needed}; --format json does not")
        print_stderr(needed)
    explanations, playback, failures = [], {}, {}
    for file in files:
        try:
            source: Source = sys.stdin.buffer.read() if file == "-" else file
            explanation = explain_api.explain(
                recognizer,
                source,
                start=start,
                end=end,
                words=words,
                method=cast(Literal["attention", "occlusion"] | None, method),
            )
            explanations.append(explanation)
            if sound and has_page:
                playback[explanation.source] = explain_api.encode_playback(
                    source, start=start, end=end
                )
        except ConfigError:
            raise
        except SereinError as error:
            failures[file] = str(error)
            print_stderr(str(error))
    result = explain_api.collect_explanations(explanations, failures, command_line())
    if format == "json" and output is None:
        print(io.to_json(result), end="")
    elif format == "json" and output is not None:
        write_text(output, io.to_json(result))
        print(output)
    elif explanations:
        from serein.report.explanation import render_html, render_terminal

        page = output or Path(f"{_source_name(explanations[0].source)}.explain.html")
        if has_page:
            write_text(page, render_html(result, playback))
        console().print(render_terminal(result))
        if has_page:
            print(page)
    if failures:
        raise typer.Exit(1)


def _source_name(source: str) -> str:
    return "stdin" if source == "bytes" else Path(source).name
