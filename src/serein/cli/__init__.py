"""The command line: parse, call, print. What a command does is imported when it runs."""

import signal
import sys
from pathlib import Path

import typer

from serein.cli import (
    corpora,
    evaluate,
    explain,
    recognize,
    search,
    serve,
    sweep,
    train,
    transcribe,
)
from serein.cli.common import print_stderr
from serein.errors import ConfigError, SereinError

app = typer.Typer(
    name="serein",
    help="Speech emotion recognition, end to end and multitask.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS = (
    recognize.recognize,
    explain.explain,
    transcribe.transcribe,
    evaluate.evaluate,
    evaluate.compare,
    search.search,
    sweep.sweep,
    evaluate.report,
    train.train,
    train.recipes,
    evaluate.protocols,
    recognize.card,
    recognize.export,
    serve.serve,
    train.quickstart,
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(corpora.app, name="corpora")


class Interrupted(BaseException):
    """Ctrl-C; of a kind that no library takes for its own."""


def main() -> None:
    """Run the command line; a fault is one line and status 1, or 2 where it was asked wrongly."""
    sys.path.append(str(Path.cwd()))  # last: a user's own my_lab/podcast.py, never another torch
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except SereinError as error:
        print_stderr(str(error))
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except Interrupted:
        print_stderr("interrupted; what was finished is kept: run the same command again to go on")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)


def _interrupt(number: int, frame: object) -> None:
    raise Interrupted
